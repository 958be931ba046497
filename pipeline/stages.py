"""Makes the operators of the topology's stages from a machine's configuration and artefacts."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from config.schema import Machine, Sensor
from config.schema import Severity as SeveritySettings
from connectors.rates import exact_rate
from models.anomaly.baseline import Baseline
from models.anomaly.score import UNKNOWN_STATE, AnomalyScore
from models.anomaly.vectors import extraction
from operators.align import AlignEstimate, AlignTrack
from operators.base import Windowed
from operators.levels import WindowLevels
from operators.logmel import LogMel
from operators.mel import PAPER
from operators.quality import Quality, SensorHealth
from operators.resample import Resample
from operators.rewindow import Rewindow, Sequence
from operators.severity import Asset, Severity, least_length, refusal
from operators.vibration import LEAST_SAMPLES, VibrationFeatures
from pipeline.contexts import Contexts, read_by
from pipeline.drill_model import DrillModel
from pipeline.errors import BadInput, ConfigError
from pipeline.headers import static_of
from pipeline.machine_models import MachineModels
from pipeline.messages import NS, Decision, Message, Rate, Stream, Window
from pipeline.models_pool import Pool

SOUND_RATE = Rate(48_000)
UNHEARD = -1
"""Epoch of what stands for a sensor before its first stream."""
PAST_NS = 120 * NS
"""For this long after a new baseline, windows may still be judged by the previous one (after a reread)."""
UNTOLD = "untold"
"""Reason of an incomplete score whose detector nobody tells any more: an active alarm of it is over."""


class Mismatch(NamedTuple):
    """Why a stream is not what the configuration announced; `reason` is a bounded label."""

    reason: str
    detail: str


@dataclass(frozen=True)
class LaneSettings:
    """A machine's configuration with the artefacts that it names.

    Attributes:
        machine: the configuration.
        baselines: sensor → hash of the baseline in force from the start.
        artefacts: hash → baseline, for those in force and those that decisions bring in.
        load: reads a baseline's folder; None where nothing may be loaded (replay).
        contexts: the machine's slow facts; each lane has its own.
        models: the machine's learned models; each lane has its own standings of them.
        classifier: of drill sounds.
    """

    machine: Machine
    baselines: Mapping[str, str] = field(default_factory=dict)
    artefacts: dict[str, Baseline] = field(default_factory=dict)
    load: Callable[[Path], Baseline] | None = None
    contexts: Contexts = field(default_factory=Contexts)
    models: MachineModels | None = None
    classifier: DrillModel | None = None

    def __post_init__(self) -> None:
        """Tell the models which sensors there are; they refuse a head that could read none of them."""
        if self.models is not None:
            self.models.announce([self.announced(sensor) for sensor in self.machine.sensors])

    def for_lane(self, pool: Pool | None = None) -> LaneSettings:
        """The same with what each lane has of its own; `pool` is where its windows wait for a model."""
        models = None if self.models is None else self.models.for_lane(pool)
        return replace(self, contexts=Contexts(read_by(self.machine)), models=models)

    def sensor(self, name: str) -> Sensor | None:
        """The inventory's entry of a sensor."""
        return next((s for s in self.machine.sensors if s.name == name), None)

    def announced(self, sensor: Sensor) -> Stream:
        """What the inventory says of a sensor, as a stream before its first one."""
        where = f"machine '{self.machine.name}', sensor '{sensor.name}': rate_hz"
        return Stream(
            self.machine.name, sensor.name, UNHEARD, sensor.modality, exact_rate(sensor.rate_hz, where),
            sensor.channels, "image/jpeg" if sensor.modality == "frames" else "<f4", sensor.unit,
        )  # fmt: skip

    def mismatch(self, stream: Stream) -> Mismatch | None:
        """Compare what a stream says of itself with the inventory."""
        sensor = self.sensor(stream.sensor)
        if sensor is None:
            return Mismatch("unknown_sensor", f"machine '{self.machine.name}' has no sensor '{stream.sensor}'")
        try:
            static_of("mark", stream)
        except BadInput as unfit:
            return Mismatch(unfit.reason, str(unfit))
        if stream.dtype.startswith("image/") != (stream.modality == "frames"):
            return Mismatch("dtype", f"'{stream.dtype}' is no type of modality {stream.modality}")
        facts = (
            ("wrong_modality", sensor.modality, stream.modality),
            ("wrong_rate", f"{sensor.rate_hz:g} Hz", f"{stream.rate.hz:g} Hz"),
            ("wrong_unit", sensor.unit, stream.unit),
            ("wrong_channels", str(sensor.channels), str(stream.channels)),
        )
        for reason, expected, got in facts:
            if expected != got:
                where = f"machine '{self.machine.name}', sensor '{sensor.name}'"
                return Mismatch(reason, f"{where}: the configuration says {expected}, the stream {got}")
        return None

    def verify(self, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Check a command before it becomes a decision; brings the artefact that it needs into `artefacts`.

        Raises:
            ConfigError: no such kind, sensor or model.
            BadInput: the baseline was made for another modality, rate, unit or number of channels, or the models do
                not fit.
            StateError: the baseline's or package's folder is damaged or of a newer version.
        """
        if kind == "model":
            if self.models is None:
                raise ConfigError(f"machine '{self.machine.name}' has no [machine.model] in its configuration")
            return self.models.verify(body)
        if kind != "baseline":
            raise ConfigError(f"a decision of kind '{kind}' is not known")
        sensor = self.sensor(str(body.get("sensor")))
        if sensor is None:
            raise ConfigError(f"machine '{self.machine.name}' has no sensor '{body.get('sensor')}'")
        self.fetch(body)
        baseline = self.artefacts[body["baseline"]]
        self.check(sensor, baseline)
        AnomalyScore(baseline)  # refuses one that another front-end has learned
        return dict(body)

    def check(self, sensor: Sensor, baseline: Baseline) -> None:
        """Refuse a baseline of another sensor, or one that judges embeddings which this machine does not make.

        Raises:
            BadInput: says what differs.
        """
        baseline.check(self.announced(sensor))
        baseline.check_states(self.machine.state_context is not None)
        heard = self.models is not None and sensor.name in (self.models.config.sensors or [sensor.name])
        encoder = self.models.encoder_of(self.models.newest.active) if heard and self.models is not None else None
        baseline.check_encoder("" if encoder is None else encoder.digest, "" if encoder is None else encoder.how)

    def fetch(self, body: Mapping[str, Any]) -> None:
        """Load the baseline that a decision's body names, unless it is at hand."""
        if body["baseline"] in self.artefacts:
            return
        if self.load is None:
            raise ConfigError(f"baseline {body['baseline']} is not part of the recording")
        baseline = self.load(Path(body["path"]))
        if baseline.settings != body["baseline"]:
            raise ConfigError(f"{body['path']} holds baseline {baseline.settings}, not {body['baseline']}")
        self.artefacts[baseline.settings] = baseline


class Switchable(Windowed):
    """A windowed operator without memory whose version is chosen by the event time of each window.

    While an earlier stream of this sensor still has windows waiting, this operator emits nothing: downstream operators
    expect streams in order and would drop the older windows as already seen.
    """

    _earlier: tuple[Switchable, ...] = ()

    def follow(self, earlier: Switchable) -> None:
        """Stay behind the same stage of an earlier stream, which has ended."""
        self._earlier = (*self._earlier, earlier)

    @property
    def held_up(self) -> bool:
        """Whether anything waits in an earlier stream."""
        if self._earlier:
            self._earlier = tuple(one for one in self._earlier if one.waiting)
        return bool(self._earlier)

    def inherit(self, failed: Switchable) -> None:
        """Go on in place of an operator of the same kind that has failed: what waits there waits here."""
        self._earlier = failed._earlier

    @abstractmethod
    def switch(self, decision: Decision) -> None:
        """Take a decision in; it holds for windows that end after its time."""

    @property
    @abstractmethod
    def waiting(self) -> bool:
        """Whether windows wait: for a context, an earlier stream, or the call of `release` behind what has come."""

    @property
    @abstractmethod
    def waits_for(self) -> str | None:
        """The context that the oldest of them waits for."""

    @abstractmethod
    def release(self) -> list[Message]:
        """What can be said now that a context or a decision has come."""


class Anomaly(Switchable):
    """`Window` → `Score`s under the baseline that is in force when the window ends, in the machine's state then.

    Where the machine has a state context, a window waits until that context has passed its end less the lag, or was
    given up by decision: then the state is unknown and the score incomplete.
    """

    memory_s: ClassVar[float] = 0.0

    def __init__(self, settings: LaneSettings, stream: Stream) -> None:
        self._settings = settings
        self._stream = stream
        self._fact = settings.machine.state_context
        self._lag_ns = round(settings.machine.context_lag_s * NS)
        self._waiting: deque[Window] = deque()
        self._versions: list[tuple[int, AnomalyScore]] = []
        first = settings.baselines.get(stream.sensor)
        if first is not None:
            self._versions.append((-1, self._scorer(settings.artefacts[first])))

    def _scorer(self, baseline: Baseline) -> AnomalyScore:
        baseline.check(self._stream)
        return AnomalyScore(baseline, None if self._fact is None else self._state)

    def _state(self, t_end_ns: int) -> str | None:
        assert self._fact is not None
        if self._settings.contexts.given_up(self._fact, t_end_ns):
            return UNKNOWN_STATE
        value = self._settings.contexts.as_of(self._fact, t_end_ns - self._lag_ns)
        return UNKNOWN_STATE if value is None else str(value)

    def switch(self, decision: Decision) -> None:
        """A new baseline of this sensor."""
        if decision.kind == "baseline" and decision.body["sensor"] == self._stream.sensor:
            self._settings.fetch(decision.body)
            scorer = self._scorer(self._settings.artefacts[decision.body["baseline"]])
            self._versions.append((decision.after_ns(*self._stream.key), scorer))

    def inherit(self, failed: Switchable) -> None:
        """Take over the windows that wait."""
        super().inherit(failed)
        if isinstance(failed, Anomaly):
            self._waiting = failed._waiting

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """The oldest window that waits for its context."""
        return {self._stream.key: self._waiting[0].n0} if self._waiting else {}

    @property
    def waiting(self) -> bool:
        """Whether windows wait."""
        return bool(self._waiting)

    @property
    def waits_for(self) -> str | None:
        """The context that a window waits for."""
        return self._fact if self._waiting else None

    def process(self, message: Message) -> Iterable[Message]:
        """Judge one window, or keep it until its context has come."""
        assert isinstance(message, Window)
        if self._fact is None or not self._versions:
            return self._judge(message)
        self._waiting.append(message)
        return self.release()

    def release(self) -> list[Message]:
        """Judge the windows whose context has come meanwhile."""
        out: list[Message] = []
        while self._waiting and not self.held_up and self._ready(self._waiting[0]):
            out += self._judge(self._waiting.popleft())
        return out

    def _ready(self, window: Window) -> bool:
        assert self._fact is not None
        contexts = self._settings.contexts
        return contexts.given_up(self._fact, window.t_end_ns) or contexts.passed(
            self._fact, window.t_end_ns - self._lag_ns
        )

    def _in_force(self, t_end_ns: int) -> AnomalyScore | None:
        """The version for a window that ends then; what no later one asks for goes."""
        for place, (t_ns, scorer) in reversed([*enumerate(self._versions)]):
            if t_end_ns > t_ns:
                if t_end_ns > t_ns + PAST_NS:
                    del self._versions[:place]
                return scorer
        return None

    def _judge(self, window: Window) -> Iterable[Message]:
        scorer = self._in_force(window.t_end_ns)
        return () if scorer is None else scorer.process(window)


def sequence(_settings: LaneSettings, stream: Stream | None) -> Sequence | None:
    """Chunks end to end."""
    return Sequence(stream) if stream is not None else None


def resample(_settings: LaneSettings, stream: Stream | None) -> Resample | None:
    """Sound at 48 kHz."""
    return Resample(stream, SOUND_RATE) if stream is not None else None


def quality(_settings: LaneSettings, stream: Stream | None) -> Quality | None:
    """A second's verdict on the sensor."""
    return Quality(stream) if stream is not None else None


def sensor_health(settings: LaneSettings, _stream: Stream | None) -> SensorHealth:
    """NE 107 state."""
    return SensorHealth(frozenset(s.name for s in settings.machine.sensors if s.modality != "vibration"))


def logmel(_settings: LaneSettings, stream: Stream | None) -> LogMel | None:
    """Log-Mel of sound."""
    return LogMel(_at(stream, SOUND_RATE), PAPER) if stream is not None else None


def logmel_vibration(_settings: LaneSettings, stream: Stream | None) -> LogMel | None:
    """Log-Mel of vibration, one image per axis."""
    front_end = extraction(stream).front_end if stream is not None else None
    return LogMel(stream, front_end) if stream is not None and front_end is not None else None


def window(settings: LaneSettings, stream: Stream | None) -> Rewindow | None:
    """One second, every second; longer where a slow machine's severity needs it."""
    if stream is None:
        return None
    second = max(1, round(stream.rate.hz))
    said = settings.machine.severity
    length = second if said is None else max(second, least_length(stream.rate.hz, _asset(said).lower_hz))
    return Rewindow(stream, length, second)


def vibration(_settings: LaneSettings, stream: Stream | None) -> VibrationFeatures | None:
    """Five features per axis, of sensors that are fast enough for them."""
    return VibrationFeatures() if stream is not None and round(stream.rate.hz) >= LEAST_SAMPLES else None


def severity(settings: LaneSettings, stream: Stream | None) -> Severity | None:
    """ISO zone, where the machine says what it is."""
    said = settings.machine.severity
    if stream is None or said is None:
        return None
    asset = _asset(said)
    reason = refusal(stream, asset)
    if reason is not None:
        raise BadInput("severity", f"machine '{stream.machine}', sensor '{stream.sensor}': {reason}")
    return Severity(stream, asset)


def level(_settings: LaneSettings, stream: Stream | None) -> WindowLevels | None:
    """Level and octave bands."""
    return WindowLevels(stream) if stream is not None else None


def anomaly(settings: LaneSettings, stream: Stream | None) -> Anomaly | None:
    """Distance from normal."""
    fast = stream is not None and extraction(stream).front_end is not None
    return Anomaly(settings, stream) if stream is not None and fast else None


def anomaly_slow(settings: LaneSettings, stream: Stream | None) -> Anomaly | None:
    """Distance from normal, for sensors too slow for a log-Mel."""
    slow = stream is not None and extraction(stream).front_end is None
    return Anomaly(settings, stream) if stream is not None and slow else None


def align(settings: LaneSettings, stream: Stream | None) -> AlignEstimate | None:
    """Delays between the machine's sensors, the first one as reference."""
    names = [s.name for s in settings.machine.sensors if s.modality != "frames" and s.rate_hz >= 1000]
    if stream is not None or not settings.machine.align or len(names) < 2:
        return None
    return AlignEstimate(settings.machine.name, names)


def alignment(settings: LaneSettings, _stream: Stream | None) -> AlignTrack | None:
    """Median delay and drift."""
    return AlignTrack() if settings.machine.align else None


def _asset(said: SeveritySettings) -> Asset:
    return Asset(said.group, said.support, said.power_kw, said.shaft_height_mm, said.speed_rpm)


def _at(stream: Stream, rate: Rate) -> Stream:
    return stream if stream.rate == rate else replace(stream, rate=rate)
