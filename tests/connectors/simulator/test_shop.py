import json
import time
from dataclasses import replace

import numpy as np
import pytest

from connectors.base import Resume
from connectors.simulator.feed import Feed
from connectors.simulator.shop import Shop
from connectors.simulator.source import ShopSource
from pipeline.errors import SourceError
from pipeline.messages import NS, Anchor, Chunk, Context, Input, Mark

T0 = 1_700_000_000 * NS
DURATION = 26.0
SHOP = Shop(3, normal_s=8.0)
MESSAGES = list(Feed(SHOP, T0, None, DURATION))


def heard(messages: list, machine: str, sensor: str) -> np.ndarray:
    found = [m for m in messages if isinstance(m, Chunk) and (m.stream.machine, m.stream.sensor) == (machine, sensor)]
    return np.concatenate([m.samples for m in found])


def test_messages_come_in_time_order_without_gaps_and_end() -> None:
    times = [m.t1_ns for m in MESSAGES]
    assert times == sorted(times)
    for sensor in SHOP.sensors:
        own = [
            m
            for m in MESSAGES
            if not isinstance(m, Context) and m.stream.sensor == sensor.name and m.stream.machine == sensor.machine
        ]
        chunks, end = own[:-1], own[-1]
        assert isinstance(end, Mark) and end.reason == "end"
        assert [c.n0 for c in chunks] == [k * sensor.chunk for k in range(len(chunks))]
        assert [c.seq for c in chunks] == list(range(len(chunks)))
        assert chunks[-1].n1 == end.n0 == end.n1 == round(DURATION * sensor.rate_hz)
        assert all(c.samples.dtype == np.dtype(sensor.dtype) and c.samples.shape[1] == sensor.channels for c in chunks)
        assert all(c.nbytes <= 900_000 and c.samples.flags.c_contiguous for c in chunks)


def test_facts_come_every_second() -> None:
    speeds = [m for m in MESSAGES if isinstance(m, Context) and m.machine == "mill-1" and m.name == "spindle_rpm"]
    assert [m.t_ns for m in speeds[:5]] == [T0 + s * NS for s in range(5)]
    states = {m.value for m in MESSAGES if isinstance(m, Context) and m.machine == "mill-1" and m.name == "state"}
    assert states == {"idle", "cut"}


def test_truth_is_json_and_begins_after_the_normal_time() -> None:
    truth = json.loads(json.dumps(SHOP.truth(DURATION)))
    assert [t["event"] for t in truth] == ["chatter", "drill_break", "bearing_fault"] or len(truth) >= 3
    assert all(8.0 <= t["onset_s"] < DURATION for t in truth)
    assert SHOP.truth(8.0) == []


def test_chatter_can_be_heard_when_the_truth_says_so() -> None:
    (event,) = [t for t in SHOP.truth(DURATION) if t["event"] == "chatter"][:1]
    for sensor, rate in (("microphone", 48_000), ("spindle", 25_600)):
        x = heard(MESSAGES, "mill-1", sensor)[:, 0].astype(float)
        spectra = []
        for start in (event["onset_s"] - 0.9, event["end_s"] - 1.0):
            part = x[int(start * rate) : int(start * rate) + int(0.8 * rate)]
            spectra.append(np.abs(np.fft.rfft(part * np.hanning(len(part)))))
        f = np.fft.rfftfreq(int(0.8 * rate), 1 / rate)
        rpm = next(float(m.value) for m in MESSAGES if isinstance(m, Context) and m.name == "spindle_rpm")
        family = np.abs(
            event["chatter_hz"] + np.arange(-2, 3) * SHOP.configuration()["machines"][0]["teeth"] * rpm / 60
        )
        near = np.min(np.abs(f[:, None] - family[None]), axis=1) < 6.0
        spindle = rpm / 60.0
        near &= np.abs(f - spindle * np.round(f / spindle)) > 4.0
        assert spectra[1][near].max() > 3.0 * spectra[0][near].max()


def test_the_bearing_is_worse_at_the_end() -> None:
    x = heard(MESSAGES, "motor-1", "bearing")
    onset = int(18.0 * 25_600)
    assert x.shape[1] == 3
    later = Shop(3, normal_s=8.0).sensors[4].read(90 * 25_600, 94 * 25_600)
    assert np.std(np.diff(later, axis=0)) > 1.3 * np.std(np.diff(x[:onset], axis=0))


def test_the_drill_is_quieter_after_its_bit_broke() -> None:
    (event,) = [t for t in SHOP.truth(DURATION) if t["event"] == "drill_break"][:1]
    hole = int(event["onset_s"] // 4)
    x = heard(MESSAGES, "drill-1", "microphone")[:, 0].astype(float)
    middle = [
        np.std(np.diff(x[int((4 * k + 1.4) * 48_000) : int((4 * k + 2.6) * 48_000)])) for k in (hole - 1, hole + 1)
    ]
    assert middle[1] < 0.8 * middle[0]


def test_a_restart_goes_on_with_the_very_next_bit() -> None:
    source = ShopSource(3, normal_s=8.0, duration_s=DURATION, speed=None)
    resume = {}
    for sensor in SHOP.sensors:
        resume[sensor.machine, sensor.name] = Resume(0, Anchor(0, T0), int(20.3 * sensor.rate_hz) + 17)
    streams = source.open(resume, T0 + 99 * NS)
    again: list[Input] = []
    while not source.exhausted:
        again += source.poll(0)
    source.close()
    assert [s.epoch for s in streams] == [0] * 5
    for sensor in SHOP.sensors:
        n = resume[sensor.machine, sensor.name].n
        whole = heard(MESSAGES, sensor.machine, sensor.name)
        np.testing.assert_array_equal(heard(again, sensor.machine, sensor.name), whole[n:])
        first = next(
            m
            for m in again
            if isinstance(m, Chunk) and m.stream.sensor == sensor.name and m.stream.machine == sensor.machine
        )
        assert (first.n0, first.anchor) == (n, Anchor(0, T0))


def test_sample_times_do_not_depend_on_the_pace() -> None:
    source = ShopSource(3, normal_s=8.0, duration_s=1.0, speed=5.0)
    source.open({}, T0)
    now, got = T0, list[Input]()
    try:
        while not source.exhausted:
            got += source.poll(now)
            assert all(m.t1_ns <= T0 + (now - T0) * 5 for m in got)
            now = max(now + 1, source.wake_ns(now))
    finally:
        source.close()
    np.testing.assert_array_equal(heard(got, "mill-1", "microphone"), heard(MESSAGES, "mill-1", "microphone")[:48_000])
    assert [m for m in got if isinstance(m, Mark)] == [
        replace(m, n0=m.stream.rate.num, n1=m.stream.rate.num) for m in MESSAGES if isinstance(m, Mark)
    ]


def places(messages: list) -> dict:
    """Where each stream goes on behind these messages."""
    last = {(m.stream.machine, m.stream.sensor): m for m in messages if isinstance(m, Chunk)}
    return {key: Resume(m.stream.epoch, m.anchor, m.n1) for key, m in last.items()}


def opened(source: ShopSource, before: list, seconds: float) -> list:
    """All messages so far, when the source was opened behind them and every sensor was heard for so long."""
    got, now = list(before), T0 + 99 * NS
    source.open(places(got), now)
    assert source._worker is not None and source._worker.is_alive() and not source.exhausted
    until = time.monotonic() + 30.0
    while len(found := places(got)) < len(SHOP.sensors) or any(
        found[s.machine, s.name].n < seconds * s.rate_hz for s in SHOP.sensors
    ):
        assert time.monotonic() < until, "the shop has stopped"
        got += source.poll(now)
        now = max(now + 1, source.wake_ns(now))
        time.sleep(0.001)
    return got


def same_as_undisturbed(messages: list) -> None:
    for sensor in SHOP.sensors:
        own = heard(messages, sensor.machine, sensor.name)
        np.testing.assert_array_equal(own, heard(MESSAGES, sensor.machine, sensor.name)[: len(own)])


def test_opened_again_it_goes_on_with_the_very_next_sample() -> None:
    """As after the death of a shard's process, twice. What was rendered ahead but not read comes once."""
    source = ShopSource(3, normal_s=8.0)
    got: list = []
    try:
        for seconds in (1.0, 2.0, 3.0):
            got = opened(source, got, seconds)
            source.close()
    finally:
        source.close()
    same_as_undisturbed([replace(m, anchor=Anchor(0, T0)) if isinstance(m, Chunk) else m for m in got])
    assert len({m.anchor for m in got if isinstance(m, Chunk)}) == 1


def test_opened_again_after_its_end_it_ends_again() -> None:
    source = ShopSource(3, normal_s=8.0, duration_s=1.0, speed=None)
    ended: list[Input] = []
    for _ in range(2):
        source.open({}, T0)
        assert not source.exhausted
        got: list = []
        while not source.exhausted:
            got += source.poll(T0)
        source.close()
        same_as_undisturbed(got)
        ended.append(sum(isinstance(m, Mark) for m in got))
    assert ended == [len(SHOP.sensors)] * 2


def test_opened_again_after_an_error_of_the_simulation_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pop, calls = Feed.pop, []

    def fails_once(feed: Feed) -> list:
        calls.append(feed)
        if len(calls) == 60:
            raise ArithmeticError("the mill has exploded")
        return pop(feed)

    monkeypatch.setattr(Feed, "pop", fails_once)
    source = ShopSource(3, normal_s=8.0)
    source.open({}, T0)
    got: list = []

    def until_it_fails() -> None:
        until = time.monotonic() + 30.0
        while time.monotonic() < until:
            got.extend(source.poll(T0 + NS // 2))
            time.sleep(0.001)

    try:
        with pytest.raises(SourceError, match="the mill has exploded"):
            until_it_fails()
        source.close()
        same_as_undisturbed(opened(source, got, 2.0))
    finally:
        source.close()


def test_the_source_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="speed"):
        ShopSource(1, speed=0.0)
    with pytest.raises(SourceError, match="not open"):
        ShopSource(1).poll(0)


def test_configuration_tells_no_truth() -> None:
    told = json.dumps(SHOP.configuration())
    assert "onset" not in told and "limit" not in told
    assert [len(m["sensors"]) for m in SHOP.configuration()["machines"]] == [2, 1, 2]


def test_another_seed_is_another_shop() -> None:
    other = Shop(4, normal_s=8.0)
    assert other.configuration() != SHOP.configuration() or other.truth(60.0) != SHOP.truth(60.0)
