"""The drill classifier of a machine: its package, whether it fits, and what it says of a row of levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from config.schema import Drill, Machine
from models.drill.data import Float64
from models.drill.levels import BANDS, HASH, RATES
from pipeline.errors import BadInput, ConfigError
from pipeline.shelf import Shelf

if TYPE_CHECKING:
    from models.packages import Card

HEARD = frozenset({"acoustic", "stethoscope"})
FRACTURE = "anomaly"
"""The label whose probability counts."""


class DrillModel:
    """A package that judges the level differences of a stream; its session is made in the process that runs it.

    It runs in the lane, a row at a time: 21 numbers cost less than the way to a batch of other machines, and a drill
    that breaks does not wait.

    Args:
        machine: whose; for errors.
        digest: of the package.
        said: the machine's section.
        shelf: the packages of this process.

    Raises:
        BadInput: the package is of another kind, or was taught on other rows.
        StateError: it is missing or damaged.
    """

    def __init__(self, machine: str, digest: str, said: Drill, shelf: Shelf) -> None:
        self.digest = digest
        self._shelf = shelf
        card = shelf.get(digest).card
        _check(card, f"machine '{machine}', drill classifier '{card.name}' {card.version}")
        self._column = card.labels.index(FRACTURE)
        self.model = f"{card.name} {card.version}"
        self.rule = said.rule
        self.threshold = card.thresholds.get(FRACTURE, 0.5) if said.threshold is None else said.threshold

    def odds(self, row: Float64) -> float:
        """Log odds of a fracture of one row, shape (21,)."""
        logits = self._shelf.get(self.digest).session().first(row[None].astype(np.float32))[0]
        return float(logits[self._column]) - float(logits[1 - self._column])


def _check(card: Card, where: str) -> None:
    """Refuse what does not judge the rows that a lane makes."""
    if card.kind != "classifier" or FRACTURE not in card.labels or card.outputs[0].shape != (2,):
        raise BadInput("kind", f"{where}: is of kind {card.kind} with labels {card.labels}, no classifier of fractures")
    if card.input.features != HASH or card.input.shape != (BANDS,):
        heard = card.input.features or "clips"
        raise BadInput(
            "features",
            f"{where}: reads rows of {heard} ({card.input.preset}), not the level differences {HASH} of a stream: "
            "train it with stethos train drill --manifest",
        )
    if card.input.rate_hz != RATES[0]:
        raise BadInput("rate", f"{where}: was taught at {card.input.rate_hz:g} Hz, not at {RATES[0]:g} Hz")


def configured(machine: Machine, shelf: Shelf) -> DrillModel | None:
    """The classifier that a configuration names, or None.

    Raises:
        ConfigError: it does not fit, or the machine has no sensor that it can hear.
        StateError: it is missing or damaged.
    """
    said = machine.drill
    if said is None or said.classifier is None:
        return None
    try:
        made = DrillModel(machine.name, shelf.add(said.classifier).digest, said, shelf)
    except BadInput as error:
        raise ConfigError(str(error)) from None
    if not any(sensor.modality in HEARD and sensor.rate_hz in RATES for sensor in machine.sensors):
        rates = " or ".join(f"{rate:g}" for rate in RATES)
        raise ConfigError(
            f"machine '{machine.name}': the drill classifier hears sound at {rates} Hz, and no sensor has it"
        )
    return made


def of_recording(machine: Machine, shelf: Shelf, digest: str | None) -> DrillModel | None:
    """The classifier that a recording was made with, found by its digest.

    Raises:
        StateError: it is not at hand.
    """
    return None if machine.drill is None or digest is None else DrillModel(machine.name, digest, machine.drill, shelf)
