"""Every server of the test kit is brought up and used for real."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition
from PIL import Image
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from .browser import Chromium
from .influxdb import InfluxServer
from .kafka import KafkaCluster, KafkaServer, Security
from .microphone import FakeMicrophone
from .prometheus import AlertmanagerServer, PrometheusServer

_RECORD = """
import pyaudio, sys
audio = pyaudio.PyAudio()
devices = {audio.get_device_info_by_index(i)["name"]: i for i in range(audio.get_device_count())}
stream = audio.open(48000, 2, pyaudio.paInt16, input=True, input_device_index=devices["fakemic"], frames_per_buffer=480)
sys.stdout.buffer.write(b"".join(stream.read(4800) for _ in range(10)))
"""

_PAGE = """
<link rel=icon href=data:,>
<body style="margin: 0; background: #f00"><button onclick="this.textContent = 1; oops()">0</button></body>
"""


def _send(kafka: KafkaServer, value: bytes, **extra: object) -> None:
    producer = KafkaProducer(**kafka.client_settings(), acks="all")
    producer.send("machines", value, key=b"drill-1", partition=0, **extra).get(timeout=30)
    producer.close()


def _read(kafka: KafkaServer, count: int) -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    consumer = KafkaConsumer(**kafka.client_settings(), auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    consumer.assign([TopicPartition("machines", 0)])
    found = [(record.value, list(record.headers)) for _, record in zip(range(count), consumer, strict=False)]
    consumer.close()
    return found


def test_kafka_keeps_records_and_headers_over_kill_and_restart() -> None:
    with KafkaServer(own=True) as kafka:
        bootstrap = kafka.bootstrap
        _send(kafka, b"one", headers=[("ce_id", b"a1")])
        kafka.kill()
        assert not kafka.running
        kafka.start()
        assert kafka.bootstrap == bootstrap
        _send(kafka, b"two")
        assert _read(kafka, 2) == [(b"one", [("ce_id", b"a1")]), (b"two", [])]


def test_kafka_answers_after_a_pause() -> None:
    with KafkaServer(own=True) as kafka:
        kafka.pause()
        with pytest.raises(OSError, match="timed out"):
            kafka.is_ready()
        kafka.resume()
        kafka.wait()
        _send(kafka, b"one")


async def _exchange(value: bytes, count: int, **settings: Any) -> list[bytes]:
    """Send a value to the topic, then read its first values; aiokafka, because kafka-python leaks refused sockets."""
    async with AIOKafkaProducer(**settings, acks="all") as producer:
        await producer.send_and_wait("machines", value, key=b"drill-1")
    async with AIOKafkaConsumer("machines", **settings, auto_offset_reset="earliest") as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def _connect(**settings: Any) -> None:
    producer = AIOKafkaProducer(**settings)
    try:
        await producer.start()
    finally:
        await producer.stop()


def test_kafka_asks_for_certificate_and_password() -> None:
    security = Security(tls=True, client_certificates=True, users={"stethos": "s3cret", "line": "0ther"})
    with KafkaServer(security=security) as kafka:
        settings = {name: value for name, value in kafka.client_settings("line").items() if not name.startswith("ssl_")}
        assert settings["security_protocol"] == "SASL_SSL"
        right = {**settings, "ssl_context": kafka.ssl_context()}
        assert asyncio.run(_exchange(b"one", 1, **right)) == [b"one"]
        for wrong in ({"sasl_plain_password": "wrong"}, {"ssl_context": kafka.ssl_context(certificate=False)}):
            with pytest.raises(KafkaConnectionError):
                asyncio.run(_connect(**{**right, **wrong}))
        _send(kafka, b"two")
        assert [value for value, _ in _read(kafka, 2)] == [b"one", b"two"]


def test_cluster_goes_on_without_a_node() -> None:
    with KafkaCluster(
        3, options={"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
    ) as cluster:
        settings = {"bootstrap_servers": cluster.bootstrap}
        assert asyncio.run(_exchange(b"one", 1, **settings)) == [b"one"]
        cluster.nodes[0].kill()
        assert asyncio.run(_exchange(b"two", 2, **settings)) == [b"one", b"two"]
        cluster.start()
        assert all(node.running for node in cluster.nodes)


def test_influxdb_keeps_points_over_kill_and_restart() -> None:
    with InfluxServer(own=True) as influx:
        with InfluxDBClient(**influx.client_settings()) as client, client.write_api(SYNCHRONOUS) as writer:
            writer.write(influx.bucket, record="score,machine=drill-1 value=0.25")
        influx.kill()
        influx.start()
        influx.write("score,machine=drill-2 value=0.5")
        flux = f'from(bucket: "{influx.bucket}") |> range(start: -1h) |> keep(columns: ["machine", "_value"])'
        assert {row["machine"]: row["_value"] for row in influx.query(flux)} == {"drill-1": 0.25, "drill-2": 0.5}
        other = influx.create_bucket("other", retention_s=3600)
        assert influx.query(f'from(bucket: "{other}") |> range(start: -1h)') == []


def test_prometheus_scrapes_and_alerts(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    Gauge("stethos_test_score", "A number to be scraped.", registry=registry).set(0.75)
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: [{name: g, rules: [{alert: High, expr: stethos_test_score > 0.5}]}]")
    endpoint, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    target = f"127.0.0.1:{endpoint.server_port}"
    try:
        with (
            AlertmanagerServer() as manager,
            PrometheusServer({"stethos": [target]}, rules=[rules], alertmanager=manager.address) as prometheus,
        ):
            sample = prometheus.wait_for("stethos_test_score")[0]
            assert (sample["metric"]["job"], sample["value"][1]) == ("stethos", "0.75")
            prometheus.wait_for('ALERTS{alertname="High", alertstate="firing"}')
            assert [alert["labels"]["alertname"] for alert in prometheus.alerts()] == ["High"]
            rules.write_text("groups: [{name: g, rules: [{record: twice, expr: stethos_test_score * 2}]}]")
            prometheus.reload()
            assert prometheus.wait_for("twice")[0]["value"][1] == "1.5"
            manager.post([{"labels": {"alertname": "Posted"}}])
            assert "Posted" in {alert["labels"]["alertname"] for alert in manager.alerts()}
    finally:
        endpoint.shutdown()
        endpoint.server_close()
        thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _web_server(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_browser_clicks_and_takes_screenshots(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(_PAGE)
    with _web_server(tmp_path) as url, Chromium() as chromium:
        shot = chromium.screenshot(url, tmp_path / "shot.png", width=320, height=200)
        with Image.open(shot) as image:
            assert image.size == (320, 200)
            assert image.convert("RGB").getpixel((300, 190)) == (255, 0, 0)
        assert chromium.errors == []
        tab = chromium.page()
        tab.goto(url)
        tab.click("button")
        assert tab.inner_text("button") == "1"
        assert "oops" in chromium.errors[0]


def test_microphone_is_heard() -> None:
    samples = np.random.default_rng(1).integers(-32768, 32767, (48_000, 2), np.int16)
    with FakeMicrophone(samples) as microphone:
        done = subprocess.run([sys.executable, "-c", _RECORD], env=microphone.env, capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.int16).reshape(-1, 2), samples)
