"""What the Kafka path of a worker costs, beside plain Faust and plain aiokafka on the same records, in CPU time.

A topic is filled; then bare aiokafka, an empty plain Faust agent and one of our workers each read it to the end as fast
as they can, each in a process of its own. What the lanes take is measured on the same chunks without Kafka, and is
taken off: the rest is what Kafka costs us, decoding and results included. What a worker spends when nothing comes
(heartbeats, rounds, fetches that wait) goes by time, not by events, and is told apart.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.kafka_load import Generator, settings_for
from connectors.kafka import KafkaPublisher
from pipeline.app import plan
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.crew import Crew
from pipeline.runner import Lane
from pipeline.state import Store

IDLE_S = 5.0


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds so far."""
    return float(sum(process.cpu_times()[:2]))


async def client(bootstrap: str, topic: str, count: int) -> None:
    """Bare aiokafka."""
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=2 * 1024 * 1024
    )
    await consumer.start()
    began, events, size = time.process_time(), 0, 0
    while events < count:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            events += len(records)
            size += sum(len(record.value or b"") for record in records)
    _say(began, events, size)
    await consumer.stop()


async def faust(bootstrap: str, topic: str, count: int) -> None:
    """An agent that does nothing."""
    import faust as library

    app = library.App(
        "floor-" + topic, broker="kafka://" + bootstrap, web_enabled=False, topic_disable_leader=True,
        topic_allow_declare=False, value_serializer="raw", key_serializer="raw", datadir="/nonexistent",
        stream_wait_empty=False, stream_buffer_maxsize=64, broker_max_poll_records=12,
        consumer_max_fetch_size=2 * 1024 * 1024,
    )  # fmt: skip
    done, seen = asyncio.Event(), [0, 0, 0.0]

    @app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"))
    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            seen[2] = seen[2] or time.process_time()
            seen[0] += 1
            seen[1] += len(event.message.value or b"")
            if seen[0] == count:
                done.set()

    app.finalize()
    await app.start()
    await done.wait()
    _say(seen[2], int(seen[0]), int(seen[1]))
    await app.stop()


def _say(began: float, events: int, size: int) -> None:
    print(json.dumps({"cpu_s": time.process_time() - began, "events": events, "bytes": size}), flush=True)


def _alone(what: str, bootstrap: str, topic: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.kafka_floor", what, bootstrap, topic, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def lanes_s(generator: Generator, lanes: tuple[Any, ...]) -> float:
    """CPU seconds that the lanes alone take for everything that the generator publishes."""
    made = {lane.machine.name: Lane(lane) for lane in lanes}
    messages = list(generator.messages())
    began = time.process_time()
    for message in messages:
        made[message.stream.machine].process(message)
    return time.process_time() - began


def measure(sensors: int, seconds: float, folder: Path, bootstrap: str) -> dict[str, object]:
    """Fill the topics, read them three times."""
    import config

    made = plan(config.load(settings_for(sensors, bootstrap, folder, "floor.")))
    kafka = Client(made.settings.kafka)
    admin.create(kafka)
    publisher = KafkaPublisher(kafka.settings(), folder / "spool", 4_000_000_000)
    generator = Generator(sensors, seconds, publisher, kafka, paced=False)
    generator.run()
    assert publisher.flush(120), publisher.error
    publisher.close(2)
    topic, count = kafka.topic("raw.acoustic"), generator.published
    bare, plain = (_alone(what, bootstrap, topic, count) for what in ("client", "faust"))
    ours, took, idle = _worker(made, kafka, folder, count)
    lanes = lanes_s(generator, made.lanes)
    path, net = ours - lanes, ours - lanes - idle * took
    per = 1e6 / count
    return {
        "measurement": "path", "events": count, "MiB": round(bare["bytes"] / 2**20, 1),
        "aiokafka_us": round(bare["cpu_s"] * per),
        "aiokafka_ms_per_MiB": round(bare["cpu_s"] * 1e3 * 2**20 / bare["bytes"], 2),
        "faust_us": round((plain["cpu_s"] - bare["cpu_s"]) * per), "lanes_us": round(lanes * per),
        "ours_us": round(ours * per), "path_us": round(path * per), "path_to_floor": round(path / plain["cpu_s"], 2),
        "idle_cores": round(idle, 3), "path_without_idle_us": round(net * per),
        "path_without_idle_to_floor": round(net / plain["cpu_s"], 2),
    }  # fmt: skip


def _worker(made: Any, kafka: Client, folder: Path, count: int) -> tuple[float, float, float]:
    """CPU seconds of one of our workers from its claims to the last record, how long that took, its cores when idle."""
    crew = Crew(made, ["floor"])
    store, collector = Store(folder / "floor.sqlite"), Collector(kafka, folder / "floor.sqlite")
    try:
        while collector.counts["read"] == 0:
            collector.poll(store, 50)
        process = psutil.Process(crew.pids["floor"])
        began, before, last, same = time.monotonic(), cpu_s(process), -1, 0
        while same < 3:
            time.sleep(1.0)
            left = sum(row.lag for row in admin.lags(kafka))
            same = same + 1 if left == last and left < count / 2 else 0
            if same == 0:
                used, took = cpu_s(process) - before, time.monotonic() - began
            last = left
        idle, since = cpu_s(process), time.monotonic()
        time.sleep(IDLE_S)
        return used, took, (cpu_s(process) - idle) / (time.monotonic() - since)
    finally:
        crew.stop()
        collector.close()
        store.close()


if __name__ == "__main__":
    asyncio.run({"client": client, "faust": faust}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4])))
