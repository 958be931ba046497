"""All tests, the slow ones too, file by file; a second call goes on where the first one stopped.

python scripts/test_full.py [pytest arguments]     (`--afresh` forgets what passed)

A file that has passed is left out for as long as nothing has changed that it may depend on, asked with the same
arguments: code, tests, locks and configuration for all of them, documents for those that speak of documents.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DONE = ROOT / "var" / "test-full.json"
MADE = {"var", "build", "dist", "__pycache__"}
READS_DOCUMENTS = re.compile(r"docs|\.md\b")
NOTHING_COLLECTED = 5  # pytest's exit code: a file without a test that was asked for
INTERRUPTED = 130

Passed = dict[str, dict[str, float]]
"""File and arguments → fingerprint → seconds that it took."""


def fingerprints() -> tuple[str, str]:
    """Of all that a test's outcome may depend on: without documents, and with them."""
    code, documents = hashlib.sha256(), hashlib.sha256()
    for path in sorted(ROOT.rglob("*")):
        name = path.relative_to(ROOT)
        if any(part in MADE or part.startswith(".") or part.endswith(".egg-info") for part in name.parts):
            continue
        if path.is_file():
            digest = documents if name.parts[0] == "docs" or name.suffix == ".md" else code
            digest.update(name.as_posix().encode())
            digest.update(path.read_bytes())
    return code.hexdigest(), code.hexdigest() + documents.hexdigest()


def remembered() -> Passed:
    """What passed before; nothing where that was never written, or by an earlier form of this script."""
    try:
        known = json.loads(DONE.read_text(encoding="utf-8"))["passed"]
        return {name: dict(entry) for name, entry in known.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember(passed: Passed) -> None:
    """Whole or not at all: a call may be killed at any moment."""
    DONE.parent.mkdir(exist_ok=True)
    part = DONE.with_suffix(".part")
    part.write_text(json.dumps({"passed": passed}, indent=1), encoding="utf-8")
    part.replace(DONE)


def run(test: Path, args: Sequence[str]) -> int:
    """Pytest's exit code."""
    with subprocess.Popen([sys.executable, "-m", "pytest", "-q", str(test), *args], cwd=ROOT) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C has told it, too: it ends the servers of its tests
            raise


def main() -> int:
    """Run what has not passed yet: 0, 1 where a file failed, 130 after Ctrl-C."""
    args = [a for a in sys.argv[1:] if a != "--afresh"]
    passed = {} if "--afresh" in sys.argv else remembered()
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    failed, took, trees = [], {}, fingerprints()
    for number, test in enumerate(tests, 1):
        file = test.relative_to(ROOT).as_posix()
        documents = READS_DOCUMENTS.search(test.read_text(encoding="utf-8")) is not None
        tree, asked = trees[documents], " ".join([file, *args])
        if tree in passed.get(asked, {}):
            took[file] = passed[asked][tree]
            continue
        print(f"[{number}/{len(tests)}] {file}", flush=True)
        began = time.monotonic()
        try:
            code = run(test, args)
        except KeyboardInterrupt:
            print(f"stopped in {file}; {len(took)} of {len(tests)} files have passed, the next call goes on here")
            return INTERRUPTED
        trees = fingerprints()
        if code not in {0, NOTHING_COLLECTED}:
            failed.append(file)
            continue
        took[file] = round(time.monotonic() - began, 1)
        if trees[documents] == tree:  # else it was edited meanwhile
            passed[asked] = {tree: took[file]}
            remember(passed)
    slowest = sorted(took.items(), key=lambda item: -item[1])[:10]
    print("slowest:", *(f"  {seconds:8.1f} s  {file}" for file, seconds in slowest), sep="\n")
    print(f"{len(took)} files passed, {len(failed)} failed", *failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
