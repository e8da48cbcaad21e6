"""Insertions and deletions at several offsets of their windows within a bin.

Behind an insertion or deletion the sequence moves against the model's bins, by the change of length modulo
the bin. What the model makes of the same bases in another phase then shows up as a difference between the
alleles. With a change of length of s bases, both alleles are predicted in windows that start at 0, s, 2s, ...
(modulo the bin), and averaged: all but one of the phases that one allele is seen in are then those of the
other, and where the multiples of s have come round, all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.results import Track, Variant
from gexpr.scoring.aggregate import Aggregate
from gexpr.scoring.engine import VariantScorer
from gexpr.scoring.genes import GeneCollector
from gexpr.scoring.predictor import Predictor


def offsets(count: int, moved: int, bin_size: int) -> tuple[int, ...]:
    """Displacements in bp for a change of length: distinct, ascending, each at most half a bin.

    Args:
        count: how many, at most.
        moved: the change of length, in bases.
        bin_size: bases of a bin.

    Raises:
        ConfigError: ``count`` is not from 1 to ``bin_size``.
    """
    if not 1 <= count <= bin_size:
        raise ConfigError(f"indel shifts must be from 1 to {bin_size}, the bases of a bin, not {count}")
    around = {i * moved % bin_size for i in range(count)}
    return tuple(sorted(each if 2 * each <= bin_size else each - bin_size for each in around))


class IndelShiftScorer:
    """Scores alleles of equal lengths with one scorer, and the others with one for each change of length.

    Args:
        substitutions: scores alleles that leave the bins behind them where they are.
        indels: change of length modulo the bin -> the same with more shifts.
        bin_size: bases of a bin.
    """

    def __init__(
        self, substitutions: VariantScorer, indels: Mapping[int, VariantScorer], bin_size: int
    ) -> None:
        self._scorers = {0: substitutions, **indels}
        self._bin_size = bin_size

    @property
    def engine(self) -> str:
        """The engine in use; see :class:`VariantScorer`."""
        return self._scorers[0].engine

    @property
    def aggregate(self) -> Aggregate | None:
        """The means over tracks that are taken, or None."""
        return self._scorers[0].aggregate

    @property
    def tracks(self) -> list[Track]:
        """The columns of the scores."""
        return self._scorers[0].tracks

    def _moved(self, variant: Variant) -> int:
        return (len(variant.norm_alt) - len(variant.norm_ref)) % self._bin_size

    def _groups(self, variants: Sequence[Variant]) -> dict[int, list[int]]:
        """Change of length modulo the bin -> rows; 0 is always there, with the rows that are not ``ok``."""
        groups: dict[int, list[int]] = {0: []}
        for row, variant in enumerate(variants):
            groups.setdefault(self._moved(variant) if variant.ok else 0, []).append(row)
        return groups

    def score(
        self, variants: Sequence[Variant], advance: Callable[[int], None] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Scores of a block of variants; see :meth:`VariantScorer.score`."""
        groups = self._groups(variants)
        scores: dict[str, NDArray[np.float32]] = {}
        for moved, rows in groups.items():
            found = self._scorers[moved].score([variants[row] for row in rows], advance)
            for name, values in found.items():
                if name not in scores:
                    scores[name] = np.empty((len(variants), *values.shape[1:]), dtype=values.dtype)
                scores[name][rows] = values
        return scores

    def collect_genes(
        self,
        variants: Sequence[Variant],
        collector: GeneCollector,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        """Scores on genes; see :meth:`VariantScorer.collect_genes`."""
        for moved, rows in self._groups(variants).items():
            kept = set(rows)
            # The collector's rows are places among all variants; the others are not looked at.
            shown = [each if i in kept else each._replace(status="") for i, each in enumerate(variants)]
            self._scorers[moved].collect_genes(shown, collector, advance)

    def sequence_count(self, variants: Sequence[Variant]) -> int:
        """Sequences that :meth:`score` predicts, those of indels as often as they have more shifts."""
        plain = len(self._scorers[0].predictor.shifts)
        total = 0.0
        for moved, rows in self._groups(variants).items():
            scorer = self._scorers[moved]
            number = scorer.sequence_count([variants[row] for row in rows])
            total += number * len(scorer.predictor.shifts) / plain
        return round(total)


def farthest(predictor: Predictor, count: int) -> Predictor:
    """The predictor with the largest shifts that ``count`` offsets of an insertion or deletion can need.

    Raises:
        ConfigError: ``count`` is not from 1 to the bases of a bin.
    """
    offsets(count, 1, predictor.bin_size)
    if count == 1:
        return predictor
    half = predictor.bin_size // 2
    return predictor.with_shifts(tuple({predictor.shifts[0] - half, 0, predictor.shifts[-1] + half}))


def make_scorer(
    predictor: Predictor, count: int, make: Callable[[Predictor, int | None], VariantScorer]
) -> VariantScorer | IndelShiftScorer:
    """The scorer for ``count`` offsets of insertions and deletions; one is the plain scorer.

    Args:
        predictor: with the shifts of all variants.
        count: offsets within a bin.
        make: a scorer from a predictor and what its cache may take (see :class:`VariantScorer`). Only one of
            the scorers keeps tokens along the genome.

    Raises:
        ConfigError: as :func:`offsets` and ``make``.
    """
    size = predictor.bin_size
    offsets(count, 1, size)
    scorer = make(predictor, None)
    if count == 1:
        return scorer
    indels = {}
    for moved in range(1, size):
        shifts = {shift + offset for shift in predictor.shifts for offset in offsets(count, moved, size)}
        indels[moved] = make(predictor.with_shifts(tuple(sorted(shifts))), 0)
    return IndelShiftScorer(scorer, indels, size)
