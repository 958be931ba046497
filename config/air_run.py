"""`[machine.spindle.air_run]`: the speed is measured while the spindle turns in the air, and held through the cut."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from config.closed import Closed


class AirRun(Closed):
    """Which sensor hears the spindle turn before it cuts, and between which speeds the machine's programs run."""

    sensor: str = Field(min_length=1, description="of sound or vibration, from 1,000 Hz on")
    states: tuple[str, ...] = Field(min_length=1, description="`state_context` values: it turns and does not cut")
    lowest_rpm: float = Field(ge=400, description="of the programs")
    highest_rpm: float = Field(description="of the programs, less than twice the lowest")

    @model_validator(mode="after")
    def _within_an_octave(self) -> AirRun:
        if not self.lowest_rpm < self.highest_rpm < 2.0 * self.lowest_rpm:
            raise ValueError(
                f"an air run tells a speed from its half or double only where highest_rpm is above lowest_rpm and "
                f"below twice that, not {self.lowest_rpm:g} to {self.highest_rpm:g} rpm"
            )
        return self

    def hears(self, machine: str, sensors: Any, cutting: tuple[str, ...]) -> None:
        """Refuse a sensor that cannot hear a spindle, and states that mean both.

        Raises:
            ValueError: no such sensor, one of frames or too slow, no cutting states, or one that is said to be air.
        """
        found = next((s for s in sensors if s.name == self.sensor), None)
        if found is None or found.modality == "frames" or found.rate_hz < 1000.0:
            raise ValueError(f"the air run of machine '{machine}' needs a sensor of 1,000 Hz: '{self.sensor}' is none")
        if not cutting or set(cutting) & set(self.states):
            raise ValueError(f"the air run of machine '{machine}' needs cutting_states, and other states that mean air")
