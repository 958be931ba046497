"""The microphone on a card made of numbers, whose clock, losses and plug move by hand."""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from connectors import portaudio
from connectors.base import Resume, SourceMessage
from connectors.clockfit import LONGEST_CHUNK
from connectors.microphone import Microphone
from pipeline.errors import ConfigError, MissingExtra, SourceError
from pipeline.messages import NS, Anchor, Mark, Stream
from tests.connectors.polling import chunks, poll_until
from tests.connectors.soundcard import USB, SoundCard

KEY = ("lathe", "mic")


def microphone(card: SoundCard, **settings: Any) -> Microphone:
    return Microphone("lathe", "mic", "USB*", clock=card.clock, pyaudio=card, **settings)


def started(card: SoundCard, **settings: Any) -> Microphone:
    """A microphone that has got past its first moments: ten chunks were polled."""
    mic = microphone(card, **settings)
    mic.open({}, card.clock())
    got: list[SourceMessage] = []
    for _ in range(10):
        card.run(1)
        got += mic.poll(card.clock())
    assert len(chunks(got)) == 10
    return mic


def test_samples_carry_their_index_and_the_time_of_the_adc() -> None:
    card = SoundCard()
    mic = microphone(card, channels=2)
    (stream,) = mic.open({}, card.clock())
    assert stream == Stream("lathe", "mic", 0, "acoustic", stream.rate, 2, "<i2", "FS", 2.0**-15)
    start = card.clock()
    card.run(10)
    got = chunks(mic.poll(card.clock()))
    assert [c.n0 for c in got] == list(range(0, 48_000, 4800))
    assert [c.seq for c in got] == list(range(10))
    assert {c.stream for c in got} == {stream}
    samples = np.concatenate([c.samples for c in got])
    np.testing.assert_array_equal(samples[:, 1], np.arange(48_000) % 32_768)
    assert all(abs(c.t0_ns - start - c.n0 * NS // 48_000) < 20_000 for c in got)
    assert mic.counters["frames"] == 48_000
    assert not mic.exhausted
    assert mic.wake_ns(card.clock()) == card.clock() + NS // 10
    card.run(1)
    assert mic.wake_ns(card.clock()) == card.clock()
    mic.close()
    mic.close()
    assert mic.poll(card.clock() + 60 * NS) == []
    assert card.opened == card.terminated == 1


@pytest.mark.parametrize(("sample_type", "dtype", "scale"), [("int32", "<i4", 2.0**-31), ("float32", "<f4", 1.0)])
def test_other_sample_types(sample_type: Any, dtype: str, scale: float) -> None:
    card = SoundCard()
    (stream,) = microphone(card, sample_type=sample_type).open({}, card.clock())
    assert (stream.dtype, stream.scale) == (dtype, scale)
    assert card.streams[0].settings["format"] == {"<i4": card.paInt32, "<f4": card.paFloat32}[dtype]


def test_a_restart_begins_a_new_stream() -> None:
    card = SoundCard()
    mic = microphone(card)
    (stream,) = mic.open({KEY: Resume(6, Anchor(0, 0), 99)}, card.clock())
    card.run(5)
    assert stream.epoch == 7
    assert chunks(mic.poll(card.clock()))[0].n0 == 0


def test_a_full_queue_is_a_gap_in_the_index() -> None:
    card = SoundCard()
    mic = started(card, ring_s=1.0)
    card.run(25)  # 2.5 s without a poll: ten buffers fit
    got = chunks(mic.poll(card.clock()))
    card.run(1)
    got += chunks(mic.poll(card.clock()))
    assert [c.n0 for c in got] == [*range(48_000, 96_000, 4800), 168_000]
    for chunk in got:
        np.testing.assert_array_equal(chunk.samples[:, 0], np.arange(chunk.n0, chunk.n1) % 32_768)
    assert mic.counters["dropped_frames"] == 15 * 4800
    assert mic.counters["lost_frames"] == mic.counters["overflows"] == 0


@pytest.mark.parametrize("lost", [1, 480, 4800, 480_000])
def test_what_the_driver_lost_is_a_gap_of_that_length(lost: int) -> None:
    card = SoundCard()
    mic = started(card)
    card.streams[0].lose(lost)
    card.run(5)
    got = chunks(mic.poll(card.clock()))
    assert abs(got[0].n0 - 48_000 - lost) <= 1
    assert got[0].n0 > 48_000
    assert [c.n0 for c in got[1:]] == [c.n1 for c in got[:-1]]
    assert abs(got[-1].t1_ns - card.clock()) < 50_000
    assert (mic.counters["overflows"], mic.counters["lost_frames"]) == (1, got[0].n0 - 48_000)
    assert got[0].stream.epoch == 0


def test_an_overflow_flag_on_a_dropped_buffer_is_not_forgotten() -> None:
    card = SoundCard()
    mic = started(card, ring_s=0.3)
    card.run(3)
    card.streams[0].lose(960)
    card.run(1)  # does not fit any more
    first = chunks(mic.poll(card.clock()))
    card.run(1)
    (after,) = chunks(mic.poll(card.clock()))
    assert [c.n0 for c in first] == [48_000, 52_800, 57_600]
    assert abs(after.n0 - (62_400 + 4800 + 960)) <= 1
    np.testing.assert_array_equal(after.samples[:, 0], np.arange(68_160, 72_960) % 32_768)


@pytest.mark.parametrize("ppm", [100.0, -100.0])
def test_a_day_of_drift_gives_no_gap_and_time_stays_right(ppm: float) -> None:
    draw = random.Random(5)
    card = SoundCard(ppm=ppm)
    card.quiet = True
    card.jitter = lambda: round(draw.uniform(-2e6, 2e6))
    card.delay = lambda: round(draw.expovariate(1 / 1e6))
    mic = microphone(card, rate_hz=8000, chunk_s=0.5)
    mic.open({}, card.clock())
    chunk_ns = NS // 2 / (1 + ppm * 1e-6)
    start = card.clock()
    expected, held = 0, None
    while expected < 24 * 3600 * 8000:
        card.run(2)
        for chunk in chunks(mic.poll(card.clock())):
            assert chunk.n0 == expected
            assert abs(chunk.t0_ns - start - round(expected // 4000 * chunk_ns)) < 4_000_000
            assert held is None or chunk.t0_ns > held.at(chunk.n0 - 1, chunk.stream.rate)
            expected, held = chunk.n1, chunk.anchor
    assert mic.clock_ppm == pytest.approx(ppm, abs=10)
    assert 0 < mic.clock_uncertainty_ns < 3_000_000
    quiet = ("dropped_frames", "lost_frames", "overflows", "clock_steps", "outliers", "losses_of_device")
    assert [mic.counters[name] for name in quiet] == [0] * 6


@pytest.mark.parametrize("step_s", [-5.0, 0.2, 3600.0])
def test_a_step_of_the_hosts_clock_ends_the_stream_and_starts_another(step_s: float) -> None:
    card = SoundCard()
    mic = started(card)
    card.host_step_ns = round(step_s * NS)
    out: list[SourceMessage] = []
    for _ in range(30):
        card.run(1)
        out += mic.poll(card.clock())
    (end,) = [k for k, message in enumerate(out) if isinstance(message, Mark)]
    mark, before, after = out[end], chunks(out[:end]), chunks(out[end:])
    assert isinstance(mark, Mark)
    assert (mark.reason, mark.n0, mark.n1, mark.stream.epoch) == ("end", before[-1].n1, before[-1].n1, 0)
    assert {c.stream.epoch for c in before} == {0}
    assert [c.n0 for c in after] == list(range(0, 4800 * len(after), 4800))
    assert {c.stream.epoch for c in after} == {1}
    assert abs(after[-1].t1_ns - card.clock()) < 20_000
    assert len(before) + len(after) == 30
    assert mic.counters["clock_steps"] == 1


def test_drivers_that_tell_no_adc_time_are_dated_by_arrival() -> None:
    card = SoundCard()
    card.tells_adc = False
    mic = microphone(card)
    start = card.clock()
    mic.open({}, start)
    card.run(5)
    assert abs(chunks(mic.poll(card.clock()))[0].t0_ns - start) < 20_000


def unplugged(card: SoundCard, **settings: Any) -> Microphone:
    mic = started(card, **settings)
    card.unplug()
    card.pass_time(0.1)
    assert mic.poll(card.clock()) == []
    assert not mic.connected
    poll_until(mic, lambda: mic.counters["failed_opens"] == 1, card.clock)
    return mic


def test_unplugged_it_is_tried_again_at_most_five_seconds_apart() -> None:
    card = SoundCard()
    mic = unplugged(card)
    waits = []
    for tries in range(1, 9):
        poll_until(mic, lambda tries=tries: mic.counters["failed_opens"] == tries, card.clock)  # type: ignore[misc]
        assert "no input fits" in mic.trouble
        wait = mic.wake_ns(card.clock()) - card.clock()
        assert mic.poll(card.clock()) == []
        waits.append(wait / NS)
        card.pass_time(wait / NS)
    assert waits == [0.5, 1, 2, 4, 5, 5, 5, 5]
    assert card.opened == card.terminated
    mic.close()


def test_plugged_in_again_it_is_a_new_stream_after_the_old_ones_end() -> None:
    card = SoundCard()
    mic = unplugged(card)
    card.names = ["HDMI", "USB Mic: Audio (hw:3,0)"]
    card.pass_time(7)
    out = poll_until(mic, lambda: mic.connected, card.clock)
    card.run(5)
    out += mic.poll(card.clock())
    mark, *rest = out
    assert isinstance(mark, Mark)
    assert (mark.reason, mark.n0, mark.stream.epoch) == ("end", 48_000, 0)
    got = chunks(rest)
    assert [(c.n0, c.stream.epoch, c.seq) for c in got] == [(4800 * k, 1, k) for k in range(5)]
    assert abs(got[-1].t1_ns - card.clock()) < 20_000
    assert card.streams[-1].settings["input_device_index"] == 1
    assert (mic.counters["losses_of_device"], mic.counters["reconnects"], mic.trouble) == (1, 1, "")


def test_a_device_that_falls_silent_counts_as_gone() -> None:
    card = SoundCard()
    mic = started(card, stall_s=2.0)
    card.pass_time(1.9)
    mic.poll(card.clock())
    assert mic.counters["losses_of_device"] == 0
    card.pass_time(0.2)
    mic.poll(card.clock())
    assert mic.counters["losses_of_device"] == 1
    poll_until(mic, lambda: mic.connected, card.clock)
    mic.close()


def test_closed_while_it_reconnects_nothing_stays_open() -> None:
    card = SoundCard()
    mic = unplugged(card)
    card.names = [USB]
    card.pass_time(0.5)
    mic.poll(card.clock())
    mic.close()
    for _ in range(400):
        if card.opened == card.terminated:
            break
        time.sleep(0.005)
    assert card.opened == card.terminated


def test_a_device_that_is_not_there_is_refused_or_waited_for() -> None:
    card = SoundCard()
    card.names = ["HDMI"]
    with pytest.raises(SourceError, match=r"no input fits device 'USB\*'.*'HDMI' \(ALSA, port unknown\)"):
        microphone(card).open({}, card.clock())
    mic = microphone(card, wait_for_device=True)
    (stream,) = mic.open({}, card.clock())
    card.names = [USB]
    card.pass_time(0.5)
    out = poll_until(mic, lambda: mic.connected, card.clock)
    card.run(5)
    out += mic.poll(card.clock())
    assert {c.stream for c in chunks(out)} == {stream}
    assert len(out) == 5


def test_what_the_device_does_not_take_is_said() -> None:
    card = SoundCard()
    card.refuses = "Invalid sample rate"
    with pytest.raises(SourceError, match=r"1 channels at 96000 Hz.*Invalid sample rate"):
        microphone(card, rate_hz=96_000).open({}, card.clock())
    with pytest.raises(SourceError, match="has 2 input channels, not 4"):
        microphone(card, channels=4).open({}, card.clock())
    assert card.opened == card.terminated == 2


def test_chunks_are_short_enough_for_anchors_to_follow() -> None:
    card = SoundCard()
    microphone(card, rate_hz=96_000, chunk_s=0.5).open({}, card.clock())
    assert card.streams[0].settings["frames_per_buffer"] == LONGEST_CHUNK


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk_s": 0.005},
        {"chunk_s": 0.6},
        {"rate_hz": 0},
        {"channels": 0},
        {"sample_type": "int24"},
        {"ring_s": 0.01},
        {"unit": "Pa"},
    ],
)
def test_arguments_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="microphone lathe/mic"):
        microphone(SoundCard(), **wrong)


def test_without_pyaudio_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    with pytest.raises(MissingExtra, match=r"-e .\.\[microphone\]"):
        Microphone("lathe", "mic", "*")


def test_a_device_that_comes_back_and_gives_nothing_is_silent_not_over() -> None:
    """The old stream's end comes with the new one's first chunk: until then somebody must be told of the silence."""
    card = SoundCard()
    mic = started(card, stall_s=1.0)
    out: list[SourceMessage] = []
    for _ in range(3):
        card.pass_time(1.1)
        out += mic.poll(card.clock())
        out += poll_until(mic, lambda: mic.connected, card.clock)
    assert out == [] and mic.counters["reconnects"] >= 2
    assert mic.trouble == "the device opens and gives no samples"
    card.run(5)
    mark, *rest = mic.poll(card.clock())
    assert isinstance(mark, Mark) and (mark.reason, mark.n0, mark.stream.epoch) == ("end", 48_000, 0)
    assert {c.stream.epoch for c in chunks(rest)} == {1} and mic.trouble == ""
    mic.close()


def test_a_hung_driver_does_not_hold_up_the_end_of_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """PortAudio is left alone then; the process ends all the same."""
    monkeypatch.setattr(portaudio, "CLOSE_S", 0.05)
    mic = started(SoundCard())
    done, held = threading.Event(), threading.Event()

    def hang() -> None:
        with portaudio.LOCK:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hang)
    thread.start()
    assert held.wait(10)
    mic.close()
    assert not mic.connected
    done.set()
    thread.join()
