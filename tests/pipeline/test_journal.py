"""The journal: the same findings give the same hash, in whatever order they came, and differences are told apart."""

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BadInput, StateError, StethosError
from pipeline.fingerprint import differing, platform_fingerprint
from pipeline.journal import Journal, header_of, read_journal, sha256_of, write_journal
from pipeline.journal_compare import compare
from pipeline.messages import Alarm, Anchor, Decision, Feature, Health, Late, MachineState, Rate, Score, Span, Stream
from pipeline.results import record_of

HEADER = {"platform": {"libraries": {"numpy": "2"}}, "configuration": "c1"}
SCORE = Score(
    "m2", ("mic",), "chatter", 10, 0.4, 0.5, "h", reasons={"bands": [0.1, 0.2]}, lineage=(Span("mic", 0, 0, 9),)
)
ALARM = Alarm("m1", ("mic",), "chatter", 30, "raised", 0, 30, "critical", "Chatter 0.70", 0.7, 0.5, "h")
FINDINGS: list[Any] = [
    SCORE,
    replace(SCORE, machine="m1", t_end_ns=20),
    replace(SCORE, machine="m1", t_end_ns=3, value=0.6),
    ALARM,
    replace(ALARM, t_ns=40, transition="cleared", ordinal=1, value=0.1),
    MachineState("m1", ("mic",), "state", 20, "cutting", "h"),
    Health("m1", "mic", 0, 5, "failure", ("silent",)),
    Decision("m1", "d1", 4, "baseline", {"sha256": "ab", "offset": 9, "partition": 1, "wall_ns": 5}),
]
LATE = Late(Stream("m1", "mic", 0, "acoustic", Rate(48000), 1, "<i2", "FS"), Anchor(0, 0), 0, 1, "late")


def test_the_file_in_full(tmp_path: Path) -> None:
    records = [record_of(FINDINGS[7], seq=5), record_of(FINDINGS[6])]
    records[1] = replace(records[1], body={**records[1].body, "owner": 3})
    digest = write_journal(records, tmp_path / "j.jsonl", {"configuration": "c1"})
    body = (
        b'{"body":{"sha256":"ab"},"id":"d1","kind":"baseline","machine":"m1","t_ns":4,"topic":"decision"}\n'
        b'{"epoch":0,"id":"m1|mic|0|5","machine":"m1","reasons":["silent"],"sensor":"mic","state":"failure","t_ns":5,'
        b'"topic":"health"}\n'
    )
    assert (tmp_path / "j.jsonl").read_bytes() == b'{"configuration":"c1","stethos_journal":1}\n' + body
    assert digest == sha256_of(tmp_path / "j.jsonl") == hashlib.sha256(body).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["j.jsonl"]


def test_order_is_machine_time_id(tmp_path: Path) -> None:
    write_journal(FINDINGS, tmp_path / "j.jsonl", HEADER)
    lines = list(read_journal(tmp_path / "j.jsonl"))
    assert [(x["machine"], x.get("t_end_ns", x.get("t_ns")), x["topic"]) for x in lines] == [
        ("m1", 3, "score"), ("m1", 4, "decision"), ("m1", 5, "health"), ("m1", 20, "score"),
        ("m1", 20, "machine_state"),
        ("m1", 30, "alarm"), ("m1", 40, "alarm"), ("m2", 10, "score"),
    ]  # fmt: skip
    assert [x["id"] for x in lines[3:5]] == sorted(x["id"] for x in lines[3:5])
    assert header_of(tmp_path / "j.jsonl")["configuration"] == "c1"


@given(order=st.permutations(range(len(FINDINGS))), repeats=st.lists(st.sampled_from(FINDINGS)), seq=st.integers(0, 99))
@settings(max_examples=30)
def test_hash_does_not_depend_on_order_repeats_places_or_header(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], repeats: list[Any], seq: int
) -> None:
    folder = tmp_path_factory.mktemp("j")
    want = write_journal(FINDINGS, folder / "a.jsonl", HEADER)
    found = [record_of(FINDINGS[i], seq + i) for i in order] + repeats
    others: list[Any] = [Feature("m1", ("mic",), "level", 5, {"rms": 0.1}), LATE]  # not kept in the journal
    assert write_journal([*others, *found], folder / "b.jsonl", {"configuration": "other"}) == want


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + bytes(9000), b"[engine]\n", b"{}\n", b"\x89MCAP0\r\n"])
def test_a_journal_replaces_a_journal_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    """`stethos journal var/state/stethos.sqlite` would cost the state, `replay a --journal a` the recording."""
    path = tmp_path / "it"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="no journal and would be overwritten"):
        write_journal([], path, HEADER)
    assert path.read_bytes() == content
    (tmp_path / "empty").touch()
    for _ in range(2):
        write_journal([record_of(SCORE)], tmp_path / "empty", HEADER)


def test_a_repeat_by_id_replaces(tmp_path: Path) -> None:
    a = write_journal([SCORE, replace(SCORE, value=0.45)], tmp_path / "a.jsonl", HEADER)
    assert a == write_journal([replace(SCORE, value=0.45)], tmp_path / "b.jsonl", HEADER)
    assert a != write_journal([SCORE], tmp_path / "c.jsonl", HEADER)


def test_the_last_bit_of_a_float_changes_the_hash(tmp_path: Path) -> None:
    other = replace(SCORE, value=np.nextafter(SCORE.value, 1))
    assert write_journal([SCORE], tmp_path / "a", HEADER) != write_journal([other], tmp_path / "b", HEADER)
    assert write_journal([SCORE], tmp_path / "a", HEADER) == write_journal([replace(SCORE)], tmp_path / "c", HEADER)


def test_more_than_fits_a_batch_is_sorted_all_the_same(tmp_path: Path) -> None:
    scores = [replace(SCORE, machine=f"m{k % 7}", t_end_ns=k * 37 % 5003) for k in range(5003)]
    random.Random(1).shuffle(scores)
    with Journal() as journal:
        for score in scores:
            journal.add(score)
        first = journal.write(tmp_path / "a.jsonl", HEADER)
        journal.add(ALARM)
        second = journal.write(tmp_path / "a.jsonl", HEADER)
    keys = [(x["machine"], x.get("t_end_ns", x.get("t_ns"))) for x in read_journal(tmp_path / "a.jsonl")]
    assert keys == sorted([*((s.machine, s.t_end_ns) for s in scores), ("m1", 30)])
    assert first != second == sha256_of(tmp_path / "a.jsonl")


# comparing -----------------------------------------------------------------------------------------------------------


def journals(
    tmp_path: Path, a: Iterable[Any], b: Iterable[Any], header_b: dict[str, Any] = HEADER
) -> tuple[Path, Path]:
    write_journal(a, tmp_path / "a.jsonl", HEADER)
    write_journal(b, tmp_path / "b.jsonl", header_b)
    return tmp_path / "a.jsonl", tmp_path / "b.jsonl"


def test_identical_journals_are_identical(tmp_path: Path) -> None:
    other = {"platform": {"libraries": {"numpy": "3"}}, "configuration": "c1"}
    done = compare(*journals(tmp_path, FINDINGS, FINDINGS[::-1], other))
    assert done.identical and done.agrees and done.same == len(FINDINGS) and done.deciding == 0
    assert done.platform == {"platform.libraries": ({"numpy": "2"}, {"numpy": "3"})}
    assert done.to_text().startswith("identical: 8 lines")


def test_numbers_within_tolerance_are_no_difference(tmp_path: Path) -> None:
    near = replace(SCORE, value=0.4 + 1e-9, reasons={"bands": [0.1, 0.2 + 1e-7]})
    worded = replace(ALARM, value=0.7 + 1e-9, text="Chatter 0.71")
    a, b = journals(tmp_path, [SCORE, ALARM], [near, worded])
    strict = compare(a, b)
    assert (
        not strict.agrees and strict.counts == {("score", "value"): 1, ("alarm", "value"): 1} and strict.deciding == 0
    )
    by_topic = {d.topic: d.fields for d in strict.differences}
    assert set(by_topic["score"]) == {"value", "reasons.bands[1]"} and set(by_topic["alarm"]) == {"value", "text"}
    loose = compare(a, b, tolerance=1e-6)
    assert loose.agrees and not loose.identical and loose.tolerated == 2
    assert loose.largest == pytest.approx(1e-7, rel=1e-3)
    assert compare(a, b, tolerance=1e-8).counts == {("score", "value"): 1}


def test_another_side_of_the_threshold_is_a_decision_however_close(tmp_path: Path) -> None:
    on = replace(SCORE, value=0.5 + 1e-12)
    off = replace(SCORE, value=0.5)
    done = compare(*journals(tmp_path, [on], [off]), tolerance=1e-6)
    assert done.deciding == 1 and done.counts == {("score", "decision"): 1}
    assert done.differences[0].fields == {"abnormal": (True, False)}
    assert "decided otherwise" in done.to_text()


@pytest.mark.parametrize(
    ("one", "other", "kind", "decides"),
    [
        (ALARM, None, "only_a", True),
        (None, ALARM, "only_b", True),
        (SCORE, None, "only_a", False),
        (ALARM, replace(ALARM, severity="warning"), "decision", True),
        (FINDINGS[5], replace(FINDINGS[5], state="idle"), "decision", True),
        (FINDINGS[6], replace(FINDINGS[6], state="normal"), "decision", True),
        (FINDINGS[6], replace(FINDINGS[6], reasons=("offset",)), "value", False),
        (FINDINGS[7], replace(FINDINGS[7], body={"sha256": "cd"}), "decision", True),
        (SCORE, replace(SCORE, complete=False, value=float("nan")), "decision", True),
        (SCORE, replace(SCORE, reasons={"bands": [0.1]}), "value", False),
        (SCORE, replace(SCORE, reasons={}), "value", False),
    ],
)
def test_kinds_of_difference(tmp_path: Path, one: Any, other: Any, kind: str, decides: bool) -> None:
    rest = [FINDINGS[1], FINDINGS[2]]
    a, b = journals(tmp_path, [x for x in (one, *rest) if x], [x for x in (other, *rest) if x])
    done = compare(a, b, tolerance=0.1)
    assert [(d.kind, d.decides) for d in done.differences] == [(kind, decides)]
    assert (done.total, done.same, done.deciding) == (1, 2, int(decides))
    told = json.loads(json.dumps(done.to_json()))
    assert told["differing"] == 1 and told["differences"][0]["kind"] == kind
    assert done.differences[0].id in done.to_text()


def test_many_differences_are_counted_and_some_are_shown(tmp_path: Path) -> None:
    a = [replace(SCORE, t_end_ns=k) for k in range(1500)]
    done = compare(*journals(tmp_path, a, []))
    assert done.counts == {("score", "only_a"): 1500} and len(done.differences) == 1000
    assert done.to_text(shown=3).endswith("and 1497 more")


# what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "no journal\n", "[]\n", '{"a":1}\n', '{"stethos_journal":"x"}\n'])
def test_what_is_no_journal_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(BadInput, match=r"x\.jsonl"):
        sha256_of(tmp_path / "x.jsonl")


def test_newer_broken_unsorted_and_missing_journals_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"stethos_journal":2}\n')
    with pytest.raises(StateError, match="update stethos"):
        sha256_of(path)
    write_journal(FINDINGS, path, HEADER)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[2], lines[1]]))
    with pytest.raises(BadInput, match=r"x\.jsonl:3: out of order"):
        list(read_journal(path))
    path.write_bytes(lines[0] + b'{"machine":1}\n')
    with pytest.raises(BadInput, match=r"x\.jsonl:2"):
        list(read_journal(path))
    with pytest.raises(StethosError, match="gone"):
        sha256_of(tmp_path / "gone")
    with pytest.raises(StethosError, match="cannot be written"):
        write_journal([], path / "below", HEADER)


def test_the_fingerprint_names_what_bits_depend_on() -> None:
    found = platform_fingerprint({"b": "2", "a": "1"})
    assert found["libraries"]["numpy"] == np.__version__ and "scipy" in found["libraries"]
    assert list(found["packages"]) == ["a", "b"] and found["machine"] and isinstance(found["cpu_features"], list)
    assert found == json.loads(json.dumps(found))
    assert differing(found, platform_fingerprint({"a": "1"})) == {"packages": ({"a": "1", "b": "2"}, {"a": "1"})}
