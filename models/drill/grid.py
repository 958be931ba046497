"""The experiment, cell by cell: the paper's protocol with its leaks, and the leak-free one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from models.drill.arms import ARMS, NONE, Additions, Arm
from models.drill.cells import Cells, seed_of
from models.drill.classifiers import Alex, Bands, Classifier, SmallNetwork
from models.drill.data import TABLE, Float64, Sound, centred, labels
from models.drill.metrics import auc
from models.drill.protocol import PaperSplit, Rows, group_folds, leaks, paper_split
from models.drill.synthesis import Batch
from models.drill.train import Training
from models.logistic import fit_logistic
from pipeline.errors import BadInput

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of the experiment is run; the defaults are the full one.

    Attributes:
        repeats: of the group k-fold.
        folds: of it.
        inner: folds of the training groups, one of which chooses a classifier's setting.
        by: what is held out together: ``"event"`` or ``"run"``.
        arms: what is compared.
        paper_seeds: divisions of the paper's protocol.
        training: of the autoencoders.
        alexnet_epochs: 0 leaves AlexNet out.
        alex: its weights.
        seed: of everything.
    """

    repeats: int = 5
    folds: int = 5
    inner: int = 4
    by: str = "event"
    arms: tuple[Arm, ...] = ARMS
    paper_seeds: int = 5
    training: Training = field(default_factory=Training)
    alexnet_epochs: int = 160
    alex: Alex = field(default_factory=Alex)
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """What all cells depend on; AlexNet's epochs and weights stand in the names of its own."""
        own = asdict(self)
        for name in ("repeats", "arms", "paper_seeds", "alex", "alexnet_epochs"):
            del own[name]
        return own


def groups(sounds: Sequence[Sound], by: str) -> list[str]:
    """What is held out together, for each sound.

    Raises:
        BadInput: runs are asked for, and one is not known.
    """
    if by == "run" and (unknown := [s.name for s in sounds if not s.run]):
        raise BadInput("bad_table", f"the run of {unknown[0]} is not known: {TABLE} needs a column run")
    return [s.run if by == "run" else s.event for s in sounds]


class Grid:
    """Runs what is missing.

    Args:
        sounds: all recorded ones.
        plan: how much.
        cells: where results go.
        tell: called with a line when a cell is done.
    """

    def __init__(self, sounds: Sequence[Sound], plan: Plan, cells: Cells, tell: Tell | None = None) -> None:
        self.sounds, self.plan, self.cells = list(sounds), plan, cells
        self.target = labels(sounds)
        self.groups = groups(sounds, plan.by)
        self.x = centred(sounds)
        self._tell = tell or (lambda _line: None)
        self._features: dict[str, Float64] = {}
        self._checkpoints = cells.folder / "networks"
        self._checkpoints.mkdir(exist_ok=True)

    def run(self) -> None:
        """Everything, AlexNet last: an interruption leaves whole repeats of the others."""
        quick: list[Classifier] = [Bands(), SmallNetwork()]
        self._check_groups()
        self.paper(quick)
        self.leak_free(quick, self.plan.arms, range(self.plan.repeats))
        if self.plan.alexnet_epochs:
            alex = replace(self.plan.alex, choices=(float(self.plan.alexnet_epochs),))
            self.leak_free([alex], (NONE, self.best_arm()), range(1))
            self.paper([replace(alex, jitter=True)], seeds=1)

    # the paper's protocol --------------------------------------------------------------------------------------------

    def paper(self, classifiers: Sequence[Classifier], seeds: int | None = None) -> None:
        """Validate on a random 30 % of recorded and synthetic sounds together, and of the recorded ones alone."""
        for seed in range(self.plan.paper_seeds if seeds is None else seeds):
            todo = [
                (c, what) for c in classifiers for what in ("augmented", "originals")
                if self.cells.get(f"paper-{c.name}-{what}-s{seed}") is None
            ]  # fmt: skip
            if not todo:
                continue
            split = paper_split(self.target, seed_of(self.plan.seed, "paper", seed))
            added = self.paper_additions(split, seed).synthetic(2 * split.synthetic)
            raw = [s.samples for s in self.sounds] + list(added.x)
            target = np.concatenate([self.target, added.target])
            for c, what in todo:
                rows = (split.train, split.validation)
                if what == "originals":
                    rows = (split.train_recorded, split.validation_recorded)
                scores = self._paper_scores(c, raw, target, rows, seed)
                content = {
                    "rows": rows[1].tolist(),
                    "scores": scores.tolist(),
                    "target": target[rows[1]].tolist(),
                    "recorded": len(self.sounds),
                    "leaks": asdict(leaks(split, [s.event for s in self.sounds])),
                }
                self._done(f"paper-{c.name}-{what}-s{seed}", content)

    def paper_additions(self, split: PaperSplit, seed: int) -> Additions:
        """The autoencoders of one paper split; seed 0 is the one that the similarity report looks at."""
        return Additions(self._batch(split.vae), self.plan.training, ("paper", seed), self._checkpoints)

    def _paper_scores(
        self, c: Classifier, raw: list[Float64], target: Float64, rows: tuple[Rows, Rows], seed: int
    ) -> Float64:
        parts = [c.features([raw[int(i)] for i in r]) for r in rows]
        choice = c.choices[-1] if c.name != Bands().name else 1.0
        return c.scores(parts[0], target[rows[0]], parts[1], [choice], seed_of(self.plan.seed, "paper", c.name, seed))[
            0
        ]

    # the leak-free protocol ------------------------------------------------------------------------------------------

    def leak_free(self, classifiers: Sequence[Classifier], arms: Sequence[Arm], repeats: Sequence[int]) -> None:
        """Train on whole groups, test on recorded sounds of the others."""
        for r in repeats:
            fold_of = self.folds(r)
            for f in range(self.plan.folds):
                todo = [(c, a) for c in classifiers for a in arms if self.cells.get(cell(c.name, a, r, f)) is None]
                if todo:
                    self._fold(todo, np.flatnonzero(fold_of != f), np.flatnonzero(fold_of == f), r, f)

    def folds(self, repeat: int) -> Rows:
        """Fold of every sound in one repeat."""
        return group_folds(self.groups, self.target, self.plan.folds, seed_of(self.plan.seed, "folds", repeat))

    def _check_groups(self) -> None:
        """Refuse too few groups before the first autoencoder is trained."""
        fold_of = self.folds(0)
        for f in range(self.plan.folds):
            train = np.flatnonzero(fold_of != f)
            inner_folds([self.groups[int(i)] for i in train], self.target[train], self.plan.inner)

    def _fold(self, todo: Sequence[tuple[Classifier, Arm]], train: Rows, test: Rows, r: int, f: int) -> None:
        real = self._batch(train)
        additions = Additions(real, self.plan.training, (f"r{r}", f"f{f}"), self._checkpoints)
        held_out = frozenset(self.groups[int(i)] for i in test)
        real.guard(held_out)
        for c, arm in todo:
            choice = self._choice(c, train, r, f)
            with_real, added = additions.training_set(arm)
            x, target = self._of(c)[train], real.target
            if added is not None:
                added.guard(held_out)
                own = c.features(list(added.x))
                x = np.concatenate([x, own]) if with_real else own
                target = np.concatenate([target, added.target]) if with_real else added.target
            seed = seed_of(self.plan.seed, c.name, r, f)
            scores = c.scores(x, target, self._of(c)[test], [choice], seed)[0]
            self._done(cell(c.name, arm, r, f), {"rows": test.tolist(), "scores": scores.tolist(), "choice": choice})

    def _choice(self, c: Classifier, train: Rows, r: int, f: int) -> float:
        """The setting that does best on one inner fold of the training groups, without any addition."""
        if len(c.choices) == 1:
            return c.choices[0]
        name = f"choice-{c.name}-r{r}-f{f}"
        known = self.cells.get(name)
        if known is None:
            own = [self.groups[int(i)] for i in train]
            x, y = self._of(c)[train], self.target[train]
            k = inner_folds(own, y, self.plan.inner)
            fold = group_folds(own, y, k, seed_of(self.plan.seed, "inner", r, f))
            fit, judge = fold != 0, fold == 0
            seed = seed_of(self.plan.seed, c.name, "inner", r, f)
            tried = c.scores(x[fit], y[fit], x[judge], c.choices, seed)
            loss = [_cross_entropy(p, y[judge]) for p in tried]
            known = {"choice": c.choices[int(np.argmin(loss))], "loss": loss}
            self.cells.put(name, known)
        return float(known["choice"])

    def best_arm(self) -> Arm:
        """The augmentation with the highest mean AUC of the quick classifiers in the first repeat."""

        def merit(arm: Arm) -> float:
            scores = [self.scores(c, arm, 0) for c in (Bands().name, SmallNetwork().name)]
            return float(np.mean([auc(s, self.target) for s in scores if s is not None]))

        return max((a for a in self.plan.arms if a.kind not in {"none", "vae only"}), key=merit)

    # results ---------------------------------------------------------------------------------------------------------

    def scores(self, classifier: str, arm: Arm, repeat: int) -> Float64 | None:
        """Held-out scores of all sounds in one repeat, shape (n,), or None while folds are missing."""
        out = np.full(len(self.sounds), np.nan)
        for f in range(self.plan.folds):
            done = self.cells.get(cell(classifier, arm, repeat, f))
            if done is None:
                return None
            out[done["rows"]] = done["scores"]
        return out

    def expected(self) -> Iterator[str]:
        """Names of all cells of the quick classifiers."""
        for c in (Bands().name, SmallNetwork().name):
            for s in range(self.plan.paper_seeds):
                yield from (f"paper-{c}-{what}-s{s}" for what in ("augmented", "originals"))
            for r in range(self.plan.repeats):
                yield from (cell(c, a, r, f) for a in self.plan.arms for f in range(self.plan.folds))

    def _batch(self, rows: Rows) -> Batch:
        return Batch(self.x[rows], self.target[rows], tuple(frozenset({self.groups[int(i)]}) for i in rows))

    def _of(self, c: Classifier) -> Float64:
        """Features of all recorded sounds, cut to the length of the synthetic ones."""
        if c.name not in self._features:
            self._features[c.name] = c.features(list(self.x))
        return self._features[c.name]

    def _done(self, name: str, content: dict[str, Any]) -> None:
        self.cells.put(name, content)
        self._tell(name)


def inner_folds(own: Sequence[str], y: Float64, most: int) -> int:
    """Folds for choosing a setting: `most`, or as many as the rarer class has groups.

    Raises:
        BadInput: there is one group of a class, so that none is left to learn from.
    """
    fewest = min(len({g for g, t in zip(own, y, strict=True) if (t > 0.5) == c}) for c in (False, True))
    if fewest < 2:
        raise BadInput(
            "too_few_groups",
            "what is learned from has one group with one of the classes, which cannot be divided to choose a setting: "
            "record more, or hold out less at once",
        )
    return min(most, fewest)


def best_penalty(x: Float64, y: Float64, fold: Rows) -> float:
    """The inverse penalty of `Bands` with the lowest cross-entropy over folds, each judged by what the others teach.

    Args:
        x: band levels or their differences, shape (n, 21).
        y: 0 or 1, shape (n,).
        fold: of each row, from 0 on, shape (n,).
    """

    def loss(c: float) -> float:
        p = np.empty(len(y))
        for f in range(int(fold.max()) + 1):
            p[fold == f] = fit_logistic(x[fold != f], y[fold != f], c).probability(x[fold == f])
        return float(-np.mean(np.log(np.clip(np.where(y > 0.5, p, 1.0 - p), 1e-9, 1.0))))

    return min(Bands().choices, key=loss)


def cell(classifier: str, arm: Arm, repeat: int, fold: int) -> str:
    """Name of a leak-free cell."""
    return f"{classifier}-{arm.name}-r{repeat}-f{fold}"


def _cross_entropy(p: Float64, y: Float64) -> float:
    q = np.clip(p, 1e-6, 1.0 - 1e-6)
    return float(-np.mean(y * np.log(q) + (1.0 - y) * np.log(1.0 - q)))
