"""Commissioning: from recordings of normal running to a baseline per sensor, and what it promises."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.anomaly.baseline import NO_STATE, Baseline, Cell, counted
from models.anomaly.chain import windows
from models.anomaly.embedding import BATCH, Embedder, floor_of, joins, strangeness
from models.anomaly.fusion import fit
from models.anomaly.left_out import LeftOut, Recording
from models.anomaly.scale import widened
from models.anomaly.thresholds import threshold
from models.anomaly.vectors import ANOMALY, EMBEDDING, LEVEL, Extraction, extraction
from operators.cusum import MINUTE_NS
from operators.vibration import LEAST_SAMPLES
from pipeline.errors import BadInput
from pipeline.messages import NS, Float32, Rate, Segment, Stream

BACK_ENDS: Mapping[str, tuple[str, ...]] = {
    ANOMALY: ("knn_l2", "maha", "pca_res"),
    LEVEL: ("knn_l2",),
    EMBEDDING: ("knn_l2", "pca_res"),
}
"""Detector → back-ends whose minimum is taken, with `ldn` from three starts on.

No cosines: standardised vectors lie around zero, where the direction of a normal one is noise. Levels of a machine
with several operations come in clusters, so that nothing is assumed of their joint distribution.
"""
LDN_STARTS = 3
FEWEST_WINDOWS = 5
RECOMMENDED_STARTS = 5
"""Fewer starts say little about the next one; a state that has fewer is judged by all states together."""
WIDE = 0.25
"""Share of numbers that vary between kinds of running from which a note says what that costs."""
COPIES = 0.2
"""More windows than this share that repeat others are worth a word."""
_LIBRARIES = ("numpy", "scipy")

Notice = Callable[[str], None]


class Part(Protocol):
    """An uninterrupted stretch of a recording."""

    @property
    def stream(self) -> Stream:
        """The sensor's own stream."""

    def segments(self) -> Iterable[Segment]:
        """Its samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """A recording of normal running.

    Attributes:
        name: for messages.
        start: the occasion that it belongs to: a recording, a day, a thermal state.
        state: operating state; empty for a machine with one.
        parts: its stretches of samples.
    """

    name: str
    start: str
    state: str
    parts: Sequence[Part]


@dataclass(slots=True)
class _Vectors:
    """Vectors of one detector in one state, with where they come from."""

    x: list[Float32] = field(default_factory=list)
    start: list[str] = field(default_factory=list)
    recording: list[int] = field(default_factory=list)
    t_ns: list[int] = field(default_factory=list)


def commission(
    recordings: Iterable[Normal],
    notice: Notice | None = None,
    embedder: Embedder | None = None,
) -> list[Baseline]:
    """Learn the normal of every sensor that the recordings hold.

    Args:
        recordings: of normal running, those of one sensor in the order in which they were taken.
        notice: called with each recording's name before it is read.
        embedder: makes embeddings of the log-Mel of sound; they are judged beside it where left-out starts show that
            this costs no false alarms, see `embedding.joins`.

    Returns:
        One baseline per (machine, sensor), in the order of their first recordings.

    Raises:
        BadInput: recordings of one sensor differ in rate, unit or channels, or no state has enough windows.
    """
    sensors: dict[tuple[str, str], _Sensor] = {}
    for number, recording in enumerate(recordings):
        if notice is not None:
            notice(recording.name)
        for part in recording.parts:
            stream = part.stream
            sensor = sensors.setdefault((stream.machine, stream.sensor), _Sensor(stream, embedder))
            sensor.take(number, recording, part)
    if not sensors:
        raise BadInput("manifest", "there is no normal recording to learn from; check the labels and --normal")
    return [sensor.baseline() for sensor in sensors.values()]


class _Sensor:
    """Collects the vectors of one sensor, then learns."""

    def __init__(self, stream: Stream, embedder: Embedder | None) -> None:
        if stream.modality == "vibration" and stream.rate.hz < LEAST_SAMPLES:
            where = f"{stream.machine}/{stream.sensor}"
            raise BadInput("rate", f"{where} has {stream.rate.hz:g} Hz; vibration is judged from {LEAST_SAMPLES} Hz on")
        self.stream = stream
        self.extraction: Extraction = extraction(stream)
        self.embedder = embedder if stream.modality != "vibration" else None
        self.detectors = (*self.extraction.dimensions, *((EMBEDDING,) if self.embedder else ()))
        self.vectors: dict[str, dict[str, _Vectors]] = {}
        self.starts: dict[str, None] = {}
        self.seconds = 0.0
        self.silent = self.boundless = 0
        self.strangers: dict[str, tuple[float, int]] = {}
        self.wide: set[str] = set()

    def take(self, number: int, recording: Normal, part: Part) -> None:
        facts = ("modality", "rate", "channels", "unit")
        for fact in facts:
            mine, theirs = getattr(self.stream, fact), getattr(part.stream, fact)
            if mine != theirs:
                raise BadInput(
                    "mixed",
                    f"{recording.name}: {fact} is {_shown(theirs)}, but other recordings of {self.stream.machine}/"
                    f"{self.stream.sensor} have {_shown(mine)}; give them another sensor name or leave them out",
                )
        cell = self.vectors.setdefault(recording.state, {d: _Vectors() for d in self.detectors})
        images: list[Float32] = []
        last_ns: int | None = None
        for window in windows(self.stream, self.extraction, part.segments()):
            found = self.extraction.vectors(window)
            self.silent += not found
            if not all(np.isfinite(x).all() for x in found.values()):
                self.boundless += 1
                found = {}
            if found:
                self.starts[recording.start] = None
            if found and self.embedder is not None:
                images.append(window.values)
                self._embed(cell, images, BATCH)
            for detector in self.detectors if found else ():
                held = cell[detector]
                if detector in found:
                    held.x.append(found[detector])
                held.start.append(recording.start)
                held.recording.append(number)
                held.t_ns.append(window.t_end_ns)
            length_ns = (window.n1 - window.n0) * NS * window.stream.rate.den // window.stream.rate.num
            if found:
                self.seconds += (min(window.t_end_ns - last_ns, length_ns) if last_ns is not None else length_ns) / NS
            last_ns = window.t_end_ns
        self._embed(cell, images, 1)

    def _embed(self, cell: Mapping[str, _Vectors], images: list[Float32], least: int) -> None:
        """Embed the images that wait once there are so many; vectors follow the order of their windows."""
        if self.embedder is not None and len(images) >= least:
            cell[EMBEDDING].x += list(self.embedder.vectors(np.stack(images)))
            images.clear()

    def baseline(self) -> Baseline:
        copies = self._copies()
        states, cells, notes = self._cells()
        if self.embedder is not None and cells:
            joined, why = joins([(c[ANOMALY], c[EMBEDDING]) for c in cells], self._strangeness())
            notes.append(why)
            cells = cells if joined else [{d: c for d, c in by.items() if d != EMBEDDING} for by in cells]
        judged = self.embedder if self.embedder is not None and any(EMBEDDING in c for c in cells) else None
        where = f"{self.stream.machine}/{self.stream.sensor}"
        if not cells:
            raise BadInput(
                "short",
                f"{where}: there are not {FEWEST_WINDOWS} windows of about a second in which every channel gives a "
                "signal; record normal running for minutes, better an hour",
            )
        if self.silent:
            notes.append(f"{counted(self.silent, 'silent window')} {_were(self.silent)} left out.")
        if self.boundless:
            notes.append(
                f"{counted(self.boundless, 'window')} {_were(self.boundless)} left out whose samples' power is no "
                "number: values far beyond anything real, as some loggers write where they have none."
            )
        notes += [
            f"Start {start!r} is unlike the other {others}: half of its windows lie above {ratio:.1f} times the limit "
            "that those give; listen to it, and leave it out if it was not normal."
            for start, (ratio, others) in self.strangers.items()
        ]
        if self.wide:
            notes.append(
                f"{' and '.join(sorted(self.wide))}: kinds of running that differ widely were learned together, so a "
                "fault in one of them must be larger to be seen; name them in the column state, and tell the state."
            )
        if copies > COPIES:
            notes.append(
                f"{copies:.0%} of the windows repeat others exactly, as of a recording that plays in a loop: whatever "
                "differs from it may raise an alarm; record more."
            )
        if 1 < len(self.starts) < RECOMMENDED_STARTS:
            notes.append(f"Learned from {len(self.starts)} starts; {RECOMMENDED_STARTS} make the threshold reliable.")
        return Baseline(
            machine=self.stream.machine,
            sensor=self.stream.sensor,
            modality=self.stream.modality,
            rate=self.stream.rate,
            channels=self.stream.channels,
            unit=self.stream.unit,
            front_end=self.extraction.hash,
            states=states,
            cells=tuple(cells),
            starts=tuple(self.starts),
            hours=self.seconds / 3600.0,
            provisional=any(cell.starts == 1 for by_name in cells for cell in by_name.values()),
            notes=tuple(notes),
            versions={name: importlib.metadata.version(name) for name in _LIBRARIES},
            encoder="" if judged is None else judged.encoder,
            pooling="" if judged is None else judged.pooling,
        )

    def _copies(self) -> float:
        """The share of windows that repeat others to the last bit, which nothing that was recorded does.

        Raises:
            BadInput: a start is a copy of another one, and would be left out for nothing.
        """
        told = [
            (x.tobytes(), start)
            for by_name in self.vectors.values()
            for x, start in zip(by_name[LEVEL].x, by_name[LEVEL].start, strict=True)
        ]
        of: dict[str, set[bytes]] = {}
        for window, start in told:
            of.setdefault(start, set()).add(window)
        for one, other in permutations(of, 2):
            if len(of[one]) >= FEWEST_WINDOWS and of[one] <= of[other]:
                raise BadInput(
                    "copies",
                    f"{self.stream.machine}/{self.stream.sensor}: start {one!r} is a copy of start {other!r}, which "
                    "tells nothing of the next one; name other recordings",
                )
        return 1.0 - len({window for window, _ in told}) / max(len(told), 1)

    def _strangeness(self) -> tuple[float, float]:
        """Of a start by log-Mel and by embedding, the mean over the states."""
        found = []
        for detector in (ANOMALY, EMBEDDING):
            parts = [v[detector] for v in self.vectors.values() if len(set(v[detector].start)) > 1]
            each = [strangeness(x := np.stack(v.x), v.start, self._floor(detector, x)) for v in parts]
            found.append(float(np.mean(each)) if each else 1.0)
        return found[0], found[1]

    def _floor(self, detector: str, x: Float32) -> Float32:
        return floor_of(x) if detector == EMBEDDING else self.extraction.floor(detector)

    def _cells(self) -> tuple[dict[str, int], list[dict[str, Cell]], list[str]]:
        """A cell for each state that has enough starts to be judged alone, one of all states for the others."""
        states: dict[str, int] = {}
        cells: list[dict[str, Cell]] = []
        sharing = [s for s, v in self.vectors.items() if len(set(v[LEVEL].start)) < RECOMMENDED_STARTS]
        for state, by_detector in self.vectors.items():
            if state not in sharing:
                states[state] = len(cells)
                cells.append(self._cell(by_detector))
        notes: list[str] = []
        if sharing:
            pooled = {d: _pooled([v[d] for v in self.vectors.values()]) for d in self.detectors}
            if len(pooled[LEVEL].x) < FEWEST_WINDOWS:
                notes.append(
                    f"Too little was recorded of {', '.join(s or NO_STATE for s in sharing)}; record at least a minute."
                )
                return states, cells, notes
            states |= dict.fromkeys(sharing, len(cells))
            cells.append(self._cell(pooled, mixed=len(self.vectors) > 1))
        if sharing and len(self.vectors) > 1:
            own = [
                f"{s or NO_STATE} ({counted(len(set(self.vectors[s][LEVEL].start)), 'start')} of its own)"
                for s in sharing
            ]
            notes.append(
                f"States with fewer than {RECOMMENDED_STARTS} starts are judged by all states together: "
                f"{', '.join(own)}."
            )
        return states, cells, notes

    def _cell(self, by_detector: Mapping[str, _Vectors], mixed: bool = False) -> dict[str, Cell]:
        """Learn one cell; `mixed` where it is of several states."""
        cell: dict[str, Cell] = {}
        for detector, vectors in by_detector.items():
            cell[detector], strangers = _learn(detector, vectors, self.extraction)
            x = np.stack(vectors.x)
            if widened(cell[detector].fusion.scale, x, self._floor(detector, x)) > WIDE:
                self.wide.add(detector)
            if mixed or detector == EMBEDDING:  # of several states the rare one is unlike; embeddings may be left out
                continue
            for start, ratio in strangers.items():
                self.strangers[start] = max(self.strangers.get(start, (0.0, 0)), (ratio, cell[detector].starts - 1))
        return cell


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _shown(fact: object) -> str:
    return f"{fact.hz:g} Hz" if isinstance(fact, Rate) else str(fact)


def _pooled(parts: Sequence[_Vectors]) -> _Vectors:
    """All states together, in the order of their recordings."""
    whole = _Vectors(*([item for part in parts for item in getattr(part, name)] for name in _Vectors.__slots__))
    order = sorted(range(len(whole.x)), key=lambda i: (whole.recording[i], whole.t_ns[i]))
    return _Vectors(*([getattr(whole, name)[i] for i in order] for name in _Vectors.__slots__))


def _learn(detector: str, vectors: _Vectors, extraction: Extraction) -> tuple[Cell, dict[str, float]]:
    """The cell, and the starts that are unlike all others: how many times their limit lies half of its windows."""
    starts = len(set(vectors.start))
    names = (*BACK_ENDS[detector], *(("ldn",) if starts >= LDN_STARTS else ()))
    x = np.stack(vectors.x)
    floor = floor_of(x) if detector == EMBEDDING else extraction.floor(detector)
    fusion, scores = fit(x, vectors.start, names, floor)
    recordings = list(_by_recording(vectors, scores))
    minutes = np.concatenate([_minute_means(r) for r in recordings])
    left_out = LeftOut(recordings)
    cell = Cell(
        fusion=fusion,
        threshold=left_out.limit(),
        recording_threshold=threshold(np.array([r.scores.mean() for r in recordings])),
        minute_mean=float(minutes.mean()) if len(minutes) else 0.0,
        minute_std=max(float(minutes.std()), 0.1) if len(minutes) >= 10 else 1.0,
        windows=len(scores),
        starts=starts,
        false_alarms=left_out.false_alarms(),
    )
    return cell, left_out.strangers()


def _by_recording(vectors: _Vectors, scores: NDArray[np.float64]) -> Iterator[Recording]:
    number, t_ns = np.array(vectors.recording), np.array(vectors.t_ns, np.int64)
    for n in dict.fromkeys(vectors.recording):
        mine = np.flatnonzero(number == n)
        yield Recording(vectors.start[mine[0]], scores[mine], t_ns[mine])


def _minute_means(recording: Recording) -> NDArray[np.float64]:
    minute = recording.t_ns // MINUTE_NS
    counts = [(recording.scores[minute == m].mean(), int((minute == m).sum())) for m in np.unique(minute)]
    return np.array([mean for mean, count in counts if count >= 30], np.float64)
