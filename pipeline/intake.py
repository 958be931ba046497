"""Where inputs wait for their lanes: polls the sources, orders by event time, bounds the bytes, marks the silent.

A source is paused when too much waits, always the one furthest ahead in event time and never the one furthest
behind, so that a join of sensors cannot starve on the one it waits for. Every source is held apart from the others:
whatever it raises, it alone is closed, counted and tried again.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from connectors.base import Resume
from pipeline.absent import BEHIND_NS, Key, MissingSensors
from pipeline.errors import SourceError
from pipeline.messages import NS, Chunk, Image, Input, Mark, Stream, machine_of
from pipeline.messages.inputs import UNPLACED
from pipeline.stages import LaneSettings
from pipeline.topics import STALE_S

RETRY_NS = 5 * NS
OVERHEAD_BYTES = 500
"""What a waiting message takes beside its samples, so that small chunks are bounded too."""
ROUND_NS = NS // 5
"""How often it is asked which sensors are silent."""


class Resumable(Protocol):
    """What the intake needs of a source; `connectors.base.Source` and a replayed recording both serve."""

    @property
    def rereadable(self) -> bool:
        """Whether the same samples can be had again after a restart."""
        ...

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Open and return the streams."""
        ...

    def poll(self, now_ns: int) -> Sequence[Input]:
        """What is due."""
        ...

    def wake_ns(self, now_ns: int) -> int:
        """When to poll next."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether nothing more comes."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class Feed:
    """One source with what of it waits. A source that is None stands for sensors that have none, or none yet."""

    __slots__ = ("bytes", "error", "heard", "live", "open", "queue", "retry_ns", "source")

    def __init__(self, source: Resumable | None) -> None:
        self.source = source
        self.queue: deque[Input] = deque()
        self.bytes = 0
        self.open = False
        self.live = source is not None and not source.rereadable
        self.retry_ns = 0 if source is not None else -1
        self.error = ""
        self.heard: dict[Key, Heard] = {}

    @property
    def rereadable(self) -> bool:
        """Whether what waits may wait on: nobody loses it."""
        return self.source is not None and not self.live


class Heard:
    """When a stream was last heard of, and how far it is accounted for."""

    __slots__ = ("heard_ns", "last", "stream")

    def __init__(self, last: Chunk | Image | Mark, heard_ns: int) -> None:
        self.stream = last.stream
        self.last = last
        self.heard_ns = heard_ns

    def mark(self, now_ns: int) -> Mark | None:
        """The mark that is due for a stream that has been silent for `STALE_S`, then every second."""
        if now_ns - self.heard_ns < STALE_S * NS or _ends(self.last):
            return None
        stream, anchor = self.stream, self.last.anchor
        upto = anchor.n + (now_ns - BEHIND_NS - anchor.t_ns) * stream.rate.num // (stream.rate.den * NS)
        if upto - self.last.n1 < stream.rate.hz * 0.9:
            return None
        return Mark(stream, anchor, self.last.n1, upto, "silent")


def _size(message: Input) -> int:
    return message.nbytes + OVERHEAD_BYTES


def _ends(message: Chunk | Image | Mark) -> bool:
    return isinstance(message, Mark) and message.reason == "end"


class Intake:
    """All sources of a process.

    Args:
        sources: to poll.
        queue_bytes: how much may wait, over all sources; one poll of each may come on top.
        inventory: the lanes whose sensors are told of when they never appear; none where another process knows them.
    """

    def __init__(self, sources: Sequence[Resumable], queue_bytes: int, inventory: Sequence[LaneSettings] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self.waiting_bytes = 0
        self._limit = queue_bytes
        self._feeds = [*(Feed(source) for source in sources), Feed(None)]
        self._ready: list[tuple[int, int, int]] = []  # (event time, tie, feed): feeds with something waiting
        self._wake: list[tuple[int, int]] = []  # (time, feed)
        self._ties = itertools.count()
        self._paused: list[int] = []  # to be asked at the next poll
        self._held: set[int] = set()  # those of them that may not say more for now
        self._resume: dict[Key, Resume] = {}
        self._absent = MissingSensors(inventory)
        self._round_ns = 0

    def open(self, resume: Mapping[Key, Resume], now_ns: int) -> list[str]:
        """Open all sources; one that cannot be opened is tried again. Returns what went wrong."""
        self._resume = {key: place for key, place in resume.items() if place.epoch >= 0}
        self._absent.begin(now_ns)
        for index, feed in enumerate(self._feeds):
            if feed.source is not None:
                self._open(feed, now_ns)
                self._wake.append((now_ns, index))
        heapq.heapify(self._wake)
        return self.errors()

    def _open(self, feed: Feed, now_ns: int) -> None:
        """Open a source where its streams stopped: in this run, or else in the one before."""
        assert feed.source is not None
        here = {key: Resume(h.stream.epoch, h.last.anchor, h.last.n1) for key, h in feed.heard.items()}
        try:
            feed.source.open({**self._resume, **here}, now_ns)
            feed.open, feed.error, feed.retry_ns = True, "", 0
        except Exception as error:  # a source that fails must not take the others with it
            self._down(feed, error, "open_failed", now_ns)

    def _down(self, feed: Feed, error: Exception, what: str, now_ns: int) -> None:
        known = isinstance(error, SourceError)
        feed.open, feed.error = False, str(error) if known else f"{type(error).__name__}: {error}"
        feed.retry_ns = now_ns + RETRY_NS
        self.counts[f"source.{what}"] += 1
        self._close(feed)

    def _close(self, feed: Feed) -> None:
        with suppress(Exception):  # what cannot even be closed has said why it is down
            if feed.source is not None:
                feed.source.close()

    def reopen(self, machines: Collection[str], places: Mapping[Key, Resume], now_ns: int) -> None:
        """Forget what waits of some machines, and read it again where that can be had; a device just goes on.

        Args:
            machines: whose lanes have lost what they had been given.
            places: how far their streams were used up; those that are not named begin anew.
            now_ns: the clock.
        """
        for index, feed in enumerate(self._feeds):
            if feed.source is None or feed.live or not any(machine in machines for machine, _ in feed.heard):
                continue
            self.counts["source.reread"] += 1
            kept = [message for message in feed.queue if machine_of(message) not in machines]
            self.waiting_bytes -= feed.bytes
            feed.queue, feed.bytes = deque(kept), sum(map(_size, kept))
            self.waiting_bytes += feed.bytes
            for key, heard in feed.heard.items():
                start = Resume(heard.stream.epoch, heard.last.anchor, 0 if key[0] in machines else heard.last.n1)
                self._resume[key] = places.get(key, start) if key[0] in machines else start
            feed.heard.clear()
            self._close(feed)
            self._open(feed, now_ns)
            self._paused = [other for other in self._paused if other != index]
            self._wake = [(now_ns, index), *((due, other) for due, other in self._wake if other != index)]
        heads = [(feed.queue[0].t1_ns, index) for index, feed in enumerate(self._feeds) if feed.queue]
        self._ready = [(t1_ns, next(self._ties), index) for t1_ns, index in sorted(heads)]
        heapq.heapify(self._wake)

    def poll(self, now_ns: int) -> None:
        """Ask every source that is due, unless too much waits already; then tell of the silent and the absent."""
        for index in self._paused:
            heapq.heappush(self._wake, (now_ns, index))
        self._paused, self._held = [], set()
        while self._wake and self._wake[0][0] <= now_ns:
            _, index = heapq.heappop(self._wake)
            feed = self._feeds[index]
            if self.waiting_bytes > self._limit and feed.queue:
                self.counts["source.paused"] += 1
                self._paused.append(index)
                self._held.add(index)
                continue
            self._attend(feed, index, now_ns)
        if now_ns >= self._round_ns:
            self._round_ns = now_ns + ROUND_NS
            self._tell(now_ns)

    def _attend(self, feed: Feed, index: int, now_ns: int) -> None:
        """Poll or open one source, and note when it is due again."""
        assert feed.source is not None
        if not feed.open and now_ns >= feed.retry_ns:
            self._open(feed, now_ns)
        elif feed.open:
            self._ask(feed, index, now_ns)
        try:
            exhausted = feed.open and feed.source.exhausted
            due = feed.source.wake_ns(now_ns) if feed.open else feed.retry_ns
        except Exception as error:  # as in `_open`
            self._down(feed, error, "failed", now_ns)
            exhausted, due = False, feed.retry_ns
        if exhausted:
            self._close(feed)
            feed.open, feed.retry_ns = False, -1
        elif due <= now_ns and feed.queue:
            self._paused.append(index)  # more is ready, but first what waits
        else:
            heapq.heappush(self._wake, (max(due, now_ns + 1), index))

    def _ask(self, feed: Feed, index: int, now_ns: int) -> None:
        assert feed.source is not None
        try:
            messages = feed.source.poll(now_ns)
        except Exception as error:  # as in `_open`
            self._down(feed, error, "failed", now_ns)
            return
        for message in messages:
            if isinstance(message, UNPLACED) or self._note(feed, message, now_ns):
                self._put(feed, index, message)

    def _note(self, feed: Feed, message: Chunk | Image | Mark, now_ns: int) -> bool:
        """Remember how far a stream has come; says whether the message can be placed in time at all."""
        stream = message.stream
        try:
            message.t1_ns  # noqa: B018 - a rate of 0, samples without a length
        except (ArithmeticError, TypeError):
            self.counts["source.unusable"] += 1
            return False
        heard = feed.heard.get((stream.machine, stream.sensor))
        if heard is None or heard.stream is not stream:
            self._absent.heard(stream)
            feed.heard[stream.machine, stream.sensor] = Heard(message, now_ns)
            return True
        heard.last, heard.heard_ns = message, now_ns
        return True

    def _tell(self, now_ns: int) -> None:
        """Marks for live sensors that are silent, and for sensors that have not appeared.

        Never for a source that is paused: what it has is only waiting to be asked for.
        """
        devices: Counter[str] = Counter()
        for index, feed in enumerate(self._feeds):
            for name, number in getattr(feed.source, "counts", {}).items():  # a fast lane's own, shared by all
                self.counts[name] = number
            devices.update({f"device.{name}": n for name, n in getattr(feed.source, "counters", {}).items()})
            if not feed.live or index in self._held:
                continue
            for heard in feed.heard.values():
                mark = heard.mark(now_ns)
                if mark is not None:
                    heard.last = mark
                    self._put(feed, index, mark)
                    self.counts["mark.silent"] += 1
        self.counts.update({name: n - self.counts[name] for name, n in devices.items()})  # they only grow
        for mark in self._absent.marks(now_ns):
            self._put(self._feeds[-1], len(self._feeds) - 1, mark)
            self.counts["mark.abandoned"] += 1

    def _put(self, feed: Feed, index: int, message: Input) -> None:
        if not feed.queue:
            heapq.heappush(self._ready, (message.t1_ns, next(self._ties), index))
        feed.queue.append(message)
        size = _size(message)
        feed.bytes += size
        self.waiting_bytes += size

    def take(self, live: bool = False) -> Input | None:
        """The waiting input that lies furthest back in event time; None when nothing waits.

        Args:
            live: leave what can be read again where it is.
        """
        if live:
            first = min((entry for entry in self._ready if not self._feeds[entry[2]].rereadable), default=None)
            if first is None:
                return None
            self._ready.remove(first)
            heapq.heapify(self._ready)
        elif self._ready:
            first = heapq.heappop(self._ready)
        else:
            return None
        index = first[2]
        feed = self._feeds[index]
        message = feed.queue.popleft()
        size = _size(message)
        feed.bytes -= size
        self.waiting_bytes -= size
        if feed.queue:
            heapq.heappush(self._ready, (feed.queue[0].t1_ns, next(self._ties), index))
        return message

    @property
    def exhausted(self) -> bool:
        """Whether nothing waits and nothing more will come."""
        return not self._ready and all(not feed.open and feed.retry_ns < 0 for feed in self._feeds)

    def wake_ns(self, now_ns: int) -> int:
        """When the next source is due."""
        if self._paused:
            return now_ns
        return self._wake[0][0] if self._wake else now_ns + NS

    def errors(self) -> list[str]:
        """What the sources that are down say, and which sensors have never been heard of."""
        down = [feed.error or str(getattr(feed.source, "trouble", "")) for feed in self._feeds]
        silent = [f"machine '{m}', sensor '{s}': nothing usable since the start" for m, s in self._absent.missing]
        return [error for error in dict.fromkeys(down) if error] + silent  # fast lanes share one broker

    def close(self) -> None:
        """Let all sources go."""
        for feed in self._feeds:
            self._close(feed)
