"""Scores ranked among those of a background: signed quantiles, and a summary of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gexpr import checkpoints
from gexpr.errors import ConfigError
from gexpr.results import Track
from gexpr.scoring.background import QUANTILE, QuantileTable, signed_quantiles
from gexpr.writers.background import read_background

CONDITIONS = (
    *("checkpoint_sha256", "settings_sha256", "pseudocount", "average", "aggregate", "aggregate_sha256"),
    *("merge_strands", "mask", "max_offset", "reverse_complement", "shifts", "unsquash"),
)
"""Attributes in which a background and what is ranked by it have to agree."""


OWN = "background.h5"
"""What a checkpoint's own background is called in its folder."""


def find_background(name: str, members: Sequence[str]) -> str:
    """The path of a background.

    Args:
        name: a path, or ``auto`` for the one in the checkpoint's folder.
        members: name or folder of the checkpoint, or of each member of an ensemble.

    Raises:
        ConfigError: ``auto``, and the checkpoint has none, or there are several.
    """
    if name != "auto":
        return name
    checkpoint, *others = members
    if others:
        raise ConfigError(
            f"the background of one checkpoint does not fit an ensemble of {len(members)}; make one with "
            "'gexpr background' and these checkpoints"
        )
    path = checkpoints.resolve(checkpoint) / OWN
    if not path.is_file():
        raise ConfigError(
            f"the checkpoint {checkpoint} has no background of its own ({OWN} in its folder); make one with "
            "'gexpr background'"
        )
    return str(path)


class Ranker:
    """Signed quantiles of scores in a background.

    Args:
        path: the background.
        tracks: the columns of the scores; found in the background by their ids.
        statistics: those of the scores; the background has to hold at least one.
        conditions: how the scores are computed: the attributes :data:`CONDITIONS`.

    Attributes:
        statistics: the statistics that are ranked.
        sha256: of the background.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it is of another checkpoint, other tracks, statistics or options.
    """

    def __init__(
        self, path: str, tracks: Sequence[Track], statistics: Sequence[str], conditions: Mapping[str, Any]
    ) -> None:
        background = read_background(path)
        for name in CONDITIONS:
            theirs, ours = background.attributes.get(name), conditions.get(name)
            if theirs != ours:
                raise ConfigError(
                    f"the background {path} was made with {name} {theirs}, this run has {ours}: "
                    "give the same options, or make a background for these (gexpr background)"
                )
        places = {track: place for place, track in enumerate(background.tracks)}
        missing = [track.id for track in tracks if track.id not in places]
        if missing:
            raise ConfigError(f"the background {path} has no track {missing[0]} ({len(missing):,} missing)")
        columns = [places[track.id] for track in tracks]
        self.statistics = tuple(name for name in statistics if name in background.statistics)
        if not self.statistics:
            raise ConfigError(
                f"the background {path} holds {', '.join(background.statistics)}, none of "
                f"{', '.join(statistics)}"
            )
        self.sha256 = background.sha256
        self._tables: dict[str, QuantileTable] = {}
        for name in self.statistics:
            magnitudes, ranks = background.statistics[name]
            self._tables[name] = QuantileTable(magnitudes[:, columns], ranks, background.variants)

    @property
    def names(self) -> tuple[str, ...]:
        """What the quantiles are called: the statistic's name and ``_quantile``."""
        return tuple(name + QUANTILE for name in self.statistics)

    def __call__(self, scores: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float32]]:
        """Quantiles of a block of scores, by :attr:`names`."""
        return {
            name + QUANTILE: signed_quantiles(scores[name], self._tables[name]) for name in self.statistics
        }


MOST_TOP = 3
"""Tracks that the summary of a row names."""
SUMMARY_COLUMNS = {"max_abs_quantile": "float", "top_tracks": "text"}
"""Extra columns of ranked rows."""
SUMMARY_DEFINITIONS = {
    "max_abs_quantile": "the largest absolute quantile of any track",
    "top_tracks": f"the tracks with the largest absolute quantiles, at most {MOST_TOP}, separated by |",
}


def summary_columns(
    quantiles: NDArray[np.floating], tracks: Sequence[Track]
) -> dict[str, list[float] | list[str]]:
    """The extra columns :data:`SUMMARY_COLUMNS` of a block.

    Args:
        quantiles: (rows, tracks); rows that were not scored are NaN, and get NaN and ``.``.
        tracks: the columns.
    """
    size = np.where(np.isnan(quantiles), -1.0, np.abs(quantiles)).astype(np.float32)
    order = np.argsort(-size, axis=1, kind="stable")[:, :MOST_TOP]
    largest: list[float] = []
    names: list[str] = []
    for row, best in enumerate(order.tolist()):
        found = [column for column in best if size[row, column] >= 0]
        largest.append(float(size[row, found[0]]) if found else float("nan"))
        names.append("|".join(tracks[column].id for column in found) or ".")
    return {"max_abs_quantile": largest, "top_tracks": names}
