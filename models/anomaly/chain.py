"""The live lane's operators in a row, for recordings: commissioning and validation see what the lane would see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from models.anomaly.vectors import SOUND_RATE, Extraction, resampled
from operators.base import Windowed
from operators.logmel import LogMel
from operators.resample import Resample
from operators.rewindow import Rewindow
from pipeline.messages import Gap, Message, Segment, Stream, Window


def operators(stream: Stream, extraction: Extraction) -> list[Windowed]:
    """What stands between a stream's segments and the windows that `Extraction.vectors` takes."""
    if extraction.front_end is None:
        second = max(1, round(stream.rate.hz))
        return [Rewindow(stream, second, second)]
    if extraction.modality == "vibration":
        return [LogMel(stream, extraction.front_end)]
    resample = [] if stream.rate == SOUND_RATE else [Resample(stream, SOUND_RATE)]
    return [*resample, LogMel(resampled(stream), extraction.front_end)]


def windows(stream: Stream, extraction: Extraction, segments: Iterable[Segment | Gap]) -> Iterator[Window]:
    """The windows of an uninterrupted stretch of samples."""
    chain = operators(stream, extraction)
    for segment in segments:
        messages: list[Message] = [segment]
        for operator in chain:
            messages = [out for m in messages for out in operator.process(m)]
        yield from (m for m in messages if isinstance(m, Window))
