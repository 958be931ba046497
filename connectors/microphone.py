"""Sound from a microphone through PortAudio: one stream per run of the device, event times from its ADC.

The device fills a bounded queue from its own thread; `poll` only takes from it. What did not fit, and what the driver
says it lost, is missing in the sample index, so it reads as a gap. When the device goes (unplugged, or silent for
`stall_s`) it is closed and tried again in the background, at most 5 s apart; when it comes back, and when its samples
and `clock` part for good, the old stream gets its end mark and a new one starts. The engine's clock takes no part in a
step of the host's, so neither does a stream under it.

PortAudio lists devices anew only when nothing of this process is open. While another microphone streams, a device
that went is therefore tried under its old entry; that works where the entry names the port, as ALSA's ``hw`` does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from connectors.base import Resume, Source, SourceMessage
from connectors.clockfit import LONGEST_CHUNK, ClockFit
from connectors.portaudio import Block, Capture, Choice, library
from pipeline.errors import ConfigError, SourceError
from pipeline.messages import NS, Chunk, Mark, Modality, Rate, Stream

SampleType = Literal["int16", "int32", "float32"]

_WIRE: dict[str, tuple[str, float]] = {"int16": ("<i2", 2.0**-15), "int32": ("<i4", 2.0**-31), "float32": ("<f4", 1.0)}
_WIRE_SCALE = dict(_WIRE.values())
_RETRY_NS = (NS // 2, NS, 2 * NS, 4 * NS, 5 * NS)
_COUNTERS = (
    "chunks",
    "frames",
    "dropped_frames",  # our queue was full, or the stream had not begun
    "lost_frames",  # the driver's queue was full
    "overflows",
    "clock_steps",
    "outliers",
    "losses_of_device",
    "failed_opens",
    "reconnects",
)
_LARGEST_CHUNK_BYTES = 900_000
_PRIMING_OBSERVATIONS = 3
_POLL_NS = 5_000_000


class Microphone(Source):
    """One microphone, or several channels of one sound card, as a sensor of a machine.

    Args:
        machine: whose sensor it is.
        sensor: its name.
        device: shell pattern for PortAudio's name of the device (`connectors.portaudio.devices` lists them).
        host_api: shell pattern for the sound system ("ALSA", "Core Audio", "Windows WASAPI", …).
        port: shell pattern for the USB port ("1-1.2"), to tell two microphones of one make apart; Linux only.
        rate_hz: samples per second.
        channels: number of channels.
        sample_type: what the device delivers, and what goes on the wire.
        modality: "acoustic" or "stethoscope".
        unit: unit of the samples times `scale`.
        scale: what one count is worth; by default such that full scale is 1 "FS".
        chunk_s: 0.01 to 0.5 s; chunks above `LONGEST_CHUNK` samples are made shorter so that anchors can follow.
        ring_s: how much sound may wait to be polled.
        stall_s: after this long without sound the device counts as gone.
        wait_for_device: whether a device that is not there at the start is waited for instead of refused.
        clock: nanoseconds since 1970; the same clock that `open` and `poll` are told the time of.
        pyaudio: a module to use in place of PyAudio.

    Raises:
        ConfigError: an argument makes no sense.
        MissingExtra: PyAudio is not installed.
    """

    rereadable: ClassVar[bool] = False

    def __init__(
        self,
        machine: str,
        sensor: str,
        device: str,
        *,
        host_api: str = "*",
        port: str = "*",
        rate_hz: int = 48_000,
        channels: int = 1,
        sample_type: SampleType = "int16",
        modality: Modality = "acoustic",
        unit: str = "FS",
        scale: float | None = None,
        chunk_s: float = 0.1,
        ring_s: float = 5.0,
        stall_s: float = 2.0,
        wait_for_device: bool = False,
        clock: Callable[[], int] = time.time_ns,
        pyaudio: Any = None,
    ) -> None:
        where = f"microphone {machine}/{sensor}"
        if not 0.01 <= chunk_s <= 0.5:
            raise ConfigError(f"{where}: chunk_s is {chunk_s}, but must lie between 0.01 and 0.5")
        if sample_type not in _WIRE:
            raise ConfigError(f"{where}: sample_type is {sample_type!r}, but must be one of {', '.join(_WIRE)}")
        if rate_hz < 1 or channels < 1 or stall_s <= 0 or ring_s < chunk_s:
            raise ConfigError(f"{where}: rate_hz, channels and stall_s must be positive, ring_s at least chunk_s")
        if unit != "FS" and scale is None:
            raise ConfigError(f"{where}: unit is {unit}, but scale does not say what a count is worth")
        dtype, full_scale = _WIRE[sample_type]
        self._choice = Choice(device, host_api, port)
        self._rate = Rate(rate_hz)
        self._stream = Stream(
            machine, sensor, 0, modality, self._rate, channels, dtype, unit, full_scale if scale is None else scale
        )
        frame_bytes = channels * np.dtype(dtype).itemsize
        self._frames = min(max(round(chunk_s * rate_hz), 1), LONGEST_CHUNK, _LARGEST_CHUNK_BYTES // frame_bytes)
        self._ring_bytes = round(ring_s * rate_hz) * frame_bytes
        self._stall_ns, self._wait, self._clock = round(stall_s * NS), wait_for_device, clock
        self._pyaudio = library() if pyaudio is None else pyaudio
        self._closed = True
        self._capture: Capture | None = None
        self._opening: _Opening | None = None
        self._tries, self._retry_ns, self._trouble = 0, 0, ""
        self._fit = ClockFit(self._rate)
        self._shift, self._next, self._seq, self._observed = 0, 0, 0, 0
        self._held: list[tuple[int, Block]] = []
        self._running = False  # whether the current epoch has sent a chunk
        self._end: Mark | None = None  # of the stream before, while the current one has sent nothing
        self._counts = dict.fromkeys(_COUNTERS, 0)

    @property
    def count_scale(self) -> float:
        """What a count is worth before `scale`, as a share of full scale."""
        return _WIRE_SCALE[self._stream.dtype]

    @property
    def counters(self) -> Mapping[str, int]:
        """What has happened since the start; every value only grows."""
        counts = dict(self._counts)
        counts["outliers"] += self._fit.outliers
        counts["dropped_frames"] += self._capture.dropped_frames if self._capture else 0
        return counts

    @property
    def clock_ppm(self) -> float:
        """How much faster than nominal the device samples, in ppm of the host's clock."""
        return self._fit.ppm

    @property
    def clock_uncertainty_ns(self) -> int:
        """Scatter of the device's times about the fitted line, one standard deviation."""
        return self._fit.uncertainty_ns

    @property
    def trouble(self) -> str:
        """Why the device could not be opened, or gave nothing, the last time that was so; empty when it is heard."""
        return self._trouble

    @property
    def connected(self) -> bool:
        """Whether the device is open."""
        return self._capture is not None

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Open the device; its stream is a new one.

        Raises:
            SourceError: there is no such device, more than one fits, or it does not take the settings.
        """
        self._closed = False
        before = resume.get((self._stream.machine, self._stream.sensor))
        self._new_stream(0 if before is None else before.epoch + 1)
        self._end = None
        try:
            self._capture = self._open_device()
        except SourceError as error:
            if not self._wait:
                raise
            self._retry_later(now_ns, str(error))
        return [self._stream]

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """What has been heard; looks after the device when there is nothing."""
        out: list[SourceMessage] = []
        if self._capture is None and not self._closed:
            self._reconnect(now_ns)
        if self._capture is None:
            return out
        capture = self._capture
        active = capture.active
        blocks = capture.take(self._rate.num)
        for block in blocks:
            self._hear(capture, block, out)
        if not capture.waiting and (not active or now_ns - capture.last_ns > self._stall_ns):
            self._lose(now_ns)
        return out

    def wake_ns(self, now_ns: int) -> int:
        """At once while sound waits, otherwise when the next buffer should be there, or the device be tried again."""
        soon = now_ns + _POLL_NS
        if self._capture is None:
            return soon if self._opening else max(self._retry_ns, soon)
        if self._capture.waiting:
            return now_ns
        return max(self._capture.last_ns + self._frames * NS // self._rate.num, soon)

    @property
    def exhausted(self) -> bool:
        """Never: a microphone that is silent may come back."""
        return False

    def close(self) -> None:
        """Let the device go; waits for the driver."""
        self._closed = True
        if self._opening is not None:
            self._opening.abandon()
            self._opening = None
        if self._capture is not None:
            self._retire().close()

    def _open_device(self) -> Capture:
        return Capture(
            self._pyaudio,
            self._choice,
            rate_hz=self._rate.num,
            channels=self._stream.channels,
            dtype=self._stream.dtype,
            frames=self._frames,
            ring_bytes=self._ring_bytes,
            clock=self._clock,
        )

    def _hear(self, capture: Capture, block: Block, out: list[SourceMessage]) -> None:
        t_ns = capture.sampled_ns(block, self._rate.num)
        if block.overflow:
            self._counts["overflows"] += 1
            if self._running:
                self._count_lost(block, t_ns)
        n = block.n + self._shift
        if self._fit.observe(n, t_ns):
            self._counts["clock_steps"] += 1
            self._end_stream()
            self._shift = -block.n
            n = 0
            self._fit.observe(n, t_ns)
        self._observed += 1
        self._trouble = ""
        self._held.append((n, block))
        if self._running or (self._observed >= _PRIMING_OBSERVATIONS and n * 10 >= self._rate.num * 3):
            if self._end is not None:
                out.append(self._end)
                self._end = None
            out.extend(self._chunk(n, block) for n, block in self._held)
            self._held.clear()

    def _count_lost(self, block: Block, t_ns: int) -> None:
        """How many samples the driver has lost shows in the time of the first one after them."""
        missing_ns = t_ns - self._fit.time_ns(block.n + self._shift)
        lost = max(1, round(missing_ns * self._rate.num / NS))
        self._shift += lost
        self._counts["lost_frames"] += lost

    def _chunk(self, n: int, block: Block) -> Chunk:
        stream = self._stream
        samples = np.frombuffer(block.data, stream.dtype).reshape(-1, stream.channels)
        chunk = Chunk(stream, self._fit.anchor(n), n, self._seq, samples)
        self._seq, self._next, self._running = self._seq + 1, chunk.n1, True
        self._counts["chunks"] += 1
        self._counts["frames"] += len(samples)
        return chunk

    def _end_stream(self) -> None:
        """End the stream and begin the next; one that has sent nothing just begins anew, nobody has heard of it.

        The end is told right before the first chunk of the next one: a device that opens and gives nothing is a stream
        that has fallen silent, which is told every second, not one that is over.
        """
        if self._running:
            self._end = Mark(self._stream, self._fit.anchor(self._next), self._next, self._next, "end")
            self._new_stream(self._stream.epoch + 1)
        else:
            self._new_stream(self._stream.epoch)

    def _new_stream(self, epoch: int) -> None:
        self._stream = replace(self._stream, epoch=epoch)
        self._counts["outliers"] += self._fit.outliers
        self._counts["dropped_frames"] += sum(block.frames for _, block in self._held)
        self._fit = ClockFit(self._rate)
        self._shift, self._next, self._seq, self._observed, self._running = 0, 0, 0, 0, False
        self._held.clear()

    def _retire(self) -> Capture:
        assert self._capture is not None
        capture, self._capture = self._capture, None
        self._counts["dropped_frames"] += capture.dropped_frames
        return capture

    def _lose(self, now_ns: int) -> None:
        self._counts["losses_of_device"] += 1
        self._tries = 0
        if self._observed == 0:
            self._trouble = "the device opens and gives no samples"
        self._opening = _Opening(self._open_device, self._retire())
        self._retry_ns = now_ns

    def _retry_later(self, now_ns: int, trouble: str) -> None:
        self._counts["failed_opens"] += 1
        self._trouble = trouble
        self._retry_ns = now_ns + _RETRY_NS[min(self._tries, len(_RETRY_NS) - 1)]
        self._tries += 1

    def _reconnect(self, now_ns: int) -> None:
        if self._opening is None:
            if now_ns >= self._retry_ns:
                self._opening = _Opening(self._open_device, None)
            return
        if not self._opening.done:
            return
        self._capture, trouble = self._opening.capture, self._opening.error
        self._opening = None
        if self._capture is None:
            self._retry_later(now_ns, trouble)
            return
        self._counts["reconnects"] += 1
        self._tries = 0
        self._end_stream()


class _Opening:
    """Closes what is left of a device and opens it again, off the engine's thread: either can take seconds."""

    def __init__(self, open_device: Callable[[], Capture], old: Capture | None) -> None:
        self.capture: Capture | None = None
        self.error = "the device could not be closed and opened again"
        self._open, self._old = open_device, old
        self._abandoned = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Nobody waits any more: a device that opens after all is closed again."""
        with self._lock:
            self._abandoned = True
            if self.capture is not None:
                self.capture.close()

    def _run(self) -> None:
        if self._old is not None:
            self._old.close()
        try:
            capture = self._open()
        except SourceError as error:
            self.error = str(error)
            return
        with self._lock:
            if self._abandoned:
                capture.close()
            else:
                self.capture = capture
