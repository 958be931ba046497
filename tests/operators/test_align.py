"""Alignment: injected offsets and drift come back; interleaving and chunking change no bit; nothing ever hangs."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from operators.align import AlignEstimate, AlignTrack, correlate
from operators.envelope import CELL_NS, first_sample, first_samples
from pipeline.messages import NS, Anchor, Feature, Float32, Gap, Message, Rate, Segment, Span, Stream
from tests.operators.pieces import column, cuts, gap, segments, stream, tail

START = 1_700_000_000 * NS
SOUND = stream(8000, sensor="mic")
VIBRATION = stream(2000, "m/s2", channels=3, sensor="acc", modality="vibration")
PAIR = ("mic", "acc")


class Scene:
    """A machine whose loudness wanders at random, faster than 0.1 s; sensors hear it with their own carriers."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.t = np.arange(0, seconds + 0.4, 1 / 8000)
        wander = sosfilt(butter(2, 30, fs=8000, output="sos"), self.rng.standard_normal(len(self.t)))
        self.loudness = np.exp(0.6 * wander / wander.std())

    def heard(self, rate: float, seconds: float, delay_s: float, snr_db: float, channels: int = 1) -> Float32:
        """Samples at a true rate, delayed, with stationary noise of this level; gravity on the last of three axes."""
        t = np.arange(int(seconds * rate)) / rate + 0.2 - delay_s
        loudness = np.interp(t, self.t, self.loudness)[:, None]
        x = loudness * self.rng.standard_normal((len(t), channels))
        x += self.rng.standard_normal(x.shape) * x.std() * 10 ** (-snr_db / 20)
        x += (9.81 if channels == 3 else 0.0) * np.array([0, 0, 1])[:channels]
        return np.asarray(x, np.float32)


def pieces(source: Stream, x: Float32, step: int = 1000, n0: int = 0, anchor: Anchor | None = None) -> list[Segment]:
    return segments(source, x, range(0, len(x), step), n0=n0, anchor=anchor or Anchor(0, START))


def by_time(*streams: Sequence[Message]) -> list[Message]:
    """The messages of several sensors in the order in which they end."""
    messages = [m for one in streams for m in one]
    return sorted(messages, key=lambda m: m.anchor.at(m.n1, m.stream.rate))


def features(operator: AlignEstimate | AlignTrack, messages: Sequence[Message]) -> list[Feature]:
    return [f for m in messages for f in operator.process(m) if isinstance(f, Feature)]


def facts(all_of: Sequence[Feature]) -> list[object]:
    """All that a feature says, exactly."""
    return [(f.sensors, f.name, f.t_end_ns, dict(f.values), f.complete, f.lineage) for f in all_of]


@pytest.mark.parametrize("offset_ms", [-40, -23.4, -7, 0, 0.3, 12, 31.7, 40])
@pytest.mark.parametrize("snr_db", [10, 20])
def test_injected_offsets_are_recovered(offset_ms: float, snr_db: float) -> None:
    """Sound at 8 kHz against 3-axis vibration at 2 kHz: every estimate within 5 ms, their median within 1 ms."""
    scene = Scene(8, seed=int(offset_ms * 10) + 1000)
    sound = pieces(SOUND, scene.heard(8000, 8, 0, snr_db))
    acc = pieces(VIBRATION, scene.heard(2000, 8, offset_ms / 1000, snr_db, channels=3), 250)
    estimates = features(AlignEstimate("m", PAIR), by_time(sound, acc))
    assert len(estimates) == 7
    for estimate in estimates:
        assert estimate.complete and estimate.values["accepted"] == 1
        assert abs(estimate.values["offset_ms"] - offset_ms) < 5
        assert 0.5 <= estimate.values["peak"] <= 1
    last = features(AlignTrack(), estimates)[-1]
    assert abs(last.values["offset_ms"] - offset_ms) < 1
    assert last.values["error_ms"] < 2 and last.values["estimates"] == 7
    assert (last.name, last.sensors, last.t_end_ns) == ("alignment", PAIR, START + 8 * NS)


@pytest.mark.parametrize("rates", [(48_000, 2000), (44_100, 48_000), (1000, 16_000), (2560, 25_600)])
def test_rates_mix(rates: tuple[int, int]) -> None:
    """Any two rates from 1 kHz on, also such that no millisecond holds whole samples."""
    scene = Scene(3, seed=5)
    one, two = stream(rates[0], sensor="a"), stream(rates[1], sensor="b")
    a = pieces(one, scene.heard(rates[0], 3, 0, 20), 999)
    b = pieces(two, scene.heard(rates[1], 3, 0.015, 20), 777)
    for estimate in features(AlignEstimate("m", ("a", "b")), by_time(a, b)):
        assert abs(estimate.values["offset_ms"] - 15) < 3


def test_drift_of_50_ppm_is_followed() -> None:
    """A clock that runs 50 ppm fast over five minutes: drift within 10 ppm, offset within 1 ms all along."""
    seconds, ppm = 300, 50
    scene = Scene(seconds, seed=7)
    slow, fast = stream(2000, sensor="mic"), stream(2000, sensor="acc")
    a = pieces(slow, scene.heard(2000, seconds, 0, 15), 4000)
    b = pieces(fast, scene.heard(2000 * (1 + ppm * 1e-6), seconds, 0.005, 15), 4000)  # still called 2000 Hz
    tracked = features(AlignTrack(), features(AlignEstimate("m", PAIR), by_time(a, b)))
    assert len(tracked) >= seconds - 3
    for feature in tracked[10:]:
        t = (feature.t_end_ns - START) / NS - 1
        assert abs(feature.values["offset_ms"] - (5 + ppm * 1e-3 * t)) < 1
    assert tracked[-1].values["drift_ppm"] == pytest.approx(ppm, abs=10)


SCENE = Scene(6, seed=11)
SOUND_X = SCENE.heard(8000, 6, 0, 20)
VIBRATION_X = SCENE.heard(2000, 6, 0.010, 20, channels=3)


def shaken(first: list[int], second: list[int], order: list[bool], *, faults: bool) -> list[Message]:
    """Both sensors, cut and interleaved at will; with faults: a gap, a moved anchor and a new stream."""
    late = Anchor(17, START + 17 * NS // 8000 + 123)
    if faults:
        moved = Anchor(30_000, late.at(30_000, SOUND.rate) + 345_678)
        a: list[Message] = list(segments(SOUND, SOUND_X[:30_000], first, anchor=late))
        a += segments(SOUND, SOUND_X[30_000:], first, n0=30_000, anchor=moved)
        fresh = stream(2500, "m/s2", channels=3, sensor="acc", epoch=1)
        b: list[Message] = list(segments(VIBRATION, VIBRATION_X[:2100], second, anchor=Anchor(0, START)))
        b += [gap(VIBRATION, 2100, 2200, anchor=Anchor(0, START))]
        b += segments(VIBRATION, VIBRATION_X[2200:6000], second, n0=2200, anchor=Anchor(0, START))
        b += segments(fresh, VIBRATION_X, second, anchor=Anchor(0, START + 3_100_000_077))
    else:
        a = list(segments(SOUND, SOUND_X, first, anchor=late))
        b = list(segments(VIBRATION, VIBRATION_X, second, anchor=Anchor(0, START)))
    out: list[Message] = []
    for take_first in order:
        source = a if take_first and a else b or a
        if source:
            out.append(source.pop(0))
    return [*out, *a, *b]


@settings(max_examples=25, deadline=None)
@given(cuts(48_000), cuts(12_000), st.lists(st.booleans(), max_size=40), st.booleans())
def test_interleaving_and_chunking_change_no_bit(
    first: list[int], second: list[int], order: list[bool], faults: bool
) -> None:
    """Any order of the sensors, any cuts: the same estimates in the same order."""
    plain = features(AlignEstimate("m", PAIR), shaken([], [], [], faults=faults))
    got = features(AlignEstimate("m", PAIR), shaken(first, second, order, faults=faults))
    assert facts(got) == facts(plain)
    assert [f.complete for f in plain] == ([False] * 4 + [True] if faults else [True] * 5)


@settings(max_examples=25, deadline=None)
@given(cuts(48_000), cuts(12_000), st.lists(st.booleans(), max_size=40), st.integers(0, 30), st.booleans())
def test_a_rebuild_goes_on_with_the_same_bits(
    first: list[int], second: list[int], order: list[bool], after: int, faults: bool
) -> None:
    """Rebuilt from what each stream still needs, the estimates go on where they stopped."""
    messages = shaken(first, second, order, faults=faults)
    operator = AlignEstimate("m", PAIR)
    done = features(operator, messages[:after])
    needs = operator.needs_from()
    rest = features(operator, messages[after:])
    again = features(AlignEstimate("m", PAIR), tail(messages, needs))
    assert facts(again) == facts(rest)
    assert len({f.t_end_ns for f in [*done, *rest]}) == len(done) + len(rest)


def test_windows_wait_for_all_and_for_no_more() -> None:
    """A window closes with the last sensor's last sample, at multiples of the hop since 1970."""
    operator = AlignEstimate("m", PAIR)
    anchor = Anchor(0, START - 300_000_000)
    assert operator.needs_from() == {}
    sound = segments(SOUND, SOUND_X, anchor=anchor)
    assert features(operator, sound) == []
    assert operator.needs_from() == {SOUND.key: 0}
    short = first_sample(START + 2 * NS, anchor, VIBRATION.rate)
    assert features(operator, segments(VIBRATION, VIBRATION_X[: short - 1], anchor=anchor)) == []
    (one,) = features(operator, segments(VIBRATION, VIBRATION_X[short - 1 : short], n0=short - 1, anchor=anchor))
    assert one.t_end_ns == START + 2 * NS and one.complete
    assert one.lineage == (Span("mic", 0, 2400, 18_400), Span("acc", 0, 600, 4600))
    assert operator.needs_from() == {SOUND.key: 2400 + 8000 - 16, VIBRATION.key: 600 + 2000 - 4}


def test_gaps_make_windows_incomplete() -> None:
    """One missing sample spoils the windows that it lies in, and no other."""
    a = pieces(SOUND, SOUND_X)
    missing = 2500 * 2  # 2.5 s
    anchor = Anchor(0, START)
    b: list[Message] = [
        *pieces(VIBRATION, VIBRATION_X[:missing], 500),
        gap(VIBRATION, missing, missing + 1, anchor=anchor),
    ]
    b += pieces(VIBRATION, VIBRATION_X[missing + 1 :], 500, n0=missing + 1)
    estimates = features(AlignEstimate("m", PAIR), by_time(a, b))
    assert [f.complete for f in estimates] == [True, False, False, True, True]
    assert all(not f.values for f in estimates if not f.complete)


def test_a_dead_sensor_does_not_hold_anything_up() -> None:
    """Marks of a sensor that never spoke, then of one that stopped: incomplete estimates, second by second."""
    anchor = Anchor(0, START)
    marks: list[Message] = [gap(VIBRATION, 2000 * i, 2000 * (i + 1), "silent", anchor=anchor) for i in range(6)]
    estimates = features(AlignEstimate("m", PAIR), by_time(pieces(SOUND, SOUND_X), marks))
    assert [(f.t_end_ns - START) // NS for f in estimates] == [2, 3, 4, 5, 6]
    assert not any(f.complete for f in estimates)
    stopped: list[Message] = [
        *pieces(VIBRATION, VIBRATION_X[:4500], 500),
        gap(VIBRATION, 4500, 12_000, "silent", anchor=anchor),
    ]
    estimates = features(AlignEstimate("m", PAIR), by_time(pieces(SOUND, SOUND_X), stopped))
    assert [f.complete for f in estimates] == [True, False, False, False, False]


def test_an_end_holds_nothing_up() -> None:
    """After the end of one sensor, the other closes its windows alone; after both ends all is closed."""
    anchor = Anchor(0, START)
    ended: list[Message] = [*pieces(VIBRATION, VIBRATION_X[:5000]), gap(VIBRATION, 5000, 5000, "end", anchor=anchor)]
    sound: list[Message] = [*pieces(SOUND, SOUND_X), gap(SOUND, 48_000, 48_000, "end", anchor=anchor)]
    for messages in ([*ended, *sound], [*sound, *ended]):
        estimates = features(AlignEstimate("m", PAIR), messages)
        assert [f.complete for f in estimates] == [True, False, False, False, False]


@pytest.mark.parametrize("heard_s", [0, 5])
def test_a_sensor_that_nobody_speaks_for_is_waited_for_two_minutes(heard_s: int) -> None:
    """A recording that cannot be opened, or no longer be read: memory and what is read again stay bounded."""
    seconds = 200
    slow, other = (stream(1000, "m/s2", channels=1, sensor=sensor) for sensor in PAIR)
    x = column(np.random.default_rng(21).standard_normal(1000 * seconds))
    a, b = (pieces(source, x[: 1000 * n]) for source, n in ((slow, seconds), (other, heard_s)))
    operator = AlignEstimate("m", PAIR)
    estimates = features(operator, by_time(a, b))
    ends = [(f.t_end_ns - START) // NS for f in estimates]
    assert ends == list(range(2, seconds - 120 + 1))
    assert [f.complete for f in estimates] == [end <= heard_s for end in ends]
    assert operator.needs_from()[slow.key] >= 1000 * (seconds - 122)
    late = features(operator, pieces(other, x[100_000:], n0=100_000, anchor=Anchor(0, START)))
    assert [(f.t_end_ns - START) // NS for f in late] == list(range(seconds - 119, seconds + 1))
    assert [f.complete for f in late] == [f.t_end_ns >= START + 102 * NS for f in late]


def test_years_of_silence_pass_at_once() -> None:
    """Where no sensor has anything, windows are left out: a clock step of both sensors costs nothing."""
    operator = AlignEstimate("m", PAIR)
    features(operator, by_time(pieces(SOUND, SOUND_X), pieces(VIBRATION, VIBRATION_X)))
    later = Anchor(0, START + 10**9 * NS)
    new = [stream(8000, sensor="mic", epoch=1), stream(2000, "m/s2", channels=3, sensor="acc", epoch=1)]
    got = features(operator, [*pieces(new[0], SOUND_X, anchor=later), *pieces(new[1], VIBRATION_X, anchor=later)])
    assert len([f for f in got if f.complete]) == 5
    assert len(got) <= 7


def test_known_offsets_widen_the_reach() -> None:
    """Centred on 90 ms, an offset of 100 ms is found and reported whole."""
    scene = Scene(4, seed=13)
    a, b = stream(8000, sensor="a"), stream(2000, sensor="b")
    messages = by_time(pieces(a, scene.heard(8000, 4, 0, 20)), pieces(b, scene.heard(2000, 4, 0.1, 20)))
    blind = features(AlignEstimate("m", ("a", "b")), messages)
    assert all(f.values["accepted"] == 0 or abs(f.values["offset_ms"]) < 50 for f in blind)
    for estimate in features(AlignEstimate("m", ("a", "b"), centre_ms={"b": 90}), messages):
        assert abs(estimate.values["offset_ms"] - 100) < 5


def test_unrelated_sensors_are_not_accepted() -> None:
    """Two scenes: the peak stays below 0.5."""
    a = pieces(SOUND, Scene(4, seed=1).heard(8000, 4, 0, 20))
    b = pieces(VIBRATION, Scene(4, seed=2).heard(2000, 4, 0, 20, channels=3))
    estimates = features(AlignEstimate("m", PAIR), by_time(a, b))
    assert [f.values["accepted"] for f in estimates] == [0, 0, 0]
    assert not any(f.complete for f in features(AlignTrack(), estimates))


@pytest.mark.parametrize(("hz", "accepted"), [(50, False), (120, False), (14, False), (8, True)])
def test_sound_that_only_repeats_itself_is_ambiguous(hz: float, accepted: bool) -> None:
    """±100 ms hold 3 ms and 23 ms, a period of 20 ms away, or 74 ms; with a period of 125 ms there is one match."""
    scene = Scene(4, seed=1)
    scene.loudness = 1 + 0.8 * np.sin(2 * np.pi * hz * scene.t)
    a, b = pieces(SOUND, scene.heard(8000, 4, 0, 20)), pieces(VIBRATION, scene.heard(2000, 4, 0.003, 20, channels=3))
    estimates = features(AlignEstimate("m", PAIR), by_time(a, b))
    assert [(f.values["accepted"], f.values["ambiguous"]) for f in estimates] == [(accepted, not accepted)] * 3
    assert all(f.values["peak"] > 0.5 for f in estimates)
    tracked = features(AlignTrack(), estimates)
    assert [f.complete for f in tracked] == [accepted] * 3
    assert all(f.values["ambiguous"] != accepted and ("offset_ms" in f.values) == accepted for f in tracked)


def test_three_sensors() -> None:
    """One estimate per sensor and window, all against the first; others are passed over."""
    third = stream(4000, sensor="steth", modality="stethoscope")
    other = stream(1000, sensor="elsewhere")
    x = SCENE.heard(4000, 6, -0.02, 20)
    messages = by_time(pieces(SOUND, SOUND_X), pieces(VIBRATION, VIBRATION_X), pieces(third, x), pieces(other, x[:100]))
    estimates = features(AlignEstimate("m", ("mic", "acc", "steth")), messages)
    assert [f.sensors for f in estimates[:2]] == [("mic", "acc"), ("mic", "steth")]
    assert abs(estimates[0].values["offset_ms"] - 10) < 3 and abs(estimates[1].values["offset_ms"] + 20) < 3


def test_correlation_against_numpy() -> None:
    """Every coefficient as np.corrcoef gives it, the parabola's vertex exactly; mean removal matters."""
    rng = np.random.default_rng(3)
    a, b = 5 + rng.standard_normal(400).cumsum(), 7 + rng.standard_normal(400).cumsum()
    lags = np.arange(-30, 31)
    direct = np.array([np.corrcoef(a[30:-30], b[30 + lag : 370 + lag])[0, 1] for lag in lags])
    found = correlate(a, b, 30)
    best = int(np.argmax(direct))
    assert found.peak == pytest.approx(direct[best], abs=1e-9)
    if 0 < best < 60:
        vertex = np.polyfit(lags[best - 1 : best + 2], direct[best - 1 : best + 2], 2)
        assert found.lag == pytest.approx(-vertex[1] / (2 * vertex[0]), abs=1e-6)
    border = correlate(np.arange(400.0) ** 2, np.arange(400.0) ** 2 * -1.0, 30)
    assert not border.accepted
    assert correlate(np.ones(400), np.ones(400), 30) == (-30.0, 0.0, False, False)


@given(
    st.integers(-(10**18), 2 * 10**18), st.integers(0, 10**12), st.sampled_from([1000, 44_100, 48_000, 2_560]),
    st.sampled_from([1, 7, 1001]),
)  # fmt: skip
def test_first_sample_is_the_inverse_of_event_time(t_ns: int, n: int, num: int, den: int) -> None:
    """The first sample at or after a time, also for whole rows of cells and rates that are no integers."""
    rate = Rate(num * den + 1, den)
    anchor = Anchor(n, 1_700_000_000_123_456_789)
    first = first_sample(t_ns, anchor, rate)
    assert anchor.at(first, rate) >= t_ns > anchor.at(first - 1, rate)
    cell = t_ns // CELL_NS
    rows = first_samples(cell, 50, anchor, rate)
    assert rows.tolist() == [first_sample((cell + i) * CELL_NS, anchor, rate) for i in range(50)]


def estimate(t_s: float, offset: float, accepted: bool = True, complete: bool = True, epoch: int = 0) -> Feature:
    said = {"peak": 0.9 if accepted else 0.3, "accepted": float(accepted), "ambiguous": 0.0}
    values = {"offset_ms": offset, **said} if complete else {}
    lineage = (Span("mic", 0, 0, 1), Span("acc", epoch, 0, 1))
    return Feature("m", PAIR, "align_estimate", START + int(t_s * NS), values, complete, lineage)


def test_the_tracker_takes_the_median_of_ten() -> None:
    """Outliers do not move it; rejected and incomplete estimates are left out."""
    tracker = AlignTrack()
    good = features(tracker, [estimate(t, 10 + 0.1 * (t % 3)) for t in range(9)])
    assert good[-1].values["offset_ms"] == pytest.approx(10.1)
    (outlier,) = features(tracker, [estimate(9, -35)])
    assert outlier.values["offset_ms"] == pytest.approx(10.1)
    assert outlier.values["error_ms"] == pytest.approx(45.1)
    (rejected,) = features(tracker, [estimate(10, 44, accepted=False)])
    assert rejected.complete and rejected.values["offset_ms"] == pytest.approx(10.1)
    assert rejected.values["accepted"] == 0 and rejected.values["age_s"] == 1
    (incomplete,) = features(tracker, [estimate(11, 0, complete=False)])
    assert not incomplete.complete and not incomplete.values


def test_the_tracker_follows_drift_through_silence() -> None:
    """After 200 s of 50 ppm, the offset is carried on for 100 s without an estimate, within 0.1 ms."""
    tracker = AlignTrack()
    features(tracker, [estimate(t, 5 + 0.05 * t) for t in range(200)])
    (last,) = features(tracker, [estimate(300, 0, accepted=False)])
    assert last.values["drift_ppm"] == pytest.approx(50, abs=1e-6)
    assert last.values["offset_ms"] == pytest.approx(5 + 0.05 * 300, abs=1e-6)
    (fresh,) = features(tracker, [estimate(301, -3, epoch=1)])
    assert fresh.values["offset_ms"] == -3 and fresh.values["drift_ppm"] == 0


def test_snapshot_and_restore() -> None:
    """Through JSON, anywhere in the stream; what is included is ignored; small."""
    rng = np.random.default_rng(4)
    stream_of = [estimate(t, rng.normal(5, 0.3), accepted=bool(rng.random() > 0.1)) for t in range(900)]
    whole = features(AlignTrack(), stream_of)
    for cut in (0, 1, 9, 700):
        first, second = AlignTrack(), AlignTrack()
        features(first, stream_of[:cut])
        saved = json.dumps(first.snapshot())
        assert len(saved) < 4000
        second.restore(json.loads(saved))
        assert json.dumps(second.snapshot()) == saved
        assert facts(features(second, stream_of[max(0, cut - 5) :])) == facts(whole[cut:])


def test_refusals() -> None:
    """Sensors, lengths, rates and messages that make no sense."""
    for sensors in (["a"], ["a", "a"]):
        with pytest.raises(ValueError, match="two different"):
            AlignEstimate("m", sensors)
    with pytest.raises(ValueError, match="odd"):
        AlignEstimate("m", PAIR, smooth_ms=4)
    with pytest.raises(ValueError, match="window"):
        AlignEstimate("m", PAIR, window_ms=100)
    with pytest.raises(ValueError, match="too slow"):
        AlignEstimate("m", PAIR).process(segments(stream(999, sensor="mic"), column(np.ones(9)))[0])
    with pytest.raises(TypeError, match="Segment"):
        AlignEstimate("m", PAIR).process(estimate(0, 0))
    with pytest.raises(TypeError, match="align_estimate"):
        AlignTrack().process(Gap(SOUND, Anchor(0, 0), 0, 1, "gap"))
