"""A shard's process that dies: started anew from the durable state, and the journal is that of the undisturbed run."""

from __future__ import annotations

import os
import signal as signals
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline import shard_process
from pipeline.clock import HostClock
from pipeline.embedded import Embedded
from pipeline.errors import StateError, StethosError
from pipeline.messages import NS, Input
from pipeline.recording.reader import read
from pipeline.recording.recorder import Start
from pipeline.recording.ring import Ring
from pipeline.replay import Replay
from pipeline.shard import Shard
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import baseline_of, chunks, normal_noise
from tests.faults.rig import ACC, WITNESS, Device, Recording, journal, lane, scrape
from tests.faults.test_silence import _Plan

SECONDS = 30.0
PACE_NS = NS // 100


@dataclass(frozen=True)
class Build:
    """Makes a shard in whatever process; picklable, as the one of a configuration is."""

    folder: Path
    record: bool = False

    def __call__(self, name: str, lanes: Sequence[LaneSettings]) -> Shard:
        """A shard with a connection of its own."""
        clock = HostClock()
        ring = (
            Ring(self.folder / "rec", Start(), clock.now_ns(), ring_bytes=10**8, prefix=name) if self.record else None
        )
        return Shard(name, lanes, Store(self.folder / "state.sqlite"), clock, ring)


@dataclass(frozen=True)
class Refusing(Build):
    """Cannot make one, and says why."""

    def __call__(self, name: str, lanes: Sequence[LaneSettings]) -> Shard:
        """Never."""
        raise StateError("the folder of recordings is no folder")


def lanes() -> list[LaneSettings]:
    """Both machines; each becomes a shard."""
    return [lane(ACC, baseline=baseline_of(ACC)), lane(WITNESS, baseline=baseline_of(WITNESS))]


def inputs() -> dict[str, list[Input]]:
    """Half a minute of both, with trouble in the middle."""
    return {s.machine: chunks(s, normal_noise(s, SECONDS, 5, (10.0, 20.0))) for s in (ACC, WITNESS)}


def engine(folder: Path, build: Callable[[str, Sequence[LaneSettings]], Shard], shards: int = 2) -> Embedded:
    """Both machines from recordings, ten times as fast as they happened."""
    sources = [Recording(messages, 1, PACE_NS if shards > 1 else 0) for messages in inputs().values()]
    store = Store(folder / "state.sqlite")
    return Embedded(lanes(), sources, store, HostClock(), build, 64_000_000, shards)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    """The journal of a run in one process that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    engine(folder, Build(folder), 1).run()
    made = journal(Store(folder / "state.sqlite"))
    assert sum(topic == "alarm" for topic, _, _ in made) >= 4
    return made


def kill_after(made: Embedded, *moments: tuple[float, int, signals.Signals]) -> list[threading.Timer]:
    """Signal a shard's process, seconds after now."""
    timers = [threading.Timer(s, lambda n=n, what=what: os.kill(made.pids[n], what)) for s, n, what in moments]
    for timer in timers:
        timer.start()
    return timers


def test_a_shard_killed_twice_comes_back_and_the_journal_is_whole(
    tmp_path: Path, wanted: list[tuple[str, str, str]]
) -> None:
    """The other shard goes on meanwhile; what the dead one had been given is read again; the recording replays."""
    made = engine(tmp_path, Build(tmp_path, record=True))
    kill_after(made, (1.7, 0, signals.SIGKILL), (0.4, 1, signals.SIGKILL))
    first = made.pids
    made.run()
    store = Store(tmp_path / "state.sqlite")
    assert journal(store) == wanted
    assert len({*first, *made.pids}) == 4
    assert made.errors == []
    page = scrape(tmp_path / "state.sqlite", made.metrics())
    assert page("stethos_engine_events_total", kind="shard", reason="died") == 2
    assert page("stethos_engine_events_total", kind="source", reason="reread") == 2

    again = Store(tmp_path / "again.sqlite")
    files = [read(path) for path in sorted((tmp_path / "rec").glob("*.mcap*"))]
    Replay(files, _Plan(tuple(lanes())), again, HostClock()).run()  # type: ignore[arg-type]
    assert journal(again) == wanted


def test_a_shard_that_keeps_dying_ends_the_engine_with_a_clear_error(tmp_path: Path) -> None:
    """Three times within a minute: the service manager shall see it."""
    made = engine(tmp_path, Build(tmp_path))

    def again() -> None:
        if made.pids:
            os.kill(made.pids[0], signals.SIGKILL)

    with pytest.raises(StethosError, match=r"shard-0 has died \(exit code -9\), 3 times within a minute"):
        made.run(every_s=again)


def test_a_shard_that_cannot_be_made_anew_ends_the_engine(tmp_path: Path) -> None:
    """A builder that only this process has: no restart, and the error says what happens next."""

    def build(name: str, share: Sequence[LaneSettings]) -> Shard:
        return Build(tmp_path)(name, share)

    made = engine(tmp_path, build)
    kill_after(made, (0.3, 0, signals.SIGKILL))
    with pytest.raises(StethosError, match=r"has died \(exit code -9\); its lanes resume from the durable state"):
        made.run()


def test_a_shard_that_says_why_it_cannot_go_on_is_not_started_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One readable line, and the engine ends."""
    made = engine(tmp_path, Refusing(tmp_path))
    with pytest.raises(StethosError, match=r"shard-\d cannot go on: its own error is written above"):
        made.run()
    assert "error: shard-0: the folder of recordings is no folder" in capfd.readouterr().err


def test_a_shard_that_hangs_is_killed_and_started_anew(
    tmp_path: Path, wanted: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has work and does none of it does not hold up the machines for ever."""
    monkeypatch.setattr(shard_process, "STUCK_NS", NS)
    made = engine(tmp_path, Build(tmp_path))
    kill_after(made, (1.0, 0, signals.SIGSTOP))
    made.run()
    assert journal(Store(tmp_path / "state.sqlite")) == wanted
    assert made.metrics()["intake"]["counts"]["shard.stuck"] == 1


def test_a_device_loses_only_what_was_on_its_way(tmp_path: Path) -> None:
    """What cannot be read again is lost with the process; the device goes on in its stream, and normal is normal."""
    clock = HostClock()
    store = Store(tmp_path / "state.sqlite")
    made = Embedded(lanes(), [Device(ACC), Device(WITNESS)], store, clock, Build(tmp_path), 64_000_000, 2)
    kill_after(made, (2.5, 0, signals.SIGKILL))
    made.run(8.0)
    ends = sorted(r.t_ns for r in store.read(0, ("feature",), 10_000) if r.machine == "m")
    assert ends[-1] - ends[0] > 5 * NS
    assert store.positions()["m", "acc"].epoch == 0
    lost = max(b - a for a, b in pairwise(ends))
    assert lost < 4.1 * NS
    health = [r.body for r in store.read(0, ("health",)) if r.machine == "m"]
    assert health[-1]["state"] in {"normal", "out_of_specification"}
    assert any("gap" in r["reasons"] for r in health), health
