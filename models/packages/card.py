"""The card of a model package: what the model takes, what it gives, what it was taught on and how good it is.

`card.json` is canonical JSON (sorted keys, no blanks, UTF-8), so that equal cards are equal bytes. A card of another
schema, with a key too many or too few, or with a value out of its range is refused with the key's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from operators.mel import FrontEnd
from pipeline.errors import BadInput, StateError

SCHEMA = 1
Kind: TypeAlias = Literal["encoder", "head", "classifier"]
MAX_BATCH = 256
VIBRATION = "vibration"
"""In place of an encoder's digest: a head on the features of an accelerometer, which `input` names."""
_MAX_NUMBERS = 1 << 22
"""Numbers in one row of an input or output: what a run may cost in memory is bounded before it runs."""


@dataclass(frozen=True, slots=True)
class Input:
    """What the graph reads.

    Attributes:
        features: hash of the front end's settings (`operators.mel.FrontEnd.hash`); empty where the rows are no image
            of a front end.
        preset: the front end in words.
        shape: of one row, without the batch.
        rate_hz: samples per second of the sound or vibration behind it; 0 where there is none.
        tensor: name of the graph's input.
    """

    features: str
    preset: str
    shape: tuple[int, ...]
    rate_hz: float
    tensor: str = "logmel"


@dataclass(frozen=True, slots=True)
class Output:
    """One tensor that the graph gives: its name and the shape of one row, without the batch."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All that is said about a model; `training`, `scores`, `latency` and `quantisation` are JSON for people.

    Attributes:
        kind: what the package can be used for.
        name: of the model, e.g. ``"impact-small"``.
        version: of the model, compared for equality only.
        input: what the graph reads.
        outputs: what it gives; the golden rows hold the first.
        labels: classes in the order of the columns of `logits`.
        thresholds: label → least probability at which a class counts, or ``"abstain"``.
        encoder: digest of the encoder package whose embedding a head reads, ``"logmel"`` or `VIBRATION`; empty for
            others.
        pooling: how tokens become the embedding (`models.impact.pooling.POOLINGS`); empty where there are none.
        grid: rows (frequency) and columns (time) of an encoder's tokens, behind the class token if there is one.
        training: data, hours by source, licences, settings, seed.
        scores: figure → value, the baseline's beside the model's.
        latency: figure → milliseconds of CPU time, and on what.
        quantisation: form, calibration, loss of accuracy; empty for float32.
        opset: of the ONNX graph.
        batch: rows that every run has, padded; 2 to 256.
        tolerance: ‖y − golden‖ / ‖golden‖ of a row up to which another machine may deviate from the golden rows.
        schema: version of this description.
    """

    kind: Kind
    name: str
    version: str
    input: Input
    outputs: tuple[Output, ...]
    opset: int
    labels: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    encoder: str = ""
    pooling: str = ""
    grid: tuple[int, int] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    latency: Mapping[str, Any] = field(default_factory=dict)
    quantisation: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 8
    tolerance: float = 1e-4
    schema: int = SCHEMA

    @property
    def cls(self) -> bool:
        """Whether an encoder's first token is the class token."""
        return self.grid is not None and self.outputs[0].shape[0] == self.grid[0] * self.grid[1] + 1

    def json(self) -> bytes:
        """Canonical JSON, with a line end.

        Raises:
            BadInput: a value is no JSON or out of range.
        """
        try:
            text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadInput("card", f"card of '{self.name}': {error}") from error
        data = text.encode() + b"\n"
        parse(data, f"card of '{self.name}'")
        return data

    def takes(self, front_end: FrontEnd) -> None:
        """Refuse a front end whose images are not those that the model was taught on.

        Raises:
            BadInput: another rate, other settings or another shape; says both.
        """
        wants, name = self.input, f"model '{self.name}' {self.version}"
        if wants.rate_hz != front_end.rate_hz:
            raise BadInput("rate", f"{name} reads sound at {wants.rate_hz:g} Hz, not at {front_end.rate_hz:g} Hz")
        if wants.features != front_end.hash:
            raise BadInput(
                "features",
                f"{name} reads images of front end {wants.features} ({wants.preset}), not of {front_end.hash} "
                f"('{front_end.name}'): choose the package's preset, or train on this one",
            )
        if wants.shape[-2:] != (front_end.bands, front_end.frames):
            raise BadInput(
                "shape", f"{name} reads rows of shape {wants.shape}, not {(front_end.bands, front_end.frames)}"
            )

    def reads(self, digest: str) -> None:
        """Refuse an encoder whose embedding the head was not taught on.

        Raises:
            BadInput: another digest.
        """
        if self.encoder == VIBRATION:
            raise BadInput(
                "encoder",
                f"head '{self.name}' {self.version} was taught on an accelerometer ({self.input.preset}) and reads no "
                "embedding of sound",
            )
        if self.encoder != digest:
            raise BadInput(
                "encoder",
                f"head '{self.name}' {self.version} reads the embedding of {_short(self.encoder)}, not of "
                f"{_short(digest)}: load that encoder, or train the head again",
            )


def parse(data: bytes, where: str) -> Card:
    """Read a card.

    Args:
        data: `card.json`.
        where: named in errors.

    Raises:
        StateError: no JSON, no schema, or a newer one.
        BadInput: a key is missing, unknown or has a value of the wrong kind or range.
    """
    try:
        document = json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise StateError(f"{where}: is no JSON: {str(error)[:200]}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise StateError(f"{where}: names no schema version; it is no card of stethos")
    if schema != SCHEMA:
        mend = "upgrade stethos" if schema > SCHEMA else "export the model again"
        raise StateError(f"{where}: schema {schema}, this version reads {SCHEMA}; {mend}")
    _keys(document, Card, where)
    for key, kind in _KINDS.items():
        if not isinstance(document[key], kind) or isinstance(document[key], bool):
            raise BadInput("card", f"{where}: '{key}' = {str(document[key])[:80]!r} has the wrong kind")
    return _ranges(Card(**document | _parts(document, where)), where)


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("kind", "name", "version", "encoder", "pooling"), str),
    **dict.fromkeys(("opset", "batch"), int),
    **dict.fromkeys(("thresholds", "training", "scores", "latency", "quantisation"), dict),
    **dict.fromkeys(("outputs", "labels"), list),
    "tolerance": (int, float),
    "grid": (list, type(None)),
}


def _parts(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    _keys(document["input"], Input, f"{where}, input")
    for output in document["outputs"]:
        _keys(output, Output, f"{where}, outputs")
    raw, grid = document["input"], document["grid"]
    try:
        return {
            "input": Input(
                str(raw["features"]), str(raw["preset"]), _shape(raw["shape"], where), float(raw["rate_hz"]),
                str(raw["tensor"]),
            ),
            "outputs": tuple(Output(str(o["name"]), _shape(o["shape"], where)) for o in document["outputs"]),
            "labels": tuple(map(str, document["labels"])),
            "thresholds": {str(k): float(v) for k, v in document["thresholds"].items()},
            "grid": None if grid is None else _shape(grid, where),
        }  # fmt: skip
    except (TypeError, ValueError) as error:
        raise BadInput("card", f"{where}: {str(error)[:200]}") from error


def _ranges(card: Card, where: str) -> Card:
    outputs = [output.name for output in card.outputs]
    checks = {
        f"kind must be one of {', '.join(get_args(Kind))}": card.kind in get_args(Kind),
        "name and version must not be empty": bool(card.name and card.version),
        "outputs must have different names, and at least one": 0 < len(set(outputs)) == len(outputs) <= 16,
        "labels must differ": len(set(card.labels)) == len(card.labels),
        f"batch must be 2 to {MAX_BATCH}": 2 <= card.batch <= MAX_BATCH,
        "tolerance must lie in (0, 0.5]": 0 < card.tolerance <= 0.5,
        "input.rate_hz must be finite and not negative": math.isfinite(card.input.rate_hz) and card.input.rate_hz >= 0,
        "thresholds must be finite": all(map(math.isfinite, card.thresholds.values())),
        "opset must be positive": card.opset > 0,
        "grid must have two sides, and with them as many tokens as outputs[0] (one more with a class token)": (
            card.grid is None or _fits(card.grid, card.outputs[0].shape)
        ),
    }
    for rule, holds in checks.items():
        if not holds:
            raise BadInput("card", f"{where}: {rule}")
    return card


def _fits(grid: tuple[int, ...], tokens: tuple[int, ...]) -> bool:
    return len(grid) == 2 and len(tokens) == 2 and tokens[0] - grid[0] * grid[1] in {0, 1}


def _keys(document: Any, of: type, where: str) -> None:
    if not isinstance(document, dict):
        raise BadInput("card", f"{where}: must be a table of keys")
    wanted = {f.name for f in fields(of)}
    for key in sorted(wanted ^ set(document)):
        raise BadInput("card", f"{where}: {'lacks' if key in wanted else 'has the unknown key'} '{key[:80]}'")


def _shape(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(n) is int and n > 0 for n in value):
        raise BadInput("card", f"{where}: a shape must be a list of positive whole numbers, not {str(value)[:80]}")
    if math.prod(value) > _MAX_NUMBERS:
        raise BadInput("card", f"{where}: rows of shape {tuple(value)} are larger than {_MAX_NUMBERS} numbers")
    return tuple(value)


def _short(digest: str) -> str:
    return digest[:16] or "none"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
