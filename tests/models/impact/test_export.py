"""Exported encoders: what torch gives, at every place of a batch, in a package that loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from models.impact.checkpoint import save, size_facts
from models.impact.export import PARITY, Facts, export_package
from models.impact.graph import OPSET, build
from models.impact.network import SIZES, Encoder, Size
from models.impact.quantise import tokens_of
from models.packages import load
from models.packages.session import Session
from operators.mel import PAPER
from pipeline.errors import BadInput
from pipeline.messages import Float32

TINY = Size("tiny", 32, 2, 4, 64, maps=8)
NORMED = Size("normed", 32, 1, 4, 64, maps=8, final_norm=True)
PATCHED = Size("patched", 32, 1, 4, 64, stem="patch")
"""Patches of the image itself and a class token before them."""


def images(n: int, seed: int = 0) -> Float32:
    """Smooth random images in [0, 1], shape (n, 1, 128, 128)."""
    x = np.random.default_rng(seed).standard_normal((n, 1, 128, 128))
    return np.clip(gaussian_filter(x, (0, 0, 2, 2)) * 3.0 + 0.5, 0.0, 1.0).astype(np.float32)


def trained(size: str | Size) -> Encoder:
    """An encoder whose every parameter and running statistic differs from its initial value."""
    torch.manual_seed(1)
    encoder = Encoder(size)
    with torch.no_grad():
        for x in [*encoder.parameters(), *(b for b in encoder.buffers() if b.is_floating_point())]:
            if x is not encoder.positions:
                x.add_(0.05 * torch.rand_like(x))
    return encoder.eval()


@pytest.mark.parametrize(
    "size", [TINY, NORMED, PATCHED, *(SIZES[name] for name in ("edge", "small"))], ids=lambda s: s.name
)
def test_the_graph_gives_what_torch_gives(size: Size) -> None:
    encoder, x = trained(size), images(3)
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(x)).numpy()
    got = tokens_of(build(encoder)[0], x)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < PARITY * max(1.0, float(np.sqrt(np.mean(wanted**2))))


@pytest.mark.slow
def test_the_published_size_gives_what_torch_gives() -> None:
    encoder, x = trained("base"), images(2)
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(x)).numpy()
    assert np.abs(tokens_of(build(encoder)[0], x) - wanted).max() < PARITY * max(
        1.0, float(np.sqrt(np.mean(wanted**2)))
    )


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("size", [TINY, SIZES["edge"]], ids=lambda s: s.name)
def test_a_package_is_written_and_loads(tmp_path: Path, size: Size, int8: bool) -> None:
    facts = Facts(name="impact-test", version="7", training={"hours": {"simulated": 2.0}}, scores={"macro_f1": 0.5})
    package = export_package(trained(size), tmp_path / "pkg", images(12), facts, int8=int8)
    card = load(package.folder).card
    card.takes(PAPER)
    assert (card.kind, card.name, card.version, card.opset) == ("encoder", "impact-test", "7", OPSET)
    assert card.training == {"hours": {"simulated": 2.0}}
    assert card.grid == (size.side, size.side)
    assert card.cls == size.cls
    assert card.outputs[0].shape == (size.side**2 + size.cls, size.width)
    assert card.scores["parity_with_torch"] < PARITY
    assert card.latency["full_batch_ms_per_clip"] > 0
    assert bool(card.quantisation) == int8
    assert not package.alone


def test_a_row_has_the_same_bits_wherever_it_is(tmp_path: Path) -> None:
    package = export_package(trained(TINY), tmp_path / "pkg", images(8), Facts(name="t", version="0"))
    x, session = images(19, seed=3), package.session()
    whole = session.run(x)["tokens"]
    for i in range(19):
        np.testing.assert_array_equal(session.run(x[i : i + 1])["tokens"][0], whole[i])
    np.testing.assert_array_equal(package.session(2).run(x)["tokens"], whole)


def test_a_probe_of_the_loss_stands_in_the_card(tmp_path: Path) -> None:
    """It is given both graphs, ready to run."""
    x = images(3, seed=5)

    def probe(before: Session, after: Session) -> dict[str, float]:
        return {"shift": float(np.abs(before.first(x) - after.first(x)).max()), "batch": before.card.batch}

    encoder, told = trained(TINY), {"calibrated_on": "noise"}
    package = export_package(
        encoder, tmp_path / "pkg", images(10), Facts(name="t", version="0"), probe=probe, about=told
    )
    with torch.no_grad():
        exact = encoder(torch.from_numpy(x)).numpy()
    found = package.card.quantisation["probe"]
    assert found["shift"] == pytest.approx(float(np.abs(exact - package.session().first(x)).max()), abs=1e-4)
    assert found["shift"] > 1e-3
    assert package.card.quantisation["calibrated_on"] == "noise"


@pytest.mark.parametrize(
    "x",
    [images(7), images(8)[:, :, :64], images(8)[:, 0], np.full((8, 1, 128, 128), np.nan, np.float32)],
    ids=["few", "shape", "no channel", "nan"],
)
def test_calibration_clips_that_cannot_serve_are_refused(tmp_path: Path, x: Float32) -> None:
    with pytest.raises(BadInput) as caught:
        export_package(trained(TINY), tmp_path / "pkg", x, Facts(name="t", version="0"))
    assert caught.value.reason == "calibration"


def test_equal_clips_make_no_golden_rows(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="must differ"):
        export_package(trained(TINY), tmp_path / "pkg", np.repeat(images(1), 8, axis=0), Facts(name="t", version="0"))


def test_a_pooling_that_the_encoder_cannot_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no class token"):
        export_package(trained("edge"), tmp_path / "pkg", images(8), Facts(name="t", version="0", pooling="cls"))


def test_a_training_run_is_exported_from_its_newest_checkpoint(tmp_path: Path) -> None:
    encoder, x = trained(TINY), images(8)
    tensors = {f"student.encoder.{name}": value for name, value in encoder.state_dict().items()}
    save(tmp_path / "run", 7, tensors, {"size": size_facts(TINY), "settings": {}, "data": {}})
    facts = Facts(name="t", version="0")
    package = export_package(tmp_path / "run", tmp_path / "pkg", x, facts, int8=False)
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(package.session().run(x)["tokens"], wanted, atol=1e-4)
    with pytest.raises(BadInput):
        export_package(tmp_path / "nowhere", tmp_path / "other", x, facts)
