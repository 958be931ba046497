"""Clips around a moment: each sample once, cut to the nanosecond, and what is missing is named."""

import random
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from pipeline.messages import NS, Anchor, Chunk, Image, Mark, Rate, Stream
from pipeline.recording.clip import Clip, Missing, window_of
from pipeline.recording.reader import open_recording
from pipeline.recording.recorder import Recorder, Start
from pipeline.recording.ring import Ring

T = 1_700_000_000 * NS
MIC = Stream("mill/1 ä", "mic", 3, "acoustic", Rate(48000), 2, "<i2", "FS", 1 / 32768)
ACC = Stream("mill/1 ä", "acc", 0, "vibration", Rate(25600), 3, "<f4", "m/s2", 0.1)
CAMERA = Stream("mill/1 ä", "cam", 0, "frames", Rate(5), 3, "image/png", "image")
RNG = np.random.default_rng(5)


def chunk(stream: Stream, k: int, anchor: Anchor | None = None) -> Chunk:
    n = stream.rate.num // 10
    x = RNG.integers(-(2**15), 2**15, (n, stream.channels)).astype(stream.dtype)
    return Chunk(stream, anchor or Anchor(0, T), k * n, k, x)


def samples_of(clip: Clip) -> np.ndarray:
    return np.concatenate([part.samples for part in clip.parts])


def test_a_clip_across_files_has_each_sample_once(tmp_path: Path) -> None:
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**9, rotate_s=2.0, preroll_s=1.0)
    sent = [chunk(MIC, k) for k in range(100)]
    for k, message in enumerate(sent):
        ring.write(message, T + (k + 1) * NS // 10)
        ring.write(chunk(ACC, k), T + (k + 1) * NS // 10)
        if k % 7 == 0:
            ring.sync()
        ring.rotate_if_due(T + (k + 1) * NS // 10, {})
    ring.sync()
    assert len(list(tmp_path.iterdir())) == 5
    whole = np.concatenate([m.samples for m in sent])
    rng = random.Random(3)
    for _ in range(10):
        lo = rng.randrange(0, 300_000)
        hi = rng.randrange(lo, 480_000)
        # between two samples: the first one inside is the next one
        clip = window_of(tmp_path, "mill/1 ä", "mic", time_at(lo) - 3, time_at(hi))
        assert clip.missing == ()
        assert np.array_equal(samples_of(clip), whole[lo:hi])
    ring.close()


def time_at(n: int) -> int:
    """First nanosecond at which sample n is inside."""
    return Anchor(0, T).at(n, MIC.rate)


def test_a_clip_lists_what_is_missing_and_why(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        for k in (0, 1, 2, 5, 6):
            recorder.write(chunk(MIC, k), T + 10)
        recorder.write(Mark(MIC, Anchor(0, T), 7 * 4800, 9 * 4800, "silent"), T)
        recorder.write(chunk(MIC, 9), T)
        restarted = replace(MIC, epoch=4)
        recorder.write(chunk(restarted, 0, anchor=Anchor(0, T + NS + NS // 20)), T)
    tenth = NS // 10
    clip = window_of(tmp_path, "mill/1 ä", "mic", T - tenth, T + 12 * tenth)
    assert clip.missing == (
        Missing(T - tenth, T, "not_recorded"),
        Missing(T + 3 * tenth, T + 5 * tenth, "not_recorded"),
        Missing(T + 7 * tenth, T + 9 * tenth, "silent"),
        Missing(T + 10 * tenth, T + 10 * tenth + NS // 20, "not_recorded"),
        Missing(T + 11 * tenth + NS // 20, T + 12 * tenth, "not_recorded"),
    )
    assert [part.stream.epoch for part in clip.parts] == [3] * 6 + [4]
    assert window_of(tmp_path, "mill/1 ä", "other", T, T + 1).missing == (Missing(T, T + 1, "not_recorded"),)
    assert window_of(tmp_path / "none", "m", "s", 5, 9) == replace(clip, machine="m", sensor="s", t0_ns=5, t1_ns=9,
        parts=(), missing=(Missing(5, 9, "not_recorded"),), reached_ns=0)  # fmt: skip


@pytest.mark.parametrize("ahead_s", [-100_000, -200, 200, 100_000])
def test_a_clip_goes_by_the_sensors_clock_not_by_the_hosts(tmp_path: Path, ahead_s: int) -> None:
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**9, rotate_s=60.0, preroll_s=1.0)
    start = T + ahead_s * NS
    short = replace(MIC, rate=Rate(480))
    for k in range(1300):
        ring.write(chunk(short, k, Anchor(0, start)), T + k * NS // 10)
        ring.rotate_if_due(T + k * NS // 10, {})
    ring.sync()
    assert len(list(tmp_path.iterdir())) == 3
    for at in (0, 20, 57, 100):
        clip = window_of(tmp_path, "mill/1 ä", "mic", start + at * NS, start + (at + 5) * NS)
        assert (len(samples_of(clip)), clip.missing) == (5 * 480, ())
    ring.close()


def test_a_clip_reads_no_more_files_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a sensor whose clock is far behind, and while files of a later clock lie there."""
    read = []

    def opened(path: Path) -> BinaryIO:
        read.append(path.name)
        return open_recording(path)

    for clock in (T + 10**8 * NS, T):
        ring = Ring(tmp_path, Start(), clock, ring_bytes=10**9, rotate_s=10.0, preroll_s=1.0)
        for k in range(600):
            ring.write(chunk(ACC, k, Anchor(0, clock - 3600 * NS)), clock + k * NS // 10)
            ring.rotate_if_due(clock + k * NS // 10, {})
        ring.close()
    monkeypatch.setattr("pipeline.recording.clip.open_recording", opened)
    clip = window_of(tmp_path, "mill/1 ä", "acc", T - 3600 * NS + 35 * NS, T - 3600 * NS + 38 * NS)
    assert clip.missing == ()
    assert len(read) == 3


def test_a_clip_says_how_far_the_recording_has_come(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        for k in range(30):
            recorder.write(chunk(MIC, k), T + k)
            recorder.sync()
        assert reached(tmp_path, 1, 2) == reached(tmp_path, 1, 9) == T + 3 * NS
        recorder.write(Mark(MIC, Anchor(0, T), 30 * 4800, 50 * 4800, "silent"), T + 31)
        recorder.sync()
        assert reached(tmp_path, 4, 5) == T + 5 * NS
        recorder.write(chunk(replace(MIC, epoch=4), 0, Anchor(0, T + NS)), T + 32)  # the device's clock was set back
        recorder.sync()
        assert reached(tmp_path, 1, 5) == T + NS + NS // 10
        for k in range(1, 30):
            recorder.write(chunk(replace(MIC, epoch=4), k, Anchor(0, T + NS)), T + 32 + k)
            recorder.sync()
    assert reached(tmp_path, 1, 2) == T + NS + 29 * NS // 10  # the newest one is not read, but begins there


def reached(folder: Path, t0_s: int, t1_s: int) -> int:
    return window_of(folder, "mill/1 ä", "mic", T + t0_s * NS, T + t1_s * NS).reached_ns


def test_a_clip_of_a_camera_and_of_a_slow_clock(tmp_path: Path) -> None:
    """The caller's clock runs an hour behind event time or far ahead: clips go by event time."""
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        for k in range(40):
            recorder.write(Image(CAMERA, Anchor(0, T), k, k, b"png%d" % k), T + k)
            recorder.write(chunk(MIC, k), T + k)
            recorder.sync()
    clip = window_of(tmp_path, "mill/1 ä", "cam", T + 6 * NS, T + 7 * NS)
    assert [part.data for part in clip.parts] == [b"png30", b"png31", b"png32", b"png33", b"png34"]
    assert clip.missing == ()
