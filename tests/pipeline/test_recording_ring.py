"""The ring of recordings: bounded, every file good by itself, going on after errors."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import BadInput
from pipeline.messages import NS, Anchor, Chunk, Context, Decision, Rate, Stream
from pipeline.recording.reader import read
from pipeline.recording.recorder import RecordingError, Start
from pipeline.recording.ring import Ring

T = 1_700_000_000 * NS
MIC = Stream("mill", "mic", 3, "acoustic", Rate(48000), 2, "<i2", "FS", 1 / 32768)
ACC = Stream("mill", "acc", 0, "vibration", Rate(25600), 3, "<f4", "m/s2", 0.1)


def chunk(stream: Stream, k: int) -> Chunk:
    n = stream.rate.num // 10
    return Chunk(stream, Anchor(0, T), k * n, k, np.full((n, stream.channels), k, stream.dtype))


def feed(ring: Ring, stream: Stream, first: int, last: int) -> None:
    for k in range(first, last):
        ring.write(chunk(stream, k), T + (k + 1) * NS // 10)


def test_the_ring_is_bounded_and_never_deletes_the_growing_file(tmp_path):
    bound = 1_000_000
    ring = Ring(tmp_path, Start(), T, ring_bytes=bound, rotate_bytes=200_000, preroll_s=0.3)
    paths = [ring.path]
    for k in range(0, 200, 5):
        feed(ring, MIC, k, k + 5)
        ring.sync()
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= bound
        assert ring.path.with_name(ring.path.name + ".part").exists()
        if ring.rotate_if_due(T + (k + 5) * NS // 10, {"mill": b"%d" % k}):
            paths.append(ring.path)
    ring.close()
    assert len(paths) > 8
    left = sorted(tmp_path.iterdir())
    assert left == paths[-len(left) :]  # the newest, whole
    assert 2 <= len(left) < len(paths)
    for path in left:
        assert list(read(path).snapshots) == ["mill"]


def test_a_new_file_repeats_what_its_first_windows_need(tmp_path):
    standing = Decision("mill", "d1", T, "baseline", {})
    ring = Ring(tmp_path, Start({"configuration.toml": b"c"}, preroll=[standing]), T, ring_bytes=10**8, preroll_s=0.5)
    rpm = [Context("mill", "spindle_rpm", T + k, float(k)) for k in range(3)]
    for message in rpm:
        ring.write(message, T)
    feed(ring, ACC, 0, 20)
    feed(ring, MIC, 0, 30)
    last = max(e.log_ns for e in read_part(ring))
    finished = ring.rotate(Start({"configuration.toml": b"c2"}), T)
    feed(ring, MIC, 30, 31)
    ring.close()
    assert finished != ring.path and not read(finished).damage
    found = list(read(ring.path).messages())
    preroll = [e.message for e in found if e.preroll]
    assert preroll[:2] == [standing, rpm[2]]
    assert [m.n0 for m in preroll[2:] if m.stream == MIC] == [k * 4800 for k in range(25, 30)]
    assert [m.n0 for m in preroll[2:] if m.stream == ACC] == [k * 2560 for k in range(15, 20)]
    assert found[0].log_ns > last
    assert read(ring.path).attachments == {"configuration.toml": b"c2"}


def read_part(ring: Ring):
    ring.sync()
    return list(read(ring.path.with_name(ring.path.name + ".part")).messages())


def test_the_ring_goes_on_in_a_new_file_after_an_error(tmp_path, monkeypatch):
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=0.1)
    feed(ring, MIC, 0, 3)
    ring.sync()

    def full(data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ring._recorder._disk, "write", full)
    feed(ring, MIC, 3, 4)
    with pytest.raises(RecordingError):
        ring.sync()
    failed = ring.path
    assert ring.rotate_if_due(T + NS, {})
    feed(ring, MIC, 4, 6)
    ring.close()
    assert ring.failures == 1
    assert [e.message.n0 // 4800 for e in read(failed.with_name(failed.name + ".part")).messages()] == [0, 1, 2]
    again = Ring(tmp_path, Start(), T + 5 * NS, ring_bytes=10**8)
    assert again.adopted[failed].kept == 3 and failed.exists()
    again.close()


def test_a_ring_leaves_files_alone_that_another_process_writes(tmp_path):
    first = Ring(tmp_path, Start(), T, ring_bytes=10**8)
    second = Ring(tmp_path, Start(), T, ring_bytes=10**8)
    assert second.adopted == {} and second.path != first.path
    feed(first, MIC, 0, 2)
    first.close()
    second.close()
    assert len(list(read(first.path).messages())) == 2


def test_a_message_that_is_refused_does_not_come_back_in_the_next_file(tmp_path):
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8)
    feed(ring, MIC, 0, 2)
    with pytest.raises(BadInput):
        ring.write(replace(chunk(MIC, 2), samples=np.zeros((3, 1), "<i2")), T)
    ring.rotate(Start(), T + NS)
    ring.close()
    assert [e.message.seq for e in read(ring.path).messages()] == [0, 1]


def test_a_folder_that_cannot_hold_recordings_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot hold recordings"):
        Ring(tmp_path / "file", Start(), T, ring_bytes=10**6)
