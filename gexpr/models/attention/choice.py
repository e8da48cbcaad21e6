"""Which implementation computes attention over a block pattern."""

from __future__ import annotations

FLEX_FROM = 4096  # bins from which FlexAttention's block masks pay on CUDA


def choose(
    device: str, length: int, density: float, relative: bool, dropout: bool, flex_available: bool
) -> str:
    """The implementation that ``attend(implementation="auto")`` takes for a pattern.

    Args:
        device: type of the device, as ``cpu`` or ``cuda``.
        length: bins.
        density: share of the pairs that attend, in [0, 1].
        relative: whether there is a position term.
        dropout: whether softmax weights are dropped.
        flex_available: whether FlexAttention can be compiled.

    Returns:
        ``block_sparse``; ``everything``, PyTorch's fused kernels without a mask; ``dense``, the same with
        one; or ``flex``.
    """
    if relative or dropout:
        return "block_sparse"
    if density == 1:
        return "everything"
    if device != "cuda":
        return "block_sparse"
    if length < FLEX_FROM:
        return "dense"
    return "flex" if flex_available else "block_sparse"
