"""Results as JSON: exact round trips, plain finite values, published schemas that are what the code checks."""

import json
import math
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import schemas
from pipeline.bodies import from_body, parse, record_from
from pipeline.errors import BadInput, DecodeError
from pipeline.messages import (
    Alarm,
    Anchor,
    Context,
    DeadLetter,
    Decision,
    Feature,
    Health,
    Late,
    MachineState,
    Rate,
    Score,
    Span,
    Stream,
)
from pipeline.results import TOPIC_OF, canonical, record_of, to_body

T = 1_700_000_000_000_000_001
SPANS = (Span("mic", 2, 0, 48128), Span("acc", 1, 5, 9))
STREAM = Stream("mill", "mic", 2, "acoustic", Rate(48000), 1, "<f4", "Pa", 0.02)
EXAMPLES: list[Any] = [
    Context("mill", "tool", T, "T12"),
    Decision("mill", "mill|model|4", T, "model", {"package": "impact", "sha256": "ab", "threshold": 0.1}),
    Feature("mill", ("mic",), "level", T, {"rms_pa": 0.1, "peak_pa": 1e-300}, lineage=SPANS),
    Score("mill", ("mic", "acc"), "chatter", T, 0.7, 0.5, "3f2a", reasons={"bands_hz": [480.0, 960.0]}, lineage=SPANS),
    MachineState("mill", ("mic",), "state", T, "cutting", "3f2a", SPANS),
    Alarm("mill", ("mic",), "chatter", T, "raised", 0, T, "critical", "Rattern", 0.7, 0.5, "3f2a", {"why": 1}, SPANS),
    Health("mill", "mic", 2, T, "out_of_specification", ("clipping", "offset")),
    Late(STREAM, Anchor(0, T), 480, 960, "time_backwards"),
    DeadLetter("raw.acoustic", "mill", "rate", "no rate", (("ce_rate", b"\xff\x00"), ("ce_id", b"")), b"\x00\xff"),
]
by_type = pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)


def fields(message: Any) -> dict[str, Any]:
    return {name: getattr(message, name) for name in type(message).__dataclass_fields__}


@by_type
def test_round_trip_through_bytes(message: Any) -> None:
    topic = TOPIC_OF[type(message)]
    back = from_body(topic, parse(canonical(to_body(message))))
    assert type(back) is type(message)
    assert fields(back) == fields(message)


@by_type
def test_record_carries_topic_machine_time_and_id(message: Any) -> None:
    record = record_of(message, seq=9, t_ns=77)
    assert (record.seq, record.topic, record.machine) == (9, TOPIC_OF[type(message)], "mill")
    times = {DeadLetter: 77, Late: T + 10_000_000}  # 480 samples at 48 kHz
    assert record.t_ns == times.get(type(message), T)
    assert record.id == record.body["id"]
    if hasattr(message, "id"):
        assert record.id == message.id
    assert record_from(record.topic, canonical(record.body), 9, 77) == record
    assert json.loads(json.dumps(record.body)) == record.body


def test_ids_follow_from_the_content() -> None:
    assert record_of(EXAMPLES[3]).id == f"mill|mic+acc|chatter|{T}|3f2a"
    assert record_of(EXAMPLES[5]).id == f"mill|mic|chatter|{T}|0"
    assert record_of(EXAMPLES[5]).body["alarm"] == f"mill|mic|chatter|{T}"
    assert record_of(EXAMPLES[5]).body["condition"] == "mill|mic|chatter"
    other = DeadLetter("raw.acoustic", "mill", "rate", "no rate", EXAMPLES[8].headers, b"\x00\xfe")
    assert record_of(other).id != record_of(EXAMPLES[8]).id


def test_a_score_body_in_full() -> None:
    assert to_body(EXAMPLES[3]) == {
        "id": f"mill|mic+acc|chatter|{T}|3f2a",
        "machine": "mill",
        "sensors": ["mic", "acc"],
        "detector": "chatter",
        "t_end_ns": T,
        "value": 0.7,
        "threshold": 0.5,
        "settings": "3f2a",
        "complete": True,
        "abnormal": True,
        "reasons": {"bands_hz": [480.0, 960.0]},
        "lineage": [["mic", 2, 0, 48128], ["acc", 1, 5, 9]],
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(value: float) -> None:
    score = Score("m", ("s",), "d", 1, value, 0.5, "h", False, {"deep": [{"x": value}]})
    body = to_body(score)
    assert body["value"] is None and body["reasons"] == {"deep": [{"x": None}]}
    assert b"NaN" not in canonical(body) and b"Inf" not in canonical(body)
    back: Any = from_body("score", body)
    assert math.isnan(back.value) and not back.abnormal
    assert to_body(Feature("m", ("s",), "f", 1, {"x": value}))["values"] == {"x": None}


def test_numpy_values_become_plain_and_keep_their_value() -> None:
    x: Any = np.float32(0.1)
    five, true = cast("Any", (np.int64(5), np.True_))
    score = Score("m", ("s",), "d", five, x, np.float64(0.5), "h", true, {"n": np.int32(3), "a": np.ones(2)})
    body = to_body(score)
    assert type(body["value"]) is float and body["value"] == 0.10000000149011612
    assert type(body["t_end_ns"]) is int and body["complete"] is True and body["abnormal"] is False
    assert body["reasons"] == {"n": 3, "a": [1.0, 1.0]}
    assert json.loads(json.dumps(body)) == body


def test_values_that_json_cannot_say_are_refused() -> None:
    with pytest.raises(BadInput, match="object"):
        to_body(Decision("m", "i", 1, "model", {"x": object()}))
    with pytest.raises(BadInput, match="spindle"):
        to_body(Context("m", "spindle", 1, math.nan))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_shortest_and_come_back_to_the_bit(x: float) -> None:
    text = canonical({"x": x})
    assert orjson.loads(text)["x"].hex() == x.hex()
    assert len(text) <= len('{"x":}') + len(repr(x)) + 2


def test_canonical_bytes_do_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": {"d": 1, "c": 2}}) == b'{"a":{"c":2,"d":1},"b":1}'


# schemas -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", schemas.FIELDS)
def test_published_schemas_are_the_generated_ones(topic: str) -> None:
    assert schemas.file_of(topic).read_text(encoding="utf-8") == schemas.text_of(topic), "run schemas.write_all()"


def test_every_told_message_has_a_schema() -> None:
    assert set(schemas.FIELDS) == set(TOPIC_OF.values())


def violations(schema: dict[str, Any], value: Any, at: str = "$") -> list[str]:
    """The keywords of JSON Schema that these schemas use, read on their own: independent of the code's own checks."""
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    found: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at} not in {schema['enum']}")
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = [
        (name == "integer" and number and value == int(value)) or (name == "number" and number)
        or (name in types and isinstance(value, types[name]))
        for name in names
    ]  # fmt: skip
    if names and not any(fits):
        return [*found, f"{at} is no {names}"]
    if number and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{at} out of range")
    if isinstance(value, dict):
        found += [f"{at} lacks {name}" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            rule = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            found += violations(rule, item, f"{at}.{name}") if rule else []
    if isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{at} has {len(value)} items")
        for i, item in enumerate(value):
            rule = prefix[i] if i < len(prefix) else schema.get("items")
            found += violations(rule, item, f"{at}[{i}]") if rule else []
    return found


@by_type
def test_bodies_satisfy_their_schema_and_damaged_ones_do_not(message: Any) -> None:
    topic = TOPIC_OF[type(message)]
    schema = json.loads(schemas.file_of(topic).read_text(encoding="utf-8"))
    body = json.loads(canonical(to_body(message)))
    assert violations(schema, body) == []
    for name in schemas.FIELDS[topic]:
        without = {key: value for key, value in body.items() if key != name}
        for damaged in (without, {**body, name: {"no": []} if not isinstance(body[name], dict) else 3}):
            assert violations(schema, damaged)
            with pytest.raises(DecodeError) as caught:
                from_body(topic, damaged)
            assert caught.value.reason == "schema"


@given(data=st.data())
def test_checks_and_schemas_agree_on_anything(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(EXAMPLES))
    topic = TOPIC_OF[type(message)]
    name = data.draw(st.sampled_from(list(schemas.FIELDS[topic])))
    scalar = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(0.1, 0.9) | st.text(max_size=4)
    anything = st.recursive(
        scalar, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=3), x), max_leaves=6
    )
    body = {**json.loads(canonical(to_body(message))), name: data.draw(anything)}
    wrong = bool(violations(schemas.json_schema(topic), body))
    try:
        schemas.check(topic, body)
    except DecodeError:
        assert wrong
    else:
        assert not wrong


def test_unknown_fields_are_ignored_and_unknown_topics_are_not() -> None:
    body = {**to_body(EXAMPLES[3]), "owner": 7}
    assert fields(from_body("score", body)) == fields(EXAMPLES[3])
    with pytest.raises(DecodeError) as caught:
        from_body("weather", {})
    assert caught.value.reason == "type"


@pytest.mark.parametrize("value", ["####", "a", "ä"])
def test_broken_base64_is_refused(value: str) -> None:
    with pytest.raises(DecodeError):
        from_body("dlq", {**to_body(EXAMPLES[8]), "value": value})
