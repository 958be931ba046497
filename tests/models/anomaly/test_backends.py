from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from models.anomaly.backends import BACK_ENDS, BackEnd, Bank, KnnL2, Ldn, Maha, PcaRes
from pipeline.errors import StateError

D = 24


def scorer(back_end: type[BackEnd], vectors: np.ndarray) -> Callable[[np.ndarray], float]:
    bank = Bank(vectors)
    fitted = back_end.fit(bank, vectors)
    return lambda x: fitted.score(x, bank.distances(x))


def vectors(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(D, D)) / 3
    return (rng.normal(size=(n, D)) @ mixing + rng.normal(size=D)).astype(np.float32)


@pytest.mark.parametrize(("n", "k"), [(50, 1), (199, 1), (200, 3), (400, 3)])
def test_nearest_neighbours_agree_with_scikit_learn(n: int, k: int) -> None:
    bank, tests = vectors(n, 1), vectors(20, 2)
    mine = [scorer(KnnL2, bank)(x) for x in tests]
    peer = NearestNeighbors(n_neighbors=k).fit(bank.astype(float)).kneighbors(tests.astype(float))[0]
    np.testing.assert_allclose(mine, peer.mean(axis=1), rtol=1e-4, atol=1e-6)


def test_mahalanobis_agrees_with_scipy() -> None:
    bank, tests = vectors(60, 1), vectors(20, 2)
    cov = np.cov(bank.astype(float), rowvar=False)
    shrunk = 0.7 * cov + 0.3 * np.trace(cov) / D * np.eye(D)
    peer = [mahalanobis(x, bank.astype(float).mean(axis=0), np.linalg.inv(shrunk)) for x in tests]
    np.testing.assert_allclose([scorer(Maha, bank)(x) for x in tests], peer, rtol=1e-4)


def test_residual_agrees_with_scikit_learn() -> None:
    bank, tests = vectors(200, 1), vectors(20, 2)
    pca = PCA(n_components=0.95).fit(bank.astype(float))
    rest = tests - pca.inverse_transform(pca.transform(tests.astype(float)))
    mine = PcaRes.fit(Bank(bank), bank)
    assert len(mine.arrays["components"]) == pca.n_components_
    np.testing.assert_allclose([mine.score(x, tests[:0]) for x in tests], np.linalg.norm(rest, axis=1), rtol=1e-3)


def test_residual_keeps_at_most_half_as_many_components_as_vectors() -> None:
    assert len(PcaRes.fit(Bank(vectors(8, 1)), vectors(8, 1)).arrays["components"]) <= 4


def test_local_density_is_the_ratio_of_distances() -> None:
    bank, tests = vectors(80, 1).astype(float), vectors(20, 2).astype(float)
    within = np.sort(cdist(bank, bank), axis=1)[:, 1:5].mean(axis=1)
    within = np.clip(within, np.median(within) / 2, np.median(within) * 2)
    peer = (cdist(tests, bank) / within).min(axis=1)
    mine = scorer(Ldn, bank.astype(np.float32))
    np.testing.assert_allclose([mine(x) for x in tests.astype(np.float32)], peer, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(BACK_ENDS))
def test_every_back_end_is_its_arrays(name: str) -> None:
    bank, x = vectors(50, 1), vectors(1, 3)[0]
    apart = Bank(bank).distances(x)
    fitted = BACK_ENDS[name].fit(Bank(bank), bank)
    assert BACK_ENDS[name](**fitted.arrays).score(x, apart) == fitted.score(x, apart)
    with pytest.raises(StateError, match=name):
        BACK_ENDS[name](other=bank)


@pytest.mark.parametrize("name", sorted(BACK_ENDS))
def test_a_bank_without_spread_still_gives_finite_scores(name: str) -> None:
    bank = np.zeros((6, D), np.float32)
    score = scorer(BACK_ENDS[name], bank)
    assert np.isfinite(score(np.ones(D, np.float32)))
    assert np.isfinite(score(np.zeros(D, np.float32)))
