"""Splits: the published counts, and nothing that leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from models.probe.clips import Clips, Facts, columns
from models.probe.splits import Split, assert_apart, cross_sensor, leak_free, paper, stratified
from pipeline.errors import BadInput, StateError
from tests.models.probe.rig import clips


def test_renishaw_has_the_papers_test_set() -> None:
    """386 and 138 clips: 420 are tested, 309 of them On, as the majority's published score of 0.8477 needs."""
    label = np.array(["on"] * 386 + ["off"] * 138)
    split = stratified(label, 0.2, np.random.default_rng(0))
    assert (len(split.test), int((label[split.test] == "on").sum())) == (420, 309)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(5, 60), min_size=2, max_size=8), st.integers(0, 1000))
def test_class_counts_are_those_of_scikit_learn(counts: list[int], seed: int) -> None:
    """Within one clip per class (ties are broken at random there); both parts together are everything."""
    label = np.repeat([f"c{i}" for i in range(len(counts))], counts)
    ours = stratified(label, 0.2, np.random.default_rng(seed))
    if len(label) * 0.2 < len(counts):
        return
    _, test = next(StratifiedShuffleSplit(1, test_size=0.8, random_state=0).split(label, label))
    assert len(ours.test) == len(test)
    for c in np.unique(label):
        assert abs((label[ours.test] == c).sum() - (label[test] == c).sum()) <= 1
    assert np.array_equal(np.sort(np.concatenate([ours.train, ours.test])), np.arange(len(label)))


def test_ten_different_repeats_that_a_seed_repeats() -> None:
    """Ten splits, all different; the same seed gives the same ones."""
    some = clips({"a": ("x", 30), "b": ("y", 30)})
    plan, again = paper(some, seed=4), paper(some, seed=4)
    assert len({tuple(s.train) for s in plan.splits}) == 10
    assert all(np.array_equal(a.train, b.train) for a, b in zip(plan.splits, again.splits, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 6), st.integers(1, 20)), min_size=2, max_size=5), st.integers(0, 100))
def test_no_group_is_on_both_sides(classes: list[tuple[int, int]], seed: int) -> None:
    """Whole groups where every class has two; every class trains and is tested."""
    some = clips({f"{c}-{g}": (f"c{c}", n) for c, (groups, n) in enumerate(classes) for g in range(groups)})
    plan = leak_free(some, repeats=3, seed=seed)
    assert plan.mode == "groups"
    for s in plan.splits:
        assert not set(some.group[s.train]) & set(some.group[s.test])
        assert set(some.label[s.train]) == set(some.label[s.test]) == set(some.labels)
        assert len(s.train) + len(s.test) == len(some)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.integers(20, 200))
def test_stretches_keep_their_distance(first: int, second: int) -> None:
    """One recording per class: a fifth trains, from its beginning to its end, and 5 s lie between the parts."""
    some = clips({"one": ("x", first), "two": ("y", second)})
    plan = leak_free(some)
    assert plan.mode == "stretches"
    starts = []
    for s in plan.splits:
        for group in ("one", "two"):
            train, test = (np.sort(some.start_s[r][some.group[r] == group]) for r in (s.train, s.test))
            assert np.abs(train[:, None] - test[None]).min() >= 6.0  # a clip lasts one second
            assert np.all(np.diff(train) == 1.0)
        starts.append(some.start_s[s.train][0])
    assert starts[0] == 0.0 and starts == sorted(starts)


def test_takes_of_two_sensors_stay_together() -> None:
    """The same moment, heard twice, is on one side; a sensor can train for the other."""
    facts = [
        Facts(f"{s}-{c}-{g}", t, f"{c} {s}", f"{c}-{g}", s, c)
        for s in ("mic", "stethoscope")
        for c in ("x", "y")
        for g in range(4)
        for t in range(5)
    ]
    some = columns(facts)
    for s in leak_free(some).splits:
        moments = [{(some.group[i], some.start_s[i]) for i in rows} for rows in (s.train, s.test)]
        assert not moments[0] & moments[1]
    merged = some.by_condition()
    crossed = cross_sensor(merged, leak_free(merged), "mic", "stethoscope")
    for s in crossed.splits:
        assert set(merged.sensor[s.train]) == {"mic"} and set(merged.sensor[s.test]) == {"stethoscope"}
        assert not set(merged.group[s.train]) & set(merged.group[s.test])


def test_the_assertion_sees_leaks() -> None:
    """Rows, groups and neighbours on both sides stop the job."""
    some = clips({"a": ("x", 20), "b": ("y", 20)})
    rows = np.arange(40)
    with pytest.raises(StateError, match="share clips"):
        assert_apart(some, Split(rows[:10], rows[5:]), "groups")
    with pytest.raises(StateError, match="group 'a'"):
        assert_apart(some, Split(rows[:10], rows[10:]), "groups")
    with pytest.raises(StateError, match=r"2\.0 s apart"):
        assert_apart(some, Split(rows[:10], rows[11:]), "stretches")
    assert_apart(some, Split(rows[:10], rows[15:]), "stretches")


@pytest.mark.parametrize("make", [paper, leak_free])
def test_what_cannot_be_judged_is_refused(make: Callable[[Clips], Any]) -> None:
    """One class, one group, nothing."""
    with pytest.raises(BadInput, match="all clips are labelled 'x'"):
        make(clips({"a": ("x", 20), "b": ("x", 20)}))
    with pytest.raises(BadInput, match="all clips belong to the group 'a'"):
        make(columns([Facts("r", float(i), "xy"[i % 2], "a", "mic", "") for i in range(40)]))
    with pytest.raises(BadInput, match="no clip"):
        make(columns([]))


def test_too_short_for_a_gap_is_refused() -> None:
    """Six seconds leave nothing 5 s away from what trains."""
    with pytest.raises(BadInput, match="too short to train"):
        leak_free(clips({"a": ("x", 5), "b": ("y", 60)}))
