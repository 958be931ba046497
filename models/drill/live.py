"""The drill classifier in a stream, beside the physics detector, and the rules that combine both.

Every second frame of the physics detector (10 ms) also says how likely its last 20.83 ms hold a fracture. What that is
worth is decided within holes alone, by the physics detector's own template of good holes: an entry sounds like a
fracture, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from math import exp, isfinite
from typing import Any, ClassVar, Literal, TypeAlias

from models.drill.data import Float64
from models.drill.levels import check_rate, contrast
from operators.base import Stateful
from operators.breakage import BreakFeatures
from operators.breakage_detector import BREAK, LOSS_DB, BreakDetector
from operators.breakage_reasons import ADVICE
from operators.spindle import Speed
from pipeline.messages import Feature, Float32, Message, Score, Segment, Stream

CLASSIFIER = "drill_classifier"
LEARNED = "learned"
"""Value of a frame: log odds of a fracture."""
EVERY = 2
"""Frames between two such values."""
WITHIN = 80
"""Frames (400 ms) before a loss of cutting energy in which its fracture must have been heard."""
Rule: TypeAlias = Literal["advisory", "both", "either", "burst"]
RULES: Mapping[Rule, str] = {
    "advisory": "physics alone stops; the classifier advises",
    "both": "a loss of cutting energy counts only where the classifier heard a fracture up to 400 ms before",
    "either": "the classifier stops by itself where good holes cut",
    "burst": "what the classifier hears counts as the burst that lets physics judge nearer to a hole's end",
}
Judge: TypeAlias = Callable[[Float64], float]


class LearnedFrames(BreakFeatures):
    """`BreakFeatures` whose every second frame also has ``learned``, the classifier's log odds of a fracture.

    Args:
        stream: 96 or 48 kHz.
        judge: log odds of 21 level differences (`contrast`).
        state: where the operating state comes from.

    Raises:
        BadInput: another rate.
    """

    def __init__(self, stream: Stream, judge: Judge, state: Speed | None = None) -> None:
        check_rate(stream.rate.hz, f"machine '{stream.machine}', sensor '{stream.sensor}'")
        super().__init__(stream, state)
        self._judge = judge

    def _measure(self, segment: Segment, n0: int, x: Float32) -> dict[str, float]:
        values = super()._measure(segment, n0, x)
        if n0 // self._hop % EVERY == 0:
            odds = self._judge(contrast(x.astype(float), self._rate))
            if isfinite(odds):
                values[LEARNED] = odds
        return values


def probability(odds: float) -> float:
    """Of log odds."""
    return 1.0 / (1.0 + exp(-min(max(odds, -500.0), 500.0)))


class LearnedBreak(Stateful):
    """`Feature` ``drill_frame`` with ``learned`` → the scores of `BreakDetector`, and `Score` "drill_classifier".

    "drill_classifier" is the highest probability of a fracture so far in a hole, where good holes still cut: one score
    when it first exceeds the threshold, else one at the hole's end. `rule` says what it does to "drill_break".

    Args:
        teach: good holes that make a template.
        threshold: probability from which a fracture was heard.
        rule: one of `RULES`.
        model: digest of the package; part of what the scores depend on.
        every: frames between scores of "drill_break" while nothing happens.
    """

    schema: ClassVar[int] = 1

    def __init__(self, teach: int, threshold: float, rule: Rule, model: str, *, every: int = 100) -> None:
        if not 0.0 < threshold < 1.0:
            raise ValueError(f"a probability lies between 0 and 1, not at {threshold}")
        self._inner = BreakDetector(teach, every=every)
        self._threshold, self._rule = threshold, rule
        said = f"{self._inner.settings}|{model}|{threshold!r}|{rule}|1"
        self.settings = sha256(said.encode()).hexdigest()[:12]
        self._hears = False
        self._since = WITHIN + 1
        self._peak = 0.0
        self._told = False

    def process(self, message: Message) -> Iterable[Message]:
        """Take one frame in."""
        odds = message.values.get(LEARNED) if isinstance(message, Feature) else None
        if odds is not None:
            self._hear()
        if not self._hears or not isinstance(message, Feature):
            return self._inner.process(message)
        before = self._inner.in_hole
        p = 0.0 if odds is None else probability(odds)
        heard = p >= self._threshold
        self._since = 0 if heard else min(self._since + 1, WITHIN + 1)
        if heard and self._rule == "burst":
            self._inner.hear_burst()
        out = [self._confirmed(m) for m in self._inner.process(message)]
        if not message.complete:
            self._since = WITHIN + 1
        advice = self._advise(message, p, before)
        if any(score.detector == BREAK for score in advice):  # of two scores with one time, alarms take the first
            out = [m for m in out if not isinstance(m, Score) or m.detector != BREAK]
        return [*out, *advice]

    def _hear(self) -> None:
        """From the first judged frame on; other sensors of the machine have physics alone."""
        self._hears = True
        if self._rule != "advisory":
            self._inner.settings = self.settings

    def _confirmed(self, message: Message) -> Message:
        """A break that physics found, or what is left of it."""
        silent = self._since > WITHIN
        if self._rule != "both" or not silent or not isinstance(message, Score) or not message.abnormal:
            return message
        if message.detector != BREAK:
            return message
        heard = str(message.reasons["text"]).removesuffix(ADVICE)
        text = f"not taken for a break, as the classifier heard no fracture: {heard}"
        return self._score(message, BREAK, 0.0, LOSS_DB, {**message.reasons, "text": text})

    def _advise(self, message: Feature, p: float, before: bool) -> list[Score]:
        if before and not self._inner.in_hole:
            told, peak = self._told, self._peak
            self._peak, self._told = 0.0, False
            return [] if told else [self._say(message, peak, "highest in this hole")]
        if not self._inner.judges:
            return []
        self._peak = max(self._peak, p)
        if self._told or self._peak < self._threshold:
            return []
        self._told = True
        out = [self._say(message, p, "a fracture was heard")]
        if self._rule == "either":
            self._inner.condemn()
            text = f"drill broken: the classifier heard a fracture (probability {p:.3f}){ADVICE}"
            out.append(self._score(message, BREAK, LOSS_DB * 1.01, LOSS_DB, {"text": text, "probability": p}))
        return out

    def _say(self, message: Feature, p: float, what: str) -> Score:
        text = f"{what}: probability of a fracture {p:.3f}"
        return self._score(message, CLASSIFIER, p, self._threshold, {"text": text, "rule": self._rule})

    def _score(
        self, source: Feature | Score, detector: str, value: float, limit: float, reasons: Mapping[str, Any]
    ) -> Score:
        return Score.of(source, detector, value, limit, self.settings, reasons)

    def snapshot(self) -> dict[str, Any]:
        """The physics detector's, and what was heard in the hole under way."""
        return {
            "schema": self.schema, "physics": self._inner.snapshot(), "since": self._since, "peak": self._peak,
            "told": self._told, "hears": self._hears,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot; one of the physics detector alone gives its template."""
        self._inner.restore(state.get("physics", state))
        self._since, self._peak = int(state.get("since", WITHIN + 1)), float(state.get("peak", 0.0))
        self._told = bool(state.get("told", False))
        if state.get("hears", False):
            self._hear()
