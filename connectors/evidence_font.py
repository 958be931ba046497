"""A typeface for pictures: the system's where there is one, else the one inside Pillow, which knows ASCII alone."""

from __future__ import annotations

import unicodedata
from functools import cache

from PIL import ImageDraw, ImageFont

_FACES = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf")
_PLAIN = str.maketrans({
    "µ": "u", "μ": "u", "²": "2", "³": "3", "×": "x", "–": "-", "—": "-", "−": "-", "·": "-", "…": "...",
    "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "≥": ">=", "≤": "<=", "°": " deg ",
})  # fmt: skip


class Font:
    """A typeface at one size that never draws an empty box: what it lacks is spelled in ASCII, or as ``?``."""

    def __init__(self, face: ImageFont.FreeTypeFont | ImageFont.ImageFont, plain: bool) -> None:
        self._face = face
        self._plain = plain

    def width(self, words: str) -> float:
        """Length of the words in pixels."""
        return float(self._face.getlength(self.spelled(words)))

    def write(
        self,
        draw: ImageDraw.ImageDraw,
        place: tuple[float, float],
        words: str,
        colour: tuple[int, int, int],
        anchor: str,
        *,
        room: float | None = None,
    ) -> None:
        """Write one line; words that have no room end in an ellipsis.

        Args:
            draw: the sheet.
            place: the anchor's position, x and y in pixels.
            words: one line.
            colour: red, green, blue.
            anchor: Pillow's text anchor, such as ``ls`` for left and baseline.
            room: most pixels the line may take.
        """
        line = " ".join(self.spelled(words).split())
        if room is not None and self._face.getlength(line) > room:
            while line and self._face.getlength(line + "...") > room:
                line = line[:-1]
            line += "..."
        draw.text(place, line, fill=colour, font=self._face, anchor=anchor)

    def spelled(self, words: str) -> str:
        """The words in letters that the typeface has."""
        if not self._plain:
            return words
        apart = unicodedata.normalize("NFKD", words.translate(_PLAIN))
        kept = "".join(letter for letter in apart if not unicodedata.combining(letter))
        return kept.encode("ascii", "replace").decode()


@cache
def font(size: int) -> Font:
    """The typeface at a size in pixels."""
    for name in _FACES:
        try:
            return Font(ImageFont.truetype(name, size), plain=False)
        except OSError:
            continue
    return built_in(size)


def built_in(size: int) -> Font:
    """The typeface inside Pillow."""
    return Font(ImageFont.load_default(size), plain=True)
