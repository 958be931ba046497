import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from connectors.simulator.files import Kind, simulate
from connectors.simulator.manifest import COLUMNS, sizes
from pipeline.errors import BadInput

CLASSES = {
    "chatter": {"stable", "transition", "chatter"},
    "drill": {"normal", "drill_break"},
    "bearing": {"normal", "outer_race", "inner_race", "ball", "gear_tooth"},
}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["chatter", "drill", "bearing"])
def test_a_set_is_what_its_manifest_says(kind: Kind, tmp_path: Path) -> None:
    minutes = 0.8
    steps: list[tuple[int, int]] = []
    manifest = simulate(kind, 5, minutes, tmp_path / "set", lambda done, total: steps.append((done, total)))
    rows = table(manifest)
    assert manifest.name == "manifest.csv"
    assert list(rows[0])[: len(COLUMNS)] == list(COLUMNS)
    assert steps[-1] == (len(rows), len(rows))
    assert sum(float(r["end_s"]) - float(r["start_s"]) for r in rows) == pytest.approx(60 * minutes, abs=0.1)
    assert {r["label"] for r in rows} <= CLASSES[kind]
    groups: dict[str, set[str]] = {}
    for row in rows:
        path = manifest.parent / row["path"]
        groups.setdefault(row["group"], set()).add(row["split"])
        if path.suffix == ".npz":
            with np.load(path) as data:
                x, rate = data["x"], float(data["fs"])
            assert x.dtype == np.float32 and x.shape[1] == 3 and row["unit"] == "m/s2"
        else:
            x, rate = soundfile.read(path, dtype="int16")
            assert np.abs(x.astype(int)).max() > 300 and row["unit"] == "FS"
        assert rate == float(row["rate_hz"])
        assert len(x) / rate == pytest.approx(float(row["end_s"]), abs=1e-5)
        if row["label"] in {"chatter", "drill_break"}:
            assert 0.0 < float(row["onset_s"]) < float(row["end_s"])
        else:
            assert row["onset_s"] == ""
        if kind == "chatter":
            ratio = float(row["depth_m"]) / float(row["limit_m"])
            low, high = {"stable": (0.0, 0.7), "transition": (0.7, 1.0), "chatter": (1.05, 2.0)}[row["label"]]
            assert low <= ratio <= high + 1e-3
    assert all(len(splits) == 1 for splits in groups.values())


def test_equal_arguments_give_equal_files(tmp_path: Path) -> None:
    for kind in ("chatter", "drill", "bearing"):
        a, b, c = (simulate(kind, seed, 0.1, tmp_path / f"{kind}{i}") for i, seed in enumerate((3, 3, 4)))
        assert a.read_bytes() == b.read_bytes()
        path = table(a)[0]["path"]
        assert (a.parent / path).read_bytes() == (b.parent / path).read_bytes()
        other = c.parent / table(c)[0]["path"]
        assert (a.parent / path).read_bytes() != other.read_bytes()


@pytest.mark.parametrize(
    ("kind", "most", "longest", "order"), [("chatter", 36, 10.0, 6), ("drill", 40, 6.0, 5), ("bearing", 48, 10.0, 12)]
)
def test_twenty_minutes_hold_ten_recordings_of_each_class(kind: str, most: int, longest: float, order: int) -> None:
    count, length = sizes(20.0, most, longest, 3.0)
    assert count * length == pytest.approx(1200.0)
    rarest = {"chatter": 1, "drill": 2, "bearing": 2}[kind]
    assert count // order * rarest >= 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["chatter", "drill", "bearing"])
def test_twenty_minutes(kind: Kind, tmp_path: Path) -> None:
    rows = table(simulate(kind, 11, 20.0, tmp_path))
    count = Counter(r["label"] for r in rows)
    assert set(count) == CLASSES[kind]
    assert min(count.values()) >= 10
    parts = Counter((r["label"], r["split"]) for r in rows)
    assert all(parts[label, split] for label in CLASSES[kind] for split in ("train", "test"))


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no simulation"):
        simulate("lathe", 1, 1.0, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="minutes positive"):
        simulate("drill", 1, 0.0, tmp_path)
