"""From the durable `out` log to a sink: batches, a cursor of the sink's own, back-off while the other side is away.

Nothing is lost while a sink cannot take it: the cursor moves only behind what was delivered. Records that a sink will
never take are counted with the sink's reason and passed over.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from connectors.base import Sink
from pipeline.errors import SinkBusy, SinkRejected, StethosError
from pipeline.state import Store

POLL_S = 0.1
BATCH = 1000


class Delivery:
    """Drives one sink from a thread.

    Args:
        sink: where records go.
        path: of the durable state; the thread opens its own connection.
        topics: which results the sink wants.
        name: of the cursor; stays the same across restarts.
    """

    def __init__(self, sink: Sink, path: Path, topics: Sequence[str], name: str) -> None:
        self.counts: Counter[str] = Counter()
        self.error = ""
        self.name = name
        self._sink = sink
        self._path = path
        self._topics = tuple(topics)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Deliver what is there, if the sink takes it, and end."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        store = Store(self._path)
        try:
            while True:
                last = self._stop.is_set()
                wait_s = self.drain(store)
                if last:
                    return
                self._stop.wait(wait_s)
        finally:
            self._sink.close()
            store.close()

    def drain(self, store: Store) -> float:
        """Deliver all that waits; returns how long to wait before asking again."""
        after = store.cursor(self.name)
        while True:
            records = store.read(after, self._topics, BATCH)
            if not records:
                store.move_cursor(self.name, after)
                return POLL_S
            try:
                self._sink.write(records)
                self.counts["delivered"] += len(records)
                self.error = ""
            except SinkBusy as busy:
                self.counts["busy"] += 1
                self.error = str(busy)
                return max(POLL_S, busy.retry_after_s)
            except SinkRejected as rejected:
                refused = getattr(rejected, "refused", records)
                self.counts["rejected"] += len(refused)
                self.counts["delivered"] += len(records) - len(refused)
                self.error = str(rejected)
            except StethosError as error:
                self.counts["failed"] += 1
                self.error = str(error)
                return 1.0
            after = records[-1].seq
            store.move_cursor(self.name, after)
