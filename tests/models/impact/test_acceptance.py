"""What the acceptance table of the reproduction asks beyond single parts: the average inside a run, nothing unpickled.

Lines of the table and where they are tested: shape of the front end and its gain (`tests/operators/test_logmel.py`),
parameters, tokens and decoder (`test_network.py`), masks (`test_masking.py`), the formula of the average
(`test_teacher.py`), 200 steps without collapse (`test_training.py`), ONNX against torch (`test_export.py`), Table 3
from Table 4, the majority, and agreement with the published scores (`tests/models/probe/test_metrics.py`), baselines
beside every score (`tests/models/probe/test_dinos.py`). Latencies stand in `benchmarks/encoder.py`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from models.impact.pretrain import Pretrainer
from tests.models.impact.conftest import TINY, batches, settings

ROOT = Path(__file__).parents[3]
SOURCES = sorted(
    path
    for folder in ("pipeline", "models", "connectors", "operators", "config", "scripts")
    for path in (ROOT / folder).rglob("*.py")
)
UNSAFE = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "joblib.load", "shelve.open",
    "pandas.read_pickle", "torch.jit.load", "torch.hub.load",
}  # fmt: skip


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every parameter."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize(("every", "decays"), [("step", [0.9, 0.945, 0.99]), ("epoch", [None, None, 0.6])])
def test_the_teacher_of_a_run_is_the_average_to_the_letter(
    tmp_path: Path, every: str, decays: list[float | None]
) -> None:
    """θt ← m θt + (1 − m) θs after each step, or once after the epoch; no gradient ever reaches the teacher."""
    made = settings(ema_every=every, ema_start=0.9, ema_end=0.99, ema_epoch=0.6, clips_per_epoch=48, epochs=1, batch=16)
    found = Pretrainer(made, TINY, batches(made), tmp_path)
    wanted = weights(found.modules["teacher"])
    for step, decay in enumerate(decays):
        found.run(until=step + 1)
        student = weights(found.modules["student"])
        if decay is not None:
            wanted = {k: (decay * p.double() + (1 - decay) * student[k].double()).float() for k, p in wanted.items()}
        for name, p in found.modules["teacher"].named_parameters():
            torch.testing.assert_close(p, wanted[name], rtol=1e-5, atol=1e-7)
            assert p.grad is None and not p.requires_grad
    found.batches.close()


def called(node: ast.Call) -> str:
    """``module.function`` of a call; empty where it is no such name."""
    f = node.func
    return f"{f.value.id}.{f.attr}" if isinstance(f, ast.Attribute) and isinstance(f.value, ast.Name) else ""


def said(node: ast.Call, key: str) -> object:
    """The constant that a call gives a keyword; None where it gives none."""
    return next((k.value.value for k in node.keywords if k.arg == key and isinstance(k.value, ast.Constant)), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_loading_never_unpickles(path: Path) -> None:
    """Arrays without pickles, weights alone from torch, and none of the functions that run what they read.

    What a process sends to one that it has started itself is no file and no message of others.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        assert name not in UNSAFE, f"{path}:{node.lineno} calls {name}"
        if name in {"np.load", "numpy.load"}:
            assert said(node, "allow_pickle") is False, f"{path}:{node.lineno}: say allow_pickle=False"
        if name == "torch.load":
            assert said(node, "weights_only") is True, f"{path}:{node.lineno}: say weights_only=True"
