"""A run that begins at a package or at another run computes what that computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from models.impact.begin import Beginning
from models.impact.crops import Crops
from models.impact.distil import teacher_from
from models.impact.export import Facts, export_package
from models.impact.network import Encoder
from models.impact.pretrain import Pretrainer
from models.impact.read_back import read_back
from models.impact.training import facts_for_card
from models.packages import load, write
from pipeline.cli.packaging import Judges, apart_from
from pipeline.errors import BadInput, StateError
from pipeline.pretraining import takes_of
from tests.models.impact.conftest import batches, settings
from tests.models.impact.test_bad_input import SETTINGS, run
from tests.models.impact.test_export import NORMED, TINY, images, trained
from tests.models.probe.rig import encoder as other_encoder
from tests.models.probe.rig import manifest, sound

WIDE = replace(TINY, name="wide", width=64, heads=8, hidden=128, depth=3)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package at eight bits."""
    folder = tmp_path_factory.mktemp("packed") / "pkg"
    export_package(trained(TINY), folder, images(12), Facts(name="t", version="4"))
    return folder


@pytest.mark.parametrize("size", [TINY, NORMED], ids=lambda s: s.name)
def test_a_float32_graph_gives_its_encoder_back(tmp_path: Path, size: object) -> None:
    encoder, x = trained(size), images(3)  # type: ignore[arg-type]
    package = export_package(encoder, tmp_path / "pkg", images(8), Facts(name="t", version="0"), int8=False)
    found = read_back(package.model, "t")
    assert found.size == size
    with torch.no_grad():
        torch.testing.assert_close(found(torch.from_numpy(x)), encoder(torch.from_numpy(x)), atol=1e-5, rtol=1e-4)


def test_an_8_bit_graph_gives_its_rounded_weights_back(packed: Path) -> None:
    """Each within half a step of its column's scale."""
    found, source = read_back(load(packed).model, "t"), trained(TINY)
    for name in ("blocks.0.ffn.0.weight", "blocks.1.attention.qkv.weight", "stem.patch.weight"):
        got, wanted = found.state_dict()[name], source.state_dict()[name]
        step = wanted.abs().amax(dim=1, keepdim=True) / 64
        assert ((got - wanted).abs() <= 0.5001 * step).all(), name
        assert (got != wanted).any()


def test_batch_statistics_change_nothing(packed: Path) -> None:
    """While it trains the normalisation takes the batch's own statistics; it computes what it did before."""
    made, x = Encoder(TINY), torch.from_numpy(images(16))
    Beginning(packed).give(made, x)
    with torch.no_grad():
        wanted = read_back(load(packed).model, "t")(x)
        torch.testing.assert_close(made.eval()(x), wanted, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(made.train()(x), wanted, atol=1e-4, rtol=1e-3)


def test_a_run_begins_where_another_stopped(tmp_path: Path) -> None:
    """Of the same size: student and teacher have its weights before the first step."""
    made = settings(epochs=1)
    first = Pretrainer(made, TINY, batches(made), tmp_path / "first")
    first.run()
    second = Pretrainer(made, TINY, batches(made), tmp_path / "second", beginning=Beginning(tmp_path / "first"))
    for part in ("student", "teacher"):
        state = second.modules[part].state_dict()
        for name, wanted in first.encoder.state_dict().items():
            assert (state[f"encoder.{name}"] == wanted).all(), (part, name)


def test_a_package_is_widened(packed: Path) -> None:
    """Every channel stands in two, as with a run."""
    wide = Encoder(WIDE)
    Beginning(packed).give(wide, torch.from_numpy(images(8)))
    bias = read_back(load(packed).model, "t").blocks[0].ffn[0].bias  # type: ignore[index]
    assert (wide.blocks[0].ffn[0].bias == bias.repeat_interleave(2)).all()  # type: ignore[index]


def test_what_does_not_fit_is_refused(packed: Path, tmp_path: Path) -> None:
    x = torch.from_numpy(images(8))
    with pytest.raises(BadInput, match="32 channels and 2 blocks, 'tiny' 32 and 3"):
        Beginning(packed).give(Encoder(replace(TINY, depth=3)), x)
    with pytest.raises(BadInput, match="choose another --size or --begin"):
        Beginning(packed).give(Encoder("small"), x)
    other_encoder(tmp_path / "foreign")
    with pytest.raises(BadInput, match="no graph of a `base` or `small` encoder"):
        Beginning(tmp_path / "foreign")
    edge = export_package(trained("edge"), tmp_path / "edge", images(8), Facts(name="e", version="0"))
    with pytest.raises(BadInput, match="no graph of a `base` or `small` encoder"):
        Beginning(edge.folder)


def test_images_of_another_front_end_are_refused(tmp_path: Path) -> None:
    """Neither what begins at a package nor what is distilled from one sees the images that it was taught on."""
    package = export_package(trained(TINY), tmp_path / "pkg", images(8), Facts(name="t", version="4"), int8=False)
    card = replace(package.card, input=replace(package.card.input, features="f" * 16))
    write(tmp_path / "other", card, package.model, images(2))
    for read in (Beginning, teacher_from):
        with pytest.raises(BadInput, match="reads images of front end ffffffffffffffff"):
            read(tmp_path / "other")


def test_a_size_that_does_not_fit_is_refused_before_the_reading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told in place of the recording that the reading would refuse."""
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan), 8_000, subtype="FLOAT")
    m = manifest(tmp_path / "m.csv", [{"path": "nan.wav", "label": "a", "group": "g"}])
    args = ("--manifest", m, "--size", "small", "--begin", "impact-base", "--out", tmp_path / "out")
    assert run("train", "impact", *args) == 2
    assert "choose another --size or --begin" in " ".join(capsys.readouterr().err.split())


def test_a_resumed_run_keeps_what_it_began_as(tmp_path: Path) -> None:
    """Its card must not tell of weights that it never had, nor forget those that it had."""
    made, folder = settings(epochs=1), tmp_path / "run"

    def begun(name: str | None) -> Pretrainer:
        return Pretrainer(made, TINY, batches(made), folder, None if name is None else {"began_as": name})

    begun("small, step 600").run(until=1)
    with pytest.raises(StateError, match="began as small, step 600, not as impact-small 3"):
        begun("impact-small 3 (feda562a3ca6ba92)")
    for other in (None, "small, step 900"):  # left out, or the other run has gone on
        begun(other).run(until=2 if other is None else 3)
        assert facts_for_card(folder)["data"]["began_as"] == "small, step 600"
    folder = tmp_path / "drawn"
    begun(None).run(until=1)
    with pytest.raises(StateError, match="began as drawn weights"):
        begun("small, step 600")


def test_a_held_out_copy_in_another_format_is_refused(tmp_path: Path) -> None:
    """Size, name and bytes of the file differ; its samples do not. Silence is no copy."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sound(tmp_path / "a" / "one.wav", 2.0, 300.0)
    x, rate = soundfile.read(tmp_path / "a" / "one.wav", dtype="int16")
    ending = x.copy()
    ending[-1] += 1  # differs behind what is compared first
    for name, samples in (("other.flac", ending), ("quiet.flac", 0 * x)):
        soundfile.write(tmp_path / "b" / name, samples, rate)
    soundfile.write(tmp_path / "a" / "quiet.wav", 0 * x, rate)
    crops = Crops(takes_of(tmp_path / "a"))
    apart_from(Judges(takes_of(tmp_path / "b")), crops)
    soundfile.write(tmp_path / "b" / "packed.flac", x, rate)
    with pytest.raises(BadInput, match=r"packed\.flac is a copy of one\.wav, which trains"):
        apart_from(Judges(takes_of(tmp_path / "b")), crops)


def test_labelled_recordings_are_read_before_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run must not end without its package because they are missing; a few that are left out are told."""
    rows = [{"path": f"{n}.wav", "label": "ab"[n % 2], "group": str(n)} for n in range(5)]
    m = manifest(tmp_path / "m.csv", rows)
    (tmp_path / "sounds").mkdir()
    sound(tmp_path / "sounds" / "x.wav", 2.0, 300.0)
    (tmp_path / "t.toml").write_text(SETTINGS)
    args = ("--manifest", tmp_path / "sounds", "--config", tmp_path / "t.toml", "--out", tmp_path / "out")
    assert run("train", "impact", *args, "--labelled", m) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--labelled: there is no clip" in said and "0.wav: there is no file" in said
    assert not (tmp_path / "out.training").exists()
    for n in range(4):
        sound(tmp_path / f"{n}.wav", 2.0, 300.0 + 100 * n)
    assert run("train", "impact", *args, "--labelled", m, "--until", 1) == 0
    assert "4.wav: there is no file" in capsys.readouterr().out


def test_the_command_goes_on_from_what_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One step from `impact-small`, calibrated on what did not train, its eight bits judged on labelled clips."""
    rows = []
    for number, (label, hz) in enumerate([("low", 200.0), ("low", 230.0), ("high", 5_000.0), ("high", 5_600.0)]):
        sound(tmp_path / f"{number}.wav", 4.0, hz, seed=number)
        rows.append({"path": f"{number}.wav", "label": label, "group": str(number)})
    labelled = manifest(tmp_path / "labelled.csv", rows)
    training = manifest(tmp_path / "m.csv", rows[:1])
    (tmp_path / "t.toml").write_text(SETTINGS.replace("clips_per_epoch = 4", "clips_per_epoch = 2"))
    args = ("--manifest", training, "--config", tmp_path / "t.toml", "--begin", "impact-small", "--version", 9)
    judged = ("--labelled", labelled, "--out", tmp_path / "out")
    assert run("train", "impact", *args, "--held-out", labelled, *judged) == 2  # one of them trains
    assert "0.wav trains, too" in " ".join(capsys.readouterr().err.split())
    held_out = manifest(tmp_path / "held_out.csv", rows[1:])
    assert run("train", "impact", *args, "--held-out", held_out, *judged) == 0
    card = load(tmp_path / "out").card
    assert card.training["data"]["began_as"].startswith("impact-small ")
    assert card.quantisation["calibrated_on"] == "3 recordings that did not train"
    probe = card.quantisation["probe"]
    assert (probe["clips"], probe["classes"], probe["heard_in_training"], probe["left_out"]) == (16, 2, 1, 0)
    for how in ("cls", "mean", "band", "band+logmel"):
        before, after, minus = (probe[how][key]["value"] for key in ("float32", "int8", "minus"))
        assert minus == pytest.approx(after - before, abs=1e-4)
        assert before > 0.9, how  # low and high are told apart by anything
    before = load(Path("models/weights/impact-small")).session()
    after, x = load(tmp_path / "out").session(), images(2)
    a, b = before.first(x).ravel(), after.first(x).ravel()
    assert float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) > 0.99  # one step away, and rounded anew


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([("a", "1"), ("a", "2")], "needs two classes"),
        ([("a", "1"), ("b", "1")], "group"),
        ([("a", "1"), ("A", "2")], "A"),
    ],
    ids=["one class", "one group", "spelt alike"],
)
def test_labels_that_cannot_judge_are_refused_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[tuple[str, str]], says: str
) -> None:
    sound(tmp_path / "a.wav", 2.0, 300.0)
    sound(tmp_path / "b.wav", 2.0, 400.0)
    found = [{"path": f, "label": r[0], "group": r[1]} for f, r in zip(("a.wav", "b.wav"), rows, strict=True)]
    m = manifest(tmp_path / "m.csv", found)
    assert run("train", "impact", "--manifest", m, "--labelled", m, "--out", tmp_path / "out") == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.training").exists()
