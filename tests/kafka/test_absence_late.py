"""Sensors without a connector as a worker sees them that reads late: what is live, what is an old recording."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import config
from config.schema import Kafka
from pipeline import codec
from pipeline.app import STATE_FILE
from pipeline.clock import ManualClock
from pipeline.kafka import letters
from pipeline.kafka.absence import Absence
from pipeline.kafka.client import Client
from pipeline.kafka.part import Part
from pipeline.kafka.records import SENT, Out
from pipeline.messages import NS, Anchor, Chunk, Health, Mark, Record
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import chunks, machine, normal_noise, stream

ACC = stream("acc", "vibration", 2000)
NOW = 1_700_000_000 * NS
SECONDS = 5.0
MACHINE = """[[machine]]
name = "m"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = 2000
unit = "g"
"""


class Watch:
    """An absence watch over one machine, whose log is read to its end."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.lane = Lane(LaneSettings(machine(ACC)))
        self.part = Part(0, 1, 1, {"m": self.lane})
        self.written: list[Out] = []
        self.health: list[str] = []
        broker: Any = self
        self.watch = Absence(
            Client(Kafka()), broker, broker, self.clock, {0: self.part}, lambda _: True, Counter()
        )  # fmt: skip

    async def ends(self, names: list[str], _: int) -> dict[str, int]:
        """As the reader's."""
        return dict.fromkeys(names, 0)

    async def write(self, outs: list[Out]) -> None:
        """As the outbox's; what is written comes back from the topic."""
        for out in outs:
            message = codec.decode(out.headers, out.value)
            assert isinstance(message, Mark)
            self.hear(message, None)
            self.written.append(out)

    def hear(self, message: Chunk | Mark, sent_ns: int | None) -> None:
        """The lane takes a message in."""
        self.health += [r.state for r in self.lane.process(message) if isinstance(r, Health)]
        self.watch.heard(self.part, message, sent_ns)

    def play(self, began_ns: int, sent_ns: int | None) -> None:
        """Some seconds of samples, published `sent_ns` behind their time."""
        for message in chunks(ACC, normal_noise(ACC, SECONDS, 1), anchor=Anchor(0, began_ns)):
            assert isinstance(message, Chunk)
            self.hear(message, None if sent_ns is None else message.t1_ns + sent_ns)

    def wait(self, seconds: int) -> None:
        """Nothing comes for so long."""
        for _ in range(seconds):
            self.clock.sleep(1.0)
            asyncio.run(self.watch._round(self.part))


@pytest.mark.parametrize("late_s", [0, 59, 61, 3600])
def test_a_live_sensor_that_is_read_late_is_given_up(late_s: int) -> None:
    """The workers were away while its connector died, or its clock is behind."""
    watch = Watch()
    watch.play(NOW - round((late_s + SECONDS) * NS), NS // 10)
    watch.wait(20)
    assert watch.health == ["normal", "failure"]
    first = codec.decode(watch.written[0].headers, watch.written[0].value)
    assert isinstance(first, Mark) and first.n0 == SECONDS * 2000 and first.t1_ns > NOW


@pytest.mark.parametrize("sent_s", [61, 86_400])
def test_an_old_recording_is_not(sent_s: int) -> None:
    """However fast it is published and read; without the publisher's word, reading tells."""
    for told in (sent_s * NS, None):
        watch = Watch()
        watch.play(NOW - round((sent_s + SECONDS) * NS), told)
        watch.wait(20)
        assert watch.health == ["normal"] and not watch.written


def test_who_was_given_up_stays_so_for_the_next_owner() -> None:
    """However long nobody owned the partition: its marks go on where they ended."""
    watch = Watch()
    watch.play(NOW - round(SECONDS * NS), NS // 10)
    watch.wait(20)
    last = codec.decode(watch.written[-1].headers, watch.written[-1].value)
    assert isinstance(last, Mark)
    heir = Watch()
    heir.clock.sleep(7200.0)
    heir.hear(replace(last, anchor=last.anchor), None)
    heir.wait(3)
    marks = [codec.decode(out.headers, out.value) for out in heir.written]
    assert marks and isinstance(marks[0], Mark) and marks[0].n0 == last.n1


def test_a_dead_letter_on_its_way_back_does_not_say_when_it_was_first_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sensor may have ended since: it must not look live."""
    sent: list[tuple[str, bytes]] = []
    publisher: Any = SimpleNamespace(
        publish=lambda *told: sent.extend(told[3]),
        flush=lambda _: True,
        close=lambda _: None,
        error="",
        counts={"published": 1},
    )
    monkeypatch.setattr(letters, "KafkaPublisher", lambda *_: publisher)
    (tmp_path / "c.toml").write_text(f'schema_version = 1\n[engine]\nstate_dir = "{tmp_path}"\n{MACHINE}')
    headers = [[name, base64.b64encode(value).decode()] for name, value in (("ce_id", b"0.1"), (SENT, b"17"))]
    store = Store(tmp_path / STATE_FILE)
    store.commit(
        [Record(0, "dlq", "m", 1, "x", {"topic": "raw.vibration", "machine": "m", "headers": headers, "value": ""})]
    )
    (letter,) = store.read(0, ("dlq",))
    store.close()
    letters.retry(config.load(tmp_path / "c.toml"), letter.seq)
    assert sent == [("ce_id", b"0.1")]
