"""The front end in the graph against the one by FFT, and in front of an encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.impact.graph import build
from models.impact.graph_frontend import INPUT, build_frontend
from models.packages import Card, Input, Output, Package, write
from operators.logmel import clip
from operators.mel import DRILL, PAPER
from pipeline.errors import BadInput
from pipeline.messages import Float32
from tests.models.impact.test_export import TINY, trained

T = np.arange(48_000) / 48_000.0


def sounds() -> dict[str, Float32]:
    """Seconds of sound by name, float32 (48000,)."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(48_000)
    brown = np.cumsum(noise)
    lines = sum(np.sin(2 * np.pi * f * T) / (i + 1) for i, f in enumerate((50.0, 1_480.0, 3_515.0, 9_001.0)))
    made = {
        "noise": 0.1 * noise,
        "noise far from zero": 0.01 * noise + 0.5,
        "machine": 0.2 * lines + 0.01 * noise,
        "rumble": 0.01 * (brown - brown.mean()) + 0.003 * noise,
        "knocks": 0.02 * noise + 0.9 * (rng.random(48_000) < 2e-4),
        "quiet": 1e-4 * noise,
    }
    return {name: x.astype(np.float32) for name, x in made.items()}


def card(shape: tuple[int, ...]) -> Card:
    return Card(
        kind="encoder",
        name="front",
        version="1",
        input=Input(PAPER.hash, "samples", (48_000,), 48_000.0, INPUT),
        outputs=(Output("logmel", shape),),
        opset=20,
        batch=2,
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    x = np.stack(list(sounds().values())[:2])
    return write(tmp_path_factory.mktemp("front") / "end", card((1, 128, 128)), build_frontend(), x)


@pytest.mark.parametrize("name", list(sounds()))
def test_images_are_those_of_the_fft(package: Package, name: str) -> None:
    x = sounds()[name]
    wanted = clip(x, 48_000, PAPER).values
    got = package.session().run(x[None])["logmel"][0, 0]
    assert np.abs(got - wanted).max() * 80.0 < 1e-3


def test_rows_do_not_depend_on_one_another(package: Package) -> None:
    assert not package.alone


def test_an_encoder_runs_behind_it(tmp_path: Path, package: Package) -> None:
    model = build(trained(TINY))[0]
    x = np.stack(list(sounds().values())[:2])
    whole = replace(card((17, 32)), outputs=(Output("tokens", (17, 32)),))
    images = package.session().run(x)["logmel"]
    encoder = replace(whole, input=Input(PAPER.hash, "images", (1, 128, 128), 48_000.0))
    wanted = write(tmp_path / "encoder", encoder, model, images).golden.y
    got = write(tmp_path / "whole", whole, build_frontend(encoder=model), x).golden.y
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_a_pure_tone_is_as_exact_as_single_precision_allows(package: Package) -> None:
    x = np.sin(2 * np.pi * 1_000.0 * T).astype(np.float32)
    wanted = clip(x, 48_000, PAPER).values
    difference = np.abs(package.session().run(x[None])["logmel"][0, 0] - wanted) * 80.0
    assert difference[wanted > 20 / 80].max() < 1e-3  # within 60 dB of the loudest
    assert difference.max() < 0.01


def test_other_front_ends_are_refused() -> None:
    with pytest.raises(BadInput) as caught:
        build_frontend(DRILL)
    assert caught.value.reason == "features"
