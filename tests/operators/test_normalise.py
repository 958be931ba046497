"""Normalised windows: exact moments, what was taken off, and silence."""

from __future__ import annotations

import numpy as np
import pytest

from operators.normalise import Normalise
from operators.rewindow import Rewindow
from pipeline.messages import Float32, Rate, Stream, Window
from tests.operators import signals
from tests.operators.pieces import gap, run, segments, stream

RATE = 8000


def window(x: Float32, source: Stream | None = None) -> Window:
    """The samples as one window."""
    source = source or stream(RATE, channels=x.shape[1])
    out = run(Rewindow(source, len(x), len(x)), segments(source, x))[0]
    assert isinstance(out, Window)
    return out


def normalised(before: Window, kind: str) -> Window:
    (after,) = Normalise(before.stream, kind).process(before)  # type: ignore[arg-type]
    assert isinstance(after, Window)
    assert (after.n0, after.n1, after.t_end_ns, after.complete) == (before.n0, before.n1, before.t_end_ns, True)
    assert after.values.dtype == np.float32
    return after


def test_zscore_has_mean_zero_and_deviation_one() -> None:
    x = (signals.noise(4000, 3.0, channels=2) * [1.0, 0.01] + [5.0, -2.0]).astype(np.float32)
    after = normalised(window(x), "zscore")
    np.testing.assert_allclose(after.values.astype(float).mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(after.values.astype(float).std(axis=0), 1.0, atol=1e-6)
    back = [after.values[:, c] * after.side[f"ch{c}_std"] + after.side[f"ch{c}_mean"] for c in range(2)]
    np.testing.assert_allclose(np.stack(back, axis=1), x, atol=1e-5)
    assert after.side["silent"] == 0.0


def test_rms_keeps_the_mean() -> None:
    x = (signals.sine(8000, RATE, 100, 0.4) + 0.3).astype(np.float32)[:, None]
    after = normalised(window(x), "rms")
    rms = np.sqrt(0.3**2 + 0.4**2 / 2)
    assert after.side["rms"] == pytest.approx(rms, rel=1e-6)
    assert after.side["mean"] == pytest.approx(0.3, rel=1e-6)
    assert after.side["std"] == pytest.approx(0.4 / np.sqrt(2), rel=1e-6)
    np.testing.assert_allclose(after.values, x / rms, rtol=1e-6)


@pytest.mark.parametrize("kind", ["rms", "zscore"])
def test_gain_does_not_show_but_is_kept(kind: str) -> None:
    x = signals.noise(4000, 0.01)[:, None].astype(np.float32)
    quiet, loud = normalised(window(x), kind), normalised(window(32 * x), kind)
    assert np.array_equal(quiet.values, loud.values)  # a power of two is exact
    assert loud.side["rms"] == pytest.approx(32 * quiet.side["rms"], rel=1e-12)


def test_silence_is_not_lifted() -> None:
    for level, silent in ((0.9e-5, 1.0), (1.1e-5, 0.0), (0.0, 1.0)):
        x = signals.noise(4000, level)[:, None].astype(np.float32) + np.float32(0.0)
        after = normalised(window(x), "zscore")
        assert after.side["silent"] == silent
        assert np.abs(after.values).max() == pytest.approx(0 if level == 0 else np.abs(after.values).max())
        assert (np.abs(after.values).max() < 1e-4) == bool(silent)
    constant = normalised(window(np.full((100, 1), 0.5, np.float32)), "zscore")
    assert constant.side["silent"] == 1.0
    assert not constant.values.any()


def test_full_scale_moves_the_guard() -> None:
    source = Stream("m", "s", 0, "vibration", Rate(RATE), 1, "<i2", "m/s2", 0.01)  # full scale 327.68 m/s2
    x = signals.noise(4000, 2e-3)[:, None].astype(np.float32)
    assert normalised(window(x, source), "zscore").side["silent"] == 1.0
    assert normalised(window(2 * x, source), "zscore").side["silent"] == 0.0


def test_incomplete_windows_and_input_are_left_alone() -> None:
    source, x = stream(RATE), signals.noise(100)[:, None].astype(np.float32)
    (lost,) = run(Rewindow(source, 100, 100), [*segments(source, x[:50]), gap(source, 50, 60)])
    assert list(Normalise(source).process(lost)) == [lost]
    before = window(x)
    kept = before.values.copy()
    normalised(before, "zscore")
    assert np.array_equal(before.values, kept)
    assert Normalise(source).needs_from() == {}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="'rms' or 'zscore'"):
        Normalise(stream(RATE), "max")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes Window"):
        run(Normalise(stream(RATE)), segments(stream(RATE), np.zeros((10, 1), np.float32)))
