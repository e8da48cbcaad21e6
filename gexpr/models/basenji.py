"""Basenji2 (Kelley 2020): a convolutional tower and residual dilated convolutions, no attention.

Every block is GELU, convolution without bias, BatchNorm, dropout, pooling; even the first one applies
GELU to the one-hot sequence. BatchNorm has epsilon 1e-3 and the residual branches start at zero.

Source: Kelley, PLoS Computational Biology 16:e1008050 (2020); calico/basenji (blocks.py, layers.py, seqnn.py;
manuscripts/cross2020/params_human.json).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor, nn

from gexpr.errors import ConfigError
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
from gexpr.models.layers import GELUS, BatchNorm, Convolution, MaxPool, init_variance_scaling_

EPSILON = 1e-3


@dataclass(frozen=True, kw_only=True)
class BasenjiConfig(ModelConfig):
    """Settings of :class:`Basenji`; the defaults are the published human model's.

    Args:
        stem_channels, stem_kernel: of the first convolution.
        tower_channels: width of every tower block; None for ``tower_start * tower_growth**i``, rounded.
        tower_start, tower_growth: first width and ratio of the tower's.
        tower_kernel: width of the tower's convolutions, in positions.
        num_downsamples: poolings by two, the stem's included; ``bin_size`` is 2 to this power.
        dilated_layers: residual dilated convolutions.
        dilated_channels: their inner width.
        dilated_rate: growth of the dilation from one to the next, starting at 1.
        dilated_dropout: dropout of each.
        final_channels, final_dropout: of the last block before the heads.
        activation: approximation of GELU: ``sigmoid``, with which the published models were trained, or
            ``tanh``, which the program has used later.
    """

    context_length: int = 131_072
    target_length: int = 896
    heads: dict[str, int] = field(default_factory=lambda: {"human": 5313})
    stem_channels: int = 288
    stem_kernel: int = 15
    tower_channels: tuple[int, ...] | None = None
    tower_start: int = 339
    tower_growth: float = 1.1776
    tower_kernel: int = 5
    num_downsamples: int = 7
    dilated_layers: int = 11
    dilated_channels: int = 384
    dilated_rate: float = 1.5
    dilated_dropout: float = 0.3
    final_channels: int = 1536
    final_dropout: float = 0.05
    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        for name in ("stem_channels", "tower_start", "num_downsamples", "dilated_channels", "final_channels"):
            check_int(name, getattr(self, name), minimum=1)
        check_int("dilated_layers", self.dilated_layers, minimum=0)
        for name in ("stem_kernel", "tower_kernel"):
            check_int(name, getattr(self, name), minimum=1)
            if getattr(self, name) % 2 == 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be odd")
        check_number("tower_growth", self.tower_growth, above=0)
        check_number("dilated_rate", self.dilated_rate, above=0)
        check_probability("dilated_dropout", self.dilated_dropout)
        check_probability("final_dropout", self.final_dropout)
        check_choice("activation", self.activation, tuple(GELUS))
        if self.tower_channels is not None:
            object.__setattr__(self, "tower_channels", int_tuple("tower_channels", self.tower_channels, 1))
            if len(self.tower_widths) != self.num_downsamples - 1:
                raise ConfigError(
                    f"tower_channels has {len(self.tower_widths)} widths; num_downsamples "
                    f"{self.num_downsamples} needs {self.num_downsamples - 1}"
                )
        super().__post_init__()

    @property
    def bin_size(self) -> int:
        """Bases in one bin."""
        return int(2**self.num_downsamples)

    @property
    def tower_widths(self) -> tuple[int, ...]:
        """Channels of every tower block."""
        if self.tower_channels is not None:
            return self.tower_channels
        return tuple(
            max(1, round(self.tower_start * self.tower_growth**i)) for i in range(self.num_downsamples - 1)
        )

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of every dilated layer: 1, then ``dilated_rate`` times the last, rounded."""
        dilations, rate = [], 1
        for _ in range(self.dilated_layers):
            dilations.append(max(1, rate))
            rate = round(rate * self.dilated_rate)
        return tuple(dilations)


class BasenjiBlock(LocalBlock):
    """GELU, convolution, BatchNorm, dropout, and pooling by two: (B, L, C_in) -> (B, L or L / 2, C_out)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        dilation: int = 1,
        dropout: float = 0.0,
        pool: bool = False,
        form: str = "sigmoid",
    ) -> None:
        super().__init__()
        self.form = form
        self.conv = Convolution(in_channels, out_channels, kernel, dilation, bias=False)
        self.norm = BatchNorm(out_channels, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.pool = MaxPool() if pool else nn.Identity()

    @property
    def parts(self) -> list[BlockPart]:
        kernel, dilation = self.conv.kernel_size[0], self.conv.dilation[0]
        stride = 2 if isinstance(self.pool, MaxPool) else 1
        return [
            BlockPart(self._convolve, None, TrunkLayer("convolution", kernel, dilation=dilation)),
            BlockPart(self._reduce, self.norm, TrunkLayer("pool", stride, stride)),
        ]

    def forward(self, x: Tensor) -> Tensor:
        return self._reduce(self._convolve(x))

    def _convolve(self, x: Tensor) -> Tensor:
        return self.conv(GELUS[self.form](x))

    def _reduce(self, x: Tensor) -> Tensor:
        return self.pool(self.dropout(self.norm(x)))


class DilatedResidual(nn.Module):
    """A dilated and a pointwise block around which the input passes: (B, T, C) -> (B, T, C)."""

    def __init__(
        self, channels: int, inner: int, dilation: int, dropout: float, form: str = "sigmoid"
    ) -> None:
        super().__init__()
        self.dilated = BasenjiBlock(channels, inner, kernel=3, dilation=dilation, form=form)
        self.pointwise = BasenjiBlock(inner, channels, dropout=dropout, form=form)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(self.dilated(x))


class Basenji(SequenceModel):
    """Basenji2: (B, L, 4) -> (B, target_length, tracks).

    ``convolve`` turns sequence into bins that have seen their surroundings, ``embed`` crops and
    widens them, and a head predicts.
    """

    config_class = BasenjiConfig
    config: BasenjiConfig

    def __init__(self, config: BasenjiConfig) -> None:
        super().__init__(config)
        form = config.activation
        widths = (config.stem_channels, *config.tower_widths)
        self.stem = BasenjiBlock(4, widths[0], config.stem_kernel, pool=True, form=form)
        self.tower = nn.ModuleList(
            BasenjiBlock(before, after, config.tower_kernel, pool=True, form=form)
            for before, after in pairwise(widths)
        )
        self.dilated = nn.ModuleList(
            DilatedResidual(widths[-1], config.dilated_channels, dilation, config.dilated_dropout, form)
            for dilation in config.dilations
        )
        self.final = BasenjiBlock(widths[-1], config.final_channels, dropout=config.final_dropout, form=form)
        self.heads = softplus_heads(config.final_channels, config.heads)
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights: He-normal as published, residual branches that start at zero."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                init_variance_scaling_(module.weight, module.weight[0].numel())
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
            elif isinstance(module, DilatedResidual):
                nn.init.zeros_(module.pointwise.norm.weight)

    @property
    def blocks(self) -> list[nn.Module]:
        return [self.stem, *self.tower, *self.dilated, self.final]

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

    @property
    def local_stages(self) -> list[LocalStage]:
        """The dilated layers."""
        return [
            LocalStage(lambda x, *_, block=block: block(x), dilation)  # type: ignore[misc]
            for block, dilation in zip(self.dilated, self.config.dilations, strict=True)
        ]

    def embed(self, x: Tensor, bins: tuple[int, int] | None = None) -> Tensor:
        """(B, bins, C) to (B, target_length, final_channels): the crop and the last block."""
        return GELUS[self.config.activation](self.final(self.crop_bins(x, bins)))

    def finish(
        self,
        tokens: Tensor,
        head: str | None = None,
        tracks: Tensor | None = None,
        bins: tuple[int, int] | None = None,
    ) -> Tensor:
        """(B, bins, C) to (B, target_length, tracks): the crop, the last block and a head."""
        return predict_head(self.heads[self.head_name(head)], self.embed(tokens, bins), tracks)

    def forward(self, x: Tensor, head: str | None = None) -> Tensor:
        self.head_name(head)
        self.check_input(x)
        return self.decode(self.encode_window(x), head)
