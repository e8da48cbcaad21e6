"""The multiscale model of team MadLab for promoter constructs (DREAM Challenge 2022).

Convolutions of several widths side by side, summed; an Enformer-style transformer with one head and without
dropout; a small bidirectional LSTM whose last states are the input of one linear layer.

Source: the team's report (the text of ``papers`` names widths, activations and initializers) and its
notebook Train_test_code, in the challenge's repository. With one track the model has 319,657 numbers, of
which 2,304 are running statistics. In the notebook the transformer's Sonnet layers were not tracked by Keras:
their weights stayed as they were drawn and were not saved, so that only 150,313 were trained; the setting
``frozen_transformer`` does the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import check_choice, check_int, check_probability, int_tuple, softplus_heads
from gexpr.models.constructs import (
    ConstructConfig,
    ConstructModel,
    EnformerAttention,
    ShortConvolution,
    sigmoid,
    swish,
    tanh,
)
from gexpr.models.enformer import MultiheadAttention
from gexpr.models.layers import BatchNorm, Convolution, init_sonnet_, init_variance_scaling_
from gexpr.models.positions import GAMMA_NORMALIZATIONS

EPSILON = 1e-3
MOMENTUM = 0.01
"""Share of a batch in the running statistics: Keras's momentum of 0.99."""

LSTM_ACTIVATIONS = {"swish": swish, "tanh": tanh}


@dataclass(frozen=True, kw_only=True)
class MultiscaleConfig(ConstructConfig, EnformerAttention):
    """Settings of :class:`Multiscale`; the defaults are the published model's.

    Args:
        kernels: widths of the convolutions side by side.
        branch_channels: channels of each.
        channels: channels of the transformer.
        depth: transformer layers.
        attention_heads, key_size, value_size: of attention.
        relative_features: features of a distance, a multiple of 6.
        gamma_normalization: as for :class:`gexpr.models.enformer.EnformerConfig`.
        feedforward_factor: inner width of the feed-forward layers, in channels.
        dropout, attention_dropout, position_dropout: of the residual branches, the attention weights, the
            relative features; none as published.
        frozen_transformer: leave attention and feed-forward layers as they are drawn, as the published run
            did; the norms before them are trained. Attention then adds nothing, since its output starts at
            zero.
        lstm_units: of each direction.
        lstm_activation: ``swish`` (published) or ``tanh`` (an ordinary LSTM), of candidate and output.
    """

    link: str = "linear"
    kernels: tuple[int, ...] = (15, 20, 25, 30)
    branch_channels: int = 192
    channels: int = 96
    depth: int = 2
    attention_heads: int = 1
    key_size: int = 96
    value_size: int = 96
    relative_features: int = 96
    gamma_normalization: str = "positions"
    feedforward_factor: int = 2
    dropout: float = 0.0
    attention_dropout: float = 0.0
    position_dropout: float = 0.0
    frozen_transformer: bool = False
    lstm_units: int = 4
    lstm_activation: str = "swish"

    def __post_init__(self) -> None:
        for name in (
            "branch_channels",
            "channels",
            "attention_heads",
            "key_size",
            "value_size",
            "relative_features",
            "feedforward_factor",
            "lstm_units",
        ):
            check_int(name, getattr(self, name), minimum=1)
        check_int("depth", self.depth, minimum=0)
        object.__setattr__(self, "kernels", int_tuple("kernels", self.kernels, 1))
        if not self.kernels:
            raise ConfigError("kernels is empty; give at least one width")
        for name in ("dropout", "attention_dropout", "position_dropout"):
            check_probability(name, getattr(self, name))
        check_choice("gamma_normalization", self.gamma_normalization, GAMMA_NORMALIZATIONS)
        check_choice("lstm_activation", self.lstm_activation, tuple(LSTM_ACTIVATIONS))
        if not isinstance(self.frozen_transformer, bool):
            raise ConfigError(f"frozen_transformer is {self.frozen_transformer!r}; it must be true or false")
        if self.relative_features % 6:
            raise ConfigError(f"relative_features is {self.relative_features}; it must be a multiple of 6")
        super().__post_init__()
        if self.depth and self.seen_length < 3:
            raise ConfigError(f"{self.seen_length} bases are too few for a transformer")


class Branch(nn.Module):
    """Convolution, BatchNorm, swish, pointwise convolution, BatchNorm, swish: (B, L, 4) -> (B, L, C)."""

    def __init__(self, kernel: int, inner: int, channels: int) -> None:
        super().__init__()
        self.wide = ShortConvolution(4, inner, kernel)
        self.wide_norm = BatchNorm(inner, eps=EPSILON, momentum=MOMENTUM)
        self.pointwise = Convolution(inner, channels)
        self.pointwise_norm = BatchNorm(channels, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        x = swish(self.wide_norm(self.wide(x)))
        return swish(self.pointwise_norm(self.pointwise(x)))


class SwishTransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward with swish, with residuals: (B, T, C) -> same shape."""

    def __init__(self, config: MultiscaleConfig) -> None:
        super().__init__()
        inner = config.feedforward_factor * config.channels
        self.attention_norm = nn.LayerNorm(config.channels, eps=EPSILON)
        self.attention = MultiheadAttention(config, None)
        self.feedforward_norm = nn.LayerNorm(config.channels, eps=EPSILON)
        self.expand = nn.Linear(config.channels, inner)
        self.contract = nn.Linear(inner, config.channels)
        self.dropout = nn.Dropout(config.dropout)

    @property
    def sonnet_layers(self) -> list[nn.Module]:
        """What the published run left as it was drawn."""
        return [self.attention, self.expand, self.contract]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        inner = self.dropout(swish(self.expand(self.feedforward_norm(x))))
        return x + self.dropout(self.contract(inner))


class LastStates(nn.Module):
    """A bidirectional LSTM's last states, side by side: (B, T, C) -> (B, 2 U).

    Gates are sigmoids; candidate and output go through an activation that ``nn.LSTM`` does not offer. Weights
    are (direction, C or U, 4 U), direction 0 reading from left to right; gates in the order input, forget,
    candidate, output.
    """

    def __init__(self, channels: int, units: int, activation: str) -> None:
        super().__init__()
        self.input_weight = nn.Parameter(torch.empty(2, channels, 4 * units))
        self.recurrent_weight = nn.Parameter(torch.empty(2, units, 4 * units))
        self.bias = nn.Parameter(torch.empty(2, 4 * units))
        self.units = units
        self.activation = LSTM_ACTIVATIONS[activation]

    def initialize(self) -> None:
        """Keras's defaults: Glorot uniform, orthogonal, zero but for the forget gate's one."""
        _, channels, gates = self.input_weight.shape
        limit = math.sqrt(6 / (channels + gates))
        nn.init.uniform_(self.input_weight, -limit, limit)
        for direction in range(2):
            nn.init.orthogonal_(self.recurrent_weight[direction])
        with torch.no_grad():
            self.bias.zero_()
            self.bias[:, self.units : 2 * self.units] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([x, x.flip(1)])
        # all that does not depend on the state at once: (T, 2, B, 4 U)
        driven = (both.flatten(1, 2) @ self.input_weight).unflatten(1, x.shape[:2]) + self.bias[:, None, None]
        steps = driven.permute(2, 0, 1, 3)
        hidden = cell = steps.new_zeros(2, x.shape[0], self.units)
        weight = self.recurrent_weight.to(steps.dtype)
        for step in steps.unbind(0):
            entered, kept, candidate, shown = (step + hidden @ weight).chunk(4, dim=-1)
            cell = sigmoid(kept) * cell + sigmoid(entered) * self.activation(candidate)
            hidden = sigmoid(shown) * self.activation(cell)
        return torch.cat([hidden[0], hidden[1]], dim=-1)


class Multiscale(ConstructModel):
    """MadLab's model: (B, context_length, 4) -> (B, 1, tracks)."""

    config_class = MultiscaleConfig
    config: MultiscaleConfig

    def __init__(self, config: MultiscaleConfig) -> None:
        super().__init__(config)
        self.branches = nn.ModuleList(
            Branch(kernel, config.branch_channels, config.channels) for kernel in config.kernels
        )
        self.transformer = nn.ModuleList(SwishTransformerBlock(config) for _ in range(config.depth))
        self.lstm = LastStates(config.channels, config.lstm_units, config.lstm_activation)
        self.heads = softplus_heads(2 * config.lstm_units, config.heads)
        self.initialize()
        if config.frozen_transformer:
            for block in self.transformer:
                assert isinstance(block, SwishTransformerBlock)
                for layer in block.sonnet_layers:
                    layer.requires_grad_(False)

    def initialize(self) -> None:
        """Draw new weights as the published code does: He-normal; the transformer's as Sonnet does."""
        for module in (*self.branches.modules(), *self.heads.modules()):
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                init_variance_scaling_(module.weight, module.weight[0].numel())
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for module in self.transformer.modules():
            if isinstance(module, nn.Linear):
                init_sonnet_(module)
        for module in self.transformer.modules():
            if isinstance(module, MultiheadAttention):
                module.initialize()
        self.lstm.initialize()

    @property
    def blocks(self) -> list[nn.Module]:
        return [*self.branches, *self.transformer]

    def features(self, x: Tensor) -> Tensor:
        """(B, seen_length, 4) one-hot to (B, 2 lstm_units)."""
        x = torch.stack([branch(x) for branch in self.branches]).sum(0)
        for block in self.transformer:
            x = block(x)
        return self.lstm(x)
