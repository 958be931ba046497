"""All measurements, one after the other, each in a process of its own; figures as JSON lines.

python -m benchmarks [NAME ...] [--quick] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

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
            ["--json", "--seconds", "30", "--encoder", f"impact-{size}", "--curve"],
            ["--json", "--seconds", "3", "--encoder", f"impact-{size}", "--curve"],
        )
        for size in ("small", "base", "edge")
    },
    "simulator": ("benchmarks.simulator", [], []),
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


def main() -> int:
    """Run those asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="short forms, to see that they run")
    parser.add_argument("--json", type=Path, help="append the figures to this file")
    args = parser.parse_args()
    unknown = [n for n in args.names if n not in RUNS]
    if unknown:
        parser.error(f"no measurement {', '.join(unknown)}; there are {', '.join(RUNS)}")
    failed = 0
    for name in args.names or RUNS:
        module, full, quick = RUNS[name]
        done = subprocess.run(
            [sys.executable, "-m", module, *(quick if args.quick else full)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failed += 1
            print(f"{name}: failed\n{done.stderr}", file=sys.stderr)
            continue
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        for line in lines:
            record = {"benchmark": name, **json.loads(line)}
            print(json.dumps(record), flush=True)
            if args.json:
                with args.json.open("a") as out:
                    out.write(json.dumps(record) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
