"""A head as a model package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.affine import OPSET, affine_graph
from models.heads.choose import ABSTAIN
from models.heads.head import Head
from models.heads.vibration import UNIT
from models.packages import VIBRATION, Card, Input, Output, Package, write
from operators.mel import PAPER
from pipeline.messages import Float32

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
    return affine_graph("head", "embedding", head.layers, "writing a head")


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
