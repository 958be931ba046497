"""What a head may see while it is trained, by protocol; what is kept for a later run, where, and what is told."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.heads.two_layer import fit_two_layer
from models.probe import run, splits
from models.probe.clips import Facts
from models.probe.metrics import f1, units
from models.probe.summary import Problem, class_rows, summarise
from pipeline.cli.bench_impact import impact
from pipeline.cli.probing import Source, features_of, vibration_of
from pipeline.manifest import read_manifest
from tests.models.probe.rig import clips, manifest, sound


@pytest.mark.parametrize(("protocol", "apart"), [("paper", False), ("leak_free", True)])
def test_the_part_that_a_head_watches(monkeypatch: pytest.MonkeyPatch, protocol: str, apart: bool) -> None:
    """The paper knows no groups and watches random clips; without leaks whole groups are held out."""
    found = clips({f"{label}{g}": (label, 6) for label in "ab" for g in range(5)})
    plan = getattr(splits, protocol)(found, 2, 0)
    seen: list[list[str]] = []
    real = fit_two_layer

    def fit(x: object, y: object, labels: object, groups: list[str], seed: int) -> object:
        seen.append(groups)
        return real(x, y, labels, groups, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "fit_two_layer", fit)
    x = np.random.default_rng(0).normal(size=(len(found), 4)).astype(np.float32)
    run.judge(found, plan, units(found), x, run.Model("x", "two_layer"), 0)
    assert len(seen) == 2
    for groups, split in zip(seen, plan.splits, strict=True):
        expected = found.group[split.train].tolist() if apart else [str(row) for row in split.train]
        assert groups == expected


def test_features_are_kept_by_the_scale_and_the_place_of_the_recording(tmp_path: Path) -> None:
    """A row whose scale was corrected, or another file of the same name, is read anew."""
    rng = np.random.default_rng(0)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "a.npz", x=rng.normal(size=(8000, 1)).astype(np.float32), fs=2000)
    cells: dict[str, object] = {"path": "one/a.npz", "label": "x", "group": "g", "unit": "g", "scale": 1}
    (row,) = read_manifest(manifest(tmp_path / "m.csv", [cells]))
    other = replace(row, path=tmp_path / "two" / "a.npz")
    features = vibration_of([row])

    def found(row: object, folder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        assert isinstance(row, type(other))
        source = Source(row, Facts(row.name, 0.0, "x", "g", "s", "x"))
        return features_of("m", [source], [features], folder, lambda _: None)[1][features.name]

    rows = [row, replace(row, scale=0.25), other]
    kept = [found(r, tmp_path / "kept") for r in rows]
    fresh = [found(r, tmp_path / str(i)) for i, r in enumerate(rows)]
    for mine, new in zip(kept, fresh, strict=True):
        np.testing.assert_array_equal(mine, new)
    assert not any(np.array_equal(fresh[a], fresh[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_classes_without_a_test_clip_have_no_figure() -> None:
    """A class that one sensor never heard: no number that is none, and no warning of numpy's."""
    found = clips({f"{label}{g}": (label, 6) for label in "abc" for g in range(3)})
    plan = splits.leak_free(found, 2, 0)
    whole = np.array([[[3, 1, 0], [1, 3, 0], [0, 0, 0]], [[4, 0, 0], [0, 3, 1], [0, 0, 0]]])
    drawn = units(found)
    tables = np.zeros((2, drawn.count, 3, 3), np.int64)
    tables[:, 0] = whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        protocol = summarise("p", found, plan, drawn, {run.BASELINE: tables})
        rows = list(class_rows([Problem("m", found, (protocol,))]))
    assert [row["class"] for row in rows] == ["a", "b"]
    assert [row["mean"] for row in rows] == [round(v, 4) for v in f1(whole).mean(axis=0)[:2]]
    assert all(np.isfinite([row[key] for key in ("mean", "std", "low", "high")]).all() for row in rows)


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    """Machines and sensors are what a manifest says; their folders lie in --out, each in its own."""
    rows: list[dict[str, object]] = []
    for label, tone in (("p", 300.0), ("q", 2500.0)):
        for g in range(2):
            sound(tmp_path / f"{label}{g}.wav", 2.0, tone, seed=g)
            rows.append({"path": f"{label}{g}.wav", "label": label, "group": f"{label}{g}"})
    every = [{**row, "machine": name} for row in rows for name in ("../../../../escaped", "mic 1", "mic_1")]
    out = tmp_path / "a" / "out"
    args = ["--manifest", str(manifest(tmp_path / "m.csv", every)), "--head", "logistic", "--repeats", "2"]
    done = CliRunner().invoke(impact, [*args, "--out", str(out)])
    assert done.exit_code == 0, done.exception
    kept = list(tmp_path.rglob("*.npz")) + list(tmp_path.parent.glob("escaped*"))
    assert all(path.is_relative_to(out) for path in kept)
    assert len(list((out / "features").iterdir())) == len(list((out / "runs").iterdir())) == 3
