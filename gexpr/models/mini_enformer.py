"""The under-2M Enformer of team Peppa for promoter constructs (DREAM Challenge 2022).

An Enformer with narrow layers for 85 bases: the constructs' 110 bases without the first 15 and the last 10.
It differs from :mod:`gexpr.models.enformer` in that kernels may be even, pooling is by maximum and keeps the
last position of an odd length, the stem's pooling does not shorten, nothing is cropped, and the last bins
are flattened into the input of one linear layer.

Source: the team's report, and YichaoOU/DREAM_promoter (enformer5.py), whose settings are the defaults:
1,995,617 parameters. (The weights that were submitted are those of a wider one, of 19 million.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import check_choice, check_int, check_probability, int_tuple, softplus_heads
from gexpr.models.constructs import (
    ConstructConfig,
    ConstructModel,
    EnformerAttention,
    ShortConvBlock,
    ShortConvolution,
)
from gexpr.models.enformer import MultiheadAttention, TransformerBlock
from gexpr.models.layers import ConvBlock, Convolution, gelu, init_sonnet_
from gexpr.models.positions import GAMMA_NORMALIZATIONS


@dataclass(frozen=True, kw_only=True)
class MiniEnformerConfig(ConstructConfig, EnformerAttention):
    """Settings of :class:`MiniEnformer`; the defaults are the published model's.

    Args:
        stem_channels, stem_kernel: of the first convolution.
        tower_channels: width of every tower block, each of which halves the length, rounded up; the last is
            that of the transformer.
        tower_kernel: width of the tower's convolutions.
        depth: transformer layers.
        attention_heads, key_size, value_size: of attention.
        relative_features: features of a distance, a multiple of 6.
        gamma_normalization: as for :class:`gexpr.models.enformer.EnformerConfig`.
        feedforward_factor: inner width of the feed-forward layers, in channels.
        dropout, attention_dropout, position_dropout: of the residual branches, the attention weights, the
            relative features.
        final_channels: width of the last block; None for that of the transformer.
        final_dropout: dropout after its pooling; None for ``dropout / 8``.
    """

    trim_left: int = 15
    trim_right: int = 10
    stem_channels: int = 48
    stem_kernel: int = 5
    tower_channels: tuple[int, ...] = (64, 64, 128, 192)
    tower_kernel: int = 4
    depth: int = 4
    attention_heads: int = 8
    key_size: int = 64
    value_size: int = 24
    relative_features: int = 24
    gamma_normalization: str = "positions"
    feedforward_factor: int = 2
    dropout: float = 0.4
    attention_dropout: float = 0.05
    position_dropout: float = 0.01
    final_channels: int | None = None
    final_dropout: float | None = None

    def __post_init__(self) -> None:
        for name in (
            "stem_channels",
            "stem_kernel",
            "tower_kernel",
            "attention_heads",
            "key_size",
            "value_size",
            "relative_features",
            "feedforward_factor",
        ):
            check_int(name, getattr(self, name), minimum=1)
        check_int("depth", self.depth, minimum=0)
        check_int("final_channels", self.final_channels, minimum=1, optional=True)
        object.__setattr__(self, "tower_channels", int_tuple("tower_channels", self.tower_channels, 1))
        for name in ("dropout", "attention_dropout", "position_dropout"):
            check_probability(name, getattr(self, name))
        if self.final_dropout is not None:
            check_probability("final_dropout", self.final_dropout)
        check_choice("gamma_normalization", self.gamma_normalization, GAMMA_NORMALIZATIONS)
        if self.relative_features % 6:
            raise ConfigError(f"relative_features is {self.relative_features}; it must be a multiple of 6")
        super().__post_init__()
        if self.bins < 3:
            raise ConfigError(
                f"{len(self.tower_channels)} tower blocks leave {self.bins} of {self.seen_length} positions; "
                "the transformer needs 3 or more: give fewer tower_channels"
            )

    @property
    def bins(self) -> int:
        """Positions in the transformer."""
        return -(-self.seen_length // 2 ** len(self.tower_channels))

    @property
    def channels(self) -> int:
        """Width of the transformer."""
        return (self.stem_channels, *self.tower_channels)[-1]


class SamePool(nn.Module):
    """The largest of two neighbors, beyond the end of which nothing counts: (B, L, C) -> (B, L / stride, C).

    With stride 2 the length is rounded up: the last of an odd number of positions is kept as it is.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        first, second = x[:, :: self.stride], x[:, 1 :: self.stride]
        pairs = torch.maximum(first[:, : second.shape[1]], second)
        return torch.cat([pairs, first[:, second.shape[1] :]], dim=1)


class PooledBlock(nn.Module):
    """Convolution, residual pointwise convolution, pooling: (B, L, C_in) -> (B, L / stride, C_out)."""

    def __init__(self, convolution: Convolution | ConvBlock, channels: int, stride: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.pointwise = ConvBlock(channels, channels)
        self.pool = SamePool(stride)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        return self.pool(x + self.pointwise(x))


class MiniEnformer(ConstructModel):
    """Peppa's Enformer: (B, context_length, 4) -> (B, 1, tracks)."""

    config_class = MiniEnformerConfig
    config: MiniEnformerConfig

    def __init__(self, config: MiniEnformerConfig) -> None:
        super().__init__(config)
        widths = (config.stem_channels, *config.tower_channels)
        self.stem = PooledBlock(ShortConvolution(4, widths[0], config.stem_kernel), widths[0], stride=1)
        self.tower = nn.ModuleList(
            PooledBlock(ShortConvBlock(before, after, config.tower_kernel), after, stride=2)
            for before, after in pairwise(widths)
        )
        self.transformer = nn.ModuleList(TransformerBlock(config, None) for _ in range(config.depth))
        final = config.channels if config.final_channels is None else config.final_channels
        self.final = ConvBlock(config.channels, final)
        self.final_pool = SamePool(2)
        self.final_dropout = nn.Dropout(
            config.dropout / 8 if config.final_dropout is None else config.final_dropout
        )
        self.heads = softplus_heads(final * -(-config.bins // 2), config.heads)
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights as the published code does: Sonnet's defaults, blocks Glorot uniform."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d)):
                init_sonnet_(module)
        for module in self.modules():
            if isinstance(module, MultiheadAttention):
                module.initialize()
            elif isinstance(module, ConvBlock):
                nn.init.xavier_uniform_(module.conv.weight)

    @property
    def blocks(self) -> list[nn.Module]:
        return [self.stem, *self.tower, *self.transformer]

    def features(self, x: Tensor) -> Tensor:
        """(B, seen_length, 4) one-hot to (B, F): stem, tower, transformer, last block, flattened."""
        for block in self.blocks:
            x = block(x)
        x = gelu(self.final_dropout(self.final_pool(self.final(x))))
        return x.flatten(1)
