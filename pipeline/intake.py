"""Where inputs wait for their lanes: polls the sources, orders by event time, bounds the bytes, marks the silent.

A source is paused when too much waits, always the one furthest ahead in event time and never the one furthest
behind, so that a join of sensors cannot starve on the one it waits for.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from connectors.base import Resume
from pipeline.errors import SourceError
from pipeline.messages import NS, Chunk, Image, Input, Mark, Stream
from pipeline.topics import STALE_S

RETRY_NS = 5 * NS
MARK_BEHIND_NS = 1 * NS
"""Marks stay this far behind the clock, so that samples still on their way do not come late."""


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
    """One source with what of it waits."""

    __slots__ = ("bytes", "error", "live", "newest_ns", "open", "queue", "retry_ns", "source", "watch")

    def __init__(self, source: Resumable) -> None:
        self.source = source
        self.queue: deque[Input] = deque()
        self.bytes = 0
        self.newest_ns = 0
        self.open = False
        self.live = not source.rereadable
        self.retry_ns = 0
        self.error = ""
        self.watch: dict[str, Watch] = {}


class Watch:
    """When a live stream was last heard of, and how far it is accounted for."""

    __slots__ = ("heard_ns", "last")

    def __init__(self, last: Chunk | Image | Mark, heard_ns: int) -> None:
        self.last = last
        self.heard_ns = heard_ns

    def mark(self, now_ns: int) -> Mark | None:
        """The mark that is due for a stream that has been silent for `STALE_S`, then every second."""
        if now_ns - self.heard_ns < STALE_S * NS:
            return None
        stream, anchor = self.last.stream, self.last.anchor
        upto = anchor.n + (now_ns - MARK_BEHIND_NS - anchor.t_ns) * stream.rate.num // (stream.rate.den * NS)
        if upto - self.last.n1 < stream.rate.hz * 0.9:
            return None
        return Mark(stream, anchor, self.last.n1, upto, "silent")


class Intake:
    """All sources of a process.

    Args:
        sources: to poll.
        queue_bytes: how much may wait, over all sources.
    """

    def __init__(self, sources: Sequence[Resumable], queue_bytes: int) -> None:
        self.counts: Counter[str] = Counter()
        self.waiting_bytes = 0
        self._limit = queue_bytes
        self._feeds = [Feed(source) for source in sources]
        self._ready: list[tuple[int, int, int]] = []  # (event time, tie, feed): feeds with something waiting
        self._wake: list[tuple[int, int]] = []  # (time, feed)
        self._ties = itertools.count()
        self._paused: list[int] = []
        self._resume: Mapping[tuple[str, str], Resume] = {}

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> list[str]:
        """Open all sources; one that cannot be opened is tried again. Returns what went wrong."""
        self._resume = resume
        for index, feed in enumerate(self._feeds):
            self._open(feed, now_ns)
            self._wake.append((now_ns, index))
        heapq.heapify(self._wake)
        return [feed.error for feed in self._feeds if feed.error]

    def _open(self, feed: Feed, now_ns: int) -> None:
        try:
            feed.source.open(self._resume, now_ns)
            feed.open, feed.error = True, ""
        except SourceError as error:
            feed.open, feed.error = False, str(error)
            feed.retry_ns = now_ns + RETRY_NS
            self.counts["source.open_failed"] += 1

    def poll(self, now_ns: int) -> None:
        """Ask every source that is due, unless too much waits already."""
        for index in self._paused:
            heapq.heappush(self._wake, (now_ns, index))
        self._paused = []
        while self._wake and self._wake[0][0] <= now_ns:
            _, index = heapq.heappop(self._wake)
            feed = self._feeds[index]
            if self.waiting_bytes > self._limit and feed.queue:
                self.counts["source.paused"] += 1
                self._paused.append(index)
                continue
            if not feed.open:
                self._retry(feed, now_ns)
            else:
                self._ask(feed, index, now_ns)
            if feed.open and feed.source.exhausted:
                feed.source.close()
                feed.open = False
                feed.retry_ns = -1
            elif feed.retry_ns >= 0:
                due = feed.source.wake_ns(now_ns) if feed.open else feed.retry_ns
                if due <= now_ns and feed.queue:
                    self._paused.append(index)  # more is ready, but first what waits
                else:
                    heapq.heappush(self._wake, (max(due, now_ns + 1), index))

    def _retry(self, feed: Feed, now_ns: int) -> None:
        self._mark_silence(feed, now_ns)
        if now_ns >= feed.retry_ns:
            self._open(feed, now_ns)

    def _ask(self, feed: Feed, index: int, now_ns: int) -> None:
        try:
            messages = feed.source.poll(now_ns)
        except SourceError as error:
            feed.open, feed.error = False, str(error)
            feed.retry_ns = now_ns + RETRY_NS
            feed.source.close()
            self.counts["source.failed"] += 1
            messages = ()
        for message in messages:
            self._put(feed, index, message)
            if feed.live and isinstance(message, Chunk | Image | Mark):
                if isinstance(message, Mark) and message.reason == "end":
                    feed.watch.pop(message.stream.sensor, None)
                else:
                    feed.watch[message.stream.sensor] = Watch(message, now_ns)
        if feed.live:
            self._mark_silence(feed, now_ns, index)

    def _mark_silence(self, feed: Feed, now_ns: int, index: int | None = None) -> None:
        at = self._feeds.index(feed) if index is None else index
        for watch in feed.watch.values():
            mark = watch.mark(now_ns)
            if mark is not None:
                watch.last = mark
                self._put(feed, at, mark)
                self.counts["mark.silent"] += 1

    def _put(self, feed: Feed, index: int, message: Input) -> None:
        if not feed.queue:
            heapq.heappush(self._ready, (message.t1_ns, next(self._ties), index))
        feed.queue.append(message)
        feed.bytes += message.nbytes
        self.waiting_bytes += message.nbytes

    def take(self) -> Input | None:
        """The waiting input that lies furthest back in event time; None when nothing waits."""
        if not self._ready:
            return None
        _, _, index = heapq.heappop(self._ready)
        feed = self._feeds[index]
        message = feed.queue.popleft()
        feed.bytes -= message.nbytes
        self.waiting_bytes -= message.nbytes
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
        """What the sources that are down say."""
        return [feed.error for feed in self._feeds if feed.error]

    def close(self) -> None:
        """Let all sources go."""
        for feed in self._feeds:
            feed.source.close()
