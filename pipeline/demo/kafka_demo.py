"""The demonstration on Apache Kafka with two workers, one of which is killed while it runs.

    python -m pipeline.demo.kafka_demo --kafka HOST:PORT [--for SECONDS]

Exit code 0 if the worker was killed, an alarm was raised, none was raised twice, and the embedded engine gives the same
journal of the same input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import click

import config as configuration
from models.anomaly.store import save_all
from pipeline import app
from pipeline.cli.demo import EXPECTED, PORT_OPTION, prepare
from pipeline.cli.kafka import needs_kafka
from pipeline.cli.replay import play
from pipeline.clock import HostClock
from pipeline.commissioning import commission_manifest
from pipeline.journal import sha256_of, write_journal
from pipeline.manifest import read_manifest
from pipeline.state import Store

KILL_S = 31.0
"""Most machines turn from normal to trouble half a minute after the start: alarms are about to be raised."""

SECTION = """[kafka]
bootstrap = "{bootstrap}"
prefix = "{name}."
group = "{name}"
partitions = 4
session_timeout_s = 6
spool_folder = "spool"
"""


@contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Let the workers' log lines, and those of what they start, go to a file."""
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Killing:
    """Kills the worker that has a machine, once, and tells of alarms as they come.

    Args:
        live: the running engine.
        machine: whose worker it is.
        partition: of the machine.
        after_s: when, from the first round on.
    """

    def __init__(self, live: Any, machine: str, partition: int, after_s: float) -> None:
        self.killed = ""
        self._live = live
        self._machine = machine
        self._partition = partition
        self._due = time.monotonic() + after_s
        self._told: set[str] = set()

    def second(self) -> None:
        """One round."""
        for record in reversed(self._live.sinks.store.latest("alarm", 100)):
            if record.body["transition"] == "raised" and record.id not in self._told:
                self._told.add(record.id)
                click.echo(f"   alarm: {record.body['text']}")
        owner = self._live.sinks.collector.owners().get(self._partition, "")
        if not self.killed and owner and time.monotonic() >= self._due:
            pid = self._live.crew.pids[owner]
            os.kill(pid, signal.SIGKILL)
            self.killed = owner
            click.echo(f"   kill -9 {pid}: {owner}, which had the {self._machine}")


@click.command()
@click.option("--kafka", "bootstrap", required=True, help="HOST:PORT of a broker.")
@click.option(
    "--for", "for_s", type=click.FloatRange(min=0, min_open=True), help="End after SECONDS. [default: Ctrl-C]"
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("var/demo-kafka"), show_default=True)
@PORT_OPTION
def main(bootstrap: str, for_s: float | None, out: Path, port: int | None) -> None:
    """Play the demonstration's recordings through Kafka and two workers, kill one, and compare the journals."""
    needs_kafka()
    data = Path(str(resources.files("pipeline.demo").joinpath("recordings")))
    out = prepare(out, data, port)
    click.echo("1. Learning what is normal, from recordings of normal running.")
    save_all(commission_manifest(read_manifest(data / "manifest.csv")), out / "baselines")
    _write_config(out, bootstrap)
    with quiet(out / "workers.log"):
        plan, killed = _run(out, for_s)
        click.echo("3. Recording what Kafka holds, and playing it through the embedded engine.")
        recording = out / f"from-kafka-{time.time_ns() // 1_000_000}.mcap"
        hashes = _journals(plan, out, recording)
    sys.exit(_tell(out, hashes, killed))


def _write_config(out: Path, bootstrap: str) -> None:
    path, name = out / "demo.toml", f"demo-{time.time_ns() // 1_000_000}"
    text = path.read_text(encoding="utf-8").replace("[engine]\n", "[engine]\nshards = 2\n", 1)
    section = SECTION.format(bootstrap=bootstrap, name=name)
    path.write_text(text.replace("[[machine]]", section + "[[machine]]", 1), encoding="utf-8")


def _run(out: Path, for_s: float | None) -> tuple[app.Plan, str]:
    """Run to the end; returns the plan and the name of the worker that was killed."""
    from aiokafka.partitioner import murmur2

    from pipeline.kafka.live import KafkaLive

    plan = app.plan(configuration.load(out / "demo.toml"))
    live = KafkaLive(plan)
    assert live.crew is not None
    assert live.sinks is not None
    click.echo("2. Watching four machines at real speed, through Kafka and two workers. Within half a minute")
    click.echo("   each turns from normal to trouble; two of them are simulated, as their names say.")
    click.echo("   workers: " + ", ".join(f"{name} (pid {pid})" for name, pid in live.crew.pids.items()))
    click.echo(f"   Look:   {live.sinks.address}    numbers: {live.sinks.address}metrics")
    partition = (murmur2(b"lathe") & 0x7FFFFFFF) % plan.settings.kafka.partitions
    killing = Killing(live, "lathe", partition, min(KILL_S, for_s / 2 if for_s else KILL_S))
    for error in live.run(for_s, killing.second):
        click.echo(f"error: {error}")
    return plan, killing.killed


def _journals(plan: app.Plan, out: Path, recording: Path) -> tuple[str, str]:
    """The journal that came over Kafka, and the one of what Kafka still has, through the embedded engine."""
    from pipeline.kafka.export import record_since

    record_since(plan, recording, 0, HostClock())
    store = Store(plan.state)
    write_journal(store.journal_records(), out / "journal.jsonl", app.journal_header(store))
    store.close()
    return sha256_of(out / "journal.jsonl"), play((recording,), out / "embedded.jsonl")[0]


def _tell(out: Path, hashes: tuple[str, str], killed: str) -> int:
    raised, same = _raised(out / "journal.jsonl"), _raised(out / "embedded.jsonl")
    twice, lost = len(raised) - len({body["alarm"] for body in raised}), len(same) - len(raised)
    click.echo(f"4. {len(raised)} alarms raised, {twice} of them twice; the embedded engine raises {len(same)}.")
    for machine, detectors in EXPECTED:
        if not any(b["machine"] == machine and any(d in b["detector"] for d in detectors) for b in raised):
            click.echo(f"   not yet: {' or '.join(detectors)} of {machine}")
    click.echo(f"5. SHA-256 of the journal, with a worker killed:      {hashes[0]}")
    click.echo(f"   of the same input replayed by the embedded engine: {hashes[1]}")
    click.echo("   They are equal." if hashes[0] == hashes[1] else f"   They DIFFER, see {out}.")
    if not killed:
        click.echo("   No worker was killed: none had the lathe when it was due.")
    return 0 if killed and raised and not twice and not lost and hashes[0] == hashes[1] else 1


def _raised(journal: Path) -> list[dict[str, Any]]:
    """Bodies of the alarms that a journal says were raised."""
    bodies = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return [body for body in bodies if body.get("topic") == "alarm" and body["transition"] == "raised"]


if __name__ == "__main__":
    main()
