"""Conditions: the tracks of one experiment, of one or both strands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.results import Track

_SEPARATORS = " \t_.,:;()[]/|+-"


class Condition(NamedTuple):
    """One experiment: ``plus`` and ``minus`` are columns of its tracks; the same column when unstranded."""

    name: str
    plus: int
    minus: int

    @property
    def stranded(self) -> bool:
        """Whether the strands have tracks of their own."""
        return self.plus != self.minus


def conditions_of(tracks: Sequence[Track]) -> list[Condition]:
    """Group tracks into conditions, in the order of their first tracks.

    ``plus`` and ``minus`` count positions in ``tracks``, while ``strand_pair`` refers to
    ``Track.index``. A track without a partner among ``tracks`` is a condition of its own. A pair
    is named by what its labels begin with in common, or by its cell type, or by its first id.
    """
    position = {track.index: i for i, track in enumerate(tracks)}
    groups: list[tuple[str, int, int]] = []
    used: set[int] = set()
    for i, track in enumerate(tracks):
        if i in used:
            continue
        partner = position.get(track.strand_pair, i)
        used |= {i, partner}
        plus, minus = (partner, i) if track.strand == "-" else (i, partner)
        groups.append((_name(track, tracks[partner]), plus, minus))
    names = [name for name, _, _ in groups]
    return [
        Condition(name if names.count(name) == 1 else tracks[plus].id, plus, minus)
        for name, plus, minus in groups
    ]


def _name(track: Track, partner: Track) -> str:
    if track.index == partner.index:
        return track.label or track.id
    if track.label == partner.label:
        return track.label or track.id
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(track.label, partner.label, strict=False))
    common = "".join(letter for letter, _ in pairs)
    return common.rstrip(_SEPARATORS) or track.cell_type or track.id


def gene_columns(condition: Condition, minus: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(genes,) column to read for each gene; ``minus`` (genes,) says which lie on the - strand."""
    return np.where(minus, condition.minus, condition.plus)


def condition_values(values: NDArray[np.floating], conditions: Sequence[Condition]) -> list[NDArray]:
    """For each condition the (bins, 1 or 2) columns of ``values`` (bins, tracks) that it owns."""
    return [values[:, sorted({c.plus, c.minus})] for c in conditions]
