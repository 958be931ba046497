"""Recordings named by a manifest, read as what a live sensor would have sent: segments of one stream.

WAV and FLAC are read a block at a time, so that an eight-hour shift needs no memory of its own. Windows of an NPZ
follow one another; nothing is assumed across them.

Windows of live streams lie on a grid from the stream's start. So do those of a clip, from its first sample; a mirrored
margin on both sides gives filters their memory there and lets a clip of one second hold its one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from connectors.files import NpzRecording, open_recording
from connectors.quantity import quantity
from pipeline.errors import BadInput
from pipeline.manifest import Row
from pipeline.messages import NS, Anchor, Float32, Rate, Samples, Segment, Stream

BLOCK_S = 1
"""Of a recording that fails, what lies before the block with the fault is read."""
MARGIN_S = 0.1
WINDOW_S = 1.04
"""A clip shorter than this is continued by its mirror image until a window of a second fits."""
_SHORTEST_S = 0.5
_BEHIND_S = 0.5
"""So far behind the end of a recording somebody may set a label's end, who drags it with the mouse."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """An uninterrupted stretch of a recording: `blocks` yields its samples, (n, channels), in their unit."""

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
        BadInput: the file is missing, broken, too short, of an unknown kind, or nothing tells its rate or unit.
    """
    if row.modality == "frames":
        raise BadInput("format", f"{row.name}: is no recording of samples; WAV, FLAC, NPZ and CSV are read")
    if not row.path.is_file():
        raise BadInput("missing", f"{row.name}: there is no file {row.path}; paths count from the manifest's folder")
    with closing(open_recording(row.path, row.rate)) as recording:
        told = row.unit or (None if recording.kind == "sound" else "1")
        unit, scale = quantity(recording.kind, recording.dtype, told, row.scale, row.name)
        rate, channels = recording.rate, recording.channels
        stream = Stream(row.machine, row.sensor, 0, row.modality, rate, channels, "<f4", unit)
        first, last = _range(row, recording.frames, rate)
        if recording.kind == "sound":
            return Clip(row, stream, (_piece(row, stream, first, last - first, _sound(row, first, last, scale)),))
        x = recording.read(0, recording.frames)
    pieces = []
    window = recording.window if isinstance(recording, NpzRecording) else len(x)
    for at in range(0, len(x), window):
        lo, hi = max(first, at), min(last, at + window)
        if hi - lo >= min(_SHORTEST_S * rate.hz, last - first):
            pieces.append(_piece(row, stream, lo, hi - lo, _once(_worth(x[lo:hi], scale))))
    if not pieces:
        each = f"{window / rate.hz:.2f} s"
        raise BadInput("short", f"{row.name}: its windows of {each} are each shorter than half a second")
    return Clip(row, stream, tuple(pieces))


def _sound(row: Row, first: int, last: int, scale: float) -> Callable[[], Iterator[Float32]]:
    def blocks() -> Iterator[Float32]:
        with closing(open_recording(row.path, row.rate)) as recording:
            step = round(BLOCK_S * recording.rate.hz)
            for at in range(first, last, step):
                yield _worth(recording.read(at, min(step, last - at)), scale)

    return blocks


def _worth(counts: Samples, scale: float) -> Float32:
    """Samples in their unit."""
    x = counts.astype(np.float32)
    if scale != 1.0:
        x *= np.float32(scale)
    return x


def _once(x: Float32) -> Callable[[], Iterator[Float32]]:
    return lambda: iter((x,))


def _piece(row: Row, stream: Stream, first: int, samples: int, blocks: Callable[[], Iterator[Float32]]) -> Piece:
    if samples < _SHORTEST_S * stream.rate.hz or samples < 2:
        raise BadInput("short", f"{row.name}: {samples / stream.rate.hz:.2f} s is less than half a window of a second")
    return Piece(stream, Anchor(0, 0).at(first, stream.rate), samples, blocks)


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


def _mirrored(blocks: Iterator[Float32], before: int, after: int) -> Iterator[Float32]:
    """The blocks with `before` and `after` samples mirrored at the ends (numpy's ``reflect``)."""
    last: Float32 | None = None
    try:
        for block in blocks:
            if last is None:
                last = np.concatenate((_reflection(block[::-1], before)[::-1], block))
            elif len(block) < after:  # too short to be mirrored on its own
                last = np.concatenate((last, block))
            else:
                yield last
                last = block
    except BadInput:
        if last is not None:
            yield last
        raise
    if last is not None:
        yield np.concatenate((last, _reflection(last, after)))


def _reflection(x: Float32, n: int) -> Float32:
    """What follows x when it is mirrored at its last sample, as often as needed; shape (n, channels)."""
    return np.pad(x, ((0, n), (0, 0)), mode="reflect")[len(x) :]


def second_ns(seconds: float) -> int:
    """Seconds of a file as nanoseconds from its start."""
    return round(seconds * NS)
