"""How long windows wait for a fact: each wait has its own time."""

from __future__ import annotations

import pytest

from pipeline.context_timeout import ContextTimeout
from pipeline.messages import NS, Context
from pipeline.runner import Lane
from pipeline.topics import ABANDON_S
from tests.engines.scenarios import T0, chunks, normal_noise, operating_states, stream


@pytest.mark.parametrize("pause_s", [7, 15])
def test_only_what_stays_away_in_one_piece_is_given_up(pause_s: int) -> None:
    """A fact that comes now and then has not stayed away, however long all its pauses are together."""
    lane, timeout = Lane(operating_states().settings), ContextTimeout()
    acc, kinds = stream("acc", "vibration", 2000), []
    data = chunks(acc, normal_noise(acc, 30.0, 3))
    for second in range(30):
        if second % pause_s == 0:
            lane.process(Context("m", "state", T0 + second * NS, "cut"))
        for chunk in data[10 * second : 10 * second + 10]:
            lane.process(chunk)
        kinds += [decision.kind for _, decision in timeout.due([lane], T0 + second * NS)]
    assert set(kinds) == ({"abandon"} if pause_s > ABANDON_S else set())
