"""Correlations that are collected batch by batch."""

from __future__ import annotations

import numpy as np


class StreamingPearson:
    """Weighted Pearson correlation of several columns from sums, in float64.

    Each column is first shifted by its first value, which keeps the sums well conditioned.
    """

    def __init__(self, columns: int) -> None:
        self._sums = np.zeros((6, columns))
        self._origin: tuple[np.ndarray, np.ndarray] | None = None

    def update(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Add rows: ``x`` and ``y`` (rows, columns), ``weight`` of the same shape (None for 1)."""
        if not len(x):
            return
        if self._origin is None:
            self._origin = (x[0].astype(np.float64), y[0].astype(np.float64))
        x = x.astype(np.float64) - self._origin[0]
        y = y.astype(np.float64) - self._origin[1]
        w = np.ones_like(x) if weight is None else weight.astype(np.float64)
        for i, value in enumerate((w, w * x, w * y, w * x * x, w * y * y, w * x * y)):
            self._sums[i] += value.sum(axis=0)

    def result(self) -> np.ndarray:
        """float64 (columns,): NaN where a side is constant or nothing was added."""
        n, sx, sy, sxx, syy, sxy = self._sums
        with np.errstate(divide="ignore", invalid="ignore"):
            cxx, cyy, cxy = sxx - sx * sx / n, syy - sy * sy / n, sxy - sx * sy / n
            r = cxy / np.sqrt(cxx * cyy)
            flat = (cxx <= 1e-12 * sxx) | (cyy <= 1e-12 * syy)
        return np.where(flat | ~np.isfinite(r), np.nan, r)
