"""Affine layers with ReLU between them as an ONNX graph: written by hand, no torch involved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.heads.head import Layer
from pipeline.errors import MissingExtra

OPSET = 17
_IR_VERSION = 8


def affine_graph(name: str, entry: str, layers: Sequence[Layer], purpose: str) -> bytes:
    """The ONNX model: input `entry` (B, k_in of the first layer), output ``logits`` (B, k_out of the last).

    Args:
        name: of the graph.
        entry: name of the input.
        layers: (weight (k_in, k_out), bias (k_out,)) each.
        purpose: what it is made for, should it fail.

    Raises:
        MissingExtra: `onnx` is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingExtra("train", purpose) from error
    nodes, weights, value = [], [], entry
    for i, (weight, bias) in enumerate(layers):
        last = i == len(layers) - 1
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
        name,
        [helper.make_tensor_value_info(entry, TensorProto.FLOAT, ["B", len(layers[0][0])])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", len(layers[-1][1])])],
        weights,
    )
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
