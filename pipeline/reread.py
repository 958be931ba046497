"""What a restored lane reads again, cut to what its snapshot still needs.

A log gives whole messages, and may give them from long before the snapshot where acknowledgements came late. What
depends on older samples alone was said before the snapshot: said once more, without what was known then, it could come
out otherwise.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from operators.rewindow import LONGEST_GAP_S
from pipeline import codec
from pipeline.errors import DecodeError
from pipeline.messages import NS, Chunk, Image, Mark
from pipeline.nodes import StreamGraph

Sampled = TypeVar("Sampled", bound="Chunk | Image | Mark")


class Place(NamedTuple):
    """How far a snapshot had come in one stream.

    Attributes:
        n: first sample still needed; where the stream had ended and none was, its end.
        t_ns: event time of that sample.
        reached_ns: event time up to which the stream was known.
        end: its end mark, if nothing of the stream was needed any more; joins must know of it.
    """

    n: int
    t_ns: int
    reached_ns: int
    end: Mark | None


class Reread:
    """Drops and cuts what comes again, stream by stream, until each has come to its place.

    A message whose time lies beyond what the snapshot knew comes for the first time, whatever its count of samples: a
    connector may have lost its own state.
    """

    def __init__(self) -> None:
        self._places: dict[str, dict[int, Place]] = {}
        self._open: dict[tuple[str, int], int] = {}
        """How far streams were known that have come to their place, while a later one of the same sensor has not."""

    @property
    def oldest_ns(self) -> list[int]:
        """Event times of the first samples that are still to come again."""
        return [place.t_ns for places in self._places.values() for place in places.values() if place.end is None]

    def cut(self, message: Sampled) -> list[Sampled | Mark]:
        """What of a message is needed; before it, a gap where needed samples do not come again."""
        stream = message.stream
        known = self._places.get(stream.sensor)
        if known is None:
            return [message]
        newest, place = max(known), known.get(stream.epoch)
        own_ns = self._open.get(stream.key, 0) if place is None else place.reached_ns
        # under a clock that was ahead, an earlier stream came to later times than the newest
        again = message.t1_ns <= max(own_ns, known[newest].reached_ns) + NS
        if again and stream.key in self._open:
            return [message]
        if again and (stream.epoch < newest if place is None else message.n1 <= place.n):
            return []
        self._come_to(stream.key, known, own_ns, alone=not again)
        if place is None or message.n1 <= place.n or message.n0 == place.n:
            return [message]
        if message.n0 > place.n:
            if message.n0 - place.n > LONGEST_GAP_S * stream.rate.hz:  # its index is wrong, or nobody cares any more
                return [message]
            return [Mark(stream, message.anchor, place.n, message.n0, "gap"), message]
        if isinstance(message, Chunk):
            return [replace(message, n0=place.n, samples=message.samples[place.n - message.n0 :])]
        return [message]

    def _come_to(self, key: tuple[str, int], known: dict[int, Place], own_ns: int, alone: bool) -> None:
        """This stream's place was come to; no older one comes any more, and no other one at all if `alone`."""
        sensor, epoch = key
        for other in [other for other in known if alone or other <= epoch]:
            del known[other]
        if known:
            self._open[key] = own_ns
        else:
            del self._places[sensor]

    def saved(self, graphs: Iterable[StreamGraph], needed: Mapping[tuple[str, int], int]) -> list[dict[str, Any]]:
        """For a snapshot: all streams' places, those that were not come to yet as they were."""
        found = {(sensor, epoch): place for sensor, known in self._places.items() for epoch, place in known.items()}
        for graph in graphs:
            stream, anchor, n = graph.stream, graph.anchor, needed.get(graph.stream.key, graph.n1)
            over = graph.ended and stream.key not in needed
            found[stream.key] = Place(
                n,
                anchor.at(n, stream.rate),
                anchor.at(graph.n1, stream.rate),
                Mark(stream, anchor, n, n, "end") if over else None,
            )
        return [
            {"sensor": sensor, "epoch": epoch, **place._asdict(), "end": place.end and _text(place.end)}
            for (sensor, epoch), place in sorted(found.items())
        ]

    def restore(self, saved: Iterable[Mapping[str, Any]], sensors: Container[str]) -> list[Mark]:
        """Take the places of these sensors over from a snapshot; returns the end marks of streams that are over.

        Of any other sensor, which was taken out of the configuration, nothing comes again. Older snapshots have none.
        """
        ends = []
        for entry in (entry for entry in saved if entry["sensor"] in sensors):
            end = None if entry["end"] is None else _mark(entry["end"])
            ends += [] if end is None else [end]
            place = Place(int(entry["n"]), int(entry["t_ns"]), int(entry["reached_ns"]), end)
            self._places.setdefault(entry["sensor"], {})[int(entry["epoch"])] = place
        return ends


def _text(mark: Mark) -> dict[str, str]:
    headers, _ = codec.encode(mark)
    return {name: value.decode() for name, value in headers}


def _mark(headers: Mapping[str, str]) -> Mark | None:
    try:
        mark = codec.decode([(name, value.encode()) for name, value in headers.items()], None)
    except DecodeError:  # of another version: joins then wait for the sensor's next stream
        return None
    return mark if isinstance(mark, Mark) else None
