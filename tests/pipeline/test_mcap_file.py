"""What other tools read from a file that `McapFile` wrote: the MCAP library, and the specification's own sums."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from mcap.data_stream import ReadDataStream
from mcap.reader import SeekingReader
from mcap.records import Footer
from mcap.writer import CompressionType, Writer

from pipeline.messages import Context
from pipeline.recording.mcap_file import CHUNK_BYTES, McapFile
from pipeline.recording.mcap_walk import DAMAGE, MAGIC, Item, chunk_places, inside, publish_ns, walk
from pipeline.recording.reader import read
from pipeline.recording.recorder import Recorder, Start

BODY = b"x" * 1000
TIMES = [5_000, 7_000, 3_000, 2_000, 90_000, 9_000, *range(10_000, 16_000)]
"""Log times, over several chunks of about a thousand messages; the first holds both the earliest and the latest."""


@pytest.fixture(scope="module")
def written() -> bytes:
    """Two channels that take turns, a schema, metadata and an attachment."""
    out = BytesIO()
    made = McapFile(out, "test")
    made.metadata("facts", {"a": "1"})
    made.attachment("snapshot", "application/octet-stream", b"abc", 9)
    schema = made.schema("score", "jsonschema", b"{}")
    channels = [made.channel(topic, "json", schema, {"topic": topic}) for topic in ("a", "b")]
    for n, log_ns in enumerate(TIMES):
        made.message(channels[n % 2], n, log_ns, 10 * n, b"%06d" % n, BODY)
    made.finish()
    return out.getvalue()


def test_the_summary_says_what_is_in_the_file(written: bytes) -> None:
    """Numbers of everything, and the range of the log times, which do not come in order."""
    summary = SeekingReader(BytesIO(written), validate_crcs=True).get_summary()
    assert summary is not None and summary.statistics is not None
    told = summary.statistics
    assert (told.message_count, told.channel_message_counts) == (len(TIMES), {1: 3003, 2: 3003})
    assert (told.message_start_time, told.message_end_time) == (2_000, 90_000)
    assert (told.schema_count, told.channel_count, told.attachment_count, told.metadata_count) == (1, 2, 1, 1)
    assert told.chunk_count == len(summary.chunk_indexes) >= 5
    assert (summary.attachment_indexes[0].name, summary.attachment_indexes[0].data_size) == ("snapshot", 3)
    assert summary.metadata_indexes[0].name == "facts"
    ends = [(chunk.message_start_time, chunk.message_end_time) for chunk in summary.chunk_indexes]
    assert ends[0] == (2_000, 90_000) and ends[-1][1] == 15_999
    assert all(after[0] == before[1] + 1 for before, after in pairwise(ends[1:]))
    assert all(CHUNK_BYTES <= chunk.uncompressed_size < CHUNK_BYTES + 2000 for chunk in summary.chunk_indexes[:-1])


def test_every_message_is_found_by_the_index(written: bytes) -> None:
    """In the order of their log times, through the indexes of channels and chunks alone."""
    reader = SeekingReader(BytesIO(written), validate_crcs=True)
    found = [(message.log_time, message.sequence, message.publish_time) for _, _, message in reader.iter_messages()]
    assert found == sorted((log_ns, n, 10 * n) for n, log_ns in enumerate(TIMES))
    part = [message.sequence for _, _, message in reader.iter_messages(topics=["b"])]
    assert part == [n for _, n, _ in found if n % 2]
    attachment = next(iter(reader.iter_attachments()))
    assert (attachment.name, attachment.data, attachment.log_time) == ("snapshot", b"abc", 9)


def test_the_places_of_publish_times_are_those_of_the_index(written: bytes, tmp_path: Path) -> None:
    """Each is where the message's own field lies."""
    (tmp_path / "a.mcap").write_bytes(written)
    with (tmp_path / "a.mcap").open("rb") as file:
        places = list(chunk_places(file))
        found: dict[int, list[int]] = {1: [], 2: []}
        for place in places:
            for channel, at in place.channels.items():
                found[channel] += [publish_ns(file, one) for one in at]
    assert found == {1: [10 * n for n in range(0, len(TIMES), 2)], 2: [10 * n for n in range(1, len(TIMES), 2)]}
    assert places[0].log_ns == 2_000


def test_the_footer_and_its_checksum_are_those_of_the_specification(written: bytes) -> None:
    """Of the summary, its offsets and the footer's own beginning; each group of the summary lies where it is said."""
    assert written.startswith(MAGIC) and written.endswith(MAGIC)
    body = written[-len(MAGIC) - 20 : -len(MAGIC)]
    footer = Footer.read(ReadDataStream(BytesIO(body)))
    end = len(written) - len(MAGIC) - 4
    assert footer.summary_crc == zlib.crc32(written[footer.summary_start : end])
    at, opcodes = footer.summary_offset_start, []
    while at < len(written) - len(MAGIC) - 29:
        kind, length, opcode, start, size = struct.unpack_from("<BQBQQ", written, at)
        assert kind == 0x0E and written[start] == opcode and footer.summary_start <= start < start + size
        opcodes.append(opcode)
        at += 9 + length
    assert opcodes == [0x03, 0x04, 0x0B, 0x08, 0x0A, 0x0D]


def test_an_empty_file_is_one_too() -> None:
    """Without a message it has no chunk, and no group that is empty."""
    out = BytesIO()
    made = McapFile(out, "test")
    made.flush()
    made.finish()
    summary = SeekingReader(BytesIO(out.getvalue()), validate_crcs=True).get_summary()
    assert summary is not None and summary.statistics is not None
    assert (summary.statistics.message_count, summary.statistics.chunk_count) == (0, 0)
    footer = Footer.read(ReadDataStream(BytesIO(out.getvalue()[-len(MAGIC) - 20 : -len(MAGIC)])))
    assert len(out.getvalue()) - len(MAGIC) - 29 - footer.summary_offset_start == 9 + 17  # statistics alone


def test_an_attachment_with_a_flipped_bit_is_none(tmp_path: Path) -> None:
    """A snapshot or a baseline of other numbers would be taken for what the machine had learned."""
    path = tmp_path / "a.mcap"
    with Recorder(path, Start({"snapshot/m": b"{learned}", "later": b"x"}), 9):
        pass
    data = bytearray(path.read_bytes())
    data[data.index(b"{learned}") + 3] ^= 1
    path.write_bytes(data)
    recording = read(path)
    assert recording.snapshots == {} and "CRC" in str(recording.damage)


@pytest.mark.parametrize(("length", "crc", "whole"), [(30, 0, True), (31, 0, False), (29, 1, False), (30, 2, False)])
def test_a_chunk_gives_messages_that_are_whole(tmp_path: Path, length: int, crc: int, whole: bool) -> None:
    """Of tools that write no checksum (0), too: a message longer than its chunk would lack samples."""
    data = struct.pack("<BQHIQQ", 0x05, length, 1, 0, 5, 5) + b"12345678"
    chunk = struct.pack("<QQQIIQ", 5, 5, len(data), crc and zlib.crc32(data) ^ (crc >> 1), 0, len(data)) + data
    path = tmp_path / "a.mcap"
    path.write_bytes(MAGIC + struct.pack("<BQ", 0x06, len(chunk)) + chunk + struct.pack("<BQI", 0x0F, 4, 0))
    with path.open("rb") as file:
        (piece, _) = walk(file)
        if whole:
            assert list(inside(file, piece)) == [Item(1, 0, 5, 5, b"12345678")]
            return
        with pytest.raises(DAMAGE):
            list(inside(file, piece))


def test_a_recording_that_was_growing_is_whole_once_it_is_finished(tmp_path: Path) -> None:
    """What the newest pass found counts, not what one before did."""
    path = tmp_path / "a.mcap"
    with Recorder(path, Start(), 9) as recorder:
        recorder.write(Context("m", "state", 5, "cut"), 10)
    data = path.read_bytes()
    at = data.index(b"cut")
    path.write_bytes(data[:at])
    recording = read(path)
    assert list(recording.messages()) == [] and recording.damage is not None
    path.write_bytes(data)
    assert len(list(recording.messages())) == 1 and recording.damage is None


def test_places_in_compressed_chunks_are_of_no_use(tmp_path: Path) -> None:
    """They are those of what it unpacks to: such a chunk must be read."""
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.LZ4)
        writer.start("test", "test")
        channel = writer.register_channel("a", "json", 0)
        for n in range(100):
            writer.add_message(channel, n, BODY, n)
        writer.finish()
    with path.open("rb") as file:
        (place,) = chunk_places(file)
        assert place.channels == {} and len([one for one in inside(file, place.piece) if isinstance(one, Item)]) == 100
