"""Regions to predictions: windows tiled over each region, stitched together bin by bin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.genome.windows import Tiling, region_bins
from gexpr.results import Region
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.prefetch import prefetch


class CodesSource(Protocol):
    """A genome: uint8 codes of any interval, 4 outside the contig (``gexpr.genome.fasta.Fasta``)."""

    def codes(self, contig: str, start: int, end: int) -> NDArray[np.uint8]:
        """Codes of ``contig`` from ``start`` (may be negative) to ``end``."""
        ...


class Stretch(NamedTuple):
    """Some consecutive windows of a region, ``low`` to ``high`` (half-open, in genome order).

    ``origin`` is the genome position of the region's first bin, ``bins`` the number of all its bins.
    """

    contig: str
    strand: str
    origin: int
    bins: int
    low: int
    high: int

    def span(self, tiling: Tiling) -> tuple[int, int]:
        """What the stretch itself predicts: (genome position of its first bin, number of bins)."""
        windows = tiling.windows(self.bins)
        first, last = self.low * self.bins // windows, self.high * self.bins // windows
        return self.origin + first * tiling.bin_size, last - first


class _Piece(NamedTuple):
    codes: NDArray[np.uint8]
    first_bin: int
    last_bin: int
    last: bool
    minus: bool
    turned: bool


def region_spans(regions: Sequence[Region], bin_size: int) -> list[tuple[int, int]]:
    """For every region, the interval that its bins cover: (start, number of bins)."""
    return [region_bins(region.start, region.end, bin_size) for region in regions]


def region_tiling(predictor: Predictor, overlap: int | None = None) -> Tiling:
    """How windows lie over regions that are too long for one.

    Args:
        predictor: the model.
        overlap: bases that the predictions of neighboring windows share at least, each bin being taken
            from the window in whose middle it lies better. None: as many as it takes that every bin comes
            from the middle three quarters of a context.

    Raises:
        ConfigError: an overlap that leaves a window nothing to predict.
    """
    size, target = predictor.bin_size, predictor.target_length
    if overlap is None:
        most = max(1, min(target, 3 * predictor.context_length // 4 // size))
    else:
        most = target + -overlap // size
        if overlap < 0 or most < 1:
            raise ConfigError(
                f"windows cannot overlap by {overlap:,} bp: the model predicts {target * size:,} bp of each, "
                f"and {size} at least must be left; give a number from 0 to {(target - 1) * size:,}"
            )
    return Tiling(predictor.context_length, target * size, size, most)


def whole_stretches(regions: Sequence[Region], tiling: Tiling) -> list[Stretch]:
    """Every region as one stretch of all its windows."""
    return [
        Stretch(region.chrom, region.strand, origin, bins, 0, tiling.windows(bins))
        for region, (origin, bins) in zip(regions, region_spans(regions, tiling.bin_size), strict=True)
    ]


def predict_regions(
    predictor: Predictor, genome: CodesSource, regions: Sequence[Region]
) -> Iterator[NDArray[np.float32]]:
    """Predictions of every region, in order.

    A region has ``ceil(length / bin_size)`` bins, centered on it. See :func:`predict_stretches`.

    Args:
        predictor: the model with its strands and shifts.
        genome: the sequence; positions outside a contig are unknown bases.
        regions: with ``chrom`` spelt as the genome spells it.

    Yields:
        (bins, tracks) float32, in natural scale, one array a region.
    """
    tiling = region_tiling(predictor)
    return predict_stretches(predictor, genome, whole_stretches(regions, tiling), tiling)


def predict_stretches(
    predictor: Predictor, genome: CodesSource, stretches: Sequence[Stretch], tiling: Tiling
) -> Iterator[NDArray[np.float32]]:
    """Predictions of stretches of regions, in order.

    A region that one window can predict lies in the middle of the model's context; a longer one is cut into
    pieces of equal length, each in the middle of its own context. The bins of a ``-`` region run from right
    to left (5' to 3' on its strand), and without ``reverse_complement`` the model is shown the minus strand.
    A track keeps its meaning: a track of the + strand is the genome's + strand for every region.

    Args:
        predictor: the model with its strands and shifts.
        genome: the sequence; positions outside a contig are unknown bases.
        stretches: with contigs spelt as the genome spells them.
        tiling: where windows lie.

    Yields:
        (bins, tracks) float32, in natural scale, one array a stretch.
    """
    pieces: list[NDArray[np.float32]] = []
    for batch in prefetch(_batches(predictor, genome, stretches, tiling)):
        codes = torch.from_numpy(np.stack([piece.codes for piece in batch]))
        if predictor.device.type == "cuda":
            codes = codes.pin_memory()
        predictions = predictor.predict(codes, reverse_only=batch[0].minus).cpu().numpy()
        for piece, values in zip(batch, predictions, strict=True):
            pieces.append(values[piece.first_bin : piece.last_bin])
            if piece.last:
                whole = np.concatenate(pieces)
                yield whole[::-1] if piece.turned else whole
                pieces = []


def _batches(
    predictor: Predictor, genome: CodesSource, stretches: Sequence[Stretch], tiling: Tiling
) -> Iterator[list[_Piece]]:
    """Full batches in order; a batch ends early where the strand shown to the model changes."""
    batch: list[_Piece] = []
    for piece in _pieces(predictor, genome, stretches, tiling):
        if batch and (len(batch) == predictor.batch_size or batch[0].minus != piece.minus):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _pieces(
    predictor: Predictor, genome: CodesSource, stretches: Sequence[Stretch], tiling: Tiling
) -> Iterator[_Piece]:
    for stretch in stretches:
        turned = stretch.strand == "-"
        minus = turned and not predictor.reverse_complement
        tiles = tiling.tiles(stretch.origin, stretch.bins, stretch.low, stretch.high)
        for number, each in enumerate(tiles, start=1):
            start = each.window_start - predictor.flank
            codes = genome.codes(stretch.contig, start, start + predictor.window_length)
            yield _Piece(codes, each.first_bin, each.last_bin, number == len(tiles), minus, turned)
