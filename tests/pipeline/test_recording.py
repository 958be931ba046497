"""Recordings: what is read is what was written, in order, bounded on disk, and clear when the disk is not."""

import json
import struct
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
import numpy as np
import pytest
import zstandard
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from pipeline.errors import BadInput, StateError, StethosError
from pipeline.messages import NS, Anchor, Chunk, Context, Decision, Image, Mark, Rate, Score, Stream
from pipeline.recording import recorder as recorder_module
from pipeline.recording.clip import Clip, window_of
from pipeline.recording.format import RecordingError
from pipeline.recording.mcap_walk import LARGEST_CHUNK, walk
from pipeline.recording.reader import read
from pipeline.recording.recorder import Recorder, Start
from pipeline.results import record_of

T = 1_700_000_000 * NS
MIC = Stream("mill/1 ä", "mic", 3, "acoustic", Rate(48000), 2, "<i2", "FS", 1 / 32768)
ACC = Stream("mill/1 ä", "acc", 0, "vibration", Rate(25600), 3, "<f4", "m/s2", 0.1)
CAMERA = Stream("mill/1 ä", "cam", 0, "frames", Rate(5), 3, "image/png", "image")
RNG = np.random.default_rng(5)


def chunk(stream: Stream, k: int, seconds: float = 0.1, anchor: Anchor | None = None) -> Chunk:
    n = round(stream.rate.hz * seconds)
    x = RNG.integers(-(2**15), 2**15, (n, stream.channels)).astype(stream.dtype)
    return Chunk(stream, anchor or Anchor(0, T), k * n, k, x)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    for name in type(a).__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            if x.dtype != y.dtype or x.shape != y.shape or x.tobytes() != y.tobytes():
                return False
        elif x != y:
            return False
    return True


MIXED: list[Any] = [
    Decision("mill/1 ä", "d1", T, "baseline", {"sha256": "ab"}),
    chunk(MIC, 0),
    chunk(ACC, 0),
    Context("mill/1 ä", "spindle_rpm", T + 5, 8000.25),
    Image(CAMERA, Anchor(0, T), 0, 2**33 + 1, b"\x89PNG"),
    replace(chunk(MIC, 1), seq=2**32 + 7),
    replace(chunk(MIC, 2), samples=np.empty((0, 2), "<i2")),
    Mark(ACC, Anchor(-5, T - 99), 2560, 51200, "silent"),
    Mark(MIC, Anchor(0, T), 9600, 9600, "end"),
    chunk(replace(MIC, epoch=4), 0),
    Chunk(MIC, Anchor(2**50, -5), 2**50, 1, np.zeros((1, 2), "<i2")),
]


def test_messages_come_back_identical_in_order_with_log_times(tmp_path: Path) -> None:
    start = Start(
        {"configuration.toml": b"x = 1", "snapshot/mill": b"{}", "empty": b""}, {"packages": "none"}, MIXED[:3]
    )
    with Recorder(tmp_path / "a.mcap", start, T) as recorder:
        for message in MIXED:
            recorder.write(message, T + 1000)  # a clock that stands still
    recording = read(tmp_path / "a.mcap")
    found = list(recording.messages())
    assert [e.preroll for e in found] == [True] * 3 + [False] * len(MIXED)
    assert all(same(e.message, sent) for e, sent in zip(found, MIXED[:3] + MIXED, strict=True))
    assert [e.log_ns for e in found] == [T, T + 1, T + 2, *range(T + 1000, T + 1000 + len(MIXED))]
    assert recording.damage is None
    assert recording.attachments == start.attachments
    assert recording.snapshots == {"mill": b"{}"}
    assert recording.facts["packages"] == "none" and recording.facts["schema_version"] == "1"
    assert recording.fingerprint["libraries"]["numpy"] == np.__version__
    assert [e.log_ns for e in recording.messages()] == [e.log_ns for e in found]  # a second pass
    assert not list(tmp_path.glob("*.part"))


def test_read_samples_are_read_only_and_share_one_stream(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        for k in range(3):
            recorder.write(chunk(MIC, k), T + k)
    messages = [e.message for e in read(tmp_path / "a.mcap").messages()]
    assert all(m.stream is messages[0].stream and not m.samples.flags.writeable for m in messages)


def test_other_readers_see_times_sequence_and_json(tmp_path: Path) -> None:
    """The MCAP library's own reader, with the index."""
    score = Score("mill", ("mic",), "chatter", T + 7, 0.5, 0.4, "h")
    with Recorder(tmp_path / "a.mcap", Start({"configuration.toml": b"x"}), T) as recorder:
        for message in MIXED:
            recorder.write(message, T + 10)
        recorder.write_result(record_of(score, 12))
    with (tmp_path / "a.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        rows = list(reader.iter_messages())
        assert [a.name for a in reader.iter_attachments()] == ["configuration.toml"]
        assert [m.name for m in reader.iter_metadata()] == ["stethos.recording"]
    by_topic = {channel.topic: (schema, channel, message) for schema, channel, message in rows}
    assert len(rows) == len(MIXED) + 1
    schema, channel, message = by_topic["derived.score/mill"]
    assert (schema.encoding, channel.message_encoding) == ("jsonschema", "json")
    assert json.loads(schema.data)["title"] == "score"
    assert json.loads(message.data)["abnormal"] is True and (message.publish_time, message.sequence) == (T + 7, 12)
    _, channel, message = by_topic["raw.frames/mill%2F1%20%C3%A4/cam"]
    assert (message.publish_time, message.sequence) == (T, 1)
    assert channel.metadata["ce_rate"] == "5/1" and channel.metadata["channels"] == "3"
    schema, _, message = by_topic["context/mill%2F1%20%C3%A4/spindle_rpm"]
    assert json.loads(schema.data)["title"] == "context" and json.loads(message.data)["value"] == 8000.25
    streams = {(c.topic, c.metadata["ce_epoch"]) for _, c, _ in rows if "ce_epoch" in c.metadata}
    assert len(streams) == 4  # two epochs of the microphone


def test_derived_channels_change_nothing(tmp_path: Path) -> None:
    for name, with_results in (("a", True), ("b", False)):
        with Recorder(tmp_path / f"{name}.mcap", Start(), T) as recorder:
            for k, message in enumerate(MIXED):
                recorder.write(message, T + 10 * k)
                if with_results:
                    recorder.write_result(record_of(Score("m", ("s",), "d", T + k, 0.1, 0.2, "h")), T + 10 * k + 1)
    a, b = (list(read(tmp_path / f"{name}.mcap").messages()) for name in "ab")
    assert [(e.log_ns, e.preroll) for e in a] == [(e.log_ns, e.preroll) for e in b]
    assert all(same(x.message, y.message) for x, y in zip(a, b, strict=True))


def test_sync_says_what_is_on_disk(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap", Start(preroll=[MIXED[0]]), T)
    for k in range(3):
        recorder.write(chunk(MIC, k), T + k + 1)
    done = recorder.sync()
    assert done.messages == 3 and done.log_ns == T + 3
    assert done.ends == {("mill/1 ä", "mic", 3): 3 * 4800}
    assert done.nbytes == (tmp_path / "a.mcap.part").stat().st_size
    recorder.write(chunk(MIC, 3), T + 9)
    assert len([e for e in read(recorder.part).messages() if not e.preroll]) == 3  # the growing file, read meanwhile
    recorder.close()


def test_a_recording_that_is_left_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap", Start(), T)
    recorder.write(chunk(MIC, 0), T)
    recorder.leave()
    recorder.leave()
    assert not recorder.path.exists() and len(list(read(recorder.part).messages())) == 1
    with pytest.raises(RecordingError, match="left unfinished"):
        recorder.close()
    whole = Recorder(tmp_path / "b.mcap", Start(), T)
    whole.close()
    whole.leave()
    assert whole.path.exists() and not whole.due(T)


def test_due_by_size_and_by_age(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap", Start(), T, rotate_bytes=60_000, rotate_s=10)
    assert not recorder.due(T + 10 * NS - 1) and recorder.due(T + 10 * NS)
    for k in range(4):
        recorder.write(chunk(MIC, k), T)
    recorder.sync()
    assert recorder.due(T)
    recorder.close()
    recorder.close()
    with pytest.raises(RecordingError, match="finished"):
        recorder.write(chunk(MIC, 5), T)


def test_a_message_that_is_not_what_it_says_does_not_harm_the_recording(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        recorder.write(chunk(MIC, 0), T)
        with pytest.raises(BadInput):
            recorder.write(replace(chunk(MIC, 1), samples=np.zeros((3, 1), "<i2")), T)
        recorder.write(chunk(MIC, 1), T)
    assert len(list(read(tmp_path / "a.mcap").messages())) == 2


# what is refused -----------------------------------------------------------------------------------------------------


def test_names_without_end_do_not_harm_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MCAP numbers channels with 16 bits; those that have one go on."""
    assert recorder_module._NO_CHANNELS < 2**16
    monkeypatch.setattr(recorder_module, "_NO_CHANNELS", 50)
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        for number in range(60):
            with nullcontext() if number < 50 else pytest.raises(BadInput, match="room for 50"):
                recorder.write(Context("m", f"job-{number}", T + number, 1.0), T + number)
        recorder.write(Context("m", "job-0", T + 99, 2.0), T + 99)
    names = [logged.message.name for logged in read(tmp_path / "a.mcap").messages()]
    assert names == [*(f"job-{number}" for number in range(50)), "job-0"]


def test_a_full_disk_is_a_clear_error_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "a.mcap.part").symlink_to("/dev/full")  # every write fails with ENOSPC
    with pytest.raises(RecordingError, match=r"No space left on device.*free space"):
        Recorder(tmp_path / "a.mcap", Start(), T)


def test_a_disk_that_fills_up_stops_the_recorder_and_keeps_what_was_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path / "a.mcap", Start(), T)
    recorder.write(chunk(MIC, 0), T)
    recorder.sync()

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder._disk, "write", full)
    recorder.write(chunk(MIC, 1), T)
    with pytest.raises(RecordingError, match="No space left"):
        recorder.sync()
    assert recorder.due(T)
    for call in (recorder.sync, recorder.close, lambda: recorder.write(chunk(MIC, 2), T)):
        with pytest.raises(RecordingError, match="stopped before: No space left"):
            call()
    assert len(list(read(recorder.part).messages())) == 1


def test_folders_that_cannot_hold_recordings_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="file"):
        Recorder(tmp_path / "file" / "a.mcap", Start(), T)


def test_a_file_that_another_recorder_writes_is_not_touched(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        recorder.write(chunk(MIC, 0), T)
        with pytest.raises(RecordingError, match="another process"):
            Recorder(tmp_path / "a.mcap", Start(), T)
    assert len(list(read(tmp_path / "a.mcap").messages())) == 1


def test_what_a_dead_recorder_left_under_the_same_name_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.mcap.part").write_bytes(b"x" * 10**6)
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        recorder.write(chunk(MIC, 0), T)
    assert read(tmp_path / "a.mcap").damage is None and (tmp_path / "a.mcap").stat().st_size < 10**5


def write_mcap(path: Path, profile: str, metadata: dict[str, str] | None) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.NONE)
        writer.start(profile)
        if metadata is not None:
            writer.add_metadata("stethos.recording", metadata)
        writer.finish()
    return path


def test_newer_versions_strangers_and_nonsense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"schema 99.*update stethos"):
        read(write_mcap(tmp_path / "new.mcap", "stethos", {"schema_version": "99"}))
    for path in (
        write_mcap(tmp_path / "ros.mcap", "ros2", None),
        write_mcap(tmp_path / "bare.mcap", "stethos", None),
        write_mcap(tmp_path / "odd.mcap", "stethos", {"schema_version": "one"}),
    ):
        with pytest.raises(BadInput, match=path.name):
            read(path)
    (tmp_path / "text.mcap").write_text("not an MCAP file at all")
    (tmp_path / "empty.mcap").write_text("")
    for name in ("text", "empty"):
        with pytest.raises(BadInput):
            read(tmp_path / f"{name}.mcap")
    with pytest.raises(StethosError, match="nowhere"):
        read(tmp_path / "nowhere.mcap")


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.LZ4])
def test_recordings_that_other_tools_compressed_are_read(tmp_path: Path, compression: CompressionType) -> None:
    with Recorder(tmp_path / "a.mcap", Start({"x": b"1"}), T) as recorder:
        for k in range(30):
            recorder.write(chunk(MIC, k), T + k)
    copy_with(tmp_path / "a.mcap", tmp_path / "z.mcap", compression, order=1)
    a, z = (list(read(tmp_path / name).messages()) for name in ("a.mcap", "z.mcap"))
    assert len(a) == 30 and all(same(x.message, y.message) for x, y in zip(a, z, strict=True))
    clip = window_of_file(tmp_path / "z.mcap", tmp_path / "only")
    assert clip.missing == () and sum(len(p.samples) for p in clip.parts if isinstance(p, Chunk)) == 48000


@pytest.mark.parametrize(
    ("compression", "size", "data", "words"),
    [
        ("zstd", LARGEST_CHUNK + 1, zstandard.compress(bytes(LARGEST_CHUNK + 1), 1), "at most 67,108,864 are unpacked"),
        ("lz4", LARGEST_CHUNK + 1, lz4.frame.compress(b""), "at most 67,108,864 are unpacked"),
        ("zstd", 1000, zstandard.compress(bytes(1 << 22)), "EndOfFile"),
        ("lz4", 1000, lz4.frame.compress(bytes(1 << 22)), "EndOfFile"),
        ("zstd", 100_000, zstandard.compress(bytes(1000)), "EndOfFile"),
        ("zstd", LARGEST_CHUNK, zstandard.compress(bytes(LARGEST_CHUNK), 1), "EndOfFile"),
        ("zstd", 1000, b"no zstd", "ZstdError"),
        ("lz4", 1000, b"no lz4 at all, of some length", "RuntimeError"),
        ("bz2", 1000, b"", "unsupported compression type 'bz2'"),
    ],
)
def test_a_compressed_chunk_that_is_not_what_it_says_is_damage(
    tmp_path: Path, compression: str, size: Any, data: bytes, words: str
) -> None:
    """One that unpacks to more than it says or than is bearable, or that is nothing, or holds zeros: found at once."""
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        recorder.write(chunk(MIC, 0), T)
    whole, name = (tmp_path / "a.mcap").read_bytes(), compression.encode()
    with (tmp_path / "a.mcap").open("rb") as file:
        end = next(piece.at for piece in walk(file) if piece.opcode == Opcode.DATA_END) - 9
    body = struct.pack("<QQQII", 0, 1, size, 0, len(name)) + name + struct.pack("<Q", len(data)) + data
    record = struct.pack("<BQ", Opcode.CHUNK, len(body)) + body
    (tmp_path / "b.mcap").write_bytes(whole[:end] + record + whole[end:])
    began, found = time.process_time(), read(tmp_path / "b.mcap")
    assert len(list(found.messages())) == 1
    assert words in str(found.damage)
    assert time.process_time() - began < 1.0


def window_of_file(path: Path, folder: Path) -> Clip:
    folder.mkdir()
    path.rename(folder / path.name)
    return window_of(folder, "mill/1 ä", "mic", T + NS, T + 2 * NS)


def copy_with(source: Path, target: Path, compression: CompressionType, order: int) -> None:
    with source.open("rb") as file, target.open("wb") as out:
        reader, writer = make_reader(file), Writer(out, compression=compression)
        writer.start("stethos")
        for metadata in reader.iter_metadata():
            writer.add_metadata(metadata.name, metadata.metadata)
        rows = list(reader.iter_messages())[::order]
        channels: dict[int, int] = {}
        for _, c, m in rows:
            if c.id not in channels:
                channels[c.id] = writer.register_channel(c.topic, c.message_encoding, 0, c.metadata)
            writer.add_message(channels[c.id], m.log_time, m.data, m.publish_time, m.sequence)
        writer.finish()


def test_files_that_other_tools_brought_out_of_order_are_refused(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mcap", Start(), T) as recorder:
        for k in range(3):
            recorder.write(chunk(MIC, k), T + k)
    copy_with(tmp_path / "a.mcap", tmp_path / "b.mcap", CompressionType.NONE, order=-1)
    with pytest.raises(BadInput, match="do not increase"):
        list(read(tmp_path / "b.mcap").messages())
