"""Cards: canonical, complete, and refused with the key's name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from models.packages import Input, Output
from models.packages.card import parse
from operators.mel import DRILL, PAPER
from pipeline.errors import BadInput, StateError
from tests.models.packages.rig import card


def test_a_card_survives_its_json() -> None:
    first = card(grid=None, scores={"macro_f1": 0.9})
    assert parse(first.json(), "here") == first
    assert parse(first.json(), "here").json() == first.json()


def test_json_is_canonical() -> None:
    assert card(training={"b": 1, "a": 2}).json() == card(training={"a": 2, "b": 1}).json()


def document(**changes: Any) -> bytes:
    return json.dumps(json.loads(card().json()) | changes).encode()


@pytest.mark.parametrize("schema", [0, 2, "1", None, True])
def test_another_schema_is_refused(schema: object) -> None:
    with pytest.raises(StateError, match="schema"):
        parse(document(schema=schema), "here")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "oracle"},
        {"name": ""},
        {"name": 3},
        {"batch": 1},
        {"batch": 1000},
        {"batch": True},
        {"tolerance": 0},
        {"labels": ["a", "a"]},
        {"labels": "ab"},
        {"outputs": []},
        {"outputs": [{"name": "y"}]},
        {"outputs": [{"name": "y", "shape": [1 << 40]}]},
        {"input": {}},
        {"input": None},
        {"grid": [2]},
        {"grid": [2, 2]},
        {"thresholds": {"on": "high"}},
        {"surprise": 1},
        {"opset": 0},
    ],
)
def test_wrong_values_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        parse(document(**changes), "here")
    assert caught.value.reason == "card"


def test_a_missing_key_is_named() -> None:
    without = json.loads(card().json())
    del without["labels"]
    with pytest.raises(BadInput, match="lacks 'labels'"):
        parse(json.dumps(without).encode(), "here")


@pytest.mark.parametrize("data", [b"", b"[1]", b"\xff", b"{", b'{"schema": NaN}', b"[" * 100_000])
def test_what_is_no_card_is_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        parse(data, "here")


def test_values_that_json_cannot_hold_are_refused_when_written() -> None:
    with pytest.raises(BadInput):
        card(scores={"f1": float("nan")}).json()


def encoder_input(**changes: Any) -> Input:
    return replace(Input(PAPER.hash, "paper", (1, 128, 128), 48_000.0), **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"rate_hz": 96_000.0}, "rate"), ({"features": DRILL.hash}, "features"), ({"shape": (1, 64, 128)}, "shape")],
)
def test_another_front_end_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        card(input=encoder_input(**changes)).takes(PAPER)
    assert caught.value.reason == reason


def test_the_right_front_end_is_taken() -> None:
    card(input=encoder_input()).takes(PAPER)


def test_a_head_reads_its_encoder_alone() -> None:
    card(encoder="ab" * 32).reads("ab" * 32)
    with pytest.raises(BadInput) as caught:
        card(encoder="ab" * 32).reads("cd" * 32)
    assert caught.value.reason == "encoder"


def test_the_class_token_follows_from_the_grid() -> None:
    assert card(grid=(4, 4), outputs=(Output("tokens", (17, 8)),)).cls
    assert not card(grid=(4, 4), outputs=(Output("tokens", (16, 8)),)).cls
