"""One partition of all input topics in the hands of this worker: its lanes, and what of its log is still needed."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from operators.rewindow import LONGEST_GAP_S
from pipeline.dead_letters import MAX_DEAD_LETTERS
from pipeline.kafka.records import Out, snapshot_out
from pipeline.kafka.topics import COMMAND
from pipeline.messages import Chunk, DeadLetter, Decision, Image, Input, Late, Mark, Result
from pipeline.runner import Lane
from pipeline.succession import retire

Needs = Mapping[tuple[str, int], int]
"""What `Lane.needs_from` says: by sensor and epoch, the first sample still needed."""

UNKNOWN_BEGIN = -1
"""Expected is the oldest message that the log has: the group never committed an offset."""

UNUSABLE = frozenset({"range", "stream_changed", "too_large", "wrong_shape"})
"""Dead letters whose message no operator has seen."""


class Held(NamedTuple):
    """A message of the log that is not acknowledged yet.

    `sensor` is empty where nothing but the next snapshot waits for it.
    """

    offset: int
    serial: int
    machine: str
    sensor: str
    epoch: int
    n1: int
    beyond: float = -math.inf
    """Of a stream whose next sample lies before this one the message is refused: so far ahead no index is right."""


class Part:
    """The state of one partition under one owner epoch.

    Args:
        number: of the partition.
        generation: of the group under which it was assigned.
        epoch: the owner epoch, the offset of the claim.
        lanes: of the machines whose keys fall here.
        worker: whose configuration has these machines.
        counts: the worker's; gets ``dead.<reason>``.
    """

    def __init__(
        self,
        number: int,
        generation: int,
        epoch: int,
        lanes: dict[str, Lane],
        worker: str = "",
        counts: Counter[str] | None = None,
    ) -> None:
        self.number = number
        self.generation = generation
        self.epoch = epoch
        self.lanes = lanes
        self.worker = worker
        self._counts = Counter() if counts is None else counts
        self._letters: Counter[tuple[str, str, str]] = Counter()
        self.next: dict[str, int] = {}
        """By topic: the offset that the lanes have not seen yet."""
        self.expect: dict[str, int] = {}
        """By topic: the offset that the consumer delivers next, if it leaves nothing out, or `UNKNOWN_BEGIN`."""
        self.newest_ns: dict[str, int] = {}
        self.held: dict[str, deque[Held]] = {}
        self.told: dict[str, tuple[int, int]] = {}
        """By topic: the newest committed offset, and the one up to which it says that all results are durable."""
        self._released: dict[str, int] = {}
        self.saved: dict[str, bytes] = {}
        """By machine: the newest durable snapshot."""
        self.lost = False
        """Whether another worker has it: its results are dropped, no snapshot may say that they are durable."""

    def catch_up(self, decisions: Iterable[Decision]) -> list[Result]:
        """Give the lanes what the log has decided, less what a later decision has outlived; what they know stays."""
        given, results = list(decisions), list[Result]()
        for machine, lane in self.lanes.items():
            mine = [decision for decision in given if decision.machine in {machine, "*"}]
            if sum(decision.kind == "baseline" for decision in mine) > 1:
                mine = retire(lane.settings, mine, lane.snapshot())
            results += [result for decision in mine for result in lane.process(decision)]
        return results

    def renew(self, epoch: int) -> None:
        """Go on under a new claim: nobody else had the partition meanwhile, the lanes stay as they are.

        Nothing is taken in before `resume`.
        """
        self.epoch = epoch
        self.forget()
        self.expect.clear()
        self.saved.clear()

    def resume(self, generation: int, expect: Mapping[str, int]) -> None:
        """Take in what the consumer delivers under a generation.

        Args:
            generation: of the group.
            expect: by topic, the offset that it delivers first.
        """
        self.generation = generation
        self.expect.update(expect)

    def forget(self) -> None:
        """What is not acknowledged comes again."""
        self.held.clear()
        self.told.clear()
        self._released.clear()

    def upto(self, topic: str) -> int:
        """The offset up to which a topic was taken in."""
        return max(0, self.expect.get(topic, 0))

    def hold(self, topic: str, offset: int, serial: int, message: Input | None, machine: str) -> None:
        """Keep a message in mind until nothing needs it; `message` is None where it could not be decoded."""
        held = Held(offset, serial, machine, "", 0, 0)
        if isinstance(message, Chunk | Image | Mark):
            s = message.stream
            beyond = message.n0 - LONGEST_GAP_S * s.rate.hz if isinstance(message, Chunk) else -math.inf
            held = Held(offset, serial, machine, s.sensor, s.epoch, message.n1, beyond)
        self.held.setdefault(topic, deque()).append(held)

    def keeps(self, topic: str, offset: int, reason: str, machine: str) -> bool:
        """Count a message that no lane can take; says whether its dead letter is to be kept.

        Strangers share their bound, so that they hide nothing of a machine; a command's letter is its answer.
        """
        if offset < self.next.get(topic, 0):
            return False  # known from before a rebalance
        self._counts["dead." + reason] += 1
        kind = topic, reason, machine if machine in self.lanes else ""
        self._letters[kind] += 1
        return topic == COMMAND or self._letters[kind] <= MAX_DEAD_LETTERS

    def forget_samples(self, topic: str, results: list[Result]) -> None:
        """If the newest held message became a dead letter unseen, no window will ever need it."""
        if any(isinstance(r, DeadLetter) and r.reason in UNUSABLE for r in results) and self.held.get(topic):
            last = self.held[topic].pop()
            self.held[topic].append(last._replace(sensor=""))

    def heard(self, topic: str, t_ns: int, results: Sequence[Result], now_ns: int) -> None:
        """How far a topic has come in event time, for `Pacing`.

        A chunk that was refused does not count, nor does a device's clock beyond ours: the topic of one that is an hour
        ahead would wait for the others for an hour.
        """
        if not any(isinstance(result, Late | DeadLetter) for result in results):
            self.newest_ns[topic] = max(self.newest_ns.get(topic, 0), min(t_ns, now_ns))

    def release(self, needs: Mapping[str, Needs], upto: int) -> dict[str, int]:
        """By topic, the offset before which neither a window nor a snapshot needs anything: the contiguous prefix.

        Topics of which nothing was taken in under this generation are left out.

        Args:
            needs: per machine, taken at the moment `upto` of the now durable snapshots.
            upto: newest serial that the snapshots include.
        """
        for topic, queue in self.held.items():
            while queue and queue[0].serial <= upto and not _needed(queue[0], needs):
                self._released[topic] = queue.popleft().offset + 1
        return {
            topic: queue[0].offset if queue else self._released[topic]
            for topic, queue in self.held.items()
            if queue or topic in self._released
        }

    def news(self, topic: str, states: Mapping[str, bytes]) -> list[Out]:
        """Records of the snapshots that differ from the newest durable ones."""
        return [
            snapshot_out(topic, self.number, machine, self.epoch, body)
            for machine, body in states.items()
            if self.saved.get(machine) != body
        ]

    @property
    def waiting(self) -> int:
        """Messages that are not acknowledged."""
        return sum(map(len, self.held.values()))


def _needed(held: Held, needs: Mapping[str, Needs]) -> bool:
    n = needs.get(held.machine, {}).get((held.sensor, held.epoch)) if held.sensor else None
    return n is not None and held.n1 > n >= held.beyond
