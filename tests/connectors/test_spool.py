"""A spool by itself: which segments go, which stay, and from where numbers go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest

from connectors.spool import Kept, Spool, load, read


def record(seq: int, value: bytes | None = b"x" * 1000) -> Kept:
    """One of about 1,100 bytes."""
    return Kept(seq, "raw.acoustic", b"m", value, [("ce_id", b"%d" % seq)], 1_700_000_000_000 + seq)


def filled(folder: Path, numbers: range, limit: int = 10_000_000) -> Spool:
    """In segments of 19 records."""
    spool = Spool(folder, limit, segment_bytes=20_000)
    for seq in numbers:
        spool.append(record(seq))
    return spool


def left(spool: Spool) -> list[int]:
    """Numbers of what is on disk."""
    return [kept.seq for path in spool.segments() for kept in read(path)]


@pytest.mark.parametrize("limit", [1000, 30_000, 60_000])
def test_no_more_goes_than_the_bound_asks_for(tmp_path: Path, limit: int) -> None:
    """Whole segments, the oldest first; the newest stays, though it alone may be larger than the bound."""
    spool = filled(tmp_path, range(400), limit)
    spool.close()
    size = spool.segments()[0].stat().st_size
    assert len(spool.segments()) == max(1, limit // size) + 1  # and the one that was growing
    assert left(spool) == list(range(400 - len(left(spool)), 400)) and spool.dropped == 400 - len(left(spool))


def test_a_smaller_bound_holds_from_the_next_segment_on(tmp_path: Path) -> None:
    """Somebody needed the disk for other things."""
    filled(tmp_path, range(400)).close()
    spool = filled(tmp_path, range(400, 420), limit=60_000)
    spool.close()
    assert spool.nbytes < 60_000 + 20_000
    assert spool.dropped == 420 - len(left(spool)) and left(spool)[-1] == 419


def test_what_goes_with_a_damaged_segment_is_counted(tmp_path: Path) -> None:
    """Also what of it could not have been read."""
    spool = filled(tmp_path, range(40), limit=60_000)
    first = spool.segments()[0]
    data = bytearray(first.read_bytes())
    data[2000] ^= 4
    first.write_bytes(data)
    assert (len(load(first).records), load(first).lost) == (0, 19)
    seq = 40
    while first.exists():
        spool.append(record(seq))
        seq += 1
    assert spool.dropped == 19
    spool.close()


def test_a_disk_that_fails_costs_no_more_than_it_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be read all the same is not counted as lost, whatever fails; where nothing can, no file stays."""

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    spool, failed = Spool(tmp_path, 10_000_000, segment_bytes=20_000), 0
    for seq in range(100):
        with monkeypatch.context() as broken:
            if seq == 18:  # it finishes the first segment
                broken.setattr("os.fsync", fails)
            try:
                spool.append(record(seq))
            except OSError:
                failed += 1
    assert failed == 1
    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", lambda *_: fails(0))
        other = Spool(tmp_path / "other", 10_000_000)
        with pytest.raises(OSError, match="Input/output"):
            other.append(record(7))
    assert other.lost == 1 and other.segments() == []
    spool.close()
    assert len(left(spool)) + spool.lost == 100 and spool.lost == 0


def test_a_segment_of_which_nothing_was_written_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records are counted; the next ones are in a segment of their own."""
    spool = Spool(tmp_path, 10_000_000)
    spool.append(record(0))
    spool.append(record(1))

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(type(spool._writer), "flush", fails)
        with pytest.raises(OSError, match="No space"):
            spool.sync()
    assert (spool.lost, spool.segments()) == (2, [])
    spool.append(record(2))
    spool.close()
    assert left(spool) == [2]


def test_numbers_go_on_behind_a_segment_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    """Its name says which number it began with: the same one again would be taken for a repeat."""
    assert Spool(tmp_path, 1000).next_seq == 0
    spool = filled(tmp_path, range(42))
    spool.close()
    assert Spool(tmp_path, 1000).next_seq == 42
    spool.segments()[-1].write_bytes(b"")
    assert Spool(tmp_path, 1000).next_seq == 38 + 1


def test_what_is_sent_first_is_finished_only_where_it_is_all_there_is(tmp_path: Path) -> None:
    """Else each look at the oldest segment would cut the newest one short."""
    spool = filled(tmp_path, range(30))
    for _ in range(3):
        first = spool.first()
        assert first is not None and [kept.seq for kept in first[1].records] == list(range(19))
        spool.append(record(30 + _))
    assert len(spool.segments()) == 2
    spool.segments()[0].unlink()
    second = spool.first()
    assert second is not None and [kept.seq for kept in second[1].records] == list(range(19, 33))
    spool.append(record(33))
    spool.close()
    assert left(spool) == list(range(19, 34))


def test_nothing_and_no_bytes_are_two_things(tmp_path: Path) -> None:
    """A record without a value takes its key out of a compacted topic."""
    spool = Spool(tmp_path, 10_000_000)
    for seq, value in enumerate((None, b"", b"x")):
        spool.append(record(seq, value))
    spool.close()
    assert [kept.value for kept in read(spool.segments()[0])] == [None, b"", b"x"]
    assert spool.first() == (spool.segments()[0], load(spool.segments()[0]))


def test_a_place_that_the_disk_cannot_read_ends_a_segment_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the disk says, not by what the cut file then looks like."""
    spool = Spool(tmp_path, 10_000_000, segment_bytes=10_000_000)
    for seq in range(3000):
        spool.append(record(seq))
    spool.close()
    (path,) = spool.segments()
    opened = Path.open

    class Bad:
        """Gives a megabyte, then fails."""

        def __init__(self, *more: Any) -> None:
            self._file, self._reads = opened(*more), 0

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def read(self, size: int) -> bytes:
            self._reads += 1
            if self._reads > 1:
                raise OSError(5, "Input/output error")
            return self._file.read(size)

    def bad(path: Path, mode: str) -> Bad:
        return Bad(path, mode)

    monkeypatch.setattr(Path, "open", bad)
    found = load(path)
    assert "Input/output error" in found.damage
    assert found.records == [record(seq) for seq in range(len(found.records))] != []
    assert len(found.records) < 3000 and found.lost == 0  # the end, which tells how many there were, was not read
