"""Activations that are computed again in the backward pass instead of being kept: time for memory.

Of every block of a model (``SequenceModel.blocks``) only the input is kept. A block of the trunk that is
longer than ``TILE_POSITIONS`` is moreover computed in tiles, forward and backward, since its inside
alone is several times as large as all that is kept; the batch statistics of its normalizations are
those of the whole sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from gexpr.models.base import BlockPart, LocalBlock, SequenceModel, receptive_field
from gexpr.models.layers import BatchNorm

TILE_POSITIONS = 2**14
"""Positions, of all sequences of a batch together, of a tile of a trunk block."""

Statistics = tuple[Tensor, Tensor]


def checkpoint_activations(model: SequenceModel) -> None:
    """Make training keep the inputs of the model's blocks alone.

    Losses, gradients, random numbers and running statistics are those of the model as it was: to the
    last bit, except where a block is computed in tiles, which adds in another order.
    """
    for block in model.blocks:
        # A partial, unlike a closure, is copied along with the block when the model is copied.
        block.forward = partial(_forward, block)  # type: ignore[method-assign]


def _forward(block: nn.Module, x: Tensor, *others: Any) -> Tensor:
    plain: Callable[..., Tensor] = partial(type(block).forward, block)
    if not (block.training and torch.is_grad_enabled()):
        return plain(x, *others)
    if isinstance(block, LocalBlock) and x.shape[0] * x.shape[1] > 2 * TILE_POSITIONS and not _draws(block):
        parameters = [each for each in block.parameters() if each.requires_grad]
        tiled: Tensor = _Tiled.apply(block, x, *parameters)
        return tiled

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _running_statistics_kept(block)

    result: Tensor = checkpoint(plain, x, *others, use_reentrant=False, context_fn=contexts)
    return result


def _draws(block: nn.Module) -> bool:
    """Whether the block needs random numbers."""
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in block.modules())


@contextmanager
def _running_statistics_kept(block: nn.Module) -> Iterator[None]:
    """Let the normalizations of a block update copies, since they have been updated in the forward pass."""
    norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)


class _Autocast(NamedTuple):
    """The automatic precision of a forward pass, for its backward pass."""

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def now(cls, device: str) -> _Autocast:
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def again(self) -> torch.autocast:
        # Weights cast where no gradient is wanted must not be found by what wants one.
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.enabled, cache_enabled=False)


class _Tiled(torch.autograd.Function):
    """A block of the trunk in tiles; of it only the input and the statistics are kept."""

    @staticmethod
    def forward(ctx: Any, block: LocalBlock, x: Tensor, *parameters: nn.Parameter) -> Tensor:
        ctx.block, ctx.autocast = block, _Autocast.now(x.device.type)
        statistics: list[Statistics | None] = []
        with ctx.autocast.again():
            out = x
            for part in block.parts:
                found = None
                if part.norm is not None and part.norm.training:  # a frozen one keeps its statistics
                    found = _statistics(out)
                    _update_running(part.norm, found, out.shape[0] * out.shape[1])
                out = _run(part, out, found)
                statistics.append(found)
        ctx.normalized = [found is not None for found in statistics]
        flat = [tensor for found in statistics if found is not None for tensor in found]
        ctx.save_for_backward(x, *flat, *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count = 2 * sum(ctx.normalized)
        saved = ctx.saved_tensors
        x, flat, parameters = saved[0], iter(saved[1 : 1 + count]), saved[1 + count :]
        statistics = [(next(flat), next(flat)) if normalized else None for normalized in ctx.normalized]
        sums: list[Tensor | None] = [None] * len(parameters)
        parts = ctx.block.parts
        gradient: Tensor | None = gradients[0]
        with ctx.autocast.again():
            inputs = [x]
            for part, found in zip(parts[:-1], statistics, strict=False):
                inputs.append(_run(part, inputs[-1], found))
            for index in reversed(range(len(parts))):
                assert gradient is not None
                wanted = index > 0 or ctx.needs_input_grad[1]
                gradient = _backward(
                    parts[index], inputs.pop(), statistics[index], gradient, wanted, parameters, sums
                )
        return None, gradient, *sums


class _Tile(NamedTuple):
    """Outputs [start, stop), which are [first, last) of what the inputs [low, high) give."""

    start: int
    stop: int
    low: int
    high: int
    first: int
    last: int


def _tiles(part: BlockPart, x: Tensor) -> Iterator[_Tile]:
    field = receptive_field([part.layer])
    halo, stride = field.halo, field.stride
    total = x.shape[1] // stride
    step = max(TILE_POSITIONS // (x.shape[0] * stride), 4 * halo, 1)
    for start in range(0, total, step):
        stop = min(start + step, total)
        low, high = max(0, start - halo), min(total, stop + halo)
        yield _Tile(start, stop, low * stride, high * stride, start - low, stop - low)


@contextmanager
def _given(part: BlockPart, statistics: Statistics | None) -> Iterator[None]:
    """Let a part normalize with these statistics."""
    if part.norm is None:
        yield
        return
    part.norm.statistics = statistics
    try:
        yield
    finally:
        part.norm.statistics = None


def _run(part: BlockPart, x: Tensor, statistics: Statistics | None) -> Tensor:
    """A part of the whole sequence, tile by tile."""
    out: Tensor | None = None
    # With gradients switched on, what is computed is what the backward pass will compute, bit for bit.
    with _given(part, statistics), torch.enable_grad():
        for tile in _tiles(part, x):
            piece = part.run(x[:, tile.low : tile.high].detach())[:, tile.first : tile.last].detach()
            if out is None:
                length = x.shape[1] // part.layer.stride
                out = piece.new_empty(piece.shape[0], length, piece.shape[2])
            out[:, tile.start : tile.stop] = piece
    assert out is not None
    return out


def _backward(
    part: BlockPart,
    x: Tensor,
    statistics: Statistics | None,
    gradient: Tensor,
    wanted: bool,
    parameters: Sequence[Tensor],
    sums: list[Tensor | None],
) -> Tensor | None:
    """Gradient of a part's input, if ``wanted``; adds those of the parameters to ``sums``."""
    total = torch.zeros_like(x) if wanted else None
    leaves = [] if statistics is None else [each.detach().requires_grad_() for each in statistics]
    moments: list[Tensor | None] = [None for _ in leaves]
    given = (leaves[0], leaves[1]) if leaves else None
    with _given(part, given), torch.enable_grad():
        for tile in _tiles(part, x):
            piece = x[:, tile.low : tile.high].detach().requires_grad_(wanted)
            out = part.run(piece)[:, tile.first : tile.last]
            found = torch.autograd.grad(
                out,
                [*([piece] if wanted else []), *leaves, *parameters],
                gradient[:, tile.start : tile.stop],
                allow_unused=True,
            )
            del out
            if total is not None:
                total[:, tile.low : tile.high] += found[0]
            rest = found[1:] if wanted else found
            _accumulate(moments, rest[: len(leaves)])
            _accumulate(sums, rest[len(leaves) :])
    if total is not None and statistics is not None and moments[0] is not None and moments[1] is not None:
        mean, count = statistics[0], x.shape[0] * x.shape[1]
        constant, slope = moments[0] / count, moments[1] * (2 / count)
        for tile in _tiles(part, x):
            here = slice(tile.low + tile.first * part.layer.stride, tile.low + tile.last * part.layer.stride)
            total[:, here] += torch.addcmul(constant, x[:, here].to(mean.dtype) - mean, slope)
    return total


def _accumulate(sums: list[Tensor | None], found: Sequence[Tensor | None]) -> None:
    for index, each in enumerate(found):
        if each is not None:
            before = sums[index]
            sums[index] = each if before is None else before + each


def _statistics(x: Tensor) -> Statistics:
    """Mean and (biased) variance over all but the last axis, in float32 or more: (C,) each."""
    precision = torch.promote_types(x.dtype, torch.float32)
    count = 0
    mean = deviations = x.new_zeros(x.shape[-1], dtype=torch.float64)
    for piece in x.detach().split(max(TILE_POSITIONS // x.shape[0], 1), dim=1):
        variance, middle = torch.var_mean(piece.to(precision), dim=(0, 1), correction=0)
        more = piece.shape[0] * piece.shape[1]
        difference = middle.double() - mean
        share = more / (count + more)
        mean = mean + difference * share
        deviations = deviations + variance.double() * more + difference.square() * (count * share)
        count += more
    return mean.to(precision), (deviations / count).to(precision)


@torch.no_grad()
def _update_running(norm: BatchNorm, statistics: Statistics, count: int) -> None:
    """What a normalization does to its running statistics in a training step."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    mean, variance = statistics
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
    unbiased = variance * (count / max(count - 1, 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)
