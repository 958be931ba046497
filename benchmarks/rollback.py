"""How long going back to older models takes on a running embedded engine: from the command to the first result.

    python -m benchmarks.rollback [--count 10]

`stethos run` in a process of its own plays the demonstration's lathe (32 kHz, every window: one each half second) to
impact-small. Each round promotes impact-edge, waits until it answers and goes back, once by the request that the
command makes (`ask`) and once by `stethos models rollback` with the start of its process. Told are the decision, which
is durable when the request returns, and the first embedding by the older package that a reader of the results' log
finds. That one contains the wait for the next window, half a second at most.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import config
from config.schema import Settings
from pipeline.app import STATE_FILE
from pipeline.asking import ask
from pipeline.state import Store

ROOT = Path(__file__).resolve().parent.parent
SOUND = ROOT / "pipeline" / "demo" / "recordings" / "lathe-play-normal.flac"
PATIENCE_S = 60.0
POLL_S = 0.002
CONFIG = """
schema_version = 1
[engine]
state_dir = "state"
[recording]
folder = "recordings"
[status]
enabled = false
[[machine]]
name = "lathe"
  [machine.model]
  encoder = "impact-small"
  every = 1
  [[machine.sensor]]
  name = "microphone"
  modality = "acoustic"
  rate_hz = 32000
  unit = "FS"
  [machine.sensor.source]
  type = "playback"
  files = ["{sound}"]
  loop = true
"""


def stethos(folder: Path, *args: str) -> list[str]:
    """A command of this tree on the configuration of a folder."""
    return [sys.executable, "-m", "pipeline.cli.main", *args, "--config", str(folder / "stethos.toml")]


@contextmanager
def engine(folder: Path) -> Iterator[None]:
    """`stethos run` on a configuration, until the measurement is over."""
    (folder / "stethos.toml").write_text(CONFIG.format(sound=SOUND), encoding="utf-8")
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(stethos(folder, "run"), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(store: Store, model: str, after: int) -> int:
    """The place in the results' log of the first embedding by a model behind a place.

    Raises:
        TimeoutError: none came.
    """
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for record in store.read(after, ("embedding",)):
            if record.body["model"].startswith(model):
                return record.seq
        time.sleep(POLL_S)
    raise TimeoutError(f"no embedding by {model} within {PATIENCE_S:g} s")


def measure(folder: Path, settings: Settings, store: Store, count: int) -> list[dict[str, Any]]:
    """Seconds to the decision and to the first result, by the way of asking; median and most of the rounds."""

    def request() -> None:
        ask(settings, "lathe", "model", {"action": "rollback", "packages": []}, "embedded")

    def command() -> None:
        subprocess.run(stethos(folder, "models", "rollback"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    ways: dict[str, Callable[[], None]] = {"request": request, "command with its start": command}
    figures = []
    place = wait_for(store, "impact-small", 0)
    for name, go_back in ways.items():
        decided, answered = [], []
        for k in range(count):
            subprocess.run(
                stethos(folder, "models", "promote", "impact-edge"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
            place = wait_for(store, "impact-edge", place)
            time.sleep(0.5 * k / count)  # at every phase of the windows
            place = store.last_seq()
            began = time.monotonic()
            go_back()
            decided.append(time.monotonic() - began)
            place = wait_for(store, "impact-small", place)
            answered.append(time.monotonic() - began)
        figures.append(
            {
                "by": name,
                "rounds": count,
                "decision_s": {"p50": round(median(decided), 3), "max": round(max(decided), 3)},
                "first_result_s": {"p50": round(median(answered), 3), "max": round(max(answered), 3)},
            }
        )
    return figures


def main() -> int:
    """Print one line of JSON for each way of asking."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10, help="rounds of each way")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as name, engine(Path(name)):
        settings = config.load(Path(name) / "stethos.toml")
        until = time.monotonic() + PATIENCE_S
        while not (settings.engine.state_dir / STATE_FILE).is_file():
            if time.monotonic() > until:
                print((Path(name) / "log.txt").read_text(encoding="utf-8"), file=sys.stderr)
                return 1
            time.sleep(0.1)
        store = Store(settings.engine.state_dir / STATE_FILE)
        try:
            for figures in measure(Path(name), settings, store, args.count):
                print(json.dumps(figures), flush=True)
        finally:
            store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
