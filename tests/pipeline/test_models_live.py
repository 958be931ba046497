"""Model packages on a running engine: shadow, promotion, rollback, recording, replay, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import config
from pipeline import app
from pipeline.claim import claim
from pipeline.cli.models_live import promote, rollback, shadow
from pipeline.cli.models_running import running
from pipeline.cli.replay import play
from pipeline.clock import HostClock, ManualClock
from pipeline.errors import BadInput, ConfigError, StateError
from pipeline.journal import read_journal, write_journal
from pipeline.messages import NS, Chunk
from pipeline.shard import Shard
from pipeline.state import Store
from tests.engines.scenarios import T0, chunks, learned_folder, normal_noise, stream
from tests.pipeline import packages

MIC = stream("mic", "acoustic", 32000)
CONFIG = """
schema_version = 1
[engine]
state_dir = "state"
[recording]
folder = "recordings"
[status]
enabled = false
[[machine]]
name = "m"
  [machine.model]
  encoder = "first/encoder"
  every = 1
    [[machine.model.head]]
    package = "first/head"
    k = 2
    n = 3
  [[machine.sensor]]
  name = "mic"
  modality = "acoustic"
  rate_hz = 32000
  unit = "FS"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A microphone with an encoder and a head, and another pair of packages that is not in force."""
    for place, number in (("first", 1), ("second", 2)):
        for kind in ("encoder", "head"):
            shutil.copytree(learned_folder() / f"{kind}-{number}", tmp_path / place / kind)
    (tmp_path / "stethos.toml").write_text(CONFIG)
    return tmp_path


def plan_of(site: Path) -> app.Plan:
    return app.plan(config.load(site / "stethos.toml"))


def run(site: Path, clock: ManualClock, to_s: float, *wishes: dict[str, object]) -> Store:
    """One run up to a time of the samples; the wishes are there at its begin, one is answered after another."""
    plan = plan_of(site)
    shard: Shard = app.ShardBuilder(plan, clock, record=True)("shard-0", plan.lanes)
    store = Store(plan.state)
    for body in wishes:
        store.ask("m", "model", body)
    reached = store.positions().get(("m", "mic"))
    first = 0 if reached is None else reached.n
    for message in chunks(MIC, normal_noise(MIC, 14.0, 7, (5.0, 10.0))):
        if isinstance(message, Chunk) and message.n1 > first and message.n0 < to_s * 32000:
            shard.take(message)
            clock.sleep(0.1)
            shard.tick()
    shard.close()
    return store


def pair(folder: Path) -> list[dict[str, str]]:
    """An encoder and its head as a command names them."""
    return [{"path": str(folder / kind)} for kind in ("encoder", "head")]


def test_a_replay_over_shadow_promotion_rollback_and_restarts(site: Path) -> None:
    """The recording names its packages by hash; the replay finds them, and its journal is the live run's."""
    clock = ManualClock(T0)
    run(site, clock, 3, {"action": "shadow", "packages": pair(site / "second")}).close()
    run(site, clock, 7, {"action": "promote", "packages": []}).close()
    store = run(site, clock, 14, {"action": "rollback"})
    live = write_journal(store.journal_records(), site / "live.jsonl", {})
    digest, _ = play((site / "recordings",), site / "replayed.jsonl")
    lines = list(read_journal(site / "live.jsonl"))
    made = [line["model"] for line in lines if line.get("detector") == "embedding"]
    assert [model for model, before in zip(made, ["", *made], strict=False) if model != before] == [
        "tiny 1", "tiny 2", "tiny 1"
    ]  # fmt: skip
    assert [line["body"]["action"] for line in lines if line["topic"] == "decision"] == [
        "shadow",
        "promote",
        "rollback",
    ]
    assert {line["state"] for line in lines if line["topic"] == "machine_state"} >= {"idle", "loud"}
    assert digest == live


def test_a_rollback_takes_hold_within_a_second_of_sound(site: Path) -> None:
    """From when it is asked to the first embedding of the older packages; none of the newer ones comes behind it."""
    run(site, ManualClock(T0), 7, {"action": "promote", "packages": pair(site / "second")}).close()
    store = run(site, ManualClock(T0 + 7 * NS), 10, {"action": "rollback"})
    promoted, back = (decision.t_ns for decision in store.decisions())
    made = [(record.t_ns, record.body["model"]) for record in store.read(0, ("embedding",)) if record.t_ns > promoted]
    newer = [t for t, model in made if model == "tiny 2"]
    older = [t for t, model in made if model == "tiny 1"]
    assert newer and older
    assert max(newer) <= back < min(older)
    assert T0 + 7 * NS <= min(older) < T0 + 8 * NS


def test_a_replay_without_its_packages_says_which_and_where_it_looked(site: Path) -> None:
    """Nothing is answered with another model in place of one that is gone; a copy beside the state will do."""
    run(site, ManualClock(T0), 3).close()
    shutil.move(site / "first" / "encoder", site / "away")
    with pytest.raises(StateError, match=r"model package [0-9a-f]{16} is not found; looked in .*first/encoder"):
        play((site / "recordings",), site / "replayed.jsonl")
    shutil.move(site / "away", site / "state" / "models" / "encoder")
    digest, _ = play((site / "recordings",), site / "replayed.jsonl")
    assert digest


def test_what_runs_is_told_with_what_it_replaced_and_what_the_file_says(site: Path) -> None:
    """Before the first run the configuration; then decisions, also where the file was edited behind them."""

    def told() -> dict[str, list[str]]:
        result = stethos(running, site, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, list[str]] = {}
        for row in json.loads(result.output):
            found.setdefault(row["role"], []).append(f"{row['part']} {row['name']} {row['version']}")
        return found

    def tiny(n: int) -> list[str]:
        return [f"encoder tiny {n}", f"state head {n}"]

    assert told() == {"in force": tiny(1)}
    clock = ManualClock(T0)
    run(site, clock, 3, {"action": "shadow", "packages": pair(site / "second")}).close()
    assert told() == {"in force": tiny(1), "shadow": tiny(2)}
    run(site, clock, 7, {"action": "promote", "packages": []}).close()
    assert told() == {"in force": tiny(2), "before": tiny(1), "configured, not in force": tiny(1)}
    text = stethos(running, site).output.splitlines()
    assert re.match(r"m +encoder +in force +tiny 2 +[0-9a-f]{16}  since \d{4}-\d\d-\d\dT", text[0])
    shutil.rmtree(site / "second")
    assert any("not at hand" in row for row in told()["in force"])
    strange = stethos(running, site, "--machine", "lathe")
    assert isinstance(strange.exception, ConfigError) and "lathe has no model" in str(strange.exception)


@pytest.fixture
def engine(site: Path) -> Iterator[None]:
    """A shard that listens to noise in real time and obeys commands."""
    plan = plan_of(site)
    Store(plan.state).close()
    stop = threading.Event()

    def work() -> None:
        shard = app.ShardBuilder(plan, HostClock(), record=False)("shard-0", plan.lanes)
        log = chunks(MIC, normal_noise(MIC, 60.0, 7))
        while not stop.wait(0.005):
            if log:
                shard.take(log.pop(0))
            shard.tick()
        shard.close()

    thread = threading.Thread(target=work)
    with claim(plan.state):
        thread.start()
        yield
        stop.set()
        thread.join()


def stethos(command: object, site: Path, *args: str) -> Result:
    return CliRunner().invoke(command, [*args, "--config", str(site / "stethos.toml")])  # type: ignore[arg-type]


def test_shadow_report_promotion_and_rollback_from_the_command_line(site: Path, engine: None) -> None:
    """As a person does it; what is copied needs no original."""
    named = [str(site / "second" / kind) for kind in ("encoder", "head")]
    done = stethos(shadow, site, *named)
    assert done.exit_code == 0, done.output
    assert "m: shadow by decision m|model|1" in done.output
    until = time.monotonic() + 20
    rows: list[dict[str, object]] = []
    while not rows and time.monotonic() < until:
        time.sleep(0.05)
        rows = json.loads(stethos(shadow, site, "--report", "--json").output)
    assert rows[0]["detector"] == "state" and rows[0]["windows"] >= rows[0]["disagreed"]  # type: ignore[operator]
    shutil.rmtree(site / "second")
    assert stethos(promote, site).exit_code == 0
    ended = stethos(shadow, site, "--report", "--json")
    assert json.loads(ended.output) == [], "what was counted is of a shadow that has ended"
    assert stethos(rollback, site, "--machine", "m").exit_code == 0
    store = Store(site / "state" / app.STATE_FILE)
    bodies = [decision.body for decision in store.decisions()]
    assert [body["action"] for body in bodies] == ["shadow", "promote", "rollback"]
    assert bodies[1]["active"] == bodies[0]["shadow"] and bodies[1]["shadow"] is None
    assert bodies[2]["active"] == bodies[0]["active"]
    again = stethos(rollback, site)
    assert isinstance(again.exception, StateError) and "no other models to go back to" in str(again.exception)


def test_what_is_refused_leaves_everything_as_it_was(site: Path, engine: None) -> None:
    """A head of another encoder, an encoder without its head, a damaged file, a folder without a package."""
    alone = stethos(promote, site, str(site / "second" / "encoder"))
    assert "in one command" in str(alone.exception)
    other = stethos(promote, site, str(site / "second" / "head"))
    assert "reads the embedding of" in str(other.exception)
    nothing = stethos(promote, site)
    assert "has nothing in shadow" in str(nothing.exception)
    same = stethos(shadow, site, *(str(site / "first" / part) for part in ("encoder", "head")))
    assert "runs these already" in str(same.exception)
    (site / "second" / "head" / "card.json").write_text("{}")
    damaged = stethos(promote, site, str(site / "second" / "head"))
    assert "changed or damaged" in str(damaged.exception)
    missing = stethos(promote, site, str(site / "third"))
    assert "is no folder" in str(missing.exception)
    strange = stethos(promote, site, "--machine", "lathe")
    assert isinstance(strange.exception, ConfigError) and "lathe has no model" in str(strange.exception)
    assert Store(site / "state" / app.STATE_FILE).decisions() == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("first/encoder", "second/encoder", "reads the embedding of"),
        ("first/encoder", "first/head", "is of kind head, or without tokens"),
        ("first/head", "first/encoder", "is of kind encoder, or without a number per label"),
        ("first/head", "third/head", "is no folder"),
        ("every = 1", 'pooling = "mean"', "pooling"),
        ("k = 2", 'gives = "score"\n    abnormal = ["broken"]', "has no label broken; it has idle, loud"),
        ("k = 2", "k = 1", "k must be more than half of n"),
        ("k = 2", 'gives = "score"', "abnormal labels make a score"),
        ("every = 1", "evry = 1", "machine.0.model.evry: unknown key; did you mean 'every'"),
        ("every = 1", 'sensors = ["acc"]', "acc is no sound sensor"),
        ("every = 1", 'encoder = "x"', "not valid TOML"),
    ],
)  # fmt: skip
def test_a_configuration_that_does_not_fit_is_refused_before_anything_starts(
    site: Path, old: str, new: str, says: str
) -> None:
    """Each with the file or machine, and the reason."""
    text = (site / "stethos.toml").read_text()
    assert old in text
    (site / "stethos.toml").write_text(text.replace(old, new))
    with pytest.raises((ConfigError, StateError, BadInput), match=re.escape(says)):
        plan_of(site)


def test_a_model_that_refuses_windows_makes_dead_letters_and_the_lane_goes_on(site: Path) -> None:
    """An encoder whose tokens are not finite: no embedding, the reason in the dead letters, sound levels as before."""
    shutil.rmtree(site / "first" / "encoder")
    package = packages.encoder(site / "first" / "encoder", broken=True)
    packages.head(site / "first" / "other", package.digest, 24, ("a", "b"), np.eye(2, 24), gain=1.0)
    (site / "stethos.toml").write_text((site / "stethos.toml").read_text().replace("first/head", "first/other"))
    store = run(site, ManualClock(T0), 4)
    letters = [record.body for record in store.read(0, ("dlq",))]
    assert letters and {letter["reason"] for letter in letters} == {"model_error"}
    assert all("tiny 0" in letter["error"] for letter in letters)
    assert store.read(0, ("embedding", "machine_state")) == []
    assert len(store.read(0, ("feature",))) >= 5
    assert store.metrics()["shard-0"]["machines"]["m"]["counts"]["dead.model_error"] == len(letters)


def test_the_time_mean_of_the_image_needs_no_encoder(site: Path) -> None:
    """The baseline's features as an encoder: the head names ``logmel``."""
    head = packages.told_apart(site / "plain", None)
    text = (
        (site / "stethos.toml").read_text().replace("first/encoder", "logmel").replace("first/head", head.folder.name)
    )
    (site / "stethos.toml").write_text(text)
    store = run(site, ManualClock(T0), 14)
    embeddings = store.read(0, ("embedding",))
    assert {(r.body["model"], r.body["dimension"]) for r in embeddings} == {("logmel", 128)}
    assert {r.body["state"] for r in store.read(0, ("machine_state",))} >= {"idle", "loud"}
