"""Makes the detector of a machine that drills with a head of many bits."""

from __future__ import annotations

import numpy as np

from operators.head import HeadFrames
from operators.head_detector import HeadDetector
from operators.head_geometry import HeadGeometry, grid
from pipeline.errors import BadInput
from pipeline.messages import Stream
from pipeline.stages import LaneSettings
from pipeline.stages_spindle import Facing, LaneSpeed


def geometry(settings: LaneSettings) -> HeadGeometry | None:
    """Bits and microphones, where the machine says that it has such a head.

    Raises:
        BadInput: places that cannot be.
    """
    said = None if settings.machine.drill is None else settings.machine.drill.head
    if said is None:
        return None
    if said.rows is not None and said.columns is not None and said.pitch_m is not None:
        bits, columns = grid(said.rows, said.columns, said.pitch_m), said.columns
    else:
        bits, columns = _places(said.spindles_m), None
    try:
        return HeadGeometry(bits, _places(said.microphones_m), said.sound_speed_m_s, columns)
    except ValueError as wrong:
        raise BadInput("drill_head", f"machine '{settings.machine.name}', [machine.drill.head]: {wrong}") from wrong


def head(settings: LaneSettings, stream: Stream | None) -> Facing | None:
    """Bursts and shares of the bits, for the sensor that hears the head.

    Raises:
        BadInput: the stream has another number of channels than there are microphones, or is too slow.
    """
    made = geometry(settings)
    if stream is None or made is None or settings.machine.drill is None or settings.machine.drill.head is None:
        return None
    if stream.sensor != settings.machine.drill.head.hears(settings.machine.name, settings.machine.sensors):
        return None
    speed = LaneSpeed(settings)
    try:
        return Facing(HeadFrames(stream, made, speed), speed)
    except ValueError as wrong:
        raise BadInput("drill_head", f"machine '{settings.machine.name}': {wrong}") from wrong


def head_detector(settings: LaneSettings, _stream: Stream | None) -> HeadDetector | None:
    """Which bit broke, and which one is silent."""
    made, said = geometry(settings), settings.machine.drill
    return None if made is None or said is None else HeadDetector(made, said.taught_holes)


def _places(given: tuple[tuple[float, ...], ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Coordinates with a height each, shape (places, 3)."""
    return np.array([(*place, *[0.0] * (3 - len(place))) for place in given])
