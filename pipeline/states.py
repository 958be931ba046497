"""From embeddings to what they mean: the state of a machine that lasts, scores of classes, and how a shadow differs."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from config.schema import Head
from operators.base import Stateful
from pipeline.lineup import Lineup
from pipeline.machine_models import ABSTAIN, MachineModels
from pipeline.messages import NS, Embedding, Feature, MachineState, Message, Score
from pipeline.results import canonical

UNKNOWN = "unknown"
"""The state where no class is probable enough."""
SHADOW = "shadow."
"""What the names of detectors begin with whose packages run beside those in force: they raise no alarm."""
CONFIRM_NS = 10 * NS
"""A state that lasts is told again after so long, so that who joins later learns of it."""
PAIRS = 64
"""Kinds of disagreement that are counted apart."""


class Answer(NamedTuple):
    """What a head says of one embedding; `label` is `UNKNOWN` where it abstains."""

    label: str
    probability: float
    probabilities: Mapping[str, float]


class Reader:
    """One head in force: probabilities from an embedding, and whether they are enough.

    Args:
        head: its configuration.
        package: of the head.
        embedding: hash of the embedding's settings.
    """

    def __init__(self, head: Head, package: Any, embedding: str) -> None:
        card = package.card
        self.head, self.card = head, card
        self._package = package
        abstain = card.thresholds.get("abstain", ABSTAIN) if head.unknown_below is None else head.unknown_below
        own = {} if head.unknown_below is not None else card.thresholds
        self._least = {label: max(abstain, own.get(label, 0.0)) for label in card.labels}
        told = [card.thresholds[label] for label in head.abnormal if label in card.thresholds]
        self.threshold = head.threshold or max(told, default=0.5)
        said = {
            "head": package.digest, "embedding": embedding, "gives": head.gives, "abnormal": list(head.abnormal),
            "threshold": self.threshold, "least": self._least, "k": head.k, "n": head.n,
        }  # fmt: skip
        self.settings = hashlib.sha256(canonical(said)).hexdigest()[:16]

    def answer(self, embedding: Embedding) -> Answer:
        """The head's answer.

        Raises:
            BadInput, StateError: the runtime failed.
        """
        logits = self._package.session().run(embedding.values[None])[self.card.outputs[0].name][0].astype(np.float64)
        e = np.exp(logits - logits.max())
        p = e / e.sum()
        best = int(np.argmax(p))
        label, probability = self.card.labels[best], float(p[best])
        enough = probability >= self._least[label]
        return Answer(
            label if enough else UNKNOWN, probability, {n: float(v) for n, v in zip(self.card.labels, p, strict=True)}
        )


class States(Stateful):
    """`Embedding`s of one sensor → `MachineState`s and class `Score`s, those of the shadow beside them.

    A state is told when k of the last n windows say so and another one was told before, and again every ten seconds.
    Heads under new settings (another package) begin anew. Where a shadow runs, its answers are compared with those of
    the active heads window by window; a `Feature` ``shadow.<detector>`` tells `windows`, `disagreed` and, by
    ``active|shadow``, the kinds of disagreement, all since the shadow began.
    """

    schema: ClassVar[int] = 1

    def __init__(self, models: MachineModels) -> None:
        self._models = models
        self._readers: dict[tuple[str, str, str], Reader] = {}
        self._lasting: dict[str, dict[str, Any]] = {}
        self._compared: dict[str, dict[str, Any]] = {}
        self._last: dict[str, Any] = {"t_ns": -1, "answers": {}}

    def process(self, message: Message) -> Iterable[Message]:
        """Read one embedding."""
        if not isinstance(message, Embedding):
            raise TypeError(f"States takes Embedding, not {type(message).__name__}")
        (span, *_), out = message.lineage, list[Message]()
        standing = self._models.at((span.sensor, span.epoch), message.t_end_ns)
        if message.detector.startswith(SHADOW):
            assert standing.shadow is not None
            return self._read(message, standing.shadow, SHADOW)
        self._last = {"t_ns": message.t_end_ns, "answers": {}}
        out += self._read(message, standing.active, "")
        if standing.shadow is not None and standing.shadow.encoder == standing.active.encoder:
            out += self._read(message, standing.shadow, SHADOW)
        if standing.shadow is None and self._compared:
            self._compared = {}
            self._lasting = {name: kept for name, kept in self._lasting.items() if not name.startswith(SHADOW)}
        return out

    def _read(self, embedding: Embedding, lineup: Lineup, prefix: str) -> list[Message]:
        out: list[Message] = []
        for name, digest in lineup.heads:
            reader = self._reader(name, digest, embedding.settings)
            answer, detector = reader.answer(embedding), prefix + name
            if reader.head.gives == "score":
                out.append(_score(embedding, detector, reader, answer))
            else:
                out += self._state(embedding, detector, reader, answer)
            if prefix:
                out += self._compare(embedding, name, reader, answer.label)
            else:
                self._last["answers"][name] = [reader.settings, answer.label]
        return out

    def _reader(self, name: str, digest: str, embedding: str) -> Reader:
        key = (name, digest, embedding)
        found = self._readers.get(key)
        if found is None:
            found = self._readers[key] = Reader(self._models.head(name), self._models.shelf.get(digest), embedding)
        return found

    def _state(self, embedding: Embedding, detector: str, reader: Reader, answer: Answer) -> list[Message]:
        kept = self._lasting.get(detector)
        if kept is None or kept["settings"] != reader.settings:
            kept = {"settings": reader.settings, "recent": [], "state": "", "told_ns": 0}
            self._lasting[detector] = kept
        kept["recent"] = [*kept["recent"], answer.label][-reader.head.n :]
        label, count = Counter(kept["recent"]).most_common(1)[0]
        if count >= reader.head.k and label != kept["state"]:
            kept["state"] = label
        elif not kept["state"] or _lately(kept["told_ns"], embedding.t_end_ns):
            return []
        kept["told_ns"] = embedding.t_end_ns
        return [
            MachineState(
                embedding.machine, embedding.sensors, detector, embedding.t_end_ns, kept["state"], reader.settings,
                embedding.lineage, answer.probabilities.get(kept["state"], math.nan),
            )
        ]  # fmt: skip

    def _compare(self, embedding: Embedding, name: str, reader: Reader, label: str) -> list[Message]:
        """Count whether the shadow says the same of this window as the active head did."""
        if self._last["t_ns"] != embedding.t_end_ns or name not in self._last["answers"]:
            return []  # the active encoder refused this window
        settings, active = self._last["answers"][name]
        kept = self._compared.get(name)
        if kept is None or kept["settings"] != [settings, reader.settings]:
            kept = {
                "settings": [settings, reader.settings], "windows": 0, "disagreed": 0, "pairs": {}, "told_ns": 0
            }  # fmt: skip
            self._compared[name] = kept
        kept["windows"] += 1
        if label != active:
            kept["disagreed"] += 1
            pair = f"{active}|{label}"
            if pair in kept["pairs"] or len(kept["pairs"]) < PAIRS:
                kept["pairs"][pair] = kept["pairs"].get(pair, 0) + 1
        if _lately(kept["told_ns"], embedding.t_end_ns):
            return []
        kept["told_ns"] = embedding.t_end_ns
        values = {"windows": float(kept["windows"]), "disagreed": float(kept["disagreed"])}
        values |= {pair: float(count) for pair, count in sorted(kept["pairs"].items())}
        told = Feature(
            embedding.machine, embedding.sensors, SHADOW + name, embedding.t_end_ns, values, True, embedding.lineage
        )
        return [told]

    def snapshot(self) -> dict[str, Any]:
        """State as JSON values."""
        return {
            "schema": self.schema,
            "lasting": {name: dict(kept) for name, kept in self._lasting.items()},
            "compared": {name: {**kept, "pairs": dict(kept["pairs"])} for name, kept in self._compared.items()},
            "last": {"t_ns": self._last["t_ns"], "answers": dict(self._last["answers"])},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._lasting = {name: dict(kept) for name, kept in state["lasting"].items()}
        self._compared = {name: dict(kept) for name, kept in state["compared"].items()}
        self._last = dict(state["last"])


def _lately(told_ns: int, t_ns: int) -> bool:
    """Whether it was told less than `CONFIRM_NS` ago; a later time is that of a clock that was set back since."""
    return 0 <= t_ns - told_ns < CONFIRM_NS


def _score(embedding: Embedding, detector: str, reader: Reader, answer: Answer) -> Score:
    value = math.fsum(answer.probabilities[label] for label in reader.head.abnormal)
    text = f"recognised as {answer.label} ({100.0 * answer.probability:.0f} %)"
    reasons = {"label": answer.label, "probability": answer.probability, "model": embedding.model, "text": text}
    return Score.of(embedding, detector, value, reader.threshold, reader.settings, reasons)
