"""Tiny model packages made without torch: an encoder that projects blocks of the log-Mel image, and heads on it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.impact.pooling import pool, time_mean
from models.packages import Card, Input, Output, Package, write
from operators.logmel import LogMel
from operators.mel import PAPER
from pipeline.messages import Anchor, Segment, Window
from tests.engines.scenarios import T0, normal_noise, stream

GRID = (4, 2)
WIDTH = 6
OPSET = 17


def _graph(nodes: list, x: tuple[str, list], y: tuple[str, list], weights: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(x[0], TensorProto.FLOAT, x[1])],
        [helper.make_tensor_value_info(y[0], TensorProto.FLOAT, y[1])],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def encoder(folder: Path, seed: int = 0, name: str = "tiny", pooling: str = "band", broken: bool = False) -> Package:
    """An encoder whose token of a block of 32 × 64 pixels is tanh(block · W).

    `broken` takes the logarithm of 0.2 less the mean of each block: finite for the golden rows, not for what is heard.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {
        "w": (rng.standard_normal((2048, WIDTH)) / 20).astype(np.float32),
        "cut": np.array([-1, 4, 32, 2, 64], np.int64),
        "rows": np.array([-1, 8, 2048], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["logmel", "cut"], ["parts"]),
        helper.make_node("Transpose", ["parts"], ["ordered"], perm=[0, 1, 3, 2, 4]),
        helper.make_node("Reshape", ["ordered", "rows"], ["blocks"]),
        helper.make_node("MatMul", ["blocks", "w"], ["projected"]),
        helper.make_node("Tanh", ["projected"], ["tokens"]),
    ]
    if broken:
        weights |= {"mean": np.full((2048, WIDTH), 1 / 2048, np.float32), "limit": np.array([0.2], np.float32)}
        nodes[-2:] = [
            helper.make_node("MatMul", ["blocks", "mean"], ["level"]),
            helper.make_node("Sub", ["limit", "level"], ["left"]),
            helper.make_node("Log", ["left"], ["tokens"]),
        ]
        weights.pop("w")
    model = _graph(nodes, ("logmel", ["B", 1, 128, 128]), ("tokens", ["B", 8, WIDTH]), weights)
    card = Card(
        kind="encoder", name=name, version=str(seed), opset=OPSET, grid=GRID, pooling=pooling, batch=4,
        input=Input(PAPER.hash, "paper", (1, 128, 128), 48_000.0), outputs=(Output("tokens", (8, WIDTH)),),
    )  # fmt: skip
    x = (0.1 * rng.random((4, 1, 128, 128))).astype(np.float32)
    return write(folder, card, model, x)


def head(
    folder: Path, of: str, width: int, labels: tuple[str, ...], at: np.ndarray, *, pooling: str = "band",
    gain: float = 200.0, name: str = "head", version: str = "1", thresholds: dict[str, float] | None = None,
) -> Package:  # fmt: skip
    """Prototypes: the logits are the negative squared distances to the rows of `at` (labels, width)."""
    at = np.asarray(at, np.float64)
    weights = {
        "w": (2 * gain * at.T).astype(np.float32),
        "b": (-gain * (at**2).sum(axis=1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["embedding", "w"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["logits"]),
    ]
    model = _graph(nodes, ("embedding", ["B", width]), ("logits", ["B", len(labels)]), weights)
    card = Card(
        kind="head", name=name, version=version, opset=OPSET, labels=labels, encoder=of, pooling=pooling, batch=4,
        thresholds=thresholds or {}, input=Input("", "embedding", (width,), 0.0, "embedding"),
        outputs=(Output("logits", (len(labels),)),), tolerance=1e-3,
    )  # fmt: skip
    x = np.random.default_rng(1).random((4, width)).astype(np.float32)
    return write(folder, card, model, x)


@cache
def images(bump: tuple[float, float]) -> np.ndarray:
    """Log-Mel images (n, 128, 128) of four seconds of the scenarios' noise, with its loud line within `bump`."""
    mic = replace(stream("mic", "acoustic", 48000, dtype="<f4"), scale=1.0)
    x = normal_noise(mic, 4.0, 1, bump)
    return np.stack([w.values for w in LogMel(mic).process(Segment(mic, Anchor(0, T0), 0, x)) if isinstance(w, Window)])


def vectors(package: Package | None, bump: tuple[float, float], pooling: str = "band") -> np.ndarray:
    """Embeddings (n, k) of `images`; without a package their time means."""
    x = images(bump)[:, None]
    if package is None:
        return time_mean(x)
    tokens = package.session().run(x)["tokens"]
    return pool(tokens, pooling, GRID, package.card.cls, x)


def told_apart(folder: Path, package: Package | None, pooling: str = "band", **more: object) -> Package:
    """A head that tells the quiet noise from the loud one by the means of their embeddings: labels `idle`, `loud`."""
    means = np.stack([vectors(package, bump, pooling).mean(axis=0) for bump in ((0.0, 0.0), (0.0, 9.0))])
    of = "logmel" if package is None else package.digest
    gain = 4.0 / float(((means[0] - means[1]) ** 2).sum())
    how = "" if package is None else pooling
    return head(folder, of, means.shape[1], ("idle", "loud"), means, pooling=how, gain=gain, **more)  # type: ignore[arg-type]
