"""Two engines on one state."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.claim import claim, claimed
from pipeline.errors import StateError

HOLD = """
import pathlib, sys, time
from pipeline.claim import claim
with claim(pathlib.Path(sys.argv[1])):
    time.sleep(60)
"""


@contextmanager
def holding(path: Path) -> Iterator[int]:
    """Another process that holds a state or folder, until it is killed; gives its number."""
    lock = path.with_name(path.name + ".lock")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)]) as first:
        end = time.monotonic() + 30
        while not (lock.exists() and lock.read_text().strip()) and time.monotonic() < end:
            time.sleep(0.05)
        try:
            yield first.pid
        finally:
            first.send_signal(signal.SIGKILL)


def test_a_second_engine_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """However that one ends; the line names it."""
    state, lock = tmp_path / "state" / "stethos.sqlite", tmp_path / "state" / "stethos.sqlite.lock"
    assert not claimed(state)
    with holding(state) as first:
        assert claimed(state)
        with pytest.raises(StateError, match=rf"in use by another engine \(process {first}\)"), claim(state):
            pass
    assert not claimed(state)
    with claim(state):
        assert claimed(state) and told_by_another(state) == "True", "to ask does not let go"
        assert lock.read_text().strip() != str(first)  # which does let go
    assert not claimed(state)


def told_by_another(state: Path) -> str:
    """Whether the state is held, as another process sees it."""
    code = "import pathlib, sys; from pipeline.claim import claimed; print(claimed(pathlib.Path(sys.argv[1])))"
    return subprocess.check_output([sys.executable, "-c", code, str(state)], text=True).strip()


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    """The key is named."""
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match=r"engine\.state_dir"), claim(tmp_path / "state" / "stethos.sqlite"):
        pass
