"""All tests, the slow ones too, file by file; a second call goes on where the first one stopped.

python scripts/test_full.py [pytest arguments]     (`--afresh` forgets what passed)
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
DONE = ROOT / "var" / "test-full.json"


def fingerprint() -> str:
    """Of all that a test's outcome may depend on."""
    digest = hashlib.sha256()
    for folder in ("pipeline", "operators", "connectors", "models", "config", "tests", "locks"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(ROOT).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """Run what has not passed yet with this very tree."""
    args = [a for a in sys.argv[1:] if a != "--afresh"]
    tree = fingerprint()
    known = json.loads(DONE.read_text()) if DONE.is_file() and "--afresh" not in sys.argv else {}
    passed: dict[str, float] = known.get("passed", {}) if known.get("tree") == tree else {}
    files = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("test_*.py"))
    failed = []
    for number, file in enumerate(files, 1):
        if file in passed:
            continue
        print(f"[{number}/{len(files)}] {file}", flush=True)
        began = time.monotonic()
        code = subprocess.run([sys.executable, "-m", "pytest", "-q", file, *args], cwd=ROOT, check=False).returncode
        if code in {0, 5}:  # 5: a file without a test that was asked for
            passed[file] = round(time.monotonic() - began, 1)
            DONE.parent.mkdir(exist_ok=True)
            DONE.write_text(json.dumps({"tree": tree, "passed": passed}, indent=1))
        else:
            failed.append(file)
    slowest = sorted(passed.items(), key=lambda item: -item[1])[:10]
    print("slowest:", *(f"  {seconds:8.1f} s  {file}" for file, seconds in slowest), sep="\n")
    print(f"{len(passed)} files passed, {len(failed)} failed", *failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
