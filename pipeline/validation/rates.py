"""False alarms per hour and per day, counted where a recording shows normal running."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from models.anomaly.thresholds import poisson_interval
from pipeline.clips import second_ns
from pipeline.manifest import Row
from pipeline.messages import Alarm
from pipeline.validation.metrics import Metric

_UNITS_S = {"hour": 3_600.0, "day": 86_400.0}


def quiet_until_s(row: Row) -> float | None:
    """Second of the file until which it shows normal running: the column ``quiet_until_s``, else the onset.

    What lies between the two is neither: an alarm there is early, not false.
    """
    text = row.extra.get("quiet_until_s", "")
    try:
        return float(text) if text else row.onset_s
    except ValueError:
        return row.onset_s


def false_alarms(found: Iterable[tuple[Row, Sequence[Alarm], float]], normal: Collection[str]) -> dict[str, Metric]:
    """Alarms raised per hour and per day of normal running, with exact Poisson limits; nothing where there was none.

    Normal running is all of a recording with a normal label, and what comes before the onset in any other (or before
    `quiet_until_s`, where the manifest says that).

    Args:
        found: each recording's row, alarms and the second of its file up to which it was heard.
        normal: labels that mean normal.
    """
    count, seconds, recordings = 0, 0.0, 0
    for row, alarms, end_s in found:
        quiet_s = quiet_until_s(row)
        if row.label not in normal and quiet_s is None:
            continue
        until_s = end_s if row.label in normal or quiet_s is None else min(quiet_s, end_s)
        if until_s <= row.start_s:  # normal running ended before what was heard of the file
            continue
        until_ns = second_ns(until_s)
        count += sum(a.transition == "raised" and a.t_ns <= until_ns for a in alarms)
        seconds += until_s - row.start_s
        recordings += 1
    if seconds <= 0.0:
        return {}
    rates = {}
    for unit, unit_s in _UNITS_S.items():
        low, high = poisson_interval(count, seconds / unit_s)
        rates[f"false_alarms_per_{unit}"] = Metric(count / (seconds / unit_s), low, high, recordings)
    return rates
