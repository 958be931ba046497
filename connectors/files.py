"""Recorded samples and images in files: WAV, FLAC, NPZ, CSV, folders of PNG or JPEG.

A `Recording` is read by frame index, block by block; sound files are never whole in memory, NPZ and CSV are while they
are open. Samples keep the numbers of the file: 16 bit stay int16, 24 and 32 bit become int32 (24 bit in the upper
bytes, as libsndfile gives them), floating point becomes float32. What cannot be used raises `BadInput` with the file's
name and the mend; its `reason` is one of ``missing``, ``format``, ``truncated``, ``empty``, ``rate``, ``dtype``,
``channels``, ``not_finite``.
"""

from __future__ import annotations

import csv
import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, ClassVar, TypeAlias, TypeVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from connectors import wav
from connectors.rates import agreed_rate, exact_rate
from connectors.tables import is_number, odd_line, rises_like_a_clock, tells_time
from pipeline.errors import BadInput
from pipeline.messages import Rate, Samples

SOUND = (".wav", ".flac")
IMAGES = (".png", ".jpg", ".jpeg")
LARGEST_ARRAY_BYTES = 1 << 30
"""Of an array in an NPZ file, unpacked: it is in memory while it is played, and a small file can unpack to anything."""

_T = TypeVar("_T")
_Header: TypeAlias = tuple[tuple[int, ...], np.dtype[np.generic]]

_INT16_SUBTYPES = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")
_INT32_SUBTYPES = ("PCM_24", "PCM_32")
_FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")
_READ_AHEAD_FRAMES = 16_384  # a call into libsndfile costs as much as decoding a thousand frames
_RATED, _AGREES = 10, 0.01
"""Frames from which a column of times tells a rate, and how far it may be from the declared one."""


class Recording(ABC):
    """One file as frames of samples: `frames` rows of `channels` numbers of wire type `dtype`, `rate` a second."""

    kind: ClassVar[str]
    """``"sound"`` (full scale is 1), ``"numbers"`` (unit unknown) or ``"images"``."""

    path: Path
    rate: Rate
    channels: int
    dtype: str
    frames: int

    @abstractmethod
    def read(self, first: int, count: int) -> Samples:
        """Frames [first, first + count) with the shape (count, channels).

        Raises:
            BadInput: the file breaks off or holds numbers that are not finite.
        """

    def close(self) -> None:  # noqa: B027  # nothing to let go is the usual case
        """Let the file go. May be called twice."""


class SoundRecording(Recording):
    """A WAV or FLAC file, read through libsndfile."""

    kind = "sound"

    def __init__(self, path: Path, rate: Rate | None, channels: Sequence[int] | None) -> None:
        self.path = path
        try:
            wav.check_length(path)
            self._file = soundfile.SoundFile(path)
        except (soundfile.LibsndfileError, OSError) as error:
            raise BadInput("format", f"{path} is no readable WAV or FLAC file: {error}") from error
        try:
            self.rate = agreed_rate(path, Rate(self._file.samplerate), rate)
            self.frames = _not_empty(path, self._file.frames)
            self._chosen = chosen_channels(path, self._file.channels, channels)
            self.channels = self._file.channels if self._chosen is None else len(self._chosen)
            self.dtype, self._numpy = self._types()
            self._block_first, self._block = 0, np.empty((0, self.channels), self.dtype)
            self._load(self.frames - 1, 1)  # a file that breaks off fails here, not in the middle of the night
        except BaseException:
            self._file.close()
            raise

    def _types(self) -> tuple[str, str]:
        subtype = self._file.subtype
        if subtype in _INT16_SUBTYPES:
            return "<i2", "int16"
        if subtype in _INT32_SUBTYPES:
            return "<i4", "int32"
        if subtype in _FLOAT_SUBTYPES:
            return "<f4", "float32"
        raise BadInput("dtype", f"{self.path} holds {subtype} samples: convert it to 16, 24 or 32 bit PCM or float")

    def read(self, first: int, count: int) -> Samples:
        """Frames [first, first + count), shape (count, channels), of `dtype`."""
        at = first - self._block_first
        if at < 0 or at + count > len(self._block):
            self._block = self._load(first, min(max(count, _READ_AHEAD_FRAMES), self.frames - first))
            self._block_first, at = first, 0
        return _finite(self.path, first, self._block[at : at + count])  # what was read ahead is not judged yet

    def _load(self, first: int, count: int) -> Samples:
        try:
            if self._file.tell() != first:
                self._file.seek(first)
            x: Samples = self._file.read(count, dtype=self._numpy, always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise _broken(self.path, f"at frame {first}: {error}") from error
        if len(x) != count:
            raise _broken(self.path, f"at frame {first + len(x)} of {self.frames}")
        return _columns(x, self._chosen, self.dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NpzRecording(Recording):
    """An NPZ file: array ``x`` of shape (n,), (n, channels) or (windows, n, channels), scalar ``fs``.

    Windows of `window` frames are put end to end. The array is loaded at the first read.
    """

    kind = "numbers"

    def __init__(self, path: Path, rate: Rate | None, channels: Sequence[int] | None) -> None:
        self.path = path
        self._x: Samples | None = None
        header = self._member("x", self._header)
        if header is None:
            raise BadInput("format", f"{path} has no array named x")
        shape, kept = header
        if len(shape) not in {1, 2, 3} or 0 in shape[1:]:
            raise BadInput(
                "format", f"{path}: x has the shape {shape}; it must be (n, channels) or (windows, n, channels)"
            )
        there = shape[-1] if len(shape) > 1 else 1
        self.frames = _not_empty(path, math.prod(shape[: max(len(shape) - 1, 1)]))
        self.window = shape[1] if len(shape) == 3 else self.frames
        self.dtype = _wire_type(path, kept)
        self.rate = agreed_rate(path, self._fs(), rate)
        self._chosen = chosen_channels(path, there, channels)
        self.channels, self._there = there if self._chosen is None else len(self._chosen), there

    def _member(self, name: str, take: Callable[[IO[bytes]], _T]) -> _T | None:
        """What is made of an array's part of the file; None where it has no such array."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                if f"{name}.npy" not in archive.namelist():
                    return None
                with archive.open(f"{name}.npy") as member:
                    return take(member)
        except BadInput:
            raise
        except Exception as error:  # archive, compression and header have no common base for what damage leads to
            raise _broken(self.path, f"{type(error).__name__}: {error}") from error

    def _header(self, member: IO[bytes]) -> _Header:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        if math.prod(shape) * dtype.itemsize > LARGEST_ARRAY_BYTES:
            raise BadInput(
                "format",
                f"{self.path}: an array of the shape {str(shape)[:80]} has more than {LARGEST_ARRAY_BYTES >> 20} MiB "
                "unpacked: split it into several files, or save it as WAV or FLAC",
            )
        return shape, dtype

    def _array(self, member: IO[bytes]) -> NDArray[np.generic]:
        self._header(member)
        member.seek(0)
        array: NDArray[np.generic] = np.lib.format.read_array(member, allow_pickle=False)
        return array

    def _fs(self) -> Rate | None:
        told = self._member("fs", self._array)
        if told is None:
            return None
        try:
            fs = float(told.item())
        except (ValueError, TypeError) as error:
            raise BadInput("rate", f"{self.path}: fs must be one number") from error
        return exact_rate(fs, f"{self.path}: fs")

    def read(self, first: int, count: int) -> Samples:
        """Frames [first, first + count)."""
        if self._x is None:
            self._x = self._load()
        return self._x[first : first + count]

    def _load(self) -> Samples:
        x = self._member("x", self._array)
        if x is None or x.size != self.frames * self._there:
            raise _broken(self.path, "it was changed meanwhile")
        x = x.reshape(self.frames, self._there)
        if x.dtype.kind in "iu" and x.dtype.itemsize >= 4:
            limits = np.iinfo(np.int32)
            if x.min() < limits.min or x.max() > limits.max:
                raise BadInput("dtype", f"{self.path}: x does not fit 32 bit: save it as float32")
        return _finite(self.path, 0, _columns(x, self._chosen, self.dtype))

    def close(self) -> None:
        """Let the array go."""
        self._x = None


class CsvRecording(Recording):
    """A CSV file of numbers, a row a frame, with or without a heading; comma, semicolon or tab between columns.

    Its rate must be told. A column headed t, time, time_s, timestamp or seconds, or so with a unit in brackets, is no
    channel; its times, in seconds, milliseconds, microseconds or nanoseconds, must be those of that rate within a
    percent. A first one that rises like them under another heading, or under none, is refused.
    """

    kind = "numbers"
    dtype = "<f4"

    def __init__(self, path: Path, rate: Rate | None, channels: Sequence[int] | None) -> None:
        self.path = path
        self.rate = agreed_rate(path, None, rate)
        table = self._table()
        self._agree_with(table.shape[1], channels)
        self._x = _finite(path, 0, _columns(table, chosen_channels(path, table.shape[1], channels), self.dtype))
        self.frames, self.channels = self._x.shape

    def _table(self) -> NDArray[np.float64]:
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                first = file.readline()
                separator = max(",;\t", key=first.count)
                names = [name.strip().casefold() for name in next(csv.reader([first], delimiter=separator), [""])]
                self._headed = headed = not all(is_number(name) for name in names)
                timed = [i for i, name in enumerate(names) if headed and tells_time(name)]
                rows = file if headed else [first, *file]
                lines = [line for line in rows if line.strip()]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise BadInput("format", f"{self.path} is no readable UTF-8 text: {error}") from error
        _not_empty(self.path, len(lines))
        try:
            table: NDArray[np.float64] = np.loadtxt(lines, delimiter=separator, quotechar='"', ndmin=2, comments=None)
        except ValueError as error:
            raise BadInput("format", f"{self.path}: {odd_line(lines, separator)}") from error
        if headed and table.shape[1] != len(names):
            raise BadInput(
                "channels",
                f"{self.path} has {len(names)} columns in its heading and {table.shape[1]} below: write decimal "
                "points, not commas, or separate the columns by semicolons or tabs",
            )
        if len(timed) == table.shape[1]:
            raise BadInput("channels", f"{self.path} has a column of times and nothing else")
        if timed:
            self._agree(table[:, timed[0]])
        if 0 not in timed and table.shape[1] > 1 and rises_like_a_clock(table[:, 0]):
            called = f" ({names[0]!r})" if headed and names[0] else ""
            raise BadInput(
                "channels",
                f"{self.path}: its first column{called} rises steadily as a time or an index does; head it 'time_s' or "
                "remove it",
            )
        return np.delete(table, timed, axis=1) if timed else table

    def _agree_with(self, columns: int, channels: Sequence[int] | None) -> None:
        """Without a heading nobody can tell further channels from the decimals of a comma."""
        if not self._headed and channels is not None and columns > len(channels):
            raise BadInput(
                "channels",
                f"{self.path} has {columns} columns without a heading, {len(channels)} are wanted: put a heading over "
                "them, write decimal points instead of commas, or set channels",
            )

    def _agree(self, times: NDArray[np.float64]) -> None:
        """Played at another rate than it was sampled with, all its frequencies would be wrong."""
        if len(times) < _RATED:
            return
        step = float(times[-1] - times[0]) / (len(times) - 1)
        if not any(abs(step * self.rate.hz / unit - 1.0) <= _AGREES for unit in (1.0, 1e3, 1e6, 1e9)):
            told = f"{1.0 / step:,.6g} a second" if step > 0.0 else "no rate at all"
            raise BadInput(
                "rate",
                f"{self.path}: rate_hz says {self.rate.hz:,.6g} frames a second, the column of times {told} "
                "(if it is in seconds): correct the one that is wrong",
            )

    def read(self, first: int, count: int) -> Samples:
        """Frames [first, first + count)."""
        return self._x[first : first + count]


def open_recording(path: Path, rate: Rate | None = None, channels: Sequence[int] | None = None) -> Recording:
    """Open a file of samples by the end of its name.

    Args:
        path: WAV, FLAC, NPZ or CSV.
        rate: the rate that the file must have, or that it does not tell itself.
        channels: which columns, from 0; all if None.

    Raises:
        BadInput: the file is missing or cannot be used; says why.
    """
    if not path.is_file():
        raise BadInput("missing", f"{path} is no file: check the path")
    suffix = path.suffix.casefold()
    if suffix in SOUND:
        return SoundRecording(path, rate, channels)
    if suffix == ".npz":
        return NpzRecording(path, rate, channels)
    if suffix == ".csv":
        return CsvRecording(path, rate, channels)
    raise BadInput(
        "format", f"{path}: samples are read from .wav, .flac, .npz and .csv, images from a folder of .png or .jpg"
    )


def chosen_channels(path: Path, there: int, wanted: Sequence[int] | None) -> tuple[int, ...] | None:
    """The columns to keep, None for all.

    Raises:
        BadInput: the file has not got them.
    """
    if wanted is None:
        return None
    if not wanted or min(wanted) < 0 or max(wanted) >= there:
        raise BadInput("channels", f"{path} has {there} channels, numbered from 0; {list(wanted)} were asked for")
    return tuple(wanted)


def _columns(x: NDArray[np.generic], chosen: tuple[int, ...] | None, dtype: str) -> Samples:
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused as such
        return np.ascontiguousarray(x if chosen is None else x[:, chosen], dtype=dtype)


def _finite(path: Path, first: int, x: Samples) -> Samples:
    if x.dtype.kind == "f":
        good = np.isfinite(x).all(axis=1)
        if not good.all():
            row = first + int(np.argmin(good))
            raise BadInput(
                "not_finite", f"{path} holds a number that is not finite at frame {row}: cut it out with start_s, end_s"
            )
    return x


def _not_empty(path: Path, frames: int) -> int:
    if frames < 1:
        raise BadInput("empty", f"{path} holds no samples")
    return frames


def _broken(path: Path, how: str) -> BadInput:
    return BadInput("truncated", f"{path} is truncated or damaged ({' '.join(how.split())[:200]}): copy it again")


def _wire_type(path: Path, dtype: np.dtype[np.generic]) -> str:
    if dtype.kind == "f":
        return "<f4"
    if dtype.kind in "iu":
        return "<i2" if dtype.itemsize == 1 or (dtype.kind == "i" and dtype.itemsize == 2) else "<i4"
    raise BadInput("dtype", f"{path}: x holds {dtype}, but must hold integers or floating point numbers")
