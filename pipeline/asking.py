"""Asking a running engine for a decision, and waiting until it is durable: through its state file, or through Kafka."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from config.schema import Settings
from pipeline.app import STATE_FILE
from pipeline.errors import StateError
from pipeline.state import Store

ANSWER_S = 15.0
POLL_S = 0.02

Engine: TypeAlias = Literal["embedded", "kafka"]


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
        StateError: nobody answered, or the engine refused.
        BrokerError: no broker answers.
    """
    if engine == "kafka":
        from pipeline.kafka.wishes import wish  # its client is an extra

        return wish(settings, machine, kind, dict(body), wait_s)
    path = settings.engine.state_dir / STATE_FILE
    if not path.is_file():
        raise StateError(f"{path}: no such file: start `stethos run` with this configuration first")
    store = Store(path)
    try:
        return _answer(store, store.ask(machine, kind, body), machine, wait_s)
    finally:
        store.close()


def _answer(store: Store, number: int, machine: str, wait_s: float) -> str:
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        decision, error = store.command_state(number)
        if error is not None:
            raise StateError(f"{machine}: the engine refused: {error}")
        if decision is not None:
            return decision
        time.sleep(POLL_S)
    raise StateError(
        f"{machine}: no engine answered within {wait_s:g} s; the command stays open for the next start of `stethos run`"
        " within a day (an engine on Kafka is asked with --engine kafka)"
    )
