"""Label tracks of Audacity: regions of a recording with their names, as its "Export Labels" writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadInput

SHORTEST_S = 0.5


@dataclass(frozen=True, slots=True)
class Region:
    """Seconds [start_s, end_s) of a recording that show `label`."""

    start_s: float
    end_s: float
    label: str


def read_track(path: Path) -> tuple[list[Region], list[str]]:
    r"""Read a label track: lines ``start<tab>end<tab>label`` in seconds; lines of frequencies begin with a backslash.

    Returns:
        The regions in order of time, and notes about points and regions under half a second, which are left out.

    Raises:
        BadInput: the file cannot be read, a line has no such form, or regions of different labels overlap.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("labels", f"{path}: cannot be read as a UTF-8 label track: {error}") from error
    regions: list[Region] = []
    notes: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("\\"):
            continue
        region = _region(line, f"{path}, line {number}")
        if region.end_s - region.start_s < SHORTEST_S:
            notes.append(f"{path.name}, line {number}: '{region.label}' is shorter than {SHORTEST_S:g} s; left out")
        else:
            regions.append(region)
    regions.sort(key=lambda r: (r.start_s, r.end_s))
    furthest: dict[str, float] = {}
    for region in regions:
        for label, end_s in furthest.items():
            if region.start_s < end_s - 1e-6 and region.label != label:
                raise BadInput(
                    "labels",
                    f"{path}: '{label}' until {end_s:g} s and '{region.label}' from {region.start_s:g} s overlap; "
                    "a second has one label",
                )
        furthest[region.label] = max(region.end_s, furthest.get(region.label, 0.0))
    if not regions:
        raise BadInput("labels", f"{path}: has no region of {SHORTEST_S:g} s or more; mark regions, not points")
    return regions, notes


def _region(line: str, where: str) -> Region:
    cells = line.split("\t")
    if len(cells) < 3 or not cells[2].strip():
        raise BadInput("labels", f"{where}: must be start, end and label between tabs, as Audacity exports them")
    try:
        start, end = (float(cell.replace(",", ".")) for cell in cells[:2])
    except ValueError:
        raise BadInput("labels", f"{where}: start and end must be seconds") from None
    if not (math.isfinite(start) and math.isfinite(end) and 0.0 <= start <= end):
        raise BadInput("labels", f"{where}: must end after it starts, and not start before 0")
    return Region(start, end, cells[2].strip())
