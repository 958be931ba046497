"""Which model packages work together on a machine, and which of them were in force when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from pipeline.messages import Decision

LOGMEL = "logmel"
"""In place of an encoder's digest: the embedding is the time mean of the log-Mel image, the baseline's features."""


@dataclass(frozen=True, slots=True)
class Lineup:
    """An encoder's digest (or `LOGMEL`) and the heads that read its embedding: (detector, digest), sorted."""

    encoder: str
    heads: tuple[tuple[str, str], ...] = ()

    def with_head(self, name: str, digest: str) -> Lineup:
        """The same with another head under this name."""
        return replace(self, heads=tuple((n, digest if n == name else d) for n, d in self.heads))

    @property
    def digests(self) -> list[str]:
        """Of all packages."""
        return [*([] if self.encoder == LOGMEL else [self.encoder]), *(digest for _, digest in self.heads)]

    def body(self) -> dict[str, Any]:
        """As JSON values."""
        return {"encoder": self.encoder, "heads": dict(self.heads)}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """From JSON values."""
        return cls(str(body["encoder"]), tuple(sorted((str(n), str(d)) for n, d in body["heads"].items())))


class Standing(NamedTuple):
    """What is in force, and what runs beside it without alarms."""

    active: Lineup
    shadow: Lineup | None = None


class Standings:
    """What is in force when: from the configuration, then from decisions of the kind ``model``, the latest first.

    Args:
        first: in force from the start.
    """

    def __init__(self, first: Standing) -> None:
        self._first, self._decided = first, list[tuple[Decision, Standing]]()
        self._stack = [first.active]

    def decide(self, decision: Decision) -> Standing:
        """Take a decision in, in the order in which they were made."""
        standing = standing_of(decision.body)
        self._decided.append((decision, standing))
        if decision.body.get("action") == "rollback" and len(self._stack) > 1:
            self._stack.pop()
        elif standing.active != self._stack[-1]:
            self._stack.append(standing.active)
        return standing

    def at(self, stream: tuple[str, int], t_end_ns: int) -> Standing:
        """What is in force for a window of a stream, told by sensor and epoch, that ends then."""
        for decision, standing in reversed(self._decided):
            if t_end_ns > decision.after_ns(*stream):
                return standing
        return self._first

    @property
    def newest(self) -> Standing:
        """What the newest decision says."""
        return self._decided[-1][1] if self._decided else self._first

    @property
    def before(self) -> Lineup | None:
        """What a rollback goes back to."""
        return self._stack[-2] if len(self._stack) > 1 else None


def standing_of(body: Mapping[str, Any]) -> Standing:
    """What a decision's body puts in force."""
    shadow = body.get("shadow")
    return Standing(Lineup.of(body["active"]), None if shadow is None else Lineup.of(shadow))
