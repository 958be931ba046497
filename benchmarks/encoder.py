"""Cost of the encoders per clip on one core, 8-bit beside float32, and beside what bare matrix products allow.

``python -m benchmarks.encoder [--json] [--quick] [SIZE ...]``: CPU time of one thread, every figure the best of many
short runs, the candidates taking turns, so that a busy machine slows all of them alike. Weights are random; time does
not depend on them. The roofline is the encoder's multiply-accumulates at the rate that one plain product of the
blocks' shape reaches in the same run (`Gemm` in float32, `MatMulInteger` of u8 and s8).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from models.impact.graph import OPSET, Linear, build
from models.impact.network import SIZES, Encoder
from models.impact.quantise import WEIGHT_LIMIT, calibrate
from models.packages.session import BATCH_AXIS
from pipeline.messages import Float32

BATCHES = (1, 8, 16)
AIMS = {"base": 2.8, "small": 1.0, "edge": 0.15}
"""Milliseconds per clip and core that are aimed at, 8-bit."""
PRODUCT = (136, 384, 1536)
"""Rows, inputs and outputs of the plain product: a batch of eight clips in a block of `base`."""


def session(model: bytes, batch: int, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_free_dimension_override_by_name(BATCH_AXIS, batch)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def best(candidates: dict[str, Callable[[], object]], rounds: int, runs: int = 2) -> dict[str, float]:
    """Seconds of CPU time of each candidate's fastest run."""
    fastest = dict.fromkeys(candidates, float("inf"))
    for run in candidates.values():
        run()
    for _ in range(rounds):
        for key, run in candidates.items():
            for _ in range(runs):
                start = time.thread_time()
                run()
                fastest[key] = min(fastest[key], time.thread_time() - start)
    return fastest


def plain_products() -> dict[str, Callable[[], object]]:
    """One product in float32 and one of integers, as the runtime does them without anything around."""
    m, k, n = PRODUCT
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    xq, wq = rng.integers(0, 255, (m, k), np.uint8), rng.integers(-64, 64, (k, n), np.int8)
    shapes = {"x": (TensorProto.FLOAT, [m, k]), "xq": (TensorProto.UINT8, [m, k])}

    def product(op: str, name: str, weight: np.ndarray, out: int) -> ort.InferenceSession:
        graph = helper.make_graph(
            [helper.make_node(op, [name, "w"], ["y"])],
            "product",
            [helper.make_tensor_value_info(name, *shapes[name])],
            [helper.make_tensor_value_info("y", out, [m, n])],
            [numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        return session(model.SerializeToString(), 1)

    real = product("MatMul", "x", w, TensorProto.FLOAT)
    integer = product("MatMulInteger", "xq", wq, TensorProto.INT32)
    return {
        "float32_product": lambda: real.run(None, {"x": x}),
        "int8_product": lambda: integer.run(None, {"xq": xq}),
    }


def macs(encoder: Encoder, linears: list[Linear]) -> tuple[int, int]:
    """Multiply-accumulates per clip: those of the linear layers, and all."""
    patches, d = encoder.grid[0] * encoder.grid[1], encoder.width
    tokens = patches + encoder.cls
    rows = {"patch": patches}
    linear = sum(rows.get(layer.name, tokens) * layer.weight.size for layer in linears)
    stem = encoder.size.maps * 9 * 64 * 64 if encoder.size.stem == "conv" else patches * 256 * d
    return linear, linear + stem + encoder.size.depth * 2 * tokens * tokens * d


def latency(model: bytes, x: Float32, threads: int, runs: int) -> dict[str, float]:
    """Percentiles of wall time of a full batch in milliseconds; what else runs on the machine is in them."""
    run = session(model, len(x), threads)
    walls = []
    for _ in range(runs):
        start = time.perf_counter()
        run.run(None, {"logmel": x})
        walls.append((time.perf_counter() - start) * 1e3)
    return {f"p{p}": round(float(np.percentile(walls, p)), 2) for p in (50, 95, 99)}


def measure(size: str, rounds: int) -> dict[str, object]:
    """All figures of a size."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    encoder = Encoder(size).eval()
    clips = rng.random((16, 1, 128, 128)).astype(np.float32)
    float32, linears = build(encoder)
    int8, _ = build(encoder, calibrate(encoder, clips), weight_limit=WEIGHT_LIMIT)
    candidates = plain_products()
    for name, model in (("float32", float32), ("int8", int8)):
        for batch in BATCHES:
            made, x = session(model, batch), clips[:batch]
            candidates[f"{name}_{batch}"] = lambda made=made, x=x: made.run(None, {"logmel": x})  # type: ignore[misc]
    times = best(candidates, rounds)
    product = np.prod(PRODUCT) / 1e9
    rates = {kind: float(product / times[f"{kind}_product"]) for kind in ("float32", "int8")}
    linear, whole = macs(encoder, linears)
    ms = {key: round(times[key] / int(key.split("_")[1]) * 1e3, 4) for key in times if not key.endswith("product")}
    figures: dict[str, object] = {
        "size": size,
        **{f"{key}_ms_per_clip": value for key, value in ms.items()},
        "aim_ms_per_clip": AIMS[size],
        "clips_per_second": round(1e3 / min(ms[f"int8_{b}"] for b in BATCHES)),
        "mmacs": round(whole / 1e6, 1),
        "mmacs_linear": round(linear / 1e6, 1),
        "float32_gmacs_per_s": round(rates["float32"], 1),
        "int8_gmacs_per_s": round(rates["int8"], 1),
        "float32_roofline_ms": round(whole / rates["float32"] / 1e6, 4),
        "int8_roofline_ms": round(linear / rates["int8"] / 1e6 + (whole - linear) / rates["float32"] / 1e6, 4),
        "bytes_float32": len(float32),
        "bytes_int8": len(int8),
    }
    for threads in (1, 2):
        figures[f"int8_batch8_wall_ms_{threads}_threads"] = latency(int8, clips[:8], threads, 10 * rounds)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", choices=[*SIZES, []], help="all by default")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    args = parser.parse_args()
    for size in args.sizes or SIZES:
        figures = measure(size, 2 if args.quick else 15)
        if args.json:
            print(json.dumps(figures), flush=True)
            continue
        for name, value in figures.items():
            print(f"{name:32s} {value}")
        print()


if __name__ == "__main__":
    main()
