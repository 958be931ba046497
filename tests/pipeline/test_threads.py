"""Processes that run lanes take matrix products by themselves."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import numpy, scipy.linalg
from threadpoolctl import threadpool_info
from pipeline.threads import one_thread
one_thread()
found = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
assert found, "no BLAS"
print(max(found))
"""


def test_one_thread_for_every_blas() -> None:
    """In a process of its own: the others of the tests keep theirs."""
    asked = {"OPENBLAS_NUM_THREADS": "4", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=asked)
    assert done.stdout.strip() == "1"
