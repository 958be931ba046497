"""One HTTP request to a server of the tests; proxies of the environment are left aside."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit


def request(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> tuple[int, bytes]:
    """The status and the body of an answer.

    Raises:
        OSError: There was no answer.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except HTTPException as error:
        raise ConnectionError(f"{url}: {error!r}") from error
    finally:
        connection.close()


def request_json(
    url: str, value: object = None, *, method: str | None = None, headers: Mapping[str, str] | None = None
) -> Any:
    """The JSON of an answer; with a value, that is posted.

    Raises:
        OSError: There was no answer, or its status was not 2xx.
    """
    body = None if value is None else json.dumps(value).encode()
    fields = {"Content-Type": "application/json", **(headers or {})}
    method = method or ("GET" if body is None else "POST")
    status, answer = request(url, method=method, body=body, headers=fields)
    if not 200 <= status < 300:
        raise ConnectionError(f"{method} {url}: {status} {answer[:500].decode(errors='replace')}")
    return json.loads(answer) if answer.strip() else None
