"""Which column of a dataset is which output of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from gexpr.errors import ConfigError
from gexpr.models.base import SequenceModel
from gexpr.results import Track


class Measured(Protocol):
    """What has measured tracks: a dataset of windows, or a table of sequences."""

    path: Path
    tracks: list[Track]

    @property
    def track_count(self) -> int:
        """Number of tracks."""
        ...


class Matched(NamedTuple):
    """Tracks that a dataset and a model have in common.

    Attributes:
        tracks: in the order of the dataset.
        own: their columns in the dataset's targets.
        theirs: their columns in the predictions of the model's first head.
        head: all tracks of that head.
        notes: sentences about tracks without a counterpart.
    """

    tracks: list[Track]
    own: list[int]
    theirs: list[int]
    head: list[Track]
    notes: list[str]


def match(dataset: Measured, model: SequenceModel) -> Matched:
    """Match a dataset's tracks with those of a model's first head: by id, by order where one has no names.

    Raises:
        ConfigError: no track in common, an id that occurs twice, or other numbers of tracks where one
            side does not name them.
    """
    head, count = next(iter(model.config.heads.items()))
    own, theirs = dataset.tracks, model.tracks[:count]
    if not own or not theirs:
        if dataset.track_count != count:
            raise ConfigError(
                f"the model's head {head!r} has {count:,} tracks and {dataset.path} has "
                f"{dataset.track_count:,}; without names on both sides only equally many can be compared"
            )
        unnamed = [Track(i, str(i), f"track {i}", strand_pair=i) for i in range(count)]
        own = theirs = own or theirs or unnamed
    columns = common_tracks(own, theirs, str(dataset.path), "the model")
    notes = [
        f"{len(tracks) - len(columns[0]):,} of the {len(tracks):,} tracks of {name} have no counterpart and "
        "were left out"
        for tracks, name in ((own, dataset.path), (theirs, "the model"))
        if len(tracks) > len(columns[0])
    ]
    return Matched([own[i] for i in columns[0]], *columns, list(theirs), notes)


def common_tracks(
    own: Sequence[Track], others: Sequence[Track], name: str, other_name: str
) -> tuple[list[int], list[int]]:
    """Columns of the tracks with the same ids in ``own`` and in ``others``, in the order of ``own``.

    Raises:
        ConfigError: none in common, or an id that occurs twice, unless both have the same ids in order.
    """
    ids, other_ids = ([track.id for track in tracks] for tracks in (own, others))
    if ids == other_ids:
        return list(range(len(ids))), list(range(len(ids)))
    position = {each: i for i, each in enumerate(other_ids)}
    pairs = [(i, position[each]) for i, each in enumerate(ids) if each in position]
    if not pairs:
        shown = [", ".join(names[:6]) or "none" for names in (other_ids, ids)]
        raise ConfigError(
            f"{other_name} and {name} have no track id in common ({len(others):,} and {len(own):,} tracks; "
            f"ids: {shown[0]} and {shown[1]})"
        )
    for names, where in ((ids, name), (other_ids, other_name)):
        twice = {each for each in names if names.count(each) > 1} if len(set(names)) < len(names) else set()
        if twice:
            raise ConfigError(f"{where} has the track id {min(twice)!r} twice, so tracks cannot be matched")
    return [i for i, _ in pairs], [j for _, j in pairs]
