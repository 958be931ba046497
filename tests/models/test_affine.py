"""The one writer of affine layers, against the head that ships and against numpy."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from models.affine import affine_graph
from models.heads.head import Layer
from pipeline import demo
from pipeline.errors import MissingExtra

SHIPPED = Path(demo.__file__).parent / "heads" / "lathe-states" / "model.onnx"


def test_the_shipped_head_is_written_again_to_the_byte() -> None:
    """Its digest names it in decisions and recordings."""
    held = {t.name: numpy_helper.to_array(t) for t in onnx.load(SHIPPED).graph.initializer}
    layers = [(held[f"weight{i}"], held[f"bias{i}"]) for i in range(len(held) // 2)]
    assert affine_graph("head", "embedding", layers, "a test") == SHIPPED.read_bytes()


def test_layers_are_what_numpy_makes_of_them() -> None:
    rng = np.random.default_rng(0)
    sizes = (7, 5, 4, 3)
    layers: list[Layer] = [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in itertools.pairwise(sizes)]
    x = rng.normal(size=(6, 7)).astype(np.float32)
    session = ort.InferenceSession(affine_graph("any", "rows", layers, "a test"), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"rows": x})
    first, second, last = layers
    hidden = np.maximum(np.maximum(x @ first[0] + first[1], 0.0) @ second[0] + second[1], 0.0)
    np.testing.assert_allclose(found, hidden @ last[0] + last[1], rtol=1e-4, atol=1e-4)


def test_what_it_was_for_is_told_where_onnx_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match="writing a thing"):
        affine_graph("any", "rows", [(np.ones((2, 2)), np.ones(2))], "writing a thing")
