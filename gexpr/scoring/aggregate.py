"""Scores of many tracks as means over the tracks of a cell type or an assay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.results import Track
from gexpr.scoring.definitions import AGGREGATES
from gexpr.scoring.strands import unique_name
from gexpr.scoring.transforms import LOG_UNITS, is_linear

UNNAMED = "none"
"""Name of the group of tracks whose field is empty."""


class Aggregate:
    """Means of scores over groups of tracks; every track counts once, both strands of a pair too.

    Args:
        tracks: the columns of the scores.
        by: ``celltype`` or ``assay``: tracks with the same text in that column are a group. Those without
            one are the group ``none``.
        statistics: canonical names, to refuse means of what has no common unit.
        unsquash: whether squashed tracks were brought back to counts.

    Attributes:
        tracks: the groups, in the order of their first tracks.
        sha256: digest of which columns make which group.

    Raises:
        ConfigError: an unknown ``by``, no track has such a text, or a statistic of a group's tracks
            would be in different units.
    """

    def __init__(
        self, tracks: Sequence[Track], by: str, statistics: Sequence[str] = ("logFC",), unsquash: bool = True
    ) -> None:
        if by not in AGGREGATES:
            raise ConfigError(f"aggregate must be one of {', '.join(AGGREGATES)}, not {by!r}")
        self.by = by
        field = AGGREGATES[by]
        members: dict[str, list[int]] = {}
        for column, track in enumerate(tracks):
            members.setdefault(getattr(track, field), []).append(column)
        if set(members) == {""}:
            raise ConfigError(
                f"--aggregate {by} needs the column {field} of the checkpoint's tracks.tsv, which is empty "
                "for all selected tracks"
            )
        for columns in members.values():
            _check_units([tracks[column] for column in columns], statistics, unsquash)
        what = field.replace("_", " ")
        self.tracks: list[Track] = []
        for name, columns in members.items():
            group = [tracks[column] for column in columns]
            number = f"{len(group):,} track{'s' if len(group) != 1 else ''}"
            self.tracks.append(
                Track(
                    index=len(self.tracks),
                    id=name or unique_name(UNNAMED, members),
                    label=f"{name}: mean of {number}" if name else f"mean of {number} without {what}",
                    assay=_common([track.assay for track in group]),
                    cell_type=_common([track.cell_type for track in group]),
                    strand=_common([track.strand for track in group]) or ".",
                    strand_pair=len(self.tracks),
                    # What was affine has been undone, and the mean's own scale column says 1.
                    transform="linear"
                    if any(map(is_linear, group))
                    else _common([track.transform for track in group]) or "linear",
                )
            )
        text = json.dumps(
            [[track.id, columns] for track, columns in zip(self.tracks, members.values(), strict=True)]
        )
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()
        self._order = np.array([column for columns in members.values() for column in columns])
        self._sizes = np.array([len(columns) for columns in members.values()])
        self._starts = np.cumsum(self._sizes) - self._sizes

    def __call__(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scores (..., tracks) to means (..., groups): sums in float64, rounded once."""
        # Copied in one layout, so that a sum never depends on how many rows are summed at a time.
        values = np.take(scores, self._order, axis=-1).astype(np.float64)
        sums = np.add.reduceat(values, self._starts, axis=-1)
        means: NDArray[np.float32] = (sums / self._sizes).astype(np.float32)
        return means


def _common(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else ""


def _check_units(tracks: Sequence[Track], statistics: Sequence[str], unsquash: bool) -> None:
    for statistic in statistics:
        first = tracks[0]
        for track in tracks[1:]:
            if _unit(track, statistic, unsquash) != _unit(first, statistic, unsquash):
                raise ConfigError(
                    f"a mean of {statistic} over track {first.id!r} ({first.transform}) and track "
                    f"{track.id!r} ({track.transform}) has no meaning: their units differ; "
                    "select one kind with --tracks"
                )


def _unit(track: Track, statistic: str, unsquash: bool) -> str:
    if track.transform.startswith("squashed:") and unsquash:
        return "count"
    if is_linear(track):
        return "linear"
    # A log fold change of counts and a difference of logarithms are both in log2 units.
    return "count" if statistic == "logFC" and track.transform in LOG_UNITS else track.transform
