"""The page about a head: what it was taught, how good it is where it was not taught, the baseline beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from models.heads.choose import ABSTAIN
from models.heads.export import LOGMEL
from models.heads.lesson import Candidate, Evaluation, Lesson, plain
from models.probe.report import page, table
from models.probe.summary import Figure

GROUPS = "groups"
"""What `models.probe.metrics.units` calls whole occasions."""


def verdict(chosen: Candidate, found: Sequence[Evaluation] | None, candidates: Sequence[Candidate]) -> str:
    """Whether the encoder earns its place, in a sentence or two.

    Args:
        chosen: the head in the package.
        found: evaluations of the choice and of the baseline on the same clips; None where none is fair.
        candidates: all heads, the baseline among them.
    """
    if chosen.reads.plain:
        what = "time-mean log-Mel" if chosen.reads.encoder == LOGMEL else "log-Mel means and levels of each axis"
        return f"The head reads the {what}."
    if found is None:
        return "Too few groups to compare with the log-Mel baseline."
    own, beside = found
    if not own.fair:
        scores = f"{chosen.score:.3f} against the log-Mel's {plain(candidates).score:.3f}"
        return (
            "A class was heard on two occasions only, too few to compare with the log-Mel baseline. On the occasions "
            f"that chose this head, left out in turn, its mean F1 is {scores}, the best of all that were tried; record "
            "a third."
        )
    less = own.less(beside)
    figures = f"mean F1 {own.machine.mean:.3f} against its {beside.machine.mean:.3f} on the same clips"
    span = f"{less.mean:+.3f} [{less.low:+.3f}, {less.high:+.3f}]"
    if less.mean <= 0.0:
        return f"The log-Mel baseline is as good or better: {figures}, {span}; use --encoder logmel."
    if less.low <= 0.0 or own.drawn != GROUPS:  # stretches of one occasion are alike, their interval is too narrow
        drawn = "" if own.drawn == GROUPS else f", resampled: {own.drawn}"
        return f"Not shown to be better than the log-Mel baseline: {figures}, {span}{drawn}."
    return f"Better than the log-Mel baseline: {figures}, {span}."


def render(
    title: str,
    lesson: Lesson,
    candidates: Sequence[Candidate],
    chosen: Candidate,
    found: Sequence[Evaluation] | None,
    notes: Sequence[str],
) -> str:
    """The whole page.

    Args:
        title: of the package.
        lesson: the clips.
        candidates: all heads, the baseline among them.
        chosen: the one in the package.
        found: evaluations of the choice and of the baseline; None where none is fair.
        notes: what was left out.
    """
    parts = [
        f"<p>{escape(verdict(chosen, found, candidates))}</p>",
        *(f'<p class="note">{escape(n)}</p>' for n in notes),
    ]
    parts += ["<h2>Clips</h2>", _clips(lesson), "<h2>Choice</h2>", _choice(candidates, chosen)]
    if found is None:
        parts.append(f'<p class="note">{escape(no_figure(lesson))}</p>')
    else:
        own, beside = found
        parts += _figures(lesson, own, None if chosen.reads.plain else beside)
    return page(f"Head {title}", parts)


def no_figure(lesson: Lesson) -> str:
    """Why there is no accuracy, and what to do for one."""
    if lesson.untested():
        return (
            "No accuracy is reported: the test clips show one of the classes only, and a head that always says so "
            f"would be right. Add test clips of {', '.join(lesson.untested())}."
        )
    return (
        "No accuracy is reported: a class was heard on one occasion only, so that clips to test on would be "
        "neighbours of those that taught. Record another occasion and give it its own group."
    )


def narrow(own: Evaluation) -> str:
    """Why the interval promises too much, where occasions are too few to resample; empty otherwise."""
    if own.drawn == GROUPS:
        return ""
    return (
        "A class has fewer than five groups: the intervals resample stretches of the same occasions and are narrower "
        "than honest; another day may lie outside of them."
    )


def tested(lesson: Lesson) -> str:
    """Of which classes a figure is, where it is not of all."""
    count = len(lesson.labels)
    return f" of the classes tested ({count - len(lesson.untested())} of {count})" if lesson.untested() else ""


def _clips(lesson: Lesson) -> str:
    taught, clips = lesson.clips.at(lesson.learn), lesson.clips
    rows = [
        (
            label,
            str(int((taught.label == label).sum())),
            str(len(np.unique(taught.group[taught.label == label]))),
            str(int((clips.label[lesson.test] == label).sum())),
        )
        for label in clips.labels
    ]
    return table(("class", "clips that taught", "of groups", "test clips"), rows)


def _choice(candidates: Sequence[Candidate], chosen: Candidate) -> str:
    rows = []
    for c in candidates:
        reads = f"{c.reads.name} {c.reads.pooling}".strip()
        for kind, score in c.choice.scores.items():
            taken = c is chosen and kind == c.choice.head.kind
            penalty = f", C = {c.choice.c:g}" if kind == "linear" else ""
            rows.append((f"{reads}, {kind.replace('_', '-')}{penalty}{' (taken)' if taken else ''}", f"{score:.3f}"))
    if not rows:
        return f"<p>One clip per class: {escape(chosen.choice.head.kind)}, nothing to compare by.</p>"
    left = "groups left out in turn" if chosen.choice.fair else "stretches of one occasion left out"
    return table(("head", f"mean F1, {left}, for the choice only"), rows)


def _figures(lesson: Lesson, own: Evaluation, beside: Evaluation | None) -> list[str]:
    left_out = "each group by a head that was chosen and taught without it"
    if not own.fair:
        left_out += ", chosen by stretches of the one occasion of a class that was left, so perhaps of another kind"
    what = "the manifest's test rows" if own.held == "test" else left_out
    mean = f"mean{tested(lesson) or ' of the classes'}"
    rows = [(mean, *_cells(own.machine), *(_cells(beside.machine) if beside else ()))]
    for label, figure in own.classes.items():
        rows.append((label, *_cells(figure), *(_cells(beside.classes[label]) if beside else ())))
    header = ("F1", "head", "95 %", *(("log-Mel baseline", "95 %") if beside else ()))
    right = "none" if np.isnan(own.accepted_right) else f"{own.accepted_right:.1%} of them right"
    parts = [
        "<h2>How good</h2>",
        f"<p>Judged on {escape(what)}; resampled for the intervals: {escape(own.drawn)}. {escape(narrow(own))}</p>",
        table(header, rows),
        f"<p>It abstains below a probability of {ABSTAIN:g}; {own.accepted:.1%} of the clips are above, {right}.</p>",
    ]
    cells = [(f"is {label}", *(str(int(n)) for n in row)) for label, row in zip(own.labels, own.table, strict=True)]
    return [*parts, "<h2>Confusion</h2>", table(("", *(f"called {label}" for label in own.labels)), cells)]


def _cells(figure: Figure) -> tuple[str, str]:
    return f"{figure.mean:.3f}", f"[{figure.low:.3f}, {figure.high:.3f}]"
