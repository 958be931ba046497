"""What a WAV file's header says of its length, beside what is there."""

from __future__ import annotations

import struct
from pathlib import Path

from pipeline.errors import BadInput

_UNKNOWN_SIZE = 0xFFFFFFFF
_CHUNKS = 1000
"""So many at most are looked through; zeros, as a power cut leaves them, read as an empty chunk every 8 bytes."""


def check_length(path: Path) -> None:
    """Refuse a WAV file that breaks off; anything else passes.

    libsndfile plays such a file as if it were shorter; its data chunk (EBU Tech 3285) knows better.

    Raises:
        BadInput: samples are missing, or its recorder was cut off before it wrote how many there are.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] != b"RIFF":
            return
        size = path.stat().st_size
        at = 12
        for _ in range(_CHUNKS):
            if at + 8 > size:
                break
            file.seek(at)
            name, length = struct.unpack("<4sI", file.read(8))
            there = size - at - 8
            if name == b"data":
                told = struct.unpack("<I", head[4:])[0] + 8
                if length == 0 and there > 0 and told < size:
                    raise BadInput(
                        "truncated",
                        f"{path} tells of no samples, but has {there} bytes of them: its recorder was cut off before "
                        "it could correct the header (`sox --ignore-length OLD.wav NEW.wav` does it)",
                    )
                if length not in {0, _UNKNOWN_SIZE} and length > there:
                    raise _torn(path, f"{there} of {length} bytes of samples")
                return
            at += 8 + length + length % 2
    raise _torn(path, "no samples")


def _torn(path: Path, how: str) -> BadInput:
    return BadInput("truncated", f"{path} is truncated ({how}): copy it again")
