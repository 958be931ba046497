"""How two journals differ: what one found and the other did not, other decisions, and other numbers.

Across numeric platforms the last bits of numbers differ. What matters is whether a *decision* differs: a score on the
other side of its threshold, an alarm that only one run raised, another state.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pipeline.fingerprint import differing
from pipeline.journal import header_of, order_of, read_journal
from pipeline.results import canonical

Line: TypeAlias = dict[str, Any]
DifferenceKind: TypeAlias = Literal["only_a", "only_b", "decision", "value"]

DECISIVE: Final = frozenset({"abnormal", "complete", "transition", "severity", "ordinal", "state", "kind"})
"""Fields whose change is another decision."""
_DECISIONS_BY_PRESENCE = frozenset({"alarm", "machine_state", "health", "decision"})
_KEPT = 1000
_ABSENT: Final = "(absent)"


class Difference(NamedTuple):
    """One result that differs.

    `decides` tells whether it is another decision or only another number. `fields` holds both values by path
    (``reasons.bands[2]``); empty where only one journal has the result.
    """

    kind: DifferenceKind
    decides: bool
    topic: str
    machine: str
    t_ns: int
    id: str
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(slots=True)
class Comparison:
    """What `compare` found.

    Attributes:
        same: lines that are equal.
        tolerated: lines whose numbers differ within the tolerance, and nothing else.
        counts: differing lines by (topic, kind).
        deciding: differing lines that are other decisions.
        largest: the largest relative difference of two numbers in lines that both have.
        platform: entries in which the headers differ.
        differences: the first 1,000, in journal order.
    """

    tolerance: float
    same: int = 0
    tolerated: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    deciding: int = 0
    largest: float = 0.0
    platform: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Lines that differ beyond the tolerance."""
        return sum(self.counts.values())

    @property
    def identical(self) -> bool:
        """Whether the journals have the same hash."""
        return self.total == 0 and self.tolerated == 0

    @property
    def agrees(self) -> bool:
        """Whether nothing differs beyond the tolerance."""
        return self.total == 0

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "identical": self.identical,
            "agrees": self.agrees,
            "tolerance": self.tolerance,
            "same": self.same,
            "tolerated": self.tolerated,
            "differing": self.total,
            "deciding": self.deciding,
            "largest_relative_difference": self.largest if math.isfinite(self.largest) else None,
            "counts": [{"topic": t, "kind": k, "count": n} for (t, k), n in sorted(self.counts.items())],
            "header": {name: list(pair) for name, pair in self.platform.items()},
            "differences": [
                {**d._asdict(), "fields": {name: list(pair) for name, pair in d.fields.items()}}
                for d in self.differences
            ],
        }

    def to_text(self, shown: int = 20) -> str:
        """For people."""
        if self.identical:
            lines = [f"identical: {self.same} lines"]
        else:
            verdict = "agree within" if self.agrees else "differ beyond"
            summary = (
                f"the journals {verdict} the tolerance of {self.tolerance:g}: {self.same} lines equal, "
                f"{self.tolerated} within it, {self.total} differ ({self.deciding} of them in a decision); "
                f"largest relative difference {self.largest:.3g}"
            )
            lines = [summary]
        lines += [f"  header {name}: {a!r} / {b!r}" for name, (a, b) in self.platform.items()]
        lines += [f"  {topic} {_WORDS[kind]}: {n}" for (topic, kind), n in sorted(self.counts.items())]
        chosen = sorted(self.differences, key=lambda d: not d.decides)[:shown]
        lines += [_line_of(d) for d in chosen]
        if self.total > len(chosen):
            lines.append(f"  and {self.total - len(chosen)} more")
        return "\n".join(lines)


_WORDS = {
    "only_a": "only in A",
    "only_b": "only in B",
    "decision": "decided otherwise",
    "value": "with other values",
}


def _line_of(d: Difference) -> str:
    fields = ", ".join(f"{name} {a!r} / {b!r}" for name, (a, b) in d.fields.items())
    return f"  {d.topic} {d.id} {_WORDS[d.kind]}" + (f": {fields}" if fields else "")


def compare(a: Path, b: Path, tolerance: float = 0.0) -> Comparison:
    """Compare two journals line by line; both are read once, in order.

    Args:
        a: a journal.
        b: another one.
        tolerance: largest |x - y| / max(1, |x|, |y|) of two numbers that counts as equal; 0 wants equal numbers.
            With a tolerance the sentences that tell people those numbers may differ too.

    Raises:
        BadInput: one of them is no journal.
    """
    done = Comparison(tolerance, platform=_headers(header_of(a), header_of(b)))
    for left, right in _merged(read_journal(a), read_journal(b)):
        if left is None:
            assert right is not None
            _note(done, "only_b", right, right["topic"] in _DECISIONS_BY_PRESENCE, {})
        elif right is None:
            _note(done, "only_a", left, left["topic"] in _DECISIONS_BY_PRESENCE, {})
        else:
            _both(done, left, right)
    return done


def _headers(a: Line, b: Line) -> dict[str, tuple[Any, Any]]:
    found = differing(a, b)
    platforms = found.pop("platform", None)
    if platforms is not None and isinstance(platforms[0], dict) and isinstance(platforms[1], dict):
        found |= {f"platform.{name}": pair for name, pair in differing(*platforms).items()}
    elif platforms is not None:
        found["platform"] = platforms
    return found


def _merged(a: Iterator[Line], b: Iterator[Line]) -> Iterator[tuple[Line | None, Line | None]]:
    left, right = next(a, None), next(b, None)
    while left is not None or right is not None:
        if right is None or (left is not None and order_of(left) < order_of(right)):
            yield left, None
            left = next(a, None)
        elif left is None or order_of(right) < order_of(left):
            yield None, right
            right = next(b, None)
        else:
            yield left, right
            left, right = next(a, None), next(b, None)


def _both(done: Comparison, left: Line, right: Line) -> None:
    if left == right and canonical(left) == canonical(right):  # 1 and 1.0 are equal, their bytes are not
        done.same += 1
        return
    beyond: dict[str, tuple[Any, Any]] = {}
    for path, x, y in _leaves("", left, right):
        distance = 0.0 if path == "text" and done.tolerance > 0 else _distance(x, y)
        if distance is None:
            beyond[path] = (x, y)
            continue
        done.largest = max(done.largest, distance)
        if distance > done.tolerance:
            beyond[path] = (x, y)
    if not beyond:
        done.tolerated += 1
        return
    decides = left["topic"] == "decision" or any(path in DECISIVE for path in beyond)
    _note(done, "decision" if decides else "value", left, decides, beyond)


def _note(
    done: Comparison, kind: DifferenceKind, line: Line, decides: bool, fields: Mapping[str, tuple[Any, Any]]
) -> None:
    machine, t_ns, name, topic = order_of(line)
    done.counts[(topic, kind)] += 1
    done.deciding += decides
    if len(done.differences) < _KEPT:
        done.differences.append(Difference(kind, decides, topic, machine, t_ns, name, fields))


def _leaves(path: str, x: Any, y: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every pair of values in which two JSON values differ, with where it stands."""
    if isinstance(x, dict) and isinstance(y, dict):
        for key in sorted({*x, *y}):
            yield from _leaves(f"{path}.{key}" if path else key, x.get(key, _ABSENT), y.get(key, _ABSENT))
    elif isinstance(x, list) and isinstance(y, list) and len(x) == len(y):
        for i, (one, other) in enumerate(zip(x, y, strict=True)):
            yield from _leaves(f"{path}[{i}]", one, other)
    elif type(x) is not type(y) or x != y:
        yield path, x, y


def _distance(x: Any, y: Any) -> float | None:
    """Relative difference of two floats; None where a tolerance makes no sense."""
    if type(x) not in (float, int) or type(y) not in (float, int) or (type(x) is int and type(y) is int):
        return None
    return abs(float(x) - float(y)) / max(1.0, abs(float(x)), abs(float(y)))
