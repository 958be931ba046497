"""Sources that fail: each alone is closed, counted, named and tried again, and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from connectors.playback import Playback
from pipeline.clock import ManualClock
from pipeline.embedded import Embedded
from pipeline.errors import SourceError
from pipeline.intake import RETRY_NS, Resumable
from pipeline.messages import NS, Input, Rate
from pipeline.shard import Shard
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of, chunks, stream
from tests.faults.rig import ACC, WITNESS, Metrics, Recording, good, journal, lane, scrape, signal

MIC = stream("mic", "acoustic", 16000)


class Run:
    """An engine on a manual clock that ends by itself or after a minute."""

    def __init__(self, folder: Path, lanes: Sequence[LaneSettings], sources: Sequence[Resumable]) -> None:
        self.path = folder / "state.sqlite"
        self.store, self.clock = Store(self.path), ManualClock(T0)
        self.errors: list[str] = []
        self.engine = Embedded(
            lanes, sources, self.store, self.clock,
            lambda name, mine: Shard(name, mine, Store(self.path), self.clock), 64_000_000,
        )  # fmt: skip

    def run(self, then: Callable[[], None] | None = None) -> Metrics:
        """To the end; the errors of the sources are gathered every second."""

        def second() -> None:
            self.errors += [e for e in self.engine.errors if e not in self.errors]
            if then:
                then()

        self.engine.run(60.0, second)
        return scrape(self.path, self.engine.metrics())


def both() -> list[LaneSettings]:
    """The machine that suffers, and the witness."""
    return [lane(ACC, baseline=baseline_of(ACC)), lane(WITNESS, baseline=baseline_of(WITNESS))]


def normal() -> list[Input]:
    """What the suffering machine would say."""
    return chunks(ACC, signal(ACC))


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    """The journal when nothing fails."""
    run = Run(tmp_path_factory.mktemp("undisturbed"), both(), [Recording(normal()), Recording(good())])
    run.run()
    return journal(run.store)


@pytest.mark.parametrize("error", [SourceError("acc: the disk is away"), ValueError("a fault of the connector")])
def test_a_recording_whose_source_raises_comes_back_where_it_stopped(
    tmp_path: Path, wanted: list[tuple[str, str, str]], error: Exception
) -> None:
    """Whatever it raises: nothing is lost, nothing comes twice, and the other machine does not wait."""
    source = Recording(normal(), 1, NS // 10)
    run = Run(tmp_path, both(), [source, Recording(good(), 1, NS // 10)])
    seconds = []

    def second() -> None:
        seconds.append(run.clock.now_ns())
        source.broken = error if 3 <= len(seconds) < 9 else None

    page = run.run(second)
    assert journal(run.store) == wanted
    assert not run.store.read(0, ("late", "dlq"))
    assert page("stethos_engine_events_total", shard="intake", kind="source", reason="failed") >= 1
    said = str(error) if isinstance(error, SourceError) else f"ValueError: {error}"
    assert run.errors == [said]
    resumed = [o["m", "acc"].n for o in source.opened if o]
    assert resumed and min(resumed) > 2000
    witness = [r.t_ns for r in run.store.read(0, ("score",), 10_000) if r.machine == "witness"]
    assert max(witness) > T0 + 7 * NS


def test_a_source_that_cannot_be_opened_is_tried_every_five_seconds(
    tmp_path: Path, wanted: list[tuple[str, str, str]]
) -> None:
    """And plays from its start when it can."""
    source = Recording(normal())
    source.broken = SourceError("acc.npz: no such file")
    run = Run(tmp_path, both(), [source, Recording(good())])
    moments: list[int] = []

    def second() -> None:
        moments.append(len(source.opened))
        if len(moments) == 4:
            source.broken = None

    page = run.run(second)
    assert page("stethos_engine_events_total", kind="source", reason="open_failed") == 1
    assert run.errors == ["acc.npz: no such file"]
    assert journal(run.store) == wanted
    assert RETRY_NS == 5 * NS


def test_messages_that_have_no_place_in_time_are_counted(tmp_path: Path, wanted: list[tuple[str, str, str]]) -> None:
    """A rate of nothing a second: a fault of the connector that ends nothing."""
    bad = replace(ACC, rate=Rate(0), epoch=1)
    messages: list[Any] = normal()
    source = Recording([*messages[:5], *(replace(m, stream=bad) for m in messages[5:8]), *messages[5:]])
    source._behind = lambda _: iter(source._messages)  # type: ignore[method-assign,assignment]
    run = Run(tmp_path, both(), [source, Recording(good())])
    page = run.run()
    assert page("stethos_engine_events_total", kind="source", reason="unusable") == 3
    assert journal(run.store) == wanted


def sound(folder: Path, name: str, cut: int | None) -> Path:
    """A file of sound of 10 s, or the first bytes of one."""
    path = folder / name
    x = np.random.default_rng(1).standard_normal(160_000) * 0.02
    soundfile.write(path, x, 16_000, subtype="PCM_16")
    if cut is not None:
        path.write_bytes(path.read_bytes()[:cut])
    return path


def numbers(folder: Path, cut: int | None) -> Path:
    """The same as an array."""
    path = folder / "x.npz"
    np.savez(path, x=np.zeros((160_000, 1), np.int16), fs=16_000)
    if cut is not None:
        path.write_bytes(path.read_bytes()[:cut])
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: f / "nowhere.wav", "nowhere.wav"),
        (lambda f: sound(f, "short.wav", 30), "short.wav"),
        (lambda f: sound(f, "half.flac", 50_000), "half.flac"),
        (lambda f: numbers(f, 100_000), "x.npz"),
    ],
    ids=["missing", "no_header", "half_a_flac", "half_an_archive"],
)
def test_files_that_are_missing_or_cut_off(
    tmp_path: Path, make: Callable[[Path], Path], words: str, wanted: list[tuple[str, str, str]]
) -> None:
    """The error names the file; what of it can be read is used; the other machine does not notice."""
    path = make(tmp_path)
    modality: Any
    modality, unit = ("vibration", "g") if path.suffix == ".npz" else ("acoustic", "FS")
    s = replace(MIC, modality=modality, unit=unit)
    source = Playback("m", "mic", s.modality, [path], rate_hz=16_000, unit=unit, start_ns=T0)
    run = Run(tmp_path, [lane(s), both()[1]], [source, Recording(good())])
    page = run.run()
    assert any(words in error for error in run.errors), run.errors
    counted = [page("stethos_engine_events_total", kind="source", reason=r) for r in ("open_failed", "failed")]
    assert sum(counted) >= 1
    theirs = [row for row in journal(run.store) if "'machine': 'witness'" in row[2]]
    assert theirs == [row for row in wanted if "'machine': 'witness'" in row[2]]


def test_a_wav_that_was_cut_off_plays_what_there_is(tmp_path: Path) -> None:
    """Its header promises ten seconds: either the truth about its length, or a clear error; never silence."""
    path = sound(tmp_path, "half.wav", 44 + 64_000)
    source = Playback("m", "mic", "acoustic", [path], rate_hz=16_000, start_ns=T0, speed=0)
    run = Run(tmp_path, [lane(MIC)], [source])
    run.run()
    features = [r.t_ns for r in run.store.read(0, ("feature",), 1000)]
    assert run.errors or (features and max(features) <= T0 + 2 * NS)
