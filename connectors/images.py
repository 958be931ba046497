"""A folder of PNG or JPEG files as the frames of a camera, in the order of their names (img2 before img10)."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image as Pillow

from connectors.files import IMAGES, Recording
from connectors.rates import agreed_rate
from pipeline.errors import BadInput
from pipeline.messages import Rate, Samples

LARGEST_BYTES = 900_000
"""A larger picture would not fit a message and is made smaller."""

_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_ENDS = {"image/png": b"IEND", "image/jpeg": b"\xff\xd9"}
_TAIL_BYTES = 4096  # some cameras write a little behind the end


class ImageFolder(Recording):
    """Encoded pictures by index; `dtype` is their media type, `channels` the first picture's number of bands.

    Args:
        path: the folder, or a single picture.
        rate: pictures per second.

    Raises:
        BadInput: no folder, no pictures, PNG and JPEG mixed, no rate.
    """

    kind = "images"

    def __init__(self, path: Path, rate: Rate | None) -> None:
        self.path = path
        self.rate = agreed_rate(path, None, rate)
        self.shrunk = 0
        self._files = [path] if path.is_file() else sorted(self._found(), key=_natural)
        if not self._files:
            raise BadInput("empty", f"{path} is a folder without .png or .jpg files; name recordings one by one")
        media = {_MEDIA[file.suffix.casefold()] for file in self._files}
        if len(media) > 1:
            raise BadInput(
                "dtype", f"{path} holds both PNG and JPEG files: a stream has one kind, sort them into two folders"
            )
        self.dtype = media.pop()
        self.frames = len(self._files)
        self.channels = self._bands()

    def _found(self) -> list[Path]:
        if not self.path.is_dir():
            raise BadInput("missing", f"{self.path} is no folder: check the path")
        named = [file for file in self.path.glob("[!.]*") if file.suffix.casefold() in IMAGES]  # ._1.png: macOS's own
        return [file for file in named if file.is_file()]

    def _bands(self) -> int:
        try:
            with Pillow.open(self._files[0]) as picture:
                return len(picture.getbands())
        except Exception as error:  # its formats have no common base for what damage and sizes lead to
            raise BadInput("format", f"{self._files[0]} is no readable picture: {error}") from error

    def picture(self, index: int) -> bytes:
        """One encoded picture, at most `LARGEST_BYTES` long.

        Raises:
            BadInput: the file is gone, truncated or damaged.
        """
        file = self._files[index]
        try:
            data = file.read_bytes()
        except OSError as error:
            raise BadInput("missing", f"{file} cannot be read: {error}") from error
        if _ENDS[self.dtype] not in data[-_TAIL_BYTES:]:
            raise BadInput("truncated", f"{file} is truncated or no {self.dtype}: copy it again")
        if len(data) <= LARGEST_BYTES:
            return data
        self.shrunk += 1
        return self._shrink(file, data)

    def _shrink(self, file: Path, data: bytes) -> bytes:
        try:
            with Pillow.open(io.BytesIO(data)) as opened:
                picture: Pillow.Image = opened.copy()
        except Exception as error:  # as in `_bands`
            raise BadInput("truncated", f"{file} is damaged or too large: {error}") from error
        while len(data) > LARGEST_BYTES:
            out = io.BytesIO()
            if self.dtype == "image/jpeg":
                picture.save(out, "JPEG", quality=85)
            else:
                picture.save(out, "PNG")
            data = out.getvalue()
            picture = picture.resize((max(picture.width // 2, 1), max(picture.height // 2, 1)))
        return data

    def read(self, first: int, count: int) -> Samples:
        """Pictures are taken one by one, encoded."""
        raise BadInput("dtype", f"{self.path} holds pictures, not samples ({count} from {first} were asked for)")


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts]
