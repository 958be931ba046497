"""Micro-batches: answers that depend on their window alone, bounded waiting, and a model that fails."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.packages import Package
from pipeline.errors import StateError
from pipeline.models_pool import WAIT_NS, Pool
from pipeline.shelf import Shelf, digest_of, keep
from tests.engines.scenarios import learned_folder


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf([learned_folder()])


@pytest.fixture(scope="module")
def encoders(shelf: Shelf) -> list[Package]:
    return [shelf.add(learned_folder() / f"encoder-{number}") for number in (1, 2)]


ROWS = np.random.default_rng(3).random((12, 1, 128, 128)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(12)), which=st.lists(st.integers(0, 1), min_size=12, max_size=12), data=st.data())
def test_answers_do_not_depend_on_the_batch(
    shelf: Shelf, encoders: list[Package], order: list[int], which: list[int], data: st.DataObject
) -> None:
    """Any order, any mixture of models, any moments of running: the bits of a window that runs alone."""
    pool, jobs = Pool(shelf, deferred=True), {}
    for row in order:
        jobs[row] = pool.submit(encoders[which[row]].digest, "m", ROWS[row])
        if data.draw(st.booleans()):
            pool.poll(0, force=True)
    pool.finish()
    for row, job in jobs.items():
        alone = Pool(shelf).submit(encoders[which[row]].digest, "m", ROWS[row])
        assert job.rows is not None and alone.rows is not None
        assert job.rows.tobytes() == alone.rows.tobytes()


def test_a_batch_runs_when_it_is_full_or_when_the_first_has_waited(shelf: Shelf, encoders: list[Package]) -> None:
    """Never more than a batch less one waits, and none longer than agreed."""
    pool, digest = Pool(shelf, deferred=True), encoders[0].digest
    assert encoders[0].card.batch == 4
    jobs = [pool.submit(digest, f"m{n}", ROWS[n]) for n in range(5)]
    assert [job.done for job in jobs] == [True] * 4 + [False]
    assert pool.poll(1000) == ["m0", "m1", "m2", "m3"]
    assert pool.poll(1000 + WAIT_NS - 1) == []
    assert pool.poll(1000 + WAIT_NS) == ["m4"]
    assert jobs[4].done
    assert pool.counts == {"model.batches": 2, "model.windows": 5}


def test_one_bad_window_costs_its_neighbours_nothing(shelf: Shelf, encoders: list[Package]) -> None:
    """The batch is run row by row, and the bad row says why."""
    pool, digest = Pool(shelf, deferred=True), encoders[0].digest
    bad = np.full_like(ROWS[0], np.nan)
    jobs = [pool.submit(digest, "m", x) for x in (ROWS[0], bad, ROWS[1], ROWS[2])]
    assert [bool(job.error) for job in jobs] == [False, True, False, False]
    assert "infinite or not-a-number" in jobs[1].error
    alone = Pool(shelf).submit(digest, "m", ROWS[1])
    assert jobs[2].rows is not None and alone.rows is not None
    assert jobs[2].rows.tobytes() == alone.rows.tobytes()


def test_a_shelf_travels_without_its_sessions_and_finds_packages_by_digest(
    shelf: Shelf, encoders: list[Package], tmp_path: Path
) -> None:
    """As to a shard that is started anew; a copy under any name serves."""
    there: Shelf = pickle.loads(pickle.dumps(shelf))
    assert there.get(encoders[0].digest).digest == encoders[0].digest
    copy = keep(encoders[0], tmp_path / "copies")
    assert keep(encoders[0], tmp_path / "copies") == copy
    assert digest_of(copy) == encoders[0].digest == Shelf([tmp_path / "copies"]).get(encoders[0].digest).digest
    shutil.rmtree(copy)
    with pytest.raises(StateError, match="is not found; looked in"):
        Shelf([tmp_path / "copies"]).get(encoders[0].digest)
    with pytest.raises(StateError, match="is not found"):
        Shelf().get("0" * 64)


def test_a_damaged_copy_stops_nobody_who_has_a_whole_one(encoders: list[Package], tmp_path: Path) -> None:
    """The next place is looked at; and what is kept anew is whole."""
    digest = encoders[0].digest
    copy = keep(encoders[0], tmp_path / "copies")
    (copy / "model.onnx").write_bytes(b"")
    with pytest.raises(StateError, match="does not match its hash"):
        Shelf([tmp_path / "copies"]).get(digest)
    assert Shelf([tmp_path / "copies", encoders[0].folder]).get(digest).folder == encoders[0].folder
    assert keep(encoders[0], tmp_path / "copies") == copy
    assert Shelf([tmp_path / "copies"]).get(digest).folder == copy
    (copy / "SHA256SUMS").unlink()
    assert Shelf([keep(encoders[0], tmp_path / "copies")]).get(digest).folder == copy


def test_sums_that_are_no_file_hold_nobody_up(encoders: list[Package], tmp_path: Path) -> None:
    """A pipe would be waited at for ever, and what never ends read for ever; the package beside it is found."""
    for name, make in (("a", os.mkfifo), ("b", lambda path: path.symlink_to("/dev/zero")), ("c", Path.mkdir)):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "SHA256SUMS")
        assert digest_of(tmp_path / name) == ""
    shutil.copytree(encoders[0].folder, tmp_path / "d")
    assert Shelf([tmp_path]).get(encoders[0].digest).folder == tmp_path / "d"


def test_a_missing_folder_is_no_name_of_a_shipped_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other weights than those that were named never run silently."""
    monkeypatch.chdir(tmp_path)
    assert Shelf().add(Path("impact-small")).card.name == "impact-small"
    for path in (tmp_path / "gone" / "impact-small", Path("gone/impact-small")):
        with pytest.raises(StateError, match="impact-small"):
            Shelf().add(path)
