"""Context by sums with exponential weights: nothing is learned of what is far away but how much it counts.

Beside the embedding h_j of every bin lie, for every decay a (per bin), the sums

    c_j = sum_t exp(-a |j - t|) h_t

over all bins t of the window (equation 3). They are computed in time and memory that grow linearly with the
window: matrix products within chunks of bins, and what a chunk hands on to the next ones in either direction.

Source: Angus and Eyuboglu (2019), section 2.2, after ExPecto; seyuboglu/genome-attention, basenji/layers.py.
The code differs from the text, which is followed by default: a bin does not weight itself (``own_bin``
false), and where decays are learned (``learned``) weights are ``softmax_t(exp(-a |j - t|))`` (``weights``
``softmax``), nearly the same for all bins. Their time grows with the square of the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.base import check_choice, check_flag, check_number
from gexpr.models.convolutions import ConvolutionConfig, ConvolutionModel
from gexpr.models.layers import by_query_blocks, precisely

CHUNK = 32
"""Bins of a chunk of :func:`decayed_sums`."""

MAX_DECAY = 1000.0
"""Per bin; far less leaves nothing of the next bin, more would overflow."""

WEIGHTS = ("sum", "softmax")


@dataclass(frozen=True, kw_only=True)
class ExpDecayConfig(ConvolutionConfig):
    """Settings of :class:`ExpDecay`.

    Args:
        decays: of the exponentials, per bin; where they are learned, what they start as.
        learned: whether they are learned. They are learned as their logarithms and so stay positive.
        own_bin: whether a bin is part of its own context; the published code leaves it out.
        weights: ``sum`` for the exponentials themselves, or ``softmax`` for the softmax of
            them over all bins, as in the published code where decays are learned.
    """

    decays: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    learned: bool = False
    own_bin: bool = True
    weights: str = "sum"

    def __post_init__(self) -> None:
        if isinstance(self.decays, str) or not isinstance(self.decays, Sequence) or not self.decays:
            raise ConfigError(f"decays is {self.decays!r}; it must be a list of numbers above 0")
        for decay in self.decays:
            check_number("an entry of decays", decay, above=0)
            if decay > MAX_DECAY:
                raise ConfigError(f"an entry of decays is {decay!r}; it must be at most {MAX_DECAY:g}")
        object.__setattr__(self, "decays", tuple(float(decay) for decay in self.decays))
        check_flag("learned", self.learned)
        check_flag("own_bin", self.own_bin)
        check_choice("weights", self.weights, WEIGHTS)
        super().__post_init__()


class ExponentialContext(nn.Module):
    """Sums of bins with exponential weights: (B, T, C) -> (B, K, T, C), one for each of K decays."""

    def __init__(self, config: ExpDecayConfig) -> None:
        super().__init__()
        self.config = config
        if config.learned:
            self.log_decays = nn.Parameter(torch.tensor([math.log(decay) for decay in config.decays]))

    def forward(self, x: Tensor) -> Tensor:
        with precisely(x) as exact:
            if self.config.learned:
                decays = self.log_decays.to(exact.dtype).exp()
            else:
                decays = exact.new_tensor(self.config.decays)
            if self.config.weights == "softmax":
                found = softmax_sums(exact, decays, self.config.own_bin)
            else:
                found = decayed_sums(exact, decays, self.config.own_bin)
        return found.to(x.dtype)


class ExpDecay(ConvolutionModel):
    """Convolutions and exponentially weighted sums: (B, L, 4) -> (B, target_length, tracks)."""

    config_class = ExpDecayConfig
    config: ExpDecayConfig

    def __init__(self, config: ExpDecayConfig) -> None:
        super().__init__(config)
        self.context = ExponentialContext(config)
        self.finish_layers(config.channels[-1] * (1 + len(config.decays)))

    @property
    def context_layers(self) -> list[nn.Module]:
        return [self.context]

    def add_context(self, tokens: Tensor, first: int, last: int) -> Tensor:
        contexts = self.context(tokens)[:, :, first:last]
        return torch.cat([tokens[:, first:last], *contexts.unbind(1)], dim=-1)


def decayed_sums(x: Tensor, decays: Tensor, own_bin: bool = True) -> Tensor:
    """``sum_t exp(-a |j - t|) x_t`` for every decay a: (B, T, C) and (K,) -> (B, K, T, C).

    Args:
        x: what is summed.
        decays: at least 0, of the dtype of ``x``.
        own_bin: whether t = j is part of the sum.
    """
    batch, bins, channels = x.shape
    count = -(-bins // CHUNK)
    chunks = F.pad(x, (0, 0, 0, count * CHUNK - bins)).view(batch, count, CHUNK, channels)
    steps = torch.arange(CHUNK, device=x.device)
    distances = (steps[:, None] - steps).abs()
    within = torch.exp(-decays[:, None, None] * distances)  # (K, j, t)
    if not own_bin:
        within = within * (distances > 0)
    # Two rows more: a chunk's sums as the chunks after it and those before it see them.
    after, before = (torch.exp(-decays[:, None] * each) for each in (CHUNK - 1 - steps, steps))
    rows = torch.cat([within, after[:, None], before[:, None]], dim=1).flatten(0, 1)
    sums = torch.matmul(rows, chunks).unflatten(2, (len(decays), CHUNK + 2))  # (B, chunks, K, j, C)
    step = torch.exp(-decays * CHUNK)[:, None]
    left = _carried(sums[..., CHUNK, :], step, range(count))
    right = _carried(sums[..., CHUNK + 1, :], step, range(count - 1, -1, -1))
    from_left = torch.exp(-decays[:, None] * (steps + 1))[..., None]
    from_right = torch.exp(-decays[:, None] * (CHUNK - steps))[..., None]
    total = sums[..., :CHUNK, :] + from_left * left[:, :, :, None] + from_right * right[:, :, :, None]
    return total.transpose(1, 2).flatten(2, 3)[:, :, :bins]


def _carried(ends: Tensor, step: Tensor, order: range) -> Tensor:
    """What every chunk receives of those before it in ``order``: (B, chunks, K, C) -> (B, chunks, K, C)."""
    carry = torch.zeros_like(ends[:, 0])
    found = [carry] * len(order)
    for number in order:
        found[number] = carry
        carry = carry * step + ends[:, number]
    return torch.stack(found, dim=1)


def softmax_sums(x: Tensor, decays: Tensor, own_bin: bool = True) -> Tensor:
    """``sum_t softmax_t(exp(-a |j - t|)) x_t`` for every decay a: (B, T, C) and (K,) -> (B, K, T, C).

    As in the published code, what ``own_bin`` false leaves out has 0 in place of its exponential, and so the
    weight of a bin infinitely far away.
    """
    places = torch.arange(x.shape[1], device=x.device)

    def block(first: int, last: int) -> Tensor:
        distances = (places[first:last, None] - places).abs()
        exponentials = torch.exp(-decays[:, None, None] * distances)
        if not own_bin:
            exponentials = exponentials * (distances > 0)
        weights = exponentials.softmax(-1)
        return torch.matmul(weights.flatten(0, 1), x).unflatten(1, (len(decays), last - first))

    return torch.cat(by_query_blocks(block, 0, x.shape[1]), dim=2)
