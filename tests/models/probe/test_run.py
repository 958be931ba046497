"""What a head may see while it is trained, by protocol."""

from __future__ import annotations

import numpy as np
import pytest

from models.probe import run, splits
from models.probe.metrics import units
from tests.models.probe.rig import clips


@pytest.mark.parametrize(("protocol", "apart"), [("paper", False), ("leak_free", True)])
def test_the_part_that_a_head_watches(monkeypatch: pytest.MonkeyPatch, protocol: str, apart: bool) -> None:
    """The paper knows no groups and watches random clips; without leaks whole groups are held out."""
    found = clips({f"{label}{g}": (label, 6) for label in "ab" for g in range(5)})
    plan = getattr(splits, protocol)(found, 2, 0)
    seen: list[list[str]] = []
    real = run.fit_two_layer

    def fit(x: object, y: object, labels: object, groups: list[str], seed: int) -> object:
        seen.append(groups)
        return real(x, y, labels, groups, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "fit_two_layer", fit)
    x = np.random.default_rng(0).normal(size=(len(found), 4)).astype(np.float32)
    run.judge(found, plan, units(found), x, run.Model("x", "two_layer"), 0)
    assert len(seen) == 2
    for groups, split in zip(seen, plan.splits, strict=True):
        expected = found.group[split.train].tolist() if apart else [str(row) for row in split.train]
        assert groups == expected
