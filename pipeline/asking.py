"""Asking a running engine for a decision, and waiting until it is durable: through its state file, or through Kafka."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from config.schema import Settings
from pipeline.app import STATE_FILE
from pipeline.claim import claimed
from pipeline.errors import StateError
from pipeline.state import Store

ANSWER_S = 15.0
POLL_S = 0.02
GRACE_S = 5.0
"""So long an engine may be missing: one that is just being started reads its packages before it holds its state."""

Engine: TypeAlias = Literal["embedded", "kafka"]


def state_of(settings: Settings) -> Path:
    """The state file of the engine that runs, or has run, with a configuration.

    Raises:
        StateError: none has.
    """
    path = settings.engine.state_dir / STATE_FILE
    if not path.is_file():
        raise StateError(f"{path}: no such file: start `stethos run` with this configuration first")
    return path


def ask(
    settings: Settings, machine: str, kind: str, body: Mapping[str, Any], engine: Engine, wait_s: float = ANSWER_S
) -> str:  # fmt: skip
    """Returns the decision's id once it is durable and in force.

    Args:
        settings: that the engine runs on.
        machine: whose lane shall decide.
        kind: of the decision.
        body: of the command.
        engine: which one runs.
        wait_s: how long to wait for an answer.

    Raises:
        StateError: nobody answered, which is known after `GRACE_S` where no engine runs; or the engine refused.
        BrokerError: no broker answers.
    """
    if engine == "kafka":
        from pipeline.kafka.wishes import wish  # its client is an extra

        return wish(settings, machine, kind, dict(body), wait_s)
    path = state_of(settings)
    store = Store(path)
    try:
        return _answer(store, path, store.ask(machine, kind, body), machine, wait_s)
    finally:
        store.close()


def _answer(store: Store, path: Path, number: int, machine: str, wait_s: float) -> str:
    began, why = time.monotonic(), f"no engine answered within {wait_s:g} s"
    while (waited_s := time.monotonic() - began) < wait_s:
        runs = claimed(path)  # before the answer is looked for: an engine may answer and end
        decision, error = store.command_state(number)
        if error is not None:
            raise StateError(f"{machine}: the engine refused: {error}")
        if decision is not None:
            return decision
        if not runs and waited_s >= GRACE_S:
            why = f"no engine runs on {path}"
            break
        time.sleep(POLL_S)
    raise StateError(
        f"{machine}: {why}; the command stays open for the next start of `stethos run` within a day (an engine on Kafka"
        " is asked with --engine kafka)"
    )
