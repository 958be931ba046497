"""How long results stay in the durable log."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.clock import Clock
from pipeline.messages import NS
from pipeline.state import JOURNAL_TOPICS, Store

EVERY_NS = 60 * NS
TOPICS = (*JOURNAL_TOPICS, "feature", "late", "dlq")


class Retention:
    """Prunes a log once a minute.

    Args:
        store: with the log.
        keep_h: hours that results stay after they were stored, and after all sinks have read them.
        clock: the host's.
        cursors: names of the sinks' cursors; those of sinks that are no longer configured are forgotten.
    """

    def __init__(self, store: Store, keep_h: float, clock: Clock, cursors: Sequence[str]) -> None:
        self._store = store
        self._keep_ns = round(keep_h * 3600 * NS)
        self._clock = clock
        self._pruned_ns = clock.now_ns()
        store.keep_cursors(cursors)

    def mind(self) -> None:
        """Prune, if it is time.

        Raises:
            StateError: the log cannot be written.
        """
        now = self._clock.now_ns()
        if now - self._pruned_ns > EVERY_NS:
            self._pruned_ns = now
            self._store.prune(now, self._keep_ns, TOPICS)
