"""Insertions and deletions at several offsets of their windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, variant

from gexpr.errors import ConfigError
from gexpr.genome.fasta import Fasta
from gexpr.results import Variant
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.indels import IndelShiftScorer, indel_shifts, make_scorer, offsets
from gexpr.scoring.predictor import Predictor


class FirstBases(BaseCounts):
    """Of every bin, its first base alone: all that a model can get wrong of sequence that moves."""

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        """(B, L, 4) -> (B, bins, 4)."""
        inside = x[:, self.crop * self.bin_size : x.shape[1] - self.crop * self.bin_size]
        return inside[:, :: self.bin_size] * self.bin_size


def make(genome: Fasta, model: BaseCounts, count: int, **settings):
    predictor = Predictor(model, batch_size=4, reverse_complement=False)
    return make_scorer(predictor, count, lambda each: VariantScorer(each, FastaWindows(genome), **settings))


def alleles(sequence: str) -> list[Variant]:
    at = sequence[1000]
    snv = variant(1000, at, "ACGT"[("ACGT".index(at) + 1) % 4], 0)
    insertion = variant(1000, "", "ACGTT", 1)
    deletion = variant(700, sequence[700:703], "", 2)
    refused = variant(900, "A", "C", 3)._replace(status="ref_mismatch")
    return [snv, insertion, refused._replace(row=2), deletion._replace(row=3)]


def test_offsets_lie_a_part_of_a_bin_apart_around_zero() -> None:
    assert offsets(1, 16) == (0,)
    assert offsets(4, 16) == (-6, -2, 2, 6)
    assert offsets(16, 16) == tuple(range(-8, 8))
    for size in (8, 16, 32, 128):
        for count in (2, 3, 5, 8):
            found = offsets(count, size)
            assert len(set(found)) == count and -size / 2 <= found[0] and found[-1] <= size / 2
            assert abs(sum(found)) <= 1.5 * count
    assert indel_shifts((-1, 0, 1), 2, 16) == (-5, -4, -3, 3, 4, 5)


@pytest.mark.parametrize("count", [0, 17])
def test_more_offsets_than_a_bin_has_bases_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"from 1 to 16, the bases of a bin, not {count}"):
        offsets(count, 16)


@pytest.mark.parametrize("average", ["predictions", "scores"])
def test_only_alleles_that_change_lengths_get_more_shifts(sequence, genome, average) -> None:
    variants = alleles(sequence)
    settings = dict(statistics=("SAD", "logFC"), average=average)
    plain = make(genome, BaseCounts(), 1, **settings)
    assert isinstance(plain, VariantScorer)
    several = make(genome, BaseCounts(), 4, **settings)
    assert isinstance(several, IndelShiftScorer)
    size = BaseCounts().bin_size
    predictor = Predictor(BaseCounts(), batch_size=4, reverse_complement=False, shifts=offsets(4, size))
    shifted = VariantScorer(predictor, FastaWindows(genome), **settings)
    finished: list[int] = []
    found = several.score(variants, finished.append)
    assert sum(finished) == 3
    for name in settings["statistics"]:
        assert np.array_equal(found[name][0], plain.score(variants)[name][0])
        assert np.array_equal(found[name][[1, 3]], shifted.score(variants)[name][[1, 3]])
        assert np.isnan(found[name][2]).all()
    # The reference and the substitution; twice a reference and an alternate, four times each.
    assert several.sequence_count(variants) == 2 + 4 * 4


def test_what_only_moves_against_the_bins_is_averaged_away(sequence, genome) -> None:
    """After one inserted base all is seen in another phase; over all phases little of it remains."""
    model = FirstBases()
    inserted = [variant(1000, "", base, row) for row, base in enumerate("ACGT")]
    once = make(genome, model, 1, statistics=("D1",)).score(inserted)["D1"]
    often = make(genome, model, model.bin_size, statistics=("D1",)).score(inserted)["D1"]
    # D1 of single windows counts every bin whose first base is another one now.
    assert once.mean() > 5 * often.mean()
    spread = make(genome, model, 2, statistics=("D1",)).score(inserted)["D1"]
    assert once.mean() > spread.mean() > often.mean()


def test_a_predictor_with_other_shifts_shares_the_model_and_the_count_of_its_work(sequence, genome) -> None:
    predictor = Predictor(BaseCounts(), batch_size=4, shifts=(0, 2))
    other = predictor.with_shifts((-3, 5, 1))
    assert other.model is predictor.model
    assert (other.shifts, other.flank, other.window_length) == ((-3, 1, 5), 5, predictor.context_length + 10)
    assert (predictor.shifts, predictor.flank) == ((0, 2), 2)
    VariantScorer(other, FastaWindows(genome)).score(alleles(sequence))
    assert predictor.forwards == other.forwards > 0
    with pytest.raises(ConfigError, match="distinct"):
        predictor.with_shifts((1, 1))
    with pytest.raises(ConfigError, match="too large"):
        predictor.with_shifts((10_000,))
