"""Making a recording whole that a crash or a full disk cut short."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Header, Metadata, Schema

from pipeline.errors import BadInput
from pipeline.recording.format import DiskFull, RecordingError, full
from pipeline.recording.mcap_file import McapFile
from pipeline.recording.mcap_walk import DAMAGE, Inner, Item, inside, record, walk
from pipeline.recording.reader import open_recording, reason_of

_REPAIR = ".repair"


class Recovered(NamedTuple):
    """What a recovery gave: messages kept, and why it ended early (None: nothing was missing)."""

    kept: int
    reason: str | None


def recover(damaged: Path, repaired: Path) -> Recovered:
    """Copy all that is whole, up to the first damage, into a new file with an index.

    Every chunk's checksum is verified. Log times, sequence numbers and metadata stay as they are.

    Raises:
        BadInput: not even the beginning is there.
        RecordingError: a file cannot be read or written; `DiskFull` if there is no space.
    """
    part = repaired.with_name(repaired.name + _REPAIR)
    try:
        with open_recording(damaged) as source, part.open("wb") as target:
            copy = _Copy(target)
            reason = copy.all_of(source)
            if not copy.finish():
                raise BadInput("not_a_recording", f"{damaged}: nothing to recover: {reason}")
            target.flush()
            os.fsync(target.fileno())
        part.replace(repaired)
    except OSError as error:
        kind = DiskFull if full(error) else RecordingError
        raise kind(f"{repaired}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            part.unlink()
    return Recovered(copy.kept, reason)


class _Copy:
    """A writer that takes records of another file over."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._mcap: McapFile | None = None
        self._schemas = {0: 0}
        self._channels: dict[int, int] = {}
        self.kept = 0

    def all_of(self, source: BinaryIO) -> str | None:
        """Copy until the end, or until damage; returns what the damage is."""
        try:
            for piece in walk(source):
                if piece.opcode == Opcode.CHUNK:
                    for found in list(inside(source, piece)):  # all of a chunk or nothing
                        self._inner(found)
                else:
                    self._outer(record(source, piece))
        except DAMAGE as error:
            return reason_of(error)
        return None

    def _outer(self, found: Header | Metadata | Attachment | None) -> None:
        if isinstance(found, Header):
            self._mcap = self._mcap or McapFile(self._target, found.profile)
        elif isinstance(found, Metadata):
            self._file.metadata(found.name, found.metadata)
        elif isinstance(found, Attachment):
            self._file.attachment(found.name, found.media_type, found.data, found.log_time)

    def _inner(self, found: Inner) -> None:
        if isinstance(found, Item):
            channel = self._channels[found.channel]
            self._file.message(channel, found.sequence, found.log_ns, found.publish_ns, found.data)
            self.kept += 1
        elif isinstance(found, Schema) and found.id not in self._schemas:
            self._schemas[found.id] = self._file.schema(found.name, found.encoding, found.data)
        elif isinstance(found, Channel) and found.id not in self._channels:
            schema = self._schemas[found.schema_id]
            self._channels[found.id] = self._file.channel(found.topic, found.message_encoding, schema, found.metadata)

    @property
    def _file(self) -> McapFile:
        if self._mcap is None:
            raise McapError("records before the header")
        return self._mcap

    def finish(self) -> bool:
        """Write the index; False if there was not even a header."""
        if self._mcap is None:
            return False
        self._mcap.finish()
        return True


def adopt(folder: Path, prefix: str = "") -> dict[Path, Recovered]:
    """Repair the ``.part`` files that an earlier process left in a folder; those still being written are left alone.

    Returns:
        What became of each, by the name of its finished file. A file without a single message is removed.
    """
    done: dict[Path, Recovered] = {}
    for left in folder.glob(f"{prefix}*.mcap{_REPAIR}"):
        left.unlink(missing_ok=True)
    for part in sorted(folder.glob(f"{prefix}*.mcap.part")):
        if in_use(part):
            continue
        target = part.with_suffix("")
        try:
            done[target] = recover(part, target)
        except BadInput as error:
            done[target] = Recovered(0, str(error))
        if not done[target].kept:
            target.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return done


def in_use(part: Path) -> bool:
    """Whether a process is writing a ``.part`` file.

    Raises:
        RecordingError: it cannot be opened.
    """
    with open_recording(part) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no locks on this file system
            return False
    return False
