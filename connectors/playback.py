"""Files played as if their sensor were there: at real speed, faster, or as fast as they can be read.

What is played, how it is cut and when it happened depend on the files and settings alone; only when a chunk is
handed over depends on the clock. A playback goes on at the exact sample after a restart, with its first anchor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from connectors.base import Resume, Source, SourceMessage
from connectors.quantity import FULL_SCALE, quantity
from connectors.rates import exact_rate
from connectors.tape import Clip, Run, Tape
from pipeline.errors import BadInput, ConfigError, SourceError
from pipeline.messages import NS, Anchor, Chunk, Image, Mark, Modality, Stream

_LARGEST_CHUNK_BYTES = 900_000


class Playback(Source):
    """Plays one file or several, end to end, as the stream of one sensor.

    Args:
        machine: whose sensor it is.
        sensor: its name.
        modality: "acoustic", "stethoscope", "vibration" or "frames".
        files: WAV, FLAC, NPZ, CSV or folders of PNG or JPEG; paths, `Clip`s or tables with path, start_s, end_s.
        folder: where relative paths start.
        rate_hz: samples (frames) per second; needed where the files do not tell it, checked where they do.
        unit: unit of the samples times `scale`; needed for NPZ and CSV, "FS" (full scale) for sound otherwise.
        scale: what one count is worth; otherwise full scale is 1, and a count of NPZ and CSV in a unit is one of it.
        channels: which channels, from 0; all by default.
        chunk_s: length of a chunk; shorter where it would exceed 900 kB.
        speed: how many times faster than real time; 0 or infinity is as fast as possible.
        start_ns: event time of the first sample; the time of the first `open` by default.
        pause_s: pause between files, told as marks.
        loop: whether to begin again at the end, for ever.

    Raises:
        ConfigError: an argument makes no sense.
    """

    rereadable: ClassVar[bool] = True

    def __init__(
        self,
        machine: str,
        sensor: str,
        modality: Modality,
        files: Sequence[Clip | Path | str | Mapping[str, Any]],
        *,
        folder: Path | str = "",
        rate_hz: float | None = None,
        unit: str | None = None,
        scale: float | None = None,
        channels: Sequence[int] | None = None,
        chunk_s: float = 0.1,
        speed: float = 1.0,
        start_ns: int | None = None,
        pause_s: float = 0.0,
        loop: bool = False,
    ) -> None:
        self._where = f"playback {machine}/{sensor}"
        if isinstance(files, (str, Path)) or not files:
            raise ConfigError(f"{self._where}: files must be a list of at least one path")
        if not chunk_s > 0 or not pause_s >= 0 or not speed >= 0 or math.inf in {chunk_s, pause_s}:
            raise ConfigError(f"{self._where}: chunk_s must be positive, pause_s and speed not negative")
        if scale is not None and (not math.isfinite(scale) or scale == 0):
            raise ConfigError(f"{self._where}: scale is {scale}, but must be a number other than 0")
        self._machine, self._sensor, self._modality = machine, sensor, modality
        self._clips = [Clip.of(what, Path(folder)) for what in files]
        self._rate_hz, self._unit, self._scale, self._channels = rate_hz, unit, scale, channels
        self._chunk_s, self._pause_s, self._loop = chunk_s, pause_s, loop
        self._speed = 0.0 if math.isinf(speed) else speed
        self._start_ns = start_ns
        self._tape: Tape | None = None
        self._n = 0
        self._ended = False

    @property
    def shrunk(self) -> int:
        """Pictures that were too large for a message and were made smaller."""
        return 0 if self._tape is None else self._tape.shrunk

    @property
    def count_scale(self) -> float:
        """What a count of a channel is worth before `scale`: its share of full scale of sound, 1 of numbers."""
        tape = self._opened()
        return FULL_SCALE[tape.dtype] if tape.kind == "sound" else 1.0

    def contents(self) -> Mapping[tuple[str, str], str]:
        """What is played, as a digest: a place within other recordings means nothing. Files by path, size and time."""
        told = (self._rate_hz, self._unit, self._scale, self._channels, self._pause_s, self._start_ns, self._loop)
        facts = [str(fact) for fact in told]
        for clip in self._clips:
            facts += [str(clip.path.absolute()), str(clip.start_s), str(clip.end_s)]
            for path in sorted(clip.path.iterdir()) if clip.path.is_dir() else [clip.path]:
                with suppress(OSError):  # `open` says what is missing
                    facts += [path.name, str(path.stat().st_size), str(path.stat().st_mtime_ns)]
        return {(self._machine, self._sensor): sha256("\n".join(facts).encode()).hexdigest()}

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Look through all files and go to the first sample, or to where the stream stopped.

        Raises:
            SourceError: a file is missing or cannot be used; names it and the mend.
        """
        try:
            self._tape = self._load()
            unit, scale = self._quantity(self._tape)
        except BadInput as error:
            raise SourceError(f"{self._where}: {error}") from error
        tape = self._tape
        told = resume.get((self._machine, self._sensor))
        start_ns = now_ns if self._start_ns is None else self._start_ns
        epoch, self._anchor, self._n = 0 if told is None else told.epoch, Anchor(0, start_ns), 0
        if told is not None and not told.fresh:
            self._anchor, self._n = told.anchor, told.n
        self._ended = False
        self._stream = Stream(
            self._machine, self._sensor, epoch, self._modality, tape.rate, tape.channels, tape.dtype, unit, scale
        )  # fmt: skip
        self._began_ns, self._from_ns = now_ns, self._anchor.at(self._n, tape.rate)
        return [self._stream]

    def _load(self) -> Tape:
        rate = None if self._rate_hz is None else exact_rate(self._rate_hz, "rate_hz")
        return Tape(
            self._clips,
            rate,
            self._channels,
            chunk_s=self._chunk_s,
            pause_s=self._pause_s,
            largest_bytes=_LARGEST_CHUNK_BYTES,
            loop=self._loop,
        )

    def _quantity(self, tape: Tape) -> tuple[str, float]:
        """Unit and scale: sound has a full scale, pictures have none, numbers must have been told."""
        if (tape.kind == "images") != (self._modality == "frames"):
            raise BadInput("format", f"modality {self._modality} does not go with {tape.kind}")
        if tape.kind == "images":
            return self._unit or "image", 1.0
        return quantity(tape.kind, tape.dtype, self._unit, self._scale, str(self._clips[0].path))

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """All chunks whose last sample has been played by now, up to a second of the recording at a time.

        Raises:
            SourceError: a file broke off or went away.
        """
        tape = self._opened()
        out: list[SourceMessage] = []
        until = self._n + max(1, round(tape.rate.hz))
        while not self._ended and self._n < until and self._due_ns() <= now_ns:
            out.append(self._next())
        return out

    def wake_ns(self, now_ns: int) -> int:
        """When the next chunk is due."""
        return now_ns + NS if self._ended else self._due_ns()

    @property
    def exhausted(self) -> bool:
        """Whether the end mark has been given."""
        return self._ended

    def close(self) -> None:
        """Let the files go."""
        if self._tape is not None:
            self._tape.close()

    def _opened(self) -> Tape:
        if self._tape is None:
            raise SourceError(f"{self._where} is not open")
        return self._tape

    def _ahead(self) -> tuple[Run, int, int] | None:
        """Run, start within the tape, and length of the next message; None at the end."""
        tape = self._opened()
        if self._n >= tape.length and not self._loop:
            return None
        at = self._n % tape.length
        run = tape.run(at)
        end = min(run.n0 + ((at - run.n0) // run.step + 1) * run.step, run.n1)
        return run, at, end - at

    def _due_ns(self) -> int:
        if self._speed == 0:
            return self._began_ns
        ahead = self._ahead()
        played = 0 if ahead is None or self._modality == "frames" else ahead[2]  # a picture is there at once
        after_ns = self._anchor.at(self._n + played, self._stream.rate) - self._from_ns
        return self._began_ns + math.ceil(after_ns / self._speed)

    def _next(self) -> SourceMessage:
        ahead = self._ahead()
        if ahead is None:
            self._ended = True
            return Mark(self._stream, self._anchor, self._n, self._n, "end")
        run, at, length = ahead
        n0, self._n = self._n, self._n + length
        if run.silent:
            return Mark(self._stream, self._anchor, n0, self._n, "silent")
        tape = self._opened()
        seq = n0 // tape.length * tape.chunks + run.seq + (at - run.n0) // run.step
        try:
            if tape.kind == "images":
                return Image(self._stream, self._anchor, n0, seq, tape.picture(at))
            return Chunk(self._stream, self._anchor, n0, seq, tape.read(at, at + length))
        except BadInput as error:
            raise SourceError(f"{self._where}: {error}") from error
