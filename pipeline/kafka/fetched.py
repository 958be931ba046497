"""What brokers answer a fetch with, so that no record stops its partition.

Both libraries end at a record that they cannot read, and so does whoever reads the partition next, for ever. Here its
batch is read once more: a header's name need not be UTF-8. Where that fails, too (what it holds cannot be unpacked),
every offset that is left of the batch has a record that says why. Two things stay errors: a checksum that does not
match, as what was damaged on its way can be fetched again, and a compression of Kafka's own that is not installed.
No batch takes more memory than `unpacking` allows.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import aiokafka.consumer.fetcher
from aiokafka.errors import UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch as LibraryBatch
from aiokafka.record.default_records import _DefaultRecordBatchPy

from pipeline.errors import DecodeError
from pipeline.kafka import unpacking

with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka.consumer.fetcher
    from kafka.errors import UnsupportedCodecError as PythonUnsupportedCodecError
    from kafka.record.default_records import DefaultRecordBatch

UNREADABLE = "unreadable: "
"""Begins the name of a header that could not be read, or of one that says why its record could not be: the last one."""
OVERHEAD = 12
"""Bytes of a batch before those that its length counts: its first offset, and the length."""
UNSUPPORTED = (UnsupportedCodecError, PythonUnsupportedCodecError)
CODEC_AT, CODEC_BITS, CODECS = 22, 0x07, (1, 2, 3, 4)
"""Where a batch says how it is compressed; gzip, snappy, lz4 and zstd."""
MAGIC_AT = 16
MAGIC = 2
"""The form of batches since Kafka 0.11, which alone has headers."""


def check(record: Any) -> None:
    """Refuse a record that could not be read, or not wholly.

    Raises:
        DecodeError: reason ``"unreadable"``; names partition and offset.
    """
    name = record.headers[-1][0] if record.headers else ""
    if name.startswith(UNREADABLE):
        where = f"partition {record.partition}, offset {record.offset}"
        raise DecodeError("unreadable", f"{where}: {name.removeprefix(UNREADABLE)}")


@dataclass(frozen=True, slots=True)
class Missing:
    """In place of a record that could not be read: what the libraries ask one for."""

    offset: int
    headers: list[tuple[str, bytes]]
    key: None = None
    value: None = None
    timestamp: int = 0
    timestamp_type: int = 0
    checksum: None = None
    size_in_bytes: int = 0

    def validate_crc(self) -> bool:
        """As kafka-python asks for it: that of the batch has been checked."""
        return True


class _Lenient(bytearray):
    """Bytes of which any part can be decoded: what is no UTF-8 is marked, and its bytes are written out."""

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        found = super().__getitem__(key)
        return _Lenient(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        text = super().decode(encoding, errors)
        return text if text.encode() == bytes(self) else f"{UNREADABLE}a header's name is no UTF-8: {text}"


class _Batch:
    """A batch of which each record can be had. All else is the library's.

    Args:
        batch: the library's.
        raw: its bytes.
        kind: the library's batch in pure Python.
    """

    def __init__(self, batch: Any, raw: memoryview, kind: Any) -> None:
        self._batch, self._raw, self._kind = batch, raw, kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # of batches of control records both libraries take the first one

    def __iter__(self) -> Iterator[Any]:
        at = self._batch.base_offset
        try:
            for record in self._batch:
                at = record.offset + 1
                yield record
        except Exception:  # whatever a codec or a parser raises: the record would raise it at every attempt
            yield from self._leniently(at)

    def _leniently(self, at: int) -> Iterator[Any]:
        again = self._kind(self._raw)
        try:
            iter(again)  # unpacks what is compressed
            again._buffer = _Lenient(again._buffer)
            for record in again:
                if record.offset >= at:
                    at = record.offset + 1
                    record.headers.sort(key=lambda header: header[0].startswith(UNREADABLE))  # to the end, for `check`
                    yield record
        except Exception as error:
            if isinstance(error, UNSUPPORTED) and self._raw[CODEC_AT] & CODEC_BITS in CODECS:
                raise
            for offset in range(at, self._batch.base_offset + again.last_offset_delta + 1):
                yield Missing(offset, [(f"{UNREADABLE}{error!r:.200}", b"%d" % offset)])


class _Answer:
    """The batches of one partition in a broker's answer; see `_Batch`."""

    def __init__(self, records: Any, data: bytes, kind: Any) -> None:
        self._records, self._left, self._kind = records, memoryview(data or b""), kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Any:
        batch, left = self._records.next_batch(), self._left
        if batch is None:
            return None
        end = OVERHEAD + int.from_bytes(left[8:OVERHEAD], "big")
        self._left = left[end:]
        return _Batch(batch, left[:end], self._kind) if left[MAGIC_AT] == MAGIC else batch


def _read_all(fetcher: Any, kind: Any) -> None:
    """Have a library's fetcher hand on a record for every offset."""
    made = fetcher.MemoryRecords
    fetcher.MemoryRecords = lambda data: _Answer(made(data), data, kind)


for unpacks in {sys.modules[kind.__module__] for kind in (LibraryBatch, _DefaultRecordBatchPy, DefaultRecordBatch)}:
    unpacking.bound(unpacks)
_read_all(aiokafka.consumer.fetcher, _DefaultRecordBatchPy)
_read_all(kafka.consumer.fetcher, DefaultRecordBatch)
