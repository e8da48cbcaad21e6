"""Layers shared by the architectures, on (batch, length, channels) tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

GELU_SLOPE = 1.702

QUERY_BLOCK = 128
"""Bins of a block of :func:`by_query_blocks`."""


def one_hot(codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """One-hot of integer codes (..., L) -> (..., L, 4), on the codes' device.

    A C G T = 0 1 2 3; every other code (4 = unknown) is an all-zero row.
    """
    return (codes.unsqueeze(-1) == torch.arange(4, dtype=codes.dtype, device=codes.device)).to(dtype)


def gelu(x: Tensor) -> Tensor:
    """Enformer's and Basenji2's approximation of GELU: ``x * sigmoid(1.702 x)``."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return F.silu(GELU_SLOPE * x) / GELU_SLOPE
    divisor = one_plus_exp_(-GELU_SLOPE * x)
    return torch.div(x, divisor, out=divisor)


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation of GELU by a hyperbolic tangent, which newer Basenji models and Borzoi use."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    # x (1 + tanh u) / 2 = x / (1 + exp(-2u))
    divisor = (x * x).mul_(0.044715).add_(1).mul_(x).mul_(-math.sqrt(8 / math.pi))
    return torch.div(x, one_plus_exp_(divisor), out=divisor)


GELUS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": gelu, "tanh": gelu_tanh}
"""Approximations of GELU by name."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {**GELUS, "relu": torch.relu}
"""Activations by name; GELU by its approximation."""


def one_plus_exp_(x: Tensor) -> Tensor:
    """``1 + exp(x)`` in the memory of ``x``.

    What predictions divide by where others would call ``sigmoid`` or ``silu``: on a CPU those give the last
    digit otherwise for a few elements at the end of each thread's share, so that it would depend on the
    number of threads. Where it overflows (in half precision beyond 11) the quotient is 0, as it should be.
    """
    return x.exp_().add_(1)


def softplus_(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, to be used in place of ``x``, which may be overwritten.

    On a CPU, where no gradient is wanted, the same for any number of threads.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return F.softplus(x)
    rest = x.abs().neg_().exp_().log1p_()
    return x.relu_().add_(rest)


def exp_linear_(x: Tensor) -> Tensor:
    """``x + 1`` above 0 and ``exp(x)`` below, to be used in place of ``x``, which may be overwritten."""
    below = x.clamp(max=0).exp()
    return x.relu() + below if torch.is_grad_enabled() else x.relu_().add_(below)


LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": softplus_,
    "exp_linear": exp_linear_,
    "exp": torch.exp,
    "linear": lambda x: x,
}
"""What makes predictions of a head's linear outputs, by name; they may overwrite their argument.

Of ``linear`` alone predictions may be negative.
"""


def exponential_linspace_int(start: int, end: int, count: int, divisible_by: int) -> list[int]:
    """``count`` widths from ``start`` to ``end`` in equal ratios, rounded to multiples (Enformer's tower)."""
    if count == 1:
        return [end]
    base = math.exp(math.log(end / start) / (count - 1))
    # round() is half-to-even, as numpy's in the published code
    return [round(start * base**i / divisible_by) * divisible_by for i in range(count)]


class Convolution(nn.Conv1d):
    """Convolution with SAME padding along the length: (B, L, C_in) -> (B, L, C_out).

    ``weight`` is (C_out, C_in, kernel). An even kernel sees one position more to the right than to the
    left, as TensorFlow has it; only odd kernels can be dilated.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1, bias: bool = True
    ) -> None:
        if kernel % 2 == 0 and dilation > 1:
            raise ValueError(f"a kernel of {kernel} cannot be dilated; it must be odd")
        super().__init__(in_channels, out_channels, kernel, dilation=dilation, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size[0] == 1:
            return F.linear(x, self.weight[..., 0], self.bias)
        dilation = self.dilation[0]
        if dilation > 1 and not torch.is_grad_enabled() and x.device.type == "cpu":
            return self._by_phases(x, dilation)
        return self._convolve(x, dilation)

    def _by_phases(self, x: Tensor, dilation: int) -> Tensor:
        """Every ``dilation``-th position by itself, for which the convolution is an ordinary one.

        On a CPU the kernels of dilated convolutions add in an order that depends on the number of threads.
        """
        length = x.shape[1]
        steps = -(-length // dilation)
        padded = F.pad(x, (0, 0, 0, steps * dilation - length))
        phases = padded.unflatten(1, (steps, dilation)).transpose(1, 2).flatten(0, 1)
        out = self._convolve(phases, 1).unflatten(0, (-1, dilation))
        return out.transpose(1, 2).flatten(1, 2)[:, :length]

    def _convolve(self, x: Tensor, dilation: int) -> Tensor:
        # as an image of height 1 whose channels are last in memory: no copy, and the fastest kernels
        kernel = self.kernel_size[0]
        padding = kernel // 2 * dilation
        if kernel % 2 == 0:
            # A longer output with its first position cut off would depend on the number of threads.
            x, padding = F.pad(x, (0, 0, padding - 1, padding)), 0
        image = x.transpose(1, 2).unsqueeze(2)
        out = F.conv2d(
            image, self.weight.unsqueeze(2), self.bias, padding=(0, padding), dilation=(1, dilation)
        )
        return out.squeeze(2).transpose(1, 2)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization over all but the last axis: (B, L, C) -> (B, L, C).

    In training the mean and variance are those of ``x``, unless ``statistics`` are set: (C,) each, those of
    a longer sequence of which ``x`` is a piece. Then running statistics stay as they are.
    """

    statistics: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.statistics is not None:
            mean, variance = self.statistics
            scale = self.weight * torch.rsqrt(variance + self.eps)
            return torch.addcmul(self.bias, x.to(scale.dtype) - mean, scale).to(x.dtype)
        return super().forward(x.flatten(0, 1)).view_as(x)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What evaluation mode multiplies by and adds: (C,) each."""
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def normalized_gelu(x: Tensor, norm: BatchNorm, form: str = "sigmoid") -> Tensor:
    """``gelu(norm(x))``, or another of :data:`GELUS`.

    Where no gradient is wanted, in one new tensor and with fewer passes over memory.

    Half precision is computed in the precision of the norm, and rounded once.
    """
    if norm.training or torch.is_grad_enabled():
        return GELUS[form](norm(x))
    scale, shift = norm.scale_and_shift()
    normalized = torch.addcmul(shift, x, scale)
    if form != "sigmoid":
        return GELUS[form](normalized).to(x.dtype)
    if x.device.type == "cpu":
        normalized.div_(one_plus_exp_(normalized * -GELU_SLOPE))
    else:
        F.silu(normalized.mul_(GELU_SLOPE), inplace=True).div_(GELU_SLOPE)
    return normalized.to(x.dtype)


@contextmanager
def precisely(x: Tensor) -> Iterator[Tensor]:
    """Compute in float32 or more, autocast or not: gives ``x`` in that precision."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    if not torch.amp.is_autocast_available(x.device.type):
        yield exact
        return
    with torch.autocast(x.device.type, enabled=False):
        yield exact


def by_query_blocks(function: Callable[[int, int], Tensor], first: int, last: int) -> list[Tensor]:
    """``function`` of all intervals of at most ``QUERY_BLOCK`` bins from ``first`` to ``last``.

    What it computes inside is never there for more than one interval; in training it is computed again.
    """
    found = []
    for start in range(first, last, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, last)
        if torch.is_grad_enabled() and last - first > QUERY_BLOCK:
            found.append(checkpoint(function, start, end, use_reentrant=False, preserve_rng_state=False))
        else:
            found.append(function(start, end))
    return found


def add_residual(x: Tensor, branch: Tensor) -> Tensor:
    """``x + branch``, in the branch's memory where no gradient is wanted."""
    if torch.is_grad_enabled() or branch.dtype != x.dtype:
        return x + branch
    return branch.add_(x)


class SoftmaxPool(nn.Module):
    """Pool pairs of positions with learned per-channel softmax weights: (B, L, C) -> (B, L / 2, C).

    Of a pair (x0, x1) with logits W x0, W x1 the softmax-weighted sum equals
    ``x1 + sigmoid(W (x0 - x1)) * (x0 - x1)``, which takes half the work. ``weight`` (out, in)
    starts at twice the identity, as published.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # torch.eye on the meta device, where checkpoints are opened, would import the compiler: seconds.
        self.weight = nn.Parameter(torch.zeros(channels, channels).fill_diagonal_(2.0))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x[:, 0::2], x[:, 1::2]
        difference = first - second
        logits = F.linear(difference, self.weight)
        if torch.is_grad_enabled() or logits.dtype != x.dtype or x.device.type != "cpu":
            return second + torch.sigmoid(logits) * difference
        return difference.div_(one_plus_exp_(logits.neg_())).add_(second)


class MaxPool(nn.Module):
    """The largest of each ``width`` positions, two by default: (B, L, C) -> (B, L / width, C)."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        if self.width == 2:
            return torch.maximum(x[:, 0::2], x[:, 1::2])
        return x.unflatten(1, (-1, self.width)).amax(2)


class ConvBlock(nn.Module):
    """BatchNorm, GELU, convolution with SAME padding: (B, L, C_in) -> (B, L, C_out)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        dilation: int = 1,
        *,
        epsilon: float = 1e-5,
        form: str = "sigmoid",
    ) -> None:
        super().__init__()
        self.norm = BatchNorm(in_channels, eps=epsilon)
        self.conv = Convolution(in_channels, out_channels, kernel, dilation)
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(normalized_gelu(x, self.norm, self.form))


def pooling(kind: str, channels: int) -> nn.Module:
    """Pooling by two: Enformer's learned ``softmax`` or ``max``."""
    return SoftmaxPool(channels) if kind == "softmax" else MaxPool()


def truncated_normal_(weight: Tensor, std: float) -> None:
    """Fill with a normal distribution cut at two ``std`` (TensorFlow's truncated_normal)."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def init_sonnet_(layer: nn.Linear | nn.Conv1d) -> None:
    """Sonnet's default: truncated normal of std ``1 / sqrt(fan_in)``, zero bias."""
    truncated_normal_(layer.weight, 1 / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def init_variance_scaling_(weight: Tensor, fan_in: int, scale: float = 2.0) -> None:
    """Sonnet's VarianceScaling(scale, fan_in, truncated normal), with its correction for the cut tails."""
    truncated_normal_(weight, math.sqrt(scale / fan_in) / 0.87962566103423978)
