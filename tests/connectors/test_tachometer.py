"""Speeds told by a tachometer's channel against closed forms: however it is cut, interrupted, or taken up again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from connectors.base import Resume, Source, SourceMessage
from connectors.microphone import Microphone
from connectors.playback import Playback
from connectors.rotation import PulseReader, Reader, VoltageReader
from connectors.tachometer import RereadTachometer, Tachometer
from pipeline.errors import SourceError
from pipeline.messages import NS, Anchor, Chunk, Context, Mark, Rate, Stream
from tests.servers.microphone import FakeMicrophone

RATE = 8000
NOW = 1_790_000_000 * NS


def pulses(turned: NDArray[np.float64], per_revolution: int = 1, wide: float = 0.1) -> NDArray[np.float64]:
    """A pulse of height 1 with straight flanks that is half as high at each whole mark, `turned` in revolutions."""
    phase = (turned * per_revolution) % 1.0
    return np.clip(0.5 + np.minimum(phase, np.maximum(wide - phase, phase - 1.0)) * 2.0 / wide, 0.0, 1.0)


def steady(rpm: float, seconds: float, per_revolution: int = 1) -> NDArray[np.float64]:
    turned = np.arange(round(seconds * RATE)) / RATE * rpm / 60.0 + 0.3
    return pulses(turned, per_revolution, 0.1 if rpm * per_revolution < 20_000.0 else 0.5)


def told(reader: Reader, x: NDArray[np.float64], cuts: Sequence[int] = ()) -> list[tuple[int, float]]:
    """What the reader says to a channel that is handed over in pieces."""
    out = []
    for n0, n1 in pairwise([0, *sorted(cuts), len(x)]):
        out += reader.read(n0, x[n0:n1])
    return out


@pytest.mark.parametrize("rpm", [61.0, 400.0, 1501.7, 6000.0, 11_987.3, 24_000.0])
@pytest.mark.parametrize("per_revolution", [1, 4])
@pytest.mark.parametrize("falling", [False, True])
def test_the_speed_of_steady_pulses(rpm: float, per_revolution: int, falling: bool) -> None:
    """To a hundred-thousandth of it, from the first second or two on, every quarter of a second."""
    if rpm * per_revolution / 60.0 > RATE / 8:
        per_revolution = 2
    said = told(PulseReader(RATE, 0.5, per_revolution, falling=falling), steady(rpm, 6.0, per_revolution))
    assert [n for n, _ in said][-16:] == list(range(2 * RATE + RATE // 4, 6 * RATE + 1, RATE // 4))
    assert {value for _, value in said} != {0.0}
    np.testing.assert_allclose([value for _, value in said], rpm, rtol=1e-5, atol=6e-4)


def test_noise_and_ringing_make_no_second_edge() -> None:
    """Noise of a tenth of the pulse, and ringing that stays beyond half of the trigger."""
    x = steady(3000.0, 6.0) + 0.03 * np.random.default_rng(1).standard_normal(6 * RATE)
    values = [value for _, value in told(PulseReader(RATE, 0.5), x)]
    np.testing.assert_allclose(values, 3000.0, rtol=2e-4)
    t = np.arange(6 * RATE) / RATE
    ringing = np.exp(-((t % 0.02) / 0.004)) * (0.65 + 0.35 * np.cos(2 * np.pi * 700 * (t % 0.02)))
    values = [value for _, value in told(PulseReader(RATE, 0.5), ringing)]
    np.testing.assert_allclose(values, 3000.0, rtol=1e-3)  # the flank is steeper than a sample


def test_a_spindle_that_starts_turns_and_stops() -> None:
    """Zero while it stands; what lies half a second behind while it speeds up; zero a second after the last pulse."""
    t = np.arange(16 * RATE) / RATE
    speed = np.interp(t, [0, 4, 6, 10, 10.5, 16], [0, 0, 50, 50, 0, 0])  # in revolutions a second
    said = dict(told(PulseReader(RATE, 0.5), pulses(np.cumsum(speed) / RATE + 0.5)))
    at = {n / RATE: rpm for n, rpm in said.items()}
    assert all(at[s] == 0.0 for s in np.arange(2.0, 4.25, 0.25))
    assert all(at[s] == pytest.approx(3000.0, rel=1e-4) for s in np.arange(6.75, 10.25, 0.25))
    for s in np.arange(4.75, 6.0, 0.25):
        assert 60.0 * (s - 0.6 - 4.0) * 25.0 <= at[s] <= 60.0 * (s - 0.15 - 4.0) * 25.0
    assert all(at[s] == 0.0 for s in np.arange(12.0, 16.25, 0.25))


@pytest.mark.parametrize("per_revolution", [1, 2, 12])
def test_lost_and_doubled_pulses_tell_no_speed(per_revolution: int) -> None:
    """No wrong speed is told, and what is wrong is said; when pulses are whole again, so are the speeds."""
    reader = PulseReader(RATE, 0.5, per_revolution)
    turned = np.arange(12 * RATE) / RATE * 10.0 + 0.3
    x = pulses(turned, per_revolution)
    lost = (np.floor(turned * per_revolution + 0.5) % 3 == 0) & (turned > 40.0) & (turned < 80.0)
    said = told(reader, np.where(lost, 0.0, x)[: 7 * RATE])
    assert {value for n, value in said if n >= 4.75 * RATE} == set()
    assert "unevenly" in reader.doubt
    said += reader.read(7 * RATE, np.where(lost, 0.0, x)[7 * RATE :])
    assert reader.doubt == ""
    values = [value for _, value in said]
    assert len(values) >= 25
    np.testing.assert_allclose(values, 600.0, rtol=1e-4)
    echo = np.maximum(x, 0.9 * np.roll(x, round(RATE / 10 / per_revolution * 0.3)))
    assert told(PulseReader(RATE, 0.5, per_revolution), echo) == []


def test_no_pulse_at_all_and_no_number() -> None:
    assert {value for _, value in told(PulseReader(RATE, 0.5), np.zeros(5 * RATE))} == {0.0}
    assert {value for _, value in told(PulseReader(RATE, 0.5), np.ones(5 * RATE))} == {0.0}
    assert {value for _, value in told(PulseReader(RATE, 0.5), np.full(5 * RATE, np.nan))} == {0.0}
    reader = VoltageReader(RATE, 1.0)
    assert told(reader, np.full(5 * RATE, np.nan)) == []
    assert reader.doubt


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 6 * RATE), max_size=40),
    seed=st.integers(0, 99),
    volts=st.booleans(),
)
def test_any_cut_gives_the_same_speeds(cuts: list[int], seed: int, volts: bool) -> None:
    """To the bit; pulses whose level is sometimes missed, a voltage with noise."""
    rng = np.random.default_rng(seed)
    turned = np.cumsum(20.0 + 10.0 * np.sin(np.arange(6 * RATE) / RATE)) / RATE
    x = pulses(turned) * rng.choice([1.0, 0.55, 0.45], 6 * RATE) + 0.2 * rng.standard_normal(6 * RATE)

    def reader() -> Reader:
        return VoltageReader(RATE, 900.0) if volts else PulseReader(RATE, 0.5)

    assert told(reader(), x, cuts) == told(reader(), x)


def test_a_voltage_stands_for_the_speed() -> None:
    """Its mean over each quarter of a second, in either direction; next to nothing is a spindle that stands."""
    x = np.repeat([0.02, 5.0, -5.0, 9.0], RATE // 4) + 0.5 * np.tile([1.0, -1.0], RATE // 2)
    assert told(VoltageReader(RATE, 1200.0), x) == [
        (RATE // 4, 0.0), (RATE // 2, 6000.0), (RATE * 3 // 4, 6000.0), (RATE, 10_800.0),
    ]  # fmt: skip


def two_channels(path: Path, seconds: float = 9.0, rpm: float = 3000.0) -> Path:
    """A sound on the left, pulses on the right that get slowly faster."""
    t = np.arange(round(seconds * RATE)) / RATE
    x = np.stack([0.3 * np.sin(2 * np.pi * 440.0 * t), 0.8 * pulses(rpm / 60.0 * t * (1.0 + 0.01 * t))], axis=1)
    soundfile.write(path, x, RATE, subtype="PCM_16")
    return path


def tachometer(files: Sequence[Path], *, channel: int = 1, **more: object) -> RereadTachometer:
    played = Playback("mill", "mic", "acoustic", files, speed=0, start_ns=NOW, **more)  # type: ignore[arg-type]
    return RereadTachometer(played, PulseReader(RATE, 0.4), channel=channel, channels=1, context="spindle_rpm")


def drain(source: RereadTachometer, resume: Resume | None = None) -> list[SourceMessage]:
    source.open({} if resume is None else {("mill", "mic"): resume}, NOW)
    out: list[SourceMessage] = []
    while not source.exhausted:
        out += source.poll(NOW)
    source.close()
    return out


def test_the_channel_is_read_and_goes_no_further(tmp_path: Path) -> None:
    """The sensor's samples are as without it; each speed comes before the chunk that it was read from."""
    file = two_channels(tmp_path / "a.wav")
    messages = drain(tachometer([file]))
    chunks = [m for m in messages if isinstance(m, Chunk)]
    plain = Playback("mill", "mic", "acoustic", [file], channels=[0], speed=0, start_ns=NOW)
    (stream,) = plain.open({}, NOW)
    assert {id(c.stream) for c in chunks} == {id(chunks[0].stream)}
    assert chunks[0].stream == stream
    expected = [m for _ in range(12) for m in plain.poll(NOW) if isinstance(m, Chunk)]
    plain.close()
    assert [(c.n0, c.seq, c.samples.tobytes()) for c in chunks] == [
        (c.n0, c.seq, c.samples.tobytes()) for c in expected
    ]
    facts = [m for m in messages if isinstance(m, Context)]
    assert {(f.machine, f.name) for f in facts} == {("mill", "spindle_rpm")}
    for fact in facts:
        t = (fact.t_ns - NOW) / NS
        assert fact.value == pytest.approx(3000.0 * (1.0 + 0.02 * (t - 0.26)), rel=1e-3 if t > 0.7 else 5e-3)
    assert [f.t_ns for f in facts] == sorted({f.t_ns for f in facts})
    assert len(facts) >= 34
    behind = 0
    for message in messages:
        if isinstance(message, Context):
            assert message.t_ns > behind
        elif isinstance(message, Chunk):
            behind = message.t1_ns


def test_a_hole_is_not_averaged_over(tmp_path: Path) -> None:
    """Between two files nobody knows how fast the spindle turned."""
    files = [two_channels(tmp_path / "a.wav", 4.0), two_channels(tmp_path / "b.wav", 4.0, rpm=6000.0)]
    source = tachometer(files, pause_s=3.0)
    times = {(m.t_ns - NOW) / NS: float(m.value) for m in drain(source) if isinstance(m, Context)}
    assert not [t for t in times if 4.0 < t < 7.0]
    assert all(rpm < 3300.0 if t <= 4.0 else 6000.0 <= rpm < 6600.0 for t, rpm in times.items())
    assert min(t for t in times if t > 5.0) <= 7.5


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recorded")
    return [two_channels(folder / "a.wav", 5.3), two_channels(folder / "b.wav", 4.4, rpm=1500.0)]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [two_channels(tmp_path_factory.mktemp("slow") / "a.wav", 14.0, rpm=64.0)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 12 * RATE))
def test_a_restart_changes_nothing(recorded: list[Path], n: int) -> None:
    """What comes after any sample is what had come without the restart: the same samples, marks and speeds."""
    whole = drain(tachometer(recorded, pause_s=2.5))
    end = whole[-1]
    assert isinstance(end, Mark)
    n = min(n, end.n1)
    again = drain(tachometer(recorded, pause_s=2.5), Resume(0, Anchor(0, NOW), n))

    def facts(messages: list[SourceMessage], after: int) -> list[Context]:
        return [m for m in messages if isinstance(m, Context) and m.t_ns > after]

    assert facts(again, 0) == facts(whole, Anchor(0, NOW).at(n, end.stream.rate))

    def sound(messages: list[SourceMessage]) -> bytes:
        return b"".join(m.samples[max(0, n - m.n0) :].tobytes() for m in messages if isinstance(m, Chunk))

    assert sound(again) == sound(whole)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(6 * RATE, 10 * RATE))
def test_a_restart_beside_a_slow_spindle_changes_nothing(slow: list[Path], n: int) -> None:
    """A pulse a second: the seconds before are read again, or the first speeds behind the restart would be missing."""
    whole, again = drain(tachometer(slow)), drain(tachometer(slow), Resume(0, Anchor(0, NOW), n))
    facts = [[(m.t_ns, m.value) for m in messages if isinstance(m, Context)] for messages in (whole, again)]
    behind = NOW + n * NS // RATE
    assert facts[1] == [fact for fact in facts[0] if fact[0] > behind] != []


class Scripted(Source):
    """A device that gives what it was told to."""

    trouble, counters = "", {"frames": 7}

    def __init__(self, *messages: SourceMessage, channels: int = 2) -> None:
        self._messages = list(messages)
        self.stream = Stream("mill", "acc", 0, "vibration", Rate(RATE), channels, "<f4", "m/s2", 1.0)
        self.closed = 0

    def contents(self) -> Mapping[tuple[str, str], str]:
        """Which files they are."""
        return {("mill", "acc"): "digest"}

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Its one stream."""
        return [self.stream]

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """All at once."""
        told, self._messages = self._messages, []
        return told

    def wake_ns(self, now_ns: int) -> int:
        """In a second."""
        return now_ns + NS

    @property
    def exhausted(self) -> bool:
        """When all was given."""
        return not self._messages

    def close(self) -> None:
        """Count."""
        self.closed += 1


def volts(source: Scripted, n0: int, n1: int, value: float, epoch: int = 0) -> Chunk:
    """A voltage on the second channel."""
    x = np.full((n1 - n0, 2), value, np.float32)
    return Chunk(replace(source.stream, epoch=epoch), Anchor(0, NOW), n0, 0, x)


@pytest.mark.parametrize("hole", ["a mark", "nothing said", "another stream"])
def test_no_speed_is_made_of_what_lies_on_both_sides_of_a_hole(hole: str) -> None:
    """The quarter of a second that the hole lies in tells none."""
    source = Scripted()
    epoch = int(hole == "another stream")
    before, behind = volts(source, 0, 5000, 5.0), volts(source, 5500, 10_000, 9.0, epoch)
    mark = Mark(source.stream, Anchor(0, NOW), 5000, 5500, "gap")
    source._messages = [before, *([mark] if hole == "a mark" else []), behind]
    tacho = Tachometer(source, VoltageReader(RATE, 1000.0), channel=1, channels=1, context="spindle_rpm")
    tacho.open({}, NOW)
    told = [((m.t_ns - NOW) * RATE // NS, m.value) for m in tacho.poll(NOW) if isinstance(m, Context)]
    assert told == [(2000, 5000.0), (4000, 5000.0), (8000, 9000.0), (10_000, 9000.0)]


def test_a_tachometer_passes_on_what_its_source_says() -> None:
    """Counters, contents, when there is more, and trouble; without any, why no speed can be told."""
    source = Scripted()
    source._messages = [volts(source, 0, 4000, float("nan"))]
    tacho = Tachometer(source, VoltageReader(RATE, 1000.0), channel=1, channels=1, context="spindle_rpm")
    tacho.open({}, NOW)
    assert tacho.trouble == "" and not tacho.exhausted
    tacho.poll(NOW)
    assert tacho.trouble == "tachometer 'spindle_rpm': the channel holds no numbers"
    source.trouble = "unplugged"
    assert tacho.trouble == "unplugged" and tacho.exhausted
    assert (tacho.counters, tacho.contents()) == ({"frames": 7}, {("mill", "acc"): "digest"})
    assert tacho.wake_ns(NOW) == NOW + NS
    tacho.close()
    assert source.closed == 1


def test_a_device_without_the_channel_is_let_go() -> None:
    """Or it could not be opened again before the process ends."""
    source = Scripted(channels=1)
    with pytest.raises(SourceError, match="mill/acc: no channel 1 for the tachometer: there are 1"):
        Tachometer(source, VoltageReader(RATE, 1.0), channel=1, channels=1, context="rpm").open({}, NOW)
    assert source.closed == 1


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    source = tachometer([two_channels(tmp_path / "a.wav", 1.0)], channel=2)
    with pytest.raises(SourceError, match="no channel 2 for the tachometer: there are 2"):
        source.open({}, NOW)


def test_a_tachometer_on_the_second_channel_of_a_real_sound_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real PortAudio on an ALSA device of two channels; `level` is a share of full scale whatever `scale` says."""
    n = np.arange(48_000)
    heard = np.stack([n % 30_000, np.where(n % 960 < 100, 20_000, 0)], axis=1).astype("<i2")
    with FakeMicrophone(heard) as fake:
        for name in ("ALSA_CONFIG_PATH", "JACK_NO_START_SERVER"):
            monkeypatch.setenv(name, fake.env[name])
        mic = Microphone("mill", "mic", fake.name, channels=2, unit="Pa", scale=1e-3)
        source = Tachometer(mic, PulseReader(48_000, 0.3), channel=1, channels=1, context="spindle_rpm")
        (stream,) = source.open({}, time.time_ns())
        assert (stream.channels, stream.scale) == (1, 1e-3)
        out: list[SourceMessage] = []
        end = time.monotonic() + 60.0
        try:
            while mic.counters["frames"] < 48_000 and time.monotonic() < end:
                out += source.poll(time.time_ns())
                time.sleep(0.005)
        finally:
            source.close()
    chunks = [m for m in out if isinstance(m, Chunk)]
    assert {c.samples.shape[1] for c in chunks} == {1}
    np.testing.assert_array_equal(np.concatenate([c.samples[:, 0] for c in chunks])[:48_000], heard[:, 0])
    facts = [m for m in out if isinstance(m, Context)]
    assert len(facts) >= 2
    assert {f.value for f in facts} == {3000.0}
    assert source.counters == mic.counters
    assert source.trouble == ""


@pytest.mark.parametrize(
    "make",
    [
        lambda: PulseReader(RATE, 0.0),
        lambda: PulseReader(RATE, float("nan")),
        lambda: PulseReader(RATE, 0.5, 0),
        lambda: PulseReader(0.0, 0.5),
        lambda: VoltageReader(RATE, 0.0),
        lambda: VoltageReader(RATE, float("inf")),
    ],
)
def test_senseless_arguments(make: object) -> None:
    with pytest.raises(ValueError, match="must be a number other than 0"):
        make()  # type: ignore[operator]
