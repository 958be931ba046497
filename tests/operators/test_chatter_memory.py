"""What the chatter detector takes for the idle machine, and what must leave no trace in it."""

from __future__ import annotations

import orjson
import pytest

from operators.chatter_detector import ChatterDetector
from tests.operators.test_chatter import CLEAR, scores, told


def test_long_cutting_is_not_taken_for_the_idle_machine() -> None:
    """Nobody tells whether it cuts: 12 s of idling, 15 minutes of a cut, then chatter a little louder."""
    detector = ChatterDetector(3, 20_000)
    quiet = {"level_db": -60.0, "cutting": -1.0}
    scores(detector, [told(t=0.1 * k, **quiet) for k in range(120)])
    cut = [told(t=12 + 0.1 * k, cutting=-1.0, tonal=0.05) for k in range(9_000)]
    assert all(s.reasons["cutting"] for s in scores(detector, cut))
    loud = [told(t=912 + 0.01 * k, cutting=-1.0, level_db=-17.0, tonal=0.75, **CLEAR) for k in range(4)]
    assert any(s.abnormal for s in scores(detector, loud))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_overflow_leave_no_trace(value: float) -> None:
    """Not judged, and judged as before afterwards; a snapshot that an earlier version spoilt is mended."""
    detector = ChatterDetector(3, 20_000)
    scores(detector, [told(t=0.01 * k, cutting=0.0, level_db=-60.0) for k in range(50)])
    spoilt = scores(detector, [told(t=0.5, cutting=0.0, level_db=value), told(t=0.51, cutting=0.0, tonal=value)])
    assert not any(s.complete for s in spoilt) and "too large" in spoilt[0].reasons["text"]
    resumed = ChatterDetector(3, 20_000)
    resumed.restore(orjson.loads(orjson.dumps({**detector.snapshot(), "idle_tonal": None})))
    for one in (detector, resumed):
        assert any(s.abnormal for s in scores(one, [told(t=1 + 0.01 * k, tonal=0.9, **CLEAR) for k in range(4)]))
