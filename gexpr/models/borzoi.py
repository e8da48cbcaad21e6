"""Borzoi: convolutions down to 128 bp, a transformer, and a U-Net back up to 32 bp. Also Flashzoi.

Source: Linder et al., Nature Genetics 57:949 (2025); calico/baskerville (blocks.py, layers.py, seqnn.py).
Its parameter files have conv_dna, res_tower, transformer_tower, unet_conv, Cropping1D, conv_nac.
Flashzoi: johahi/borzoi-pytorch (pytorch_borzoi_transformer.py, FlashAttention).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import (
    ModelConfig,
    SequenceModel,
    TrunkLayer,
    check_choice,
    check_int,
    check_number,
    check_probability,
    int_tuple,
    predict_head,
    softplus_heads,
    tower_layers,
)
from gexpr.models.enformer import MultiheadAttention, TransformerBlock
from gexpr.models.layers import (
    GELUS,
    BatchNorm,
    ConvBlock,
    Convolution,
    MaxPool,
    init_variance_scaling_,
    normalized_gelu,
)

EPSILON = 1e-3
"""Of all normalizations: Keras's default."""

POSITIONS = ("central_mask", "rotary")

FLASHZOI: dict[str, Any] = dict(
    positions="rotary", key_size=192, key_value_heads=4, rotary_features=128, projection_bias=True
)
"""Settings that make a Borzoi a Flashzoi, whose attention the fused kernels can compute."""


@dataclass(frozen=True, kw_only=True)
class BorzoiConfig(ModelConfig):
    """Settings of :class:`Borzoi`; the defaults are the published model's.

    Args:
        stem_channels, stem_kernel: the first convolution.
        tower_channels: width of every block of the tower, each of which pools by two.
        tower_kernel: width of the tower's convolutions.
        depth: transformer layers.
        attention_heads, key_size, value_size: ``value_size`` None for channels / ``attention_heads``.
        key_value_heads: heads of keys and values, a divisor of ``attention_heads``; None for as many.
        projection_bias: whether queries, keys and values have biases.
        positions: ``central_mask`` (relative) or ``rotary``, as in Flashzoi (:data:`FLASHZOI`).
        relative_features: features of a distance, an even number.
        rotary_features: how many numbers of a key, from its first, rotary positions turn, an even number;
            None for all.
        rotary_base: longest wavelength of rotary positions, in tokens, over 2 pi.
        feedforward_factor: inner width of the feed-forward layers, in channels.
        upsamplings: U-Net blocks, each of which doubles the resolution.
        upsampling_kernel: width of their separable convolutions.
        upsampling_dense: a linear layer before each doubling (baskerville's ``upsample_conv``).
        final_channels: width of the pointwise block before the heads; None for none.
        activation: approximation of GELU, ``tanh`` or ``sigmoid``.
        dropout, attention_dropout, position_dropout, final_dropout: of the residual branches, the attention
            weights, the relative features, the last block.
    """

    context_length: int = 524_288
    target_length: int = 6144
    heads: dict[str, int] = field(default_factory=lambda: {"human": 7611, "mouse": 2608})
    stem_channels: int = 512
    stem_kernel: int = 15
    tower_channels: tuple[int, ...] = (608, 736, 896, 1056, 1280, 1536)
    tower_kernel: int = 5
    depth: int = 8
    attention_heads: int = 8
    key_size: int = 64
    value_size: int | None = None
    key_value_heads: int | None = None
    projection_bias: bool = False
    positions: str = "central_mask"
    relative_features: int = 32
    rotary_features: int | None = None
    rotary_base: float = 20_000.0
    feedforward_factor: int = 2
    upsamplings: int = 2
    upsampling_kernel: int = 3
    upsampling_dense: bool = True
    final_channels: int | None = 1920
    activation: str = "tanh"
    dropout: float = 0.2
    attention_dropout: float = 0.05
    position_dropout: float = 0.01
    final_dropout: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "tower_channels", int_tuple("tower_channels", self.tower_channels, 1))
        for name in ("stem_channels", "attention_heads", "key_size", "feedforward_factor"):
            check_int(name, getattr(self, name), minimum=1)
        for name in ("depth", "upsamplings"):
            check_int(name, getattr(self, name), minimum=0)
        for name in ("value_size", "final_channels"):
            check_int(name, getattr(self, name), minimum=1, optional=True)
        for name in ("stem_kernel", "tower_kernel", "upsampling_kernel"):
            check_int(name, getattr(self, name), minimum=1)
            if getattr(self, name) % 2 == 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be odd")
        for name in ("dropout", "attention_dropout", "position_dropout", "final_dropout"):
            check_probability(name, getattr(self, name))
        check_choice("activation", self.activation, tuple(GELUS))
        check_int("relative_features", self.relative_features, minimum=2)
        if self.relative_features % 2:
            raise ConfigError(f"relative_features is {self.relative_features}; it must be even")
        self._check_attention()
        if not self.tower_channels:
            raise ConfigError("tower_channels is empty; the tower needs at least one block")
        if self.upsamplings > len(self.tower_channels):
            raise ConfigError(
                f"upsamplings is {self.upsamplings}; the tower has {len(self.tower_channels)} blocks to join"
            )
        if self.value_size is None and self.channels % self.attention_heads:
            raise ConfigError(
                f"the tower's last width {self.channels} is not a multiple of attention_heads "
                f"{self.attention_heads}; state value_size"
            )
        super().__post_init__()
        if self.context_length % self.token_size:
            raise ConfigError(
                f"context_length {self.context_length} is not a multiple of a token's {self.token_size} bp"
            )

    def _check_attention(self) -> None:
        check_choice("positions", self.positions, POSITIONS)
        check_int("key_value_heads", self.key_value_heads, minimum=1, optional=True)
        check_int("rotary_features", self.rotary_features, minimum=2, optional=True)
        check_number("rotary_base", self.rotary_base, above=1)
        if not isinstance(self.projection_bias, bool):
            raise ConfigError(f"projection_bias is {self.projection_bias!r}; it must be true or false")
        if self.attention_heads % self.key_value_head_count:
            raise ConfigError(
                f"key_value_heads is {self.key_value_heads}; it must divide attention_heads "
                f"{self.attention_heads}"
            )
        if self.positions != "rotary":
            if self.key_value_head_count != self.attention_heads:
                raise ConfigError(
                    f"key_value_heads is {self.key_value_heads}; with positions {self.positions!r} it must "
                    f"be attention_heads, {self.attention_heads}"
                )
        elif self.rotary_feature_count % 2 or self.rotary_feature_count > self.key_size:
            raise ConfigError(
                f"rotary_features is {self.rotary_feature_count}; it must be even and at most key_size "
                f"{self.key_size}"
            )

    @property
    def channels(self) -> int:
        """Width of the transformer."""
        return self.tower_channels[-1]

    @property
    def token_size(self) -> int:
        """Bases a token of the transformer."""
        return int(2 ** (1 + len(self.tower_channels)))

    @property
    def bin_size(self) -> int:
        """Bases in one bin."""
        return self.token_size // int(2**self.upsamplings)

    @property
    def key_value_head_count(self) -> int:
        """Heads of keys and values."""
        return self.attention_heads if self.key_value_heads is None else self.key_value_heads

    @property
    def rotary_feature_count(self) -> int:
        """Numbers of a key that rotary positions turn."""
        return self.key_size if self.rotary_features is None else self.rotary_features

    @property
    def relative_feature_count(self) -> int:
        """Features of a distance."""
        return self.relative_features

    @property
    def head_value_size(self) -> int:
        """Size of one attention head's values."""
        return self.channels // self.attention_heads if self.value_size is None else self.value_size

    @property
    def attention(self) -> str:
        """How attention is computed."""
        return "auto"

    @property
    def gamma_normalization(self) -> str:
        """Not used."""
        return "positions"

    @property
    def joined_channels(self) -> list[int]:
        """Widths of the tower's convolutions that the U-Net joins, as it meets them."""
        return list(self.tower_channels[::-1][: self.upsamplings])


class UpBlock(nn.Module):
    """Double the resolution and join the tower: (B, L, C) and (B, 2L, S) -> (B, 2L, C)."""

    def __init__(self, channels: int, joined: int, kernel: int, form: str, dense: bool = True) -> None:
        super().__init__()
        self.norm = BatchNorm(channels, eps=EPSILON)
        self.dense = nn.Linear(channels, channels) if dense else nn.Identity()
        self.joined_norm = BatchNorm(joined, eps=EPSILON)
        self.joined_dense = nn.Linear(joined, channels)
        self.depthwise = nn.Conv1d(channels, channels, kernel, padding="same", groups=channels, bias=False)
        self.pointwise = nn.Linear(channels, channels)
        self.form = form

    def forward(self, x: Tensor, joined: Tensor) -> Tensor:
        x = self.dense(normalized_gelu(x, self.norm, self.form)).repeat_interleave(2, dim=1)
        x = x + self.joined_dense(normalized_gelu(joined, self.joined_norm, self.form))
        return self.pointwise(self._depthwise(x))

    def _depthwise(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        # A sum of shifted products, whose order does not depend on the number of threads.
        weight = self.depthwise.weight[:, 0]
        half = weight.shape[1] // 2
        padded = F.pad(x, (0, 0, half, half))
        length = x.shape[1]
        total = padded[:, :length] * weight[:, 0]
        for place in range(1, weight.shape[1]):
            total.addcmul_(padded[:, place : place + length], weight[:, place])
        return total


class Borzoi(SequenceModel):
    """Borzoi: (B, L, 4) -> (B, target_length, tracks).

    A token of ``encode`` holds all that the later layers take of its 128 bp: the tower's output, and the
    outputs, before they are pooled, of the convolutions that the U-Net joins.
    """

    config_class = BorzoiConfig
    config: BorzoiConfig

    def __init__(self, config: BorzoiConfig) -> None:
        super().__init__(config)
        form, channels = config.activation, config.channels
        widths = (config.stem_channels, *config.tower_channels)
        self.stem = Convolution(4, config.stem_channels, config.stem_kernel)
        self.tower = nn.ModuleList(
            ConvBlock(before, after, config.tower_kernel, epsilon=EPSILON, form=form)
            for before, after in pairwise(widths)
        )
        self.pool = MaxPool()
        self.transformer = nn.ModuleList(TransformerBlock(config, None, EPSILON) for _ in range(config.depth))
        self.up = nn.ModuleList(
            UpBlock(channels, joined, config.upsampling_kernel, form, config.upsampling_dense)
            for joined in config.joined_channels
        )
        self.final = (
            None
            if config.final_channels is None
            else ConvBlock(channels, config.final_channels, epsilon=EPSILON, form=form)
        )
        self.final_dropout = nn.Dropout(config.final_dropout)
        self.heads = softplus_heads(config.final_channels or channels, config.heads)
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights: variance scaling of 1 by fan-in (LeCun), attention as in Enformer."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d)):
                init_variance_scaling_(module.weight, module.weight[0].numel(), 1.0)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, MultiheadAttention):
                module.initialize()

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.transformer)

    @property
    def local_layers(self) -> list[TrunkLayer]:
        return tower_layers(self.config.stem_kernel, self.config.tower_kernel, len(self.tower))

    @property
    def trunk_layers(self) -> list[TrunkLayer]:
        return self.local_layers

    def encode(self, x: Tensor) -> Tensor:
        """(B, L, 4) one-hot to (B, tokens, C + the joined channels of each token)."""
        first_joined = len(self.tower) - self.config.upsamplings
        joined: list[Tensor] = []
        x = self.pool(self.stem(x))
        for number, block in enumerate(self.tower):
            x = block(x)
            if number >= first_joined:
                joined.insert(0, x)
            x = self.pool(x)
        tokens = x.shape[1]
        return torch.cat([x, *(each.reshape(len(x), tokens, -1) for each in joined)], dim=-1)

    def unpack(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What :meth:`encode` has packed: (B, tokens, C), and the joined outputs, (B, 2^k tokens, S) each."""
        widths = [width * 2 ** (k + 1) for k, width in enumerate(self.config.joined_channels)]
        x, *joined = tokens.split([self.config.channels, *widths], dim=-1)
        pairs = zip(joined, self.config.joined_channels, strict=True)
        return x, [each.reshape(len(x), -1, width) for each, width in pairs]

    def upsample(self, x: Tensor, joined: list[Tensor]) -> Tensor:
        """(B, tokens, C) and what the U-Net joins to (B, bins, C)."""
        for block, each in zip(self.up, joined, strict=True):
            x = block(x, each)
        return x

    def finish(
        self,
        tokens: Tensor,
        head: str | None = None,
        tracks: Tensor | None = None,
        bins: tuple[int, int] | None = None,
    ) -> Tensor:
        """(B, tokens, ...) of :meth:`encode` to (B, target_length, tracks)."""
        x, joined = self.unpack(tokens)
        for block in self.transformer:
            x = block(x)
        embedded = self.embed(self.upsample(x, joined), bins)
        return predict_head(self.heads[self.head_name(head)], embedded, tracks)

    def embed(self, x: Tensor, bins: tuple[int, int] | None = None) -> Tensor:
        """(B, bins, C) to (B, target_length, final_channels): the crop and the last block."""
        x = self.crop_bins(x, bins)
        if self.final is not None:
            x = self.final(x)
        return GELUS[self.config.activation](self.final_dropout(x))

    def forward(self, x: Tensor, head: str | None = None) -> Tensor:
        self.head_name(head)
        self.check_input(x)
        return self.decode(self.encode_window(x), head)
