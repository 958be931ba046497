"""A tachometer on a channel of a sensor's device: its samples become statements of the spindle's speed.

Sound cards and recorders have channels to spare; a tachometer on one of them shares the sensor's clock, which no
message from a control does. The channel goes no further than here, unless the sensor counts it among its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from connectors.base import Resume, Source, SourceMessage
from connectors.rotation import MEMORY_S, Reader
from pipeline.errors import SourceError
from pipeline.messages import Chunk, Context, Mark, Stream

_EVER = 2**62
_WARM_S = MEMORY_S + 1.5  # seconds before the place of a restart that are read for what is told after it


class Tachometer(Source):
    """A source of one sensor, one of whose channels tells the spindle's speed.

    Speeds come before the chunk that they were read from, so that a chunk is never durable without them. A source that
    can be read again is read from some seconds earlier after a restart: the same speeds are told as without it.

    Args:
        source: of the sensor and the channel; `channels` of its device are enough for both.
        reader: what reads the speed.
        channel: the channel, from 0.
        channels: how many channels the sensor itself has; further ones are not handed on.
        context: name under which the speed is told.
    """

    rereadable: ClassVar[bool] = False

    def __init__(self, source: Source, reader: Reader, *, channel: int, channels: int, context: str) -> None:
        self.source = source
        self._reader, self._channel, self._channels, self._context = reader, channel, channels, context
        self._expected: tuple[int, int] | None = None  # epoch and sample that come next
        self._scale = 1.0
        self._stream: tuple[Stream, Stream] | None = None  # the source's, and what of it is the sensor's

    def contents(self) -> Mapping[tuple[str, str], str]:
        """Of the source."""
        told: Mapping[tuple[str, str], str] = getattr(self.source, "contents", dict)()
        return told

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Open the source, after reading what was before where it goes on.

        Raises:
            SourceError: the source cannot be opened, or has no such channel.
        """
        self._expected = None
        streams = self._opened(resume, now_ns)
        (stream,) = streams
        told = resume.get((stream.machine, stream.sensor))
        if self.rereadable and told is not None and not told.fresh and told.n > told.anchor.n:
            n = max(told.anchor.n, told.n - round(_WARM_S * stream.rate.hz))
            self.source.close()
            self._opened({(stream.machine, stream.sensor): told._replace(n=n)}, now_ns)
            self._warm(told.n)
            self.source.close()
            self._opened(resume, now_ns)
        return [self._own(stream)]

    def _opened(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        streams = self.source.open(resume, now_ns)
        if self._channel >= streams[0].channels:
            self.source.close()
            where = f"{streams[0].machine}/{streams[0].sensor}"
            raise SourceError(
                f"{where}: no channel {self._channel} for the tachometer: there are {streams[0].channels}"
            )
        self._scale = float(getattr(self.source, "count_scale", streams[0].scale))
        return streams

    def _warm(self, until: int) -> None:
        """Hear, and do not hand on, what comes before sample `until`."""
        while not self.source.exhausted and (messages := self.source.poll(_EVER)):
            for message in messages:
                if isinstance(message, Chunk) and message.n0 < until:
                    kept = message.samples[: until - message.n0]
                    self._speeds(replace(message, samples=kept))
                elif isinstance(message, Mark) and message.n0 < until:
                    self._hole(message)
                if isinstance(message, Chunk | Mark) and message.n1 >= until:
                    return

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """What the source has, and the speeds that its channel tells."""
        out: list[SourceMessage] = []
        for message in self.source.poll(now_ns):
            if isinstance(message, Chunk):
                out += self._speeds(message)
                own = np.ascontiguousarray(message.samples[:, : self._channels])
                out.append(replace(message, stream=self._own(message.stream), samples=own))
            elif isinstance(message, Mark):
                self._hole(message)
                out.append(replace(message, stream=self._own(message.stream)))
            else:
                out.append(message)
        return out

    def _own(self, stream: Stream) -> Stream:
        if self._stream is None or self._stream[0] is not stream:
            self._stream = stream, replace(stream, channels=self._channels)
        return self._stream[1]

    def _speeds(self, chunk: Chunk) -> list[Context]:
        stream = chunk.stream
        if self._expected != (stream.epoch, chunk.n0):
            self._reader.reset(chunk.n0)
        self._expected = (stream.epoch, chunk.n1)
        values = chunk.samples[:, self._channel].astype(np.float64) * self._scale
        return [
            Context(stream.machine, self._context, chunk.anchor.at(n, stream.rate), rpm)
            for n, rpm in self._reader.read(chunk.n0, values)
        ]

    def _hole(self, mark: Mark) -> None:
        if mark.n1 > mark.n0:
            self._reader.reset(mark.n1)
            self._expected = (mark.stream.epoch, mark.n1)

    def wake_ns(self, now_ns: int) -> int:
        """When the source has more."""
        return self.source.wake_ns(now_ns)

    @property
    def counters(self) -> Mapping[str, int]:
        """Of the source."""
        told: Mapping[str, int] = getattr(self.source, "counters", {})
        return told

    @property
    def exhausted(self) -> bool:
        """Whether the source has ended."""
        return self.source.exhausted

    @property
    def trouble(self) -> str:
        """What the source complains about, or why no speed can be told."""
        doubt = self._reader.doubt
        return str(getattr(self.source, "trouble", "")) or (doubt and f"tachometer '{self._context}': {doubt}")

    def close(self) -> None:
        """Close the source."""
        self.source.close()


class RereadTachometer(Tachometer):
    """The same on a source that can be read again after a restart."""

    rereadable: ClassVar[bool] = True
