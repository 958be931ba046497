"""Vibration severity as a scorer: the level after ISO 10816-3, or its change, against recordings that learn."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import cast, get_args

from operators.base import Stateful
from operators.rewindow import Rewindow
from operators.severity import Asset, Severity, Support, least_length, refusal
from operators.severity_alarm import FEATURE, SEVERITY, SeverityAlarm
from pipeline.clips import Clip, read_clip
from pipeline.manifest import NORMAL_LABELS, Row, learning_rows
from pipeline.messages import Anchor, Feature, Message, Score, Segment, Window
from pipeline.validation.physics import PhysicsScorer, Unverified


class SeverityScorer(PhysicsScorer):
    """RMS velocity in windows of a second, with what the manifest tells of the machine.

    Columns ``iso_group``, 1 or 2, and ``iso_support``, rigid or flexible; with ``spindle_rpm`` below 600 the band
    begins at 2 Hz.

    Args:
        rows: of the manifest; the median over its normal rows that learn is the baseline of their machine and sensor.
        normal: labels that mean normal.
        detector: "severity" or "severity_change".
    """

    def __init__(self, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS, detector: str = SEVERITY) -> None:
        self.detector = detector
        self._good: dict[tuple[str, str], list[Row]] = {}
        for row in learning_rows(rows):
            if row.label in normal:
                self._good.setdefault((row.machine, row.sensor), []).append(row)
        self._baselines: dict[tuple[str, str], float] = {}

    @property
    def used_groups(self) -> Collection[str]:
        """Groups of the recordings whose level is the baseline."""
        return frozenset(row.group for rows in self._good.values() for row in rows)

    def scores(self, clip: Clip) -> list[Score]:
        """One a second."""
        asset = _asset(clip.row)
        alarm: Stateful = SeverityAlarm(asset.limits, self._baseline(clip.row))
        found = [m for feature in _features(clip, asset) for m in alarm.process(feature)]
        return [m for m in found if isinstance(m, Score) and m.detector == self.detector]

    def _baseline(self, row: Row) -> float:
        known = row.machine, row.sensor
        if known not in self._baselines:
            clips = [read_clip(each) for each in self._good.get(known, [])]
            heard = [f.values for clip in clips for f in _features(clip, _asset(clip.row)) if f.complete]
            if not heard:
                raise Unverified("not commissioned: no normal recording of this sensor can be learned from")
            self._baselines[known] = median(values["rms_velocity_mm_s"] for values in heard)
        return self._baselines[known]


def _asset(row: Row) -> Asset:
    extra: Mapping[str, str] = row.extra
    group, support = extra.get("iso_group", ""), extra.get("iso_support", "")
    if group not in {"1", "2"} or support not in get_args(Support):
        raise Unverified(
            "the machine's group (column iso_group: 1, 2) or support (iso_support: rigid, flexible) was not told"
        )
    return Asset(1 if group == "1" else 2, cast(Support, support), speed_rpm=row.spindle_rpm)


def _features(clip: Clip, asset: Asset) -> list[Feature]:
    """One a second, as live (`pipeline.stages.window`).

    Raises:
        ValueError: the stream cannot be assessed.
    """
    reason = refusal(clip.stream, asset)
    if reason is not None:
        raise ValueError(reason)
    second = max(1, round(clip.stream.rate.hz))
    length = max(second, least_length(clip.stream.rate.hz, asset.lower_hz))
    severity, found = Severity(clip.stream, asset), list[Message]()
    for piece in clip.pieces:
        windows, at = Rewindow(clip.stream, length, second), 0
        for x in piece.blocks():
            for window in windows.process(Segment(clip.stream, Anchor(0, piece.t0_ns), at, x)):
                if isinstance(window, Window):
                    found += severity.process(window)
            at += len(x)
    return [f for f in found if isinstance(f, Feature) and f.name == FEATURE]
