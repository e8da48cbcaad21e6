"""Correlation and explained variance: on whole arrays, or collected block by block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLAT = 1e-24
"""A variance below this share of the mean square is taken for rounding error of a constant."""

_COLUMNS = 64
"""Columns that are worked on at once, so that a block of them stays in the processor's cache."""


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of two (n,) arrays; NaN when either is constant or n < 2."""
    moments = _moments_of(x, y)
    return float(moments.pearson()[0])


def r_squared(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Coefficient of determination ``1 - sum (m - p)^2 / sum (m - mean m)^2`` of two (n,) arrays.

    Unlike the square of Pearson's r it is negative for predictions that are worse than the
    measured mean. NaN when the measured values are constant or n < 2.
    """
    moments = _moments_of(measured, predicted)
    return float(moments.r_squared()[0])


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks of (n,) values from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation of two (n,) arrays; NaN when either is constant or n < 2."""
    return pearson(ranks(x), ranks(y))


class Moments:
    """What Pearson's r and R² of several columns need, collected block by block in float64.

    Blocks are centered on their own means before they are merged (Chan, Golub and LeVeque 1983),
    so that a large mean costs no accuracy.

    Args:
        columns: number of tracks.

    Attributes:
        n: int, values per column so far.
    """

    def __init__(self, columns: int) -> None:
        self.n = 0
        self._mean = np.zeros((2, columns))
        self._squares = np.zeros((2, columns))
        self._product = np.zeros(columns)
        self._residual = np.zeros(columns)

    def update(self, measured: NDArray[np.floating], predicted: NDArray[np.floating]) -> None:
        """Add rows: both (rows, columns); infinite or missing values are not allowed."""
        if measured.shape != predicted.shape:
            raise ValueError(f"shapes differ: {measured.shape} and {predicted.shape}")
        rows = len(measured)
        if not rows:
            return
        for first in range(0, measured.shape[1], _COLUMNS):
            columns = slice(first, first + _COLUMNS)
            self._update(columns, measured[:, columns], predicted[:, columns])
        self.n += rows

    def _update(
        self, columns: slice, measured: NDArray[np.floating], predicted: NDArray[np.floating]
    ) -> None:
        rows = len(measured)
        block = np.empty((2, *measured.shape))
        block[0], block[1] = measured, predicted
        residual = block[0] - block[1]
        mean = block.mean(axis=1)
        block -= mean[:, None]
        total = self.n + rows
        shift = mean - self._mean[:, columns]
        weight = self.n * rows / total
        self._squares[:, columns] += np.einsum("sij,sij->sj", block, block) + weight * np.square(shift)
        self._product[columns] += np.einsum("ij,ij->j", block[0], block[1]) + weight * shift[0] * shift[1]
        self._residual[columns] += np.einsum("ij,ij->j", residual, residual)
        self._mean[:, columns] += shift * (rows / total)

    def _variation(self, side: int) -> NDArray[np.float64]:
        squares = self._squares[side]
        flat = squares <= FLAT * (squares + self.n * np.square(self._mean[side]))
        return np.where(flat, np.nan, squares)

    def pearson(self) -> NDArray[np.float64]:
        """(columns,) correlations; NaN where a side is constant."""
        return np.clip(self._product / np.sqrt(self._variation(0) * self._variation(1)), -1.0, 1.0)

    def r_squared(self) -> NDArray[np.float64]:
        """(columns,) coefficients of determination; NaN where the measured side is constant."""
        return 1.0 - self._residual / self._variation(0)


def _moments_of(x: ArrayLike, y: ArrayLike) -> Moments:
    moments = Moments(1)
    moments.update(np.asarray(x, dtype=np.float64)[:, None], np.asarray(y, dtype=np.float64)[:, None])
    return moments


class Pooled(NamedTuple):
    """Wider bins: ``values`` (wide bins, tracks) sums, ``valid`` (wide bins,) bool."""

    values: NDArray[np.float64]
    valid: NDArray[np.bool_]


def pool(values: NDArray[np.floating], valid: NDArray[np.bool_], factor: int) -> Pooled:
    """Sum groups of ``factor`` bins, from the contig's first bin on.

    Args:
        values: (bins, tracks).
        valid: (bins,); a wide bin counts when all of its bins do.
        factor: bins a group; an incomplete last group is dropped.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, not {factor}")
    groups = len(values) // factor
    grouped = values[: groups * factor].reshape(groups, factor, values.shape[1])
    whole = valid[: groups * factor].reshape(groups, factor).all(axis=1)
    return Pooled(grouped.sum(axis=1, dtype=np.float64), np.asarray(whole))
