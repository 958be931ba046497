import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from models.anomaly.fusion import BANK_SIZE, fit, folds, keep
from models.anomaly.scale import CLIP, fit_scale

FLOOR = np.full(16, 0.05, np.float32)


def normal(starts: int, per_start: int, seed: int = 0, between: float = 1.0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    x = [rng.normal(size=(per_start, 16)) + between * rng.normal(size=16) for _ in range(starts)]
    return np.concatenate(x).astype(np.float32), [f"s{i}" for i in range(starts) for _ in range(per_start)]


@given(st.lists(st.integers(0, 30), min_size=5, max_size=80))
def test_folds_never_split_a_start_and_cover_every_vector_once(ids: list[int]) -> None:
    starts = [f"s{i}" for i in ids]
    seen = []
    for train, test in folds(starts):
        assert len(test) > 0
        seen += test.tolist()
        if len(set(starts)) > 1:
            assert not {starts[i] for i in train} & {starts[i] for i in test}
            assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(starts)))
        else:
            assert min(abs(i - j) for i in train for j in test) >= 2
    assert sorted(seen) == list(range(len(starts)))


def test_one_back_end_alone_ranks_as_it_would_unfused() -> None:
    x, starts = normal(4, 20)
    probe = np.random.default_rng(9).normal(size=(30, 16)).astype(np.float32) * 3
    fusion, _ = fit(x, starts, ("maha",), FLOOR)
    plain = fusion.members[0].back_end
    fused = [fusion.score(p).value for p in probe]
    alone = [plain.score(fusion.scale(p), probe[:0]) for p in probe]
    assert np.argsort(fused).tolist() == np.argsort(alone).tolist()


def test_the_fused_score_is_the_smallest_z_and_names_its_back_end() -> None:
    x, starts = normal(4, 20)
    fusion, _ = fit(x, starts, ("knn_l2", "maha", "pca_res"), FLOOR)
    scored = fusion.score(x[0] + 5)
    assert scored.value == min(scored.z.values()) == scored.z[scored.decided_by]
    assert set(scored.z) == {"knn_l2", "maha", "pca_res"}


def test_left_out_scores_are_calibrated_and_expect_new_starts() -> None:
    x, starts = normal(8, 25, between=1.0)
    fusion, left_out = fit(x, starts, ("maha",), FLOOR)
    assert abs(left_out.mean()) < 1e-9
    assert abs(left_out.std() - 1) < 1e-9
    within = np.array([fusion.score(v).value for v in x])
    assert within.mean() < -0.2  # what was learned lies nearer than what was left out
    fresh, _ = normal(40, 5, seed=5, between=1.0)
    assert abs(np.mean([fusion.score(v).value for v in fresh])) < 1.0


def test_the_bank_is_thinned_evenly_and_keeps_every_start() -> None:
    starts = ["a"] * 5000 + ["b"] * 1000 + ["c"] * 10
    kept = keep(starts)
    counts = {s: sum(starts[i] == s for i in kept) for s in "abc"}
    assert len(kept) == BANK_SIZE == len(set(kept.tolist()))
    assert counts["c"] >= 3
    assert abs(counts["a"] / BANK_SIZE - 5000 / 6010) < 0.01


def test_scale_is_median_and_mad_with_a_floor_and_clips_at_ten() -> None:
    x = np.random.default_rng(0).normal(3, [[2] * 15 + [0]], size=(501, 16)).astype(np.float32)
    scale = fit_scale(x, FLOOR)
    np.testing.assert_allclose(scale.median, np.median(x, axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale.spread[:15], median_abs_deviation(x, axis=0, scale="normal")[:15], rtol=1e-4)
    assert scale.spread[15] == FLOOR[15]
    assert scale(np.full(16, 1e6, np.float32)).max() == 10
    np.testing.assert_allclose(scale.undo(scale(x)), x, atol=1e-5)


@pytest.mark.parametrize("share", [0.12, 0.3, 0.49])
def test_the_rarer_of_two_kinds_of_running_is_not_clipped(share: float) -> None:
    """Idle at 0 ± 1 dB, running at 40 ± 1 dB: what is 10 dB louder than running must look louder."""
    rng = np.random.default_rng(0)
    running = (np.arange(1000) < 1000 * share)[:, None]
    x = (rng.normal(size=(1000, 16)) + 40.0 * running).astype(np.float32)
    scale = fit_scale(x, FLOOR)
    mixed, alone = scale(x[running[:, 0]]), scale(np.full(16, 50.0, np.float32))
    assert np.abs(mixed).max() < CLIP
    assert (alone > mixed.max(axis=0)).all()


@pytest.mark.parametrize("share", [0.02, 0.08])
def test_rare_loud_moments_widen_nothing(share: float) -> None:
    """Blow-offs 25 ± 4 dB louder for less than a tenth of the time: faults in all the rest stay as visible."""
    rng = np.random.default_rng(2)
    loud = (np.arange(1000) < 1000 * share)[:, None]
    x = (rng.normal(size=(1000, 16)) + loud * rng.normal(25.0, 4.0, (1000, 16))).astype(np.float32)
    expected = median_abs_deviation(x, axis=0, scale="normal")
    np.testing.assert_allclose(fit_scale(x, FLOOR).spread, np.maximum(expected, FLOOR), rtol=1e-4)


def test_of_one_kind_of_running_the_spread_is_the_mad() -> None:
    """Also with the tails of real levels: Student's t of 3 has its 97.5 % quantile at 2.8 scaled MADs."""
    rng = np.random.default_rng(1)
    for x in (rng.normal(size=(400, 16)), rng.standard_t(3, size=(400, 16)), rng.laplace(size=(400, 16))):
        expected = median_abs_deviation(x, axis=0, scale="normal")
        np.testing.assert_allclose(fit_scale(x.astype(np.float32), FLOOR).spread, expected, rtol=1e-4)
