"""Sources made of a configuration: all of them, and their hook, are dated by the engine's clock."""

from __future__ import annotations

import time

import pytest

from config.fast_lane import Mqtt
from config.schema import Settings
from connectors.microphone import Microphone
from pipeline.clock import ManualClock
from pipeline.intake import Intake
from pipeline.messages import NS, Alarm, Chunk
from pipeline.sources import build_sources, command_hook
from tests.connectors.soundcard import SoundCard
from tests.engines.scenarios import T0

STEPS_S = [-3.0, 3.0, -3600.0, 3600.0]


class CardClock(ManualClock):
    """The engine's clock: read once, then carried on by the monotonic one."""

    def __init__(self, card: SoundCard) -> None:
        super().__init__(card.clock())
        self._card, self._offset = card, card.clock() - card.monotonic_ns

    def now_ns(self) -> int:
        return self._card.monotonic_ns + self._offset


def lathe(**quantity: object) -> Settings:
    source = {"type": "microphone", "device": "USB*"}
    sensor = {"name": "mic", "modality": "acoustic", "rate_hz": 48_000, "unit": "FS", "source": source, **quantity}
    return Settings.model_validate({"schema_version": 1, "machine": [{"name": "lathe", "sensor": [sensor]}]})


def test_a_microphone_is_calibrated_by_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit and scale of its sensor are those of its stream."""
    card = SoundCard()
    monkeypatch.setattr("connectors.microphone.library", lambda: card)
    clock = CardClock(card)
    for quantity, scale in (({}, 2.0**-15), ({"scale": 0.5}, 0.5), ({"unit": "Pa", "scale": 1e-4}, 1e-4)):
        (source,) = build_sources(lathe(**quantity), clock)
        (stream,) = source.open({}, clock.now_ns())
        source.close()
        assert (stream.unit, stream.scale) == (quantity.get("unit", "FS"), scale)


@pytest.mark.parametrize("own_clock", [True, False])
@pytest.mark.parametrize("step_s", STEPS_S)
def test_a_step_of_the_hosts_clock_does_not_silence_a_microphone(
    step_s: float, own_clock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where PortAudio's own clock takes part in the step. Event times stay those of the engine's clock."""
    card = SoundCard()
    card.own_clock = own_clock
    monkeypatch.setattr("connectors.microphone.library", lambda: card)
    monkeypatch.setitem(Microphone.__init__.__kwdefaults__ or {}, "clock", card.clock)
    clock = CardClock(card)
    sources = build_sources(lathe(), clock)
    (microphone,) = sources
    assert isinstance(microphone, Microphone)
    intake = Intake(sources, 64_000_000)
    assert intake.open({}, clock.now_ns()) == []

    def heard(seconds: int) -> list[Chunk]:
        got: list[Chunk] = []
        for _ in range(seconds * 10):
            card.run(1)
            intake.poll(clock.now_ns())
            while (message := intake.take()) is not None:
                got += [message] if isinstance(message, Chunk) else []
            time.sleep(0)  # what would open the device anew has a thread of its own
        return got

    assert len(heard(5)) == 50
    card.host_step_ns = round(step_s * NS)
    for _ in range(6):
        got = heard(10)
        assert len(got) == 100
        assert {chunk.stream.epoch for chunk in got} == {0}
        assert abs(got[-1].t1_ns - clock.now_ns()) < 20_000
    quiet = ("losses_of_device", "reconnects", "failed_opens", "dropped_frames", "lost_frames")
    assert [microphone.counters[name] for name in quiet] == [0] * len(quiet)
    counted = {name.removeprefix("device."): n for name, n in intake.counts.items() if name.startswith("device.")}
    assert counted.keys() == microphone.counters.keys()  # as of the last round of the intake
    assert 640 <= counted["chunks"] <= microphone.counters["chunks"] == 650
    intake.close()


def test_commands_expire_by_the_clock_that_dates_the_events() -> None:
    """Not by the host's, from which a step has parted it: nothing would be sent any more."""
    clock = ManualClock(T0)
    hook = command_hook(Mqtt(host="127.0.0.1"), "hall", ["m"], clock)
    alarm = Alarm("m", ("mic",), "chatter", T0, "raised", 0, T0, "critical", "loud", 9.0, 6.0, "s")
    hook(alarm)
    assert hook.counts["stale"] == 0
    clock.sleep(3600.0)
    hook(alarm)
    assert hook.counts["stale"] == 1
