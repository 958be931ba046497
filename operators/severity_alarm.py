"""Alarms of vibration severity after ISO 10816-3 / 20816-3: the level itself, and its change against a baseline.

ALARM = baseline + 25 % of the upper limit of zone B, at most 1.25 times that limit; a change of more than 25 % of that
limit, up or down, is significant even inside zones A and B (a machine that has become quieter has changed too). The
limits' edition stands in `severity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from statistics import median
from typing import Any, ClassVar

from operators.base import Stateful
from operators.severity import Limits, alarm_limit, zone_of
from pipeline.messages import Feature, Message, Score

SEVERITY, CHANGE = "severity", "severity_change"
FEATURE = "severity"
_CHANGE_SHARE = 0.25
_STANDS_MM_S, _STANDS_SHARE = 0.1, 0.1
"""A machine that shakes by less, or by less than this share of its baseline, stands still."""


class SeverityAlarm(Stateful):
    """`Feature` ``severity`` of one sensor → itself, and `Score` "severity" and "severity_change", both in mm/s.

    The value of "severity" is the RMS velocity with the ALARM limit as threshold; that of "severity_change" its
    distance from the baseline with a quarter of the B/C limit as threshold. Without a baseline from commissioning, the
    median of the first `learn` complete windows becomes it; until then scores are incomplete and say so. A machine that
    stands still (below 0.1 mm/s, or a tenth of its baseline) teaches nothing, and its stop is no change.

    Args:
        limits: zone limits of the machine.
        baseline_mm_s: from commissioning.
        learn: windows that make a baseline where none is given, at most 1,000.
        basis: what else a learned baseline depends on, such as unit and band; under another one it is learned anew.

    Raises:
        ValueError: a baseline that is no level, or nothing to learn from.
    """

    schema: ClassVar[int] = 1

    def __init__(
        self, limits: Limits, baseline_mm_s: float | None = None, *, learn: int = 600, basis: str = ""
    ) -> None:
        if baseline_mm_s is not None and not 0.0 <= baseline_mm_s < 1000.0:
            raise ValueError(f"a baseline is a level in mm/s, not {baseline_mm_s}")
        if not 1 <= learn <= 1000:
            raise ValueError(f"a baseline is learned from 1 to 1,000 windows, not {learn}")
        self._limits, self._given, self._learn = limits, baseline_mm_s, learn
        self._baseline = baseline_mm_s
        self._basis = f"{limits}|{learn}|{basis}"
        self._heard: list[float] = []
        self.settings = sha256(f"{SEVERITY}|1|{limits}|{baseline_mm_s}|{learn}".encode()).hexdigest()[:12]

    def process(self, message: Message) -> Iterable[Message]:
        """Judge one window; an incomplete one gives incomplete scores."""
        if not isinstance(message, Feature) or message.name != FEATURE:
            raise TypeError(f"SeverityAlarm takes the feature {FEATURE}, not {type(message).__name__}")
        if not message.complete:
            return [message, *self._unknown(message, "samples are missing, or the sensor gives no signal")]
        velocity = message.values["rms_velocity_mm_s"]
        if self._baseline is None:
            if velocity >= _STANDS_MM_S:
                self._heard.append(round(velocity, 4))
            if len(self._heard) < self._learn:
                text = f"not commissioned: {len(self._heard)} of {self._learn} windows learned"
                return [message, *self._unknown(message, text)]
            self._baseline, self._heard = median(self._heard), []
        return [message, *self._judge(message, velocity, self._baseline)]

    def _judge(self, message: Feature, velocity: float, baseline: float) -> list[Message]:
        limit, zone = alarm_limit(baseline, self._limits), zone_of(velocity, self._limits)
        significant = _CHANGE_SHARE * self._limits.bc
        facts = {
            "zone": zone, "baseline_mm_s": baseline, "limit_bc_mm_s": self._limits.bc, "edition": self._limits.edition,
        }  # fmt: skip
        text = (
            f"{velocity:.2f} mm/s, zone {zone} of {self._limits.edition}; alarm at {limit:.2f} mm/s "
            f"(baseline {baseline:.2f} mm/s + 25 % of B/C)"
        )
        change = f"{velocity - baseline:+.2f} mm/s from the baseline; {significant:.2f} mm/s is significant"
        changed = abs(velocity - baseline)
        if velocity < max(_STANDS_MM_S, _STANDS_SHARE * baseline):
            changed, change = 0.0, "the machine stands still"
        return [
            self._score(message, SEVERITY, velocity, limit, {**facts, "text": text}, complete=True),
            self._score(message, CHANGE, changed, significant, {**facts, "text": change}, complete=True),
        ]

    def _unknown(self, message: Feature, text: str) -> list[Message]:
        names = ((SEVERITY, alarm_limit(0.0, self._limits)), (CHANGE, _CHANGE_SHARE * self._limits.bc))
        return [self._score(message, name, 0.0, limit, {"text": text}, complete=False) for name, limit in names]

    def _score(
        self, message: Feature, detector: str, value: float, limit: float, reasons: Mapping[str, Any], *, complete: bool
    ) -> Score:
        return Score.of(message, detector, value, limit, self.settings, reasons, complete=complete)

    def snapshot(self) -> dict[str, Any]:
        """The baseline, or what it is being learned from; at most 9 kB."""
        kept = {"schema": self.schema, "baseline": self._baseline, "heard": list(self._heard)}
        return {**kept, "given": self._given, "basis": self._basis}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot; a baseline that the configuration gives, or takes back, is not the snapshot's.

        Nor is one that was learned under another unit, band or limit.
        """
        if self._given is None and state.get("given") is None and state.get("basis", self._basis) == self._basis:
            self._baseline, self._heard = state["baseline"], list(state["heard"])
