"""The experiment: resumable to the bit, without leaks, and its report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from models.drill import figures
from models.drill.arms import ARMS, NONE, Additions, Arm
from models.drill.cells import Cells
from models.drill.classifiers import Bands
from models.drill.data import CLASSES, TABLE, Sound, digest
from models.drill.document import refresh
from models.drill.grid import Grid, Plan, cell, groups
from models.drill.metrics import wilson
from models.drill.report import provenance, sentences, write
from models.drill.summary import LeakFreeRow, PaperRow, Summary, summarise
from models.drill.train import Trained, Training
from models.metrics import Interval
from pipeline.cli.bench_drill import _simulated
from pipeline.errors import BadInput, StateError

PLAN = Plan(
    repeats=1,
    folds=3,
    inner=2,
    arms=(NONE, Arm("vae", 1.0)),
    paper_seeds=1,
    training=Training(epochs=1),
    alexnet_epochs=0,
)


def grid(sounds: list[Sound], out: Path, plan: Plan = PLAN) -> Grid:
    return Grid(sounds, plan, Cells(out / "cells", {"data": digest(sounds), "plan": plan.identity()}))


def test_all_arms_are_there() -> None:
    assert {a.name for a in ARMS} == {
        "none",
        *(f"{kind} {n}x" for kind in ("classical", "vae", "classical+vae") for n in ("0.5", "1", "2")),
        "vae only 1x",
    }


def test_cells_are_resumed_to_the_bit_and_only_what_is_missing_is_done(sounds: list[Sound], tmp_path: Path) -> None:
    done: list[str] = []
    first = grid(sounds, tmp_path)
    first._tell = done.append
    first.leak_free([Bands()], PLAN.arms, range(1))
    assert len(done) == 6
    name = cell("21 bands", PLAN.arms[1], 0, 1)
    kept = first.cells.get(name)
    (tmp_path / "cells" / f"{name.replace(' ', '_')}.json").unlink()
    second = grid(sounds, tmp_path)
    second._tell = done.append
    second.leak_free([Bands()], PLAN.arms, range(1))
    assert done[6:] == [name] and second.cells.get(name) == kept
    scores = second.scores("21 bands", NONE, 0)
    assert scores is not None and np.isfinite(scores).all()
    with pytest.raises(StateError, match=r"another experiment \(data\)"):
        grid(sounds[1:], tmp_path)


def test_a_synthetic_sound_of_a_held_out_event_aborts(
    sounds: list[Sound], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.drill import grid as module

    class Leaking(Additions):
        """Says that its networks heard every event."""

        @property
        def networks(self) -> tuple[list[Trained], list[frozenset[str]]]:
            made, _ = Additions(self.real, PLAN.training, ("leaking",), None).networks
            return made, [frozenset({s.event for s in sounds})] * 2

    monkeypatch.setattr(module, "Additions", Leaking)
    with pytest.raises(StateError, match="leak"):
        grid(sounds, tmp_path).leak_free([Bands()], PLAN.arms, range(1))


def test_runs_are_held_out_together_if_asked(sounds: list[Sound], tmp_path: Path) -> None:
    by_run = grid(sounds, tmp_path, Plan(folds=2, by="run"))
    assert set(by_run.groups) == {"run-0", "run-1"}
    with pytest.raises(BadInput, match="cannot be divided to choose"):  # one of two runs is left to learn from
        by_run.run()
    assert by_run.cells.count() == 0
    with pytest.raises(BadInput, match="needs a column run"):
        groups([replace(sounds[0], run=""), *sounds[1:]], "run")


def test_days_of_both_classes_are_held_out(sounds: list[Sound], tmp_path: Path) -> None:
    days = [replace(s, run=f"day-{int(s.event[-1]) % 3}") for s in sounds]  # three strokes of each class
    by_day = grid(days, tmp_path, replace(PLAN, by="run", arms=(NONE,)))
    by_day.leak_free([Bands()], (NONE,), range(1))
    found = by_day.scores("21 bands", NONE, 0)
    assert found is not None and np.isfinite(found).all()


def test_figures_say_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds and source of the sounds; both sounds, both spectra and a single epoch are seen."""
    made: list[Any] = []
    monkeypatch.setattr(figures, "_save", lambda figure, _path: made.append(figure))
    perfect, beside = wilson(6, 6), Interval(0.5, 0.6, 0.75)  # a percentile interval may lie beside its figure
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 1999))
    summary = Summary(
        4, 2, True, 1, 1, 3, "own sounds",
        paper=[PaperRow("21 bands", "originals", perfect, 1.0, 0.0, 1, 1.0, 1.0, None)],
        leak_free=[LeakFreeRow("21 bands", "none", 2, beside, perfect, perfect, None)],
        elbo=dict.fromkeys(CLASSES, (-3.0,)), examples=dict.fromkeys(CLASSES, (x, x)),
    )  # fmt: skip
    for draw in (figures._arms, figures._accuracies, figures._sounds):
        draw(summary, tmp_path / "figure.png")
    arms, accuracies, heard = made
    assert arms.axes[0].get_title() == "21 bands\n2 × 3 folds"
    assert accuracies.axes[0].get_yticklabels()[-1].get_text() == "21 bands, originals (own sounds)"
    sounds, spectra, elbo = heard.axes[:3]
    recorded, synthetic = (line.get_ydata() for line in sounds.lines)
    assert recorded.min() > synthetic.max()
    assert [t.get_text() for t in spectra.get_legend().get_texts()] == ["recorded", "synthetic"]
    assert elbo.lines[0].get_marker() == "."


def test_simulated_sounds_of_other_settings_are_other_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(seed: int, out: Path, *, per_class: int, bits: int, **_: object) -> Path:
        out.mkdir()
        return _written(out / TABLE, f"{seed} {bits} {per_class}").parent

    monkeypatch.setattr("pipeline.cli.drill_sounds.write_sounds", write)
    for asked in ((0, 6, 24), (0, 90, 24), (1, 6, 24), (0, 6, 67), (0, 6, 24)):
        told = (_simulated(tmp_path, *asked) / TABLE).read_text()
        assert told == " ".join(map(str, asked))
    assert len(list(tmp_path.iterdir())) == 4


def test_report_has_tables_figures_and_provenance(sounds: list[Sound], tmp_path: Path) -> None:
    own = grid(sounds, tmp_path)
    own.leak_free([Bands()], PLAN.arms, range(1))
    own.paper([Bands()])
    summary = summarise(own, trials=50, resampled=50, source="simulated drills")
    assert summary.done == 8 and summary.expected == 16 and summary.folds == 3
    made = write(summary, tmp_path / "out", provenance({"plan": PLAN.identity()}, digest(sounds), 1.0))
    assert {p.name for p in made} == {
        "published.csv", "paper-protocol.csv", "leak-free.csv", "similarity.csv", "results.json", "provenance.json",
        "report.html", "drill-arms.png", "drill-paper-protocol.png", "drill-sounds.png", "drill-coherence.png",
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out" / "leak-free.csv").read_text().splitlines()))
    assert [r["training"] for r in rows] == ["none", "vae 1x"]
    assert rows[1]["augmentation"] in {"helps", "harms", "not shown"}
    results = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=_no_json)
    assert {row["what"]: row["synthetic"] is None for row in results["paper"]} == {
        "augmented": False,
        "originals": True,
    }
    assert results["paper"][0]["classifier"] == "21 bands"
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["sounds_sha256"] == digest(sounds)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png") == 4 and "GoogLeNet" in page and "published only" in page
    assert any("Fisher" in line for line in sentences(summary))
    page_of_ours = tmp_path / "docs" / "page.md"
    page_of_ours.parent.mkdir()
    with pytest.raises(BadInput, match="has no part"):
        refresh(_written(page_of_ours, "# Nothing to renew\n"), summary, made)
    text = (
        "# Kept\n<!-- drill leak-free -->\nold\n<!-- /drill leak-free -->\n![All](pictures/drill-arms.png)\nkept too\n"
    )
    renewed = refresh(_written(page_of_ours, text), summary, made)
    assert renewed == [page_of_ours, tmp_path / "docs" / "pictures" / "drill-arms.png"]
    lines = page_of_ours.read_text().splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == list(rows[0]) and [line[1] for line in cells[2:]] == ["none", "vae 1x"]
    assert lines[0] == "# Kept" and lines[-1] == "kept too" and "old" not in lines


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.slow
def test_command_in_its_quick_form(tmp_path: Path) -> None:
    from pipeline.cli.bench_drill import drill

    result = CliRunner().invoke(drill, ["--out", str(tmp_path), "--quick", "--json"], standalone_mode=False)
    assert result.exception is None
    assert json.loads(result.stdout)["done"] == json.loads(result.stdout)["expected"] == 28
