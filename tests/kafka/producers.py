"""Producers that do as a test says, and what tests of the publisher do with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from kafka.errors import InvalidRecordError, InvalidTimestampError, KafkaError, KafkaTimeoutError

from connectors.kafka import KafkaPublisher
from connectors.spool import read

_OPEN = object()


class FakeFuture:
    """Of a record: done when the test says so."""

    def __init__(self) -> None:
        self._outcome: object = _OPEN
        self._tell: Callable[[object], object] | None = None

    def add_both(self, tell: Callable[[object], object]) -> None:
        """As kafka-python's."""
        self._tell = tell
        if self._outcome is not _OPEN:
            tell(self._outcome)

    def done(self, outcome: object) -> None:
        """An error, or anything else for a record that is on the brokers."""
        self._outcome = outcome
        if self._tell is not None:
            self._tell(outcome)


class FakeProducer:
    """Takes records, or not; answers when the test says so."""

    made: ClassVar[list[FakeProducer]] = []

    def __init__(self, **_: object) -> None:
        self.refuses: Exception | None = None
        self.lacks: set[str] = set()  # topics
        self.taken: list[tuple[int, FakeFuture]] = []
        self.stamps: dict[int, int] = {}
        self.born = time.monotonic()
        self._fatal: Exception | None = None
        self._lock = threading.RLock()
        FakeProducer.made.append(self)

    def send(
        self, topic: str, *_: object, headers: list[tuple[str, bytes]], timestamp_ms: int, **__: object
    ) -> FakeFuture:
        """As kafka-python's."""
        if self.refuses is not None:
            raise self.refuses
        if topic in self.lacks:
            raise KafkaTimeoutError("Failed to update metadata after 3.0 secs.")
        number, future = int(dict(headers)["ce_id"]), FakeFuture()
        with self._lock:
            self.stamps[number] = timestamp_ms
            self.taken.append((number, future))
        return future

    def close(self, **_: object) -> None:
        """As kafka-python's: what it still has fails."""
        self.fail(KafkaError("closed"))

    def fail(self, error: Exception) -> None:
        """Give up all that it has taken."""
        with self._lock:
            taken, self.taken = self.taken, []
            for _, future in taken:
                future.done(error)

    def acknowledge(self) -> list[int]:
        """All that it has taken is on the brokers."""
        with self._lock:
            taken, self.taken = self.taken, []
            for _, future in taken:
                future.done(None)
        return [number for number, _ in taken]

    def answer(self, batch: int, limit_ms: int) -> list[int]:
        """As a broker with that limit answers a batch and kafka-python 3.0 hands it on: a bad record fails them all.

        Then the producer is good for nothing more: what else it has fails with the same error.
        """
        with self._lock:
            rows, self.taken = self.taken[:batch], self.taken[batch:]
            bad = [number for number, _ in rows if self.stamps[number] > limit_ms]
            for number, future in rows:
                if self._fatal is not None:
                    future.done(self._fatal)
                elif number in bad:
                    future.done(InvalidTimestampError("it") if len(bad) == 1 else InvalidRecordError("one of several"))
                else:
                    future.done(KafkaError("part of a batch with invalid records") if bad else None)
            if self._fatal is not None or bad:
                self._fatal = self._fatal or InvalidTimestampError("one or more")
                return []
        return [number for number, _ in rows]


def send(publisher: KafkaPublisher, numbers: range, t_ms: int = 1_700_000_000_000, topic: str = "records") -> None:
    """Records with their numbers as ids."""
    for n in numbers:
        value = None if n % 10 == 0 else bytes(5000)
        publisher.publish(topic, b"m", value, [("ce_id", b"%d" % n)], t_ms + n)


def now_ms() -> int:
    """The host's clock."""
    return time.time_ns() // 1_000_000


def wait_for(true: Callable[[], object]) -> None:
    """Until something holds; a minute is for machines that are busy with other things."""
    until = time.monotonic() + 200
    while not true():
        assert time.monotonic() < until
        time.sleep(0.002)


def left_on_disk(folder: Path) -> list[int]:
    """The numbers that the next start will send."""
    return [record.seq for path in sorted(folder.glob("*.mcap")) for record in read(path)]
