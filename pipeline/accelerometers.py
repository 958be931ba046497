"""The accelerometers of a machine: which of them a head on vibration reads, and why it reads none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from models.anomaly.vectors import Extraction, extraction
from models.heads.vibration import misfit
from models.packages import Card
from pipeline.errors import BadInput
from pipeline.messages import Stream


class Accelerometers:
    """Sensors of vibration by name, with the features that heads read of them.

    Args:
        streams: of all sensors that a machine's models may read; those of sound are left out.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._streams: Mapping[str, Stream] = {s.sensor: s for s in streams if s.modality == "vibration"}
        self._features: Mapping[str, Extraction] = {name: extraction(s) for name, s in self._streams.items()}

    def __contains__(self, sensor: str) -> bool:
        return sensor in self._streams

    def reads(self, card: Card, sensor: str) -> bool:
        """Whether a head reads this sensor; never where it is no accelerometer."""
        return sensor in self and misfit(card, self._features[sensor], self._streams[sensor].unit) is None

    def check(self, card: Card, where: str) -> None:
        """Refuse a head on vibration that reads none of them.

        Args:
            card: of the head.
            where: machine, head and package, for the error.

        Raises:
            BadInput: says what the head was taught on, and what there is.
        """
        if any(self.reads(card, sensor) for sensor in self._streams):
            return
        if not self._streams:
            raise BadInput(
                "modality", f"{where} was taught on an accelerometer ({card.input.preset}), and there is none"
            )
        told = "; ".join(f"{_said(s)}, but {misfit(card, extraction(s), s.unit)}" for s in self._streams.values())
        raise BadInput("features", f"{where} reads no sensor of this machine: {told}")


def _said(s: Stream) -> str:
    return f"{s.sensor} has {s.channels} axes at {s.rate.hz:g} Hz in {s.unit}"
