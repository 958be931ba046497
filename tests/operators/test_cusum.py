import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from operators.cusum import MINUTE_NS, Cusum, step
from pipeline.messages import NS, Score, Span

K, H = 0.5, 8.0


def run_length(shift: float, k: float = K, h: float = H, cells: int = 400) -> float:
    """Average run length from zero by the Markov chain of Brook and Evans (Biometrika 59, 1972)."""
    width = 2 * h / (2 * cells - 1)
    at = np.arange(cells) * width
    upper = norm.cdf(at[None, :] - at[:, None] + width / 2 + k - shift)
    lower = norm.cdf(at[None, :] - at[:, None] - width / 2 + k - shift)
    lower[:, 0] = 0.0
    return np.linalg.solve(np.eye(cells) - (upper - lower), np.ones(cells))[0]


def simulated(shift: float, runs: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    s, length, alive = np.zeros(runs), np.zeros(runs), np.ones(runs, bool)
    while alive.any():
        s[alive] = step(s[alive], rng.normal(shift, size=int(alive.sum())), K)
        length += alive
        alive &= s <= H
    return length.mean()


def test_delay_at_one_sigma() -> None:
    assert abs(simulated(1.0, 4000, 1) - 16) < 2
    assert simulated(1.0, 4000, 1) == pytest.approx(run_length(1.0), rel=0.03)
    assert simulated(2.0, 4000, 1) == pytest.approx(6, abs=1)


def test_false_alarms_on_white_noise() -> None:
    assert run_length(0.0) == pytest.approx(1.9e4, rel=0.1)
    rng, s, alarms, steps = np.random.default_rng(2), np.zeros(2000), 0, 15_000
    for _ in range(steps):  # renewal: events by exposure, starting again from zero after each alarm
        s = step(s, rng.standard_normal(2000, dtype=np.float32).astype(float), K)
        alarms += int((s > H).sum())
        s[s > H] = 0.0
    assert 2000 * steps / alarms == pytest.approx(run_length(0.0), rel=0.1)


def score(t_s: float, value: float, **more: Any) -> Score:
    return Score("m", ("s",), "anomaly", round(t_s * NS), value, 3.0, **{"settings": "a", **more})


def feed(cusum: Cusum, scores: Iterable[Score]) -> list[Any]:
    return [out for s in scores for out in cusum.process(s)]


def test_minutes_are_those_of_the_clock_and_sums_of_their_means() -> None:
    rng = np.random.default_rng(0)
    times, values = np.arange(90.5, 600, 0.5), rng.normal(1.5, 1, size=1019)
    out = feed(Cusum(mean=0.5, std=2.0), [score(t, v) for t, v in zip(times, values, strict=True)])
    s, expected = 0.0, []
    for minute in range(1, 9):
        inside = (times > 60 * minute) & (times <= 60 * minute + 60)
        s = max(0.0, s + (values[inside].mean() - 0.5) / 2.0 - K)
        expected.append((60 * (minute + 1) * NS, s))
    assert [o.t_end_ns for o in out] == [t for t, _ in expected]
    np.testing.assert_allclose([o.value for o in out], [v for _, v in expected], rtol=1e-12)
    assert {(o.detector, o.threshold, o.sensors) for o in out} == {("anomaly_drift", H, ("s",))}


def test_incomplete_repeated_and_too_few_scores_do_nothing() -> None:
    cusum = Cusum()
    assert feed(cusum, [score(1, 9.0), score(1, 9.0), score(2, 9.0, complete=False), score(61, 9.0)]) == []
    assert cusum.snapshot()["s"] == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_does_nothing_and_an_old_snapshot_of_it_begins_anew(value: float) -> None:
    values = [2.0] * 1200
    whole, hurt = Cusum(), Cusum()
    expected = feed(whole, [score(0.5 * (i + 1), v) for i, v in enumerate(values)])
    got = feed(hurt, [score(0.5 * (i + 1), value if i == 300 else v) for i, v in enumerate(values)])
    assert [(o.t_end_ns, o.value) for o in got] == [(o.t_end_ns, o.value) for o in expected]
    hurt.restore({**hurt.snapshot(), "s": None, "sum": None})
    assert hurt.snapshot()["s"] == hurt.snapshot()["sum"] == 0.0


def test_a_bang_is_no_drift_and_what_has_ended_is_forgotten_within_half_an_hour() -> None:
    out = feed(Cusum(), [score(t, 1e6 if 60 < t <= 180 else 0.0) for t in np.arange(0.5, 600, 0.5)])
    assert max(s.value for s in out) == 5.0  # two minutes at z = 3, less k each
    out = feed(Cusum(), [score(t, 100.0 if t <= 7200 else 0.0) for t in np.arange(0.5, 9600, 0.5)])
    assert max(s.value for s in out) == 2 * H
    assert [s.t_end_ns // MINUTE_NS for s in out if s.value > H][-1] == 120 + 15


def test_new_settings_start_from_zero() -> None:
    cusum = Cusum()
    feed(cusum, [score(t, 5.0) for t in np.arange(0.5, 300, 0.5)])
    assert cusum.snapshot()["s"] > 0
    feed(cusum, [score(301, 5.0, settings="b")])
    assert cusum.snapshot()["s"] == 0.0


@pytest.mark.parametrize("cut", [0, 1, 150, 700, 1199])
def test_a_restored_one_goes_on_to_the_bit_and_ignores_what_it_had(cut: int) -> None:
    values = np.random.default_rng(5).normal(0.7, 1, size=1200)
    scores = [score(0.5 * (i + 1), v) for i, v in enumerate(values)]
    whole = Cusum()
    expected = feed(whole, scores)
    first, second = Cusum(), Cusum()
    before = feed(first, scores[:cut])
    second.restore(json.loads(json.dumps(first.snapshot())))
    after = feed(second, scores[max(0, cut - 5) :])
    assert [(o.id, o.value) for o in before + after] == [(o.id, o.value) for o in expected]
    assert second.snapshot() == whole.snapshot()


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="positive"):
        Cusum(std=0.0)
    with pytest.raises(TypeError, match="Score"):
        list(Cusum().process("x"))  # type: ignore[arg-type]
    assert MINUTE_NS == 60 * NS


def test_a_minute_names_its_samples_across_a_restart_of_the_sensor_and_of_the_program() -> None:
    def spanned(k: int) -> Score:
        stream, n = (0, k) if k < 100 else (1, k - 100)  # a new stream, its clock set back by 170 seconds
        return score(600 + k - (0 if k < 100 else 170), 0.0, lineage=(Span("s", stream, n * 8, n * 8 + 16),))

    whole = feed(Cusum(at_least=1), [spanned(k) for k in range(300)])
    assert [out.lineage for out in whole][:2] == [(Span("s", 0, 0, 16),), (Span("s", 0, 8, 61 * 8 + 8),)]
    assert {span.epoch for out in whole[2:] for span in out.lineage} == {1}
    assert whole[2].t_end_ns < whole[1].t_end_ns
    first, out = Cusum(at_least=1), list[Any]()
    for k in range(300):  # restored behind every score
        out += first.process(spanned(k))
        second = Cusum(at_least=1)
        second.restore(json.loads(json.dumps(first.snapshot())))
        first = second
    assert [(o.t_end_ns, o.lineage) for o in out] == [(o.t_end_ns, o.lineage) for o in whole]
