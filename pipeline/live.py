"""Live operation on one box: engine, sinks, evidence, status server and watchdog around a plan."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from connectors.base import Source
from pipeline import app
from pipeline.app import Plan, ShardBuilder
from pipeline.claim import claim
from pipeline.clock import Clock
from pipeline.embedded import Embedded, shard_count
from pipeline.errors import ConfigError, StateError
from pipeline.messages import NS, Input, Record
from pipeline.outlets import Outlets
from pipeline.recording.format import RecordingError
from pipeline.recording.recorder import Recorder, RecordingEnded
from pipeline.recording.ring import PREROLL_S
from pipeline.sources import build_sources
from pipeline.watchdog import notify

UNKEPT_NS = 10 * NS
"""So long after the last input that could not be recorded, recordings count as whole again."""
SAMPLE_BYTES = 2
"""Of most sound; a lower bound for others."""
LEAST_RING = 8
"""So many times what its files repeat, a ring must hold."""
_NUMBER = re.compile(r"(?<!\w)(?<![A-Za-z_]-)[\d,.]*\d")  # not that of a name: lathe-1, mic2
"""Counters stand in the texts of problems, and grow."""
ALIVE_NS = 10_000_000_000
"""An engine that has not come round for so long does not work."""


class Live:
    """A running system.

    Args:
        plan: what to run.
        clock: the host's.
        record_to: record into this one file, in place of the ring and with a state of its own.
        sources: beside those that the configuration names.
    """

    def __init__(self, plan: Plan, clock: Clock, record_to: Path | None = None, sources: Sequence[Source] = ()) -> None:
        self._clock = clock
        self._scratch = contextlib.ExitStack()
        if record_to is not None:
            folder = self._scratch.enter_context(tempfile.TemporaryDirectory())
            plan = Plan(plan.settings, plan.lanes, Path(folder) / app.STATE_FILE)
        try:
            if record_to is None:
                _check_ring(plan)
            for path, setting in _claims(plan, record_to is None):
                self._scratch.enter_context(claim(path, setting))
        except BaseException:
            self._scratch.close()
            raise
        self.plan = plan
        self._told: list[str] = []
        self._beat_ns = 0
        self._unkept: dict[str, tuple[int, int]] = {}
        """What could not be written → how often so far, and when it was last counted."""
        settings = plan.settings
        self.outlets = Outlets(
            plan, clock, lambda: self.alive, lambda: self.problems, evidence=True, serves=record_to is None
        )
        self.store = self.outlets.store
        build = ShardBuilder(plan, clock, settings.recording.enabled and record_to is None)
        if record_to is not None:
            start = app.recording_start(plan, self.store)
            build.tap = SingleFile(Recorder(record_to, start, clock.now_ns()))
        shards = 1 if record_to else shard_count(settings.engine.shards, plan.sensors)
        # last, as it may fork: no thread runs yet, and nothing after it can fail and leave its processes behind
        try:
            self.engine = Embedded(
                plan.lanes,
                [*build_sources(settings, clock), *sources],
                self.store,
                clock,
                build,
                settings.engine.queue_bytes,
                shards,
            )
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Of the status page; empty without one."""
        return self.outlets.address

    @property
    def alive(self) -> bool:
        """Whether the engine has finished a slice of its work lately."""
        return 0 <= self._clock.now_ns() - self._beat_ns < ALIVE_NS

    @property
    def problems(self) -> list[str]:
        """What sources, sinks and the durable state complain about now."""
        return [*self.engine.errors, *self.outlets.complaints, *self._unwritten()]

    def _unwritten(self) -> Iterator[str]:
        """That inputs are not recorded, or the state is not kept, while they are not and for `UNKEPT_NS` more."""
        settings = self.plan.settings
        for what, folder in (("recording", settings.recording.folder), ("state", settings.engine.state_dir)):
            times, last_ns = self._unkept.get(what, (0, 0))
            if last_ns and self._clock.now_ns() - last_ns < UNKEPT_NS:
                yield f"{what}: {times:,} times nothing could be written to {folder}; is the disk full?"

    def news(self) -> list[str]:
        """Lines about the problems that have come up since the last call, and about those that are over."""
        before, self._told = self._told, self.problems
        come, over = _beside(before, self._told), _beside(self._told, before)
        return [*(f"problem: {problem}" for problem in come), *(f"over: {problem}" for problem in over)]

    def start(self) -> None:
        """Start what runs beside the engine."""
        self.outlets.start()

    def run(self, for_s: float | None = None, every: Callable[[], None] | None = None) -> list[str]:
        """Run the engine to its end, then let the sinks finish; returns the errors of sources and sinks."""
        self.engine.stop_on_signals()
        self._beat_ns = self._clock.now_ns()
        notify("READY=1")

        def second() -> None:
            notify("WATCHDOG=1")
            self._beat_ns = self._clock.now_ns()
            self._publish()
            if every is not None:
                every()

        try:
            self.engine.run(for_s, second)
        finally:
            self._beat_ns = 0
            notify("STOPPING=1")
            self._publish()
            errors = [*self.engine.errors, *self.close()]
        return errors

    def _publish(self) -> None:
        """Counters to the exporter; old results out of the log; answers to commands that reach no lane."""
        counters = self.outlets.publish(self.engine.metrics())
        for what in ("recording", "state"):
            times = sum(shard.get("counts", {}).get(f"{what}.failed", 0) for shard in counters.values())
            before, last_ns = self._unkept.get(what, (0, 0))
            self._unkept[what] = times, self._clock.now_ns() if times > before else last_ns
        with contextlib.suppress(StateError):  # in a second once more
            self._answer_strangers()

    def _answer_strangers(self) -> None:
        """Refuse commands for machines that no shard has; a shard does not know what the others have."""
        ours = {lane.machine.name for lane in self.plan.lanes}
        for command in self.store.open_commands():
            if command.machine not in ours:
                said = f"its configuration has no machine '{command.machine}'; start it with one that has"
                self.store.answer(command.seq, error=said)

    def close(self) -> list[str]:
        """Let sinks deliver what they can, end the server; returns what the sinks complain about."""
        errors = self.outlets.close()
        self._scratch.close()
        return errors


def _beside(known: Sequence[str], problems: Sequence[str]) -> Iterator[str]:
    """Problems that are not among those that are known; a number in one that lasts may have changed."""
    left = Counter(_NUMBER.sub("0", problem) for problem in known)
    left.subtract(_NUMBER.sub("0", problem) for problem in problems if problem in known)
    for problem in problems:
        if problem not in known:
            left[_NUMBER.sub("0", problem)] -= 1
            if left[_NUMBER.sub("0", problem)] < 0:
                yield problem


def _claims(plan: Plan, rings: bool) -> Iterator[tuple[Path, str]]:
    """What no other engine may write: two rings in one folder count, delete and search each other's files."""
    yield plan.state, "engine.state_dir"
    settings = plan.settings
    if rings and settings.recording.enabled:
        yield settings.recording.folder, "recording.folder"
        if settings.evidence.enabled:
            yield settings.evidence.folder, "evidence.folder"


def _check_ring(plan: Plan) -> None:
    """Refuse a ring that would hold little but what each of its files repeats from the one before."""
    settings = plan.settings
    sensors = [sensor for machine in settings.machines for sensor in machine.sensors if sensor.modality != "frames"]
    repeated = round(PREROLL_S * sum(s.rate_hz * s.channels * SAMPLE_BYTES for s in sensors))
    if settings.recording.enabled and settings.recording.ring_bytes < LEAST_RING * repeated:
        raise ConfigError(
            f"recording.ring_bytes = {settings.recording.ring_bytes:,} holds less than {LEAST_RING * PREROLL_S:g} s of "
            f"these sensors: give it {LEAST_RING * repeated:,} at least, or set recording.enabled = false"
        )


class SingleFile:
    """A recorder as the shard's tap: one file, never rotated.

    Its first error ends the run, as there is nothing else to go on for: with `RecordingEnded`, once.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._told = False

    def write(self, message: Input, now_ns: int) -> None:
        """Keep one input."""
        with self._ending():
            self._recorder.write(message, now_ns)

    def write_result(self, record: Record, now_ns: int = 0) -> None:
        """Add a result for viewers."""
        with self._ending():
            self._recorder.write_result(record, now_ns)

    def sync(self) -> object:
        """Bring everything to disk."""
        with self._ending():
            return self._recorder.sync()

    def close(self) -> None:
        """Finish the file."""
        with self._ending():
            self._recorder.close()

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except RecordingError as error:
            if self._told:  # what ends tries a last time
                raise
            self._told = True
            raise RecordingEnded(str(error)) from error

    def rotate_if_due(self, now_ns: int, snapshots: Mapping[str, bytes]) -> bool:
        """Never."""
        del now_ns, snapshots
        return False

    def carry(self, attachments: Mapping[str, bytes], now_ns: int, snapshots: Mapping[str, bytes]) -> None:
        """Nothing: no command reaches a recording with a state of its own."""
        del attachments, now_ns, snapshots
