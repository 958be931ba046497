"""What measures: how runs are told and interrupted, and what their figures count."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import __main__ as runner
from benchmarks import detectors, drill_rules, head, latency, microphones
from benchmarks.latency_table import table
from pipeline.shard import AGE_BUCKETS
from pipeline.stages import LaneSettings
from pipeline.state import Position, Store
from tests.engines.scenarios import machine, stream

ROOT = Path(__file__).parent.parent


# runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for modules that stand for measurements; each is also the name of its run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def standing_for(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, code: str) -> None:
    """A measurement that is so much code."""
    (folder / f"{name}.py").write_text(code)
    monkeypatch.setitem(runner.RUNS, name, (name, [], []))


def test_figures_that_came_before_a_failure_are_kept_with_their_provenance(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure takes neither what was measured before it nor what comes behind it."""
    standing_for(monkeypatch, made, "first", "print('{\"ms\": 1}', flush=True)\nraise SystemExit('no broker')")
    standing_for(monkeypatch, made, "second", "print('words')\nprint('{\"ms\": 2}')")
    out = made / "figures.jsonl"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "first", "second", "--quick", "--json", str(out)])
    assert runner.main() == 1
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["benchmark"], one["ms"], one["quick"]) for one in kept] == [("first", 1, True), ("second", 2, True)]
    for one in kept:
        told = one["provenance"]
        assert told["cores"] and told["processor"] and told["libraries"]["numpy"] == np.__version__ and told["at"]
        assert "commit" in told
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[0])["benchmark"] == "provenance"
    assert "no broker" in printed.err and "first: failed" in printed.err and "second: failed" not in printed.err


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not after an hour."""
    standing_for(monkeypatch, made, "first", f"open({str(made / 'ran')!r}, 'w')")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "first", "--json", str(made / "absent" / "figures")])
    with pytest.raises(SystemExit) as stop:
        runner.main()
    assert stop.value.code == 2 and "figures: No such file" in capsys.readouterr().err
    assert not (made / "ran").exists()


def test_a_run_that_is_interrupted_ends_by_itself(made: Path) -> None:
    """Ctrl-C reaches the measurement, too: it is left the time to stop its servers, and what it told is kept."""
    (made / "slow.py").write_text(
        "import time\n"
        "try:\n"
        "    print('{\"ms\": 1}', flush=True)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(1)  # longer than subprocess.run waits before it kills\n"
        f"    open({str(made / 'stopped')!r}, 'w')\n"
    )
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from benchmarks import __main__ as m; m.RUNS['slow'] = ('slow', [], []); sys.exit(m.main())"
    )
    line = [sys.executable, "-c", code, "slow", "--json", str(made / "out")]
    with subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        while '"ms"' not in process.stdout.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == runner.INTERRUPTED and "Traceback" not in said
    assert (made / "stopped").exists()
    assert json.loads((made / "out").read_text())["ms"] == 1


@pytest.mark.parametrize("name", list(runner.RUNS))
@pytest.mark.parametrize("form", [1, 2])
def test_measurements_are_asked_for_what_they_know(name: str, form: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run's options, full and quick, are those of its module."""

    class Understood(Exception):
        """The arguments were."""

    parse = argparse.ArgumentParser.parse_args

    def parsed(self: argparse.ArgumentParser) -> None:
        parse(self)
        raise Understood

    module, *forms = runner.RUNS[name]
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr(sys, "argv", [module, *forms[form - 1]])
    with pytest.raises(Understood):
        import_module(module).main()


# microphones -----------------------------------------------------------------------------------------------------


class Host:
    """A run of ten seconds in which every second costs one process 0.1 s, after 5 s at once in the beginning."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ages = [0] * (AGE_BUCKETS + 1)

    def memory_full_info(self) -> SimpleNamespace:
        """Always the same."""
        return SimpleNamespace(pss=10**6)

    def cpu_times(self) -> tuple[float, float, float, float]:
        """User, system, and what children took."""
        return 5.0 + 0.06 * self.now, 0.04 * self.now, 7.0, 7.0

    def metrics(self) -> dict[str, object]:
        """As shards leave them."""
        return {"shard-0": {"score_ages": self.ages, "machines": {}}}

    def positions(self) -> dict[tuple[str, str], Position]:
        """Nobody's."""
        return {}


def test_what_begins_is_not_counted_as_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the processor time before the first second, nor the ages while processes begin."""
    host, rack = Host(), microphones.Microphones(3, 0.5)
    monkeypatch.setattr(microphones, "time", SimpleNamespace(monotonic=lambda: host.now, thread_time=lambda: 0.0))
    watch = microphones.Watch(rack, host, {"parent": host}, 10.0)  # type: ignore[arg-type, dict-item]
    for second in range(13):  # it drains for two seconds more
        host.now = float(second)
        host.ages[AGE_BUCKETS if second < 2 else 9] += 1
        watch.second()
    found = watch.figures()
    assert found["cores_used"] == {"parent": 0.1} and rack.stopped
    assert (found["counted_s"], found["drained_s"], found["scores"], found["streams_behind"]) == (8.0, 2.0, 10, 3)
    assert (found["age_ms_p50"], found["age_ms_p99"], found["scores_over_2_s"]) == (50.0, 50.0, 0)


def test_an_age_beyond_all_steps_is_no_number() -> None:
    """It was printed as 2,005 ms, however old."""
    ages = np.zeros(AGE_BUCKETS + 1, np.int64)
    assert microphones.quantile_ms(ages, 0.5) is None
    ages[[0, AGE_BUCKETS]] = 98, 2
    assert microphones.quantile_ms(ages, 0.5) == 5.0 and microphones.quantile_ms(ages, 0.99) is None


# detectors -------------------------------------------------------------------------------------------------------


def test_false_stops_are_of_holes_in_which_the_detector_judges(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of those that teach it; a stop before the break is told, too."""
    faults: list[str] = []

    def holes(_seed: int, _start: int, asked: list[str], **_: object) -> Iterator[SimpleNamespace]:
        faults.extend(asked)
        return (SimpleNamespace(sound=[k], break_s=1.0 if what == "fracture" else None) for k, what in enumerate(asked))

    stops = {4: [0.3], 5: [1.4], 6: [1.1], 8: [0.2, 1.1]}  # early, false, found, and both
    monkeypatch.setattr(detectors, "holes", holes)
    monkeypatch.setattr(detectors, "between_holes", lambda *_, **__: [])
    monkeypatch.setattr(detectors.Listener, "stops", lambda _self, sound: stops.get(sound[0], []))
    detectors.drill(1, 1, 0.01, 3.0, 0.0)
    found = json.loads(capsys.readouterr().out)
    assert faults[: detectors.TAUGHT] == ["none"] * detectors.TAUGHT and faults.count("fracture") == 3
    assert (found["false_stops"]["hits"], found["false_stops"]["n"]) == (1, 3)
    assert (found["recall_within_200_ms"]["hits"], found["stops_before_break"]) == (2, 2)


def test_a_cut_that_alarms_from_its_first_score_on_is_an_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no score before it from which it could have risen."""
    score = SimpleNamespace(abnormal=True, reasons={"text": "chatter"})
    made = SimpleNamespace(sound=None, acceleration=None, rpm=6000.0, teeth=3)
    monkeypatch.setattr(detectors, "cut", lambda *_, **__: made)
    monkeypatch.setattr(detectors, "delayed_scores", lambda *_: [[score, score]])
    detectors.stable(1, 1 / 6, [0.0], 0)
    assert json.loads(capsys.readouterr().out)["false_alarms"] == {"FS": 1, "m/s2": 1}


@pytest.mark.parametrize(("asked", "seed"), [(("--seed", "0"), 0), ((), head.FINAL["quiet"])])
def test_a_seed_of_nought_is_a_seed_of_heads_too(
    monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], seed: int
) -> None:
    """The final one is taken where none is asked for."""
    found: list[int] = []
    monkeypatch.setattr(head, "quiet", lambda seed, _count: found.append(seed))
    monkeypatch.setattr(sys, "argv", ["head.py", "quiet", *asked])
    head.main()
    assert found == [seed]


def test_frames_that_were_interrupted_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file would be kept for ever, and no rule could be judged."""

    def half(file: object, **_: object) -> None:
        file.write(b"PK")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(drill_rules, "FAULTS", ["none"])
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", half)
        with pytest.raises(KeyboardInterrupt):
            drill_rules.frames(1, [0], tmp_path)
    drill_rules.frames(1, [0], tmp_path)
    with np.load(tmp_path / "1-000.npz") as held:
        assert len(held["t_ns"]) > 100


@pytest.mark.parametrize(("asked", "says"), [((), "needs --package"), (("--package", "p"), "none of seed 5")])
def test_rules_without_frames_or_package_are_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: tuple[str, ...],
    says: str,
) -> None:
    """No traceback, no division by zero."""
    line = ["drill_rules", "judge", "--seed", "5", "--frames", str(tmp_path), *asked]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as stop:
        drill_rules.main()
    assert stop.value.code == 2 and says in capsys.readouterr().err


# latency ---------------------------------------------------------------------------------------------------------


def test_the_embedded_latency_holds_what_makes_results_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results every 50 ms and a checkpoint a second, as in a plant."""
    source = stream("mic", "acoustic", 16_000, dtype="<f4")
    written: list[int] = []
    commit = Store.commit

    def counted(self: Store, records: list[object], *rest: object) -> None:
        written.append(len(records))
        commit(self, records, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "commit", counted)
    settings = LaneSettings(machine(source, drill={"taught_holes": 2}))
    deal = latency.embedded(settings, str(tmp_path))
    latency.measure(source, latency.drilling(16_000, 2.5), 0.01, 0.5, deal)
    assert len(written) >= 2 and sum(written) > 0


def test_a_table_of_few_events_tells_the_slowest(capsys: pytest.CaptureFixture[str]) -> None:
    """And nulls where there is none."""
    table([0.001, 0.003])
    table([])
    few, none = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (few["n"], few["p50_ms"], few["max_ms"]) == (2, 2.0, 3.0)
    assert none == {"n": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}
