import dataclasses
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.anomaly.baseline import Baseline
from models.anomaly.chain import windows
from models.anomaly.commission import commission
from models.anomaly.score import AnomalyScore
from models.anomaly.store import ARRAYS, DOCUMENT, INDEX, folder_name, load, load_all, save, save_all
from models.anomaly.vectors import extraction
from pipeline.errors import BadInput, StateError
from tests.models.anomaly.rig import ACC, SLOW, Part, normals, running


@pytest.fixture(scope="module")
def learned() -> list[Baseline]:
    return commission([*normals(ACC, 3, seconds=5.0), *normals(SLOW, 3)])


def judge(baseline: Baseline) -> list[tuple[Any, ...]]:
    found = windows(ACC, extraction(ACC), Part(ACC, running(ACC, 3.0, 9, tone_hz=300.0)).segments())
    return [(s.id, s.value, s.threshold, s.reasons) for w in found for s in AnomalyScore(baseline).process(w)]


def test_what_is_read_judges_to_the_bit_as_what_was_learned(learned: list[Baseline], tmp_path: Path) -> None:
    folder = save(learned[0], tmp_path)
    again = load(folder)
    assert again.sha256 == learned[0].sha256
    assert folder.name == folder_name(again) == f"lathe-acc-{again.settings}"
    assert judge(again) == judge(learned[0])
    assert again.sentences() == learned[0].sentences()


def test_the_hash_is_that_of_the_content(learned: list[Baseline]) -> None:
    acc, fan = learned
    assert acc.sha256 != fan.sha256
    assert dataclasses.replace(acc).sha256 == acc.sha256
    assert dataclasses.replace(acc, unit="g").sha256 != acc.sha256
    assert commission(normals(ACC, 3, seconds=5.0))[0].sha256 == acc.sha256


def test_saving_twice_changes_nothing_and_the_newest_is_current(learned: list[Baseline], tmp_path: Path) -> None:
    acc, fan = learned
    first = save_all([acc, fan], tmp_path)
    stamp = (first[0] / ARRAYS).stat().st_mtime_ns
    assert save_all([acc, fan], tmp_path) == first
    assert (first[0] / ARRAYS).stat().st_mtime_ns == stamp
    newer = dataclasses.replace(acc, notes=("newer",))
    save_all([newer], tmp_path)
    current = load_all(tmp_path)
    assert {k: b.sha256 for k, b in current.items()} == {("lathe", "acc"): newer.sha256, ("fan", "acc"): fan.sha256}
    assert load(first[0]).sha256 == acc.sha256
    assert set(load_all(first[1])) == {("fan", "acc")}


def test_a_full_disk_leaves_nothing_half_written(
    learned: list[Baseline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes through; the folder is as it was."""

    def full(*_args: Any, **_arrays: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save(learned[0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_odd_names_make_plain_folders(learned: list[Baseline]) -> None:
    odd = dataclasses.replace(learned[0], machine="Halle 3/Fräse", sensor="../x")
    assert "/" not in folder_name(odd)
    assert not folder_name(odd).startswith(".")


def test_damage_is_found(learned: list[Baseline], tmp_path: Path) -> None:
    folder = save(learned[0], tmp_path)
    document = json.loads((folder / DOCUMENT).read_text())
    document["cells"][0]["anomaly"]["threshold"] += 1e-9
    (folder / DOCUMENT).write_text(json.dumps(document))
    with pytest.raises(StateError, match="does not match its hash"):
        load(folder)
    data = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(data[: len(data) // 2])
    with pytest.raises(StateError, match="damaged"):
        load(folder)
    (folder / ARRAYS).unlink()
    with pytest.raises(StateError, match="damaged"):
        load(folder)


@pytest.mark.parametrize("change", [{"cells": [[1]]}, {"cells": [{"anomaly": 1}]}, {"states": 5}])
def test_a_document_of_another_form_is_damage(learned: list[Baseline], tmp_path: Path, change: dict[str, Any]) -> None:
    """Written by hand, or by another program: whatever our own classes make of it."""
    folder = save(learned[0], tmp_path)
    document = json.loads((folder / DOCUMENT).read_text())
    (folder / DOCUMENT).write_text(json.dumps({**document, **change}))
    with pytest.raises(StateError, match="is damaged"):
        load(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_would_judge_nothing_is_refused(learned: list[Baseline], tmp_path: Path, number: float) -> None:
    """No score exceeds such a threshold, and no sample lies far from such a scale: it would never raise an alarm."""
    cell = learned[0].cells[0]["level"]
    with pytest.raises(StateError, match="nothing would be judged"):
        dataclasses.replace(cell, threshold=number)
    scale = dataclasses.replace(cell.fusion.scale, spread=np.full_like(cell.fusion.scale.spread, number))
    with pytest.raises(StateError, match="nothing would be judged"):
        dataclasses.replace(cell, fusion=dataclasses.replace(cell.fusion, scale=scale))
    folder = save(learned[0], tmp_path)
    document = json.loads((folder / DOCUMENT).read_text())
    document["cells"][0]["level"]["threshold"] = number
    (folder / DOCUMENT).write_text(json.dumps(document))
    with pytest.raises(StateError, match=r"nothing would be judged.*commission again"):
        load(folder)


def test_json_that_exhausts_the_parser_is_refused(learned: list[Baseline], tmp_path: Path) -> None:
    folder = save(learned[0], tmp_path)
    (folder / DOCUMENT).write_text("[" * 100_000)
    with pytest.raises(StateError, match=r"baseline\.json: cannot be read"):
        load(folder)


@pytest.mark.parametrize("current", [None, [1], {"lathe|acc": 1}])
def test_an_index_of_another_form_is_refused(learned: list[Baseline], tmp_path: Path, current: Any) -> None:
    save_all([learned[0]], tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"schema": 1, "current": current}))
    with pytest.raises(StateError, match=r"baselines\.json: does not name"):
        load_all(tmp_path)
    with pytest.raises(StateError, match=r"baselines\.json: does not name"):
        save_all([learned[0]], tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_commissioning_again_mends_what_a_power_cut_left(learned: list[Baseline], tmp_path: Path, keep: int) -> None:
    """The same recordings give the same name: the damaged folder must not stand in the way of the advice."""
    folder = save(learned[0], tmp_path)
    whole = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(whole[:keep])
    with pytest.raises(StateError, match=r"damaged .*commission again"):
        load(folder)
    assert save(learned[0], tmp_path) == folder
    assert judge(load(folder)) == judge(learned[0])


def test_a_baseline_by_states_is_refused_where_nobody_tells_them(learned: list[Baseline]) -> None:
    """It would judge nothing, and nobody would notice."""
    by_state = dataclasses.replace(learned[0], states={"cut": 0, "idle": 0})
    by_state.check_states(told=True)
    learned[0].check_states(told=False)
    with pytest.raises(BadInput, match=r"knows the operating states cut, idle, .*set state_context"):
        by_state.check_states(told=False)


def test_arrays_are_covered_by_the_hash(learned: list[Baseline], tmp_path: Path) -> None:
    folder = save(learned[0], tmp_path)
    with np.load(folder / ARRAYS) as file:
        arrays = {k: file[k] for k in file.files}
    arrays["0__level__bank"] = np.nextafter(arrays["0__level__bank"], np.float32(9))
    np.savez(folder / ARRAYS, **arrays)
    with pytest.raises(StateError, match="does not match its hash"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"), [({"schema": 99}, "newer than 2.*upgrade stethos"), ({"schema": None}, "no schema version")]
)
def test_other_schemas_are_refused(
    learned: list[Baseline], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = save(learned[0], tmp_path)
    document = json.loads((folder / DOCUMENT).read_text())
    (folder / DOCUMENT).write_text(json.dumps({**document, **change}))
    with pytest.raises(StateError, match=message):
        load(folder)


def test_nothing_there_or_two_of_one_sensor(learned: list[Baseline], tmp_path: Path) -> None:
    with pytest.raises(StateError, match="holds no baseline"):
        load_all(tmp_path)
    save(learned[0], tmp_path)
    save(dataclasses.replace(learned[0], notes=("x",)), tmp_path)
    with pytest.raises(StateError, match="two baselines"):
        load_all(tmp_path)


def test_baselines_of_the_first_schema_are_read_forever() -> None:
    old = load(Path(__file__).parent / "fixtures" / "schema1")
    assert old.sha256.startswith("497159e376a9bfd7")
    assert (old.machine, old.sensor, old.rate.hz, old.unit, old.states) == (
        "fan",
        "acc",
        50,
        "g",
        {"full": 0, "idle": 1},
    )
    assert old.cell("full", "level") is not None
    assert old.cell("other", "level") is None
