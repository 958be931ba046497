"""Where packages lie: those that ship with stethos, and those in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.packages.checks import CARD, SUMS
from pipeline.errors import StateError

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the packages that ship."""


def packages_in(root: Path) -> list[Path]:
    """Folders that look like packages: `root` itself, or those right under it, by name."""
    if (root / CARD).exists() or (root / SUMS).exists():
        return [root]
    return sorted({path.parent for name in (CARD, SUMS) for path in root.glob(f"[!.]*/{name}")})


def locate(name: str, roots: Sequence[Path] = (WEIGHTS,)) -> Path:
    """The folder of a package: a path, or the name of one under `roots`.

    Raises:
        StateError: there is neither; says what there is.
    """
    if Path(name).is_dir():
        return Path(name)
    known = {path.name: path for root in roots for path in packages_in(root)}
    if name not in known:
        there = f"or one of {', '.join(known)}" if known else "there is none under " + ", ".join(map(str, roots))
        raise StateError(f"{name}: no model package; name its folder, {there}")
    return known[name]
