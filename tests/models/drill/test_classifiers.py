"""Classifiers and augmentation: scikit-learn, determinism, what must be refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.drill.alexnet import AlexNet, enlarge, images, jittered, load_weights
from models.drill.augment import classical
from models.drill.classifiers import Alex, Bands, SmallNetwork
from models.drill.data import Sound, centred, labels
from models.drill.synthesis import Batch
from models.logistic import fit_logistic
from pipeline.errors import BadInput


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_logistic_regression_is_that_of_scikit_learn(c: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 5)) * [1, 10, 0.1, 1, 1] + 3.0
    y = (x[:, 0] + 0.1 * x[:, 1] + rng.standard_normal(80) > 3.4).astype(float)
    z = StandardScaler().fit_transform(x)
    expected = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(z, y).predict_proba(z)[:, 1]
    np.testing.assert_allclose(fit_logistic(x, y, c).probability(x), expected, atol=1e-5)


def test_soft_targets_are_weights() -> None:
    rng = np.random.default_rng(1)
    x, share = rng.standard_normal((30, 2)), rng.random(30)
    x[:, 0] += 2 * share
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    both, y = np.concatenate([z, z]), np.repeat([0, 1], 30)
    weights = np.concatenate([1 - share, share])
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(both, y, weights).predict_proba(z)[:, 1]
    np.testing.assert_allclose(fit_logistic(x, share, 1.0).probability(x), expected, atol=1e-5)


def test_features_and_scores_of_the_quick_classifiers(sounds: list[Sound]) -> None:
    x, y = list(centred(sounds)), labels(sounds)
    for classifier, shape in ((Bands(), (21,)), (SmallNetwork(choices=(5.0, 30.0)), (32, 28))):
        features = classifier.features(x)
        assert features.shape == (24, *shape)
        first, again = (classifier.scores(features, y, features, classifier.choices, 3) for _ in range(2))
        assert len(first) == len(classifier.choices)
        for a, b in zip(first, again, strict=True):
            assert ((a >= 0) & (a <= 1)).all() and (a == b).all()
        assert np.mean((first[-1] > 0.5) == (y > 0.5)) > 0.8  # on what it was trained on


def test_long_sounds_become_two_frames() -> None:
    rng = np.random.default_rng(0)
    features = Alex().features([rng.standard_normal(2000), rng.standard_normal(4000)])
    assert features.shape == (2, 32, 2)
    assert (features[0, :, 0] == features[0, :, 1]).all() and not (features[1, :, 0] == features[1, :, 1]).all()


def test_networks_are_told_apart_by_their_weights(tmp_path: Path) -> None:
    """By what the file holds: weights of several networks may share its name."""
    named: list[str] = []
    for content in (b"abc", b"other"):
        file = tmp_path / str(len(named)) / "alexnet.safetensors"
        file.parent.mkdir()
        file.write_bytes(content)
        named.append(Alex(weights=file).name)
    assert "from scratch" in Alex().name and named[0] != named[1]
    assert named[0].startswith("AlexNet (pretrained alexnet.safetensors ba7816bf,")  # FIPS 180-2: SHA-256 of "abc"


def test_alexnet_takes_images_of_227() -> None:
    big = enlarge(images(np.random.default_rng(0).uniform(-100, -20, (2, 32, 1))))
    assert big.shape == (2, 3, 227, 227) and big.min() >= -2.0 and big.max() <= 2.0
    with torch.device("meta"):
        network = AlexNet()
        assert network(torch.empty(2, 3, 227, 227)).shape == (2, 2)
    assert sum(p.numel() for p in network.parameters()) == 57_012_034  # 61,100,840 with 1,000 classes
    moved = jittered(big, torch.Generator().manual_seed(0))
    assert moved.shape == big.shape and not torch.equal(moved, big)


def test_weights_must_be_safetensors_of_alexnet(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = AlexNet()
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(BadInput, match="safetensors"):
        load_weights(network, tmp_path / "pickle.pt")
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="no AlexNet"):
        load_weights(network, tmp_path / "other.safetensors")


def test_classical_augmentation_stays_within_its_ranges() -> None:
    x = np.stack([np.sin(2 * np.pi * f * np.arange(1999) / 96_000) for f in (3000.0, 9000.0)])
    real = Batch(x, np.array([0.0, 1.0]), (frozenset({"a"}), frozenset({"b"})))
    made = classical(real, 200, 1)
    assert made.x.shape == (200, 1999)
    assert ((made.target >= 0) & (made.target <= 1)).all()
    share = (made.target > 0.5).mean()
    assert 0.4 < share < 0.6
    pure = made.x[(made.target == 0.0)]
    level = 10 * np.log10(np.mean(pure**2, axis=1) / 0.5)
    assert -12.0 < level.min() < -4.0 and 4.0 < level.max() < 6.6  # noise adds up to 0.4 dB, mixing of two takes away
    assert (classical(real, 200, 1).x == made.x).all() and not (classical(real, 200, 2).x == made.x).all()
    mixed = (made.target > 0.0) & (made.target < 1.0)
    assert all(p == frozenset({"a", "b"}) for p, m in zip(made.parents, mixed, strict=True) if m)
