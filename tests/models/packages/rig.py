"""Small models for tests of packages, written with `onnx.helper`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from models.packages import Card, Input, Output, Package, write
from operators.mel import PAPER

K, C, BATCH = 6, 3, 4
WEIGHT = np.random.default_rng(1).standard_normal((K, C)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 2.0], np.float32)
ROWS = np.random.default_rng(2).standard_normal((3, K)).astype(np.float32)


def model(
    nodes: list[Any], constants: dict[str, Any], shape: tuple[int, ...] = (K,), out: tuple[int, ...] = (C,)
) -> bytes:
    """A graph ``embedding`` (B, …) → ``logits`` (B, …)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", *out])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = whole.SerializeToString()
    return data


def linear() -> bytes:
    """x · W + b."""
    return model([helper.make_node("Gemm", ["embedding", "w", "b"], ["logits"])], {"w": WEIGHT, "b": BIAS})


def mixing() -> bytes:
    """x · W + the mean over the batch: a row depends on those beside it."""
    nodes = [
        helper.make_node("Gemm", ["embedding", "w", "b"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Add", ["y", "m"], ["logits"]),
    ]
    return model(nodes, {"w": WEIGHT, "b": BIAS})


def positional() -> bytes:
    """Adds its position to a row."""
    nodes = [
        helper.make_node("Gemm", ["embedding", "w", "b"], ["y"]),
        helper.make_node("Add", ["y", "p"], ["logits"]),
    ]
    return model(nodes, {"w": WEIGHT, "b": BIAS, "p": np.arange(BATCH, dtype=np.float32)[:, None]})


def card(**changes: Any) -> Card:
    """A head's card."""
    base = Card(
        kind="head",
        name="state",
        version="1",
        input=Input(PAPER.hash, "log-Mel 'paper'", (K,), 48_000.0, "embedding"),
        outputs=(Output("logits", (C,)),),
        opset=17,
        labels=("off", "on", "cutting"),
        thresholds={"abstain": 0.5},
        encoder="logmel",
        training={"hours": 1.5, "sources": ["simulated"]},
        batch=BATCH,
    )
    return replace(base, **changes)


def package(folder: Path, **changes: Any) -> Package:
    """A written package."""
    return write(folder, card(**changes), linear(), ROWS)
