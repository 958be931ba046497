"""Log-Mel images of a stream, window by window, and of clips: one code for both (`melparts`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.base import Windowed
from operators.blocks import Blocks
from operators.levels import SILENT, FullScale, Moments, full_scale, mean_of, merge, moments
from operators.mel import PAPER, FrontEnd
from operators.melparts import Analysis, Part, borrow, give_back
from operators.rewindow import end_ns, missing
from operators.spectral import mix
from pipeline.messages import Float32, Gap, Message, Segment, Stream, Window


class LogMel(Windowed):
    """`Segment` and `Gap` of one stream → `Window` of a log-Mel image, float32, shape (bands, frames).

    With ``channels="rows"`` the images of the channels are stacked: shape (channels · bands, frames), row
    c · bands + b. Every channel is normalised by itself. Statistics for the normalisation are those of the window's
    first frames · hop samples (48,128 of 49,800 for `PAPER`), which tile the stream.

    `side` holds `levels.scalars` (``level_db`` and ``silent`` alone if not `levels`); several channels as in
    `levels.merge`. A silent window's image is noise lifted to full level, or all ones: look at ``silent`` first.

    Args:
        stream: the stream, already at the front end's rate.
        front_end: settings.
        levels: whether moments and octave levels are computed along with the image.

    Raises:
        ValueError: the rates differ, or a window is longer than `memory_s`.
    """

    memory_s: ClassVar[float] = 1.2

    def __init__(self, stream: Stream, front_end: FrontEnd = PAPER, levels: bool = True) -> None:
        if stream.rate.hz != front_end.rate_hz:
            raise ValueError(
                f"stream '{stream.sensor}' has {stream.rate.hz} Hz, front end '{front_end.name}' {front_end.rate_hz} Hz"
            )
        if front_end.samples > self.memory_s * front_end.rate_hz:
            raise ValueError(f"windows of front end '{front_end.name}' are longer than {self.memory_s} s")
        self.stream, self.front_end, self._levels = stream, front_end, levels
        self._scale = full_scale(stream)
        self._images = stream.channels if front_end.channels == "rows" else 1
        frames, hop = front_end.block_frames, front_end.hop
        self._blocks = Blocks(
            (frames - 1) * hop + front_end.n_fft,
            frames * hop,
            per_window=front_end.frames // frames,
            step=front_end.window_hop // frames,
            channels=stream.channels,
            analyse=self._parts,
        )

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Start of the next window."""
        n = self._blocks.needs_from()
        return {} if n is None else {self.stream.key: n}

    def process(self, message: Message) -> Iterable[Message]:
        """Compute what this message completes."""
        if isinstance(message, Segment):
            complete = self._blocks.feed(message)
            return [self._window(message, n0, blocks) for n0, blocks in complete] if complete else ()
        if isinstance(message, Gap):
            lost = self._blocks.gap(message)
            return [] if lost is None else [missing(message, *lost)]
        raise TypeError(f"LogMel takes Segment and Gap, not {type(message).__name__}")

    def _parts(self, x: Float32) -> list[Part]:
        shared = borrow(self.front_end, self._levels)
        columns = [x] if self._images == 1 else [x[:, c : c + 1] for c in range(self._images)]
        parts = [shared.part(column) for column in columns]
        give_back(shared)
        return parts

    def _window(self, segment: Segment, n0: int, blocks: list[list[Part]]) -> Window:
        shared = borrow(self.front_end, self._levels)
        bands, sides = self.front_end.bands, []
        values = np.empty((self._images * bands, self.front_end.frames), np.float32)
        for c, parts in enumerate(zip(*blocks, strict=True)):
            stats = reduce(Moments.join, [part.moments for part in parts])
            shared.image(parts, stats, values[c * bands : (c + 1) * bands])
            sides.append(shared.side(parts, stats, self._scale))
        give_back(shared)
        n1 = n0 + self._blocks.length
        return Window(segment.stream, n0, n1, end_ns(segment.anchor, n1, segment.stream), values, side=merge(sides))


class Clip(NamedTuple):
    """A clip's image, float32, shape (rows, frames) as in `LogMel`, and its side values."""

    values: Float32
    side: dict[str, float]


def clip(
    x: NDArray[Any], rate_hz: float, front_end: FrontEnd = PAPER, levels: bool = False, full_scale: float = 1.0
) -> Clip:
    """The log-Mel of one clip by the code of `LogMel`, on samples that are padded here.

    A clip is cropped or filled with zeros to `clip_samples`, then reflected by half a frame at both ends (frames are
    centred, as published). Without `clip_samples` it is taken as it is and has 1 + (n − n_fft) // hop frames.
    Statistics are those of the clip before it is reflected.

    Args:
        x: samples in their unit, shape (n,) or (n, channels).
        rate_hz: samples per second.
        front_end: settings.
        levels: whether moments and octave levels are computed along with the image.
        full_scale: largest amplitude in the samples' unit, for levels and the silence guard.

    Raises:
        ValueError: another rate than the front end's, no samples, or too few for a frame.
    """
    e = front_end
    if rate_hz != e.rate_hz:
        raise ValueError(f"the clip has {rate_hz} Hz, front end '{e.name}' needs {e.rate_hz} Hz")
    x = np.asarray(x, np.float32)
    if x.size == 0 or (e.clip_samples is None and len(x) < e.n_fft):
        raise ValueError(f"{len(x)} samples are too few for front end '{e.name}'")
    x = x.reshape(len(x), -1)
    if e.channels == "mean" and x.shape[1] > 1:
        mono = np.empty(len(x), np.float32)
        mix(x, mono)
        x = mono[:, None]
    shared = borrow(e, levels)
    images = [_image(shared, _fit(x[:, c], e.clip_samples), full_scale) for c in range(x.shape[1])]
    give_back(shared)
    if len(images) == 1:
        return images[0]
    return Clip(np.concatenate([image.values for image in images]), merge([image.side for image in images]))


def _image(shared: Analysis, x: Float32, full_scale: float) -> Clip:
    e, mean = shared.front_end, mean_of(x)
    pad = e.n_fft // 2 if e.clip_samples else 0
    padded = np.concatenate([x[pad:0:-1], x, x[-2 : -pad - 2 : -1]])
    padded -= np.float32(mean)
    stats = moments(padded[pad : pad + len(x)], mean, np.empty_like(x) if shared.levels else None)
    frames = e.frames if e.clip_samples else 1 + (len(x) - e.n_fft) // e.hop
    starts = range(0, frames * e.hop, e.block_frames * e.hop)
    parts = [shared.part(padded[n : n + shared.samples, None], whole=False) for n in starts]
    for part in parts:
        part.mean += mean
    values = np.empty((e.bands, frames), np.float32)
    shared.image(parts, stats, values)
    return Clip(values, shared.side(parts, stats, FullScale(full_scale, SILENT * full_scale)))


def _fit(x: Float32, samples: int | None) -> Float32:
    if samples is None or len(x) == samples:
        return np.ascontiguousarray(x)
    return np.pad(x[:samples], (0, max(0, samples - len(x))))
