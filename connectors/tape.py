"""Recordings laid end to end: what a playback plays, by sample index, and where chunks are cut.

A tape consists of runs: samples of one or several files without a break between them, or a pause. Chunks start at
multiples of their length from the start of their run, so how they are cut depends on the tape alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from connectors.files import IMAGES, Recording, open_recording
from connectors.images import ImageFolder
from pipeline.errors import BadInput, ConfigError
from pipeline.messages import Rate, Samples


@dataclass(frozen=True, slots=True)
class Clip:
    """A file, or its part [start_s, end_s), seconds from the file's start."""

    path: Path
    start_s: float = 0.0
    end_s: float | None = None

    @classmethod
    def of(cls, what: Clip | Path | str | Mapping[str, Any], folder: Path) -> Clip:
        """From what a configuration says; relative paths start at `folder`.

        Raises:
            ConfigError: unknown or missing keys.
        """
        if isinstance(what, Clip):
            return cls(folder / what.path, what.start_s, what.end_s)
        if isinstance(what, (str, Path)):
            return cls(folder / what)
        unknown = sorted(set(what) - {"path", "start_s", "end_s"})
        if unknown or "path" not in what:
            raise ConfigError(f"a clip has path, start_s and end_s; got {', '.join(unknown) or 'no path'}")
        return cls(folder / what["path"], what.get("start_s") or 0.0, what.get("end_s"))


class Run(NamedTuple):
    """Samples [n0, n1) of the tape that hang together, or a pause.

    A message has at most `step` samples; `seq` is the number of chunks before the run.
    """

    n0: int
    n1: int
    silent: bool
    step: int
    seq: int


class _Piece(NamedTuple):
    n0: int
    n1: int
    clip: int
    first: int


class Tape:
    """The clips of one stream in order.

    Args:
        clips: what to play.
        rate: their rate, where the files do not tell it; checked where they do.
        channels: which channels, from 0; all if None.
        chunk_s: length of a chunk in seconds.
        pause_s: pause after each clip; after the last one only if `loop`.
        largest_bytes: most bytes of a chunk.
        loop: whether the last clip is followed by the first.

    Raises:
        BadInput: a file cannot be used, or the files do not agree on rate, sample type or channels.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        rate: Rate | None,
        channels: Sequence[int] | None,
        *,
        chunk_s: float,
        pause_s: float,
        largest_bytes: int,
        loop: bool,
    ) -> None:
        self._clips = clips
        self._channels = channels
        self._held: tuple[int, Recording] | None = None
        first = self._recording(0, rate)
        self.kind, self.rate, self.channels, self.dtype = first.kind, first.rate, first.channels, first.dtype
        self.shrunk = 0
        self._step = 1
        if self.kind != "images":
            fits = largest_bytes // (self.channels * np.dtype(self.dtype).itemsize)
            self._step = max(1, min(round(chunk_s * self.rate.hz), fits))
        self._pieces: list[_Piece] = []
        self._runs: list[Run] = []
        self.length = self.chunks = 0
        self._lay(round(pause_s * self.rate.hz), loop)
        self._starts = [run.n0 for run in self._runs]

    def _lay(self, pause: int, loop: bool) -> None:
        start = 0
        for index in range(len(self._clips)):
            first, last = self._bounds(index)
            self._pieces.append(_Piece(self.length, self.length + last - first, index, first))
            self.length += last - first
            final = index == len(self._clips) - 1
            if final or pause:
                self._runs.append(Run(start, self.length, False, self._step, self.chunks))
                self.chunks += -(-(self.length - start) // self._step)
            if pause and (loop or not final):
                second = max(1, round(self.rate.hz))
                self._runs.append(Run(self.length, self.length + pause, True, second, self.chunks))
                self.length += pause
            if pause:
                start = self.length

    def _bounds(self, index: int) -> tuple[int, int]:
        """First frame and end of a clip in its file."""
        clip, file = self._clips[index], self._recording(index, self.rate)
        for what, here, there in (("sample type", file.dtype, self.dtype), ("channels", file.channels, self.channels)):
            if here != there:
                raise BadInput(
                    "format", f"{file.path}: {what} {here}, but {there} in {self._clips[0].path}: play them apart"
                )
        first = round(clip.start_s * self.rate.hz)
        last = file.frames if clip.end_s is None else round(clip.end_s * self.rate.hz)
        if not 0 <= first < last <= file.frames:
            length_s = file.frames / self.rate.hz
            raise BadInput(
                "empty", f"{file.path} lasts {length_s:g} s: {clip.start_s:g} s to {clip.end_s} s is no part of it"
            )
        return first, last

    def _recording(self, index: int, rate: Rate | None) -> Recording:
        if self._held is not None and self._clips[self._held[0]].path == self._clips[index].path:
            return self._held[1]
        self.close()
        path = self._clips[index].path
        pictures = path.is_dir() or path.suffix.casefold() in IMAGES
        recording = ImageFolder(path, rate) if pictures else open_recording(path, rate, self._channels)
        self._held = (index, recording)
        return recording

    def run(self, n: int) -> Run:
        """The run that holds sample `n` of the tape."""
        return self._runs[bisect_right(self._starts, n) - 1]

    def read(self, n0: int, n1: int) -> Samples:
        """Samples [n0, n1) of one run, with the shape (n1 - n0, channels).

        Raises:
            BadInput: a file breaks off.
        """
        parts = []
        at = n0
        while at < n1:
            piece = self._piece(at)
            hi = min(n1, piece.n1)
            parts.append(self._recording(piece.clip, self.rate).read(piece.first + at - piece.n0, hi - at))
            at = hi
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _piece(self, n: int) -> _Piece:
        return self._pieces[bisect_right(self._pieces, n, key=lambda piece: piece.n0) - 1]

    def picture(self, n: int) -> bytes:
        """The encoded picture `n`.

        Raises:
            BadInput: its file is gone or damaged.
        """
        piece = self._piece(n)
        folder = self._recording(piece.clip, self.rate)
        assert isinstance(folder, ImageFolder)
        before = folder.shrunk
        data = folder.picture(piece.first + n - piece.n0)
        self.shrunk += folder.shrunk - before
        return data

    def close(self) -> None:
        """Let the open file go. May be called twice."""
        if self._held is not None:
            self._held[1].close()
            self._held = None
