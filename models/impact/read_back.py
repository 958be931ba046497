"""An encoder read back from the graph of its package: the inverse of `graph.build`, as far as there is one.

A package holds no training state and, at eight bits, rounded weights. They are enough to go on from: a run that begins
there (`begin.Beginning`) learns in float32 and soon leaves the rounding behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from models.impact.network import Block, ConvStem, Encoder, Size
from pipeline.errors import BadInput

Constants: TypeAlias = Mapping[str, np.ndarray[Any, Any]]
_SIDE = 16
"""Pixels along a patch of the half-size maps."""


def read_back(model: bytes, what: str) -> Encoder:
    """The encoder of a graph that `graph.build` made, with a convolution in front of its patches.

    The batch normalisation is folded into that convolution for good; here it passes on what it is given while it
    evaluates (`settle` gives it statistics to learn with).

    Args:
        model: the serialised graph.
        what: for errors.

    Returns:
        The encoder in evaluation mode; its tokens are those of the graph but for the rounding of activations.

    Raises:
        BadInput: the graph is not one of these.
    """
    from onnx import load_from_string

    try:
        graph = load_from_string(model).graph
        constants = _constants(graph)
        encoder = Encoder(_size(graph, constants)).eval()
        with torch.no_grad():
            _fill(encoder, constants)
    except (KeyError, RuntimeError, StopIteration, ValueError) as error:
        told = f"{what}: is no graph of a `base` or `small` encoder that stethos made; name one, or a training run"
        raise BadInput("graph", told) from error
    return encoder


@torch.no_grad()
def settle(encoder: Encoder, images: Tensor) -> None:
    """Give the batch normalisation the statistics that it sees, and undo them behind it: it computes what it did.

    Without that the first step of training would normalise what was never normalised.

    Args:
        encoder: of `read_back`; changed in place.
        images: typical ones, (B, 1, 128, 128).
    """
    stem = encoder.stem
    assert isinstance(stem, ConvStem)
    norm, maps = stem.norm, stem.conv(images)
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    norm.bias.copy_(norm.bias + (mean - norm.running_mean) * gain)
    norm.weight.copy_(gain * torch.sqrt(variance + norm.eps))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _constants(graph: Any) -> Constants:
    from onnx import numpy_helper

    scan = next(node for node in graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    return {t.name: numpy_helper.to_array(t) for part in (graph, body) for t in part.initializer}


def _size(graph: Any, constants: Constants) -> Size:
    heads = next(node for node in graph.node if node.name == "block0.q.heads")
    table, conv = constants["embed.table"], constants["clip.conv.w"]
    width, part = table.shape[-1], int(constants[heads.input[1]][-1])
    depth = sum(f"block{i}.norm1.weight" in constants for i in range(len(constants)))
    return Size(
        name=graph.name.removeprefix("impact-"),
        width=width,
        depth=depth,
        heads=width // part,
        hidden=_linear(constants, "block0.up")[1].shape[0],
        maps=conv.shape[0],
        final_norm="final.weight" in constants,
    )


def _linear(constants: Constants, name: str) -> tuple[Tensor, Tensor]:
    """Weight (out, in) and bias (out,) of a layer, whatever it is stored in."""
    if f"{name}.wq" in constants:
        weight = constants[f"{name}.wq"].astype(np.float32) * constants[f"{name}.ws"]
        bias = constants[f"{name}.bq"].astype(np.float64) * constants[f"{name}.bs"]
    else:
        weight, bias = constants[f"{name}.w"], constants[f"{name}.b"]
    return torch.tensor(weight.T.astype(np.float32)), torch.tensor(bias.astype(np.float32))


def _fill(encoder: Encoder, constants: Constants) -> None:
    size, stem = encoder.size, encoder.stem
    assert isinstance(stem, ConvStem)
    state = {
        "conv.weight": torch.tensor(constants["clip.conv.w"]),
        "conv.bias": torch.tensor(constants["clip.conv.b"]),
        "norm.weight": torch.full((size.maps,), (1.0 + stem.norm.eps) ** 0.5),
    }
    weight, state["patch.bias"] = _linear(constants, "patch")
    patch = weight.reshape(size.width, _SIDE, _SIDE, size.maps).permute(0, 3, 1, 2)
    state["patch.weight"] = patch.reshape(size.width, -1)
    stem.load_state_dict({**stem.state_dict(), **state})
    table = torch.tensor(constants["embed.table"])[:, 0]
    if encoder.cls_token is None or len(table) != len(encoder.positions) + 1:
        raise ValueError(f"{len(table)} positions")
    encoder.cls_token.copy_(table[None, :1])
    if not torch.allclose(table[1:], encoder.positions, atol=1e-6):
        raise ValueError("other positions")
    for i, block in enumerate(encoder.blocks):
        assert isinstance(block, Block)
        block.load_state_dict(_block(size, constants, f"block{i}"))
    if size.final_norm:
        encoder.norm.load_state_dict({k: torch.tensor(constants[f"final.{k}"]) for k in ("weight", "bias")})


def _block(size: Size, constants: Constants, name: str) -> dict[str, Tensor]:
    parts = [_linear(constants, f"{name}.{key}") for key in "qkv"]
    scale = float(size.width // size.heads) ** 0.5  # the graph's queries are scaled already
    parts[0] = parts[0][0] * scale, parts[0][1] * scale
    state = {
        "attention.qkv.weight": torch.cat([weight for weight, _ in parts]),
        "attention.qkv.bias": torch.cat([bias for _, bias in parts]),
    }
    for layer, key in (("proj", "attention.proj"), ("up", "ffn.0"), ("down", "ffn.2")):
        state[f"{key}.weight"], state[f"{key}.bias"] = _linear(constants, f"{name}.{layer}")
    for norm in ("norm1", "norm2"):
        for key in ("weight", "bias"):
            state[f"{norm}.{key}"] = torch.tensor(constants[f"{name}.{norm}.{key}"])
    return state
