"""Splits: the paper's random one, and one that no recording leaks through.

`paper`: 20 % of the clips train, 80 % test, stratified, ten times (arXiv 2507.06481, arXiv 2406.16148). Neighbouring
seconds of one recording land on both sides, which flatters every model.

`leak_free`: whole groups, where every class has two; else a stretch of each recording, with a gap of 5 s to what is
tested. Takes of several sensors share group and time, so that they stay on one side. Each split is asserted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from models.heads.head import Ints
from models.probe.clips import Clips, Strings, check
from pipeline.errors import BadInput, StateError

Mode: TypeAlias = Literal["paper", "groups", "stretches"]
TRAIN = 0.2
REPEATS = 10
GAP_S = 5.0
_CLIP_S = 1.0
_ATTEMPTS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers of the training and the test part."""

    train: Ints
    test: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The repeats of one protocol and how they were made."""

    mode: Mode
    splits: tuple[Split, ...]

    @property
    def sentence(self) -> str:
        """For the report."""
        return {
            "paper": "random clips, stratified: neighbouring seconds of a recording are on both sides",
            "groups": "whole groups: no recording is on both sides",
            "stretches": "a class has one group only: a stretch of each recording trains, what lies 5 s or more away "
            "tests; class and recording cannot be told apart, so that these figures say little about another occasion",
        }[self.mode]


def paper(clips: Clips, repeats: int = REPEATS, seed: int = 0, share: float = TRAIN) -> Plan:
    """The published protocol.

    Raises:
        BadInput: one class, one group, or a class of one clip.
    """
    check(clips)
    few = [c for c in clips.labels if (clips.label == c).sum() < 2]
    if few:
        raise BadInput("too_few", f"class {few[0]!r} has one clip; two are the least that can be split")
    splits = (stratified(clips.label, share, np.random.default_rng([seed, r])) for r in range(repeats))
    return Plan("paper", tuple(splits))


def stratified(label: Strings, share: float, rng: np.random.Generator) -> Split:
    """A random split with ceil((1 − share) n) test clips, classes in proportion by largest remainders."""
    classes, y, count = np.unique(label, return_inverse=True, return_counts=True)
    train_total = max(len(label) - int(np.ceil((1.0 - share) * len(label) - 1e-9)), len(classes))
    ideal = count * train_total / len(label)
    take = np.floor(ideal).astype(int)
    take[np.argsort(take - ideal, kind="stable")[: train_total - int(take.sum())]] += 1
    take = np.clip(take, 1, count - 1)
    chosen = [rng.permutation(np.flatnonzero(y == c))[: take[c]] for c in range(len(classes))]
    train = np.sort(np.concatenate(chosen)).astype(np.intp)
    return Split(train, np.setdiff1d(np.arange(len(label)), train))


def leak_free(clips: Clips, repeats: int = REPEATS, seed: int = 0, share: float = TRAIN) -> Plan:
    """The protocol that is believed.

    Raises:
        BadInput: one class, one group, or recordings too short to leave a gap.
        StateError: a split let something through; nothing is reported then.
    """
    check(clips)
    splits = [_whole_groups(clips, share, np.random.default_rng([seed, r])) for r in range(repeats)]
    if all(split is not None for split in splits):
        plan = Plan("groups", tuple(s for s in splits if s is not None))
    else:
        plan = Plan("stretches", tuple(_stretches(clips, share, r / max(1, repeats - 1)) for r in range(repeats)))
    for split in plan.splits:
        assert_apart(clips, split, plan.mode)
    return plan


def assert_apart(clips: Clips, split: Split, mode: Mode) -> None:
    """Fail the job when the two parts share a row, a group, or seconds of a group that lie closer than the gap.

    Raises:
        StateError: they do.
    """
    if np.intersect1d(split.train, split.test).size:
        raise StateError("the training and the test part share clips")
    both = np.intersect1d(clips.group[split.train], clips.group[split.test])
    if mode == "groups" and both.size:
        raise StateError(f"the group '{both[0]}' is in the training and in the test part")
    for group in both if mode == "stretches" else ():
        here = [clips.start_s[rows][clips.group[rows] == group] for rows in (split.train, split.test)]
        nearest = np.abs(here[0][:, None] - here[1][None, :]).min()
        if nearest < GAP_S + _CLIP_S - 1e-9:
            raise StateError(f"the group '{group}' trains and tests {nearest:.1f} s apart, not {GAP_S:g} s and a clip")


def cross_sensor(clips: Clips, plan: Plan, learn: str, hear: str) -> Plan:
    """The same splits, trained on one sensor's clips and tested on another's.

    Raises:
        BadInput: a split leaves a sensor without clips of two classes.
    """
    splits = tuple(
        Split(s.train[clips.sensor[s.train] == learn], s.test[clips.sensor[s.test] == hear]) for s in plan.splits
    )
    for s in splits:
        if len(np.unique(clips.condition[s.train])) < 2 or len(s.test) == 0:
            raise BadInput("sensors", f"too few clips of {learn} or {hear} to train on one and test on the other")
    return Plan(plan.mode, splits)


def _whole_groups(clips: Clips, share: float, rng: np.random.Generator) -> Split | None:
    """Groups drawn class by class, those with the fewest first; None where a class cannot be on both sides."""
    names, group = np.unique(clips.group, return_inverse=True)
    y, classes = clips.y, len(clips.labels)
    table = np.zeros((len(names), classes), np.intp)
    np.add.at(table, (group, y), 1)
    has = table > 0
    if (has.sum(axis=0) < 2).any():
        return None
    for _ in range(_ATTEMPTS):
        train = np.zeros(len(names), bool)
        for c in np.argsort(has.sum(axis=0), kind="stable"):
            wanted = max(1, round(share * int(has[:, c].sum())))
            free = rng.permutation(np.flatnonzero(has[:, c] & ~train))
            train[free[: max(0, wanted - int((has[:, c] & train).sum()))]] = True
        if has[train].any(axis=0).all() and has[~train].any(axis=0).all():
            rows = np.arange(len(clips))
            return Split(rows[train[group]], rows[~train[group]])
    return None


def _stretches(clips: Clips, share: float, where: float) -> Split:
    """A stretch of each class in each group: from its beginning (`where` = 0) to its end (1)."""
    train = np.zeros(len(clips), bool)
    for group in np.unique(clips.group):
        for label in np.unique(clips.label[clips.group == group]):
            mine = (clips.group == group) & (clips.label == label)
            first, last = clips.start_s[mine].min(), clips.start_s[mine].max() + _CLIP_S
            length = max(share * (last - first), _CLIP_S)
            begin = first + where * (last - first - length)
            train |= mine & (clips.start_s >= begin - 1e-9) & (clips.start_s + _CLIP_S <= begin + length + 1e-9)
    test = ~train
    for group in np.unique(clips.group[train]):
        mine = np.flatnonzero((clips.group == group) & ~train)
        near = np.abs(clips.start_s[mine][:, None] - clips.start_s[train & (clips.group == group)][None, :])
        test[mine[near.min(axis=1) < GAP_S + _CLIP_S - 1e-9]] = False
    for label in clips.labels:
        if not (train & (clips.label == label)).any() or not (test & (clips.label == label)).any():
            raise BadInput(
                "too_short",
                f"class {label!r} has one group, too short to train on a fifth of it and test {GAP_S:g} s away; "
                "record longer, or add another recording with its own group",
            )
    return Split(np.flatnonzero(train), np.flatnonzero(test))
