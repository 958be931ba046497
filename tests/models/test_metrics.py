"""Areas against scikit-learn, intervals of shares against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from models.metrics import auc, wilson


@pytest.mark.parametrize("ties", [1, 3, 100])
@pytest.mark.parametrize("seed", range(6))
def test_areas_agree_with_scikit_learn(seed: int, ties: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.4
    score = np.round(rng.normal(truth * 0.8) * ties) / ties
    assert auc(truth, score) == pytest.approx(roc_auc_score(truth, score))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 7), (9, 9), (40, 200)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    peer = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((peer.low, peer.high))


def test_limits_of_none_and_all_are_not_rounded_past_them() -> None:
    """Wilson's interval reaches 0 for none and 1 for all, and holds its share; of nothing nothing is known."""
    for n in range(1, 400):
        none, every = wilson(0.0, n), wilson(1.0, n)
        assert none[0] == 0.0 < none[1] and every[0] < 1.0 == every[1]
        assert every[0] == pytest.approx(n / (n + norm.ppf(0.975) ** 2)) == pytest.approx(1.0 - none[1])
    assert wilson(0.0, 0) == (0.0, 1.0)
