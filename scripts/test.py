"""All tests but the slow ones: two at a time where they need only themselves, then one by one what needs the machine.

python scripts/test.py [pytest arguments]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTHING_COLLECTED = 5  # pytest's exit code
PARTS = (["-m", "not slow and not alone", "-n", "2"], ["-m", "not slow and alone"])


def main() -> int:
    """Run both parts, also where the first one fails; fail where one does, or where nothing was asked for."""
    codes = [
        subprocess.run([sys.executable, "-m", "pytest", *part, *sys.argv[1:]], cwd=ROOT, check=False).returncode
        for part in PARTS
    ]
    ran = [code for code in codes if code != NOTHING_COLLECTED]
    return next((abs(code) for code in ran if code), 0) if ran else NOTHING_COLLECTED  # a part that was killed: -9


if __name__ == "__main__":
    sys.exit(main())
