"""What the student sees: exact numbers of tokens, whole blocks, the published sampler's 56 %."""

from __future__ import annotations

import numpy as np
import pytest

from models.impact.masking import blocks, draw, patch_dispersion, visible

WAYS = ("inverse_block", "eat_block", "random", "dispersion_weighted")


def has_square(keep: np.ndarray) -> np.ndarray:
    """Whether a 2 × 2 square of a 4 × 4 grid is among the visible tokens, per draw."""
    grid = np.zeros((len(keep), 16), bool)
    np.put_along_axis(grid, keep, True, axis=1)
    g = grid.reshape(-1, 4, 4)
    return np.any(g[:, :-1, :-1] & g[:, 1:, :-1] & g[:, :-1, 1:] & g[:, 1:, 1:], axis=(1, 2))


@pytest.mark.parametrize("how", WAYS)
def test_exactly_four_of_sixteen(how: str) -> None:
    """int(16 · 0.3) different tokens in every draw, in order."""
    spread = np.random.default_rng(1).random((5000, 16))
    keep = draw(how, np.random.default_rng(0), 5000, (4, 4), dispersion=spread)  # type: ignore[arg-type]
    assert keep.shape == (5000, 4)
    assert (np.diff(keep, axis=1) > 0).all()
    assert keep.min() >= 0
    assert keep.max() < 16


def test_own_sampler_always_keeps_a_whole_square() -> None:
    """Nine places, equally often."""
    keep = draw("inverse_block", np.random.default_rng(0), 9000, (4, 4))
    assert has_square(keep).all()
    places, counts = np.unique(keep, axis=0, return_counts=True)
    assert len(places) == 9
    assert (abs(counts - 1000) < 5 * np.sqrt(9000 / 9 * 8 / 9)).all()


def test_published_sampler_keeps_a_whole_square_in_56_percent() -> None:
    """(3/4)² of the centres let the whole block fit; a lone block at the border is filled up at random."""
    rng = np.random.default_rng(0)
    share = has_square(draw("eat_block", rng, 20_000, (4, 4))).mean()
    # clamped: a corner keeps 1 token, an edge 2; random fill makes a square again only rarely
    corner, edge = 1 / (15 * 14 * 13 / 6), 2 / (14 * 13 / 2)
    expected = 9 / 16 + 6 / 16 * edge + 1 / 16 * corner
    assert 0.54 < 9 / 16 < 0.58
    assert share == pytest.approx(expected, abs=0.015)


def test_larger_grids() -> None:
    """19 of 64; a block of 5 there would silently be random masking and is refused."""
    assert visible(64, 0.7) == 19
    assert blocks(64, 0.7, 5) == 0
    assert blocks(64, 0.7, 3) == 2
    assert draw("inverse_block", np.random.default_rng(0), 100, (8, 8), block=3).shape == (100, 19)
    with pytest.raises(ValueError, match="smaller block"):
        draw("inverse_block", np.random.default_rng(0), 1, (8, 8), block=5)
    with pytest.raises(ValueError, match="mask_ratio"):
        draw("random", np.random.default_rng(0), 1, (4, 4), ratio=0.99)


def test_dispersion_draws_lively_patches_more_often() -> None:
    """With weights 1:3 the first token drawn is the heavier one in three of four draws."""
    spread = np.full((40_000, 2), [1.0, 3.0])
    keep = draw("dispersion_weighted", np.random.default_rng(0), 40_000, (1, 2), ratio=0.5, dispersion=spread)
    assert keep.mean() == pytest.approx(0.75, abs=0.01)
    with pytest.raises(ValueError, match="dispersion"):
        draw("dispersion_weighted", np.random.default_rng(0), 2, (4, 4))


def test_patch_dispersion() -> None:
    """Standard deviation inside each patch, rows first."""
    images = np.zeros((1, 128, 128), np.float32)
    images[0, 32:64, 96:128] = np.indices((32, 32)).sum(0) % 2
    spread = patch_dispersion(images, (4, 4))
    assert spread[0, 4 + 3] == pytest.approx(0.5)
    assert spread.sum() == pytest.approx(0.5)


def test_draws_follow_the_seed() -> None:
    """Equal generators, equal masks."""
    a, b = (draw("random", np.random.default_rng([7, 3]), 50, (4, 4)) for _ in range(2))
    assert (a == b).all()
