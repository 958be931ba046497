"""`stethos validate --detector head_break`: a configuration tells the places, the manifest the bit that broke."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.cli.main import stethos
from pipeline.clips import read_clip
from pipeline.manifest import read_manifest
from pipeline.validation.choice import physics_scorer
from pipeline.validation.head import HeadScorer, heads
from pipeline.validation.validate import validate
from tests.pipeline.test_stages_head import ARRAY, BROKE, HEAD, RATE, SILENT_FROM, STROKE_S, STROKES, sound

PAD_S = 0.75  # what frames remember, 0.85 s, is air at the start
ONSET_S = 1.3 + PAD_S
TWENTY: dict[str, Any] = {
    "rows": 4, "columns": 5, "pitch_m": 0.1,
    "microphones_m": [[-0.15, -0.12], [0.55, -0.14], [-0.13, 0.44], [0.56, 0.42]],
}  # fmt: skip


def write_head(
    made: Path, x: NDArray[np.int16], silent_from: int, head: Mapping[str, Any] = HEAD, *, back: bool
) -> None:
    """A recording for each stroke, and a configuration; with `back` a good stroke comes last."""
    n, strokes = round(STROKE_S * RATE), round(len(x) / RATE / STROKE_S)
    quiet = x[: round(PAD_S * RATE)]  # tells that a stroke has ended
    lines = ["path,label,group,machine,sensor,modality,unit,split,onset_s,spindle"]
    for k in range(strokes + back):
        of = k if k < strokes else 1
        soundfile.write(made / f"{k}.wav", np.concatenate([quiet, x[of * n : (of + 1) * n], quiet]), RATE, "PCM_16")
        label, split, more = "normal", "train" if k < silent_from else "test", ","
        if k == silent_from:
            label, more = "drill_break", f"{ONSET_S},{BROKE + 1}"
        elif silent_from < k < strokes:
            label, more = "bit_missing", f",{BROKE + 1}"
        lines.append(f"{k}.wav,{label},s{k},m,array,acoustic,FS,{split},{more}")
    (made / "manifest.csv").write_text("\n".join(lines) + "\n")
    places = "".join(f"{key} = {json.dumps(value)}\n" for key, value in head.items())
    (made / "plant.toml").write_text(
        f"[[machine]]\nname = 'm'\n[machine.drill]\n[machine.drill.head]\n{places}[[machine.sensor]]\nname = 'array'\n"
        f"modality = 'acoustic'\nrate_hz = {RATE}\nunit = 'FS'\nchannels = {ARRAY.channels}\n"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good strokes of a head of six bits, one in which a bit breaks, one in which it is missing."""
    made = tmp_path_factory.mktemp("head")
    write_head(made, sound(STROKES, SILENT_FROM), SILENT_FROM, back=True)
    return made


def figures(folder: Path, tmp_path: Path, *more: str) -> tuple[dict[str, dict[str, float]], str]:
    """What the command writes and says."""
    from click.testing import CliRunner

    asked = ["validate", "--manifest", str(folder / "manifest.csv"), "--detector", "head_break", *more]
    told = CliRunner().invoke(stethos, [*asked, "--out", str(tmp_path)], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    found: dict[str, dict[str, float]] = json.loads((tmp_path / "summary.json").read_text())
    return found, told.output


def test_the_bit_that_broke_is_found_and_the_missing_one_counts_nowhere(folder: Path, tmp_path: Path) -> None:
    """One of one, no false alarm."""
    found, told = figures(folder, tmp_path, "--config", str(folder / "plant.toml"))
    assert (found["recall"]["value"], found["recall"]["n"]) == (1.0, 1)
    assert found["false_alarms_per_hour"]["value"] == 0.0
    assert "1 recordings are shown but part of no figure" in told


def test_another_bit_than_the_row_tells_is_not_found(folder: Path, tmp_path: Path) -> None:
    """The alarm must name it."""
    text = (folder / "manifest.csv").read_text().replace(f"{ONSET_S},{BROKE + 1}", f"{ONSET_S},2")
    (folder / "other.csv").write_text(text)
    rows = read_manifest(folder / "other.csv")
    result = validate(rows, HeadScorer(rows, places=heads(folder / "plant.toml")), tmp_path)
    (broke,) = [judged for row, judged in result.judged if row.label == "drill_break"]
    assert not broke.decision
    assert [a.reasons["spindle"] for a in broke.alarms if a.transition == "raised"] == [BROKE + 1]


def test_without_the_places_nothing_is_judged(folder: Path, tmp_path: Path) -> None:
    """Unverified, with the reason."""
    _, told = figures(folder, tmp_path)
    assert "--config" in (tmp_path / "recordings.csv").read_text() + told


@pytest.mark.parametrize(("bit", "found"), [(BROKE + 1, True), (6, False)])
def test_a_silent_bit_is_found_by_its_name(tmp_path: Path, bit: int, found: bool) -> None:
    """Of twenty, in the last of three strokes without it; naming another bit than the row tells does not count."""
    write_head(tmp_path, sound(9, 5, TWENTY), 5, TWENTY, back=False)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(f",{BROKE + 1}\n", f",{bit}\n"))
    rows = read_manifest(manifest)
    scorer = physics_scorer("head_silent", rows, places=heads(tmp_path / "plant.toml"))
    result = validate(rows, scorer, tmp_path / "out", uncounted=scorer.uncounted)
    assert [judged.decision for _, judged in result.judged][-1] is found
    assert f"bit {BROKE + 1} " in result.judged[-1][1].why
    untold = physics_scorer("head_silent", rows)
    assert "no configuration" in untold.judge(read_clip(rows[-1])).why
