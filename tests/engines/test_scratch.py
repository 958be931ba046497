"""Folders of packages end with the processes that made them, and those that need none make none."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.scratch import scratch

ROOT = Path(__file__).parents[2]
READS = "from tests.engines import scenarios, vibration"
KILLED = "; import os; os.kill(os.getpid(), 9)"
MAKES = "from tests.engines.scratch import scratch; (scratch('a') / 'file').touch(); (scratch('b') / 'folder').mkdir()"


@pytest.mark.parametrize(("code", "status"), [(READS + KILLED, -signal.SIGKILL), (MAKES, 0)])
def test_nothing_is_left_behind(code: str, status: int, tmp_path: Path) -> None:
    """By a shard that is killed, and by a test process that ends."""
    own = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own, check=False)
    assert done.returncode == status and list(tmp_path.iterdir()) == []


def test_a_forked_process_leaves_its_parents_folder_alone() -> None:
    """Forked shards read it, and so does the next test."""
    folder = scratch("fork")
    assert scratch("fork") == folder != scratch("other")
    (folder / "package").touch()
    shard = multiprocessing.get_context("fork").Process(target=(folder / "package").read_bytes)
    shard.start()
    shard.join()
    assert shard.exitcode == 0 and (folder / "package").exists()
