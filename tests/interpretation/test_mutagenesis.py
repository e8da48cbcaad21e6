"""Every change of a region, against models and windows worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_models import BaseCounts, CenterBase, tiny_model, variant, write_fasta

from gexpr.errors import ConfigError
from gexpr.genome.codes import encode
from gexpr.genome.fasta import Fasta
from gexpr.interpretation.mutagenesis import Changes, RegionScorer, check_length, records, variants_of
from gexpr.results import Region
from gexpr.scoring.definitions import Mask
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor

SEQUENCE = "".join(np.random.default_rng(5).choice(list("ACGT"), 1200))


@pytest.fixture
def genome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fasta:
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))
    return Fasta(str(write_fasta(tmp_path / "g.fa", {"chr1": SEQUENCE})))


def test_records_are_those_of_a_vcf() -> None:
    found = list(records(Region("chr1", 10, 13), encode("TACNG"), Changes(2, True), 0, 3))
    assert [(each.position, each.pos, each.ref, each.alts) for each in found] == [
        (0, 10, "TAC", ("T",)),
        (0, 10, "T", ("TA", "TC", "TG", "TT")),
        (0, 11, "A", ("C", "G", "T")),
        # A deletion that would take the unknown base is left out.
        (1, 11, "A", ("AA", "AC", "AG", "AT")),
        (1, 12, "C", ("A", "G", "T")),
    ]
    assert [each.slots for each in found[:3]] == [(0,), (1, 2, 3, 4), (6, 7, 8)]


def test_records_at_the_start_of_a_contig_have_the_base_behind() -> None:
    region = Region("chr1", 0, 2)
    found = list(records(region, encode("NACG"), Changes(1, True), 0, 1))
    assert [(each.pos, each.ref, each.alts) for each in found[:2]] == [
        (1, "AC", ("C",)),
        (1, "A", ("AA", "CA", "GA", "TA")),
    ]
    alleles = [(each.start, each.norm_ref, each.norm_alt) for each in variants_of(region, found, _no_fetch)]
    assert alleles[:3] == [(0, "A", ""), (0, "", "A"), (0, "", "C")]


def _no_fetch(start: int, end: int) -> str:
    raise AssertionError("nothing lies before the contig")


def test_counts_of_bases(genome: Fasta) -> None:
    """A model that counts letters: a substitution takes one away and adds one."""
    region = Region("chr1", 500, 504)
    predictor = Predictor(BaseCounts(), batch_size=3)
    scorer = RegionScorer(predictor, genome, 4, Changes(1, True), statistics=("SAD", "ACTIVE_SUM"))
    scores = scorer.score_region(region, 0, 4)["SAD"]
    assert scores.shape == (4, 9, 4)
    for position in range(4):
        own = "ACGT".index(SEQUENCE[500 + position])
        for letter in range(4):
            assert np.array_equal(scores[position, 5 + letter], np.eye(4)[letter] - np.eye(4)[own])
    # The reference's own letter is no change, whatever the statistic.
    window = SEQUENCE[502 - 16 : 502 + 16]
    active = scorer.score_region(region, 1, 2)["ACTIVE_SUM"]
    own = "ACGT".index(SEQUENCE[501])
    assert np.array_equal(active[0, 5 + own], [window.count(base) for base in "ACGT"])


def test_all_changes_share_the_regions_window(genome: Fasta) -> None:
    """Only the base in the middle of the window matters to this model: base (start + end) // 2."""
    predictor = Predictor(CenterBase(), batch_size=2, reverse_complement=False)
    scorer = RegionScorer(predictor, genome, 5, Changes(), statistics=("SAD",))
    changed = np.abs(scorer.score_region(Region("chr1", 300, 305), 0, 5)["SAD"]).sum(axis=(1, 2))
    assert (changed > 0).tolist() == [False, False, True, False, False]


def test_a_region_of_one_base_is_scored_as_variants_are(genome: Fasta) -> None:
    predictor = Predictor(tiny_model(), batch_size=4)
    found = RegionScorer(predictor, genome, 1, Changes(2)).score_region(Region("chr1", 600, 601), 0, 1)
    own = SEQUENCE[600]
    alleles = [variant(600, own, letter) for letter in "ACGT" if letter != own]
    expected = VariantScorer(predictor, FastaWindows(genome)).score(alleles)["logFC"]
    others = [1 + number for number, letter in enumerate("ACGT") if letter != own]
    assert np.allclose(found["logFC"][0, others], expected, atol=2e-6)
    assert np.abs(expected).max() > 1e-4
    assert np.isnan(found["logFC"][0, 0]).all()  # the deletion of two bases reaches past the region


def test_scores_do_not_depend_on_how_a_region_is_cut(genome: Fasta) -> None:
    predictor = Predictor(tiny_model(), batch_size=4)
    scorer = RegionScorer(predictor, genome, 8, Changes(2, True), mask=Mask(20))
    region = Region("chr1", 600, 608)
    told: list[int] = []
    whole = scorer.score_region(region, 0, 8, told.append)["logFC"]
    pieces = [scorer.score_region(region, *ends)["logFC"] for ends in ((0, 3), (3, 8))]
    assert np.allclose(whole, np.concatenate(pieces), atol=2e-6, equal_nan=True)
    assert sum(told) == 8
    assert scorer.region_sequences(region, 0, 1) == 1 + 1 + 4 + 3


def test_incremental_and_plain_agree(genome: Fasta) -> None:
    predictor = Predictor(tiny_model(), batch_size=4)
    found = [
        RegionScorer(predictor, genome, 3, Changes(1), engine=engine).score_region(
            Region("chr1", 90, 93), 0, 3
        )
        for engine in ("incremental", "plain")
    ]
    assert np.allclose(found[0]["logFC"], found[1]["logFC"], atol=1e-5, equal_nan=True)


def test_a_mask_counts_from_the_region(genome: Fasta) -> None:
    """Bins of 4 bp; the region is bases 8 to 12 of the middle's bin on; only its own bin is scored."""
    predictor = Predictor(BaseCounts(), batch_size=2)
    scorer = RegionScorer(predictor, genome, 4, Changes(), statistics=("ACTIVE_SUM",), mask=Mask(0))
    region = Region("chr1", 402, 406)
    start = 404 - 32  # the window; its output begins 16 bases further
    found = scorer.score_region(region, 0, 1)["ACTIVE_SUM"]
    own = "ACGT".index(SEQUENCE[402])
    # Bases 402 to 406 lie in the bins that begin at 400 and 404.
    assert (402 - start) // 4 != (405 - start) // 4
    assert np.array_equal(found[0, own], [SEQUENCE[400:408].count(base) for base in "ACGT"])


@pytest.mark.parametrize("mask", [Mask(), Mask(0)])
def test_changes_in_a_repeat_longer_than_the_window_stay_in_it(
    mask: Mask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each base counts in its own bin: a lost one is one less, wherever in the repeat it was."""
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))
    genome = Fasta(str(write_fasta(tmp_path / "g.fa", {"chr1": "C" + 300 * "A" + "G"})))
    predictor = Predictor(BaseCounts(), batch_size=3, shifts=(-3, 0, 2))
    scorer = RegionScorer(predictor, genome, 4, Changes(2, True), statistics=("SAD",), mask=mask)
    found = scorer.score_region(Region("chr1", 200, 204), 0, 2)["SAD"]
    lost = -2.0 if mask == Mask() else 0.0  # the bins of the region have other bases of the repeat
    assert np.allclose(found[:, 0], [lost, 0, 0, 0], atol=1e-6)
    assert np.allclose(found[:, 1], 0, atol=1e-6)  # one more A, of which the bins have as many as before


def test_regions_and_deletions_that_do_not_fit(genome: Fasta) -> None:
    predictor = Predictor(BaseCounts())
    with pytest.raises(ConfigError, match="holds regions of up to 16 bp"):
        check_length(Region("chr1", 100, 117), predictor)
    check_length(Region("chr1", 100, 116), predictor)
    with pytest.raises(ConfigError, match="predicts 1 bin of 64 bp of a window, too few for regions"):
        check_length(Region("chr1", 100, 101), Predictor(BaseCounts(64, 1, 64)))
    RegionScorer(predictor, genome, 16, Changes())
    with pytest.raises(ConfigError, match="deletions of 40 bp are too long"):
        RegionScorer(predictor, genome, 4, Changes(40))
    with pytest.raises(ConfigError, match="not -1"):
        RegionScorer(predictor, genome, 4, Changes(-1))
