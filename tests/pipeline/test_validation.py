import csv
import dataclasses
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest

from models.anomaly.baseline import Baseline
from models.anomaly.chain import windows
from models.anomaly.score import AnomalyScore
from models.anomaly.store import load_all, save_all
from models.anomaly.vectors import extraction
from pipeline.clips import Clip, read_clip
from pipeline.commissioning import commission_manifest
from pipeline.errors import BadInput
from pipeline.manifest import NORMAL_LABELS, read_manifest
from pipeline.messages import NS, Alarm, Score
from pipeline.validation.baseline import BaselineScorer
from pipeline.validation.delays import distribution
from pipeline.validation.scorer import Judged
from pipeline.validation.validate import sentences, validate, validate_baselines
from tests.models.anomaly.rig import ACC, running

METRICS = {
    "recall", "precision", "auc", "pauc_0.1", "macro_f1", "balanced_accuracy", "delay_s_p50", "delay_s_p99",
    "false_alarms_per_hour", "false_alarms_per_day",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings with a manifest: six starts to learn from, eight to score, four of them with a new tone."""
    folder = tmp_path_factory.mktemp("shop")
    lines = ["path,label,group,machine,sensor,modality,unit,split"]
    for i in range(14):
        label = "bad" if i >= 10 else "good"
        x = running(ACC, 8.0, i, tone_hz=430.0 if label == "bad" else 0.0)
        np.savez(folder / f"r{i}.npz", x=x.reshape(2, -1, 2), fs=2000)
        lines.append(f"r{i}.npz,{label},s{i},lathe,acc,vibration,mg,{'train' if i < 6 else 'test'}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def learned(shop: Path) -> list[Baseline]:
    return commission_manifest(read_manifest(shop / "m.csv"))


@pytest.fixture(scope="module")
def folder(shop: Path, learned: list[Baseline], tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_all(learned, shop / "baselines")
    out = tmp_path_factory.mktemp("out") / "v"
    said = validate_baselines(read_manifest(shop / "m.csv"), load_all(shop / "baselines"), NORMAL_LABELS, out)
    assert any(line.startswith("auc: 1.000") for line in said)
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_five_files(folder: Path) -> None:
    names = {p.name for p in folder.iterdir()}
    assert names == {"summary.json", "scores.csv", "recordings.csv", "alarms.csv", "report.html"}


def test_summary_has_values_with_intervals(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) <= METRICS
    assert {"auc", "recall", "precision", "false_alarms_per_day", "balanced_accuracy", "pauc_0.1"} <= set(summary)
    for metric in summary.values():
        assert set(metric) == {"value", "low", "high", "n"}
        assert metric["low"] <= metric["value"] <= metric["high"]
    assert summary["auc"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 8}
    assert summary["recall"]["value"] == 1.0
    # Wilson's interval for 4 of 4 is [0.5101, 1]
    assert summary["recall"]["low"] == pytest.approx(0.5101, abs=1e-4)


def test_scores_are_those_of_the_lane(folder: Path, shop: Path, learned: list[Baseline]) -> None:
    scores = table(folder / "scores.csv")
    assert set(scores[0]) == {"path", "group", "label", "t_end_ns", "detector", "score", "threshold", "decision"}
    assert {s["path"] for s in scores} == {f"r{i}.npz" for i in range(6, 14)}
    row = next(r for r in read_manifest(shop / "m.csv") if r.name == "r11.npz")
    clip = read_clip(row)
    scorer = AnomalyScore(learned[0])
    found = [
        s for p in clip.pieces for w in windows(clip.stream, extraction(clip.stream), p.segments())
        for s in scorer.process(w)
    ]  # fmt: skip
    mine = [s for s in scores if s["path"] == "r11.npz"]
    assert [(int(m["t_end_ns"]), m["detector"], float(m["score"])) for m in mine] == [
        (s.t_end_ns, s.detector, s.value) for s in found
    ]
    assert all(int(m["decision"]) == (float(m["score"]) > float(m["threshold"])) for m in mine)
    times = [int(m["t_end_ns"]) for m in mine if m["detector"] == "anomaly"]
    assert times == sorted(times)
    assert NS < times[0] < 2 * NS
    assert times[-1] > 7.4 * NS


def test_a_recording_is_judged_by_the_mean_of_its_windows(folder: Path, learned: list[Baseline]) -> None:
    scores = table(folder / "scores.csv")
    recordings = {r["path"]: r for r in table(folder / "recordings.csv")}
    assert len(recordings) == 8
    for path, recording in recordings.items():
        ratio = [
            np.mean([float(s["score"]) for s in scores if s["path"] == path and s["detector"] == detector])
            / learned[0].cells[0][detector].recording_threshold
            for detector in ("anomaly", "level")
        ]
        assert float(recording["score"]) == pytest.approx(max(ratio))
        assert recording["decision"] == str(int(max(ratio) > 1))
    assert all(r["decision"] == "1" for r in recordings.values() if r["label"] == "bad")


def test_alarms_are_listed(folder: Path) -> None:
    alarms = table(folder / "alarms.csv")
    assert {"path", "detector", "raised_ns", "cleared_ns", "onset_ns"} == set(alarms[0])
    assert {a["path"] for a in alarms} >= {f"r{i}.npz" for i in range(10, 14)}
    assert all(int(a["raised_ns"]) < 9 * NS for a in alarms)


def test_the_report_is_whole_and_shows_the_trivial_baselines(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    html.parser.HTMLParser().feed(text)
    for part in ("trivial RMS", "trivial log-Mel mean, Euclidean", "back-end anomaly/maha", "this result", "<svg"):
        assert part in text
    assert "http" not in text
    assert text.count("<table>") == text.count("</table>")


def test_without_a_split_groups_that_were_learned_from_are_left_out(
    shop: Path, learned: list[Baseline], tmp_path: Path
) -> None:
    rows = [dataclasses.replace(r, split="") for r in read_manifest(shop / "m.csv")]
    validate(rows, BaselineScorer({("lathe", "acc"): learned[0]}), tmp_path)
    assert {r["group"] for r in table(tmp_path / "recordings.csv")} == {f"s{i}" for i in range(6, 14)}
    with pytest.raises(BadInput, match="no recording is left to score"):
        validate(rows[:6], BaselineScorer({("lathe", "acc"): learned[0]}), tmp_path)


def test_rows_that_cannot_be_scored_are_named_and_the_others_scored(
    shop: Path, learned: list[Baseline], tmp_path: Path
) -> None:
    rows = read_manifest(shop / "m.csv")
    rows[6] = dataclasses.replace(rows[6], machine="mill")
    rows[7] = dataclasses.replace(rows[7], path=shop / "gone.npz")
    rows[8] = dataclasses.replace(rows[8], unit="g")
    seen = []
    result = validate(
        rows, BaselineScorer({("lathe", "acc"): learned[0]}), tmp_path, progress=lambda *step: seen.append(step)
    )
    why = " ".join(text for _, text in result.unscored)
    assert len(result.unscored) == 3
    assert "mill/acc was never commissioned" in why
    assert "there is no file" in why
    assert "commission this sensor anew" in why
    assert seen[-1][:2] == (8, 8)
    assert "Not scored" in (tmp_path / "report.html").read_text()
    with pytest.raises(BadInput, match="none of 1 recordings could be scored"):
        validate([*rows[:6], rows[6]], BaselineScorer({("lathe", "acc"): learned[0]}), tmp_path)


def test_torn_groups_are_pointed_out(shop: Path, learned: list[Baseline], tmp_path: Path) -> None:
    rows = read_manifest(shop / "m.csv")
    rows[6] = dataclasses.replace(rows[6], group="s0")
    notes = validate(rows, BaselineScorer({("lathe", "acc"): learned[0]}), tmp_path).notes
    assert any("more than one split" in note and "s0" in note for note in notes)


def test_commissioning_takes_normal_rows_alone(shop: Path, learned: list[Baseline]) -> None:
    rows = read_manifest(shop / "m.csv")
    assert learned[0].starts == tuple(f"s{i}" for i in range(6))
    odd = commission_manifest(rows, normal={"good", "bad"}, machine="lathe")
    assert odd[0].sha256 == learned[0].sha256  # the abnormal ones are in the other split
    with pytest.raises(BadInput, match=r"the labels are good, .*--normal"):
        commission_manifest(rows, normal={"ok"})
    with pytest.raises(BadInput, match="no machine 'mill'; the manifest has lathe"):
        commission_manifest(rows, machine="mill")


def test_two_sensors_learn_from_the_same_files_in_groups_of_their_own(shop: Path, tmp_path: Path) -> None:
    rows = read_manifest(shop / "m.csv")[:3]
    spare = [dataclasses.replace(row, sensor="spare", group=f"spare {row.group}") for row in rows]
    torn = [dataclasses.replace(rows[0], machine="mill", group=group) for group in ("s0", "other")]
    found = commission_manifest([*rows, *spare, *torn], machine="lathe")
    assert [b.sensor for b in found] == ["acc", "spare"]
    assert [b.starts for b in found] == [("s0", "s1", "s2"), ("spare s0", "spare s1", "spare s2")]
    judged = [dataclasses.replace(row, group=f"new {row.group}", start_s=6.0, split="test") for row in spare]
    scorer = BaselineScorer({(b.machine, b.sensor): b for b in found})
    assert not any("Scores may flatter" in note for note in validate([*rows, *judged], scorer, tmp_path).notes)
    for machine in (None, "mill"):
        with pytest.raises(BadInput, match=r"the same seconds of r0\.npz"):
            commission_manifest([*rows, *torn], machine=machine)


class Fake:
    """A scorer that knows the answers: an alarm half a second after the onset, and a false one."""

    title, used_groups = "fake", ()

    def __init__(self, classes: tuple[str, ...] = ()) -> None:
        self.classes = classes

    def judge(self, clip: Clip) -> Judged:
        row = clip.row
        score = Score(row.machine, (row.sensor,), "fake", 4 * NS, 2.0, 1.0, "x")
        at = round(((row.onset_s or 0.0) + 0.5) * NS)
        alarm = Alarm("m", ("s",), "fake", at, "raised", 0, at, "warning", "", 2.0, 1.0, "x")
        decided = {"good": "good", "bad": "bad", "worse": "bad"}[row.label]
        return Judged(
            (score,), 0.5, row.label != "good", decided if self.classes else "",
            tuple({c: float(c == decided) for c in self.classes} for _ in range(bool(self.classes))),
            (alarm,) if row.label != "good" or row.group == "s6" else (),
        )  # fmt: skip


def test_delays_count_from_the_onset_and_false_alarms_from_normal_running(shop: Path, tmp_path: Path) -> None:
    rows = [
        dataclasses.replace(r, onset_s=2.0 if r.label == "bad" else None)
        for r in read_manifest(shop / "m.csv")
    ]  # fmt: skip
    metrics = validate(rows, Fake(), tmp_path).metrics
    assert metrics["delay_s_p50"].value == metrics["delay_s_p99"].value == 0.5
    assert metrics["delay_s_p50"].n == 4
    # one alarm in four good recordings of 4 s and four times 2 s before an onset
    assert metrics["false_alarms_per_day"].value == pytest.approx(86_400 / 24)
    assert metrics["false_alarms_per_hour"].value == pytest.approx(3600 / 24)
    # exact Poisson limits of one event (Garwood 1936)
    limits = (metrics["false_alarms_per_hour"].low / 150, metrics["false_alarms_per_hour"].high / 150)
    assert limits == pytest.approx((0.0253, 5.5716), rel=1e-3)
    assert table(tmp_path / "alarms.csv")[-1]["onset_ns"] == str(2 * NS)
    assert [r["delay_s"] for r in table(tmp_path / "recordings.csv")] == [""] * 4 + ["0.500"] * 4
    assert "told so long after their onset" in (tmp_path / "report.html").read_text()


def test_delays_are_drawn_as_the_share_of_all_faults_that_were_told(shop: Path) -> None:
    """Two of three told, after 0.5 and 1.5 s: a step to a third, one to two thirds, and none to the whole."""
    row = dataclasses.replace(read_manifest(shop / "m.csv")[0], onset_s=1.0)
    alarms = [
        Alarm("m", ("mic",), "d", t * NS // 10, "raised", 0, t * NS // 10, "warning", "", 2.0, 1.0, "")
        for t in (15, 25)
    ]
    judged = [(row, Judged((), 2.0, decision=True, alarms=(alarm,))) for alarm in alarms]
    picture = distribution([*judged, (row, Judged((), 0.0, decision=False))])
    steps = [float(v) for v in re.findall(r"V([0-9.]+)", picture)]
    assert steps == pytest.approx([10 + 180 * 2 / 3, 10 + 180 / 3], abs=0.06)
    assert picture.count(" s</text>") == 5
    assert "1.58 s" in picture  # a little room behind the last
    assert "V" not in distribution([(row, Judged((), 0.0, decision=False))])
    assert distribution([(dataclasses.replace(row, onset_s=None), judged[0][1])]) == ""


def test_classifiers_have_a_column_per_class(shop: Path, tmp_path: Path) -> None:
    rows = read_manifest(shop / "m.csv")
    rows[-1] = dataclasses.replace(rows[-1], label="worse")
    metrics = validate(rows, Fake(("good", "bad")), tmp_path).metrics
    assert {"good", "bad"} <= set(table(tmp_path / "scores.csv")[0])
    assert table(tmp_path / "recordings.csv")[-1]["decision"] == "bad"
    # truth: 4 good, 3 bad, 1 worse; all right but worse, called bad
    assert metrics["balanced_accuracy"].value == pytest.approx(2 / 3)
    assert metrics["macro_f1"].value == pytest.approx((1 + 2 * 3 / 7 + 0) / 3)


def test_rows_that_begin_within_a_file_count_from_there(shop: Path, tmp_path: Path) -> None:
    rows = [
        dataclasses.replace(r, start_s=1.0, onset_s=2.0 if r.label == "bad" else None)
        for r in read_manifest(shop / "m.csv")
    ]  # fmt: skip
    # a false alarm in four times 3 s of good running and four times 1 s before an onset
    assert validate(rows, Fake(), tmp_path).metrics["false_alarms_per_day"].value == pytest.approx(86_400 / 16)
    early = [dataclasses.replace(r, start_s=3.0) if r.label == "bad" else r for r in rows]
    metric = validate(early, Fake(), tmp_path).metrics["false_alarms_per_day"]
    assert (metric.value, metric.n) == (pytest.approx(86_400 / 12), 4)


def test_normal_is_normal_in_any_case_and_nothing_normal_is_pointed_out(shop: Path, tmp_path: Path) -> None:
    rows = read_manifest(shop / "m.csv")
    result = validate(rows, Fake(), tmp_path, {"GOOD"})
    assert result.metrics["recall"].n == 4
    assert not any("is normal" in note for note in result.notes)
    result = validate(rows, Fake(), tmp_path, {"ok"})
    assert "No scored recording is normal (ok); the labels are bad, good: see --normal" in result.notes


def test_groups_are_left_out_where_their_own_sensor_learned_them(
    shop: Path, learned: list[Baseline], tmp_path: Path
) -> None:
    rows = [dataclasses.replace(r, split="") for r in read_manifest(shop / "m.csv")][:7]
    rows[5] = dataclasses.replace(rows[5], machine="mill")
    result = validate(rows, BaselineScorer({("lathe", "acc"): learned[0]}), tmp_path)
    assert [row.name for row, _ in result.judged] == ["r6.npz"]
    assert [row.name for row, _ in result.unscored] == ["r5.npz"]  # never commissioned, which is said
    assert "5 of 7 recordings were left out: it learned from their groups" in result.notes


def test_an_embedding_that_is_not_judged_is_pointed_out(shop: Path, learned: list[Baseline], tmp_path: Path) -> None:
    joined = [{**cell, "embedding": cell["level"]} for cell in learned[0].cells]
    scorer = BaselineScorer({("lathe", "acc"): dataclasses.replace(learned[0], cells=tuple(joined))})
    said = sentences(validate(read_manifest(shop / "m.csv"), scorer, tmp_path))
    assert any("The detector embedding of lathe/acc was not judged: its encoder, package" in line for line in said)
