"""Predictions along the genome that pictures show: of both alleles of variants, and of regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.genome.fasta import Fasta
from gexpr.results import Track, Variant
from gexpr.scoring.engine import ALTERNATE, PROFILE_START, REFERENCE, FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor
from gexpr.writers.score_summary import Ranked


class AlleleProfiles(NamedTuple):
    """Predictions of both alleles of one variant, in natural scale, on the reference's bins.

    ``start`` is the 0-based first base of the first bin; ``reference`` and ``alternate`` are
    (bins, tracks), NaN where the alternate's window does not cover a bin.
    """

    variant: Variant
    start: int
    bin_size: int
    tracks: tuple[Track, ...]
    reference: NDArray[np.floating]
    alternate: NDArray[np.floating]

    @property
    def end(self) -> int:
        """Behind the last base of the last bin."""
        return self.start + self.bin_size * len(self.reference)

    def within(self, distance: int | None) -> AlleleProfiles:
        """The bins that have a base within some distance of POS, in bp; None is all of them."""
        if distance is None:
            return self
        first = (self.variant.pos - 1 - distance - self.start) // self.bin_size
        last = (self.variant.pos - 1 + distance - self.start) // self.bin_size + 1
        first, last = max(0, first), min(len(self.reference), last)
        return self._replace(
            start=self.start + first * self.bin_size,
            reference=self.reference[first:last],
            alternate=self.alternate[first:last],
        )


class RankedProfiles(NamedTuple):
    """Predictions of both alleles of rows of a ranking: one of ``profiles`` for each of ``rows``.

    ``stored`` says that a file of scores held them, ``missing`` why there are none, or which are not there.
    """

    rows: tuple[Ranked, ...]
    profiles: tuple[AlleleProfiles, ...]
    stored: bool = False
    missing: tuple[str, ...] = ()


class RegionProfiles(NamedTuple):
    """Predictions over a region, and what was measured there.

    ``start`` is the 0-based first base of the first bin; ``predicted`` is (bins, tracks), and so is
    ``measured``, in the same unit, NaN for tracks without a measurement and in bins without a value.
    """

    contig: str
    start: int
    bin_size: int
    tracks: tuple[Track, ...]
    predicted: NDArray[np.floating]
    measured: NDArray[np.floating]

    @property
    def end(self) -> int:
        """Behind the last base of the last bin."""
        return self.start + self.bin_size * len(self.predicted)


def allele_profiles(
    predictor: Predictor, fasta: Fasta, variants: Sequence[Variant], bins: int | None = None
) -> list[AlleleProfiles]:
    """Predictions of both alleles of variants.

    Args:
        predictor: the model with its strands and shifts.
        fasta: the genome.
        variants: alleles whose status is ``ok``.
        bins: how many bins around each; None is all that the model predicts.

    Raises:
        ConfigError: more bins than the model predicts.
    """
    bins = predictor.target_length if bins is None else bins
    # Statistics are not looked at; D1 is defined whatever the unit of a track.
    scorer = VariantScorer(predictor, FastaWindows(fasta), statistics=("D1",), profile=bins)
    found: dict[str, NDArray[Any]] = scorer.score(variants)
    return [
        AlleleProfiles(
            variant,
            int(found[PROFILE_START][row]),
            predictor.bin_size,
            tuple(predictor.tracks),
            found[REFERENCE][row],
            found[ALTERNATE][row],
        )
        for row, variant in enumerate(variants)
    ]
