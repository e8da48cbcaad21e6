"""A plain convolutional network for constructs: the baseline that others have to beat.

Blocks of convolution, BatchNorm, ReLU and pooling, then layers over all positions; the default widths are
those of DeepSTARR (de Almeida et al., Nature Genetics 54:613, 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import check_choice, check_int, check_probability, int_tuple, softplus_heads
from gexpr.models.constructs import ConstructConfig, ConstructModel, ShortConvolution
from gexpr.models.layers import BatchNorm, init_variance_scaling_

EPSILON = 1e-3
READOUTS = ("flatten", "mean", "max")


@dataclass(frozen=True, kw_only=True)
class CnnConfig(ConstructConfig):
    """Settings of :class:`Cnn`.

    Args:
        channels, kernels: of every convolution.
        pool: positions of which each block keeps the largest; a rest at the end is dropped.
        readout: ``flatten`` (every position has weights of its own), or ``mean`` or ``max`` over positions.
        hidden: widths of the layers behind; may be empty.
        dropout: behind each of these.
    """

    channels: tuple[int, ...] = (256, 60, 60, 120)
    kernels: tuple[int, ...] = (7, 3, 5, 3)
    pool: int = 2
    readout: str = "flatten"
    hidden: tuple[int, ...] = (256, 256)
    dropout: float = 0.4

    def __post_init__(self) -> None:
        for name in ("channels", "kernels", "hidden"):
            object.__setattr__(self, name, int_tuple(name, getattr(self, name), 1))
        check_int("pool", self.pool, minimum=1)
        check_choice("readout", self.readout, READOUTS)
        check_probability("dropout", self.dropout)
        if not self.channels or len(self.channels) != len(self.kernels):
            raise ConfigError(
                f"channels has {len(self.channels)} widths and kernels {len(self.kernels)}; "
                "give one of each for every convolution, and at least one"
            )
        super().__post_init__()
        if self.positions < 1:
            raise ConfigError(
                f"{len(self.channels)} times pooling by {self.pool} leave nothing of {self.seen_length} "
                "positions; give fewer convolutions or a smaller pool"
            )

    @property
    def positions(self) -> int:
        """Positions that the convolutions leave."""
        length = self.seen_length
        for _ in self.channels:
            length //= self.pool
        return length


class CnnBlock(nn.Module):
    """Convolution, BatchNorm, ReLU, pooling: (B, L, C_in) -> (B, L / pool, C_out)."""

    def __init__(self, before: int, after: int, kernel: int, pool: int) -> None:
        super().__init__()
        self.conv = ShortConvolution(before, after, kernel)
        self.norm = BatchNorm(after, eps=EPSILON)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        length = x.shape[1] // self.pool
        return x[:, : length * self.pool].unflatten(1, (length, self.pool)).amax(2)


class HiddenLayer(nn.Module):
    """Linear, BatchNorm, ReLU, dropout: (B, 1, C_in) -> (B, 1, C_out)."""

    def __init__(self, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(before, after)
        self.norm = BatchNorm(after, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(torch.relu(self.norm(self.linear(x))))


class Cnn(ConstructModel):
    """Plain CNN: (B, context_length, 4) -> (B, 1, tracks)."""

    config_class = CnnConfig
    config: CnnConfig

    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config)
        self.convolutions = nn.ModuleList(
            CnnBlock(before, after, kernel, config.pool)
            for (before, after), kernel in zip(pairwise((4, *config.channels)), config.kernels, strict=True)
        )
        width = config.channels[-1] * (config.positions if config.readout == "flatten" else 1)
        widths = (width, *config.hidden)
        self.hidden = nn.ModuleList(
            HiddenLayer(before, after, config.dropout) for before, after in pairwise(widths)
        )
        self.heads = softplus_heads(widths[-1], config.heads)
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights: He-normal, zero biases."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                init_variance_scaling_(module.weight, module.weight[0].numel())
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    @property
    def blocks(self) -> list[nn.Module]:
        return [*self.convolutions]

    def features(self, x: Tensor) -> Tensor:
        """(B, seen_length, 4) one-hot to (B, F)."""
        for block in self.convolutions:
            x = block(x)
        if self.config.readout == "flatten":
            x = x.flatten(1).unsqueeze(1)
        else:
            x = x.mean(1, keepdim=True) if self.config.readout == "mean" else x.amax(1, keepdim=True)
        for layer in self.hidden:
            x = layer(x)
        return x.squeeze(1)
