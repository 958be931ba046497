"""The reader of results, when the disk of the durable state has trouble."""

from __future__ import annotations

import threading
from pathlib import Path

from config.schema import Kafka
from pipeline.errors import StateError
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.state import Store


class Troubled(Collector):
    """One whose results find no room twice."""

    fails = 2

    def __init__(self, path: Path) -> None:
        super().__init__(Client(Kafka()), path)
        self.said: list[str] = []
        self.through = threading.Event()

    def poll(self, store: Store, timeout_ms: int = 200) -> int:
        """Read nothing; the first times, into a state that is full."""
        del timeout_ms
        self.said.append(self.error)
        if len(self.said) <= self.fails:
            raise StateError(f"{store.path}: database or disk is full")
        if len(self.said) > self.fails + 1:
            self.through.set()
            self._stop.wait(0.01)
        return 0


def test_a_full_disk_does_not_end_the_reading_of_results(tmp_path: Path) -> None:
    """It says so, and takes them in when there is room."""
    collector = Troubled(tmp_path / "state.sqlite")
    collector.start()
    assert collector.through.wait(30)
    collector.stop()
    full = f"{tmp_path / 'state.sqlite'}: database or disk is full"
    assert collector.said[:4] == ["", full, full, ""]
