"""The paper's layout is read without guessing; the simulated set has the paper's geometry."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.drill.data import TABLE, Sound, centre, digest, load
from pipeline.cli.drill_sounds import write_sounds
from pipeline.errors import BadInput


def test_simulated_sounds_have_the_papers_geometry(folder: Path, sounds: list[Sound]) -> None:
    info = [soundfile.info(folder / s.name) for s in sounds]
    assert {i.samplerate for i in info} == {96_000}
    assert {i.frames for i in info} <= {2000, 4000}
    assert {s.microphone for s in sounds} == {f"microphone-{k}" for k in range(4)}
    assert sum(s.anomaly for s in sounds) == 12 == len(sounds) // 2
    for event in {s.event for s in sounds}:
        own = [s for s in sounds if s.event == event]
        assert len(own) == 4
        assert len({(s.anomaly, s.run, len(s.samples)) for s in own}) == 1


def test_equal_seeds_give_equal_sounds(tmp_path: Path) -> None:
    one, two, other = (
        write_sounds(seed, tmp_path / name, per_class=4, bits=2) for seed, name in ((5, "a"), (5, "b"), (6, "c"))
    )
    assert digest(load(one)) == digest(load(two)) != digest(load(other))


def test_centre_is_the_middle() -> None:
    x = np.arange(4000.0)
    assert centre(x)[0] == 1000.0
    assert len(centre(x)) == 1999


@pytest.mark.parametrize(
    ("rate", "shape", "reason"),
    [(48_000, (2000,), "bad_rate"), (96_000, (1999,), "bad_length"), (96_000, (2000, 2), "bad_length")],
)
def test_other_rates_and_lengths_are_refused(
    folder: Path, tmp_path: Path, rate: int, shape: tuple[int, ...], reason: str
) -> None:
    shutil.copytree(folder, tmp_path / "set")
    soundfile.write(next((tmp_path / "set" / "normal").iterdir()), np.full(shape, 0.1), rate)
    with pytest.raises(BadInput) as caught:
        load(tmp_path / "set")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("normal-000,", ",", "line 2: event must not be empty"),
        ("normal-000,", "normal-000,late,", "line 2 has more cells"),
        ("normal/000-1", "normal/000-0", "line 3: normal/000-0.wav stands in it twice"),
        (",event,", ",stroke,", "needs the columns"),
        ("normal-000", "M\xfcller", "cannot be read"),
    ],
)
def test_tables_that_would_be_guessed_at_are_refused(
    folder: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    shutil.copytree(folder, tmp_path / "set")
    table = tmp_path / "set" / TABLE
    table.write_text(table.read_text().replace(old, new, 1), encoding="latin-1")
    with pytest.raises(BadInput, match=message):
        load(tmp_path / "set")


def test_tables_of_spreadsheets_say_the_same(folder: Path, tmp_path: Path) -> None:
    """A byte order mark, blanks around cells and empty lines change nothing."""
    shutil.copytree(folder, tmp_path / "set")
    table = tmp_path / "set" / TABLE
    loose = table.read_text().replace("normal-000,", " normal-000 ,", 1).replace(",event", ", event")
    table.write_text(loose + ",,,\n\n", encoding="utf-8-sig")
    assert [(s.name, s.event, s.run) for s in load(tmp_path / "set")] == [
        (s.name, s.event, s.run) for s in load(folder)
    ]


def test_silence_missing_classes_and_unnamed_files_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="normal or anomaly"):
        load(tmp_path)
    shutil.copytree(folder, tmp_path / "set")
    soundfile.write(tmp_path / "set" / "anomaly" / "new.wav", np.full(2000, 0.1), 96_000)
    with pytest.raises(BadInput, match="does not name"):
        load(tmp_path / "set")
    (tmp_path / "set" / "groups.csv").unlink()
    assert len({s.event for s in load(tmp_path / "set")}) == 25  # every file for itself
    soundfile.write(tmp_path / "set" / "anomaly" / "new.wav", np.zeros(2000), 96_000)
    with pytest.raises(BadInput, match="silent"):
        load(tmp_path / "set")
