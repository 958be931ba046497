"""Pooling against its definition, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.impact.pooling import POOLINGS, pool, time_mean, width
from pipeline.errors import BadInput

RNG = np.random.default_rng(0)
TOKENS = RNG.standard_normal((5, 13, 7)).astype(np.float32)
IMAGES = RNG.random((5, 1, 16, 32)).astype(np.float32)
GRID = (3, 4)


def test_cls_is_the_first_token() -> None:
    np.testing.assert_array_equal(pool(TOKENS, "cls", GRID), TOKENS[:, 0])


def test_mean_leaves_the_class_token_out() -> None:
    np.testing.assert_allclose(pool(TOKENS, "mean", GRID), TOKENS[:, 1:].mean(1), rtol=1e-5, atol=1e-6)


def test_band_keeps_rows_apart() -> None:
    y = pool(TOKENS, "band", GRID)
    for r in range(3):
        wanted = np.mean([TOKENS[:, 1 + r * 4 + c] for c in range(4)], axis=0)
        np.testing.assert_allclose(y[:, r * 7 : (r + 1) * 7], wanted, rtol=1e-5, atol=1e-6)


def test_band_and_logmel_stand_side_by_side() -> None:
    y = pool(TOKENS, "band+logmel", GRID, logmel=IMAGES)
    np.testing.assert_array_equal(y[:, :21], pool(TOKENS, "band", GRID))
    np.testing.assert_allclose(y[:, 21:], IMAGES[:, 0].mean(axis=2), rtol=1e-5)
    np.testing.assert_array_equal(y, pool(TOKENS, "band+logmel", GRID, logmel=IMAGES[:, 0]))


@pytest.mark.parametrize("how", POOLINGS)
def test_width_is_the_number_of_columns(how: str) -> None:
    assert pool(TOKENS, how, GRID, logmel=IMAGES).shape == (5, width(how, GRID, 7, bands=16))


@given(st.sampled_from(POOLINGS), st.integers(0, 4), st.integers(1, 5))
def test_a_clips_bits_do_not_depend_on_those_beside_it(how: str, first: int, count: int) -> None:
    part = slice(first, first + count)
    whole = pool(TOKENS, how, GRID, logmel=IMAGES)
    np.testing.assert_array_equal(pool(TOKENS[part], how, GRID, logmel=IMAGES[part]), whole[part])


def test_without_a_class_token() -> None:
    np.testing.assert_array_equal(pool(TOKENS[:, 1:], "band", GRID, cls=False), pool(TOKENS, "band", GRID))
    with pytest.raises(BadInput, match="no class token"):
        pool(TOKENS[:, 1:], "cls", GRID, cls=False)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(BadInput, match="no pooling 'max'"):
        pool(TOKENS, "max", GRID)
    with pytest.raises(BadInput, match="needs the log-Mel"):
        pool(TOKENS, "band+logmel", GRID)
    with pytest.raises(BadInput, match="grid"):
        pool(TOKENS, "mean", (4, 4))


def test_time_mean_takes_images_with_and_without_channel() -> None:
    np.testing.assert_array_equal(time_mean(IMAGES), time_mean(IMAGES[:, 0]))
