"""A shard in a process of its own, fed by a pipe with what Kafka would carry; chunks `packed`."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import marshal
import multiprocessing as mp
import os
import select
import signal
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal, cast

from pipeline import codec
from pipeline.clock import HostClock
from pipeline.errors import BadInput, DecodeError, StethosError
from pipeline.headers import SOURCE, Headers, source_of
from pipeline.messages import Chunk, Input
from pipeline.packed import Packed, Packer, Unpacker
from pipeline.shard import Shard

_M_ARENA_MAX = -8  # of glibc's malloc.h
SLICE_NS = 5_000_000
STUCK_NS = 30_000_000_000
"""A process without progress for this long is killed; a commit that waits for a slow disk is not that slow."""
BATCH_BYTES = 256_000
HEADER_BYTES = 500
PIPE_BYTES = 1 << 20
SEND_S = 0.05
"""So long the engine waits for one shard to take what is sent to it before it turns to the others."""

REFUSED = 2
"""Exit code of a shard that says itself why it cannot go on: starting it anew would not help."""

_STOP = b"stop"
_REASONS = {"shape": "wrong_shape"}
"""What the lane calls the codec's reasons for refusing an input."""


class ShardProcess:
    """The parent's side: sends inputs, knows how many bytes wait on the other side, stops it gracefully.

    Args:
        name: of the shard.
        build: makes the shard in the child.
        method: "fork" while this process has no other thread, "spawn" later: then `build` is pickled.
    """

    def __init__(self, name: str, build: Callable[[], Shard], method: Literal["fork", "spawn"] = "fork") -> None:
        context: Any = mp.get_context(method)
        self.name = name
        self._sent = 0
        self._progress = (0, 0)
        self._done = context.Value("q", 0, lock=False)
        near, far = context.Pipe(duplex=False)
        self._pipe = far
        self._unsent: deque[memoryview] = deque()
        os.set_blocking(far.fileno(), False)
        with contextlib.suppress(OSError, AttributeError):  # Linux; elsewhere the pipe has the size it has
            fcntl.fcntl(far.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._packer = Packer()
        self._batch: list[Packed | tuple[str, Headers, bytes | None]] = []
        self._batch_bytes = 0
        self._process: BaseProcess = context.Process(target=_main, args=(name, near, far, self._done, build), name=name)
        self._process.start()
        near.close()

    @property
    def waiting_bytes(self) -> int:
        """What was sent and is not processed yet."""
        return self._sent + self._batch_bytes - int(self._done.value)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        """How the process ended: negative is the signal that killed it, None while it runs."""
        return self._process.exitcode

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid or 0

    def take(self, message: Input) -> None:
        """Send one input, in batches. What has no form on the wire goes as its reason, for the dead letters."""
        value: bytes | None
        try:
            if type(message) is Chunk and (packed := self._packer.pack(message)):
                self._batch += packed
                self._batch_bytes += message.nbytes + HEADER_BYTES
                if self._batch_bytes >= BATCH_BYTES:
                    self.flush()
                return
            headers, value = codec.encode(message)
        except BadInput as unfit:
            source = source_of(message.stream.machine, message.stream.sensor) if hasattr(message, "stream") else ""
            reason = _REASONS.get(unfit.reason, unfit.reason)
            headers, value = [(SOURCE, source.encode()), (reason, str(unfit).encode())], None
        self._batch.append((codec.topic_of(message), headers, value))
        self._batch_bytes += len(value or b"") + HEADER_BYTES
        if self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self, wait_s: float = SEND_S) -> None:
        """Send what is batched, as far as the other side takes it in this time; the rest follows with the next call.

        A process that hangs must not hold up the machines of the others.
        """
        if self._batch:
            self._sent += self._batch_bytes
            self._send(marshal.dumps((self._batch_bytes, self._batch)))
            self._batch, self._batch_bytes = [], 0
        until = time.monotonic() + wait_s
        room = select.poll()
        room.register(self._pipe, select.POLLOUT)
        while self._unsent:
            try:
                done = os.write(self._pipe.fileno(), self._unsent[0])
            except BlockingIOError:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return
                room.poll(left_s * 1000)
            except OSError:  # it is dead, `alive` tells
                self._unsent.clear()
            else:
                self._unsent[0] = self._unsent[0][done:]
                if not self._unsent[0]:
                    self._unsent.popleft()

    def _send(self, frame: bytes) -> None:
        """Queue a frame as `Connection.recv_bytes` reads it."""
        self._unsent.append(memoryview(struct.pack("!i", len(frame)) + frame))

    def stuck(self, now_ns: int) -> bool:
        """Whether it has had something to do for `STUCK_NS` without getting anywhere; not asked before it is built."""
        done = int(self._done.value)
        if done != self._progress[0] or not done or self.waiting_bytes <= 0:
            self._progress = (done, now_ns)
        return now_ns - self._progress[1] > STUCK_NS

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()

    def stop(self, timeout_s: float = 30.0) -> int:
        """Let it process what it has, checkpoint and end; returns its exit code.

        Args:
            timeout_s: a process that has not ended by then is killed.
        """
        until = time.monotonic() + timeout_s
        if self.alive:
            self.flush(0.0)  # what is batched goes in front of the word
            self._send(_STOP)
            self.flush(timeout_s)
        self._pipe.close()
        timeout_s = max(0.1, until - time.monotonic())
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return self._process.exitcode or 0


def _one_arena() -> None:
    """Let glibc serve all threads from one arena.

    The pipe's thread allocates what the main thread frees; with an arena for each, memory in use grew by megabytes a
    minute without anything being kept.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc only
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _main(name: str, near: Connection, far: Connection, done: Any, build: Callable[[], Shard]) -> None:
    """The child: a thread empties the pipe, the main thread runs the lanes."""
    far.close()
    _one_arena()
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides when to stop
        signal.signal(number, signal.SIG_IGN)
    try:
        _serve(name, near, done, build)
    except StethosError as error:  # one readable line, as from the command line
        sys.stderr.write(f"error: {name}: {error}\n")
        sys.exit(REFUSED)


def _read(headers: Headers, value: bytes | None) -> Input:
    if value is None:
        reason, why = headers.pop()
        raise DecodeError(reason, why.decode())
    return cast("Input", codec.decode(headers, value))


def _serve(name: str, near: Connection, done: Any, build: Callable[[], Shard]) -> None:
    shard, clock, unpacker = build(), HostClock(), Unpacker()
    inbox: deque[bytes] = deque()
    came = threading.Event()

    def empty_pipe() -> None:
        while True:
            try:
                batch = near.recv_bytes()
            except EOFError:
                batch = _STOP
            inbox.append(batch)
            came.set()
            if batch == _STOP:
                return

    threading.Thread(target=empty_pipe, name=f"{name}-pipe", daemon=True).start()
    while True:
        if not inbox:
            came.wait(0.01)
            came.clear()
            shard.tick()
            continue
        batch = inbox.popleft()
        if batch == _STOP:
            break
        slice_end = clock.now_ns() + SLICE_NS
        size, frames = marshal.loads(batch)  # noqa: S302 - our own pipe
        for topic, headers, value in frames:
            try:
                packed = type(topic) is int
                message = unpacker.unpack((topic, headers, value)) if packed else _read(headers, value)
            except DecodeError as error:
                shard.refuse(topic, headers, value or b"", error)
            else:
                if message is not None:
                    shard.take(message)
            if clock.now_ns() >= slice_end:
                shard.tick()
                slice_end = clock.now_ns() + SLICE_NS
        done.value += size
        shard.tick()
    shard.close()
