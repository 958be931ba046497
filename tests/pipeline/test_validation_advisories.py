"""`stethos validate` for advisories: missing and worn tools hole after hole, vibration severity."""

from __future__ import annotations

import csv
from math import pi, sqrt
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt

from pipeline.manifest import read_manifest
from pipeline.validation.choice import physics_scorer
from pipeline.validation.scorer import Validation
from pipeline.validation.severity import SeverityScorer
from pipeline.validation.tool_life import MissingScorer, WearScorer
from pipeline.validation.validate import validate

RATE = 16_000
LIFE = ("normal",) * 7 + ("worn",) * 3 + ("drill_break", "bit_missing", "bit_missing", "normal")
TEACH = 4


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of a second and a half for each hole; worn bits are 6 dB louder above 3 kHz, without a bit it is silent."""
    made = tmp_path_factory.mktemp("life")
    t = np.arange(3 * RATE) / RATE
    hole = np.interp(t, [0.5, 0.6, 1.9, 2.0], [0.0, 1.0, 1.0, 0.0])
    high = butter(4, 3000.0, "high", fs=RATE, output="sos")
    lines = ["path,label,group,machine,sensor,modality,unit,split,onset_s,cut_from_s,cut_until_s"]
    for i, label in enumerate(LIFE):
        rng = np.random.default_rng(i)
        work = 0.05 * hole * rng.standard_normal(len(t))
        if label == "worn":
            work += sosfilt(high, work)
        work *= np.where(t < 1.2, 1.0, 0.03) if label == "drill_break" else label != "bit_missing"
        soundfile.write(made / f"{i}.wav", work + 1e-3 * rng.standard_normal(len(t)), RATE, subtype="PCM_16")
        onset = "1.2" if label == "drill_break" else ""
        lines.append(f"{i}.wav,{label},h{i},d,mic,acoustic,FS,{'train' if i < TEACH else 'test'},{onset},0.45,2.05")
    (made / "m.csv").write_text("\n".join(lines) + "\n")
    return made / "m.csv"


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def figures(result: Validation, *names: str) -> list[float]:
    return [result.metrics[name].value for name in names]


def test_a_missing_bit_is_found_where_the_control_tells_that_it_cuts(life: Path, tmp_path: Path) -> None:
    """Both holes by their score, one alarm from the second on, and none falsely."""
    rows = read_manifest(life)
    result = validate(rows, MissingScorer(rows), tmp_path, uncounted=MissingScorer.uncounted)
    assert figures(result, "recall", "false_alarms_per_hour") == [1.0, 0.0]
    assert result.metrics["recall"].n == 2
    assert [row["path"] for row in table(tmp_path / "alarms.csv").values()] == ["12.wav"]


def test_a_missing_bit_of_which_nobody_tells_is_unverified(life: Path, tmp_path: Path) -> None:
    """Missed, and the reason names what would help."""
    text = life.read_text().replace("0.45,2.05", ",")
    (life.parent / "untold.csv").write_text(text)
    rows = read_manifest(life.parent / "untold.csv")
    result = validate(rows, MissingScorer(rows), tmp_path, uncounted=MissingScorer.uncounted)
    assert figures(result, "recall") == [0.0]
    assert "cut_from_s" in table(tmp_path / "recordings.csv")["11.wav"]["why"]


def test_wear_is_a_matter_of_holes_in_order(life: Path, tmp_path: Path) -> None:
    """The sum grows over the worn holes and stands at the last two at least; one alarm."""
    rows = read_manifest(life)
    scorer = WearScorer(rows)
    assert scorer.used_groups == {f"h{i}" for i in range(TEACH)}
    result = validate(rows, scorer, tmp_path, uncounted=scorer.uncounted)
    scores = [judged.score for row, judged in result.judged if row.label in {"normal", "worn"}]
    assert max(scores[:3]) < 0.5 and scores[3:6] == sorted(scores[3:6]) and scores[5] > scores[6]
    found = [judged.decision for row, judged in result.judged if row.label == "worn"]
    assert found[1:] == [True, True]
    assert figures(result, "false_alarms_per_hour") == [0.0]


def test_breaks_count_neither_worn_nor_missing_bits(life: Path, tmp_path: Path) -> None:
    """Two classes are left: normal and drill_break."""
    rows = read_manifest(life)
    scorer = physics_scorer("drill_break", rows)
    result = validate(rows, scorer, tmp_path, uncounted=scorer.uncounted)
    assert result.metrics["recall"].n == 1
    assert figures(result, "recall", "false_alarms_per_hour") == [1.0, 0.0]


@pytest.fixture(scope="module")
def shaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Acceleration of a tone of 50 Hz: 1.0 mm/s RMS to learn from, then 1.0, 1.6 and 2.6 mm/s (B/C is 2.8)."""
    made = tmp_path_factory.mktemp("shaking")
    rate = 4096
    t = np.arange(6 * rate) / rate
    lines = ["path,label,group,machine,sensor,modality,unit,rate_hz,split,iso_group,iso_support"]
    for i, (mm_s, label) in enumerate([(1.0, "normal"), (1.0, "normal"), (1.6, "normal"), (2.6, "unbalance")]):
        x = mm_s * 1e-3 * sqrt(2.0) * 2.0 * pi * 50.0 * np.cos(2.0 * pi * 50.0 * t)
        np.savez(made / f"{i}.npz", x=x[:, None].astype(np.float32), fs=np.float64(rate))
        lines.append(f"{i}.npz,{label},g{i},pump,acc,vibration,m/s2,{rate},{'test' if i else 'train'},2,rigid")
    (made / "m.csv").write_text("\n".join(lines) + "\n")
    return made / "m.csv"


def test_severity_against_the_baseline_of_the_good_recordings(shaking: Path, tmp_path: Path) -> None:
    """ALARM = 1.0 + 0.25 · 2.8 = 1.7 mm/s; a change of 0.7 mm/s is significant."""
    rows = read_manifest(shaking)
    result = validate(rows, SeverityScorer(rows), tmp_path)
    assert [judged.decision for _, judged in result.judged] == [False, False, True]
    assert [judged.score for _, judged in result.judged] == pytest.approx([1.0 / 1.7, 1.6 / 1.7, 2.6 / 1.7], rel=1e-3)
    change = validate(rows, physics_scorer("severity_change", rows), tmp_path)
    assert [judged.score for _, judged in change.judged] == pytest.approx([0.0, 0.6 / 0.7, 1.6 / 0.7], abs=1e-3)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (",2,rigid", ",3,rigid", "iso_group"),
        (",2,rigid", ",2,", "iso_support"),
        (",train,", ",test,", "not commissioned"),
    ],
)
def test_severity_of_an_unknown_machine_is_unverified(
    shaking: Path, tmp_path: Path, old: str, new: str, why: str
) -> None:
    """Nothing is raised, and the reason says what is not told."""
    (shaking.parent / "other.csv").write_text(shaking.read_text().replace(old, new))
    rows = read_manifest(shaking.parent / "other.csv")
    validate(rows, SeverityScorer(rows), tmp_path)
    assert all("unverified" in row["why"] and why in row["why"] for row in table(tmp_path / "recordings.csv").values())
