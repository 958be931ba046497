"""Events between the agent and the lanes, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Inbox:
    """A queue of one producer and one consumer.

    Args:
        limit_bytes: above it, `put` waits until half is used up.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.nbytes = 0
        self._limit = limit_bytes
        self._events: deque[Any] = deque()
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, event: Any) -> None:
        """Append; waits while there is no room."""
        await self._room.wait()
        self._events.append(event)
        self.nbytes += _size(event)
        if self.nbytes > self._limit:
            self._room.clear()
        self._came.set()

    async def get(self) -> Any:
        """The oldest; waits for one."""
        while not self._events:
            self._came.clear()
            await self._came.wait()
        event = self._events.popleft()
        self.nbytes -= _size(event)
        if self.nbytes <= self._limit // 2:
            self._room.set()
        return event


def _size(event: Any) -> int:
    return len(event.message.value or b"") + 500
