"""Writes the parts of the documents that follow from the code: the table of topics and the graph of stages.

python scripts/generate_docs.py [--check]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pipeline import topics, topology

ROOT = Path(__file__).parent.parent


def generated() -> dict[Path, str]:
    """Every document with its generated parts as they should be."""
    readme, architecture = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
    return {
        readme: _between(readme.read_text(), "topics", topics.markdown()),
        architecture: _between(architecture.read_text(), "graph", f"```mermaid\n{topology.mermaid()}\n```"),
    }


def _between(text: str, name: str, body: str) -> str:
    pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda m: f"{m[1]}{body}\n{m[2]}", text, flags=re.DOTALL)


def main() -> int:
    """Write, or check."""
    stale = [path for path, text in generated().items() if path.read_text() != text]
    for path in stale:
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        else:
            path.write_text(generated()[path])
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
