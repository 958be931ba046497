"""`stethos run --engine kafka`: its roles."""

from __future__ import annotations

from pathlib import Path

import config as configuration
from pipeline import app
from pipeline.kafka.process import run_worker


def run_kafka(config_file: Path, role: str, name: str | None, for_s: float | None) -> int:
    """One process of the engine in the given role."""
    plan = app.plan(configuration.load(config_file))
    assert role == "worker"
    return run_worker(plan, name, for_s)
