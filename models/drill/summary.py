"""The finished cells as tables: what the reports and figures are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from models.drill.arms import NONE, Arm
from models.drill.cells import seed_of
from models.drill.claims import Gain, gain, published, published_coherence
from models.drill.classifiers import Bands, SmallNetwork
from models.drill.data import Float64
from models.drill.grid import Grid
from models.drill.metrics import accuracy, auc, bootstrap, recall_at_false_alarms, resamples, wilson
from models.drill.protocol import paper_split
from models.drill.similarity.coherence import ChanceOfPublished, chance_of_published
from models.drill.similarity.report import Similarity, similarity
from models.metrics import Interval

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One classifier in the paper's protocol.

    Attributes:
        classifier: its name.
        what: ``"augmented"`` or ``"originals"``.
        first: accuracy of the first division with its Wilson interval, as the paper has one.
        mean: accuracy over all divisions.
        spread: standard deviation over them; 0 for a single one.
        divisions: how many.
        anomalies: recall of anomalies over all divisions.
        recorded: accuracy on the recorded validation items alone.
        synthetic: accuracy on the synthetic ones, None without any.
    """

    classifier: str
    what: str
    first: Interval
    mean: float
    spread: float
    divisions: int
    anomalies: float
    recorded: float
    synthetic: float | None


@dataclass(frozen=True, slots=True)
class LeakFreeRow:
    """One classifier and arm in the leak-free protocol; intervals by bootstrap over groups."""

    classifier: str
    arm: str
    repeats: int
    auc: Interval
    accuracy: Interval
    recall: Interval
    gain: Gain | None


@dataclass(slots=True)
class Summary:
    """Everything that a report shows."""

    sounds: int
    events: int
    events_known: bool
    done: int
    expected: int
    folds: int
    source: str
    paper: list[PaperRow] = field(default_factory=list)
    leaks: dict[str, float] = field(default_factory=dict)
    leak_free: list[LeakFreeRow] = field(default_factory=list)
    similar: dict[str, Similarity] = field(default_factory=dict)
    elbo: dict[str, tuple[float, ...]] = field(default_factory=dict)
    chance: ChanceOfPublished | None = None
    examples: dict[str, tuple[Float64, Float64]] = field(default_factory=dict)


def summarise(
    grid: Grid,
    extra: Sequence[str] = (),
    trials: int = 1000,
    resampled: int = _RESAMPLES,
    source: str = "own sounds",
) -> Summary:
    """Gather what is finished; a classifier's repeat counts only with all its folds.

    Args:
        grid: with its cells.
        extra: names of further classifiers to look for (AlexNet).
        trials: of noise for the published coherence.
        resampled: bootstrap samples.
        source: what the sounds are, for figures.
    """
    names = [Bands().name, SmallNetwork().name, *extra]
    expected = list(grid.expected())
    done = sum(grid.cells.get(name) is not None for name in expected)
    events = [s.event for s in grid.sounds]
    known = len(set(events)) < len(events)
    out = Summary(len(events), len(set(events)), known, done, len(expected), grid.plan.folds, source)
    for name in names:
        for what in ("augmented", "originals"):
            _paper(grid, name, what, out)
        _leak_free(grid, name, out, resampled)
    if grid.cells.get(f"paper-{names[0]}-augmented-s0") is not None:
        _similar(grid, out)
    out.chance = chance_of_published(published_coherence(), trials)
    return out


def _paper(grid: Grid, name: str, what: str, out: Summary) -> None:
    cells = [grid.cells.get(f"paper-{name}-{what}-s{s}") for s in range(grid.plan.paper_seeds)]
    found = [c for c in cells if c is not None]
    if not found:
        return
    right = [(np.array(c["scores"]) > 0.5) == (np.array(c["target"]) > 0.5) for c in found]
    recorded = np.concatenate([np.array(c["rows"]) < c["recorded"] for c in found])
    anomaly = np.concatenate([np.array(c["target"]) > 0.5 for c in found])
    every = np.concatenate(right)
    shares = [float(r.mean()) for r in right]
    out.paper.append(
        PaperRow(
            name, what, wilson(int(right[0].sum()), len(right[0])), float(np.mean(shares)),
            float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0, len(shares), float(every[anomaly].mean()),
            float(every[recorded].mean()), float(every[~recorded].mean()) if (~recorded).any() else None,
        )
    )  # fmt: skip
    if what == "augmented" and not out.leaks:
        out.leaks = {k: float(np.mean([c["leaks"][k] for c in found])) for k in found[0]["leaks"]}


def _leak_free(grid: Grid, name: str, out: Summary, resampled: int) -> None:
    rows = resamples(grid.groups, grid.target, resampled, grid.plan.seed)
    none = _repeats(grid, name, NONE)
    for arm in grid.plan.arms:
        scores = _repeats(grid, name, arm)
        if scores is None:
            continue
        compared = None
        if arm != NONE and none is not None:
            both = min(len(scores), len(none))
            compared = gain(scores[:both], none[:both], grid.target, rows)
        out.leak_free.append(
            LeakFreeRow(
                name, arm.name, len(scores), bootstrap(auc, scores, grid.target, rows),
                bootstrap(accuracy, scores, grid.target, rows),
                bootstrap(recall_at_false_alarms, scores, grid.target, rows), compared,
            )
        )  # fmt: skip


def _repeats(grid: Grid, name: str, arm: Arm) -> Float64 | None:
    """Scores of the finished repeats, shape (repeats, n)."""
    found = [s for r in range(grid.plan.repeats) if (s := grid.scores(name, arm, r)) is not None]
    return np.stack(found) if found else None


def _similar(grid: Grid, out: Summary) -> None:
    """Look at the autoencoders of the first paper division, per class."""
    split = paper_split(grid.target, seed_of(grid.plan.seed, "paper", 0))
    additions = grid.paper_additions(split, 0)
    networks, _ = additions.networks
    made = additions.synthetic(2 * split.synthetic)
    seen = set(split.vae.tolist())
    for label, name in enumerate(("normal", "anomaly")):
        own = [i for i, s in enumerate(grid.sounds) if s.anomaly == bool(label)]
        held_out = [grid.sounds[i].samples for i in own if i not in seen]
        training = [grid.sounds[i].samples for i in own if i in seen]
        synthetic = made.x[made.target == label]
        out.similar[name] = similarity(held_out, training, synthetic, grid.plan.seed)
        out.elbo[name] = networks[min(label, len(networks) - 1)].elbo
        out.examples[name] = (np.stack([grid.x[i] for i in own]), synthetic)


def as_json(summary: Summary) -> dict[str, Any]:
    """All figures without the sounds, for machines; what is not finite as None."""
    whole = asdict(summary)
    del whole["examples"]
    for entry in whole["similar"].values():
        for key in ("f_hz", "coherence", "phase_deg"):
            entry["example"][key] = entry["example"][key].tolist()
    whole["published"] = [asdict(p) | {"interval": asdict(p.interval)} for p in published()]
    for row, source in zip(whole["leak_free"], summary.leak_free, strict=True):
        row["verdict"] = source.gain.verdict if source.gain else None
    plain: dict[str, Any] = _plain(whole)
    return plain


def _plain(value: Any) -> Any:
    """As JSON can tell it: numbers of numpy unpacked, what is not finite as None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not isfinite(value) else value
