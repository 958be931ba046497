"""Resampling against closed-form tones and soxr; to the bit independent of chunking, gaps and rebuilds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal.windows import blackmanharris

from operators.resample import Resample, resampled
from pipeline.messages import NS, Anchor, Float32, Gap, Message, Rate, Segment
from tests.operators.pieces import ANCHOR, column, contiguous, cuts, gap, joined, run, samples, segments, stream, tail

PAIRS = [
    (44_100, 48_000), (16_000, 48_000), (32_000, 48_000), (96_000, 48_000), (22_050, 48_000), (2_000, 48_000),
    (48_000, 16_000), (48_000, 44_100), (51_200, 48_000), (48_000, 2_000), (65_536, 48_000), (44_100, 47_999),
]  # fmt: skip


def tone(frequency: float, rate: float, n: Float32 | np.ndarray, phase: float = 0.3) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * n / rate + phase)


def error_db(y: np.ndarray, truth: np.ndarray) -> float:
    """Error power by the power of a full-scale tone."""
    return float(10 * np.log10(np.mean((y - truth) ** 2) / 0.5))


@pytest.mark.parametrize(("fs_in", "fs_out"), PAIRS)
@pytest.mark.parametrize("relative", [0.003, 0.11, 0.31, 0.45])
def test_tones_keep_amplitude_phase_and_time(fs_in: int, fs_out: int, relative: float) -> None:
    """A tone up to 0.45 of the lower rate is the same tone at the other rate, sample for sample; error < -100 dB."""
    frequency = relative * min(fs_in, fs_out)
    source = stream(fs_in)
    x = column(tone(frequency, fs_in, np.arange(fs_in // 2)))
    n0, y = joined(run(Resample(source, Rate(fs_out)), segments(source, x)))
    truth = tone(frequency, fs_out, np.arange(n0, n0 + len(y)))
    assert len(y) > 0.35 * fs_out
    assert error_db(y[:, 0], truth) < -100
    ripple = 20 * np.log10(np.sqrt(2 * np.mean(y.astype(np.float64) ** 2)))
    whole_periods = round(frequency * len(y) / fs_out) > 20
    assert abs(ripple) < 0.05 or not whole_periods


@pytest.mark.parametrize(("fs_in", "fs_out"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_nothing_folds(fs_in: int, fs_out: int) -> None:
    """What lies above half the output rate is at least 100 dB down."""
    source = stream(fs_in)
    for relative in (0.502, 0.52, 0.7, 0.99):
        frequency = min(relative * fs_out, 0.499 * fs_in)
        if frequency < 0.5 * fs_out:
            continue
        x = column(tone(frequency, fs_in, np.arange(fs_in // 2)))
        _, y = joined(run(Resample(source, Rate(fs_out)), segments(source, x)))
        assert error_db(y[:, 0], np.zeros(len(y))) < -100


@pytest.mark.parametrize(("fs_in", "fs_out"), [pair for pair in PAIRS if pair[0] < pair[1] and pair[1] != 47_999])
def test_no_images(fs_in: int, fs_out: int) -> None:
    """Upsampled, a tone near half the input rate leaves nothing above it: Blackman-Harris spectrum."""
    source = stream(fs_in)
    frequency = 0.44 * fs_in
    x = column(tone(frequency, fs_in, np.arange(fs_in)))
    _, y = joined(run(Resample(source, Rate(fs_out)), segments(source, x)))
    spectrum = np.abs(np.fft.rfft(y[:32_768, 0] * blackmanharris(32_768)))
    frequencies = np.fft.rfftfreq(32_768, 1 / fs_out)
    images = spectrum[frequencies > 0.5 * fs_in]
    if len(images):
        assert 20 * np.log10(images.max() / spectrum.max()) < -90  # the window's own side lobes lie at -92 dB


@pytest.mark.parametrize(("fs_in", "fs_out"), [(44_100, 48_000), (16_000, 48_000), (96_000, 48_000), (48_000, 2_000)])
def test_agrees_with_soxr(fs_in: int, fs_out: int) -> None:
    """Band-limited noise: within -90 dB of soxr's very high quality, away from the ends."""
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfft(rng.standard_normal(fs_in))
    spectrum[int(0.4 * min(fs_in, fs_out)) :] = 0
    x = np.fft.irfft(spectrum, fs_in)
    x *= 0.5 / np.abs(x).max()
    ours = resampled(column(x), Rate(fs_in), Rate(fs_out))[:, 0]
    theirs = soxr.resample(x, fs_in, fs_out, quality="VHQ")
    inside = slice(fs_out // 10, fs_out - fs_out // 10)
    error = np.mean((ours[inside] - theirs[inside]) ** 2) / np.mean(theirs[inside] ** 2)
    assert 10 * np.log10(error) < -90


def test_a_constant_stays_a_constant() -> None:
    """Each polyphase branch sums to one."""
    source = stream(44_100, channels=2)
    x = np.tile(np.array([[1.0, -0.25]], np.float32), (22_050, 1))
    _, y = joined(run(Resample(source, Rate(48_000)), segments(source, x)))
    assert np.allclose(y, [[1.0, -0.25]], atol=1e-6, rtol=0)


def test_batch_and_stream_are_one() -> None:
    """The clip form equals the streaming form to the bit where the stream has full memory, and ends where it must."""
    for fs_in, fs_out in ((44_100, 48_000), (48_000, 16_000)):
        x = np.random.default_rng(2).standard_normal((fs_in // 3, 2)).astype(np.float32)
        source = stream(fs_in, channels=2)
        n0, y = joined(run(Resample(source, Rate(fs_out)), segments(source, x)))
        clip = resampled(x, Rate(fs_in), Rate(fs_out))
        assert clip.shape == (-(-len(x) * fs_out // fs_in), 2)
        assert np.allclose(clip[n0 : n0 + len(y)], y, atol=2e-6)
    assert np.array_equal(resampled(x, Rate(8000), Rate(8000)), x)


@settings(max_examples=15, deadline=None)
@given(cuts(6000), cuts(6000), st.sampled_from([(16_000, 48_000), (44_100, 48_000), (48_000, 2_000), (44_100, 47_999)]))
def test_chunking_changes_no_bit(first: list[int], second: list[int], rates: tuple[int, int]) -> None:
    """Two ways to cut, with a gap and a change of anchor: the same samples, gaps and times."""
    source = stream(rates[0], channels=2)
    x = np.random.default_rng(3).standard_normal((14_000, 2)).astype(np.float32)
    later = Anchor(6000, ANCHOR.at(6000, source.rate) + 12_345)

    def of(at: list[int]) -> list[Message]:
        head = segments(source, x[:6000], at, n0=0)
        then = segments(source, x[6000:9000], at, n0=6000, anchor=later)
        rest = segments(source, x[9100:], at, n0=9100, anchor=later)
        messages: list[Message] = [*head, *then, gap(source, 9000, 9100, anchor=later), *rest]
        return run(Resample(source, Rate(rates[1])), messages)

    a, b = of(first), of(second)
    assert samples(a) == samples(b)
    assert [m for m in a if isinstance(m, Gap)] == [m for m in b if isinstance(m, Gap)]
    assert contiguous(a) and contiguous(b)
    assert times(a) == times(b)


def times(messages: list[Message]) -> dict[int, int]:
    return {n: m.anchor.at(n, m.stream.rate) for m in messages if isinstance(m, Segment) for n in range(m.n0, m.n1)}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 13), st.sampled_from([(16_000, 48_000), (44_100, 48_000), (96_000, 48_000)]))
def test_a_rebuild_goes_on_with_the_same_bits(after: int, rates: tuple[int, int]) -> None:
    """Rebuilt from what is needed, the operator emits exactly what the other one still had to emit."""
    source = stream(rates[0])
    x = np.random.default_rng(4).standard_normal((14_000, 1)).astype(np.float32)
    messages: list[Message] = [*segments(source, x[:7000], range(0, 7000, 1000))]
    messages += [gap(source, 7000, 7500), *segments(source, x[7500:], range(0, 7000, 1000), n0=7500)]
    operator = Resample(source, Rate(rates[1]))
    run(operator, messages[:after])
    needs = operator.needs_from()
    rest = run(operator, messages[after:])
    again = run(Resample(source, Rate(rates[1])), tail(messages, needs))
    assert samples(rest) == samples(again)


def test_indices_far_out_change_no_bit() -> None:
    """48,000.5 Hz is 96,001/96,000 of the output's rate: whole blocks of 96,001 samples later all is the same again."""
    source = stream(Rate(96_001, 2))
    x = np.random.default_rng(6).standard_normal((5000, 1)).astype(np.float32)
    operator = Resample(source, Rate(48_000))
    blocks = operator.block << 30
    first, y = joined(run(operator, segments(source, x)))
    far = segments(source, x, n0=96_001 * blocks)  # times the ratio's denominator, beyond 64 bits
    later, z = joined(run(Resample(source, Rate(48_000)), far))
    assert later == first + 96_000 * blocks
    assert len(y) > 3000 and np.array_equal(y, z)


def test_needed_for_brings_the_output_back() -> None:
    """Read again from there, output m is emitted; one block later it is not."""
    source = stream(44_100)
    x = np.random.default_rng(5).standard_normal((20_000, 1)).astype(np.float32)
    operator = Resample(source, Rate(48_000))
    for m in (5000, 5001, 5119, 5120, 6077):
        n = operator.needed_for(m)
        first, _ = joined(run(Resample(source, Rate(48_000)), segments(source, x[n:], n0=n)))
        assert first <= m
        later, _ = joined(run(Resample(source, Rate(48_000)), segments(source, x[n + 1 :], n0=n + 1)))
        assert later > m


def test_event_times_agree() -> None:
    """Output sample m lies at m · fs_in / fs_out input samples, to 2 ns, under either anchor."""
    source = stream(44_100)
    first, second = Anchor(17, ANCHOR.t_ns), Anchor(9001, ANCHOR.t_ns + (9001 - 17) * NS // 44_100 + 40_000)
    x = np.zeros((18_000, 1), np.float32)
    out = run(
        Resample(source, Rate(48_000)),
        [Segment(source, first, 0, x[:9001]), Segment(source, second, 9001, x[9001:])],
    )
    boundary = -(-9001 * 480 // 441)
    seen = times(out)
    assert seen
    for m, t in seen.items():
        anchor = first if m < boundary else second
        exact = anchor.t_ns + Fraction((m * 441 - anchor.n * 480) * NS, 480 * 44_100)
        assert -3 < t - exact < 1


def test_gaps_cover_what_is_lost_and_no_more() -> None:
    """After a gap the warm-up is missing; everything before it and after it is there, contiguous with the gap."""
    source = stream(16_000)
    x = np.ones((16_000, 1), np.float32)
    messages: list[Message] = [
        *segments(source, x[:8000]),
        gap(source, 8000, 8001),
        *segments(source, x[8001:], n0=8001),
    ]
    out = run(Resample(source, Rate(48_000)), [*messages, gap(source, 16_000, 16_000, "end")])
    lost = [m for m in out if isinstance(m, Gap)]
    assert contiguous(out)
    assert [m.reason for m in lost] == ["gap", "end"]
    assert lost[0].n0 <= 8000 * 3 < lost[0].n1
    assert (lost[0].n1 - lost[0].n0) / 48_000 < 0.06
    assert lost[1].n1 == 48_000
    assert all(m.stream.rate == Rate(48_000) for m in out if isinstance(m, Segment | Gap))


def test_a_silent_sensor_passes_its_marks_on() -> None:
    """Marks without any sample become gaps that follow each other."""
    source = stream(44_100)
    marks = [gap(source, 44_100 * i, 44_100 * (i + 1), "silent") for i in range(3)]
    out = run(Resample(source, Rate(48_000)), marks)
    assert contiguous(out) and all(isinstance(m, Gap) for m in out)
    last = out[-1]
    assert isinstance(last, Gap) and last.n1 >= 3 * 48_000


def test_equal_rates_pass() -> None:
    """Nothing is done, nothing is held back."""
    source = stream(Rate(96_000, 2))
    operator = Resample(source, Rate(48_000))
    message = segments(source, np.ones((7, 1), np.float32))[0]
    assert list(operator.process(message)) == [message]
    assert operator.needed_for(12) == 12


def test_refusals() -> None:
    """Too slow for the memory, terms too large, foreign messages."""
    with pytest.raises(ValueError, match="needs"):
        Resample(stream(100), Rate(50))
    with pytest.raises(ValueError, match="too large"):
        Resample(stream(Rate(44_099_987, 1000)), Rate(48_000))
    with pytest.raises(TypeError, match="Segment"):
        Resample(stream(16_000), Rate(48_000)).process(None)  # type: ignore[arg-type]
