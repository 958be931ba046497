"""`stethos bench`: where options may stand, and what Ctrl-C leaves running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.cli import bench
from pipeline.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        (["--quick", "--json", "x", "logmel"], ["logmel", "--quick", "--json", "x"]),
        (["logmel", "--quick", "--json", "x"], ["logmel", "--quick", "--json", "x"]),
        (["--json", "x", "logmel", "--json", "y"], ["logmel", "--json", "y"]),
        (["logmel"], ["logmel"]),
        (["--quick"], ["--quick"]),
    ],
)
def test_options_stand_before_the_name_or_behind_it(
    args: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full form in the place of a quick one takes an hour, and its figures were lost."""
    lines: list[Sequence[str]] = []

    def ran(line: Sequence[str]) -> int:
        lines.append(line)
        return 7

    monkeypatch.setattr(bench, "_run", ran)
    with pytest.raises(SystemExit) as end:
        main(["bench", *args])
    assert end.value.code == 7 and [line[1:] for line in lines] == [["-m", "benchmarks", *asked]]


@pytest.mark.parametrize(("name", "option"), [("drill", ["--quick"]), ("impact", ["--json", "x"])])
def test_experiments_do_not_take_the_options_of_measurements(
    name: str, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """They have their own, and would have run without."""
    with pytest.raises(SystemExit) as end:
        main(["bench", *option, name, "--help"])
    assert end.value.code == 2 and f"{name} has options of its own" in capsys.readouterr().err


STAND_IN = """#!{python}
import sys, time
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    try:
        time.sleep(1)  # longer than subprocess.run waits before it kills
    except KeyboardInterrupt:
        sys.exit("told twice")
    print("stopped its servers", flush=True)
    sys.exit(130)
"""
COMMAND = """
import signal, sys
from pipeline.cli import bench
from pipeline.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.executable, bench.PATIENCE_S = sys.argv[1], float(sys.argv[2])
main(["bench", "logmel"])
"""


@pytest.mark.parametrize(("everybody", "patience_s"), [(True, 30.0), (False, 0.1)])
def test_the_prompt_comes_back_behind_the_measurement(everybody: bool, patience_s: float, tmp_path: Path) -> None:
    """Ctrl-C reaches the measurement, too, which stops its servers first; where it did not, it is handed on."""
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(stand_in), str(patience_s)], cwd=ROOT, process_group=0, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, said, errors) == (130, "stopped its servers\n", "")
