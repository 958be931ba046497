"""Sessions: padded batches whose rows know nothing of one another."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.packages import Package, Session
from pipeline.errors import BadInput, StateError
from tests.models.packages import rig


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return rig.package(tmp_path_factory.mktemp("packages") / "state")


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 11])
def test_any_number_of_rows(package: Package, n: int) -> None:
    x = np.random.default_rng(n).standard_normal((n, rig.K)).astype(np.float32)
    y = package.session().run(x)
    assert list(y) == ["logits"]
    assert y["logits"].dtype == np.float32
    np.testing.assert_allclose(y["logits"], x @ rig.WEIGHT + rig.BIAS, rtol=1e-4, atol=1e-5)


@given(cuts=st.lists(st.integers(0, 17), max_size=5), seed=st.integers(0, 99))
def test_cutting_rows_into_calls_changes_no_bit(package: Package, cuts: list[int], seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((17, rig.K)).astype(np.float32)
    session, bounds = package.session(), [0, *sorted(cuts), 17]
    parts = [session.run(x[a:b])["logits"] for a, b in pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate(parts), session.run(x)["logits"])


def test_float64_and_foreign_order_are_taken(package: Package) -> None:
    x = np.asfortranarray(np.random.default_rng(0).standard_normal((5, rig.K)))
    wanted = package.session().run(np.ascontiguousarray(x, np.float32))["logits"]
    np.testing.assert_array_equal(package.session().run(x)["logits"], wanted)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (np.zeros((2, rig.K + 1), np.float32), "shape"),
        (np.zeros(rig.K, np.float32), "shape"),
        (np.float32(0), "shape"),
        (np.zeros((2, rig.K), np.int16), "kind"),
        (np.full((2, rig.K), np.nan, np.float32), "not_finite"),
        (np.full((2, rig.K), np.inf, np.float32), "not_finite"),
    ],
)
def test_wrong_rows_are_refused(package: Package, x: np.ndarray, reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        package.session().run(np.asarray(x))
    assert caught.value.reason == reason


def test_sessions_are_kept_by_their_threads(package: Package) -> None:
    assert package.session() is package.session(1)
    assert package.session(2) is package.session(2)
    assert package.session(2).threads == 2
    with pytest.raises(BadInput, match="at least one thread"):
        package.session(0)


def test_several_threads_may_run_one_session(package: Package) -> None:
    x = np.random.default_rng(0).standard_normal((6, rig.K)).astype(np.float32)
    wanted, got = package.session().run(x)["logits"], []
    workers = [threading.Thread(target=lambda: got.append(package.session().run(x)["logits"])) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(got) == 4
    for y in got:
        np.testing.assert_array_equal(y, wanted)


def test_errors_of_the_runtime_are_ours_and_short(tmp_path: Path) -> None:
    del tmp_path
    with pytest.raises(StateError, match="refuses the graph") as caught:
        Session(b"x" * 5000, rig.card())
    assert len(str(caught.value)) < 500
