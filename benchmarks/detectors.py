"""Recall, delay and false alarms of the physics detectors on simulated machines; prints one line of JSON per table.

    .venv/bin/python benchmarks/detectors.py chatter --count 60
    .venv/bin/python benchmarks/detectors.py near --count 40
    .venv/bin/python benchmarks/detectors.py stable --minutes 10
    .venv/bin/python benchmarks/detectors.py wrong --count 20
    .venv/bin/python benchmarks/detectors.py teeth --count 30
    .venv/bin/python benchmarks/detectors.py drill --starts 40
    .venv/bin/python benchmarks/detectors.py bearing --count 40
    .venv/bin/python benchmarks/detectors.py noise

The seeds are the final ones of `tests/operators/simulated.py`; `--seed` takes another one, e.g. to tune.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from connectors.simulator.bearing import SKF_6205, Motor, decibels, vibration
from connectors.simulator.seeds import generator, uniform
from operators.bearing import BearingLines, Geometry
from operators.breakage import BreakFeatures
from operators.breakage_detector import BREAK, BreakDetector
from operators.chatter import ChatterFeatures
from operators.chatter_detector import DETECTOR, ChatterDetector
from operators.chatter_lines import energy_ratio, power
from operators.chatter_plan import plan
from operators.spindle import GivenSpeed
from operators.teeth import FLIP, TOOTH_LOSS
from pipeline.messages import Anchor, Feature, Float32, Rate, Score, Segment, Stream
from tests.operators.simulated import DRILL_HZ, FINAL, MILL_HZ, Cut, between_holes, cut, holes, lost_tooth, wilson

NS = 1e9
ANCHOR = Anchor(0, 0)
TAUGHT = 4
"""Holes of a machine that teach."""
AIR_S = 1.5
"""Air before a chattering cut: the longest window at the lowest speed of a mill, and half a second of idle machine."""


def table(name: str, **figures: object) -> None:
    print(json.dumps({"table": name, **figures}), flush=True)


def share(hits: int, trials: int) -> dict[str, object]:
    low, high = wilson(hits, trials)
    return {
        "hits": hits,
        "n": trials,
        "share": round(hits / max(trials, 1), 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    p = np.percentile(values, [0, 10, 25, 50, 75, 90, 99, 100])
    return dict(
        zip(("min", "p10", "p25", "p50", "p75", "p90", "p99", "max"), (round(float(x), 4) for x in p), strict=True)
    )


def sensor(rate: int, unit: str, channels: int = 1) -> Stream:
    sound = unit == "FS"
    return Stream("m", "s", 0, "acoustic" if sound else "vibration", Rate(rate), channels, "<f4", unit)


def chatter_scores(made: Cut, unit: str, names: tuple[str, ...] = (DETECTOR,)) -> list[Score]:
    (scores,) = delayed_scores(made, unit, [0.0], names)
    return scores


def hops_of(made: Cut, unit: str, anchor: Anchor = ANCHOR) -> list[Feature]:
    """What the detector is told of a cut."""
    stream = sensor(MILL_HZ, unit)
    features = ChatterFeatures(stream, GivenSpeed(made.rpm), made.teeth, made.rpm)
    heard = features.process(Segment(stream, anchor, 0, made.sound if unit == "FS" else made.acceleration))
    return [hop for hop in heard if isinstance(hop, Feature)]


def delayed_scores(
    made: Cut, unit: str, on_delays_s: list[float], names: tuple[str, ...] = (DETECTOR,)
) -> list[list[Score]]:
    """The scores of a cut under each on-delay, after its good parts were learned."""
    hops = hops_of(made, unit)
    detectors = [ChatterDetector(made.teeth, 2.0 * made.rpm, on_delay_s=on_delay_s) for on_delay_s in on_delays_s]
    for number, part in enumerate(made.before, -len(made.before)):
        for hop in hops_of(part, unit, Anchor(0, round(number * len(part.sound) / MILL_HZ * NS))):
            good = replace(hop, values={**hop.values, "good": 1.0})
            for detector in detectors:
                detector.process(good)
    return [
        [s for hop in hops for s in detector.process(hop) if isinstance(s, Score) and s.detector in names]
        for detector in detectors
    ]


@dataclass
class Heard:
    """What became of a row of chattering cuts."""

    early: int = 0
    late: int = 0
    quick: list[float] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)
    learned: int = 0
    speeds: dict[int, list[int]] = field(default_factory=dict)
    missed: list[dict[str, float]] = field(default_factory=list)

    def take(self, index: int, made: Cut, abnormal_s: list[float]) -> None:
        """Count a cut by the times at which its score was abnormal."""
        assert made.seen_s is not None
        assert made.onset_s is not None
        self.learned += len(made.before)
        self.early += any(t < made.onset_s - 0.05 for t in abnormal_s)
        after = [t for t in abnormal_s if t >= made.onset_s - 0.05]
        of = self.speeds.setdefault(4000 * int(made.rpm // 4000), [])
        of.append(bool(after))
        if not after:
            self.missed.append({"i": index, "rpm": made.rpm, "teeth": made.teeth})
            return
        delay, fast = after[0] - made.seen_s, made.rpm >= 8000
        (self.quick if fast else self.slow).append(delay)
        self.late += delay > (0.1 if fast else 13 * 60.0 / made.rpm + 0.03)

    def figures(self) -> dict[str, object]:
        """Recall, delays and misses so far."""
        hits = len(self.quick) + len(self.slow)
        return {
            "recall": share(hits, hits + len(self.missed)),
            "learned_parts": self.learned,
            "recall_from_rpm": {rpm: share(sum(of), len(of)) for rpm, of in sorted(self.speeds.items())},
            "alarms_before_onset": self.early,
            "later_than_target": self.late,
            "delay_s": spread(self.quick + self.slow),
            "delay_s_from_8000_rpm": spread(self.quick),
            "delay_s_below": spread(self.slow),
            "missed": self.missed,
        }


def chatter(seed: int, count: int, near: tuple[float, float] | None, on_delays_s: list[float], parts: int) -> None:
    """Recall and delay against the once-per-revolution reference, by sound and acceleration, after learned parts."""
    name = "chatter" if near is None else f"chatter {near[0]}-{near[1]} of the limit"
    for unit in ("FS", "m/s2"):
        for agc in (False, True) if unit == "FS" and near is None else (False,):
            heard = [Heard() for _ in on_delays_s]
            for i in range(count):
                snr_db = 10.0 + 10.0 * ((i * 0.37) % 1.0)
                made = cut(seed, i, "chatter", snr_db=snr_db, agc=agc, near=near, air_s=AIR_S, parts=parts)
                for so_far, scores in zip(heard, delayed_scores(made, unit, on_delays_s), strict=True):
                    so_far.take(i, made, [s.t_end_ns / NS for s in scores if s.abnormal])
            for on_delay_s, so_far in zip(on_delays_s, heard, strict=True):
                table(name, sensor=unit, agc=agc, seed=seed, on_delay_s=on_delay_s, parts=parts, **so_far.figures())


def stable(seed: int, minutes: float, on_delays_s: list[float], parts: int) -> None:
    """False alarms in stable cutting at 0.25-0.7 of the limit, with entries, chips, bangs, tones and air.

    Where `parts` are learned, what is judged is the next part of the same job.
    """
    seconds, runs = 10.0, round(minutes * 6)
    where: list[list[dict[str, Any]]] = [[] for _ in on_delays_s]
    for i in range(runs):
        snr_db = 6.0 + 14.0 * ((i * 0.37) % 1.0)
        made = cut(seed, 100_000 + i, "stable", snr_db=snr_db, seconds=seconds, agc=i % 5 == 0, parts=parts)
        for unit in ("FS", "m/s2"):
            for so_far, scores in zip(where, delayed_scores(made, unit, on_delays_s), strict=True):
                told = [False, *(s.abnormal for s in scores)]
                raised = sum(now and not before for before, now in pairwise(told))
                if raised:
                    text = next(s for s in scores if s.abnormal).reasons["text"]
                    so_far.append(
                        {"i": i, "sensor": unit, "rpm": made.rpm, "teeth": made.teeth, "raised": raised, "text": text}
                    )
    hours = runs * seconds / 3600.0
    for on_delay_s, so_far in zip(on_delays_s, where, strict=True):
        false = {unit: sum(one["raised"] for one in so_far if one["sensor"] == unit) for unit in ("FS", "m/s2")}
        high = {unit: chi2.ppf(0.975, 2 * (n + 1)) / 2.0 for unit, n in false.items()}  # of a Poisson count, exact
        table(
            "stable", seed=seed, minutes=round(runs * seconds / 60.0, 1), on_delay_s=on_delay_s, parts=parts,
            false_alarms=false,
            machines_with_alarms=len({one["i"] for one in so_far}),
            per_hour_high={unit: round(float(n) / hours, 1) for unit, n in high.items()},
            where=so_far,
        )  # fmt: skip


OTHERS = (0.6, 0.7, 0.8, 0.88, 0.95, 1.05, 1.15, 1.25, 1.4, 1.6, 1.8)
RATIOS = (1.0 / 3.0, 0.5, 2.0 / 3.0, 1.5, 2.0, 3.0)


def wrong(seed: int, count: int) -> None:
    """Stable cuts under another speed than their own: how many raise an alarm, are called unverified, or neither.

    Of the alarms, `doubts` say that the told speed should be looked at. Simple ratios stand apart from other factors.
    """
    whole: dict[str, Counter[str]] = {"others": Counter(), "ratios": Counter()}
    for factor in (*OTHERS, *RATIOS):
        outcome: Counter[str] = Counter()
        for i in range(count):
            made = cut(seed, 100_000 + i, "stable", snr_db=10.0 + 10.0 * ((i * 0.37) % 1.0), seconds=8.0)
            told = replace(made, rpm=factor * made.rpm)
            for unit in ("FS", "m/s2"):
                scores = chatter_scores(told, unit)
                said = sum("speed" in s.reasons for s in scores) > 0.1 * len(scores)
                alarms = [s for s in scores if s.abnormal]
                outcome["alarm" if alarms else "unverified" if said else "silent"] += 1
                outcome["doubts"] += any("told speed" in s.reasons["text"] for s in alarms)
        whole["ratios" if factor in RATIOS else "others"] += outcome
        table("wrong speed", seed=seed, factor=round(factor, 3), **outcome)
    for name, outcome in whole.items():
        table("wrong speed", seed=seed, factor=name, **outcome)


def teeth(seed: int, count: int) -> None:
    """Lost teeth found within a second, in stable cuts of 14 s, by teeth; false alarms in the same cuts without."""
    for unit in ("FS", "m/s2"):
        hits, late, delays, missed, false, seconds = [0] * 5, 0, [], [], [], 0.0
        of = [0] * 5
        for i in range(count):
            for loses in (True, False):
                made = lost_tooth(seed, i, snr_db=10.0 + 10.0 * ((i * 0.37) % 1.0), loses=loses)
                scores = chatter_scores(made, unit, (TOOTH_LOSS, FLIP))
                at = made.onset_s or len(made.sound) / MILL_HZ
                raised = [(s.t_end_ns / NS, s.detector) for s in scores if s.abnormal]
                early = [f"{i}: {name} at {t:.1f} s" for t, name in raised if t < at]
                false += early[:1]
                seconds += at
                if loses:
                    of[made.teeth] += 1
                    after = [t - at for t, name in raised if t >= at and name == TOOTH_LOSS]
                    hits[made.teeth] += bool(after) and after[0] <= 1.0
                    late += bool(after) and after[0] > 1.0
                    delays += after[:1]
                    if not after:
                        missed.append({"i": i, "teeth": made.teeth, "rpm": made.rpm})
        table(
            "teeth", sensor=unit, seed=seed, within_1_s=share(sum(hits), count), later=late, delay_s=spread(delays),
            by_teeth={n: f"{hits[n]}/{of[n]}" for n in (2, 3, 4)}, false=false, quiet_minutes=round(seconds / 60.0, 1),
            missed=missed,
        )  # fmt: skip


class Listener:
    """A drill-break detector that hears one machine from the first hole on."""

    def __init__(self) -> None:
        self._stream = sensor(DRILL_HZ, "FS")
        self._features, self._detector, self._n = BreakFeatures(self._stream), BreakDetector(TAUGHT), 0

    def stops(self, sound: Float32) -> list[float]:
        """When a break is told, in s from the beginning of this sound."""
        frames = self._features.process(Segment(self._stream, ANCHOR, self._n, sound))
        scores = [s for f in frames if isinstance(f, Feature) for s in self._detector.process(f)]
        told = [s.t_end_ns for s in scores if isinstance(s, Score) and s.detector == BREAK and s.abnormal]
        began_s, self._n = self._n / DRILL_HZ, self._n + len(sound)
        return [t / NS - began_s for t in told]


def drill(seed: int, starts: int, spread_of_times: float, hole_s: float, hall_s: float) -> None:
    """Fractures found within 200 ms, false stops over whole holes and between holes, after the taught holes.

    The holes that teach are not counted, since nothing is judged in them. A stop before the break is a false one, too;
    it stands apart, because the fracture of that hole is then missed.
    """
    faults = ["none"] * TAUGHT + ["fracture", "none", "fracture", "none", "fracture", "none"]
    found, fractures, false, early, whole, delays, missed, idle = 0, 0, 0, 0, 0, [], [], 0
    for start in range(starts):
        snr, ear = 10.0 + 10.0 * ((start * 0.37) % 1.0), Listener()
        made_holes = holes(seed, start, faults, snr_db=snr, seconds=hole_s, spread=spread_of_times)  # type: ignore[arg-type]
        for number, made in enumerate(made_holes):
            stops = ear.stops(made.sound)
            if number < TAUGHT:
                continue
            if made.break_s is None:
                whole += 1
                false += bool(stops)
                continue
            fractures += 1
            good = [t - made.break_s for t in stops if t >= made.break_s - 0.005]
            early += len(stops) > len(good)
            if good and good[0] <= 0.2:
                found += 1
            else:
                missed.append({"start": start, "snr_db": snr, "delay_s": good[:1]})
            delays += good[:1]
        quiet = between_holes(seed, start, hall_s, snr_db=snr)
        idle += sum(len(ear.stops(quiet[i : i + DRILL_HZ])) for i in range(0, len(quiet), DRILL_HZ))
    table(
        "drill", seed=seed, spread_of_times=spread_of_times, hole_s=hole_s,
        recall_within_200_ms=share(found, fractures), delay_s=spread(delays), false_stops=share(false, whole),
        stops_before_break=early, between_holes={"alarms": idle, "hours": round(starts * hall_s / 3600, 2)},
        missed=missed,
    )  # fmt: skip


def bearing(seed: int, count: int) -> None:
    """Faults found in one window of 4 s, and false lines on healthy motors."""
    rate = 25_600
    stream, geometry = sensor(rate, "m/s2", 3), Geometry(9, 0.2034)
    for fault in ("outer_race", "inner_race", "ball", None):
        for db in (0.0, -6.0, -12.0) if fault else (0.0,):
            hits, others = 0, 0
            for i in range(count):
                rng = generator(seed, "bearing", i, str(fault), round(db + 50))
                rpm = uniform(rng, 900.0, 3000.0)
                motor = Motor.draw(rng, rpm, SKF_6205, seed + i, "m")
                faults = {fault: decibels(db)} if fault else {}
                at_s = uniform(rng, 0.0, 500.0)
                x = vibration(motor, faults, t0_s=at_s, length=4 * rate, rate_hz=rate, seed=seed + i)  # type: ignore[arg-type]
                lines = BearingLines(stream, geometry, GivenSpeed(rpm))
                segment = Segment(stream, ANCHOR, 0, x[: 4 * rate].astype(np.float32))
                scores = [s for s in lines.process(segment) if isinstance(s, Score)]
                named = {s.detector.removeprefix("bearing_"): s.abnormal for s in scores}
                hits += fault is not None and named[fault]
                others += any(yes for name, yes in named.items() if name not in {fault, "cage"})
            table(
                "bearing", seed=seed, fault=fault, snr_db=db, found=share(hits, count), other_races=share(others, count)
            )


def noise() -> None:
    """ER of white noise against 1 - 2b/f_r."""
    rng = np.random.default_rng(FINAL[0])
    for rpm, seconds in ((1656.0, 1.0), (1656.0, 0.5), (8000.0, 0.1), (12_000.0, 0.1), (24_000.0, 0.1)):
        made = plan(48_000.0, rpm, 2, seconds)
        x = rng.standard_normal((20, made.samples, 1)).astype(np.float32)
        ratio = float(np.mean([energy_ratio(power(part, made), made) for part in x]))
        expected = 1.0 - 2.0 * made.b_hz / made.rotation_hz
        table(
            "noise",
            rpm=rpm,
            window_s=seconds,
            er=round(ratio, 4),
            expected=round(expected, 4),
            off=round(ratio - expected, 4),
        )


SEED_OF = {"chatter": 0, "near": 7, "stable": 1, "wrong": 1, "drill": 2, "bearing": 3, "teeth": 4}
"""Which of the final seeds a table has where none is asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("chatter", "near", "stable", "wrong", "teeth", "drill", "bearing", "noise"))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--starts", type=int, default=40)
    parser.add_argument("--spread", type=float, default=0.01)
    parser.add_argument("--hole-s", type=float, default=3.0, help="seconds of a recording of a hole, for drill")
    parser.add_argument("--hall-s", type=float, default=0.0, help="seconds without a hole after them, for drill")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--on-delay", type=float, nargs="+", default=[0.0], help="seconds, for chatter, near and stable"
    )
    parser.add_argument("--parts", type=int, default=0, help="good ones that are learned first, for the same")
    asked = parser.parse_args()
    if min(asked.count, asked.starts, round(6 * asked.minutes)) < 1:
        parser.error("--count and --starts must be 1 or more, --minutes at least one cut of ten seconds")
    seed = FINAL[SEED_OF.get(asked.what, 0)] if asked.seed is None else asked.seed
    began = time.process_time()
    if asked.what == "chatter":
        chatter(seed, asked.count, None, asked.on_delay, asked.parts)
    elif asked.what == "near":
        chatter(seed, asked.count, (1.05, 1.15), asked.on_delay, asked.parts)
    elif asked.what == "stable":
        stable(seed, asked.minutes, asked.on_delay, asked.parts)
    elif asked.what == "wrong":
        wrong(seed, asked.count)
    elif asked.what == "teeth":
        teeth(seed, asked.count)
    elif asked.what == "drill":
        drill(seed, asked.starts, asked.spread, asked.hole_s, asked.hall_s)
    elif asked.what == "bearing":
        bearing(seed, asked.count)
    else:
        noise()
    table("cost", what=asked.what, cpu_s=round(time.process_time() - began, 1))


if __name__ == "__main__":
    main()
