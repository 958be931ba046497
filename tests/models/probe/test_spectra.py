"""Spectra of states against closed forms."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from models.probe.spectra import SpectrumOf, decibels
from pipeline.cli.spectra import spectra
from tests.models.probe.rig import manifest

RATE = 48_000


def test_a_sine_of_amplitude_one_has_no_decibels() -> None:
    """On a line of the transform, and nothing elsewhere."""
    x = np.sin(2 * np.pi * 64 * np.arange(2048) / 2048).astype(np.float32)
    db = decibels(x[None])[0]
    assert db[64] == pytest.approx(0.0, abs=1e-4) and np.delete(db, 64).max() < -100


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12))
def test_blocks_change_nothing(cuts: list[int]) -> None:
    """Mean and deviation are those of all segments at once, however the recording is read."""
    x = np.random.default_rng(0).normal(size=(30_000, 1)).astype(np.float32)
    whole = decibels(x[: 30_000 // 2048 * 2048, 0].reshape(-1, 2048))[:, :257]
    state = SpectrumOf(RATE)
    at = np.r_[0, np.cumsum(cuts)]
    state.take([x[a:b] for a, b in zip(at, [*at[1:], len(x)], strict=True) if a < len(x)])
    found = state.spectrum()
    assert found.segments == 14 and found.frequency_hz[-1] == 6000.0
    assert np.allclose(found.mean_db, whole.mean(axis=0)) and np.allclose(found.std_db, whole.std(axis=0))


def test_command(tmp_path: Path) -> None:
    """A table and a picture; a file that cannot be read is named."""
    t = np.arange(2 * RATE) / RATE
    rows = []
    for label, f in (("idle", 1500.0), ("cutting", 3000.0)):
        soundfile.write(tmp_path / f"{label}.flac", 0.5 * np.sin(2 * np.pi * f * t), RATE)
        rows.append({"path": f"{label}.flac", "label": label, "group": label})
    rows.append({"path": "gone.wav", "label": "idle", "group": "g"})
    out = tmp_path / "out"
    done = CliRunner().invoke(spectra, ["--manifest", str(manifest(tmp_path / "m.csv", rows)), "--out", str(out)])
    assert done.exit_code == 0 and "gone.wav" in done.output
    with (out / "spectra.csv").open() as file:
        table = list(csv.DictReader(file))
    for label, f in (("idle", 1500.0), ("cutting", 3000.0)):
        loudest = max((r for r in table if r["label"] == label), key=lambda r: float(r["mean_db"]))
        assert float(loudest["frequency_hz"]) == f
        assert float(loudest["mean_db"]) == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert (out / "spectra.png").read_bytes()[:4] == b"\x89PNG"


def test_any_label_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of formulas stand as they are, long labels keep both ends, and many labels end."""
    from pipeline.cli import spectra as command

    long = f"shift {'A' * 80} feed 300"
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    labels = ["$\\frac{a}$", long, "z"]
    rows: list[dict[str, object]] = [{"path": "a.wav", "label": label, "group": label} for label in labels]
    monkeypatch.setattr(command, "_MOST_PANELS", 2)
    args = ["--manifest", str(manifest(tmp_path / "m.csv", rows)), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(spectra, args)
    assert done.exit_code == 0, done.exception
    assert "spectra.png shows the first 2 of 3 labels" in done.output
    with (tmp_path / "out" / "spectra.csv").open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == set(labels)
    short = command._short(long)
    assert len(short) < 60 and short.startswith("shift A") and short.endswith("A feed 300")
