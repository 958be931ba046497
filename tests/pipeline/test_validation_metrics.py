import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from pipeline.validation.metrics import (
    balanced_accuracy,
    binary_metrics,
    bootstrap,
    delay_metrics,
    macro_f1,
    partial_auc,
    proportion,
    ranking_metrics,
)


@pytest.mark.parametrize("ties", [1, 3, 100])
@pytest.mark.parametrize("seed", range(6))
def test_partial_areas_agree_with_scikit_learn(seed: int, ties: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.4
    score = np.round(rng.normal(truth * 0.8) * ties) / ties
    for limit in (0.1, 0.37, 1.0):
        assert partial_auc(truth, score, limit) == pytest.approx(
            roc_auc_score(truth, score, max_fpr=limit if limit < 1 else None)
        )


def test_class_figures_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, decided = rng.choice(["a", "b", "c"], 80), rng.choice(["a", "b", "c"], 80)
    assert balanced_accuracy(truth, decided) == pytest.approx(balanced_accuracy_score(truth, decided))
    assert macro_f1(truth, decided) == pytest.approx(f1_score(truth, decided, average="macro"))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 7), (9, 9), (40, 200)])
def test_a_share_of_independent_recordings_has_wilsons_interval(hits: int, n: int) -> None:
    peer = binomtest(hits, n).proportion_ci(method="wilson")
    alone = proportion(np.arange(n) < hits, [str(i) for i in range(n)])
    assert (alone.value, alone.n) == (hits / n, n)
    assert (alone.low, alone.high) == pytest.approx((peer.low, peer.high))


def test_recall_is_as_sure_as_its_groups() -> None:
    heard = np.repeat([True, True, False, False], 50)  # four faulty starts, two always heard, two never
    truth, decided = np.arange(400) < 200, np.r_[heard, np.zeros(200, bool)]
    found = binary_metrics(truth, decided.astype(float), decided, [str(i // 50) for i in range(400)])
    assert found["recall"].value == 0.5 and found["recall"].low < 0.07 and found["recall"].high > 0.93
    peer = binomtest(2, 2).proportion_ci(method="wilson")  # two starts that were told, both rightly
    assert (found["precision"].low, found["precision"].high) == pytest.approx((peer.low, peer.high))


@pytest.mark.parametrize(("starts", "each", "a", "b"), [(6, 30, 1, 1), (4, 50, 0.5, 0.5), (6, 30, 8, 1), (20, 1, 1, 1)])
def test_proportions_cover_the_truth_about_as_often_as_they_say(starts: int, each: int, a: float, b: float) -> None:
    rng, inside = np.random.default_rng(0), 0
    groups = np.repeat(np.arange(starts), each).astype(str).tolist()
    for _ in range(400):
        m = proportion(rng.random(starts * each) < np.repeat(rng.beta(a, b, starts), each), groups)
        inside += m.low <= a / (a + b) <= m.high
    assert inside >= 0.91 * 400


def test_two_groups_of_each_class_are_the_least_for_an_interval() -> None:
    truth = np.array([True, False, True, False])
    few = binary_metrics(truth, truth.astype(float), truth, ["a", "b", "a", "c"])
    assert [few[name].bounded for name in ("auc", "pauc_0.1", "balanced_accuracy", "recall")] == [False] * 3 + [True]
    assert few["auc"].document() == {"value": 1.0, "low": None, "high": None, "n": 4}
    assert binary_metrics(truth, truth.astype(float), truth, ["a", "b", "d", "c"])["auc"].bounded
    assert not delay_metrics([0.1, 0.2], ["a", "a"])["delay_s_p50"].bounded


def test_the_bootstrap_draws_groups_not_recordings() -> None:
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=20), 50)  # fifty equal recordings a group: twenty facts
    groups = [f"g{i // 50}" for i in range(1000)]
    found = bootstrap(groups, lambda i: float(x[i].mean()))
    width = found.high - found.low
    assert width == pytest.approx(2 * 1.96 * x[::50].std() / np.sqrt(20), rel=0.15)


def test_figures_that_are_not_defined_are_left_out() -> None:
    one_class = binary_metrics(np.ones(3, bool), np.arange(3.0), np.zeros(3, bool), ["a", "b", "c"])
    assert set(one_class) == {"recall"}
    assert delay_metrics([], []) == {}


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    inside, truth_auc = 0, 0.7602  # Φ(1/√2): unit-variance normals one standard deviation apart
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth = np.arange(80) % 2 == 0
        m = ranking_metrics(truth, rng.normal(truth * 1.0), [str(i) for i in range(80)], 200)["auc"]
        inside += m.low <= truth_auc <= m.high
    assert inside >= 26
