"""InfluxDB goes away for ten minutes of event time: nothing is lost, nothing is there twice, nobody else waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from connectors.influxdb import InfluxSink
from pipeline.delivery import BATCH, Delivery
from pipeline.messages import NS, Record
from pipeline.state import Store
from tests.connectors.result_records import T0, alarm, feature, score
from tests.memory import ListSink
from tests.servers.influxdb import InfluxServer

TOPICS = ("score", "feature", "alarm")
MINUTE = 120
"""Scores a minute."""


@pytest.fixture(scope="module")
def influx() -> Iterator[InfluxServer]:
    """A server of our own: it is killed."""
    with InfluxServer(own=True) as server:
        yield server


def results(first_min: int, last_min: int) -> list[Record]:
    """What a detector, a feature and an alarm give from one minute to another."""
    made: list[Record] = []
    for k in range(first_min * MINUTE, last_min * MINUTE):
        t_ns = T0 + k * NS // 2
        made.append(score(0, t_ns, k / 10))
        made.append(feature(0, t_ns, "band_level", {"rms_m_s2": float(k)}))
        if k % 50 == 49:
            made.append(alarm(0, t_ns, "raised", 0, t_ns))
    return made


def rows(server: InfluxServer, bucket: str, measurement: str, field: str) -> list[tuple[int, float]]:
    """All values of a field, by time in nanoseconds."""
    flux = f"""from(bucket: "{bucket}") |> range(start: 1970-01-02T00:00:00Z, stop: 2200-01-01T00:00:00Z)
        |> filter(fn: (r) => r._measurement == "{measurement}" and r._field == "{field}")
        |> map(fn: (r) => ({{r with ns: int(v: r._time)}})) |> group() |> sort(columns: ["ns"])"""
    return [(row["ns"], row["_value"]) for row in server.query(flux)]


class Away(InfluxSink):
    """Loses its server in the middle of a batch: the first part is written, the answer never comes."""

    server: InfluxServer | None = None
    after = 0

    def _deliver(self, lines: Sequence[tuple[Record, str]]) -> list[tuple[Record, str]]:
        refused: list[tuple[Record, str]] = super()._deliver(lines)
        self.after -= 1
        if self.server is not None and self.after == 0:
            self.server.kill()
        return refused


def test_nothing_is_lost_and_nothing_is_there_twice(influx: InfluxServer, tmp_path: Path) -> None:
    """Killed in the middle of a batch, away for ten minutes, delivered by another process when it is back."""
    bucket = influx.create_bucket("ten-minutes")
    store = Store(tmp_path / "state.sqlite")
    store.commit(results(0, 3))

    def delivery() -> tuple[Delivery, Away]:
        sink = Away(influx.url, influx.token, influx.org, bucket, batch_points=100, timeout_s=2.0)
        return Delivery(sink, store.path, TOPICS, "influxdb-0"), sink

    first, sink = delivery()
    first.drain(store)
    assert first.counts["delivered"] == len(results(0, 3))
    store.commit(results(3, 5))
    sink.server, sink.after = influx, 2  # two of five requests of this batch arrive
    wait_s = first.drain(store)
    assert first.counts["busy"] == 1
    assert "does not answer" in first.error
    assert wait_s >= 1.0

    other = ListSink()
    beside = Delivery(other, store.path, TOPICS, "other")
    waits = []
    for minute in range(5, 15):  # ten minutes without it
        store.commit(results(minute, minute + 1))
        waits.append(first.drain(store))
        beside.drain(store)
    assert waits == sorted(waits) and waits[-1] == 30.0  # it asks less and less often
    assert len(other.records) == len(results(0, 15))
    store.prune(0, 1, TOPICS)
    assert store.prune(2, 1, TOPICS) < len(results(0, 5))  # what it has not read stays
    sink.close()

    again, sink = delivery()  # after a restart, from the durable cursor
    assert again.drain(store) >= 1.0
    influx.start()
    again.drain(store)
    assert again.error == ""
    assert first.counts["delivered"] + again.counts["delivered"] == len(results(0, 15))
    assert len(results(3, 15)) > BATCH
    want = [(r.t_ns, r.body["value"]) for r in results(0, 15) if r.topic == "score"]
    assert rows(influx, bucket, "score", "value") == want
    assert len(rows(influx, bucket, "feature", "rms_m_s2")) == len(want)
    assert len(rows(influx, bucket, "alarm", "ordinal")) == len(want) // 50
    sink.close()


def test_records_wait_until_bucket_and_token_are_right(influx: InfluxServer, tmp_path: Path) -> None:
    """Wrong bucket or token: the reason stands in the error, the cursor stands still, and nothing is dropped."""
    store = Store(tmp_path / "state.sqlite")
    store.commit(results(0, 1))
    for token, bucket, word in ((influx.token, "nowhere", "nowhere"), ("wrong", influx.bucket, "401")):
        sink = InfluxSink(influx.url, token, influx.org, bucket)
        delivery = Delivery(sink, store.path, TOPICS, "influxdb")
        assert delivery.drain(store) >= 1.0
        assert delivery.counts == {"busy": 1}
        assert word in delivery.error
        assert "wrong" not in delivery.error
        sink.close()
    mended = Delivery(InfluxSink(influx.url, influx.token, influx.org, influx.bucket), store.path, TOPICS, "influxdb")
    mended.drain(store)
    assert mended.counts == {"delivered": len(results(0, 1))}
