"""What the numbers of a file are worth: their unit, and how much of it one count is."""

from __future__ import annotations

from pipeline.errors import BadInput

FULL_SCALE = {"<i2": 2.0**-15, "<i4": 2.0**-31, "<f4": 1.0}
"""A count as a share of full scale, by wire type."""


def quantity(kind: str, dtype: str, unit: str | None, scale: float | None, where: str) -> tuple[str, float]:
    """Unit and unit per count of sound or numbers: sound has a full scale, numbers are in the unit that was told.

    Args:
        kind: of the recording, ``"sound"`` or ``"numbers"``.
        dtype: wire type of its counts.
        unit: as told, or None.
        scale: as told, or None.
        where: what to name in errors.

    Raises:
        BadInput: the unit of numbers, or what a count of anything but full scale is worth, was not told.
    """
    if kind == "numbers" and unit is None:
        raise BadInput("unit", f'{where} does not tell its unit: say it (unit = "m/s2", "Pa", …)')
    if scale is not None:
        return unit or "FS", scale
    if kind == "numbers" and unit is not None and unit != "FS":
        return unit, 1.0
    if unit not in {None, "FS"} or (kind == "numbers" and dtype == "<i4"):  # which may be the counts of any converter
        raise BadInput("unit", f"unit of {where} is {unit}, but not what a count is worth: say it (scale)")
    return "FS", FULL_SCALE[dtype]
