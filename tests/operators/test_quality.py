"""What a second says about its sensor, however the stream was cut, and when its NE 107 state changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.quality import CLEAN_WINDOWS, REASONS, Quality, SensorHealth
from pipeline.messages import Anchor, Feature, Gap, Health, Rate, Segment, Span, Stream

ANCHOR = Anchor(0, 10**9)


def stream(rate: int, channels: int = 1, dtype: str = "<i2") -> Stream:
    return Stream("m", "s", 0, "acoustic", Rate(rate), channels, dtype, "FS", 1 / 32768)


def judged(source: Stream, x: NDArray[np.float32], cuts: list[int]) -> list[Feature]:
    operator, found = Quality(source), []
    edges = sorted({0, len(x), *(c % len(x) for c in cuts)})
    for lo, hi in pairwise(edges):
        found += [f for f in operator.process(Segment(source, ANCHOR, lo, x[lo:hi])) if isinstance(f, Feature)]
    return found


def signal(seconds: float, rate: int, channels: int) -> NDArray[np.float32]:
    x = np.random.default_rng(rate).standard_normal((round(seconds * rate), channels)) * 0.3 + 0.1
    codes = np.clip(np.round(x * 32768), -32768, 32767).astype("<i2")
    return codes.astype(np.float32) / np.float32(32768)


@pytest.mark.parametrize("rate", [997, 8191, 9001, 16_000, 48_000])
@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_those_of_the_definition(rate: int, channels: int) -> None:
    x = signal(2.5, rate, channels)
    x[: rate // 50] = 1.0
    found = judged(stream(rate, channels), x, [])
    assert [f.lineage[0].n1 for f in found] == [rate, 2 * rate]
    for k, f in enumerate(found):
        y = x[k * rate : (k + 1) * rate].astype(float)
        assert f.values["clipped_ratio"] == pytest.approx(float(np.mean(np.abs(y) >= 1 - 2.0**-14)), abs=1e-12)
        assert f.values["offset_ratio"] == pytest.approx(float(np.abs(y.mean(axis=0)).max()), rel=1e-5)
        assert f.values["range_ratio"] == float(np.ptp(y, axis=0).min())
        assert f.t_end_ns == ANCHOR.at((k + 1) * rate, Rate(rate))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40_000), max_size=12), st.sampled_from([997, 9001, 16_000]), st.sampled_from([1, 2]))
def test_cuts_change_no_bit(cuts: list[int], rate: int, channels: int) -> None:
    source, x = stream(rate, channels), signal(2.5, rate, channels)
    assert [f.values for f in judged(source, x, cuts)] == [f.values for f in judged(source, x, [])]


def test_after_a_gap_the_next_whole_second_is_judged() -> None:
    source, x = stream(16_000), signal(4, 16_000, 1)
    operator = Quality(source)
    assert list(operator.process(Segment(source, ANCHOR, 0, x[:20_000])))
    (told,) = operator.process(Gap(source, ANCHOR, 20_000, 24_000, "gap"))
    assert isinstance(told, Feature)
    assert (told.complete, told.values["missing_s"]) == (False, 0.25)
    found = list(operator.process(Segment(source, ANCHOR, 24_000, x[24_000:])))
    assert [f.lineage[0].n0 for f in found if isinstance(f, Feature)] == [32_000, 48_000]


@pytest.mark.parametrize(("unit", "flat"), [("m/s2", False), ("FS", True)])
def test_counts_of_a_small_converter_in_32_bits_are_not_flat(unit: str, flat: bool) -> None:
    """Twelve bits beside the full scale of 32 would be nothing; only where full scale is the unit is it known."""
    source = Stream("m", "s", 0, "vibration", Rate(1000), 1, "<i4", unit, 2.0**-31 if unit == "FS" else 0.01)
    counts = (900 * np.sin(np.arange(1000) / 7)).astype(np.int32)
    (feature,) = judged(source, (counts[:, None] * np.float32(source.scale)).astype(np.float32), [])
    assert (feature.values["range_ratio"] < 1e-6) == flat
    assert feature.values["clipped_ratio"] == 0
    full = np.full((1000, 1), np.float32(2.0**31 - 1) * np.float32(source.scale), np.float32)
    assert judged(source, full, [])[0].values["clipped_ratio"] == 1.0


@pytest.mark.parametrize(
    ("dtype", "unit", "scale", "full"),
    [("<f4", "FS", 1.0, 1.0), ("<i2", "FS", 2.0**-15, 1.0), ("<i2", "m/s2", 0.01, 327.68), ("<f4", "m/s2", 1.0, 0.0)],
)
def test_full_scale_is_what_the_type_and_the_unit_say(dtype: str, unit: str, scale: float, full: float) -> None:
    """A quarter of the samples at full scale, the others 0; without one, nothing clips and nothing is an offset."""
    source = Stream("m", "s", 0, "acoustic", Rate(1000), 1, dtype, unit, scale)
    x = np.zeros((1000, 1), np.float32)
    x[:250] = full or 123.0
    (f,) = judged(source, x, [])
    assert f.values["clipped_ratio"] == (0.25 if full else 0.0)
    assert f.values["offset_ratio"] == pytest.approx(0.25 if full else 0.0)
    assert f.values["range_ratio"] == pytest.approx(1.0)


# sensors' states -------------------------------------------------------------------------------------------------

NORMAL = (0, "normal", ())
CLEAN: dict[str, Any] = {}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "clipping": ({"clipped": 0.0011}, "out_of_specification"),
    "offset": ({"offset": 0.26}, "out_of_specification"),
    "flat": ({"span": 0.9e-6}, "failure"),
    "no_data": ({"complete": False, "silent": 1.0}, "failure"),
    "gap": ({"complete": False}, "out_of_specification"),
}


def second(
    k: int,
    *,
    complete: bool = True,
    clipped: float = 0.0,
    offset: float = 0.0,
    span: float = 0.5,
    silent: float = 0.0,
) -> Feature:
    """What `Quality` tells of second k of the sensor s; clean unless said otherwise."""
    values = {"clipped_ratio": clipped, "offset_ratio": offset, "range_ratio": span, "missing_s": 0.0, "silent": silent}
    return Feature("m", ("s",), "quality", k, values, complete, (Span("s", 0, k, k + 1),))


Told = list[tuple[int, str, tuple[str, ...]]]


def told(seconds: Sequence[dict[str, Any]], sound: tuple[str, ...] = ("s",), restart: int | None = None) -> Told:
    """The second, state and reasons of each transition; before second `restart`, the operator is restored."""
    health, found = SensorHealth(frozenset(sound)), Told()
    for k, said in enumerate(seconds):
        if k == restart:
            state = json.loads(json.dumps(health.snapshot()))
            health = SensorHealth(frozenset(sound))
            health.restore(state)
        found += [(k, h.state, h.reasons) for h in health.process(second(k, **said)) if isinstance(h, Health)]
    return found


@pytest.mark.parametrize("reason", BAD)
def test_a_worse_state_holds_at_once_and_a_better_one_after_three_clean_seconds(reason: str) -> None:
    bad, state = BAD[reason]
    ill = (1, state, (reason,))
    assert told([CLEAN, bad, *[CLEAN] * 4]) == [NORMAL, ill, (1 + CLEAN_WINDOWS, "normal", ())]
    assert told([CLEAN, bad, CLEAN, CLEAN, bad, *[CLEAN] * 3]) == [NORMAL, ill, (7, "normal", ())]


def test_a_failure_ends_while_a_lesser_fault_recurs() -> None:
    """An input that was stuck at full scale works again, and clips every second second."""
    found = told([CLEAN, {"clipped": 1.0, "span": 0.0}, *[{"clipped": 0.01}, CLEAN] * 5])
    assert found[-1] == (1 + CLEAN_WINDOWS, "out_of_specification", ("clipping",))


def test_a_silence_is_not_over_with_the_first_gap() -> None:
    """What comes behind it comes in pieces: a failure until three seconds were without it, normal three later."""
    silent, gap = BAD["no_data"][0], BAD["gap"][0]
    assert told([CLEAN, silent, gap, gap, gap, *[CLEAN] * 4]) == [
        NORMAL, (1, "failure", ("no_data",)), (2, "failure", ("no_data", "gap")),
        (1 + CLEAN_WINDOWS, "out_of_specification", ("gap",)), (4 + CLEAN_WINDOWS, "normal", ()),
    ]  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["", "", *BAD, "flat clipping"]), min_size=1, max_size=40), st.integers(0, 40))
def test_what_is_told_is_what_the_last_three_seconds_showed(shown: list[str], restart: int) -> None:
    """Whenever that changes, also across a restart."""
    said = [{key: v for word in words.split() for key, v in BAD[word][0].items()} for words in shown]
    expected: Told = []
    for k in range(len(shown)):
        seen = " ".join(shown[max(0, k + 1 - CLEAN_WINDOWS) : k + 1]).split()
        worst = {"no_data", "flat"} & set(seen)
        state = ("failure" if worst else "out_of_specification") if seen else "normal"
        if not expected or set(expected[-1][2]) != set(seen):
            expected.append((k, state, tuple(reason for reason in REASONS if reason in seen)))
    assert told(said, restart=restart) == expected


def test_a_snapshot_of_before_begins_the_wait_anew() -> None:
    """It did not say when each reason was seen."""
    health = SensorHealth()
    health.restore({"reasons": ["flat"], "clean": 2})
    found = [list(health.process(second(k))) for k in range(CLEAN_WINDOWS)]
    assert [len(messages) for messages in found] == [0, 0, 1]


def test_limits_themselves_are_within_specification() -> None:
    assert told([{"clipped": 0.001, "offset": 0.25, "span": 1e-6}]) == [NORMAL]


def test_a_mean_is_no_fault_of_an_accelerometer() -> None:
    assert told([{"offset": 0.9}], sound=()) == [NORMAL]
