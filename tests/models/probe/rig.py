"""Small machines, encoders and folders for the tests."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper, numpy_helper

from models.packages import Card, Input, Output, Package, write
from models.probe.clips import Clips, Facts, columns
from operators.mel import PAPER


def clips(groups: dict[str, tuple[str, int]], sensor: str = "mic", first_s: float = 0.0) -> Clips:
    """Group → (label, number of consecutive seconds)."""
    return columns(
        [
            Facts(group, first_s + s, label, group, sensor, label)
            for group, (label, seconds) in groups.items()
            for s in range(seconds)
        ]
    )


def encoder(folder: Path, d: int = 8, cls: bool = True, rate_hz: float = 48_000, seed: int = 0) -> Package:
    """An encoder package: 32 × 32 patches through one linear map each, a class token that is their mean."""
    weight = np.random.default_rng(seed).normal(0, 0.05, (d, 1, 32, 32)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["logmel", "w"], ["map"], strides=[32, 32]),
        helper.make_node("Reshape", ["map", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["patches" if cls else "tokens"], perm=[0, 2, 1]),
    ]
    if cls:
        nodes.append(helper.make_node("ReduceMean", ["patches"], ["cls"], axes=[1], keepdims=1))
        nodes.append(helper.make_node("Concat", ["cls", "patches"], ["tokens"], axis=1))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("logmel", TensorProto.FLOAT, ["B", 1, 128, 128])],
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["B", 16 + cls, d])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([0, d, 16], np.int64), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    card = Card(
        kind="encoder", name=folder.name, version="1", input=Input(PAPER.hash, "paper", (1, 128, 128), rate_hz),
        outputs=(Output("tokens", (16 + cls, d)),), opset=17, grid=(4, 4), batch=4,
    )  # fmt: skip
    golden = np.random.default_rng(1).uniform(0, 1, (2, 1, 128, 128)).astype(np.float32)
    return write(folder, card, model.SerializeToString(), golden)


def sound(path: Path, seconds: float, tone_hz: float, seed: int = 0, rate: int = 48_000, channels: int = 1) -> None:
    """A hum in noise, as 16-bit WAV or FLAC."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    x = 0.1 * np.sin(2 * np.pi * tone_hz * (1 + 0.01 * rng.normal()) * t) + 0.05 * rng.normal(size=len(t))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(x[:, None], channels, axis=1), rate, subtype="PCM_16")


def manifest(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A CSV of these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path
