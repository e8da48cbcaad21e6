"""Undo what preparing did to the targets, so that sums over genes are sums of counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.datasets import PreparedDataset


class CountScale(NamedTuple):
    """How one track's targets were made from its counts, as far as it can be undone.

    Attributes:
        soft_limit: limit of the soft clip, or None.
        rooted: whether bins are ``sqrt(1 + sum) - 1``.
        scale: multiplier of the counts before pooling.
    """

    soft_limit: float | None = None
    rooted: bool = False
    scale: float = 1.0

    def restore(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Counts (any shape) of target values: inverse soft clip, inverse root, inverse scale.

        A hard clip cannot be undone, and means and maxima of a bin stay what they are.
        """
        counts = np.asarray(values, dtype=np.float64)
        if self.soft_limit is not None:
            root = counts - self.soft_limit + 1.0
            counts = np.where(
                counts > self.soft_limit, np.square(np.maximum(root, 1.0)) - 1.0 + self.soft_limit, counts
            )
        if self.rooted:
            counts = np.square(np.maximum(counts, 0.0) + 1.0) - 1.0
        return counts / self.scale


def count_scales(dataset: PreparedDataset) -> list[CountScale]:
    """The scale of each track of a dataset, from what ``gexpr prepare`` recorded in it."""
    recorded = dataset.attributes.get("track_settings", {})
    scales = []
    for track in dataset.tracks:
        settings = recorded.get(track.id, {})
        limit = settings.get("clip_soft")
        scales.append(
            CountScale(
                None if limit is None else float(limit), settings.get("sum_stat") == "sum_sqrt", track.scale
            )
        )
    return scales


def restore_counts(values: NDArray[np.floating], scales: list[CountScale]) -> NDArray[np.float64]:
    """(bins, tracks) target values as counts, each track by its own scale."""
    counts = [scale.restore(values[:, i]) for i, scale in enumerate(scales)]
    return np.stack(counts, axis=1)
