"""What could not be used is told up to a bound, then joined; nothing of it is forgotten."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pipeline.dead_letters import JOINED, MAX_DEAD_LETTERS, DeadLetters
from pipeline.messages import Anchor, Chunk, Late
from pipeline.runner import Lane
from tests.engines.scenarios import T0, chunks, machine, normal_noise, stream, with_baselines

ACC = stream("acc", "vibration", 2000)


def pieces(count: int, n0: int = 0) -> list[Late]:
    """So many of 20 samples, end to end."""
    return [Late(ACC, Anchor(0, T0), n0 + 20 * k, n0 + 20 * k + 20, "not_finite") for k in range(count)]


def test_a_dead_channel_gives_a_row_a_second_at_most() -> None:
    """All samples are told but those of the last second; every piece is counted."""
    counts: Counter[str] = Counter()
    letters = DeadLetters("m", counts)
    told = [one for piece in pieces(6000) if (one := letters.late(piece)) is not None]
    assert len(told) == MAX_DEAD_LETTERS + (6000 - MAX_DEAD_LETTERS) // JOINED
    assert [one.n0 for one in told[1:]] == [one.n1 for one in told[:-1]]
    assert told[-1].n1 == 6000 * 20
    assert counts == {"late.not_finite": 6000}


def test_pieces_that_do_not_join_and_other_reasons_are_told_by_themselves() -> None:
    """As they come; what was held back first."""
    letters = DeadLetters("m", Counter())
    for piece in pieces(MAX_DEAD_LETTERS + 5):
        letters.late(piece)
    other, apart = replace(pieces(1)[0], reason="empty"), pieces(1, n0=10**6)[0]
    assert letters.late(other) == other
    held = letters.late(apart)
    assert held is not None and (held.n0, held.n1) == (20 * MAX_DEAD_LETTERS, 20 * (MAX_DEAD_LETTERS + 5))
    assert letters.late(replace(apart, stream=replace(ACC, epoch=1))) == apart


def test_ever_new_sensor_names_are_counted_and_not_told() -> None:
    """A gateway that puts a serial number into the name; the letters of a sensor that is configured are its own."""
    lane = Lane(with_baselines(machine(ACC), ACC))
    told = []
    good = chunks(ACC, normal_noise(ACC, 2.0, 1))[0]
    assert isinstance(good, Chunk)
    for k in range(3 * MAX_DEAD_LETTERS):
        told += lane.process(replace(good, stream=replace(ACC, sensor=f"acc-{k}")))
    assert [letter.reason for letter in told] == ["unknown_sensor"] * MAX_DEAD_LETTERS
    assert lane.counts["dead.unknown_sensor"] == 3 * MAX_DEAD_LETTERS and len(lane.counts) < 10
    assert len(lane.process(replace(good, stream=replace(ACC, unit="V")))) == 1


def test_a_jump_that_is_not_told_any_longer_does_not_move_the_machines_time() -> None:
    """Decisions are dated by it, whether the hundredth jump is told or not."""
    lane = Lane(with_baselines(machine(ACC), ACC))
    good = chunks(ACC, normal_noise(ACC, 2.0, 1))
    for message in good:
        lane.process(message)
    now = lane.event_ns
    far, told = good[-1], 0
    assert isinstance(far, Chunk)
    for k in range(300):
        jump = replace(far, n0=10**11 + k * len(far.samples))
        told += sum(isinstance(result, Late) for result in lane.process(jump))
    assert lane.counts["late.clock_jump"] == 300 and told == MAX_DEAD_LETTERS + 2
    assert lane.event_ns == now
