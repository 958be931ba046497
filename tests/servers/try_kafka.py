"""`make kafka`: a broker to try the Kafka engine with, gone with its data when the command ends.

With words behind it, they are run as a command in which BOOTSTRAP stands for the broker's address; its exit code is
this one's.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

from tests.servers.kafka import KafkaServer


def main() -> int:
    """Start, say where, wait; or start, run a command, end."""
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    with KafkaServer(own=True) as kafka:
        if command := sys.argv[1:]:
            return subprocess.run([w.replace("BOOTSTRAP", kafka.bootstrap) for w in command], check=False).returncode
        print(
            f'Kafka listens on {kafka.bootstrap}; in a configuration: [kafka] bootstrap = "{kafka.bootstrap}"',
            flush=True,
        )
        done.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
