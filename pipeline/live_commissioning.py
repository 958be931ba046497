"""Commissioning from the running stream: learn what the engine has just recorded, put it in force by a decision."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from config.schema import Machine, Settings
from models.anomaly.baseline import Baseline
from models.anomaly.commission import Normal, commission
from models.anomaly.embedding import Embedder
from models.anomaly.store import save_all
from operators.rewindow import Sequence as Sequencer
from pipeline.app import plan
from pipeline.asking import Engine, ask, state_of
from pipeline.errors import BadInput, StateError
from pipeline.messages import NS, Chunk, Segment, Stream
from pipeline.recording.clip import window_of
from pipeline.state import Store


@dataclass(frozen=True)
class Stretch:
    """Consecutive chunks of one stream."""

    stream: Stream
    chunks: tuple[Chunk, ...]

    def segments(self) -> Iterator[Segment]:
        """The samples, as the lane's first stage passes them on."""
        sequence = Sequencer(self.stream)
        for chunk in self.chunks:
            yield from (m for m in sequence.process(chunk) if isinstance(m, Segment))


def recorded(folder: Path, machine: str, sensor: str, t0_ns: int, t1_ns: int) -> list[Normal]:
    """What a sensor recorded in [t0_ns, t1_ns), one recording per uninterrupted stretch, one start per epoch."""
    clip = window_of(folder, machine, sensor, t0_ns, t1_ns)
    stretches: list[list[Chunk]] = []
    for part in clip.parts:
        if not isinstance(part, Chunk):
            continue
        last = stretches[-1][-1] if stretches else None
        if last is not None and last.stream == part.stream and last.n1 == part.n0:
            stretches[-1].append(part)
        else:
            stretches.append([part])
    return [
        Normal(f"{machine}/{sensor} #{i}", f"epoch {s[0].stream.epoch}", "", (Stretch(s[0].stream, tuple(s)),))
        for i, s in enumerate(stretches)
    ]


def heard_by(settings: Settings, machines: Sequence[Machine], embedder: Embedder) -> dict[tuple[str, str], Embedder]:
    """The sensors, by machine and name, whose embedding the running engine makes: those of sound that it embeds.

    Raises:
        BadInput: it embeds none of them, or with another encoder or pooling, so that it would refuse the baseline.
        StateError: a package that is in force is not at hand, or no engine has run.
    """
    store = Store(state_of(settings))
    decided = store.decisions("model")
    store.close()
    heard: dict[tuple[str, str], Embedder] = {}
    for lane in plan(settings).lanes:
        models = lane.models
        if models is None or lane.machine.name not in {machine.name for machine in machines}:
            continue
        names = [s.name for s in lane.machine.sensors if s.modality in {"acoustic", "stethoscope"}]
        names = [name for name in names if not models.config.sensors or name in models.config.sensors]
        for decision in decided:
            if decision.machine == lane.machine.name:
                models.decide(decision)
        runs = models.encoder_of(models.newest.active)
        if names and (runs.digest, runs.how) != (embedder.encoder, embedder.pooling):
            raise BadInput(
                "encoder",
                f"machine '{lane.machine.name}' runs the encoder {runs.digest[:16]} {runs.how}".rstrip()
                + f", not {embedder.encoder[:16]} {embedder.pooling}: name that one and its --pooling",
            )
        heard |= {(lane.machine.name, name): embedder for name in names}
    if not heard:
        raise BadInput("encoder", "no machine embeds a sensor of sound: leave out --encoder, or write [machine.model]")
    return heard


def commission_live(
    settings: Settings,
    machines: Sequence[Machine],
    seconds: float,
    out: Path,
    begun_ns: Mapping[str, int],
    embedders: Mapping[tuple[str, str], Embedder] = MappingProxyType({}),
) -> Iterator[str]:
    """Learn the last `seconds` of every sensor of the machines, then ask the running engine to judge by all of it.

    Args:
        settings: that the engine runs on.
        machines: whose sensors to learn.
        seconds: at most so much.
        out: folder for the baselines.
        begun_ns: event time by machine from which on its running is meant to be normal.
        embedders: of sensors, by machine and name; see `heard_by`.

    Yields:
        Sentences for the person who commissions, as soon as they hold.

    Raises:
        BadInput: a sensor recorded nothing to learn from.
        StateError: no engine runs on this state directory, or it refused.
    """
    store = Store(state_of(settings))
    chosen = {machine.name for machine in machines}
    for name in sorted({alarm.machine for alarm in store.standing() if alarm.topic == "alarm"} & chosen):
        yield f"{name}: an alarm stands; look whether this is the normal running that was to be learned."
    learned: list[Baseline] = []  # of all sensors before one is in force: a silent one must not leave half a change
    for machine in machines:
        for sensor in machine.sensors:
            if sensor.modality == "frames":
                continue
            newest = store.newest_ns(machine.name) or time.time_ns()
            first = max(newest - int(seconds * NS), begun_ns[machine.name])
            recordings = recorded(settings.recording.folder, machine.name, sensor.name, first, newest)
            if not recordings:
                raise BadInput("commissioning", f"{machine.name}/{sensor.name}: nothing recorded in that time")
            embedder = embedders.get((machine.name, sensor.name))
            if embedders and embedder is None:
                yield f"{machine.name}/{sensor.name}: the engine makes no embedding of it; learned without"
            learned += commission(recordings, embedder=embedder)
    for baseline, folder in zip(learned, save_all(learned, out), strict=True):
        yield from (*baseline.sentences(), f"  → {folder}")
        yield put_in_force(settings, baseline, folder)


def put_in_force(settings: Settings, baseline: Baseline, folder: Path, engine: Engine = "embedded") -> str:
    """Ask the running engine for a decision and wait until it is durable.

    Raises:
        StateError: nobody answered, or the engine refused.
        BrokerError: no broker answers.
    """
    body = {"sensor": baseline.sensor, "baseline": baseline.settings, "path": str(folder.resolve())}
    try:
        decision = ask(settings, baseline.machine, "baseline", body, engine)
    except StateError as error:
        where = f"it is kept in {folder}"
        if engine == "kafka":
            where += ", and every worker reads it there: engine.state_dir must be a folder that all of them share"
        raise StateError(f"the baseline of {baseline.machine}/{baseline.sensor}: {error}; {where}") from None
    return f"  in force by decision {decision}"
