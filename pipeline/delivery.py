"""From the durable `out` log to a sink: batches, a cursor of the sink's own, back-off while the other side is away.

Nothing is lost while a sink cannot take it: the cursor moves only behind what was delivered. Records that a sink will
never take are counted with the sink's reason and passed over. Nothing that a sink raises ends its delivery: what is no
answer of the sink's is tried again, and a record that breaks it every time is counted as rejected.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from connectors.base import Sink
from pipeline.errors import SinkBusy, SinkRejected, SinkWaits, StethosError
from pipeline.messages import Record
from pipeline.state import Store

POLL_S = 0.1
RETRY_S = 1.0
BATCH = 1000
PASSED_OVER = 1000
"""Places of the log without a record for this sink, behind which its cursor moves on: it would hold the whole log."""
ATTEMPTS = 5
"""So often a single record may break a sink before it is passed over."""


class Delivery:
    """Drives one sink from a thread.

    Args:
        sink: where records go.
        path: of the durable state; the thread opens its own connection.
        topics: which results the sink wants.
        name: for metrics and messages.
        cursor: its name in the state, the same across restarts; default: `name`.
    """

    def __init__(self, sink: Sink, path: Path, topics: Sequence[str], name: str, cursor: str = "") -> None:
        self.counts: Counter[str] = Counter()
        self.error = ""
        self.name = name
        self.cursor = cursor or name
        self._sink = sink
        self._path = path
        self._topics = tuple(topics)
        self._breaks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Deliver what is there, if the sink takes it, and end."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def metrics(self, lags: Mapping[str, int], lost: Mapping[str, int]) -> dict[str, int]:
        """Its counters, with what the state says of its cursor."""
        return {**self.counts, "lag": lags.get(self.cursor, 0), "lost": lost.get(self.cursor, 0)}

    def _run(self) -> None:
        store: Store | None = None
        while True:
            last = self._stop.is_set()
            if last:
                self._sink.ending()
            try:
                store = store or Store(self._path)
                wait_s = self.drain(store)
            except Exception as error:  # the state cannot be read or written for now; a thread that ends says nothing
                self._missed("failed", error)
                wait_s = RETRY_S
            if last:
                break
            self._stop.wait(wait_s)
        self._sink.close()
        if store is not None:
            store.close()

    def drain(self, store: Store) -> float:
        """Deliver all that waits; returns how long to wait before asking again.

        Raises:
            StateError: the log cannot be read, or the cursor not moved.
        """
        after = store.cursor(self.cursor)
        while True:
            last = store.last_seq()  # before reading: what comes meanwhile lies behind it
            records = store.read(after, self._topics, 1 if self._breaks else BATCH)
            if not records:
                if last - after >= PASSED_OVER:
                    store.move_cursor(self.cursor, last)
                return POLL_S
            wait_s = self._give(records)
            if wait_s is not None:
                return wait_s
            after = records[-1].seq
            store.move_cursor(self.cursor, after)

    def _give(self, records: Sequence[Record]) -> float | None:
        """Hand records to the sink; None when it is done with them, else how long to wait before they come again."""
        try:
            self._sink.write(records)
            self.counts["delivered"] += len(records)
            self.error = ""
        except SinkBusy as busy:
            if isinstance(busy, SinkWaits):
                self.error = ""
            else:
                self._missed("busy", busy)
            return max(POLL_S, busy.retry_after_s)
        except SinkRejected as rejected:
            self._reject(len(getattr(rejected, "refused", records)), len(records), rejected)
        except (StethosError, OSError) as error:
            self._missed("failed", error)
            return RETRY_S
        except Exception as error:  # a fault of the sink's: find the record, and do not let it hold up the others
            self._breaks += 1
            if len(records) > 1 or self._breaks < ATTEMPTS:
                self._missed("failed", error)
                return RETRY_S if len(records) == 1 else POLL_S
            self._reject(1, 1, error)
        self._breaks = 0
        return None

    def _reject(self, refused: int, total: int, error: Exception) -> None:
        self.counts["rejected"] += refused
        self.counts["delivered"] += total - refused
        self.error = _said(error)

    def _missed(self, what: str, error: Exception) -> None:
        self.counts[what] += 1
        self.error = _said(error)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, StethosError) else f"{type(error).__name__}: {error}"
