import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.simulator.noise import White, impulse_response, shaped
from connectors.simulator.tracks import BLOCK, Convolved, Cycles, Given, Mix


def chirps(cycle: int) -> np.ndarray:
    return np.sin(np.arange(30_000) * 0.01 * (cycle + 1))


def tracks() -> Mix:
    noise = shaped(48_000, 3, "noise", lambda f: 1.0 / (1.0 + f / 500.0))
    return Mix(
        [(noise, 0.5, 0), (White(48_000, 3, "white"), 0.1, 777), (Cycles(48_000, 25_000, 5_000, chirps), 1.0, 0)]
    )


WHOLE = tracks().read(0, 4 * BLOCK)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4 * BLOCK), st.integers(0, 4 * BLOCK))
def test_reading_anywhere_gives_the_same_bits(a: int, b: int) -> None:
    n0, n1 = sorted((a, b))
    np.testing.assert_array_equal(tracks().read(n0, n1), WHOLE[n0:n1])


def test_convolution_is_the_textbook_sum() -> None:
    rng = np.random.default_rng(0)
    x, h = rng.normal(size=3 * BLOCK), rng.normal(size=20_000)
    out = Convolved(Given(x, 48_000), h).read(0, 3 * BLOCK)
    for n in (0, 1, 19_999, BLOCK - 1, BLOCK, 2 * BLOCK + 5, 3 * BLOCK - 1):
        m = min(n + 1, len(h))
        assert out[n] == pytest.approx(
            float(np.dot(h[:m], x[n - m + 1 : n + 1][::-1])), abs=2e-3
        )  # values of about 140


def test_convolution_refuses_a_long_response() -> None:
    with pytest.raises(ValueError, match="taps"):
        Convolved(Given(np.zeros(10), 48_000), np.zeros(BLOCK + 1))


def test_cycles_ring_into_the_next() -> None:
    track = Cycles(10, 100, 50, lambda c: np.full(150, float(c + 1)))
    np.testing.assert_array_equal(track.read(0, 300)[[0, 99, 100, 149, 150, 200]], [1, 1, 3, 3, 2, 5])


def test_before_the_start_is_silence() -> None:
    np.testing.assert_array_equal(White(10, 0, "w").read(-5, 0), np.zeros(5))


def test_impulse_response_has_the_spectrum_asked_for() -> None:
    response = impulse_response(48_000, lambda f: 1.0 / np.sqrt(1.0 + (f / 1000.0) ** 4))
    f = np.fft.rfftfreq(8192, 1 / 48_000)
    seen = np.abs(np.fft.rfft(response, 8192))
    np.testing.assert_allclose(seen, 1.0 / np.sqrt(1.0 + (f / 1000.0) ** 4), atol=2e-3)
    assert np.argmax(np.abs(response)) < 100  # minimum phase: early


def test_shaped_noise_has_unit_power() -> None:
    assert np.std(shaped(48_000, 1, "x", lambda f: 1.0 / (1.0 + f / 2000.0)).read(0, 10 * BLOCK)) == pytest.approx(
        1.0, rel=0.02
    )
