"""Evidence of alarms: what the machine's sensors recorded around the moment, made beside the lanes.

A sink like any other: it reads raised alarms from the log with its own cursor, waits until the time behind the alarm
is recorded, and writes files under a name that the alarm determines.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from config.schema import Evidence
from connectors.base import Sink
from connectors.evidence import EVIDENCE_FILE, evidence_name, write_evidence
from pipeline.errors import SinkBusy, SinkWaits
from pipeline.messages import NS, Chunk, Float32, Image, Record
from pipeline.recording.clip import Clip, window_of
from pipeline.stages import LaneSettings

GIVE_UP_S = 15.0
"""A sensor whose recording does not reach so far behind what evidence shall hold is listed as missing."""


class EvidenceSink(Sink):
    """Raised alarms → sound, waveform and spectrogram of each sensor of the machine, and frames of its cameras.

    Args:
        recordings: folder of the recording ring.
        settings: how much, and where to.
        lanes: the machines' inventories.
        monotonic_s: a clock for giving up.
    """

    name: ClassVar[str] = "evidence"

    def __init__(
        self,
        recordings: Path,
        settings: Evidence,
        lanes: Sequence[LaneSettings],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recordings = recordings
        self._settings = settings
        self._sensors = {lane.machine.name: [s.name for s in lane.machine.sensors] for lane in lanes}
        self._now_s = monotonic_s
        self._first_asked: dict[str, float] = {}
        self._room: Room | None = None
        self._made: set[str] = set()
        self._ended = False

    def write(self, records: Sequence[Record]) -> None:
        """Make the evidence of each raised alarm.

        Raises:
            SinkWaits: the time behind an alarm is not recorded yet.
            SinkBusy: the disk is full.
        """
        wanted = [r for r in records if r.body["transition"] == "raised" and r.machine in self._sensors]
        for record in wanted:  # all wait from now on, not each from its turn
            self._first_asked.setdefault(record.id, self._now_s())
        for record in wanted:
            if record.id not in self._made:
                self._make(record)
                self._made.add(record.id)
        self._made.clear()  # the batch is done and does not come again
        self._first_asked.clear()

    def _make(self, record: Record) -> None:
        t0 = record.t_ns - round(self._settings.before_s * NS)
        t1 = record.t_ns + round(self._settings.after_s * NS)
        clips = [window_of(self._recordings, record.machine, s, t0, t1) for s in self._sensors[record.machine]]
        incomplete = any(clip.reached_ns < t1 for clip in clips)  # a mark that nothing comes is all that comes
        patience_s = self._settings.after_s + GIVE_UP_S
        if incomplete and not self._ended and self._now_s() - self._first_asked[record.id] < patience_s:
            raise SinkWaits("the time behind the alarm is not recorded yet", 0.5)
        parts = [part for clip in clips for part in pieces(clip)]
        shown = [still for clip in clips for still in stills(clip, record.t_ns)]
        missing = [
            f"{clip.sensor}: {(m.t1_ns - m.t0_ns) / NS:.2f} s from {(m.t0_ns - record.t_ns) / NS:+.2f} s: {m.reason}"
            for clip in clips
            for m in clip.missing
        ]
        folder, most_bytes = self._settings.folder, self._settings.most_bytes
        try:
            room = self._room = Room(folder) if self._room is None or self._room.disturbed else self._room
            room.make(most_bytes)  # first of all: on a full disk nothing can be written before
            with room.writing(evidence_name(record.body)):
                room.add(write_evidence(folder, record, parts, missing, stills=shown, number=room.number + 1))
            room.make(most_bytes)
        except OSError as error:
            raise SinkBusy(f"{folder}: {error.strerror}", 5.0) from None

    def ending(self) -> None:
        """Nothing more is recorded: evidence is what there is, and says what is missing."""
        self._ended = True

    def close(self) -> None:
        """Nothing is held open."""


def pieces(clip: Clip) -> list[tuple[str, float, int, Float32, str]]:
    """The clip's samples in their unit, one piece per uninterrupted run: (sensor, rate, t0_ns, samples, unit)."""
    chunks = [part for part in clip.parts if isinstance(part, Chunk)]
    if not chunks:
        return []
    runs: list[list[Chunk]] = [[chunks[0]]]
    for before, after in pairwise(chunks):
        if before.stream == after.stream and before.n1 == after.n0:
            runs[-1].append(after)
        else:
            runs.append([after])
    made = []
    for run in runs:
        first = run[0]
        x = np.concatenate([chunk.samples for chunk in run]).astype(np.float32) * np.float32(first.stream.scale)
        made.append((clip.sensor, first.stream.rate.hz, first.t0_ns, x, first.stream.unit))
    return made


def stills(clip: Clip, alarm_ns: int) -> list[tuple[str, int, bytes, str]]:
    """A camera's frames nearest to the clip's beginning, the alarm and the clip's end: (sensor, t_ns, data, media)."""
    images = [part for part in clip.parts if isinstance(part, Image)]
    if not images:
        return []
    near = (min(images, key=lambda image: abs(image.t0_ns - t_ns)) for t_ns in (clip.t0_ns, alarm_ns, clip.t1_ns))
    chosen = {image.n0: image for image in near}.values()
    return [(clip.sensor, image.t0_ns, image.data, image.stream.dtype) for image in chosen]


def index(folder: Path, alarms: Iterable[Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """What evidence there is, by alarm: all of it, or that of the alarms with these bodies."""
    found: dict[str, dict[str, Any]] = {}
    paths = sorted(folder.glob("*.json")) if alarms is None else [folder / f"{evidence_name(a)}.json" for a in alarms]
    for path in paths:
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # being written, or not ours
        if _is_ours(path, body):
            found[body["alarm"]] = body
    return found


def _is_ours(path: Path, body: Any) -> bool:
    """Whether a JSON is evidence as it was written, under the name that it says; anybody may put files there."""
    if not EVIDENCE_FILE.match(path.name) or not isinstance(body, dict) or body.get("file") != path.name:
        return False
    parts = body.get("parts")
    return isinstance(body.get("alarm"), str) and isinstance(parts, list) and all(isinstance(p, dict) for p in parts)


class Room:
    """What evidence there is in a folder and how much room it takes. What a run left while it was writing is removed.

    The folder is read once: it may hold the evidence of thousands of alarms.

    Attributes:
        number: of the newest evidence; 0 where there is none.

    Args:
        folder: where evidence is written, by this object's owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self.number = 0
        self._folder = folder
        self._held: dict[str, tuple[int, list[str]]] = {}  # by JSON, bytes and files of an alarm; the oldest first
        self._bytes = 0
        for body in sorted(index(folder).values(), key=_order):
            self.add(body)
        self._sweep("*")
        self._settle()

    def add(self, body: Mapping[str, Any]) -> None:
        """Take in what was written, perhaps once more: the newest from now on."""
        before, _ = self._held.pop(body["file"], (0, []))
        files = [body["file"], *_files(body)]
        size = sum(_size(self._folder / file) for file in files)
        self._held[body["file"]] = (size, files)
        self._bytes += size - before
        self.number = max(self.number, _order(body)[0])

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Around the writing of evidence of a name: what is left where it fails is removed."""
        try:
            yield
        except BaseException:
            self._sweep(f"{name}*")
            raise
        finally:
            self._settle()

    def make(self, most_bytes: int) -> int:
        """Remove the oldest until the rest takes at most so much; returns how many alarms' evidence went.

        The newest one stays, and what is not evidence.
        """
        removed = 0
        while self._bytes > most_bytes and len(self._held) > 1:
            oldest, (size, files) = next(iter(self._held.items()))
            for file in files:
                (self._folder / file).unlink(missing_ok=True)
            del self._held[oldest]
            self._bytes -= size
            removed += 1
        if removed:
            self._settle()
        return removed

    @property
    def disturbed(self) -> bool:
        """Whether somebody else has removed files, or put some there."""
        return self._changed_ns != _changed_ns(self._folder)

    def _settle(self) -> None:
        self._changed_ns = _changed_ns(self._folder)

    def _sweep(self, pattern: str) -> None:
        """Remove files that are named like evidence, but which no JSON tells of: it is written last."""
        told = {file for _, files in self._held.values() for file in files}
        for file in self._folder.glob(pattern):
            if EVIDENCE_FILE.match(file.name) and file.name not in told:
                file.unlink(missing_ok=True)


def _order(body: Mapping[str, Any]) -> tuple[int, str]:
    """What evidence is ordered by: its number, as a clock may have been set back; the older ones have but a time."""
    number = body.get("number", 0)
    return number if isinstance(number, int) else 0, str(body["file"])


def _files(body: Mapping[str, Any]) -> list[str]:
    """Files beside the JSON, by plain names alone that begin as its own."""
    named = [str(part[kind]) for part in body["parts"] for kind in ("sound", "picture") if part.get(kind)]
    return [name for name in named if Path(name).name == name and name.startswith(Path(body["file"]).stem)]


def _changed_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
