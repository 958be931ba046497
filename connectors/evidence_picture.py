"""The picture of an alarm's evidence: what, where and how bad on top, then the waveform, then the spectrogram.

Time runs in seconds from the alarm, which a white and red line marks. Frequency is on a logarithmic axis, because shaft
speed, tooth passing and chatter lie decades below the top of the band.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from connectors.evidence_font import Font, font
from connectors.evidence_spectrum import (
    Doubles,
    colour_range,
    image,
    log_ticks,
    outline,
    shown,
    spectrogram,
    ticks,
    viridis,
)
from pipeline.messages import NS, Float32, axis_names

SIZE = (1280, 800)
"""Width and height in pixels."""

_PAPER, _INK, _DIM, _GRID = (255, 255, 255), (24, 28, 36), (92, 100, 112), (222, 226, 232)
_WAVES = ((31, 95, 168), (214, 110, 20), (60, 140, 80), (130, 80, 160))
_SEVERITY = {"critical": (190, 24, 38), "warning": (176, 96, 0), "advisory": (20, 96, 170)}
_ALARM = (220, 30, 40)
_LEFT, _RIGHT = 96, SIZE[0] - 132
_WAVE, _SPECTRUM = (148, 330), (362, 716)  # top and bottom of the panels


class Caption(NamedTuple):
    """What the picture says in words."""

    alarm_ns: int
    machine: str
    sensor: str
    detector: str
    severity: str
    value: float | None
    threshold: float | None
    text: str
    notes: tuple[str, ...]


class _Page(NamedTuple):
    """A sheet with its fonts and its time axis."""

    sheet: Image.Image
    draw: ImageDraw.ImageDraw
    small: Font
    t0_s: float
    t1_s: float

    def x(self, t_s: float) -> float:
        """Where a time lies."""
        return _LEFT + (t_s - self.t0_s) / (self.t1_s - self.t0_s) * (_RIGHT - _LEFT)


def picture(samples: Float32, rate_hz: float, t0_ns: int, unit: str, caption: Caption) -> bytes:
    """Draw a clip as PNG.

    Args:
        samples: (n, channels) in `unit`.
        rate_hz: samples per second.
        t0_ns: event time of the first sample.
        unit: of the samples.
        caption: the words.
    """
    sheet = Image.new("RGB", SIZE, _PAPER)
    t0_s = (t0_ns - caption.alarm_ns) / NS
    page = _Page(sheet, ImageDraw.Draw(sheet), font(15), t0_s, t0_s + len(samples) / rate_hz)
    _header(page, caption)
    _waveform(page, samples, unit)
    _spectrum(page, samples, rate_hz, unit)
    _time_axis(page)
    footer = " · ".join(caption.notes)
    page.small.write(page.draw, (24, SIZE[1] - 14), footer, _DIM, "ls", room=SIZE[0] - 48)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=False, compress_level=6)
    return file.getvalue()


def _header(page: _Page, caption: Caption) -> None:
    draw, width = page.draw, SIZE[0] - 2 * 24
    colour = _SEVERITY.get(caption.severity, _DIM)
    badge = caption.severity.upper()
    wide = font(17).width(badge) + 28
    draw.rounded_rectangle((SIZE[0] - 24 - wide, 18, SIZE[0] - 24, 52), 6, fill=colour)
    font(17).write(draw, (SIZE[0] - 24 - wide / 2, 35), badge, _PAPER, "mm")
    title = f"{caption.machine} · {caption.sensor} · {caption.detector}"
    font(28).write(draw, (24, 46), title, _INK, "ls", room=width - wide - 24)
    when = datetime.fromtimestamp(caption.alarm_ns // NS, UTC).strftime("%Y-%m-%d %H:%M:%S")
    line = f"alarm at {when}.{caption.alarm_ns % NS // 1_000_000:03d} UTC"
    if caption.value is not None and caption.threshold is not None:
        line = f"score {caption.value:.4g}, threshold {caption.threshold:.4g} · {line}"
    font(19).write(draw, (24, 80), line, _INK, "ls", room=width)
    font(19).write(draw, (24, 112), caption.text, colour, "ls", room=width)


def _waveform(page: _Page, samples: Float32, unit: str) -> None:
    top, bottom = _WAVE
    width = _RIGHT - _LEFT
    curves = [outline(channel, width) for channel in samples.T]
    low, high = min(float(c[0].min()) for c in curves), max(float(c[1].max()) for c in curves)
    margin = 0.05 * (high - low) or max(abs(high), 1e-6)
    low, high = low - margin, high + margin

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    marks = ticks(low, high, 5)
    for mark in marks:
        page.draw.line((_LEFT, y(mark), _RIGHT, y(mark)), fill=_GRID)
        page.small.write(page.draw, (_LEFT - 8, y(mark)), f"{mark:g}", _DIM, "rm")
    for k, (lows, highs) in enumerate(curves):
        _curve(page, lows, highs, (low, high), _WAVES[k % len(_WAVES)])
    page.draw.rectangle((_LEFT, top, _RIGHT, bottom), outline=_DIM)
    _upright(page, shown(unit), (top + bottom) // 2)
    if len(curves) > 1:
        for k, name in enumerate(axis_names(len(curves))):
            place = (_RIGHT + 14, top + 12 + 22 * k)
            page.draw.rectangle((place[0], place[1] - 5, place[0] + 14, place[1] + 5), fill=_WAVES[k % len(_WAVES)])
            page.small.write(page.draw, (place[0] + 22, place[1]), name, _DIM, "lm")


def _curve(page: _Page, lows: Doubles, highs: Doubles, span: tuple[float, float], colour: tuple[int, int, int]) -> None:
    """Blend the outline in, so that the channels behind it can be seen; `span` lies between top and bottom."""
    top, bottom = _WAVE
    low, high = span
    pixels = np.asarray(page.sheet.crop((_LEFT, top, _RIGHT, bottom)), np.float64)
    centre = bottom - top - (np.arange(bottom - top) + 0.5)[:, None]
    scale = (bottom - top) / (high - low)
    above, below = (highs - low) * scale, (lows - low) * scale
    middle, half = (above + below) / 2, np.maximum((above - below) / 2, 0.75)
    cover = np.clip(half + 0.5 - np.abs(centre - middle), 0.0, 1.0)[..., None] * 0.8
    mixed = pixels * (1 - cover) + np.array(colour) * cover
    page.sheet.paste(Image.fromarray(np.rint(mixed).astype(np.uint8)), (_LEFT, top))


def _spectrum(page: _Page, samples: Float32, rate_hz: float, unit: str) -> None:
    top, bottom = _SPECTRUM
    width, height = _RIGHT - _LEFT, bottom - top
    spectrum = spectrogram(samples, rate_hz, unit, width)
    lowest, highest = 2 * spectrum.bin_hz, rate_hz / 2
    edges_hz = np.geomspace(lowest, highest, height + 1)
    edges_s = np.linspace(0.0, len(samples) / rate_hz, width + 1)
    low, high = colour_range(spectrum.level_db)
    shades = (image(spectrum, edges_hz, edges_s) - low) / (high - low)
    page.sheet.paste(Image.fromarray(viridis(shades[::-1])), (_LEFT, top))
    page.draw.rectangle((_LEFT, top, _RIGHT, bottom), outline=_DIM)
    for mark in log_ticks(lowest, highest):
        y = bottom - np.log(mark / lowest) / np.log(highest / lowest) * height
        page.draw.line((_LEFT - 5, y, _LEFT, y), fill=_DIM)
        words = f"{mark / 1000:g} kHz" if mark >= 1000 else f"{mark:g} Hz"
        page.small.write(page.draw, (_LEFT - 8, y), words, _DIM, "rm")
    _colour_bar(page, low, high, spectrum.reference)
    if samples.shape[1] > 1:  # a line in one of them lies lower than where it is told
        page.small.write(page.draw, (_LEFT, top - 6), f"mean of {samples.shape[1]} channels", _DIM, "ls")


def _colour_bar(page: _Page, low: float, high: float, reference: str) -> None:
    top, bottom = _SPECTRUM
    left, right = _RIGHT + 18, _RIGHT + 38
    shades = np.linspace(1.0, 0.0, bottom - top)[:, None].repeat(right - left, axis=1)
    page.sheet.paste(Image.fromarray(viridis(shades)), (left, top))
    page.draw.rectangle((left, top, right, bottom), outline=_DIM)
    for mark in ticks(low, high, 8):
        y = bottom - (mark - low) / (high - low) * (bottom - top)
        page.draw.line((right, y, right + 5, y), fill=_DIM)
        page.small.write(page.draw, (right + 9, y), f"{mark:g}", _DIM, "lm")
    page.small.write(page.draw, ((left + SIZE[0] - 14) / 2, top - 16), reference, _DIM, "mm", room=SIZE[0] - 8 - left)


def _time_axis(page: _Page) -> None:
    for mark in ticks(page.t0_s, page.t1_s, 12):
        x = page.x(mark)
        for _, bottom in (_WAVE, _SPECTRUM):
            page.draw.line((x, bottom, x, bottom + 5), fill=_DIM)
        page.small.write(page.draw, (x, _SPECTRUM[1] + 9), f"{mark:g}", _DIM, "mt")
    page.small.write(page.draw, ((_LEFT + _RIGHT) / 2, _SPECTRUM[1] + 44), "seconds from the alarm", _DIM, "ms")
    if not page.t0_s <= 0.0 <= page.t1_s:
        return
    x = page.x(0.0)
    for top, bottom in (_WAVE, _SPECTRUM):
        page.draw.line((x, top, x, bottom), fill=_PAPER, width=4)
        page.draw.line((x, top, x, bottom), fill=_ALARM, width=2)
    page.small.write(page.draw, (min(max(x, _LEFT + 24), _RIGHT - 24), _WAVE[0] - 5), "alarm", _ALARM, "ms")


def _upright(page: _Page, words: str, y: int) -> None:
    """Write a unit along the axis, from bottom to top."""
    wide = round(page.small.width(words)) + 4
    label = Image.new("RGB", (wide, 22), _PAPER)
    page.small.write(ImageDraw.Draw(label), (wide / 2, 11), words, _DIM, "mm")
    page.sheet.paste(label.rotate(90, expand=True), (8, y - wide // 2))
