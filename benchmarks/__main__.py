"""All measurements, one after the other, each in a process of its own; figures as JSON lines.

python -m benchmarks [NAME ...] [--quick] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance

RUNS: dict[str, tuple[str, list[str], list[str]]] = {
    "logmel": ("benchmarks.logmel", ["--json"], ["--json"]),
    "encoder": ("benchmarks.encoder", ["--json"], ["--json", "--quick", "edge"]),
    "stages": ("benchmarks.stages", ["--json"], ["--json"]),
    "replay": ("benchmarks.replay", ["--json", "--seconds", "120"], ["--json", "--seconds", "20"]),
    "microphones": (
        "benchmarks.microphones",
        ["--json", "--seconds", "600"],
        ["--json", "--seconds", "20", "--sensors", "100"],
    ),
    **{
        f"microphones-{size}": (
            "benchmarks.microphones",
            ["--json", "--seconds", "60", "--encoder", f"impact-{size}", "--every", every],
            ["--json", "--seconds", "10", "--encoder", f"impact-{size}", "--every", every, "--sensors", "20"],
        )
        for size, every in (("small", "1"), ("base", "2"), ("edge", "0.5"))
    },
    **{
        f"curve-{size}": (
            "benchmarks.microphones",
            ["--json", "--seconds", "30", "--encoder", f"impact-{size}", "--curve", "--head-alone"],
            ["--json", "--seconds", "3", "--encoder", f"impact-{size}", "--curve", "--head-alone"],
        )
        for size in ("small", "base", "edge")
    },
    "simulator": ("benchmarks.simulator", [], []),
    "pretraining": ("benchmarks.pretraining", ["--json"], ["--json", "--steps", "1", "--batch", "2", "small"]),
    "rollback": ("benchmarks.rollback", [], ["--count", "1"]),
    "latency": ("benchmarks.latency", [], ["--seconds", "3"]),
    "latency-kafka": ("benchmarks.latency", ["--kafka"], ["--kafka", "--seconds", "12"]),
    "latency-mqtt": ("benchmarks.latency", ["--mqtt"], ["--mqtt", "--seconds", "2"]),
    **{
        f"detectors-{what}": ("benchmarks.detectors", [what, *full], [what, *quick])
        for what, full, quick in (
            ("chatter", ["--count", "20"], ["--count", "2"]),
            ("near", ["--count", "10"], ["--count", "1"]),
            ("stable", ["--minutes", "10"], ["--minutes", "0.5"]),
            ("wrong", ["--count", "10"], ["--count", "1"]),
            ("teeth", ["--count", "10"], ["--count", "1"]),
            ("drill", ["--starts", "8"], ["--starts", "1"]),
            ("bearing", ["--count", "20"], ["--count", "2"]),
            ("noise", [], []),
        )
    },
    "quiet": (
        "benchmarks.quiet",
        [],
        ["--hours", "0.1", "--minutes", "1", "--taught-minutes", "0.1", "--faults", "1", "--halls", "1"],
    ),
    "chatter-curves": ("benchmarks.chatter_curves", [], ["--count", "1", "--only", "Hopf", "--snr", "20"]),
    "drill_rules": ("benchmarks.drill_rules_run", [], ["--minutes", "2", "--starts", "1"]),
    "kafka": ("benchmarks.kafka", ["--json"], ["--json", "--sensors", "10", "--seconds", "10"]),
    "kafka-memory": (
        "benchmarks.kafka",
        ["--json", "--sensors", "50", "--memory-minutes", "10"],
        ["--json", "--sensors", "5", "--memory-minutes", "0.5"],
    ),
}
"""Name → module, arguments of the full run, arguments of the quick one."""


INTERRUPTED = 130
PATIENCE_S = 20.0


def main() -> int:
    """Run those asked for, or all: 0, 1 where one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="short forms, to see that they run")
    parser.add_argument("--json", type=Path, help="append the figures to this file, each with its provenance")
    args = parser.parse_args()
    unknown = [n for n in args.names if n not in RUNS]
    if unknown:
        parser.error(f"no measurement {', '.join(unknown)}; there are {', '.join(RUNS)}")
    if args.json is not None:
        try:
            args.json.open("a").close()
        except OSError as error:  # now, not when the figures are there
            parser.error(f"--json {args.json}: {error.strerror}")
    failed = 0
    try:
        print(json.dumps({"benchmark": "provenance", **provenance()}), flush=True)
        for name in args.names or RUNS:
            print(f"{name} …", file=sys.stderr, flush=True)
            failed += measure(name, args.quick, args.json) != 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return 1 if failed else 0


def measure(name: str, quick: bool, out: Path | None) -> int:
    """One measurement in a process of its own: its figures are told as they come; returns its exit code.

    Raises:
        KeyboardInterrupt: it was interrupted; its process, and the servers and workers that it started, have ended.
    """
    module, full, short = RUNS[name]
    line = [sys.executable, "-m", module, *(short if quick else full)]
    with (
        tempfile.TemporaryFile("w+") as log,  # workers say there that brokers start; of interest where something fails
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            for text in process.stdout:
                if text.startswith("{"):
                    _tell({"benchmark": name, **json.loads(text)}, quick, out)
            code = process.wait()
        except BaseException:
            _end(process)
            raise
        if code:
            log.seek(0)
            print(f"{log.read()}{name}: failed", file=sys.stderr, flush=True)
        return code


def _tell(record: dict[str, Any], quick: bool, out: Path | None) -> None:
    if out is not None:
        with out.open("a") as file:
            file.write(json.dumps({**record, "quick": quick, "provenance": provenance()}) + "\n")
    print(json.dumps(record), flush=True)


def _end(process: subprocess.Popen[str]) -> None:
    """Let it stop its servers and workers. Ctrl-C has told it already: a second one would cut that short."""
    for _ in range(2):
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=PATIENCE_S)
            return
        process.send_signal(signal.SIGINT)  # nobody had told it: only this process was interrupted
    process.kill()


if __name__ == "__main__":
    sys.exit(main())
