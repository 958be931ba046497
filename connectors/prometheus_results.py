"""What results say about now, as metrics: scores, thresholds, alarms, sensor health, machine states, losses."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
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
_STATES = ("stethos_machine_state", "stethos_machine_state_probability")  # one that lasts is told every ten seconds
_SHADOW = ("stethos_shadow_windows", "stethos_shadow_disagreements")
_IDS = 50_000  # alarms, late and dlq records remembered of each, so that a repeat is not counted again
_STRANGER = "unknown"  # in place of a machine that the configuration does not have: anybody can make names up
_STEP_S = 60.0  # a series whose event time goes back so far has been given another clock


class ResultMetrics:
    """The newest state of all machines in memory; the caller keeps threads apart.

    What is newest, the place in the log says and not the event time: a device's clock may have been set back.

    Args:
        limit: most label sets per metric.
        stale_after_s: a score, or a machine's state, leaves when none came for this long.
        vanished_after_s: everything of a machine leaves when nothing came from it for this long, unless one of its
            alarms is active.
        machines: that the configuration has; dead letters of all others are counted as one machine's. None: all names
            are taken as they come.
    """

    def __init__(
        self, limit: int, stale_after_s: float, vanished_after_s: float, machines: Collection[str] | None = None
    ) -> None:
        self.families = {name: Family(name, text, labels, limit) for name, (labels, text) in _FAMILIES.items()}
        self._limit, self._stale_after_s, self._vanished_after_s = limit, stale_after_s, vanished_after_s
        self._machines = None if machines is None else frozenset(machines)
        self._transitions: dict[tuple[str, ...], tuple[int, str, int]] = {}  # condition -> newest (seq, alarm, ordinal)
        self._places: dict[tuple[str, ...], int] = {}  # (machine, topic, who) -> seq of its newest score, state, health
        self._times: dict[tuple[str], dict[tuple[str, ...], float]] = {}  # machine -> event time of each series, s
        self._seen: dict[str, float] = {}  # machine -> when its newest record came
        self._counted: defaultdict[str, OrderedDict[str, None]] = defaultdict(OrderedDict)
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
        if record.topic == "dlq" and self._machines is not None and record.machine not in self._machines:
            record = replace(record, machine=_STRANGER)
        handler = self._handlers.get(record.topic)
        if handler is not None:
            handler(record, now)
        if record.topic in _EVENTS:
            self._event(record, now)
        if record.machine in self._seen or len(self._seen) < self._limit:
            self._seen[record.machine] = now

    def forget_counts(self) -> None:
        """Set the count of alarms back to zero, keeping what was counted."""
        counts = self.families["stethos_alarms_total"].values
        counts.update(dict.fromkeys(counts, 0.0))

    def leave(self, now: float) -> None:
        """Let go what is stale."""
        for name in (*_SCORES, *_STATES, *_SHADOW):
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
        stores: tuple[dict[Any, Any], ...] = (self._transitions, self._places, self._times)
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

    def _event(self, record: Record, now: float) -> None:
        """How far the machine is; what its other series said before its clock was set back says nothing about it."""
        body, t_s, machine = record.body, record.t_ns / 1e9, (record.machine,)
        times = self._times.setdefault(machine, {})
        series = (record.topic, sensors_of(body), str(body.get("detector", body.get("name"))))
        if t_s < times.get(series, 0.0) - _STEP_S:
            times.clear()
        times[series] = t_s
        if not self.families["stethos_event_timestamp_seconds"].set(machine, max(times.values()), now):
            del self._times[machine]

    def _newest(self, record: Record, *who: str) -> bool:
        """Whether nothing behind this place of the log has been taken in of the same."""
        return record.seq >= self._places.get((record.machine, record.topic, *who), 0)

    def _score(self, record: Record, now: float) -> None:
        body = record.body
        who = (sensors_of(body), str(body["detector"]))
        key = (record.machine, *who)
        score, threshold, times = (self.families[name] for name in _SCORES)
        self.families["stethos_alarms_total"].add(key, 0.0, now)  # so that the first alarm is an increase
        value = number(body["value"])
        if value is None or not body.get("complete", True) or not self._newest(record, *who):
            return
        for family, new in ((score, value), (threshold, float(body["threshold"])), (times, record.t_ns / 1e9)):
            if family.set(key, new, now):
                self._places[record.machine, record.topic, *who] = record.seq

    def _machine_state(self, record: Record, now: float) -> None:
        body = record.body
        state, what = str(body["state"]), (sensors_of(body), str(body["detector"]))
        who = (record.machine, *what)
        if not self._newest(record, *what):
            return
        family = self.families["stethos_machine_state"]
        family.remove(lambda key: key[:3] == who and key[3] != state)
        if family.set((*who, state), 1.0, now):
            self._places[record.machine, record.topic, *what] = record.seq
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
        transition, severity = str(body["transition"]), str(body["severity"])
        alarm, ordinal = str(body["alarm"]), int(body["ordinal"])
        active = self.families["stethos_alarm_active"]
        if transition == "raised" and self._first_time(record, alarm):
            self.families["stethos_alarms_total"].add(condition, 1.0, now)
        seq, known, newest = self._transitions.get(condition, (-1, alarm, -1))
        # within an alarm its ordinals decide: a transition that is told anew, in other words, has moved in the log
        past = ordinal < newest if alarm == known else record.seq < seq
        if transition not in ("raised", "cleared") or past:
            return
        active.remove(lambda key: key[:3] == condition and key[3] != severity)
        if active.set((*condition, severity), float(transition == "raised"), now):
            self._transitions[condition] = (max(seq, record.seq), alarm, ordinal)
        self.families["stethos_alarm_timestamp_seconds"].set(condition, record.t_ns / 1e9, now)

    def _sensor_health(self, record: Record, now: float) -> None:
        sensor, state = str(record.body["sensor"]), str(record.body["state"])
        if state not in HEALTH_STATES:
            raise ValueError(f"'{state}' is no NE 107 state")
        if not self._newest(record, sensor):
            return
        for each in HEALTH_STATES:
            key = (record.machine, sensor, each)
            if self.families["stethos_sensor_health_state"].set(key, float(each == state), now):
                self._places[record.machine, record.topic, sensor] = record.seq

    def _late(self, record: Record, now: float) -> None:
        body = record.body
        key = (record.machine, str(body["sensor"]), str(body["reason"]))
        samples = int(body["n1"]) - int(body["n0"])
        if self._first_time(record, record.id):
            self.families["stethos_samples_dropped_total"].add(key, samples, now)

    def _dead_letter(self, record: Record, now: float) -> None:
        key = (record.machine, str(record.body["topic"]), str(record.body["reason"]))
        if self._first_time(record, record.id):
            self.families["stethos_dead_letters_total"].add(key, 1.0, now)

    def _first_time(self, record: Record, name: str) -> bool:
        counted = self._counted[record.topic]
        if name in counted:
            return False
        counted[name] = None
        if len(counted) > _IDS:
            counted.popitem(last=False)
        return True
