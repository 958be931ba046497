"""The drill classifier as a model package: 21 band levels in, logits out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.affine import OPSET, affine_graph
from models.drill.arms import NONE, Additions, Arm
from models.drill.cells import Cells, seed_of
from models.drill.classifiers import Bands
from models.drill.data import CLASSES, RATE_HZ, Float64, Sound, centred, digest, labels
from models.drill.grid import Grid, Plan, best_penalty, groups, inner_folds
from models.drill.levels import HASH, HOW
from models.drill.metrics import accuracy, auc, bootstrap, resamples
from models.drill.protocol import group_folds
from models.drill.synthesis import Batch
from models.drill.train import Training
from models.logistic import Logistic, fit_logistic
from models.packages import Card, Input, Output, Package, write
from operators.mel import DRILL

_ROWS = 8
_CLIP = f"21 bands, 1-22 kHz, in dB, of 1,999 band-limited samples, front end {DRILL.name} {DRILL.hash}"


def train_classifier(
    sounds: Sequence[Sound], arm: Arm, training: Training, work: Path, folds: int = 5, seed: int = 0
) -> tuple[Logistic, Float64, dict[str, Any]]:
    """Logistic regression on the band levels of all sounds and what the arm adds.

    Args:
        sounds: all recorded ones.
        arm: what is added.
        training: of the autoencoders.
        work: folder for the cells of the leak-free scores; an interrupted training goes on from it.
        folds: of the leak-free scores.
        seed: of everything.

    Returns:
        The model, the levels that it was fitted to, shape (n, 21), and its leak-free scores beside those of the same
        model without addition.
    """
    arms = (NONE,) if arm == NONE else (NONE, arm)
    plan = Plan(repeats=1, folds=folds, arms=arms, training=training, alexnet_epochs=0, seed=seed)
    grid = Grid(sounds, plan, Cells(work, {"data": digest(sounds), "plan": plan.identity()}))
    bands = Bands()
    grid.leak_free([bands], arms, range(1))
    rows = resamples(grid.groups, grid.target, 1000, seed)
    scores: dict[str, Any] = {"protocol": f"leak-free, {folds} folds of whole events, one repeat"}
    for a in arms:
        held_out = grid.scores(bands.name, a, 0)
        assert held_out is not None
        for name, metric in (("auc", auc), ("accuracy", accuracy)):
            found = bootstrap(metric, held_out[None], grid.target, rows)
            scores[f"{name}, {a.name}"] = [round(v, 4) for v in (found.value, found.low, found.high)]
    x, y = centred(sounds), labels(sounds)
    own = groups(sounds, "event")
    levels = bands.features(list(x))
    c = best_penalty(levels, y, group_folds(own, y, inner_folds(own, y, plan.inner), seed_of(seed, "choice")))
    real = Batch(x, y, tuple(frozenset({g}) for g in own))
    _, added = Additions(real, training, ("all",), work / "networks").training_set(arm)
    target = y
    if added is not None:
        levels, target = np.concatenate([levels, bands.features(list(added.x))]), np.concatenate([y, added.target])
    return fit_logistic(levels, target, c), levels, scores


def graph(model: Logistic) -> bytes:
    """The ONNX model: input ``bands`` (B, 21) in dB, output ``logits`` (B, 2) for normal and anomaly.

    Raises:
        MissingExtra: `onnx` is not installed.
    """
    w = model.weights / model.scale
    b = model.bias - float(model.mean @ w)
    layer = (np.stack([np.zeros_like(w), w], axis=1), np.array([0.0, b]))
    return affine_graph("drill", "bands", [layer], "writing a drill classifier")


def write_classifier(
    folder: Path, model: Logistic, levels: Float64, training: Mapping[str, Any], scores: Mapping[str, Any], *,
    stream: bool = False, threshold: float = 0.5,
) -> Package:  # fmt: skip
    """Write the classifier as a package and load it.

    Args:
        folder: of the package.
        model: from `train_classifier`.
        levels: that it was fitted to, shape (n, 21), for the spread of the golden rows; none is stored.
        training: for the card.
        scores: for the card.
        stream: whether the rows are level differences of a running stream (`levels.contrast`), not levels of a clip.
        threshold: probability from which a row is an anomaly.
    """
    spread = np.random.default_rng(0).standard_normal((_ROWS, levels.shape[1]))
    golden = (levels.mean(axis=0) + np.maximum(levels.std(axis=0), 0.1) * spread).astype(np.float32)
    card = Card(
        kind="classifier",
        name=folder.name,
        version="1",
        input=Input(HASH if stream else "", HOW if stream else _CLIP, (levels.shape[1],), float(RATE_HZ), "bands"),
        outputs=(Output("logits", (2,)),),
        opset=OPSET,
        labels=CLASSES,
        thresholds={"anomaly": threshold},
        training=dict(training),
        scores=dict(scores),
        batch=_ROWS,
    )  # fmt: skip
    return write(folder, card, graph(model), golden)
