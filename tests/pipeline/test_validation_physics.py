"""`stethos validate --detector`: simulated sets out of the box, and manifests that tell too little."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from connectors.simulator.files import Kind, simulate
from pipeline.cli.main import stethos
from pipeline.errors import BadInput
from pipeline.manifest import NORMAL_LABELS, read_manifest
from pipeline.validation.choice import physics_scorer, validate_detector
from pipeline.validation.rates import quiet_until_s
from pipeline.validation.validate import validate

MILL_HZ, RPM, TEETH = 16_000, 9000.0, 3


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewritten(manifest: Path, name: str, **columns: str) -> Path:
    """The manifest with columns set to a value."""
    rows = [row | columns for row in table(manifest)]
    path = manifest.parent / name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones at the tooth passing, and from 2 s on in half of the recordings a chatter line with its neighbours."""
    folder = tmp_path_factory.mktemp("mill")
    t = np.arange(4 * MILL_HZ) / MILL_HZ
    lines = ["path,label,group,machine,sensor,modality,unit,split,spindle_rpm,teeth,onset_s"]
    passing = TEETH * RPM / 60.0
    for i in range(6):
        label = ("stable", "chatter")[i % 2] if i < 5 else "transition"
        x = 1e-3 * np.random.default_rng(i).standard_normal(len(t))
        for k in range(1, 8):
            x += (t > 1) * 0.05 / k * np.sin(2 * np.pi * k * passing * t + k)
        for k in (-1, 0, 1):
            x += (label == "chatter") * (t > 2) * 0.1 * np.sin(2 * np.pi * (922 + k * passing) * t)
        soundfile.write(folder / f"{i}.wav", x, MILL_HZ, subtype="PCM_16")
        onset = "2.0" if label == "chatter" else ""
        lines.append(f"{i}.wav,{label},g{i},mill,mic,acoustic,FS,test,{RPM},{TEETH},{onset}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder / "m.csv"


def test_chatter_from_the_command_line(mill: Path, tmp_path: Path) -> None:
    """The five files of a validation folder, with recall, delay and false alarms and their intervals."""
    arguments = ["validate", "--manifest", str(mill), "--detector", "chatter", "--out", str(tmp_path)]
    stethos.main(arguments, standalone_mode=False)
    assert {p.name for p in tmp_path.iterdir()} == {
        "summary.json", "scores.csv", "recordings.csv", "alarms.csv", "report.html",
    }  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["recall"]["value"] == 1.0 and summary["recall"]["n"] == 2
    assert summary["false_alarms_per_day"]["value"] == 0.0
    assert 0.0 < summary["delay_s_p50"]["value"] < 0.3
    decisions = {r["path"]: r["decision"] for r in table(tmp_path / "recordings.csv")}
    assert decisions == {"0.wav": "0", "1.wav": "1", "2.wav": "0", "3.wav": "1", "4.wav": "0", "5.wav": "0"}
    assert {a["path"] for a in table(tmp_path / "alarms.csv")} == {"1.wav", "3.wav"}
    assert "part of no figure" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"spindle_rpm": ""}, "no spindle speed"),
        ({"spindle_rpm": "0"}, "0 rpm"),
        ({"teeth": ""}, "number of teeth"),
        ({"spindle_rpm": "200"}, "too slow"),
        ({"spindle_rpm": str(1.03 * RPM), "label": "stable", "onset_s": ""}, "speed mismatch"),
    ],
)
def test_what_is_not_told_is_unverified(mill: Path, tmp_path: Path, columns: dict[str, str], why: str) -> None:
    """Nothing is raised, faults count as missed, and the reason stands beside each recording."""
    manifest = rewritten(mill, "untold.csv", **columns)
    said = validate_detector("chatter", read_manifest(manifest), None, NORMAL_LABELS, tmp_path)
    stable = [r for r in table(tmp_path / "recordings.csv") if r["path"] in {"0.wav", "2.wav", "4.wav"}]
    if why == "speed mismatch":  # a wrong speed: windows of the cut are unverified, none is called chatter
        assert all(r["decision"] == "0" for r in stable)
        return
    assert all("unverified" in r["why"] and why in r["why"] and r["decision"] == "0" for r in stable)
    assert any("unverified" in line for line in said)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["recall"]["value"] == 0.0
    assert "false_alarms_per_day" not in summary


@pytest.mark.parametrize(
    ("kind", "detector", "least"), [("drill", "drill", 0.8), ("bearing", "bearing", 0.7)]
)  # fmt: skip
def test_simulated_sets_out_of_the_box(kind: Kind, detector: str, least: float, tmp_path: Path) -> None:
    """What `stethos simulate` writes is judged without further settings."""
    manifest = simulate(kind, 901, 1.05 if kind == "drill" else 3.2, tmp_path / "set")
    validate_detector(detector, read_manifest(manifest), None, NORMAL_LABELS, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["recall"]["value"] >= least
    assert summary["false_alarms_per_day"]["value"] == 0.0


def test_a_drill_without_good_holes_is_not_commissioned(tmp_path: Path) -> None:
    """Holes of another program teach nothing."""
    manifest = simulate("drill", 3, 0.4, tmp_path / "set")
    rows = read_manifest(rewritten(manifest, "other.csv", split="test"))
    validate(rows, physics_scorer("drill_break", rows), tmp_path / "out")
    found = table(tmp_path / "out" / "recordings.csv")
    assert all("not commissioned" in r["why"] and r["decision"] == "0" for r in found)


def test_without_a_split_the_first_good_holes_teach(tmp_path: Path) -> None:
    """They are left out of the figures."""
    manifest = simulate("drill", 3, 0.4, tmp_path / "set")
    rows = read_manifest(rewritten(manifest, "unsplit.csv", split=""))
    scorer = physics_scorer("drill_break", rows)
    assert len(scorer.used_groups) == 4
    result = validate(rows, scorer, tmp_path / "out")
    assert len(result.judged) == len(rows) - 4
    assert all(judged.verified for _, judged in result.judged)


def test_normal_running_ends_where_the_manifest_says(mill: Path) -> None:
    """The column `quiet_until_s`, else the onset."""
    rows = read_manifest(mill)
    assert quiet_until_s(rows[1]) == 2.0
    assert quiet_until_s(rows[0]) is None


def test_wrong_names_are_refused(mill: Path, tmp_path: Path) -> None:
    """With what there is to choose from."""
    rows = read_manifest(mill)
    with pytest.raises(BadInput, match="choose from chatter, tooth_loss, drill_break, drill_missing, "):
        validate_detector("noise", rows, None, NORMAL_LABELS, tmp_path)
    with pytest.raises(BadInput, match="needs --baseline"):
        validate_detector("anomaly", rows, None, NORMAL_LABELS, tmp_path)


def test_chatter_is_not_looked_for_where_no_sensor_hears_it(tmp_path: Path) -> None:
    """As in the pipeline: from 2 kHz on."""
    soundfile.write(tmp_path / "slow.wav", np.zeros(4000), 1000)
    head = "path,label,group,machine,sensor,modality,unit,split,spindle_rpm,teeth"
    (tmp_path / "m.csv").write_text(f"{head}\nslow.wav,stable,a,mill,mic,acoustic,FS,test,9000,3\n")
    with pytest.raises(BadInput, match=r"1000 Hz is too slow: chatter is heard from 2000 Hz on"):
        validate_detector("chatter", read_manifest(tmp_path / "m.csv"), None, NORMAL_LABELS, tmp_path)
