"""Enformer (Avsec et al. 2021): convolutional tower, transformer with relative positions, cropped output.

The computation and initialization are those of the published model; optional dilated convolutions
between tower and transformer, and other kinds of positions, are for models trained here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.attention import BlockPattern, RelativeBias, attend
from gexpr.models.base import (
    BlockPart,
    LocalBlock,
    LocalStage,
    ModelConfig,
    SequenceModel,
    TrunkLayer,
    check_choice,
    check_int,
    check_number,
    check_probability,
    dilated_layers,
    int_tuple,
    predict_head,
    softplus_heads,
    tower_layers,
)
from gexpr.models.layers import (
    ConvBlock,
    Convolution,
    add_residual,
    exponential_linspace_int,
    gelu,
    init_sonnet_,
    init_variance_scaling_,
    pooling,
)
from gexpr.models.positions import (
    GAMMA_NORMALIZATIONS,
    central_mask_relative_features,
    relative_features,
    rotary_angles,
    rotate,
)

POSITIONS = ("enformer", "rotary", "none")
RELATIVE_POSITIONS = ("enformer", "central_mask")


@dataclass(frozen=True, kw_only=True)
class EnformerConfig(ModelConfig):
    """Settings of :class:`Enformer`; the defaults are the published model's.

    Args:
        channels: width of the transformer.
        stem_channels: width of the stem; None for half of ``channels``.
        stem_kernel: width of the first convolution, in bases.
        tower_channels: width of every tower block; None for equal ratios from ``stem_channels`` to
            ``channels``, rounded to multiples of ``divisible_by``.
        tower_kernel: width of the tower's convolutions.
        num_downsamples: poolings by two, the stem's included; ``bin_size`` is 2 to this power.
        pooling: ``softmax`` (learned) or ``max``.
        dilated_layers: residual dilated convolutions between tower and transformer (published: 0).
        dilated_channels: their inner width; None for half of ``channels``.
        dilated_rate: growth of the dilation from one to the next, starting at 1.
        dilated_dropout: dropout of each.
        depth: transformer layers.
        attention_heads, key_size, value_size: ``value_size`` None for ``channels / attention_heads``.
        positions: ``enformer`` (relative), ``rotary`` or ``none``.
        relative_features: features of a distance; None for ``channels / attention_heads``. A multiple of 6.
        gamma_normalization: ``positions`` (published) or ``features`` (enformer-pytorch's own models); see
            :func:`gexpr.models.positions.relative_features`.
        rotary_base: longest wavelength of rotary positions, in bins, over 2 pi.
        feedforward_factor: inner width of the feed-forward layers, in ``channels``.
        dropout, attention_dropout, position_dropout: of the residual branches, the attention weights,
            the relative features.
        final_channels: width before the heads; None for twice ``channels``.
        final_dropout: dropout before the heads; None for ``dropout / 8``.
    """

    context_length: int = 196_608
    target_length: int = 896
    heads: dict[str, int] = field(default_factory=lambda: {"human": 5313, "mouse": 1643})
    channels: int = 1536
    stem_channels: int | None = None
    stem_kernel: int = 15
    tower_channels: tuple[int, ...] | None = None
    tower_kernel: int = 5
    divisible_by: int = 128
    num_downsamples: int = 7
    pooling: str = "softmax"
    dilated_layers: int = 0
    dilated_channels: int | None = None
    dilated_rate: float = 1.5
    dilated_dropout: float = 0.1
    depth: int = 11
    attention_heads: int = 8
    key_size: int = 64
    value_size: int | None = None
    positions: str = "enformer"
    relative_features: int | None = None
    gamma_normalization: str = "positions"
    rotary_base: float = 10_000.0
    feedforward_factor: int = 2
    dropout: float = 0.4
    attention_dropout: float = 0.05
    position_dropout: float = 0.01
    final_channels: int | None = None
    final_dropout: float | None = None

    def __post_init__(self) -> None:
        for name in ("channels", "divisible_by", "num_downsamples", "attention_heads", "key_size"):
            check_int(name, getattr(self, name), minimum=1)
        for name in ("depth", "dilated_layers"):
            check_int(name, getattr(self, name), minimum=0)
        check_int("feedforward_factor", self.feedforward_factor, minimum=1)
        for name in (
            "stem_channels",
            "dilated_channels",
            "value_size",
            "relative_features",
            "final_channels",
        ):
            check_int(name, getattr(self, name), minimum=1, optional=True)
        for name in ("dropout", "attention_dropout", "position_dropout", "dilated_dropout"):
            check_probability(name, getattr(self, name))
        if self.final_dropout is not None:
            check_probability("final_dropout", self.final_dropout)
        for name in ("stem_kernel", "tower_kernel"):
            check_int(name, getattr(self, name), minimum=1)
            if getattr(self, name) % 2 == 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be odd")
        check_number("dilated_rate", self.dilated_rate, above=0)
        check_number("rotary_base", self.rotary_base, above=1)
        check_choice("pooling", self.pooling, ("softmax", "max"))
        check_choice("positions", self.positions, POSITIONS)
        check_choice("gamma_normalization", self.gamma_normalization, GAMMA_NORMALIZATIONS)
        if self.tower_channels is not None:
            object.__setattr__(self, "tower_channels", int_tuple("tower_channels", self.tower_channels, 1))
        self._check_tower()
        if self.value_size is None and self.channels % self.attention_heads:
            raise ConfigError(
                f"channels {self.channels} is not a multiple of attention_heads {self.attention_heads}; "
                "state value_size"
            )
        if self.positions == "rotary" and self.key_size % 2:
            raise ConfigError(f"key_size is {self.key_size}; rotary positions need an even one")
        if self.positions == "enformer" and self.relative_feature_count % 6:
            raise ConfigError(
                f"relative_features is {self.relative_feature_count}; it must be a multiple of 6 "
                "(None takes channels / attention_heads)"
            )
        super().__post_init__()

    def _check_tower(self) -> None:
        tower = self.tower_widths
        if len(tower) != self.num_downsamples - 1:
            raise ConfigError(
                f"tower_channels has {len(tower)} widths; num_downsamples {self.num_downsamples} "
                f"needs {self.num_downsamples - 1}"
            )
        last = (self.stem_width, *tower)[-1]
        if last != self.channels:
            raise ConfigError(
                f"the tower ends with {last} channels, not with channels {self.channels}; "
                f"choose a divisible_by (now {self.divisible_by}) that divides it, or state tower_channels"
            )
        if min(tower, default=1) < 1:
            raise ConfigError(f"the tower's widths {tower} round to 0; choose a smaller divisible_by")

    @property
    def bin_size(self) -> int:
        """Bases in one bin."""
        return int(2**self.num_downsamples)

    @property
    def stem_width(self) -> int:
        """Channels of the stem."""
        return self.channels // 2 if self.stem_channels is None else self.stem_channels

    @property
    def tower_widths(self) -> tuple[int, ...]:
        """Channels of every tower block."""
        if self.tower_channels is not None:
            return self.tower_channels
        count = self.num_downsamples - 1
        if count == 0:
            return ()
        return tuple(exponential_linspace_int(self.stem_width, self.channels, count, self.divisible_by))

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of every dilated layer: 1, then ``dilated_rate`` times the last, rounded."""
        dilations, rate = [], 1
        for _ in range(self.dilated_layers):
            dilations.append(max(1, rate))
            rate = round(rate * self.dilated_rate)
        return tuple(dilations)

    @property
    def head_value_size(self) -> int:
        """Size of one attention head's values."""
        return self.channels // self.attention_heads if self.value_size is None else self.value_size

    @property
    def relative_feature_count(self) -> int:
        """Features of a distance."""
        if self.relative_features is not None:
            return self.relative_features
        return self.channels // self.attention_heads

    @property
    def key_value_head_count(self) -> int:
        """Heads of keys and values."""
        return self.attention_heads

    @property
    def rotary_feature_count(self) -> int:
        """Numbers of a key that rotary positions turn."""
        return self.key_size

    @property
    def projection_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return False

    def pattern(self, layer: int) -> BlockPattern | None:
        """Block pattern of one transformer layer; None where everything attends to everything."""
        return None

    def pattern_tokens(self, layer: int) -> int:
        """Global tokens that take part in one transformer layer."""
        pattern = self.pattern(layer)
        return 0 if pattern is None else pattern.global_tokens

    @property
    def attention(self) -> str:
        """How attention is computed (one of ``attention.IMPLEMENTATIONS``)."""
        return "auto"

    @property
    def token_count(self) -> int:
        """Global tokens in front of the bins."""
        return 0


class DownBlock(LocalBlock):
    """Convolution, residual pointwise convolution, pooling by two: (B, L, C_in) -> (B, L / 2, C_out)."""

    def __init__(self, convolution: Convolution | ConvBlock, channels: int, pool: str) -> None:
        super().__init__()
        self.convolution = convolution
        self.pointwise = ConvBlock(channels, channels)
        self.pool = pooling(pool, channels)

    @property
    def parts(self) -> list[BlockPart]:
        first = self.convolution
        norm, conv = (first.norm, first.conv) if isinstance(first, ConvBlock) else (None, first)
        assert isinstance(conv, Convolution)
        return [
            BlockPart(first, norm, TrunkLayer("convolution", conv.kernel_size[0])),
            BlockPart(self._reduce, self.pointwise.norm, TrunkLayer("pool", 2, 2)),
        ]

    def forward(self, x: Tensor) -> Tensor:
        return self._reduce(self.convolution(x))

    def _reduce(self, x: Tensor) -> Tensor:
        return self.pool(add_residual(x, self.pointwise(x)))


class DilatedBlock(nn.Module):
    """Residual dilated convolution: (B, T, C) -> (B, T, C). Starts as the identity."""

    def __init__(self, channels: int, inner: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilated = ConvBlock(channels, inner, kernel=3, dilation=dilation)
        self.pointwise = ConvBlock(inner, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.pointwise(self.dilated(x)))


class _TransformerSettings(Protocol):
    """What transformer blocks need of a config; see :class:`EnformerConfig`."""

    @property
    def channels(self) -> int: ...

    @property
    def attention_heads(self) -> int: ...

    @property
    def key_size(self) -> int: ...

    @property
    def head_value_size(self) -> int: ...

    @property
    def key_value_head_count(self) -> int: ...

    @property
    def projection_bias(self) -> bool: ...

    @property
    def positions(self) -> str: ...

    @property
    def relative_feature_count(self) -> int: ...

    @property
    def rotary_base(self) -> float: ...

    @property
    def rotary_feature_count(self) -> int: ...

    @property
    def gamma_normalization(self) -> str: ...

    @property
    def feedforward_factor(self) -> int: ...

    @property
    def dropout(self) -> float: ...

    @property
    def attention_dropout(self) -> float: ...

    @property
    def position_dropout(self) -> float: ...

    @property
    def attention(self) -> str: ...


class Part(NamedTuple):
    """Which part of a window some bins are: ``window`` bins in all, the part begins with bin ``start``."""

    window: int
    start: int


class MultiheadAttention(nn.Module):
    """Attention over (B, G + T, C) with G global tokens in front; see ``attention.attend``.

    Where keys and values have fewer heads than queries, heads side by side share one; then there are no
    relative positions and no pattern.
    """

    def __init__(self, config: _TransformerSettings, pattern: BlockPattern | None) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.key_value_heads = config.key_value_head_count
        self.key_size = config.key_size
        self.positions = config.positions
        self.rotary_base = config.rotary_base
        self.rotary_features = config.rotary_feature_count
        self.features = config.relative_feature_count
        self.gamma_normalization = config.gamma_normalization
        self.attention_dropout = config.attention_dropout
        self.position_dropout = config.position_dropout
        self.pattern = pattern
        self.tokens = 0 if pattern is None else pattern.global_tokens
        self.implementation = config.attention
        queries, bias = self.heads * config.key_size, config.projection_bias
        self._kept: tuple[tuple[object, ...], Tensor] | None = None
        self.to_query = nn.Linear(config.channels, queries, bias)
        self.to_key = nn.Linear(config.channels, self.key_value_heads * config.key_size, bias)
        self.to_value = nn.Linear(config.channels, self.key_value_heads * config.head_value_size, bias)
        self.to_output = nn.Linear(self.heads * config.head_value_size, config.channels)
        if self.positions in RELATIVE_POSITIONS:
            self.to_relative_key = nn.Linear(self.features, queries, bias=False)
            self.content_bias = nn.Parameter(torch.empty(self.heads, config.key_size))
            self.position_bias = nn.Parameter(torch.empty(self.heads, config.key_size))

    def initialize(self) -> None:
        """Published initialization: variance scaling, biases of one (Flashzoi), and an output of zero."""
        for layer in (self.to_query, self.to_key, self.to_value):
            init_variance_scaling_(layer.weight, layer.in_features)
            if layer.bias is not None:
                nn.init.ones_(layer.bias)
        if self.positions in RELATIVE_POSITIONS:
            init_variance_scaling_(self.to_relative_key.weight, self.to_relative_key.in_features)
            # Sonnet reads the shape (1, heads, 1, key_size) as a fan-in of heads
            init_variance_scaling_(self.content_bias, self.heads)
            init_variance_scaling_(self.position_bias, self.heads)
        nn.init.zeros_(self.to_output.weight)
        nn.init.zeros_(self.to_output.bias)

    def forward(self, x: Tensor, part: Part | None = None) -> Tensor:
        q = self._split(self.to_query(x)) * self.key_size**-0.5
        k, v = (self._split(layer(x), self.key_value_heads) for layer in (self.to_key, self.to_value))
        relative = None
        if self.positions in RELATIVE_POSITIONS:
            relative = self.relative_bias(x.shape[1] - self.tokens, x, part)
        elif self.positions == "rotary":
            q, k = self._rotate(q, part), self._rotate(k, part)
        if self.key_value_heads != self.heads:
            # Heads that share keys are to attention one head with more queries: nothing is copied for it.
            q = q.unflatten(1, (self.key_value_heads, -1)).flatten(2, 3)
        mixed = attend(
            q, k, v, self.pattern, relative, self.attention_dropout, self.training, self.implementation
        )
        if self.key_value_heads != self.heads:
            mixed = mixed.unflatten(2, (-1, x.shape[1])).flatten(1, 2)
        return self.to_output(mixed.transpose(1, 2).flatten(2))

    def keys_and_values(self, x: Tensor, part: Part) -> Tensor:
        """Keys, rotated, and values of some bins side by side: (B, n, C) -> (B, n, keys + values)."""
        keys = self.to_key(x)
        if self.positions == "rotary":
            keys = self._rotate_bins(self._split(keys), part).transpose(1, 2).flatten(2)
        return torch.cat([keys, self.to_value(x)], dim=-1)

    def of_tokens(self, tokens: Tensor, bins: Tensor) -> Tensor:
        """What :meth:`forward` gives for the global tokens alone: (B, G, C) -> (B, G, C).

        Args:
            tokens: the global tokens.
            bins: :meth:`keys_and_values` of all bins.
        """
        q = self._split(self.to_query(tokens)) * self.key_size**-0.5
        if self.positions in RELATIVE_POSITIONS:
            q = q + self.content_bias[:, None]
        own = torch.cat([self.to_key(tokens), self.to_value(tokens)], dim=-1)
        sizes = [self.heads * self.key_size, own.shape[-1] - self.heads * self.key_size]
        (k, v), (own_k, own_v) = (
            [self._split(each) for each in both.split(sizes, dim=-1)] for both in (bins, own)
        )
        logits = torch.cat([q @ own_k.transpose(-1, -2), q @ k.transpose(-1, -2)], dim=-1)
        weights = logits.softmax(-1)
        mixed = weights[..., : self.tokens] @ own_v + weights[..., self.tokens :] @ v
        return self.to_output(mixed.transpose(1, 2).flatten(2))

    def relative_bias(self, length: int, like: Tensor, part: Part | None = None) -> RelativeBias:
        """The position term for ``length`` bins, on the device and in the precision of ``like``.

        The features of a distance depend on the length of the window of which the bins may be a part.
        """
        whole = length if part is None else part.window
        if torch.is_grad_enabled() or like.dtype != self.to_relative_key.weight.dtype:
            keys = self._relative_keys(whole, like)
        else:
            keys = self._kept_relative_keys(whole, like)
        return RelativeBias(
            keys[:, whole - length : whole + length - 1], self.content_bias, self.position_bias
        )

    def _relative_keys(self, length: int, like: Tensor) -> Tensor:
        if self.positions == "central_mask":
            features = central_mask_relative_features(length, self.features, like.dtype, like.device)
        else:
            features = relative_features(
                length, self.features, like.dtype, like.device, self.gamma_normalization
            )
        features = F.dropout(features, self.position_dropout, self.training)
        return self.to_relative_key(features).unflatten(-1, (self.heads, self.key_size)).transpose(0, 1)

    def _kept_relative_keys(self, length: int, like: Tensor) -> Tensor:
        """The relative keys, which depend on weights alone, computed once for each state of these.

        In the precision of the weights even under autocast, which another prediction may not be under.
        """
        weight = self.to_relative_key.weight
        dropped = self.training and self.position_dropout > 0
        tf32 = torch.backends.cuda.matmul.allow_tf32
        version = 0 if weight.is_inference() else weight._version
        state = length, weight.data_ptr(), version, weight.dtype, weight.device, tf32
        if dropped or self._kept is None or self._kept[0] != state:
            # Not an inference tensor: it may meet others outside of inference mode.
            kind = like.device.type if torch.amp.is_autocast_available(like.device.type) else "cpu"
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(kind, enabled=False):
                keys = self._relative_keys(length, weight).contiguous()
            if dropped:
                return keys
            self._kept = state, keys
        return self._kept[1]

    def _rotate(self, x: Tensor, part: Part | None) -> Tensor:
        bins = self._rotate_bins(x[:, :, self.tokens :], part)
        return torch.cat([x[:, :, : self.tokens], bins], dim=2) if self.tokens else bins

    def _rotate_bins(self, x: Tensor, part: Part | None) -> Tensor:
        length = x.shape[2]
        window, start = (length, 0) if part is None else part
        angles = rotary_angles(window, self.rotary_features, self.rotary_base, x.dtype, x.device)
        cosine, sine = (each[start : start + length] for each in angles)
        return rotate(x, cosine, sine)

    def _split(self, x: Tensor, heads: int | None = None) -> Tensor:
        return x.unflatten(-1, (heads or self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, dropout, ReLU, linear: (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, inner)
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(F.relu(self.dropout(self.expand(x))))


class TransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward with residuals: (B, G + T, C) -> same shape."""

    def __init__(
        self, config: _TransformerSettings, pattern: BlockPattern | None, epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.channels, eps=epsilon)
        self.attention = MultiheadAttention(config, pattern)
        self.feedforward_norm = nn.LayerNorm(config.channels, eps=epsilon)
        self.feedforward = FeedForward(
            config.channels, config.feedforward_factor * config.channels, config.dropout
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, part: Part | None = None) -> Tensor:
        """``part`` says which bins ``x`` holds when these are not a whole window."""
        return self._add_feedforward(x + self.dropout(self.attention(self.attention_norm(x), part)))

    def keys_and_values(self, x: Tensor, part: Part) -> Tensor:
        """What :meth:`of_tokens` takes of some bins: (B, n, C) -> (B, n, keys + values)."""
        return self.attention.keys_and_values(self.attention_norm(x), part)

    def of_tokens(self, tokens: Tensor, bins: Tensor) -> Tensor:
        """The global tokens of what :meth:`forward` gives for a whole window: (B, G, C) -> (B, G, C)."""
        mixed = self.attention.of_tokens(self.attention_norm(tokens), bins)
        return self._add_feedforward(tokens + self.dropout(mixed))

    def _add_feedforward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class Enformer(SequenceModel):
    """Enformer: (B, L, 4) -> (B, target_length, tracks).

    ``convolve`` turns sequence into bins, ``transform`` lets the bins attend to each other,
    ``embed`` crops and widens them, and a head predicts.
    """

    config_class = EnformerConfig
    config: EnformerConfig

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__(config)
        channels, widths = config.channels, (config.stem_width, *config.tower_widths)
        self.stem = DownBlock(Convolution(4, widths[0], config.stem_kernel), widths[0], config.pooling)
        self.tower = nn.ModuleList(
            DownBlock(ConvBlock(before, after, config.tower_kernel), after, config.pooling)
            for before, after in pairwise(widths)
        )
        inner = channels // 2 if config.dilated_channels is None else config.dilated_channels
        self.dilated = nn.ModuleList(
            DilatedBlock(channels, inner, dilation, config.dilated_dropout) for dilation in config.dilations
        )
        if config.token_count:
            self.tokens = nn.Parameter(torch.empty(config.token_count, channels))
        self.transformer = nn.ModuleList(
            TransformerBlock(config, config.pattern(layer)) for layer in range(config.depth)
        )
        final = 2 * channels if config.final_channels is None else config.final_channels
        self.final = ConvBlock(channels, final)
        self.final_dropout = nn.Dropout(
            config.dropout / 8 if config.final_dropout is None else config.final_dropout
        )
        self.heads = softplus_heads(final, config.heads)
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights as the published code does (Sonnet's defaults, zero attention output)."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d)):
                init_sonnet_(module)
        for module in self.modules():
            if isinstance(module, MultiheadAttention):
                module.initialize()
            elif isinstance(module, DilatedBlock):
                nn.init.zeros_(module.pointwise.conv.weight)
        if self.config.token_count:
            nn.init.normal_(self.tokens, std=1 / math.sqrt(self.config.channels))

    @property
    def blocks(self) -> list[nn.Module]:
        return [self.stem, *self.tower, *self.dilated, *self.transformer, self.final]

    @property
    def local_layers(self) -> list[TrunkLayer]:
        return tower_layers(self.config.stem_kernel, self.config.tower_kernel, len(self.tower))

    @property
    def trunk_layers(self) -> list[TrunkLayer]:
        return self.local_layers + dilated_layers(self.config.dilations)

    def encode(self, x: Tensor) -> Tensor:
        """(B, L, 4) one-hot to (B, bins, C): stem and tower."""
        x = self.stem(x)
        for block in self.tower:
            x = block(x)
        return x

    def convolve(self, x: Tensor) -> Tensor:
        """(B, L, 4) one-hot to (B, bins, C): stem, tower and dilated layers."""
        x = self.encode(x)
        for block in self.dilated:
            x = block(x)
        return x

    def transform(self, x: Tensor) -> Tensor:
        """(B, bins, C) to (B, bins, C): the transformer layers, without the crop."""
        return self._layers(x, self._first_tokens(x), 0)

    def _layers(self, x: Tensor, tokens: Tensor, first: int) -> Tensor:
        """Transformer layers from ``first`` on: bins (B, T, C) and global tokens (B, G, C) to bins."""
        for layer in range(first, self.config.depth):
            # a layer without global attention leaves the tokens alone
            count = self.config.pattern_tokens(layer)
            if count:
                x = self.transformer[layer](torch.cat([tokens, x], dim=1))
                tokens, x = x[:, :count], x[:, count:]
            else:
                x = self.transformer[layer](x)
        return x

    def _first_tokens(self, x: Tensor) -> Tensor:
        """The global tokens as they are learned, for each sequence of a batch."""
        return self.tokens.expand(len(x), -1, -1) if self.config.token_count else x[:, :0]

    @property
    def local_stages(self) -> list[LocalStage]:
        """The dilated layers, and the transformer layers in which a bin sees only its neighbors.

        That is those below the first with random or global blocks, and of those with global tokens the
        first: its tokens are still the learned ones. What it makes of them is its summary.
        """
        stages = [
            LocalStage(lambda x, *_, block=block: block(x), dilation)  # type: ignore[misc]
            for block, dilation in zip(self.dilated, self.config.dilations, strict=True)
        ]
        for layer in range(self._local_layers()):
            pattern = self.config.pattern(layer)
            assert pattern is not None
            size = pattern.block_size
            if pattern.global_tokens:
                stages.append(self._summarizing_stage(layer, size))
            else:

                def run(x: Tensor, window: int, start: int, layer: int = layer) -> Tensor:
                    return self.transformer[layer](x, Part(window, start))

                stages.append(LocalStage(run, size, size))
        return stages

    def _summarizing_stage(self, layer: int, size: int) -> LocalStage:
        """The first layer with global tokens."""
        block = self.transformer[layer]
        assert isinstance(block, TransformerBlock)

        def with_tokens(x: Tensor) -> Tensor:
            return torch.cat([self._first_tokens(x), x], dim=1)

        def run(x: Tensor, window: int, start: int) -> Tensor:
            return block(with_tokens(x), Part(window, start))[:, self.config.token_count :]

        def project(x: Tensor, window: int, start: int) -> Tensor:
            return block.keys_and_values(x, Part(window, start))

        def summarize(projected: Tensor) -> Tensor:
            return block.of_tokens(self._first_tokens(projected), projected)

        def whole(x: Tensor) -> Tensor:
            return block(with_tokens(x))

        return LocalStage(run, size, size, project, summarize, whole)

    def _local_layers(self) -> int:
        """Transformer layers, from the first on, in which bins see their neighbors alone."""
        for layer in range(self.config.depth):
            pattern = self.config.pattern(layer)
            if pattern is None or pattern.random_blocks or pattern.global_blocks:
                return layer
            if pattern.global_tokens:
                return layer + 1
        return self.config.depth

    def finish(
        self,
        tokens: Tensor,
        head: str | None = None,
        tracks: Tensor | None = None,
        bins: tuple[int, int] | None = None,
    ) -> Tensor:
        """(B, S + bins, C) to (B, target_length, tracks): the other transformer layers, and a head."""
        layer = self._local_layers()
        summary = self.config.pattern_tokens(layer - 1) if layer else 0
        first, x = tokens[:, :summary], tokens[:, summary:]
        embedded = self.embed(self._layers(x, first if summary else self._first_tokens(x), layer), bins)
        return predict_head(self.heads[self.head_name(head)], embedded, tracks)

    def embed(self, x: Tensor, bins: tuple[int, int] | None = None) -> Tensor:
        """(B, bins, C) to (B, target_length, final_channels): the crop and the last layer."""
        return gelu(self.final_dropout(self.final(self.crop_bins(x, bins))))

    def forward(self, x: Tensor, head: str | None = None) -> Tensor:
        self.head_name(head)
        self.check_input(x)
        return self.decode(self.encode_window(x), head)
