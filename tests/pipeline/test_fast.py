"""Detectors in the fast lane when facts fall silent, and a fast lane made of a configuration alone."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

import config
from config.sources import PlaybackSource
from connectors.fastlane import FastLane, RereadFastLane
from pipeline import app
from pipeline.clock import HostClock
from pipeline.errors import BadInput, ConfigError
from pipeline.fast import FastDetectors
from pipeline.live import Live
from pipeline.messages import NS, Anchor, Chunk, Context, Mark, Score, Stream
from pipeline.sources import build_sources
from pipeline.stages import LaneSettings
from pipeline.state import Store
from pipeline.topics import ABANDON_S
from tests.engines.scenarios import T0, chunks, machine, stream
from tests.operators.simulated import DRILL_HZ, SPENT, holes
from tests.servers.mosquitto import MosquittoServer
from tests.servers.mqtt_ear import Ear

ACC = stream("acc", "vibration", 4000)
SPEED = "spindle_rpm"
MILL = machine(ACC, spindle={"rpm_context": SPEED, "teeth": 3, "lowest_rpm": 8000})
LAST_S, BACK_S, END_S = 4, 22, 26
"""The speed is told every second, but not between these."""


def test_only_samples_that_a_detector_listens_to_are_judged() -> None:
    """An accelerometer too slow for the drill's detector is no sign that the drill is heard, nor one of two alone."""
    mic, other, slow = (
        stream("mic", "acoustic", 8000),
        stream("mic2", "acoustic", 8000),
        stream("vib", "vibration", 2000),
    )
    ear = FastDetectors(LaneSettings(machine(mic, other, slow, drill={})))
    noise = np.random.default_rng(4).standard_normal((8 * 8000, 1))

    def hear(one: Stream, until_s: float) -> bool:
        for chunk in chunks(one, (1000 * noise[: round(until_s * one.rate.hz)]).astype("<i2"), 0.1):
            assert isinstance(chunk, Chunk)
            ear.listen(chunk)  # what it has heard before changes nothing
        return ear.judges(one)

    assert [hear(slow, 1.0), ear.judges(mic), hear(mic, 1.0), hear(other, 1.0)] == [False, False, True, True]
    assert hear(other, 7.0) is False and ear.judges(mic) is True  # the first microphone has fallen silent
    assert hear(mic, 7.0) is True and ear.judges(other) is True


def test_a_sensor_that_never_spoke_is_not_heard() -> None:
    """One that has its source here and a detector; not a slow one, nor one that another process publishes."""
    names = {"mic": 8000, "mic2": 8000, "elsewhere": 8000, "slow": 2000}
    made = machine(*(stream(name, "acoustic", rate) for name, rate in names.items()), drill={})
    source = PlaybackSource(type="playback", files=(Path("x.wav"),))
    here = (s if s.name == "elsewhere" else s.model_copy(update={"source": source}) for s in made.sensors)
    ear = FastDetectors(LaneSettings(made.model_copy(update={"sensors": tuple(here)})))
    x = np.zeros((800, 1), "<i2")
    judged = []
    for name in ("mic", "slow", "mic2"):
        ear.listen(Chunk(stream(name, "acoustic", names[name]), Anchor(0, T0), 0, 0, x))
        judged.append(ear.judges(stream("mic", "acoustic", 8000)))
    assert judged == [False, False, True]


@pytest.mark.parametrize("what", ["repeated", "no numbers", "empty"])
def test_what_brings_no_samples_is_not_heard(what: str) -> None:
    """A driver that hangs on one buffer, or gives no numbers, is no sign that anything is judged."""
    mic = replace(stream("mic", "acoustic", 8000), dtype="<f4")
    ear, x = FastDetectors(LaneSettings(machine(mic, drill={}))), np.zeros((800, 1), "<f4")
    bad = {"repeated": x, "no numbers": x + np.nan, "empty": x[:0]}[what]
    judged = []
    for n, samples in enumerate((x, bad, bad, x)):
        ear.listen(Chunk(mic, Anchor(0, T0), 0 if what == "repeated" and n < 3 else n * 800, n, samples))
        judged.append(ear.judges(mic))
    assert judged == [True, False, False, True]


def test_marks_of_a_dead_sensor_are_no_samples() -> None:
    """Its source goes on saying that nothing came."""
    mics = [stream(name, "acoustic", 8000) for name in ("mic", "mic2")]
    ear, x = FastDetectors(LaneSettings(machine(*mics, drill={}))), np.zeros((8000, 1), "<i2")
    judged = []
    for n in range(8):
        ear.listen(Chunk(mics[0], Anchor(0, T0), n * 8000, n, x))
        new = Chunk(mics[1], Anchor(0, T0), 0, 0, x) if n == 0 else None
        ear.listen(new or Mark(mics[1], Anchor(0, T0), n * 8000, (n + 1) * 8000, "gap"))
        judged.append(ear.judges(mics[0]))
    assert judged == [True] * 5 + [False] * 3


@pytest.mark.parametrize("at", [40, 57])
def test_a_chunk_of_another_time_gives_no_fact_up(at: int) -> None:
    """Its clock is a day ahead: refused, as in the pipeline, and the speed is not given up for that day."""
    x = (1000 * np.random.default_rng(4).standard_normal((12 * 4000, 1))).astype("<i2")
    facts = [Context("m", SPEED, T0 + s * NS, 9000.0) for s in range(-2, 14)]
    ear = FastDetectors(LaneSettings(MILL.model_copy(update={"context_lag_s": 0.0})))
    scores: list[Score] = []
    for message in sorted([*chunks(ACC, x, 0.1), *facts], key=lambda m: m.t1_ns):
        assert isinstance(message, Chunk | Context)
        given: Chunk | Context = message
        if isinstance(message, Chunk) and message.seq == at:
            given = replace(message, anchor=Anchor(0, T0 + 86_400 * NS))
        scores += [one for one in ear.listen(given) if isinstance(one, Score)]
    assert max(score.t_end_ns for score in scores) < T0 + 12 * NS
    assert all(score.complete for score in scores[-3:])


def test_a_detector_that_fails_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be made, and one that fails on samples: the drill's own scores come, then the fault."""
    places = [[-0.2, -0.15], [0.72, -0.21], [-0.13, 0.44], [0.66, 0.5]]
    head = {"rows": 2, "columns": 3, "pitch_m": 0.25, "microphones_m": places}
    told, given = (stream("array", "acoustic", 16_000, channels=n) for n in (4, 2))
    settings = LaneSettings(machine(told, drill={"head": head}))

    def scores(channels: int, drill: LaneSettings) -> list[str]:
        one = given if channels == 2 else told
        ear, found, faults = FastDetectors(drill), list[str](), 0
        for chunk in chunks(one, np.ones((48_000, channels), "<i2"), 0.1):
            try:
                found.extend(said.id for said in ear.listen(chunk))  # type: ignore[arg-type]
            except (ArithmeticError, BadInput):
                faults += 1
        assert faults == (0 if drill is not settings else 30)
        return [name for name in found if "drill_" in name]

    def broken(*_: object) -> list[object]:
        raise ArithmeticError("no head")

    alone = scores(2, LaneSettings(machine(given, drill={})))
    assert alone and scores(2, settings) == alone
    monkeypatch.setattr("operators.head.HeadFrames.take", broken)
    assert scores(4, settings) == scores(4, LaneSettings(machine(told, drill={})))


def test_what_was_given_up_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A speed that is told too seldom is given up and taken back each time: memory stays bounded."""
    monkeypatch.setattr("pipeline.fast.ABANDON_S", 0.2)
    monkeypatch.setattr("pipeline.contexts.KEEP_NS", 2 * NS)
    eager = MILL.model_copy(update={"context_lag_s": 0.0})
    ear, x = FastDetectors(LaneSettings(eager)), np.zeros((1000, 1), "<i2")
    kept = []
    for n in range(48):
        if n % 4 == 0:
            ear.listen(Context("m", SPEED, T0 + n * NS // 4, 9000.0 + n))
        ear.listen(Chunk(ACC, Anchor(0, T0), n * 1000, n, x))
        kept.append(len(ear._settings.contexts._silences.get(SPEED, ())))
    assert 2 < max(kept) == max(kept[:24]) < 12


def test_a_speed_that_falls_silent_is_given_up_and_taken_back() -> None:
    """As the pipeline does: `ABANDON_S` behind its last word, what is held is "stale", until it is told again."""
    x = (1000 * np.random.default_rng(4).standard_normal((END_S * 4000, 1))).astype("<i2")
    facts = [Context("m", SPEED, T0 + s * NS, 9000.0) for s in range(-2, END_S + 2) if not LAST_S < s < BACK_S]
    ear = FastDetectors(LaneSettings(MILL))
    scores: list[tuple[float, Score]] = []
    held_s = 0.0
    for message in sorted([*chunks(ACC, x, 0.1), *facts], key=lambda m: m.t1_ns):
        now = (message.t1_ns - T0) / NS
        said = [one for one in ear.listen(message) if isinstance(one, Score)]  # type: ignore[arg-type]
        scores += [(now, score) for score in said]
        if isinstance(message, Chunk) and scores:
            held_s = max(held_s, now - (scores[-1][1].t_end_ns - T0) / NS)
    assert ABANDON_S - 1.0 < held_s < ABANDON_S
    late = [score for told, score in scores if LAST_S + ABANDON_S <= told < BACK_S]
    assert (late[0].t_end_ns - T0) / NS < LAST_S + 2.0
    assert {score.complete for score in late} == {False}
    assert any("stale" in str(score.reasons) for score in late)
    assert all(score.complete for told, score in scores if told > BACK_S + 3.0)
    assert any(score.complete for told, score in scores if told > BACK_S + 3.0)


def heard(cuts: list[int], x: np.ndarray, facts: list[Context]) -> list[tuple[object, ...]]:
    """Scores and alarms of a stream that was cut there."""
    edges = sorted({0, len(x), *(cut % len(x) for cut in cuts)})
    pieces: list[Any] = [Chunk(ACC, Anchor(0, T0), i, n, x[i:j]) for n, (i, j) in enumerate(pairwise(edges))]
    ear = FastDetectors(LaneSettings(MILL))
    said: list[tuple[object, ...]] = []
    for message in sorted([*pieces, *facts], key=lambda m: m.t1_ns):
        told = ear.listen(message)
        said += [(one.value, one.threshold, str(one.reasons), one.detector, one.id) for one in told]
    return said


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_answers_do_not_depend_on_where_samples_are_cut(cuts: list[int]) -> None:
    """To the bit; some chatter, so that there is something to say."""
    x, facts = chattering()
    assert heard(cuts, x, facts) == whole()
    assert any(one[3] == "chatter" and one[4] for one in whole())


@cache
def whole() -> list[tuple[object, ...]]:
    """The answer to uncut samples."""
    return heard([], *chattering())


@cache
def chattering() -> tuple[np.ndarray, list[Context]]:
    """Three seconds: air, a stable cut, chatter; the speed is told every second."""
    t = np.arange(3 * 4000) / 4000
    x = 0.01 * np.random.default_rng(5).standard_normal(len(t))
    x += (t > 0.4) * 0.5 * np.sin(2 * np.pi * 450.0 * t) + (t > 1.5) * np.sin(2 * np.pi * 922.0 * t)
    facts = [Context("m", SPEED, T0 + s * NS, 9000.0) for s in range(-2, 6)]
    return np.round(x / ACC.scale).astype("<i2")[:, None], facts


CONFIG = """
schema_version = 1
site = "hall"
[engine]
state_dir = "state"
shards = {shards}
[recording]
enabled = false
[status]
enabled = false
[fast_lane.mqtt]
host = "127.0.0.1"
port = {port}
topic = "{{site}}/{{machine}}/{{detector}}/{{transition}}"
username = "line"
password = "env:LINE_PASSWORD"
[[machine]]
name = "drill-1"
fast_lane = true
  [machine.persistence]
  clear_after_s = 0.5
  [machine.drill]
  taught_holes = 2
  [[machine.sensor]]
  name = "mic"
  modality = "acoustic"
  rate_hz = 96000
  unit = "FS"
    [machine.sensor.source]
    type = "playback"
    files = ["drill.wav"]
    speed = 0
"""
HOLE_S = 2.0


def drilled(folder: Path) -> float:
    """A recording of three good holes and one in which the drill breaks; returns when."""
    made = list(holes(SPENT[0], 0, ["none", "none", "none", "fracture"], snr_db=20.0, seconds=HOLE_S))
    sf.write(folder / "drill.wav", np.concatenate([hole.sound for hole in made]), DRILL_HZ, subtype="FLOAT")
    assert made[-1].break_s is not None
    return 3 * HOLE_S + made[-1].break_s


@pytest.mark.parametrize("shards", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_broken_drill_is_a_command_by_the_configuration_alone(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 200 ms of the fracture, with the ids of the pipeline's own alarm, and the status says who listens."""
    monkeypatch.setenv("LINE_PASSWORD", "s3cret")
    broken_s = drilled(tmp_path)
    with MosquittoServer(users={"line": "s3cret"}) as broker, Ear(broker, user=("line", "s3cret")) as ear:
        (tmp_path / "c.toml").write_text(CONFIG.format(port=broker.tcp_port, shards=shards))
        plan = app.plan(config.load(tmp_path / "c.toml"))
        assert Live(plan, HostClock()).run() == []
        ear.wait(lambda: "offline" in ear.texts("stethos/hall/status"))
        (told,) = (json.loads(text) for text in ear.texts("hall/drill-1/drill_break/raised"))
        assert "online" in ear.texts("stethos/hall/status")
    store = Store(plan.state)
    alarms = {r.id: r.body for r in store.read(0, ("alarm",), 1000) if r.body["transition"] == "raised"}
    assert alarms[told["id"]]["text"] == told["reason"]
    assert alarms[told["id"]]["severity"] == told["severity"] == "critical"
    began_ns = store.positions()["drill-1", "mic"].anchor.t_ns
    assert broken_s < (alarms[told["id"]]["t_ns"] - began_ns) / NS < broken_s + 0.2


GOOD = CONFIG.format(port=1883, shards=1).replace('"env:LINE_PASSWORD"', '"x"')


def test_only_machines_that_ask_have_one(tmp_path: Path) -> None:
    """Their chunks are short unless the file says how long."""
    second = GOOD[GOOD.index("[[machine]]") :].replace("drill-1", "drill-2").replace("fast_lane = true", "")
    (tmp_path / "c.toml").write_text(GOOD + second)
    drilled(tmp_path)
    fast, plain = build_sources(config.load(tmp_path / "c.toml"), HostClock())
    assert isinstance(fast, RereadFastLane) and not isinstance(plain, FastLane)
    lengths = []
    for source in (fast.source, plain):
        source.open({}, T0)
        first = next(m for m in source.poll(T0) if isinstance(m, Chunk))
        lengths.append(len(first.samples) / DRILL_HZ)
        source.close()
    assert lengths == [0.01, 0.1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[machine.drill]\n  taught_holes = 2", ""), "needs \\[machine.drill\\] or a spindle with teeth"),
        ((GOOD[GOOD.index("[fast_lane") : GOOD.index("[[machine]]")], ""), "add \\[fast_lane.mqtt\\]"),
        (('password = "x"', ""), "username and password"),
        (('username = "line"', 'username = "line"\nca_file = "ca.pem"'), "set tls = true"),
        (('host = "127.0.0.1"', 'host = "127.0.0.1"\ncert_file = "c.pem"'), "cert_file and key_file"),
        (('host = "127.0.0.1"', 'hots = "127.0.0.1"'), "did you mean 'host'"),
    ],
)
def test_configurations_that_make_no_sense(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    """With what to write instead."""
    (tmp_path / "c.toml").write_text(GOOD.replace(*change, 1))
    with pytest.raises(ConfigError, match=words):
        config.load(tmp_path / "c.toml")


def test_a_topic_that_is_none_stops_the_start(tmp_path: Path) -> None:
    """Before anything runs."""
    (tmp_path / "c.toml").write_text(GOOD.replace("{machine}/{detector}", "#"))
    with pytest.raises(ConfigError, match="no \\+ and #"):
        build_sources(config.load(tmp_path / "c.toml"), HostClock())


def test_a_late_word_behind_a_silence_holds_nothing_for_ever() -> None:
    """It takes the fact back; silent again, it is given up again as of now, not as of that word."""
    x = (1000 * np.random.default_rng(4).standard_normal((40 * 4000, 1))).astype("<i2")
    told = [(s, Context("m", SPEED, T0 + s * NS, 9000.0)) for s in range(-2, 5)]
    told.append((20, Context("m", SPEED, T0 + round(5.25 * NS), 9000.0)))
    feed = [*((T0 + s * NS, 1, fact) for s, fact in told), *((c.t1_ns, 0, c) for c in chunks(ACC, x, 0.1))]
    ear, newest_ns = FastDetectors(LaneSettings(MILL)), 0
    for _, _, message in sorted(feed, key=lambda entry: entry[:2]):
        for one in ear.listen(message):  # type: ignore[arg-type]
            newest_ns = max(newest_ns, one.t_end_ns if isinstance(one, Score) else 0)
    assert newest_ns > T0 + 39 * NS
