"""What the measurements of latency print: one line of JSON each."""

from __future__ import annotations

import json

import numpy as np

NS = 1e9


def table(latencies: list[float], **row: object) -> None:
    """Print one line: p50, p99 and the greatest of latencies in s; null where there are none.

    Of fewer than some hundreds p99 lies between the two greatest.
    """
    of = (np.percentile(latencies, [50, 99, 100]) * 1000.0).round(2).tolist() if latencies else [None] * 3
    named = dict(zip(("p50_ms", "p99_ms", "max_ms"), of, strict=True))
    print(json.dumps({**row, "n": len(latencies), **named}), flush=True)
