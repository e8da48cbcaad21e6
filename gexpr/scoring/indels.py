"""Insertions and deletions at several sub-bin offsets of their windows.

Behind an insertion or deletion the sequence moves against the model's bins, by the size of the change modulo
the bin. What the model makes of the same bases in another phase then shows up as a difference between the
alleles. Predicting both alleles in windows that start at several offsets within a bin, and averaging,
takes most of that away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.results import Track, Variant
from gexpr.scoring.aggregate import Aggregate
from gexpr.scoring.engine import VariantScorer
from gexpr.scoring.genes import GeneCollector
from gexpr.scoring.predictor import Predictor


def offsets(count: int, bin_size: int) -> tuple[int, ...]:
    """``count`` displacements in bp, a ``count``-th of a bin apart, around 0.

    Raises:
        ConfigError: ``count`` is not from 1 to the bases of a bin.
    """
    if not 1 <= count <= bin_size:
        raise ConfigError(f"indel shifts must be from 1 to {bin_size}, the bases of a bin, not {count}")
    first = -((count - 1) * bin_size) // (2 * count)
    return tuple(first + i * bin_size // count for i in range(count))


def indel_shifts(shifts: Sequence[int], count: int, bin_size: int) -> tuple[int, ...]:
    """All sums of a shift and an offset, each once, in ascending order.

    Raises:
        ConfigError: as :func:`offsets`.
    """
    return tuple(sorted({shift + offset for shift in shifts for offset in offsets(count, bin_size)}))


class IndelShiftScorer:
    """Scores alleles of equal lengths with one scorer and the others with another.

    Args:
        substitutions: scores alleles that change no length.
        indels: the same with more shifts.
    """

    def __init__(self, substitutions: VariantScorer, indels: VariantScorer) -> None:
        self._substitutions = substitutions
        self._indels = indels

    @property
    def engine(self) -> str:
        """The engine in use; see :class:`VariantScorer`."""
        return self._substitutions.engine

    @property
    def aggregate(self) -> Aggregate | None:
        """The means over tracks that are taken, or None."""
        return self._substitutions.aggregate

    @property
    def tracks(self) -> list[Track]:
        """The columns of the scores."""
        return self._substitutions.tracks

    def score(
        self, variants: Sequence[Variant], advance: Callable[[int], None] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Scores of a block of variants; see :meth:`VariantScorer.score`."""
        scores = self._substitutions.score([_kept(each, False) for each in variants], advance)
        moved = [row for row, each in enumerate(variants) if each.ok and _moves(each)]
        if moved:
            found = self._indels.score([variants[row] for row in moved], advance)
            for name, values in found.items():
                scores[name][moved] = values
        return scores

    def collect_genes(
        self,
        variants: Sequence[Variant],
        collector: GeneCollector,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        """Scores on genes; see :meth:`VariantScorer.collect_genes`."""
        self._substitutions.collect_genes([_kept(each, False) for each in variants], collector, advance)
        self._indels.collect_genes([_kept(each, True) for each in variants], collector, advance)

    def sequence_count(self, variants: Sequence[Variant]) -> int:
        """Sequences that :meth:`score` predicts, those of indels as often as they have more shifts."""
        times = len(self._indels.predictor.shifts) / len(self._substitutions.predictor.shifts)
        substitutions = self._substitutions.sequence_count([_kept(each, False) for each in variants])
        indels = self._indels.sequence_count([_kept(each, True) for each in variants])
        return substitutions + round(times * indels)


def _moves(variant: Variant) -> bool:
    return len(variant.norm_ref) != len(variant.norm_alt)


def _kept(variant: Variant, indel: bool) -> Variant:
    """The variant, or one that is not looked at in its place."""
    return variant if _moves(variant) is indel else variant._replace(status="")


def make_scorer(
    predictor: Predictor, count: int, make: Callable[[Predictor], VariantScorer]
) -> VariantScorer | IndelShiftScorer:
    """The scorer for ``count`` offsets of insertions and deletions; one is the plain scorer.

    Args:
        predictor: with the shifts of all variants.
        count: offsets within a bin.
        make: a scorer from a predictor.

    Raises:
        ConfigError: as :func:`offsets` and ``make``.
    """
    shifts = indel_shifts(predictor.shifts, count, predictor.bin_size)
    scorer = make(predictor)
    return scorer if count == 1 else IndelShiftScorer(scorer, make(predictor.with_shifts(shifts)))
