"""The recording ring: a folder of recordings that is never larger than agreed, the oldest making room for the newest.

Every file can be replayed by itself. When a new one begins, the ring itself hands it the decisions that stand, the
newest context, and the last seconds of every stream, so that its first windows are those of the file before.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from pipeline.contexts import CARRIED_NS, outdated
from pipeline.messages import NS, Chunk, Context, Decision, Image, Input, Mark, Record
from pipeline.recording.format import RUN, DiskFull, RecordingError, full
from pipeline.recording.reader import stamp, written
from pipeline.recording.recorder import ROTATE_BYTES, ROTATE_S, OnDisk, Recorder, Start, StreamKey
from pipeline.recording.recover import Recovered, adopt, in_use

PREROLL_S: Final = 6.0
"""The longest memory of a lane (5 s) and one chunk."""
MOST_PREROLLS: Final = 4
"""So many prerolls of samples stay at most, whatever times they bear: behind one of the far future none grows old."""
AGREED_NS: Final = NS
"""So long must samples go on behind a jump ahead before those in front of it are old, as lanes believe no less."""
MOST_UNREAD: Final = 1000
"""Facts that nothing reads of which a file begins with the newest."""

Sampled = Chunk | Image | Mark
FindPast: TypeAlias = Callable[
    [Sequence[Decision], Mapping[str, bytes]], tuple[Collection[tuple[str, str]], Collection[str]]
]
"""From decisions and the lanes' snapshots: what `Past` holds."""

log = logging.getLogger(__name__)


class Ring:
    """Writes recordings into a folder, one at a time. Not for several threads at once.

    The oldest file is that of the oldest run, and within a run that of the earliest time: a box that starts with an
    earlier clock must not delete what it records.

    Attributes:
        adopted: what became of the files that an earlier process had left unfinished.
        failures: files that could not be begun, finished or repaired.

    Args:
        folder: where the files lie; created if missing.
        start: what the first file begins with; `preroll` holds the decisions that stand.
        now_ns: the caller's clock.
        ring_bytes: bound of all files together, the growing ones included. Each of `shards` gets an equal share.
        rotate_bytes: size of one file, at most a quarter of the share.
        rotate_s: age of one file.
        preroll_s: how much of every stream a new file repeats from the one before. It is kept in memory.
        prefix: of the file names; shards that share a folder need different ones.
        shards: all prefixes of this run. The ring of the first one also repairs, counts and deletes what shards of
            earlier runs have left; it alone, so that no two processes repair one file. Empty: this ring is alone, and
            touches no file but its own.
        past: which decisions, and the baselines of which hashes, no new file needs.
        read: (machine, name) of the facts that lanes read; of all others each file begins with the newest thousand.

    Raises:
        RecordingError: the folder cannot be used. That it is full is no error: a file begins when there is space.
    """

    def __init__(
        self,
        folder: Path,
        start: Start,
        now_ns: int,
        *,
        ring_bytes: int,
        rotate_bytes: int = ROTATE_BYTES,
        rotate_s: float = ROTATE_S,
        preroll_s: float = PREROLL_S,
        prefix: str = "rec",
        shards: Sequence[str] = (),
        past: FindPast = lambda _decisions, _snapshots: ((), ()),
        read: Collection[tuple[str, str]] = (),
    ) -> None:
        self.folder = folder
        self.failures = 0
        self._start = start
        self._prefix = prefix
        self._shards = frozenset(shards)
        self._past = past
        self._read = frozenset(read)
        family = re.escape(prefix.rstrip("0123456789"))
        self._numbered = re.compile(rf"({family}\d+)-\d{{8}}T\d{{6}}\.\d{{9}}Z\.mcap(?:\.part)?")
        self._first = bool(shards) and shards[0] == prefix
        self._ring_bytes = ring_bytes // max(1, len(shards))
        self._others_bytes = 0  # all files but the growing one, when they were last looked at
        self._limits = (min(rotate_bytes, max(1, self._ring_bytes // 4)), rotate_s)
        self._preroll_ns = int(preroll_s * NS)
        self._recent: dict[StreamKey, deque[tuple[int, Sampled]]] = {}  # with the ns of samples up to its end
        self._believed: dict[
            StreamKey, tuple[int, int, bool]
        ] = {}  # event time less ns of samples; of how many the newest is
        self._context: dict[tuple[str, str], Context] = {}
        self._unread: dict[tuple[str, str], Context] = {}
        self._decisions: dict[tuple[str, str], Decision] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if not full(error):
                raise RecordingError(f"{folder}: cannot hold recordings: {error.strerror}") from None
        self.adopted: dict[Path, Recovered] = {}
        self._recorder: Recorder | None = None
        self._log_ns = -1
        self._adopt()
        self._run = 1 + max((written(path)[0] for path in self._earlier()), default=0)
        for message in start.preroll:
            self._remember(message)
        try:
            self._recorder = self._open(start, now_ns)
        except DiskFull as error:
            self.failures += 1
            log.warning("%s; the machines are watched without a recording until there is space", error)
        self._make_room()

    @property
    def path(self) -> Path:
        """The growing file, under the name that it will have.

        Raises:
            RecordingError: there is none, for lack of space.
        """
        return self._growing.path

    @property
    def _growing(self) -> Recorder:
        if self._recorder is None:
            raise RecordingError(f"{self.folder}: no file could be begun for lack of space; the next try is due")
        return self._recorder

    def _own(self) -> list[Path]:
        names = (f"{self._prefix}-*.mcap", f"{self._prefix}-*.mcap.part")
        return [path for name in names for path in self.folder.glob(name)]

    def _earlier(self) -> list[Path]:
        """What earlier runs have left: all shards', so that their numbers can be compared; none that is growing."""
        family = [path for path in self.folder.glob("*.mcap*") if self._numbered.fullmatch(path.name)]
        return [path for path in {*self._own(), *family} if not self._grows(path)]

    def _orphans(self) -> list[Path]:
        """What shards have left that this run does not have. A name that no shard gives is somebody else's file."""
        if not self._first:
            return []
        named = ((path, self._numbered.fullmatch(path.name)) for path in self.folder.glob("*.mcap*"))
        return [path for path, found in named if found and found[1] not in self._shards]

    def _adopt(self) -> None:
        """Repair what earlier runs have left unfinished. None of it must keep this run from starting."""
        self._make_room()
        for part in sorted(path for path in {*self._own(), *self._orphans()} if path.suffix == ".part"):
            stem = part.name.removesuffix(".mcap.part")
            try:
                try:
                    found = adopt(self.folder, stem)
                except DiskFull:
                    self._make_room(part.stat().st_size)  # a repair takes as much once more
                    found = adopt(self.folder, stem)
            except (RecordingError, OSError) as error:
                self.failures += 1
                log.warning("%s: is not repaired before the next start: %s", part, error)
            else:
                for path, (kept, reason) in found.items():
                    done = f"repaired, {kept} messages are kept" if kept else "removed, no message could be kept"
                    log.warning("%s: was left unfinished and is %s (%s)", path, done, reason or "nothing is missing")
                self.adopted |= found

    def _open(self, start: Start, now_ns: int) -> Recorder:
        size, age = self._limits
        at = now_ns
        while True:
            path = self.folder / f"{self._prefix}-{stamp(at)}"
            if not path.exists() and not path.with_name(path.name + ".part").exists():
                facts = {**start.facts, RUN: str(self._run)}
                return Recorder(path, replace(start, facts=facts), now_ns, size, age)
            at += 1

    def write(self, message: Input, now_ns: int) -> None:
        """Take one input of the lanes; errors as `Recorder.write`. After a RecordingError, `rotate` begins anew."""
        try:
            self._growing.write(message, now_ns)
        except RecordingError:
            self._remember(message)  # the next file repeats it
            raise
        self._remember(message)

    def write_result(self, record: Record, now_ns: int = 0) -> None:
        """Add a result for viewers."""
        self._growing.write_result(record, now_ns)

    def sync(self) -> OnDisk:
        """Wait until all that was written is on disk, and keep the folder within its bound."""
        done = self._growing.sync()
        if self._others_bytes + done.nbytes > self._ring_bytes:  # thousands of files are not looked at every second
            self._make_room()
        return done

    def due(self, now_ns: int) -> bool:
        """Whether it is time for `rotate`: by size or age, or because the growing file has failed."""
        return self._recorder is None or self._recorder.due(now_ns)

    def rotate_if_due(self, now_ns: int, snapshots: Mapping[str, bytes]) -> bool:
        """Begin a new file if it is time, with the lanes' snapshots of this moment by machine."""
        if not self.due(now_ns):
            return False
        self._rotate_with(snapshots, now_ns)
        return True

    def carry(self, attachments: Mapping[str, bytes], now_ns: int, snapshots: Mapping[str, bytes]) -> None:
        """Begin a new file that holds these attachments too, as will those after it. Known ones change nothing."""
        if not attachments.keys() <= self._start.attachments.keys():
            self._rotate_with(snapshots, now_ns, attachments)

    def _rotate_with(
        self, snapshots: Mapping[str, bytes], now_ns: int, more: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        gone, unused = self._past(list(self._decisions.values()), snapshots)
        for key in gone:
            del self._decisions[key]
        old = ("snapshot/", *(f"baseline/{settings}/" for settings in unused))
        kept = {name: data for name, data in self._start.attachments.items() if not name.startswith(old)}
        fresh = {f"snapshot/{machine}": data for machine, data in snapshots.items()}
        self.rotate(replace(self._start, attachments={**kept, **more, **fresh}, preroll=()), now_ns)

    def rotate(self, start: Start, now_ns: int) -> Path | None:
        """Finish the file and begin the next; returns the finished one, if there was one.

        What the ring has kept itself is put before ``start.preroll``.

        Raises:
            RecordingError: the new file cannot be begun.
        """
        done = self._recorder
        try:
            self.close()
        except RecordingError:  # what it had synced stays as .part and is repaired at the next start
            self.failures += 1
        self._recorder = None  # until the next one has begun: what is finished takes nothing more
        self._start = start
        self._make_room()
        whole = replace(start, preroll=(*self._preroll(), *start.preroll))
        if done is not None:
            self._log_ns = done.log_ns
        self._recorder = self._open(whole, max(now_ns, self._log_ns + 1))
        return None if done is None else done.path

    def _remember(self, message: Input) -> None:
        if isinstance(message, Decision):
            self._decisions[(message.machine, message.id)] = message
        elif isinstance(message, Context):
            key = (message.machine, message.name)
            kept = self._context if key in self._read else self._unread
            kept.pop(key, None)
            kept[key] = message
            if len(self._unread) > MOST_UNREAD:
                del self._unread[next(iter(self._unread))]
        else:
            stream = message.stream
            place: StreamKey = (stream.machine, stream.sensor, 0)
            recent = self._recent.setdefault(place, deque())
            if recent and recent[-1][1].stream.epoch != stream.epoch:
                recent.clear()
                del self._believed[place]
            come_ns = (recent[-1][0] if recent else 0) + max(min(abs(message.t1_ns - message.t0_ns), NS), NS // 1000)
            recent.append((come_ns, message))
            oldest = self._reached_ns(place, message.t1_ns, come_ns) - self._preroll_ns
            first = come_ns - MOST_PREROLLS * self._preroll_ns
            while len(recent) > 1 and (recent[0][1].t1_ns <= oldest or recent[0][0] <= first):
                recent.popleft()

    def _reached_ns(self, key: StreamKey, t1_ns: int, come_ns: int) -> int:
        """How far a stream has come. A time that jumps ahead may be wrong: it counts once a second agrees."""
        offset = t1_ns - come_ns
        believed, since, jumped = self._believed.get(key, (offset, come_ns, False))
        ahead = offset - believed > self._preroll_ns
        if not ahead or (jumped and come_ns - since >= AGREED_NS):
            believed, since, ahead = offset, come_ns, False
        self._believed[key] = believed, since, ahead
        return believed + since

    def _preroll(self) -> tuple[Input, ...]:
        samples = [message for recent in self._recent.values() for _, message in recent]
        samples.sort(key=lambda message: message.t0_ns)  # a lane would take one that is years ahead for the beginning
        for decision in outdated(self._decisions.values(), CARRIED_NS):
            del self._decisions[(decision.machine, decision.id)]
        return (*self._decisions.values(), *self._context.values(), *self._unread.values(), *samples)

    def _make_room(self, spare: int = 0) -> None:
        """Delete the oldest files until they are within their bound, less `spare`; never a growing one."""
        sizes: dict[Path, int] = {}
        for path in [*self._own(), *self._orphans()]:
            with suppress(FileNotFoundError):  # another process has finished it meanwhile
                sizes[path] = path.stat().st_size
        total, bound = sum(sizes.values()), self._ring_bytes - spare
        for path in sorted(sizes, key=written) if total > bound else ():  # else none is opened to see how old it is
            with suppress(OSError):
                if total > bound and not self._grows(path):
                    path.unlink()
                    total -= sizes.pop(path)
        self._others_bytes = total - (0 if self._recorder is None else sizes.get(self._recorder.part, 0))

    def _grows(self, path: Path) -> bool:
        if self._recorder is not None and path == self._recorder.part:
            return True
        try:
            return path.suffix == ".part" and in_use(path)
        except RecordingError:  # just finished or deleted by another process
            return True

    def close(self) -> None:
        """Finish the file. May be called twice."""
        if self._recorder is not None:
            self._recorder.close()
