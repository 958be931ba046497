"""The lobes picture stands on the published limits of the benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from connectors.simulator.cutting import BENCHMARK, Engagement
from connectors.simulator.lobes import draw_lobes, lobe_limits
from pipeline.errors import MissingExtra


def test_limits_are_those_of_the_benchmark() -> None:
    """Slot at 10,000 and 16,000 rpm: 0.33 and 0.32 mm (Hopf); half immersion at 10,000 rpm: 2.11 mm (flip)."""
    depths, families = lobe_limits(BENCHMARK, Engagement.slot(), np.array([10_000.0, 16_000.0]))
    assert depths * 1e3 == pytest.approx([0.33, 0.32], abs=0.02)
    assert families == ["hopf", "hopf"]
    depths, families = lobe_limits(BENCHMARK, Engagement.down(0.5), np.array([10_000.0]))
    assert depths[0] * 1e3 == pytest.approx(2.11, abs=0.03)
    assert families == ["flip"]


def test_a_picture_is_written(tmp_path: Path) -> None:
    """As PNG of a size to be read."""
    path = draw_lobes(tmp_path / "new" / "lobes.png", points=4)
    with Image.open(path) as picture:
        assert picture.size == (800, 450)


def test_without_matplotlib_it_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what needs it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"^drawing lobes needs the extra 'train'.*-e '\.\[train\]'$"):
        draw_lobes(tmp_path / "lobes.png")
