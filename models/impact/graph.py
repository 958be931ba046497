"""An encoder as an ONNX graph, written node by node so that the runtime finds what it is quick at.

Not traced from torch: the batch normalisation is folded into its convolution, the scale of attention into the
queries' weights, the class token into the table of positions (its row is padded with zeros before), and all linear
layers are `Gemm` on (tokens, channels). `tests/models/impact/test_export.py` holds the graph to the torch module.

Linear layers come out in float32, or between QuantizeLinear and DequantizeLinear, which the runtime fuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.impact.network import Encoder
from models.packages.session import BATCH_AXIS
from pipeline.messages import Float32

OPSET = 20
IR_VERSION = 9


@dataclass(frozen=True, slots=True)
class Quantiser:
    """u8 = round(x / scale) + zero, of the rows that a linear layer reads."""

    scale: float
    zero: int


@dataclass(slots=True)
class Linear:
    """A linear layer: y = x · weight + bias.

    Attributes:
        name: of the layer; its input is the tensor ``{name}.x``.
        weight: shape (in, out).
        bias: shape (out,).
    """

    name: str
    weight: Float32
    bias: Float32


@dataclass(slots=True)
class Graph:
    """Nodes and constants under construction; `prefix` keeps the constants of a graph inside another one apart."""

    quantisers: Mapping[str, Quantiser] = field(default_factory=dict)
    weight_limit: int = 127
    prefix: str = ""
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    linears: list[Linear] = field(default_factory=list)

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """One node with one output, `name`."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        """A named constant; repeated names keep the first value."""
        self.constants.setdefault(self.prefix + name, np.asarray(value))
        return self.prefix + name

    def reshape(self, x: str, shape: tuple[int, ...], name: str) -> str:
        """Reshape; −1 stands for the batch."""
        return self.add("Reshape", [x, self.constant("shape_" + "_".join(map(str, shape)), np.array(shape))], name)

    def units(self, name: str) -> list[str]:
        """Scale and zero point of what layer `name` reads."""
        quantiser = self.quantisers[name]
        scale, zero = np.float32(quantiser.scale), np.uint8(quantiser.zero)
        return [self.constant(f"{name}.xs", scale), self.constant(f"{name}.xz", zero)]

    def rounded(self, x: str, name: str) -> str:
        """A tensor rounded to u8 in the units of layer `name`, as float32; once for all layers that read it."""
        if f"{x}.dq" not in {node.output[0] for node in self.nodes}:
            units = self.units(name)
            self.add("QuantizeLinear", [x, *units], f"{x}.q")
            self.add("DequantizeLinear", [f"{x}.q", *units], f"{x}.dq")
        return f"{x}.dq"

    def initialisers(self) -> list[Any]:
        """The constants as tensors."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in self.constants.items()]

    def linear(self, x: str, layer: Linear) -> str:
        """Apply a layer to rows (tokens, in); quantised if it has a `Quantiser`."""
        name = layer.name
        self.linears.append(layer)
        if name not in self.quantisers:
            weight, bias = self.constant(f"{name}.w", layer.weight), self.constant(f"{name}.b", layer.bias)
            return self.add("Gemm", [x, weight, bias], f"{name}.y")
        rows = self.rounded(x, name)
        scale = np.maximum(np.abs(layer.weight).max(axis=0), 1e-12).astype(np.float32) / np.float32(self.weight_limit)
        integers = np.rint(layer.weight / scale).astype(np.int8)
        product = (scale.astype(np.float64) * np.float32(self.quantisers[name].scale)).astype(np.float32)
        bias32 = np.clip(np.rint(layer.bias / product.astype(np.float64)), -(2**31) + 1, 2**31 - 1).astype(np.int32)
        weight = self._dequantised(f"{name}.w", integers, scale, np.zeros(len(scale), np.int8))
        bias = self._dequantised(f"{name}.b", bias32, product, np.zeros(len(scale), np.int32))
        return self.add("Gemm", [rows, weight, bias], f"{name}.y")

    def _dequantised(self, name: str, value: Any, scale: Any, zero: Any) -> str:
        parts = [self.constant(f"{name}{end}", v) for end, v in (("q", value), ("s", scale), ("z", zero))]
        return self.add("DequantizeLinear", parts, name, axis=value.ndim - 1)

    def norm(self, x: str, module: Any, name: str) -> str:
        """LayerNorm over the last axis."""
        weight, bias = (self.constant(f"{name}.{k}", array(getattr(module, k))) for k in ("weight", "bias"))
        return self.add("LayerNormalization", [x, weight, bias], f"{name}.n", axis=-1, epsilon=module.eps)


def array(tensor: Any) -> Float32:
    """A torch tensor as float32."""
    return np.asarray(tensor.detach().cpu().float().numpy(), np.float32)


def build(
    encoder: Encoder, quantisers: Mapping[str, Quantiser] | None = None, probes: bool = False, weight_limit: int = 127
) -> tuple[bytes, list[Linear]]:
    """The graph ``logmel`` (B, 1, 128, 128) → ``tokens`` (B, T, width).

    Args:
        encoder: whose weights; running statistics of its batch normalisation are used.
        quantisers: of the inputs of linear layers, by the layer's name; layers without one stay in float32.
        probes: whether the inputs of all linear layers become outputs too, ``{name}.x``, for calibration.
        weight_limit: largest 8-bit weight.

    Returns:
        The serialised model, and its linear layers in order.
    """
    from onnx import TensorProto, checker, helper

    g = Graph(quantisers or {}, weight_limit)
    x = _conv_stem(g, encoder) if encoder.size.stem == "conv" else _patch_stem(g, encoder)
    for i, block in enumerate(encoder.blocks):
        x = _block(g, x, block, encoder, f"block{i}")
    if encoder.size.final_norm:
        x = g.norm(x, encoder.norm, "final")
    tokens = encoder.grid[0] * encoder.grid[1] + encoder.cls
    x = g.reshape(x, (tokens, -1, encoder.width), "tokens.first")
    g.add("Transpose", [x], "tokens", perm=[1, 0, 2])
    outputs = [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [BATCH_AXIS, tokens, encoder.width])]
    if probes:
        inputs = {f"{node.name}": node.input[0] for node in g.nodes if node.op_type == "Gemm"}
        for layer in g.linears:
            g.add("Identity", [inputs[f"{layer.name}.y"]], f"{layer.name}.x")
            outputs.append(
                helper.make_tensor_value_info(f"{layer.name}.x", TensorProto.FLOAT, [None, len(layer.weight)])
            )
    graph = helper.make_graph(
        g.nodes,
        f"impact-{encoder.size.name}",
        [helper.make_tensor_value_info("logmel", TensorProto.FLOAT, [BATCH_AXIS, 1, 128, 128])],
        outputs,
        g.initialisers(),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="stethos"
    )
    checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True), g.linears


def _folded(conv: Any, norm: Any) -> tuple[Float32, Float32]:
    """Weight and bias of a convolution followed by batch normalisation with running statistics."""
    gain = array(norm.weight) / np.sqrt(array(norm.running_var) + np.float32(norm.eps))
    weight = array(conv.weight) * gain[:, None, None, None]
    return weight, (array(conv.bias) - array(norm.running_mean)) * gain + array(norm.bias)


def _conv_stem(g: Graph, encoder: Encoder) -> str:
    """Convolution and patches, clip by clip (`Scan`): a clip's maps fit into a core's cache, a batch's do not."""
    from onnx import TensorProto, helper

    stem: Any = encoder.stem
    rows, columns = encoder.grid
    maps = encoder.size.maps
    body = Graph(g.quantisers, prefix="clip.")
    kind = TensorProto.UINT8 if "patch" in g.quantisers else TensorProto.FLOAT
    patches = _patches(body, stem, rows, columns, maps)
    clip = helper.make_graph(
        body.nodes,
        "clip",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 128, 128])],
        [helper.make_tensor_value_info(patches, kind, [rows, columns, 16, 16 * maps])],
        body.initialisers(),
    )
    x = g.add("Scan", ["logmel"], "stem", body=clip, num_scan_inputs=1, scan_output_axes=[2])
    if kind == TensorProto.UINT8:
        x = g.add("DequantizeLinear", [x, *g.units("patch")], "stem.dq")
    x = g.reshape(x, (-1, maps * 256), "stem.rows")
    patch = array(stem.patch.weight).reshape(-1, maps, 16, 16).transpose(2, 3, 1, 0).reshape(maps * 256, -1)
    x = g.linear(x, Linear("patch", np.ascontiguousarray(patch), array(stem.patch.bias)))
    return _placed(g, x, encoder)


def _patches(body: Graph, stem: Any, rows: int, columns: int, maps: int) -> str:
    """One image (1, 128, 128) → its patches, u8 if quantised, (rows, columns, 16, 16 · maps), channels last."""
    weight, bias = _folded(stem.conv, stem.norm)
    x = body.reshape("image", (1, 1, 128, 128), "conv.x")
    constants = [body.constant("conv.w", weight), body.constant("conv.b", bias)]
    x = body.add("Conv", [x, *constants], "conv.y", strides=[2, 2], pads=[1, 1, 1, 1])
    x = body.add("Transpose", [x], "conv.last", perm=[0, 2, 3, 1])  # so that patches move in whole rows
    x = body.add("Gelu", [x], "conv.gelu")
    if "patch" in body.quantisers:
        x = body.add("QuantizeLinear", [x, *body.units("patch")], "conv.q")
    x = body.reshape(x, (rows, 16, columns, 16 * maps), "conv.split")
    return body.add("Transpose", [x], "conv.patches", perm=[0, 2, 1, 3])


def _patch_stem(g: Graph, encoder: Encoder) -> str:
    """One convolution: it reads the patches where they lie, while a product of rows needs them gathered first."""
    stem: Any = encoder.stem
    weight, bias = _folded(stem.conv, stem.norm)
    constants = [g.constant("conv.w", weight), g.constant("conv.b", bias)]
    x = g.add("Conv", ["logmel", *constants], "conv.y", strides=[16, 16])
    x = g.reshape(g.add("Relu", [x], "conv.relu"), (-1, encoder.width, encoder.grid[0] * encoder.grid[1]), "conv.maps")
    return _placed(g, g.add("Transpose", [x], "conv.tokens", perm=[2, 0, 1]), encoder)


def _placed(g: Graph, x: str, encoder: Encoder) -> str:
    """Positions on, class token in front: (tokens, width) → (tokens, width)."""
    table, d = array(encoder.positions), encoder.width
    x = g.reshape(x, (len(table), -1, d), "embed.tokens")
    if encoder.cls_token is not None:
        table = np.concatenate([array(encoder.cls_token)[0], table])
        x = g.add("Pad", [x, g.constant("embed.pads", np.array([1, 0, 0, 0, 0, 0]))], "embed.pad")
    x = g.add("Add", [x, g.constant("embed.table", table[:, None])], "embed.y")
    return g.reshape(x, (-1, d), "embed.rows")


def _block(g: Graph, x: str, block: Any, encoder: Encoder, name: str) -> str:
    attention = _attention(g, g.norm(x, block.norm1, f"{name}.norm1"), block.attention, encoder, name)
    x = g.add("Add", [x, attention], f"{name}.mid")
    y = g.norm(x, block.norm2, f"{name}.norm2")
    y = g.linear(y, _linear(f"{name}.up", block.ffn[0]))
    y = g.add("Relu" if encoder.size.stem == "patch" else "Gelu", [y], f"{name}.act")
    y = g.linear(y, _linear(f"{name}.down", block.ffn[2]))
    return g.add("Add", [x, y], f"{name}.out")


def _attention(g: Graph, x: str, module: Any, encoder: Encoder, name: str) -> str:
    d, heads = encoder.width, int(module.heads)
    tokens, part = encoder.grid[0] * encoder.grid[1] + encoder.cls, encoder.width // heads
    parts = []
    for i, key in enumerate("qkv"):
        layer = _linear(f"{name}.{key}", module.qkv)
        layer.weight, layer.bias = layer.weight[:, i * d : i * d + d].copy(), layer.bias[i * d : i * d + d].copy()
        if key == "q":
            layer.weight *= np.float32(part**-0.5)
            layer.bias *= np.float32(part**-0.5)
        y = g.reshape(g.linear(x, layer), (tokens, -1, part), f"{name}.{key}.heads")
        parts.append(g.add("Transpose", [y], f"{name}.{key}.t", perm=[1, 2, 0] if key == "k" else [1, 0, 2]))
    weights = g.add("Softmax", [g.add("MatMul", parts[:2], f"{name}.scores")], f"{name}.weights", axis=-1)
    mixed = g.add("MatMul", [weights, parts[2]], f"{name}.mixed")
    y = g.reshape(g.add("Transpose", [mixed], f"{name}.joined", perm=[1, 0, 2]), (-1, d), f"{name}.rows")
    return g.linear(y, _linear(f"{name}.proj", module.proj))


def _linear(name: str, module: Any) -> Linear:
    return Linear(name, array(module.weight).T.copy(), array(module.bias))
