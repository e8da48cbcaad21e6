"""What a score is worth beside those of many other variants: signed quantiles of a background.

Source of the idea: AlphaGenome's quantile scores (Avsec et al. 2025), which rank a score among those of
common variants, track by track. Here the magnitude is ranked and the sign kept:
``q = sign(s) * F(|s|)``, where F(x) is the share of background variants whose magnitude is below x, those
equal to x counted half. 0.99 is a gain larger in magnitude than 99 % of the background's effects, in
either direction, -0.99 a loss of that size, 1 or -1 one beyond all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 16_384
"""Order statistics a table keeps of each track: all of them up to this number of variants."""
TOP_POINTS = 1_024
"""Of these, the largest magnitudes that are always kept."""

QUANTILE = "_quantile"
"""What a statistic's name gets to name its quantiles."""


class QuantileTable(NamedTuple):
    """The magnitudes of one statistic in a background.

    Attributes:
        magnitudes: float32 (points, tracks), ascending for every track.
        ranks: int64 (points,): how many of the variants lie before each point; the last is ``variants - 1``.
        variants: how many the background has.
    """

    magnitudes: NDArray[np.float32]
    ranks: NDArray[np.int64]
    variants: int

    @property
    def exact(self) -> bool:
        """Whether every variant is kept; otherwise ranks between points are interpolated."""
        return len(self.ranks) == self.variants


def kept_ranks(count: int) -> NDArray[np.int64]:
    """The ranks that a table of ``count`` variants keeps.

    All, up to :data:`MOST_POINTS`. Of more, the largest :data:`TOP_POINTS` and others at equal steps, so that
    a quantile is wrong by less than ``1 / (MOST_POINTS - TOP_POINTS)``, and not at all among the largest.
    """
    if count <= MOST_POINTS:
        return np.arange(count)
    below = count - TOP_POINTS
    steps = np.linspace(0, below - 1, MOST_POINTS - TOP_POINTS).round().astype(np.int64)
    return np.concatenate([steps, np.arange(below, count)])


def make_table(
    read: Callable[[int, int], NDArray[np.floating]], tracks: int, count: int, columns: int
) -> QuantileTable:
    """Sort the background's scores, a few tracks at a time.

    Args:
        read: ``read(first, last)`` gives the scores of these tracks, (count, last - first), all finite.
        tracks: how many there are.
        count: variants of the background, at least one.
        columns: tracks that are read at once.
    """
    ranks = kept_ranks(count)
    magnitudes = np.empty((len(ranks), tracks), dtype=np.float32)
    for first in range(0, tracks, columns):
        last = min(first + columns, tracks)
        values = np.abs(np.asarray(read(first, last), dtype=np.float32))
        values.sort(axis=0)
        magnitudes[:, first:last] = values[ranks]
    return QuantileTable(magnitudes, ranks, count)


def signed_quantiles(scores: NDArray[np.floating], table: QuantileTable) -> NDArray[np.float32]:
    """Quantiles of scores among a background's magnitudes.

    Args:
        scores: (variants, tracks); NaN stays NaN.
        table: of the same tracks.

    Returns:
        float32 (variants, tracks), from -1 to 1.
    """
    found = np.empty(scores.shape, dtype=np.float32)
    ends = table.ranks + 1
    for column in range(scores.shape[1]):
        points, own = table.magnitudes[:, column], np.asarray(scores[:, column], dtype=np.float32)
        size = np.abs(own)
        low = np.searchsorted(points, size, "left")
        high = np.searchsorted(points, size, "right")
        # Between two points, the ranks between them in proportion; on points, the middle of their ranks.
        before = np.where(low > 0, ends[np.maximum(low - 1, 0)], 0)
        behind = np.where(low < len(points), table.ranks[np.minimum(low, len(points) - 1)], table.variants)
        left = np.where(low > 0, points[np.maximum(low - 1, 0)], 0.0)
        right = np.where(low < len(points), points[np.minimum(low, len(points) - 1)], np.inf)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(np.isfinite(right) & (right > left), (size - left) / (right - left), 0.0)
        between = before + share * (behind - before)
        on_points = (before + ends[np.maximum(high - 1, 0)]) / 2
        rank = np.where(high > low, on_points, between)
        found[:, column] = np.sign(own) * rank / table.variants
    return found
