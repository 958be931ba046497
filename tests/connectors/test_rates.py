"""Rates as decimals: the fraction that was rounded, and nothing that was meant as it stands."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.files import open_recording
from connectors.rates import agreed_rate, exact_rate
from pipeline.errors import BadInput
from pipeline.messages import Rate

FILE = Path("a.npz")


@pytest.mark.parametrize(
    ("hz", "num", "den"),
    [
        (17066.667, 51_200, 3), (17066.67, 51_200, 3), (51_200 / 3, 51_200, 3), (7314.2857, 51_200, 7),
        (8533.33, 25_600, 3), (333.333333, 1000, 3), (4266.6667, 12_800, 3),
        (16000.1, 160_001, 10), (17066.7, 170_667, 10), (44100.123, 44_100_123, 1000), (333.33, 33_333, 100),
        (48000.5, 96_001, 2), (12207.03125, 390_625, 32), (24414.0625, 390_625, 16), (29.97, 2997, 100),
        (192_000 / 1.001, 192_000_000, 1001), (0.3, 3, 10), (1e6, 1_000_000, 1),
    ],
)  # fmt: skip
def test_a_decimal_is_what_it_was_rounded_from(hz: float, num: int, den: int) -> None:
    """Fractions that people round, and rates that are what they say."""
    assert exact_rate(hz, "rate_hz") == Rate(num, den)


@given(st.integers(1, 1_000_000), st.integers(1, 12))
def test_whole_rates_and_simple_ones_come_back(num: int, den: int) -> None:
    """By themselves, and from six places after the point where those are closer than a millionth."""
    simple = Fraction(num, den)
    rate = Rate(*simple.as_integer_ratio())
    assert exact_rate(num / den, "") == rate
    if simple >= 1:
        assert exact_rate(round(num / den, 6), "") == rate


def test_the_declared_rate_holds_where_the_files_is_the_same() -> None:
    """Within a millionth: the stream that comes is the one that the configuration announces."""
    declared = exact_rate(17066.67, "")
    assert agreed_rate(FILE, Rate(17_066_667, 1000), declared) == declared == Rate(51_200, 3)
    assert agreed_rate(FILE, Rate(51_200, 3), Rate(1_706_667, 100)) == Rate(1_706_667, 100)
    assert agreed_rate(FILE, None, declared) == agreed_rate(FILE, declared, None) == declared
    with pytest.raises(BadInput, match=r"17066\.66667 Hz, but 17066\.7 Hz"):
        agreed_rate(FILE, Rate(51_200, 3), Rate(170_667, 10))


def test_an_array_that_says_its_rate_in_other_digits(tmp_path: Path) -> None:
    """fs = 51,200/3 in full, rate_hz in two places."""
    np.savez(tmp_path / "a.npz", x=np.zeros(9, np.float32), fs=51_200 / 3)
    assert open_recording(tmp_path / "a.npz", exact_rate(17066.67, "")).rate == Rate(51_200, 3)
