import numpy as np
import pytest
from scipy.stats import poisson

from models.anomaly.thresholds import (
    LOWEST,
    block_maxima,
    new_start_limit,
    poisson_interval,
    poisson_upper,
    threshold,
)
from pipeline.messages import NS


def test_with_many_scores_it_is_the_quantile() -> None:
    scores = np.random.default_rng(0).normal(size=5000)
    assert threshold(scores) == pytest.approx(np.quantile(scores, 0.999))


def test_with_few_scores_it_lies_above_the_maximum_by_a_tenth_of_the_iqr() -> None:
    scores = np.linspace(0.0, 4.0, 41)
    assert threshold(scores) == pytest.approx(4.0 + 0.1 * 2.0)
    assert threshold(np.array([-3.0, -2.0])) == LOWEST
    with pytest.raises(ValueError, match="needs scores"):
        threshold(np.empty(0))


def test_block_maxima_follow_the_clock() -> None:
    t = np.arange(1, 60) * NS // 2
    scores = np.sin(np.arange(59))
    expected = [scores[(t // (10 * NS)) == b].max() for b in range(3)]
    assert block_maxima(scores, t).tolist() == expected
    assert block_maxima(np.empty(0), np.empty(0, np.int64)).size == 0


def test_no_event_in_three_days_means_at_most_one_a_day() -> None:
    assert poisson_upper(0, 3.0) == pytest.approx(-np.log(0.05) / 3, rel=1e-9)  # the rule of three


@pytest.mark.parametrize("count", [0, 1, 4, 20])
def test_poisson_limits_are_exact(count: int) -> None:
    upper = poisson_upper(count, 1.0)
    assert poisson.cdf(count, upper) == pytest.approx(0.05, rel=1e-6)
    low, high = poisson_interval(count, 2.0)
    assert poisson.cdf(count, high * 2.0) == pytest.approx(0.025, rel=1e-6)
    assert low == 0.0 if count == 0 else poisson.sf(count - 1, low * 2.0) == pytest.approx(0.025, rel=1e-6)


def test_one_more_start_stays_below_its_limit_as_often_as_promised() -> None:
    rng = np.random.default_rng(7)
    for n in (3, 5, 12):
        draws = rng.normal(2.0, 0.7, size=(4000, n + 1))
        above = [d[-1] > new_start_limit(d[:-1].tolist()) for d in draws]
        assert np.mean(above) == pytest.approx(0.05, abs=0.012)
    assert new_start_limit([1.0, 9.0]) == -np.inf
