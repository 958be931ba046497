"""The layout of DINOS on a synthetic copy of it, and the whole benchmark on that copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.probe import dinos
from models.probe.tasks import TASKS, class_key, task_of
from pipeline.cli.bench_impact import impact
from pipeline.cli.main import main
from pipeline.errors import BadInput
from tests.models.probe.rig import encoder, manifest, sound

YORNEW = ("007-1.0_6.35_25.4_4000_chatter", "011-3.0_6.35_76.2_12000_chatter", "010-3.0_6.35_76.2_12000_normal")
SPRAY = ("1-normal_stethoscope", "2-depleted_stethoscope", "5-normal_mic", "6-depleted_mic")


def layout(root: Path, seconds: int = 14) -> Path:
    """Two classes of two machines, two sensors of a third, in both parts; one long file of 2.4 s."""
    base = root / "Datasets"
    for m, (machine, classes) in enumerate({"RenishawL": ("Off", "On"), "Yornew": YORNEW, "ColdSpray": SPRAY}.items()):
        for c, name in enumerate(classes):
            for i in range(seconds):
                part = "train" if i % 5 == 0 else "test"
                stem = f"take{name.split('_')[-1] if machine == 'ColdSpray' else ''}_{i:03d}"
                path = base / f"DINOS_Downstreams_{part}" / machine / name / f"{stem}.wav"
                sound(path, 1.0, 300 + 900 * (c % 2) + 100 * m, seed=100 * m + 17 * c + i)
    sound(base / "DINOS_Downstreams_train" / "RenishawL" / "On" / "long_100.wav", 2.4, 1200)
    return root


def test_layout(tmp_path: Path) -> None:
    """Every file has its task, its sensor, and takes of one moment share group and second."""
    files = dinos.read_layout(layout(tmp_path))
    assert {f.machine for f in files} == {"RenishawL", "Yornew", "ColdSpray"}
    by_folder = {f.path.parent.name: f.label for f in files}
    assert [by_folder[name] for name in ("On", "Off", *YORNEW, *SPRAY)] == [
        "T1", "T2", "T12", "T16", "T15", "T23", "T24", "T27", "T28"
    ]  # fmt: skip
    spray = [f for f in files if f.machine == "ColdSpray" and f.condition == "normal"]
    moments = {s: {(f.group, f.second) for f in spray if f.sensor == s} for s in ("stethoscope", "mic")}
    assert len(moments["mic"]) == 14 and moments["mic"] == moments["stethoscope"]
    assert {f.sensor for f in files if f.machine == "RenishawL"} == {"stethoscope"}


def test_every_class_of_the_benchmark_has_a_folder_name() -> None:
    """The documented forms, all thirty."""
    names = {"on": "On", "off": "Off", "warmup": "Warm-up"}
    spray = {"normal": "normal", "depleted": "depleted powder", "clogging": "powder clogging", "nogas": "no gas supply"}
    for i, task in enumerate(TASKS):
        if task.machine == "Yornew":
            depth, rpm, chatter = task.key.split("/")
            folder = f"{i:03d}-{depth}_6.35_7.62_{rpm}_{'chatter' if chatter == 'y' else 'normal'}"
        elif task.machine == "ColdSpray":
            state, sensor = task.key.split("/")
            folder = f"{i}-{spray[state]}_{sensor}"
        else:
            folder = names[task.key]
        assert task_of(task.machine, class_key(task.machine, folder)) == task


@pytest.mark.parametrize(("machine", "folder"), [("Yornew", "chatter"), ("VF2", "broken"), ("ColdSpray", "9-hot_mic")])
def test_other_folders_are_refused(machine: str, folder: str) -> None:
    """By name."""
    with pytest.raises(BadInput, match=folder):
        class_key(machine, folder)


def test_normal_is_without_chatter() -> None:
    """The authors' configuration lists the chatter folders; ours does not."""
    normal = dinos.normal_classes("Yornew")
    assert {"T15", "T17"} <= normal and not {"T12", "T16", "T18"} & normal
    assert dinos.normal_classes("ColdSpray") == {"T23", "T27"} and dinos.normal_classes("RenishawL") == {"T1"}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """With what was looked for."""
    with pytest.raises(BadInput, match="DINOS_Downstreams_train"):
        dinos.read_layout(tmp_path)


def test_remarks_name_what_differs_from_the_publication() -> None:
    """Counts, and for Yornew what is normal and where chatter alone differs."""
    full = {t.name: t.clips for t in TASKS if t.machine == "VF2"}
    assert dinos.remarks("VF2", full) == []
    assert dinos.remarks("VF2", full | {"T4": 7}) == ["not the published number of clips: T4 7 of 504"]
    (text,) = dinos.remarks("Yornew", {t.name: t.clips for t in TASKS if t.machine == "Yornew"})
    assert "T15/T16 and T17/T18" in text and "T6, T7, T8, T9, T10, T11, T13, T15, T17 (no chatter)" in text


def test_the_whole_benchmark(tmp_path: Path) -> None:
    """Both protocols, across sensors, published beside own; a second run takes everything over."""
    data, out = layout(tmp_path / "data"), tmp_path / "out"
    encoder(tmp_path / "tiny")
    options = ["--data", data, "--encoder", tmp_path / "tiny", "--out", out, "--repeats", "2", "--json", tmp_path / "j"]
    done = CliRunner().invoke(impact, [*map(str, options), "--head", "logistic"])
    assert done.exit_code == 0, done.output
    summary = json.loads((out / "summary.json").read_text("utf-8"))["problems"]
    assert set(summary) == {"ColdSpray", "RenishawL", "Yornew"}
    assert summary["RenishawL"]["classes"] == {"T1": 17, "T2": 14}  # 2.4 s are three clips
    protocols = summary["ColdSpray"]["protocols"]
    assert set(protocols) == {
        "paper", "leak-free", "trained on mic, tested on stethoscope", "trained on stethoscope, tested on mic"
    }  # fmt: skip
    models = protocols["leak-free"]["models"]
    features = ("logmel", "tiny cls", "tiny mean", "tiny band", "tiny band+logmel")
    assert set(models) == {"majority", *(f"{name} + logistic" for name in features)}
    assert models["logmel + logistic"]["minus_baseline"] is None
    easy = summary["RenishawL"]["protocols"]["leak-free"]["models"]
    assert easy["majority"]["f1"]["mean"] < 0.5 < 0.8 < easy["logmel + logistic"]["f1"]["mean"]
    assert "IMPACT (published)" in done.output and "0.9525 ± 0.0116" in done.output
    assert any("T23 14 of 1214" in note for note in summary["ColdSpray"]["notes"])
    assert any("two published standard deviations of 0.9525 ± 0.0116" in note for note in summary["ColdSpray"]["notes"])
    report = (out / "report.html").read_text("utf-8")
    assert "T23 Normal (stethoscope)" in report and "IMPACT (published)" in report
    lines = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    assert {line["problem"] for line in lines} == set(summary)

    kept = {p: p.stat().st_mtime_ns for folder in ("features", "runs") for p in (out / folder).rglob("*.npz")}
    again = CliRunner().invoke(impact, [*map(str, options), "--head", "logistic"])
    assert again.exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert json.loads((out / "summary.json").read_text("utf-8"))["problems"] == summary


def test_csv_manifests_of_dinos(tmp_path: Path) -> None:
    """filepath, start_sample, label, class_name: each row is one second of a file."""
    sound(tmp_path / "VF2" / "a.wav", 6.0, 300)
    sound(tmp_path / "VF2" / "b.wav", 6.0, 900)
    rows = [
        {"filepath": f"VF2/{f}.wav", "start_sample": 48_000 * s, "label": 0, "class_name": name}
        for f, name in (("a", "On"), ("b", "Off"))
        for s in range(6)
    ]
    files = dinos.read_csv(manifest(tmp_path / "m.csv", rows))
    assert dinos.is_dinos_csv(tmp_path / "m.csv")
    assert {f.label for f in files} == {"T3", "T4"} and files[2].first_s == 2.0
    out = tmp_path / "out"
    args = ["--manifest", str(tmp_path / "m.csv"), "--out", str(out), "--repeats", "2", "--head", "logistic"]
    assert CliRunner().invoke(impact, args).exit_code == 0
    summary = json.loads((out / "summary.json").read_text("utf-8"))["problems"]["VF2"]
    assert summary["clips"] == 12
    assert any("leak-free: not run; class" in note for note in summary["notes"])  # six seconds leave no gap


def test_bad_manifests_end_with_their_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One group, missing files, no sound: exit 2 or a note, never a figure that leaks."""
    sound(tmp_path / "a.wav", 8.0, 300)
    one = [
        {"path": "a.wav", "label": label, "group": "g", "start_s": s, "end_s": s + 4}
        for label, s in (("x", 0), ("y", 4))
    ]
    manifest(tmp_path / "one.csv", one)
    manifest(tmp_path / "gone.csv", [{"path": f"{n}.wav", "label": n, "group": n} for n in "pq"])
    manifest(tmp_path / "axis.csv", [{"path": "a.png", "label": "x", "group": "g"}])
    reasons = {
        "one": "all clips belong to the group 'g'",
        "gone": "there is no file",
        "axis": "no recordings of sound or vibration",
    }
    for name, reason in reasons.items():
        with pytest.raises(SystemExit) as stop:
            main(["bench", "impact", "--manifest", str(tmp_path / f"{name}.csv"), "--out", str(tmp_path / name)])
        assert stop.value.code == 2
        assert reason in capsys.readouterr().err
        assert not (tmp_path / name / "summary.json").exists()


def test_replaced_recordings_are_judged_anew(tmp_path: Path) -> None:
    """Of the same name, length and label: the figures are those of a new folder; two encoders may share a name."""
    rows = [{"path": f"{n}{g}.wav", "label": n, "group": f"{n}{g}"} for n in "pq" for g in range(3)]
    args = ["--manifest", str(manifest(tmp_path / "m.csv", list(rows))), "--repeats", "2", "--head", "logistic"]
    for i in (1, 2):
        args += ["--encoder", str(encoder(tmp_path / str(i) / "tiny", seed=i).folder)]
    found = []
    for out, apart_hz in (("old", 2000.0), ("old", 0.0), ("new", 0.0)):
        for row in rows:
            tone = 300.0 + apart_hz * (row["label"] == "q")
            sound(tmp_path / row["path"], 3.0, tone, seed=int(row["group"][1]) + int(apart_hz))
        done = CliRunner().invoke(impact, [*args, "--out", str(tmp_path / out)])
        assert done.exit_code == 0, done.output
        found.append(json.loads((tmp_path / out / "summary.json").read_text("utf-8"))["problems"])
    assert found[1] == found[2] != found[0]
    models = found[0]["machine"]["protocols"]["leak-free"]["models"]
    assert len({name.split(" ")[0] for name in models if name.startswith("tiny@")}) == 2
