"""What the InfluxDB sink makes of answers that InfluxDB would not give, and of certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from connectors.influxdb import InfluxSink
from connectors.results import RecordsRejected
from pipeline.errors import ConfigError, SinkBusy
from tests.connectors.result_records import T0, score
from tests.servers.certificates import make_certificates

ENDLESS = 1 << 40


@contextmanager
def answering(
    status: int, body: bytes, headers: tuple[tuple[str, str], ...] = (), tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[int]]]:
    """A server that always answers so, its body again and again up to its `Content-Length`: where, and bytes sent."""
    sent: list[int] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            sent.append(0)  # before the answer, which the test may read and go on at once
            self.send_response(status)
            for name, value in headers or (("Content-Length", str(len(body))),):
                self.send_header(name, value)
            self.end_headers()
            try:
                while body and (("Content-Length", str(ENDLESS)) in headers or not sent[-1]):
                    sent[-1] += self.connection.send(body)
            except ConnectionError:
                pass

        def log_message(self, *args: object) -> None:
            pass

    class Web(HTTPServer):
        def handle_error(self, *args: object) -> None:
            pass

    with Web(("127.0.0.1", 0), Answer) as web:
        if tls is not None:
            web.socket = tls.wrap_socket(web.socket, server_side=True)
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield f"http{'' if tls is None else 's'}://127.0.0.1:{web.server_port}", sent
        finally:
            web.shutdown()
            thread.join()


def refused(url: str, kind: type[Exception] = SinkBusy, **more: Path) -> str:
    """What the sink says of a point that it cannot write."""
    with closing(InfluxSink(url, "t0k3n", "o", "b", timeout_s=2.0, **more)) as sink, pytest.raises(kind) as caught:  # type: ignore[arg-type]
        sink.write([score(1, T0, 0.5)])
    return str(caught.value)


@pytest.mark.parametrize("coding", [(), (("Content-Encoding", "gzip"),)])
def test_an_endless_answer_is_cut(coding: tuple[tuple[str, str], ...]) -> None:
    """To one line for people, and a few kB of memory."""
    body = b"<html>\n\x1b[31m  busy\r\n" + b"x" * 100_000
    with answering(503, body, (("Content-Length", str(ENDLESS)), *coding)) as (url, sent):
        text = refused(url)
    assert text.startswith(f"InfluxDB at {url} answers 503: <html> [31m busy xxx")
    assert len(text) < 400 and text.isprintable()
    assert sent[0] < 20_000_000  # what lay between the two


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"code":"unavailable","message":"busy\\nnow"}', "answers 503: busy now"),
        (b"\xff\xfe\xff", "answers 503: \ufffd"),
        (b"[1, 2]", "answers 503: [1, 2]"),
        (b"[" * 10_000, "answers 503: [["),
        (b"", "answers 503: Service Unavailable"),
    ],
)
def test_whoever_answers_is_told(body: bytes, said: str) -> None:
    """A proxy has a language of its own."""
    with answering(503, body) as (url, _):
        assert said in refused(url)


def test_a_server_that_speaks_no_http_is_cut_too() -> None:
    """As of a wrong port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def greet() -> None:
            with listening.accept()[0] as client:
                client.sendall(b"SSH-2.0-" + b"x" * 50_000 + b"\r\n")
                client.recv(65536)

        thread = threading.Thread(target=greet)
        thread.start()
        text = refused(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert "does not answer" in text and "SSH-2.0-xxx" in text and len(text) < 400


@pytest.mark.parametrize("count", ["9" * 5000, "²", "-1"])
def test_a_count_that_is_none_leaves_the_point_refused(count: str) -> None:
    """It may be of any program."""
    with answering(400, f'{{"message":"partial write: dropped={count}"}}'.encode()) as (url, _):
        assert "partial write" in refused(url, RecordsRejected)


def test_a_redirection_is_not_followed() -> None:
    """The token is for this server."""
    with (
        answering(204, b"") as (other, asked),
        answering(302, b"", (("Location", f"{other}/x"), ("Content-Length", "0"))) as (url, _),
    ):
        assert "with 302: Found; results wait, mend the url" in refused(url)
    assert asked == []


def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    """Its certificate is asked for, and no other will do."""
    files = make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.server, files.server_key)
    with answering(204, b"", tls=tls) as (url, asked):
        assert "certificate" in refused(url) and asked == []
        with closing(InfluxSink(url, "t", "o", "b", ca_cert=files.ca)) as sink:
            sink.write([score(1, T0, 0.5)])
        assert asked == [0]
    for wrong in (files.server_key, tmp_path / "gone.pem"):
        with pytest.raises(ConfigError, match=f"the authority {wrong} cannot be used"):
            InfluxSink(url, "t", "o", "b", ca_cert=wrong)


def test_a_login_in_the_url_is_refused_and_not_told() -> None:
    """It would stand in every message."""
    with pytest.raises(ConfigError, match="the url holds a login") as refusal:
        InfluxSink("http://user:hunter2@127.0.0.1:8086", "t", "o", "b")
    assert "hunter2" not in str(refusal.value)
