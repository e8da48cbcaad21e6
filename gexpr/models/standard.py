"""Convolutions alone, without a context: what models that look further are compared with.

Source: the model "Standard" of Angus and Eyuboglu (2019): the convolutions of Basenji (2018), a pointwise
convolution and a linear layer. See :mod:`gexpr.models.convolutions`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gexpr.models.convolutions import ConvolutionConfig, ConvolutionModel


@dataclass(frozen=True, kw_only=True)
class StandardConfig(ConvolutionConfig):
    """Settings of :class:`Standard`."""


class Standard(ConvolutionModel):
    """Every bin predicted from the bases around it alone: (B, L, 4) -> (B, target_length, tracks)."""

    config_class = StandardConfig
    config: StandardConfig

    def __init__(self, config: StandardConfig) -> None:
        super().__init__(config)
        self.finish_layers(config.channels[-1])

    def add_context(self, tokens: Tensor, first: int, last: int) -> Tensor:
        return tokens[:, first:last]
