"""What good holes of one program are like: how long they last, how loud they are, and how that goes over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import log10, sqrt
from statistics import fmean, median, pstdev
from typing import Any

from operators.band_levels import TINY, apart_db, excess, shape_db
from operators.hole_course import BIN_FRAMES, MAJORITY, Course
from operators.hole_ends import Ends

TUBE_SIGMA = 4.0
_LEAST_LEVEL_DB = 1.5
_WEAR_BANDS = (2, 3)
_LEAST_LENGTH = 0.03  # of the mean duration: the smallest standard deviation believed
_KEPT = 20
_LEAST_FADE = 0.015
ANOTHER = 0.15
_CANDIDATES = 6
"""Times as many holes as make a template of which it is chosen."""
FOREIGN_DB = 4.0
"""Mean distance by band from which a sound is not that of the taught drill; other holes of it are 1 to 3 dB apart."""
SAME_DB = 2.0
"""Mean distance by band up to which a hole of another level may be one of the taught ones."""
_FEWEST_BANDS, _HEARD_DB = 3, 2.0
BINS = 2400
"""Bins of 25 ms that a template can have: a minute."""
_LONGEST, LONG = 120_000, 6_000
"""Frames of the longest hole that is believed, 10 min; 30 s, or three times a good hole, where good ones are known."""


@dataclass(slots=True)
class Hole:
    """A hole under way.

    Attributes:
        frames: so far.
        bins: levels over the idle machine in dB, by band, of each 25 ms.
        bin_sum: of the frames of the bin under way, unit² by band.
        sum: of all frames, unit².
        begun: frame in which the drill began to cut, as far as is known.
        usual_db: level by band that is usual in this hole so far.
        back: frames in which it has been as quiet as the idle machine.
        falling: frames since a loss began.
        loss: frames with all of it.
        burst: frames for which a burst is remembered.
        under: frames below the template's tube.
        broken: whether a break was told.
        other: whether it is of another program.
        idle: level by band of the idle machine before it, unit².
    """

    frames: int = 0
    bins: list[list[float]] = field(default_factory=list)
    bin_sum: list[float] = field(default_factory=list)
    sum: float = 0.0
    begun: int = 0
    usual_db: list[float] = field(default_factory=list)
    back: int = 0
    falling: int = 0
    loss: int = 0
    burst: int = 0
    under: int = 0
    broken: bool = False
    other: bool = False
    idle: list[float] = field(default_factory=list)

    @property
    def place(self) -> int:
        """Frames since the drill began to cut."""
        return self.frames - self.begun

    def take(self, powers: Sequence[float], idle: Sequence[float]) -> None:
        """One more frame, as far as it is louder than the idle machine."""
        louder = excess(powers, idle)
        self.frames += 1
        self.sum += sum(louder)
        self.bin_sum = [a + b for a, b in zip(self.bin_sum or [0.0] * len(louder), louder, strict=True)]
        if self.frames % BIN_FRAMES == 0 and len(self.bins) < BINS:
            self.bins.append([round(10.0 * log10(max(total / BIN_FRAMES, TINY)), 1) for total in self.bin_sum])
            self.bin_sum = []


@dataclass(slots=True)
class Heard:
    """What is kept of a whole hole: its frames, those until it fades, levels in dB, of all bins and by band.

    `idle_db` is the level by band of the idle machine before it; earlier versions did not keep it.
    """

    frames: int
    fade: int
    level_db: float
    wear_db: float
    envelope: list[float]
    shape_db: list[float]
    idle_db: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, hole: Hole, found: Course) -> Heard:
        """What to keep of a hole that is over."""
        powers = [[10.0 ** (db / 10.0) for db in levels] for levels in hole.bins[found.first : found.last]]
        worn = [sum(levels[band] for band in _WEAR_BANDS if band < len(levels)) for levels in powers]
        return cls(
            frames=(found.last - found.first) * BIN_FRAMES,
            fade=(found.fades - found.first) * BIN_FRAMES,
            level_db=10.0 * log10(fmean(map(sum, powers))),
            wear_db=10.0 * log10(max(fmean(worn), TINY)),
            envelope=[round(10.0 * log10(sum(levels)), 1) for levels in powers],
            shape_db=sound(found.usual_db),
            idle_db=[round(10.0 * log10(max(power, TINY)), 1) for power in hole.idle],
        )

    def like(self, other: Heard) -> bool:
        """Whether both may be of one program: within 15 % as long, and alike by band."""
        return _alike(self.fade, other.fade) and apart_db(self.shape_db, other.shape_db) <= FOREIGN_DB

    @property
    def stands_out(self) -> bool:
        """Whether most bands, three at least, are heard over the idle machine: elsewhere a shape says nothing."""
        loud = sum(db + self.level_db > idle - _HEARD_DB for db, idle in zip(self.shape_db, self.idle_db, strict=False))
        return loud >= max(MAJORITY * len(self.shape_db), _FEWEST_BANDS)


class HoleTemplate:
    """Durations, levels and level envelopes of good holes.

    The first `teach` holes that are alike make the template, if together they last at least half as long as all that
    was heard meanwhile: bangs and compressed air may come between them. Later a hole whose duration differs (from mean
    ± 4 sigma and 10 %) is passed over; a second one like it in a row begins the template anew: another program.

    The envelope is the level in dB of each 25 ms from the hole's beginning; the tube around it is mean ± 4 sigma, of
    the part that all good holes have. Shorter holes that sound alike and come at least twice while it is taught are of
    the same program (`ends_at`). Durations go on being learned from good holes (the newest 20); levels and the
    envelope stay as taught, so that wear shows, but for a step that is the sensor's (`shift`).

    Args:
        teach: holes that make a template.
    """

    def __init__(self, teach: int) -> None:
        self._teach = teach
        self.holes = 0
        self._lengths: list[int] = []
        self._fades: list[int] = []
        self._levels: list[float] = []
        self._wears: list[float] = []
        self._mean: list[float] = []
        self._square: list[float] = []
        self._odd = 0
        self._shape: list[float] = []
        self._newer: list[float] = []
        self._heard: list[Heard] = []
        self._ends = Ends()
        self.idle_db: list[float] = []
        """Level by band of the idle machine before the taught holes."""
        self.shifted_db = 0.0
        """What has been learned of the level since it was taught."""

    @property
    def ready(self) -> bool:
        """Whether enough good holes are known."""
        return self.holes >= self._teach

    def learn(self, hole: Heard) -> None:
        """Take a good hole in."""
        if self.ready and (self.unlike(hole.frames) or self.still_cuts(hole.fade)):
            if self.ends_at(hole.fade):
                self.ended(hole.fade)
                return
            again = _alike(hole.fade, self._odd)
            self._odd = hole.fade
            if not again:
                return
            self.begin_anew()
        self._odd = 0
        self._ends.good()
        if not self.ready:
            self._hear(hole)
            return
        self._fades = [*self._fades[1 - _KEPT :], hole.fade]
        self._lengths = [*self._lengths[1 - _KEPT :], hole.frames]
        self._follow(hole.shape_db)
        self.holes += 1

    def ended(self, frames: int) -> None:
        """A hole ended here without a burst, where others go on."""
        self._ends.add(frames)

    def missed(self) -> None:
        """A tool was missing in the hole after the last one: it may have broken in that."""
        self._ends.withdraw()

    def ends_at(self, frames: int) -> bool:
        """Whether holes of this program end here, too."""
        return frames in self._ends

    def _hear(self, hole: Heard) -> None:
        """One more of the holes of which the template is made, once enough of them are alike."""
        self._heard.append(hole)
        while len(self._heard) > _CANDIDATES * self._teach or (
            sum(len(one.envelope) for one in self._heard) > 2 * BINS * self._teach
        ):
            del self._heard[0]
        groups = [[one for one in self._heard if one.like(other)] for other in self._heard]
        longest = max(groups, key=lambda group: sum(one.frames for one in group))
        whole = sum(one.frames for one in self._heard)
        if len(longest) < self._teach or 2 * sum(one.frames for one in longest) < whole:
            self.holes = min(len(longest), self._teach - 1)
            return
        self.holes = 0
        for one in longest[-self._teach :]:
            self._add(one)
        for one in self._heard:
            if self.still_cuts(one.fade, 0.0) and not self.foreign(one.shape_db):
                self.ended(one.fade)
        self._ends.keep()
        self._heard = []

    def _add(self, hole: Heard) -> None:
        self._fades.append(hole.fade)
        self._lengths.append(hole.frames)
        self._levels.append(hole.level_db)
        self._wears.append(hole.wear_db)
        self._widen(hole.envelope)
        self._shape = self._averaged(self._shape, hole.shape_db)
        self.idle_db = self._averaged(self.idle_db, hole.idle_db)
        self.holes += 1

    def _averaged(self, before: Sequence[float], newest: Sequence[float]) -> list[float]:
        n = self.holes
        return [(a * n + b) / (n + 1) for a, b in zip(before or newest, newest, strict=False)]

    def _follow(self, shape_db: Sequence[float]) -> None:
        """Two whole holes in a row that sound alike and unlike the taught ones: another drill."""
        newer = list(shape_db) if self.foreign(shape_db) else []
        if newer and self._newer and apart_db(newer, self._newer) < FOREIGN_DB:
            self._shape, newer = newer, []
        self._newer = newer

    def foreign(self, shape_db: Sequence[float]) -> bool:
        """Whether a sound is unlike that of the drill in good holes."""
        return self.ready and apart_db(shape_db, self._shape) > FOREIGN_DB

    def begin_anew(self) -> None:
        """Forget the program, but not where its holes ended: it may come back."""
        self.holes, self._lengths, self._fades, self._levels, self._wears = 0, [], [], [], []
        self._shape, self._newer, self._heard = [], [], []
        self.idle_db, self.shifted_db = [], 0.0

    def same(self, hole: Heard) -> bool:
        """Whether a hole has the course and the composition of the taught ones, however loud it is."""
        if (self.unlike(hole.frames, 0.0) or self.still_cuts(hole.fade)) and not self.ends_at(hole.fade):
            return False
        return hole.stands_out and apart_db(hole.shape_db, self._shape) <= SAME_DB

    def may_be_hole(self, hole: Heard) -> bool:
        """Whether what is not the same may be a hole all the same: bangs and air are shorter and sound otherwise."""
        drilled = 2 * hole.frames > self.mean_frames() and not self.foreign(hole.shape_db)
        return drilled or not self.unlike(hole.frames, 0.3)

    def shift(self, db: float) -> None:
        """The sensor hears all holes so much louder from now on."""
        self._levels = [level + db for level in self._levels]
        self._wears = [level + db for level in self._wears]
        self._mean = [level + db for level in self._mean]
        self.shifted_db += db

    def _widen(self, envelope: Sequence[float]) -> None:
        """Running mean and sum of squares (Welford) of the bins that all holes have."""
        n = self.holes + 1
        if n == 1:
            self._mean, self._square = list(envelope), [0.0] * len(envelope)
            return
        size = min(len(envelope), len(self._mean))
        before = self._mean[:size]
        self._mean = [m + (x - m) / n for m, x in zip(before, envelope, strict=False)]
        self._square = [
            s + (x - b) * (x - m) for s, x, b, m in zip(self._square, envelope, before, self._mean, strict=False)
        ]

    def below_db(self, frames: int, level_db: float) -> float:
        """How far a level at this place of a hole lies below the tube; 0 where there is none."""
        place = frames // BIN_FRAMES
        if not self.ready or place >= len(self._mean) or not self.still_cuts(frames):
            return 0.0
        sigma = max(sqrt(self._square[place] / self._teach), _LEAST_LEVEL_DB)
        return max(0.0, self._mean[place] - TUBE_SIGMA * sigma - level_db)

    def still_cuts(self, frames: int, margin: float = 0.03) -> bool:
        """Whether good holes are sure to cut fully here: mean - 4 sigma of when they begin to fade, less a margin."""
        if not self.ready:
            return False
        middle = median(self._fades)
        below = [min(fade - middle, 0.0) for fade in self._fades]
        sigma = max(sqrt(2.0 * fmean(x * x for x in below)), _LEAST_FADE * middle)
        return frames < (1.0 - margin) * middle - TUBE_SIGMA * sigma

    def unlike(self, frames: int, more: float = 0.1) -> bool:
        """Whether a hole of this duration is outside mean ± 4 sigma and ± a share of the mean."""
        mean, sigma = self._length()
        return abs(frames - mean) > TUBE_SIGMA * sigma + more * mean

    def _length(self) -> tuple[float, float]:
        mean = fmean(self._lengths)
        return mean, max(pstdev(self._lengths), _LEAST_LENGTH * mean)

    @property
    def cut_off(self) -> bool:
        """Whether good holes last longer than the envelope that is kept of them."""
        return fmean(self._lengths) >= 0.9 * BINS * BIN_FRAMES

    @property
    def longest(self) -> float:
        """Frames after which what is louder than the idle machine is no hole any longer."""
        known = self.ready and not self.cut_off
        return max(LONG, 3.0 * fmean(self._lengths)) if known else _LONGEST

    def mean_frames(self) -> float:
        """Mean duration of the good holes."""
        return fmean(self._lengths)

    def mean_level(self) -> float:
        """Mean level of the good holes in dB."""
        return fmean(self._levels)

    def mean_wear(self) -> float:
        """Mean level of the bands in which wear shows, in dB."""
        return fmean(self._wears)

    def std_wear(self) -> float:
        """Its standard deviation."""
        return pstdev(self._wears)

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "holes": self.holes,
            "odd": self._odd,
            "lengths": list(self._lengths),
            "fades": list(self._fades),
            "levels": list(self._levels),
            "wears": list(self._wears),
            "mean": list(self._mean),
            "square": list(self._square),
            "shape": list(self._shape),
            "newer": list(self._newer),
            "heard": [asdict(one) for one in self._heard],
            "ends": self._ends.snapshot(),
            "idle_db": list(self.idle_db),
            "shifted": self.shifted_db,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the template that gave this snapshot."""
        self.holes, self._odd = state["holes"], state["odd"]
        self._lengths, self._fades = list(state["lengths"]), list(state["fades"])
        self._levels, self._wears = list(state["levels"]), list(state["wears"])
        self._mean, self._square = list(state["mean"]), list(state["square"])
        self._shape, self._newer = list(state.get("shape", ())), list(state.get("newer", ()))
        self._heard = [Heard(**one) for one in state.get("heard", ())]
        self._ends.restore(state.get("ends", (0, [])))
        self.idle_db, self.shifted_db = list(state.get("idle_db", ())), state.get("shifted", 0.0)
        if not self.ready and "heard" not in state:  # of an earlier version, which taught in another way
            self.begin_anew()


def _alike(frames: float, others: float) -> bool:
    return abs(frames - others) <= ANOTHER * others


def sound(usual_db: Sequence[float]) -> list[float]:
    """What a drill sounds like: each band's share in dB, of its usual level by band in dB."""
    return shape_db([10.0 ** (db / 10.0) for db in usual_db])
