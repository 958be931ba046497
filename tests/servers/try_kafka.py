"""`make kafka`: a broker to try the Kafka engine with, gone with its data when the command ends."""

from __future__ import annotations

import signal
import threading

from tests.servers.kafka import KafkaServer


def main() -> None:
    """Start, say where, wait."""
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    with KafkaServer(own=True) as kafka:
        print(
            f'Kafka listens on {kafka.bootstrap}; in a configuration: [kafka] bootstrap = "{kafka.bootstrap}"',
            flush=True,
        )
        done.wait()


if __name__ == "__main__":
    main()
