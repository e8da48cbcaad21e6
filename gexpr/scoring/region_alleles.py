"""Both alleles of variants over regions: each region in one window, in which its alleles are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.results import Region, Variant
from gexpr.scoring.engine import ALTERNATE, PROFILE_START, REFERENCE, VariantScorer, Windows
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.regions import region_tiling

STATISTIC = "SAD"
"""What is computed beside the predictions."""


class RegionBins(NamedTuple):
    """A region under the genome's contig name, the genome position of its first bin and how many it has."""

    region: Region
    start: int
    bins: int


def region_window(each: RegionBins, predictor: Predictor) -> int:
    """Start of the context, without shift, in which a region is predicted.

    Raises:
        ConfigError: the region needs more than one window.
    """
    tiling = region_tiling(predictor)
    tiles = tiling.tiles(each.start, each.bins)
    if len(tiles) > 1:
        region = each.region
        raise ConfigError(
            f"{region.chrom}:{region.start}-{region.end} has {each.bins:,} bins of {predictor.bin_size} bp, "
            f"and a window of this model, in which both alleles are predicted, {predictor.target_length:,}: "
            "cut it into shorter ones, or leave out regions to predict the window around each variant"
        )
    return tiles[0].window_start


class RegionAlleleScorer(VariantScorer):
    """Predicts both alleles in the bins of regions.

    A row is an allele in a region; which one, the variant's ``row`` says. Windows are those in which the
    regions themselves are predicted, and the alleles of a region share its reference.

    Args:
        predictor: the model with its strands and shifts.
        windows: where sequences come from.
        regions: the regions.
        owners: the number of each row's region.
        engine: ``incremental`` or ``plain``.

    Raises:
        ConfigError: a region needs more than one window.
    """

    def __init__(
        self,
        predictor: Predictor,
        windows: Windows,
        regions: Sequence[RegionBins],
        owners: Sequence[int],
        *,
        engine: str = "incremental",
    ) -> None:
        super().__init__(
            predictor, windows, statistics=(STATISTIC,), engine=engine, profile=predictor.target_length
        )
        self.regions = regions
        self.owners = owners
        self.most_bins = max((each.bins for each in regions), default=0)
        """Bins of the region that has most."""
        self._starts = [region_window(each, predictor) for each in regions]

    def window_start(self, variant: Variant) -> int:
        """Start of the window of the variant's region."""
        return self._starts[self.owners[variant.row]]

    def score(
        self, variants: Sequence[Variant], advance: Callable[[int], None] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Predictions of both alleles.

        Args:
            variants: rows, in any order.
            advance: as for :class:`VariantScorer`.

        Returns:
            ``SAD``, float32 (len(variants), tracks), over the bins of the region that the alternate's window
            covers; ``REF`` and ``ALT``, float32 (len(variants), :attr:`most_bins`, tracks), along the genome,
            NaN behind the bins of a shorter region and where the alternate's window does not cover a bin;
            ``profile_start``, int64 (len(variants),). Rows that are not ``ok`` have NaN and -1.
        """
        found = super().score(variants, advance)
        size = self.predictor.bin_size
        shape = len(variants), self.most_bins, len(self.tracks)
        cut = {name: np.full(shape, np.nan, dtype=np.float32) for name in (REFERENCE, ALTERNATE)}
        sums = np.full((len(variants), len(self.tracks)), np.nan, dtype=np.float32)
        starts = np.full(len(variants), -1, dtype=np.int64)
        for row, variant in enumerate(variants):
            if not variant.ok:
                continue
            _, starts[row], bins = self.regions[self.owners[variant.row]]
            first = int(starts[row] - found[PROFILE_START][row]) // size
            for name, values in cut.items():
                values[row, :bins] = found[name][row, first : first + bins]
            difference = cut[ALTERNATE][row, :bins].astype(np.float64) - cut[REFERENCE][row, :bins]
            sums[row] = np.nansum(difference, axis=0)
        return {STATISTIC: sums, **cut, PROFILE_START: starts}
