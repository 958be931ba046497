"""What a configuration may say: one closed schema, units in the names, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from config.air_run import AirRun
from config.closed import RECORDED, Access, Closed, is_here
from config.drill_head import DrillHead
from config.fast_lane import FastLane
from config.sinks import SinkConfig
from config.sources import SourceConfig
from config.tachometer import Tachometer

SCHEMA_VERSION = 1

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME)]
"""A machine's or sensor's name: letters, digits, `_`, `.`, `-`; it becomes a Kafka key, a file name and a label."""
FactName = Annotated[str, Field(max_length=255)]
"""The name of a context, no longer than its messages may say it."""


class Persistence(Closed):
    """How long a score must exceed its threshold before an alarm is raised, and stay below before it is cleared."""

    k: int = Field(3, ge=1, description="so many")
    n: int = Field(5, ge=1, description="of so many consecutive scores above the threshold raise the alarm")
    smoothing: float = Field(0.2, gt=0, le=1, description="weight of the newest score in the running mean")
    clear_below: float = Field(0.8, gt=0, le=1, description="share of the threshold below which an alarm may clear")
    clear_after_s: float = Field(30.0, ge=0)

    @model_validator(mode="after")
    def _k_of_n(self) -> Persistence:
        if self.k > self.n:
            raise ValueError(f"k = {self.k} of n = {self.n} can never be reached: make k at most n")
        return self


class Severity(Closed):
    """What ISO 10816-3 needs to know to put a machine's vibration into a zone."""

    group: Literal[1, 2]
    support: Literal["rigid", "flexible"]
    power_kw: float = Field(gt=0)
    shaft_height_mm: float | None = Field(None, gt=0, description="group 1 below 300 kW begins at 315")
    speed_rpm: float = Field(gt=0)
    baseline_mm_s: float | None = Field(None, ge=0, lt=1000, description="usual RMS velocity; none: learned")
    learn_windows: int = Field(600, ge=1, le=1000, description="seconds that a baseline is learned from")


CHATTER_HZ = 2000.0
"""Slowest sensor that hears chatter."""
AIR_RUN_RPM = "air_run_rpm"
"""Name of the speed that an air run has measured."""


class Spindle(Closed):
    """What the chatter, bearing and drill detectors need to know of a spindle; none is guessed from a cut."""

    rpm: float | None = Field(None, gt=0, description="a fixed speed")
    rpm_context: FactName | None = Field(None, description="context that tells the speed, such as `spindle_rpm`")
    air_run: AirRun | None = Field(None, description="measures the speed before each cut")
    teeth: int | None = Field(None, ge=1, le=100, description="teeth of the tool; where given, chatter is judged")
    lowest_rpm: float | None = Field(None, ge=400, description="lowest speed at which chatter is judged")
    highest_rpm: float | None = Field(None, gt=0, description="of the machine, for the advice of a stable speed")
    cutting_states: tuple[str, ...] = Field((), description="`state_context` values that mean cutting; none: by level")
    learning_states: tuple[str, ...] = Field(
        (), description="`state_context` values in which cuts are good: chatter's threshold is learned"
    )
    chatter_on_delay_s: float = Field(0.0, ge=0, le=10, description="time that wavering chatter must last")

    @model_validator(mode="after")
    def _one_speed(self) -> Spindle:
        if sum(source is not None for source in (self.rpm, self.rpm_context, self.air_run)) != 1:
            raise ValueError("a spindle needs either rpm or rpm_context or an air_run")
        if self.teeth is not None and self.slowest_rpm < 400:
            raise ValueError(f"chatter is judged from 400 rpm on, not at {self.slowest_rpm:g} rpm")
        if self.learning_states and self.teeth is None:
            raise ValueError("learning_states are those in which chatter is learned: tell the teeth")
        said = [v for v in (self.lowest_rpm, self.rpm, self.highest_rpm) if v is not None]
        if said != sorted(said):
            raise ValueError(f"lowest_rpm, rpm and highest_rpm must rise, not {', '.join(f'{v:g}' for v in said)}")
        return self

    @property
    def slowest_rpm(self) -> float:
        """Lowest speed at which chatter is judged; it sets the length of the windows."""
        return self.lowest_rpm or self.rpm or (1500.0 if self.air_run is None else self.air_run.lowest_rpm)

    @property
    def fastest_rpm(self) -> float:
        """Highest speed that may be advised."""
        return self.highest_rpm or 2.0 * (self.rpm or 12_000.0)

    @property
    def speed_fact(self) -> str | None:
        """The fact that tells the speed; an air run's is stated by the lane itself."""
        return self.rpm_context if self.air_run is None else AIR_RUN_RPM


class Bearing(Closed):
    """A rolling bearing on the spindle or shaft, its outer race at rest."""

    balls: int = Field(ge=3, le=200, description="rolling elements of a row")
    diameter_ratio: float = Field(gt=0, lt=1, description="ball diameter over pitch diameter")
    contact_angle_deg: float = Field(0.0, ge=0, lt=90)


class Drill(Closed):
    """A drilling spindle whose breaks are watched for."""

    taught_holes: int = Field(4, ge=2, le=20, description="good holes that make the template")
    classifier: Path | None = Field(None, description="folder of a classifier package that hears fractures")
    threshold: float | None = Field(None, gt=0, lt=1, description="of its probability; default: the card's")
    rule: Literal["advisory", "both", "either", "burst"] = Field(
        "advisory", description="what the classifier does to `drill_break`; see docs/drill-paper.md"
    )
    head: DrillHead | None = Field(None, description="many bits at once, heard by several microphones")

    @model_validator(mode="after")
    def _classifier_first(self) -> Drill:
        if self.classifier is None and (self.threshold is not None or self.rule != "advisory"):
            raise ValueError("threshold and rule are those of a classifier: name its package")
        return self


class Head(Closed):
    """What is read from an embedding: a state of the machine, or how much it looks like a class that is abnormal."""

    package: Path = Field(description="folder of a head package")
    name: Name = Field("state", description="the detector's name in states, scores and alarms")
    gives: Literal["state", "score"] = "state"
    abnormal: tuple[str, ...] = Field((), description="labels whose probabilities together are the score")
    threshold: float | None = Field(None, gt=0, lt=1, description="of the score; default: the card's, else 0.5")
    unknown_below: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="probability under which a state is `unknown`; default: the card's `abstain`, else 0.6",
    )
    k: int = Field(3, ge=1, description="so many")
    n: int = Field(5, ge=1, description="of so many windows say the same before it becomes the machine's state")

    @model_validator(mode="after")
    def _whole(self) -> Head:
        if self.k > self.n or 2 * self.k <= self.n:
            raise ValueError(f"k = {self.k} of n = {self.n}: k must be more than half of n, and at most n")
        if (self.gives == "score") != bool(self.abnormal):
            raise ValueError(
                'abnormal labels make a score: give both, gives = "score" and abnormal = [...], or neither'
            )
        return self


class Model(Closed):
    """The encoder that a machine's sound sensors share, and the heads on it and on the machine's vibration."""

    encoder: Literal["logmel"] | Path = Field(
        "logmel",
        description="of sound: folder of an encoder package, or `logmel` for the time mean of the image itself; heads "
        "on vibration need none",
    )
    every: int = Field(2, ge=1, le=600, description="every n-th window; they are 0.5 s apart, of slow sensors 1 s")
    pooling: Literal["cls", "mean", "band", "band+logmel"] | None = Field(None, description="default: as the card says")
    sensors: tuple[Name, ...] = Field((), description="default: every sensor of sound or vibration of the machine")
    heads: tuple[Head, ...] = Field((), alias="head")
    shadow: tuple[Path, ...] = Field((), description="packages that run beside those in force, without alarms")

    @model_validator(mode="after")
    def _names_differ(self) -> Model:
        names = [head.name for head in self.heads]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"heads need names of their own; used twice: {', '.join(sorted(twice))}")
        return self


class Sensor(Closed):
    """A device on a machine."""

    name: Name
    modality: Literal["acoustic", "stethoscope", "vibration", "frames"]
    rate_hz: float = Field(gt=0, le=1_000_000, description="samples (or frames) per second")
    unit: str = Field(min_length=1, description='unit of sample × scale: "Pa", "FS", "m/s2", "mg", "g", "image"')
    scale: float | None = Field(None, gt=0, description="unit per count; default: full scale = 1 for sound, else 1")
    channels: int = Field(1, ge=1, le=64)
    source: SourceConfig | None = Field(None, description="absent where another process publishes this sensor")
    baseline: Path | None = Field(None, description="folder of a commissioned baseline")
    tachometer: Tachometer | None = Field(None, description="on a channel of the same device")

    @model_validator(mode="after")
    def _tachometer_is_read(self) -> Sensor:
        if self.tachometer is not None and (self.source is None or self.modality == "frames"):
            raise ValueError(f"the tachometer of sensor '{self.name}' is a channel of its source, which it must have")
        return self


class Machine(Closed):
    """A machine and its inventory of sensors."""

    name: Name
    sensors: tuple[Sensor, ...] = Field(min_length=1, alias="sensor")
    persistence: Persistence = Persistence()
    severity: Severity | None = None
    spindle: Spindle | None = None
    bearing: Bearing | None = None
    drill: Drill | None = None
    model: Model | None = None
    fast_lane: bool = Field(False, description="chatter and drill detectors in the connector too; alarms by MQTT")
    align: bool = Field(False, description="track the delay between sensors of sound that does not just repeat itself")
    drift: bool = Field(False, description="advisory alarms of scores that creep up over minutes, from a baseline")
    alarm_severity: Literal["advisory", "warning", "critical"] = "warning"
    state_context: FactName | None = Field(None, description="context that tells the operating state, such as `state`")
    context_lag_s: float = Field(
        1.0, ge=0, le=10, description="facts are read this long before a window's end; 0 by default with cutting_states"
    )

    @property
    def measures(self) -> str | None:
        """The sensor that hears the spindle's air run."""
        return None if self.spindle is None or self.spindle.air_run is None else self.spindle.air_run.sensor

    @model_validator(mode="before")
    @classmethod
    def _cutting_is_known_at_once(cls, data: Any) -> Any:
        """A cut must not begin within what is taken for the idle machine: its state is read as of the window's end."""
        if isinstance(data, dict) and isinstance(data.get("spindle"), dict) and data["spindle"].get("cutting_states"):
            return {"context_lag_s": 0.0, **data}
        return data

    @model_validator(mode="after")
    def _bearings_turn(self) -> Machine:
        if self.bearing is not None and self.spindle is None:
            raise ValueError(f"the bearing of machine '{self.name}' needs a spindle with its speed")
        if self.fast_lane and self.drill is None and (self.spindle is None or self.spindle.teeth is None):
            raise ValueError(f"the fast lane of machine '{self.name}' needs [machine.drill] or a spindle with teeth")
        told = [sensor.tachometer.context for sensor in self.sensors if sensor.tachometer is not None]
        asked = None if self.spindle is None else self.spindle.rpm_context
        if set(told) - {asked} or len(told) > 1:
            raise ValueError(
                f"machine '{self.name}' needs one tachometer, and a spindle with rpm_context = '{(told or [''])[0]}'"
            )
        return self

    @model_validator(mode="after")
    def _cuts_are_heard(self) -> Machine:
        for key in ("cutting_states", "learning_states"):
            if getattr(self.spindle, key, ()) and self.state_context is None:
                raise ValueError(f"the {key} of machine '{self.name}' need a state_context that tells them")
        if self.spindle is not None and self.spindle.air_run is not None:
            self.spindle.air_run.hears(self.name, self.sensors, self.spindle.cutting_states)
        fast = any(sensor.rate_hz >= CHATTER_HZ for sensor in self.sensors if sensor.modality != "frames")
        if self.spindle is not None and self.spindle.teeth is not None and not fast:
            raise ValueError(f"machine '{self.name}' tells its teeth: chatter needs a sensor of {CHATTER_HZ:g} Hz")
        return self

    @model_validator(mode="after")
    def _head_is_heard(self) -> Machine:
        if self.drill is not None and self.drill.head is not None:
            self.drill.head.hears(self.name, self.sensors)
        return self

    @model_validator(mode="after")
    def _model_hears(self) -> Machine:
        if self.model is None:
            return self
        sense = {sensor.name: sensor.modality for sensor in self.sensors if sensor.modality != "frames"}
        if strange := sorted(set(self.model.sensors) - set(sense)):
            raise ValueError(
                f"the model of machine '{self.name}' reads sound and vibration: {', '.join(strange)} is no sound "
                "sensor and no accelerometer of it"
            )
        names = self.model.sensors or tuple(sense)
        if (self.model.encoder != "logmel" or not self.model.heads) and all(sense[n] == "vibration" for n in names):
            raise ValueError(
                f"the encoder of machine '{self.name}' hears sound: {', '.join(names) or 'none'} is no sound sensor "
                "of it; heads on vibration need no encoder"
            )
        return self

    @model_validator(mode="after")
    def _sensors_differ(self) -> Machine:
        names = [sensor.name for sensor in self.sensors]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"sensor names of machine '{self.name}' are used twice: {', '.join(sorted(twice))}")
        return self


class Engine(Closed):
    """How the lanes are run."""

    state_dir: Path = Path("var/state")
    shards: int = Field(0, ge=0, le=256, description="processes; 0: one up to 100 sensors, then one per core")
    queue_bytes: int = Field(64_000_000, ge=1_000_000, description="raw data waiting for the lanes, over all sensors")
    out_retention_h: float = Field(72, gt=0, description="how long results stay in the log; tenfold where a sink lags")


class Kafka(Access):
    """The engine `kafka`: how every client reaches the brokers, and what the topics are created with."""

    bootstrap: str = Field("127.0.0.1:9092", min_length=3, description="HOST:PORT, several separated by commas")
    group: Name = Field("stethos", description="consumer group of the workers")
    prefix: str = Field("", pattern=r"^[A-Za-z0-9_.-]{0,60}$", description="put before every topic's name")
    partitions: int = Field(24, ge=1, le=1000, description="of every topic; fixed when the topics are created")
    replication: int = Field(1, ge=1, le=7, description="copies of every topic; 3 where there are three brokers")
    raw_retention_h: float | None = Field(None, gt=0, description="in place of the table's, for raw.* and context")
    mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] = "SCRAM-SHA-512"
    instance_id: Name | None = Field(None, description="static membership: this worker's lasting name in the group")
    session_timeout_s: float = Field(12, ge=1, le=300, description="after so long a silent worker counts as dead")
    rebalance_timeout_s: float = Field(20, ge=1, le=300)
    producer_bytes: int = Field(64_000_000, ge=1_000_000, description="a connector's samples on their way to a broker")
    spool_folder: Path = Path("var/spool")
    spool_bytes: int = Field(4_000_000_000, ge=1_000_000, description="samples kept while the brokers are away")
    health_host: str = "127.0.0.1"
    health_port: int | None = Field(None, ge=0, le=65535, description="/live, /ready and /metrics of a worker")

    @model_validator(mode="after")
    def _password_unseen(self, info: ValidationInfo) -> Kafka:
        plain = self.username is not None and self.mechanism == "PLAIN" and not self.tls
        if plain and info.context != RECORDED and not all(map(is_here, self.bootstrap.split(","))):
            raise ValueError("mechanism PLAIN sends the password as it is: set tls = true, or use SCRAM-SHA-512")
        return self


class Recording(Closed):
    """The ring of recordings that serves replay and evidence."""

    enabled: bool = True
    folder: Path = Path("var/recordings")
    ring_bytes: int = Field(4_000_000_000, ge=10_000_000)
    rotate_s: float = Field(900, ge=1)
    rotate_bytes: int = Field(512_000_000, ge=1_000_000)


class Models(Closed):
    """Model packages: where they are looked for by their digest, and who must have signed them."""

    search: tuple[Path, ...] = Field((), description="folders of packages, beside the copies in the state directory")
    public_key: str | None = Field(None, description="minisign key; with one, unsigned packages are refused")


class Simulator(Closed):
    """The simulated shop as a source: machines ``mill-1``, ``drill-1`` and ``motor-1``."""

    seed: int = Field(0, ge=0)
    normal_s: float = Field(60.0, ge=0, description="no event before")
    duration_s: float | None = Field(None, gt=0, description="when the streams end; absent: never")
    speed: float = Field(1.0, ge=0, description="real-time factor; 0 runs as fast as possible")


class Evidence(Closed):
    """What is kept of the time around an alarm."""

    enabled: bool = True
    folder: Path = Path("var/evidence")
    before_s: float = Field(5.0, ge=0, le=60)
    after_s: float = Field(3.0, ge=0, le=60)
    most_bytes: int = Field(2_000_000_000, ge=10_000_000, description="of all files; those of the oldest alarms go")


class Status(Closed):
    """The status page and `/metrics`."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(8420, ge=0, le=65535)


class Settings(Closed):
    """A whole configuration file."""

    schema_version: Literal[1]
    site: Name = "site"
    machines: tuple[Machine, ...] = Field(min_length=1, alias="machine")
    engine: Engine = Engine()
    kafka: Kafka = Kafka()
    models: Models = Models()
    fast_lane: FastLane = FastLane()
    recording: Recording = Recording()
    evidence: Evidence = Evidence()
    status: Status = Status()
    sinks: tuple[SinkConfig, ...] = Field((), alias="sink")
    simulator: Simulator | None = None

    @model_validator(mode="after")
    def _machines_differ(self) -> Settings:
        names = [machine.name for machine in self.machines]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"machine names are used twice: {', '.join(sorted(twice))}")
        if self.fast_lane.mqtt is None and any(machine.fast_lane for machine in self.machines):
            raise ValueError("a fast lane needs somewhere to go: add [fast_lane.mqtt]")
        return self
