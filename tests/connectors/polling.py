"""Polling a microphone from a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from connectors.base import SourceMessage
from connectors.microphone import Microphone
from pipeline.messages import Chunk


def chunks(messages: Sequence[SourceMessage]) -> list[Chunk]:
    return [message for message in messages if isinstance(message, Chunk)]


def poll_until(mic: Microphone, done: Callable[[], bool], now: Callable[[], int]) -> list[SourceMessage]:
    """Poll while the microphone's helper thread does its work."""
    out: list[SourceMessage] = []
    for _ in range(2000):
        out += mic.poll(now())
        if done():
            return out
        time.sleep(0.005)
    raise AssertionError("it did not happen")
