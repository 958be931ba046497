"""The log-Mel front end inside the ONNX graph, for targets that have a runtime for graphs but no Fourier transform.

Where there is one, `operators.logmel` takes less than half the time and is what the stream uses. Here the transform of
2,048 samples is the first two factors of Cooley and Tukey (1965), 32 × 64, as matrix products: with n = 64 n₁ + n₂ and
k = k₁ + 32 k₂, ::

    X[k] = Σ_n₂ (Σ_n₁ x[n] exp(−2πi n₁ k₁ / 32)) exp(−2πi n₂ k / 2048)

Sound is real, so that k₁ = 0 … 16 suffices: the lines above 1,024 are mirror images of those that are left out. The
sums are short, which keeps weak bands exact beside strong ones, and the constants need 2 MB instead of the 17 MB of
one matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.impact.graph import IR_VERSION, OPSET
from models.packages.session import BATCH_AXIS
from operators.mel import PAPER, FrontEnd, bank
from pipeline.errors import BadInput

INPUT = "waveform"
_FIRST, _SECOND = 32, 64
_HALF = _FIRST // 2 + 1
_EPS = 1e-6
_AMIN = 1e-10
_PREFIX = "front."


class _Nodes:
    """Nodes and constants, all names prefixed."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def __call__(self, op: str, *inputs: Any, name: str, **attributes: Any) -> str:
        """One node; inputs that are no names become constants, ``name`` is the output."""
        from onnx import helper

        names = []
        for i, value in enumerate(inputs):
            if not isinstance(value, str):
                self.constants[f"{_PREFIX}{name}.{i}"] = np.asarray(value)
            names.append(value if isinstance(value, str) else f"{_PREFIX}{name}.{i}")
        out = name if name == "logmel" else _PREFIX + name
        self.nodes.append(helper.make_node(op, names, [out], name=_PREFIX + name, **attributes))
        return out


def build_frontend(front_end: FrontEnd = PAPER, encoder: bytes | None = None) -> bytes:
    """The graph ``waveform`` (B, clip_samples) → ``logmel`` (B, 1, bands, frames), or on to ``tokens``.

    Args:
        front_end: whose clips; with 2,048-sample frames, z-scored samples and the 80 dB below the maximum.
        encoder: graph that takes ``logmel``, to be run behind it in the same graph.

    Returns:
        The serialised model. Its images differ from those of `operators.logmel.clip` by less than 0.001 dB; beside a
        pure tone, bands 80 dB below it come near that, since both compute in single precision.

    Raises:
        BadInput: settings that this graph does not have.
    """
    from onnx import TensorProto, checker, helper, load_from_string, numpy_helper

    e = front_end
    if (e.n_fft, e.waveform, e.scaling, e.channels) != (_FIRST * _SECOND, "zscore", "max80", "mean") or (
        e.clip_samples is None
    ):
        raise BadInput("features", f"front end '{e.name}' has no graph; there is one for frames of 2,048 samples, "
                       "waveform 'zscore' and scaling 'max80'")  # fmt: skip
    g = _Nodes()
    _image(g, _mel_power(g, _frames(g, _normalised(g), e), e), e)
    outputs = [helper.make_tensor_value_info("logmel", TensorProto.FLOAT, [BATCH_AXIS, 1, e.bands, e.frames])]
    nodes, constants = g.nodes, [numpy_helper.from_array(v, k) for k, v in g.constants.items()]
    if encoder is not None:
        behind = load_from_string(encoder)
        nodes += behind.graph.node
        constants += behind.graph.initializer
        outputs = list(behind.graph.output)
    graph = helper.make_graph(
        nodes,
        "front-end",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH_AXIS, e.clip_samples])],
        outputs,
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="stethos"
    )
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _normalised(g: _Nodes) -> str:
    """Mean off, then y = x / (rms + ε), z = y / (std(y) + ε), as one division."""
    rms = g("Sqrt", g("ReduceMean", g("Mul", INPUT, INPUT, name="square"), [1], name="power"), name="rms")
    rms = g("Add", rms, np.float32(_EPS), name="rms.eps")
    coarse = g("Sub", INPUT, g("ReduceMean", INPUT, [1], name="mean"), name="coarse")
    centred = g("Sub", coarse, g("ReduceMean", coarse, [1], name="rest"), name="centred")  # exact far from zero, too
    power = g("ReduceMean", g("Mul", centred, centred, name="centred.square"), [1], name="variance")
    std = g("Add", g("Div", g("Sqrt", power, name="std"), rms, name="std.y"), np.float32(_EPS), name="std.eps")
    return g("Div", centred, g("Mul", rms, std, name="divisor"), name="z")


def _frames(g: _Nodes, z: str, e: FrontEnd) -> str:
    """Windowed frames (B · frames, 32, 64): gathered in runs of as many samples as hop and frame have in common."""
    run = int(np.gcd(e.hop, e.n_fft))
    pad, total = e.n_fft // 2, (e.frames - 1) * e.hop + e.n_fft
    padded = g("Pad", z, np.array([0, pad, 0, pad]), name="pad", mode="reflect")
    cut = g("Slice", padded, np.array([0]), np.array([total]), np.array([1]), name="cut")
    runs = g("Reshape", cut, np.array([-1, total // run, run]), name="runs")
    at = (np.arange(e.frames)[:, None] * e.hop + np.arange(0, e.n_fft, run)) // run
    frames = g("Reshape", g("Gather", runs, at.astype(np.int32), name="gathered", axis=1),
               np.array([-1, _FIRST, _SECOND]), name="frames")  # fmt: skip
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(e.n_fft) / e.n_fft)
    return g("Mul", frames, hann.reshape(1, _FIRST, _SECOND).astype(np.float32), name="windowed")


def _mel_power(g: _Nodes, frames: str, e: FrontEnd) -> str:
    """Power of the Mel bands, (B · frames, bands)."""
    k1, n1, n2, k2 = (np.arange(n, dtype=np.float64) for n in (_HALF, _FIRST, _SECOND, _SECOND))
    first = np.exp(-2j * np.pi * np.outer(k1, n1) / _FIRST)
    rows = np.stack([first.real, first.imag], axis=1).reshape(2 * _HALF, _FIRST)
    y = g("MatMul", rows.astype(np.float32), frames, name="first")  # (B · frames, 34, 64)
    y = g("Reshape", y, np.array([-1, _HALF, 2 * _SECOND]), name="first.pairs")
    y = g("Transpose", y, name="first.k1", perm=[1, 0, 2])
    k = k1[:, None, None] + _FIRST * k2
    second = np.exp(-2j * np.pi * n2[:, None] * k / e.n_fft)  # (17, n₂, k₂)
    blocks = np.block([[second.real, second.imag], [-second.imag, second.real]])
    y = g("MatMul", y, blocks.astype(np.float32), name="second")
    y = g("Reshape", g("Mul", y, y, name="squares"), np.array([_HALF, -1, 2, _SECOND]), name="squares.parts")
    y = g("ReduceSum", y, np.array([2]), name="lines", keepdims=0)
    y = g("Reshape", g("Transpose", y, name="lines.frames", perm=[1, 0, 2]), np.array([-1, _HALF * _SECOND]),
          name="lines.flat")  # fmt: skip
    return g("MatMul", y, _weights(e, k.reshape(-1).astype(int)), name="mel")


def _weights(e: FrontEnd, lines: np.ndarray[Any, np.dtype[np.int_]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Mel weights over the lines in the order of the products; of a line that appears twice, the first counts."""
    mirrored = np.where(lines > e.n_fft // 2, e.n_fft - lines, lines)
    _, once = np.unique(mirrored, return_index=True)
    weights = np.zeros((len(lines), e.bands), np.float32)
    weights[once] = bank(e).toarray().T[mirrored[once]]
    return weights


def _image(g: _Nodes, power: str, e: FrontEnd) -> str:
    """(dB − maximum + 80) / 80 of power (B · frames, bands), at least 0."""
    log = g("Log", g("Max", power, np.float32(_AMIN), name="floor"), name="log")
    db = g("Mul", log, np.float32(10.0 / np.log(10.0)), name="db")
    image = g("Reshape", db, np.array([-1, 1, e.frames, e.bands]), name="db.frames")
    image = g("Transpose", image, name="db.bands", perm=[0, 1, 3, 2])
    peak = g("ReduceMax", image, np.array([1, 2, 3]), name="peak")
    relative = g("Add", g("Sub", image, peak, name="relative"), np.float32(80.0), name="above")
    return g("Mul", g("Max", relative, np.float32(0.0), name="kept"), np.float32(1.0 / 80.0), name="logmel")
