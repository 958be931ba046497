"""What taught is known again by its whole content; a card that has no room for all of it says so."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from models.packages import load
from models.packages.checks import CARD, LARGEST
from pipeline.cli import train_head
from pipeline.cli.main import main
from pipeline.contents import CONTENTS, contents_of, cut_short, fingerprint, fitted, held
from pipeline.manifest import Row
from tests.models.probe.rig import manifest, sound


def run(*args: object) -> int:
    """The exit code of stethos."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return int(stop.value.code or 0)


def gated(path: Path, seed: int) -> Row:
    """A second of noise between two of digital silence, as a noise gate leaves it."""
    x = np.zeros(3 * 48_000)
    x[48_000:96_000] = np.random.default_rng(seed).normal(0, 0.1, 48_000)
    soundfile.write(path, x, 48_000, subtype="PCM_16")
    return Row(path.name, path, "idle", path.name, "mill", "mic", "acoustic")


def test_recordings_that_begin_and_end_alike_are_strangers(tmp_path: Path) -> None:
    """Length, first and last 64 KiB are equal; the second between is not, and a copy is the same recording."""
    one, other, copy = (gated(tmp_path / f"{name}.wav", seed) for name, seed in (("a", 1), ("b", 2), ("copy", 1)))
    assert fingerprint(one.path) == fingerprint(other.path)
    assert [held(row, contents_of([one])) for row in (one, other, copy)] == [True, False, True]


def test_cards_that_hold_fingerprints_know_what_taught_them(tmp_path: Path) -> None:
    """Size, first and last 64 KiB, as older cards have them; of MCAP with the sensor."""
    one, stranger = gated(tmp_path / "a.wav", 1), gated(tmp_path / "b.wav", 2)
    soundfile.write(stranger.path, np.zeros(48_000), 48_000)
    (tmp_path / "a.mcap").write_bytes(one.path.read_bytes())
    mcap = Row("a", tmp_path / "a.mcap", "idle", "a", "mill", "mic", "acoustic")
    contents: dict[str, list[list[float | None]]] = {fingerprint(one.path): [[0.0, None]]}
    assert [held(row, contents) for row in (one, stranger, mcap)] == [True, False, False]
    assert held(mcap, {f"{fingerprint(one.path)} mill/mic": [[0.0, None]]})


@pytest.mark.parametrize(
    ("files", "groups", "notes", "cut"),
    [
        (20_000, 3, 3, set()),
        (30_000, 3, 3, {CONTENTS}),
        (30_000, 30_000, 3, {CONTENTS, "groups"}),
        (100, 3, 30_000, {"notes"}),
    ],
)
def test_a_card_has_room_for_what_it_names(files: int, groups: int, notes: int, cut: set[str]) -> None:
    """The three lists stay below the bound on a card; what was cut is told, and what stays is unchanged."""
    training: dict[str, Any] = {
        "seed": 0,
        "notes": [f"Späne {i}: left out" for i in range(notes)],
        "groups": [f"machine 7, day {i}" for i in range(groups)],
        CONTENTS: {f"sha256:{i:016x}": [[0.0, None]] for i in range(files)},
    }
    found = fitted(training)
    card = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(card) < LARGEST[CARD] - (100 << 10)
    assert not cut or len(card) > 100 << 10
    assert all((found[key] == training[key]) == (key not in cut) for key in training)
    assert found[CONTENTS].items() <= training[CONTENTS].items() and training["notes"][-1] == found["notes"][-1]
    said = cut_short(found)
    assert bool(said) == bool(cut)
    assert all(f"{len(found[key])} of {len(training[key])} {key}" in said for key in cut)


def test_a_card_that_was_cut_short_is_told_wherever_it_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the terminal, the card and the page of the training, and by validate; the package is written."""
    rows = []
    for label, tone in (("idle", 300.0), ("cutting", 2500.0)):
        for g in range(3):
            sound(tmp_path / f"{label}{g}.wav", 2.0, tone, seed=g)
            rows.append({"path": f"{label}{g}.wav", "label": label, "group": f"{label}{g}"})
    m = manifest(tmp_path / "m.csv", rows[:4] + rows[5:])
    head = tmp_path / "h"
    monkeypatch.setattr(train_head, "fitted", partial(fitted, room=512))
    rest = ("--encoder", "logmel", "--kind", "linear", "--out", head)
    assert run("train", "head", "--manifest", m, *rest) == 0
    said = "had room for 0 of 1 notes"
    assert said in capsys.readouterr().out
    training = load(head).card.training
    assert said in training["notes"][-1] and len(training[CONTENTS]) == 5
    assert said in (tmp_path / "h.html").read_text("utf-8")
    new = manifest(tmp_path / "new.csv", rows)
    assert run("validate", "--manifest", new, "--model", head, "--normal", "idle", "--out", tmp_path / "v") == 0
    assert said in " ".join(capsys.readouterr().out.split())
