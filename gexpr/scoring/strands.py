"""Strand-paired tracks as one column each: the signal of both strands together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from gexpr.errors import ConfigError
from gexpr.results import Track
from gexpr.scoring.devices import indices

_MARKS = (
    ("+", "-"),
    ("plus", "minus"),
    ("pos", "neg"),
    ("positive", "negative"),
    ("fwd", "rev"),
    ("fw", "rv"),
    ("forward", "reverse"),
    ("f", "r"),
    ("sense", "antisense"),
    ("watson", "crick"),
)
"""How names tell the strands apart."""
_SEPARATORS = " \t_.,:;/|-"


class MergedStrands:
    """Adds the predictions, in natural scale, of tracks that are the two strands of one signal.

    A pair becomes one column, where the first of its strands was chosen; a strand that was chosen
    alone brings its partner. Tracks without a partner stay as they are.

    Args:
        known: all tracks of the model.
        chosen: places of the tracks that are wanted.
        unsquash: whether squashed tracks are brought back to counts before.

    Attributes:
        used: places of the tracks to predict, ascending.
        tracks: the columns. A pair's id and label are those of its tracks without the sign of the strand
            (``x+`` and ``x-``, ``x_plus`` and ``x_minus`` and the like), or both, joined, where they differ
            otherwise or another track has that id. They depend on the table alone, not on what was chosen.
        merged: how many columns are pairs.

    Raises:
        ConfigError: a pair whose predictions are no counts, or not on one scale.
    """

    def __init__(self, known: Sequence[Track], chosen: Iterable[int], unsquash: bool = True) -> None:
        partners = [_partner(known, track) for track in known]
        names = _names(known, partners)
        columns: dict[tuple[int, int], None] = {}
        for place in chosen:
            plus, minus = sorted((place, partners[place]), key=lambda i: (known[i].strand == "-", i))
            columns[plus, minus] = None
        pairs = [pair for pair in columns if pair[0] != pair[1]]
        for plus, minus in pairs:
            _check(known[plus], known[minus], unsquash)
        self.used = sorted({place for pair in columns for place in pair})
        self.merged = len(pairs)
        self.tracks = [
            known[plus] if plus == minus else _merged(known[plus], known[minus], names[plus, minus])
            for plus, minus in columns
        ]
        position = {place: i for i, place in enumerate(self.used)}
        self._first = [position[plus] for plus, _ in columns]
        self._second = [position[minus] for _, minus in pairs]
        self._paired = [i for i, (plus, minus) in enumerate(columns) if plus != minus]

    def __call__(self, predictions: torch.Tensor) -> torch.Tensor:
        """Predictions of ``used`` (..., tracks) in natural scale to those of the columns."""
        device = predictions.device
        columns = predictions.index_select(-1, indices(self._first, device))
        if self._paired:
            second = predictions.index_select(-1, indices(self._second, device))
            columns[..., indices(self._paired, device)] += second
        return columns


def _partner(known: Sequence[Track], track: Track) -> int:
    """The place of the other strand, or the track's own."""
    pair = track.strand_pair
    mutual = 0 <= pair < len(known) and known[pair].strand_pair == track.index
    return pair if mutual else track.index


def _check(plus: Track, minus: Track, unsquash: bool) -> None:
    pair = f"the strands {plus.id!r} and {minus.id!r} cannot be added"
    ways = "leave these tracks out with --tracks, or do without --merge-strands"
    for track in (plus, minus):
        counts = track.transform == "count" or (track.transform.startswith("squashed:") and unsquash)
        if not counts:
            squashed = track.transform.startswith("squashed:")
            reason = "with --no-unsquash it stays squashed" if squashed else "its predictions are no counts"
            raise ConfigError(
                f"{pair}: track {track.id!r} has the transform {track.transform!r}, {reason}; {ways}"
            )
    if (plus.transform, plus.scale) != (minus.transform, minus.scale):
        raise ConfigError(
            f"{pair}: one has the transform {plus.transform!r} and scale {plus.scale:g}, the other "
            f"{minus.transform!r} and {minus.scale:g}; {ways}"
        )


def _merged(plus: Track, minus: Track, id: str) -> Track:
    label = plus.label
    if plus.label != minus.label:
        label = without_strand(plus.label, minus.label) or f"{plus.label} + {minus.label}"
    return plus._replace(
        id=id,
        label=label,
        assay=plus.assay if plus.assay == minus.assay else "",
        cell_type=plus.cell_type if plus.cell_type == minus.cell_type else "",
        strand=".",
        strand_pair=plus.index,
        transform="count",
    )


def _names(known: Sequence[Track], partners: Sequence[int]) -> dict[tuple[int, int], str]:
    """An id for every pair of the table, by (+, -) place; each once, and none that a track has."""
    pairs = [
        tuple(sorted((i, partner), key=lambda place: (known[place].strand == "-", place)))
        for i, partner in enumerate(partners)
        if i < partner
    ]
    wanted = {(a, b): without_strand(known[a].id, known[b].id) for a, b in pairs}
    taken = Counter(name for name in wanted.values() if name is not None)
    taken.update(track.id for track in known)
    names: dict[tuple[int, int], str] = {}
    for (a, b), name in wanted.items():
        if name is None or taken[name] > 1:
            name = unique_name(f"{known[a].id}_{known[b].id}", taken)
            taken[name] += 1
        names[a, b] = name
    return names


def unique_name(name: str, taken: Iterable[str]) -> str:
    """``name``, or ``name_2``, ``name_3``, ... where it is taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def without_strand(plus: str, minus: str) -> str | None:
    """What two names have in common when all that differs is the sign of the strand; None otherwise."""
    for marks in _MARKS:
        for first, second in (marks, marks[::-1]):
            common = _without(plus, first) & _without(minus, second)
            if common:
                return min(common)
    return None


def _without(name: str, mark: str) -> set[str]:
    """``name`` without one of the places where ``mark`` stands as a word."""
    results = set()
    word = rf"(?<![^\W_])[(\[]?{re.escape(mark)}(?:[ _-]?strand)?[)\]]?(?![^\W_])"
    if not mark.isalpha():
        # A sign may follow a word directly.
        word = rf"[(\[]?{re.escape(mark)}(?:[ _-]?strand)?[)\]]?(?![^\W_])"
    for match in re.finditer(word, name, re.IGNORECASE):
        left, right = name[: match.start()].rstrip(_SEPARATORS), name[match.end() :].lstrip(_SEPARATORS)
        between = name[match.start() - 1] if name[: match.start()] != left else "_"
        results.add(left + between + right if left and right else left + right)
    return results - {""}
