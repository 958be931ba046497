"""One problem through the protocols: every model on the same splits, confusions kept so that nothing is lost."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.heads.head import Ints
from models.heads.logistic import fit_logistic
from models.heads.two_layer import fit_two_layer
from models.probe.clips import Clips, Strings
from models.probe.metrics import Units, confusion
from models.probe.splits import Plan
from pipeline.messages import Float32

HeadName: TypeAlias = Literal["majority", "logistic", "two_layer"]
MAJORITY = "majority"
BASELINE = "logmel + logistic"
"""What every learned model is compared with."""
RULES = 2
"""Number of the way in which heads are trained here; confusions that were kept under another one are not taken over."""
Tables: TypeAlias = NDArray[np.int64]
Notice: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Model:
    """Features and the head on them."""

    features: str
    head: HeadName

    @property
    def name(self) -> str:
        """As tables show it."""
        return MAJORITY if self.head == "majority" else f"{self.features} + {self.head.replace('_', '-')}"


def models_of(features: Mapping[str, Float32], heads: tuple[HeadName, ...] = ("logistic", "two_layer")) -> list[Model]:
    """The majority, then each kind of features with each head; the optional openSMILE with the logistic one alone."""
    pairs = [Model(name, head) for name in features for head in heads if name != "opensmile" or head == "logistic"]
    if Model("logmel", "logistic") not in pairs:
        pairs.insert(0, Model("logmel", "logistic"))
    return [Model("", "majority"), *pairs]


def judge(
    clips: Clips, plan: Plan, units: Units, x: Float32 | None, model: Model, seed: int, notice: Notice | None = None
) -> Tables:
    """Train and test a model on every split of a plan.

    Args:
        clips: of the problem.
        plan: the splits.
        units: of resampling.
        x: features (n, k); None for the majority.
        model: what is trained.
        seed: of the heads.
        notice: told the repeat before it runs.

    Returns:
        Confusions (repeats, units, classes, classes).
    """
    tables = []
    y, labels = clips.y, clips.labels
    # the paper's protocol knows no groups: the part that its head watches is drawn clip by clip, as its test part is
    groups = np.arange(len(clips)).astype(str) if plan.mode == "paper" else clips.group
    for repeat, split in enumerate(plan.splits):
        if notice is not None:
            notice(f"{model.name}, repeat {repeat + 1}")
        answer = _answers(model, x, y, labels, groups, split.train, split.test, seed + repeat)
        tables.append(confusion(y[split.test], answer, units.of[split.test], units.count, len(labels)))
    return np.stack(tables)


def _answers(
    model: Model,
    x: Float32 | None,
    y: Ints,
    labels: tuple[str, ...],
    groups: Strings,
    train: Ints,
    test: Ints,
    seed: int,
) -> Ints:
    if x is None or model.head == "majority":
        return np.full(len(test), np.bincount(y[train]).argmax(), np.intp)
    if model.head == "logistic":
        head = fit_logistic(x[train], y[train], labels)
    else:
        head = fit_two_layer(x[train], y[train], labels, groups[train].tolist(), seed)
    answer: Ints = head.logits(x[test]).argmax(axis=1).astype(np.intp)
    return answer


def kept(path: Path, digest: str) -> dict[str, NDArray[np.generic]] | None:
    """Arrays that an earlier run left under this digest; None where there are none, or they are damaged."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return found if str(found.pop("digest", "")) == digest else None


def keep(path: Path, digest: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Leave arrays for a later run, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    everything: dict[str, NDArray[np.generic]] = {"digest": np.array(digest), **arrays}
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **everything)
    partial.replace(path)
