"""Puts a configuration to work: artefacts, sources, shards, recording, sinks, status."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

import config
from config.closed import RECORDED
from config.schema import Machine, Settings
from models.anomaly import store as baselines
from models.anomaly.baseline import Baseline
from models.anomaly.chain import to_sound_rate
from models.anomaly.packing import pack, unpack
from models.packages.shipped import WEIGHTS
from operators.envelope import LEAST_HZ
from pipeline import drill_model, machine_models
from pipeline.clock import Clock
from pipeline.contexts import CARRIED_NS, outdated, read_by
from pipeline.embedded import shard_count
from pipeline.errors import BadInput, ConfigError, StateError, StethosError
from pipeline.fingerprint import platform_fingerprint
from pipeline.judges import fetch
from pipeline.machine_models import MachineModels
from pipeline.recording.recorder import Start
from pipeline.recording.ring import Ring
from pipeline.shard import Shard, Tap
from pipeline.shelf import KEPT, Shelf
from pipeline.stages import LaneSettings, align, severity
from pipeline.state import Store
from pipeline.succession import past_of

STATE_FILE = "stethos.sqlite"


@dataclass(frozen=True)
class Plan:
    """What a run is made of, before anything is started.

    Attributes:
        settings: the configuration.
        lanes: each machine's configuration with its artefacts.
        state: path of the durable state.
    """

    settings: Settings
    lanes: tuple[LaneSettings, ...]
    state: Path

    @property
    def sensors(self) -> int:
        """How many sensors the machines have."""
        return sum(len(lane.machine.sensors) for lane in self.lanes)


def plan(settings: Settings) -> Plan:
    """Load the artefacts that a configuration names.

    Raises:
        ConfigError: a baseline is not of the sensor that names it, or sound has a rate that cannot be resampled.
        BadInput: a baseline was made for another modality, rate, unit or number of channels, or a model does not fit.
        StateError: a baseline or a model package is missing, damaged or of a newer version.
    """
    lanes, shelf = [], shelf_of(settings)
    for machine in settings.machines:
        models = _models(machine, shelf)
        chosen: dict[str, str] = {}
        artefacts: dict[str, Baseline] = {}
        for sensor in machine.sensors:
            if sensor.baseline is None:
                continue
            found = baselines.load_all(sensor.baseline)
            baseline = found.get((machine.name, sensor.name))
            if baseline is None:
                held = ", ".join("/".join(key) for key in found)
                raise ConfigError(
                    f"machine '{machine.name}', sensor '{sensor.name}': {sensor.baseline} holds a baseline of {held}, "
                    "not of this sensor: commission it, or name another folder"
                )
            LaneSettings(machine, models=models).check(sensor, baseline)
            chosen[sensor.name] = baseline.settings
            artefacts[baseline.settings] = baseline
        loader = Loader(settings.engine.state_dir / "baselines")
        classifier = drill_model.configured(machine, shelf)
        lane = LaneSettings(machine, chosen, artefacts, loader, models=models, classifier=classifier)
        _check_severity(lane)
        _check_rates(lane)
        _check_align(lane)
        lanes.append(lane)
    return Plan(settings, tuple(lanes), settings.engine.state_dir / STATE_FILE)


def shelf_of(settings: Settings) -> Shelf:
    """Where a configuration's model packages are: those it names, search folders, copies beside the state, shipped."""
    named = []
    for model in [machine.model for machine in settings.machines if machine.model is not None]:
        named += [model.encoder] if isinstance(model.encoder, Path) else []
        named += [*(head.package for head in model.heads), *model.shadow]
    drills = [machine.drill for machine in settings.machines if machine.drill is not None]
    named += [drill.classifier for drill in drills if drill.classifier is not None]
    copies = settings.engine.state_dir / KEPT
    return Shelf([*dict.fromkeys(named), *settings.models.search, copies, WEIGHTS], settings.models.public_key)


def _models(machine: Machine, shelf: Shelf) -> MachineModels | None:
    if machine.model is None:
        return None
    try:
        return machine_models.configured(machine.name, machine.model, shelf)
    except BadInput as error:
        raise ConfigError(f"machine '{machine.name}', model: {error}") from None
    except StateError as error:
        raise StateError(f"machine '{machine.name}', model: {error}") from None


class Loader:
    """Reads a baseline from where a decision said it lies or, if that is gone, from the state's own copy."""

    def __init__(self, copies: Path) -> None:
        self._copies = copies

    def __call__(self, folder: Path) -> Baseline:
        """The baseline.

        Raises:
            StateError: it is in neither place, damaged, or of a newer version.
        """
        copy = self._copies / folder.name
        if not folder.exists() and not copy.exists():
            place = "" if copy == folder else f", here or as {copy}"
            raise StateError(f"{folder}: the baseline that was put in force from here is gone: restore it{place}")
        return baselines.load(folder if folder.exists() else copy)


def _check_severity(lane: LaneSettings) -> None:
    """Refuse a severity that a vibration sensor cannot give, before anything starts."""
    for sensor in lane.machine.sensors:
        if lane.machine.severity is not None and sensor.modality == "vibration":
            try:
                severity(lane, lane.announced(sensor))
            except BadInput as error:
                raise ConfigError(f"{error}: take [machine.severity] away, or give the sensor what it needs") from None


def _check_rates(lane: LaneSettings) -> None:
    """Refuse sound that cannot be brought to 48 kHz: nothing would be measured of it."""
    for sensor in lane.machine.sensors:
        if sensor.modality in {"acoustic", "stethoscope"}:
            try:
                to_sound_rate(lane.announced(sensor))
            except BadInput as error:
                raise ConfigError(f"rate_hz of {error}") from None


def _check_align(lane: LaneSettings) -> None:
    """Refuse an alignment of fewer than two sensors: nothing would be told of it. Recordings may have one."""
    if lane.machine.align and align(lane, None) is None:
        raise ConfigError(
            f"machine '{lane.machine.name}': align needs two sensors of sound or vibration of {LEAST_HZ:g} Hz or more"
        )


def config_sha256(settings: Settings) -> str:
    """Fingerprint of a configuration."""
    return hashlib.sha256(_described(settings)).hexdigest()


def _described(settings: Settings) -> bytes:
    return orjson.dumps(config.effective(settings), option=orjson.OPT_SORT_KEYS)


def recording_start(
    plan: Plan, store: Store, carried_ns: int | None = CARRIED_NS, elsewhere: Collection[str] = ()
) -> Start:
    """What each recording begins with, so that a replay needs nothing else.

    Args:
        plan: with the configuration and its artefacts.
        store: with decisions and snapshots.
        carried_ns: for how long before the newest decision those on facts are among them; None for all.
        elsewhere: machines whose decisions other recordings bring: only those know which of them are past.
    """
    described, snapshots = _described(plan.settings), store.snapshots()
    decisions = [decision for decision in store.decisions() if decision.machine not in elsewhere]
    past = past_of(plan.lanes, decisions, snapshots)
    attachments: dict[str, bytes] = {"config.json": described}
    used = {}
    for lane in plan.lanes:
        used[lane.machine.name] = dict(lane.baselines)
        for settings, baseline in lane.artefacts.items():
            for name, data in pack(baseline).items() if settings not in past.baselines else ():
                attachments[f"baseline/{settings}/{name}"] = data
    attachments["baselines.json"] = orjson.dumps(used, option=orjson.OPT_SORT_KEYS)
    models = {m.machine: machine_models.body_of(m.first) for lane in plan.lanes if (m := lane.models) is not None}
    if models:
        attachments["models.json"] = orjson.dumps(models, option=orjson.OPT_SORT_KEYS)
    drills = {lane.machine.name: lane.classifier.digest for lane in plan.lanes if lane.classifier is not None}
    if drills:
        attachments["drills.json"] = orjson.dumps(drills, option=orjson.OPT_SORT_KEYS)
    attachments |= {f"snapshot/{machine}": body for machine, body in snapshots.items()}
    facts = {"config_sha256": hashlib.sha256(described).hexdigest()}
    old = [] if carried_ns is None else outdated(decisions, carried_ns)
    unneeded = {*past.decisions, *((decision.machine, decision.id) for decision in old)}
    return Start(attachments, facts, tuple(one for one in decisions if (one.machine, one.id) not in unneeded))


def plan_of_recording(attachments: Mapping[str, bytes], state: Path) -> Plan:
    """The plan that a recording was made under.

    Raises:
        StateError: the recording lacks its configuration, something of it is not as stethos writes it, or a model
            package that it was made with is not found.
    """
    if "config.json" not in attachments:
        raise StateError("the recording holds no configuration: name one with --config")
    try:
        return _recorded(attachments, state)
    except (StethosError, OSError):
        raise
    except Exception as error:  # of JSON that nobody has checked
        raise StateError(
            "the recording's configuration, baselines or models are not as stethos writes them "
            f"({type(error).__name__}: {error}): name a configuration with --config"
        ) from error


def _recorded(attachments: Mapping[str, bytes], state: Path) -> Plan:
    try:
        settings = Settings.model_validate(orjson.loads(attachments["config.json"]), context=RECORDED)
    except ValidationError as error:
        said = error.errors()[0]
        where = ".".join(map(str, said["loc"]))
        raise StateError(
            f"the recording's configuration is not one of this version ({where}: {said['msg']}): update stethos, or "
            "name a configuration with --config"
        ) from None
    used: dict[str, dict[str, str]] = orjson.loads(attachments.get("baselines.json", b"{}"))
    packs: dict[str, dict[str, bytes]] = {}
    for name, data in attachments.items():
        if name.startswith("baseline/"):
            _, key, part = name.split("/", 2)
            packs.setdefault(key, {})[part] = data
    artefacts = {key: unpack(files) for key, files in packs.items()}
    standings: dict[str, Any] = orjson.loads(attachments.get("models.json", b"{}"))
    drills: dict[str, str] = orjson.loads(attachments.get("drills.json", b"{}"))
    shelf = shelf_of(settings)
    lanes = []
    for machine in settings.machines:
        models = None
        if machine.model is not None and machine.name in standings:
            models = machine_models.of_recording(machine.name, machine.model, shelf, standings[machine.name])
        classifier = drill_model.of_recording(machine, shelf, drills.get(machine.name))
        baselines_used = dict(used.get(machine.name, {}))
        lanes.append(LaneSettings(machine, baselines_used, dict(artefacts), models=models, classifier=classifier))
    return Plan(settings, tuple(lanes), state)


class ShardBuilder:
    """Makes a shard in the process that will run it: its own connection, its own recording."""

    def __init__(self, plan: Plan, clock: Clock, record: bool) -> None:
        self._plan = plan
        self._clock = clock
        self._record = record
        count = shard_count(plan.settings.engine.shards, plan.sensors)
        self._shards = [f"shard-{number}" for number in range(count)]  # as the engine names them
        self.tap: Tap | None = None
        """A recording to use in place of the ring; only where the shard runs in this process."""

    def __call__(self, name: str, lanes: Sequence[LaneSettings]) -> Shard:
        """The shard of these lanes."""
        store = Store(self._plan.state)
        snapshots = store.snapshots()
        for lane in lanes:  # before the recording begins: it carries them
            fetch(lane, store.decisions("baseline"), snapshots.get(lane.machine.name))
        own = {lane.machine.name for lane in lanes}
        elsewhere = {lane.machine.name for lane in self._plan.lanes} - own
        ring = self.tap
        if self._record:
            rec = self._plan.settings.recording
            ring = Ring(
                rec.folder, recording_start(self._plan, store, elsewhere=elsewhere), self._clock.now_ns(),
                ring_bytes=rec.ring_bytes, rotate_bytes=rec.rotate_bytes, rotate_s=rec.rotate_s, prefix=name,
                shards=self._shards, past=partial(past_of, self._plan.lanes),
                read=[(lane.machine.name, name) for lane in lanes for name in read_by(lane.machine)],
            )  # fmt: skip
        return Shard(name, lanes, store, self._clock, ring)


def journal_header(store: Store) -> dict[str, Any]:
    """What stands at a journal's head, outside its hash: the platform and the configuration."""
    return {"platform": platform_fingerprint(), "config_sha256": store.meta("config_sha256") or ""}
