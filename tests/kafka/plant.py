"""A small plant on Kafka: machines with three sensors each, a join, alarms with delays, and what must come out."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from config.schema import Kafka
from connectors.kafka import KafkaPublisher
from models.anomaly.store import save_all
from pipeline.journal import write_journal
from pipeline.journal_compare import compare
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.feed import publish
from pipeline.messages import NS, Anchor, Chunk, Context, Input, Mark, Record
from pipeline.stages import LaneSettings
from pipeline.state import JOURNAL_TOPICS, Store
from tests.engines.hostile import run_straight
from tests.engines.scenarios import T0, baseline_of, chunks, end, machine, normal_noise, stream
from tests.servers.kafka import KafkaCluster, KafkaServer

PATIENCE_S = 200.0
"""For what takes seconds: the machine may be busy with other things."""

WORKER = "from pipeline.cli.main import main; main()"


@dataclass(frozen=True)
class Plant:
    """Configuration, and what each machine's sensors publish."""

    toml: str
    logs: dict[str, dict[str, list[Input]]]
    expected: tuple[Record, ...]
    baselines: tuple[Any, ...] = ()

    @property
    def messages(self) -> list[Input]:
        """Everything in the order of event time, as a shop floor publishes it."""
        flat = [m for log in self.logs.values() for messages in log.values() for m in messages]
        return sorted(flat, key=lambda m: m.t1_ns)


def _named(message: Any, name: str) -> Input:
    if isinstance(message, Context):
        return replace(message, machine=name)
    return replace(message, stream=replace(message.stream, machine=name))


@cache
def plant(machines: int = 3, seconds: float = 16.0, sensor_dies: bool = True) -> Plant:
    """Machines with a microphone and two accelerometers, joined; loud for some seconds; one loses a sensor."""
    mic, acc, aux = stream("mic", "acoustic", 16000), stream("acc", "vibration", 2000), stream("aux", "vibration", 4000)
    logs: dict[str, dict[str, list[Input]]] = {}
    expected: list[Record] = []
    baselines: list[Any] = []
    parts = []
    for number in range(machines):
        name = f"machine-{number}"
        made = machine(mic, acc, aux, align=True).model_copy(update={"name": name})
        own = {s.sensor: replace(baseline_of(s), machine=name) for s in (mic, acc)}
        settings = LaneSettings(made, {k: b.settings for k, b in own.items()}, {b.settings: b for b in own.values()})
        loud = (4.0 + number, 8.0 + number)
        log = {
            s.sensor: chunks(s, normal_noise(s, seconds, 10 * number + k, loud)) for k, s in enumerate((mic, acc, aux))
        }
        log = {s: [*messages, end(messages[0].stream, messages[-1].n1)] for s, messages in log.items()}
        if sensor_dies and number == 1:
            log["aux"] = _dies(log["aux"], seconds)
        log = {s: [_named(m, name) for m in messages] for s, messages in log.items()}
        logs[name] = log
        expected += run_straight(settings, log)
        baselines += own.values()
        parts.append(name)
    return Plant(_toml(parts), logs, tuple(expected), tuple(baselines))


def _dies(messages: list[Input], seconds: float) -> list[Input]:
    kept = messages[: len(messages) * 6 // 10]
    last = kept[-1]
    assert isinstance(last, Chunk)
    rate = round(last.stream.rate.hz)
    upto = round(seconds) * rate
    marks = [Mark(last.stream, last.anchor, n, min(n + rate, upto), "silent") for n in range(last.n1, upto, rate)]
    return [*kept, *marks, Mark(last.stream, last.anchor, upto, upto, "end")]


def _toml(names: Iterable[str]) -> str:
    lines = ["schema_version = 1"]
    for name in names:
        lines += [f'[[machine]]\nname = "{name}"\nalign = true\n[machine.persistence]\nclear_after_s = 2.0']
        for sensor, modality, rate, unit, known in (
            ("mic", "acoustic", 16000, "FS", True),
            ("acc", "vibration", 2000, "m/s2", True),
            ("aux", "vibration", 4000, "m/s2", False),
        ):
            lines += [
                f'[[machine.sensor]]\nname = "{sensor}"\nmodality = "{modality}"\nrate_hz = {rate}\nunit = "{unit}"'
            ]
            if known:
                lines += ['baseline = "baselines"']
    return "\n".join(lines) + "\n"


def journal_hash(records: Iterable[Record], folder: Path) -> str:
    """SHA-256 of the canonical journal."""
    return write_journal([r for r in records if r.topic in JOURNAL_TOPICS], folder / "journal.jsonl", {})


@dataclass
class Running:
    """A plant on a broker: worker processes, a publisher, a collector."""

    plant: Plant
    kafka: KafkaServer | KafkaCluster
    folder: Path
    prefix: str
    partitions: int = 4
    session_s: float = 2.0
    more: dict[str, Any] = field(default_factory=dict)
    program: str = WORKER
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        save_all(list(self.plant.baselines), self.folder / "baselines")
        self.section = {
            "bootstrap": self.kafka.bootstrap, "group": f"{self.prefix}group", "prefix": self.prefix,
            "partitions": self.partitions, "raw_retention_h": 1e6, "session_timeout_s": self.session_s,
            "rebalance_timeout_s": 6.0, **self.more,
        }  # fmt: skip
        self.client = Client(Kafka.model_validate(self.section))
        admin.create(self.client)
        self._publisher: KafkaPublisher | None = None
        self.store = Store(self.folder / "results.sqlite")
        self.collector = Collector(self.client, self.folder / "results.sqlite")

    def config(self, name: str) -> Path:
        """The configuration file of a worker."""
        path = self.folder / f"{name}.toml"
        section = {**self.section, "instance_id": name}
        lines = [f"{key} = {_toml_value(value)}" for key, value in section.items()]
        path.write_text(self.plant.toml.replace("[[machine]]", "[kafka]\n" + "\n".join(lines) + "\n[[machine]]", 1))
        return path

    def start(self, *names: str, static: bool = True) -> None:
        """Start worker processes."""
        for name in names:
            config = self.config(name)
            if not static:
                config.write_text(config.read_text().replace(f'instance_id = "{name}"\n', ""))
            arguments = ["run", "--engine", "kafka", "--role", "worker", "--name", name, "--config", str(config)]
            with (self.folder / f"{name}.log").open("ab") as log:
                self.workers[name] = subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-c", self.program, *arguments], stdout=log, stderr=log
                )

    def times_ready(self, name: str) -> int:
        """How often a worker has said that it has taken its partitions over."""
        path = self.folder / f"{name}.log"
        return path.read_text().count(" partitions in ") if path.exists() else 0

    def wait_ready(self, *names: str, more_than: int = 0, timeout_s: float = PATIENCE_S) -> None:
        """Wait until workers have taken partitions over, more often than `more_than`."""
        until = time.monotonic() + timeout_s
        while not all(self.times_ready(name) > more_than for name in names):
            assert time.monotonic() < until, self.log()
            assert all(self.workers[name].poll() is None for name in names), self.log()
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.workers[name].kill()
        self.workers[name].wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Any signal."""
        self.workers[name].send_signal(number)

    def log(self) -> str:
        """The ends of all workers' logs."""
        return "\n".join(f"--- {p.name}\n{p.read_text()[-3000:]}" for p in sorted(self.folder.glob("*.log")))

    @property
    def publisher(self) -> KafkaPublisher:
        """Made when it is needed."""
        if self._publisher is None:
            self._publisher = KafkaPublisher(self.client.settings(), self.folder / "spool", 1_000_000_000)
        return self._publisher

    def publish(self, messages: Sequence[Input], speed: float = 0.0) -> Iterator[Input]:
        """Send messages, at `speed` times real time; yields each one behind its sending."""
        began, first = time.monotonic(), messages[0].t1_ns
        for message in messages:
            if speed:
                wait = began + (message.t1_ns - first) / NS / speed - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
            publish(self.publisher, self.client, message)
            yield message

    def publish_beside(self, speed: float) -> threading.Thread:
        """Publish the plant's messages from a thread; joined by `published`."""
        thread = threading.Thread(target=lambda: list(self.publish(self.plant.messages, speed)))
        thread.start()
        return thread

    def published(self, thread: threading.Thread) -> None:
        """Wait until the thread of `publish_beside` has sent everything and the broker has it."""
        thread.join()
        assert self.publisher.flush(PATIENCE_S), (self.publisher.error, self.publisher.metrics())

    def publish_all(self, messages: Sequence[Input] | None = None, speed: float = 0.0) -> None:
        """Send everything and wait until the broker has it."""
        for _ in self.publish(self.plant.messages if messages is None else messages, speed):
            pass
        assert self.publisher.flush(PATIENCE_S), self.publisher.error

    def wait_done(self, timeout_s: float = PATIENCE_S) -> float:
        """Wait until the workers have acknowledged all; returns the seconds it took."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            left = [lag for lag in admin.lags(self.client) if lag.lag > 0]
            if not left:
                return time.monotonic() - began
            for name, process in self.workers.items():
                assert process.poll() in {None, 0, -signal.SIGKILL, -signal.SIGTERM}, f"{name} ended\n{self.log()}"
            time.sleep(0.2)
        raise AssertionError(f"not done: {left}\n{self.log()}")

    def metrics(self, name: str) -> dict[str, float]:
        """A worker's numbers by name; it needs `health_port`, and topics are summed up."""
        found = re.findall(r"health at (http://[0-9.:]+)", (self.folder / f"{name}.log").read_text())
        assert found, self.log()
        numbers: dict[str, float] = {}
        with urllib.request.urlopen(found[-1] + "/metrics", timeout=30) as answer:
            for line in answer.read().decode().splitlines():
                if not line.startswith("#"):
                    key, value = line.rsplit(" ", 1)
                    key = key.split("{")[0].removeprefix("stethos_kafka_")
                    numbers[key] = numbers.get(key, 0.0) + float(value)
        return numbers

    def wait_settled(self, name: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until one worker has taken everything in and has made a checkpoint behind it.

        What open windows at the ends of logs need stays unacknowledged.
        """
        until = time.monotonic() + timeout_s
        self.wait_ready(name)
        total = sum(lag.end for lag in admin.lags(self.client))
        while (now := self.metrics(name))["taken_total"] < total or now["unwritten_results"]:
            assert time.monotonic() < until, (now, total, self.log())
            time.sleep(0.3)
        done = time.monotonic()
        while self.metrics(name)["checkpoint_age_seconds"] > time.monotonic() - done:
            assert time.monotonic() < until, self.log()
            time.sleep(0.3)

    def results(self) -> list[Record]:
        """All results, overwritten by id."""
        assert self.collector.drain(self.store)
        return list(self.store.read(0, (*JOURNAL_TOPICS, "feature", "late", "dlq"), 1_000_000))

    def journal(self) -> str:
        """Hash of the journal of all results."""
        return journal_hash(self.results(), self.folder)

    def check(self) -> None:
        """The journal is the undisturbed run's, and no alarm is in it twice."""
        self.wait_done()
        records = self.results()
        alarms = [r.id for r in records if r.topic == "alarm"]
        assert sorted(alarms) == sorted(r.id for r in self.plant.expected if r.topic == "alarm")
        write_journal([r for r in records if r.topic in JOURNAL_TOPICS], self.folder / "found.jsonl", {})
        write_journal([r for r in self.plant.expected if r.topic in JOURNAL_TOPICS], self.folder / "expected.jsonl", {})
        different = compare(self.folder / "found.jsonl", self.folder / "expected.jsonl")
        assert different.identical, f"{different.to_text()}\n{self.log()}"

    @property
    def expected(self) -> str:
        """Hash of the undisturbed run's journal."""
        return journal_hash(self.plant.expected, self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._publisher is not None:
            self._publisher.close(2)
        for process in self.workers.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        self.collector.close()
        self.store.close()


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else f'"{value}"'


def shuffled(messages: Sequence[Input], seed: int) -> list[Input]:
    """Now and then a message comes again; chunks never overtake within their sensor."""
    rng = random.Random(seed)
    return [m for message in messages for m in [message] * (2 if rng.random() < 0.05 else 1)]


__all__ = ["T0", "Anchor", "Plant", "Running", "journal_hash", "np", "plant", "shuffled"]
