"""Recordings named by a manifest, read as what a live sensor would have sent: segments of one stream.

WAV and FLAC are read a block at a time, so that an eight-hour shift needs no memory of its own. NPZ holds the array
`x`, shape (n, channels) or (windows, n, channels), and perhaps the scalar `fs`; pickles are never loaded. CSV holds one
column per channel, with or without a header.

Windows of live streams lie on a grid from the stream's start. So do those of a clip, from its first sample; a mirrored
margin on both sides gives filters their memory there and lets a clip of one second hold its one window.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soundfile

from connectors.time_columns import rises_like_a_clock, tells_time
from pipeline.errors import BadInput
from pipeline.manifest import Row
from pipeline.messages import NS, Anchor, Float32, Rate, Segment, Stream

BLOCK_S = 10
MARGIN_S = 0.1
WINDOW_S = 1.04
"""A clip shorter than this is continued by its mirror image until a window of a second fits."""
_SHORTEST_S = 0.5
_BEHIND_S = 0.5
"""So far behind the end of a recording somebody may set a label's end, who drags it with the mouse."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """An uninterrupted stretch of a recording: `blocks` yields its samples, (n, channels), in the unit of the file."""

    stream: Stream
    t0_ns: int
    samples: int
    blocks: Callable[[], Iterator[Float32]]

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.stream.rate.hz

    def segments(self) -> Iterator[Segment]:
        """The piece with its mirrored margins; its first sample has the index 0, the event time is the file's."""
        rate = self.stream.rate.hz
        margin = min(max(1, round(MARGIN_S * rate)), self.samples - 1)
        after = max(margin, round((WINDOW_S + MARGIN_S) * rate) - self.samples)
        anchor, at = Anchor(0, self.t0_ns), -margin
        for x in _mirrored(self.blocks(), margin, after):
            yield Segment(self.stream, anchor, at, x)
            at += len(x)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A recording: its row, its stream and its pieces."""

    row: Row
    stream: Stream
    pieces: tuple[Piece, ...]

    @property
    def seconds(self) -> float:
        """Length of all pieces."""
        return sum(piece.seconds for piece in self.pieces)


def read_clip(row: Row) -> Clip:
    """Open a recording of sound or vibration.

    Raises:
        BadInput: the file is missing, broken, too short, of an unknown kind, or nothing tells its rate.
    """
    readers = {".wav": _sound, ".flac": _sound, ".npz": _npz, ".csv": _csv}
    suffix = row.path.suffix.lower()
    if suffix not in readers or row.modality == "frames":
        raise BadInput("kind", f"{row.name}: is no recording of samples; WAV, FLAC, NPZ and CSV are read")
    if not row.path.is_file():
        raise BadInput("missing", f"{row.name}: there is no file {row.path}; paths count from the manifest's folder")
    return readers[suffix](row)


def _sound(row: Row) -> Clip:
    try:
        info = soundfile.info(str(row.path))
    except soundfile.LibsndfileError as error:
        raise BadInput("broken", f"{row.name}: cannot be read as sound: {error}") from error
    stream = _stream(row, _rate(row, Rate(info.samplerate)), info.channels, "FS")
    first, last = _range(row, info.frames, stream.rate)

    def blocks() -> Iterator[Float32]:
        left = last - first
        try:
            with soundfile.SoundFile(str(row.path)) as file:
                file.seek(first)
                while left > 0:
                    x = file.read(min(left, BLOCK_S * info.samplerate), dtype="float32", always_2d=True)
                    if len(x) == 0:
                        raise BadInput("broken", f"{row.name}: ends {left} samples before its header says")
                    left -= len(x)
                    yield _finite(row, x)
        except soundfile.LibsndfileError as error:  # a sound header says nothing about what follows it
            after = f"somewhere after {(last - left) / info.samplerate:.2f} s"
            raise BadInput("broken", f"{row.name}: is damaged or cut off {after}: {error}") from error

    return Clip(row, stream, (_piece(row, stream, first, last - first, blocks),))


def _npz(row: Row) -> Clip:
    try:
        with row.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if "x" not in file:
                raise BadInput("broken", f"{row.name}: holds no array 'x'")
            x = file["x"]
            told = (
                Rate(*Fraction(float(file["fs"])).limit_denominator(1000).as_integer_ratio()) if "fs" in file else None
            )
    except OverflowError as error:
        raise BadInput("rate", f"{row.name}: its 'fs' is infinite; mend it") from error
    except (OSError, ValueError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput("broken", f"{row.name}: cannot be read as NPZ: {error}") from error
    if x.dtype.kind not in "iuf" or x.ndim not in {1, 2, 3}:
        raise BadInput("shape", f"{row.name}: x must hold numbers of shape (n, channels) or (windows, n, channels), "
                       f"not {x.dtype} of shape {x.shape}")  # fmt: skip
    x = x.reshape(len(x), 1) if x.ndim == 1 else x
    return _from_array(row, x[None] if x.ndim == 2 else x, told)


def _csv(row: Row) -> Clip:
    try:
        with row.path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput("broken", f"{row.name}: cannot be read as CSV: {error}") from error
    header = [] if not lines or _is_number(lines[0][0]) else lines.pop(0)
    try:
        x = np.array(lines, dtype=np.float64)
    except ValueError as error:
        raise BadInput("broken", f"{row.name}: {_odd_line(lines)}") from error
    if x.ndim != 2:
        raise BadInput("shape", f"{row.name}: holds no samples")
    channels = [i for i in range(x.shape[1]) if i >= len(header) or not tells_time(header[i])]
    if x.shape[1] > 1 and 0 in channels and rises_like_a_clock(x[:, 0]):
        called = f" ({header[0].strip()!r})" if header and header[0].strip() else ""
        raise BadInput("shape", f"{row.name}: its first column{called} rises steadily as a time or an index does; "
                       "head it 'time_s' or remove it")  # fmt: skip
    return _from_array(row, x[None][:, :, channels], None)


def _odd_line(lines: Sequence[Sequence[str]]) -> str:
    """Where a table of numbers is none."""
    for number, cells in enumerate(lines, start=1):
        if len(cells) != len(lines[0]):
            return f"row {number} of its numbers has {len(cells)} columns, the first one {len(lines[0])}"
        if bad := next((cell for cell in cells if not _is_number(cell)), None):
            apart = "; separate columns by commas" if {";", "\t"} & set(bad) else ""
            return f"row {number} of its numbers holds {bad!r}, which is no number{apart}"
    return "has cells that are no numbers or lines of unequal length"


def _from_array(row: Row, x: np.ndarray[tuple[int, ...], np.dtype[np.generic]], told: Rate | None) -> Clip:
    """A clip of an array (windows, n, channels); windows follow one another, yet nothing is assumed across them."""
    windows, n, channels = x.shape
    if channels < 1 or windows < 1:
        raise BadInput("shape", f"{row.name}: holds no samples")
    stream = _stream(row, _rate(row, told), channels, "1")
    first, last = _range(row, windows * n, stream.rate)
    pieces = []
    for i in range(windows):
        lo, hi = max(first, i * n), min(last, (i + 1) * n)
        if hi - lo >= min(_SHORTEST_S * stream.rate.hz, last - first):
            part = _finite(row, x[i, lo - i * n : hi - i * n].astype(np.float32))
            pieces.append(_piece(row, stream, lo, hi - lo, _once(part)))
    if not pieces:
        each = f"{n / stream.rate.hz:.2f} s"
        raise BadInput("short", f"{row.name}: its {windows} windows of {each} are each shorter than half a second")
    return Clip(row, stream, tuple(pieces))


def _once(x: Float32) -> Callable[[], Iterator[Float32]]:
    return lambda: iter((x,))


def _piece(row: Row, stream: Stream, first: int, samples: int, blocks: Callable[[], Iterator[Float32]]) -> Piece:
    if samples < _SHORTEST_S * stream.rate.hz or samples < 2:
        raise BadInput("short", f"{row.name}: {samples / stream.rate.hz:.2f} s is less than half a window of a second")
    return Piece(stream, Anchor(0, 0).at(first, stream.rate), samples, blocks)


def _stream(row: Row, rate: Rate, channels: int, unit: str) -> Stream:
    return Stream(row.machine, row.sensor, 0, row.modality, rate, channels, "<f4", row.unit or unit)


def _rate(row: Row, told: Rate | None) -> Rate:
    if told is None and row.rate is None:
        raise BadInput("rate", f"{row.name}: neither the file nor the manifest tells its rate; add the column rate_hz")
    if told is not None and row.rate is not None and abs(told.hz - row.rate.hz) > 1e-6 * told.hz:
        raise BadInput("rate", f"{row.name}: the file says {told.hz:g} Hz, the manifest {row.rate.hz:g} Hz; mend one")
    rate = row.rate or told
    assert rate is not None
    if rate.num <= 0:
        raise BadInput("rate", f"{row.name}: the file says {rate.hz:g} Hz; mend its 'fs'")
    return rate


def _range(row: Row, total: int, rate: Rate) -> tuple[int, int]:
    first = round(row.start_s * rate.hz)
    check_end(row, total / rate.hz)
    last = total if row.end_s is None else min(total, round(row.end_s * rate.hz))
    if first >= last:
        raise BadInput("short", f"{row.name}: start_s = {row.start_s:g} lies behind its end at {total / rate.hz:.2f} s")
    return first, last


def check_end(row: Row, seconds: float) -> None:
    """Refuse what is told to end well behind the end of the recording: another one was meant.

    Raises:
        BadInput: says both.
    """
    if row.end_s is not None and row.end_s > seconds + _BEHIND_S and row.start_s < seconds:
        where = f"its end is told at {row.end_s:g} s, the recording ends at {seconds:.2f} s"
        raise BadInput("short", f"{row.name}: {where}; is it the right one?")


def _finite(row: Row, x: Float32) -> Float32:
    if not np.isfinite(x).all():
        raise BadInput("not_finite", f"{row.name}: holds infinite or not-a-number samples")
    return x


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _mirrored(blocks: Iterator[Float32], before: int, after: int) -> Iterator[Float32]:
    """The blocks with `before` and `after` samples mirrored at the ends (numpy's ``reflect``)."""
    last: Float32 | None = None
    for block in blocks:
        if last is None:
            last = np.concatenate((_reflection(block[::-1], before)[::-1], block))
        elif len(block) < after:  # too short to be mirrored on its own
            last = np.concatenate((last, block))
        else:
            yield last
            last = block
    if last is not None:
        yield np.concatenate((last, _reflection(last, after)))


def _reflection(x: Float32, n: int) -> Float32:
    """What follows x when it is mirrored at its last sample, as often as needed; shape (n, channels)."""
    return np.pad(x, ((0, n), (0, 0)), mode="reflect")[len(x) :]


def second_ns(seconds: float) -> int:
    """Seconds of a file as nanoseconds from its start."""
    return round(seconds * NS)
