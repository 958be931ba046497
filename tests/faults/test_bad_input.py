"""Messages that are wrong in every way: each has an outcome and a counter, and the machine beside does not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipeline.clock import HostClock
from pipeline.messages import NS, Anchor, Chunk, Image, Input, Mark, Rate, Stream
from pipeline.shard import Shard
from pipeline.shard_process import ShardProcess
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of, chunks
from tests.faults.rig import ACC, SECONDS, WITNESS, good, lane, plant, scrape, signal, undisturbed, unnoticed

X = signal(ACC)
STEP = 200


class Case(NamedTuple):
    """What comes in, and what must come of it."""

    messages: Callable[[], Iterable[Input]]
    dead: str = ""
    """Reason of the dead letters."""
    late: str = ""
    """Reason of the samples that are not used."""
    health: tuple[str, str] = ("", "")
    """NE 107 state and one reason for it that the sensor gets at some time."""
    scored: bool = True
    """Whether the sensor goes on being judged."""


def as_stream(**changes: object) -> Iterable[Input]:
    """The signal, but its stream says something else."""
    other = replace(ACC, **changes)  # type: ignore[arg-type]
    made: list[Any] = chunks(ACC, X)
    return [replace(m, stream=other) for m in made]


def altered(k: int, change: Callable[[Chunk], Input]) -> Iterable[Input]:
    """The signal, with chunk `k` changed."""
    made = list(chunks(ACC, X))
    made[k] = change(made[k])  # type: ignore[arg-type]
    return made


def replaced(samples: Callable[[np.ndarray], np.ndarray], lo: int = 20, hi: int = 21) -> Iterable[Input]:
    """The signal, with the samples of chunks [lo, hi) changed."""
    x = X.copy()
    x[lo * STEP : hi * STEP] = samples(x[lo * STEP : hi * STEP])
    return chunks(ACC, x)


def without(*gone: int) -> Iterable[Input]:
    """The signal, with chunks missing."""
    return [m for k, m in enumerate(chunks(ACC, X)) if k not in gone]


def doubled() -> Iterable[Input]:
    """Every chunk twice."""
    return [m for m in chunks(ACC, X) for _ in range(2)]


def swapped() -> Iterable[Input]:
    """Two chunks in the wrong order: the first one is a gap by then, and late."""
    made = list(chunks(ACC, X))
    made[20], made[21] = made[21], made[20]
    return made


def behind_its_mark() -> Iterable[Input]:
    """Given up by a mark, and there after all."""
    made = list(chunks(ACC, X))
    mark = Mark(ACC, Anchor(0, T0), 20 * STEP, 30 * STEP, "silent")
    return [*made[:20], mark, *made[20:]]


def moved(k: int, ns: int) -> Iterable[Input]:
    """From chunk `k` on another anchor: the clock was stepped."""
    made: list[Any] = list(chunks(ACC, X))
    return [*made[:k], *(replace(m, anchor=Anchor(0, T0 + ns)) for m in made[k:])]


def clipped() -> Iterable[Input]:
    """An integer sensor whose input is far too loud."""
    s = replace(ACC, dtype="<i2", scale=0.001)
    x = np.clip(np.round(X / 0.001 * 1e4), -32768, 32767).astype("<i2")
    return chunks(s, x)


HUGE = np.zeros((300_000, 1), "<f4")
CASES = {
    "wrong_rate": Case(lambda: as_stream(rate=Rate(4000)), dead="wrong_rate", scored=False),
    "no_rate": Case(lambda: as_stream(rate=Rate(2000, 0)), dead="rate", scored=False),
    "wrong_unit": Case(lambda: as_stream(unit="g"), dead="wrong_unit", scored=False),
    "wrong_modality": Case(lambda: as_stream(modality="acoustic"), dead="wrong_modality", scored=False),
    "wrong_channels": Case(lambda: as_stream(channels=3), dead="wrong_channels", scored=False),
    "unknown_sensor": Case(lambda: as_stream(sensor="ghost"), dead="unknown_sensor", scored=False),
    "unknown_dtype": Case(lambda: chunks(replace(ACC, dtype="<f8"), X.astype("<f8")), dead="dtype", scored=False),
    "no_scale": Case(lambda: as_stream(scale=0.0), dead="scale", scored=False),
    "wrong_dtype": Case(lambda: altered(20, lambda m: replace(m, samples=m.samples.astype("<f8"))), dead="wrong_shape"),
    "wrong_shape": Case(lambda: altered(20, lambda m: replace(m, samples=m.samples.reshape(-1, 2))), "wrong_shape"),
    "flat_shape": Case(lambda: altered(20, lambda m: replace(m, samples=m.samples.ravel())), dead="wrong_shape"),
    "too_large": Case(lambda: altered(20, lambda m: replace(m, samples=HUGE)), dead="too_large"),
    "image": Case(
        lambda: altered(20, lambda m: Image(ACC, m.anchor, m.n0, m.seq, b"\xff\xd8")),
        dead="modality",
    ),
    "stream_changed": Case(
        lambda: altered(20, lambda m: replace(m, stream=replace(ACC, dtype="<i2"))), dead="stream_changed"
    ),
    "index_out_of_range": Case(lambda: altered(20, lambda m: replace(m, n0=2**63)), dead="range"),
    "negative_index": Case(lambda: altered(20, lambda m: replace(m, n0=-5)), dead="range"),
    "time_out_of_range": Case(lambda: altered(20, lambda m: replace(m, anchor=Anchor(0, 2**63))), dead="range"),
    "far_future": Case(lambda: altered(20, lambda m: replace(m, n0=2**43)), late="clock_jump"),
    "mark_backwards": Case(
        lambda: altered(20, lambda m: Mark(ACC, m.anchor, m.n0, m.n0 - 9, "silent")), dead="range"
    ),
    "nan": Case(
        lambda: replaced(lambda x: np.full_like(x, np.nan)), late="not_finite", health=("out_of_specification", "gap")
    ),
    "infinity": Case(
        lambda: replaced(lambda x: np.where(np.arange(len(x))[:, None] % 50, x, -np.inf).astype("<f4")),
        late="not_finite", health=("out_of_specification", "gap"),
    ),
    "always_nan": Case(
        lambda: replaced(lambda x: np.full_like(x, np.nan), 0, 80), late="not_finite",
        health=("out_of_specification", "gap"), scored=False,
    ),
    "empty": Case(lambda: altered(20, lambda m: replace(m, samples=m.samples[:0])), late="empty"),
    "duplicated": Case(doubled, late="duplicate"),
    "overlapping": Case(
        lambda: altered(20, lambda m: replace(m, n0=m.n0 - 50, samples=X[m.n0 - 50 : m.n1])), late="overlap"
    ),
    "reordered": Case(swapped, late="late", health=("out_of_specification", "gap")),
    "late": Case(behind_its_mark, late="late", health=("failure", "no_data")),
    "lost": Case(lambda: without(20, 21, 22), health=("out_of_specification", "gap")),
    "clock_back": Case(
        lambda: moved(20, -2 * NS), late="time_backwards", health=("out_of_specification", "gap"),
        scored=False,
    ),
    "clock_forth": Case(
        lambda: moved(20, 3600 * NS), late="clock_jump", health=("out_of_specification", "gap"), scored=False
    ),
    "clock_drift": Case(lambda: moved(20, 900_000)),
    "flat": Case(lambda: replaced(lambda x: np.full_like(x, 0.3), 20, 60), health=("failure", "flat")),
    "clipped": Case(clipped, health=("out_of_specification", "clipping")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_outcome_a_counter_and_nobody_else(name: str, tmp_path: Path) -> None:
    """Dead letter, unused samples or a state of the sensor; all of it on the page of metrics."""
    case = CASES[name]
    made = plant(tmp_path, lane(ACC, baseline=baseline_of(ACC)))
    made.feed(case.messages())
    page = made.metrics()

    reasons = {body["reason"] for body in made.records("dlq")}
    assert reasons == ({case.dead} if case.dead else set())
    if case.dead:
        assert page("stethos_refused_messages_total", machine="m", reason=case.dead) >= 1
        assert page("stethos_dead_letters_total", machine="m", reason=case.dead) >= 1
    unused = {body["reason"] for body in made.records("late")}
    assert unused == ({case.late} if case.late else set())
    if case.late:
        assert page("stethos_late_messages_total", machine="m", reason=case.late) >= 1
    state, reason = case.health
    if state:
        assert any(s == state and reason in why for s, why in made.health())
    elif case.scored:
        assert made.health()[-1:] == [("normal", ())]
    assert (len(made.records("score")) > 2 * (SECONDS - 5)) == case.scored
    assert unnoticed(made)
    assert made.store.positions().keys() >= {("witness", "acc")}


def build(path: Path) -> Shard:
    """The same two lanes, in the process that runs them."""
    lanes = [lane(ACC, baseline=baseline_of(ACC)), lane(WITNESS, baseline=baseline_of(WITNESS))]
    return Shard("shard-0", lanes, Store(path), HostClock())


def test_the_same_through_a_process(tmp_path: Path) -> None:
    """Of all the above, what has no form on the wire must not end the engine; a stranger is a dead letter too."""
    undisturbed()  # and the baselines, before the fork
    path = tmp_path / "state.sqlite"
    Store(path).close()
    process = ShardProcess("shard-0", partial(build, path))
    wanted = set()
    stranger = replace(ACC, machine="nobody")
    for case in ("wrong_dtype", "flat_shape", "too_large", "unknown_dtype", "index_out_of_range", "negative_index"):
        bad = list(CASES[case].messages())[20]
        process.take(bad)
        wanted.add(CASES[case].dead)
    process.take(chunks(stranger, X)[0])
    for message in good():
        process.take(message)
    # bytes that are no message at all, as a broken client of another version might send them
    process._batch += [("raw.vibration", [("ce_type", b"\xff")], b"\0\1"), ("raw.vibration", [], b"")]
    process._batch_bytes += 2
    assert process.stop() == 0
    store = Store(path)
    letters = [r.body for r in store.read(0, ("dlq",))]
    assert {b["reason"] for b in letters} >= {"wrong_shape", "too_large", "dtype", "unknown_machine", "missing"}
    page = scrape(path, store.metrics())
    assert page("stethos_engine_events_total", kind="dead") == 9
    found = [r.body for r in store.read(0, ("score", "machine_state", "alarm", "health"), 10_000)]
    assert tuple(
        str(b) for b in sorted((b for b in found if b["machine"] == "witness"), key=lambda b: str(b["id"]))
    ) == (undisturbed())


def test_a_sensor_far_beyond_its_range(tmp_path: Path) -> None:
    """Finite samples whose squares are not: no result that is not a number, and the operators go on."""
    made = plant(tmp_path, lane(ACC, baseline=baseline_of(ACC)))
    with np.errstate(all="ignore"):
        made.feed(replaced(lambda x: x * np.float32(1e37)))
    assert made.records("score")[-1]["value"] is not None
    assert unnoticed(made)


def test_dead_letters_of_one_kind_are_kept_a_hundred_times_and_counted_for_ever(tmp_path: Path) -> None:
    """A sensor that says the wrong thing all day fills no disk."""
    made = plant(tmp_path, lane(ACC))
    other = replace(ACC, unit="g")
    x = X[:20]
    made.feed(Chunk(other, Anchor(0, T0), 20 * k, k, x) for k in range(500))
    assert len(made.records("dlq")) == 100
    assert made.metrics()("stethos_refused_messages_total", machine="m", reason="wrong_unit") == 500


def test_a_baseline_of_another_sensor_is_refused_before_it_takes_hold(tmp_path: Path) -> None:
    """By command: the answer says why. In the configuration of an older run: a dead letter, and the rest goes on."""
    other: Stream = replace(ACC, rate=Rate(4000))
    made = plant(tmp_path, lane(other, baseline=baseline_of(ACC)))
    made.feed(chunks(other, signal(other)))
    assert {b["reason"] for b in made.records("dlq")} == {"stage_unfit"}
    assert made.records("feature")
    assert unnoticed(made)
    right = lane(other)
    right.artefacts[baseline_of(ACC).settings] = baseline_of(ACC)
    again = plant(tmp_path / "again", right)
    number = again.store.ask("m", "baseline", {"sensor": "acc", "baseline": baseline_of(ACC).settings, "path": "x"})
    again.feed([])
    decision, error = again.store.command_state(number)
    assert decision is None
    assert error is not None
    assert "commission this sensor anew" in error
