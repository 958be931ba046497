"""Processes that run lanes take matrix products by themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COUNT = """
from threadpoolctl import threadpool_info
found = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
assert found, "no BLAS"
print(max(found))
"""
ALONE = "import numpy, scipy.linalg; from pipeline.threads import one_thread; one_thread()\n"
SHARD = """
import pathlib, sys
from pipeline.clock import ManualClock
from pipeline.shard import Shard
from pipeline.state import Store
Shard("replay", [], Store(pathlib.Path(sys.argv[1]) / "state.sqlite"), ManualClock())
"""


@pytest.mark.parametrize("program", [ALONE, SHARD])
def test_one_thread_for_every_blas(program: str, tmp_path: Path) -> None:
    """In a process of its own: the others of the tests keep theirs. A replay is a shard, and sums as those of a run."""
    asked = {"OPENBLAS_NUM_THREADS": "4", "PATH": ""}
    code = [sys.executable, "-c", program + COUNT, str(tmp_path)]
    done = subprocess.run(code, capture_output=True, text=True, check=True, env=asked)
    assert done.stdout.strip() == "1"
