"""What the reasons name, against changes that were made in the frequency domain, band by band."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.anomaly.baseline import Baseline
from models.anomaly.chain import windows
from models.anomaly.commission import Normal, commission
from models.anomaly.score import AnomalyScore
from models.anomaly.vectors import ANOMALY, LEVEL, extraction
from operators.mel import bank
from pipeline.messages import Rate, Stream
from tests.models.anomaly.rig import Part

ACC = Stream("lathe", "acc", 0, "vibration", Rate(2000), 1, "<f4", "mg")
RATE, SECONDS = 2000, 8.0


def noise(seed: int, change_db: Callable[[np.ndarray], np.ndarray] = lambda f: 0.0 * f) -> np.ndarray:
    """White noise whose spectrum is changed by so many decibels; each seed is a start with a level of its own."""
    rng = np.random.default_rng(seed)
    n = round(SECONDS * RATE)
    spectrum = np.fft.rfft(rng.normal(size=n) * 10 ** (rng.normal(0, 0.5) / 20))
    spectrum *= 10 ** (change_db(np.fft.rfftfreq(n, 1 / RATE)) / 20)
    return np.fft.irfft(spectrum, n).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return commission([Normal(f"r{i}", f"s{i}", "", [Part(ACC, noise(i))]) for i in range(5)])[0]


def told(baseline: Baseline, x: np.ndarray, detector: str = ANOMALY) -> list[Any]:
    scorer = AnomalyScore(baseline)
    found = [s for w in windows(ACC, extraction(ACC), Part(ACC, x).segments()) for s in scorer.process(w)]
    mine = [s for s in found if s.detector == detector]
    assert len(mine) > 5 and all(s.abnormal for s in mine)
    return [s.reasons for s in mine]


@pytest.mark.parametrize(
    ("low", "high", "db"), [(500, 1000, 20), (200, 1000, 20), (0, 150, 20), (0, 500, 15), (300, 500, -15)]
)
def test_the_bands_that_changed_are_named_with_their_change(baseline: Baseline, low: int, high: int, db: int) -> None:
    """Also where most bands have changed: those that have not are no news."""
    for why in told(baseline, noise(50, lambda f: np.where((f >= low) & (f < high), db, 0.0))):
        assert why["bands"]
        for band in why["bands"]:
            assert low - 40 < band["low_hz"] and band["high_hz"] < high + 40, (band, why["text"])
            assert band["db"] == pytest.approx(db, abs=4.0)
            assert np.sign(band["sigma"]) == np.sign(db)


def test_what_became_louder_as_a_whole_is_not_named_band_by_band(baseline: Baseline) -> None:
    for why in told(baseline, noise(50, lambda f: 12.0 + np.where((f >= 300) & (f < 400), 15.0, 0.0))):
        for band in why["bands"]:
            assert band["low_hz"] > 260 and band["high_hz"] < 440
            assert band["db"] == pytest.approx(15.0, abs=4.0)


def test_a_strong_line_has_its_own_level_and_stands_first(baseline: Baseline) -> None:
    """Its level by the definition of a band: power of the line over that of the noise, both through the bank."""
    front_end = extraction(ACC).front_end
    t = np.arange(round(SECONDS * RATE)) / RATE
    line = 20.0 * np.sin(2 * np.pi * 420 * t)
    window = np.hanning(front_end.n_fft + 1)[:-1]
    weights = bank(front_end)
    power = weights @ np.abs(np.fft.rfft(line[: front_end.n_fft] * window)) ** 2
    expected = 10 * np.log10(1 + power.max() / (weights.sum(axis=1)[power.argmax()] * np.square(window).sum()))
    for why in told(baseline, noise(50) + line.astype(np.float32)[:, None]):
        first = why["bands"][0]
        assert first["low_hz"] < 420 < first["high_hz"]
        assert first["db"] == pytest.approx(expected, abs=4.0)
        assert first["sigma"] > 10.0  # not what a score is clipped to
        assert all(abs(band["db"]) >= 1.0 for band in why["bands"])


def test_levels_are_told_as_they_are(baseline: Baseline) -> None:
    for why in told(baseline, noise(50) * np.float32(100.0), LEVEL):
        assert all(band["db"] == pytest.approx(40.0, abs=3.0) for band in why["bands"])
        assert why["bands"][0]["sigma"] == pytest.approx(80.0, abs=8.0)  # in spreads of 0.5 dB, the floor
