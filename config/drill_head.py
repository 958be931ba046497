"""`[machine.drill.head]`: a head of many drills, and the microphones of one converter that hear it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Protocol

from pydantic import Field, model_validator

from config.closed import Closed

Place = Annotated[tuple[float, ...], Field(min_length=2, max_length=3)]
"""Two or three coordinates in m."""


class Sensing(Protocol):
    """What must be known of a sensor."""

    @property
    def name(self) -> str:
        """Of the sensor."""

    @property
    def modality(self) -> str:
        """Of the sensor."""

    @property
    def channels(self) -> int:
        """Of each sample."""


class DrillHead(Closed):
    """Where bits and microphones are, in one frame of coordinates; a grid begins at the origin, x along its rows."""

    rows: int | None = Field(None, ge=1, le=120, description="of a grid of bits, numbered row by row")
    columns: int | None = Field(None, ge=1, le=120, description="bits of a row, along x")
    pitch_m: float | None = Field(None, gt=0, lt=1, description="from bit to bit, along rows and columns")
    spindles_m: tuple[Place, ...] = Field((), description="of a head that is no grid: the place of each bit")
    microphones_m: tuple[Place, ...] = Field(
        min_length=2, max_length=8, description="one per channel, in their order; to 1 mm"
    )
    sensor: str | None = Field(None, description="default: the only sound sensor with several channels")
    sound_speed_m_s: float = Field(343.0, ge=250, le=450, description="343 at 20 °C, 0.6 more per kelvin")

    @model_validator(mode="after")
    def _one_shape(self) -> DrillHead:
        shape = (self.rows, self.columns, self.pitch_m)
        if bool(self.spindles_m) == all(part is not None for part in shape) or (
            self.spindles_m and any(part is not None for part in shape)
        ):
            raise ValueError("a drilling head is either a grid (rows, columns, pitch_m) or a list (spindles_m)")
        bits = len(self.spindles_m) or (self.rows or 0) * (self.columns or 0)
        if not 2 <= bits <= 120:
            raise ValueError(f"a drilling head has 2 to 120 bits, not {bits}")
        return self

    def hears(self, machine: str, sensors: Iterable[Sensing]) -> str:
        """Name of the sensor that hears the head.

        Args:
            machine: for errors.
            sensors: of the machine.

        Raises:
            ValueError: there is none or more than one, or its channels are not the microphones.
        """
        able = [s for s in sensors if s.modality in {"acoustic", "stethoscope"} and self.sensor in {None, s.name}]
        if self.sensor is None:
            able = [s for s in able if s.channels > 1]
        if len(able) != 1:
            found = ", ".join(s.name for s in able) or "none"
            raise ValueError(
                f"the drilling head of machine '{machine}' is heard by one sound sensor with a channel per microphone; "
                f'found: {found}; name it with sensor = "..." in [machine.drill.head]'
            )
        if able[0].channels != len(self.microphones_m):
            raise ValueError(
                f"the drilling head of machine '{machine}' has {len(self.microphones_m)} microphones_m, but sensor "
                f"'{able[0].name}' has {able[0].channels} channels: give one place per channel, in their order"
            )
        return able[0].name
