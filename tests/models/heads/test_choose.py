"""Folds, choice, calibration and the evaluation that goes with them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.heads.choose import PENALTIES, Rows, choose, left_out, temperature
from models.heads.export import Reads
from models.heads.folds import grouped_folds
from models.heads.head import softmax
from models.heads.lesson import Candidate, Lesson, better, evaluate, learn, plain
from models.heads.report import verdict
from models.probe.clips import Facts, columns
from pipeline.errors import BadInput


def rows(y: np.ndarray, groups: list[str], labels: tuple[str, ...]) -> Rows:
    """Training rows, a second apart."""
    return Rows(y, labels, groups, [float(i) for i in range(len(y))])


def occasions(groups: int, each: int, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Clips whose occasion shifts them as much as their class does."""
    rng = np.random.default_rng(seed)
    x, y, names = [], [], []
    for c in range(classes):
        for g in range(groups):
            shift = rng.normal(size=6)
            for _ in range(each):
                x.append(2.0 * np.eye(classes, 6)[c] + 0.7 * shift + 0.3 * rng.normal(size=6))
                y.append(c)
                names.append(f"{c}-{g}")
    return np.array(x, np.float32), np.array(y, np.intp), names


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 7), min_size=2, max_size=4), st.integers(1, 4))
def test_folds_leave_whole_groups_out(counts: list[int], each: int) -> None:
    """Every row is tested once, no group is on both sides, every class trains."""
    y = np.repeat(np.arange(len(counts)), np.array(counts) * each)
    groups = [f"{c}-{g}" for c, n in enumerate(counts) for g in range(n) for _ in range(each)]
    folds = grouped_folds(y, groups)
    assert folds is not None and len(folds) == min(5, *counts)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(y)))
    for train, test in folds:
        assert not {groups[i] for i in train} & {groups[i] for i in test}
        assert set(y[train]) == set(y)


def test_one_group_of_a_class_gives_no_folds() -> None:
    """There is nothing fair to leave out."""
    assert grouped_folds(np.array([0, 0, 1, 1]), ["a", "b", "c", "c"]) is None
    days = ["mon", "mon", "tue", "tue", "wed", "wed"]  # each class on two of three days: two folds cannot do
    found = grouped_folds(np.array([0, 1, 1, 2, 0, 2]), days)
    assert found is not None and [test.tolist() for _, test in found] == [[0, 1], [2, 3], [4, 5]]


def test_the_left_out_group_is_not_seen() -> None:
    """A row's left-out logits do not change with its own group's features, nor with its labels."""
    x, y, names = occasions(3, 4)
    some = rows(y, names, ("a", "b"))
    folds = grouped_folds(y, names)
    assert folds is not None
    before = left_out("linear", x, some, folds, 0)
    test = folds[0][1]
    other = x.copy()
    other[test[0]] += 100.0
    after = left_out("linear", other, some, folds, 0)
    rest = np.setdiff1d(test, test[:1])
    assert np.array_equal(before[rest], after[rest])


def test_temperature_is_the_likeliest() -> None:
    """Logits that are three times too large are divided by about three."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, (4000, 3))
    y = np.array([rng.choice(3, p=p) for p in softmax(true)])
    assert temperature(3.0 * true, y) == pytest.approx(3.0, rel=0.1)


def test_choice_is_among_what_was_asked_and_simplest_when_equal() -> None:
    """Separable clouds: all kinds are perfect, the linear head is taken; few clips rule out two layers."""
    x, y, names = occasions(4, 3, seed=1)
    x += 20.0 * y[:, None]
    found = choose(x, rows(y, names, ("a", "b")))
    assert found.fair and found.head.kind == "linear" and set(found.scores) == {"linear", "prototypes", "two_layer"}
    few = choose(x[::3], rows(y[::3], names[::3], ("a", "b")))
    assert "two_layer" not in few.scores
    assert choose(x, rows(y, names, ("a", "b")), ("prototypes",)).head.kind == "prototypes"


@pytest.mark.parametrize(("seed", "expected"), [(0, 0.01), (1, 1.0), (6, 0.1)])
def test_the_penalty_is_the_strongest_within_one_standard_error(seed: int, expected: float) -> None:
    """By scikit-learn on the same folds: cross-entropy of each left-out group at the likeliest temperature."""
    x, y, names = occasions(6, 8, seed=seed)
    some = rows(y, names, ("a", "b"))
    folds = grouped_folds(y, names)
    assert folds is not None
    losses = {}
    for c in PENALTIES:
        decided = np.empty(len(y))
        for train, test in folds:
            scale = StandardScaler().fit(x[train])
            model = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(scale.transform(x[train]), y[train])
            decided[test] = model.decision_function(scale.transform(x[test]))
        sign = np.where(y == 1, 1.0, -1.0)
        at = min((np.logaddexp(0, -sign * decided / t) for t in np.geomspace(0.05, 20, 4000)), key=np.mean)
        losses[c] = np.array([at[np.array(names) == name].mean() for name in sorted(set(names))])
    best = min(PENALTIES, key=lambda c: losses[c].mean())
    most = losses[best].mean() + losses[best].std(ddof=1) / np.sqrt(len(losses[best]))
    found = choose(x, some, ("linear",))
    assert found.c == next(c for c in PENALTIES if losses[c].mean() <= most) == expected


def test_one_occasion_chooses_but_reports_nothing() -> None:
    """One recording per class: stretches choose, no figure is fair; one clip per class: prototypes."""
    x, y, _ = occasions(1, 40)
    some = rows(y, [str(c) for c in y], ("a", "b"))
    found = choose(x, some)
    assert found.scores and not found.fair
    one = choose(x[[0, 40]], rows(y[[0, 40]], ["a", "b"], ("a", "b")))
    assert one.head.kind == "prototypes" and not one.scores


def lesson(split_by_group: bool = False, groups: int = 6) -> tuple[Lesson, np.ndarray]:
    """Labelled clips with features."""
    x, y, names = occasions(groups, 5, seed=2)
    facts = [Facts(n, float(i), "ab"[c], n, "mic", "ab"[c]) for i, (c, n) in enumerate(zip(y, names, strict=True))]
    test = np.array([split_by_group and n.endswith(("0", "1")) for n in names])
    return Lesson(columns(facts), np.flatnonzero(~test), np.flatnonzero(test)), x


def test_evaluation_on_left_out_groups_and_on_test_rows() -> None:
    """Both are reported with what they are; abstention keeps the surer ones."""
    for split, held in ((False, "left out"), (True, "test")):
        some, x = lesson(split)

        def teach(part: Lesson, x: np.ndarray = x) -> list[Candidate]:
            return [learn(part, Reads(), {"": x}, "auto", ("prototypes",), 0)]

        done = evaluate(some, teach(some), teach, (plain,))
        assert done is not None
        (found,) = done
        assert found.held == held
        assert int(found.table.sum()) == (len(some.test) if split else len(some.learn))
        assert found.machine.low <= found.machine.mean <= found.machine.high
        truth = some.clips.y[some.test] if split else some.clips.y
        if split:
            answer = teach(some)[0].choice.head.logits(x[some.test]).argmax(axis=1)
        else:
            answer = np.empty_like(truth)
            for others, mine in grouped_folds(truth, some.clips.group.tolist()) or ():
                answer[mine] = teach(replace(some, learn=others))[0].choice.head.logits(x[mine]).argmax(axis=1)
        assert np.trace(found.table) == (answer == truth).sum()
        assert found.accepted_right >= np.trace(found.table) / found.table.sum()


def test_labels_that_mean_nothing_are_not_learned() -> None:
    """The best of a dozen features on left-out groups scores well by chance; what is reported does not.

    A coin has an F1 of 0.5 on two classes of one size; the mean of six trials lies within two standard errors of it.
    """
    chosen, reported, better_than = [], [], 0
    facts = [Facts(f"{g}", float(s), "ab"[g % 2], f"{g}", "mic", "ab"[g % 2]) for g in range(12) for s in range(3)]
    some = Lesson(columns(facts), np.arange(36), np.array([], np.intp))
    for seed in range(6):
        noise = np.repeat(np.random.default_rng(seed).normal(size=(12, 12, 6)), 3, axis=1).astype(np.float32)

        def teach(part: Lesson, noise: np.ndarray = noise) -> list[Candidate]:
            reads = [Reads(), *(Reads(f"{i}" * 64, f"e{i}") for i in range(11))]
            ways = zip(reads, noise, strict=True)
            return [learn(part, r, {"": x}, "auto", ("prototypes",), 0) for r, x in ways]

        candidates = teach(some)
        found = evaluate(some, candidates, teach, (better, plain))
        assert found is not None
        chosen.append(better(candidates).score)
        reported.append(found[0].machine.mean)
        better_than += verdict(better(candidates), found, candidates).startswith("Better")
    error = np.std(reported, ddof=1) / np.sqrt(6)
    assert np.mean(chosen) - 0.5 > 2 * error > abs(np.mean(reported) - 0.5)
    assert better_than <= 2


def test_the_baseline_wins_when_nothing_is_better() -> None:
    """Auto takes the log-Mel beside noise; an encoder is called better where its lead is more than chance."""
    some, x = lesson()
    noise = np.random.default_rng(0).normal(size=(len(x), 8)).astype(np.float32)
    sure = np.eye(2, dtype=np.float32)[some.clips.y]
    few = replace(some, learn=np.flatnonzero(np.isin([g[-1] for g in some.clips.group], list("012"))))

    def teach(part: Lesson, base: np.ndarray, other: np.ndarray) -> list[Candidate]:
        named = ((Reads(), base), (Reads("f" * 64, "tiny"), other))
        return [learn(part, reads, {"": of}, "auto", ("prototypes",), 0) for reads, of in named]

    for part, base, other, wins, says in (
        (some, x, noise, 0, "as good or better"),
        (some, noise, sure, 1, "Better than"),
        (some, x, sure, 1, "Not shown to be better than"),  # right where the log-Mel is wrong, in two groups of twelve
        (few, noise, sure, 1, "too few groups to resample"),
    ):
        candidates = teach(part, base, other)
        assert better(candidates) is candidates[wins]
        again = partial(teach, base=base, other=other)
        found = evaluate(part, candidates, again, (lambda of: of[1], plain))
        assert says in verdict(candidates[1], found, candidates)
    assert verdict(candidates[0], found, candidates) == "The head reads the time-mean log-Mel."
    assert "Too few groups" in verdict(candidates[1], None, candidates)


def test_what_teaches_nothing_is_refused() -> None:
    """One class; a group that trains and tests."""
    some, _ = lesson()
    one = Lesson(some.clips, np.flatnonzero(some.clips.label == "a"), np.array([], np.intp))
    with pytest.raises(BadInput, match="all are labelled 'a'"):
        one.check()
    torn = Lesson(some.clips, np.arange(58), np.array([58, 59]))
    with pytest.raises(BadInput, match="trains and tests"):
        torn.check()
    with pytest.raises(BadInput, match="no clip to learn from"):
        Lesson(some.clips, np.array([], np.intp), np.array([], np.intp)).check()
    with pytest.raises(BadInput, match=r"is usable; r\.mcap: holds mill/mic$"):
        Lesson(some.clips, np.array([], np.intp), np.array([], np.intp)).check(["r.mcap: holds mill/mic"] * 2)


def test_two_occasions_of_a_class_compare_no_encoders() -> None:
    """With one of them left out, stretches of the other choose, and both are right there: that is no comparison."""
    some, x = lesson(groups=2)
    sure = np.eye(2, dtype=np.float32)[some.clips.y]

    def teach(part: Lesson) -> list[Candidate]:
        named = ((Reads(), x), (Reads("f" * 64, "tiny"), sure))
        return [learn(part, reads, {"": of}, "auto", ("prototypes",), 0) for reads, of in named]

    candidates = teach(some)
    found = evaluate(some, candidates, teach, (better, plain))
    assert found is not None
    assert not found[0].fair
    said = verdict(candidates[1], found, candidates)
    assert "two occasions only" in said
    assert "use --encoder logmel" not in said
    assert f"1.000 against the log-Mel's {candidates[0].score:.3f}" in said
    assert found[0].document()["chosen_by"] == "stretches of one occasion"
