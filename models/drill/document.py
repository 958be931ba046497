"""The figures of the drill experiment in a document: marked parts are replaced, all other text stays."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from models.drill.report import Rows, sentences, tables
from models.drill.summary import Summary
from pipeline.errors import BadInput


def markdown(rows: Rows) -> str:
    """A table, first row the heading."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def refresh(document: Path, summary: Summary, figures: Sequence[Path]) -> list[Path]:
    """Bring the parts between ``<!-- drill NAME -->`` and ``<!-- /drill NAME -->`` up to date.

    NAME is a table (`tables`) or ``said`` for the sentences of the claim rule. Figures that the document shows are
    copied to where it shows them.

    Args:
        document: Markdown.
        summary: what was measured.
        figures: PNG files.

    Returns:
        What was written.

    Raises:
        BadInput: the document has no such part.
    """
    text = document.read_text(encoding="utf-8")
    parts = {name: markdown(rows) for name, rows in tables(summary).items()}
    parts["said"] = "".join(f"* {line}\n" for line in sentences(summary))
    known = [name for name in parts if f"<!-- drill {name} -->" in text]
    if not known:
        raise BadInput("no_part", f"{document} has no part such as <!-- drill said --> … <!-- /drill said -->")
    for name in known:
        pattern = rf"(<!-- drill {name} -->\n).*?(<!-- /drill {name} -->)"
        text = re.sub(pattern, lambda m, part=parts[name]: f"{m[1]}{part}{m[2]}", text, flags=re.DOTALL)  # type: ignore[misc]
    document.write_text(text, encoding="utf-8")
    made = [document]
    for figure in figures:
        shown = re.search(rf"\]\(([^)]*{re.escape(figure.name)})\)", text)
        if shown:
            made.append(document.parent / shown[1])
            made[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(figure, made[-1])
    return made
