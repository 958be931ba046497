"""Results into InfluxDB 2 over its v2 write API: one measurement per topic, stamped with the window's end.

Points of equal measurement, tag set and time overwrite each other, so a record that is written twice stands there once
(https://docs.influxdata.com/influxdb/v2/write-data/best-practices/duplicate-points/). Tags are bounded: machine,
sensors, detector or name. What has as many values as there are settings or alarms is a field. Several features at one
time differ by the tag `name`; several transitions of one alarm at one time by `transition` and `slot`.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from gzip import compress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import orjson

from connectors.base import Sink
from connectors.results import RecordsRejected, number, sensors_of
from pipeline.errors import ConfigError, MissingExtra, SinkBusy
from pipeline.messages import Record

Tags = dict[str, str]
Fields = dict[str, float | str]
Line = tuple[Record, str]
Refusal = tuple[Record, str]

SLOTS = 16
"""Transitions of one alarm at one time and of one kind that are told apart; the tag has this many values."""

HEALTH_CODES = {
    "normal": 0.0,
    "maintenance_required": 1.0,
    "out_of_specification": 2.0,
    "check_function": 3.0,
    "failure": 4.0,
}
"""NAMUR NE 107 states as numbers for graphs, worse is higher."""

_ACTIVE = {"raised": 1.0, "cleared": 0.0}
_LONGEST_FIELD = 32_000  # characters; InfluxDB 2 refuses strings above 64 KiB, and escapes may double the length
_POINT_FAULTS = frozenset({400, 413, 422})  # the fault may lie in single points
_WAITING = frozenset({408, 425, 429})  # with every 5xx: later may be better
_MENDS = {
    401: "mend the token",
    403: "give the token write permission on the bucket",
    404: "create the bucket, or mend bucket and org",
    **dict.fromkeys((301, 302, 303, 307, 308), "mend the url: it leads elsewhere (https instead of http?)"),
}
_MEND = "look at the url, and at proxies on the way"
"""Faults of the set-up, not of the records, which wait until a person has mended it, on the server or by a restart."""
_LONGEST_WAIT_S = 30.0
_LONGEST_WISH_S = 600.0
_LONGEST_ANSWER = 16_384  # bytes that are read of one
_LONGEST_TEXT = 300  # characters of the server's that a message tells


def point(record: Record) -> tuple[Tags, Fields]:
    """Tags and fields of the point that a record becomes; its measurement is the topic, its time the record's.

    Raises:
        KeyError: the body lacks what a result of this topic must have.
        TypeError: a part of the body has the wrong type.
    """
    return _POINTS[record.topic](record.body)


def _score(body: Mapping[str, Any]) -> tuple[Tags, Fields]:
    value, threshold = number(body["value"]), number(body["threshold"])
    complete = bool(body.get("complete", True))
    fields: Fields = {"complete": float(complete), "settings": str(body["settings"])}
    fields |= _numbers({"value": value, "threshold": threshold})
    if complete and value is not None and threshold is not None:
        fields["abnormal"] = float(value > threshold)
    return _condition(body), fields


def _feature(body: Mapping[str, Any]) -> tuple[Tags, Fields]:
    tags = {"machine": str(body["machine"]), "sensors": sensors_of(body), "name": str(body["name"])}
    return tags, {**_numbers(body["values"]), "complete": float(bool(body.get("complete", True)))}


def _machine_state(body: Mapping[str, Any]) -> tuple[Tags, Fields]:
    fields: Fields = {"state": str(body["state"]), "settings": str(body["settings"])}
    return _condition(body), fields | _numbers({"probability": body.get("probability")})


def _alarm(body: Mapping[str, Any]) -> tuple[Tags, Fields]:
    transition, ordinal, raised_ns = str(body["transition"]), int(body["ordinal"]), int(body["raised_ns"])
    tags = {**_condition(body), "transition": transition, "slot": str(ordinal % SLOTS)}
    fields: Fields = {key: str(body[key]) for key in ("alarm", "severity", "text", "settings")}
    fields |= _numbers({"value": body["value"], "threshold": body["threshold"], "active": _ACTIVE.get(transition)})
    fields |= {"ordinal": float(ordinal), "raised_s": raised_ns / 1e9}
    reasons = orjson.dumps(body.get("reasons") or {}, option=orjson.OPT_SORT_KEYS).decode()
    if len(reasons) <= _LONGEST_FIELD:
        fields["reasons"] = reasons
    return tags, fields


def _health(body: Mapping[str, Any]) -> tuple[Tags, Fields]:
    state = str(body["state"])
    tags = {"machine": str(body["machine"]), "sensor": str(body["sensor"])}
    fields: Fields = {"state": state, "reasons": ",".join(body["reasons"]), "epoch": float(body["epoch"])}
    return tags, {**fields, "code": HEALTH_CODES[state]}


_POINTS = {"score": _score, "feature": _feature, "machine_state": _machine_state, "alarm": _alarm, "health": _health}


def _condition(body: Mapping[str, Any]) -> Tags:
    return {"machine": str(body["machine"]), "sensors": sensors_of(body), "detector": str(body["detector"])}


def _numbers(values: Mapping[str, Any]) -> Fields:
    """The finite ones; a field's type must never change, so whole numbers become floats too."""
    return {key: finite for key, value in values.items() if (finite := number(value)) is not None}


class _Refused(Exception):
    """The server refused a request because of its points."""

    def __init__(self, reason: str, dropped: int | None) -> None:
        super().__init__(reason)
        self.dropped = dropped


class InfluxSink(Sink):
    """Writes results to one bucket, synchronously and without a buffer of its own: the engine owns the cursor.

    Args:
        url: ``http://host:8086`` or ``https://…``.
        token: API token with write permission on the bucket; it appears in no message and no log.
        org: organisation, name or id.
        bucket: bucket, name or id.
        timeout_s: longest wait for one answer, in seconds.
        batch_points: points per request.
        gzip: compress requests.
        ca_cert: certificate file of the authority that signed the server's certificate, if it is one of your own.

    Raises:
        MissingExtra: the package influxdb-client is not installed.
        ConfigError: `url`, `token`, `org`, `bucket` or `ca_cert` cannot be used.
    """

    name: ClassVar[str] = "influxdb"

    def __init__(
        self,
        url: str,
        token: str,
        org: str,
        bucket: str,
        *,
        timeout_s: float = 10.0,
        batch_points: int = 5000,
        gzip: bool = True,
        ca_cert: Path | None = None,
    ) -> None:
        try:
            import urllib3
            from influxdb_client.client.write.point import Point
        except ImportError as error:
            raise MissingExtra("influxdb", "the InfluxDB sink") from error
        if not url.startswith(("http://", "https://")) or not org or not bucket:
            raise ConfigError("InfluxDB needs a url that starts with http:// or https://, an org and a bucket")
        if "@" in url:
            raise ConfigError("InfluxDB: the url holds a login: take it out, writers are known by their token")
        token = token.strip()  # files of secrets end with a newline
        if not token.isascii() or not token.isprintable():
            raise ConfigError("InfluxDB: the token holds characters that no HTTP header can carry")
        self._where = f"InfluxDB at {url}"
        self._org, self._bucket, self._batch_points = org, bucket, max(1, batch_points)
        self._point: Any = Point
        self._transport_errors = (urllib3.exceptions.HTTPError, OSError)
        self._failures = 0
        try:
            context = ssl.create_default_context(cafile=ca_cert) if url.startswith("https") else None
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"{self._where}: the authority {ca_cert} cannot be used: {error}") from None
        self._pool: Any = urllib3.PoolManager(timeout=urllib3.Timeout(total=timeout_s), ssl_context=context)
        self._url = f"{url.rstrip('/')}/api/v2/write?{urlencode({'org': org, 'bucket': bucket, 'precision': 'ns'})}"
        self._headers = {"Authorization": f"Token {token}", "Content-Type": "text/plain; charset=utf-8"}
        self._gzip = gzip
        if gzip:
            self._headers["Content-Encoding"] = "gzip"

    def write(self, records: Sequence[Record]) -> None:
        """Write all records; a batch that holds unusable points is halved until only those are left out.

        Raises:
            SinkBusy: no connection, no answer in time, 408, 429 or 5xx, or a fault of the set-up that a person can mend
                while the records wait (a redirection, every other 4xx; the text says how); `retry_after_s` is the
                server's wish or grows from 1 s to 30 s with each failure.
            RecordsRejected: some points were refused with 400, 413 or 422, all others were written.
        """
        lines, refused = self._lines(records)
        for start in range(0, len(lines), self._batch_points):
            refused += self._deliver(lines[start : start + self._batch_points])
        if refused:
            raise RecordsRejected(self._where, refused, len(records))

    def close(self) -> None:
        """Let the connections go."""
        self._pool.clear()

    def _lines(self, records: Sequence[Record]) -> tuple[list[Line], list[Refusal]]:
        lines: list[Line] = []
        refused: list[Refusal] = []
        for record in records:
            if record.topic not in _POINTS:
                continue
            try:
                lines.append((record, self._line(record)))
            except (KeyError, TypeError, ValueError) as error:
                refused.append((record, f"no {record.topic}: {type(error).__name__} {error}"))
        return lines, refused

    def _line(self, record: Record) -> str:
        """The record in line protocol, https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/."""
        tags, fields = point(record)
        made = self._point(record.topic).time(int(record.t_ns))
        for tag, label in tags.items():
            made.tag(tag, label)
        for field, value in fields.items():
            made.field(field, value)
        return str(made.to_line_protocol())

    def _deliver(self, lines: Sequence[Line]) -> list[Refusal]:
        """Write the lines; return those that the server refuses even alone."""
        try:
            self._post("\n".join(line for _, line in lines).encode())
        except _Refused as error:
            if len(lines) == 1 or error.dropped == len(lines):
                return [(record, str(error)) for record, _ in lines]
            half = len(lines) // 2
            return self._deliver(lines[:half]) + self._deliver(lines[half:])
        return []

    def _post(self, body: bytes) -> None:
        try:
            answer = self._pool.request(
                "POST",
                self._url,
                body=compress(body, 6) if self._gzip else body,
                headers=self._headers,
                retries=False,  # the engine repeats; urllib3 would sleep on Retry-After by itself
                redirect=False,
                preload_content=False,
            )
            told = answer.read(_LONGEST_ANSWER, decode_content=False)
            answer.close()  # with what is left of it
        except self._transport_errors as error:
            raise SinkBusy(f"{self._where} does not answer: {_line(str(error))}", self._back_off()) from error
        except ValueError:  # of the request itself; its text may quote a header, and with it the token
            raise SinkBusy(f"{self._where} cannot be asked: mend the url", self._back_off()) from None
        if not 200 <= answer.status < 300:
            message = _line(_message(told)) or _line(str(answer.reason))
            self._raise_for(answer.status, message, _dropped(told), answer.headers.get("Retry-After"))
        self._failures = 0

    def _raise_for(self, status: int, message: str, dropped: int | None, retry_after: str | None) -> None:
        if status in _WAITING or status >= 500:
            wait_s = max(self._back_off(), _seconds(retry_after))
            raise SinkBusy(f"{self._where} answers {status}: {message}", wait_s)
        refusal = f"{self._where} refuses bucket '{self._bucket}' of '{self._org}' with {status}: {message}"
        if status in _POINT_FAULTS:
            self._failures = 0
            raise _Refused(f"{status}: {message}", dropped)
        raise SinkBusy(f"{refusal}; results wait, {_MENDS.get(status, _MEND)}", self._back_off())

    def _back_off(self) -> float:
        wait_s = min(_LONGEST_WAIT_S, 2.0 ** min(self._failures, 10))
        self._failures += 1
        return wait_s


def _seconds(retry_after: str | None) -> float:
    """The server's wish in seconds, given as seconds or as a date (RFC 9110, 10.2.3); 0 without a readable one."""
    if not retry_after:
        return 0.0
    try:
        wish = float(retry_after)
    except ValueError:
        try:
            wish = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(wish, 0.0), _LONGEST_WISH_S)


def _message(told: bytes) -> str:
    """What an answer says: the `message` of InfluxDB's JSON, or the text of whoever else answered."""
    try:
        return str(orjson.loads(told)["message"])
    except (ValueError, TypeError, KeyError):
        return told.decode(errors="replace")


def _line(text: str) -> str:
    """A server's text as one line that a message can hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_LONGEST_TEXT]


def _dropped(told: bytes) -> int | None:
    """How many points a partial write left out, from ``partial write: … dropped=3``."""
    found = re.search(rb"dropped=(\d{1,9})(?!\d)", told)
    return int(found[1]) if found else None
