"""The two programs of docs/how-to/tell-the-state.md, as they stand there: what they tell reaches a lane."""

from __future__ import annotations

import re
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import kafka
import pytest
from kafka import KafkaProducer

import config
from config.schema import Kafka
from pipeline import app
from pipeline.clock import HostClock
from pipeline.kafka.client import Client
from pipeline.kafka.intake import take_in
from pipeline.kafka.part import Part
from pipeline.live import Live
from pipeline.messages import Context
from pipeline.replay import open_all
from tests.signals import own_signals

__all__ = ["own_signals"]

ROOT = Path(__file__).parent.parent
BY_KAFKA, BY_REGISTER = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs/how-to/tell-the-state.md").read_text(), re.MULTILINE | re.DOTALL
)
REGISTERS = {100: 1, 101: 8000}
CONFIGURATION = """
schema_version = 1
[engine]
state_dir = "state"
[recording]
folder = "recordings"
[status]
enabled = false
[[machine]]
name = "mill-1"
state_context = "state"
[[machine.sensor]]
name = "microphone"
modality = "acoustic"
rate_hz = 1000
unit = "1"
source = { type = "playback", files = ["tone.csv"] }
"""


def test_a_record_of_kafka_is_a_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, headers and value pass the worker's own decoder; the client takes the partition that the worker reads."""
    sent: list[tuple[str, Any]] = []

    class Producer:
        def __init__(self, **_: object) -> None:
            pass

        def send(self, topic: str, **record: object) -> None:
            sent.append((topic, SimpleNamespace(**record, partition=0, offset=0)))

    monkeypatch.setattr(kafka, "KafkaProducer", Producer)
    program: dict[str, Any] = {}
    exec(compile(BY_KAFKA, "tell-the-state.md", "exec"), program)
    before = time.time_ns()
    program["tell"]("mill-1", "state", "cut")
    program["tell"]("mill-1", "spindle_rpm", 8000)
    part = Part(0, 1, 0, {"mill-1": None})  # type: ignore[dict-item]
    taken = [take_in(topic, record, part) for topic, record in sent]
    facts = [one.message for one in taken]
    assert all(isinstance(fact, Context) and before <= fact.t_ns <= time.time_ns() for fact in facts)
    told = [(fact.machine, fact.name, fact.value) for fact in facts if isinstance(fact, Context)]
    assert told == [("mill-1", "state", "cut"), ("mill-1", "spindle_rpm", 8000)]
    assert not any(one.results for one in taken)
    client = Client(Kafka(partitions=24))
    cluster: Any = SimpleNamespace(
        topics=lambda: {"context"}, partitions_for_topic=lambda _: {*range(24)}, available_partitions_for_topic=list
    )
    for name in ("mill-1", "mill-2", "Fräse 7", "lathe"):
        key = name.encode()
        picked = KafkaProducer.DEFAULT_CONFIG["partitioner"].partition("context", key, key, b"", b"", cluster)
        assert picked == client.partition(name)


class Plc(socketserver.BaseRequestHandler):
    """Answers as MODBUS Application Protocol V1.1b3 and Messaging on TCP/IP V1.0b say: function 3, or exception 2."""

    def handle(self) -> None:
        """Until the client goes."""
        while len(asked := self.request.recv(12)) == 12:
            transaction, protocol, length, unit, function, address, count = struct.unpack(">HHHBBHH", asked)
            assert (protocol, length, function, count) == (0, 6, 3, 1)
            value = REGISTERS.get(address)
            if value is None:
                self.request.sendall(struct.pack(">HHHBBB", transaction, 0, 3, unit, 0x83, 2))
            else:
                self.request.sendall(struct.pack(">HHHBBBH", transaction, 0, 5, unit, 3, 2, value))


@pytest.fixture
def port() -> Iterator[int]:
    """Of a PLC with two registers."""
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Plc) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The second program, not yet run."""
    module = ModuleType("plc")
    exec(compile(BY_REGISTER, "tell-the-state.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "plc", module)
    return module


def test_a_register_of_a_plc_is_a_fact(program: Any, port: int, tmp_path: Path) -> None:
    """Both registers are told, recorded with the samples, and dated by the engine's clock."""
    (tmp_path / "stethos.toml").write_text(CONFIGURATION)
    (tmp_path / "tone.csv").write_text("x\n" + "1\n-1\n" * 1000)
    clock, states = HostClock(), {0: "idle", 1: "cut"}
    state = program.Register(clock, "mill-1", "state", "127.0.0.1", 100, states.get, port)
    speed = program.Register(clock, "mill-1", "spindle_rpm", "127.0.0.1", 101, port=port)
    plan = app.plan(config.load(tmp_path / "stethos.toml"))
    live, begun = Live(plan, clock, sources=[state, speed]), clock.now_ns()
    live.start()

    def heard() -> list[Context]:
        inputs = (
            logged.message for recording in open_all([tmp_path / "recordings"]) for logged in recording.messages()
        )
        return [one for one in inputs if isinstance(one, Context)]

    def second() -> None:
        if {fact.name for fact in heard()} == {"state", "spindle_rpm"}:
            live.engine.stop()

    assert live.run(60.0, second) == []  # ends as soon as both were heard; a busy machine takes longer
    assert {(fact.machine, fact.name, fact.value) for fact in heard()} == {
        ("mill-1", "state", "cut"),
        ("mill-1", "spindle_rpm", 8000.0),
    }
    assert all(begun <= fact.t_ns <= clock.now_ns() for fact in heard())


def test_a_register_that_is_not_there_is_trouble(program: Any, port: int) -> None:
    """And no fact: nothing is judged by what nobody told."""
    source = program.Register(HostClock(), "mill-1", "state", "127.0.0.1", 7, port=port)
    source.open({}, 0)
    until = time.monotonic() + 60.0
    while not source.trouble and time.monotonic() < until:
        assert source.poll(0) == []
    source.close()
    assert source.trouble.startswith("PLC 127.0.0.1: ")
