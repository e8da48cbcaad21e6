"""Predictions over regions: placement, tiles, strands, contig ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, Unpaired

from gexpr.genome.fasta import Fasta
from gexpr.results import Region
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.regions import predict_regions, region_spans


def bin_counts(sequence: str, start: int, bins: int, bases: str = "ACGT") -> np.ndarray:
    """Counts of the bases in bins of 4, with nothing outside the contig."""
    padded = "N" * 500 + sequence + "N" * 500
    pieces = [padded[500 + start + 4 * b : 504 + start + 4 * b] for b in range(bins)]
    return np.array([[piece.count(base) for base in bases] for piece in pieces], dtype=np.float32)


REGIONS = [
    Region("chr1", 400, 432),  # exactly the output
    Region("chr1", 401, 409),  # short
    Region("chr1", 700, 1003),  # tiled, not a whole number of bins
    Region("chr1", 0, 20),  # at the contig's start
    Region("chr1", 1990, 2000),  # at its end
    Region("chr2", 3, 4),  # one base of a contig shorter than the context
]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("strand", ["+", "-", "."])
@pytest.mark.parametrize("shifts", [(0,), (-1, 1)])
def test_counts_of_an_equivariant_model(
    batch_size: int, strand: str, shifts: tuple[int, ...], sequence: str, genome: Fasta
) -> None:
    regions = [region._replace(strand=strand) for region in REGIONS]
    predictor = Predictor(BaseCounts(), batch_size=batch_size, shifts=shifts)
    found = list(predict_regions(predictor, genome, regions))
    spans = region_spans(regions, 4)
    assert [values.shape for values in found] == [(n, 4) for n in (8, 2, 76, 5, 3, 1)]
    assert spans[2] == (700, 76) and spans[4] == (1989, 3)
    for region, (start, bins), values in zip(regions, spans, found, strict=True):
        text = sequence if region.chrom == "chr1" else "ACGTTGCA" * 3
        expected = np.mean([bin_counts(text, start + s, bins) for s in shifts], axis=0)
        assert np.allclose(values, expected[::-1] if strand == "-" else expected)


def test_without_reverse_complement_a_minus_region_is_shown_reversed(sequence: str, genome: Fasta) -> None:
    predictor = Predictor(Unpaired(), batch_size=3, reverse_complement=False)
    regions = [Region("chr1", 400, 432, strand=s) for s in "+-+--"]
    found = list(predict_regions(predictor, genome, regions))
    plus = bin_counts(sequence, 400, 8)
    minus = bin_counts(sequence, 400, 8, "TGCA")[::-1]  # the model counts A of the strand that it sees
    for region, values in zip(regions, found, strict=True):
        assert np.array_equal(values, minus if region.strand == "-" else plus)


class Neighbors(BaseCounts):
    """Each bin is an uneven sum over itself and two bins on each side; the crop hides the padding."""

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        bins = x.reshape(x.shape[0], -1, self.bin_size, 4).sum(2).transpose(1, 2)
        kernel = torch.tensor([3.0, -1.0, 2.0, 5.0, 0.5]).expand(4, 1, 5)
        return self.crop_bins(torch.nn.functional.conv1d(bins, kernel, padding=2, groups=4).transpose(1, 2))


@pytest.mark.parametrize("rc", [False, True])
@pytest.mark.parametrize("start", [0, 100, 843, 1700])
def test_tiles_are_one_whole_prediction(rc: bool, start: int, genome: Fasta) -> None:
    """A region of 75 bins in tiles of 8 equals one window that holds all of it."""
    region = Region("chr1", start, start + 300)
    tiled, whole = (
        next(predict_regions(Predictor(model, batch_size=2, reverse_complement=rc), genome, [region]))
        for model in (Neighbors(), Neighbors(context_length=332, target_length=75))
    )
    assert tiled.shape == (75, 4)
    assert np.allclose(tiled, whole, atol=1e-5)
    assert not np.allclose(tiled[1:], whole[:-1], atol=0.1)


def test_no_regions(genome: Fasta) -> None:
    assert list(predict_regions(Predictor(BaseCounts()), genome, [])) == []
