"""What models of constructs share: short sequences of one length that have one value a track.

To the rest of the package such a model has one bin, which is as long as its context: predictions are
(B, 1, tracks).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import ModelConfig, SequenceModel, check_choice, check_int, predict_head
from gexpr.models.layers import ConvBlock, Convolution, one_plus_exp_

OUTPUT_LINKS = ("softplus", "linear")


@dataclass(frozen=True, kw_only=True)
class ConstructConfig(ModelConfig):
    """Settings that all models of constructs have.

    Args:
        link: what makes predictions of the last layer's outputs: ``softplus`` (never negative) or ``linear``.
        trim_left, trim_right: bases at the ends of the context that the model does not look at.
    """

    context_length: int = 110
    target_length: int = 1
    heads: dict[str, int] = field(default_factory=lambda: {"tracks": 1})
    link: str = "softplus"
    trim_left: int = 0
    trim_right: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("link", self.link, OUTPUT_LINKS)
        for name in ("trim_left", "trim_right"):
            check_int(name, getattr(self, name), minimum=0)
        if self.seen_length < 1:
            raise ConfigError(
                f"trim_left {self.trim_left} and trim_right {self.trim_right} leave nothing of the "
                f"{self.context_length} bases of context_length"
            )

    @property
    def bin_size(self) -> int:
        """Bases in the one bin: the whole context."""
        return self.context_length

    @property
    def seen_length(self) -> int:
        """Bases that the model looks at."""
        return self.context_length - self.trim_left - self.trim_right


class EnformerAttention:
    """What Enformer's attention asks of its settings beside those that a config of constructs has itself."""

    attention_heads: int
    value_size: int
    relative_features: int

    @property
    def head_value_size(self) -> int:
        """Size of one attention head's values."""
        return self.value_size

    @property
    def key_value_head_count(self) -> int:
        """Heads of keys and values."""
        return self.attention_heads

    @property
    def projection_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return False

    @property
    def positions(self) -> str:
        """Kind of positions."""
        return "enformer"

    @property
    def relative_feature_count(self) -> int:
        """Features of a distance."""
        return self.relative_features

    @property
    def rotary_base(self) -> float:
        """Of no use without rotary positions."""
        return 10_000.0

    @property
    def rotary_feature_count(self) -> int:
        """Of no use without rotary positions."""
        return 0

    @property
    def attention(self) -> str:
        """How attention is computed (one of ``attention.IMPLEMENTATIONS``)."""
        return "auto"


class ConstructModel(SequenceModel):
    """A model of constructs: (B, context_length, 4) -> (B, 1, tracks).

    Subclasses make the features of which one linear layer a head predicts.
    """

    config: ConstructConfig
    heads: nn.ModuleDict

    def features(self, x: Tensor) -> Tensor:
        """(B, seen_length, 4) one-hot to (B, F)."""
        raise NotImplementedError

    def seen(self, x: Tensor) -> Tensor:
        """The bases that the model looks at, of the middle of longer sequences: (B, seen_length, 4)."""
        bins = self.check_input(x)
        start = bins // 2 * self.context_length
        return x[:, start + self.config.trim_left : start + self.context_length - self.config.trim_right]

    def forward(self, x: Tensor, head: str | None = None) -> Tensor:
        name = self.head_name(head)
        features = self.features(self.seen(x)).unsqueeze(1)
        return predict_head(self.heads[name], features, link=self.config.link)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``; on a CPU, where no gradient is wanted, the same for any number of threads."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return torch.sigmoid(x)
    return one_plus_exp_(-x).reciprocal_()


def swish(x: Tensor) -> Tensor:
    """``x * sigmoid(x)``; on a CPU, where no gradient is wanted, the same for any number of threads."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return F.silu(x)
    divisor = one_plus_exp_(-x)
    return torch.div(x, divisor, out=divisor)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent; on a CPU, where no gradient is wanted, the same for any number of threads."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return torch.tanh(x)
    # tanh x = 1 - 2 / (1 + exp(2x))
    return one_plus_exp_(2 * x).reciprocal_().mul_(-2).add_(1)


class ShortConvolution(Convolution):
    """Convolution of a short sequence; on a CPU, where no gradient is wanted, one matrix product.

    PyTorch's kernels of convolutions divide a short sequence among threads in ways that change last digits.
    """

    def _convolve(self, x: Tensor, dilation: int) -> Tensor:
        kernel = self.kernel_size[0]
        if torch.is_grad_enabled() or x.device.type != "cpu" or dilation > 1:
            return super()._convolve(x, dilation)
        seen = F.pad(x, (0, 0, (kernel - 1) // 2, kernel // 2)).unfold(1, kernel, 1)
        return F.linear(seen.flatten(2), self.weight.flatten(1), self.bias)


class ShortConvBlock(ConvBlock):
    """BatchNorm, GELU, :class:`ShortConvolution`: (B, L, C_in) -> (B, L, C_out)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel)
        self.conv = ShortConvolution(in_channels, out_channels, kernel)
