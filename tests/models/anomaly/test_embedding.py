"""The embedding beside the log-Mel: joined by left-out starts, kept in the baseline, refused without its encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.anomaly.baseline import Baseline
from models.anomaly.chain import windows
from models.anomaly.commission import commission
from models.anomaly.embedding import EmbeddingScore, floor_of, strangeness
from models.anomaly.encoder import PackageEmbedder
from models.anomaly.score import AnomalyScore
from models.anomaly.store import load, save
from models.anomaly.vectors import EMBEDDING, extraction
from pipeline.errors import BadInput
from pipeline.messages import Window
from tests.models.anomaly.rig import ACC, MIC, Part, normals, running
from tests.models.probe.rig import encoder


class Bands:
    """An embedder without a package: the log-Mel's time mean in groups of four bands."""

    encoder, pooling = "e" * 64, "band"

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """(n, 128, 128) → (n, 32)."""
        return images.mean(axis=2).reshape(len(images), 32, 4).mean(axis=2).astype(np.float32)


class Moody(Bands):
    """One that hears a new machine whenever it is asked again: it would raise alarms on every start."""

    def __init__(self) -> None:
        self.calls = 0

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """Shifted further by each recording."""
        self.calls += 1
        return super().vectors(images) + np.float32(3.0 ** (self.calls % 7))


@pytest.fixture(scope="module")
def learned() -> Baseline:
    """A baseline of five starts with an embedding."""
    (baseline,) = commission(normals(MIC, 5, 6.0), embedder=Bands())
    return baseline


def embedded(x: np.ndarray, embedder: Bands) -> list[Window]:
    """What the lane's embedding stage hands on: windows whose values are one vector."""
    found = windows(MIC, extraction(MIC), Part(MIC, x).segments())
    return [replace(w, values=embedder.vectors(w.values[None])[0]) for w in found]


def test_it_joins_and_stays_with_the_baseline(learned: Baseline, tmp_path: Path) -> None:
    """Digest and pooling are kept, under the schema that older versions refuse; others are written as before."""
    assert (learned.encoder, learned.pooling) == ("e" * 64, "band")
    assert any("judges beside the log-Mel" in note for note in learned.notes)
    assert set(learned.cells[0]) == {"anomaly", "level", EMBEDDING}
    read = load(save(learned, tmp_path))
    assert (read.sha256, read.encoder, read.document()["schema"]) == (learned.sha256, learned.encoder, 2)
    (plain,) = commission(normals(MIC, 5, 6.0))
    assert "encoder" not in plain.document() and plain.document()["schema"] == 1
    for detector in ("anomaly", "level"):
        assert plain.cells[0][detector].threshold == learned.cells[0][detector].threshold


def test_scores(learned: Baseline) -> None:
    """A new start stays below the threshold, a whistle rises above it, with words; each window stands for itself."""
    scorer = EmbeddingScore(learned, "e" * 64, "band")
    normal: list[Any] = [s for w in embedded(running(MIC, 6.0, 9), Bands()) for s in scorer.process(w)]
    odd: list[Any] = [s for w in embedded(running(MIC, 6.0, 9, tone_hz=9000.0), Bands()) for s in scorer.process(w)]
    assert normal and {s.detector for s in (*normal, *odd)} == {EMBEDDING}
    assert np.mean([s.value for s in normal]) < normal[0].threshold < min(s.value for s in odd)
    assert "unlike anything commissioned" in odd[0].reasons["text"]
    assert odd[0].settings == learned.settings
    # the detectors of the log-Mel are as they are without an embedding
    image = next(iter(windows(MIC, extraction(MIC), Part(MIC, running(MIC, 2.0, 9)).segments())))
    assert {s.detector for s in AnomalyScore(learned).process(image)} == {"anomaly", "level"}


def test_incomplete_and_silent_windows_give_none(learned: Baseline) -> None:
    """Nothing is judged that was not heard."""
    scorer = EmbeddingScore(learned, "e" * 64, "band")
    window = embedded(running(MIC, 2.0, 9), Bands())[0]
    assert not list(scorer.process(replace(window, complete=False)))
    assert not list(scorer.process(replace(window, side={**window.side, "silent": 1.0})))
    with pytest.raises(TypeError):
        scorer.process(replace(window, values=np.zeros((128, 128), np.float32)))


@pytest.mark.parametrize(("digest", "pooling"), [("f" * 64, "band"), ("e" * 64, "cls"), ("", "")])
def test_another_encoder_is_refused(learned: Baseline, digest: str, pooling: str) -> None:
    """With both named; a baseline without an embedding takes any machine and judges nothing here."""
    with pytest.raises(BadInput, match=r"judges the 'band' embedding of package e{16}"):
        EmbeddingScore(learned, digest, pooling)
    (plain,) = commission(normals(MIC, 2, 4.0))
    scorer = EmbeddingScore(plain, digest, pooling)
    assert not list(scorer.process(embedded(running(MIC, 2.0, 9), Bands())[0]))


def test_it_is_left_out_where_starts_speak_against_it() -> None:
    """One start says nothing; more false alarms on left-out starts than by the log-Mel say no."""
    (one,) = commission(normals(MIC, 1, 8.0), embedder=Bands())
    assert one.encoder == "" and EMBEDDING not in one.cells[0]
    assert any("from one start nobody can tell" in note for note in one.notes)
    (moody,) = commission(normals(MIC, 7, 6.0), embedder=Moody())
    assert moody.encoder == "" and any(" on left-out starts" in note for note in moody.notes)


def test_strangeness_is_one_where_starts_do_not_matter() -> None:
    """Shuffled starts of one cloud: 1; starts that lie ten spreads apart: many times farther."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 12)).astype(np.float32)
    floor = np.full(12, 0.01, np.float32)
    assert strangeness(x, ["ab"[i % 2] for i in range(200)], floor) == pytest.approx(1.0, abs=0.05)
    y = x / 100.0 + rng.normal(size=(4, 12)).repeat(50, axis=0)
    assert strangeness(y.astype(np.float32), [str(i // 50) for i in range(200)], floor) > 10.0


def test_vibration_has_none() -> None:
    """Encoders hear sound."""
    (baseline,) = commission(normals(ACC, 3, 6.0), embedder=Bands())
    assert baseline.encoder == "" and set(baseline.cells[0]) == {"anomaly", "level"}


def test_a_still_number_does_not_outshout_the_others() -> None:
    """The floor is a quarter of the typical spread."""
    x = np.random.default_rng(0).normal(0, 2.0, (500, 9)).astype(np.float32)
    x[:, 3] = 7.0
    assert floor_of(x) == pytest.approx(0.5, rel=0.15)
    assert (floor_of(np.zeros((9, 4), np.float32)) > 0).all()


def test_a_package_as_embedder(tmp_path: Path) -> None:
    """Rows do not depend on their neighbours; another kind of pooling than the package has is refused."""
    package = encoder(tmp_path / "tiny", d=8, cls=False)
    embedder = PackageEmbedder(package)
    images = np.random.default_rng(0).uniform(0, 1, (5, 128, 128)).astype(np.float32)
    assert embedder.vectors(images).shape == (5, 32) and embedder.encoder == package.digest
    assert np.array_equal(embedder.vectors(images)[3], embedder.vectors(images[3:4])[0])
    (baseline,) = commission(normals(MIC, 3, 4.0), embedder=embedder)
    assert baseline.encoder in {"", package.digest}
    with pytest.raises(BadInput, match="no class token"):
        PackageEmbedder(package, "cls").vectors(images)
