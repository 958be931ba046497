"""What the measurements of latency print: one line of JSON each."""

from __future__ import annotations

import json

import numpy as np

NS = 1e9


def table(latencies: list[float], **row: object) -> None:
    """Print one line: p50 and p99 of latencies in s; null where there are none."""
    p50, p99 = (np.percentile(latencies, [50, 99]) * 1000.0).round(2).tolist() if latencies else (None, None)
    print(json.dumps({**row, "n": len(latencies), "p50_ms": p50, "p99_ms": p99}), flush=True)
