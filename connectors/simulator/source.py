"""The simulated shop as a source: live at real speed or faster, or as fast as it is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from threading import Event, Thread
from typing import ClassVar

from connectors.base import Resume, Source, SourceMessage
from connectors.simulator.feed import Feed
from connectors.simulator.shop import Shop
from pipeline.errors import SourceError
from pipeline.messages import NS, Stream

_AHEAD_NS = 3 * NS
_PER_POLL_NS = NS
_IDLE_NS = 5_000_000


class ShopSource(Source):
    """Publishes a `Shop`; after a restart it goes on with the very next sample.

    At real speed a thread of its own renders three seconds ahead, so that `poll` never waits for the simulation.

    Args:
        seed: of everything.
        normal_s: no event before.
        duration_s: when the streams end, or None to go on for ever.
        speed: event time per time of the clock; None: as fast as it is read.
    """

    rereadable: ClassVar[bool] = True

    def __init__(
        self, seed: int, *, normal_s: float = 60.0, duration_s: float | None = None, speed: float | None = 1.0
    ) -> None:
        if speed is not None and not speed > 0.0:
            raise ValueError(f"speed must be positive, not {speed}")
        self._seed, self._normal_s, self._duration_s, self._speed = seed, normal_s, duration_s, speed
        self._feed: Feed | None = None
        self._ready: deque[tuple[int, list[SourceMessage]]] = deque()
        self._stop, self._wanted = Event(), Event()
        self._worker: Thread | None = None
        self._failure: Exception | None = None
        self._wall_ns = self._event_ns = self._read_ns = 0
        self._finished = False

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Build the shop (a second or two when the simulator is compiled first) and start its clock; also once more."""
        self.close()
        self._stop.clear()
        self._ready.clear()  # rendered ahead before, but never read: it comes again
        self._failure, self._finished = None, False
        shop = Shop(self._seed, self._normal_s)
        self._feed = Feed(shop, now_ns, resume, self._duration_s)
        self._wall_ns, self._event_ns = now_ns, self._feed.resumed_ns
        self._read_ns = self._event_ns
        if self._speed is not None:
            self._wanted.set()
            self._worker = Thread(target=self._render, args=(self._feed,), name="simulated-shop", daemon=True)
            self._worker.start()
        return self._feed.streams

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """What is due by now, at most a second of event time.

        Raises:
            SourceError: it is not open, or the simulation failed.
        """
        if self._failure is not None:
            raise SourceError(f"the simulated shop stopped: {self._failure}") from self._failure
        if self._feed is None:
            raise SourceError("the simulated shop is not open")
        return self._all() if self._speed is None else self._due(now_ns)

    def wake_ns(self, now_ns: int) -> int:
        """When the next message is due; soon, if it is still being made."""
        if self._speed is None or self.exhausted:
            return now_ns
        if not self._ready:
            return now_ns + _IDLE_NS
        return self._wall_ns + int((self._ready[0][0] - self._event_ns) / self._speed)

    @property
    def exhausted(self) -> bool:
        """Whether all end marks were given."""
        return self._finished and not self._ready

    def close(self) -> None:
        """Stop rendering."""
        self._stop.set()
        self._wanted.set()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def _all(self) -> list[SourceMessage]:
        assert self._feed is not None
        out: list[SourceMessage] = []
        first = self._feed.next_ns
        while first is not None and (t := self._feed.next_ns) is not None and t <= first + _PER_POLL_NS:
            out += self._feed.pop()
        self._finished = self._feed.next_ns is None
        return out

    def _due(self, now_ns: int) -> list[SourceMessage]:
        assert self._speed is not None
        horizon = self._event_ns + int((now_ns - self._wall_ns) * self._speed)
        out: list[SourceMessage] = []
        first: int | None = None
        while self._ready and self._ready[0][0] <= horizon:
            t_ns = self._ready[0][0]
            if first is not None and t_ns > first + _PER_POLL_NS:
                break
            first = t_ns if first is None else first
            out += self._ready.popleft()[1]
            self._read_ns = t_ns
        self._wanted.set()
        return out

    def _render(self, feed: Feed) -> None:
        """Keep the messages of the next seconds ready."""
        try:
            while not self._stop.is_set():
                t_ns = feed.next_ns
                if t_ns is None:
                    break
                if t_ns > self._read_ns + _AHEAD_NS:
                    self._wanted.clear()
                    self._wanted.wait(0.05)
                    continue
                self._ready.append((t_ns, feed.pop()))
            self._finished = feed.next_ns is None
        except Exception as error:  # reported by the next poll
            self._failure = error
