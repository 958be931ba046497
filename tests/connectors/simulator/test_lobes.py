"""The lobes picture stands on the published limits of the benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from connectors.simulator.cutting import BENCHMARK, Engagement
from connectors.simulator.lobes import draw_lobes, lobe_limits


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
