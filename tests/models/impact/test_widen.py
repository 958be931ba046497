"""A widened encoder computes what the narrow one did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.impact.network import SIZES, Encoder
from models.impact.widen import widen
from pipeline.errors import BadInput
from tests.models.impact.conftest import TINY

WIDE = replace(TINY, name="wide", width=64, heads=8, hidden=128, depth=3)


def test_same_function_twice() -> None:
    """With equal positions every channel of the narrow encoder stands in two of the wide one, to rounding."""
    narrow, wide = Encoder(TINY), Encoder(WIDE)
    narrow.train()(torch.rand(8, 1, 128, 128))  # running statistics of its own
    widen(narrow.eval(), wide.eval())
    wide.positions.copy_(narrow.positions.repeat_interleave(2, 1))
    x = torch.rand(3, 1, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(wide(x), narrow(x).repeat_interleave(2, 2), atol=1e-4, rtol=1e-4)


def test_even_channels_have_the_narrow_positions() -> None:
    """The ladder of rates of the narrow encoder is every second rung of the wide one's."""
    torch.testing.assert_close(Encoder("base").positions[:, ::2], Encoder("small").positions)


def test_copies_part_ways() -> None:
    """Weights that read the two copies differ, so that their gradients do."""
    narrow, wide = Encoder(TINY), Encoder(WIDE)
    widen(narrow, wide)
    weight = wide.blocks[0].ffn[0].weight  # type: ignore[index]
    assert float((weight[:, ::2] - weight[:, 1::2]).abs().max().detach()) > 1e-3


def test_sizes_that_do_not_fit() -> None:
    """Base is twice as wide as small; nothing else is accepted."""
    with pytest.raises(BadInput, match="twice as wide"):
        widen(Encoder(TINY), Encoder(TINY))
    widen(Encoder("small"), Encoder("base"))
    assert SIZES["base"].width == 2 * SIZES["small"].width
