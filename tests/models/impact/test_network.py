"""Shapes, parameter counts and positions: acceptance of the published model's figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.impact.network import SIZES, Decoder, Encoder, parameters, positions, size_of
from tests.models.impact.conftest import TINY


def test_parameters_of_base_are_the_published_ones() -> None:
    """Encoder 17,342,592, decoder 632,273, together 17,974,865: the paper's 18 million."""
    encoder, decoder = parameters(Encoder("base")), parameters(Decoder(384))
    assert (encoder, decoder, encoder + decoder) == (17_342_592, 632_273, 17_974_865)


def test_parameters_of_small_and_edge() -> None:
    """O'IMPACT's 4.243 million, LISTEN's 67,008; edge stays below 0.1 million."""
    assert parameters(Encoder("small")) == 4_242_816
    assert parameters(Encoder("edge")) == 67_008


@pytest.mark.parametrize(
    ("name", "tokens", "width", "grid", "cls"),
    [("base", 17, 384, (4, 4), True), ("small", 17, 192, (4, 4), True), ("edge", 64, 64, (8, 8), False)],
)
def test_shapes(name: str, tokens: int, width: int, grid: tuple[int, int], cls: bool) -> None:
    """Image in, tokens out; the grid stands behind the class token."""
    encoder = Encoder(name).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 1, 128, 128)).shape == (2, tokens, width)
    assert (encoder.grid, encoder.cls, encoder.width) == (grid, cls, width)


def macs(encoder: Encoder) -> int:
    """Multiply-accumulates of linear and convolution layers for one image, counted by hooks."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += inputs[0].numel() * module.out_features
        elif isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in encoder.modules()]
    with torch.no_grad():
        encoder.eval()(torch.rand(1, 1, 128, 128))
    for hook in hooks:
        hook.remove()
    return total


def test_multiply_accumulates() -> None:
    """292.2 million for base (published 291.3), 71 for small, 5.2 for edge."""
    assert macs(Encoder("base")) == pytest.approx(292.2e6, rel=1e-3)
    assert macs(Encoder("small")) == pytest.approx(71.3e6, rel=5e-3)
    assert macs(Encoder("edge")) == pytest.approx(4.2e6, rel=0.02)


def test_decoder_gives_the_feature_maps_size() -> None:
    """Five doublings from 2 × 2: 64 × 64, not 128 × 128."""
    assert Decoder(32)(torch.rand(3, 32)).shape == (3, 1, 64, 64)


def test_positions_follow_the_formula() -> None:
    """First half of the channels tells the row, second the column; each sine, then cosine."""
    where = positions(4, 4, 8).numpy()
    rates = np.array([1.0, 0.01])  # 10000^(−i/2)
    row, column = 2, 3
    wanted = np.concatenate([f(axis * rates) for axis in (row, column) for f in (np.sin, np.cos)])
    np.testing.assert_allclose(where[row * 4 + column], wanted, atol=1e-6)
    only = positions(8, 8, 8, time=False).numpy().reshape(8, 8, 8)
    assert (only == only[:, :1]).all()
    assert len(np.unique(only[:, 0], axis=0)) == 8


def test_token_order_is_row_then_column() -> None:
    """Energy in one patch of the image moves that patch's embedding most."""
    encoder = Encoder(TINY).eval()
    flat, marked = torch.zeros(1, 1, 128, 128), torch.zeros(1, 1, 128, 128)
    marked[..., 64 + 8 : 96 - 8, 32 + 8 : 64 - 8] = 1.0  # row 2 (frequency), column 1 (time)
    with torch.no_grad():
        moved = (encoder.embed(marked) - encoder.embed(flat)).norm(dim=-1)[0]
    assert int(moved.argmax()) == 2 * 4 + 1


def test_edge_knows_where_a_patch_lies() -> None:
    """The same patch in another band gives another token, which LISTEN's own network could not tell."""
    encoder = Encoder("edge").eval()
    low, high = torch.zeros(1, 1, 128, 128), torch.zeros(1, 1, 128, 128)
    low[..., 16:32, 0:16] = 1.0
    high[..., 96:112, 0:16] = 1.0
    with torch.no_grad():
        a, b = encoder(low)[0, 8], encoder(high)[0, 48]
    assert float((a - b).abs().max()) > 1e-3


def test_names() -> None:
    """An unknown size is refused with those that there are."""
    assert set(SIZES) == {"base", "small", "edge"}
    with pytest.raises(ValueError, match="base, small, edge"):
        size_of("large")
