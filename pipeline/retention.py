"""How long results stay in the durable log."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from pipeline.clock import Clock
from pipeline.errors import StateError
from pipeline.messages import NS, Decision
from pipeline.state import JOURNAL_TOPICS, PIECE, Store

EVERY_NS = 60 * NS
PAUSE_S = 0.05
UNREAD = 10
"""Times as long as others, results stay that a sink has not read: without end, a sink that is away fills the disk."""
TOPICS = (*JOURNAL_TOPICS, "feature", "late", "dlq")


class Retention:
    """Prunes a log once a minute, in a thread of its own: behind a sink that was away lie millions of results to drop.

    Results age while an engine runs. The host's clock may be years off until a server has set it right, in any run and
    either way: what it leaps, and what lies between two runs, is no age.

    Args:
        store: with the log.
        keep_h: hours that results stay after they were stored; longer where a sink has not read them.
        clock: never leaps; for the rhythm, and for what the host's time has leapt.
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
        self._ahead_ns: int | None = None
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
                wall_ns = self._redated(store)
                self.lost.update(store.overtake(wall_ns, UNREAD * self._keep_ns))
                store.prune(wall_ns, self._keep_ns, TOPICS, lambda: self._over.wait(PAUSE_S))
                self._forget(store, store.outdated(self._keep_ns))
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

    def _redated(self, store: Store) -> int:
        """The host's present time, to which the log's times have been moved."""
        wall_ns = self._wall_ns()
        ahead_ns = wall_ns - self._clock.now_ns()
        if self._ahead_ns is None and (pruned_ns := store.pruned_ns()) is not None:
            self._ahead_ns = pruned_ns - self._began_ns
        if self._ahead_ns is not None and abs(ahead_ns - self._ahead_ns) >= NS:
            store.redate(ahead_ns - self._ahead_ns)
        self._ahead_ns = ahead_ns
        return wall_ns
