"""Bits from new to worn, the break, holes without them: the order that the manifest tells."""

from __future__ import annotations

import csv
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile

from connectors.simulator.tool_life_set import simulate_tool_life
from pipeline.errors import BadInput


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty holes of three seconds."""
    return simulate_tool_life(11, 2.0, tmp_path_factory.mktemp("life"))


def table(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_bit_wears_breaks_is_missing_and_is_changed(manifest: Path) -> None:
    """In this order, by its labels and its column wear; the first bit of each machine teaches."""
    order = ["normal", "transition", "worn", "drill_break", "bit_missing"]
    rows = table(manifest)
    assert len(rows) == 40
    for group, of in groupby(rows, lambda row: row["group"]):
        bit = list(of)
        places = [order.index(row["label"]) for row in bit]
        assert places == sorted(places) and bit[0]["label"] == "normal"
        wear = [float(row["wear"]) for row in bit]
        assert wear == sorted(wear) and wear[0] == 0.0
        assert {row["split"] for row in bit} == {"train" if int(group[4:]) < 3 else "test"}
        assert {row["drop_db"] for row in bit if row["label"] == "bit_missing"} <= {
            row["drop_db"] for row in bit if row["label"] == "drill_break"
        }


def test_what_is_heard_is_what_is_told(manifest: Path) -> None:
    """A hole without its bit is quieter while the control cuts; a break lies where its onset does."""
    rows = table(manifest)
    for row in rows:
        x, rate = soundfile.read(manifest.parent / row["path"])
        cut = slice(int(float(row["cut_from_s"]) * rate), int(float(row["cut_until_s"]) * rate))
        row["level"] = str(10.0 * np.log10(np.mean(np.diff(x[cut]) ** 2)))
        if row["onset_s"]:
            assert float(row["touch_s"]) < float(row["onset_s"]) < float(row["out_s"])
    for _, of in groupby(rows, lambda row: row["group"]):
        bit = list(of)
        good = [float(row["level"]) for row in bit if row["label"] == "normal"]
        assert all(float(row["level"]) < min(good) for row in bit if row["label"] == "bit_missing")


def test_equal_seeds_make_equal_files(manifest: Path, tmp_path: Path) -> None:
    """Byte for byte, and another length is refused."""
    again = simulate_tool_life(11, 2.0, tmp_path)
    assert again.read_bytes() == manifest.read_bytes()
    for row in table(again)[::9]:
        assert (again.parent / row["path"]).read_bytes() == (manifest.parent / row["path"]).read_bytes()
    with pytest.raises(BadInput, match="minutes positive"):
        simulate_tool_life(1, 0.0, tmp_path)
