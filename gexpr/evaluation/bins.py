"""Statistics over bins and wider bins, raw and log1p, track by track, collected block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.evaluation.metrics import Moments, pool
from gexpr.results import Track


class Metric(NamedTuple):
    """One row of metrics.tsv.

    Attributes:
        source: ``model``, ``ridge`` or ``replicates``.
        split: ``train``, ``valid``, ``test``, or as the dataset calls it.
        level: ``bin``, ``bin128`` (bins pooled to 128 bp), ``gene`` or ``difference``.
        name: track id (bins), condition (genes) or ``B - A`` (differences).
        transform: ``raw`` or ``log1p``; a difference is one of log1p values.
        statistic: ``pearson`` or ``r2`` (coefficient of determination).
        value: the statistic; NaN where it is undefined.
        n: bins or genes it was computed over.
    """

    source: str
    split: str
    level: str
    name: str
    transform: str
    statistic: str
    value: float
    n: int


def _log1p(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(np.log1p(np.maximum(values, 0.0)))


_TRANSFORMS: dict[str, Callable[[NDArray[np.floating]], NDArray[np.floating]]] = {
    "raw": lambda values: values,
    "log1p": _log1p,
}


class BinMetrics:
    """Pearson's r and R² of every track over bins, and over bins pooled to ``pool_width``.

    Args:
        tracks: the columns of the values.
        bin_size: bases of a bin.
        pool_width: bases of the wider bins, or None.

    Raises:
        ConfigError: ``pool_width`` is no multiple of the bin size.
    """

    def __init__(self, tracks: Sequence[Track], bin_size: int, pool_width: int | None) -> None:
        self.tracks = list(tracks)
        self._factors = {"bin": 1}
        factor = _pool_factor(pool_width, bin_size)
        if factor > 1:
            self._factors[f"bin{pool_width}"] = factor
        self._moments = {
            level: {transform: Moments(len(self.tracks)) for transform in _TRANSFORMS}
            for level in self._factors
        }

    def add(
        self, measured: NDArray[np.floating], predicted: NDArray[np.floating], usable: NDArray[np.bool_]
    ) -> None:
        """Add neighboring bins: values (bins, tracks), of which those count that are ``usable`` (bins,).

        Wider bins are counted from the first one on; one counts when all its bins are usable.
        """
        for level, factor in self._factors.items():
            if factor == 1:
                pair = measured[usable], predicted[usable]
            else:
                wide, also = (pool(each, usable, factor) for each in (measured, predicted))
                pair = wide.values[wide.valid], also.values[wide.valid]
            for transform, change in _TRANSFORMS.items():
                self._moments[level][transform].update(*map(change, pair))

    def metrics(self, source: str, split: str) -> list[Metric]:
        """One row a level, transform, statistic and track."""
        rows = []
        for level, by_transform in self._moments.items():
            for transform, moments in by_transform.items():
                for statistic, numbers in (("pearson", moments.pearson()), ("r2", moments.r_squared())):
                    for track, number in zip(self.tracks, numbers, strict=True):
                        key = source, split, level, track.id, transform, statistic
                        rows.append(Metric(*key, float(number), moments.n))
        return rows


def _pool_factor(width: int | None, bin_size: int) -> int:
    if width is None:
        return 1
    if width < bin_size or width % bin_size:
        raise ConfigError(
            f"bins of {bin_size} bp cannot be pooled to {width} bp; take a multiple of {bin_size}, or 0"
        )
    return width // bin_size


class Density:
    """Two-dimensional histogram of log10(1 + measured) and log10(1 + predicted), filled block by block.

    Attributes:
        counts: int64 (CELLS, CELLS), measured along the first axis; values above the range count
            in the last cell.
    """

    CELLS = 100
    LIMIT = 5.0

    def __init__(self) -> None:
        self.counts = np.zeros((self.CELLS, self.CELLS), dtype=np.int64)

    def update(self, measured: NDArray[np.floating], predicted: NDArray[np.floating]) -> None:
        """Add values, arrays of one shape."""
        cells = self._cell(measured) * self.CELLS + self._cell(predicted)
        self.counts += np.bincount(cells, minlength=self.CELLS**2).reshape(self.counts.shape)

    def _cell(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        scaled = _log1p(values.ravel()) * (self.CELLS / (self.LIMIT * math.log(10.0)))
        return np.minimum(scaled.astype(np.int64), self.CELLS - 1)

    @property
    def edges(self) -> NDArray[np.float64]:
        """(CELLS + 1,) edges of the cells, in log10(1 + value)."""
        return np.linspace(0.0, self.LIMIT, self.CELLS + 1)
