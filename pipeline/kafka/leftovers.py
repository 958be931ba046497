"""Topics of replays that were killed: found, told, and removed where it is certain that nobody uses them.

A replay holds a lock on its own host while its topics exist; the kernel lets go of it with the process, however that
ends. Topics whose lock lies here and is free are nobody's. Of any other replay (another host's or container's, or an
older version's) this host cannot know, and only a person who names it removes it, unless its group has members.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kafka.errors import NoError, UnknownTopicOrPartitionError, for_code

from config import cache_home
from pipeline.claim import claim, claimed
from pipeline.errors import StateError
from pipeline.kafka import admin
from pipeline.kafka.client import Client

log = logging.getLogger(__name__)

NAME = re.compile(r"(stethos-replay-[0-9]+-([0-9]{13}))\..+")
"""A replay's topic: its group, which says since when (milliseconds), and one of the engine's topics."""

NO_MEMBERS = {"Empty", "Dead"}
"""States of a group; before Kafka 2.6 brokers do not tell it, and any group may have members."""


class Left(NamedTuple):
    """A replay whose topics are on the brokers.

    Attributes:
        name: its group, and what its topics begin with.
        topics: their names.
        begun_s: since 1970, by the clock of its host.
        gone: whether its process ran on this host, and has ended.
        works: whether a worker of it is in its group.
    """

    name: str
    topics: tuple[str, ...]
    begun_s: float
    gone: bool
    works: bool

    def __str__(self) -> str:
        """For people."""
        begun = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.begun_s))
        owner = "it works" if self.works else "its process has ended" if self.gone else "not known here whether it runs"
        return f"{self.name}: {len(self.topics)} topics, begun {begun}, {owner}"


def new_name(pid: int) -> str:
    """For a replay that begins now."""
    return f"stethos-replay-{pid}-{time.time_ns() // 1_000_000}"


def _lock(name: str) -> Path:
    return cache_home() / "replays" / socket.gethostname() / name


@contextlib.contextmanager
def held(name: str) -> Iterator[None]:
    """Say, for as long as the context lasts, that a replay runs. Where nothing can be written, it goes on without."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(claim(_lock(name)))
        except StateError as error:
            log.warning("should this replay be killed, its topics stay: %s", error)
        yield


def forget(name: str) -> None:
    """Its topics are removed: nothing is to be found of it."""
    with contextlib.suppress(OSError):
        _file(name).unlink()


def _file(name: str) -> Path:
    lock = _lock(name)
    return lock.with_name(lock.name + ".lock")


def left(client: Client) -> list[Left]:
    """Replays whose topics are on the brokers, also those that run.

    Raises:
        BrokerError: names the brokers.
    """
    with admin.admin(client) as kafka:
        return _left(kafka)


def _left(kafka: Any) -> list[Left]:
    topics: dict[str, list[str]] = {}
    begun: dict[str, float] = {}
    for topic in sorted(kafka.list_topics()):
        if (known := NAME.fullmatch(topic)) is not None:
            topics.setdefault(known[1], []).append(topic)
            begun[known[1]] = int(known[2]) / 1000
    works = {group["group_id"] for group in kafka.list_groups() if group.get("group_state") not in NO_MEMBERS}
    gone = {name: _file(name).exists() and not claimed(_lock(name)) for name in topics}
    return [Left(name, tuple(of), begun[name], gone[name], name in works) for name, of in topics.items()]


def clean(client: Client, names: Sequence[str] = ()) -> list[Left]:
    """Remove the topics of replays of this host whose process is gone, or of those that are named; returns them.

    Args:
        client: how to reach the brokers.
        names: of replays, whose process may have run elsewhere.

    Raises:
        BrokerError: names the brokers.
        StateError: one that is named is not there, or works.
    """
    with admin.admin(client) as kafka:
        found = {one.name: one for one in _left(kafka)}
        for name in names:
            if name not in found:
                raise StateError(
                    f"{name}: the brokers have no topics of such a replay; `stethos topics list` tells them"
                )
            if found[name].works or (_file(name).exists() and not found[name].gone):
                raise StateError(f"{name}: it runs; end that replay, and it removes its topics by itself")
        due = (
            [found[name] for name in names] if names else [one for one in found.values() if one.gone and not one.works]
        )
        for one in due:
            done = kafka.delete_topics(list(one.topics), raise_errors=False)["topics"]
            for topic in done:
                if (error := for_code(topic["error_code"])) not in {NoError, UnknownTopicOrPartitionError}:
                    raise admin.unreachable(client, f"{topic['name']} cannot be removed: {error.__name__}")
            forget(one.name)
    return due


def clean_quietly(client: Client) -> None:
    """As `clean`, for whom it is none of the business: what cannot be done is said in the log."""
    try:
        for one in clean(client):
            log.warning("removed what a killed replay has left: %s", one)
    except admin.BrokerError as error:
        log.warning("what killed replays have left cannot be removed: %s", error)
