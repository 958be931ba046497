"""Pretraining in bfloat16: on a CPU it is slower than float32, but the same code as on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models.impact import checkpoint
from models.impact.curves import read_log
from models.impact.network import SIZES
from models.impact.pretrain import Pretrainer
from models.impact.settings import Pretraining
from tests.models.impact.conftest import batches, settings

MADE = settings(precision="bfloat16", batch=2, clips_per_epoch=8, epochs=1, log_every=1)


def run(folder: Path, made: Pretraining, until: int) -> Pretrainer:
    """The smallest size that is pretrained, up to a step."""
    found = Pretrainer(made, SIZES["small"], batches(made), folder)
    found.run(until=until)
    found.batches.close()
    return found


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
