"""The stateful half of the chatter detector: indicators of each hop → scores, with the reason and the advice.

A hop counts when the machine cuts (operating state, or 6 dB above its idle level) and its strongest line outside the
rotation's multiples has neighbours a tooth passing (or two a rotation) away, as chatter lines have; a line without
them counts only after it has lasted for 350 ms, longer than warning tones do. Two ways lead to the threshold:

* fast: the tonal share of three hops in a row, with neighbours in the long window too, or very clear ones (20 dB), and
  with strong evidence in the last long window: the noise of the cut rings a lightly damped mode, and the ends of a
  warning tone splash, for a moment like a family. The threshold comes from the baseline: median + 6 MAD for the
  operating point, within bounds;
* firm: the mean evidence of the long windows over 0.2 to 0.7 s (`chatter_evidence`), for chatter that is weak beside
  strong forced vibration, broad, close to a harmonic or, in a balanced slot, a line without neighbours.

Of the evidence of a line that wavers for seconds as a mode does that noise rings, both ways count less
(`chatter_waver`), until the score is abnormal; then all of it counts until it is normal by all of it, as chatter may
waver, too. What is learned, and what `Teeth` compares, goes by all of it always.

An on-delay (ISA-18.2), off unless asked for, lets chatter last so long before it counts, where a mode rings; it ends as
soon as the line's amplitude has been steady for three quarters of the long window, as a rung mode's never is for long.

Where the machine says that a cut is known to be good, nothing is judged: what it reaches raises the threshold at its
speed, at most 1.5 times (`chatter_points`), for a program whose cut rings a mode in every part.

Lines that the idle machine has too (drives) do not count: the tonal power must be four times that of the idle machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from math import inf
from typing import Any, ClassVar

from operators.base import Stateful
from operators.chatter import CHATTER, DOUBTS, HOP_S, SLOW
from operators.chatter_evidence import SURE, Evidence
from operators.chatter_lines import next_stable_speeds
from operators.chatter_points import LEAST, MOST, Points
from operators.chatter_waver import Weighed
from operators.spindle import SAME
from operators.teeth import Teeth
from pipeline.messages import NS, Feature, Message, Score

DETECTOR = "chatter"
GATE_DB = 6.0
"""Above the idle level from which a hop is cutting."""
_LOUD = 2.0  # dB above idle that suffice where nearly all is chatter (a recorder that levels its gain)
_NEARLY_ALL = 0.8
_PAIR_DB, _SIDE_DB, _CLEAR_DB = 9.0, 11.0, 20.0
"""Power over the noise from which neighbours count, and from which they are beyond doubt."""
_CONFIRM = 3
_TONES = 0.15
"""Tonal share of a machine whose idle level is not known that is worth a word."""
STEADY = 1.25
"""`wavering` of a line below which its amplitude is a limit cycle's, and no noise's."""
_OVER_IDLE, _IDLE_SHARE = 4.0, 0.05
_LONE_HOPS, _LONE_LEAST = 35, 0.5
_LEARN_EVERY = 5
_UNEXPLAINED = 100
"""Hops in a row, most of whose energy lies between the rotation's multiples and is no chatter, that are not judged."""
_IDLE_BUCKET_S, _IDLE_BUCKETS = 30, 20
_CUT_BUCKETS = 12
"""So much slower the idle level is forgotten while cutting: within two hours, not within ten minutes."""
_POWERS = ("level_db", "tonal", "long_tonal", "coherent")
"""Values that overflow, or are no numbers, where samples are too large to be squared."""
_SLOW_VIEW = ("opr", "residual", "half_tooth_db", "long_line_hz", "coherent", "wavering")
_MISMATCH = 4
_PLACE = 0.015
"""Of a rotation: as far as a line may be from a multiple of a half or a third of it."""
_THIRDS, _HALVES = (1.0 / 3.0, 2.0 / 3.0), (0.5,)
_LOOK = 4
"""Long windows of a cut that must not contradict the speed before a line at such a place is believed."""
_SURE = 5.0
"""Surprise of a short window's lines from which nothing is judged until a long window has been looked at."""

_DOUBT_TEXT = {
    "missing": "no spindle speed was told",
    "stale": "the spindle speed is out of date",
    "zero": "the spindle is said to stand still",
    "changing": "the spindle speed is changing",
    "out_of_range": "the spindle speed is below the configured range",
    "unclear": "no air run before this cut showed a clear speed",
}
_UNHEARD_TEXT = "unverified: tones, and the idle machine has not been heard yet: is this a cut from its beginning on?"
_WAVERS_TEXT = "; its amplitude wavers as that of a mode does that the cut's noise rings: no chatter by this alone"


class ChatterDetector(Stateful):
    """`Feature` ``chatter_lines`` of one sensor → `Score` "chatter", and what `Teeth` says.

    The value is a tonal share, comparable with the threshold it carries; it exceeds it only where the persistence asked
    for has been met, so that the first abnormal score may raise an alarm. A score leaves every `every` hops, and on
    each hop at which it becomes abnormal or normal. Without a usable speed, with a speed that the lines contradict, or
    with samples missing, the score is incomplete and its reason says so.

    Args:
        teeth: of the tool.
        highest_rpm: of the machine, for the advice.
        every: hops between scores while nothing changes.
        on_delay_s: how long the indicators must say chatter before the score does; a hop that does not, takes back one
            that does.
    """

    schema: ClassVar[int] = 2

    def __init__(self, teeth: int, highest_rpm: float, *, every: int = 1, on_delay_s: float = 0.0) -> None:
        if teeth < 1 or every < 1 or not highest_rpm > 0.0:
            raise ValueError("teeth, highest speed and hops between scores must be positive")
        if not 0.0 <= on_delay_s < float("inf"):
            raise ValueError("the on-delay must be a number of seconds from 0 on")
        self._teeth, self._highest, self._every = teeth, highest_rpm, every
        self._on_delay = round(on_delay_s / HOP_S)
        said = f"{DETECTOR}|8|{teeth}|{highest_rpm}" + (f"|{self._on_delay}|{STEADY}" if self._on_delay else "")
        self.settings = sha256(said.encode()).hexdigest()[:12]
        self._tool = Teeth(teeth, self.settings, every=-(-every // SLOW))
        self._hops = 0
        self._abnormal = False
        self._over = 0
        self._rpm = 0.0
        self._short: list[float] = []
        self._evidence = Weighed()
        self._lone = 0
        self._seen = False
        self._looked = 0
        self._idle_tonal = 0.0
        self._mismatch = 0
        self._heard = 0.0
        self._idle: list[tuple[int, float]] = []
        self._loudest, self._air = -inf, False
        self._points = Points()
        self._slow_view: dict[str, float] = {}

    # what is taken in ------------------------------------------------------------------------------------------------

    def process(self, message: Message) -> Iterable[Message]:
        """Take one hop in."""
        if not isinstance(message, Feature) or message.name != CHATTER:
            raise TypeError(f"ChatterDetector takes the feature {CHATTER}, not {type(message).__name__}")
        self._hops += 1
        v = message.values
        if not message.complete or not all(v.get(name, 0.0) < inf for name in _POWERS):
            return self._without_value(message)
        if abs(v["rpm"] / self._rpm - 1.0 if self._rpm else 1.0) > SAME:
            self._forget()
            self._rpm, self._mismatch = v["rpm"], 0
            self._points.at(self._rpm)
        cutting = self._cutting(message)
        if not cutting:
            self._idle_tonal += _IDLE_SHARE * (v["tonal"] * 10.0 ** (v["level_db"] / 10.0) - self._idle_tonal)
        if v.get("surprise", 0.0) >= _SURE:
            self._mismatch = max(self._mismatch, 1)
        if "contradicts_rpm" in v:
            step = 1 if v["contradicts_rpm"] else -1
            self._mismatch = min(max(self._mismatch + step, 0), 2 * _MISMATCH)
            self._heard = v["contradicts_rpm"] or self._heard
        if self._mismatch >= _MISMATCH and cutting:
            self._evidence = Weighed()  # what came before has nothing to say about what comes behind it
            self._tool.leave()
            return self._report(message, 0.0, self._contradicted(v), complete=False)
        self._count(v, cutting)
        limit = self._points.limit
        if not cutting and not self._air and v["tonal"] > _TONES:
            return self._report(message, 0.0, {"cutting": False, "text": _UNHEARD_TEXT}, complete=False)
        judged = cutting and not self._mismatch
        threshold = limit * self._points.times
        whole = self._value(limit, self._evidence.whole) if judged else 0.0
        less = self._value(limit, self._evidence.less) if judged and not self._abnormal else whole
        too_soon = self._too_soon(v)
        if self._lone >= _UNEXPLAINED and (too_soon or whole <= threshold):
            self._tool.leave()
            return self._report(message, 0.0, self._unexplained(v), complete=False)
        good = cutting and "good" in v
        stable = cutting and (good or whole <= threshold)  # chatter that is not said yet teaches nothing, either
        if stable:
            self._learn(v)
        if good:
            said = self._report(message, 0.0, self._learned(0.0 if too_soon else less / limit), complete=False)
        else:
            value = self._delayed(0.0 if too_soon else less, threshold)
            reasons = self._reasons(v, limit, cutting, wavers=less <= threshold < whole)
            said = self._report(message, value, reasons, limit=threshold)
        if "turn_db" in v:
            said += self._tool.take(message, self._points.place, cutting=stable)
        return said

    def _cutting(self, message: Feature) -> bool:
        """Whether this hop is to be judged; keeps the idle level."""
        v = message.values
        level = v["level_db"]
        bucket = message.t_end_ns // (_IDLE_BUCKET_S * NS)
        self._loudest = max(self._loudest, level)
        self._air = self._air or v["cutting"] >= 0.0 or level <= self._loudest - GATE_DB
        if v["cutting"] != 1.0:
            lasts = _CUT_BUCKETS if v["cutting"] < 0.0 and self._louder(v) else 1
            if not self._idle or abs(bucket - self._idle[-1][0]) >= lasts:
                self._idle = [*self._idle[1 - _IDLE_BUCKETS :], (bucket, level)]
            elif level < self._idle[-1][1]:
                self._idle[-1] = (self._idle[-1][0], level)
        return v["cutting"] == 1.0 if v["cutting"] >= 0.0 else self._louder(v)

    def _stands(self, v: Mapping[str, float]) -> bool:
        """Whether what is heard agrees with a spindle that is said to stand: a dead tachometer says so, too."""
        if v.get("cutting", 1.0) == 1.0:
            return False
        idle = min((level for _, level in self._idle), default=-inf)
        return v["cutting"] == 0.0 or v["level_db"] < idle + GATE_DB

    def _louder(self, v: Mapping[str, float]) -> bool:
        """Whether a hop stands out from the idle level."""
        idle = min((level for _, level in self._idle), default=inf)
        return v["level_db"] >= idle + GATE_DB or (v["level_db"] >= idle + _LOUD and v["tonal"] >= _NEARLY_ALL)

    def _count(self, v: Mapping[str, float], cutting: bool) -> None:
        """Take the hop into both ways."""
        family = v["pair_db"] >= _CLEAR_DB or ((v["pair_db"] >= _PAIR_DB or v["side_db"] >= _SIDE_DB) and self._seen)
        self._lone = self._lone + 1 if cutting and v["tonal"] >= _LONE_LEAST else 0
        new = v["tonal"] * 10.0 ** (v["level_db"] / 10.0) >= _OVER_IDLE * self._idle_tonal
        counts = cutting and new and not v.get("surprise", 0.0) and (family or self._lone >= _LONE_HOPS)
        self._short = [*self._short[1 - _CONFIRM :], v["tonal"] if counts else 0.0]
        if "long_tonal" in v:
            self._seen = v["long_pair_db"] >= _PAIR_DB or v["long_side_db"] >= _SIDE_DB
            self._looked = min(self._looked + 1, _LOOK) if cutting and not v["contradicts_rpm"] else 0
            if cutting:
                self._evidence.take(v if new and not v["contradicts_rpm"] else None)
            else:
                self._evidence = Weighed()
            self._slow_view = {k: v[k] for k in _SLOW_VIEW if k in v}

    # the decision ----------------------------------------------------------------------------------------------------

    def _value(self, limit: float, of: Evidence) -> float:
        """The larger of the two ways, as a tonal share."""
        fast = min(self._short) / limit if len(self._short) == _CONFIRM else 0.0
        return limit * max(fast if of.last >= SURE else min(fast, 1.0), of.ratio)

    def _too_soon(self, v: Mapping[str, float]) -> bool:
        """Whether a line may be that of a speed told by a wrong ratio, and the cut is too short to say."""
        line = self._slow_view.get("long_line_hz", v["line_hz"])
        # of odd teeth no look tells flip chatter, at halves, from twice the true speed
        places = _THIRDS if self._teeth % 2 else _THIRDS + _HALVES
        return self._looked < _LOOK and _at(line, v["rpm"], places)

    def _delayed(self, value: float, limit: float) -> float:
        """The value, held at its limit until it has been above for the on-delay, or the line is steady."""
        self._over = min(self._over + 1, self._on_delay) if value > limit else max(self._over - 1, 0)
        return value if self._steady() or self._over == self._on_delay else min(value, limit)

    def _steady(self) -> bool:
        return self._slow_view.get("wavering", inf) < STEADY

    def _learn(self, v: Mapping[str, float]) -> None:
        """Stable cutting makes the baseline of its operating point."""
        if self._hops % _LEARN_EVERY == 0 and v["tonal"] < MOST:
            self._points.learn(v["tonal"])

    def _forget(self) -> None:
        """Another speed, or missing samples: counting starts anew, what was learned stays."""
        self._short, self._evidence, self._lone, self._slow_view = [], Weighed(), 0, {}
        self._seen, self._over, self._looked = False, 0, 0
        self._tool.leave()

    # what is said ----------------------------------------------------------------------------------------------------

    def _without_value(self, message: Feature) -> list[Message]:
        self._forget()
        if "doubt" not in message.values:
            text = "samples are too large to be judged" if message.complete else "samples are missing"
            return self._report(message, 0.0, {"text": text}, complete=False)
        doubt = DOUBTS[int(message.values["doubt"])]
        if doubt == "zero" and self._stands(message.values):
            return self._report(message, 0.0, {"cutting": False, "text": "the spindle stands, no cutting"})
        text = f"unverified: {_DOUBT_TEXT[doubt]}; chatter is not judged"
        return self._report(message, 0.0, {"speed": doubt, "text": text}, complete=False)

    def _contradicted(self, v: Mapping[str, float]) -> dict[str, Any]:
        told, heard = v["rpm"], self._heard
        text = (
            f"unverified: speed mismatch, told {told:,.0f} rpm, the cut's lines speak for {heard:,.0f} rpm; "
            "the told speed is kept"
        )
        return {"speed": "mismatch", "told_rpm": told, "heard_rpm": heard, "text": text}

    def _unexplained(self, v: Mapping[str, float]) -> dict[str, Any]:
        text = (
            f"unverified: {100.0 * v['tonal']:.0f} % of the energy lies in lines that neither {v['rpm']:,.0f} rpm nor "
            "chatter explains: another speed, or another machine is heard"
        )
        return {"speed": "unexplained", "told_rpm": v["rpm"], "line_hz": v["line_hz"], "text": text}

    def _reasons(self, v: Mapping[str, float], limit: float, cutting: bool, *, wavers: bool) -> dict[str, Any]:
        line = self._slow_view["long_line_hz"] if self._long_leads(limit) else v["line_hz"]
        speeds = next_stable_speeds(line, self._teeth, v["rpm"], self._highest)
        return {
            "cutting": cutting,
            "line_hz": line,
            "tonal_share": v["tonal"],
            "energy_ratio": v["er"],
            "line_db": v["line_db"],
            "pair_db": v["pair_db"],
            "rpm": v["rpm"],
            "next_stable_rpm": speeds,
            **{name: self._slow_view[name] for name in ("opr", "residual", "half_tooth_db") if name in self._slow_view},
            "text": self._text(v, line, limit, speeds, cutting) + (_WAVERS_TEXT if wavers else ""),
        }

    def _learned(self, times: float) -> dict[str, Any]:
        known, most = self._points.bear(times), self._points.times
        text = f"learning: this cut is said to be good; up to {known:.2f} times the usual threshold so far"
        if known > most:
            text += f", which sounds like chatter: the threshold rises to {most:g} times at most"
        return {"learning": True, "reached": known, "text": text}

    def _long_leads(self, limit: float) -> bool:
        return bool(self._slow_view) and (not self._short or self._short[-1] < limit)

    def _text(self, v: Mapping[str, float], line: float, limit: float, speeds: list[float], cutting: bool) -> str:
        if not cutting:
            return "no cutting"
        passing = self._teeth * v["rpm"] / 60.0
        over = "over four windows " if self._long_leads(limit) else ""
        share = 100.0 * (self._slow_view["coherent"] if over else v["tonal"])
        parts = [
            f"line at {line:,.0f} Hz between the rotation's multiples",
            f"{share:.0f} % of the energy {over}in such lines, tooth passing {passing:,.0f} Hz",
        ]
        if speeds:
            parts.append("next stable speeds " + " or ".join(f"{speed:,.0f} rpm" for speed in speeds))
        parts.append("otherwise reduce the depth of cut")
        if self._teeth % 2 == 0:
            blind = "pure flip chatter is not observable by energy ratio or once per revolution"
            parts.append(f"{self._teeth} teeth: {blind}")
        elif abs(line / passing % 1.0 - 0.5) < 0.02:
            parts.append("lines at half the tooth passing: flip chatter, or a told speed of twice the true one")
        if _at(line, v["rpm"], _THIRDS + _HALVES):
            parts.append("multiple of a half or a third of the rotation: check the told speed, too")
        if self._points.times > 1.0:
            parts.append(f"threshold {self._points.times:.2f} times the usual one, as good cuts at this speed need")
        if 0 < self._over < self._on_delay and not self._steady():
            lasts = f"{self._over * HOP_S:.2f} of {self._on_delay * HOP_S:.2f} s on-delay"
            parts.append(f"lasts for {lasts}, its amplitude wavers")
        if v["clipped"] > 0.001:
            parts.append("the sensor clips")
        return "; ".join(parts)

    def _report(
        self, message: Feature, value: float, reasons: dict[str, Any], *, limit: float = LEAST, complete: bool = True
    ) -> list[Message]:
        abnormal = complete and value > limit
        turned, self._abnormal = abnormal != self._abnormal, abnormal
        if not turned and self._hops % self._every:
            return []
        return [Score.of(message, DETECTOR, value, limit, self.settings, reasons, complete=complete)]

    # memory ----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Counters, idle levels and baselines, at most 20 kB."""
        return {
            "schema": self.schema,
            "hops": self._hops,
            "abnormal": self._abnormal,
            "over": self._over,
            "rpm": self._rpm,
            "short": list(self._short),
            **self._evidence.snapshot(),
            **self._points.snapshot(),
            "seen": self._seen,
            "lone": self._lone,
            "looked": self._looked,
            "idle_tonal": self._idle_tonal,
            "mismatch": self._mismatch,
            "heard": self._heard,
            "idle": [list(pair) for pair in self._idle],
            "loudest": max(self._loudest, -1e9),
            "air": self._air,
            "slow_view": dict(self._slow_view),
            "tool": self._tool.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._hops, self._abnormal, self._rpm = state["hops"], state["abnormal"], state["rpm"]
        self._short, self._seen = list(state["short"]), bool(state["seen"])
        self._evidence = Weighed.of(state)
        self._over, self._looked = int(state["over"]), int(state.get("looked", 0))
        self._idle_tonal = state["idle_tonal"] or 0.0  # JSON has null for what is no number
        self._lone, self._mismatch, self._heard = state["lone"], state["mismatch"], state["heard"]
        self._idle = [(bucket, level) for bucket, level in state["idle"]]
        self._loudest, self._air = state["loudest"], bool(state["air"])
        self._points.restore(state)
        self._points.at(self._rpm)
        self._slow_view = dict(state["slow_view"])
        self._tool.restore(state["tool"])


def _at(line_hz: float, rpm: float, places: Sequence[float]) -> bool:
    """Whether a line is where a rotation has its multiples that is told as 2, 3, 3/2 or 2/3 times what it is."""
    place = line_hz * 60.0 / rpm % 1.0
    return any(abs(place - wrong) < _PLACE for wrong in places)
