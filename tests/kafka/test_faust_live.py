"""Plain Faust 0.15.3 on a real broker: each of its six holes loses or repeats here, and ours does not.

A release that mends one of them makes a test fail. The cases run once, in a process of their own (`plain_faust`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from tests.servers.kafka import KafkaServer


@cache
def _told(bootstrap: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.kafka.plain_faust", bootstrap, "plain."]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def told(broker: KafkaServer) -> dict[str, Any]:
    """What every case said."""
    return _told(broker.bootstrap)


def test_hole_1_an_open_message_is_committed_over(told: dict[str, Any]) -> None:
    """Offset 3 is in work, all ten count as done: after a crash it is lost."""
    assert told["hole_1"] == {"open": 3, "committed": 10}


def test_hole_2_an_exception_acknowledges(told: dict[str, Any]) -> None:
    """Offset 3 failed once, is never tried again, and counts as done."""
    assert told["hole_2"]["begun"].count(3) == 1 and 3 not in told["hole_2"]["done"]
    assert told["hole_2"]["committed"] == 10


def test_hole_3_a_rebalance_forgets_what_was_acknowledged(told: dict[str, Any]) -> None:
    """Every message comes a second time."""
    assert told["hole_3"] == {"deliveries": 20}


def test_hole_4_a_stop_waits_for_ever_for_held_messages(told: dict[str, Any]) -> None:
    """The default setting beside manual acknowledgement."""
    assert told["hole_4"] == {"stopped": False}


def test_hole_5_a_stop_acknowledges_what_is_in_work(told: dict[str, Any]) -> None:
    """Offset 1 was begun, never ended, and counts as done."""
    assert told["hole_5"] == {"begun": [0, 1], "done": [0], "committed": 2}


def test_hole_6_the_pure_iterator_acknowledges_what_it_skips(told: dict[str, Any]) -> None:
    """Offsets 2 to 9 reached no agent; only the compiled iterator leaves them alone."""
    assert told["hole_6"] == {"done": [0, 1], "committed": 10}
    assert told["hole_6_compiled"] == {"done": [0, 1], "committed": None}


def test_ours_stops_at_once_commits_nothing_by_itself_and_gets_everything_again(told: dict[str, Any]) -> None:
    """Stuck at offset 3 and told to stop (holes 1, 2, 4, 5); a commit of ours survives the end of the app (hole 3)."""
    assert told["ours"] == {"stopped": True, "again": list(range(10)), "committed": [None, 4, 4]}
