"""Writing one recording: an MCAP file that replays to the bit and survives a crash.

The file grows as ``<name>.part`` and gets its name when it is finished. Every `sync` closes an MCAP chunk and waits for
the disk, so that a crash costs at most what came after the last one; `recover` makes such a file whole.
Payloads are not compressed: raw samples hardly shrink (0.8 with zstd) and viewers seek faster without.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias

from pipeline import schemas
from pipeline.errors import BadInput
from pipeline.fingerprint import platform_fingerprint
from pipeline.messages import NS, Context, Decision, Input, Record
from pipeline.recording.format import (
    DERIVED,
    HEADER,
    PROFILE,
    SCHEMA_VERSION,
    TOPIC,
    ChannelInfo,
    ChannelKey,
    DiskFull,
    RecordingError,
    channel_key,
    channel_of,
    entry_of,
    full,
)
from pipeline.recording.mcap_file import McapFile
from pipeline.results import canonical

ROTATE_BYTES: Final = 512_000_000
ROTATE_S: Final = 900.0
_MAX_CHANNELS: Final = 60_000
_NO_CHANNELS: Final = 65_000
"""From so many on no message gets a channel of its own: MCAP numbers them with 16 bits."""
_BYTES: Final = "application/octet-stream"

StreamKey: TypeAlias = tuple[str, str, int]
"""(machine, sensor, epoch)."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a recording begins with, so that a replay needs nothing else.

    Attributes:
        attachments: by name: stateful snapshots (``snapshot/<machine>``), the effective configuration, baselines.
        facts: further text by name, such as the hashes of the model packages and of the configuration.
        preroll: standing decisions, context, and the samples that the first windows need, oldest first.
        fingerprint: of the numeric platform; this process's own if empty.
    """

    attachments: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    preroll: Sequence[Input] = ()
    fingerprint: Mapping[str, Any] = field(default_factory=dict)


class RecordingEnded(Exception):
    """A run that only records cannot do so any more: names the cause.

    No StethosError: a shard counts those of its recording and goes on.
    """


class OnDisk(NamedTuple):
    """What survives a power cut now."""

    messages: int
    """Inputs written since the file's start, without preroll."""
    log_ns: int
    """Log time of the newest of them."""
    nbytes: int
    """Size of the file."""
    ends: Mapping[StreamKey, int]
    """Index after the newest sample (or mark) of each stream."""


class _Disk:
    """An unbuffered file that counts, so that an error belongs to the write that caused it and nothing is left over."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb", buffering=0)
        self.nbytes = 0
        try:  # locked before it is emptied: another process may be writing it
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise
        except OSError:  # some network file systems have no locks; `adopt` then must not meet a growing file
            pass
        if os.fstat(self._file.fileno()).st_size:
            self._file.truncate(0)

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            done = self._file.write(view)
            view = view[done:]
            self.nbytes += done
        return len(data)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class Recorder:
    """Writes one recording. Not for several threads at once.

    After an error the file stays behind as ``.part`` with all that was synced, and every further call raises: begin
    another recorder.

    Args:
        path: the finished file's name, ``*.mcap``; an existing file is replaced when this one is finished.
        start: what the file begins with.
        now_ns: the caller's clock.
        rotate_bytes: size, beside what the file begins with, from which `due` asks for a new file; 0 never.
        rotate_s: age from which it does, by the caller's clock; 0 never.

    Raises:
        RecordingError: the file cannot be created or written; `DiskFull` if there is no space. Nothing is left of it.
    """

    def __init__(
        self,
        path: Path,
        start: Start,
        now_ns: int,
        rotate_bytes: int = 0,
        rotate_s: float = 0.0,
    ) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.started_ns = now_ns
        self._limits = (rotate_bytes, int(rotate_s * NS))
        self._channels: dict[ChannelKey, int] = {}
        self._schemas: dict[str, int] = {}
        self._ends: dict[StreamKey, int] = {}
        self._log_ns = now_ns - 1
        self._messages = 0
        self._failed = ""
        self._finished = False
        self._begun = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._disk = _Disk(self.part)
        except BlockingIOError:
            raise RecordingError(f"{self.part}: another process is writing it; choose another name") from None
        except OSError as error:
            kind = DiskFull if full(error) else RecordingError
            raise kind(f"{self.part}: cannot be created: {error.strerror}") from None
        try:
            self._mcap = McapFile(self._disk, PROFILE)
            self._begin(start, now_ns)
            self._begun = self.nbytes
        except OSError as error:
            with suppress(OSError):  # tried every second while a disk is full: no heap of empty files
                self.part.unlink()
            raise self._fail(error) from None

    def _begin(self, start: Start, now_ns: int) -> None:
        fingerprint = dict(start.fingerprint) or platform_fingerprint()
        facts = {"schema_version": str(SCHEMA_VERSION), "fingerprint": canonical(fingerprint).decode()}
        self._mcap.metadata(HEADER, {**start.facts, **facts})
        for name, data in start.attachments.items():
            self._mcap.attachment(name, _BYTES, data, now_ns)
        for message in start.preroll:
            self._put(message, now_ns, preroll=True)
        self._mcap.flush()
        self._disk.sync()
        _sync_folder(self.path.parent)

    @property
    def nbytes(self) -> int:
        """Size of the file so far."""
        return self._disk.nbytes

    @property
    def log_ns(self) -> int:
        """The newest log time given."""
        return self._log_ns

    def write(self, message: Input, now_ns: int) -> None:
        """Take one input of the lanes, in the order in which they process it.

        Raises:
            RecordingError: disk full or gone, or the recorder has failed before.
            BadInput: the message is not what its stream says, or there are too many streams and names of facts; the
                recording goes on without it.
        """
        self._usable()
        try:
            self._put(message, now_ns, preroll=False)
        except OSError as error:
            raise self._fail(error) from None
        self._messages += 1
        if not isinstance(message, Context | Decision):
            stream = message.stream
            self._ends[(stream.machine, stream.sensor, stream.epoch)] = message.n1

    def write_result(self, record: Record, now_ns: int = 0) -> None:
        """Add a result for viewers, on the topic ``derived.<topic>/<machine>``; replay does not read it."""
        self._usable()
        try:
            key: ChannelKey = (record.topic, record.machine)
            channel = self._channels.get(key)
            if channel is None:
                path = f"{DERIVED}{record.topic}/{record.machine}"
                facts = {TOPIC: DERIVED + record.topic, "machine": record.machine}
                channel = self._register(key, ChannelInfo(path, "json", record.topic, facts))
            log_ns, sequence = self._log_time(now_ns), record.seq & 0xFFFFFFFF
            self._mcap.message(channel, sequence, log_ns, max(0, record.t_ns), canonical(record.body))
        except OSError as error:
            raise self._fail(error) from None

    def _put(self, message: Input, now_ns: int, preroll: bool) -> None:
        entry = entry_of(message)
        key = channel_key(message, preroll)
        channel = self._channels.get(key)
        if channel is None and len(self._channels) >= _NO_CHANNELS:
            raise BadInput("channels", f"{self.part}: a recording has room for {_NO_CHANNELS} sensors and facts")
        if channel is None:
            channel = self._register(key, channel_of(message, preroll))
        self._mcap.message(channel, entry.sequence, self._log_time(now_ns), entry.publish_ns, entry.head, entry.body)

    def _register(self, key: ChannelKey, info: ChannelInfo) -> int:
        schema = self._schemas.get(info.schema, 0)
        if info.schema in schemas.FIELDS and not schema:
            text = schemas.text_of(info.schema).encode()
            schema = self._schemas[info.schema] = self._mcap.schema(info.schema, "jsonschema", text)
        channel = self._mcap.channel(info.topic, info.encoding, schema, info.metadata)
        self._channels[key] = channel
        return channel

    def _log_time(self, now_ns: int) -> int:
        self._log_ns = max(now_ns, self._log_ns + 1)
        return self._log_ns

    def sync(self) -> OnDisk:
        """Wait until all that was written is on disk; call it about every second.

        Raises:
            RecordingError: as `write`.
        """
        self._usable()
        try:
            self._mcap.flush()
            self._disk.sync()
        except OSError as error:
            raise self._fail(error) from None
        return OnDisk(self._messages, self._log_ns, self._disk.nbytes, dict(self._ends))

    def due(self, now_ns: int) -> bool:
        """Whether it is time for a new file: by size, by age, or because MCAP's channel numbers run out."""
        size, age = self._limits
        too_long = 0 < age <= now_ns - self.started_ns
        return (
            bool(self._failed)
            or 0 < size <= self.nbytes - self._begun
            or too_long
            or len(self._channels) > _MAX_CHANNELS
        )

    def close(self) -> Path:
        """Finish the file and give it its name. A second call changes nothing.

        Raises:
            RecordingError: as `write`; what was synced stays in the ``.part`` file.
        """
        if self._finished:
            return self.path
        self._usable()
        try:
            self._mcap.finish()
            self._disk.sync()
            self.part.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._fail(error) from None
        self._disk.close()
        self._finished = True
        return self.path

    def leave(self) -> None:
        """Let go of the file unfinished: what was written stays behind as ``.part``. Behind `close` nothing changes."""
        if not self._finished and not self._failed:
            with suppress(RecordingError):
                self.sync()
            self._failed = self._failed or "left unfinished"
            with suppress(OSError):
                self._disk.close()

    def _usable(self) -> None:
        if self._failed:
            raise RecordingError(f"{self.part}: stopped before: {self._failed}")
        if self._finished:
            raise RecordingError(f"{self.path}: is finished")

    def _fail(self, error: OSError) -> RecordingError:
        self._failed = error.strerror or str(error)
        with suppress(OSError):
            self._disk.close()
        kind = DiskFull if full(error) else RecordingError
        return kind(f"{self.part}: {self._failed}; free space or choose another folder for recordings")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._failed:
            self.close()


def _sync_folder(folder: Path) -> None:
    """Make a file's name durable, not only its content."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not all file systems sync folders
            os.fsync(handle)
    finally:
        os.close(handle)
