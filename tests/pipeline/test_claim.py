"""Two engines on one state."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
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


def test_a_second_engine_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """However that one ends; the line names it."""
    state, lock = tmp_path / "state" / "stethos.sqlite", tmp_path / "state" / "stethos.sqlite.lock"
    assert not claimed(state)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(state)]) as first:
        end = time.monotonic() + 30
        while not (lock.exists() and lock.read_text().strip()) and time.monotonic() < end:
            time.sleep(0.05)
        try:
            assert claimed(state)
            with pytest.raises(StateError, match=rf"in use by another engine \(process {first.pid}\)"), claim(state):
                pass
        finally:
            first.send_signal(signal.SIGKILL)
    assert not claimed(state)
    with claim(state):
        assert lock.read_text().strip() != str(first.pid)


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    """The key is named."""
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match=r"engine\.state_dir"), claim(tmp_path / "state" / "stethos.sqlite"):
        pass
