"""Pretraining in bfloat16 and compiled: on a CPU slower than without, but by the same code as on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.impact import checkpoint
from models.impact.curves import read_log
from models.impact.network import SIZES, Size
from models.impact.pretrain import Pretrainer
from models.impact.settings import Pretraining
from tests.models.impact.conftest import TINY, batches, settings

MADE = settings(precision="bfloat16", batch=2, clips_per_epoch=8, epochs=1, log_every=1)


def run(folder: Path, made: Pretraining, until: int, size: Size = SIZES["small"]) -> None:
    """Up to a step; without another, of the smallest size that is pretrained."""
    found = Pretrainer(made, size, batches(made), folder)
    found.run(until=until)
    found.batches.close()


def state(folder: Path) -> dict[str, torch.Tensor]:
    """What the newest checkpoint holds."""
    newest = checkpoint.newest(folder)
    assert newest is not None
    return checkpoint.load(newest)[0]


def test_steps_in_bfloat16_are_finite_and_resumed_to_the_bit(tmp_path: Path) -> None:
    """Computed in bfloat16, kept in float32; what was stopped after a step ends as what was not."""
    run(tmp_path / "whole", MADE, 2)
    for until in (1, 2):
        run(tmp_path / "parts", MADE, until)
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)
    assert {x.dtype for x in whole.values() if x.is_floating_point()} == {torch.float32}
    assert all(bool(torch.isfinite(x).all()) for x in whole.values())
    rounded = [(line["loss"], line["grad_norm"]) for line in read_log(tmp_path / "parts")]
    assert len(rounded) == 2 and np.isfinite(rounded).all() and min(rounded[0]) > 0
    run(tmp_path / "exact", replace(MADE, precision="float32"), 1)
    exact = read_log(tmp_path / "exact")[0]
    assert exact["loss"] != rounded[0][0]  # it did compute otherwise
    np.testing.assert_allclose(rounded[0][0], exact["loss"], rtol=0.02)  # 8 bits of a mantissa


def test_a_compiled_student_learns_the_same_and_its_run_goes_on_uncompiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch captures of a step, without its code generator, which takes minutes on a CPU."""
    asked: list[object] = []
    real = torch.compile

    def capture(model: Callable[..., object]) -> object:
        asked.append(model)
        return real(model, backend="eager", fullgraph=False)

    monkeypatch.setattr(torch, "compile", capture)
    plain, compiled = settings(epochs=1, log_every=1), settings(epochs=1, log_every=1, compile=True)
    run(tmp_path / "plain", plain, 3, TINY)
    assert not asked
    run(tmp_path / "compiled", compiled, 2, TINY)
    assert len(asked) == 1
    run(tmp_path / "compiled", plain, 3, TINY)
    losses = [[line["loss"] for line in read_log(tmp_path / name)] for name in ("plain", "compiled")]
    assert len(losses[0]) == 3
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert state(tmp_path / "plain").keys() == state(tmp_path / "compiled").keys()
