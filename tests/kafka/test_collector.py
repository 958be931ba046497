"""The reader of results, when the disk of the durable state has trouble."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kafka import TopicPartition

from config.schema import Kafka
from pipeline import codec
from pipeline.errors import StateError
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.records import Fence
from pipeline.messages import Anchor, Chunk, Rate, Stream
from pipeline.state import Store


class Troubled(Collector):
    """One whose results find no room twice."""

    fails = 2

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(Client(Kafka()), path)
        self.raises = error
        self.said: list[str] = []
        self.through = threading.Event()

    def poll(self, store: Store, timeout_ms: int = 200) -> int:
        """Read nothing; the first times, something is wrong."""
        del timeout_ms
        self.said.append(self.error)
        if len(self.said) <= self.fails:
            raise self.raises
        if len(self.said) > self.fails + 1:
            self.through.set()
            self._stop.wait(0.01)
        return 0


@pytest.mark.parametrize(
    ("error", "said"),
    [(StateError("state.sqlite: database or disk is full"),) * 2, (KeyError("x"), "KeyError('x')")],
)
def test_trouble_does_not_end_the_reading_of_results(
    error: Exception, said: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, or what nobody has foreseen: it says so, and takes them in when that is over."""
    monkeypatch.setattr("pipeline.kafka.collector.RETRY_S", 0.01)
    collector = Troubled(tmp_path / "state.sqlite", error)
    collector.start()
    assert collector.through.wait(30)
    collector.stop()
    assert collector.said[:4] == ["", str(said), str(said), ""]
    assert collector.counts["failed"] == (0 if isinstance(error, StateError) else 2)


def test_a_message_of_another_kind_among_embeddings_is_left_out(tmp_path: Path) -> None:
    """Counted; what comes behind it is read."""
    samples: Any = np.zeros((10, 1), "<i2")
    chunk = Chunk(Stream("m", "acc", 0, "vibration", Rate(100), 1, "<i2", "m/s2"), Anchor(0, 0), 0, 0, samples)
    headers, value = codec.encode(chunk)
    collector, tp = Collector(Client(Kafka()), tmp_path / "state.sqlite"), TopicPartition("embedding", 0)
    collector._fences[tp] = Fence()
    assert collector._read("embedding", tp, SimpleNamespace(headers=headers, value=value, offset=3)) is None
    assert collector.counts["unreadable"] == 1
