"""What rounding an encoder to eight bits costs a linear probe: both graphs on the same clips and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.impact.pooling import POOLINGS, pool
from models.metrics import Interval
from models.packages.session import Session
from models.probe import splits
from models.probe.clips import Facts, columns
from models.probe.metrics import difference, interval, units
from models.probe.run import Model, judge
from models.probe.seconds import Second
from pipeline.errors import BadInput
from pipeline.messages import Float32

BEFORE, AFTER, BASELINE = "float32", "int8", "logmel"


class Tokens:
    """An encoder that is no package yet, as an extractor: pooled in each way that it has.

    Args:
        name: `BEFORE` or `AFTER`.
        session: of its graph.
    """

    def __init__(self, name: str, session: Session) -> None:
        self.name = self.digest = name
        self._session = session

    def vectors(self, clips: Sequence[Second]) -> dict[str, Float32]:
        """Features by pooling, (n, k)."""
        card = self._session.card
        assert card.grid is not None
        images = np.stack([c.image for c in clips])
        tokens = self._session.first(images[:, None])
        return {how: pool(tokens, how, card.grid, card.cls, images) for how in POOLINGS[0 if card.cls else 1 :]}


def rounding_loss(facts: Sequence[Facts], features: Mapping[str, Float32], seed: int = 0) -> dict[str, Any]:
    """Macro F1 of logistic regression on both graphs' features, split without leaks, and what was lost.

    Args:
        facts: of the clips.
        features: extractor and pooling → (n, k): of `Tokens` named `BEFORE` and `AFTER`, and of ``logmel``.
        seed: of the splits.

    Returns:
        For a card: clips, classes, split, what is resampled, ``logmel``, and by pooling the value and 95 % interval of
        `BEFORE`, `AFTER`, and of the second less the first (``minus``), resampled together.

    Raises:
        BadInput: fewer than two classes or groups, or recordings too short to be split; see `splits.leak_free`.
    """
    if not facts:
        raise BadInput("manifest", "no clip of the labelled recordings could be used")
    clips = columns(facts)
    plan, unit = splits.leak_free(clips, seed=seed), units(clips)
    tables = {name: judge(clips, plan, unit, x, Model(name, "logistic"), seed) for name, x in features.items()}
    told: dict[str, Any] = {
        "clips": len(clips),
        "classes": len(clips.labels),
        "score": f"macro F1, logistic regression; {plan.sentence}; intervals over {unit.name}",
        BASELINE: _told(interval(tables[BASELINE])[0]),
    }
    for how in (name.partition(" ")[2] for name in features if name.startswith(f"{BEFORE} ")):
        before, after = tables[f"{BEFORE} {how}"], tables[f"{AFTER} {how}"]
        told[how] = {
            BEFORE: _told(interval(before)[0]),
            AFTER: _told(interval(after)[0]),
            "minus": _told(difference(after, before)),
        }
    return told


def _told(x: Interval) -> dict[str, Any]:
    return {"value": round(x.value, 4), "interval": [round(x.low, 4), round(x.high, 4)]}
