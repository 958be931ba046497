"""Batches of log-Mel images for each step: from a pool on disk, or computed as they are needed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.impact.settings import Mixing
from operators.logmel import clip as logmel
from operators.mel import PAPER
from pipeline.errors import StateError
from pipeline.messages import Float32

Progress = Callable[[int, int], None]
_SHAPE = (PAPER.bands, PAPER.frames)
_DECADES = 8.0
"""The 80 dB of the preset's range as powers of ten."""
_SAVE_EVERY = 256


class Clips(Protocol):
    """Where waveforms come from: `crops.Crops`, or anything like it."""

    @property
    def digest(self) -> str:
        """Equal digests give equal clips."""
        ...

    def clip(self, i: int) -> Float32:
        """Clip i, 48,000 samples at 48 kHz."""
        ...


def image(x: Float32) -> Float32:
    """Log-Mel image of a clip in preset `paper`, float32, shape (128, 128), values in [0, 1]."""
    return logmel(x, PAPER.rate_hz).values


class Pool:
    """Images computed once, float16 on disk, shape (count, 128, 128); an interrupted computation goes on.

    Args:
        folder: where ``pool-DIGEST.npy`` and its progress lie.
        clips: waveforms.
        count: number of images.
        progress: called with (done, count).

    Raises:
        StateError: the file in the folder has another shape than its name promises.
    """

    def __init__(self, folder: Path, clips: Clips, count: int, progress: Progress | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"pool-{clips.digest}-{count}.npy"
        note = self.path.with_suffix(".json")
        done = _done(note) if self.path.is_file() else 0
        self.images = _open(self.path, count, done > 0)
        while done < count:
            for i in range(done, min(done + _SAVE_EVERY, count)):
                self.images[i] = image(clips.clip(i))
            done = min(done + _SAVE_EVERY, count)
            self.images.flush()
            _write(note, json.dumps({"done": done}))
            if progress:
                progress(done, count)


def _done(note: Path) -> int:
    """How many images are there; none where the note was torn when the machine went down."""
    try:
        return int(json.loads(note.read_text())["done"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _open(path: Path, count: int, there: bool) -> np.memmap[tuple[int, ...], np.dtype[np.float16]]:
    images: np.memmap[tuple[int, ...], np.dtype[np.float16]]
    mode = "r+" if there else "w+"
    if there:
        with path.open("rb") as file:
            try:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
            except ValueError as error:
                raise StateError(f"{path}: {error}: delete it, it is computed again") from None
            whole = file.tell() + count * math.prod(_SHAPE) * 2
        if path.stat().st_size != whole:  # numpy would fill up what is missing with black images
            raise StateError(f"{path}: has {path.stat().st_size} bytes, not {whole}: delete it, it is computed again")
    images = np.lib.format.open_memmap(path, mode=mode, dtype=np.float16, shape=None if there else (count, *_SHAPE))
    if images.shape != (count, *_SHAPE) or images.dtype != np.float16:
        raise StateError(f"{path}: holds {images.dtype} of shape {images.shape}: delete it, it is computed again")
    return images


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(path.suffix + ".new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)  # noqa: PTH105 - the atomic one


class Batches:
    """Images of step s, (batch, 128, 128) float32: a function of (seed, s), prepared ahead in threads.

    Args:
        source: a pool's images, or clips of which images are computed at each step.
        batch: images of a step.
        seed: of draws and mixtures.
        mixing: variations of pooled images; computed ones are varied as waveforms.
        workers: threads; as many steps are prepared ahead.
    """

    def __init__(
        self, source: NDArray[np.float16] | Clips, batch: int, seed: int, mixing: Mixing | None = None, workers: int = 1
    ) -> None:
        self._source, self._batch, self._seed = source, batch, seed
        self._mixing, self._ahead = mixing or Mixing(), max(1, workers)
        self._threads = ThreadPoolExecutor(self._ahead, "images")
        self._waiting: dict[int, Future[Float32]] = {}

    def get(self, step: int, last: int) -> Float32:
        """Images of a step, while those of the following ones up to `last` are being prepared."""
        for s in range(step, min(step + self._ahead + 1, last)):
            if s not in self._waiting:
                self._waiting[s] = self._threads.submit(self.make, s)
        ready = self._waiting.pop(step, None)
        return self.make(step) if ready is None else ready.result()

    def make(self, step: int) -> Float32:
        """The same, now."""
        rng = np.random.default_rng([self._seed, step, 1])
        if not isinstance(self._source, np.ndarray):
            first = step * self._batch
            return np.stack([tilt(image(self._source.clip(first + i)), rng, self._mixing) for i in range(self._batch)])
        n = len(self._source)
        own, other = rng.integers(0, n, (2, self._batch))
        made = np.empty((self._batch, *_SHAPE), np.float32)
        for i in range(self._batch):
            made[i] = remix(self._source[own[i]], self._source[other[i]], rng, self._mixing)
        return made

    def close(self) -> None:
        """Stop preparing."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()


def remix(a: NDArray[np.float16], b: NDArray[np.float16], rng: np.random.Generator, mixing: Mixing) -> Float32:
    """Image a, for a share of the draws with image b added in power; then tilted.

    Powers of sounds that know nothing of each other add; their levels were taken off, so a random level is put on b.
    """
    x = a.astype(np.float32)
    if rng.random() < mixing.remix_share:
        level = rng.uniform(*mixing.mix_db) / 10
        power = np.exp(np.float32(_DECADES * np.log(10)) * (x - 1))
        power += np.float32(10**level) * np.exp(np.float32(_DECADES * np.log(10)) * (b.astype(np.float32) - 1))
        x = 1 + np.log10(power) / np.float32(_DECADES)
    return tilt(x, rng, mixing)


def tilt(x: Float32, rng: np.random.Generator, mixing: Mixing) -> Float32:
    """An image as through another microphone: a slope and a bow over the bands, at most `tilt_db` each; in [0, 1]."""
    u = np.linspace(-1, 1, _SHAPE[0])
    bow = rng.uniform(-0.5, 0.5, 2) * mixing.tilt_db / (10 * _DECADES)
    y = x + (bow[0] * u + bow[1] * (u**2 - 1 / 3)).astype(np.float32)[:, None]
    y = y + (np.float32(1) - y.max())
    out: Float32 = np.maximum(y, np.float32(0))
    return out
