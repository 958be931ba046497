"""What a new file of the ring repeats, whatever came before it: a full disk, another stream, times that cannot be."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.messages import NS, Anchor
from pipeline.recording.format import RecordingError
from pipeline.recording.reader import read
from pipeline.recording.recorder import Start
from pipeline.recording.ring import MOST_PREROLLS, Ring
from tests.pipeline.test_recording_ring import MIC, T, chunk, feed


def full(data: bytes) -> None:
    raise OSError(28, "No space left on device")


def repeated(ring: Ring) -> list[int]:
    """What the next file repeats: numbers of its chunks."""
    ring.rotate(Start(), T + 1000 * NS)
    ring.close()
    return [e.message.seq for e in read(ring.path).messages() if e.preroll]


def test_what_comes_while_nothing_can_be_written_begins_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk is full for four chunks: the next file repeats them, as its first windows need them."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=1.0)
    feed(ring, MIC, 0, 3)
    ring.sync()
    monkeypatch.setattr(ring._recorder._disk, "write", full)
    feed(ring, MIC, 3, 4)
    with pytest.raises(RecordingError):
        ring.sync()
    for k in (4, 5, 6):
        with pytest.raises(RecordingError):
            ring.write(chunk(MIC, k), T)
    assert ring.rotate_if_due(T + NS, {})
    feed(ring, MIC, 7, 9)
    ring.close()
    assert [e.message.seq for e in read(ring.path).messages()] == [*range(9)]


def test_a_file_that_failed_makes_room_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what cannot be finished fills the disk that it could not be written to."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=400_000, preroll_s=0.1)
    feed(ring, MIC, 0, 30)  # some 580 kB in one growing file
    ring.sync()
    monkeypatch.setattr(ring._recorder._disk, "write", full)
    feed(ring, MIC, 30, 31)
    with pytest.raises(RecordingError):
        ring.sync()
    failed = ring.path.with_name(ring.path.name + ".part")
    assert failed.exists()
    assert ring.rotate_if_due(T + 10 * NS, {})
    assert not failed.exists()
    ring.close()


def test_nothing_of_a_stream_that_is_over_is_repeated(tmp_path: Path) -> None:
    """A device begins anew an hour before its last stream ended: that one's samples would never grow old."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=0.5)
    feed(ring, MIC, 0, 8)
    after = replace(MIC, epoch=MIC.epoch + 1)
    for k in range(2):
        ring.write(replace(chunk(after, k), anchor=Anchor(0, T - 3600 * NS)), T + k)
    assert repeated(ring) == [0, 1]


@pytest.mark.parametrize("wrong", [1, 3])
def test_chunks_of_the_far_future_cost_none_of_the_samples_before_them(tmp_path: Path, wrong: int) -> None:
    """Nor are they what a file begins with: a lane would take their time for the stream's, and refuse what follows."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=2.0)
    feed(ring, MIC, 0, 30)
    for k in range(wrong):
        ring.write(replace(chunk(MIC, 90 + k), n0=2**43 + k * 4800), T + NS)
    feed(ring, MIC, 30, 32)
    assert repeated(ring) == [*range(12, 32), *range(90, 90 + wrong)]


@pytest.mark.parametrize(("come", "left"), [(9, range(10, 30)), (10, ()), (25, ())])
def test_what_stands_before_a_long_pause_is_old_once_a_second_agrees(
    tmp_path: Path, come: int, left: Iterable[int]
) -> None:
    """Then its end is no wrong time."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=2.0)
    feed(ring, MIC, 0, 30)
    feed(ring, MIC, 3_000, 3_000 + come)
    assert repeated(ring) == [*left, *range(3_000 + max(0, come - 20), 3_000 + come)]


def test_behind_a_chunk_of_the_far_future_samples_grow_old_all_the_same(tmp_path: Path) -> None:
    """Else memory, and the head of every file, would grow for ever."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=0.5)
    feed(ring, MIC, 0, 8)
    ring.write(replace(chunk(MIC, 8), n0=2**43), T + NS)
    feed(ring, MIC, 9, 100)
    assert repeated(ring) == [*range(95, 100)]


def test_samples_whose_time_stands_still_grow_old_all_the_same(tmp_path: Path) -> None:
    """A source that counts none of its samples: each chunk says that it is the first."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=0.5)
    for k in range(100):
        ring.write(replace(chunk(MIC, k), n0=0), T + k)
    assert repeated(ring) == [*range(100 - MOST_PREROLLS * 5, 100)]


@pytest.mark.parametrize("seconds", [1, 3])
def test_one_wrong_chunk_does_not_agree_with_itself(tmp_path: Path, seconds: int) -> None:
    """However long it is: a source may deliver whole seconds at a time."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=2.0)
    feed(ring, MIC, 0, 30)
    ring.write(replace(chunk(MIC, 90), n0=2**43, samples=np.zeros((48_000 * seconds, 2), "<i2")), T + NS)
    assert repeated(ring) == [*range(10, 30), 90]


def test_messages_without_samples_grow_old_all_the_same(tmp_path: Path) -> None:
    """Each counts as a millisecond: else they would stay for ever, as nothing agrees with their time."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=0.01)
    ring.write(chunk(MIC, 0), T)
    for k in range(1, 200):
        ring.write(replace(chunk(MIC, k), n0=k * 480_000, samples=np.zeros((0, 2), "<i2")), T + k)
    assert repeated(ring) == [*range(200 - MOST_PREROLLS * 10, 200)]
