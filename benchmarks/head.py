"""Which of ninety bits broke: what bursts and shares tell over SNR and number of microphones, and what they could.

    .venv/bin/python benchmarks/head.py burst --count 60
    .venv/bin/python benchmarks/head.py quiet --count 60
    .venv/bin/python benchmarks/head.py silent --starts 8
    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/head.py cost
    .venv/bin/python benchmarks/head.py plot --json FILE --out docs/pictures/drill-head.png

`burst`, `quiet`, `silent` and `cost` print one line of JSON per table; `plot` draws a file of such lines. Seeds:
8101 to 8103 were looked at while constants were chosen, 8201 to 8203 give the figures of `docs/drill-head.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import getloadavg
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal, stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.detectors import share, table
from connectors.simulator.drill_head import Break
from connectors.simulator.drilling import Damage, Hole
from connectors.simulator.head_stroke import Place
from connectors.simulator.seeds import derived, generator, uniform
from operators.head import HOP_S, PAST, HeadFrames
from operators.head_bursts import BLOCK_S, BLOCKS, HIGH_HZ, LOW_HZ, Beams, moving_mean, normal
from operators.head_detector import BURST_LIMIT, SILENT, SILENT_LIMIT, STEERED, HeadDetector
from operators.head_geometry import HeadGeometry
from operators.head_shares import smoothed
from pipeline.messages import Anchor, Feature, Rate, Score, Segment, Stream

Float64 = NDArray[np.float64]

FINAL = {"burst": 8201, "silent": 8202, "quiet": 8203}
BITS, RATE_HZ = 90, 48_000
SNRS_DB = (-5.0, 0.0, 10.0, 20.0, 30.0)
HEARD: dict[int, list[int]] = {1: [0], 2: [0, 3], 4: [0, 1, 2, 3], 8: list(range(8))}
PLACED_M = 0.001
"""Standard deviation of what a microphone's place is known to, along each axis."""
ANCHOR = Anchor(0, 0)


@dataclass(frozen=True, eq=False)
class Site:
    """A simulated place, and what a fitter would write down of it."""

    place: Place
    told_m: Float64

    @classmethod
    def draw(cls, seed: int, start: int) -> Site:
        """A head of 90 with eight microphones."""
        place = Place.draw(seed, start, BITS, 8)
        off = generator(seed, "told", start).normal(0.0, PLACED_M, place.head.microphones_m.shape)
        return cls(place, place.head.microphones_m + off)

    def geometry(self, count: int) -> HeadGeometry:
        """As told, of so many of its microphones."""
        return HeadGeometry(self.place.head.positions_m, self.told_m[HEARD[count]], 343.0, 10)

    def noisy(self, dry: Float64, snr_db: float, around: Float64) -> Float64:
        """Both sounds together."""
        return np.asarray(dry + around * 10.0 ** (-snr_db / 20.0), np.float64)


def stream(channels: int) -> Stream:
    return Stream("m", "array", 0, "acoustic", Rate(RATE_HZ), channels, "<f4", "FS")


# bursts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loudest:
    """The loudest burst of some frames."""

    z: float
    steered: float
    spindle: int
    t_s: float


def loudest(site: Site, x: Float64, count: int, since_s: float, until_s: float) -> Loudest:
    """The burst that stands out most between two times: by the operator, or by one microphone's energy."""
    if count == 1:
        return by_one(x[:, HEARD[1]], since_s, until_s)
    operator = HeadFrames(stream(count), site.geometry(count))
    heard = x[:, HEARD[count]].astype(np.float32)
    frames = [f for f in operator.process(Segment(stream(count), ANCHOR, 0, heard)) if isinstance(f, Feature)]
    near = [f for f in frames if since_s <= f.t_end_ns / 1e9 <= until_s]
    v = [f.values for f in near]
    steered = [one["burst"] if one["contrast"] > STEERED else -1.0 for one in v]
    i = int(np.argmax(steered))
    return Loudest(max(one["burst"] for one in v), steered[i], int(v[i]["spindle"]), near[i].t_end_ns / 1e9)


def by_one(x: Float64, since_s: float, until_s: float) -> Loudest:
    """One microphone: the energy of the whitened sound alone; no bit is named and no bang told from a break."""
    whitened = white(x, x[: round(since_s * RATE_HZ)])[:, 0]
    block = round(BLOCK_S * RATE_HZ)
    power = np.mean(np.square(whitened[: len(whitened) // block * block].reshape(-1, block)), axis=1)
    since = round(since_s / BLOCK_S)
    over = power[since : round(until_s / BLOCK_S)] / np.mean(power[since - round(PAST * HOP_S / BLOCK_S) : since])
    band, best = min(HIGH_HZ, 0.45 * RATE_HZ) - LOW_HZ, -1.0
    for blocks in BLOCKS:
        z = normal(moving_mean(over[None].astype(np.float32), blocks), 2.0 * band * blocks * BLOCK_S)
        best = max(best, float(z.max()))
    return Loudest(best, best, -1, until_s)


def white(x: Float64, noise: Float64) -> Float64:
    """Samples divided by the amplitude spectrum of noise, within the band, shape (n, microphones)."""
    f, power = signal.welch(noise, RATE_HZ, nperseg=1024, axis=0)
    power = smoothed(power, 2)
    places = fft.rfftfreq(len(x), 1.0 / RATE_HZ)
    level = np.stack([np.interp(places, f, column) for column in power.T], axis=1)
    inside = ((places >= LOW_HZ) & (places <= HIGH_HZ))[:, None]
    return np.asarray(
        fft.irfft(np.where(inside, fft.rfft(x, axis=0) / np.sqrt(level * RATE_HZ / 2), 0), len(x), axis=0)
    )


def bounds(burst: Float64, noise: Float64) -> dict[str, float]:
    """Mean z of a detector that knows the bit: from the burst's waveform, or from its energy.

    With the noise white and independent at the microphones, lambda = sum over microphones of the burst's energy over
    the noise's power per degree of freedom. Known waveform: d = sqrt(lambda). Unknown waveform of duration T in a band
    B: d = lambda / sqrt(2 · 2BT), the largest over T (Kay II, §4.3 and §5.3).
    """
    clean = white(burst, noise)
    band = HIGH_HZ - LOW_HZ
    unit = 2.0 * band / RATE_HZ  # variance of whitened noise is unit, per sample; degrees of freedom per sample too
    energy = np.concatenate([[0.0], np.cumsum(np.sum(np.square(clean), axis=1))])
    best = 0.0
    for t in (0.001, 0.002, 0.004, 0.008):
        n = round(t * RATE_HZ)
        best = max(best, float(np.max(energy[n:] - energy[:-n])) / np.sqrt(2.0 * unit * n))
    return {"waveform": float(np.sqrt(energy[-1])), "energy": best}


def bursts(seed: int, count: int) -> None:
    """Fractures within 200 ms with their bit, and the loudest burst of as much steady cutting, over SNR and array."""
    hole, length = Hole(-0.2, -0.1, 3.0, 3.1), round(1.35 * RATE_HZ)
    found: dict[tuple[float, int], list[dict[str, float | bool]]] = {}
    for i in range(count):
        site, rng = Site.draw(seed, i), generator(seed, "fracture", i)
        damage = replace(Damage.draw(rng, "fracture", hole), t_s=uniform(rng, 1.08, 1.12))
        spindle = int(rng.integers(BITS))
        made = [
            site.place.stroke(
                hole, [Break(spindle, d)], rate_hz=RATE_HZ, length=length, seed=derived(seed, "stroke", i)
            ) for d in (damage, replace(damage, peak=0.0))
        ]  # fmt: skip
        around = site.place.background(rate_hz=RATE_HZ, length=length, seed=derived(seed, "around", i))
        first = round((damage.t_s - 0.005) * RATE_HZ)
        clean = (made[0] - made[1])[first : first + round(0.05 * RATE_HZ)]
        for snr_db in SNRS_DB:
            x = site.noisy(made[0], snr_db, around)
            still = site.noisy(made[1], snr_db, around)[: round(1.05 * RATE_HZ)]
            for heard, channels in HEARD.items():
                got = loudest(site, x, heard, damage.t_s, damage.t_s + 0.2)
                off = float(
                    np.linalg.norm(site.place.head.positions_m[got.spindle] - site.place.head.positions_m[spindle])
                )
                found.setdefault((snr_db, heard), []).append(
                    {
                        "z": got.z,
                        "steered": got.steered,
                        "right": heard > 1 and got.spindle == spindle,
                        "near": heard > 1 and off < 0.0501,
                        "peak": damage.peak,
                        **bounds(clean[:, channels], still[:, channels]),
                    }
                )
    for (snr_db, heard), rows in found.items():
        said = [r for r in rows if r["steered"] > BURST_LIMIT]
        table(
            "burst", seed=seed, snr_db=snr_db, microphones=heard, limit=BURST_LIMIT,
            detected=share(len(said), len(rows)),
            right_bit=share(sum(bool(r["right"]) for r in said), len(rows)),
            within_a_pitch=share(sum(bool(r["near"]) for r in said), len(rows)),
            named_right_unconditionally=share(sum(bool(r["right"]) for r in rows), len(rows)),
            z_median=round(float(np.median([r["steered"] for r in rows])), 2),
            bound_energy=round(float(np.mean(stats.norm.sf([BURST_LIMIT - r["energy"] for r in rows]))), 4),
            bound_waveform=round(float(np.mean(stats.norm.sf([BURST_LIMIT - r["waveform"] for r in rows]))), 4),
        )  # fmt: skip


# whole strokes ---------------------------------------------------------------------------------------------------

STROKE_S, AIR_S = 2.2, 0.25
HOLE = Hole(AIR_S, AIR_S + 0.1, STROKE_S - AIR_S - 0.1, STROKE_S - AIR_S)
TAUGHT, GOOD, AFTER, AT_ONCE = 4, 4, 10, 3


def strokes(site: Site, seed: int, broken: list[list[Break]]) -> Iterator[tuple[Float64, Float64]]:
    """Dry sound and background of strokes one after the other."""
    length = round(STROKE_S * RATE_HZ)
    for i, hurt in enumerate(broken):
        at = derived(seed, site.place.name, i)
        yield (
            site.place.stroke(HOLE, hurt, rate_hz=RATE_HZ, length=length, seed=at),
            site.place.background(rate_hz=RATE_HZ, length=length, seed=at),
        )


class Ear:
    """Operator and detector of one array at one SNR."""

    def __init__(self, site: Site, snr_db: float, count: int, *, bursts: bool) -> None:
        self.site, self.snr_db, self.count, self.n = site, snr_db, count, 0
        geometry = site.geometry(count)
        self.operator = HeadFrames(stream(count), geometry) if bursts else SharesAlone(stream(count), geometry)
        self.detector = HeadDetector(geometry, TAUGHT, bits_per_pair=BITS)

    def hear(self, dry: Float64, around: Float64) -> list[Score]:
        """The next stroke's scores."""
        x = self.site.noisy(dry, self.snr_db, around)[:, HEARD[self.count]].astype(np.float32)
        segment = Segment(stream(self.count), ANCHOR, self.n, x)
        self.n += len(x)
        return [s for f in self.operator.process(segment) for s in self.detector.process(f) if isinstance(s, Score)]

    def evidence(self) -> Float64:
        """Of each bit."""
        return np.array(self.detector.snapshot()["evidence"])


class SharesAlone(HeadFrames):
    """The frames without their bursts, for speed."""

    def __init__(self, source: Stream, geometry: HeadGeometry) -> None:
        super().__init__(source, geometry)
        self._beams = Deaf(geometry, source.rate.hz, self._hop)


class Deaf(Beams):
    """Hears no burst."""

    def energies(self, x: Float64, amplitude: Float64, first: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As long as nothing happens."""
        del x, amplitude, first
        quiet = np.ones((2, 2 * max(BLOCKS)), np.float32)
        return quiet, quiet


def quiet(seed: int, count: int) -> None:
    """False breaks and false silent bits over `count` good strokes, in starts of twelve, four of which teach."""
    false: dict[tuple[float, int], list[int]] = {}
    loud: dict[tuple[float, int], list[float]] = {}
    for start in range(-(-count // 8)):
        site = Site.draw(seed, start)
        ears = {(snr, n): Ear(site, snr, n, bursts=True) for snr in (10.0,) for n in (2, 4, 8)}
        for i, (dry, around) in enumerate(strokes(site, seed, [[]] * 12)):
            for key, ear in ears.items():
                scores = ear.hear(dry, around)
                said = {s.detector for s in scores if s.abnormal}
                if i >= TAUGHT:
                    false.setdefault(key, []).append((len(said - {SILENT}) > 0) + 2 * (SILENT in said))
                    loud.setdefault(key, []).extend(s.reasons["burst"] for s in scores if "burst" in s.reasons)
    for (snr_db, heard), found in false.items():
        table(
            "quiet", seed=seed, snr_db=snr_db, microphones=heard,
            false_breaks=share(sum(x & 1 for x in found), len(found)),
            false_silent=share(sum(x >> 1 for x in found), len(found)),
            loudest=[round(float(z), 2) for z in np.quantile(loud[snr_db, heard], (0.1, 0.5, 0.9, 1.0))],
            breaks_expected_by_gumbel=float(stats.gumbel_r.sf(BURST_LIMIT, *stats.gumbel_r.fit(loud[snr_db, heard]))),
        )  # fmt: skip


def silent(seed: int, starts: int) -> None:
    """Strokes until a silent bit has its evidence, three of ninety at once, and what the alarms name."""
    needed: dict[tuple[float, int], list[int]] = {}
    named: dict[tuple[float, int], list[bool]] = {}
    for start in range(starts):
        site, rng = Site.draw(seed, start), generator(seed, "silent", start)
        hurt = [Break(int(k), Damage.draw(rng, "broken", HOLE)) for k in rng.choice(BITS, AT_ONCE, replace=False)]
        guilty = [one.spindle for one in hurt]
        ears = {(snr, n): Ear(site, snr, n, bursts=False) for snr in (0.0, 10.0, 20.0) for n in (2, 4, 8)}
        first: dict[tuple[float, int], dict[int, int]] = {key: {} for key in ears}
        plan: list[list[Break]] = [*[[]] * (TAUGHT + GOOD), *[hurt] * AFTER]
        for i, (dry, around) in enumerate(strokes(site, seed, plan)):
            for key, ear in ears.items():
                told = [s for s in ear.hear(dry, around) if s.detector == SILENT and s.abnormal]
                named.setdefault(key, []).extend(
                    i >= TAUGHT + GOOD and s.reasons["spindle"] - 1 in guilty for s in told
                )
                for k in np.flatnonzero(ear.evidence() > SILENT_LIMIT).tolist():
                    first[key].setdefault(k, i - TAUGHT - GOOD + 1)
        for key, found in first.items():
            needed.setdefault(key, []).extend(found.get(k, 99) if found.get(k, 99) > 0 else 99 for k in guilty)
    for (snr_db, heard), n in needed.items():
        table(
            "silent", seed=seed, snr_db=snr_db, microphones=heard, limit=SILENT_LIMIT,
            named_within={str(at): share(sum(x <= at for x in n), len(n)) for at in (1, 2, 3, 5, 10)},
            median_strokes=float(np.median(n)) if np.median(n) <= AFTER else None,
            alarms_that_name_a_silent_bit=share(sum(named[snr_db, heard]), len(named[snr_db, heard])),
            strokes=starts * (GOOD + AFTER),
        )  # fmt: skip


def cost() -> None:
    """Processor time of operator and detector per second of sound, in chunks of 50 ms: the least of three runs."""
    seconds, step = 20, round(0.05 * RATE_HZ)
    for heard in (4, 8):
        geometry = Site.draw(1, 0).geometry(heard)
        x = 0.05 * generator(1, "cost", heard).standard_normal((seconds * RATE_HZ, heard), np.float32)
        taken = []
        for _ in range(3):
            operator, detector, began = HeadFrames(stream(heard), geometry), HeadDetector(geometry), time.process_time()
            for n in range(0, len(x), step):
                for frame in operator.process(Segment(stream(heard), ANCHOR, n, x[n : n + step])):
                    list(detector.process(frame))
            taken.append((time.process_time() - began) / seconds)
        table("cost", microphones=heard, cpu_s_per_s=round(min(taken), 3), load=round(getloadavg()[0], 1))


def plot(lines: Path, out: Path) -> None:
    """Detection over SNR with its bounds, and strokes needed, from the tables."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    colours = {1: "tab:gray", 2: "tab:orange", 4: "tab:blue", 8: "tab:green"}
    for n, colour in colours.items():
        mine = sorted((r for r in rows if r["table"] == "burst" and r["microphones"] == n), key=lambda r: r["snr_db"])
        snr = [r["snr_db"] for r in mine]
        left.plot(snr, [r["bound_waveform"] for r in mine], ":", color=colour)
        left.plot(snr, [r["bound_energy"] for r in mine], "--", color=colour)
        if n > 1:
            got = [r["right_bit"] for r in mine]
            spread = [[g["share"] - g["low"] for g in got], [g["high"] - g["share"] for g in got]]
            left.errorbar(
                snr, [g["share"] for g in got], spread, color=colour, marker="o", capsize=2, label=f"{n} microphones"
            )
        late = sorted((r for r in rows if r["table"] == "silent" and r["microphones"] == n), key=lambda r: r["snr_db"])
        for at, style in (("3", "--"), ("10", "-")):
            if late:
                shown = [r["named_within"][at]["share"] for r in late]
                right.plot(
                    [r["snr_db"] for r in late], shown, style, color=colour, marker="o", label=f"{n}, {at} strokes"
                )
    named = [r["alarms_that_name_a_silent_bit"] for r in rows if r["table"] == "silent" and r["microphones"] == 4]
    wrong, alarms = sum(n["n"] - n["hits"] for n in named), sum(n["n"] for n in named)
    left.set_title("fracture of one of 90 bits: right bit within 200 ms\n-- energy bound, ·· known waveform (grey: 1)")
    right.set_title(
        "silent bits with enough evidence after 3 (--) and 10 strokes\n"
        f"(with 4 microphones {wrong} of {alarms} alarms named a wrong one)"
    )
    for axes in (left, right):
        axes.set(xlabel="SNR of the cut over the background, dB", ylabel="share", ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("burst", "quiet", "silent", "cost", "plot"))
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.what == "plot":
        if asked.json is None or asked.out is None:
            parser.error("plot needs --json and --out")
        plot(asked.json, asked.out)
        return
    if asked.what == "cost":
        cost()
        return
    began, seed = time.process_time(), FINAL[asked.what] if asked.seed is None else asked.seed
    if asked.what == "silent":
        silent(seed, asked.starts)
    else:
        (bursts if asked.what == "burst" else quiet)(seed, asked.count)
    table("cost", what=asked.what, cpu_s=round(time.process_time() - began, 1))


if __name__ == "__main__":
    main()
