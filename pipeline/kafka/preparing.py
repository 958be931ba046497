"""Brokers that are not there yet: whatever needs them waits, and the topics are made before it begins."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable

from pipeline.kafka import admin, checks
from pipeline.kafka.client import Client

log = logging.getLogger(__name__)

AGAIN_S = 1.0
QUIET_S = 60.0
"""Between two lines in the log that say the same."""


def prepare(client: Client) -> None:
    """Make the topics that are missing, and compare all with the configuration.

    Raises:
        BrokerError: no broker answers, or it refuses.
        ConfigError: a topic has another number of partitions.
    """
    admin.create(client)
    checks.topics(client, admin.partitions(client))


def listens(client: Client) -> bool:
    """Whether anything takes connections where brokers should be: asking it takes no seconds."""
    for place in client.bootstrap:
        host, _, port = place.rpartition(":")
        with contextlib.suppress(OSError, ValueError), socket.create_connection((host.strip("[]"), int(port)), 1.0):
            return True
    return False


def wait(
    client: Client, stop: threading.Event, for_s: float | None = None, said: Callable[[str], object] = str
) -> bool:
    """Until brokers answer and have the topics; says whether they do.

    Args:
        client: how to reach them.
        stop: ends the waiting.
        for_s: the same, after so many seconds.
        said: is told why it goes on, each time.

    Raises:
        ConfigError: a topic has another number of partitions.
        LoginRefusedError: a broker does not take name, password or mechanism.
    """
    began, told = time.monotonic(), -QUIET_S
    while not stop.is_set() and (for_s is None or time.monotonic() - began < for_s):
        try:
            prepare(client)
        except admin.LoginRefusedError:
            raise
        except admin.BrokerError as error:
            said(str(error))
            if time.monotonic() - told >= QUIET_S:
                told = time.monotonic()
                log.warning("waiting for brokers: %s", error)
            stop.wait(AGAIN_S)
        else:
            return not stop.is_set()  # it may have come meanwhile
    return False


class Preparing:
    """Waits in a thread of its own, so that sources are read meanwhile.

    Args:
        client: how to reach the brokers.
        then: is called once, when they answer and have the topics.
    """

    def __init__(self, client: Client, then: Callable[[], None]) -> None:
        self.error = ""
        """Why it still waits; empty once it does not."""
        self.failed: Exception | None = None
        """What no waiting mends."""
        self._client = client
        self._then = then
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-preparing", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def _say(self, error: str) -> None:
        self.error = error

    def _run(self) -> None:
        try:
            if wait(self._client, self._stop, said=self._say):
                self._then()
                self.error = ""
        except Exception as error:  # nobody would see that the thread has ended
            self.failed, self.error = error, str(error)

    def over(self, patience_s: float) -> bool:
        """Wait for the end of the waiting; says whether the brokers have the topics."""
        self._thread.join(patience_s)
        return not self._thread.is_alive() and not self.error

    def stop(self) -> None:
        """End it; returns when `then` will not be called any more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
