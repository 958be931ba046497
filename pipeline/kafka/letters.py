"""Dead letters on their way back: published once more under their own headers and key."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

from config.schema import Settings
from connectors.kafka import KafkaPublisher
from pipeline.app import STATE_FILE
from pipeline.clock import HostClock
from pipeline.codec import UNCUT
from pipeline.errors import StateError
from pipeline.kafka.admin import unreachable
from pipeline.kafka.client import Client
from pipeline.kafka.fetched import UNREADABLE
from pipeline.kafka.records import SENT
from pipeline.kafka.topics import INPUTS
from pipeline.state import Store

TIMEOUT_S = 15.0
NS_PER_MS = 1_000_000


def retry(settings: Settings, seq: int) -> str:
    """Publish the dead letter with this number in the durable state; returns a sentence for people.

    Raises:
        StateError: there is no such letter, it did not come from a topic of ours, or it is not whole.
        BrokerError: the brokers do not take it.
    """
    path = settings.engine.state_dir / STATE_FILE
    if not path.is_file():
        raise StateError(f"{path}: no such file; dead letters are kept where the sinks run")
    store = Store(path)
    found = store.read(seq - 1, ("dlq",), 1)
    store.close()
    if not found or found[0].seq != seq:
        raise StateError(f"{path}: no dead letter {seq}")
    body = found[0].body
    if body["topic"] not in INPUTS:
        raise StateError(f"dead letter {seq} came from '{body['topic']}', which is no input")
    value = base64.b64decode(body["value"])
    if UNCUT in body:
        raise StateError(f"dead letter {seq} is not whole: {len(value):,} of its {body[UNCUT]:,} bytes were kept")
    # When it was published first says nothing of now: its sensor may have ended since.
    came = [(name, base64.b64decode(told)) for name, told in body["headers"] if name != SENT]
    headers = [(name, told) for name, told in came if not name.startswith(UNREADABLE)]
    if came and not headers and not value:
        raise StateError(f"dead letter {seq} stands for a record that could not be read: there is nothing of it")
    client = Client(settings.kafka)
    with tempfile.TemporaryDirectory() as folder:
        publisher = KafkaPublisher(client.settings(), Path(folder), 10_000_000)
        publisher.publish(
            client.topic(body["topic"]),
            body["machine"].encode(),
            value or None,
            headers,
            HostClock().now_ns() // NS_PER_MS,
        )
        publisher.flush(TIMEOUT_S)
        error = publisher.error
        publisher.close(1.0)
    if not publisher.counts["published"]:  # what brokers refuse does not wait any longer either
        refused = [name.removeprefix("refused.") for name in publisher.counts if name.startswith("refused.")]
        raise unreachable(client, f"refused, for good: {', '.join(refused)}" if refused else error or "no answer")
    return f"dead letter {seq} is in {body['topic']} again"
