"""What brokers say of records and topics, and how a client of theirs is let go."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipeline.errors import MissingExtra

try:
    with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        from kafka import KafkaProducer
        from kafka.admin import KafkaAdminClient
        from kafka.errors import (
            InvalidRecordError,
            InvalidTimestampError,
            KafkaError,
            MessageSizeTooLargeError,
            RecordListTooLargeError,
            UnknownTopicOrPartitionError,
        )
except ImportError:  # pragma: no cover
    raise MissingExtra("kafka", "publishing to Kafka") from None

REFUSALS: Final = {
    InvalidTimestampError: "timestamp",
    MessageSizeTooLargeError: "too_large",
    RecordListTooLargeError: "too_large",
    InvalidRecordError: "invalid",
}
"""What brokers say of a record that they will never take, with the reason that is counted. They say "invalid" of all
refused ones of a batch if there are several, whatever is wrong with them."""


class Admin(KafkaAdminClient):  # type: ignore[misc]  # untyped
    """One that leaves no thread behind where it could not connect, as kafka-python 3.0 does: it would try for ever."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except BaseException:
            self._closed = False
            with contextlib.suppress(KafkaError, OSError, RuntimeError, AttributeError):
                self.close()
            raise


def refusal(error: BaseException) -> str:
    """Why brokers will never take a record; empty for what may pass."""
    return next((reason for kind, reason in REFUSALS.items() if isinstance(error, kind)), "")


def missing(settings: Mapping[str, Any], topics: Iterable[str]) -> frozenset[str]:
    """Those of some topics that the brokers do not have; one that may not be seen is not among them.

    Raises:
        KafkaError: no broker answers.
        OSError: the same.
    """
    with contextlib.closing(Admin(**settings, bootstrap_timeout_ms=3_000)) as admin:
        found = admin.describe_topics(sorted(topics))
    return frozenset(topic["name"] for topic in found if topic["error_code"] == UnknownTopicOrPartitionError.errno)


def end(producer: KafkaProducer, timeout_s: float) -> None:
    """Close a producer for good.

    Where kafka-python 3.0 cannot send all in time it raises before it has told its thread to end, which then goes on
    for ever: it would look for the broker, and send what was given up.
    """
    try:
        producer.close(timeout=timeout_s)
    except (KafkaError, OSError):
        producer._sender.force_close()
        producer._sender.join(timeout_s)
