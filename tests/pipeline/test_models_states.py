"""States that last, class scores, a shadow compared window by window; embeddings on the wire; what sinks make of it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from config.schema import Model
from connectors.influxdb import point
from connectors.prometheus import PrometheusSink
from pipeline import codec, headers
from pipeline.errors import BadInput, DecodeError
from pipeline.lineup import Standing
from pipeline.machine_models import MachineModels, configured
from pipeline.messages import NS, Embedding, Feature, MachineState, Message, Score, Span
from pipeline.results import record_of
from pipeline.shelf import Shelf
from pipeline.states import CONFIRM_NS, UNKNOWN, States
from tests.engines.scenarios import learned_folder, learned_models
from tests.pipeline import packages

T0 = 1_700_000_000 * NS
SPANS = (Span("mic", 0, 0, 49_800),)


@pytest.fixture(scope="module")
def kinds() -> dict[str, np.ndarray]:
    """The vectors of which the heads say `idle`, `loud`, or nothing for sure."""
    shelf = Shelf()
    package = shelf.add(learned_folder() / "encoder-1")
    idle, loud = (packages.vectors(package, bump).mean(axis=0) for bump in ((0.0, 0.0), (0.0, 9.0)))
    return {"i": idle, "l": loud, "?": (idle + loud) / 2}


def embedding(values: np.ndarray, t_ns: int, models: MachineModels, detector: str = "embedding") -> Embedding:
    encoder = models.encoder(models.newest.active.encoder)
    return Embedding("m", ("mic",), detector, t_ns, values.astype("<f4"), encoder.model, encoder.settings, SPANS)


def fed(states: States, models: MachineModels, kinds: dict[str, np.ndarray], said: str, at: int = 0) -> list[Message]:
    """What follows from half-second windows that sound like the letters."""
    steps = (embedding(kinds[k], T0 + (at + n) * NS // 2, models) for n, k in enumerate(said))
    return list(itertools.chain.from_iterable(states.process(step) for step in steps))


def test_a_state_lasts_until_another_is_seen_often_enough(kinds: dict[str, np.ndarray]) -> None:
    """Two of three; a single window changes nothing, an unsure one counts as unknown."""
    models = learned_models()
    found = [m for m in fed(States(models), models, kinds, "ililiill??l?i") if isinstance(m, MachineState)]
    told = [((m.t_end_ns - T0) * 2 // NS, m.state) for m in found]
    assert told == [(2, "idle"), (3, "loud"), (4, "idle"), (7, "loud"), (9, UNKNOWN)] or told == [
        (2, "idle"), (3, "loud"), (4, "idle"), (7, "loud"), (9, UNKNOWN), (12, "idle")
    ]  # fmt: skip
    assert all(0.6 <= m.probability <= 1 for m in found if m.state != UNKNOWN)
    assert all(np.isnan(m.probability) for m in found if m.state == UNKNOWN)


def test_a_state_that_lasts_is_told_again(kinds: dict[str, np.ndarray]) -> None:
    """Every ten seconds of event time."""
    models = learned_models()
    found = [m for m in fed(States(models), models, kinds, "i" * 50) if isinstance(m, MachineState)]
    times = [m.t_end_ns for m in found]
    assert len(times) == 3 and np.diff(times).tolist() == [CONFIRM_NS, CONFIRM_NS]


@pytest.mark.parametrize("kind", [MachineState, Feature])
def test_what_lasts_is_told_again_by_a_clock_that_was_set_back(kinds: dict[str, np.ndarray], kind: type) -> None:
    """A state, and how its shadow differs: as often in a new stream that begins an hour before as in one behind."""
    models, told = shadowed(), []
    for back_s in (0, 3600):
        states, times = States(models), []
        for epoch, t_ns in ((0, T0), (1, T0 + (60 - back_s) * NS)):
            span = Span("mic", epoch, 0, 49_800)
            steps = (embedding(kinds["i"], t_ns + n * NS // 2, models) for n in range(90))
            found = [m for step in steps for m in states.process(replace(step, lineage=(span,)))]
            times.append([m.t_end_ns - t_ns for m in found if isinstance(m, kind) and _name(m) == "state"])
        assert np.diff(times[1]).tolist() == [CONFIRM_NS] * 4
        told.append(times)
    assert told[0] == told[1]


def _name(message: Message) -> str:
    return message.detector if isinstance(message, MachineState) else message.name.removeprefix("shadow.")


def test_scores_are_the_probability_of_the_abnormal_labels(kinds: dict[str, np.ndarray]) -> None:
    """Softmax of the head's logits, with what it was recognised as."""
    models = learned_models()
    scores = [m for m in fed(States(models), models, kinds, "il?") if isinstance(m, Score)]
    assert [m.detector for m in scores] == ["loudness"] * 3
    assert scores[0].value < 0.05 < 0.95 < scores[1].value
    assert scores[2].value == pytest.approx(0.5, abs=1e-3)
    assert [m.abnormal for m in scores[:2]] == [False, True]
    assert scores[1].reasons["label"] == "loud" and "recognised as loud" in scores[1].reasons["text"]


def test_snapshots_carry_states_and_comparisons_on(kinds: dict[str, np.ndarray]) -> None:
    """Cut anywhere, the rest is the same."""
    said = "iiillliilli" * 3
    for cut in range(1, len(said), 4):
        models = shadowed()
        whole = fed(States(models), models, kinds, said)
        first, second = States(models), States(models)
        parts = fed(first, models, kinds, said[:cut])
        second.restore(first.snapshot())
        parts += fed(second, models, kinds, said[cut:], cut)
        assert [record_of(m).body for m in parts] == [record_of(m).body for m in whole]  # type: ignore[arg-type]


def shadowed(gain: float = 0.01) -> MachineModels:
    """A shadow with the same encoder and a head that calls everything `loud`."""
    models = learned_models()
    folder = learned_folder() / f"biased-{gain:g}"
    package = models.shelf.add(learned_folder() / "encoder-1")
    at = np.zeros((2, 24))
    at[0, 0] = 30.0  # far from everything
    head = packages.head(folder, package.digest, 24, ("idle", "loud"), at, gain=gain, version="biased")
    models.shelf.add(folder)
    active = models.first.active
    shadow = active.with_head("state", head.digest).with_head("loudness", head.digest)
    return MachineModels("m", models.config, models.shelf, Standing(active, shadow))


def test_a_shadow_is_compared_window_by_window(kinds: dict[str, np.ndarray]) -> None:
    """Its detectors have names of their own; the counts say how often it differs, and how."""
    models = shadowed()
    found = fed(States(models), models, kinds, "iiilliiiii" * 3)
    told = [m for m in found if isinstance(m, Feature) and m.name == "shadow.state"]
    assert told[0].values == {"windows": 1.0, "disagreed": 1.0, "idle|loud": 1.0}
    assert told[-1].values == {"windows": 21.0, "disagreed": 17.0, "idle|loud": 17.0}
    states = {(m.detector, m.state) for m in found if isinstance(m, MachineState)}
    assert states >= {("state", "idle"), ("shadow.state", "loud")}
    assert {m.detector for m in found if isinstance(m, Score)} == {"loudness", "shadow.loudness"}


def test_settings_tell_packages_and_parameters_apart(kinds: dict[str, np.ndarray]) -> None:
    """A result's id changes with whatever changes the result, and with nothing else."""
    models = learned_models()

    def settings_of(changed: MachineModels) -> str:
        return next(m.settings for m in fed(States(changed), changed, kinds, "iii") if isinstance(m, MachineState))

    def with_head(**update: object) -> MachineModels:
        head = models.config.heads[0].model_copy(update=update)
        config = models.config.model_copy(update={"heads": (head, models.config.heads[1])})
        return MachineModels("m", config, models.shelf, models.first)

    same = {settings_of(models), settings_of(models.for_lane()), settings_of(with_head())}
    others = {settings_of(with_head(unknown_below=0.7)), settings_of(with_head(n=2)), settings_of(with_head(k=3))}
    assert len(same) == 1 and len(others) == 3 and not same & others


def test_embeddings_travel_as_their_bits(kinds: dict[str, np.ndarray]) -> None:
    """Binary mode with headers; the body that journals keep holds the digest."""
    sent = embedding(kinds["i"], T0 + 7, learned_models())
    wire = codec.encode(sent)
    assert wire.value == kinds["i"].astype("<f4").tobytes() and codec.topic_of(sent) == "embedding"
    back = codec.decode(*wire)
    assert isinstance(back, Embedding)
    assert back.values.tobytes() == sent.values.tobytes() and not back.values.flags.writeable
    assert record_of(back) == record_of(sent)
    assert record_of(sent).body["dimension"] == 24 and len(record_of(sent).body["sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ce_specversion", b"2.0", "version"), ("ce_shape", b"1,23", "length"), ("ce_shape", b"2,12", "length"),
        ("ce_dtype", b"<f8", "dtype"), ("ce_source", b"/m/mic", "source"), ("ce_sensors", b"mic", "schema"),
        ("ce_spans", b'[["mic",0,0]]', "schema"), ("ce_tend", b"soon", "number"), ("ce_model", None, "missing"),
        ("ce_source", b"/%ff", "not_utf8"),
    ],
)  # fmt: skip
def test_a_damaged_embedding_is_refused(
    kinds: dict[str, np.ndarray], name: str, value: bytes | None, reason: str
) -> None:
    """With one of the codec's reasons."""
    found, body = codec.encode(embedding(kinds["i"], T0, learned_models()))
    told = [(n, v) for n, v in found if n != name] + ([] if value is None else [(name, value)])
    with pytest.raises(DecodeError) as caught:
        codec.decode(told, body)
    assert caught.value.reason == reason


def test_an_embedding_that_is_not_finite_has_no_form_on_the_wire(kinds: dict[str, np.ndarray]) -> None:
    """It would be a dead letter before."""
    bad = replace(embedding(kinds["i"], T0, learned_models()), values=np.array([np.nan], np.float32))
    with pytest.raises(BadInput, match="no vector of finite numbers"):
        codec.encode(bad)
    assert headers.TYPE in dict(codec.encode(embedding(kinds["i"], T0, learned_models())).headers)


def test_what_sinks_show(kinds: dict[str, np.ndarray]) -> None:
    """One gauge per machine, sensor and detector that moves from state to state; the shadow's counts beside it."""
    models, sink = shadowed(), PrometheusSink()
    records = [record_of(m, n) for n, m in enumerate(fed(States(models), models, kinds, "iiillll"))]  # type: ignore[arg-type]
    sink.write(records)
    page = sink.render("")[0].decode()
    assert 'stethos_machine_state{detector="state",machine="m",sensors="mic",state="loud"} 1.0' in page
    assert 'state="idle"' not in page
    assert 'stethos_shadow_disagreements{detector="state",machine="m",sensors="mic"} 1.0' in page
    tags, fields = point(next(r for r in records if r.topic == "machine_state"))
    assert tags == {"machine": "m", "sensors": "mic", "detector": "state"}
    assert fields["state"] == "idle" and isinstance(fields["probability"], float)


def test_an_encoder_of_other_features_is_refused() -> None:
    """The hash of the front end is part of the contract."""
    from models.packages import Card, Input, Output, write
    from operators.mel import DRILL

    package = Shelf().add(learned_folder() / "encoder-1")
    card = Card(
        kind="encoder", name="other", version="1", opset=17, grid=packages.GRID, pooling="band", batch=4,
        input=Input(DRILL.hash, "drill", (1, 128, 128), 48_000.0), outputs=(Output("tokens", (8, packages.WIDTH)),),
    )  # fmt: skip
    folder = learned_folder() / "drill"
    write(folder, card, (package.folder / "model.onnx").read_bytes(), package.golden.x)
    with pytest.raises(BadInput, match=r"reads images of front end .* \(drill\), not of .* \('paper'\)"):
        configured("m", Model.model_validate({"encoder": str(folder)}), Shelf())
