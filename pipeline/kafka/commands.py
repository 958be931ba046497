"""Commands become decisions: checked, durable and known to be ours to make, before they take hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline import codec
from pipeline.errors import StethosError
from pipeline.kafka.client import Client
from pipeline.kafka.intake import Wish
from pipeline.kafka.outbox import REFUSED, Outbox
from pipeline.kafka.ownership import Found, Ownership
from pipeline.kafka.part import Part
from pipeline.kafka.records import OWNER, Claim, Out, command_headers, command_value
from pipeline.kafka.topics import COMMAND, DECISION
from pipeline.messages import DeadLetter, Decision, Result
from pipeline.runner import Lane

log = logging.getLogger(__name__)


class Commands:
    """Obeys commands for the lanes of a worker.

    Args:
        client: names of topics.
        outbox: to write decisions with.
        ownership: tells whether a decision of ours counts.
    """

    def __init__(self, client: Client, outbox: Outbox, ownership: Ownership) -> None:
        self._client = client
        self._outbox = outbox
        self._ownership = ownership

    async def obey(self, part: Part, wish: Wish, claim: Claim, found: Found) -> list[Result]:
        """Turn a command into a decision, once; returns what follows."""
        lane = part.lanes[wish.machine]
        ident = f"{wish.machine}|{wish.kind}|{wish.ident}"
        if any(_answers(known, wish) for known in found.decisions):
            return []
        try:
            body = lane.settings.verify(wish.kind, wish.body)
        except Exception as error:  # of what was written by hand or by another version, or of the files that it names
            return [
                _letter(wish, str(error) if isinstance(error, StethosError) else f"{type(error).__name__}: {error}")
            ]
        decision = Decision(wish.machine, ident, lane.reach.newest_ns, wish.kind, {**body, "since": lane.reach.saved()})
        untaken = _letter(wish, "the brokers do not take the decision: the worker's log says why")
        return await self.decide(part, lane, decision, claim, found, [untaken])

    async def decide(
        self,
        part: Part,
        lane: Lane,
        decision: Decision,
        claim: Claim,
        found: Found,
        untaken: Sequence[Result] = (),
    ) -> list[Result]:
        """Durable first, then known to count, then in force; returns what follows from it.

        Args:
            part: the partition.
            lane: of the machine.
            decision: of the lane.
            claim: ours.
            found: in the partition's log.
            untaken: what follows where the brokers refuse it.
        """
        headers, value = codec.encode(decision)
        key, topic = codec.key_of(decision), self._client.topic(DECISION)
        out = Out(topic, part.number, key, value, [*headers, (OWNER, b"%d" % part.epoch)])
        if REFUSED in await self._outbox.write([out]):
            return list(untaken)
        if not await self._ownership.holds(claim, found):
            log.warning("partition %d has another owner, its decision is void", part.number)
            return []
        return lane.process(decision)


def _letter(wish: Wish, said: str) -> DeadLetter:
    """The answer to a command that becomes no decision."""
    headers, value = command_headers(wish.machine, wish.ident), command_value(wish.kind, wish.body)
    return DeadLetter(COMMAND, wish.machine, "command", said, tuple(headers), value)


def _answers(known: Decision, wish: Wish) -> bool:
    """Whether this decision, or the command that it came from, shows that the command was answered before.

    Commands are answered in the order of their log. One that a predecessor refused and that comes again behind a later
    decision must stay refused: under that decision it might be allowed.
    """
    number, _, offset = wish.ident.partition(".")
    of, _, at = known.id.rsplit("|", 1)[-1].partition(".")
    if known.machine != wish.machine or of != number or not at.isdigit():
        return False
    return int(at) >= int(offset)
