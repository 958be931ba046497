"""The stateful half of the drill-break detector: frames → holes, what good holes are like, and what is missing.

A hole begins when the level by band rises above the idle machine and ends when it is back. Within it a break is

* the loss of more than 6 dB of the cutting energy for 30 ms, against the level before or against what is usual in this
  hole, and of 1.5 dB against both: where a blast ends, the drill goes on; or
* a level below the template's tube (mean - 4 sigma) by 6 dB for 100 ms,

where good holes of this program still cut. Where a hole begins, fades and ends, bands decide by vote (`hole_course`).
A burst up to 200 ms before (Teager-Kaiser energy above the base by 10 MAD, crest above 6) allows the decision nearer to
the hole's end; without one it may also be a hole that was cut short, and the reason says so. A second one that ends at
the same place without a burst is no break but another program, which is learned anew; with good holes between, two
that end there make the third no break: a program of several depths (`hole_ends`).

The cutting energy is what is louder than the idle machine, by band. Rooms ring on for some tenths of a second: that,
not the detector, limits how fast a loss can be seen. Advisory, not a protective function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from math import inf, log10
from statistics import median
from typing import Any, ClassVar

from operators import breakage_reasons as say
from operators.band_levels import TINY, excess, loss_db, mean, ratio, usual
from operators.base import Stateful
from operators.breakage import FRAME
from operators.faint_hole import BACK, ENDED, IDLE_SHARE, LEAD, NOW, FaintHoles
from operators.hole_advice import MISSING_DB, Advice, HoleAdvice
from operators.hole_course import BEGUN, BIN_FRAMES, MAJORITY, course
from operators.hole_template import LONG, Heard, Hole, HoleTemplate, sound
from operators.idle_floor import IdleFloor
from operators.spectral import MAD_TO_STD
from operators.tool_wear import LIMIT as WEAR_LIMIT
from pipeline.messages import Feature, Message, Score

BREAK, MISSING, WEAR = "drill_break", "drill_missing", "drill_wear"
LOSS_DB = 6.0
CREST, BURST_MAD = 6.0, 10.0

_RECENT = 80  # frames kept: 400 ms
_BEFORE = 40  # the oldest of them are what the level was
_FALLING_DB = 2.0
_HOLD = 6  # frames that a loss must last
_UNDER = 20  # frames below the template's tube
_BURST_FRAMES = 40  # a burst is forgotten after 200 ms
_STARTED = 20  # frames above the idle level that begin a hole
_ABOVE = 2.0
_FAINT = 0.1
"""Share of a hole's mean cutting energy below which it is over."""
_STILL_DB = 1.5
"""Down to so far below what it did most of the time the drill goes on, whatever has just fallen silent."""
_SAME_PLACE = 0.05
_IDLE_FRAMES = 20
_SETTLING = 80  # frames that a hole must last, and from which a loss can be told from the entry


class BreakDetector(Stateful):
    """`Feature` ``drill_frame`` of one sensor → `Score` "drill_break", "drill_missing" and "drill_wear".

    "drill_break" (threshold 6 dB) is the loss of cutting energy that has been confirmed, 0 while there is none: one
    score every `every` frames, one at once when a break is confirmed, and one at the end of each hole. At that end
    "drill_missing" (6 dB) says how far the hole lies below the template, and "drill_wear" (8) is the cumulative sum
    of the level between 3 and 12 kHz in standard deviations of the good holes, bit by bit (`tool_wear`).

    The template is learned from the first `teach` holes. Until then nothing is judged: the score is incomplete and says
    that the program is not commissioned. In the last part of a hole, where good ones may end, nothing is judged:
    breaking through sounds like breaking.

    Args:
        teach: good holes that make a template.
        every: frames between scores while nothing happens.
    """

    schema: ClassVar[int] = 2

    def __init__(self, teach: int = 4, *, every: int = 100) -> None:
        if teach < 2 or every < 1:
            raise ValueError("a template needs two holes at least, and scores a positive distance")
        self._teach, self._every = teach, every
        self.settings = sha256(f"{BREAK}|6|{teach}".encode()).hexdigest()[:12]
        self._frames = 0
        self._idle: list[float] = []
        self._idle_frames = 0
        self._quiet = 0
        self._recent: list[list[float]] = []
        self._energies: list[float] = []
        self._rising = 0
        self._faint = FaintHoles()
        self._hole: Hole | None = None
        self._template = HoleTemplate(teach)
        self._advice = HoleAdvice(teach)
        self._floor = IdleFloor()
        self._short = self._long = self._rest = self._rested = 0

    def process(self, message: Message) -> Iterable[Message]:
        """Take one frame in."""
        if not isinstance(message, Feature) or message.name != FRAME:
            raise TypeError(f"BreakDetector takes the feature {FRAME}, not {type(message).__name__}")
        self._frames += 1
        if not message.complete:
            self._hole, self._recent, self._energies, self._rising, self._quiet = None, [], [], 0, 0
            self._rest, self._rested = ENDED, 0
            self._faint.forget(idle=False)
            return [self._score(message, BREAK, 0.0, LOSS_DB, {"text": "samples are missing"}, complete=False)]
        powers = [message.values[f"p{i}"] for i in range(sum(name[0] == "p" for name in message.values))]
        if self._idle_frames < _IDLE_FRAMES:
            self._begin_idle(powers)
            return []
        self._recent = [*self._recent[1 - _RECENT :], powers]
        stands = message.values["cutting"] == 0.0
        out: list[Message] = self._in_rest() if self._rest else []
        if not self._rest:
            out = self._in_hole(message, powers, stands) if self._hole else self._in_air(message, powers)
        self._energies = [*self._energies[1 - _RECENT :], message.values["energy"]]
        if not out and self._frames % self._every == 0:
            ready = self._template.ready
            reasons = {"text": self._state_text()} if ready else say.anew(self._state_text())
            out = [self._score(message, BREAK, 0.0, LOSS_DB, reasons, complete=ready)]
        return out

    # for a second opinion --------------------------------------------------------------------------------------------

    @property
    def in_hole(self) -> bool:
        """Whether a hole is under way."""
        return self._hole is not None

    @property
    def judges(self) -> bool:
        """Whether a hole is under way, not yet found broken, at a place where all good holes of its program cut."""
        hole, template = self._hole, self._template
        if hole is None or hole.broken or hole.other or hole.frames < _SETTLING:
            return False
        return template.still_cuts(hole.place) and not template.foreign(sound(hole.usual_db))

    def hear_burst(self) -> None:
        """Somebody else heard a burst just now."""
        if self._hole is not None:
            self._hole.burst = _BURST_FRAMES + 1

    def condemn(self) -> None:
        """Somebody else found the drill of this hole broken: nothing more is said of the hole or learned from it."""
        if self._hole is not None:
            self._hole.broken = True

    # between holes ---------------------------------------------------------------------------------------------------

    def _begin_idle(self, powers: list[float]) -> None:
        n = self._idle_frames
        self._idle = [(a * n + b) / (n + 1) for a, b in zip(self._idle or powers, powers, strict=True)]
        self._idle_frames += 1

    def _in_rest(self) -> list[Message]:
        """What follows missing samples may be the rest of a hole: it is neither judged nor learned."""
        level = mean(self._recent[-NOW:])
        self._rest, self._rested = self._rest - 1 if ratio(level, self._idle) < BACK else ENDED, self._rested + 1
        longest = self._template.longest if self._template.ready else LONG
        if self._rested > longest:  # the idle machine is louder than before
            self._idle, self._rest = level, 0
            self._faint.forget(idle=True)
            self._floor.forget()
        return []

    def _in_air(self, message: Feature, powers: list[float]) -> list[Message]:
        """Follow the idle level, and wait for a hole to begin."""
        level = mean(self._recent[-NOW:])
        loud = ratio(level, self._idle) > _ABOVE and self._enough(level)
        out = self._watch_faint(message) if self._template.ready else []
        self._rising = self._rising + 1 if loud and message.values["cutting"] != 0.0 else 0
        self._quiet = self._quiet + 1 if sum(level) * 1.5 < sum(self._idle) else 0
        if self._quiet >= ENDED:  # what was taken for idle was a hole
            self._idle, self._quiet = level, 0
        elif self._rising == 0:
            self._idle = [a + IDLE_SHARE * (b - a) for a, b in zip(self._idle, powers, strict=True)]
        self._floor.hear(self._idle)
        if self._rising >= _STARTED:
            self._rising = 0
            self._faint.forget(idle=False)
            self._hole = Hole(idle=self._floor.level)
            for frame in self._recent[-LEAD:]:
                self._hole.take(frame, self._idle)
        return out

    def _watch_faint(self, message: Feature) -> list[Message]:
        """What lasts like a hole but is too faint for one: a missing tool, or a sensor that hears less."""
        told = message.values["cutting"] == 1.0
        faint = self._faint.watch(self._recent, self._idle, self._floor, self._template, told=told)
        advice = None if faint is None else self._advice.of_faint(faint, self._template)
        return [] if advice is None else [self._advise(message, advice)]

    def _enough(self, level: Sequence[float]) -> bool:
        """Whether this is enough of the cutting energy of a good hole, where that is known."""
        if not self._template.ready:
            return True
        least: float = BEGUN * 10.0 ** (self._template.mean_level() / 10.0)
        return sum(excess(level, self._idle)) >= least

    # in a hole -------------------------------------------------------------------------------------------------------

    def _in_hole(self, message: Feature, powers: list[float], stands: bool) -> list[Message]:
        hole = self._hole
        assert hole is not None
        level = mean(self._recent[-NOW:])
        hole.take(powers, self._idle)
        cutting = sum(excess(level, self._idle))
        taught = 10.0 ** (self._template.mean_level() / 10.0) if self._template.ready else inf
        faint = cutting < _FAINT * min(hole.sum / hole.frames, taught)  # a blast does not make the rest of a hole faint
        hole.back = hole.back + 1 if faint or ratio(level, self._idle) < BACK else 0
        self._watch_burst(message, hole)
        out: list[Message] = []
        if not hole.broken and hole.frames >= _SETTLING and len(self._recent) == _RECENT and not stands:
            out = self._watch_loss(message, hole, level, cutting)
        if hole.back >= ENDED or stands:
            out += self._close(message, hole)
        elif hole.frames > self._template.longest:
            out += self._hall(message, level)
        return out

    def _watch_loss(self, message: Feature, hole: Hole, level: Sequence[float], cutting: float) -> list[Message]:
        """Compare the level with what it was, what is usual in this hole, and what the template says."""
        before = loss_db(usual(self._recent[:_BEFORE]), level, self._idle, MAJORITY)
        hole.falling = hole.falling + 1 if before > _FALLING_DB else 0
        if hole.falling == 1 or hole.frames % _RECENT == 0 or not hole.usual_db:
            self._look_back(hole)
        whole = [10.0 ** (db / 10.0) + idle for db, idle in zip(hole.usual_db, self._idle, strict=True)]
        fallen = loss_db(whole, level, self._idle, MAJORITY)
        loss = max(before, fallen) if min(before, fallen) > _STILL_DB else 0.0
        below = self._template.below_db(hole.place, 10.0 * log10(max(cutting, TINY)))
        hole.loss = hole.loss + 1 if loss > LOSS_DB else 0
        hole.under = hole.under + 1 if below > LOSS_DB else 0
        if hole.other or not self._confirmed(hole) or self._template.foreign(sound(hole.usual_db)):
            return []
        return self._lost(message, hole, loss if hole.loss else below)

    def _look_back(self, hole: Hole) -> None:
        """Since when the drill has been cutting, and how loud it usually is: the last 50 ms may be the loss."""
        found = course(hole.bins[:-2] or hole.bins, self._idle)
        hole.begun, hole.usual_db = found.first * BIN_FRAMES, list(found.usual_db)

    def _hall(self, message: Feature, level: list[float]) -> list[Message]:
        """No hole lasts so long: coolant or a fan was switched on, and is the idle machine from now on."""
        self._hole, self._idle, self._quiet = None, level, 0
        self._faint.forget(idle=True)
        self._floor.forget()
        self._long += 1
        text = "louder for longer than any hole: taken for the idle machine"
        if self._long > 1 and self._template.ready:  # no whole hole between: another program, of longer holes
            self._template.begin_anew()
            return self._anew(message, text)
        return [self._score(message, BREAK, 0.0, LOSS_DB, {"text": text}, complete=False)]

    def _anew(self, message: Feature, text: str) -> list[Message]:
        """The template begins anew: until it is taught nothing is judged, and what was told is over."""
        self._advice.begin_anew()
        limits = ((BREAK, LOSS_DB), (MISSING, MISSING_DB), (WEAR, WEAR_LIMIT))
        reasons = say.anew(f"{text}; another program, learned anew")
        return [self._score(message, name, 0.0, limit, reasons, complete=False) for name, limit in limits]

    def _watch_burst(self, message: Feature, hole: Hole) -> None:
        hole.burst = max(hole.burst - 1, 0)
        if len(self._energies) < _BEFORE or message.values["crest"] <= CREST:
            return
        middle = median(self._energies)
        spread = MAD_TO_STD * median(abs(e - middle) for e in self._energies)
        if message.values["energy"] > middle + BURST_MAD * spread:
            hole.burst = _BURST_FRAMES

    def _confirmed(self, hole: Hole) -> bool:
        began = hole.place - max(hole.falling, hole.under)
        if hole.burst and hole.loss >= _HOLD:
            return self._template.still_cuts(began, 0.0)
        if not hole.burst and self._template.ends_at(began) and not self._again(began):
            return False
        return self._template.still_cuts(began) and (hole.loss >= _HOLD or hole.under >= _UNDER)

    def _again(self, began: int) -> bool:
        """Whether the hole before ended here without a burst."""
        return abs(began - self._short) <= _SAME_PLACE * self._short

    def _lost(self, message: Feature, hole: Hole, loss: float) -> list[Message]:
        """The cutting energy is gone: a break, unless the hole before ended here too and neither had a burst."""
        began = hole.place - max(hole.falling, hole.under)
        if not hole.burst:
            self._template.ended(began)
        if not hole.burst and self._again(began):
            hole.other, self._short = True, 0
            text = "unlike the template: two holes ended here without a burst; another program, learned anew"
            return [self._score(message, BREAK, 0.0, LOSS_DB, {"text": text})]
        self._short = 0 if hole.burst else began
        hole.broken = True
        return [self._score(message, BREAK, max(loss, LOSS_DB * 1.01), LOSS_DB, say.broken(hole, loss))]

    # after a hole ----------------------------------------------------------------------------------------------------

    def _close(self, message: Feature, hole: Hole) -> list[Message]:
        """Judge a whole hole against the template, then learn it if it was good."""
        self._hole = None
        self._faint.drilled()
        found = course(hole.bins, self._idle)
        whole, taught = Heard.of(hole, found), self._template.ready
        if hole.broken or whole.frames < _SETTLING:
            if hole.broken:
                self._advice.broken()
            return [self._at_the_end(message, say.brief(hole, _SETTLING), complete=taught)]
        if taught and self._template.foreign(whole.shape_db) and self._template.unlike(whole.frames):
            text = "end of a sound that is unlike the drill's and lasted unlike a hole"
            return [self._at_the_end(message, text, complete=True)]
        text = say.whole(self._template, whole.fade)
        self._short = self._long = 0
        if hole.other:
            self._template.begin_anew()
        advices = self._advice.of_whole(whole, self._template) if self._template.ready else []
        scores = [self._advise(message, advice) for advice in advices]
        self._template.learn(whole)
        if taught and not self._template.ready:
            return self._anew(message, text)
        return [self._at_the_end(message, text, complete=taught), *scores]

    def _at_the_end(self, message: Feature, text: str, *, complete: bool) -> Score:
        """Nothing was lost; a hole that only teaches was not judged."""
        reasons = {"text": text} if complete else say.anew(text)
        return self._score(message, BREAK, 0.0, LOSS_DB, reasons, complete=complete)

    def _advise(self, message: Feature, advice: Advice) -> Score:
        if not advice.missing:
            return self._score(message, WEAR, advice.value, WEAR_LIMIT, advice.reasons)
        if advice.value > MISSING_DB:  # where the hole before ended is no end of a program, and this one goes on
            self._short = self._long = 0
        return self._score(message, MISSING, advice.value, MISSING_DB, advice.reasons)

    def _state_text(self) -> str:
        if not self._template.ready:
            return f"not commissioned: {self._template.holes} of {self._teach} good holes learned"
        return "after missing samples" if self._rest else "cutting" if self._hole else "no hole"

    def _score(
        self, message: Feature, detector: str, value: float, limit: float, reasons: Mapping[str, Any], *,
        complete: bool = True,
    ) -> Score:  # fmt: skip
        return Score.of(message, detector, value, limit, self.settings, reasons, complete=complete)

    # memory ----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Levels of the last 400 ms, the hole under way, the template; 19 kB, and 1.2 kB for each second of a hole."""
        return {
            "schema": self.schema,
            "frames": self._frames,
            "idle": list(self._idle),
            "idle_frames": self._idle_frames,
            "quiet": self._quiet,
            "recent": [list(frame) for frame in self._recent],
            "energies": list(self._energies),
            "rising": self._rising,
            **self._faint.snapshot(),
            "hole": None if self._hole is None else asdict(self._hole),
            "template": self._template.snapshot(),
            "advice": self._advice.snapshot(),
            "floor": self._floor.snapshot(),
            "wear": self._advice.wear,
            "short": self._short,
            "long": self._long,
            "rest": [self._rest, self._rested],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._frames, self._idle_frames = state["frames"], state["idle_frames"]
        self._idle, self._quiet, self._rising = list(state["idle"]), state["quiet"], state["rising"]
        self._recent = [list(frame) for frame in state["recent"]]
        self._energies = list(state["energies"])
        self._faint.restore(state)
        hole = state["hole"]
        self._hole = None if hole is None else Hole(**hole)
        self._template = HoleTemplate(self._teach)
        self._template.restore(state["template"])
        self._advice.restore(state["wear"], state.get("advice"))
        self._floor.restore(state.get("floor", ([], 0)))  # earlier versions kept none
        self._short, self._long = state["short"], state["long"]
        self._rest, self._rested = state["rest"]
