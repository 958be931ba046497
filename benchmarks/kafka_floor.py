"""What the Kafka path of a worker costs, beside plain Faust and plain aiokafka on the same records, in CPU time.

A topic is filled; then bare aiokafka, an empty plain Faust agent and one of our workers each read it to the end as fast
as they can, each in a process of its own. What the lanes take is told apart by the worker's own thread time; the rest
is what Kafka costs us, decoding, results, snapshots and commits included. What a worker spends when nothing comes
(heartbeats, rounds, fetches that wait) goes by time, not by events, and is told apart, too.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kafka_load import Generator, settings_for
from connectors.kafka import KafkaPublisher
from pipeline.app import plan
from pipeline.clock import HostClock
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.worker import Worker
from pipeline.messages import Input, Result
from pipeline.runner import Lane

IDLE_S = 5.0
SENSORS = 50


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
    """An agent that does nothing; Faust makes folders for tables, though there are none."""
    with tempfile.TemporaryDirectory() as folder:
        await _faust(bootstrap, topic, count, folder)


async def _faust(bootstrap: str, topic: str, count: int, folder: str) -> None:
    import faust as library

    app = library.App(
        "floor-" + topic, broker="kafka://" + bootstrap, web_enabled=False, topic_disable_leader=True,
        topic_allow_declare=False, value_serializer="raw", key_serializer="raw", datadir=folder,
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
    us = 1e6 * (time.process_time() - began) / events
    print(json.dumps({"us": us, "events": events, "bytes": size}), flush=True)


def _alone(what: str, *given: str) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.kafka_floor", what, *given]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return dict(json.loads(done.stdout.splitlines()[-1]))


async def ours(settings: Path, count: int) -> None:
    """One of our workers, the time that its lanes take told apart.

    From the first to the last tenth of the records: what a takeover costs goes by partitions, and plain Faust is timed
    from its first event on, too.
    """
    import config

    made, spent, whole = plan(config.load(settings)), [0.0], Lane.process

    def timed(lane: Lane, message: Input) -> list[Result]:
        began = time.thread_time()
        results = whole(lane, message)
        spent[0] += time.thread_time() - began
        return results

    Lane.process = timed  # type: ignore[method-assign, assignment]
    worker = Worker(made.lanes, Client(made.settings.kafka), HostClock(), "floor")
    task = asyncio.create_task(worker.run())
    points: list[tuple[int, float, float, float]] = []
    while (taken := worker.counts["taken"]) < count and not task.done():
        await asyncio.sleep(0.05)
        if 0.1 * count <= taken <= 0.9 * count:
            points.append((taken, time.process_time(), spent[0], time.monotonic()))
    (n0, cpu0, lanes0, at0), (n1, cpu1, lanes1, at1) = points[0], points[-1]
    await asyncio.sleep(3.0)
    idle = time.process_time()
    await asyncio.sleep(IDLE_S)
    found = {"us": 1e6 * (cpu1 - cpu0) / (n1 - n0), "lanes_us": 1e6 * (lanes1 - lanes0) / (n1 - n0)}
    found |= {"per_s": (n1 - n0) / (at1 - at0), "idle_cores": (time.process_time() - idle) / IDLE_S}
    print(json.dumps(found), flush=True)
    worker.stop()
    await task


def measure(seconds: float, rounds: int, folder: Path, bootstrap: str) -> dict[str, object]:
    """Fill the topics and read them three ways, in each round anew; the medians, and the range of the ratios."""
    found = [_round(f"floor{n}.", seconds, folder, bootstrap) for n in range(rounds)]
    middle = {key: float(np.median([one[key] for one in found])) for key in found[0]}
    ratios = {key: sorted(round(one[key], 2) for one in found) for key in found[0] if key.endswith("to_floor")}
    return {"measurement": "path", "rounds": rounds, **{k: round(v, 3) for k, v in middle.items()}, "range": ratios}


def _round(prefix: str, seconds: float, folder: Path, bootstrap: str) -> dict[str, float]:
    """Microseconds of CPU time per event of each way to read."""
    import config

    settings = settings_for(SENSORS, bootstrap, folder, prefix)
    kafka = Client(config.load(settings).kafka)
    admin.create(kafka)
    publisher = KafkaPublisher(kafka.settings(), folder / f"spool-{prefix}", 4_000_000_000)
    generator = Generator(SENSORS, seconds, publisher, kafka, paced=False)
    generator.run()
    assert publisher.flush(300), publisher.error
    publisher.close(2)
    topic, count = kafka.topic("raw.acoustic"), str(generator.published)
    bare, plain = (_alone(what, bootstrap, topic, count) for what in ("client", "faust"))
    mine = _alone("ours", str(settings), count)
    size, floor, path = bare["bytes"] / bare["events"], plain["us"], mine["us"] - mine["lanes_us"]
    net = path - 1e6 * mine["idle_cores"] / mine["per_s"]
    return {
        "events": generator.published, "bytes_per_event": size, "aiokafka_us": bare["us"],
        "aiokafka_ms_per_MiB": bare["us"] * 1e-3 * 2**20 / size, "faust_us": floor - bare["us"],
        "lanes_us": mine["lanes_us"], "ours_us": mine["us"], "path_us": path, "path_to_floor": path / floor,
        "idle_cores": mine["idle_cores"], "path_without_idle_us": net, "path_without_idle_to_floor": net / floor,
    }  # fmt: skip


def main() -> None:
    """One way to read, in a process of its own."""
    what, *given = sys.argv[1:]
    if what == "ours":
        asyncio.run(ours(Path(given[0]), int(given[1])))
    else:
        asyncio.run({"client": client, "faust": faust}[what](given[0], given[1], int(given[2])))


if __name__ == "__main__":
    main()
