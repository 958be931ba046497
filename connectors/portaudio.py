"""PortAudio through PyAudio: which inputs there are, which one is meant, and what it has captured.

A device's index changes from boot to boot and two microphones of one make share a name. What stays is the port that
it is plugged into; on Linux this reads it from ``/sys/class/sound`` (a USB port is written like ``1-1.2``).

Nothing here waits: PortAudio's own thread puts buffers into a bounded queue, and whoever comes takes them out.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import MissingExtra, SourceError
from pipeline.messages import NS

log = logging.getLogger(__name__)

LOCK = threading.RLock()
"""PortAudio may not be opened, closed or listed by two threads at once; reading needs no lock."""

CLOSE_S = 3.0
_FORMATS = {"<i2": "paInt16", "<i4": "paInt32", "<f4": "paFloat32"}
_SANE_LATENCY_S = 10.0
_COMPARISONS = 10


def library() -> Any:
    """The module `pyaudio`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pyaudio
    except ImportError as error:
        raise MissingExtra("microphone", "sound from a microphone") from error
    return pyaudio


@dataclass(frozen=True, slots=True)
class Device:
    """An input as PortAudio lists it; `index` holds only until the next listing, `port` is empty when unknown."""

    index: int
    name: str
    host_api: str
    port: str
    channels: int
    rate_hz: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Which device is meant: shell patterns (``*``, ``?``, ``[…]``), compared without regard to case."""

    name: str
    host_api: str = "*"
    port: str = "*"

    def among(self, found: tuple[Device, ...]) -> Device:
        """The one device that fits.

        Raises:
            SourceError: none fits, or more than one does.
        """
        fits = [device for device in found if self._fits(device)]
        if len(fits) == 1:
            return fits[0]
        listed = "; ".join(f"{d.name!r} ({d.host_api}, port {d.port or 'unknown'})" for d in (fits or found)) or "none"
        if fits:
            raise SourceError(f"{len(fits)} inputs fit {self}: {listed}. Narrow the pattern, or give host_api or port")
        raise SourceError(
            f"no input fits {self}. Inputs there are: {listed}. Plug it in or mend the pattern, which must fit the "
            "whole name, e.g. 'USB*'"
        )

    def _fits(self, device: Device) -> bool:
        pairs = ((device.name, self.name), (device.host_api, self.host_api), (device.port, self.port))
        return all(fnmatchcase(text.casefold(), pattern.casefold()) for text, pattern in pairs)

    def __str__(self) -> str:
        return f"device {self.name!r}, host_api {self.host_api!r}, port {self.port!r}"


def devices(audio: Any = None, *, sysfs: Path = Path("/sys/class/sound")) -> tuple[Device, ...]:
    """All inputs, in PortAudio's order.

    Args:
        audio: an open `PyAudio` instance to ask; a fresh one, which scans anew, if None.
        sysfs: where the kernel lists sound cards.

    Raises:
        MissingExtra: PyAudio is not installed.
        SourceError: PortAudio cannot be started.
    """
    if audio is not None:
        return tuple(_list(audio, sysfs))
    with quiet():
        fresh = start(library())
        try:
            return tuple(_list(fresh, sysfs))
        finally:
            fresh.terminate()


def start(pyaudio: Any) -> Any:
    """A new `PyAudio` instance.

    Raises:
        SourceError: PortAudio cannot be started.
    """
    with quiet():
        try:
            return pyaudio.PyAudio()
        except OSError as error:
            raise SourceError(
                f"PortAudio cannot be started: {error}. Check the sound system (aplay -l, arecord -l)"
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what ALSA and JACK write on stderr while they look for devices off the terminal.

    It holds `LOCK`: two threads at once could leave stderr silent for good. What others write meanwhile is lost.
    """
    with LOCK:
        try:
            kept = os.dup(2)
        except OSError:  # a service without stderr
            yield
            return
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _list(audio: Any, sysfs: Path) -> Iterator[Device]:
    for index in range(audio.get_device_count()):
        info = audio.get_device_info_by_index(index)
        if info["maxInputChannels"] > 0:
            api = audio.get_host_api_info_by_index(info["hostApi"])["name"]
            name, channels, rate_hz = str(info["name"]), int(info["maxInputChannels"]), float(info["defaultSampleRate"])
            yield Device(index, name, str(api), _port(name, sysfs), channels, rate_hz)


def _port(name: str, sysfs: Path) -> str:
    card = re.search(r"\(hw:(\d+),\d+\)", name)
    if card is None:
        return ""
    where = (sysfs / f"card{card[1]}" / "device").resolve()
    usb = [part for part in where.parts if re.fullmatch(r"\d+-\d+(\.\d+)*", part)]
    return usb[-1] if usb else where.name if where.exists() else ""


class Block(NamedTuple):
    """A buffer as the device delivered it; `n` counts the frames since it was opened, dropped ones too.

    It was handed over at `now_s` of PortAudio's clock and `host_ns` of the host's; `latency_s` is how much earlier its
    first frame was sampled by the ADC, None when the driver does not tell.
    """

    n: int
    frames: int
    data: bytes
    now_s: float
    latency_s: float | None
    host_ns: int
    overflow: bool


class Capture:
    """One open input stream and its queue.

    Args:
        pyaudio: the module, or one that behaves like it.
        choice: which device.
        rate_hz: frames per second.
        channels: samples per frame.
        dtype: ``"<i2"``, ``"<i4"`` or ``"<f4"``.
        frames: frames per buffer.
        ring_bytes: how much may wait; later buffers are dropped, and counted, until there is room.
        clock: the host's clock in nanoseconds since 1970.

    Raises:
        SourceError: no such device, or it does not take this rate or number of channels.
    """

    def __init__(
        self,
        pyaudio: Any,
        choice: Choice,
        *,
        rate_hz: int,
        channels: int,
        dtype: str,
        frames: int,
        ring_bytes: int,
        clock: Callable[[], int],
    ) -> None:
        self.dropped_frames = 0
        self.last_ns = clock()
        self._clock = clock
        self._overflow, self._proceed = pyaudio.paInputOverflow, pyaudio.paContinue
        self._ring_bytes = ring_bytes
        self._queue: deque[Block] = deque()
        self._lock = threading.Lock()
        self._waiting, self._n, self._overflowed = 0, 0, False
        self._offsets: deque[int] = deque(maxlen=_COMPARISONS)  # host's clock less PortAudio's
        with LOCK:
            self._audio = start(pyaudio)
            try:
                self.device = choice.among(devices(self._audio))
                self._stream = self._open(pyaudio, rate_hz, channels, dtype, frames)
            except BaseException:
                self._audio.terminate()
                raise

    def _open(self, pyaudio: Any, rate_hz: int, channels: int, dtype: str, frames: int) -> Any:
        if channels > self.device.channels:
            raise SourceError(
                f"{self.device.name!r} has {self.device.channels} input channels, not {channels}: mend channels"
            )
        try:
            return self._audio.open(
                rate=rate_hz,
                channels=channels,
                format=getattr(pyaudio, _FORMATS[dtype]),
                input=True,
                input_device_index=self.device.index,
                frames_per_buffer=frames,
                stream_callback=self._arrived,
            )
        except (OSError, ValueError) as error:
            what = f"{channels} channels at {rate_hz} Hz as {dtype}"
            raise SourceError(
                f"{self.device.name!r} cannot be opened with {what}: {error}. Is another program using it?"
            ) from error

    def _arrived(self, data: bytes, frames: int, times: dict[str, float], status: int) -> tuple[None, int]:
        """Runs in PortAudio's thread, so it only files what came."""
        self.last_ns = self._clock()
        adc_s, now_s = times["input_buffer_adc_time"], times["current_time"]
        told = adc_s > 0 and abs(now_s - adc_s) < _SANE_LATENCY_S  # several drivers leave it at zero
        overflow = bool(status & self._overflow) or self._overflowed
        block = Block(self._n, frames, data, now_s, now_s - adc_s if told else None, self.last_ns, overflow)
        self._n += frames
        with self._lock:
            room = self._waiting + len(data) <= self._ring_bytes
            if room:
                self._waiting += len(data)
                self._queue.append(block)
            else:
                self.dropped_frames += frames
        self._overflowed = overflow and not room  # the flag outlives a buffer that was dropped
        return (None, self._proceed)

    def take(self, frames: int) -> list[Block]:
        """What has arrived, oldest first, up to about that many frames."""
        taken: list[Block] = []
        with self._lock:
            while self._queue and frames > 0:
                block = self._queue.popleft()
                self._waiting -= len(block.data)
                frames -= block.frames
                taken.append(block)
        return taken

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._queue)

    def sampled_ns(self, block: Block, rate_hz: int) -> int:
        """When the first frame of a block was sampled, by the host's clock; call it once per block, in order.

        The two clocks are compared where a buffer is handed over: PortAudio notes its own time, then calls, and the
        shortest such way of late counts. (Asking PortAudio for its time can wait for as long as a driver hangs.)
        """
        if block.latency_s is None:
            return block.host_ns - block.frames * NS // rate_hz
        self._offsets.append(block.host_ns - round(block.now_s * NS))
        return round((block.now_s - block.latency_s) * NS) + min(self._offsets)

    @property
    def active(self) -> bool:
        """Whether the device still delivers, as far as PortAudio knows."""
        try:
            return bool(self._stream.is_active())
        except OSError:
            return False

    def close(self) -> None:
        """Let the device go; waits for PortAudio's thread, but not for the hung driver of another device."""
        if not LOCK.acquire(timeout=CLOSE_S):
            log.warning("a driver hangs: the device is left to the end of the process")
            return
        try:
            self._stream.close()
        except OSError:
            pass
        finally:
            self._audio.terminate()
            LOCK.release()
