"""Clips around a moment: each sample once, cut to the nanosecond, and what is missing is named."""

import random
from dataclasses import replace

import numpy as np

from pipeline.messages import NS, Anchor, Chunk, Image, Mark, Rate, Stream
from pipeline.recording.clip import Missing, window_of
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


def samples_of(clip) -> np.ndarray:
    return np.concatenate([part.samples for part in clip.parts])


def test_a_clip_across_files_has_each_sample_once(tmp_path):
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


def test_a_clip_lists_what_is_missing_and_why(tmp_path):
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
        parts=(), missing=(Missing(5, 9, "not_recorded"),))  # fmt: skip


def test_a_clip_of_a_camera_and_of_a_slow_clock(tmp_path):
    """The caller's clock runs an hour behind event time or far ahead: clips go by event time."""
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        for k in range(40):
            recorder.write(Image(CAMERA, Anchor(0, T), k, k, b"png%d" % k), T + k)
            recorder.write(chunk(MIC, k), T + k)
            recorder.sync()
    clip = window_of(tmp_path, "mill/1 ä", "cam", T + 6 * NS, T + 7 * NS)
    assert [part.data for part in clip.parts] == [b"png30", b"png31", b"png32", b"png33", b"png34"]
    assert clip.missing == ()
