"""The inventory of what stethos stands on: every locked package and every carried recording, with its licence.

`python scripts/licences.py` writes docs/licences.md; `--check` fails if it is out of date, if a package has no licence
that we know to be compatible with Apache-2.0 (for use, not for copying), or if a recording has no credit.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "licences.md"
CREDITS = ROOT / "pipeline" / "demo" / "credits.toml"
RECORDINGS = {".flac", ".wav", ".npz", ".mcap", ".png", ".jpg"}

FAMILIES = [
    ("NVIDIA", r"nvidia"),
    ("MPL-2.0", r"mozilla|mpl"),
    ("LGPL", r"lgpl|lesser general public"),
    ("GPL", r"\bgpl|gnu general public"),
    ("Apache-2.0", r"apache"),
    ("MIT", r"\bmit\b|mit-cmu|mit license|expat"),
    ("BSD", r"bsd|0bsd"),
    ("PSF", r"psf|python software foundation"),
    ("ISC", r"\bisc\b"),
    ("Zlib", r"zlib"),
    ("Unlicense", r"unlicense|cc0|public domain"),
]
LINKED_ONLY = {
    "LGPL": "used unchanged, as a library",
    "MPL-2.0": "used unchanged, as a library",
    "NVIDIA": "proprietary; comes with torch on Linux, for `train` and the tests only, nothing that runs needs it",
}
"""Allowed though not free to copy from, and why: named here so that nobody does."""
KNOWN: dict[str, str] = {
    "decorator": "BSD", "jaraco-functools": "MIT", "mode-streaming": "BSD", "opentracing": "Apache-2.0",
    "tomlkit": "MIT", "colorama": "BSD", "tzdata": "Apache-2.0", "exceptiongroup": "MIT", "async-timeout": "Apache-2.0",
    "croniter": "MIT", "soxr": "LGPL", "mcap": "MIT", "cuda-toolkit": "NVIDIA",
}  # fmt: skip
"""Packages whose metadata say nothing that a program can read; looked up by hand, and those for other platforms."""


def locked() -> dict[str, str]:
    """Every package of the lock files with its version."""
    found: dict[str, str] = {}
    for lock in sorted((ROOT / "locks").glob("*.lock")):
        for name, version in re.findall(r"(?m)^([A-Za-z0-9_.-]+)==([^ ;\\]+)", lock.read_text()):
            found.setdefault(name, version)
    return found


def licence_of(name: str) -> str:
    """The licence family of an installed package, by its metadata."""
    try:
        about: Any = metadata(name)
    except PackageNotFoundError:
        return "NVIDIA" if name.startswith("nvidia-") else KNOWN.get(name, "")
    said = [about.get("License-Expression") or "", (about.get("License") or "")[:200]]
    said += [c for c in about.get_all("Classifier") or [] if c.startswith("License")]
    for text in said:
        for family, pattern in FAMILIES:
            if re.search(pattern, text.lower()):
                return family
    return KNOWN.get(name, "")


def main() -> int:
    """Write or check the inventory."""
    wrong: list[str] = []
    lines = ["# Licences", "", "Made by `python scripts/licences.py`; checked by `make check`.", "", "## Packages", ""]
    lines += ["| package | licence | |", "|---|---|---|"]
    for name in sorted(locked()):
        family = licence_of(name)
        if not family or family == "GPL":
            wrong.append(f"package {name}: licence '{family or 'unknown'}': look it up and enter it, or do without it")
        lines.append(f"| {name} | {family} | {LINKED_ONLY.get(family, '')} |")
    lines += ["", "## Recordings in this repository", "", "| files | licence | credit | source |", "|---|---|---|---|"]
    credited = tomllib.loads(CREDITS.read_text())["recording"] if CREDITS.is_file() else []
    lines += [f"| `{c['files']}` | {c['licence']} | {c['credit']} | {c['source']} |" for c in credited]
    carried = [p for p in (ROOT / "pipeline" / "demo" / "recordings").rglob("*") if p.suffix in RECORDINGS]
    wrong += [
        f"recording {path.relative_to(ROOT)}: no credit in {CREDITS.relative_to(ROOT)}"
        for path in carried
        if not any(path.match(c["files"]) for c in credited)
    ]
    text = "\n".join(lines) + "\n"
    if "--check" in sys.argv:
        if not OUT.is_file() or OUT.read_text() != text:
            wrong.append(f"{OUT.relative_to(ROOT)} is out of date: run `python scripts/licences.py`")
    else:
        OUT.write_text(text)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
