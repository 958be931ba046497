"""Slow facts about a machine, read as of a window's end: which state it was in, what tool it held.

A fact is a sensor with a heartbeat: a window waits until its fact's stream has passed the time that it is read at. A
fact that falls silent is given up by a decision, not by a clock, so that a replay gives it up at the same window.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from itertools import pairwise
from typing import Any

from config.schema import Machine
from pipeline.messages import NS, Context, Decision

KEEP_NS = 15 * NS
"""Facts this much older than the first sample still needed are kept for a rebuild of the lane: windows read them up to
10 s before their end (`context_lag_s`), and a speed also 2 s before that."""
CONTEXT_KINDS = frozenset({"abandon", "return"})
"""Decisions that give a fact up, and take it back."""
MOST = 4096
"""Facts kept per name; beyond, the oldest go."""
MOST_TEXT = 100_000
"""Bytes of text kept per name, as JSON; beyond, the oldest facts go: a snapshot must fit a record of Kafka."""
CARRIED_NS = 3600 * NS
"""Of decisions on facts, a recording begins with those of this long before the newest, and with what held then."""


def outdated(decisions: Iterable[Decision], keep_ns: int) -> list[Decision]:
    """Decisions on facts that nothing asks for: the next one of the same fact is `keep_ns` older than its newest.

    A fact that is told every 30 s is given up and taken back each time: thousands a day. Of each fact the newest
    decision stays, however old it is. Other kinds of decisions are never among them.
    """
    said: dict[tuple[str, object], list[Decision]] = {}
    for decision in decisions:
        if decision.kind in CONTEXT_KINDS:
            said.setdefault((decision.machine, decision.body.get("context")), []).append(decision)
    old: list[Decision] = []
    for one in said.values():
        one.sort(key=lambda decision: (decision.t_ns, decision.kind == "abandon"))  # as `Contexts.decide` has them
        old += [d for d, following in pairwise(one) if following.t_ns < one[-1].t_ns - keep_ns]
    return old


def read_by(machine: Machine) -> frozenset[str]:
    """Names of the facts that a machine's operators read."""
    speed = None if machine.spindle is None else machine.spindle.speed_fact
    return frozenset(name for name in (machine.state_context, speed) if name is not None)


class Contexts:
    """The facts of one machine by name, and when they were given up.

    Of a fact that is told again and again with the same value, the first and the last time are kept: what held at any
    time between follows from them, and hours of a heartbeat fit a snapshot.

    Args:
        names: of facts that anything reads, default all; others are passed over, as their number has no bound.
    """

    def __init__(self, names: Container[str] | None = None) -> None:
        self._names = names
        self._facts: dict[str, tuple[list[int], list[float | str]]] = {}
        self._text: Counter[str] = Counter()  # bytes by name
        self._silences: dict[str, list[tuple[int, bool]]] = {}  # (after this time, given up or back)

    def add(self, fact: Context) -> bool:
        """Take one fact in; says whether its time is known then: one behind the newest is passed over."""
        if not self._reads(fact.name):
            return True
        times, values = self._facts.setdefault(fact.name, ([], []))
        if times and fact.t_ns <= times[-1]:  # read again after a restart, or late
            return self.as_of(fact.name, fact.t_ns) == fact.value
        if len(values) > 1 and values[-2] == values[-1] == fact.value:
            times[-1] = fact.t_ns
            return True
        times.append(fact.t_ns)
        values.append(fact.value)
        self._text[fact.name] += _size(fact.value)
        while len(times) > MOST or self._text[fact.name] > MOST_TEXT:
            self._drop(fact.name, 1)
        return True

    def _reads(self, name: str) -> bool:
        return self._names is None or name in self._names

    def _drop(self, name: str, count: int) -> None:
        """Let the oldest facts go."""
        times, values = self._facts[name]
        self._text[name] -= sum(map(_size, values[:count]))
        del times[:count], values[:count]

    def decide(self, decision: Decision) -> None:
        """A decision ``abandon`` or ``return`` with the body ``{"context": name}``."""
        name = decision.body.get("context")
        if decision.kind in CONTEXT_KINDS and isinstance(name, str):
            entry = (decision.t_ns, decision.kind == "abandon")
            said = self._silences.setdefault(name, [])
            place = bisect_left(said, entry)
            if said[place : place + 1] != [entry]:
                said.insert(place, entry)

    def given_up(self, name: str, t_ns: int) -> bool:
        """Whether a window that ends at `t_ns` does without this fact."""
        said = self._silences.get(name, ())
        place = bisect_left(said, (t_ns, False))  # the last decision for windows that end after its time
        return place > 0 and said[place - 1][1]

    def unjudged_ns(self, name: str, lag_ns: int) -> int:
        """What ends later than this waits for the fact: it was not told, and it was not given up before."""
        said = self._silences.get(name)
        return max(self.newest_ns(name) + lag_ns, said[-1][0] if said else 0)

    def back(self, lag_ns: int) -> list[str]:
        """Facts that are given up and have been heard of since; `lag_ns` is `context_lag_s`.

        From the decisions alone, so that a successor knows what its predecessor gave up.
        """
        gone = {name: said[-1][0] for name, said in self._silences.items() if said and said[-1][1]}
        return [name for name, after_ns in gone.items() if self.newest_ns(name) + lag_ns > after_ns]

    def passed(self, name: str, t_ns: int) -> bool:
        """Whether the fact is known as of `t_ns`: something at or after it has come."""
        times, _ = self._facts.get(name, ([], []))
        return bool(times) and times[-1] >= t_ns

    def as_of(self, name: str, t_ns: int) -> float | str | None:
        """The newest value at or before `t_ns`."""
        times, values = self._facts.get(name, ([], []))
        place = bisect_right(times, t_ns)
        return values[place - 1] if place else None

    def during(self, name: str, t0_ns: int, t1_ns: int) -> list[float | str]:
        """The values that held at some time of [t0_ns, t1_ns], as far as they are known."""
        times, values = self._facts.get(name, ([], []))
        return values[max(0, bisect_right(times, t0_ns) - 1) : bisect_right(times, t1_ns)]

    def newest_ns(self, name: str) -> int:
        """Event time of the newest fact; 0 before the first."""
        times, _ = self._facts.get(name, ([], []))
        return times[-1] if times else 0

    def trim(self, judged_ns: int) -> None:
        """Forget what no window at or after `judged_ns`, nor a rebuild, can ask for."""
        for name, (times, _) in self._facts.items():
            place = bisect_right(times, judged_ns - KEEP_NS) - 1
            if place > 0:
                self._drop(name, place)
        for said in self._silences.values():
            place = bisect_left(said, (judged_ns - KEEP_NS, False)) - 1
            if place > 0:
                del said[:place]

    def snapshot(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: [list(pair) for pair in zip(*fact, strict=True)] for name, fact in sorted(self._facts.items())}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take a snapshot over."""
        read = {name: pairs for name, pairs in state.items() if self._reads(name)}
        self._facts = {n: ([t for t, _ in pairs], [v for _, v in pairs]) for n, pairs in read.items()}
        self._text = Counter({n: sum(_size(value) for _, value in pairs) for n, pairs in read.items()})


def _size(value: float | str) -> int:
    """Bytes that a text takes in a snapshot, at most; numbers are bounded by their count."""
    return len(json.dumps(value)) if isinstance(value, str) else 0
