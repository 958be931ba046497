"""Who judges what: the detectors that sensors have by configuration and decisions, and baselines that do not fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from config.schema import Sensor
from models.anomaly.baseline import Baseline
from models.anomaly.score import AnomalyScore
from models.drill.live import CLASSIFIER
from operators.bearing import FAULTS
from operators.breakage_detector import BREAK, MISSING, WEAR
from operators.chatter_detector import DETECTOR as CHATTER
from operators.cusum import DRIFT
from operators.head_detector import BREAK as HEAD_BREAK
from operators.head_detector import SILENT as HEAD_SILENT
from operators.severity_alarm import CHANGE, SEVERITY
from operators.teeth import FLIP, TOOTH_LOSS
from pipeline.errors import BadInput, StateError, StethosError
from pipeline.messages import Decision, Stream
from pipeline.stages import LaneSettings
from pipeline.stages_models import EMBEDDING
from pipeline.stages_physics import BY_BASELINE, learned, past_heads, unasked
from pipeline.state import Store
from pipeline.succession import holds, places_of, retire, settles
from pipeline.topology import STAGES

_STAGES = {stage.name: stage for stage in STAGES}
_BY_STAGE: Mapping[str, Sequence[str]] = {
    "chatter": (CHATTER, TOOTH_LOSS, FLIP),
    "drill": (BREAK, MISSING, WEAR),
    "head": (HEAD_BREAK, HEAD_SILENT),
    "severity": (SEVERITY, CHANGE),
    "bearing": [f"bearing_{fault}" for fault in FAULTS],
    "embedding": (EMBEDDING, EMBEDDING + DRIFT),
}
"""What a sensor does not have, of whose stream the stage makes nothing."""
_EMBEDDINGS = ("embedding", "embedding_vibration", "embedding_slow")
"""Stages that heads read."""

LOOKS = 120
"""A problem of a fact stands for so many looks more: one that is told every 30 s comes and goes, and is one problem."""


class Judges:
    """Keeps the roster of a run: at its start, and with every baseline that is put in force while it goes on.

    Args:
        lanes: each machine's configuration with its artefacts.
        store: the durable state, of which a run begins.
    """

    def __init__(self, lanes: Sequence[LaneSettings], store: Store) -> None:
        self._unfit: list[str] = []
        self._untold: dict[str, int] = {}  # problems of facts, by how many looks they still stand
        self._lanes = lanes
        self._lacking = {lane.machine.name: list(_lacking(lane)) for lane in lanes}
        self._decided = -1
        sensors = {lane.machine.name: [sensor.name for sensor in lane.machine.sensors] for lane in lanes}
        store.enrol(sensors, self._unasked(store))

    @property
    def problems(self) -> list[str]:
        """Baselines that are in force by decision and do not fit the configuration; facts that nobody tells."""
        return [*self._unfit, *self._untold]

    def renew(self, store: Store) -> bool:
        """Take in what was decided since; says whether that was anything about baselines."""
        gone = store.given_up()
        stand = {told: left - 1 for told, left in self._untold.items() if left > 1}
        self._untold = stand | {told: LOOKS for lane in self._lanes for told in _untold(lane, gone)}
        if len(store.decisions("baseline")) == self._decided:
            return False
        store.reask(self._unasked(store))
        return True

    def _unasked(self, store: Store) -> dict[str, list[str]]:
        """By machine, detectors that it could have, or had, and has not; ``name|sensor`` where sensors lack them."""
        decided = store.decisions("baseline")
        alarms = [record for record in store.standing(past=True) if record.topic == "alarm"]
        self._decided, self._unfit = len(decided), []
        found, snapshots = {}, store.snapshots()
        for lane in self._lanes:
            name = lane.machine.name
            told = [str(alarm.body["detector"]) for alarm in alarms if alarm.machine == name]
            gone = [*unasked(lane.machine), *past_heads(lane.machine, told), *self._lacking[name]]
            for sensor in lane.machine.sensors:
                has = self._judged(lane, sensor, _of(decided, name, sensor.name))
                if has is not None:
                    gone += [f"{d}|{sensor.name}" for d in BY_BASELINE if d.removesuffix(DRIFT) not in has]
            found[name] = list(dict.fromkeys(gone))
            if name in snapshots:  # where shards are processes, no lane lets these go
                retire(lane, decided, snapshots[name])
        return found

    def _judged(self, lane: LaneSettings, sensor: Sensor, decided: Sequence[Decision]) -> set[str] | None:
        """Detectors of the baseline that is in force; None where it cannot be read here, as a lane elsewhere may."""
        wrong = ""
        baseline: Baseline | None = None
        bodies = [{"baseline": lane.baselines[sensor.name]}] if sensor.name in lane.baselines else []
        for body in reversed([*bodies, *(decision.body for decision in decided)]):
            try:
                lane.fetch(body)
                baseline = lane.artefacts[body["baseline"]]
                baseline.check(lane.announced(sensor))
                AnomalyScore(baseline)
                break
            except BadInput as error:  # a lane goes on by the one before
                wrong, baseline = wrong or str(error), None
            except StethosError:
                if not wrong:
                    return None
        try:
            if baseline is not None:
                baseline.check_states(lane.machine.state_context is not None)
        except BadInput as error:
            wrong, baseline = wrong or str(error), None
        if wrong:
            self._unfit.append(f"machine '{lane.machine.name}', sensor '{sensor.name}': {wrong}")
        return set() if baseline is None else {detector for cells in baseline.cells for detector in cells}


def fetch(lane: LaneSettings, decisions: Sequence[Decision], snapshot: bytes | None) -> None:
    """Load the baselines that decisions have put in force on a lane's sensors, as far as the lane needs them.

    One may be gone, where a later one is in force for all that is still to be judged.

    Args:
        lane: which takes them in.
        decisions: in the order in which they were made.
        snapshot: from which the lane goes on.

    Raises:
        StateError: one is gone, damaged, or of a newer version.
    """
    places = places_of(snapshot)
    for sensor in lane.machine.sensors:
        later: Decision | None = None
        for decision in reversed(_of(decisions, lane.machine.name, sensor.name)):
            try:
                lane.fetch(decision.body)
            except StateError:
                if later is None or not holds(later, sensor.name, places):
                    raise
                break
            if settles(lane, decision, places):
                break
            later = decision


def _of(decisions: Sequence[Decision], machine: str, sensor: str) -> list[Decision]:
    """Those on the baseline of a sensor."""
    return [d for d in decisions if (d.kind, d.machine, d.body.get("sensor")) == ("baseline", machine, sensor)]


def _untold(lane: LaneSettings, gone: Collection[tuple[str, str]]) -> Iterator[str]:
    """Facts that the machine's judgement waited for in vain."""
    machine = lane.machine
    speed = None if machine.spindle is None else machine.spindle.speed_fact
    told = "spindle.rpm_context" if machine.measures is None else "spindle.air_run"
    for fact, key in ((machine.state_context, "state_context"), (speed, told)):
        if (machine.name, fact) in gone:
            yield f"machine '{machine.name}': nobody tells '{fact}' ({key}), so that nothing is judged by it"


def _lacking(lane: LaneSettings) -> Iterator[str]:
    """Detectors, as ``name|sensor``, that a machine has and of whose sensors some do not give what they need."""
    for sensor in lane.machine.sensors:
        stream = lane.announced(sensor)
        lacking = [d for stage, detectors in _BY_STAGE.items() if not _made(lane, stage, stream) for d in detectors]
        if not learned(stream):
            lacking.append(CLASSIFIER)
        if lane.machine.model is not None and not any(_made(lane, stage, stream) for stage in _EMBEDDINGS):
            lacking += [head.name for head in lane.machine.model.heads]
        yield from (f"{detector}|{sensor.name}" for detector in lacking)


def _made(lane: LaneSettings, name: str, stream: Stream) -> bool:
    stage = _STAGES[name]
    try:
        return stream.modality in stage.modalities and stage.make(lane, stream) is not None
    except Exception:  # as in a lane, where it is a dead letter
        return False
