"""Strokes of a head of many bits: levels, ways to the microphones, jamming chips, and what the set's manifest says."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from connectors.simulator.drill_head import Break, Head
from connectors.simulator.drilling import Damage, Hole
from connectors.simulator.head_set import BITS, RATE_HZ, simulate_head
from connectors.simulator.head_stroke import Place
from pipeline.cli.simulate import SPINDLES, simulate
from pipeline.errors import BadInput

RATE, LENGTH = 24_000, 36_000
HOLE = Hole(0.1, 0.15, 1.3, 1.4)
STEADY = slice(RATE // 4, RATE)
FRACTURE = Damage("fracture", 0.8, -20.0, 3000.0, 5e-4, 2e-3, None, 0.0)
PLACE = Place.draw(3, 0, 30, 4)


@cache
def whole(jams_per_s: float = 0.0) -> np.ndarray:
    """A good stroke."""
    head = replace(PLACE.head, bit=replace(PLACE.head.bit, jams_per_s=jams_per_s))
    return replace(PLACE, head=head).stroke(HOLE, rate_hz=RATE, length=LENGTH, seed=1)


def test_microphones_stand_off_corners_and_sides() -> None:
    """Four as ever; two off opposite corners; eight with the sides; each bit 1 to 120."""
    four, eight, two = (Head.draw(np.random.default_rng(1), 90, n).microphones_m for n in (4, 8, 2))
    assert four.shape == (4, 2) and eight.shape == (8, 2)
    assert np.all(two[0] < 0.0) and np.all(two[1] > [0.45, 0.4])
    assert eight[4][0] == pytest.approx(0.225) and eight[4][1] < 0.0


def test_a_stroke_begins_and_ends_and_has_about_unit_level() -> None:
    """At the mean microphone, directly; the enclosure rings on for a while."""
    x = whole()
    assert x.shape == (LENGTH, 4)
    assert np.all(x[: int(0.09 * RATE)] == pytest.approx(0.0, abs=1e-6))
    direct = replace(PLACE, reflected=1e-9, sensitivity=np.ones(4))
    level = direct.stroke(HOLE, rate_hz=RATE, length=LENGTH, seed=1)[STEADY].std(axis=0)
    lips = np.sqrt(1.0 + PLACE.head.bit.lips**2 / 2.0)
    assert np.sqrt(np.mean(level**2)) == pytest.approx(lips, rel=0.12)


def test_a_burst_takes_the_shortest_way_to_each_microphone() -> None:
    """Arrival and height follow r/c and 1/r of its bit; the other bits sound as before."""
    place = replace(PLACE, reflected=1e-9)
    both = [
        place.stroke(HOLE, [Break(17, d)], rate_hz=RATE, length=LENGTH, seed=1)
        for d in (FRACTURE, replace(FRACTURE, peak=0.0))
    ]
    burst = both[0] - both[1]
    assert np.abs(burst[: int(0.79 * RATE)]).max() < 1e-3 * np.abs(burst).max()
    gains, shifts = place.paths(RATE)
    first = [int(np.argmax(np.abs(burst[:, k]) > 0.2 * np.abs(burst[:, k]).max())) for k in range(4)]
    np.testing.assert_allclose(np.subtract(first, min(first)), shifts[17] - shifts[17].min(), atol=12)
    heights = np.abs(burst).max(axis=0)
    np.testing.assert_allclose(heights / heights[0], gains[17] / gains[17, 0], rtol=1e-3)


def test_a_broken_bit_lacks_its_own_share_alone() -> None:
    """The difference of two strokes is that bit's noise: nothing of the others changes."""
    silent = replace(FRACTURE, fault="broken", t_s=0.0, drop_db=-200.0, peak=0.0)
    place = replace(PLACE, reflected=1e-9)
    x, y = (place.stroke(HOLE, hurt, rate_hz=RATE, length=LENGTH, seed=1) for hurt in ([], [Break(4, silent)]))
    gains, _ = place.paths(RATE)
    lost = np.asarray(np.std((x - y)[STEADY], axis=0) / np.std(x[STEADY], axis=0))
    np.testing.assert_allclose(
        lost, gains[4] * place.levels[4] / np.sqrt(np.sum((gains.T * place.levels) ** 2, axis=1)), rtol=0.3
    )


def test_chips_jam_in_all_bits() -> None:
    """Bursts add energy: 10 a second of 0.5 to 2.5 times the level, mean of a²·3/8·2 ms each."""
    x, y = whole(), whole(10.0)
    added = np.mean((y - x)[STEADY] ** 2) / np.mean(x[STEADY] ** 2)
    expected = 10.0 * 0.002 * 0.375 * np.mean(np.linspace(0.5, 2.5, 1000) ** 2) / (1.0 + PLACE.head.bit.lips**2 / 2.0)
    assert added == pytest.approx(expected, rel=0.35)


def test_background_has_about_unit_level_and_is_the_seeds() -> None:
    """Coolant differs between microphones, the hall does not."""
    a, b = (PLACE.background(rate_hz=RATE, length=LENGTH, seed=seed) for seed in (1, 1))
    np.testing.assert_array_equal(a, b)
    assert np.all((a.std(axis=0) > 0.5) & (a.std(axis=0) < 4.0))
    assert abs(float(np.corrcoef(a[:, 0], a[:, 1]).item(1))) < 0.95


def test_a_set_says_which_bit_broke_and_when(tmp_path: Path) -> None:
    """Channels, labels in their order, the same bit from the fracture until it is changed, and the geometry."""
    steps: list[tuple[int, int]] = []
    made = simulate_head(5, 0.5, tmp_path, 10, 3, lambda done, total: steps.append((done, total)))
    with made.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert steps[-1] == (10, 10)
    assert [r["label"] for r in rows] == ["normal"] * 6 + ["drill_break"] + ["bit_missing"] * 3
    assert len({r["spindle"] for r in rows[6:]}) == 1 and 1 <= int(rows[6]["spindle"]) <= 10
    assert float(rows[6]["touch_s"]) < float(rows[6]["onset_s"]) < float(rows[6]["out_s"])
    assert all(
        r["onset_s"] == "" and (r["spindle"] == "") == (r["label"] == "normal") for r in rows if r is not rows[6]
    )
    x, rate = soundfile.read(tmp_path / rows[6]["path"], dtype="int16")
    assert rate == RATE_HZ and x.shape == (3 * RATE_HZ, 3)
    assert np.abs(x.astype(int)).max() > 200
    assert "microphones_m" in (tmp_path / "drill-head-1.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("bits", "microphones", "minutes"), [(95, 4, 1.0), (130, 4, 1.0), (90, 9, 1.0), (90, 4, 0.0)])
def test_heads_that_cannot_be_are_refused(bits: int, microphones: int, minutes: float, tmp_path: Path) -> None:
    """In words."""
    with pytest.raises(BadInput, match=r"bits|minutes"):
        simulate_head(1, minutes, tmp_path, bits, microphones)


def test_the_command_makes_heads_of_drills_alone(tmp_path: Path) -> None:
    """Other machines have one spindle."""
    told = CliRunner().invoke(simulate, ["chatter", "--spindles", "90", "--out", str(tmp_path)])
    assert told.exit_code == 2 and "only drill has a head" in told.output
    assert list(SPINDLES) == ["1", *(str(bits) for bits in range(BITS[0], BITS[1] + 1, 10))]  # as help lists them
    told = CliRunner().invoke(simulate, ["drill", "--spindles", "6", "--out", str(tmp_path)])
    assert told.exit_code == 2 and "'110', '120'" in told.output
    made = CliRunner().invoke(
        simulate, ["drill", "--spindles", "10", "--microphones", "2", "--minutes", "0.05", "--out", str(tmp_path)]
    )
    assert made.exit_code == 0 and (tmp_path / "manifest.csv").exists()
