"""From features of labelled clips to a head: which pooling, which kind, which encoder, how good on what was held."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from models.heads.choose import ABSTAIN, Choice, Rows, check_rows, choose
from models.heads.export import Reads
from models.heads.folds import grouped_folds
from models.heads.head import Floats, Ints, Kind, softmax
from models.probe.clips import Clips
from models.probe.metrics import Units, confusion, difference, f1, interval, machine_f1, units
from models.probe.run import Tables
from models.probe.summary import Figure
from pipeline.errors import BadInput
from pipeline.messages import Float32

Held: TypeAlias = Literal["test", "left out", "none"]
AUTO = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A head on one extractor's features.

    Attributes:
        reads: the features.
        x: of all clips (n, k).
        choice: the head, by the training rows.
    """

    reads: Reads
    x: Float32
    choice: Choice

    @property
    def score(self) -> float:
        """Mean F1 of the chosen kind on left-out folds; NaN without folds."""
        return self.choice.scores.get(self.choice.head.kind, float("nan"))


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How good a head is on clips that it was not trained on.

    Attributes:
        held: what they are: the manifest's test rows, or groups left out in turn.
        labels: of the rows and columns of `table`.
        table: confusion (C, C), truth in rows.
        machine: mean F1 of the classes.
        classes: F1 by label.
        accepted: share of clips with a probability of the best class of `ABSTAIN` or more.
        accepted_right: share of these that are right; NaN without any.
        tables: confusions by unit (1, U, C, C), for comparisons.
        drawn: name of the units that intervals resample.
        fair: whether what is judged was chosen by whole groups, too. With one occasion of a class left, stretches of
            it had to choose: the figure is then of such heads, and compares no encoders.
    """

    held: Held
    labels: tuple[str, ...]
    table: Tables
    machine: Figure
    classes: Mapping[str, Figure]
    accepted: float
    accepted_right: float
    tables: Tables
    drawn: str
    fair: bool = True

    def less(self, other: Evaluation) -> Figure:
        """Mean F1 less that of another head on the same clips."""
        found = difference(self.tables, other.tables)
        return Figure(found.value, 0.0, found.low, found.high)

    def document(self) -> dict[str, object]:
        """For the card."""
        return {
            "held": self.held,
            "clips": int(self.table.sum()),
            "mean_f1": _interval(self.machine),
            "f1": {label: _interval(figure) for label, figure in self.classes.items()},
            "accepted": self.accepted,
            "accepted_right": None if np.isnan(self.accepted_right) else self.accepted_right,
            "resampled": self.drawn,
            "chosen_by": "whole groups" if self.fair else "stretches of one occasion",
        }


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """The labelled clips and which of them teach.

    Attributes:
        clips: all of them.
        learn: rows that train.
        test: rows that judge; empty where the manifest has none.
    """

    clips: Clips
    learn: Ints
    test: Ints

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes that are taught."""
        return self.clips.at(self.learn).labels

    @property
    def rows(self) -> Rows:
        """The training rows."""
        mine = self.clips.at(self.learn)
        return Rows(mine.y, mine.labels, mine.group.tolist(), mine.start_s.tolist())

    @property
    def judges(self) -> Ints:
        """Test rows of classes that are taught."""
        return self.test[np.isin(self.clips.label[self.test], self.labels)]

    def unknown(self) -> list[str]:
        """Labels of test rows that were never taught."""
        return sorted(set(self.clips.label[self.test].tolist()) - set(self.labels))

    def untested(self) -> list[str]:
        """Classes that are taught and have no test row; none where no test row judges."""
        there = set(self.clips.label[self.judges].tolist())
        return sorted(set(self.labels) - there) if there else []

    def check(self, left_out: Sequence[str] = ()) -> None:
        """Refuse to begin.

        Args:
            left_out: why recordings could not be used; told where nothing is left.

        Raises:
            BadInput: one class only, or a group on both sides.
        """
        if len(self.learn) == 0:
            why = "; ".join([*dict.fromkeys(left_out)][:3]) or "check paths, labels and the column split"
            raise BadInput("one_class", f"no clip to learn from is usable; {why}")
        try:
            check_rows(self.rows)
        except BadInput as error:
            if not left_out:
                raise
            raise BadInput(error.reason, f"{error}; {'; '.join([*dict.fromkeys(left_out)][:3])}") from None
        both = np.intersect1d(self.clips.group[self.learn], self.clips.group[self.test])
        if both.size:
            raise BadInput(
                "leak", f"the group '{both[0]}' trains and tests: its score would mean nothing; keep groups whole"
            )

    def check_copies(self, x: Float32) -> None:
        """Refuse one sound in two groups under two names, since what it teaches would be judged by itself.

        Args:
            x: features of all clips (n, k); equal to the bit they come of equal samples.

        Raises:
            BadInput: names both clips.
        """
        seen: dict[bytes, int] = {}
        for i in np.concatenate([self.learn, self.test]).tolist():
            first = seen.setdefault(x[i].tobytes(), i)
            if self.clips.group[first] != self.clips.group[i]:
                one, other = (
                    f"second {self.clips.start_s[k]:g} of {self.clips.recording[k]} (group '{self.clips.group[k]}')"
                    for k in (first, i)
                )
                raise BadInput("leak", f"{one} and {other} are equal to the bit; leave one out or give both one group")


def learn(
    lesson: Lesson,
    reads: Reads,
    features: Mapping[str, Float32],
    pooling: str,
    kinds: Sequence[Kind],
    seed: int,
) -> Candidate:
    """The best head on one extractor's features.

    Args:
        lesson: the clips.
        reads: the extractor; its pooling is told by the candidate.
        features: pooling → (n, k) of all clips.
        pooling: one of them, or ``"auto"`` for the best under a linear head on left-out groups.
        kinds: of heads to choose from.
        seed: of the two-layer head.

    Raises:
        BadInput: no such pooling.
    """
    if pooling != AUTO and pooling not in features and "" not in features:
        raise BadInput("pooling", f"{reads.name} has no pooling {pooling!r}: one of {', '.join(features)}")
    names = list(features) if pooling == AUTO or "" in features else [pooling]
    rows = lesson.rows
    if len(names) > 1:
        linear = {how: choose(features[how][lesson.learn], rows, ("linear",), seed) for how in names}
        names = [max(names, key=lambda how: linear[how].scores.get("linear", 0.0))]
        if not linear[names[0]].scores:
            names = ["band"]
    how = names[0]
    return Candidate(replace(reads, pooling=how), features[how], choose(features[how][lesson.learn], rows, kinds, seed))


Teach: TypeAlias = Callable[[Lesson], Sequence[Candidate]]
"""All heads that a lesson gives, the baseline among them."""
Pick: TypeAlias = Callable[[Sequence[Candidate]], Candidate]


def plain(candidates: Sequence[Candidate]) -> Candidate:
    """The baseline."""
    return next(c for c in candidates if c.reads.plain)


def better(candidates: Sequence[Candidate]) -> Candidate:
    """The one with the highest score on left-out folds; the baseline where nothing is better."""
    baseline = plain(candidates)
    return max(candidates, key=lambda c: (np.nan_to_num(c.score), c is baseline))


def evaluate(
    lesson: Lesson, candidates: Sequence[Candidate], teach: Teach, picks: Sequence[Pick]
) -> list[Evaluation] | None:
    """How good the pick of the candidates is, for each way to pick: on the test rows, else on groups left out in turn.

    For groups that are left out everything is taught and chosen anew by the others, encoder, pooling, kind and penalty
    included: a figure that had chosen among them would be the best of several draws.

    Args:
        lesson: the clips.
        candidates: what `teach` makes of it.
        teach: all heads that some of its clips give.
        picks: ways to take one of them.

    Returns:
        None where fewer than two classes are tested, or only one occasion was heard, since that would leak.
    """
    if len(lesson.judges):
        if len(lesson.labels) - len(lesson.untested()) < 2:
            return None
        taken = [pick(candidates) for pick in picks]
        at = lesson.judges
        return [_evaluation("test", lesson, at, c.choice.head.logits(c.x[at])) for c in taken]
    rows = lesson.rows
    folds = grouped_folds(rows.y, rows.groups)
    if folds is None:
        return None
    found, fair = np.empty((len(picks), len(rows.y), len(rows.labels))), True
    for others, mine in folds:
        taught = teach(replace(lesson, learn=lesson.learn[others]))
        fair = fair and all(candidate.choice.fair for candidate in taught)
        for logits, pick in zip(found, picks, strict=True):
            one = pick(taught)
            logits[mine] = one.choice.head.logits(one.x[lesson.learn[mine]])
    return [replace(_evaluation("left out", lesson, lesson.learn, logits), fair=fair) for logits in found]


def _evaluation(held: Held, lesson: Lesson, at: Ints, logits: Floats) -> Evaluation:
    clips, labels = lesson.clips.at(at), lesson.labels
    truth = np.searchsorted(np.array(labels), clips.label)
    drawn: Units = units(clips)
    answer = logits.argmax(axis=1)
    tables = confusion(truth, answer, drawn.of, drawn.count, len(labels))[None]
    (whole,) = interval(tables)
    whole_table = tables.sum(axis=(0, 1))
    each = interval(tables, classes=True)
    sure = softmax(logits).max(axis=1) >= ABSTAIN
    return Evaluation(
        held=held,
        labels=labels,
        table=whole_table,
        machine=Figure(float(machine_f1(whole_table)), 0.0, whole.low, whole.high),
        classes={
            label: Figure(float(value), 0.0, one.low, one.high)
            for label, value, one in zip(labels, f1(whole_table), each, strict=True)
            if not np.isnan(value)
        },
        accepted=float(sure.mean()),
        accepted_right=float((answer == truth)[sure].mean()) if sure.any() else float("nan"),
        tables=tables,
        drawn=drawn.name,
    )


def _interval(figure: Figure) -> dict[str, float]:
    return {"value": figure.mean, "low": figure.low, "high": figure.high}
