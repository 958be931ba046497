"""A context that falls silent is given up by decision, and taken back, also across a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import codec
from pipeline.clock import ManualClock
from pipeline.context_timeout import ContextTimeout
from pipeline.contexts import Contexts, outdated, read_by
from pipeline.errors import DecodeError
from pipeline.messages import NS, Chunk, Context, Decision, Result, Score
from pipeline.results import record_of
from pipeline.runner import Lane
from pipeline.shard import Shard
from pipeline.state import Store
from tests.engines.scenarios import T0, chunks, normal_noise, operating_states, stream


def test_given_up_after_ten_seconds_and_taken_back_after_a_restart(tmp_path: Path) -> None:
    """Windows that waited are judged as unknown; later ones know the state again."""
    settings = operating_states().settings
    acc = stream("acc", "vibration", 2000)
    data = [m for m in chunks(acc, normal_noise(acc, 60.0, 3)) if isinstance(m, Chunk)]
    clock, path = ManualClock(T0), tmp_path / "s.sqlite"
    shard = Shard("a", [settings], Store(path), clock)

    def play(shard: Shard, first_s: int, last_s: int, told: bool) -> None:
        for second in range(first_s, last_s):
            if told:
                shard.take(Context("m", "state", T0 + second * NS, "cut"))
            for chunk in data[second * 10 : second * 10 + 10]:
                shard.take(chunk)
            clock.sleep(1.0)
            shard.tick()

    play(shard, 0, 5, told=True)
    play(shard, 5, 30, told=False)
    assert [d.kind for d in Store(path).decisions()] == ["abandon"]
    states = {b.body["reasons"].get("state") for b in Store(path).read(0, ("score",), 10_000)}
    assert states == {"cut", "unknown"}
    lost = [s.body["reasons"]["text"] for s in Store(path).read(0, ("score",), 10_000) if not s.body["complete"]]
    assert set(lost) == {"nobody told the operating state (state_context), so that nothing was judged"}
    shard.close()
    again = Shard("a", [settings], Store(path), clock)
    play(again, 30, 45, told=True)
    assert [d.kind for d in Store(path).decisions()] == ["abandon", "return"]
    newest = Store(path).latest("score", 1)[0]
    assert newest.body["reasons"]["state"] == "cut"


def test_a_worker_that_takes_over_takes_back_what_its_predecessor_gave_up() -> None:
    """On Kafka: the decisions alone say what is given up."""
    settings = operating_states().settings
    acc = stream("acc", "vibration", 2000)
    data = [m for m in chunks(acc, normal_noise(acc, 60.0, 3)) if isinstance(m, Chunk)]
    decisions: list[Decision] = []

    def play(lane: Lane, timeout: ContextTimeout, first_s: int, last_s: int, told: bool) -> list[Score]:
        results: list[Result] = []
        for second in range(first_s, last_s):
            if told:
                results += lane.process(Context("m", "state", T0 + second * NS, "cut"))
            for chunk in data[second * 10 : second * 10 + 10]:
                results += lane.process(chunk)
            for _, decision in list(timeout.due([lane], T0 + second * NS)):
                decisions.append(decision)
                results += lane.process(decision)
        return [r for r in results if isinstance(r, Score)]

    lane, timeout = Lane(settings), ContextTimeout()
    play(lane, timeout, 0, 5, told=True)
    play(lane, timeout, 5, 30, told=False)
    snapshot, lane = lane.snapshot(), Lane(settings)
    lane.restore(snapshot)
    for decision in decisions:
        lane.process(decision)
    scores = play(lane, ContextTimeout(), 30, 60, told=True)
    assert [d.kind for d in decisions] == ["abandon", "return"]
    assert all(s.complete and s.reasons["state"] == "cut" for s in scores[-20:])


def test_time_counts_only_where_all_that_was_told_is_known() -> None:
    """A backlog of facts is no silence; who repeats a run decides nothing."""
    acc = stream("acc", "vibration", 2000)
    lane = Lane(operating_states().settings)
    for chunk in chunks(acc, normal_noise(acc, 5.0, 3)):
        lane.process(chunk)
    assert lane.starving() == {"state"}
    for decides, expected in ((True, [34]), (False, [])):
        timeout = ContextTimeout(decides)
        assert expected == [
            second for second in range(35) if list(timeout.due([lane], T0 + second * NS, current=second >= 25))
        ]


def test_a_fact_that_falls_silent_right_after_it_came_back_is_given_up_again() -> None:
    """It was taken back at the samples' time, which may lie behind the fact's own; windows must not wait for ever."""
    contexts = Contexts()
    contexts.add(Context("m", "state", 95, "cut"))
    contexts.decide(Decision("m", "1", contexts.unjudged_ns("state", 5), "abandon", {"context": "state"}))
    assert contexts.given_up("state", 101) and not contexts.given_up("state", 100)
    contexts.add(Context("m", "state", 120, "cut"))
    assert contexts.back(5) == ["state"]
    contexts.decide(Decision("m", "2", 130, "return", {"context": "state"}))
    assert contexts.back(5) == [] and not contexts.given_up("state", 131)
    assert contexts.unjudged_ns("state", 5) == 130
    contexts.decide(Decision("m", "3", 130, "abandon", {"context": "state"}))
    assert contexts.given_up("state", 131)
    contexts.add(Context("m", "state", 126, "cut"))
    assert contexts.back(5) == ["state"]


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30), st.integers(0, 60))
def test_who_is_given_up_is_what_the_last_decision_before_says(said: list[tuple[int, bool]], t_ns: int) -> None:
    """In whatever order decisions are read."""
    contexts = Contexts()
    for n, (at, gone) in enumerate(said):
        kind = "abandon" if gone else "return"
        contexts.decide(Decision("m", str(n), at, kind, {"context": "x"}))
    before = sorted((at, gone) for at, gone in said if at < t_ns)
    assert contexts.given_up("x", t_ns) == (bool(before) and before[-1][1])


@given(
    st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 50), st.booleans()), max_size=30),
    st.integers(0, 50),
    st.integers(0, 60),
)
def test_outdated_decisions_are_not_missed(said: list[tuple[str, int, bool]], keep_ns: int, back_ns: int) -> None:
    """Neither by windows since `keep_ns` before the newest, nor by who asks what is given up."""
    decisions = [
        Decision("m", str(n), at, "abandon" if gone else "return", {"context": name})
        for n, (name, at, gone) in enumerate(said)
    ] + [Decision("m", "b", 0, "baseline", {}), Decision("n", "1", 10**9, "return", {"context": "x"})]
    gone = {one.id for one in outdated(decisions, keep_ns)}
    assert "b" not in gone
    whole, short = Contexts(), Contexts()
    for one in decisions:
        if one.machine == "m":
            whole.decide(one)
            if one.id not in gone:
                short.decide(one)
    assert whole.back(5) == short.back(5)
    for name in "xy":
        newest = max((at for other, at, _ in said if other == name), default=0)
        t_ns = newest - keep_ns + back_ns
        assert whole.given_up(name, t_ns) == short.given_up(name, t_ns)
        assert whole.unjudged_ns(name, 5) == short.unjudged_ns(name, 5)
        left = sorted({at for n, (other, at, _) in enumerate(said) if other == name and str(n) not in gone})
        assert len([at for at in left if at < newest - keep_ns]) <= 1


def test_many_decisions_about_contexts_are_not_kept() -> None:
    """A publisher whose heartbeat is too slow is given up and taken back all day."""
    lane = Lane(operating_states().settings)
    for n in range(20_000):
        kind = "abandon" if n % 2 == 0 else "return"
        lane.process(Decision("m", f"m|{kind}|{n}", T0 + n * NS, kind, {"context": "state"}))
    lane.settings.contexts.trim(T0 + 19_990 * NS)
    assert sum(map(len, lane.settings.contexts._silences.values())) < 50
    assert lane._decisions == []
    assert lane.settings.contexts.given_up("state", T0 + 19_999 * NS)


@given(
    told=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["cut", "air", 1.0])), max_size=40),
    t_ns=st.integers(-1, 45),
    span=st.integers(0, 45),
)
def test_a_heartbeat_takes_no_space_and_says_the_same(
    told: list[tuple[int, float | str]], t_ns: int, span: int
) -> None:
    """What held at a time, what held within a time, and the newest, as from all that was told in order."""
    facts, kept = Contexts(), list[Any]()
    for t, value in told:
        known = facts.add(Context("m", "state", t, value))
        if not kept or t > kept[-1][0]:
            assert known
            kept.append((t, value))
    runs = [value for place, (_, value) in enumerate(kept) if place == 0 or kept[place - 1][1] != value]
    again = Contexts()
    again.restore(facts.snapshot())
    for contexts in (facts, again):
        assert contexts.as_of("state", t_ns) == next((value for t, value in reversed(kept) if t <= t_ns), None)
        begun = max((t for t, _ in kept if t <= t_ns), default=0)
        assert set(contexts.during("state", t_ns, t_ns + span)) == {v for t, v in kept if begun <= t <= t_ns + span}
        assert contexts.newest_ns("state") == (kept[-1][0] if kept else 0)
        assert len(contexts.snapshot().get("state", [])) <= 2 * len(runs)


def test_an_endless_fact_is_refused() -> None:
    """Thousands of facts are in a machine's snapshot, which must fit a record."""
    headers, value = codec.encode(Context("m", "tool", 1, "x" * 1000))
    assert codec.decode(headers, value) == Context("m", "tool", 1, "x" * 1000)
    with pytest.raises(DecodeError, match="value"):
        codec.decode(headers, value.replace(b"xx", b"xxx"))
    headers, value = codec.encode(Context("m", "n" * 255, 1, 1.0))
    assert codec.decode(headers, value) == Context("m", "n" * 255, 1, 1.0)
    with pytest.raises(DecodeError, match="name"):
        codec.decode(headers, value.replace(b"n" * 255, b"n" * 256))


def test_facts_that_nothing_reads_change_nothing() -> None:
    """However many names they have: neither what a machine's windows say, nor its snapshot."""
    settings = operating_states().settings
    acc = stream("acc", "vibration", 2000)
    plain, crowded = Lane(settings), Lane(settings)
    said: dict[Lane, list[Result]] = {plain: [], crowded: []}
    for number, chunk in enumerate(chunks(acc, normal_noise(acc, 8.0, 3))):
        strangers = [Context("m", f"job-{number}-{name}", T0 + number, "x" * 1000) for name in range(40)]
        for lane in (plain, crowded):
            state = Context("m", "state", T0 + number * NS // 10, "cut")
            for message in (state, *(strangers if lane is crowded else ()), chunk):
                said[lane] += lane.process(message)
    one, other = ([record_of(result) for result in results] for results in said.values())
    assert one == other and any(record.topic == "score" for record in one)
    assert crowded.snapshot() == plain.snapshot()
    assert read_by(settings.machine) == {"state"}


def test_a_snapshot_of_many_names_is_taken_over_without_them() -> None:
    """As an earlier version wrote it."""
    before, after = Contexts(), Contexts({"state"})
    for number in range(1000):
        before.add(Context("m", f"job-{number}", number + 1, "x"))
    before.add(Context("m", "state", 7, "cut"))
    after.restore(before.snapshot())
    assert after.snapshot() == {"state": [[7, "cut"]]}


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("text", ["x" * 1000, "\x01" * 1000, "ü" * 1000, ""])
def test_texts_without_end_fit_a_record_of_kafka(text: str, trimmed: bool) -> None:
    """The newest are kept, as many as there is room for; what is read later does not depend on when it was trimmed."""
    facts = Contexts({"state", "rpm"})
    for number in range(5000):
        for name in ("state", "rpm"):
            facts.add(Context("m", name, T0 + number * NS, f"{number}{text}"))
        if trimmed and number % 7 == 0:
            facts.trim(T0 + (number - 3) * NS)
        if trimmed and number == 4000:
            again, facts = facts, Contexts({"state", "rpm"})
            facts.restore(again.snapshot())
    assert len(orjson.dumps(facts.snapshot())) < 400_000
    for number in range(4990, 5000):
        assert facts.as_of("rpm", T0 + number * NS) == f"{number}{text}"
