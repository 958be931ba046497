"""A sound card made of numbers: behaves like PyAudio, with a clock, losses and a plug that a test moves by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

NS = 1_000_000_000
USB = "USB Mic: Audio (hw:1,0)"


class SoundCard:
    """Stands in for the module `pyaudio`. Time moves only by `run`.

    The card's clock is one of its own, or the host's where `own_clock` is false, as PortAudio has it on Linux.
    `pcm` holds the number that the next frame carries (modulo 2**15), so that lost and repeated frames show.
    """

    paInt16, paInt32, paFloat32 = 8, 2, 1  # noqa: N815
    paInputOverflow, paContinue = 2, 0  # noqa: N815

    def __init__(self, start_ns: int = 1_790_000_000 * NS, ppm: float = 0.0) -> None:
        self.names = [USB]
        self.host_step_ns = 0
        self.monotonic_ns = 77 * NS
        self.start_ns = start_ns
        self.ppm = ppm
        self.tells_adc = True
        self.own_clock = True
        self.quiet = False
        self.jitter: Callable[[], int] = lambda: 0
        self.delay: Callable[[], int] = lambda: 0
        self.streams: list[CardStream] = []
        self.opened = self.terminated = 0
        self.refuses: str | None = None

    def clock(self) -> int:
        return self.start_ns + self.monotonic_ns - 77 * NS + self.host_step_ns

    def PyAudio(self) -> CardSession:  # noqa: N802
        self.opened += 1
        return CardSession(self)

    def unplug(self) -> None:
        self.names = []
        for stream in self.streams:
            stream.dead = True

    def run(self, buffers: int = 1) -> None:
        """Let the card sample that many buffers and hand them over."""
        for _ in range(buffers):
            for stream in self.streams:
                stream.sample()

    def pass_time(self, seconds: float) -> None:
        """Let time pass in which the card delivers nothing."""
        self.monotonic_ns += round(seconds * NS)


class CardSession:
    def __init__(self, card: SoundCard) -> None:
        self._card = card

    def get_device_count(self) -> int:
        return len(self._card.names)

    def get_device_info_by_index(self, index: int) -> dict[str, Any]:
        return {"name": self._card.names[index], "hostApi": 0, "maxInputChannels": 2, "defaultSampleRate": 48000.0}

    def get_host_api_info_by_index(self, index: int) -> dict[str, Any]:
        return {"name": "ALSA"}

    def open(self, **settings: Any) -> CardStream:
        if self._card.refuses:
            raise OSError(-9997, self._card.refuses)
        stream = CardStream(self._card, settings)
        self._card.streams.append(stream)
        return stream

    def terminate(self) -> None:
        self._card.terminated += 1


class CardStream:
    def __init__(self, card: SoundCard, settings: dict[str, Any]) -> None:
        self._card = card
        self.settings = settings
        self.dead = False
        self.pcm = 0
        self.taken = 0
        self._opened_ns = card.monotonic_ns
        self._lost = 0
        self._flag = 0

    def lose(self, frames: int) -> None:
        """The driver's buffer runs over: these frames never reach the callback, and the next buffer says so."""
        self._lost += frames
        self._flag = SoundCard.paInputOverflow

    def sample(self) -> None:
        if self.dead:
            return
        card, frames = self._card, self.settings["frames_per_buffer"]
        self.taken += self._lost
        self.pcm += self._lost
        first_ns = self._at(self.taken)
        self.taken += frames
        card.monotonic_ns = max(card.monotonic_ns, self._at(self.taken))
        data = b"\0\0" * frames if card.quiet else self._numbered(frames)
        self.pcm += frames
        shift_ns = 0 if card.own_clock else card.clock() - card.monotonic_ns
        adc_s = (first_ns + shift_ns + card.jitter()) / NS if card.tells_adc else 0.0
        now_s = (card.monotonic_ns + shift_ns) / NS
        times = {"input_buffer_adc_time": adc_s, "current_time": now_s, "output_buffer_dac_time": 0.0}
        card.monotonic_ns += card.delay()  # the callback's way through a busy process
        flag, self._lost, self._flag = self._flag, 0, 0
        self.settings["stream_callback"](data, frames, times, flag)

    def _numbered(self, frames: int) -> bytes:
        column = ((self.pcm + np.arange(frames)) % 32768).astype("<i2")
        return np.repeat(column[:, None], self.settings["channels"], axis=1).tobytes()

    def _at(self, frame: int) -> int:
        return self._opened_ns + round(frame * NS / (self.settings["rate"] * (1 + self._card.ppm * 1e-6)))

    def is_active(self) -> bool:
        return not self.dead

    def close(self) -> None:
        self.dead = True
        if self in self._card.streams:
            self._card.streams.remove(self)
