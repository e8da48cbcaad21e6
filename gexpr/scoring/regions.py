"""Regions to predictions: windows tiled over each region, stitched together bin by bin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.genome.windows import region_bins, tile
from gexpr.results import Region
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.prefetch import prefetch


class CodesSource(Protocol):
    """A genome: uint8 codes of any interval, 4 outside the contig (``gexpr.genome.fasta.Fasta``)."""

    def codes(self, contig: str, start: int, end: int) -> NDArray[np.uint8]:
        """Codes of ``contig`` from ``start`` (may be negative) to ``end``."""
        ...


class _Piece(NamedTuple):
    region: int
    codes: NDArray[np.uint8]
    first_bin: int
    last_bin: int
    last: bool
    minus: bool


def region_spans(regions: Sequence[Region], bin_size: int) -> list[tuple[int, int]]:
    """For every region, the interval that its bins cover: (start, number of bins)."""
    return [region_bins(region.start, region.end, bin_size) for region in regions]


def predict_regions(
    predictor: Predictor, genome: CodesSource, regions: Sequence[Region]
) -> Iterator[NDArray[np.float32]]:
    """Predictions of every region, in order.

    A region has ``ceil(length / bin_size)`` bins, centred on it. It lies in the middle of the
    model's context; a region longer than the model's output is cut into windows of equal length.
    The bins of a ``-`` region run from its right end to its left end (5' to 3' on its strand), and
    without ``reverse_complement`` the model is shown the minus strand. A track keeps its meaning:
    a track of the + strand is the genome's + strand for every region.

    Args:
        predictor: the model with its strands and shifts.
        genome: the sequence; positions outside a contig are unknown bases.
        regions: with ``chrom`` spelt as the genome spells it.

    Yields:
        (bins, tracks) float32, in natural scale, one array a region.
    """
    pieces: list[NDArray[np.float32]] = []
    for batch in prefetch(_batches(predictor, genome, regions)):
        codes = torch.from_numpy(np.stack([piece.codes for piece in batch]))
        if predictor.device.type == "cuda":
            codes = codes.pin_memory()
        predictions = predictor.predict(codes, reverse_only=batch[0].minus).cpu().numpy()
        for piece, values in zip(batch, predictions, strict=True):
            pieces.append(values[piece.first_bin : piece.last_bin])
            if piece.last:
                whole = np.concatenate(pieces)
                yield whole[::-1] if regions[piece.region].strand == "-" else whole
                pieces = []


def piece_count(predictor: Predictor, regions: Sequence[Region]) -> int:
    """Windows that :func:`predict_regions` predicts for some regions."""
    core = predictor.target_length * predictor.bin_size
    geometry = predictor.context_length, core, predictor.bin_size
    return sum(len(tile(region.start, region.end, *geometry)) for region in regions)


def _batches(predictor: Predictor, genome: CodesSource, regions: Sequence[Region]) -> Iterator[list[_Piece]]:
    """Full batches in order; a batch ends early where the strand shown to the model changes."""
    batch: list[_Piece] = []
    for piece in _pieces(predictor, genome, regions):
        if batch and (len(batch) == predictor.batch_size or batch[0].minus != piece.minus):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _pieces(predictor: Predictor, genome: CodesSource, regions: Sequence[Region]) -> Iterator[_Piece]:
    core = predictor.target_length * predictor.bin_size
    for index, region in enumerate(regions):
        minus = region.strand == "-" and not predictor.reverse_complement
        tiles = tile(region.start, region.end, predictor.context_length, core, predictor.bin_size)
        for number, each in enumerate(tiles, start=1):
            start = each.window_start - predictor.flank
            codes = genome.codes(region.chrom, start, start + predictor.window_length)
            yield _Piece(index, codes, each.first_bin, each.last_bin, number == len(tiles), minus)
