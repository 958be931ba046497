"""The quiet day on a minute of it: which starts teach, what is counted, and that its silence is not a broken lane's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from benchmarks import quiet, quiet_halls
from benchmarks.quiet import Day, Judge, Taught
from benchmarks.quiet_halls import Start

DAY = Day(hours=40 / 3600, halls=1, judged_s=20.0, taught_s=8.0, faulty_s=24.0, faults=1)
"""Of a motor alone: two starts of twenty seconds, one of ten in a state that nobody learned, one with a fault."""


@pytest.fixture(scope="module")
def motor() -> Iterator[None]:
    """A hall without what microphones hear, which takes longer to simulate."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (quiet, quiet_halls):
            patch.setattr(module, "KINDS", ("motor",))
        yield


@pytest.fixture(scope="module")
def told(motor: None) -> list[dict[str, Any]]:
    """All that the day says."""
    return [dict(one) for one in quiet.run(DAY)]


@pytest.fixture(scope="module")
def taught(motor: None) -> Taught:
    """What the motor's ten starts gave."""
    return quiet.commissioned(DAY, 0)["motor"]


def tables(told: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Those of one kind."""
    return [record for record in told if record.get("table") == name]


def test_every_start_has_its_place_in_the_figures(told: list[dict[str, Any]]) -> None:
    """The judged ones, those in a state that was not learned, told so and otherwise, and the fault, which is heard."""
    assert [r["commissioned"] for r in told if "commissioned" in r] == ["motor-1"]
    seen, unseen, others = (r for r in tables(told, "quiet") if r["machine"] == "all")
    assert (seen["cell"], seen["hours"], seen["ours"]["starts"]["n"], seen["unverified"]) == ("seen", 0.01, 2, 0)
    assert seen["windows"] > 60 and seen["unscored_s"] == 2  # the first window is whole behind the first second
    assert unseen["unverified"] == unseen["windows"] > 10 and unseen["hours"] == 0 and "ours" not in unseen
    assert others["ours"]["starts"]["n"] == 2 and others["unverified"] == 0  # told as low, and as high
    (fault,) = (r for r in tables(told, "faults") if r["fault"] == "all")
    assert fault["ours"]["hits"] == fault["ours"]["n"] == 1


def test_no_start_that_teaches_is_judged(taught: Taught) -> None:
    """Neither by number nor by its samples."""
    learned = taught.baseline.starts
    played = [str(start.number) for start, _ in quiet.plan(DAY._replace(hours=24.0, faults=8))]
    assert len(learned) == 10 and not set(learned) & set(played)
    first = [next(quiet_halls.chunks(Start(1, 0, n, "low", 8.0)))["motor"].samples for n in (0, 1000, 5000, 7000)]
    assert len({x.tobytes() for x in first}) == 4


def test_what_was_told_is_not_played_again(told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """And a start that is missing comes out as it was."""
    starts = [r for r in told if "start" in r]
    assert tables([dict(one) for one in quiet.run(DAY, starts[:-1])], "quiet") == tables(told, "quiet")

    def none(_start: Start) -> Iterator[None]:
        raise AssertionError("it was played")

    monkeypatch.setattr(quiet, "chunks", none)
    assert list(quiet.run(DAY, starts)) == [r for r in told if "table" in r]


def test_a_motor_that_is_ten_times_as_loud_alarms(taught: Taught) -> None:
    """By the lane and by the level alone; as it is it does not."""
    start = Start(DAY.seed, 0, 0, "low", 8.0)
    usual, loud = (Judge(quiet_halls.stream_of(start, "motor"), taught, "low") for _ in range(2))
    for second in quiet_halls.chunks(start):
        usual.take(second["motor"])
        loud.take(replace(second["motor"], samples=second["motor"].samples * np.float32(10.0)))
    assert not usual.raised and {"level", quiet.RMS} <= {detector for _, detector in loud.raised}
    assert loud.counts["over level"] == loud.counts["windows"] > 10


@pytest.mark.parametrize("kind", ["mill", "drill"])
def test_a_fault_begins_when_it_is_said_to(kind: str) -> None:
    """Until then a microphone hears the same as of the whole machine; levelled gain may look ahead by 0.7 s."""
    whole, faulty = (
        np.concatenate([second[kind].samples for second in islice(quiet_halls.chunks(start), 12)])
        for start in (Start(3, 0, 1, "low", 24.0, kind, fault) for fault in ("", quiet_halls.FAULTS[kind][0]))
    )
    assert len(whole) == 12 * 48_000 and np.ptp(whole[: 7 * 48_000]) > 100
    assert np.array_equal(whole[: 7 * 48_000], faulty[: 7 * 48_000])
    assert not np.array_equal(whole[8 * 48_000 :], faulty[8 * 48_000 :])


def record(seconds: float, *raised: tuple[float, str], told: str = "low") -> dict[str, Any]:
    """Of a start."""
    facts = {"windows": 100, "unverified": 0, "unscored_s": 1, "over level": 5, "onset_s": 10.0}
    return {"told": told, "seconds": seconds, "raised": list(raised), **facts}


def test_alarms_a_day_are_of_the_time_that_was_judged() -> None:
    """Garwood's limits of three; the level's alarms are not ours, unverified time is no exposure."""
    found = quiet.quiet([
        record(43_200.0, (5.0, "level"), (9.0, "anomaly"), (9.0, "rms")),
        record(43_200.0, (7.0, "level")),
        record(43_200.0, told="middle"),
    ])  # fmt: skip
    assert (found["hours"], found["windows_over"]) == (24.0, {"level": 0.05})
    assert (found["ours"]["alarms"], found["ours"]["per_day"], found["ours"]["interval"]) == (3, 3.0, [0.6, 8.8])
    assert (found["rms"]["alarms"], found["rms"]["interval"]) == (1, [0.0, 5.6])


def test_an_alarm_that_stood_before_the_fault_found_nothing() -> None:
    """It would have been there without it."""
    records = [record(24.0, (4.0, "level"), (12.0, "anomaly")), record(24.0, (12.0, "level")), record(24.0)]
    found = quiet.deaf(records)
    assert (found["ours"]["hits"], found["ours"]["n"], found["ours"]["alarm_before"]) == (1, 3, 1)
    assert found["rms"]["hits"] == 0
