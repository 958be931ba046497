"""Where the bits and the microphones of a drilling head are, and what follows for sound from each bit.

From bit k to microphone m sound takes r/c and is weakened as 1/r (free field). Cross-spectra between microphones are
fitted against these steering phases; nothing is searched for anywhere else than where a bit is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

MOST_BITS = 120
MICROPHONES = (2, 8)
_NEAREST_M, _FARTHEST_M = 0.02, 10.0


@dataclass(frozen=True, slots=True, eq=False)
class HeadGeometry:
    """A head and its microphones, in one frame of coordinates.

    Args:
        spindles_m: of the bits' tips, shape (bits, 2) or (bits, 3), in m.
        microphones_m: shape (microphones, 2) or (microphones, 3), in m; missing heights are 0.
        sound_speed_m_s: of the air between them.
        columns: bits of a row where the head is a grid, numbered row by row; None for any other head.

    Raises:
        ValueError: fewer than 2 or more than 120 bits, 2 to 8 microphones not given, two of them at one place, a
            microphone within 2 cm of a bit or more than 10 m from one, coordinates that are not finite, or a speed that
            is no speed of sound.
    """

    spindles_m: Float64
    microphones_m: Float64
    sound_speed_m_s: float = 343.0
    columns: int | None = None

    def __post_init__(self) -> None:
        bits, microphones = _solid(self.spindles_m, "a bit"), _solid(self.microphones_m, "a microphone")
        object.__setattr__(self, "spindles_m", bits)
        object.__setattr__(self, "microphones_m", microphones)
        if not 2 <= len(bits) <= MOST_BITS:
            raise ValueError(f"a head has 2 to {MOST_BITS} bits, not {len(bits)}")
        if not MICROPHONES[0] <= len(microphones) <= MICROPHONES[1]:
            raise ValueError(f"a head is heard by 2 to 8 microphones, not {len(microphones)}")
        if not 250.0 <= self.sound_speed_m_s <= 450.0:
            raise ValueError(f"{self.sound_speed_m_s:g} m/s is not the speed of sound in air")
        for name, places in (("bits", bits), ("microphones", microphones)):
            if min(float(np.linalg.norm(a - b)) for a, b in combinations(places, 2)) < 1e-4:
                raise ValueError(f"two {name} are at the same place")
        if float(self.distances_m().min()) < _NEAREST_M:
            raise ValueError("a microphone is within 2 cm of a bit: give both in m, in one frame of coordinates")
        if float(self.distances_m().max()) > _FARTHEST_M:  # its delays would outlast what a restart reads again
            raise ValueError("a microphone is more than 10 m from a bit: give both in m, in one frame of coordinates")

    def distances_m(self) -> Float64:
        """Distance from each bit to each microphone, shape (bits, microphones)."""
        apart = self.spindles_m[:, None] - self.microphones_m[None]
        return np.asarray(np.linalg.norm(apart, axis=2), np.float64)

    def delays_s(self) -> Float64:
        """Time from each bit to each microphone, shape (bits, microphones)."""
        return self.distances_m() / self.sound_speed_m_s

    def weights(self) -> Float64:
        """Amplitude of each bit at each microphone as a share of all bits' together, shape (bits, microphones).

        ``g = (1/r) / sqrt(sum over the bits of 1/r²)``: a microphone's own sensitivity is not needed.
        """
        gains = 1.0 / self.distances_m()
        shares: Float64 = gains / np.sqrt(np.sum(gains**2, axis=0))
        return shares

    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of microphones."""
        return list(combinations(range(len(self.microphones_m)), 2))

    def pitch_m(self) -> float:
        """Distance from a bit to its nearest neighbour, the smallest in the head."""
        return min(float(np.linalg.norm(a - b)) for a, b in combinations(self.spindles_m, 2))

    def name(self, spindle: int) -> str:
        """A bit for people, counted from 1."""
        if self.columns is None:
            return f"bit {spindle + 1}"
        row, column = divmod(spindle, self.columns)
        return f"bit {spindle + 1} (row {row + 1}, column {column + 1})"


def grid(rows: int, columns: int, pitch_m: float) -> Float64:
    """Places of a rectangular head, row by row from the origin, x along a row, shape (rows × columns, 2)."""
    index = np.arange(rows * columns)
    return np.stack([index % columns, index // columns], axis=1).astype(np.float64) * pitch_m


def _solid(places: Float64, what: str) -> Float64:
    """Three coordinates each."""
    given = np.asarray(places, np.float64)
    if given.ndim != 2 or given.shape[1] not in (2, 3) or not np.isfinite(given).all():
        raise ValueError(f"the place of {what} is two or three finite numbers in m")
    return np.pad(given, ((0, 0), (0, 3 - given.shape[1])))
