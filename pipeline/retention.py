"""How long results stay in the durable log."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from pipeline.clock import Clock
from pipeline.contexts import outdated
from pipeline.errors import StateError
from pipeline.messages import NS, Decision
from pipeline.state import JOURNAL_TOPICS, PIECE, Store

EVERY_NS = 60 * NS
PAUSE_S = 0.05
LEAP_NS = 24 * 3600 * NS
DOUBTED_NS = 3600 * NS
"""A box that was off for longer than `LEAP_NS`, or whose clock has leapt, has so long to get its time from a server."""
UNREAD = 10
"""Times as long as others, results stay that a sink has not read: without end, a sink that is away fills the disk."""
TOPICS = (*JOURNAL_TOPICS, "feature", "late", "dlq")


class Retention:
    """Prunes a log once a minute, in a thread of its own: after days off there may be millions of results to drop.

    Args:
        store: with the log.
        keep_h: hours that results stay after they were stored, and after all sinks have read them.
        clock: for the rhythm.
        cursors: names of the sinks' cursors; those of sinks that are no longer configured are forgotten.
        wall_ns: the host's present time, which is put right while a run goes on; readers of the state go by it, too.
    """

    def __init__(
        self,
        store: Store,
        keep_h: float,
        clock: Clock,
        cursors: Sequence[str],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = store.path
        self._keep_ns = round(keep_h * 3600 * NS)
        self._clock, self._wall_ns = clock, wall_ns
        self._began_ns = self._pruned_ns = clock.now_ns()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: StateError | None = None
        self.lost: Counter[str] = Counter()
        """By cursor, results that went before their sink had read them."""
        store.keep_cursors(cursors)

    def mind(self) -> None:
        """Begin to prune, if it is time and the last time is over.

        Raises:
            StateError: the log could not be written the last time.
        """
        now = self._clock.now_ns()
        if now - self._pruned_ns > EVERY_NS and not self.busy:
            self._pruned_ns = now
            error, self._error = self._error, None
            self._thread = threading.Thread(target=self._prune, name="retention", daemon=True)
            self._thread.start()
            if error is not None:
                raise error

    @property
    def busy(self) -> bool:
        """Whether results are being dropped."""
        return self._thread is not None and self._thread.is_alive()

    def join(self) -> None:
        """Wait until what has begun is over."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """End behind the present piece."""
        self._over.set()
        self.join()

    def _prune(self) -> None:
        try:
            store = Store(self._path)
            try:
                if self._plausible(store.pruned_ns()):
                    self.lost.update(store.overtake(self._wall_ns(), UNREAD * self._keep_ns))
                    store.prune(self._wall_ns(), self._keep_ns, TOPICS, lambda: self._over.wait(PAUSE_S))
                    self._forget(store, outdated(store.decisions(), self._keep_ns))
            finally:
                store.close()
        except StateError as error:
            self._error = error

    def _forget(self, store: Store, decisions: list[Decision]) -> None:
        """Piece by piece, as results."""
        for first in range(0, len(decisions), PIECE):
            store.forget(decisions[first : first + PIECE])
            if self._over.wait(PAUSE_S):
                return

    def _plausible(self, pruned_ns: int | None) -> bool:
        """Whether the host's time may be taken for right: not where it has leapt, before anybody could set it right."""
        leapt = pruned_ns is not None and self._wall_ns() - pruned_ns > LEAP_NS
        return not leapt or self._clock.now_ns() - self._began_ns > DOUBTED_NS
