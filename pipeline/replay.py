"""Recordings through the same lanes: the results of a live run once more, at any speed, or under other settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from pipeline.app import Plan, config_sha256
from pipeline.clock import Clock
from pipeline.errors import BadInput
from pipeline.messages import NS, Chunk, Decision, Image, Input, Mark, machine_of
from pipeline.recording.reader import Logged, Recording, read, written
from pipeline.recording.recorder import StreamKey
from pipeline.shard import Shard
from pipeline.state import Store

OWN_CHOICE = frozenset({"baseline", "model"})
"""Decisions that a replay under another configuration leaves out."""


class Replay:
    """Feeds recordings to the lanes of a plan, in the order in which their messages were processed.

    Files of one shard continue each other: snapshots and preroll of the later ones repeat what the lane knows and are
    passed over. A machine that a later file names first begins with that file's snapshot and preroll.

    Args:
        recordings: opened recordings.
        plan: configuration and artefacts; the recording's own for an exact replay.
        store: an empty state that takes the results.
        clock: paces and times the commits.
        speed: real-time factor; 0 is as fast as possible.
        faithful: whether recorded snapshots and decisions on baselines hold (False under another configuration).
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        plan: Plan,
        store: Store,
        clock: Clock,
        speed: float = 0.0,
        faithful: bool = True,
    ) -> None:
        self._recordings = in_order(recordings)
        self._clock = clock
        self._speed = speed
        self._faithful = faithful
        self.messages = 0
        self.damage: dict[Path, str] = {}
        store.put_meta("config_sha256", config_sha256(plan.settings))
        self.shard = Shard("replay", plan.lanes, store, clock, decides=not faithful)

    def run(self, every: Callable[[Logged], None] | None = None) -> None:
        """Play everything and make the results durable; `every` is called for each message (progress).

        Raises:
            BadInput: a file does not continue those before it.
        """
        begun: set[str] = set()
        decided: set[tuple[str, str]] = set()
        continuity = Continuity()
        first_ns: int | None = None
        began_ns = self._clock.now_ns()
        for recording in self._recordings:
            known = set(begun)
            replaced = _replaced(recording, decided)
            if self._faithful:
                for machine, snapshot in recording.snapshots.items():
                    if machine in self.shard.lanes and machine not in known:
                        self.shard.lanes[machine].restore(snapshot)
            for logged in self._wanted(recording):
                machine = machine_of(logged.message)
                if logged.preroll:
                    if machine not in known:
                        self.shard.warm(logged.message)
                    elif isinstance(logged.message, Decision) and logged.message.id not in replaced:
                        self.shard.take(logged.message)  # a run that was killed had not recorded it yet
                    if isinstance(logged.message, Decision):
                        decided.add((machine, logged.message.id))
                    continue
                begun.add(machine)
                if isinstance(logged.message, Decision):
                    decided.add((machine, logged.message.id))
                continuity.take(logged.message, recording.path)
                first_ns = logged.log_ns if first_ns is None else first_ns
                if self._speed > 0:
                    due = began_ns + int((logged.log_ns - first_ns) / self._speed)
                    self._clock.sleep((due - self._clock.now_ns()) / NS)
                self.shard.take(logged.message)
                self.shard.tick()
                self.messages += 1
                if every is not None:
                    every(logged)
            if recording.damage is not None:
                self.damage[recording.path] = recording.damage
        self.shard.close()

    def _wanted(self, recording: Recording) -> Iterator[Logged]:
        for logged in recording.messages():
            message = logged.message
            if not self._faithful and isinstance(message, Decision) and message.kind in OWN_CHOICE:
                continue
            yield logged


def _replaced(recording: Recording, decided: Collection[tuple[str, str]]) -> set[str]:
    """Decisions at a file's head that were replaced before it: one on the same baseline behind them is known by now.

    A file whose writer knew less of what is past brings again what the one before it had left out.
    """
    old: set[str] = set()
    chains: dict[tuple[str, str], list[str]] = {}
    for message in (logged.message for logged in takewhile(lambda logged: logged.preroll, recording.messages())):
        if isinstance(message, Decision) and message.kind == "baseline":
            chain = chains.setdefault((message.machine, str(message.body.get("sensor"))), [])
            if (message.machine, message.id) in decided:
                old.update(chain)
            chain.append(message.id)
    return old


class Continuity:
    """Refuses recordings that do not belong together.

    A stream that begins anew under its old epoch would be passed over as a whole, as a clock that jumped.
    """

    def __init__(self) -> None:
        self._last: dict[StreamKey, tuple[Chunk | Image | Mark, Path]] = {}

    def take(self, message: Input, path: Path) -> None:
        """Take the next message of a file.

        Raises:
            BadInput: its stream does not continue that of the file before.
        """
        if not isinstance(message, Chunk | Image | Mark):
            return
        stream = message.stream
        key = (stream.machine, *stream.key)
        before, place = self._last.get(key, (message, path))
        self._last[key] = (message, path)
        apart_ns = message.t0_ns - before.anchor.at(message.n0, stream.rate)
        if place != path and stream.epoch >= 0 and message.n0 < before.n1 and abs(apart_ns) > NS:
            raise BadInput(
                "separate",
                f"{path}: {stream.machine}/{stream.sensor} begins anew, {abs(apart_ns) / NS:,.0f} s away from what "
                f"{place} says of the same samples: these are separate recordings; replay them one after the other, "
                "each into a journal of its own",
            )


def in_order(recordings: Sequence[Recording]) -> list[Recording]:
    """As they were written, the oldest first."""
    return sorted(recordings, key=lambda recording: written(recording.path))


def open_all(paths: Sequence[Path]) -> list[Recording]:
    """The recordings of files and folders, the oldest first.

    Raises:
        BadInput: a file is no recording or of a newer version.
    """
    files = [f for path in paths for f in (sorted(path.glob("*.mcap*")) if path.is_dir() else [path])]
    return in_order([read(file) for file in files])
