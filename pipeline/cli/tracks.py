"""Labels of a recording's seconds: Audacity label tracks, or what the machine told while it was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.heads.labels import SHORTEST_S, Region, read_track
from models.probe.clips import Facts
from pipeline.cli.probing import Source
from pipeline.clips import Piece, check_end
from pipeline.errors import BadInput
from pipeline.manifest import Row
from pipeline.messages import NS, Chunk, Context, Float32, Rate, Stream
from pipeline.recording.reader import read
from pipeline.topics import ABANDON_S

_SOUND = frozenset({"acoustic", "stethoscope"})


def names_of(audio: Sequence[Path]) -> list[str]:
    """What recordings are called, which is their group too, as in a manifest: their file's name.

    Where different files share a name, it is their path as it was given.
    """
    files: dict[str, set[Path]] = {}
    for path in audio:
        files.setdefault(path.name, set()).add(path.resolve())
    return [path.name if len(files[path.name]) == 1 else str(path) for path in audio]


def sources_of_track(track: Path, audio: Path, sensor: str, name: str = "") -> tuple[list[Source], list[str]]:
    """The labelled regions of a recording, all of one group.

    Args:
        track: label track.
        audio: WAV or FLAC file, or an MCAP recording, whose sensor's first sample is second 0.
        sensor: ``machine/sensor`` in an MCAP recording; empty where it holds one sensor of sound.
        name: what the recording and its group are called; empty for the name of its file.

    Raises:
        BadInput: a file cannot be read, or the recording has no such sensor.
    """
    regions, notes = read_track(track)
    if not audio.is_file():
        raise BadInput("missing", f"{audio}: there is no such file; name the sound that {track} labels")
    recorded = audio.suffix.lower() == ".mcap"
    return [_source(region, audio, sensor, name or audio.name, recorded) for region in regions], notes


def sources_told(audio: Path, fact: str, sensor: str, name: str = "") -> tuple[list[Source], list[str]]:
    """The seconds of a recorded sensor for which a fact held, labelled by it, all of one group.

    What is told again holds on. Where a teller mostly repeats itself, as it should, its silence means that nobody
    knows: a word then holds for `ABANDON_S`, as it does for a running machine. Empty words label nothing.

    Args:
        audio: MCAP recording.
        fact: name of a context, such as ``"state"``, that was recorded with the samples.
        sensor: ``machine/sensor``; empty where the recording holds one sensor of sound.
        name: what the recording and its group are called; empty for the name of its file.

    Returns:
        The regions, and notes about those under half a second, which are left out.

    Raises:
        BadInput: the file is no recording, or has no such sensor or fact.
    """
    if audio.suffix.lower() != ".mcap" or not audio.is_file():
        raise BadInput("labels", f"{audio}: no MCAP recording: only those hold facts; name --labels for it")
    stream, t0_ns, runs = runs_of(audio, sensor)
    end_s = (runs[-1][0] - t0_ns) / NS + len(runs[-1][1]) / stream.rate.hz
    told: dict[str, list[tuple[float, str]]] = {}
    first_s = end_s  # what is repeated of the file before teaches there
    for m in read(audio).messages():
        item = m.message
        if isinstance(item, Context) and item.machine == stream.machine:
            value = item.value.strip() if isinstance(item.value, str) else f"{item.value:g}"
            told.setdefault(item.name, []).append(((item.t_ns - t0_ns) / NS, value))
        elif isinstance(item, Chunk) and item.stream.key == stream.key and not m.preroll:
            first_s = min(first_s, (item.t0_ns - t0_ns) / NS)
    if fact not in told:
        mend = f"only of {', '.join(sorted(told))}: name one by --fact" if told else "nothing: label it by --labels"
        raise BadInput("labels", f"{audio}: {fact!r} is no fact of {stream.machine}, which told {mend}")
    regions = [
        Region(max(at, first_s), min(end, end_s), value)
        for at, end, value in _held(told[fact], end_s)
        if value and min(end, end_s) > max(at, first_s)
    ]
    whole = [r for r in regions if r.end_s - r.start_s >= SHORTEST_S]
    if not whole:
        raise BadInput("labels", f"{audio}: no {fact!r} lasted {SHORTEST_S:g} s while {stream.sensor} was heard")
    notes = [f"{audio.name}: {len(regions) - len(whole)} stretches of under {SHORTEST_S:g} s were left out"]
    key = f"{stream.machine}/{stream.sensor}"
    return [_source(r, audio, key, name or audio.name, True) for r in whole], notes if len(whole) < len(regions) else []


def _held(told: Sequence[tuple[float, str]], end_s: float) -> list[tuple[float, float, str]]:
    """From when to when each word held, what was only repeated made one; `told` as it was said."""
    said = sorted(told, key=lambda word: word[0])  # of two words of one moment the later one holds
    repeats = sum(one[1] == other[1] for one, other in pairwise(said))
    most_s = ABANDON_S if 2 * repeats > len(said) - 1 else np.inf
    held: list[tuple[float, float, str]] = []
    for (at, value), (following, _) in pairwise([*said, (end_s, "")]):
        end = min(following, at + most_s)
        if held and held[-1][1:] == (at, value):
            held[-1] = (held[-1][0], end, value)
        elif end > at:
            held.append((at, end, value))
    return held


def _source(region: Region, audio: Path, sensor: str, name: str, recorded: bool) -> Source:
    row = Row(
        name=name, path=audio, label=region.label, group=name, machine="machine", sensor=sensor or "sound",
        modality="acoustic", start_s=region.start_s, end_s=region.end_s,
    )  # fmt: skip
    facts = Facts(name, 0.0, region.label, name, row.sensor, region.label)
    return Source(row, facts, pieces=_recorded) if recorded else Source(row, facts)


def _recorded(row: Row) -> Sequence[Piece]:
    """The parts of a row's seconds that an MCAP recording holds."""
    stream, t0_ns, runs = runs_of(row.path, "" if row.sensor == "sound" else row.sensor)
    end_s = np.inf if row.end_s is None else row.end_s
    last_ns, last_x = runs[-1]
    check_end(row, (last_ns - t0_ns) / NS + len(last_x) / stream.rate.hz)
    found = []
    for start_ns, x in runs:
        at = (start_ns - t0_ns) / NS
        first = max(0, round((row.start_s - at) * stream.rate.hz))
        last = int(min(len(x), np.round((end_s - at) * stream.rate.hz)))
        if last - first >= SHORTEST_S * stream.rate.hz:
            part = x[first:last]
            from_ns = start_ns - t0_ns + first * NS * stream.rate.den // stream.rate.num
            found.append(Piece(stream, from_ns, len(part), lambda part=part: iter((part,))))  # type: ignore[misc]
    if not found:
        raise BadInput("short", f"{row.name}: holds nothing from {row.start_s:g} s to {end_s:g} s of {row.sensor}")
    return found


@lru_cache(maxsize=1)
def runs_of(path: Path, sensor: str) -> tuple[Stream, int, list[tuple[int, Float32]]]:
    """A recorded sensor of sound, read whole.

    Args:
        path: MCAP recording.
        sensor: ``machine/sensor``; empty where the recording holds one sensor of sound.

    Returns:
        Stream, time of its first sample, and its uninterrupted runs: time and samples (n, channels) in its unit.

    Raises:
        BadInput: the file is no recording, or has no such sensor, or one whose rate changed.
    """
    chunks: list[Chunk] = []
    names: set[str] = set()
    for m in read(path).messages():
        if isinstance(m.message, Chunk) and m.message.stream.modality in _SOUND:
            names.add(name := f"{m.message.stream.machine}/{m.message.stream.sensor}")
            if sensor in {"", name}:
                chunks.append(m.message)
    if not names:
        raise BadInput("sensor", f"{path}: holds no sensor of sound")
    if sensor not in names and (sensor or len(names) > 1):
        raise BadInput("sensor", f"{path}: holds {', '.join(sorted(names))}; name one with --sensor")
    rates: set[Rate] = {c.stream.rate for c in chunks}
    if len(rates) > 1:
        raise BadInput(
            "rate", f"{path}: {sensor or min(names)} changed its rate within the recording; label one rate at a time"
        )
    chunks.sort(key=lambda c: c.t0_ns)
    runs: list[tuple[int, list[Float32]]] = []
    follows: tuple[int, int] | None = None
    for c in chunks:
        x = (np.asarray(c.samples, np.float32) * np.float32(c.stream.scale)).reshape(len(c.samples), -1)
        if follows != (c.stream.epoch, c.n0):
            runs.append((c.t0_ns, []))
        runs[-1][1].append(x)
        follows = (c.stream.epoch, c.n1)
    return chunks[0].stream, chunks[0].t0_ns, [(t, np.concatenate(x)) for t, x in runs]
