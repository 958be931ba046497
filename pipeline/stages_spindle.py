"""What a lane knows of a machine's spindle: its speed, whether it cuts, and the speed of its air run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, ClassVar

from config.schema import Spindle
from operators.air_run import AirRun, Motion
from operators.base import Stateful
from operators.gated import Gated
from operators.spindle import SAME, Reading
from pipeline.messages import NS, Context, Decision, Message, Stream, whole
from pipeline.stages import LaneSettings, Switchable

CHANGE_NS = 2 * NS
"""A speed that differs by more than 1 % from any that was told so long before is changing."""


class LaneSpeed:
    """Speed and operating state of a machine, from its configuration and from the contexts as of the end less the lag.

    Args:
        settings: of the lane.
    """

    def __init__(self, settings: LaneSettings) -> None:
        machine, spindle = settings.machine, settings.machine.spindle or Spindle(rpm=1.0)
        self._measured = spindle.air_run is not None
        self._contexts = settings.contexts
        self._lag_ns = round(machine.context_lag_s * NS)
        self._rpm = spindle.rpm
        self._speed = spindle.speed_fact
        self._state = machine.state_context if spindle.cutting_states or spindle.learning_states else None
        self._cutting, self._good = frozenset(spindle.cutting_states), frozenset(spindle.learning_states)
        self._facts = [fact for fact in (self._speed, self._state) if fact is not None]
        self.held_up: Callable[[], bool] = bool
        """Whether no window may be judged yet, whatever its facts."""

    def starves(self, t_ns: int) -> str | None:
        """The fact that a window which ends at `t_ns` waits for."""
        for fact in self._facts:
            if not self._contexts.given_up(fact, t_ns) and not self._contexts.passed(fact, t_ns - self._lag_ns):
                return fact
        return None

    def waits(self, t_ns: int) -> bool:
        """Whether a fact, or something of an earlier stream, is still on its way."""
        return self.held_up() or self.starves(t_ns) is not None

    def at(self, t_ns: int) -> Reading:
        """What holds for a window that ends at `t_ns`."""
        asked = t_ns - self._lag_ns
        state = None
        if self._state is not None and not self._contexts.given_up(self._state, t_ns):
            state = self._contexts.as_of(self._state, asked)
        said = set() if state is None else {str(state), whole(str(state))}
        good = bool(said & self._good)
        cutting = bool(said & self._cutting) or good if said and self._cutting else None
        return replace(self._spindle(t_ns, asked), cutting=cutting, good=good)

    def _spindle(self, t_ns: int, asked_ns: int) -> Reading:
        if self._speed is None:
            assert self._rpm is not None
            return Reading(self._rpm)
        if self._contexts.given_up(self._speed, t_ns):
            return Reading(0.0, "stale")
        rpm = self._contexts.as_of(self._speed, asked_ns)
        if rpm is None or isinstance(rpm, str) or not isfinite(rpm):
            return Reading(0.0, "unclear" if self._measured else "missing")
        if rpm == 0.0:
            return Reading(0.0, "zero")
        rpm = abs(rpm)  # a spindle that turns backwards
        lately = self._contexts.during(self._speed, asked_ns - CHANGE_NS, asked_ns)
        speeds = (abs(speed) for speed in lately if isinstance(speed, int | float) and isfinite(speed))
        changed = any(abs(speed / rpm - 1.0) > SAME for speed in speeds)
        return Reading(float(rpm), "changing" if changed else "")


class Facing(Switchable):
    """A gated operator in a lane, which tells it when a fact has come.

    Args:
        inner: the operator.
        speed: where it takes its facts from.
    """

    memory_s: ClassVar[float] = 5.0

    def __init__(self, inner: Gated, speed: LaneSpeed) -> None:
        self._inner, self._speed = inner, speed
        speed.held_up = lambda: self.held_up

    def switch(self, decision: Decision) -> None:
        """No decision changes the operator; those about contexts change what it waits for."""

    def inherit(self, failed: Switchable) -> None:
        """Take over the samples that wait."""
        super().inherit(failed)
        if isinstance(failed, Facing):
            self._inner.inherit(failed._inner)

    @property
    def waiting(self) -> bool:
        """Whether samples wait."""
        return self._inner.waits_until_ns is not None

    @property
    def waits_for(self) -> str | None:
        """The fact that the oldest samples wait for."""
        end = self._inner.waits_until_ns
        return None if end is None else self._speed.starves(end)

    def release(self) -> list[Message]:
        """Judge what need not wait any longer."""
        return self._inner.release()

    def process(self, message: Message) -> Iterable[Message]:
        """Samples and gaps."""
        return self._inner.process(message)

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """What the operator needs."""
        return self._inner.needs_from()

    def flush(self) -> Iterable[Message]:
        """The end of the stream: what waits for a fact goes on waiting."""
        return self._inner.release()


class LaneMotion(LaneSpeed):
    """What a machine says while its air run is heard, and the speed that is stated of it.

    Args:
        settings: of the lane.
    """

    def __init__(self, settings: LaneSettings) -> None:
        super().__init__(settings)
        assert self._speed is not None
        assert self._state is not None
        spindle = settings.machine.spindle
        assert spindle is not None
        assert spindle.air_run is not None
        self._machine, self._name, self._told = settings.machine.name, self._speed, self._state
        self._air = frozenset(spindle.air_run.states)
        self._facts = [self._told]

    def motion(self, t0_ns: int, t1_ns: int) -> Motion:
        """What the machine said from `t0_ns` to `t1_ns`, less the lag."""
        if self._contexts.given_up(self._told, t1_ns):
            return "unknown"
        t0_ns, t1_ns = t0_ns - self._lag_ns, t1_ns - self._lag_ns
        if self._contexts.as_of(self._told, t0_ns) is None:
            return "unknown"
        said = [{str(state), whole(str(state))} for state in self._contexts.during(self._told, t0_ns, t1_ns)]
        if all(state & self._air for state in said):
            return "air"
        return "turns" if all(state & (self._air | self._cutting | self._good) for state in said) else "unknown"

    def held(self, t_ns: int) -> float | str | None:
        """The speed that was stated last."""
        return self._contexts.as_of(self._name, t_ns)

    def state(self, t_ns: int, value: float | str) -> None:
        """State a speed."""
        self._contexts.add(Context(self._machine, self._name, t_ns, value))


class Spoken(Stateful):
    """Takes what an air run tells, which no detector judges, in the fast lane."""

    def process(self, message: Message) -> Iterable[Message]:  # noqa: ARG002  of the protocol
        """Nothing follows from it."""
        return ()

    def snapshot(self) -> dict[str, Any]:
        """Nothing is learned."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing was learned."""


def air_run(settings: LaneSettings, stream: Stream | None) -> Facing | None:
    """The speed of the air run, from the sensor that the machine names."""
    spindle = settings.machine.spindle
    said = None if spindle is None else spindle.air_run
    if stream is None or said is None or stream.sensor != said.sensor:
        return None
    motion = LaneMotion(settings)
    return Facing(AirRun(stream, motion, said.lowest_rpm, said.highest_rpm), motion)


def spoken(settings: LaneSettings, _stream: Stream | None) -> Spoken | None:
    """Where a fast lane's air run ends."""
    return None if settings.machine.spindle is None or settings.machine.spindle.air_run is None else Spoken()
