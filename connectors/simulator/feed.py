"""The shop's messages in the order in which they become available."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heapify, heapreplace
from typing import NamedTuple

from connectors.base import Resume, SourceMessage
from connectors.simulator.shop import Shop
from connectors.simulator.shop_parts import Sensor
from pipeline.messages import NS, Anchor, Chunk, Context, Mark, Stream


class _Head(NamedTuple):
    """Next thing of a sensor (or of the facts, `sensor` -1): when it is complete, and where it starts."""

    t_ns: int
    sensor: int
    n: int


class Feed:
    """Chunks, facts and end marks of a shop, by the event time at which they are complete.

    Chunks end at multiples of the sensor's chunk length; facts come at whole seconds from the start, before the
    chunks that end then.

    Args:
        shop: whose messages.
        t0_ns: event time of the shop's start; not used for streams that resume.
        resume: where each (machine, sensor) goes on.
        duration_s: when every stream ends, or None.
    """

    def __init__(
        self,
        shop: Shop,
        t0_ns: int,
        resume: Mapping[tuple[str, str], Resume] | None = None,
        duration_s: float | None = None,
    ) -> None:
        known = dict(resume or {})
        self._shop = shop
        starts = [r.anchor.at(0, s.rate) for s in shop.sensors if (r := known.get((s.machine, s.name)))]
        self.t0_ns = starts[0] if starts else t0_ns
        self.streams: tuple[Stream, ...] = tuple(_stream(s, known.get((s.machine, s.name))) for s in shop.sensors)
        self._anchors = [r.anchor if (r := known.get((s.machine, s.name))) else self._fresh() for s in shop.sensors]
        first = [r.n if (r := known.get((s.machine, s.name))) else 0 for s in shop.sensors]
        self._ends = [None if duration_s is None else round(duration_s * s.rate_hz) for s in shop.sensors]
        heads = [self._head(i, n) for i, n in enumerate(first)]
        self.resumed_ns = max(a.at(n, s.rate) for a, n, s in zip(self._anchors, first, shop.sensors, strict=True))
        earliest = min(a.at(n, s.rate) for a, n, s in zip(self._anchors, first, shop.sensors, strict=True))
        second = max(0, (earliest - self.t0_ns) // NS)
        self._heap = [_Head(self.t0_ns + second * NS, -1, second), *[h for h in heads if h is not None]]
        heapify(self._heap)
        self._running = sum(h is not None for h in heads)

    @property
    def next_ns(self) -> int | None:
        """Event time at which the next message is complete; None after the last end mark."""
        return self._heap[0].t_ns if self._running else None

    def pop(self) -> list[SourceMessage]:
        """The next message, or the facts of a second, or a last chunk with its end mark."""
        head = self._heap[0]
        if head.sensor < 0:
            heapreplace(self._heap, _Head(head.t_ns + NS, -1, head.n + 1))
            return [Context(m, fact.name, head.t_ns, fact.value) for m, fact in self._shop.facts(head.n)]
        i = head.sensor
        sensor, stream, anchor = self._shop.sensors[i], self.streams[i], self._anchors[i]
        n1 = self._until(i, head.n)
        out: list[SourceMessage] = []
        if n1 > head.n:
            out.append(Chunk(stream, anchor, head.n, head.n // sensor.chunk, sensor.read(head.n, n1)))
        end = self._ends[i]
        if end is not None and n1 >= end:
            out.append(Mark(stream, anchor, n1, n1, "end"))
            self._running -= 1
            heapreplace(self._heap, _Head(2**63, i, n1))
        else:
            following = self._head(i, n1)
            assert following is not None
            heapreplace(self._heap, following)
        return out

    def __iter__(self) -> Iterator[SourceMessage]:
        """All messages to the end."""
        while self.next_ns is not None:
            yield from self.pop()

    def _fresh(self) -> Anchor:
        return Anchor(0, self.t0_ns)

    def _until(self, i: int, n: int) -> int:
        """End of the chunk that starts at `n`."""
        chunk = self._shop.sensors[i].chunk
        n1, end = (n // chunk + 1) * chunk, self._ends[i]
        return n1 if end is None else max(n, min(n1, end))

    def _head(self, i: int, n: int) -> _Head | None:
        end = self._ends[i]
        if end is not None and n > end:
            return None
        return _Head(self._anchors[i].at(self._until(i, n), self._shop.sensors[i].rate), i, n)


def _stream(sensor: Sensor, resume: Resume | None) -> Stream:
    return Stream(
        machine=sensor.machine,
        sensor=sensor.name,
        epoch=resume.epoch if resume else 0,
        modality=sensor.modality,
        rate=sensor.rate,
        channels=sensor.channels,
        dtype=sensor.dtype,
        unit=sensor.unit,
        scale=sensor.scale,
    )
