"""W3C Trace Context in record headers: from the message that a connector publishes to what follows from it.

The identifiers are hashes, not random numbers: a chunk that is sent again continues its trace instead of beginning one.
Source: W3C Recommendation "Trace Context", 23 November 2021, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from pipeline.headers import ID, SOURCE, Headers

TRACEPARENT: Final = "traceparent"
_FORM: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_INVALID: Final = (b"0" * 32, b"0" * 16)


def _ident(headers: Headers) -> bytes:
    """What tells a CloudEvent from all others: its source and its number there."""
    fields = dict(headers)
    return fields.get(SOURCE, b"") + b"#" + fields.get(ID, b"")


def begin(headers: Headers) -> bytes:
    """The trace of a message that begins one."""
    digest = blake2b(_ident(headers), digest_size=24).hexdigest().encode()
    return b"00-%s-%s-01" % (digest[:32], digest[32:])


def child(parent: bytes, headers: Headers) -> bytes:
    """The trace of a message that follows from another one."""
    span = blake2b(_ident(headers), key=parent[:55], digest_size=8).hexdigest().encode()
    return b"00-%s-%s-%s" % (parent[3:35], span, parent[53:55])


def of(headers: Iterable[tuple[str, bytes]] | None) -> bytes | None:
    """The trace that a record belongs to; None where it has none, or one that cannot be read."""
    for name, value in headers or ():
        if name == TRACEPARENT and (found := _FORM.match(value or b"")) is not None:
            known = value[:2] != b"ff" and found[1] != _INVALID[0] and found[2] != _INVALID[1]
            return found[0] if known else None
    return None


def trace_id(parent: bytes) -> str:
    """The trace's own number, for logs."""
    return parent[3:35].decode()
