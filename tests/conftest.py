"""Which tests run one by one: those that start servers, kill processes or live in real time."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALONE = {"kafka", "servers", "faults"}


@cache
def needs_the_machine(path: Path) -> bool:
    """Whether this file's tests would be disturbed by others beside them, or disturb those."""
    return path.relative_to(HERE).parts[0] in ALONE or "tests.servers" in path.read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, so that `scripts/test.py` runs the others two at a time."""
    for item in items:
        if needs_the_machine(item.path):
            item.add_marker(pytest.mark.alone)
