"""Scenarios that every engine must answer alike: machines, what their sensors published, their baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from config.schema import Machine, Model
from models.anomaly.baseline import Baseline
from models.anomaly.commission import Normal, commission
from models.anomaly.encoder import PackageEmbedder
from pipeline import drill_model
from pipeline.machine_models import MachineModels, configured
from pipeline.messages import (
    NS,
    Anchor,
    Chunk,
    Context,
    Decision,
    Float32,
    Input,
    Mark,
    Modality,
    Rate,
    Segment,
    Stream,
)
from pipeline.shelf import Shelf
from pipeline.stages import LaneSettings
from tests.engines.scratch import scratch

T0 = 1_700_000_000 * NS
UNITS: dict[str, str] = {"acoustic": "FS", "stethoscope": "FS", "vibration": "m/s2"}


@dataclass(frozen=True)
class Scenario:
    """A machine's settings and its log, by sensor; decisions stand under the name ``""``."""

    settings: LaneSettings
    log: dict[str, list[Input]]


def stream(sensor: str, modality: Modality, rate: int, channels: int = 1, epoch: int = 0, dtype: str = "<i2") -> Stream:
    """A sensor of machine ``m``."""
    scale = 0.001 if modality == "vibration" else 1 / 32768
    return Stream(
        "m", sensor, epoch, modality, Rate(rate), channels, dtype, UNITS[modality], scale if dtype == "<i2" else 1.0
    )


def machine(*streams: Stream, **more: object) -> Machine:
    """The inventory that announces these streams."""
    sensors = [
        {
            "name": s.sensor, "modality": s.modality, "rate_hz": s.rate.hz, "unit": s.unit, "channels": s.channels,
        }
        for s in streams
    ]  # fmt: skip
    return Machine.model_validate({"name": "m", "sensor": sensors, "persistence": {"clear_after_s": 2.0}, **more})


def normal_noise(s: Stream, seconds: float, seed: int, bump: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Noise with a few lines; between the seconds of `bump` another, loud line comes in. Counts of the stream."""
    rng = np.random.default_rng(seed)
    n = round(seconds * s.rate.hz)
    t = np.arange(n)[:, None] / s.rate.hz
    x = 0.02 * rng.standard_normal((n, s.channels))
    for k, f in enumerate((0.013, 0.05, 0.11)):
        x += 0.01 * np.sin(2 * np.pi * (f * s.rate.hz * t + k / 7))
    x += (t >= bump[0]) * (t < bump[1]) * 0.15 * np.sin(2 * np.pi * 0.23 * s.rate.hz * t)
    if s.dtype == "<f4":
        return x.astype("<f4")
    return np.clip(np.round(x / s.scale), -32768, 32767).astype("<i2")


def chunks(s: Stream, x: np.ndarray, every_s: float = 0.1, n0: int = 0, anchor: Anchor | None = None) -> list[Input]:
    """The samples as a connector would publish them."""
    step = max(1, round(every_s * s.rate.hz))
    at = anchor or Anchor(0, T0)
    return [Chunk(s, at, n0 + i, i // step, x[i : i + step]) for i in range(0, len(x), step)]


def end(s: Stream, n: int) -> Mark:
    """The end of the stream at sample n."""
    return Mark(s, Anchor(0, T0), n, n, "end")


@dataclass(frozen=True)
class Part:
    stream: Stream
    x: Float32

    def segments(self) -> list[Segment]:
        """One segment."""
        return [Segment(self.stream, Anchor(0, T0), 0, self.x)]


@cache
def baseline_of(s: Stream, seed: int = 0) -> Baseline:
    """What commissioning learns from three starts of normal noise."""
    recordings = []
    for start in range(3):
        x = (normal_noise(s, 8.0, 1000 * seed + start) * np.float32(s.scale)).astype(np.float32)
        recordings.append(Normal(f"{seed}/{start}", f"start-{start}", "", (Part(s, x),)))
    return commission(recordings)[0]


def with_baselines(settings: Machine, *streams: Stream) -> LaneSettings:
    """Lane settings with a commissioned baseline per stream."""
    made = {s.sensor: baseline_of(replace(s, epoch=0)) for s in streams}
    return LaneSettings(settings, {k: b.settings for k, b in made.items()}, {b.settings: b for b in made.values()})


def quiet_then_loud() -> Scenario:
    """A microphone at another rate and an accelerometer, both of which become abnormal, then normal again."""
    mic, acc = stream("mic", "acoustic", 32000), stream("acc", "vibration", 2000, 3)
    log = {s.sensor: chunks(s, normal_noise(s, 16.0, 7, (5.0, 10.0))) for s in (mic, acc)}
    log = {name: [*messages, end(messages[0].stream, messages[-1].n1)] for name, messages in log.items()}
    return Scenario(with_baselines(machine(mic, acc), mic, acc), log)


def gaps_and_faults() -> Scenario:
    """Lost, doubled, overlapping, late and empty chunks, not-a-numbers, a silence told by marks, a new anchor."""
    acc = stream("acc", "vibration", 2000, 1, dtype="<f4")
    x = normal_noise(acc, 14.0, 3, (8.0, 12.0))
    x[5000:5020] = np.nan
    messages = chunks(acc, x)
    del messages[20:27]
    messages.insert(40, messages[38])
    overlap = messages[60]
    assert isinstance(overlap, Chunk)
    messages.insert(61, Chunk(acc, overlap.anchor, overlap.n0 - 50, 0, x[overlap.n0 - 50 : overlap.n0 + 50]))
    messages.insert(70, Chunk(acc, Anchor(0, T0), 14000, 0, x[:0]))
    mark = Mark(acc, Anchor(0, T0), 28000, 33000, "silent")
    again = chunks(acc, normal_noise(acc, 4.0, 5), n0=32500, anchor=Anchor(28000, T0 + 14 * NS + 900_000))
    return Scenario(with_baselines(machine(acc), acc), {"acc": [*messages, mark, *again]})


def restart() -> Scenario:
    """A sensor that restarts: a new epoch with its own sample count, and a straggler of the old one."""
    first, second = stream("acc", "vibration", 2000, 1), stream("acc", "vibration", 2000, 1, epoch=1)
    old = chunks(first, normal_noise(first, 5.3, 1))
    new = chunks(second, normal_noise(second, 6.0, 2, (2.0, 5.0)), anchor=Anchor(0, T0 + 7 * NS))
    return Scenario(with_baselines(machine(first), first), {"acc": [*old[:-1], *new[:5], old[-1], *new[5:]]})


def three_sensors_aligned() -> Scenario:
    """A join: the same machine heard by three sensors with known delays, one of which dies."""
    mic, acc, aux = stream("mic", "acoustic", 16000), stream("acc", "vibration", 2000), stream("aux", "vibration", 4000)
    rng = np.random.default_rng(5)
    beat = np.repeat(0.2 + rng.random(1200), 10)  # amplitude per ms, changing every 10 ms
    log: dict[str, list[Input]] = {}
    for s, delay_ms in ((mic, 0), (acc, 12), (aux, -20)):
        t_ms = np.arange(round(11.0 * s.rate.hz)) * 1000.0 / s.rate.hz
        level = np.interp(t_ms - delay_ms + 500, np.arange(len(beat)), beat)
        x = np.round(3000 * level * rng.standard_normal(len(t_ms))).astype("<i2")[:, None]
        log[s.sensor] = chunks(s, x)
    dies = log["aux"][: len(log["aux"]) * 7 // 10]
    last = dies[-1]
    assert isinstance(last, Chunk)
    marks = [Mark(aux, last.anchor, last.n1 + i * 4000, last.n1 + (i + 1) * 4000, "silent") for i in range(3)]
    log["aux"] = [*dies, *marks]
    return Scenario(LaneSettings(machine(mic, acc, aux, align=True)), log)


def one_of_three_ends() -> Scenario:
    """The reference of a join ends while the others go on: what it said last is still needed."""
    made = three_sensors_aligned()
    log = dict(made.log)
    kept = log["mic"][:60]
    last = kept[-1]
    assert isinstance(last, Chunk)
    log["mic"] = [*kept, end(last.stream, last.n1)]
    return Scenario(made.settings, log)


def new_baseline() -> Scenario:
    """A baseline learned while running takes hold in the middle, by a decision."""
    acc = stream("acc", "vibration", 2000)
    settings = with_baselines(machine(acc), acc)
    other = baseline_of(acc, 1)
    settings.artefacts[other.settings] = other
    body = {"sensor": "acc", "baseline": other.settings, "path": ""}
    decision = Decision("m", "m|baseline|1", T0 + 6 * NS + 123, "baseline", body)
    return Scenario(settings, {"": [decision], "acc": chunks(acc, normal_noise(acc, 12.0, 9, (4.0, 11.0)))})


@cache
def two_states() -> LaneSettings:
    """Normal differs between two states, which come as a context."""
    acc = stream("acc", "vibration", 2000)
    recordings = []
    for state, seed in (("cut", 0), ("idle", 50)):
        for start in range(3):
            x = normal_noise(acc, 8.0, seed + start) * np.float32(acc.scale if state == "cut" else acc.scale / 10)
            recordings.append(Normal(f"{state}/{start}", f"start-{start}", state, (Part(acc, x.astype(np.float32)),)))
    made = commission(recordings)[0]
    return LaneSettings(machine(acc, state_context="state"), {"acc": made.settings}, {made.settings: made})


def restart_before_its_state() -> Scenario:
    """A sensor restarts, and at last ends, while its windows may still wait to be told the state."""
    first, second = stream("acc", "vibration", 2000), stream("acc", "vibration", 2000, epoch=1)
    old = chunks(first, normal_noise(first, 7.3, 9))
    new = chunks(second, normal_noise(second, 6.0, 10, (2.0, 5.0)), anchor=Anchor(0, T0 + 8 * NS))
    log: dict[str, list[Input]] = {"acc": [*old, *new, end(second, new[-1].n1)]}
    log["context"] = [Context("m", "state", T0 + s * NS, "idle" if s == 3 else "cut") for s in range(16)]
    return Scenario(two_states(), log)


def clock_set_back() -> Scenario:
    """A box boots without its clock: a sensor begins anew an hour before it stopped, with an alarm still active."""
    first, second = stream("acc", "vibration", 2000), stream("acc", "vibration", 2000, epoch=1)
    old = chunks(first, normal_noise(first, 10.0, 9, (4.0, 10.0)))
    new = chunks(second, normal_noise(second, 25.0, 10, (14.0, 19.0)), anchor=Anchor(0, T0 - 3600 * NS))
    log: dict[str, list[Input]] = {"acc": [*old, *new, end(second, new[-1].n1)]}
    return Scenario(with_baselines(machine(first, persistence={"clear_after_s": 3}), first), log)


def speed_told_late() -> Scenario:
    """Chatter, bearing and severity of a spindle that is told its speed and state; both change, the sensor restarts."""
    acc, again = stream("acc", "vibration", 8000), stream("acc", "vibration", 8000, epoch=1)
    rng = np.random.default_rng(3)

    def milling(s: Stream, seconds: float, rpm: float, chatter: tuple[float, float]) -> np.ndarray:
        t = np.arange(round(seconds * s.rate.hz)) / s.rate.hz
        x = 0.05 * rng.standard_normal(len(t))
        for k in range(1, 6):
            x += 2.0 / k * np.sin(2 * np.pi * k * rpm / 20 * t + k)  # three teeth
        for k in (-1, 0, 1):
            x += (t >= chatter[0]) * (t < chatter[1]) * 3.0 * np.sin(2 * np.pi * (922.0 + k * rpm / 20) * t)
        return np.round(x / s.scale).astype("<i2")[:, None]

    old = chunks(acc, milling(acc, 5.3, 9000.0, (3.0, 9.0)))
    new = chunks(again, milling(again, 9.0, 8000.0, (6.0, 8.0)), anchor=Anchor(0, T0 + 6 * NS))
    log: dict[str, list[Input]] = {"acc": [*old, *new, end(again, new[-1].n1)]}
    told = [(k * NS // 2, 9000.0 if k < 12 else 8000.0) for k in range(32)]
    log["speed"] = [Context("m", "rpm", T0 + t_ns, rpm) for t_ns, rpm in told]
    log["state"] = [Context("m", "state", T0 + s * NS, "cut" if s < 14 else "idle") for s in range(17)]
    more = {
        "spindle": {"rpm_context": "rpm", "teeth": 3, "lowest_rpm": 6000, "cutting_states": ["cut"]},
        "bearing": {"balls": 9, "diameter_ratio": 0.2},
        "severity": {"group": 2, "support": "rigid", "power_kw": 30, "speed_rpm": 9000, "learn_windows": 3},
        "state_context": "state",
    }
    return Scenario(LaneSettings(machine(acc, **more)), log)


def operating_states() -> Scenario:
    """The operating state comes as a context, falls silent, is given up, and comes back."""
    settings = two_states()
    acc = stream("acc", "vibration", 2000)
    x = normal_noise(acc, 24.0, 9)
    x[4 * 2000 : 8 * 2000] //= 10  # idle
    x[16 * 2000 : 20 * 2000] //= 10  # idle, and nobody says so
    log: dict[str, list[Input]] = {"acc": chunks(acc, x)}
    said = [(s, "idle" if 4 <= s < 8 or 16 <= s < 20 else "cut") for s in range(26) if not 10 <= s < 18]
    log["context"] = [Context("m", "state", T0 + s * NS, value) for s, value in said]
    gone, back = T0 + 10 * NS, T0 + 19 * NS
    log[""] = [
        Decision("m", "m|abandon|state", gone, "abandon", {"context": "state"}),
        Decision("m", "m|return|state", back, "return", {"context": "state"}),
    ]
    return Scenario(settings, log)


def strangers() -> Scenario:
    """An unknown sensor, a wrong rate and a wrong shape beside a good sensor, which must not notice."""
    acc, mic = stream("acc", "vibration", 2000), stream("mic", "acoustic", 16000)
    wrong = replace(mic, rate=Rate(8000))
    unknown = replace(acc, sensor="ghost")
    log: dict[str, list[Input]] = {
        "acc": chunks(acc, normal_noise(acc, 6.0, 1)),
        "mic": chunks(wrong, normal_noise(wrong, 1.0, 1)),
        "ghost": chunks(unknown, normal_noise(unknown, 1.0, 1)),
    }
    return Scenario(with_baselines(machine(acc, mic), acc), log)


def learned_states() -> Scenario:
    """An encoder and two heads, then by decisions a shadow, its promotion, and the way back; a gap and a restart."""
    mic, again = stream("mic", "acoustic", 32000), stream("mic", "acoustic", 32000, epoch=1)
    models = learned_models()
    heard = learned_baseline(mic)
    announced = machine(mic, model=models.config.model_dump(by_alias=True))
    settings = LaneSettings(announced, {"mic": heard.settings}, {heard.settings: heard}, models=models)
    log = chunks(mic, normal_noise(mic, 16.0, 7, (5.0, 10.0)))
    del log[30:34]
    later = chunks(again, normal_noise(again, 9.0, 8, (3.0, 9.0)), anchor=Anchor(0, T0 + 17 * NS))
    lane, decisions = models.for_lane(), list[Input]()
    newer = [{"path": str(folder)} for folder in (learned_folder() / "encoder-2", learned_folder() / "head-2")]
    wishes = [("shadow", newer, 6.1), ("promote", [], 12.3), ("rollback", [], 20.7)]
    for number, (action, packages, at_s) in enumerate(wishes):
        body = lane.verify({"action": action, "packages": packages})
        decision = Decision("m", f"m|model|{number}", T0 + round(at_s * NS), "model", body)
        lane.decide(decision)
        decisions.append(decision)
    return Scenario(settings, {"": decisions, "mic": [*log, *later, end(again, later[-1].n1)]})


@cache
def learned_baseline(s: Stream) -> Baseline:
    """Commissioned with the first encoder beside the log-Mel."""
    package = learned_models().shelf.add(learned_folder() / "encoder-1")
    recordings = []
    for start in range(3):
        x = (normal_noise(s, 8.0, start) * np.float32(s.scale)).astype(np.float32)
        recordings.append(Normal(str(start), f"start-{start}", "", (Part(s, x),)))
    return commission(recordings, embedder=PackageEmbedder(package))[0]


@cache
def learned_folder() -> Path:
    """Two tiny encoders, and for each a head that tells quiet from loud noise; the folder lasts as long as we."""
    from tests.pipeline import packages

    folder = scratch("packages")
    for number in (1, 2):
        made = packages.encoder(folder / f"encoder-{number}", seed=number)
        packages.told_apart(folder / f"head-{number}", made, version=str(number))
    return folder


def learned_models() -> MachineModels:
    """The first of the encoders with its head, as state and as score."""
    first = str(learned_folder() / "head-1")
    said = {
        "encoder": str(learned_folder() / "encoder-1"), "every": 1,
        "head": [
            {"package": first, "k": 2, "n": 3},
            {"package": first, "name": "loudness", "gives": "score", "abnormal": ["loud"]},
        ],
    }  # fmt: skip
    return configured("m", Model.model_validate(said), Shelf())


def drill_classifier() -> Scenario:
    """Two good holes, a fracture that the physics detector and a classifier must both hear, a gap behind it."""
    from tests.pipeline.test_drill_live import HOLE_S, MIC, RATE, drilling, louder

    folder = scratch("packages") / "drill-classifier"
    if not folder.exists():
        louder(folder)
    said = {"classifier": str(folder), "rule": "both", "taught_holes": 2}
    announced = machine(MIC, drill=said)
    first = round(3 * HOLE_S * RATE)
    log = chunks(MIC, drilling()[first : first + 6 * RATE], 0.02)
    del log[235:238]  # 60 ms of air
    return Scenario(LaneSettings(announced, classifier=drill_model.configured(announced, Shelf())), {"mic": log})


def heads_on_vibration() -> Scenario:
    """Three sensors with heads of their own; a shadow of one head, its promotion, the way back; a gap, a restart."""
    from tests.engines import vibration

    return vibration.heads_on_vibration()


def slow_drift() -> Scenario:
    """A machine gets louder by a little every minute."""
    from tests.engines import drifting

    return drifting.slow_drift()


def given_up_in_between() -> Scenario:
    """Sensors restart while facts that their older streams wait for have been given up for the newer ones."""
    from tests.engines import waiting

    return waiting.given_up_in_between()


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    made.__name__: made
    for made in (
        quiet_then_loud,
        gaps_and_faults,
        restart,
        three_sensors_aligned,
        one_of_three_ends,
        new_baseline,
        operating_states,
        restart_before_its_state,
        clock_set_back,
        speed_told_late,
        learned_states,
        heads_on_vibration,
        strangers,
        drill_classifier,
        slow_drift,
        given_up_in_between,
    )
}
