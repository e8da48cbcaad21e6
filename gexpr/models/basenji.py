"""Basenji: a convolutional tower and dilated convolutions, no attention.

Basenji2 (Kelley 2020) is the default. Every block is GELU, convolution without bias, BatchNorm, dropout,
pooling; even the first one applies GELU to the one-hot sequence. BatchNorm has epsilon 1e-3 and the residual
branches start at zero.

:data:`BASENJI_2018` are the settings of the first Basenji: ReLU, poolings by two and four, and dilated
convolutions whose outputs are put beside their inputs. Angus and Eyuboglu (2019) write of seven convolutions
and seven dilated ones; the published parameter file has six and six, to which the 15,190,636 parameters
belong and which is what is here. Bins beyond the target are cropped before the last convolution, as in
Basenji2, not after it: that changes what its BatchNorm sees in training and nothing in predictions.

Source: Kelley, PLoS Computational Biology 16:e1008050 (2020); calico/basenji (blocks.py, layers.py, seqnn.py;
manuscripts/cross2020/params_human.json); Kelley et al., Genome Research 28:739 (2018);
calico/basenji manuscripts/genome_research2018/params.txt.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import (
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
)
from gexpr.models.convolutions import (
    CHANNELS,
    KERNELS,
    POOLS,
    BasenjiBlock,
    check_convolutions,
    convolution_blocks,
    convolution_layers,
    init_he_,
)
from gexpr.models.layers import ACTIVATIONS, LINKS

FORMS = ("residual", "dense")

REPLACED = (
    "stem_channels",
    "stem_kernel",
    "tower_channels",
    "tower_start",
    "tower_growth",
    "tower_kernel",
    "num_downsamples",
)
"""Settings in whose place the ``dense`` form has ``channels``, ``kernels`` and ``pools``."""

BASENJI_2018: dict[str, Any] = {
    "form": "dense",
    "target_length": 960,
    "heads": {"human": 4229},
    "channels": CHANNELS,
    "kernels": KERNELS,
    "pools": POOLS,
    "dropout": 0.05,
    "dilated_layers": 6,
    "dilated_channels": 108,
    "dilated_rate": 2.0,
    "dilated_dropout": 0.1,
    "final_channels": 1365,
    "activation": "relu",
    "link": "exp_linear",
}
"""Settings of Basenji as published in 2018."""


@dataclass(frozen=True, kw_only=True)
class BasenjiConfig(ModelConfig):
    """Settings of :class:`Basenji`; the defaults are the published human model's.

    Args:
        stem_channels, stem_kernel: of the first convolution.
        tower_channels: width of every tower block; None for ``tower_start * tower_growth**i``, rounded.
        tower_start, tower_growth: first width and ratio of the tower's.
        tower_kernel: width of the tower's convolutions, in positions.
        num_downsamples: poolings by two, the stem's included; ``bin_size`` is 2 to this power.
        form: of the dilated convolutions: ``residual``, added to their input after a pointwise convolution,
            or ``dense``, put beside it.
        channels, kernels, pools: of the ``dense`` form's convolutions, in place of what begins with ``stem``
            and ``tower`` and of ``num_downsamples``; ``bin_size`` is the product of ``pools``.
        dropout: after every convolution of stem and tower.
        dilated_layers: dilated convolutions.
        dilated_channels: their inner width, or in the ``dense`` form what each adds.
        dilated_rate: growth of the dilation from one to the next, starting at 1, or in the ``dense`` form at
            the rate itself.
        dilated_dropout: dropout of each.
        final_channels, final_dropout: of the last block before the heads.
        activation: approximation of GELU: ``sigmoid``, with which the published models were trained, or
            ``tanh``, which the program has used later; or ``relu``, that of 2018.
        link: from a head's linear outputs to predictions: ``softplus``, ``exp_linear`` (x + 1 above zero,
            e^x below), that of 2018, ``exp``, or ``linear``, with which predictions may be negative.
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
    form: str = "residual"
    channels: tuple[int, ...] | None = None
    kernels: tuple[int, ...] | None = None
    pools: tuple[int, ...] | None = None
    dropout: float = 0.0
    link: str = "softplus"

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
        check_probability("dropout", self.dropout)
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_choice("form", self.form, FORMS)
        check_choice("link", self.link, tuple(LINKS))
        self._check_trunk()
        super().__post_init__()

    def _check_trunk(self) -> None:
        for name in ("channels", "kernels", "pools"):
            values = getattr(self, name)
            if (values is None) is (self.form == "dense"):
                needs = "form dense needs a list" if values is None else "only form dense has it"
                raise ConfigError(f"{name} is {values!r} and form is {self.form}; {needs}")
            if values is not None:
                object.__setattr__(self, name, int_tuple(name, values, 1))
        if self.form == "dense":
            check_convolutions(*self._dense_trunk)
            for item in dataclasses.fields(self):
                if item.name in REPLACED and getattr(self, item.name) != item.default:
                    raise ConfigError(
                        f"{item.name} is {getattr(self, item.name)!r} and form is dense, which has channels, "
                        "kernels and pools instead; remove it"
                    )
        if self.tower_channels is not None:
            object.__setattr__(self, "tower_channels", int_tuple("tower_channels", self.tower_channels, 1))
            if len(self.tower_widths) != self.num_downsamples - 1:
                raise ConfigError(
                    f"tower_channels has {len(self.tower_widths)} widths; num_downsamples "
                    f"{self.num_downsamples} needs {self.num_downsamples - 1}"
                )

    @property
    def _dense_trunk(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        assert self.channels is not None and self.kernels is not None and self.pools is not None
        return self.channels, self.kernels, self.pools

    @property
    def trunk(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Channels, kernels and poolings of the convolutions before the dilated ones."""
        if self.form == "dense":
            return self._dense_trunk
        count = self.num_downsamples
        kernels = (self.stem_kernel, *[self.tower_kernel] * (count - 1))
        return (self.stem_channels, *self.tower_widths), kernels, (2,) * count

    @property
    def bin_size(self) -> int:
        """Bases in one bin."""
        return math.prod(self._dense_trunk[2]) if self.form == "dense" else int(2**self.num_downsamples)

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
        """Dilation of every dilated layer: the first, then ``dilated_rate`` times the last, rounded."""
        dilations, rate = [], round(self.dilated_rate) if self.form == "dense" else 1
        for _ in range(self.dilated_layers):
            dilations.append(max(1, rate))
            rate = round(rate * self.dilated_rate)
        return tuple(dilations)


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


class DilatedDense(nn.Module):
    """The input and beside it a dilated convolution of it: (B, T, C) -> (B, T, C + added)."""

    def __init__(self, channels: int, added: int, dilation: int, dropout: float, form: str) -> None:
        super().__init__()
        self.dilated = BasenjiBlock(channels, added, kernel=3, dilation=dilation, dropout=dropout, form=form)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.dilated(x)], dim=-1)


class Basenji(SequenceModel):
    """Basenji: (B, L, 4) -> (B, target_length, tracks).

    ``convolve`` turns sequence into bins that have seen their surroundings, ``embed`` crops and
    widens them, and a head predicts.
    """

    config_class = BasenjiConfig
    config: BasenjiConfig

    def __init__(self, config: BasenjiConfig) -> None:
        super().__init__(config)
        form = config.activation
        channels, kernels, pools = config.trunk
        stem, *tower = convolution_blocks(channels, kernels, pools, config.dropout, form)
        self.stem, self.tower = stem, nn.ModuleList(tower)
        width = channels[-1]
        dilated: list[nn.Module] = []
        for dilation in config.dilations:
            inner, dropout = config.dilated_channels, config.dilated_dropout
            if config.form == "dense":
                dilated.append(DilatedDense(width, inner, dilation, dropout, form))
                width += inner
            else:
                dilated.append(DilatedResidual(width, inner, dilation, dropout, form))
        self.dilated = nn.ModuleList(dilated)
        self.final = BasenjiBlock(width, config.final_channels, dropout=config.final_dropout, form=form)
        self.heads = softplus_heads(config.final_channels, config.heads)
        self.initialize()

    def initialize(self) -> None:
        """Draw new weights: He-normal as published, residual branches that start at zero."""
        init_he_(self)
        for module in self.dilated:
            if isinstance(module, DilatedResidual):
                nn.init.zeros_(module.pointwise.norm.weight)

    @property
    def blocks(self) -> list[nn.Module]:
        return [self.stem, *self.tower, *self.dilated, self.final]

    @property
    def local_layers(self) -> list[TrunkLayer]:
        return convolution_layers(*self.config.trunk[1:])

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
        return ACTIVATIONS[self.config.activation](self.final(self.crop_bins(x, bins)))

    def finish(
        self,
        tokens: Tensor,
        head: str | None = None,
        tracks: Tensor | None = None,
        bins: tuple[int, int] | None = None,
    ) -> Tensor:
        """(B, bins, C) to (B, target_length, tracks): the crop, the last block and a head."""
        chosen = self.heads[self.head_name(head)]
        return predict_head(chosen, self.embed(tokens, bins), tracks, self.config.link)

    def forward(self, x: Tensor, head: str | None = None) -> Tensor:
        self.head_name(head)
        self.check_input(x)
        return self.decode(self.encode_window(x), head)
