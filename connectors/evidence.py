"""Evidence of an alarm as files that a person can open: a sound, a picture, and a JSON that says what they are.

Everything is named after the alarm, so that the same evidence written twice is the same files. Files appear whole or
not at all. What could not be had is listed, and what was changed to make a signal audible is stated.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import soundfile

from connectors.evidence_picture import Caption, picture
from connectors.evidence_spectrum import shown
from pipeline.messages import NS, Float32, Record, axis_names

VERSION = 1
AUDIBLE_HZ = 8000
"""Slower samples are played faster by a whole factor, so that every player takes them and low tones can be heard."""

PEAK = 10 ** (-1 / 20)
"""Where the loudest sample lies after normalisation, 1 dB below full scale."""

EVIDENCE_FILE = re.compile(r"\d{8}T\d{6}Z_[a-z0-9-]+_[a-z0-9-]+_[0-9a-f]{8}([_.].*)?$")
"""Names that all files of evidence have, also those that are being written."""
_LONGEST_NAME = 32
_DIGESTED = re.compile(r"-[0-9a-f]{6}$")
_SUFFIX = {"image/jpeg": ".jpg", "image/png": ".png"}


class Clip(NamedTuple):
    """What one sensor recorded without a gap: `samples` (n, channels) float32 in `unit`, the first one at `t0_ns`."""

    sensor: str
    rate_hz: float
    t0_ns: int
    samples: Float32
    unit: str


class Still(NamedTuple):
    """One frame of a camera, as it came: `data` is an encoded image of the media type `media`."""

    sensor: str
    t_ns: int
    data: bytes
    media: str


class Sound(NamedTuple):
    """A clip made audible: (n, channels) float32 within ±1, and what was done to it."""

    samples: Float32
    rate_hz: int
    facts: dict[str, Any]


def evidence_name(body: Mapping[str, Any]) -> str:
    """The name that all files of an alarm begin with: raise time, machine, detector and a digest of the alarm's name.

    Made of ASCII letters, digits, ``-`` and ``_`` alone, so that it is safe on every file system.

    Args:
        body: of one of the alarm's transitions.
    """
    raised = datetime.fromtimestamp(int(body["raised_ns"]) // NS, UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(str(body["alarm"]).encode()).hexdigest()[:8]
    return "_".join((raised, slug(str(body["machine"])), slug(str(body["detector"])), digest))


def slug(name: str) -> str:
    """`name` in lower-case ASCII for file names; a digest keeps apart what would become equal."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    short = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST_NAME].strip("-")
    if short and short == name and not _DIGESTED.search(name):
        return short
    return f"{short or 'x'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def write_evidence(
    folder: Path,
    alarm_record: Record,
    clips: Sequence[Clip | tuple[str, float, int, Float32, str]],
    missing: Sequence[str],
    *,
    stills: Sequence[Still | tuple[str, int, bytes, str]] = (),
    number: int = 0,
) -> dict[str, Any]:
    """Write what was recorded around an alarm; the same arguments give the same files.

    Args:
        folder: where the files go; made if it is not there.
        alarm_record: the record of the alarm's ``raised`` transition.
        clips: what was recorded, one per sensor, or several where gaps divide it; ``(sensor, rate_hz, t0_ns, samples,
            unit)`` with samples of shape (n, channels).
        missing: what should be there and is not, in words for the operator.
        stills: camera frames, ``(sensor, t_ns, data, media)``; JPEG and PNG.
        number: how many came before it in its folder: the order in which it goes when room is needed.

    Returns:
        What the JSON file holds: `version`, `name`, `file` (the JSON's own name), `number`, `alarm` (the alarm's name),
        `record` (the alarm's body), `t_ns` (raise time), `parts` and `missing`. Each part has `sensor`, `t0_ns`,
        `t1_ns`, `rate_hz`, `unit`, `samples`, `channels`, and the names of its files under `sound` and `picture`;
        `playback` says how the sound differs from the samples. A still's part has `sensor`, `t_ns` and `picture`.

    Raises:
        OSError: a file cannot be written.
        ValueError: a clip's samples do not have the shape (n, channels).
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, body = evidence_name(alarm_record.body), alarm_record.body
    parts: list[dict[str, Any]] = []
    lacking = list(missing)
    takes: Counter[str] = Counter()
    for clip in (Clip(*each) for each in clips):
        if clip.samples.ndim != 2:
            raise ValueError(f"samples of '{clip.sensor}' have the shape {clip.samples.shape}, not (n, channels)")
        if not clip.samples.size:
            lacking.append(f"{clip.sensor}: no samples")
            continue
        caption = _caption(clip, alarm_record, missing)
        parts.append(_part(folder, _next(name, clip.sensor, takes), clip, caption))
    for still in (Still(*each) for each in stills):
        if still.media not in _SUFFIX:
            lacking.append(f"{still.sensor}: a frame of type {still.media}")
            continue
        file = _next(name, still.sensor, takes) + _SUFFIX[still.media]
        _write(folder / file, still.data)
        parts.append({"sensor": still.sensor, "t_ns": still.t_ns, "picture": file})
    told = {
        "version": VERSION,
        "name": name,
        "file": f"{name}.json",
        "number": number,
        "alarm": str(body["alarm"]),
        "record": dict(body),
        "t_ns": int(body["raised_ns"]),
        "parts": parts,
        "missing": lacking,
    }
    _write(folder / f"{name}.json", orjson.dumps(told, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))
    return told


def audible(clip: Clip) -> Sound:
    """Make a clip fit for a loudspeaker.

    Full-scale sound (unit ``FS``) stays as it is. Anything else loses its mean, because gravity and offsets cannot be
    heard, and is raised or lowered so that its peak lies 1 dB below full scale. Of more than two channels the strongest
    is played. Below 8 kHz the samples are played faster by a whole factor, without resampling.
    """
    samples = np.asarray(clip.samples, np.float32)
    finite = np.isfinite(samples)
    x = np.where(finite, samples, np.float32(0.0))
    facts: dict[str, Any] = {"channels": list(range(1, x.shape[1] + 1)), "not_finite": int(finite.size - finite.sum())}
    gain = 1.0
    if clip.unit != "FS":
        x = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)
    if x.shape[1] > 2:
        strongest = int(np.argmax(np.square(x, dtype=np.float64).sum(axis=0)))
        x, facts["channels"] = x[:, strongest : strongest + 1], [strongest + 1]
    if clip.unit != "FS":
        peak = float(np.abs(x).max())
        gain = PEAK / peak if peak > 0 else 1.0
        x = (x.astype(np.float64) * gain).astype(np.float32)
    facts["clipped"] = int(np.count_nonzero(np.abs(x) > 1.0))
    speed = max(1, math.ceil(AUDIBLE_HZ / clip.rate_hz))
    rate = round(clip.rate_hz * speed)
    facts |= {"gain": gain, "mean_removed": clip.unit != "FS", "speed": rate / clip.rate_hz, "rate_hz": rate}
    return Sound(np.clip(x, -1.0, 1.0), rate, facts)


def _next(name: str, sensor: str, takes: Counter[str]) -> str:
    """The name of a sensor's next part; a number parts the second from the first."""
    takes[sensor] += 1
    return f"{name}_{slug(sensor)}" + (f"_{takes[sensor]}" if takes[sensor] > 1 else "")


def _part(folder: Path, name: str, clip: Clip, caption: Caption) -> dict[str, Any]:
    played = audible(clip)
    buffer = io.BytesIO()
    steps = np.clip(np.rint(played.samples * np.float32(32768)), -32768, 32767).astype(np.int16)
    soundfile.write(buffer, steps, played.rate_hz, subtype="PCM_16", format="WAV")
    caption = caption._replace(notes=(*_played(clip, played.facts), *caption.notes))
    files = {"sound": f"{name}.wav", "picture": f"{name}.png"}
    _write(folder / files["sound"], buffer.getvalue())
    _write(folder / files["picture"], picture(clip.samples, clip.rate_hz, clip.t0_ns, clip.unit, caption))
    n, channels = clip.samples.shape
    return {
        **files,
        "sensor": clip.sensor,
        "t0_ns": clip.t0_ns,
        "t1_ns": clip.t0_ns + math.floor(n * NS / clip.rate_hz),
        "rate_hz": float(clip.rate_hz),
        "unit": clip.unit,
        "samples": n,
        "channels": channels,
        "playback": played.facts,
    }


def _played(clip: Clip, facts: dict[str, Any]) -> list[str]:
    """How the sound file differs from the samples, in words."""
    notes = [f"{clip.rate_hz:g} samples/s"]
    if facts["mean_removed"]:
        notes.append(f"sound file: loudest sample = {PEAK / facts['gain']:.3g} {shown(clip.unit)}")
    if len(facts["channels"]) < clip.samples.shape[1]:
        channels = clip.samples.shape[1]
        notes.append(f"{axis_names(channels)[facts['channels'][0] - 1]} of {channels} channels to be heard")
    if facts["speed"] != 1.0:
        notes.append(f"played {facts['speed']:.4g} times faster")
    return notes


def _caption(clip: Clip, record: Record, missing: Sequence[str]) -> Caption:
    body = record.body
    return Caption(
        alarm_ns=int(body["raised_ns"]),
        machine=str(body["machine"]),
        sensor=clip.sensor,
        detector=str(body["detector"]),
        severity=str(body["severity"]),
        value=body.get("value"),
        threshold=body.get("threshold"),
        text=str(body["text"]),
        notes=tuple(f"missing: {each}" for each in missing),
    )


def _write(path: Path, content: bytes) -> None:
    """Write the file whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):  # a full disk has no room for half a file
            part.unlink()
        raise
