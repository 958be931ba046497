"""The InfluxDB sink on a real InfluxDB 2; its answers to overload on a small HTTP server."""

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from connectors.influxdb import InfluxSink, point
from connectors.results import RecordsRejected
from pipeline.delivery import Delivery
from pipeline.errors import ConfigError, MissingExtra, SinkBusy
from pipeline.messages import NS, Record
from pipeline.state import Store
from tests.connectors.answering import Answering
from tests.connectors.result_records import T0, alarm, dead_letter, feature, health, late, machine_state, score
from tests.servers.influxdb import InfluxServer
from tests.servers.ports import release_port, reserve_port


@pytest.fixture(scope="module")
def influx() -> Iterator[InfluxServer]:
    with InfluxServer() as server:
        yield server


@pytest.fixture
def bucket(influx: InfluxServer, request: pytest.FixtureRequest) -> str:
    return influx.create_bucket(f"{request.node.name}-{time.time_ns()}")


@pytest.fixture
def sink(influx: InfluxServer, bucket: str) -> Iterator[InfluxSink]:
    made = InfluxSink(influx.url, influx.token, influx.org, bucket)
    yield made
    made.close()


def rows(server: InfluxServer, bucket: str, measurement: str, field: str) -> list[dict]:
    """All values of a field with their tags and their time in nanoseconds."""
    flux = f'''from(bucket: "{bucket}") |> range(start: 1970-01-02T00:00:00Z, stop: 2200-01-01T00:00:00Z)
        |> filter(fn: (r) => r._measurement == "{measurement}" and r._field == "{field}")
        |> map(fn: (r) => ({{r with ns: int(v: r._time)}})) |> group() |> sort(columns: ["ns"])'''
    return server.query(flux)


def values(server: InfluxServer, bucket: str, measurement: str, field: str) -> list[tuple[int, Any]]:
    return [(row["ns"], row["_value"]) for row in rows(server, bucket, measurement, field)]


def ten_minutes() -> list[Record]:
    """What one detector, two features and an alarm give in ten minutes."""
    records: list[Record] = []
    for k in range(1200):
        t_ns = T0 + k * NS // 2 + 7
        records.append(score(len(records) + 1, t_ns, k / 10))
        if k % 2 == 0:
            records.append(feature(len(records) + 1, t_ns, "band_level", {"rms_m_s2": float(k)}))
            records.append(feature(len(records) + 1, t_ns, "kurtosis", {"value": 3.0}))
        if k % 100 == 99:
            records.append(alarm(len(records) + 1, t_ns, "raised", 0, t_ns))
    return records


class CursorLoop:
    """What an engine does with a sink: batches behind a cursor that moves only when they are delivered."""

    def __init__(self, sink: InfluxSink, log: Sequence[Record]) -> None:
        self.sink, self.log = sink, log
        self.cursor = 0
        self.waits: list[float] = []

    def step(self, upto: int, batch: int = 200) -> None:
        """Deliver records up to a place in the log, or stop at the first refusal."""
        while self.cursor < upto:
            records = self.log[self.cursor : min(self.cursor + batch, upto)]
            try:
                self.sink.write(records)
            except SinkBusy as busy:
                self.waits.append(busy.retry_after_s)
                return
            self.cursor += len(records)


def test_points_come_back_with_the_windows_end(influx: InfluxServer, sink: InfluxSink, bucket: str) -> None:
    sink.write(
        [score(1, T0 + 123_456_789, 0.5), score(2, T0 + NS, 1.5), late(3, T0, 0, 9, "late"), dead_letter(4, T0, "x")]
    )
    found = rows(influx, bucket, "score", "value")
    assert [(row["ns"], row["_value"]) for row in found] == [(T0 + 123_456_789, 0.5), (T0 + NS, 1.5)]
    assert {(row["machine"], row["sensors"], row["detector"]) for row in found} == {("mill-3", "mic+accel", "chatter")}
    assert values(influx, bucket, "score", "abnormal") == [(T0 + 123_456_789, 0.0), (T0 + NS, 1.0)]
    assert values(influx, bucket, "score", "threshold") == [(T0 + 123_456_789, 1.0), (T0 + NS, 1.0)]
    assert {value for _, value in values(influx, bucket, "score", "settings")} == {"a1b2c3"}


def test_every_topic_becomes_its_measurement(influx: InfluxServer, sink: InfluxSink, bucket: str) -> None:
    sink.write([
        score(1, T0, float("nan"), complete=False),
        feature(2, T0, "band_level", {"rms_m_s2": 1.25, "peak_m_s2": 4, "crest": float("inf")}),
        machine_state(3, T0, "cutting"),
        alarm(4, T0, "raised", 0, T0),
        health(5, T0, "failure", "no_data", "disconnected"),
    ])  # fmt: skip
    assert values(influx, bucket, "score", "value") == []
    assert values(influx, bucket, "score", "complete") == [(T0, 0.0)]
    assert values(influx, bucket, "feature", "rms_m_s2") == [(T0, 1.25)]
    assert values(influx, bucket, "feature", "peak_m_s2") == [(T0, 4.0)]
    assert values(influx, bucket, "feature", "crest") == []
    assert values(influx, bucket, "machine_state", "state") == [(T0, "cutting")]
    assert values(influx, bucket, "alarm", "text") == [(T0, 'Chatter at 812 Hz, "tool 7", 3 × tooth passing')]
    assert values(influx, bucket, "alarm", "alarm") == [(T0, f"mill-3|mic+accel|chatter|{T0}")]
    assert values(influx, bucket, "alarm", "reasons") == [(T0, '{"frequency_hz":812.5}')]
    assert values(influx, bucket, "alarm", "active") == [(T0, 1.0)]
    assert values(influx, bucket, "health", "state") == [(T0, "failure")]
    assert values(influx, bucket, "health", "code") == [(T0, 4.0)]
    assert values(influx, bucket, "health", "reasons") == [(T0, "no_data,disconnected")]


def test_records_of_equal_time_stay_apart(influx: InfluxServer, sink: InfluxSink, bucket: str) -> None:
    sink.write([
        score(1, T0, 0.5),
        score(2, T0, 0.75, detector="bearing"),
        feature(3, T0, "band_level", {"value": 1.0}),
        feature(4, T0, "kurtosis", {"value": 3.0}),
        alarm(5, T0, "cleared", 3, T0 - NS),
        alarm(6, T0, "raised", 0, T0),
        alarm(7, T0, "cleared", 1, T0),
        alarm(8, T0, "raised", 2, T0),
        health(9, T0, "failure", "no_data"),
        health(10, T0, "normal", sensor="accel"),
    ])  # fmt: skip
    assert sorted(value for _, value in values(influx, bucket, "score", "value")) == [0.5, 0.75]
    assert sorted(value for _, value in values(influx, bucket, "feature", "value")) == [1.0, 3.0]
    assert len(values(influx, bucket, "alarm", "ordinal")) == 4
    assert len(values(influx, bucket, "health", "state")) == 2


def test_queries_of_the_guide(influx: InfluxServer, sink: InfluxSink, bucket: str) -> None:
    now_ns = time.time_ns()
    sink.write([score(1, now_ns - NS, 2.5), *(alarm(k, now_ns - k * NS, "raised", 0, now_ns - k * NS) for k in (2, 3))])
    guide = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "influxdb.md").read_text()
    scores, alarms = (
        influx.query(flux.replace('"stethos"', f'"{bucket}"'))
        for flux in re.findall(r"```flux\n(.*?)```", guide, re.DOTALL)
    )
    assert {row["_field"]: row["_value"] for row in scores} == {"value": 2.5, "threshold": 1.0}
    assert [row["alarm"].rpartition("|")[2] for row in alarms] == [str(now_ns - 2 * NS), str(now_ns - 3 * NS)]


def test_repeat_overwrites(influx: InfluxServer, sink: InfluxSink, bucket: str) -> None:
    batch = ten_minutes()[:300]
    for _ in range(3):
        sink.write(batch)
    counts = Counter(record.topic for record in batch)
    for topic, field in (("score", "value"), ("feature", "complete"), ("alarm", "ordinal")):
        assert len(values(influx, bucket, topic, field)) == counts[topic] > 0
    sink.write([score(1, batch[0].t_ns, 42.0)])
    assert values(influx, bucket, "score", "value")[0] == (batch[0].t_ns, 42.0)
    assert len(values(influx, bucket, "score", "value")) == counts["score"]


def test_nothing_is_lost_while_the_server_is_away() -> None:
    log = ten_minutes()
    with InfluxServer(own=True) as server:
        sink = InfluxSink(server.url, server.token, server.org, server.bucket, timeout_s=1.0)
        loop = CursorLoop(sink, log)
        loop.step(len(log) // 3)
        delivered = loop.cursor
        server.kill()
        for upto in range(len(log) // 3, len(log), 400):
            loop.step(upto)
        assert loop.cursor == delivered
        assert loop.waits == [1.0, 2.0, 4.0, 8.0][: len(loop.waits)] != []
        server.start()
        server.pause()  # connections are taken, answers are not given
        loop.step(len(log))
        server.resume()
        waits = len(loop.waits)
        loop.step(len(log))
        sink.close()
        assert loop.cursor == len(log)
        assert len(loop.waits) == waits
        counts = Counter(record.topic for record in log)
        for topic, field in (("score", "value"), ("feature", "complete"), ("alarm", "ordinal")):
            found = values(server, server.bucket, topic, field)
            assert sorted(t for t, _ in found) == sorted(r.t_ns for r in log if r.topic == topic)
            assert len(found) == counts[topic]


def test_wrong_token_holds_the_records_and_is_never_told(
    influx: InfluxServer, bucket: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    sink = InfluxSink(influx.url, "wrong-token-7f3a", influx.org, bucket)
    with pytest.raises(SinkBusy, match="401: unauthorized access; results wait, mend the token") as caught:
        sink.write([score(1, T0, 0.5)])
    assert "wrong-token-7f3a" not in f"{caught.value}{caught.value!r}{caplog.text}{''.join(capfd.readouterr())}{sink!r}"
    sink.close()


def test_records_wait_for_a_missing_bucket(influx: InfluxServer, tmp_path: Path) -> None:
    """Behind the durable cursor: nothing is dropped, and all arrives once somebody has created the bucket."""
    name = f"later-{time.time_ns()}"
    sink = InfluxSink(influx.url, influx.token, influx.org, name)
    path = tmp_path / "state.sqlite"
    with closing(Store(path)) as store:
        store.commit([score(n, T0 + n, n / 10) for n in range(1, 21)])
        delivery = Delivery(sink, path, ("score",), "influxdb")
        assert [delivery.drain(store) for _ in range(3)] == [1.0, 2.0, 4.0]
        assert f'404: bucket "{name}" not found; results wait, create the bucket' in delivery.error
        assert delivery.counts == {"busy": 3}
        influx.create_bucket(name)
        delivery.drain(store)
        assert delivery.error == ""
        assert delivery.counts == {"busy": 3, "delivered": 20}
    assert [t for t, _ in values(influx, name, "score", "value")] == [T0 + n for n in range(1, 21)]
    sink.close()


def test_malformed_point_does_not_take_the_batch_with_it(influx: InfluxServer, sink: InfluxSink, bucket: str) -> None:
    batch = [score(n, T0 + n, n / 10) for n in range(100)]
    broken = score(37, 2**63 - 1, 9.0)  # outside InfluxDB's time range
    lacking = Record(38, "score", "mill-3", T0, "lacking", {"machine": "mill-3"})
    with pytest.raises(RecordsRejected) as caught:
        sink.write([*batch[:37], broken, lacking, *batch[37:]])
    refused = {record.id: reason for record, reason in caught.value.refused}
    assert set(refused) == {broken.id, "lacking"}
    assert "400: unable to parse" in refused[broken.id]
    assert "KeyError" in refused["lacking"]
    assert values(influx, bucket, "score", "value") == [(T0 + n, n / 10) for n in range(100)]


def test_conflicting_field_is_refused_alone(influx: InfluxServer, sink: InfluxSink, bucket: str) -> None:
    influx.write(f'feature,name=other rms="a text" {T0}', bucket=bucket)
    batch = [feature(n, T0 + n, "level", {"rms" if n == 5 else "peak": float(n)}) for n in range(20)]
    with pytest.raises(RecordsRejected, match="field type conflict") as caught:
        sink.write(batch)
    assert [record.id for record, _ in caught.value.refused] == [batch[5].id]
    assert [value for _, value in values(influx, bucket, "feature", "peak")] == [float(n) for n in range(20) if n != 5]


def test_points_beyond_retention_are_named(influx: InfluxServer) -> None:
    now_ns = time.time_ns()
    name = influx.create_bucket(f"short-{now_ns}", retention_s=3600)
    sink = InfluxSink(influx.url, influx.token, influx.org, name)
    with pytest.raises(RecordsRejected, match="refused 10 of 10 records"):
        sink.write([score(n, T0 + n, 0.5) for n in range(10)])
    with pytest.raises(RecordsRejected, match="refused 1 of 3 records"):
        sink.write([score(1, now_ns - NS, 0.5), score(2, T0, 0.5), score(3, now_ns, 0.5)])
    assert len(values(influx, name, "score", "value")) == 2
    sink.close()


def test_awkward_names_survive(influx: InfluxServer, sink: InfluxSink, bucket: str) -> None:
    names = ["Fräse 3, links", "a=b", "back\\slash\\", "line\nbreak", "quote\"'", "日本"]
    sink.write([score(n, T0 + n, float(n), machine=name) for n, name in enumerate(names)])
    found = {row["_value"]: row["machine"] for row in rows(influx, bucket, "score", "value")}
    assert len(found) == len(names)
    for n in (0, 1, 4, 5):
        assert found[float(n)] == names[n]


def test_tags_are_bounded() -> None:
    tags, fields = point(alarm(1, T0 + 9, "raised", 5, T0))
    assert tags == {
        "machine": "mill-3", "sensors": "mic+accel", "detector": "chatter", "transition": "raised", "slot": "5"
    }  # fmt: skip
    assert not set(tags) & set(fields)
    assert all(isinstance(value, float | str) for value in fields.values())
    slots = {point(alarm(n, T0, "raised", n, T0))[0]["slot"] for n in range(100)}
    assert len(slots) == 16


def test_back_off_grows_to_thirty_seconds_and_falls_after_success() -> None:
    port = reserve_port()
    sink = InfluxSink(f"http://127.0.0.1:{port}", "t", "o", "b", timeout_s=1.0)
    waits = []
    for _ in range(7):
        with pytest.raises(SinkBusy, match="does not answer") as caught:
            sink.write([score(1, T0, 0.5)])
        waits.append(caught.value.retry_after_s)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    with Answering([(204, {})], port):
        sink.write([score(1, T0, 0.5)])
    with pytest.raises(SinkBusy) as caught:
        sink.write([score(1, T0, 0.5)])
    assert caught.value.retry_after_s == 1.0
    sink.close()
    release_port(port)


@pytest.mark.parametrize(
    ("status", "headers", "low", "high"),
    [
        (429, {"Retry-After": "17"}, 17, 17),
        (503, {"Retry-After": "99999"}, 600, 600),
        (503, {"Retry-After": "in 100 s"}, 30, 101),
        (503, {"Retry-After": "soon"}, 1, 1),
        (500, {}, 1, 1),
        (408, {}, 1, 1),
    ],
)
def test_wish_of_the_server_is_heard(status: int, headers: dict[str, str], low: float, high: float) -> None:
    if headers.get("Retry-After") == "in 100 s":  # a date, of now and not of when the tests were collected
        headers = {"Retry-After": formatdate(time.time() + 100, usegmt=True)}
    with Answering([(status, headers)]) as server:
        sink = InfluxSink(server.url, "t", "o", "b", gzip=False)
        with pytest.raises(SinkBusy, match=str(status)) as caught:
            sink.write([score(1, T0, 0.5)])
        sink.close()
    assert low <= caught.value.retry_after_s <= high


@pytest.mark.parametrize(
    ("status", "mend"),
    [(401, "mend the token"), (403, "write permission"), (404, "create the bucket"), (301, "mend the url"),
     (402, "proxies"), (405, "proxies"), (407, "proxies"), (431, "proxies")],
)  # fmt: skip
def test_a_fault_of_the_set_up_waits_for_its_mend(status: int, mend: str) -> None:
    """The same batch again, ever later; and then, as if nothing had been."""
    with Answering([(status, {})] * 6 + [(204, {}), (status, {})]) as server:
        sink = InfluxSink(server.url, "t", "o", "b")
        waits, said = [], f"refuses bucket 'b' of 'o' with {status}.*results wait, .*{mend}"
        for _ in range(6):
            with pytest.raises(SinkBusy, match=said) as held:
                sink.write([score(1, T0, 0.5), score(2, T0 + 1, 0.5)])
            waits.append(held.value.retry_after_s)
        assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
        sink.write([score(1, T0, 0.5), score(2, T0 + 1, 0.5)])
        with pytest.raises(SinkBusy) as held:
            sink.write([score(3, T0 + 2, 0.5)])
        assert held.value.retry_after_s == 1.0
        sink.close()


def test_too_large_a_request_is_halved() -> None:
    with Answering([(413, {}), (204, {}), (204, {})]) as server:
        sink = InfluxSink(server.url, "t", "o", "b")
        sink.write([score(1, T0, 0.5), score(2, T0 + 1, 0.5)])
        sink.close()


def test_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "influxdb_client.client.write.point", None)
    with pytest.raises(MissingExtra, match=r"-e .\.\[influxdb\]"):
        InfluxSink("http://localhost:8086", "t", "o", "b")


@pytest.mark.parametrize(
    ("url", "org", "bucket"), [("localhost:8086", "o", "b"), ("http://x", "", "b"), ("http://x", "o", "")]
)
def test_unusable_settings_are_refused(url: str, org: str, bucket: str) -> None:
    with pytest.raises(ConfigError):
        InfluxSink(url, "t", org, bucket)


def test_a_token_of_a_file_ends_without_its_newline_and_is_never_told() -> None:
    with Answering([(204, {})]) as server:
        sink = InfluxSink(server.url, "t0k3n\n", "o", "b")
        sink.write([score(1, T0, 0.5)])
        sink.close()
    with pytest.raises(ConfigError) as refused:
        InfluxSink("http://x", "t0k\n3n", "o", "b")
    assert "t0k" not in str(refused.value)
