"""The status page and its JSON, `/metrics`, `/healthz`, and evidence files: a small read-only server on localhost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.evidence import index
from pipeline.state import Store

_POLICY = "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_TYPES = {
    ".png": "image/png",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".json": "application/json",
    ".jpg": "image/jpeg",
}


class StatusServer:
    """Serves what the durable state says; changes nothing.

    Args:
        path: of the durable state.
        evidence: folder whose files may be fetched by name.
        metrics: renders the Prometheus text, with its content type.
        alive: whether the engine works.
        host: address to listen on; anything but localhost is the user's own choice.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        path: Path,
        evidence: Path,
        metrics: Callable[[], tuple[bytes, str]],
        alive: Callable[[], bool],
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._path = path
        self._evidence = evidence
        self._metrics = metrics
        self._alive = alive
        self._local = threading.local()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_args: Any) -> None:
                """Stay quiet: the terminal belongs to the machines."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.host, self.port = str(self._server.server_address[0]), int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One GET."""
        where = urlsplit(request.path).path
        if where == "/":
            page = resources.files("pipeline").joinpath("status.html").read_bytes()
            _send(request, HTTPStatus.OK, page, "text/html; charset=utf-8")
        elif where == "/api/status":
            _send(request, HTTPStatus.OK, json.dumps(self.status()).encode(), "application/json")
        elif where == "/metrics":
            body, kind = self._metrics()
            _send(request, HTTPStatus.OK, body, kind)
        elif where in {"/healthz", "/readyz"}:
            fine = self._alive()
            code = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
            _send(request, code, b"ok\n" if fine else b"not working\n", "text/plain")
        elif where.startswith("/evidence/"):
            self._file(request, unquote(where.removeprefix("/evidence/")))
        else:
            _send(request, HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")

    def _file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        file = self._evidence / name
        if "/" in name or name.startswith(".") or file.suffix not in _TYPES or not file.is_file():
            _send(request, HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")
            return
        _send(request, HTTPStatus.OK, file.read_bytes(), _TYPES[file.suffix])

    def status(self) -> dict[str, Any]:
        """What the page shows: machines with their newest scores, active and past alarms, sensor health."""
        return overview(self._store(), self._evidence)

    def _store(self) -> Store:
        if not hasattr(self._local, "store"):
            self._local.store = Store(self._path)
        store: Store = self._local.store
        return store


def overview(store: Store, evidence: Path | None = None) -> dict[str, Any]:
    """The state of all machines as JSON values, from the durable log and the folder of evidence."""
    machines: dict[str, dict[str, Any]] = {}
    for record in store.latest("score", 2000):
        key = "+".join(record.body["sensors"]) + " · " + record.body["detector"]
        series = machines.setdefault(record.machine, {}).setdefault(key, [])
        if len(series) < 240:
            series.append([record.t_ns, record.body["value"], record.body["threshold"]])
    levels: dict[str, str] = {}
    for record in store.latest("feature", 500):
        where = f"{record.machine}/{'+'.join(record.body['sensors'])}"
        said = level_text(record.body)
        if said:
            levels.setdefault(where, said)
    health = {(r.machine, r.body["sensor"]): r.body for r in reversed(store.latest("health", 1000))}
    alarms: dict[str, dict[str, Any]] = {}
    for record in reversed(store.latest("alarm", 500)):
        alarm = alarms.setdefault(record.body["alarm"], {"raised": None, "cleared": None})
        alarm[record.body["transition"]] = record.body
    shown = [a for a in alarms.values() if a["raised"]]
    return {
        "machines": machines,
        "levels": levels,
        "health": [{"machine": m, "sensor": s, **body} for (m, s), body in sorted(health.items())],
        "alarms": sorted(shown, key=lambda a: -int(a["raised"]["t_ns"]))[:50],
        "active": sum(1 for a in shown if not a["cleared"]),
        "evidence": index(evidence) if evidence else {},
    }


def level_text(body: Mapping[str, Any]) -> str:
    """How loud a sensor is, from its feature: decibels of full scale for sound, RMS over the axes for vibration."""
    values = body["values"]
    if body["name"] == "level" and values.get("level_db") is not None:
        return f"{values['level_db']:.1f} dBFS"
    squares = [v * v for k, v in values.items() if k.endswith(".rms") and v is not None]
    return f"{sum(squares) ** 0.5:.4g} rms" if squares else ""


def _send(request: BaseHTTPRequestHandler, code: HTTPStatus, body: bytes, kind: str) -> None:
    try:
        request.send_response(code)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Cache-Control", "no-store")
        request.send_header(
            "Content-Security-Policy", "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
        )
        request.send_header("X-Content-Type-Options", "nosniff")
        request.end_headers()
        request.wfile.write(body)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the reader went away
