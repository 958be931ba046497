"""A head as a model package: an ONNX graph of matrix products, written by hand, no torch involved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.heads.choose import ABSTAIN
from models.heads.head import Head
from models.heads.vibration import UNIT
from models.packages import VIBRATION, Card, Input, Output, Package, write
from operators.mel import PAPER
from pipeline.errors import MissingExtra
from pipeline.messages import Float32

OPSET = 17
_IR_VERSION = 8
_BATCH = 8
_GOLDEN = 8
LOGMEL = "logmel"


@dataclass(frozen=True, slots=True)
class Reads:
    """What a head's features are.

    Attributes:
        encoder: digest of the encoder package; ``"logmel"`` for the baseline's features; `VIBRATION` for those of an
            accelerometer.
        name: of the features, for people.
        pooling: of an encoder's tokens.
        features: hash of an accelerometer's features (`models.anomaly.vectors.Extraction.hash`); empty for sound.
        rate_hz: of the samples that they are made of.
        unit: of an accelerometer's samples; empty where nothing told it.
    """

    encoder: str = LOGMEL
    name: str = LOGMEL
    pooling: str = ""
    features: str = ""
    rate_hz: float = PAPER.rate_hz
    unit: str = ""

    @property
    def plain(self) -> bool:
        """Whether no encoder is behind them: they are what encoders are compared with."""
        return self.encoder in {LOGMEL, VIBRATION}

    @property
    def sentence(self) -> str:
        """For the card."""
        if self.encoder == VIBRATION:
            unit = f" in {self.unit}" if self.unit else ""
            return f"log-Mel means and levels of each axis at {self.rate_hz:g} Hz{unit}, extraction {self.features}"
        what = "time mean of the log-Mel" if self.encoder == LOGMEL else f"{self.pooling} of {self.name}"
        return f"{what}, front end {PAPER.name} {PAPER.hash}"


def graph(head: Head) -> bytes:
    """The ONNX model: input ``embedding`` (B, k), output ``logits`` (B, C), standardisation inside.

    Raises:
        MissingExtra: `onnx` is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingExtra("train", "writing a head") from error
    nodes, weights, value = [], [], "embedding"
    for i, (weight, bias) in enumerate(head.layers):
        last = i == len(head.layers) - 1
        weights += [
            numpy_helper.from_array(np.ascontiguousarray(weight, np.float32), f"weight{i}"),
            numpy_helper.from_array(np.ascontiguousarray(bias, np.float32), f"bias{i}"),
        ]
        out = "logits" if last else f"layer{i}"
        nodes.append(helper.make_node("Gemm", [value, f"weight{i}", f"bias{i}"], [out]))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"relu{i}"]))
        value = f"relu{i}"
    whole = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", head.inputs])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", len(head.labels)])],
        weights,
    )
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def write_head(
    folder: Path, head: Head, reads: Reads, x: Float32, training: Mapping[str, Any], scores: Mapping[str, Any]
) -> Package:
    """Write a head as a package and load it.

    Args:
        folder: of the package.
        head: what was learned.
        reads: its features.
        x: training features (n, k), for the spread of the golden rows; none of them is stored.
        training: for the card.
        scores: for the card, the baseline's beside the head's.
    """
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(_GOLDEN, head.inputs))
    golden = (x.mean(axis=0) + np.maximum(x.std(axis=0), 1e-3) * spread).astype(np.float32)
    card = Card(
        kind="head",
        name=folder.name,
        version="1",
        input=Input(reads.features, reads.sentence, (head.inputs,), reads.rate_hz, "embedding"),
        outputs=(Output("logits", (len(head.labels),)),),
        opset=OPSET,
        labels=head.labels,
        thresholds={"abstain": ABSTAIN},
        encoder=reads.encoder,
        pooling=reads.pooling,
        training=dict(training) | {"kind": head.kind} | ({UNIT: reads.unit} if reads.unit else {}),
        scores=dict(scores),
        batch=_BATCH,
    )
    return write(folder, card, graph(head), golden)
