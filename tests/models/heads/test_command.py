"""From labelled clips to a package and its page, by the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from models.heads.export import Reads, graph, write_head
from models.heads.head import Head
from models.heads.labels import Region, read_track
from models.packages import load
from models.packages.shipped import locate
from models.probe.clips import Facts
from models.probe.features import Encoder, LogMelMean
from models.probe.seconds import seconds
from operators.logmel import clip
from operators.mel import PAPER
from pipeline.cli.main import main
from pipeline.cli.probing import Source, apart, features_of
from pipeline.cli.tracks import names_of, sources_of_track
from pipeline.cli.train_head import pooled
from pipeline.clips import read_clip
from pipeline.errors import BadInput
from pipeline.manifest import Row, read_manifest
from pipeline.messages import Anchor, Chunk, Mark, Rate, Stream
from pipeline.recording.recorder import Recorder, Start
from tests.models.probe.rig import encoder, manifest, sound

TONES = {"idle": 300.0, "cutting": 2500.0}


def folder(tmp_path: Path, groups: int = 3, seconds_each: float = 3.0, **more: object) -> Path:
    """A manifest of two states on several occasions."""
    rows = []
    for label, tone in TONES.items():
        for g in range(groups):
            sound(tmp_path / f"{label}{g}.wav", seconds_each, tone, seed=g)
            rows.append({"path": f"{label}{g}.wav", "label": label, "group": f"day {g} {label}", **more})
    return manifest(tmp_path / "m.csv", rows)


def run(*args: object) -> int:
    """The exit code of stethos train head."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "head", *map(str, args)])
    return int(stop.value.code or 0)


def features(path: Path) -> np.ndarray:
    """Time-mean log-Mel of each second, by hand."""
    x = soundfile.read(path, dtype="float32")[0]
    return np.stack([clip(x[i : i + 48_000], 48_000, PAPER).values.mean(axis=1) for i in range(0, len(x), 48_000)])


def test_graph_is_the_head() -> None:
    """ONNX Runtime gives what numpy gives, two layers included."""
    rng = np.random.default_rng(0)
    layers = ((rng.normal(size=(20, 16)), rng.normal(size=16)), (rng.normal(size=(16, 3)), rng.normal(size=3)))
    head = Head("two_layer", ("a", "b", "c"), layers)
    x = rng.normal(size=(21, 20)).astype(np.float32)
    import onnxruntime as ort

    session = ort.InferenceSession(graph(head), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {"embedding": x})[0] - head.logits(x)).max() < 1e-4


def test_from_clips_to_a_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The package answers rightly on fresh sound, carries what it read, and its page shows how good it is."""
    assert run("--manifest", folder(tmp_path), "--encoder", "logmel", "--out", tmp_path / "head") == 0
    assert "mean F1 1.000" in capsys.readouterr().out
    package = load(tmp_path / "head")
    card = package.card
    assert (card.kind, card.encoder, card.labels, card.thresholds) == (
        "head",
        "logmel",
        ("cutting", "idle"),
        {"abstain": 0.6},
    )
    assert card.training["clips"] == {"cutting": 9, "idle": 9} and len(card.training["groups"]) == 6
    assert card.scores["evaluation"]["held"] == "left out"
    for label, tone in TONES.items():
        sound(tmp_path / "fresh.wav", 2.0, tone, seed=99)
        logits = package.session().run(features(tmp_path / "fresh.wav"))["logits"]
        assert {card.labels[i] for i in logits.argmax(axis=1)} == {label}
    page = (tmp_path / "head.html").read_text("utf-8")
    assert "Confusion" in page and "groups left out in turn" in page


def test_an_encoder_beside_the_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The head carries the encoder's digest; a baseline that is as good is recommended; auto then takes it."""
    tiny = encoder(tmp_path / "tiny")
    m = folder(tmp_path)
    assert run("--manifest", m, "--encoder", tiny.folder, "--pooling", "band", "--out", tmp_path / "a") == 0
    assert "; use --encoder logmel" in capsys.readouterr().out
    card = load(tmp_path / "a").card
    assert (card.encoder, card.pooling, card.input.shape) == (tiny.digest, "band", (32,))
    assert "logmel" in card.scores and "log-Mel baseline" in (tmp_path / "a.html").read_text("utf-8")
    assert run("--manifest", m, "--encoder", tiny.folder, "--encoder", "logmel", "--out", tmp_path / "b") == 0
    assert load(tmp_path / "b").card.encoder == "logmel"


def test_split_rows_judge(tmp_path: Path) -> None:
    """Rows of the test split teach nothing and are what is reported; labels never taught are named."""
    rows = []
    for label, tone in {**TONES, "odd": 7000.0}.items():
        for g in range(3):
            sound(tmp_path / f"{label}{g}.wav", 2.0, tone, seed=g)
            split = "test" if g == 2 or label == "odd" else "train"
            rows.append({"path": f"{label}{g}.wav", "label": label, "group": f"{label}{g}", "split": split})
    m = manifest(tmp_path / "m.csv", rows)
    assert run("--manifest", m, "--encoder", "logmel", "--out", tmp_path / "head") == 0
    card = load(tmp_path / "head").card
    assert card.labels == ("cutting", "idle") and card.training["clips"] == {"cutting": 4, "idle": 4}
    assert card.scores["evaluation"]["held"] == "test" and card.scores["evaluation"]["clips"] == 4
    assert any("never taught were not judged: odd" in note for note in card.training["notes"])


def test_a_test_split_without_a_class_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A figure is of the classes tested; of one alone there is none."""
    rows = []
    for label, tone in {**TONES, "off": 7000.0}.items():
        for g in range(3):
            sound(tmp_path / f"{label}{g}.wav", 2.0, tone, seed=g)
            rows.append({"path": f"{label}{g}.wav", "label": label, "group": f"{label}{g}", "split": "train"})
    for name, tests in (("two", ("idle2", "cutting2")), ("one", ("idle2",))):
        marked = [row | {"split": "test"} if row["group"] in tests else row for row in rows]
        m = manifest(tmp_path / f"{name}.csv", marked)
        assert run("--manifest", m, "--encoder", "logmel", "--kind", "linear", "--out", tmp_path / name) == 0
    said, two, one = capsys.readouterr().out, load(tmp_path / "two").card, load(tmp_path / "one").card
    assert said.count("mean F1") == 1 and "of the classes tested (2 of 3) on 4 clips (test)" in said
    assert "of the classes tested (2 of 3)" in (tmp_path / "two.html").read_text("utf-8")
    assert "no test clips were not judged: off." in two.training["notes"][-1]
    assert one.scores["evaluation"] == "none, test clips of one class only"
    assert "Add test clips of cutting, off" in (tmp_path / "one.html").read_text("utf-8")


@pytest.mark.parametrize("copied", ["twin", "copy"])
def test_one_sound_in_two_groups_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], copied: str) -> None:
    """Under another name, or as another sensor of a file whose channels are averaged."""
    rows = []
    for label, tone in TONES.items():
        sound(tmp_path / f"{label}.wav", 2.0, tone)
        shutil.copy(tmp_path / f"{label}.wav", tmp_path / f"{label}-copy.wav")
        for split, sensor, name in (("train", "left", label), ("test", "right", f"{label}-copy")):
            path = label if copied == "twin" else name
            group = f"{label} {split}"
            rows.append({"path": f"{path}.wav", "label": label, "group": group, "sensor": sensor, "split": split})
    m = manifest(tmp_path / "m.csv", rows)
    assert run("--manifest", m, "--encoder", "logmel", "--out", tmp_path / "head") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert ("the same seconds of" if copied == "twin" else "are equal to the bit") in said
    assert not (tmp_path / "head").exists()


def track(path: Path, *regions: tuple[float, float, str]) -> Path:
    """A label track with the line of frequencies that newer versions write."""
    path.write_text("".join(f"{a:.6f}\t{b:.6f}\t{label}\n\\\t100.0\t2000.0\n" for a, b, label in regions), "utf-8")
    return path


def test_label_tracks(tmp_path: Path) -> None:
    """Regions teach; one recording is one occasion, so that no accuracy is claimed."""
    x = np.concatenate([0.1 * np.sin(2 * np.pi * f * np.arange(12 * 48_000) / 48_000) for f in TONES.values()])
    soundfile.write(tmp_path / "a.wav", x + 0.01 * np.random.default_rng(0).normal(size=len(x)), 48_000)
    labels = track(tmp_path / "a.txt", (0.0, 12.0, "idle"), (12.0, 24.0, "cutting"))
    assert run("--labels", labels, "--audio", tmp_path / "a.wav", "--encoder", "logmel", "--out", tmp_path / "h") == 0
    card = load(tmp_path / "h").card
    assert card.training["clips"] == {"cutting": 12, "idle": 12}
    assert card.scores["evaluation"] == "none, one occasion only"
    assert "No accuracy is reported" in (tmp_path / "h.html").read_text("utf-8")


def test_label_track_on_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds count from the sensor's first sample in the MCAP file, gaps included."""
    stream = Stream("mill", "mic", 0, "acoustic", Rate(16_000), 1, "<i2", "FS", 1 / 32768)
    t0 = 1_700_000_000_000_000_000
    t = np.arange(16_000) / 16_000
    with Recorder(tmp_path / "r.mcap", Start(), t0) as recorder:
        for s in [*range(6), *range(8, 14)]:
            f = TONES["idle"] if s < 7 else TONES["cutting"]
            x = (8000 * np.sin(2 * np.pi * f * t) + np.random.default_rng(s).normal(0, 300, 16_000)).astype("<i2")
            recorder.write(Chunk(stream, Anchor(0, t0), 16_000 * s, s, x[:, None]), t0 + s)
        recorder.write(Mark(stream, Anchor(0, t0), 14 * 16_000, 14 * 16_000, "end"), t0 + 15)
    labels = track(tmp_path / "r.txt", (0.0, 7.0, "idle"), (8.0, 14.0, "cutting"))
    assert run("--labels", labels, "--audio", tmp_path / "r.mcap", "--encoder", "logmel", "--out", tmp_path / "h") == 0
    card = load(tmp_path / "h").card
    assert card.training["clips"] == {"cutting": 6, "idle": 6}
    args = ("--labels", labels, "--audio", tmp_path / "r.mcap", "--encoder", "logmel", "--out", tmp_path / "none")
    assert run(*args, "--sensor", "mill/mike") == 2
    assert "r.mcap: holds mill/mic; name one with --sensor" in capsys.readouterr().err


def test_tracks_are_read_strictly(tmp_path: Path) -> None:
    """Points are left out and named; overlaps, text and emptiness are refused."""
    regions, notes = read_track(track(tmp_path / "a", (5.0, 5.0, "click"), (1.0, 3.0, "on"), (3.0, 4.0, "off")))
    assert regions == [Region(1.0, 3.0, "on"), Region(3.0, 4.0, "off")] and "click" in notes[0]
    bad = {
        "overlap": "0\t3\ta\n2\t5\tb\n",
        "between tabs": "0 3 a\n",
        "must be seconds": "x\t3\ta\n",
        "after it starts": "3\t1\ta\n",
        "no region": "1\t1\ta\n",
    }
    for reason, text in bad.items():
        (tmp_path / "b").write_text(text)
        with pytest.raises(BadInput, match=reason):
            read_track(tmp_path / "b")


def test_bad_input_ends_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, a sentence, no package."""
    sound(tmp_path / "a.wav", 3.0, 300)
    sound(tmp_path / "b.wav", 3.0, 300)
    sound(tmp_path / "short.wav", 0.2, 300)
    soundfile.write(tmp_path / "nan.wav", np.full((96_000, 1), np.nan, np.float32), 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(96_000), 48_000)
    good = {"path": "a.wav", "label": "x", "group": "g"}
    torn = [{**good, "split": s} for s in ("train", "test")]
    cases = {
        "all are labelled 'x'": [good, {**good, "path": "b.wav", "group": "h"}],
        "the same seconds of a.wav": [good, {**good, "path": "./a.wav", "label": "y", "group": "h"}],
        "more than one split": torn,
        "'X' and 'x' differ in case alone": [good, {**good, "path": "b.wav", "group": "h", "label": "X"}],
        "no sound|no recordings of sound or vibration": [{**good, "path": "a.png"}],
        "gone": [{**good, "group": "h"}, {"path": "gone.wav", "label": "y", "group": "i"}],
        "labelled 'x'": [
            good,
            *({"path": f"{n}.wav", "label": "y", "group": n} for n in ("short", "nan", "silent", "gone")),
        ],
    }
    for i, (reason, rows) in enumerate(cases.items()):
        m = manifest(tmp_path / f"m{i}.csv", rows)
        assert run("--manifest", m, "--encoder", "logmel", "--out", tmp_path / "head") == 2
        assert any(part in capsys.readouterr().err for part in [reason.split("|")[-1]])
        assert not (tmp_path / "head").exists()
    assert run("--out", tmp_path / "head") == 2
    assert "one --audio FILE for each" in capsys.readouterr().err


def test_stereo_and_other_rates_teach_alike(tmp_path: Path) -> None:
    """Two channels at 32 kHz: resampled and averaged; what cannot be used is noted on the card."""
    rows = []
    for label, tone in TONES.items():
        for g in range(2):
            sound(tmp_path / f"{label}{g}.flac", 2.0, tone, seed=g, rate=32_000, channels=2)
            rows.append({"path": f"{label}{g}.flac", "label": label, "group": f"{label}{g}"})
    rows.append({"path": "gone.flac", "label": "idle", "group": "z"})
    m = manifest(tmp_path / "m.csv", rows)
    assert run("--manifest", m, "--encoder", "logmel", "--kind", "linear", "--out", tmp_path / "h") == 0
    card = load(tmp_path / "h").card
    assert card.training["clips"] == {"cutting": 4, "idle": 4}
    assert any("gone.flac" in note for note in card.training["notes"])
    x = next(seconds(read_clip(Row("i", tmp_path / "idle0.flac", "", "", "", "", "acoustic")).pieces[0])).image
    assert card.labels[load(tmp_path / "h").session().run(x.mean(axis=1)[None])["logits"].argmax()] == "idle"


def test_packages_are_never_overwritten(tmp_path: Path) -> None:
    """Another head needs another name."""
    m = folder(tmp_path, 2, 2.0)
    head = Head("linear", ("a", "b"), ((np.eye(4, 2), np.zeros(2)),))
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    before = write_head(tmp_path / "h", head, Reads(), x, {}, {}).digest
    assert run("--manifest", m, "--encoder", "logmel", "--out", tmp_path / "h") == 2
    assert load(tmp_path / "h").digest == before
    assert json.loads((tmp_path / "h" / "card.json").read_text())["kind"] == "head"


def test_encoders_of_one_name_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each gives the features that it gives alone; the head names the right one; one named twice stands once."""
    one, two = encoder(tmp_path / "x" / "tiny", seed=1), encoder(tmp_path / "y" / "tiny", seed=2)
    copy = encoder(tmp_path / "z" / "tiny", seed=1)
    rows = read_manifest(folder(tmp_path))
    sources = [Source(row, Facts(row.name, 0.0, row.label, row.group, row.sensor, row.label)) for row in rows]
    both = apart(Encoder("tiny", package) for package in (one, two, copy))
    assert [e.name for e in both] == [f"tiny@{package.digest[:8]}" for package in (one, two)]
    facts, found, _ = features_of("x", sources, both, None, lambda _: None)
    alone = features_of("x", sources, [Encoder("tiny", two)], None, lambda _: None)[1]
    assert np.array_equal(found[f"{both[1].name} mean"], alone["tiny mean"]) and len(facts) == 18
    with pytest.raises(BadInput, match="tiny cls has 36 rows for 18 clips"):
        features_of("x", sources, [Encoder("tiny", one), Encoder("tiny", two)], None, lambda _: None)
    args = ("--encoder", one.folder, "--encoder", two.folder, "--pooling", "mean", "--out", tmp_path / "h")
    assert run("--manifest", tmp_path / "m.csv", *args) == 0
    chosen = next(package for package in (one, two) if package.digest == load(tmp_path / "h").card.encoder)
    assert f"promote {chosen.folder} {tmp_path / 'h'}" in capsys.readouterr().out


def test_groups_of_tracks_are_those_of_a_manifest(tmp_path: Path) -> None:
    """The name of the file, or the path as given where different files share it."""
    labels = track(tmp_path / "a.txt", (0.0, 2.0, "idle"))
    sound(tmp_path / "mon1.wav", 2.0, 300)
    (source,) = sources_of_track(labels, tmp_path / "mon1.wav", "")[0]
    assert source.row.group == source.facts.group == "mon1.wav"
    assert names_of([Path("d1/rec.wav"), Path("d2/rec.wav"), Path("a.wav"), Path("a.wav")]) == [
        "d1/rec.wav", "d2/rec.wav", "a.wav", "a.wav"
    ]  # fmt: skip
    regions: list[object] = []
    for day, tone in (("d1", 300.0), ("d2", 2500.0)):
        sound(tmp_path / day / "rec.wav", 4.0, tone)
        path = track(tmp_path / f"{day}.txt", (0.0, 2.0, "idle"), (2.0, 4.0, "cutting"))
        regions += ["--labels", path, "--audio", tmp_path / day / "rec.wav"]
    assert run(*regions, "--encoder", "logmel", "--out", tmp_path / "h") == 0
    assert load(tmp_path / "h").card.training["groups"] == [str(tmp_path / day / "rec.wav") for day in ("d1", "d2")]


def test_regions_that_overlap_across_others_are_refused(tmp_path: Path) -> None:
    """A short region of the same label between them hides no contradiction."""
    labels = track(tmp_path / "a.txt", (0.0, 10.0, "idle"), (1.0, 2.0, "idle"), (5.0, 6.0, "cutting"))
    with pytest.raises(BadInput, match="'idle' until 10 s and 'cutting' from 5 s overlap"):
        read_track(labels)


def test_two_tracks_that_contradict_each_other_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same seconds of one file under two labels, each track being fine by itself."""
    sound(tmp_path / "a.wav", 6.0, 300)
    tracks = [
        track(tmp_path / "1.txt", (0.0, 4.0, "idle")),
        track(tmp_path / "2.txt", (3.0, 6.0, "cutting")),
    ]
    line = [part for one in tracks for part in ("--labels", one, "--audio", tmp_path / "a.wav")]
    assert run(*line, "--encoder", "logmel", "--out", tmp_path / "h") == 2
    assert "labelled 'idle' and 'cutting'" in " ".join(capsys.readouterr().err.split())


def test_a_pooling_is_asked_for_before_anything_is_embedded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder that was named and has no class token is refused; among several it is left out, with a note."""
    edge, m = locate("impact-edge"), folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "vectors", lambda *_: pytest.fail("embedded"))
        assert run("--manifest", m, "--encoder", edge, "--pooling", "cls", "--out", tmp_path / "h") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "impact-edge has no pooling 'cls': one of mean, band, band+logmel" in said
    tiny = Encoder("tiny", encoder(tmp_path / "tiny"))
    there: list[Any] = [LogMelMean(), tiny, Encoder("edge", load(edge))]
    assert pooled(there, ["auto"], "cls") == (there[:2], ["edge has no pooling cls and was left out."])
    assert pooled(there, ["auto"], "band") == (there, [])
