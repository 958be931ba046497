"""What the engine writes beside the messages of the codec: claims, snapshots, commands, and who owned a record.

A worker that takes a partition over appends a *claim* to the partition of `decision`. The claim's offset there is the
*owner epoch* that everything it writes carries in the header `ce_owner`. It then puts the same claim into the
partitions of `state` and of the results, and a reader drops what a lower epoch wrote behind it: a worker that was
paused and does not know yet that it has lost the partition may repeat, but never contradict.

Claims are ordered by *rank*, the group's generation at the claim. A claim of a lower rank than one before it is void:
so a late worker of an earlier generation cannot fence its successor. A broker that has forgotten the group starts its
generations anew; `base` carries the rank on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from pipeline import headers as h
from pipeline.bodies import parse
from pipeline.errors import DecodeError
from pipeline.headers import Headers
from pipeline.results import canonical

OWNER = "ce_owner"
SENT = "ce_sent"
"""When a message was handed to a publisher, in nanoseconds by the clock of that host: what the record's own timestamp
does not tell, as that is the event's."""

CLAIM_TYPE = b"stethos.claim.v1"
SNAPSHOT_TYPE = b"stethos.snapshot.v1"
COMMAND_TYPE = b"stethos.command.v1"

NOBODY = -1
"""Owner of what no worker wrote: commands and decisions from outside."""


FORM = 1
"""Of what workers write into `decision` and `state`. A worker does not join where one that writes a higher form is."""


class Claim(NamedTuple):
    """A worker's word that a partition is its own from here on.

    `epoch` is the claim's offset on `decision`, -1 in the record there, which cannot know its own. `form` is that of
    the claims, decisions and snapshots that its worker writes. `machines` are those that its configuration has in the
    partition; None where the worker is too old to say so.
    """

    partition: int
    worker: str
    generation: int
    base: int
    epoch: int = -1
    form: int = FORM
    machines: tuple[str, ...] | None = None

    @property
    def rank(self) -> int:
        """What claims are ordered by."""
        return self.base + self.generation


class Out(NamedTuple):
    """A record on its way to a topic of the table."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None
    headers: Headers


def _headers(kind: bytes, source: str, ident: str, owner: int) -> Headers:
    return [
        (h.SPECVERSION, b"1.0"),
        (h.TYPE, kind),
        (h.SOURCE, source.encode()),
        (h.CONTENT_TYPE, h.JSON.encode()),
        (h.ID, ident.encode()),
        (OWNER, b"%d" % owner),
    ]


def claim_out(topic: str, claim: Claim) -> Out:
    """A claim as a record of one partition of `topic`; its key lets compaction keep one per epoch."""
    ident = f"claim|{claim.partition}|{claim.epoch if claim.epoch >= 0 else claim.rank}"
    headers = _headers(CLAIM_TYPE, "/engine/" + claim.worker, ident, claim.epoch)
    return Out(topic, claim.partition, ident.encode(), canonical(claim._asdict()), headers)


def read_claim(value: bytes | None, offset: int) -> Claim:
    """A claim from its record; on `decision`, `offset` becomes its epoch.

    Raises:
        DecodeError: not of this form.
    """
    try:
        said = parse(value or b"")
        claim = Claim(**{name: said[name] for name in said if name in Claim._fields})  # newer ones may say more
        numbers = (claim.partition, claim.generation, claim.base, claim.epoch, claim.form)
        if not all(type(number) is int for number in numbers) or not isinstance(claim.worker, str):
            raise TypeError("numbers and a name")
        if claim.machines is not None:
            claim = claim._replace(machines=tuple(map(str, claim.machines)))
    except TypeError as error:
        raise DecodeError("schema", f"claim: {error}") from None
    return claim if claim.epoch >= 0 else claim._replace(epoch=offset)


def unlike(claims: Iterable[Claim], machines: Mapping[int, Collection[str]]) -> list[str]:
    """By worker, how the configuration that it claimed partitions under differs from another one.

    Args:
        claims: in force.
        machines: of the other configuration, by partition.
    """
    more: defaultdict[str, set[str]] = defaultdict(set)
    fewer: defaultdict[str, set[str]] = defaultdict(set)
    for claim in claims:
        if claim.machines is not None:
            here = set(machines.get(claim.partition, ()))
            more[claim.worker] |= {*claim.machines} - here
            fewer[claim.worker] |= here - {*claim.machines}
    return [
        f"worker '{worker}' works under another configuration than this process (machines that only it has: "
        f"{_listed(more[worker])}; that only this one has: {_listed(fewer[worker])}): a worker makes dead letters of "
        "what machines publish that it does not have"
        for worker in sorted(more)
        if more[worker] or fewer[worker]
    ]


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def snapshot_key(machine: str, epoch: int) -> bytes:
    """One record per lane and owner, so that a late one cannot compact a newer owner's away."""
    return f"snapshot|{epoch}|{machine}".encode()


def snapshot_out(topic: str, partition: int, machine: str, epoch: int, body: bytes | None) -> Out:
    """A lane's snapshot, or its removal (no body)."""
    headers = _headers(SNAPSHOT_TYPE, h.source_of(machine), f"{machine}|{epoch}", epoch)
    return Out(topic, partition, snapshot_key(machine, epoch), body, headers)


def command_headers(machine: str, ident: str) -> Headers:
    """Headers of a command of a person or program to a machine's lane."""
    return [pair for pair in _headers(COMMAND_TYPE, h.source_of(machine), ident, 0) if pair[0] != OWNER]


def command_value(kind: str, body: dict[str, Any]) -> bytes:
    """Value of a command."""
    return orjson.dumps({"kind": kind, "body": body}, option=orjson.OPT_SORT_KEYS)


def read_command(value: bytes | None) -> tuple[str, dict[str, Any]]:
    """(kind, body) of a command.

    Raises:
        DecodeError: not of this form.
    """
    said = parse(value or b"")
    if not isinstance(said, dict) or not isinstance(said.get("kind"), str) or not isinstance(said.get("body"), dict):
        raise DecodeError("schema", 'command: {"kind": "...", "body": {...}} is expected')
    return said["kind"], said["body"]


def owner_of(headers: dict[str, bytes]) -> int:
    """The owner epoch of a record, `NOBODY` for what no worker wrote."""
    digits = headers.get(OWNER, b"-1")
    try:
        return int(digits)
    except (TypeError, ValueError):
        raise DecodeError("number", f"{OWNER}: {digits!r:.40}") from None


class Fence:
    """Tells, while one partition's log is read in order, which records are void.

    Args:
        epoch: the highest owner epoch known so far.
        claim: the claim in force, where it is known.
    """

    def __init__(self, epoch: int = -1, claim: Claim | None = None) -> None:
        self.epoch = epoch
        self.claim = claim

    def take(self, claim: Claim) -> bool:
        """A claim comes by; says whether it holds."""
        if claim.epoch <= self.epoch or (self.claim is not None and claim.rank < self.claim.rank):
            return False
        self.epoch, self.claim = claim.epoch, claim
        return True

    def void(self, owner: int) -> bool:
        """Whether a record of this owner, here in the log, does not count."""
        return NOBODY < owner < self.epoch
