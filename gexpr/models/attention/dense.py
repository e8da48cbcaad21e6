"""Dense attention: every pair of positions is computed; a block pattern only masks.

With Enformer's positions the (T, T) logits are materialised, as in the published code. Without them
PyTorch's fused kernels are used.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gexpr.models.attention.pattern import BlockPattern
from gexpr.models.attention.relative import RelativeBias


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: BlockPattern | None = None,
    relative: RelativeBias | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention over all pairs, masked by ``pattern``; arguments as in ``attention.attend``."""
    tokens = 0 if pattern is None else pattern.global_tokens
    mask = None if pattern is None else pattern.mask(q.shape[2] - tokens, q.device)
    if relative is None:
        return fused_attention(q, k, v, mask, dropout)
    logits = (q + relative.content_bias[:, None]) @ k.transpose(-1, -2)
    bins = q[:, :, tokens:] + relative.position_bias[:, None]
    by_distance = relative_shift(bins @ relative.keys.transpose(-1, -2))
    if tokens:
        by_distance = F.pad(by_distance, (tokens, 0, tokens, 0))
    logits = logits + by_distance
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return F.dropout(logits.softmax(-1), dropout) @ v


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """PyTorch's attention kernels, which are fused only for keys and values of one size: pad the smaller."""
    value_size = v.shape[-1]
    size = max(q.shape[-1], value_size)
    q, k, v = (x if x.shape[-1] == size else F.pad(x, (0, size - x.shape[-1])) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=1.0)
    return mixed[..., :value_size]


def relative_shift(x: Tensor) -> Tensor:
    """Logits by distance to logits by key: (..., T, 2T-1) -> (..., T, T), ``out[i, j] = in[i, j-i+T-1]``.

    A view: in the flattened matrix one row further is one distance less.
    """
    length = x.shape[-2]
    if length == 1:
        return x
    return x.flatten(-2)[..., length - 1 : -1].unflatten(-1, (length, 2 * length - 2))[..., :length]
