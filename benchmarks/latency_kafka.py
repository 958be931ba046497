"""Decision latency through Kafka: from the last sample that a decision needs to its result, read from its topic.

A mill, a drill, then both publish chunks of 10 ms in real time, each when it is full, to a real broker; one worker
process runs their lanes as it does in a plant; a reader in this process takes the results from their topics. A
decision's latency is the host's time at which the reader has it, less the time of its last sample: chunk filling,
publisher, broker, worker and reader included. Scores may wait up to 50 ms for each other, alarms go at once. Broker,
worker, publisher and reader share the machine: its load belongs to the figure and stands beside it.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil

import config
from benchmarks.kafka import cpu_s, wait_quiet
from benchmarks.latency_table import NS, table
from connectors.kafka import KafkaPublisher
from pipeline.app import Plan, plan
from pipeline.bodies import parse
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.crew import Crew
from pipeline.kafka.faust_flow import FETCH_WAIT_MS
from pipeline.kafka.feed import publish
from pipeline.messages import Anchor, Chunk, Float32, Rate, Stream
from pipeline.state import Store
from tests.servers.kafka import KafkaServer

with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer, TopicPartition

RATE = 48_000
CHUNK = 479
"""Samples of a chunk, about 10 ms; a prime number, so that chunks end at every place between the detectors' hops."""
WARM_S = 6.0
"""Decisions before are not counted: learning, first fetches."""
AIM_MS = 150.0
SETTLE_S = 3.0
"""So long it waits for the last decisions; processor time is that until the last chunk was published."""
TOML = """schema_version = 1
[kafka]
bootstrap = "{bootstrap}"
group = "{prefix}latency"
prefix = "{prefix}"
partitions = 4
session_timeout_s = 6
[[machine]]
name = "mill"
persistence = {{ clear_after_s = 0 }}
spindle = {{ rpm = 9000, teeth = 3 }}
sensor = [{{ name = "mic", modality = "acoustic", rate_hz = 48000, unit = "FS" }}]
[[machine]]
name = "drill"
persistence = {{ clear_after_s = 0 }}
drill = {{ taught_holes = 2 }}
sensor = [{{ name = "mic", modality = "acoustic", rate_hz = 48000, unit = "FS" }}]
"""
DETECTORS = {"mill": "chatter", "drill": "drill_break"}
RUNS = (("mill",), ("drill",), ("mill", "drill"))


def milling(seconds: float) -> Float32:
    """Tooth passing at 9,000 rpm with three teeth, 0.2 s of air and 0.6 s of chatter in every 1.5 s, noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    into = np.mod(t, 1.5)
    x = 0.004 * np.random.default_rng(1).standard_normal(len(t))
    for k in range(1, 8):
        x += (into > 0.2) * 0.1 / k * np.sin(2 * np.pi * k * 450.0 * t + k)
    for k in (-1, 0, 1):
        x += ((into > 0.75) & (into < 1.35)) * 0.2 * np.sin(2 * np.pi * (922.0 + 450.0 * k) * t)
    return x.astype(np.float32)[:, None]


def drilling(seconds: float) -> Float32:
    """Holes of 0.7 s, one a second; from the fifth on every second one loses its cutting noise half way."""
    t = np.arange(round(seconds * RATE)) / RATE
    hole, into = np.floor(t), np.mod(t, 1.0)
    cutting = (into > 0.15) & (into < np.where((hole >= 4) & (hole % 2 == 0), 0.5, 0.85))
    noise = np.random.default_rng(3).standard_normal(len(t))
    return (np.where(cutting, 0.1, 0.005) * noise).astype(np.float32)[:, None]


Found = dict[tuple[str, str], list[float]]


class Player(threading.Thread):
    """Publishes the signals of machines in real time, each chunk when it is full.

    Args:
        machines: of `DETECTORS`.
        seconds: length of the signals.
        publisher: to Kafka.
        client: names of topics.
    """

    def __init__(self, machines: tuple[str, ...], seconds: float, publisher: KafkaPublisher, client: Client) -> None:
        super().__init__(name="player", daemon=True)
        self.late_s = 0.0
        self.t0_ns = 0
        made = {"mill": milling, "drill": drilling}
        self._signals = {machine: made[machine](seconds) for machine in machines}
        self._publisher, self._client = publisher, client

    def chunks(self) -> list[Chunk]:
        """Of all machines in order of time; a second one's end half a chunk behind the first one's."""
        made = []
        for n, (machine, x) in enumerate(self._signals.items()):
            stream = Stream(machine, "mic", 0, "acoustic", Rate(RATE), 1, "<f4", "FS")
            cuts = [0, *range(1 + n * CHUNK // 2, len(x), CHUNK), len(x)]
            anchor = Anchor(0, self.t0_ns)
            made += [Chunk(stream, anchor, i, seq, x[i:j]) for seq, (i, j) in enumerate(pairwise(cuts))]
        return sorted(made, key=lambda chunk: chunk.t1_ns)

    def run(self) -> None:
        """Publish."""
        self.t0_ns = time.time_ns() + 500_000_000
        for chunk in self.chunks():
            wait = (chunk.t1_ns - time.time_ns()) / NS
            if wait > 0:
                time.sleep(wait)
            self.late_s = max(self.late_s, -wait)
            publish(self._publisher, self._client, chunk)


def decisions(client: Client, player: Player, ended: Callable[[], None]) -> Iterator[tuple[str, str, float, float]]:
    """Detector, kind, time since the start and latency in s of each decision.

    Args:
        client: names of topics.
        player: is started.
        ended: called when it has ended; what follows is waiting for the last decisions.
    """
    topics = [client.topic(name) for name in ("score", "alarm")]
    consumer = KafkaConsumer(
        **client.settings(), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=FETCH_WAIT_MS
    )
    consumer.assign([TopicPartition(topic, n) for topic in topics for n in range(client.kafka.partitions)])
    try:
        consumer.poll(timeout_ms=100)
        player.start()
        since = None
        while since is None or time.monotonic() - since < SETTLE_S:
            if since is None and not player.is_alive():
                since = time.monotonic()
                ended()
            batches = consumer.poll(timeout_ms=20)
            now = time.time_ns()
            for tp, records in batches.items():
                kind = client.row(tp.topic)
                for body in [parse(record.value) for record in records]:
                    if "detector" not in body:
                        continue  # a worker's claim
                    t_ns = body["t_ns" if kind == "alarm" else "t_end_ns"]
                    yield body["detector"], kind, (t_ns - player.t0_ns) / NS, (now - t_ns) / NS
    finally:
        consumer.close()


def measure(
    made: Plan, machines: tuple[str, ...], seconds: float, folder: Path, server: KafkaServer
) -> tuple[Found, dict[str, object]]:
    """Latencies in s by detector and kind of decision, and how busy the machine and its processes were."""
    client = Client(made.settings.kafka)
    admin.create(client)
    crew = Crew(made, ["w0"])
    store, collector = Store(folder / "results.sqlite"), Collector(client, folder / "results.sqlite")
    publisher = KafkaPublisher(client.settings(), folder / "spool", 1_000_000_000)
    player = Player(machines, seconds, publisher, client)
    found: Found = defaultdict(list)
    used: dict[str, float] = {}
    try:
        wait_quiet(collector, store)
        collector.close()
        running = {"worker": crew.pids["w0"], "broker": server.pid, "player_and_reader": os.getpid()}
        processes = {name: psutil.Process(pid) for name, pid in running.items()}
        began, before = time.monotonic(), {name: cpu_s(process) for name, process in processes.items()}

        def count() -> None:
            took = time.monotonic() - began
            used.update((name, round((cpu_s(process) - before[name]) / took, 2)) for name, process in processes.items())

        for detector, kind, at_s, latency_s in decisions(client, player, count):
            if at_s > WARM_S:
                found[detector, kind].append(latency_s)
    finally:
        publisher.close(2)
        crew.stop()
        collector.close()
        store.close()
        admin.remove(client)
    late_ms, load = round(1000 * player.late_s), round(os.getloadavg()[0], 1)
    return found, {"player_late_ms": late_ms, "cores_used": used, "load": load, "cores": os.cpu_count()}


def measure_all(seconds: float) -> None:
    """Both detectors alone and together, scores and alarms, through one broker and one worker."""
    with tempfile.TemporaryDirectory() as name, KafkaServer(own=True) as server:
        for number, machines in enumerate(RUNS):
            folder = Path(name) / str(number)
            folder.mkdir()
            (folder / "latency.toml").write_text(TOML.format(bootstrap=server.bootstrap, prefix=f"r{number}."))
            made = plan(config.load(folder / "latency.toml"))
            found, busy = measure(made, machines, seconds, folder, server)
            for detector in [DETECTORS[machine] for machine in machines]:
                for kind in ("score", "alarm"):
                    table(
                        found[detector, kind], latency=detector, way="kafka", decision=kind, machines=len(machines),
                        rate_hz=RATE, chunk_ms=10, aim_ms=AIM_MS, **busy,
                    )  # fmt: skip
