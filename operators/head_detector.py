"""The stateful half of the head detector: which bit of a drilling head broke, and which one no longer cuts.

"head_break" is a burst that stands out when the microphones are steered at one bit, and less when they are not: a bang
in the hall does not. "head_silent" is a bit whose share of the cut is missing stroke after stroke. With
z = by how many standard deviations a bit lies below good strokes and d = by how many a bit would that lacks 60 % of the
usual share, the logarithm of the likelihood ratio of a stroke is ``d z - d²/2``; its cumulative sum, never below 0
(Page, Biometrika 1954), is the score. A burst from that bit in the same stroke counts for it. Advisory, not a
protective function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from operators.base import Stateful
from operators.breakage_reasons import UNTOLD
from operators.head import FRAME, PAST
from operators.head_geometry import HeadGeometry
from operators.head_microphones import Microphones
from operators.head_stroke import Strokes
from operators.head_template import HeadTemplate, Sums, differs
from pipeline.messages import Feature, Message, Score

Float64 = NDArray[np.float64]

BREAK, SILENT = "head_break", "head_silent"
BURST_LIMIT = 6.0
OVER_TAUGHT = 0.75
"""A burst must be above the largest one of the strokes that taught by so much: chips jam near a microphone."""
STEERED = 1.5
"""How many times more a burst must stand out steered than not; bangs in the hall do up to 1.45 times."""
SILENT_LIMIT = 12.0
LOSS = 0.6
"""Loss that the likelihood ratio asks for, against the mean share: some bits have less than others."""
BITS_PER_PAIR = 4.0
"""Bits per pair of microphones up to which silent bits are named: all alarms named a right one at 3.2, half at 15."""

_ENTRY, _EXIT = 4, 4  # frames at the beginning and the end of a stroke that are left out of its shares
_SETTLED = _ENTRY + PAST  # frames after which bursts are measured against cutting alone
_LEAST = 8  # frames of a stroke that can be judged
_RISE = 1.25  # of the mean level before: strokes begin within noise that is a little louder than usual, too
_OF_A_BURST = ("burst", "spindle", "second", "margin", "contrast")
_HINT = 4.5  # bursts from here on count for a silent bit
_HINT_MOST = 4.0
_UNLIKE = 4.0  # median square of z over the bits, against that of normal values
_UNLIKE_LOSS = 0.33  # median z against that of a silent bit: where bits are few, a small change shows in all of them
_MOST_DUE = 5.0  # standard deviations; more is not asked of a bit, which may always have had less than the others
_MEDIAN_SQUARE = 0.455
_ANEW = 3


class HeadDetector(Stateful):
    """`Feature` ``head_frame`` of one sensor → `Score` "head_break" and "head_silent".

    "head_break" (threshold: 6 standard deviations, or 0.75 above the largest burst of the taught strokes) comes a frame
    after the burst, and as 0 every `every` frames and at the end of a stroke. "head_silent" (threshold 12) comes at the
    end of each stroke; its value is that of the bit with the most evidence. With more than four bits per pair of
    microphones it is incomplete: it would name wrong ones. Until `teach` good strokes were heard, scores are incomplete
    and say so. A stroke of another length is passed over; the second of that length in a row begins the template anew,
    as do three that differ from it in most bits (a microphone was moved). The alarms are then over: nobody judges what
    they tell. Neither judged nor taught is a stroke of which samples are missing, one in which a microphone gives no
    signal or hears 10 dB more or less beside the others than when taught (until three strokes show that it hears the
    bits as well as before), and noise that does not come from where the bits are (coolant).

    Args:
        geometry: of the head; names the bits.
        teach: good strokes that make a template.
        every: frames between scores while nothing happens.
        bits_per_pair: of microphones, up to which silent bits are named.
    """

    schema: ClassVar[int] = 1

    def __init__(
        self, geometry: HeadGeometry, teach: int = 4, *, every: int = 20, bits_per_pair: float = BITS_PER_PAIR
    ) -> None:
        if teach < 2 or every < 1:
            raise ValueError("a template needs two strokes at least, and scores a positive distance")
        self._geometry, self._teach, self._every = geometry, teach, every
        self._bits = len(geometry.spindles_m)
        self._can_name = self._bits <= bits_per_pair * len(geometry.pairs())
        places = geometry.spindles_m.tobytes() + geometry.microphones_m.tobytes()
        self.settings = sha256(f"head|2|{teach}|{geometry.sound_speed_m_s}|".encode() + places).hexdigest()[:12]
        self._template = HeadTemplate(teach)
        self._strokes = Strokes()
        self._microphones = Microphones(geometry)
        self._epoch = -1
        self._frames = 0
        self._sums = Sums.none(self._bits)
        self._held: list[list[float]] = []
        self._evidence = np.zeros(self._bits)
        self._hints: dict[int, float] = {}
        self._loudest = 0.0
        self._levels: list[float] = []
        self._burst: dict[str, float] = {}
        """What the last frame heard, until the next one tells whether it was in steady cutting."""
        self._odd = 0
        """Frames of the last stroke, if that was of another length than the template's."""
        self._strange = 0
        self._retuned = 0
        """Strokes in a row in which a microphone is off and yet no share is missing."""

    def process(self, message: Message) -> Iterable[Message]:
        """Take one frame in."""
        if not isinstance(message, Feature) or message.name != FRAME:
            raise TypeError(f"HeadDetector takes the feature {FRAME}, not {type(message).__name__}")
        self._frames += 1
        self._follow_stream(message)
        if not message.complete:
            out: list[Message] = self._steady(message)
            self._strokes.forget()
            self._clear()
            return out or [self._score(message, BREAK, 0.0, {"text": "samples are missing"}, complete=False)]
        self._microphones.hear(message.values)
        out = self._steady(message)
        self._levels = [*self._levels[1 - PAST :], message.values["level"]]
        if self._microphones.dead:
            if self._strokes.silence(message.values["cutting"]):
                out += self._close(message)
        else:
            told = self._strokes.take(message.values["level"], message.values["cutting"])
            if told == "begins":
                self._clear()
            elif told == "cuts":
                self._cut(message)
            elif told == "ends":
                out += self._close(message)
        if not out and self._frames % self._every == 0:
            trouble = self._microphones.trouble
            text = f"{trouble}; not judged" if trouble else "cutting" if self._strokes.frames else "no stroke"
            out = [self._score(message, BREAK, 0.0, {"text": text}, complete=self._judges)]
        return out

    def _follow_stream(self, message: Feature) -> None:
        """The first frame of a later stream of the sensor has missing samples before it, which no gap tells."""
        if not message.lineage:
            return
        before, self._epoch = self._epoch, message.lineage[0].epoch
        if 0 <= before != self._epoch:
            self._strokes.forget()
            self._clear()

    @property
    def _judges(self) -> bool:
        return self._template.ready and not self._microphones.trouble

    @property
    def _limit(self) -> float:
        return max(BURST_LIMIT, self._template.burst + OVER_TAUGHT)

    def _clear(self) -> None:
        self._sums, self._held, self._hints, self._loudest = Sums.none(self._bits), [], {}, 0.0
        self._burst = {}
        self._microphones.begin()

    # in a stroke -----------------------------------------------------------------------------------------------------

    def _cut(self, message: Feature) -> None:
        """Add the shares, those of the last frames later: they may be those of the exit. Hear bursts."""
        if self._strokes.frames > _ENTRY:
            self._microphones.cut(message.values)
            self._held.append([message.values[f"a{k}"] for k in range(self._bits)])
            if len(self._held) > _EXIT:
                self._sums.add(np.array(self._held.pop(0)))
        steered = message.values["contrast"] > STEERED
        ended = self._template.ready and self._strokes.frames > self._template.frames + _ENTRY
        if not steered or ended or self._strokes.frames <= _SETTLED or self._microphones.trouble:
            return
        self._burst = {name: message.values[name] for name in _OF_A_BURST}
        self._burst["before"] = float(np.mean(self._levels[:-1]))

    def _steady(self, message: Feature) -> list[Message]:
        """Judge the burst of the frame before: one behind which it is louder than before is a stroke that begins.

        Where missing samples follow, nothing tells that it was one.
        """
        heard, self._burst = self._burst, {}
        if not heard or (message.complete and message.values["level"] > _RISE * heard["before"]):
            return []
        z, spindle = heard["burst"], int(heard["spindle"])
        self._loudest = max(self._loudest, z)
        if not self._template.ready:
            return []
        if z > _HINT:
            self._hints[spindle] = max(self._hints.get(spindle, 0.0), min(2.0 * (z - _HINT), _HINT_MOST))
        return [self._broken(message, heard)] if z > self._limit else []

    def _broken(self, message: Feature, values: Mapping[str, float]) -> Score:
        z, spindle = values["burst"], int(values["spindle"])
        second, margin = int(values["second"]), values["margin"]
        text = (
            f"{self._geometry.name(spindle)}: burst {z:.1f} sigma above steady cutting, {margin:.1f} more than from "
            f"{self._geometry.name(second)}, {values['contrast']:.1f} times more than as a sound from anywhere; "
            "look at these two bits after the stroke"
        )
        reasons = {
            "spindle": spindle + 1, "runner_up": second + 1, "margin": margin, "contrast": values["contrast"],
            "text": text,
        }  # fmt: skip
        return self._score(message, BREAK, z, reasons)

    # after a stroke --------------------------------------------------------------------------------------------------

    def _close(self, message: Feature) -> list[Message]:
        """Judge a whole stroke against the template, then learn it."""
        burst, taught = self._loudest, self._template.ready
        silent = self._at_the_end(message)
        self._clear()
        text = f"end of a stroke; its loudest burst from one bit was {burst:.1f} sigma"
        if self._microphones.trouble:
            text = f"{self._microphones.trouble}; not judged"
        ended = {"burst": burst, "text": text}
        scores = [self._score(message, BREAK, 0.0, ended, complete=taught and self._judges)]
        return [*scores, *silent]

    def _at_the_end(self, message: Feature) -> list[Score]:
        stroke = self._sums
        if not self._strokes.whole:
            return [self._unjudged(message, "not judged: a part of a stroke, or louder for over a minute")]
        if stroke.frames < _LEAST:
            return []
        if self._microphones.lost:
            return [self._unjudged(message, f"not judged: {self._microphones.lost}")]
        if not self._template.hears(stroke):  # nor does it tell what the microphones hear of the bits
            text = "not judged: this noise does not come from where the bits are: coolant, or microphones that were "
            return [self._unjudged(message, f"{text}moved, or are in another order than their channels")]
        if off := self._off(stroke):
            return [self._unjudged(message, f"not judged: {off}")]
        if self._template.unlike(stroke.frames):
            return [self._another(message, stroke.frames)]
        self._odd = 0
        if not self._template.ready:
            self._template.teach(stroke, self._loudest)
            self._microphones.learn()
            return [self._unjudged(message, "a stroke taught")]
        if not self._can_name:
            self._microphones.learn()
            text = "not judged: too many bits for so few microphones to name a silent one"
            return [self._unjudged(message, text)]
        return [self._silent(message, stroke, self._hints)]

    def _off(self, stroke: Sums) -> str:
        """Which microphone is off, in words; not after three strokes in which it hears the bits as well as before.

        Then its gain was changed, or it was off in the strokes that taught and no longer is.
        """
        off = self._microphones.compare()
        self._retuned = self._retuned + 1 if off and self._template.hears_as_before(stroke) else 0
        if self._retuned < _ANEW:
            return off
        self._retuned = 0
        self._microphones.begin_anew()
        if not self._template.ready:
            self._anew()
        return ""

    def _unjudged(self, message: Feature, text: str) -> Score:
        return self._score(message, SILENT, 0.0, {"text": text}, complete=False)

    def _another(self, message: Feature, frames: int) -> Score:
        again, self._odd = self._odd > 0 and not differs(frames, self._odd), frames
        text = "stroke unlike the template: another program?"
        if again:  # strokes that were cut short are not of one length
            self._anew()
            text = "unlike the template twice: learned anew"
        return self._unjudged(message, text)

    def _anew(self) -> None:
        self._microphones.begin_anew()
        self._template, self._odd, self._strange, self._retuned = HeadTemplate(self._teach), 0, 0, 0
        self._evidence = np.zeros(self._bits)

    def _silent(self, message: Feature, stroke: Sums, hints: Mapping[int, float]) -> Score:
        loss, z, due = self._template.judge(stroke, LOSS)
        middle = float(np.median(np.square(z))) / _MEDIAN_SQUARE
        if middle > max(_UNLIKE, (_UNLIKE_LOSS * float(np.median(due))) ** 2 / _MEDIAN_SQUARE):
            return self._moved(message, middle)
        self._strange = 0
        self._microphones.learn()
        due = np.minimum(due, _MOST_DUE)
        gained = due * z - 0.5 * np.square(due)
        for spindle, hint in hints.items():
            gained[spindle] += hint
        self._evidence = np.clip(self._evidence + gained, 0.0, 1.5 * SILENT_LIMIT)
        self._template.follow(stroke, self._evidence <= 0.0)
        return self._named(message, loss)

    def _moved(self, message: Feature, middle: float) -> Score:
        self._strange += 1
        if self._strange >= _ANEW:
            self._anew()
        text = (
            f"most bits differ from the template (median square {middle:.1f}): microphone moved, or another work piece?"
        )
        return self._unjudged(message, text)

    def _named(self, message: Feature, loss: Float64) -> Score:
        first, second = (int(k) for k in np.argsort(-self._evidence, kind="stable")[:2])
        value, next_best = float(self._evidence[first]), float(self._evidence[second])
        name = self._geometry.name(first)
        over = value > SILENT_LIMIT
        text = f"{name} silent: {100.0 * float(loss[first]):.0f} % of the usual share missing in this stroke, "
        text += f"evidence {value:.1f} of {SILENT_LIMIT:g}; next {self._geometry.name(second)} with {next_best:.1f}"
        reasons = {
            "spindle": first + 1, "runner_up": second + 1, "margin": value - next_best, "loss": float(loss[first]),
            "text": f"{text}; look at these two bits after the stroke" if over else f"most evidence against {text}",
        }  # fmt: skip
        return self._score(message, SILENT, value, reasons)

    def _score(
        self, message: Feature, detector: str, value: float, reasons: Mapping[str, Any], *, complete: bool = True
    ) -> Score:
        limit = self._limit if detector == BREAK else SILENT_LIMIT
        if not self._template.ready:
            told = f"not commissioned: {self._template.strokes} of {self._teach} strokes taught"
            reasons = {**reasons, "text": f"{told}; {reasons['text']}", UNTOLD: True}
        return Score.of(message, detector, value, limit, self.settings, reasons, complete=complete)

    # memory ----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The template, the evidence, the stroke under way; at most 20 kB for 120 bits."""
        return {
            "schema": self.schema, "frames": self._frames, "strokes": self._strokes.snapshot(),
            "template": self._template.snapshot(), "summed": self._sums.frames, "total": self._sums.total.tolist(),
            "squares": [] if self._template.ready else self._sums.squares.tolist(),
            "held": [list(frame) for frame in self._held], "evidence": self._evidence.tolist(),
            "hints": [[spindle, hint] for spindle, hint in sorted(self._hints.items())], "loudest": self._loudest,
            "odd": self._odd, "strange": self._strange, "settings": self.settings, "epoch": self._epoch,
            "microphones": self._microphones.snapshot(), "retuned": self._retuned,
            "levels": list(self._levels), "heard": dict(self._burst),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot.

        Raises:
            ValueError: it is of another head, of other places, or of another number of strokes that teach.
        """
        if state.get("settings", self.settings) != self.settings or len(state["evidence"]) != self._bits:
            raise ValueError("learned of another head, of other places, or with other taught_holes")
        self._frames, self._loudest = int(state["frames"]), state["loudest"]
        self._odd, self._strange = int(state["odd"]), int(state["strange"])
        self._strokes.restore(state["strokes"])
        self._template.restore(state["template"])
        squares = np.array(state["squares"]) if state["squares"] else np.zeros(self._bits)
        self._sums = Sums(int(state["summed"]), np.array(state["total"]), squares)
        self._held = [list(frame) for frame in state["held"]]
        self._evidence = np.array(state["evidence"])
        self._hints = {int(spindle): hint for spindle, hint in state["hints"]}
        self._epoch, self._retuned = int(state.get("epoch", -1)), int(state.get("retuned", 0))
        self._levels, self._burst = list(state.get("levels", [])), dict(state.get("heard", {}))
        if "microphones" in state:  # earlier versions did not follow them
            self._microphones.restore(state["microphones"])
