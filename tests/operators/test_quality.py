"""What a second says about its sensor, against its definition, however the stream was cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.quality import Quality
from pipeline.messages import Anchor, Feature, Gap, Rate, Segment, Stream

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
