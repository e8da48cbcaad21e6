"""The convolutions of Basenji (Kelley et al. 2018), and models that add a context to what they see.

Six convolutions turn sequence into bins that have seen some hundred bases. What a model makes of the bins
beyond is its *context*: nothing (:mod:`gexpr.models.standard`), sums with exponential weights
(:mod:`gexpr.models.exp_decay`) or attention (:mod:`gexpr.models.decay_attention`). A pointwise convolution
and a linear head follow. The trunk has the same names in all of them and in :mod:`gexpr.models.basenji`.

Source: Kelley et al., Genome Research 28:739 (2018); Angus and Eyuboglu, "Predicting gene expression with
attention" (2019), with its code, seyuboglu/genome-attention (basenji/layers.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import (
    BlockPart,
    LocalBlock,
    ModelConfig,
    SequenceModel,
    TrunkLayer,
    check_choice,
    check_int,
    check_probability,
    int_tuple,
    predict_head,
    softplus_heads,
)
from gexpr.models.layers import (
    ACTIVATIONS,
    LINKS,
    BatchNorm,
    Convolution,
    MaxPool,
    init_variance_scaling_,
)

EPSILON = 1e-3

CHANNELS = (312, 368, 435, 514, 607, 717)
KERNELS = (22, 1, 6, 6, 6, 3)
POOLS = (1, 2, 4, 4, 4, 1)


class BasenjiBlock(LocalBlock):
    """Activation, convolution, BatchNorm, dropout, and pooling: (B, L, C_in) -> (B, L / pool, C_out)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        dilation: int = 1,
        dropout: float = 0.0,
        pool: int = 1,
        form: str = "sigmoid",
    ) -> None:
        super().__init__()
        self.form = form
        self.conv = Convolution(in_channels, out_channels, kernel, dilation, bias=False)
        self.norm = BatchNorm(out_channels, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.pool = MaxPool(pool) if pool > 1 else nn.Identity()

    @property
    def parts(self) -> list[BlockPart]:
        kernel, dilation = self.conv.kernel_size[0], self.conv.dilation[0]
        stride = self.pool.width if isinstance(self.pool, MaxPool) else 1
        return [
            BlockPart(self._convolve, None, TrunkLayer("convolution", kernel, dilation=dilation)),
            BlockPart(self._reduce, self.norm, TrunkLayer("pool", stride, stride)),
        ]

    def forward(self, x: Tensor) -> Tensor:
        return self._reduce(self._convolve(x))

    def _convolve(self, x: Tensor) -> Tensor:
        return self.conv(ACTIVATIONS[self.form](x))

    def _reduce(self, x: Tensor) -> Tensor:
        return self.pool(self.dropout(self.norm(x)))


def convolution_blocks(
    channels: Sequence[int], kernels: Sequence[int], pools: Sequence[int], dropout: float, form: str
) -> list[BasenjiBlock]:
    """The blocks of a trunk, from four channels on."""
    widths = pairwise((4, *channels))
    return [
        BasenjiBlock(before, after, kernel, dropout=dropout, pool=pool, form=form)
        for (before, after), kernel, pool in zip(widths, kernels, pools, strict=True)
    ]


def convolution_layers(kernels: Sequence[int], pools: Sequence[int]) -> list[TrunkLayer]:
    """Geometry of :func:`convolution_blocks`, whose first is the stem."""
    layers = []
    for index, (kernel, pool) in enumerate(zip(kernels, pools, strict=True)):
        name = f"tower.{index - 1}" if index else "stem"
        layers.append(TrunkLayer(f"{name}.convolution", kernel))
        if pool > 1:
            layers.append(TrunkLayer(f"{name}.pool", pool, pool))
    return layers


def check_convolutions(channels: Sequence[int], kernels: Sequence[int], pools: Sequence[int]) -> None:
    """Raise ConfigError unless there are as many kernels and poolings as convolutions, and at least one."""
    if not channels:
        raise ConfigError("channels is empty; it must have at least one convolution's width")
    for name, values in (("kernels", kernels), ("pools", pools)):
        if len(values) != len(channels):
            raise ConfigError(f"{name} has {len(values)} entries; channels has {len(channels)}")


def init_he_(model: nn.Module) -> None:
    """Draw weights He-normal, with biases of zero: convolutions and linear layers."""
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Linear)):
            init_variance_scaling_(module.weight, module.weight[0].numel())
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


@dataclass(frozen=True, kw_only=True)
class ConvolutionConfig(ModelConfig):
    """Settings of every :class:`ConvolutionModel`; the defaults are the published ones.

    Args:
        channels: width of every convolution.
        kernels: width of its window, in positions.
        pools: max pooling after it; ``bin_size`` is their product.
        dropout: after every convolution.
        final_channels, final_dropout: of the pointwise convolution before the heads.
        activation: before every convolution and the heads: ``relu``, or ``sigmoid`` or ``tanh``, two
            approximations of GELU.
        link: from a head's linear outputs to predictions: ``exp_linear`` (x + 1 above zero, e^x below),
            ``softplus``, ``exp``, or ``linear``, with which predictions may be negative.
    """

    context_length: int = 131_072
    target_length: int = 960
    heads: dict[str, int] = field(default_factory=lambda: {"human": 4229})
    channels: tuple[int, ...] = CHANNELS
    kernels: tuple[int, ...] = KERNELS
    pools: tuple[int, ...] = POOLS
    dropout: float = 0.05
    final_channels: int = 1365
    final_dropout: float = 0.05
    activation: str = "relu"
    link: str = "exp_linear"

    def __post_init__(self) -> None:
        for name in ("channels", "kernels", "pools"):
            object.__setattr__(self, name, int_tuple(name, getattr(self, name), 1))
        check_convolutions(self.channels, self.kernels, self.pools)
        check_probability("dropout", self.dropout)
        check_int("final_channels", self.final_channels, minimum=1)
        check_probability("final_dropout", self.final_dropout)
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_choice("link", self.link, tuple(LINKS))
        super().__post_init__()

    @property
    def bin_size(self) -> int:
        """Bases in one bin."""
        return math.prod(self.pools)


class ConvolutionModel(SequenceModel):
    """Convolutions, a context, a pointwise convolution and heads: (B, L, 4) -> (B, target_length, tracks).

    A subclass makes its layers, calls :meth:`finish_layers` with the width of what :meth:`add_context`
    returns, and implements that.
    """

    config: ConvolutionConfig

    def __init__(self, config: ConvolutionConfig) -> None:
        super().__init__(config)
        stem, *tower = convolution_blocks(
            config.channels, config.kernels, config.pools, config.dropout, config.activation
        )
        self.stem, self.tower = stem, nn.ModuleList(tower)

    def finish_layers(self, width: int) -> None:
        """Make the layers after the context, and draw all convolutions' and heads' weights."""
        config = self.config
        self.final = BasenjiBlock(
            width, config.final_channels, dropout=config.final_dropout, form=config.activation
        )
        self.heads = softplus_heads(config.final_channels, config.heads)
        init_he_(self)

    def add_context(self, tokens: Tensor, first: int, last: int) -> Tensor:
        """Bins ``first`` to ``last`` with their context: (B, bins, C) -> (B, last - first, width)."""
        raise NotImplementedError

    @property
    def context_layers(self) -> list[nn.Module]:
        """The modules of the context, in order."""
        return []

    @property
    def blocks(self) -> list[nn.Module]:
        return [self.stem, *self.tower, *self.context_layers, self.final]

    @property
    def local_layers(self) -> list[TrunkLayer]:
        return convolution_layers(self.config.kernels, self.config.pools)

    @property
    def trunk_layers(self) -> list[TrunkLayer]:
        return self.local_layers

    def encode(self, x: Tensor) -> Tensor:
        """(B, L, 4) one-hot to (B, bins, C): the convolutions."""
        x = self.stem(x)
        for block in self.tower:
            x = block(x)
        return x

    def finish(
        self,
        tokens: Tensor,
        head: str | None = None,
        tracks: Tensor | None = None,
        bins: tuple[int, int] | None = None,
    ) -> Tensor:
        """(B, bins, C) to (B, target_length, tracks): the context of the target, and what follows."""
        chosen = self.heads[self.head_name(head)]
        x = self.final(self.add_context(tokens, *self.target_bins(tokens.shape[1], bins)))
        return predict_head(chosen, ACTIVATIONS[self.config.activation](x), tracks, self.config.link)

    def forward(self, x: Tensor, head: str | None = None) -> Tensor:
        self.head_name(head)
        self.check_input(x)
        return self.decode(self.encode_window(x), head)
