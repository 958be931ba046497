"""Cost of log-Mel images on one core, beside their bare Fourier transforms and beside librosa.

``python -m benchmarks.logmel [--json]``: every figure is the best of many short runs, the candidates of a group (one
clip, streams) taking turns, so that a busy machine slows all of them alike. librosa's usual call makes its Mel filters
anew for every clip; ours are made once, and so are those of `librosa_filters_kept`, the fairer peer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import fft

from operators.levels import Levels
from operators.logmel import LogMel, clip
from operators.mel import PAPER, FrontEnd
from pipeline.messages import Anchor, Float32, Rate, Segment, Stream

RATE = 48_000
SECONDS = 4
CHUNK = RATE // 10
STREAM = Stream("m", "s", 0, "acoustic", Rate(RATE), 1, "<f4", "FS")


def best(candidates: dict[str, Callable[[], object]], rounds: int = 40, runs: int = 5) -> dict[str, float]:
    """Microseconds of each candidate's fastest run."""
    fastest = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for key, run in candidates.items():
            for _ in range(runs):
                start = time.perf_counter_ns()
                run()
                fastest[key] = min(fastest[key], (time.perf_counter_ns() - start) / 1e3)
    return fastest


def streamed(x: Float32, make: Callable[[], LogMel | Levels]) -> Callable[[], object]:
    """A run over the whole signal in chunks of 100 ms."""
    parts = [Segment(STREAM, Anchor(0, 0), n, x[n : n + CHUNK, None]) for n in range(0, len(x), CHUNK)]

    def run() -> None:
        operator = make()
        for part in parts:
            for _ in operator.process(part):
                pass

    return run


def librosa_recipe(x: Float32, e: FrontEnd, keep: bool) -> Callable[[], object]:
    """The same image by librosa; `keep`: with Mel filters that are made once."""
    import librosa

    kept = librosa.filters.mel(sr=RATE, n_fft=e.n_fft, n_mels=e.bands, htk=True, norm=None)

    def run() -> object:
        z = (x - x.mean()) / x.std()
        if keep:
            power = kept @ np.square(np.abs(librosa.stft(z, n_fft=e.n_fft, hop_length=e.hop)))
        else:
            power = librosa.feature.melspectrogram(
                y=z, sr=RATE, n_fft=e.n_fft, hop_length=e.hop, n_mels=e.bands, htk=True, norm=None
            )
        return (librosa.power_to_db(power, ref=np.max, top_db=80.0) + 80.0) / 80.0

    return run


def measure() -> dict[str, float]:
    """All figures by name; the unit ends the name."""
    rng = np.random.default_rng(0)
    x = (0.1 * rng.standard_normal(SECONDS * RATE)).astype(np.float32)
    second, frames = x[:RATE], rng.standard_normal((128, 2048)).astype(np.float32)
    window = np.hanning(2049)[:-1].astype(np.float32)
    hops = {hop: replace(PAPER, window_hop=hop) for hop in (64, 128)}
    clips = best(
        {
            "fft": lambda: fft.rfft(frames),
            "windowed_fft": lambda: fft.rfft(frames * window),
            "clip": lambda: clip(second, RATE),
            "clip_levels": lambda: clip(second, RATE, levels=True),
            "librosa": librosa_recipe(second, PAPER, keep=False),
            "librosa_filters_kept": librosa_recipe(second, PAPER, keep=True),
        }
    )
    streams = best(
        {
            "hop_64": streamed(x, lambda: LogMel(STREAM, hops[64], levels=False)),
            "hop_128": streamed(x, lambda: LogMel(STREAM, hops[128], levels=False)),
            "hop_64_levels": streamed(x, lambda: LogMel(STREAM, hops[64])),
            "levels": streamed(x, lambda: Levels(STREAM)),
        },
        rounds=15,
        runs=2,
    )
    per_second = {f"{key}_us_per_s": value / SECONDS for key, value in streams.items()}
    return {
        **{f"{key}_us": value for key, value in clips.items()},
        **per_second,
        "clip_over_fft": clips["clip"] / clips["fft"],
        "clip_over_windowed_fft": clips["clip"] / clips["windowed_fft"],
        "librosa_over_clip": clips["librosa"] / clips["clip"],
        "librosa_filters_kept_over_clip": clips["librosa_filters_kept"] / clips["clip"],
        "hop_64_over_hop_128": streams["hop_64"] / streams["hop_128"],
        "cores_for_500_microphones": 500 * per_second["hop_64_levels_us_per_s"] / 1e6,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="as one line")
    asked = parser.parse_args()
    figures = {name: round(value, 3) for name, value in measure().items()}
    if asked.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:32s} {value:12.3f}")


if __name__ == "__main__":
    main()
