"""Static 8-bit quantisation: the integers are those of the definition, and the loss is small and measured."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.impact.graph import build
from models.impact.network import SIZES, Size
from models.impact.quantise import WEIGHT_LIMIT, calibrate, compare, tokens_of
from pipeline.errors import BadInput
from tests.models.impact.test_export import TINY, images, trained


def constants(model: bytes) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(model).graph.initializer}


@pytest.mark.parametrize("size", [TINY, SIZES["edge"]], ids=lambda s: s.name)
def test_embeddings_hardly_turn(size: Size) -> None:
    encoder, x = trained(size), images(16)
    quantisers = calibrate(encoder, x[::2])
    before = tokens_of(build(encoder)[0], x)
    after = tokens_of(build(encoder, quantisers, weight_limit=WEIGHT_LIMIT)[0], x)
    loss = compare(before[1::2], after[1::2], x[1::2], encoder.grid, encoder.cls)
    assert loss.clips == 8
    assert set(loss.cosine) == ({"cls", "mean", "band"} if size.cls else {"mean", "band"})
    assert min(loss.worst.values()) > 0.995
    assert all(loss.worst[how] <= loss.cosine[how] <= 1.0 for how in loss.cosine)


def test_weights_are_rounded_per_channel() -> None:
    encoder = trained(TINY)
    model, linears = build(encoder, calibrate(encoder, images(8)), weight_limit=WEIGHT_LIMIT)
    found = constants(model)
    for layer in linears:
        q, scale = found[f"{layer.name}.wq"], found[f"{layer.name}.ws"]
        assert q.dtype == np.int8
        assert np.abs(q.astype(int)).max() <= WEIGHT_LIMIT
        assert (np.abs(q.astype(int)).max(axis=0) == WEIGHT_LIMIT).all()
        assert (np.abs(q * scale - layer.weight) <= scale / 2 * 1.001).all()
        assert found[f"{layer.name}.bq"].dtype == np.int32


def test_pairs_of_products_fit_into_16_bits() -> None:
    """What processors without a dot-product instruction add before they widen."""
    assert np.iinfo(np.int16).max >= 2 * 255 * WEIGHT_LIMIT


def test_ranges_cover_what_the_layers_see() -> None:
    encoder, x = trained(TINY), images(8)
    for name, quantiser in calibrate(encoder, x).items():
        assert quantiser.scale > 0
        assert 0 <= quantiser.zero <= 255
        if name.endswith("down"):  # after GELU, whose minimum is −0.17
            assert quantiser.zero * quantiser.scale < 0.2


def test_compare_of_equal_tokens_is_one() -> None:
    tokens = np.random.default_rng(0).standard_normal((3, 17, 8)).astype(np.float32)
    loss = compare(tokens, 2 * tokens, images(3), (4, 4), True)
    np.testing.assert_allclose(list(loss.worst.values()), 1.0)
    turned = compare(tokens, -tokens, images(3), (4, 4), True)
    np.testing.assert_allclose(list(turned.cosine.values()), -1.0)


def test_without_clips_there_are_no_ranges() -> None:
    with pytest.raises(BadInput, match="there are none"):
        calibrate(trained(TINY), images(0))
