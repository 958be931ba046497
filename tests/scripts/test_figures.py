"""Scripts that make the figures of the documents: what they are asked, and what they say where it has no sense."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from benchmarks import detectors
from pipeline.errors import BadInput
from pipeline.validation.metrics import Metric
from scripts import results
from tests.operators.simulated import FINAL


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eight recordings of one machine; their labels differ in case."""
    lines = [f"{i}.wav,{'Good' if i < 4 else 'bad'},g{i},mill" for i in range(8)]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,group,machine", *lines]) + "\n")
    return tmp_path / "m.csv"


def test_the_case_of_normal_labels_does_not_matter(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teaching and scoring read the same labels, blanks around commas aside."""
    taught: list[str] = []

    def commission(rows: list[object], normal: object) -> list[object]:
        del normal
        taught.extend(row.label for row in rows if row.split == "train")  # type: ignore[attr-defined]
        raise BadInput("enough", "seen")

    monkeypatch.setattr(results, "commission_manifest", commission)
    with pytest.raises(BadInput, match="seen"):
        results.run([str(manifest), "--normal", "fine, good"])
    assert taught == ["Good", "Good"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--machine", "mil"), "has no machine 'mil', only mill"),
        (("--unit", "machine"), "needs two machines; there is 'mill' alone"),
        (("--seeds", "0"), "--seeds must be 1 or more"),
    ],
)
def test_what_has_no_sense_is_a_sentence(
    manifest: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: tuple[str, ...],
    says: str,
) -> None:
    """Exit code 2, no traceback."""
    monkeypatch.setattr(sys, "argv", ["results.py", str(manifest), *asked])
    with pytest.raises(SystemExit) as stop:
        results.main()
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_means_tell_of_how_many_splits_they_are() -> None:
    """A figure, or its interval, that some splits do not have."""
    whole, alone = Metric(0.5, 0.25, 0.75, 9), Metric(1.0, math.nan, math.nan, 9)
    assert results.line("auc", [whole] * 5, 5) == "| auc | 0.500 | 0.25 – 0.75 | 0.000 |"
    assert results.line("recall", [whole, alone], 2) == "| recall | 0.750 | 0.25 – 0.75 (1 of 2 splits) | 0.250 |"
    assert results.line("precision", [alone], 2) == "| precision (1 of 2 splits) | 1.000 | – | 0.000 |"


@pytest.mark.parametrize(("asked", "seed"), [(("--seed", "0"), 0), ((), FINAL[3])])
def test_a_seed_of_nought_is_a_seed(monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], seed: int) -> None:
    """The final one is taken where none is asked for."""
    found: list[int] = []
    monkeypatch.setattr(detectors, "bearing", lambda seed, _count: found.append(seed))
    monkeypatch.setattr(sys, "argv", ["detectors.py", "bearing", *asked])
    detectors.main()
    assert found == [seed]
