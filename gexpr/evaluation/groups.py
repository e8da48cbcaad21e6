"""Tracks taken together by assay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gexpr.evaluation.bins import Metric
from gexpr.results import Track

ALL = "all"
"""Name of the group of all tracks."""
UNNAMED = "none"
"""Name of the group of tracks without an assay."""


class Group(NamedTuple):
    """One row of groups.tsv: a statistic over the tracks of one assay.

    Attributes:
        source, split, level, transform, statistic: as of :class:`~gexpr.evaluation.bins.Metric`.
        assay: as in the track table; ``all`` are the tracks of all assays, ``none`` those without one.
        tracks: how many have a value, that is, are not constant.
        mean, median, minimum, maximum: over these tracks; NaN where there is none.
    """

    source: str
    split: str
    level: str
    assay: str
    transform: str
    statistic: str
    tracks: int
    mean: float
    median: float
    minimum: float
    maximum: float


def assays_of(tracks: Iterable[Track]) -> dict[str, list[int]]:
    """The places of the tracks of each assay, assays in the order of their first tracks."""
    places: dict[str, list[int]] = {}
    for place, track in enumerate(tracks):
        places.setdefault(track.assay or UNNAMED, []).append(place)
    return places


def groups_of(metrics: Sequence[Metric], tracks: Sequence[Track]) -> list[Group]:
    """The statistics over bins by assay, and of all tracks where there is more than one assay.

    Args:
        metrics: rows of which those of a track's bins count.
        tracks: which the rows name by their ids.
    """
    assays = {track.id: track.assay or UNNAMED for track in tracks}
    several = len(set(assays.values())) > 1
    collected: dict[tuple[str, str, str, str, str], dict[str, list[float]]] = {}
    for row in metrics:
        if row.level.startswith("bin"):
            key = row.source, row.split, row.level, row.transform, row.statistic
            groups = collected.setdefault(key, {})
            for assay in (assays.get(row.name, UNNAMED), *([ALL] if several else [])):
                groups.setdefault(assay, []).append(row.value)
    result = []
    for (source, split, level, transform, statistic), groups in collected.items():
        # All tracks come last.
        for assay in sorted(groups, key=lambda name: name == ALL):
            values = np.array(groups[assay])
            values = values[~np.isnan(values)]
            summary = [float("nan")] * 4
            if len(values):
                summary = [float(take(values)) for take in (np.mean, np.median, np.min, np.max)]
            result.append(Group(source, split, level, assay, transform, statistic, len(values), *summary))
    return result
