"""The fast lane says what the pipeline says, sooner, and never costs the pipeline a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import pytest

from connectors.base import Resume, Source, SourceMessage
from connectors.fastlane import SLICE_S, FastLane
from pipeline.fast import FastDetectors
from pipeline.messages import Alarm, Chunk, Context, Mark, Rate, Score, Stream
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_straight
from tests.engines.scenarios import T0
from tests.pipeline.test_stages_physics import ACC, MILL, log


class Listed(Source):
    """Gives messages, one a poll."""

    def __init__(self, messages: Sequence[Any]) -> None:
        self.messages = list(messages)
        self.closed = False

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        return [ACC]

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        return [self.messages.pop(0)] if self.messages else []

    def wake_ns(self, now_ns: int) -> int:
        return now_ns + 1

    @property
    def exhausted(self) -> bool:
        return not self.messages

    def close(self) -> None:
        self.closed = True


def merged() -> list[Any]:
    """Samples and facts in the order of their times."""
    return sorted((m for queue in log().values() for m in queue), key=lambda m: m.t1_ns)


def run(lane: FastLane) -> list[SourceMessage]:
    """Polls until the end."""
    lane.open({}, T0)
    given: list[SourceMessage] = []
    while not lane.exhausted:
        given += lane.poll(T0)
    lane.close()
    return given


def test_scores_and_alarms_are_the_pipelines_own() -> None:
    """By value, with threshold, settings and time; messages pass through unchanged."""
    alarms: list[Alarm] = []
    scores: list[Score] = []
    messages = merged()
    lane = FastLane(
        Listed(messages), {"m": FastDetectors(LaneSettings(MILL))}, alarms.append, on_score=scores.append
    )  # fmt: skip
    assert run(lane) == messages
    assert lane.failures == 0
    records = [r.body for r in run_straight(LaneSettings(MILL), log()) if r.body.get("detector") == "chatter"]
    pipeline = {b["t_end_ns"]: (b["value"], b["threshold"], b["complete"]) for b in records if "t_end_ns" in b}
    fast = {s.t_end_ns: (s.value, s.threshold, s.complete) for s in scores}
    assert pipeline
    assert {t: fast[t] for t in pipeline} == pipeline
    told = sorted((b["t_ns"], b["transition"], b["text"]) for b in records if "transition" in b)
    assert sorted((a.t_ns, a.transition, a.text) for a in alarms) == told


class Ear:
    """Remembers what it hears."""

    def __init__(self, said: Iterable[Score | Alarm] = ()) -> None:
        self.heard: list[Any] = []
        self.said = list(said)

    def judges(self, stream: Stream) -> bool:
        """It hears everything."""
        return bool(stream.sensor)

    def listen(self, message: Chunk | Mark | Context) -> Iterable[Score | Alarm]:
        self.heard.append(message)
        return self.said


ALARM = Alarm("m", ("acc",), "x", 1, "raised", 0, 1, "critical", "", 2.0, 1.0, "s")


class Relay:
    """An outlet that notes what is done to it."""

    trouble = ""

    def __init__(self, fails: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.said: list[str] = []
        self.told: list[str] = []
        self.fails = fails

    def __call__(self, alarm: Alarm) -> None:
        self.told.append(alarm.detector)
        if self.fails:
            raise OSError(f"the relay is gone, {alarm.detector} is lost")

    def heard(self, machine: str) -> None:
        self.said.append(machine)

    def __enter__(self) -> Self:
        self.said.append("open")
        return self

    def __exit__(self, *_: object) -> None:
        self.said.append("closed")


def test_samples_come_in_slices_of_five_milliseconds() -> None:
    """End to end, in order, with the chunk's own anchor and number."""
    ear = Ear()
    chunks = [m for m in log()["acc"] if isinstance(m, Chunk)]
    run(FastLane(Listed(chunks), {"m": ear}, lambda alarm: None))
    step = int(SLICE_S * ACC.rate.hz)
    assert all(len(part.samples) <= step for part in ear.heard)
    assert [part.n0 for part in ear.heard] == list(range(0, chunks[-1].n1, step))
    assert {part.seq for part in ear.heard} == {chunk.seq for chunk in chunks}


def test_a_failing_hook_costs_no_samples() -> None:
    """It is counted and told; another machine's messages are nobody's business."""

    def hook(_: Alarm) -> None:
        raise OSError("the relay is gone")

    messages = [*log()["acc"][:3], Context("other", "spindle_rpm", T0, 1.0)]
    lane = FastLane(Listed(messages), {"m": Ear([ALARM])}, hook)
    assert run(lane) == messages
    assert lane.failures == 12
    assert lane.errors == ["m: OSError: the relay is gone"]


def test_a_failing_hook_costs_no_other_alarm() -> None:
    """Of the same samples; its fault is told until it takes an alarm again, and stays counted."""
    told: list[str] = []

    def hook(alarm: Alarm) -> None:
        told.append(alarm.detector)
        if alarm.detector == "x":
            raise OSError("the lamp is gone")

    said = [replace(ALARM, detector=name) for name in ("x", "y")]
    lane = FastLane(Listed([]), {"m": Ear(said)}, hook)
    fact, troubles = Context("m", "spindle_rpm", T0, 1.0), []
    for alarms in (said, said[:1], said[1:]):
        lane._listeners["m"] = Ear(alarms)
        lane.hear(fact)
        troubles.append(lane.trouble)
    assert told == ["x", "y", "x", "y"]
    assert troubles == ["", "fast lane: 2 faults, the last: m: OSError: the lamp is gone", ""]
    assert lane.failures == 2


@pytest.mark.parametrize("judges", [True, False])
def test_a_machine_is_heard_where_a_detector_judges_what_came(judges: bool) -> None:
    """Else a PLC reads `online` of a machine that nobody watches."""
    ear, relay = Ear(), Relay()
    ear.judges = lambda stream: judges  # type: ignore[method-assign]
    run(FastLane(Listed([m for m in log()["acc"] if isinstance(m, Chunk)][:2]), {"m": ear}, relay))
    assert set(relay.said[1:-1]) == ({"m"} if judges else set())


def test_a_source_that_is_opened_again_opens_its_outlet_again() -> None:
    """The intake closes and reopens a device that failed; its alarms go on reaching the PLC."""
    relay = Relay()
    lane = FastLane(Listed([]), {}, relay)
    for _ in range(2):
        lane.open({}, T0)
        lane.open({}, T0)
        lane.close()
        lane.close()
    assert relay.said == ["open", "closed"] * 2


def test_faults_are_counted_at_the_outlet_and_the_last_ones_kept() -> None:
    """Ten chunks of four slices each, an alarm a slice, and eight different faults of forty."""
    names = iter(range(100))
    ear = Ear()
    ear.listen = lambda message: [replace(ALARM, detector=str(next(names)))]  # type: ignore[method-assign]
    lane = FastLane(Listed([m for m in log()["acc"] if isinstance(m, Chunk)][:10]), {"m": ear}, Relay(fails=True))
    run(lane)
    assert lane.counts == {"fast_lane.failed": 40} and lane.failures == 40
    assert lane.errors == [f"m: OSError: the relay is gone, {name} is lost" for name in range(32, 40)]


def test_samples_that_cannot_be_cut_reach_the_pipeline() -> None:
    """It counts them; raised here, they would close the source."""
    good = next(m for m in log()["acc"] if isinstance(m, Chunk))
    bad = [replace(good, stream=replace(ACC, rate=Rate(1, 0))), replace(good, samples=None)]  # type: ignore[arg-type]
    ear = Ear()
    lane = FastLane(Listed([*bad, good]), {"m": ear}, lambda alarm: None)
    assert run(lane) == [*bad, good]
    assert lane.failures == 2 and len(ear.heard) == 4


def test_a_source_that_cannot_be_closed_lets_its_outlet_go() -> None:
    """Else a PLC reads `online` after the end."""

    class Stuck(Listed):
        def close(self) -> None:
            raise OSError("the device hangs")

    relay = Relay()
    lane = FastLane(Stuck([]), {}, relay)
    lane.open({}, T0)
    with pytest.raises(OSError, match="hangs"):
        lane.close()
    assert relay.said == ["open", "closed"]


def test_a_failing_detector_costs_no_alarm_of_another() -> None:
    """What was said before the fault goes to the hook; the machine is not heard."""

    def listen(_: object) -> Iterator[Alarm]:
        yield ALARM
        raise ArithmeticError("no detector")

    ear, relay = Ear(), Relay()
    ear.listen = listen  # type: ignore[method-assign, assignment]
    run(FastLane(Listed([m for m in log()["acc"] if isinstance(m, Chunk)][:1]), {"m": ear}, relay))
    assert relay.told == ["x"] * 4 and relay.said == ["open", "closed"]


def test_slices_have_a_length() -> None:
    """Nothing at all is refused."""
    with pytest.raises(ValueError, match="length"):
        FastLane(Listed([]), {}, lambda alarm: None, slice_s=0.0)
