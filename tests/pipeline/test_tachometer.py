"""A mill with a tachometer beside its microphone: chatter is judged by the speed that it tells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import config as configuration
from pipeline import app
from pipeline.cli.main import stethos
from pipeline.clock import HostClock
from pipeline.errors import ConfigError
from pipeline.journal import line_of
from pipeline.live import Live
from pipeline.messages import NS, Record
from pipeline.state import Store
from tests.signals import own_signals

__all__ = ["own_signals"]

RATE = 16_000
START_NS = 1_700_000_000 * NS
CONFIG = """schema_version = 1
[engine]
state_dir = "STATE"
[recording]
folder = "STATE/recordings"
[evidence]
enabled = false
[status]
enabled = false
[[machine]]
name = "mill"
[machine.persistence]
clear_after_s = 2
[machine.spindle]
SPEED
teeth = 3
lowest_rpm = 6000
[[machine.sensor]]
name = "mic"
modality = "acoustic"
rate_hz = 16000
unit = "FS"
source = { type = "playback", files = ["cut.wav"], speed = FACTOR, start_ns = 1700000000000000000 }
TACHOMETER
"""
TOLD = "tachometer = { channel = 1, level = 0.3 }"
BY_PULSES, FIXED = 'rpm_context = "spindle_rpm"', "rpm = 9000"


def cut(path: Path, seconds: float = 18.0) -> None:
    """Three teeth at 9,000 rpm, in the cut from 2 s on, chatter from 5 s to 8 s; 8,000 rpm from 10 s. Pulses right."""
    t = np.arange(round(seconds * RATE)) / RATE
    speed = np.where(t < 10.0, 150.0, 8000.0 / 60.0)
    turned = np.cumsum(speed) / RATE
    x = 0.01 * np.random.default_rng(3).standard_normal(len(t))
    for k in range(1, 6):
        x += (t >= 2.0) * 0.1 / k * np.sin(2 * np.pi * 3 * k * turned + k)
    for k in (-1, 0, 1):
        x += ((t >= 5.0) & (t < 8.0)) * 0.15 * np.sin(2 * np.pi * (922.0 * t + 3 * k * turned))
    pulse = 0.7 * ((turned % 1.0) < 0.05)
    soundfile.write(path, np.stack([x, pulse], axis=1), RATE, subtype="PCM_16")


def run(folder: Path, state: str, speed: str, factor: float = 0.0, for_s: float | None = None) -> list[Record]:
    """Run it for so long or to the end; all results that the state has then."""
    told = TOLD if speed == BY_PULSES else ""
    text = CONFIG.replace("STATE", state).replace("SPEED", speed).replace("TACHOMETER", told)
    (folder / "c.toml").write_text(text.replace("FACTOR", str(factor)))
    live = Live(app.plan(configuration.load(folder / "c.toml")), HostClock())
    live.run(for_s)
    assert live.close() == []
    store = Store(folder / state / "stethos.sqlite")
    found = list(store.read(0, ["score", "alarm", "health"]))
    store.close()
    return found


def lines(records: list[Record]) -> list[bytes]:
    """As a journal has them: each once."""
    return sorted(set(map(line_of, records)))


def chatter(records: list[Record], topic: str) -> list[dict[str, Any]]:
    found = [dict(r.body, t=(r.t_ns - START_NS) / NS) for r in records if r.topic == topic]
    return [body for body in found if body["detector"] == "chatter"]


def test_chatter_is_judged_by_the_speed_that_pulses_tell(tmp_path: Path) -> None:
    """As early as by a configured speed, and after the speed has changed, too, where that one is contradicted."""
    cut(tmp_path / "cut.wav")
    told, fixed = run(tmp_path, "told", BY_PULSES), run(tmp_path, "fixed", FIXED)
    alarms, known = chatter(told, "alarm"), chatter(fixed, "alarm")
    assert [alarm["transition"] for alarm in alarms] == ["raised", "cleared"]
    assert alarms[0]["t"] == pytest.approx(known[0]["t"], abs=0.02)
    assert 5.0 < alarms[0]["t"] < 5.6
    judged = [score["t"] for score in chatter(told, "score") if score["complete"]]
    assert min(judged) < 3.5
    assert sum(14.5 < t < 18.0 for t in judged) >= 6
    assert not [score for score in chatter(fixed, "score") if score["complete"] and score["t"] > 14.5]
    assert {r.body["state"] for r in told if r.topic == "health"} == {"normal"}


def test_a_restart_and_a_replay_say_the_same(tmp_path: Path) -> None:
    """Interrupted three times, once in the middle of a quarter of a second of the tachometer's."""
    cut(tmp_path / "cut.wav", 8.0)
    whole = lines(run(tmp_path, "whole", BY_PULSES))
    for _ in range(3):
        run(tmp_path, "parts", BY_PULSES, 4.0, 0.55)
    assert lines(run(tmp_path, "parts", BY_PULSES, 4.0)) == whole
    recordings = sorted(str(path) for path in (tmp_path / "whole" / "recordings").glob("*.mcap"))
    done = CliRunner().invoke(stethos, ["replay", *recordings, "--journal", str(tmp_path / "j.jsonl")])
    assert done.exit_code == 0, done.output
    again = {line for line in (tmp_path / "j.jsonl").read_bytes().splitlines()[1:] if b'"topic":"alarm"' in line}
    assert again == {line for line in whole if b'"topic":"alarm"' in line}


MACHINE = {"name": "mill", "spindle": {"rpm_context": "spindle_rpm", "teeth": 3}}
SENSOR = {"name": "mic", "modality": "acoustic", "rate_hz": 16_000, "unit": "FS"}
PLAYED = {"type": "playback", "files": ["cut.wav"]}


@pytest.mark.parametrize(
    ("sensor", "machine", "complaint"),
    [
        ({"tachometer": {"channel": 1}}, {}, "either level"),
        ({"tachometer": {"channel": 1, "level": 0.3, "rpm_per_unit": 1.0}}, {}, "either level"),
        ({"tachometer": {"channel": 1, "level": 0.0}}, {}, "must not be 0"),
        ({"tachometer": {"channel": 1, "level": math.nan}}, {}, "finite"),
        ({"tachometer": {"channel": 1, "rpm_per_unit": 600, "edge": "falling"}}, {}, "are those of pulses"),
        ({"tachometer": {"channel": 1, "level": 0.3}, "source": None}, {}, "a channel of its source"),
        ({"tachometer": {"channel": 1, "level": 0.3}}, {"spindle": {"rpm": 9000, "teeth": 3}}, "rpm_context"),
        ({"tachometer": {"channel": 1, "level": 0.3, "context": "rpm"}}, {}, "rpm_context = 'rpm'"),
    ],
)
def test_senseless_tachometers_are_refused(sensor: dict[str, Any], machine: dict[str, Any], complaint: str) -> None:
    whole = {**MACHINE, **machine, "sensor": [{**SENSOR, "source": PLAYED, **sensor}]}
    with pytest.raises(ConfigError, match=complaint):
        configuration.build({"schema_version": 1, "machine": [whole]}, Path("c.toml"))


def test_config_check_looks_at_the_channel(tmp_path: Path) -> None:
    """A file of one channel is refused before anything runs."""
    soundfile.write(tmp_path / "cut.wav", np.zeros(16_000), RATE)
    text = CONFIG.replace("STATE", "state").replace("SPEED", BY_PULSES).replace("TACHOMETER", TOLD)
    (tmp_path / "c.toml").write_text(text.replace("FACTOR", "0"))
    done = CliRunner().invoke(stethos, ["config", "check", str(tmp_path / "c.toml")])
    assert done.exit_code != 0
    assert "has 1 channels" in str(done.exception)
    cut(tmp_path / "cut.wav", 1.0)
    done = CliRunner().invoke(stethos, ["config", "check", str(tmp_path / "c.toml")])
    assert done.exit_code == 0, done.output
