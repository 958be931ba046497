"""The status page and its JSON, `/metrics`, `/healthz`, and evidence files: a small read-only server on localhost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from pipeline.errors import StateError
from pipeline.evidence import index
from pipeline.messages import NS, Record
from pipeline.roster import Roster
from pipeline.state import Store
from pipeline.states import SHADOW
from pipeline.web import Answer, WebServer

SHOWN = 240
"""Scores of a detector that the page draws: two minutes; fewer where detectors are many."""
STALE_NS = 300 * NS
"""What was stored so long ago says nothing about now; `connectors.prometheus` takes such scores off its page."""
QUIET_S = 120
"""A run that has stored nothing for so long is said to be quiet."""
SHOWN_ALARMS = 50
"""Alarms that the page lists, active ones first."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_TYPES = {
    ".png": "image/png",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".json": "application/json",
    ".jpg": "image/jpeg",
}
_Scores: TypeAlias = dict[str, dict[str, Any]]
"""By machine and "sensors · detector": newest scores first, (t_ns, value, threshold)."""
NOT_FOUND = (HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")


class StatusServer:
    """Serves what the durable state says; changes nothing.

    Args:
        path: of the durable state.
        evidence: folder whose files may be fetched by name.
        metrics: renders the Prometheus text, with its content type.
        alive: whether the engine works.
        host: address to listen on; anything but localhost is the user's own choice.
        port: 0 takes a free one.
        problems: what sources, sinks and the state complain about now.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(
        self,
        path: Path,
        evidence: Path,
        metrics: Callable[[], tuple[bytes, str]],
        alive: Callable[[], bool],
        host: str = "127.0.0.1",
        port: int = 0,
        problems: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._path = path
        self._evidence = evidence
        self._metrics = metrics
        self._alive = alive
        self._problems = problems
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._server = WebServer(self._reply, host, port, ("status.host", "status.port"))
        self.host, self.port, self.address = self._server.host, self._server.port, f"{self._server.address}/"

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()

    def stop(self) -> None:
        """End; readers that are still connected are sent away."""
        self._server.stop()
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _reply(self, path: str, host: str | None) -> Answer:
        try:
            where = urlsplit(path).path
        except ValueError:
            where = ""
        if not self._is_meant(host):
            text = b"this server is for localhost: a proxy before it must send the header `Host: localhost`\n"
            return HTTPStatus.MISDIRECTED_REQUEST, text, "text/plain"
        if where == "/":
            page = resources.files("pipeline").joinpath("status.html").read_bytes()
            return HTTPStatus.OK, page, "text/html; charset=utf-8"
        if where == "/api/status":
            return self._told()
        if where == "/metrics":
            return HTTPStatus.OK, *self._metrics()
        if where in {"/healthz", "/readyz"}:
            fine = self._alive()
            code = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
            return code, b"ok\n" if fine else b"not working\n", "text/plain"
        if where == "/favicon.ico":
            return HTTPStatus.NO_CONTENT, b"", "image/x-icon"
        if where.startswith("/evidence/"):
            return self._file(unquote(where.removeprefix("/evidence/")))
        return NOT_FOUND

    def _is_meant(self, host: str | None) -> bool:
        """Whether a request asks for this server, or was led here by a name whose owner changed its address.

        Such a page of somebody else's (DNS rebinding) would be allowed to read what only this host may.
        """
        if host is None or self.host not in _LOCAL:
            return True
        try:
            return urlsplit(f"//{host}").hostname in _LOCAL
        except ValueError:
            return False

    def _file(self, name: str) -> Answer:
        file = self._evidence / name
        try:
            plain = "/" not in name and not name.startswith(".") and file.suffix in _TYPES
            return (HTTPStatus.OK, file.read_bytes(), _TYPES[file.suffix]) if plain else NOT_FOUND
        except (OSError, ValueError):  # not there, or no name that a file could have
            return NOT_FOUND

    def _told(self) -> Answer:
        try:
            body, code = self.status(), HTTPStatus.OK
        except StateError as error:
            body, code = {"problems": [str(error)]}, HTTPStatus.SERVICE_UNAVAILABLE
        except Exception as error:  # the page shows its reason
            body, code = {"problems": [f"{type(error).__name__}: {error}"]}, HTTPStatus.INTERNAL_SERVER_ERROR
        return code, json.dumps(body).encode(), "application/json"

    def status(self) -> dict[str, Any]:
        """What the page shows: machines with their newest scores, active and past alarms, sensor health.

        Raises:
            StateError: the durable state cannot be read.
        """
        with self._lock:  # one connection for all readers: opening one would write
            self._store = self._store or Store(self._path)
            found = overview(self._store, self._evidence, self._alive())
        return {**found, "problems": list(self._problems())}


def overview(
    store: Store, evidence: Path | None = None, alive: bool | None = None, now_ns: int | None = None
) -> dict[str, Any]:
    """The state of all machines as JSON values, from the durable log and the folder of evidence.

    Args:
        store: the durable state.
        evidence: the folder of evidence.
        alive: whether the engine works, where that is known.
        now_ns: by the host's clock; default: now.

    Returns:
        `machines`: {machine: {"sensors · detector": newest scores first, (t_ns, value, threshold), value None where it
        could not be told}}; `conditions`: {machine: ``alarm``, ``no data``, ``sensor``, ``abnormal``, ``normal`` or
        ``not judged``}; `states`: what models say that machines do, newest of each detector, packages in shadow
        left out; `levels`, `health`, `alarms`, `active`, `evidence`; `alive`; `newest_ns`, event time of the newest
        result; `quiet`: that nothing comes any more, in words.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    roster, old = store.roster(), store.old(now_ns, STALE_NS)
    since = max(old, roster.since)  # what was told before says nothing about now: event times may be of recordings
    heard: dict[str, Record] = {}  # by machine, the newest of its results
    scores, now = _series(store, roster, heard, since)
    levels = _levels(store, heard)
    standing = store.standing()
    health = {(r.machine, r.body["sensor"]): r.body for r in standing if r.topic == "health"}
    shown = _alarms(store, roster, standing)
    active = [a["raised"]["machine"] for a in shown if not a["cleared"]]
    for machine in [*active, *(machine for machine, _ in health)]:
        scores.setdefault(machine, {})
    shown = sorted(shown, key=lambda a: (a["cleared"] is not None, -int(a["raised"]["t_ns"])))[:SHOWN_ALARMS]
    states = _states(store, roster, heard)
    silent = {
        machine: alive is False or (old > roster.since and (machine not in heard or heard[machine].seq <= old))
        for machine in scores
    }
    sensors = {machine: [b["state"] for (m, _), b in health.items() if m == machine] for machine in scores}
    newest = max(heard.values(), key=lambda record: record.seq, default=None)
    return {
        "machines": scores,
        "conditions": {m: condition(m in active, sensors[m], now.get(m, {}), silent[m]) for m in scores},
        "states": states,
        "levels": levels,
        "health": [{"machine": m, "sensor": s, **body} for (m, s), body in sorted(health.items())],
        "alarms": shown,
        "active": len(active),
        "evidence": index(evidence, [a["raised"] for a in shown]) if evidence else {},
        "alive": alive,
        "newest_ns": None if newest is None else newest.t_ns,
        "quiet": "engine stopped" if alive is False else _quiet(store.quiet_ns(now_ns)),
    }


def _series(store: Store, roster: Roster, heard: dict[str, Record], since: int) -> tuple[_Scores, _Scores]:
    """The newest scores of each machine and detector, and those series among them that still grow."""
    scores: _Scores = {machine: {} for machine in roster.sensors}
    now: _Scores = {}
    for record in store.newest_of_each("score", SHOWN):
        _hear(heard, record)
        if record.body["detector"].startswith(SHADOW) or roster.past(record):
            continue
        key = "+".join(record.body["sensors"]) + " · " + record.body["detector"]
        series = scores.setdefault(record.machine, {}).setdefault(key, [])
        if record.seq > since:
            now.setdefault(record.machine, {})[key] = series
        value = record.body["value"] if record.body["complete"] else None
        series.append([record.t_ns, value, record.body["threshold"]])
    return scores, now


def _levels(store: Store, heard: dict[str, Record]) -> dict[str, str]:
    """How loud each sensor is, by its newest feature that tells."""
    levels: dict[str, str] = {}
    for record in sorted(store.newest_of_each("feature"), key=lambda record: -record.seq):
        _hear(heard, record)
        said = level_text(record.body)
        if said:
            levels.setdefault(f"{record.machine}/{'+'.join(record.body['sensors'])}", said)
    return levels


def _alarms(store: Store, roster: Roster, standing: Sequence[Record]) -> list[dict[str, Any]]:
    """Alarms as their transitions, without what stands of things that are no longer configured."""
    alarms: dict[str, dict[str, Any]] = {}
    past: set[str] = set()
    for record in [*(r for r in standing if r.topic == "alarm"), *reversed(store.latest("alarm", 500))]:
        alarm = alarms.setdefault(record.body["alarm"], {"raised": None, "cleared": None})
        alarm[record.body["transition"]] = record.body
        if roster.past(record):
            past.add(record.body["alarm"])
    return [a for name, a in alarms.items() if a["raised"] and (a["cleared"] or name not in past)]


def _hear(heard: dict[str, Record], record: Record) -> None:
    if record.machine not in heard or heard[record.machine].seq < record.seq:
        heard[record.machine] = record


def _quiet(for_ns: int | None) -> str:
    seconds = (for_ns or 0) // NS
    if seconds < QUIET_S:
        return ""
    for unit, name in ((86_400, "days"), (3600, "h")):
        if seconds >= 2 * unit:
            return f"no results for {seconds // unit} {name}"
    return f"no results for {seconds // 60} min"


def _states(store: Store, roster: Roster, heard: dict[str, Record]) -> list[dict[str, Any]]:
    found = []
    for record in store.newest_of_each("machine_state"):
        _hear(heard, record)
        if not (record.body["detector"].startswith(SHADOW) or roster.past(record)):
            found.append(dict(record.body))
    return found


def condition(
    alarmed: bool, sensors: Sequence[str], scores: Mapping[str, Sequence[Sequence[Any]]], silent: bool = False
) -> str:
    """A machine in one word: what a person should look at first.

    Args:
        alarmed: whether one of its alarms is active.
        sensors: NE 107 states of its sensors.
        scores: its newest scores first, by detector.
        silent: whether nothing has come from it for long.
    """
    if alarmed:
        return "alarm"
    if silent or (sensors and all(state == "failure" for state in sensors)):
        return "no data"
    if any(state != "normal" for state in sensors):
        return "sensor"
    judged = [series[0] for series in scores.values() if None not in series[0]]
    if not judged:
        return "not judged"
    return "abnormal" if any(value > threshold for _, value, threshold in judged) else "normal"


def level_text(body: Mapping[str, Any]) -> str:
    """How loud a sensor is, from its feature: decibels as in `operators.levels`, RMS over the axes for vibration."""
    values = body["values"]
    if body["name"] == "level" and values.get("level_db") is not None:
        return f"{values['level_db']:.1f} dB"
    squares = [v * v for k, v in values.items() if k.endswith(".rms") and v is not None]
    return f"{sum(squares) ** 0.5:.4g} rms" if squares else ""
