"""Insertions and deletions at several offsets of their windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, variant, write_fasta

from gexpr import checkpoints
from gexpr.errors import ConfigError
from gexpr.genome.examples import resolve_fasta
from gexpr.genome.fasta import Fasta
from gexpr.genome.genes import Gene
from gexpr.results import Variant
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.gene_masks import GeneIndex
from gexpr.scoring.genes import GeneCollector
from gexpr.scoring.indels import IndelShiftScorer, make_scorer, offsets
from gexpr.scoring.predictor import Predictor

GENE = Gene("g", "g", "chr1", "+", 994, 1010, ((994, 1010),), (994,), "", 1)


class FirstBases(BaseCounts):
    """Of every bin, its first base alone: all that a model can get wrong of sequence that moves."""

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        """(B, L, 4) -> (B, bins, 4)."""
        inside = x[:, self.crop * self.bin_size : x.shape[1] - self.crop * self.bin_size]
        return inside[:, :: self.bin_size] * self.bin_size


def make(genome: Fasta, model: BaseCounts, count: int, **settings):
    predictor = Predictor(model, batch_size=4, reverse_complement=False)
    return make_scorer(
        predictor, count, lambda each, _: VariantScorer(each, FastaWindows(genome), **settings)
    )


def alleles(sequence: str) -> list[Variant]:
    at = sequence[1000]
    snv = variant(1000, at, "ACGT"[("ACGT".index(at) + 1) % 4], 0)
    insertion = variant(1000, "", "ACGTT", 1)
    deletion = variant(700, sequence[700:703], "", 2)
    refused = variant(900, "A", "C", 3)._replace(status="ref_mismatch")
    return [snv, insertion, refused._replace(row=2), deletion._replace(row=3)]


def test_offsets_are_multiples_of_the_change_of_length_within_half_a_bin() -> None:
    assert offsets(1, 3, 16) == (0,)
    assert offsets(4, 4, 16) == (-4, 0, 4, 8)
    assert offsets(8, -4, 16) == (-4, 0, 4, 8)
    assert offsets(3, 5, 16) == (-6, 0, 5)
    assert offsets(4, 32, 16) == (0,)
    assert offsets(16, 1, 16) == tuple(range(-7, 9))
    for size in (8, 16, 32, 128):
        for moved in range(-size, size + 1):
            for count in (2, 3, 8):
                found = {each % size for each in offsets(count, moved, size)}
                # Of the phases that the alternate is seen in, all but one at most are the reference's.
                assert len({(each - moved) % size for each in found} - found) <= 1
                assert len(found) <= count


@pytest.mark.parametrize("count", [0, 17])
def test_more_offsets_than_a_bin_has_bases_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"from 1 to 16, the bases of a bin, not {count}"):
        offsets(count, 3, 16)


@pytest.mark.parametrize("average", ["predictions", "scores"])
def test_only_alleles_that_change_lengths_get_more_shifts(sequence, genome, average) -> None:
    variants = alleles(sequence)
    settings = dict(statistics=("SAD", "logFC"), average=average)
    plain = make(genome, BaseCounts(), 1, **settings)
    assert isinstance(plain, VariantScorer)
    several = make(genome, BaseCounts(), 4, **settings)
    assert isinstance(several, IndelShiftScorer)
    size = BaseCounts().bin_size

    def shifted(moved: int, row: int) -> np.ndarray:
        predictor = Predictor(
            BaseCounts(), batch_size=4, reverse_complement=False, shifts=offsets(4, moved, size)
        )
        return VariantScorer(predictor, FastaWindows(genome), **settings).score([variants[row]])

    finished: list[int] = []
    found = several.score(variants, finished.append)
    assert sum(finished) == 3
    for name in settings["statistics"]:
        assert np.array_equal(found[name][0], plain.score(variants)[name][0])
        assert np.array_equal(found[name][1], shifted(5, 1)[name][0])
        assert np.array_equal(found[name][3], shifted(-3, 3)[name][0])
        assert np.isnan(found[name][2]).all()
    # The reference and the substitution; twice a reference and an alternate, four times each.
    assert several.sequence_count(variants) == 2 + 4 * 4
    collected = GeneCollector(GeneIndex([GENE]), several.tracks, settings["statistics"])
    several.collect_genes(variants, collected)
    assert collected.block(variants).variant.tolist() == [0, 1]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_only_moves_against_the_bins_is_averaged_away(sequence, genome, size) -> None:
    """Behind an insertion all is seen in another phase; over all phases next to nothing of it remains."""
    model = FirstBases(context_length=512, target_length=112)
    inserted = [variant(1000, "", base * size, row) for row, base in enumerate("ACGT")]
    once, twice, often = (
        make(genome, model, count, statistics=("D1",)).score(inserted)["D1"].mean()
        for count in (1, 2, model.bin_size)
    )
    # D1 of single windows counts every bin whose first base is another one now.
    assert once > twice and once > 2 * often
    if size == 2:
        # Two offsets are all that bins of four bases need.
        assert twice == pytest.approx(often)


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


def test_an_insertion_into_shuffled_sequence_scores_near_nothing(tmp_path) -> None:
    """The packaged model: four bases more in a sequence that means nothing, seen against the bins."""
    model = checkpoints.load("yeast-tss")
    length, number = 2 * model.context_length, 4
    draw = np.random.default_rng(1)
    genome = Fasta(resolve_fasta("example"))
    contigs = {}
    for each in range(number):
        start = int(draw.integers(0, genome.lengths["chrI"] - length))
        bases = np.array(list(genome.fetch("chrI", start, start + length)))
        draw.shuffle(bases)
        contigs[f"shuffled{each}"] = "".join(bases)
    shuffled = Fasta(write_fasta(tmp_path / "s.fa", contigs), tmp_path)
    inserted = [
        variant(length // 2, "", "".join(draw.choice(list("ACGT"), 4)), row, name)
        for row, name in enumerate(contigs)
    ]
    found = {}
    for count in (1, 4):
        predictor = Predictor(model, batch_size=4, reverse_complement=False)
        scorer = make_scorer(predictor, count, lambda each, _: VariantScorer(each, FastaWindows(shuffled)))
        found[count] = float(np.abs(scorer.score(inserted)["logFC"]).mean())
    assert found[4] < 0.03
    assert found[4] < found[1] / 3
