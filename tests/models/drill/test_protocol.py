"""Divisions, figures of merit and the claim rule: textbook values, scikit-learn, the published counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from models.drill.claims import gain, published, published_gain_p
from models.drill.metrics import (
    accuracy,
    auc,
    bootstrap,
    mcnemar,
    recall_at_false_alarms,
    resamples,
    wilson,
)  # fmt: skip
from models.drill.protocol import group_folds, leaks, paper_split
from pipeline.errors import BadInput

TARGET = np.repeat([0.0, 1.0], 67)
EVENTS = [f"{'na'[int(t)]}{i % 67 // 4}" for i, t in enumerate(TARGET)]


def test_paper_split_has_the_published_sizes() -> None:
    split = paper_split(TARGET, 0)
    assert (len(split.vae), split.synthetic) == (68, 48)
    assert (len(split.train), len(split.validation)) == (162, 68)
    assert (len(split.train_recorded), len(split.validation_recorded)) == (94, 40)
    assert sorted([*split.train, *split.validation]) == list(range(230))
    whole = np.concatenate([TARGET, np.repeat([0.0, 1.0], 48)])
    assert whole[split.validation].sum() == 34 and TARGET[split.validation_recorded].sum() == 20


def test_leaks_are_counted() -> None:
    """About 28 of 68 validation items are synthetic, and nearly all others share their event with the training set."""
    found = [leaks(paper_split(TARGET, s), EVENTS) for s in range(40)]
    assert np.mean([k.synthetic for k in found]) == pytest.approx(68 * 96 / 230, abs=1.5)
    assert np.mean([k.seen_by_vae for k in found]) == pytest.approx(68 * 68 / 230, abs=1.5)
    assert np.mean([k.split_events for k in found]) > 25
    apart = leaks(paper_split(TARGET, 0), [str(i) for i in range(134)])
    assert apart.split_events == 0


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_events_whole_and_classes_even(seed: int) -> None:
    fold = group_folds(EVENTS, TARGET, 5, seed)
    for event in set(EVENTS):
        assert len({int(f) for f, e in zip(fold, EVENTS, strict=True) if e == event}) == 1
    for f in range(5):
        assert 11 <= TARGET[fold == f].sum() <= 16 and 11 <= (1 - TARGET[fold == f]).sum() <= 16
    assert (group_folds(EVENTS, TARGET, 5, seed) == fold).all()
    with pytest.raises(BadInput, match="folds"):
        group_folds(["a", "b", "c"], np.array([0.0, 1.0, 1.0]), 2, 0)
    with pytest.raises(BadInput, match="4 groups"):
        group_folds(list("abcd"), np.array([0.0, 0.0, 1.0, 1.0]), 5, 0)


@pytest.mark.parametrize("broken", [10, 5, 3])
def test_days_of_both_classes_are_divided_so_that_both_are_learned(broken: int) -> None:
    """Ten days with normal strokes, some of them with broken ones too, as a plant has them."""
    days = [f"day{d}" for d in range(10) for _ in range(6)]
    target = np.array([float(d < broken and i < 2) for d in range(10) for i in range(6)])
    for seed in range(20):
        fold = group_folds(days, target, 5, seed)
        assert set(fold.tolist()) == set(range(5))
        for f in range(5):
            rest = [day for day, at in zip(days, fold, strict=True) if at != f]
            assert set(rest) == set(days) - {day for day, at in zip(days, fold, strict=True) if at == f}
            assert set(target[fold != f]) == {0.0, 1.0}
            assert broken < 5 or target[fold == f].sum() == 2 * broken / 5


def test_groups_of_one_class_keep_their_folds() -> None:
    """Dealt out by hand: of each class in the drawn order, the largest first, into the emptiest fold."""
    rng = np.random.default_rng([4, 3])
    names, sizes = [[f"{c}{i}" for i in range(4)] for c in "na"], [[3, 1, 2, 1], [1, 1, 1, 2]]
    expected: dict[str, int] = {}
    for own, size in zip(names, sizes, strict=True):
        full = [0, 0, 0]
        order = [int(i) for i in rng.permutation(4)]
        for i in sorted(order, key=lambda i: -size[i]):
            expected[own[i]] = full.index(min(full))
            full[full.index(min(full))] += size[i]
    groups = [
        g for own, size in zip(names, sizes, strict=True) for g, n in zip(own, size, strict=True) for _ in range(n)
    ]
    fold = group_folds(groups, np.array([float(g[0] == "a") for g in groups]), 3, 4)
    assert dict(zip(groups, fold.tolist(), strict=True)) == expected


def test_figures_of_merit() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(200) < 0.4).astype(float)
    score = np.round(norm.cdf(rng.standard_normal(200) + y), 1)
    assert auc(score, y) == pytest.approx(roc_auc_score(y, score))
    assert accuracy(np.array([0.9, 0.4, 0.2]), np.array([1.0, 1.0, 0.0])) == pytest.approx(2 / 3)
    normal, broken = np.arange(200.0), np.array([198.5, 196.5, 250.0])
    both, target = np.r_[normal, broken], np.r_[np.zeros(200), np.ones(3)]
    assert recall_at_false_alarms(both, target) == pytest.approx(2 / 3)  # two of 200 may exceed: 198.5 and 250 count
    assert mcnemar(np.array([0.9] * 10), np.array([0.1] * 10), np.ones(10)) == pytest.approx(2 * 0.5**10)
    assert mcnemar(y, y, y) == 1.0


@pytest.mark.parametrize(
    ("network", "what", "low", "high"),
    [("AlexNet", "augmented", 85.8, 97.7), ("GoogLeNet", "augmented", 80.2, 94.9), ("VGG16", "augmented", 78.5, 93.9),
     ("EfficientNet-b0", "augmented", 76.7, 92.9), ("VGG19", "augmented", 75.0, 91.8),
     ("AlexNet", "augmented, anomalies only", 85.1, 99.5), ("AlexNet", "augmented, normal only", 77.0, 97.0),
     ("AlexNet", "originals only", 73.9, 94.5)],
)  # fmt: skip
def test_published_accuracies_have_these_intervals(network: str, what: str, low: float, high: float) -> None:
    row = next(p for p in published() if (p.network, p.what) == (network, what))
    assert 100 * row.interval.low == pytest.approx(low, abs=0.05)
    assert 100 * row.interval.high == pytest.approx(high, abs=0.05)


def test_published_gain_is_not_significant() -> None:
    assert published_gain_p() == pytest.approx(0.29, abs=0.005)
    assert wilson(64, 68).value == pytest.approx(0.9412, abs=5e-5)
    assert {p.network for p in published() if not p.repeated} == {"GoogLeNet", "VGG16", "VGG19", "EfficientNet-b0"}


def test_bootstrap_draws_whole_groups() -> None:
    rows = resamples(EVENTS, TARGET, 50)
    for r in rows:
        counts = np.bincount(r, minlength=134)
        for event in set(EVENTS):
            assert len({counts[i] for i, e in enumerate(EVENTS) if e == event}) == 1
    found = bootstrap(auc, np.stack([TARGET, TARGET]), TARGET, rows)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_claim_needs_an_interval_without_zero() -> None:
    rng = np.random.default_rng(1)
    rows = resamples(EVENTS, TARGET, 300)
    none = np.stack([TARGET + 2.0 * rng.standard_normal(134) for _ in range(3)])
    better = np.stack([3.0 * TARGET + rng.standard_normal(134) for _ in range(3)])
    other = none + 0.05 * rng.standard_normal(none.shape)
    assert gain(better, none, TARGET, rows).verdict == "helps"
    assert gain(none, better, TARGET, rows).verdict == "harms"
    assert gain(other, none, TARGET, rows).verdict == "not shown"


def test_intervals_cover_an_auc_that_is_known() -> None:
    """Events that share their deviation: about 95 of 100 intervals hold the truth, where clips alone would not."""
    truth, held = norm.cdf(1.0), 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        own = {e: rng.standard_normal() for e in sorted(set(EVENTS))}
        score = np.array([[own[e] + np.sqrt(2.0) * t for e, t in zip(EVENTS, TARGET, strict=True)]])
        found = bootstrap(auc, score, TARGET, resamples(EVENTS, TARGET, 100, seed))
        held += found.low <= truth <= found.high
    assert held >= 33
