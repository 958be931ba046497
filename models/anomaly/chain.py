"""The live lane's operators in a row, for recordings: commissioning and validation see what the lane would see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

from models.anomaly.vectors import SOUND_RATE, Extraction, resampled
from operators.base import Windowed
from operators.logmel import LogMel
from operators.resample import Resample
from operators.rewindow import Rewindow
from pipeline.errors import BadInput
from pipeline.messages import Gap, Message, Rate, Segment, Stream, Window

_SLOWEST_HZ = Fraction(300)
"""Sound slower than this needs more samples than the resampler remembers."""


def to_sound_rate(stream: Stream) -> Resample:
    """What makes sound at 48 kHz of a sensor's own.

    Raises:
        BadInput: its rate cannot be resampled; names a simple one near it that can.
    """
    try:
        return Resample(stream, SOUND_RATE)
    except ValueError as error:
        where = f"{stream.machine}/{stream.sensor}: sound at {stream.rate.hz:.10g} Hz cannot be resampled to 48 kHz"
        raise BadInput("rate", f"{where} ({error}); at {float(_resampled_near(stream)):.10g} Hz it can") from None


def _resampled_near(stream: Stream) -> Fraction:
    exact = Fraction(stream.rate.num, stream.rate.den)
    simple = {Fraction(round(exact * part), part) for part in range(1, 13)}
    simple |= {Fraction(round(exact / step) * step) for step in (10, 100, 1000)}
    for hz in sorted(simple - {Fraction(0)}, key=lambda hz: abs(hz - exact) * hz.denominator):
        try:
            Resample(replace(stream, rate=Rate(*hz.as_integer_ratio())), SOUND_RATE)
        except ValueError:
            continue
        return hz
    return _SLOWEST_HZ


def operators(stream: Stream, extraction: Extraction) -> list[Windowed]:
    """What stands between a stream's segments and the windows that `Extraction.vectors` takes.

    Raises:
        BadInput: sound of a rate that cannot be resampled.
    """
    if extraction.front_end is None:
        second = max(1, round(stream.rate.hz))
        return [Rewindow(stream, second, second)]
    if extraction.modality == "vibration":
        return [LogMel(stream, extraction.front_end)]
    resample = [] if stream.rate == SOUND_RATE else [to_sound_rate(stream)]
    return [*resample, LogMel(resampled(stream), extraction.front_end)]


def windows(stream: Stream, extraction: Extraction, segments: Iterable[Segment | Gap]) -> Iterator[Window]:
    """The windows of an uninterrupted stretch of samples."""
    chain = operators(stream, extraction)
    for segment in segments:
        messages: list[Message] = [segment]
        for operator in chain:
            messages = [out for m in messages for out in operator.process(m)]
        yield from (m for m in messages if isinstance(m, Window))
