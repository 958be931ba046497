"""What results say about now, as metrics: scores, thresholds, alarms, sensor health, machine states, losses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from connectors.prometheus_families import Family
from connectors.results import number, sensors_of
from pipeline.messages import Health, Record

HEALTH_STATES: tuple[str, ...] = get_args(get_type_hints(Health)["state"])

_CONDITION = ("machine", "sensors", "detector")
_FAMILIES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "stethos_score": (_CONDITION, "Newest score of a detector; high means abnormal."),
    "stethos_score_threshold": (_CONDITION, "Threshold above which the score is abnormal."),
    "stethos_score_timestamp_seconds": (_CONDITION, "Event time of the newest score, seconds since 1970."),
    "stethos_alarms_total": (_CONDITION, "Alarms raised."),
    "stethos_alarm_active": ((*_CONDITION, "severity"), "Whether the newest alarm of a condition is active, 1 or 0."),
    "stethos_alarm_timestamp_seconds": (_CONDITION, "Event time of a condition's newest transition."),
    "stethos_sensor_health_state": (
        ("machine", "sensor", "state"),
        "NAMUR NE 107 state of a sensor: 1 for the state it is in, 0 for the others.",
    ),
    "stethos_machine_state": ((*_CONDITION, "state"), "1 for the state that the machine is in."),
    "stethos_machine_state_probability": (_CONDITION, "What the model gives the newest state told."),
    "stethos_shadow_windows": (_CONDITION, "Windows that a model in shadow has answered beside the active one."),
    "stethos_shadow_disagreements": (_CONDITION, "How many of them it has answered otherwise."),
    "stethos_event_timestamp_seconds": (("machine",), "Event time up to which a machine's results have come."),
    "stethos_samples_dropped_total": (("machine", "sensor", "reason"), "Samples that came late or were unusable."),
    "stethos_dead_letters_total": (("machine", "topic", "reason"), "Messages that could not be used."),
}
RESULT_METRICS = tuple(_FAMILIES)
"""Names of the metrics that results give."""

_EVENTS = ("score", "feature", "machine_state")  # topics whose records tell how far a machine's results have come
_SCORES = ("stethos_score", "stethos_score_threshold", "stethos_score_timestamp_seconds")
_SHADOW = ("stethos_shadow_windows", "stethos_shadow_disagreements")
_IDS = 50_000  # late and dlq records remembered, so that a repeat is not counted again


class ResultMetrics:
    """The newest state of all machines in memory; the caller keeps threads apart.

    Args:
        limit: most label sets per metric.
        stale_after_s: a score leaves when none came for this long.
        vanished_after_s: everything of a machine leaves when nothing came from it for this long, unless one of its
            alarms is active.
    """

    def __init__(self, limit: int, stale_after_s: float, vanished_after_s: float) -> None:
        self.families = {name: Family(name, text, labels, limit) for name, (labels, text) in _FAMILIES.items()}
        self._limit, self._stale_after_s, self._vanished_after_s = limit, stale_after_s, vanished_after_s
        self._transitions: dict[tuple[str, ...], tuple[int, int]] = {}  # condition -> (t_ns, ordinal) of its newest
        self._raised: dict[tuple[str, ...], int] = {}  # condition -> its newest raise time
        self._health: dict[tuple[str, str], int] = {}  # (machine, sensor) -> t_ns of its newest state
        self._states: dict[tuple[str, ...], int] = {}  # condition -> t_ns of its newest state
        self._seen: dict[str, float] = {}  # machine -> when its newest record came
        self._counted: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._handlers: Mapping[str, Callable[[Record, float], None]] = {
            "score": self._score,
            "feature": self._feature,
            "machine_state": self._machine_state,
            "alarm": self._alarm,
            "health": self._sensor_health,
            "late": self._late,
            "dlq": self._dead_letter,
        }

    def take(self, record: Record, now: float) -> None:
        """Take a record in; a repeat changes nothing.

        Raises:
            KeyError: the body lacks what a result of this topic must have.
            TypeError: a part of the body has the wrong type.
            ValueError: a part of the body has a value that it cannot have.
        """
        handler = self._handlers.get(record.topic)
        if handler is not None:
            handler(record, now)
        if record.topic in _EVENTS:
            times = self.families["stethos_event_timestamp_seconds"]
            times.set((record.machine,), max(record.t_ns / 1e9, times.values.get((record.machine,), 0.0)), now)
        if record.machine in self._seen or len(self._seen) < self._limit:
            self._seen[record.machine] = now

    def forget_counts(self) -> None:
        """Set the count of alarms back to zero, keeping what was counted."""
        counts = self.families["stethos_alarms_total"].values
        counts.update(dict.fromkeys(counts, 0.0))

    def leave(self, now: float) -> None:
        """Let go what is stale."""
        for name in (*_SCORES, *_SHADOW):
            family = self.families[name]
            stale = {key for key, touched in family.touched.items() if now - touched > self._stale_after_s}
            family.remove(stale.__contains__)
        active = {key[0] for key, value in self.families["stethos_alarm_active"].values.items() if value}
        silent = {machine for machine, seen in self._seen.items() if now - seen > self._vanished_after_s}
        self.forget(silent - active)

    def forget(self, machines: set[str]) -> None:
        """Let go everything of these machines."""
        if not machines:
            return
        for family in self.families.values():
            family.remove(lambda key: key[0] in machines)
        stores: tuple[dict[Any, Any], ...] = (self._transitions, self._raised, self._health, self._states)
        for store in stores:
            for key in [key for key in store if key[0] in machines]:
                del store[key]
        for machine in machines:
            self._seen.pop(machine, None)

    def age(self, now: float) -> Family:
        """How old the newest results of each machine are."""
        text = "How far a machine's results lie behind the host's clock, at the time of the scrape."
        age = Family("stethos_event_age_seconds", text, ("machine",), self._limit)
        for key, t_s in self.families["stethos_event_timestamp_seconds"].values.items():
            age.set(key, now - t_s)
        return age

    def _score(self, record: Record, now: float) -> None:
        body = record.body
        key = (record.machine, sensors_of(body), str(body["detector"]))
        score, threshold, times = (self.families[name] for name in _SCORES)
        self.families["stethos_alarms_total"].add(key, 0.0, now)  # so that the first alarm is an increase
        value, t_s = number(body["value"]), record.t_ns / 1e9
        if value is None or not body.get("complete", True) or t_s < times.values.get(key, 0.0):
            return
        for family, new in ((score, value), (threshold, float(body["threshold"])), (times, t_s)):
            family.set(key, new, now)

    def _machine_state(self, record: Record, now: float) -> None:
        body = record.body
        state, who = str(body["state"]), (record.machine, sensors_of(body), str(body["detector"]))
        if record.t_ns < self._states.get(who, 0):
            return
        family = self.families["stethos_machine_state"]
        family.remove(lambda key: key[:3] == who and key[3] != state)
        if family.set((*who, state), 1.0, now):
            self._states[who] = record.t_ns
        sure = self.families["stethos_machine_state_probability"]
        if (probability := number(body.get("probability"))) is None:
            sure.remove(lambda key: key == who)
        else:
            sure.set(who, probability, now)

    def _feature(self, record: Record, now: float) -> None:
        """Only what a model in shadow says of itself; other features are for the time series database."""
        name, values = str(record.body["name"]), record.body["values"]
        if name.startswith("shadow."):
            who = (record.machine, sensors_of(record.body), name.removeprefix("shadow."))
            for family, key in zip(_SHADOW, ("windows", "disagreed"), strict=True):
                if (count := number(values.get(key))) is not None:
                    self.families[family].set(who, count, now)

    def _alarm(self, record: Record, now: float) -> None:
        body = record.body
        condition = (record.machine, sensors_of(body), str(body["detector"]))
        transition, severity, raised_ns = str(body["transition"]), str(body["severity"]), int(body["raised_ns"])
        place = (record.t_ns, int(body["ordinal"]))
        counter, active = self.families["stethos_alarms_total"], self.families["stethos_alarm_active"]
        if transition == "raised" and raised_ns > self._raised.get(condition, -1) and counter.add(condition, 1.0, now):
            self._raised[condition] = raised_ns
        if transition not in ("raised", "cleared") or place < self._transitions.get(condition, (-1, -1)):
            return
        active.remove(lambda key: key[:3] == condition and key[3] != severity)
        if active.set((*condition, severity), float(transition == "raised"), now):
            self._transitions[condition] = place
        self.families["stethos_alarm_timestamp_seconds"].set(condition, record.t_ns / 1e9, now)

    def _sensor_health(self, record: Record, now: float) -> None:
        who, state = (record.machine, str(record.body["sensor"])), str(record.body["state"])
        if state not in HEALTH_STATES:
            raise ValueError(f"'{state}' is no NE 107 state")
        if record.t_ns < self._health.get(who, 0):
            return
        for each in HEALTH_STATES:
            if self.families["stethos_sensor_health_state"].set((*who, each), float(each == state), now):
                self._health[who] = record.t_ns

    def _late(self, record: Record, now: float) -> None:
        body = record.body
        key = (record.machine, str(body["sensor"]), str(body["reason"]))
        samples = int(body["n1"]) - int(body["n0"])
        if self._first_time(record):
            self.families["stethos_samples_dropped_total"].add(key, samples, now)

    def _dead_letter(self, record: Record, now: float) -> None:
        key = (record.machine, str(record.body["topic"]), str(record.body["reason"]))
        if self._first_time(record):
            self.families["stethos_dead_letters_total"].add(key, 1.0, now)

    def _first_time(self, record: Record) -> bool:
        key = (record.topic, record.id)
        if key in self._counted:
            return False
        self._counted[key] = None
        if len(self._counted) > _IDS:
            self._counted.popitem(last=False)
        return True
