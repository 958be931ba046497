"""Files of numbers and pictures that nobody wrote for us: refused in a line, before they cost memory or minutes."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from connectors.files import LARGEST_ARRAY_BYTES, open_recording
from connectors.images import ImageFolder
from pipeline.errors import BadInput
from pipeline.messages import Rate


def array(header: str, data: bytes = bytes(20)) -> bytes:
    """An array's file of format 1.0 with this text as its header."""
    raw = header.encode()
    raw += b" " * (-(len(raw) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + data


def shaped(shape: str) -> bytes:
    """An array's file that says it has this shape, with five numbers."""
    return array(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")


FS = array("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", np.float64(8000).tobytes())


def npz(path: Path, x: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """An archive of arrays' files."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in {"x": x, "fs": FS, **members}.items():
            archive.writestr(f"{name}.npy", data)
    return path


def flagged(path: Path, local: int, central: int, value: int) -> Path:
    """The first member's headers in the archive with another byte."""
    data = bytearray(npz(path, shaped("(5,)")).read_bytes())
    data[data.index(b"PK\x03\x04") + local] = value
    data[data.index(b"PK\x01\x02") + central] = value
    path.write_bytes(data)
    return path


def torn(path: Path) -> Path:
    """With other bytes in the middle of what LZMA has compressed."""
    data = bytearray(npz(path, shaped("(5,)"), zipfile.ZIP_LZMA).read_bytes())
    at = data.index(b"x.npy") + 5
    data[at + 12 : at + 30] = b"\xff" * 18
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: flagged(p, 6, 8, 1), "encrypted"),
        (lambda p: flagged(p, 8, 10, 99), "compression method"),
        (torn, "LZMAError"),
        (lambda p: npz(p, array("{'descr': ((((((")), "truncated"),
        (lambda p: npz(p, array("-" * 9000 + "1")), "truncated"),
        (lambda p: npz(p, array("(" * 20_000)), "large"),
        (lambda p: npz(p, shaped("(5,)"), fs=shaped("(6,)")), "truncated"),
        (lambda p: npz(p, shaped("(1000000000000,)")), "split it"),
        (lambda p: npz(p, shaped("(" + "9" * 30 + ",)")), "split it"),
        (lambda p: npz(p, shaped("(5,)"), fs=shaped("(1000000000000,)")), "split it"),
        (lambda p: npz(p, shaped("(-5, -3, 4)")), "truncated"),
    ],
)
def test_an_odd_archive_is_refused_in_a_line(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    """Damage, an encryption, a method that Python has not: each raises something of its own below."""
    path = make(tmp_path / "odd.npz")
    with pytest.raises(BadInput, match=words) as told:
        open_recording(path).read(0, 1)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_what_unpacks_to_more_than_is_stated_is_not_unpacked(tmp_path: Path) -> None:
    """One number more than the bound, of which only the header is there; the bound itself would be read."""
    most = LARGEST_ARRAY_BYTES // 4
    with pytest.raises(BadInput, match=r"more than 1024 MiB unpacked: split it into several files, or save"):
        open_recording(npz(tmp_path / "more.npz", shaped(f"({most + 1},)")))
    assert open_recording(npz(tmp_path / "most.npz", shaped(f"({most},)"))).frames == most


def png(width: int, height: int, behind: int = 0) -> bytes:
    """A grey PNG of this size with hardly any pixels, and some zeros before its end."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(bytes(1000))) + bytes(behind) + part(b"IEND", b"")


def test_a_picture_too_large_to_open_is_refused(tmp_path: Path) -> None:
    """Pillow refuses 200 megapixels: as the first one, and as a later one that would have to be made smaller."""
    (tmp_path / "1.png").write_bytes(png(10, 10))
    (tmp_path / "2.png").write_bytes(png(20_000, 10_000, 1_000_000))
    with pytest.raises(BadInput, match=r"2\.png is damaged or too large: .*exceeds limit"):
        ImageFolder(tmp_path, Rate(1)).picture(1)
    (tmp_path / "1.png").unlink()
    with pytest.raises(BadInput, match=r"2\.png is no readable picture: .*exceeds limit"):
        ImageFolder(tmp_path, Rate(1))
