"""Slow drift: what creeps up is told as an advisory, by the standard deviations that commissioning found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.anomaly.store import save_all
from operators.cusum import DRIFT, LARGEST_Z, MINUTE_NS
from pipeline.cli.main import stethos
from pipeline.messages import NS, Record, Score, Span
from pipeline.stages_drift import UNKNOWN, Drift
from pipeline.stages_physics import unasked
from tests.engines.drifting import ACC, counts, minutes_of, settings_of
from tests.engines.hostile import run_straight
from tests.engines.scenarios import T0, chunks, machine


def run(drift: bool = True, seconds: float = 300.0) -> list[Record]:
    """The louder machine, by a baseline of three starts of so many seconds."""
    return run_straight(settings_of(minutes_of(seconds), drift), {"acc": chunks(ACC, counts(), every_s=1.0)})


def drifts(records: list[Record]) -> list[Record]:
    """Scores of drift."""
    return [r for r in records if r.topic == "score" and r.body["detector"].endswith(DRIFT)]


def test_a_machine_that_gets_louder_raises_an_advisory_and_no_other_alarm() -> None:
    """The sum is that of the minute means of its own scores, by the textbook's recursion."""
    records = run()
    alarms = [r.body for r in records if r.topic == "alarm"]
    assert [(a["detector"], a["transition"], a["severity"]) for a in alarms] == [("level_drift", "raised", "advisory")]
    cell, minutes, s = minutes_of().cells[0]["level"], dict[int, list[float]](), 0.0
    for r in records:
        if r.topic == "score" and r.body["detector"] == "level" and r.body["complete"]:
            minutes.setdefault(-(-r.t_ns // MINUTE_NS), []).append(r.body["value"])
    found = {r.t_ns // MINUTE_NS: r.body["value"] for r in drifts(records)}
    assert len(found) >= 10
    for minute, values in list(minutes.items())[:-1]:
        z = (float(np.mean(values)) - cell.minute_mean) / cell.minute_std
        s = min(max(0.0, s + min(z, LARGEST_Z) - 0.5), 16.0)
        if len(values) >= 10:
            assert found[minute] == pytest.approx(s, abs=1e-9)
    assert all(r.body["threshold"] == 8.0 for r in drifts(records))


def test_nobody_who_did_not_ask_gets_it() -> None:
    """And alarms of it do not stand for ever once it is no longer asked for."""
    assert not drifts(run(drift=False))
    assert {"level_drift", "anomaly_drift"} <= set(unasked(machine(ACC)))
    assert not {"level_drift", "anomaly_drift"} & set(unasked(machine(ACC, drift=True)))


def test_a_baseline_of_a_few_seconds_tells_no_drift_and_says_so() -> None:
    """Its minutes are not known: neither an alarm nor silence."""
    told = drifts(run(seconds=40.0))
    assert len(told) >= 10
    assert not any(r.body["complete"] for r in told)
    assert {r.body["reasons"]["text"] for r in told} == {UNKNOWN}


def test_each_state_is_measured_by_its_own_minutes() -> None:
    """Half of a minute idle, half of it cutting, both as normal as can be: no drift, whatever the raw values are."""
    made = minutes_of()
    cell = made.cells[0]["level"]
    cells = tuple({"level": replace(cell, minute_mean=mean, minute_std=std)} for mean, std in ((5.0, 0.5), (50.0, 4.0)))
    baseline = replace(made, states={"idle": 0, "cut": 1}, cells=cells)
    settings = settings_of(baseline)

    def feed(idle: float, cut: float) -> list[Score]:
        operator, out = Drift(settings), []
        for second in range(1, 400):
            state, value = ("idle", idle) if second // 30 % 2 else ("cut", cut)
            score = Score(
                "m", ("acc",), "level", T0 // MINUTE_NS * MINUTE_NS + second * NS, value, 99.0, baseline.settings,
                reasons={"state": state}, lineage=(Span("acc", 0, second, second + 1),),
            )  # fmt: skip
            out += list(operator.process(score))
        return [score for score in out if isinstance(score, Score)]

    assert [s.value for s in feed(5.0, 50.0)] == [0.0] * 6
    assert [s.value for s in feed(6.0, 54.0)] == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])  # 2 and 1 sigma


def test_config_check_names_what_no_baseline_can_tell(tmp_path: Path) -> None:
    """Before the first shift, not behind it."""
    save_all([minutes_of(40.0)], tmp_path / "baselines")
    file = tmp_path / "plant.toml"
    head = 'schema_version = 1\n[[machine]]\nname = "m"\ndrift = true\n'
    sensor = '[[machine.sensor]]\nname = "{}"\nmodality = "vibration"\nrate_hz = 500\nunit = "m/s2"\n'
    file.write_text(head + sensor.format("acc") + 'baseline = "baselines"\n' + sensor.format("other"))
    done = CliRunner().invoke(stethos, ["config", "check", str(file)])
    assert done.exit_code == 0, done.output
    assert f"sensor acc: {UNKNOWN}" in done.output
    assert "sensor other: drift needs a baseline" in done.output
