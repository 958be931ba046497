"""A day of normal running of simulated machines, judged by what their own commissioning learned: the false alarms.

Three halls of a mill, a drill press and a motor (`benchmarks/quiet_halls.py`). The control tells one of three states,
by speed or size of the tool: `low` and `high` are commissioned on some starts each, `middle` never is. Other starts are
judged, by whole lanes of the running pipeline.

    python -m benchmarks.quiet [--hours 24] [--seed 8501] [--starts 5] [--resume FILE]

Beside it: the level alone, thresholded in the same way; starts in `middle`, told so, and told as `low` and `high`; and
what the same baselines find of clear faults. One line of JSON a start, then the figures. `--resume` takes the starts
from what an earlier run has told, also by `python -m benchmarks quiet --json FILE`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quiet_halls import FAULTS, KINDS, Start, chunks, stream_of
from config.schema import Machine
from models.anomaly.baseline import Baseline
from models.anomaly.commission import RECOMMENDED_STARTS, Normal, commission
from models.anomaly.fusion import Fusion, fit
from models.anomaly.left_out import LeftOut, Recording
from models.anomaly.thresholds import poisson_interval
from models.anomaly.vectors import ANOMALY
from models.metrics import wilson
from operators.persistence import Persistence
from pipeline.live_commissioning import Stretch
from pipeline.messages import NS, Alarm, Chunk, Context, DeadLetter, Score, Stream
from pipeline.runner import Lane
from pipeline.stages import LaneSettings

LEARNED, UNSEEN = ("low", "high"), "middle"
TAUGHT, JUDGED, NEW, FAULTY = 0, 1000, 5000, 7000
"""Numbers of the first start that teaches, is judged, is of the unseen state, and has a fault: no start is two."""
RMS = "rms"
FLOOR_DB = 0.5
"""The smallest believed spread of a level in dB, as in `models.anomaly.vectors`."""


class Day(NamedTuple):
    """What is played: hours of all machines together, seconds of starts, how many are faulty, how many teach each."""

    seed: int = 8501
    hours: float = 24.0
    halls: int = 3
    judged_s: float = 600.0
    taught_s: float = 60.0
    faulty_s: float = 96.0
    faults: int = 4
    starts: int = RECOMMENDED_STARTS


# commissioning ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Taught:
    """What commissioning learned of a machine: its baseline, and by state the level alone with its threshold."""

    baseline: Baseline
    levels: Mapping[str, tuple[Fusion, float]]


def commissioned(day: Day, hall: int) -> dict[str, Taught]:
    """All machines of a hall by kind, learned from some starts in each of the states that are learned."""
    recorded: dict[str, list[Normal]] = {kind: [] for kind in KINDS}
    levels: dict[str, dict[str, dict[str, Sequence[Chunk]]]] = {kind: {s: {} for s in LEARNED} for kind in KINDS}
    for number in range(TAUGHT, TAUGHT + day.starts * len(LEARNED)):
        start = Start(day.seed, hall, number, LEARNED[number % len(LEARNED)], day.taught_s)
        heard = list(chunks(start))
        for kind in KINDS:
            mine = levels[kind][start.state][str(number)] = tuple(second[kind] for second in heard)
            part = Stretch(stream_of(start, kind), mine)
            recorded[kind].append(Normal(f"{kind} {number}", str(number), start.state, (part,)))
    found = {}
    for kind, normals in recorded.items():
        (baseline,) = commission(normals)
        found[kind] = Taught(baseline, {state: level_of(of) for state, of in levels[kind].items()})
    return found


class Level:
    """The level alone: of a second, twice a second, in dB of whatever the samples' unit is; all axes together."""

    def __init__(self) -> None:
        self._before: float | None = None

    def take(self, chunk: Chunk) -> Iterator[tuple[int, float]]:
        """End of each window in ns, and its level."""
        x, half = chunk.samples.astype(np.float32), len(chunk.samples) // 2
        for n, part in ((half, x[:half]), (2 * half, x[half:])):
            power = float(np.mean(np.var(part, axis=0)))
            if self._before is not None:
                level_db = 10.0 * np.log10(max(0.5 * (self._before + power), 1e-12))
                yield chunk.anchor.at(chunk.n0 + n, chunk.stream.rate), float(level_db)
            self._before = power


def level_of(normals: Mapping[str, Sequence[Chunk]]) -> tuple[Fusion, float]:
    """The level as the only number of a window: its distance from normal, and the limit that left-out starts give."""
    told = []
    for start, heard in normals.items():
        level = Level()
        told += [(start, *window) for chunk in heard for window in level.take(chunk)]
    starts = [start for start, _, _ in told]
    times, x = np.array([t_ns for _, t_ns, _ in told]), np.array([[db] for _, _, db in told], np.float32)
    fusion, scores = fit(x, starts, ("maha",), np.full(1, FLOOR_DB, np.float32))
    of = np.array(starts)
    left_out = LeftOut([Recording(start, scores[of == start], times[of == start]) for start in normals])
    return fusion, left_out.limit()


# judging ----------------------------------------------------------------------------------------------------------


class Judge:
    """A lane of the running pipeline for one start of one machine, and the level alone beside it.

    Args:
        stream: of the machine's sensor.
        taught: what its commissioning learned.
        state: what the control tells.
    """

    def __init__(self, stream: Stream, taught: Taught, state: str) -> None:
        sensor = {"name": stream.sensor, "modality": stream.modality, "rate_hz": stream.rate.hz, "unit": stream.unit}
        sensor["channels"] = stream.channels
        machine = Machine.model_validate({"name": stream.machine, "state_context": "state", "sensor": [sensor]})
        baseline = taught.baseline
        self._lane = Lane(LaneSettings(machine, {stream.sensor: baseline.settings}, {baseline.settings: baseline}))
        self._alone, self._level, self._persistence = taught.levels.get(state), Level(), Persistence()
        self._state = state
        self.counts = Counter({"windows": 0, "unverified": 0, "unscored_s": 0})
        self.raised: list[tuple[int, str]] = []

    def take(self, chunk: Chunk) -> None:
        """A second of samples, and the state at both of its ends."""
        for t_ns in (chunk.t0_ns, chunk.t1_ns):
            self._lane.process(Context(chunk.stream.machine, "state", t_ns, self._state))
        results = self._lane.process(chunk)
        self.counts["unscored_s"] += not any(isinstance(result, Score) for result in results)
        for result in results:
            if isinstance(result, DeadLetter):
                raise AssertionError(f"{chunk.stream.machine}: {result.reason}, {result.error}")
            if isinstance(result, Score):
                self._score(result)
            elif isinstance(result, Alarm):
                self._alarm(result)
        self._judge_alone(chunk)

    def _score(self, score: Score) -> None:
        self.counts["windows"] += score.detector == ANOMALY
        self.counts["unverified"] += score.detector == ANOMALY and not score.complete
        self.counts[f"over {score.detector}"] += score.complete and score.abnormal

    def _judge_alone(self, chunk: Chunk) -> None:
        if self._alone is None:
            return
        fusion, limit = self._alone
        for t_ns, level_db in self._level.take(chunk):
            value = fusion.score(np.array([level_db], np.float32)).value
            score = Score(chunk.stream.machine, (chunk.stream.sensor,), RMS, t_ns, value, limit, RMS)
            self._score(score)
            for alarm in self._persistence.process(score):
                if isinstance(alarm, Alarm):
                    self._alarm(alarm)

    def _alarm(self, alarm: Alarm) -> None:
        if alarm.transition == "raised":
            self.raised.append((alarm.t_ns, alarm.detector))


def judged(start: Start, taught: Mapping[str, Taught], states: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Play a start to lanes of its machines, one for each state that the control tells, and say what came of it."""
    judges = {
        (kind, told): Judge(stream_of(start, kind), taught[kind], told) for kind in start.kinds for told in states
    }
    for second in chunks(start):
        for (kind, _), judge in judges.items():
            judge.take(second[kind])
    for (kind, told), judge in judges.items():
        cell = "unseen" if told not in LEARNED else "seen" if told == start.state else "another's"
        raised = [(round((t_ns - start.t0_ns) / NS, 2), detector) for t_ns, detector in judge.raised]
        yield {
            "start": start.number, "seed": start.seed, "hall": start.hall + 1, "kind": kind, "state": start.state,
            "told": told, "cell": cell, "fault": start.fault, "seconds": start.seconds, "onset_s": start.onset_s,
            **judge.counts, "raised": raised,
        }  # fmt: skip


# the day ----------------------------------------------------------------------------------------------------------


def plan(day: Day) -> Iterator[tuple[Start, tuple[str, ...]]]:
    """Starts and what the control tells, a hall after the other: faults and the unseen state first, then the day."""
    for n in range(day.faults):
        for hall in range(day.halls):
            for kind in KINDS:
                state, fault = LEARNED[n % 2], FAULTS[kind][(n + hall) % len(FAULTS[kind])]
                yield Start(day.seed, hall, FAULTY + n, state, day.faulty_s, kind, fault), (state,)
    for hall in range(day.halls):
        yield Start(day.seed, hall, NEW, UNSEEN, 0.5 * day.judged_s), (UNSEEN, *LEARNED)
    for n in range(round(3600.0 * day.hours / day.judged_s / len(KINDS))):
        number, hall = divmod(n, day.halls)
        state = LEARNED[number % 2]
        yield Start(day.seed, hall, JUDGED + number, state, day.judged_s), (state,)


def run(day: Day, done: Iterable[Mapping[str, Any]] = ()) -> Iterator[Mapping[str, Any]]:
    """Tell every start, then the figures; `done` are records of starts that need not be played again."""
    of = ("seed", "hall", "start", "seconds", "fault", "learned", "kind", "told")
    known = {tuple(r.get(key) for key in of): r for r in done}
    halls: dict[int, dict[str, Taught]] = {}
    records: list[Mapping[str, Any]] = []
    for start, states in plan(day):
        facts = (start.seed, start.hall + 1, start.number, start.seconds, start.fault, day.starts)
        held = [known.get((*facts, kind, told)) for kind in start.kinds for told in states]
        if all(record is not None for record in held):
            records += [record for record in held if record is not None]
            continue
        if start.hall not in halls:
            halls[start.hall] = commissioned(day, start.hall)
            for kind, taught in halls[start.hall].items():
                yield {"commissioned": f"{kind}-{start.hall + 1}", "says": taught.baseline.sentences()}
        for record in judged(start, halls[start.hall], states):
            records.append({**record, "learned": day.starts})
            yield records[-1]
    yield from tables(records, day.halls)


# figures ----------------------------------------------------------------------------------------------------------


def ours(record: Mapping[str, Any]) -> list[float]:
    """When the running pipeline raised an alarm, in s of the start."""
    return [t_s for t_s, detector in record["raised"] if detector != RMS]


def alone(record: Mapping[str, Any]) -> list[float]:
    """When the level alone would have."""
    return [t_s for t_s, detector in record["raised"] if detector == RMS]


def share(hits: int, trials: int) -> dict[str, Any]:
    """With Wilson's interval."""
    return {"hits": hits, "n": trials, "interval": [round(v, 3) for v in wilson(hits / max(trials, 1), trials)]}


def quiet(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Alarms a day of what was judged, starts with one, windows above the threshold; the level alone beside them."""
    counts: Counter[str] = Counter()
    for record in records:
        counted = ("windows", "unverified", "unscored_s")
        counts.update({k: v for k, v in record.items() if k in counted or k.startswith("over ")})
    seconds = sum(r["seconds"] for r in records if r["told"] in LEARNED)
    found: dict[str, Any] = {"hours": round(seconds / 3600.0, 2), "windows": counts["windows"]}
    found |= {"unverified": counts["unverified"], "unscored_s": counts["unscored_s"]}
    if not seconds:
        return found
    for name, times in (("ours", ours), (RMS, alone)):
        days, alarms = seconds / 86_400.0, sum(len(times(r)) for r in records)
        low, high = poisson_interval(alarms, days)
        found[name] = {
            "alarms": alarms, "per_day": round(alarms / days, 1), "interval": [round(low, 1), round(high, 1)],
            "starts": share(sum(bool(times(r)) for r in records), len(records)),
        }  # fmt: skip
    over = {k.removeprefix("over "): round(v / counts["windows"], 5) for k, v in counts.items() if "over" in k}
    return {**found, "windows_over": over, "alarms_by": Counter(d for r in records for _, d in r["raised"])}


def deaf(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Faults after whose onset an alarm rose; where one stood before it nothing was found, which is told apart."""
    found = {}
    for name, times in (("ours", ours), (RMS, alone)):
        early = [any(t_s < r["onset_s"] for t_s in times(r)) for r in records]
        hits = sum(bool(times(r)) and not before for r, before in zip(records, early, strict=True))
        found[name] = {**share(hits, len(records)), "alarm_before": sum(early)}
    return found


def tables(records: Sequence[Mapping[str, Any]], halls: int) -> Iterator[dict[str, Any]]:
    """The figures: by cell, kind and machine, and of the faults."""
    normal, faulty = [r for r in records if not r["fault"]], [r for r in records if r["fault"]]
    for cell in ("seen", "unseen", "another's"):
        of = [r for r in normal if r["cell"] == cell]
        yield {"table": "quiet", "cell": cell, "machine": "all", **quiet(of)}
        for kind in KINDS:
            yield {"table": "quiet", "cell": cell, "machine": kind, **quiet([r for r in of if r["kind"] == kind])}
            for hall in range(1, halls + 1) if cell == "seen" else ():
                mine = [r for r in of if r["kind"] == kind and r["hall"] == hall]
                yield {"table": "quiet", "cell": cell, "machine": f"{kind}-{hall}", **quiet(mine)}
    for kind in KINDS:
        for fault in FAULTS[kind]:
            of = [r for r in faulty if r["fault"] == fault]
            yield {"table": "faults", "machine": kind, "fault": fault, **deaf(of)}
    yield {"table": "faults", "machine": "all", "fault": "all", **deaf(faulty)}


def main() -> None:
    """Play and print."""
    usual = Day()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=usual.hours, help="of normal running, all machines together")
    parser.add_argument("--minutes", type=float, default=usual.judged_s / 60.0, help="of a judged start")
    parser.add_argument("--taught-minutes", type=float, default=usual.taught_s / 60.0, help="of a start that teaches")
    parser.add_argument("--starts", type=int, default=usual.starts, help="that teach each state")
    parser.add_argument("--faults", type=int, default=usual.faults, help="faulty starts of each machine")
    parser.add_argument("--halls", type=int, default=usual.halls, choices=(1, 2, 3), help="of three machines")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--resume", type=Path, help="what an earlier run has told")
    asked = parser.parse_args()
    if min(asked.hours, asked.minutes, asked.taught_minutes, asked.faults) <= 0:
        parser.error("--hours, --minutes, --taught-minutes and --faults must be positive")
    if not 2 <= asked.starts <= JUDGED // len(LEARNED):
        parser.error(f"--starts must be 2 to {JUDGED // len(LEARNED)}")
    judged_s, taught_s = 60.0 * asked.minutes, 60.0 * asked.taught_minutes
    day = Day(asked.seed, asked.hours, asked.halls, judged_s, taught_s, faults=asked.faults, starts=asked.starts)
    lines = asked.resume.read_text(encoding="utf-8").splitlines() if asked.resume is not None else []
    done = [record for line in lines if "start" in (record := json.loads(line))]
    began = time.process_time()
    for told in run(day, done):
        print(json.dumps(told), flush=True)
    print(json.dumps({"table": "cost", "cpu_s": round(time.process_time() - began, 1)}), flush=True)


if __name__ == "__main__":
    main()
