"""A larger encoder that begins where a smaller one stopped (Net2Net, Chen et al., arXiv 1511.05641).

Every channel, head and hidden unit becomes two copies, and weights that read copies are shared out between them, in
random parts so that the copies part ways when they learn. LayerNorm sees the same mean and variance, so the wide
encoder computes what the narrow one did, twice — except that odd channels carry the positions of their own, finer
ladder of rates (even ones have exactly those of the narrow encoder). Further blocks begin as identities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.impact.network import Block, Encoder, Size
from pipeline.errors import BadInput

_PARTS = (0.3, 0.7)


def doubles(narrow: Size, wide: Size) -> bool:
    """Whether the one is twice as wide as the other, with the same stem, and at least as deep."""
    a, b = narrow, wide
    doubled = (2 * a.width, 2 * a.heads, 2 * a.hidden, a.stem, a.cls, a.maps, a.final_norm)
    return doubled == (b.width, b.heads, b.hidden, b.stem, b.cls, b.maps, b.final_norm) and a.depth <= b.depth


@torch.no_grad()
def widen(narrow: Encoder, wide: Encoder, seed: int = 0) -> None:
    """Set the weights of `wide` from those of `narrow`, which has half its width, heads and hidden units.

    Args:
        narrow: trained; not changed.
        wide: of the same stem, at least as deep.
        seed: of the shares.

    Raises:
        BadInput: the sizes do not fit.
    """
    a, b = narrow.size, wide.size
    if not doubles(a, b):
        raise BadInput("size", f"'{b.name}' is not twice as wide as '{a.name}': it cannot begin from it")
    draw = torch.Generator().manual_seed(seed)
    state = narrow.stem.state_dict()
    state |= {key: _rows(state[key]) for key in ("patch.weight", "patch.bias")}
    wide.stem.load_state_dict(state)
    if narrow.cls_token is not None and wide.cls_token is not None:
        wide.cls_token.copy_(_rows(narrow.cls_token[0].T).T[None])
    for i, block in enumerate(wide.blocks):
        assert isinstance(block, Block)
        if i < a.depth:
            source = narrow.blocks[i]
            assert isinstance(source, Block)
            _block(source, block, draw)
        else:
            for last in (block.attention.proj, block.ffn[2]):
                assert isinstance(last, nn.Linear)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)


def _block(source: Block, target: Block, draw: torch.Generator) -> None:
    for old, new in ((source.norm1, target.norm1), (source.norm2, target.norm2)):
        new.weight.copy_(_rows(old.weight))
        new.bias.copy_(_rows(old.bias))
    heads, d = source.attention.heads, source.attention.proj.in_features
    qkv, proj = source.attention.qkv, source.attention.proj
    # each head twice: rows (3, heads, d_head) → (3, heads, 2, d_head)
    twice = qkv.weight.reshape(3, heads, d // heads, d).repeat_interleave(2, 1).reshape(6 * d, d)
    target.attention.qkv.weight.copy_(_shared(twice, draw))
    target.attention.qkv.bias.copy_(qkv.bias.reshape(3, heads, d // heads).repeat_interleave(2, 1).reshape(-1))
    by_head = proj.weight.reshape(d, heads, d // heads)
    part = torch.empty(2 * d, heads, d // heads).uniform_(*_PARTS, generator=draw)
    out = by_head.repeat_interleave(2, 0)
    target.attention.proj.weight.copy_(torch.stack([out * part, out * (1 - part)], 2).reshape(2 * d, 2 * d))
    target.attention.proj.bias.copy_(_rows(proj.bias))
    for i in (0, 2):
        old_linear, new_linear = source.ffn[i], target.ffn[i]
        assert isinstance(old_linear, nn.Linear)
        assert isinstance(new_linear, nn.Linear)
        new_linear.weight.copy_(_shared(_rows(old_linear.weight), draw))
        new_linear.bias.copy_(_rows(old_linear.bias))


def _rows(x: Tensor) -> Tensor:
    """Every row twice: row j becomes 2j and 2j + 1."""
    return x.repeat_interleave(2, 0)


def _shared(weight: Tensor, draw: torch.Generator) -> Tensor:
    """Columns (o, i) → (o, 2 i), each value shared out between the two copies of its input."""
    part = torch.empty(weight.shape).uniform_(*_PARTS, generator=draw)
    return torch.stack([weight * part, weight * (1 - part)], 2).flatten(1)
