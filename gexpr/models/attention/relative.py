"""Enformer's content and position biases of attention logits."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class RelativeBias(NamedTuple):
    """Logits of bins i, j are ``(q_i + content_bias) . k_j + (q_i + position_bias) . keys[j - i]``.

    Pairs with a global token have the content term only.

    Attributes:
        keys: (H, 2T-1, key_size), relative keys of the distances -(T-1) .. T-1.
        content_bias: (H, key_size).
        position_bias: (H, key_size).
    """

    keys: Tensor
    content_bias: Tensor
    position_bias: Tensor
