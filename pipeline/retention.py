"""How long results stay in the durable log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from pipeline.clock import Clock
from pipeline.messages import NS
from pipeline.state import JOURNAL_TOPICS, Store

EVERY_NS = 60 * NS
UNREAD = 10
"""Times as long as others, results stay that a sink has not read: without end, a sink that is away fills the disk."""
TOPICS = (*JOURNAL_TOPICS, "feature", "late", "dlq")


class Retention:
    """Prunes a log once a minute.

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
        self._store = store
        self._keep_ns = round(keep_h * 3600 * NS)
        self._clock, self._wall_ns = clock, wall_ns
        self._pruned_ns = clock.now_ns()
        self.lost: Counter[str] = Counter()
        """By cursor, results that went before their sink had read them."""
        store.keep_cursors(cursors)

    def mind(self) -> None:
        """Prune, if it is time.

        Raises:
            StateError: the log cannot be written.
        """
        now = self._clock.now_ns()
        if now - self._pruned_ns > EVERY_NS:
            self._pruned_ns = now
            self.lost.update(self._store.overtake(self._wall_ns(), UNREAD * self._keep_ns))
            self._store.prune(self._wall_ns(), self._keep_ns, TOPICS)
