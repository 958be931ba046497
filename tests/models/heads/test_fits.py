"""Heads against scikit-learn, PyTorch and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.heads.head import softmax
from models.heads.logistic import fit_logistic
from models.heads.prototypes import fit_prototypes
from models.heads.two_layer import AdamW, Net, clipped, fit_two_layer


def blobs(n: int, k: int, classes: int, seed: int = 0, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Normal clouds around random centres, features of very different scale."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(classes, k))[y] * apart + rng.normal(size=(n, k))
    return (x * np.logspace(-2, 2, k) + 5).astype(np.float32), y.astype(np.intp)


@pytest.mark.parametrize(("n", "k", "classes"), [(120, 8, 3), (40, 100, 4), (60, 5, 2)])
def test_logistic_is_that_of_scikit_learn(n: int, k: int, classes: int) -> None:
    """Same objective, same minimum, with more or fewer clips than features."""
    x, y = blobs(n, k, classes)
    labels = tuple("abcdefg"[:classes])
    ours = fit_logistic(x, y, labels)
    scaler = StandardScaler().fit(x.astype(np.float64))
    theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(scaler.transform(x.astype(np.float64)), y)
    fresh = blobs(50, k, classes, seed=1)[0]
    expected = theirs.predict_proba(scaler.transform(fresh.astype(np.float64)))
    if classes > 2:
        assert np.abs(softmax(ours.logits(fresh)) - expected).max() < 2e-3
    else:  # two logits with a penalty each are one logit with half the penalty
        half = LogisticRegression(C=2.0, tol=1e-8, max_iter=5000).fit(scaler.transform(x.astype(np.float64)), y)
        expected = half.predict_proba(scaler.transform(fresh.astype(np.float64)))
        assert np.abs(softmax(ours.logits(fresh)) - expected).max() < 2e-3


def test_adamw_and_gradients_are_those_of_torch() -> None:
    """Twenty steps with decay and clipped gradients end at the same parameters."""
    torch.set_num_threads(1)
    x, y = blobs(32, 10, 3)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    net = Net.start(10, 16, 3, np.random.default_rng(0))
    theirs: Any = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    w1, b1, w2, b2 = net.parameters
    with torch.no_grad():
        for own, other in (
            (theirs[0].weight, w1.T),
            (theirs[0].bias, b1),
            (theirs[2].weight, w2.T),
            (theirs[2].bias, b2),
        ):
            own.copy_(torch.tensor(np.ascontiguousarray(other)))
    optimiser, ours = torch.optim.AdamW(theirs.parameters(), lr=5e-3, weight_decay=0.05), AdamW(net.parameters, 0.05)
    for _ in range(20):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimiser.step()
        ours.step(clipped(net.gradients(x, y), 0.5), 5e-3)
    assert np.abs(theirs[0].weight.detach().numpy().T - net.parameters[0]).max() < 1e-4
    assert np.abs(theirs[2].bias.detach().numpy() - net.parameters[3]).max() < 1e-4


def test_two_layers_learn_what_no_line_separates() -> None:
    """Exclusive or: a linear head is at chance, two layers are not; equal seeds give equal heads."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (600, 2)).astype(np.float32)
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(np.intp)
    groups = [str(i // 10) for i in range(600)]
    head = fit_two_layer(x, y, ("no", "yes"), groups, seed=3)
    again = fit_two_layer(x, y, ("no", "yes"), groups, seed=3)
    assert (head.logits(x).argmax(axis=1) == y).mean() > 0.9
    assert (fit_logistic(x, y, ("no", "yes")).logits(x).argmax(axis=1) == y).mean() < 0.65
    assert np.array_equal(head.logits(x), again.logits(x))


def test_prototypes_are_the_nearest_shrunken_means() -> None:
    """Written out with distances; shrinkage 0.3 moves each mean by that share to the mean of the classes."""
    x, y = blobs(12, 6, 3)
    head = fit_prototypes(x, y, ("a", "b", "c"))
    z = StandardScaler().fit(x.astype(np.float64)).transform(x.astype(np.float64))
    means = np.stack([z[y == c].mean(axis=0) for c in range(3)])
    means = 0.7 * means + 0.3 * means.mean(axis=0)
    distances = ((z[:, None] - means[None]) ** 2).sum(axis=2)
    ours = head.logits(x)
    ratio = (ours[:, :1] - ours) / (distances - distances[:, :1] + 1e-300)
    off = np.abs(distances - distances[:, :1]) > 1e-9
    assert np.allclose(ratio[off], ratio[off][0], rtol=1e-6)
    assert (ours.argmax(axis=1) == distances.argmin(axis=1)).all()


def test_one_clip_per_class_is_enough_for_prototypes() -> None:
    """Two clips, two classes: each is its own, with the stated confidence of 0.9 at a prototype."""
    x = np.array([[0.0, 1.0], [4.0, 3.0]], np.float32)
    head = fit_prototypes(x, np.array([0, 1]), ("a", "b"), shrinkage=0.0)
    assert np.allclose(softmax(head.logits(x)).diagonal(), 0.9)


def test_a_constant_feature_harms_nothing() -> None:
    """A band without energy has no spread to divide by."""
    x, y = blobs(30, 4, 2)
    x[:, 1] = 7.0
    for head in (fit_logistic(x, y, ("a", "b")), fit_prototypes(x, y, ("a", "b"))):
        assert np.isfinite(head.logits(x)).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.2, 5.0), st.integers(0, 100))
def test_temperature_changes_confidence_and_no_decision(temperature: float, seed: int) -> None:
    """Decisions stay; logits are divided."""
    x, y = blobs(20, 3, 3, seed)
    head = fit_prototypes(x, y, ("a", "b", "c"))
    other = head.at_temperature(temperature)
    assert np.allclose(other.logits(x) * temperature, head.logits(x), atol=1e-9)
    assert np.allclose(softmax(head.logits(x)).sum(axis=1), 1.0)
