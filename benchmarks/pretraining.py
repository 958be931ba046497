"""Clips per second of pretraining, and per TFLOPS of the matrix product of the same run, beside the paper's.

``python -m benchmarks.pretraining [--json] [--steps 8] [--batch 32] [--threads 1] [--device cpu] [SIZE ...]``: the run
itself (`models.impact.pretrain`: student, teacher, losses, optimiser) on images from a pool, as it goes on behind its
first step, and once with every image computed from a waveform. The product is of float32, 1024 × 1024 × 1024, with the
same threads, the fastest of many, before and after. Weights and images are random; time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from models.impact.images import Batches
from models.impact.network import SIZES
from models.impact.pretrain import Pretrainer
from models.impact.settings import Pretraining
from operators.mel import PAPER
from pipeline.messages import Float32

PAPER_CLIPS_PER_S = 1065.0
"""arXiv 2507.06481: 436,836 clips an epoch on an RTX 6000 Ada (`base`)."""
PAPER_TFLOPS = 91.1
"""Float32 of that card, by its maker's data sheet: no measured product."""
N = 1024


class Noise:
    """Clips of noise, as waveforms."""

    digest = "noise"

    def clip(self, i: int) -> Float32:
        """Clip i, 48,000 samples at 48 kHz."""
        return np.random.default_rng(i).normal(0, 0.1, 48_000).astype(np.float32)


def product_tflops(device: torch.device, rounds: int = 20) -> float:
    """What one product of float32 reaches, in 10¹² operations a second of two for each multiplication."""
    a, b = torch.rand(N, N, device=device), torch.rand(N, N, device=device)
    fastest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        c = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    assert bool(torch.isfinite(c).all())
    return 2.0 * N**3 / fastest / 1e12


def clips_per_s(size: str, settings: Pretraining, source: Noise | np.ndarray) -> tuple[float, torch.device]:
    """Of all steps behind the first two, while the next batches are prepared as in a run."""
    batches = Batches(source, settings.batch, settings.seed, settings.mixing, settings.workers)
    with tempfile.TemporaryDirectory() as folder:
        run = Pretrainer(settings, SIZES[size], batches, Path(folder))
        marks: list[float] = []

        def stop() -> bool:
            marks.append(time.perf_counter())
            return False

        run.run(until=settings.steps, stop=stop)
        batches.close()
        return settings.batch * (len(marks) - 3) / (marks[-2] - marks[1]), run.device


def measured(size: str, asked: argparse.Namespace) -> dict[str, object]:
    """The figures of one size."""
    pool = np.random.default_rng(0).random((256, PAPER.bands, PAPER.frames)).astype(np.float16)
    steps = asked.steps + 3
    settings = Pretraining(
        size=size, clips_per_epoch=asked.batch * steps, epochs=1, batch=asked.batch, device=asked.device,
        threads=asked.threads, log_every=steps, checkpoint_every=10 * steps,
    )  # fmt: skip
    pooled, device = clips_per_s(size, settings, pool)
    computed, _ = clips_per_s(size, settings, Noise())
    tflops = product_tflops(device)
    return {
        "size": size, "device": str(device), "threads": asked.threads, "batch": asked.batch,
        "clips_per_s": round(pooled, 1), "clips_per_s_from_waveforms": round(computed, 1),
        "product_tflops": round(tflops, 3), "clips_per_s_per_tflops": round(pooled / tflops, 1),
        "paper_clips_per_s": PAPER_CLIPS_PER_S, "paper_per_tflops": round(PAPER_CLIPS_PER_S / PAPER_TFLOPS, 1),
        "times_paper_per_tflops": round(pooled / tflops / (PAPER_CLIPS_PER_S / PAPER_TFLOPS), 2),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"of {', '.join(SIZES)}; default: base and small")
    parser.add_argument("--steps", type=int, default=8, help="that are timed")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="one line of JSON a size")
    asked = parser.parse_args()
    sizes = asked.sizes or ["base", "small"]
    if strange := sorted(set(sizes) - set(SIZES)):
        parser.error(f"no such size: {', '.join(strange)}")
    if min(asked.steps, asked.batch, asked.threads) < 1:
        parser.error("--steps, --batch and --threads must be 1 or more")
    for size in sizes:
        found = measured(size, asked)
        print(json.dumps(found) if asked.json else "\n".join(f"{key}: {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
