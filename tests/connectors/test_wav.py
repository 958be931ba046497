"""WAV files whose header tells another length than they have."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from connectors.files import open_recording
from pipeline.errors import BadInput

NOISE = np.random.default_rng(0).integers(-20_000, 20_000, 5_000).astype("<i2")


def written(folder: Path, riff: int | None, data: int | None, behind: bytes = b"") -> Path:
    """A sound with other sizes in its header than the right ones."""
    path = folder / "a.wav"
    soundfile.write(path, NOISE, 8000, subtype="PCM_16")
    raw = bytearray(path.read_bytes() + behind)
    at = raw.index(b"data") + 4
    for place, size in ((4, riff), (at, data)):
        if size is not None:
            raw[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("riff", [0, 36])
def test_a_recorder_that_was_cut_off_is_said_with_the_mend(tmp_path: Path, riff: int) -> None:
    """Its samples are there, and would be played as none."""
    with pytest.raises(
        BadInput, match=r"has 10000 bytes of them: its recorder was cut off .*sox --ignore-length"
    ) as told:
        open_recording(written(tmp_path, riff, 0))
    assert told.value.reason == "truncated"


def test_a_length_that_was_never_told_goes_to_the_files_end(tmp_path: Path) -> None:
    """As programs write that write into a pipe."""
    recording = open_recording(written(tmp_path, 0xFFFFFFFF, 0xFFFFFFFF))
    assert recording.frames == len(NOISE)
    assert np.array_equal(recording.read(0, len(NOISE))[:, 0], NOISE)
    recording.close()


def test_a_recording_of_nothing_is_empty_not_cut_off(tmp_path: Path) -> None:
    """Though a note lies behind its samples."""
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE[:0], 8000, subtype="PCM_16")
    raw = bytearray(path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO")
    raw[4:8] = struct.pack("<I", len(raw) - 8)
    path.write_bytes(raw)
    with pytest.raises(BadInput, match="holds no samples"):
        open_recording(path)


def test_zeros_behind_the_format_are_given_up_soon(tmp_path: Path) -> None:
    """What a power cut can leave: every 8 of the 64 million zeros read as an empty chunk."""
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 8000, subtype="PCM_16")
    head = path.read_bytes()
    path.write_bytes(head[: head.index(b"data")])
    with path.open("r+b") as file:
        file.truncate(64_000_000)
    began = time.process_time()
    with pytest.raises(BadInput, match=r"truncated \(no samples\)"):
        open_recording(path)
    assert time.process_time() - began < 1.0


def test_samples_behind_many_other_chunks_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 8000, subtype="PCM_16")
    raw = path.read_bytes()
    at = raw.index(b"data")
    path.write_bytes(raw[:at] + b"junk\x02\0\0\0ab" * 100 + raw[at:])
    assert open_recording(path).frames == len(NOISE)
