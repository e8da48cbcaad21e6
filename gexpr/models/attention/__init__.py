"""One attention function with interchangeable implementations that give the same result."""

from __future__ import annotations

from torch import Tensor

from gexpr.errors import ConfigError
from gexpr.models.attention.block_sparse import block_sparse_attention, streamed_attention
from gexpr.models.attention.choice import choose
from gexpr.models.attention.dense import dense_attention
from gexpr.models.attention.flex import flex_available, flex_block_attention
from gexpr.models.attention.pattern import BlockPattern, Layout
from gexpr.models.attention.relative import RelativeBias

IMPLEMENTATIONS = ("auto", "dense", "block_sparse", "flex")

__all__ = ["IMPLEMENTATIONS", "BlockPattern", "Layout", "RelativeBias", "attend"]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: BlockPattern | None = None,
    relative: RelativeBias | None = None,
    dropout: float = 0.0,
    training: bool = False,
    implementation: str = "auto",
) -> Tensor:
    """Softmax attention; logits are ``q . k`` without further scaling.

    Args:
        q: (B, H, G + T, key_size), scaled (and rotated, with rotary positions); the G global tokens of
            ``pattern`` come first.
        k: (B, H, G + T, key_size).
        v: (B, H, G + T, value_size).
        pattern: which blocks attend to which; None for everything to everything (G = 0).
        relative: Enformer's position term between bins.
        dropout: share of the softmax weights dropped, when ``training``.
        implementation: ``dense`` computes all pairs at once and masks; ``block_sparse`` computes the
            attended blocks (or, where more than 80 % attend, all pairs of one query block at a time);
            ``flex`` does so with FlexAttention, for CUDA, where it can (no position term, no dropout);
            ``auto`` takes what ``choice.choose`` says. All give the same result; only ``dense`` can be
            differentiated twice.

    Returns:
        (B, H, G + T, value_size).
    """
    if implementation not in IMPLEMENTATIONS:
        raise ConfigError(
            f"attention implementation {implementation!r} is not one of: {', '.join(IMPLEMENTATIONS)}"
        )
    dropout = dropout if training else 0.0
    if q.is_meta:
        # Shapes without numbers, for counting what a forward pass costs.
        return q.new_empty((*q.shape[:-1], v.shape[-1]))
    if pattern is None:
        if relative is None or implementation == "dense":
            return dense_attention(q, k, v, None, relative, dropout)
        return streamed_attention(q, k, v, relative, dropout)
    length = q.shape[2] - pattern.global_tokens
    if implementation == "auto":
        implementation = choose(
            q.device.type,
            length,
            pattern.density(length),
            relative is not None,
            dropout > 0,
            q.is_cuda and flex_available(q.shape[-1], v.shape[-1]),
        )
    if implementation == "everything":
        return dense_attention(q, k, v, None, None, dropout)
    if implementation == "dense" or length <= pattern.block_size:
        return dense_attention(q, k, v, pattern, relative, dropout)
    if implementation == "flex" and relative is None and not dropout:
        return flex_block_attention(q, k, v, pattern)
    return block_sparse_attention(q, k, v, pattern, relative, dropout)
