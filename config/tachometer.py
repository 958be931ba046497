"""A tachometer on a channel of a sensor's device."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from config.closed import Closed


class Tachometer(Closed):
    """Which channel tells the spindle's speed, and how: pulses (`level`) or a signal in proportion (`rpm_per_unit`).

    Levels are shares of full scale for sound, and the file's own numbers for NPZ and CSV; a sensor's `scale` plays no
    part.
    """

    channel: int = Field(ge=0, le=255, description="of the device or file, from 0; may be one the sensor does not have")
    context: str = Field("spindle_rpm", min_length=1, description="the name that the spindle's `rpm_context` refers to")
    level: float | None = Field(None, description="trigger level of pulses; a pulse returns by half of it")
    edge: Literal["rising", "falling"] = Field("rising", description="where a pulse begins")
    pulses_per_revolution: int = Field(1, ge=1, le=10_000, description="evenly spaced")
    rpm_per_unit: float | None = Field(None, description="speed that one unit of a signal in proportion stands for")

    @model_validator(mode="after")
    def _pulses_or_voltage(self) -> Tachometer:
        if (self.level is None) == (self.rpm_per_unit is None):
            raise ValueError("a tachometer needs either level (pulses) or rpm_per_unit (a signal in proportion)")
        if 0.0 in {self.level, self.rpm_per_unit}:
            raise ValueError("level and rpm_per_unit must not be 0")
        if self.level is None and {"edge", "pulses_per_revolution"} & self.model_fields_set:
            raise ValueError("edge and pulses_per_revolution are those of pulses: give level in place of rpm_per_unit")
        return self
