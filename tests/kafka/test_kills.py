"""kill -9 of workers under load at seeded moments changes nothing in the journal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.kafka import ledger
from tests.kafka.killing import KINDS, Killer
from tests.kafka.plant import Running, plant
from tests.servers.kafka import KafkaServer

SEEDS = range(20)


def test_workers_are_killed_under_load(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Five kills, every kind at least once."""
    with Running(plant(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        kinds = Killer(running, seed=1).run(["mid-window", "alarm-pending", "after-result", "rebalance", "mid-window"])
        assert sum(kinds.values()) == 5
        running.check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_workers_are_killed_a_hundred_times(seed: int, broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Five kills of twenty times five; what passed with this very tree is in the ledger and not done again."""
    if seed in ledger.runs():
        return
    with Running(plant(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        kinds = Killer(running, seed).run([KINDS[(seed + k) % 4] for k in range(5)])
        running.check()
    ledger.keep(seed, kinds)
    print(f"seed {seed}: {dict(sum(ledger.runs().values(), Counter()))}")
