"""Linear probe of encoders on recordings that did not train them, beside the time-mean log-Mel baseline.

    python scripts/probe_weights.py --esc10 ESC10 --used USED.csv [--out SCORES.json] RUN_OR_PACKAGE [...]

Every ESC-10 clip that `USED.csv` does not name is cut into seconds; a standardised logistic regression (C = 0.1) learns
three quarters of the sources and is scored on the rest, in four folds, three times. Sources are never split. Scores are
macro F1 over the categories and the area under the ROC curve of "chainsaw or helicopter"; intervals are 95 % of a
bootstrap over sources, of the score and of its difference to the baseline.
"""

from __future__ import annotations

import argparse
import csv
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from models.impact.distil import Teacher, teacher_from
from models.impact.images import image
from models.impact.network import Encoder
from models.impact.pooling import pool, time_mean
from models.metrics import auc

MACHINES = ("chainsaw", "helicopter")
REPEATS, FOLDS, DRAWS = 3, 4, 200
Array = NDArray[Any]


def seconds(folder: Path, used: set[str]) -> tuple[Array, Array, Array]:
    """Images (n, 128, 128), categories and sources of the held-out clips; silent seconds are left out."""
    found: list[tuple[Array, str, str]] = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in {".flac", ".ogg", ".wav"}):
        if str(path.resolve()) in used:
            continue
        x, rate = soundfile.read(path, dtype="float32", always_2d=True)
        y = soxr.resample(x.mean(axis=1), rate, 48_000)
        parts = [y[n : n + 48_000] for n in range(0, len(y) - 47_999, 48_000)]
        found += [(image(part), path.parent.name, path.stem.split("-")[1]) for part in parts if part.std() > 1e-5]
    images, labels, groups = zip(*found, strict=True)
    return np.stack(images), np.array(labels), np.array(groups)


def untrained(size: str, seed: int) -> Teacher:
    """An encoder as it is before training: what the architecture and the pooling alone are worth."""
    torch.manual_seed(seed)
    encoder = Encoder(size).eval()

    @torch.no_grad()
    def tokens(x: Array) -> Array:
        return np.asarray(encoder(torch.from_numpy(x)))

    return Teacher(f"{size}, untrained", tokens, encoder.grid, encoder.cls)


def embeddings(encoder: Teacher, images: Array) -> dict[str, Array]:
    """Embedding by pooling."""
    tokens = np.concatenate([encoder.tokens(images[i : i + 32, None]) for i in range(0, len(images), 32)])
    ways = ["mean", "band", "band+logmel", *(["cls"] if encoder.cls else [])]
    return {how: pool(tokens, how, encoder.grid, encoder.cls, images[:, None]) for how in ways}


def predictions(x: Array, labels: Array, groups: Array) -> list[tuple[Array, Array]]:
    """Category and probability of a machine for every second, once a repeat."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = []
    for seed in range(REPEATS):
        said, machine = np.empty(len(labels), labels.dtype), np.zeros(len(labels))
        for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(x, labels, groups):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(
                x[train], labels[train]
            )
            said[test] = model.predict(x[test])
            chosen = np.isin(model.classes_, MACHINES)
            machine[test] = model.predict_proba(x[test])[:, chosen].sum(1)
        made.append((said, machine))
    return made


def f1(made: list[tuple[Array, Array]], labels: Array, rows: Array) -> float:
    """Macro F1 over the categories that occur or are said, mean of the repeats."""
    scores = []
    for said, _ in made:
        both = np.concatenate([labels[rows], said[rows]])
        names, index = np.unique(both, return_inverse=True)
        truth, guess = index.reshape(2, -1)
        hits = np.bincount(truth[truth == guess], minlength=len(names))
        total = np.bincount(truth, minlength=len(names)) + np.bincount(guess, minlength=len(names))
        scores.append((2 * hits / total).mean())
    return float(np.mean(scores))


def machine_auc(made: list[tuple[Array, Array]], labels: Array, rows: Array) -> float:
    """Area under the curve of machine or not, mean of the repeats."""
    truth = np.isin(labels[rows], MACHINES)
    return float(np.mean([auc(truth, p[rows]) for _, p in made]))


def interval(score: Callable[[Array], float], labels: Array, groups: Array) -> list[float]:
    """95 % of a bootstrap over sources, category by category so that none is missing."""
    rng, drawn = np.random.default_rng(0), []
    sources = {c: [np.flatnonzero((groups == g) & (labels == c)) for g in np.unique(groups[labels == c])]
               for c in np.unique(labels)}  # fmt: skip
    for _ in range(DRAWS):
        rows = [own[i] for own in sources.values() for i in rng.integers(0, len(own), len(own))]
        drawn.append(score(np.concatenate(rows)))
    return [round(float(v), 4) for v in np.percentile(drawn, [2.5, 97.5])]


def more(score: Callable[..., float], made: Any, base: Any, labels: Array, rows: Array) -> float:
    """How much better the one predictions are than the others."""
    return score(made, labels, rows) - score(base, labels, rows)


def judged(x: Array, base: list[tuple[Array, Array]] | None, labels: Array, groups: Array) -> tuple[Any, Any]:
    """Scores with intervals, and the predictions behind them."""
    made, rows = predictions(x, labels, groups), np.arange(len(labels))
    out: dict[str, dict[str, Any]] = {}
    for name, score in (("macro_f1", f1), ("machine_auc", machine_auc)):
        out[name] = {"value": round(score(made, labels, rows), 4)}
        out[name]["interval"] = interval(partial(score, made, labels), labels, groups)
        if base is not None:
            out[name]["minus_logmel"] = interval(partial(more, score, made, base, labels), labels, groups)
    return out, made


def main() -> int:
    """Judge all encoders on the same folds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", type=Path, nargs="*")
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--used", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--untrained", nargs="*", default=[], metavar="SIZE", help="random weights, three seeds")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with args.used.open(encoding="utf-8", newline="") as file:
        used = {row["path"] for row in csv.DictReader(file)}
    images, labels, groups = seconds(args.esc10, used)
    found: dict[str, Any] = {"seconds": len(labels), "sources": len(set(groups)), "classes": len(set(labels))}
    found["logmel"], base = judged(time_mean(images[:, None]), None, labels, groups)
    print(json.dumps(found), flush=True)
    encoders = {path.name: teacher_from(path) for path in args.encoders}
    encoders |= {f"untrained-{size}-{seed}": untrained(size, seed) for size in args.untrained for seed in range(3)}
    for name, encoder in encoders.items():
        found[name] = {}
        for how, x in embeddings(encoder, images).items():
            found[name][how], _ = judged(x, base, labels, groups)
            print(name, how, json.dumps(found[name][how]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
