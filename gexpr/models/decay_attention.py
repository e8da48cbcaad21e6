"""Attention to all bins of the window whose scores decay with distance (Angus and Eyuboglu 2019).

A head gives every bin j a mean of the bins' embeddings h_t,

    c_j = sum_t softmax_t(s(h_j, h_t)) h_t                              (equation 4)
    s(h_j, h_t) = f(j, t) tanh(W h_j + b) . h_t                         (5)

without values and without division by the root of the width. ``decay`` says what f is:

    ``none``            1
    ``exponential``     exp(-a |j - t|)                                 (6)
    ``two_sided``       min(exp(r (t - j - s)), exp(l (j - t - s)))     (7)

with decays a, r, l >= 0 learned by every head, per bin, and s half of the window's bins (512 as published).
One exponential of equation 7 exceeds 1 where t lies more than s from j, but the other is less there: f is at
most 1. It is computed as exp(min(r (t - j - s), l (j - t - s))), which cannot overflow, and is largest where
t - j = s (r - l) / (r + l): a head with l > r looks to the left, at most s bins away, one with r > l to the
right.

The contexts of a layer's heads lie beside its input, and a further layer works on both. Scores are computed
for blocks of bins, in float32 at least, so that memory grows linearly with the window.

Source: Angus and Eyuboglu (2019), section 2.3; seyuboglu/genome-attention, basenji/layers.py. The code
differs from the text, which is followed by default: a bin gives itself the score 0 (``own_bin`` false),
negative products count as 0 (``relu_scores``), and decays are clipped at 0 (``decay_form`` ``clipped``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import check_choice, check_flag, check_int, int_tuple
from gexpr.models.convolutions import ConvolutionConfig, ConvolutionModel
from gexpr.models.layers import by_query_blocks, precisely

DECAYS = ("two_sided", "exponential", "none")
DECAY_FORMS = ("log", "clipped")

EXPONENTIAL_START = (0.01, 0.2)
"""The smallest and largest decay, per bin, that the heads of a layer start with: those of equation 3."""

TWO_SIDED_START = (0.1, 3.0)
"""The same of a two-sided decay, per ``shift`` bins."""

CLIPPED_SCALE = {"exponential": 1.0, "two_sided": 0.01}
"""Decay per bin of a clipped parameter of 1."""


@dataclass(frozen=True, kw_only=True)
class DecayAttentionConfig(ConvolutionConfig):
    """Settings of :class:`DecayAttention`.

    Args:
        attention_heads: heads of every layer of attention.
        decay: of the scores: ``two_sided``, ``exponential`` or ``none``.
        shift: bins that a two-sided decay is shifted by; None for half of the window's.
        decay_form: how decays are kept from becoming negative: learned as their logarithm (``log``), or
            clipped, as in the published code: a parameter, drawn between 0 and 1, of which negative values
            count as 0, and which a two-sided decay is a hundredth of. Gradients pass the clipping.
        own_bin: whether f(j, j) is as its equation says, or 0.
        relu_scores: whether negative products count as 0.
    """

    attention_heads: tuple[int, ...] = (5,)
    decay: str = "two_sided"
    shift: int | None = None
    decay_form: str = "log"
    own_bin: bool = True
    relu_scores: bool = False

    def __post_init__(self) -> None:
        heads = int_tuple("attention_heads", self.attention_heads, 1)
        object.__setattr__(self, "attention_heads", heads)
        if not heads:
            raise ConfigError("attention_heads is empty; it must have the heads of at least one layer")
        check_choice("decay", self.decay, DECAYS)
        check_choice("decay_form", self.decay_form, DECAY_FORMS)
        check_flag("own_bin", self.own_bin)
        check_flag("relu_scores", self.relu_scores)
        check_int("shift", self.shift, minimum=0, optional=True)
        if self.shift is not None and self.decay != "two_sided":
            raise ConfigError(f"shift is {self.shift} and decay is {self.decay}; only two_sided has a shift")
        if self.decay == "none" and self.decay_form != "log":
            raise ConfigError(f"decay_form is {self.decay_form} and decay is none; there are no decays")
        super().__post_init__()
        if self.shift is not None and self.shift > self.bins:
            raise ConfigError(f"shift is {self.shift}; it must be at most {self.bins}, the window's bins")

    @property
    def bins(self) -> int:
        """Bins of the window."""
        return self.context_length // self.bin_size

    @property
    def shift_bins(self) -> int:
        """Bins that a two-sided decay is shifted by."""
        return self.bins // 2 if self.shift is None else self.shift


class AttentionHeads(nn.Module):
    """One layer: (B, T, C) and the bins wanted, half-open, to (B, last - first, C (1 + heads))."""

    def __init__(self, width: int, heads: int, config: DecayAttentionConfig) -> None:
        super().__init__()
        self.heads, self.config = heads, config
        self.query = nn.Linear(width, heads * width)
        if config.decay != "none":
            sides = 2 if config.decay == "two_sided" else 1
            self.decay = nn.Parameter(torch.empty(sides, heads))
            self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw or spread decays: heads differ from the start, two-sided ones in the side they look to."""
        if self.config.decay_form == "clipped":
            self.decay.uniform_(0, 1)
            return
        two_sided = self.config.decay == "two_sided"
        low, high = map(math.log, TWO_SIDED_START if two_sided else EXPONENTIAL_START)
        middle = (low + high) / 2
        places = torch.linspace(low, high, self.heads) if self.heads > 1 else torch.tensor([middle])
        self.decay.copy_(torch.stack([places, places.flip(0)]) if two_sided else places[None])
        if two_sided:
            self.decay.sub_(math.log(max(1, self.config.shift_bins)))

    def decays(self, dtype: torch.dtype) -> Tensor:
        """Decays per bin: (1, heads), or (2, heads) to the right and to the left."""
        raw = self.decay.to(dtype)
        if self.config.decay_form == "log":
            return raw.exp()
        # Clipped, but for gradients, which bring a decay back from 0.
        return CLIPPED_SCALE[self.config.decay] * (raw + (raw.clamp(min=0) - raw).detach())

    def factors(self, first: int, last: int, bins: int, like: Tensor) -> Tensor | None:
        """f(j, t) for j from ``first`` to ``last`` and all t, or None for 1.

        Returns:
            (heads or 1, last - first, bins).
        """
        config = self.config
        places = torch.arange(bins, device=like.device)
        offsets = places - places[first:last, None]  # t - j
        found = None
        if config.decay != "none":
            decays = self.decays(like.dtype)[..., None, None]
            if config.decay == "two_sided":
                shift = config.shift_bins
                exponents = torch.minimum(decays[0] * (offsets - shift), decays[1] * (-offsets - shift))
            else:
                exponents = -decays[0] * offsets.abs()
            found = exponents.exp()
        if config.own_bin:
            return found
        others = (offsets != 0).to(like.dtype)
        return others[None] if found is None else found * others

    def forward(self, x: Tensor, first: int, last: int) -> Tensor:
        with precisely(x) as exact:
            weight, bias = self.query.weight.to(exact.dtype), self.query.bias.to(exact.dtype)

            def block(start: int, end: int) -> Tensor:
                queries = F.linear(exact[:, start:end], weight, bias).tanh().unflatten(-1, (self.heads, -1))
                rows = queries.transpose(1, 2).flatten(1, 2)
                scores = torch.matmul(rows, exact.transpose(1, 2)).unflatten(1, (self.heads, -1))
                if self.config.relu_scores:
                    scores = scores.relu()
                factors = self.factors(start, end, exact.shape[1], exact)
                if factors is not None:
                    scores = scores * factors
                contexts = torch.matmul(scores.softmax(-1).flatten(1, 2), exact)
                return contexts.unflatten(1, (self.heads, -1)).transpose(1, 2).flatten(2, 3)

            contexts = torch.cat(by_query_blocks(block, first, last), dim=1)
        return torch.cat([x[:, first:last], contexts.to(x.dtype)], dim=-1)


class DecayAttention(ConvolutionModel):
    """Convolutions and attention with decaying scores: (B, L, 4) -> (B, target_length, tracks)."""

    config_class = DecayAttentionConfig
    config: DecayAttentionConfig

    def __init__(self, config: DecayAttentionConfig) -> None:
        super().__init__(config)
        width = config.channels[-1]
        layers = []
        for heads in config.attention_heads:
            layers.append(AttentionHeads(width, heads, config))
            width *= 1 + heads
        self.attention = nn.ModuleList(layers)
        self.finish_layers(width)

    @property
    def context_layers(self) -> list[nn.Module]:
        return list(self.attention)

    def add_context(self, tokens: Tensor, first: int, last: int) -> Tensor:
        *below, top = self.attention
        for layer in below:
            tokens = layer(tokens, 0, tokens.shape[1])
        found: Tensor = top(tokens, first, last)
        return found
