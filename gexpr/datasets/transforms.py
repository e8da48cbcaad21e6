"""From a value per base to a training target per bin: scale, pool, then clip."""

from __future__ import annotations

import numpy as np


def pool(values: np.ndarray, bin_size: int, sum_stat: str) -> np.ndarray:
    """Pool bases into bins.

    Args:
        values: (bases,); bases after the last whole bin are left out.
        sum_stat: ``sum``, ``mean``, ``max``, or ``sum_sqrt``: sqrt(1 + sum) - 1 (Borzoi's kind of
            square-root squashing).

    Returns:
        float64 (bases // bin_size,).
    """
    bins = len(values) // bin_size
    grid = np.asarray(values[: bins * bin_size], dtype=np.float64).reshape(bins, bin_size)
    if sum_stat == "sum":
        return grid.sum(axis=1)
    if sum_stat == "mean":
        return grid.mean(axis=1)
    if sum_stat == "max":
        return grid.max(axis=1)
    if sum_stat == "sum_sqrt":
        return np.sqrt(1.0 + grid.sum(axis=1)) - 1.0
    raise ValueError(f"unknown sum_stat {sum_stat!r}")


def soft_clip(values: np.ndarray, limit: float) -> np.ndarray:
    """``limit - 1 + sqrt(x - limit + 1)`` where x > limit, x elsewhere (Basenji's ``clip_soft``).

    Continuous at the limit, with a slope of 1/2 just above it.
    """
    excess = np.maximum(values - limit, 0.0)
    return np.where(values > limit, limit - 1.0 + np.sqrt(excess + 1.0), values)


def target(
    values: np.ndarray,
    bin_size: int,
    scale: float = 1.0,
    sum_stat: str = "sum",
    clip_soft: float | None = None,
    clip: float | None = None,
) -> np.ndarray:
    """Scale, pool, soft clip, hard clip, in this order: (bases,) -> float32 (bins,).

    The limits are therefore in units of the pooled, scaled value.
    """
    pooled = pool(values * scale, bin_size, sum_stat)
    if clip_soft is not None:
        pooled = soft_clip(pooled, clip_soft)
    if clip is not None:
        pooled = np.minimum(pooled, clip)
    return pooled.astype(np.float32)
