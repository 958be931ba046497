"""Who may take a partition over, and from where: newer workers, older ones, logs that retention has shortened."""

from __future__ import annotations

import asyncio
import time
import warnings
from contextlib import closing
from pathlib import Path

from pipeline.kafka import admin
from pipeline.kafka.outbox import Outbox
from pipeline.kafka.records import FORM, Claim, claim_out
from tests.kafka.plant import PATIENCE_S, WORKER, Running, plant
from tests.servers.kafka import KafkaServer

with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, TopicPartition

WIDE = f"""
import asyncio
from faust.transport.consumer import Consumer
seek, fetch = Consumer.perform_seek, Consumer._wait_next_records
async def late_seek(self):
    await asyncio.sleep(3.0)
    await seek(self)
async def long_fetch(self, timeout):
    return await fetch(self, 6.0)
Consumer.perform_seek, Consumer._wait_next_records = late_seek, long_fetch
{WORKER}
"""
"""A worker in which Faust takes seconds for what takes it milliseconds."""


async def _write(running: Running, claim: Claim) -> None:
    outbox = Outbox(running.client, lambda: False)
    await outbox.write([claim_out(running.client.topic("decision"), claim)])
    await outbox.close()


def test_a_worker_refuses_to_join_newer_ones(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """A claim of a form that it does not know: it ends with a reason before it disturbs the group."""
    with Running(plant(1, 4.0, False), broker, tmp_path, prefix) as running:
        asyncio.run(_write(running, Claim(1, "newer", 1, 0, form=FORM + 1)))
        running.start("w0")
        assert running.workers["w0"].wait(PATIENCE_S) == 2
        assert f"'newer' writes form {FORM + 1}, this one reads up to {FORM}" in running.log()
        assert " partitions in " not in running.log()


def test_a_newer_worker_takes_over_from_older_ones(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """What older claims do not say is no hindrance: a group is upgraded one worker after another."""
    with Running(plant(1, 8.0, False), broker, tmp_path, prefix) as running:
        for number in range(running.partitions):
            asyncio.run(_write(running, Claim(number, "older", 1, 0, form=FORM - 1)))
        running.start("w0")
        running.publish_all()
        running.check()


def test_a_worker_joins_before_anything_was_committed(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """A fetch that waits while the group changes brings the first records, and Faust drops them.

    It seeks back to committed offsets. There are none yet, so nothing but the beginning of the log tells of the hole.
    """
    with Running(plant(), broker, tmp_path, prefix, program=WIDE) as running:
        running.start("w0")
        running.wait_ready("w0")
        running.start("w1")
        while "because it is rebalancing" not in running.log():
            time.sleep(0.02)
        running.publish_all()
        assert all(lag.committed is None for lag in admin.lags(running.client))
        running.check()


def test_what_retention_has_removed_is_counted_and_work_goes_on(
    broker: KafkaServer, prefix: str, tmp_path: Path
) -> None:
    """A worker is away so long that the log no longer has the offset at which it would go on."""
    with Running(plant(1, 16.0, False), broker, tmp_path, prefix, more={"health_port": 0}) as running:
        messages = running.plant.messages
        first, missed = len(messages) * 4 // 10, len(messages) * 7 // 10
        running.start("w0")
        running.publish_all(messages[:first])
        running.wait_settled("w0")
        running.kill("w0")
        running.publish_all(messages[first:missed])
        forgotten = _forget(broker, running)
        running.start("w0")
        running.publish_all(messages[missed:])
        running.wait_done()
        assert running.log().count("are no longer there") == forgotten == 2
        t_ns = [r.t_ns for r in running.results() if r.topic == "score"]
        gone = (messages[first].t1_ns, messages[missed].t1_ns)
        assert min(t_ns) < gone[0] and max(t_ns) > gone[1] + 3_000_000_000
        assert not [t for t in t_ns if gone[0] + 1_500_000_000 < t < gone[1]]
        expected = {r.id for r in running.plant.expected if r.topic == "score" and r.t_ns > gone[1] + 3_000_000_000}
        assert expected == {r.id for r in running.results() if r.topic == "score" and r.t_ns > gone[1] + 3_000_000_000}


def _forget(broker: KafkaServer, running: Running) -> int:
    """Remove all raw records that are there; returns from how many partitions some were removed."""
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        names = ("raw.acoustic", "raw.vibration")
        tps = [TopicPartition(running.client.topic(row), n) for row in names for n in range(running.partitions)]
        ends = {tp: at.offset for tp, at in admin.list_partition_offsets(dict.fromkeys(tps, -1)).items()}
        admin.delete_records({tp: end for tp, end in ends.items() if end})
    return sum(end > 0 for end in ends.values())
