"""Flashzoi's attention written out: every formula of it, none of gexpr's code, no fused kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PlainFlashAttention(nn.Module):
    """flash-attention's ``MHA`` with grouped heads and rotary positions: (B, T, C) -> (B, T, C).

    Args:
        width: C.
        heads, shared_heads: of queries, and of keys and values.
        features: how many numbers of a head, from its first, are rotated.
        base: longest wavelength over 2 pi.
    """

    def __init__(self, width: int, heads: int, shared_heads: int, features: int, base: float) -> None:
        super().__init__()
        self.heads, self.shared_heads, self.features, self.base = heads, shared_heads, features, base
        self.size = width // heads
        self.Wqkv = nn.Linear(width, (heads + 2 * shared_heads) * self.size)
        self.out_proj = nn.Linear(width, width)

    def rotated(self, x: Tensor) -> Tensor:
        """(B, T, heads, size), each pair (i, i + features / 2) turned by t / base^(2 i / features)."""
        x, half = x.clone(), self.features // 2
        for t in range(x.shape[1]):
            for i in range(half):
                angle = t / self.base ** (2 * i / self.features)
                first, second = x[:, t, :, i].clone(), x[:, t, :, i + half].clone()
                x[:, t, :, i] = first * math.cos(angle) - second * math.sin(angle)
                x[:, t, :, i + half] = first * math.sin(angle) + second * math.cos(angle)
        return x

    def forward(self, x: Tensor, part: None = None) -> Tensor:
        """``part`` is there for gexpr's blocks, which pass it."""
        sizes = [self.heads * self.size, *[self.shared_heads * self.size] * 2]
        q, k, v = (each.unflatten(-1, (-1, self.size)) for each in self.Wqkv(x).split(sizes, dim=-1))
        q, k = self.rotated(q), self.rotated(k)
        k, v = (each.repeat_interleave(self.heads // self.shared_heads, dim=2) for each in (k, v))
        logits = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(self.size)
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
        return self.out_proj(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))
