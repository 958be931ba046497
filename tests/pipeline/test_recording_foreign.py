"""Files that other tools wrote or that damage has touched: what the walk gives of them, and what a recovery keeps."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from itertools import islice
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]
import pytest
import zstandard
from mcap.exceptions import EndOfFile
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Attachment, Header, MessageIndex, Metadata
from mcap.stream_reader import CRCValidationError

from pipeline.errors import BadInput
from pipeline.messages import Context
from pipeline.recording.format import DiskFull, RecordingError
from pipeline.recording.mcap_walk import DAMAGE, MAGIC, Item, Piece, chunk_places, content, inside, record, walk
from pipeline.recording.reader import read
from pipeline.recording.recover import recover
from tests.pipeline.foreign import T, channel, chunk, mcap, message, records, sealed

PACKERS: dict[str, Callable[[bytes], bytes]] = {"zstd": zstandard.compress, "lz4": lz4.frame.compress}
KEEPSAKE = records(Attachment(T, T + 7, "photo", "image/png", b"abc"))


def saved(folder: Path, data: bytes) -> Path:
    """The bytes as a file."""
    path = folder / "foreign.mcap"
    path.write_bytes(data)
    return path


def piece_of(data: bytes, opcode: int) -> Piece:
    """Where the first record of a kind lies in a file that is kept in memory."""
    at = len(MAGIC)
    while data[at] != opcode:
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    return Piece(opcode, at + 9, int.from_bytes(data[at + 1 : at + 9], "little"))


def names(path: Path) -> list[object]:
    """The values of the facts in a recording."""
    return [logged.message.value for logged in read(path).messages() if isinstance(logged.message, Context)]


# the walk ------------------------------------------------------------------------------------------------------------


def test_of_a_file_cut_anywhere_only_whole_records_are_told(tmp_path: Path) -> None:
    """None that ends behind the end of the file, however little is missing."""
    path = saved(tmp_path, mcap(KEEPSAKE, sealed(channel() + message(1))))
    with path.open("rb") as file:
        pieces = list(walk(file))
    for cut in range(path.stat().st_size - 1, len(MAGIC), -1):
        os.truncate(path, cut)
        whole = [piece for piece in pieces if piece.at + piece.length <= cut]
        with path.open("rb") as file:
            walked = walk(file)
            assert list(islice(walked, len(whole))) == whole
            with pytest.raises(EndOfFile):
                next(walked)


def test_a_file_can_be_walked_again(tmp_path: Path) -> None:
    """From its start, wherever the walk before has left it."""
    with saved(tmp_path, mcap(sealed(channel() + message(1)))).open("rb") as file:
        assert list(walk(file)) == list(walk(file))


def test_a_record_of_a_file_that_has_shrunk_meanwhile_is_damage(tmp_path: Path) -> None:
    """Half an index of messages would hide the other half."""
    data = mcap(records(Attachment(T, T, "photo", "image/png", bytes(1 << 20))))  # more than is read ahead
    path, piece = saved(tmp_path, data), piece_of(data, Opcode.ATTACHMENT)
    with path.open("rb") as file:
        os.truncate(path, piece.at + piece.length - 1)
        with pytest.raises(EndOfFile):
            content(file, piece)


@pytest.mark.parametrize(("told", "whole"), [(None, True), (0, True), (1, False)])
def test_an_attachment_may_come_without_a_checksum(tmp_path: Path, told: int | None, whole: bool) -> None:
    """The specification's 0 says that there is none; any other number must be right."""
    data = mcap(KEEPSAKE)
    piece = piece_of(data, Opcode.ATTACHMENT)
    if told is not None:
        end = piece.at + piece.length
        data = data[: end - 4] + told.to_bytes(4, "little") + data[end:]
    with saved(tmp_path, data).open("rb") as file:
        if whole:
            assert record(file, piece) == Attachment(T, T + 7, "photo", "image/png", b"abc")
            return
        with pytest.raises(CRCValidationError):
            record(file, piece)


@pytest.mark.parametrize("off", [-1, 1])
def test_a_chunk_whose_two_lengths_differ_is_damage(tmp_path: Path, off: int) -> None:
    """Of its record and of its content: one of them is wrong, and who knows which."""
    data = channel() + message(1)
    body = mcap(chunk(data, stored=len(data) + off))
    with saved(tmp_path, body).open("rb") as file, pytest.raises(EndOfFile):
        list(inside(file, piece_of(body, Opcode.CHUNK)))


@pytest.mark.parametrize("name", PACKERS)
def test_a_compressed_chunk_that_holds_less_than_it_says_is_damage(tmp_path: Path, name: str) -> None:
    """Whole messages, but not all of them."""
    data = channel() + message(1)
    for short, whole in ((0, True), (1, False), (500, False)):
        path = saved(tmp_path, mcap(chunk(data, len(data) + short, name=name, pack=PACKERS[name])))
        assert names(path) == ["T1"] * whole


@pytest.mark.parametrize("name", PACKERS)
def test_a_compressed_chunk_is_not_unpacked_beyond_what_it_says(tmp_path: Path, name: str) -> None:
    """A few kB can hold gigabytes of zeros, and a machine's monitor has other uses for its memory."""
    body = mcap(chunk(bytes(32 << 20), 1000, name=name, pack=PACKERS[name]))
    with saved(tmp_path, body).open("rb") as file:
        tracemalloc.start()
        try:
            with pytest.raises(DAMAGE):
                list(inside(file, piece_of(body, Opcode.CHUNK)))
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("left", [0, -1])
def test_messages_of_a_chunk_whose_index_is_damaged_are_looked_for_in_the_chunk(tmp_path: Path, left: int) -> None:
    """What is there of the index says nothing about which messages there are; the chunks before it keep theirs."""
    one, other = (records(MessageIndex(number, [(T + 1, 0)])) for number in (1, 2))
    data = MAGIC + sealed(message(1)) + one + KEEPSAKE + KEEPSAKE + sealed(message(2) + message(3)) + one + other[:left]
    with saved(tmp_path, data).open("rb") as file:
        places = list(chunk_places(file))
        assert [sorted(place.channels) for place in places] == [[1], []]
        assert [found.sequence for found in inside(file, places[1].piece) if isinstance(found, Item)] == [2, 3]


# recovery ------------------------------------------------------------------------------------------------------------


def test_a_recovered_file_has_everything_as_it_was(tmp_path: Path) -> None:
    """Attachments with their kind and time; schemas and channels once, though tools tell them in every chunk."""
    path = saved(tmp_path, mcap(KEEPSAKE, *(sealed(channel() + message(n)) for n in (1, 2, 3))))
    assert recover(path, tmp_path / "b.mcap") == (3, None)
    reader = make_reader(BytesIO((tmp_path / "b.mcap").read_bytes()), validate_crcs=True)
    assert [(a.name, a.media_type, a.log_time, a.data) for a in reader.iter_attachments()] == [
        ("photo", "image/png", T + 7, b"abc")
    ]
    summary = reader.get_summary()
    assert summary is not None and (len(summary.schemas), len(summary.channels)) == (1, 1)
    assert names(tmp_path / "b.mcap") == names(path) == ["T1", "T2", "T3"]


def test_of_a_chunk_that_is_not_whole_nothing_is_recovered(tmp_path: Path) -> None:
    """Without a checksum its beginning may be wrong as well."""
    path = saved(tmp_path, mcap(sealed(channel() + message(1)), chunk(message(2) + message(3)[:-1])))
    kept, reason = recover(path, tmp_path / "b.mcap")
    assert kept == 1 and reason is not None
    assert names(tmp_path / "b.mcap") == ["T1"]


def test_a_second_header_does_not_begin_a_second_file(tmp_path: Path) -> None:
    """As where one file was put behind another."""
    path = saved(tmp_path, mcap(records(Header("other", "")), sealed(channel() + message(1))))
    assert recover(path, tmp_path / "b.mcap") == (1, None)
    assert names(tmp_path / "b.mcap") == ["T1"] and read(tmp_path / "b.mcap").damage is None


def test_records_without_a_header_are_nothing_to_recover(tmp_path: Path) -> None:
    """Nobody can say what they belong to."""
    path = saved(tmp_path, MAGIC + records(Metadata("stethos.recording", {})))
    with pytest.raises(BadInput, match="nothing to recover"):
        recover(path, tmp_path / "b.mcap")
    assert list(tmp_path.iterdir()) == [path]


def test_a_recovered_file_gets_its_name_once_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it: who finds the name after a power cut deletes what it was recovered from."""
    path = saved(tmp_path, mcap(sealed(channel() + message(1))))
    synced: list[tuple[int, bool]] = []
    fsync = os.fsync

    def noting(handle: int) -> None:
        synced.append((os.fstat(handle).st_size, (tmp_path / "b.mcap").exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    recover(path, tmp_path / "b.mcap")
    assert synced == [((tmp_path / "b.mcap").stat().st_size, False)]


def test_a_recovery_says_whether_space_would_help(tmp_path: Path) -> None:
    """The ring deletes its oldest file for one that finds no space, and for no other failure."""
    path = saved(tmp_path, mcap(sealed(channel() + message(1))))
    (tmp_path / "b.mcap.repair").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"b.mcap: cannot be written: No space left"):
        recover(path, tmp_path / "b.mcap")
    assert list(tmp_path.iterdir()) == [path]
    for nowhere in (tmp_path / "none" / "b.mcap", path / "b.mcap"):
        with pytest.raises(RecordingError, match="cannot be written") as failed:
            recover(path, nowhere)
        assert not isinstance(failed.value, DiskFull)
