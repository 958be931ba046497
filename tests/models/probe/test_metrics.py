"""Figures against scikit-learn and the published tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from models.probe.metrics import confusion, difference, f1, interval, machine_f1, units
from models.probe.published import agreement, largest_deviation, machine_means, models, published
from models.probe.tasks import CHATTER_PAIRS, MACHINES, TASKS
from tests.models.probe.rig import clips


def answers(n: int = 300, classes: int = 4, right: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and answers, some of them wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=n)
    return truth, np.where(rng.uniform(size=n) < right, truth, rng.integers(classes, size=n))


def test_f1_is_that_of_scikit_learn() -> None:
    """Per class and their mean, from confusions of many units."""
    truth, answer = answers()
    table = confusion(truth, answer, np.arange(300) % 7, 7, 4)
    assert np.allclose(f1(table.sum(axis=0)), f1_score(truth, answer, average=None))
    assert machine_f1(table.sum(axis=0)) == pytest.approx(f1_score(truth, answer, average="macro"))


def test_table_3_follows_from_table_4() -> None:
    """Unweighted class means, for all 32 cells."""
    assert len(models()) == 8
    assert largest_deviation() < 1e-4
    assert machine_means("IMPACT")["Yornew"] == pytest.approx(0.8915, abs=1e-4)
    assert all(len(published()[row]) == 8 for row in (*MACHINES, *(t.name for t in TASKS)))


def test_opensmile_was_the_majority() -> None:
    """309 of 420 give 2p/(1 + p) = 0.8477 and 0, exactly what is printed for T1 and T2."""
    truth = np.array([0] * 309 + [1] * 111)
    table = confusion(truth, np.zeros(420, int), np.zeros(420, int), 1, 2)[0]
    assert f1(table).tolist() == pytest.approx([0.8477, 0.0], abs=5e-5)
    assert f1(table)[0] == pytest.approx(2 * 309 / (420 + 309))
    printed = [published()[t]["OpenSMILE"].mean for t in ("T1", "T2")]
    assert printed == pytest.approx(f1(table).tolist(), abs=5e-5)


def test_impact_is_best_or_tied_on_24_of_30() -> None:
    """As the tables print it."""
    rows = [published()[t.name] for t in TASKS]
    assert sum(row["IMPACT"].mean >= max(s.mean for s in row.values()) for row in rows) == 24


@pytest.mark.parametrize(
    ("machine", "f1", "how"),
    [
        ("VF2", 0.9618 + 2 * 0.0073, "within"), ("VF2", 0.9618 - 2.1 * 0.0073, "below"), ("VF2", 0.98, "above"),
        ("RenishawL", 1.0, "within"), ("RenishawL", 0.9999, "below"), ("Yornew", 0.8915 - 0.06, "within"),
    ],
)  # fmt: skip
def test_agreement_with_what_is_printed(machine: str, f1: float, how: str) -> None:
    """Two published standard deviations about Table 3; the best of the own encoders counts."""
    text = agreement(machine, {"one": f1 - 0.3, "best": f1})
    assert text is not None and text.startswith(f"best {f1:.4f}: {how} two published")
    assert agreement("lathe", {"one": 1.0}) is None and agreement(machine, {}) is None


def test_tasks_are_those_of_the_paper() -> None:
    """Thirty, with the published number of clips; the chatter pairs differ in chatter alone."""
    assert [t.name for t in TASKS] == [f"T{i}" for i in range(1, 31)]
    counts = {m: sum(t.clips for t in TASKS if t.machine == m) for m in MACHINES}
    assert counts == {"RenishawL": 524, "VF2": 1118, "Yornew": 922, "ColdSpray": 2455 + 2509}
    keys = {t.name: t.key for t in TASKS}
    assert [(keys[a][:-1] == keys[b][:-1], keys[a][-1] + keys[b][-1]) for a, b in CHATTER_PAIRS] == [(True, "ny")] * 2


def test_intervals_cover() -> None:
    """Of 60 samples of 40 groups, about 95 % of the intervals hold the population's figure."""
    covered: Any = 0
    big = machine_f1(confusion(*answers(200_000, seed=9), np.zeros(200_000, int), 1, 4)[0])
    for seed in range(60):
        truth, answer = answers(400, seed=seed)
        (found,) = interval(confusion(truth, answer, np.arange(400) // 10, 40, 4)[None], resamples=200)
        assert found.low <= found.value <= found.high
        covered += found.low <= big <= found.high
    assert covered >= 51


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    """Models that err together differ by little, and the same model by nothing."""
    truth, answer = answers(400)
    other = answer.copy()
    other[:20] = truth[:20]
    unit = np.arange(400) // 10
    a, b = (confusion(truth, x, unit, 40, 4)[None] for x in (other, answer))
    apart, (alone,) = difference(a, b), interval(b)
    assert apart.value > 0 and apart.high - apart.low < alone.high - alone.low
    same = difference(b, b)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_units_are_groups_or_stretches() -> None:
    """Five groups of each class are resampled; fewer are cut into stretches of ten seconds."""
    many = clips({f"{c}{g}": (c, 3) for c in "xy" for g in range(5)})
    few = clips({"a": ("x", 25), "b": ("y", 30)})
    assert (units(many).count, units(many).name) == (10, "groups")
    assert units(few).count == 6 and "stretches" in units(few).name
