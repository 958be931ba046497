"""`stethos demo`: the main job on real recordings, with nothing but this program."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections import Counter
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import click

import config as configuration
from models.anomaly.store import save_all
from pipeline import app
from pipeline.claim import claim
from pipeline.cli.number import Number
from pipeline.clock import HostClock
from pipeline.commissioning import commission_manifest
from pipeline.errors import ConfigError
from pipeline.evidence import index
from pipeline.journal import sha256_of, write_journal
from pipeline.live import Live
from pipeline.manifest import read_manifest
from pipeline.state import Store
from pipeline.view import View
from pipeline.web import try_port

EXPECTED = (
    ("lathe", ("anomaly", "level")),
    ("mill", ("anomaly", "level")),
    ("mill-simulated", ("chatter",)),
    ("drill-simulated", ("drill_break",)),
)
"""What a minute of the demonstration raises: machine, and one of these detectors."""
_MOST = 1000
"""Newest alarms and states that the summary looks at."""
_LEARNED = re.compile(r"  # learned state:.*?  # end of the learned state\n", re.DOTALL)
PORT = 8420
PORT_OPTION = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Of the status page; 0 takes a free one. [default: {PORT}, or a free one]",
)


@click.command()
@click.option("--for", "for_s", type=Number(min=0, min_open=True), help="End after SECONDS. [default: Ctrl-C]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("var/demo"), show_default=True)
@PORT_OPTION
def demo(for_s: float | None, out: Path, port: int | None) -> int:
    """Commission two machines on normal recordings, play the rest at real speed, raise alarms, keep a recording.

    Two more machines are simulated, as their names say: a cut that begins to chatter and a drill that breaks.

    Exit code 1 if no alarm was raised within SECONDS.
    """
    data = Path(str(resources.files("pipeline.demo").joinpath("recordings")))
    out = prepare(out, data, port)
    click.echo("1. Learning what is normal, from recordings of normal running:")
    baselines = commission_manifest(read_manifest(data / "manifest.csv"))
    save_all(baselines, out / "baselines")
    for baseline in baselines:
        click.echo("   " + baseline.sentences()[0])
    click.echo("2. Watching four machines at real speed. Within half a minute each turns from normal to trouble;")
    click.echo("   two of them are simulated, as their names say.")
    plan = app.plan(configuration.load(out / "demo.toml"))
    live = Live(plan, HostClock())
    live.start()
    click.echo(f"   Look:   {live.address}    numbers: {live.address}metrics")
    shown = sys.stdout.isatty()
    view = View(plan.state, live.address, plan.settings.evidence.folder, lambda: live.problems) if shown else None
    errors = live.run(for_s, view.update if view else None)
    if view:
        view.close()
    for error in errors:
        click.echo(f"error: {error}", err=True)
    raised = _tell(plan, out)
    return 1 if for_s is not None and not raised else 0  # who ends it by Ctrl-C has seen enough


def prepare(out: Path, data: Path, port: int | None) -> Path:
    """An empty working folder with the demonstration's configuration in it; None for the usual port, or a free one.

    Raises:
        ConfigError: the port that was asked for is taken; nothing was removed then.
        StateError: another demonstration works in the folder, or it cannot be written.
    """
    chosen = PORT if port is None else port
    try:
        try_port("127.0.0.1", chosen)
    except OSError as error:
        if port is not None:
            raise ConfigError(f"--port {port}: {error.strerror}: choose another (0 takes a free one)") from None
        chosen = 0
    out = out.resolve()
    with claim(out / "state" / app.STATE_FILE, "--out"):  # not under the feet of another demonstration
        for part in ("state", "recordings", "evidence", "baselines"):
            shutil.rmtree(out / part, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    text = resources.files("pipeline.demo").joinpath("demo.toml").read_text(encoding="utf-8")
    if find_spec("onnxruntime") is None:  # an extra; without it nothing is learned by labels here
        text = _LEARNED.sub("", text)
    text = text.replace("DATA/", f"{data.as_posix()}/").replace(f"port = {PORT}", f"port = {chosen}")
    (out / "demo.toml").write_text(text, encoding="utf-8")
    return out


def _states(store: Store) -> dict[str, list[str]]:
    """Machine → the states that were told of it, in the order of their first time."""
    found: dict[str, dict[str, None]] = {}
    for record in reversed(store.latest("machine_state", _MOST)):
        found.setdefault(record.body["machine"], {})[record.body["state"]] = None
    return {machine: list(states) for machine, states in found.items()}


def _tell(plan: app.Plan, out: Path) -> bool:
    """What came of it; says whether an alarm did."""
    store = Store(plan.state)
    raised = [r.body for r in reversed(store.latest("alarm", _MOST)) if r.body["transition"] == "raised"]
    evidence = index(plan.settings.evidence.folder)
    click.echo(f"3. {len(raised)} alarm{'s' if len(raised) != 1 else ''} raised.")
    came = {(body["machine"], body["detector"]) for body in raised}
    for machine, detector in EXPECTED:
        if not any(m == machine and d in detector for m, d in came):
            click.echo(f"   not yet: {' or '.join(detector)} of {machine}")
    for machine, states in _states(store).items():
        click.echo(f"   learned states of {machine}, from the embedding of its sound: {', '.join(states)}")
    times = Counter((body["machine"], body["detector"]) for body in raised)
    first = {(body["machine"], body["detector"]): body for body in reversed(raised)}
    for body in (body for body in raised if first[body["machine"], body["detector"]] is body):
        more = times[body["machine"], body["detector"]] - 1
        click.echo(f"   {body['text']}" + (f" (and {more} more: the recordings play over and over)" if more else ""))
        for part in evidence.get(body["alarm"], {}).get("parts", []):
            for word, kind in (("listen", "sound"), ("look", "picture")):
                if kind in part:
                    click.echo(f"      {word}: {plan.settings.evidence.folder / part[kind]}")
    journal = out / "journal.jsonl"
    write_journal(store.journal_records(), journal, app.journal_header(store))
    click.echo(f"4. All of it can be replayed; the journal's SHA-256 will be {sha256_of(journal)}:")
    command = os.path.relpath(sys.argv[0])
    replay = [command, "replay", str(plan.settings.recording.folder), "--journal", str(out / "replayed.jsonl")]
    click.echo(f"   {shlex.join(replay)}")
    return bool(raised)
