"""6-mer counts by hand; the ridge against its normal equations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gexpr.datasets import PreparedDataset, PrepareOptions, prepare
from gexpr.errors import GexprError
from gexpr.evaluation import Settings, evaluate_ridge, read_genes
from gexpr.evaluation.genes import Genes, PromoterWindow
from gexpr.evaluation.ridge import kmer_counts, kmer_indices, reverse_complement_indices, ridge
from gexpr.genome.codes import encode, reverse_complement


def _kmer(text: str) -> int:
    return int("".join(str("ACGT".index(letter)) for letter in text), 4)


def _genes(*rows: tuple[int, int, bool]) -> Genes:
    starts, ends, minus = (np.array(column) for column in zip(*rows, strict=True))
    return Genes(
        np.array([f"g{i}" for i in range(len(rows))]), np.array(["c"] * len(rows)), starts, ends, minus
    )


def test_indices_by_hand() -> None:
    assert kmer_indices(encode("ACGTNA"), 2).tolist() == [_kmer("AC"), _kmer("CG"), _kmer("GT"), 16, 16]
    assert kmer_indices(encode("AC"), 3).tolist() == []
    turned = reverse_complement_indices(3)
    assert turned[_kmer("AAC")] == _kmer("GTT")
    assert (turned[turned] == np.arange(64)).all()


def test_counts_follow_strand_windows_and_stop_codon() -> None:
    #        0123456789
    text = "ACGTTGCAAT"
    genes = _genes((4, 7, False), (3, 6, True))
    counts = kmer_counts(genes, lambda _: encode(text), (PromoterWindow(4, 0), PromoterWindow(0, 5)), k=2)
    upstream, downstream = counts[:, :16], counts[:, 16:]

    def named(row: np.ndarray) -> dict[int, int]:
        return {int(i): int(row[i]) for i in np.flatnonzero(row)}

    assert named(upstream[0]) == {_kmer("AC"): 1, _kmer("CG"): 1, _kmer("GT"): 1}
    assert named(downstream[0]) == {_kmer("TG"): 1, _kmer("GC"): 1}  # bases 4 to 7, not to 9
    # The - gene starts at base 5 and reads leftwards: GCAAT upstream of it is ATTG, then C.
    assert named(upstream[1]) == {_kmer("AT"): 1, _kmer("TT"): 1, _kmer("TG"): 1}
    assert named(downstream[1]) == {_kmer("CA"): 1, _kmer("AA"): 1}


def test_a_gene_on_the_other_strand_has_the_same_counts() -> None:
    codes = np.random.default_rng(0).integers(0, 4, 3000).astype(np.uint8)
    forward = kmer_counts(_genes((1200, 1900, False)), lambda _: codes)
    mirrored = kmer_counts(_genes((1100, 1800, True)), lambda _: reverse_complement(codes))
    np.testing.assert_array_equal(forward, mirrored)
    assert forward.sum() == (750 - 5) + (250 - 5) + (500 - 5)


def test_windows_past_the_contig_are_cut() -> None:
    codes = np.zeros(100, dtype=np.uint8)
    counts = kmer_counts(_genes((10, 90, False)), lambda _: codes, (PromoterWindow(500, 0),))
    assert counts.sum() == counts[0, 0] == 5


@pytest.mark.parametrize("features", [7, 60])
def test_ridge_solves_the_normal_equations(features: int) -> None:
    generator = np.random.default_rng(features)
    train, valid, test = (generator.normal(1, 1, (n, features)).astype(np.float32) for n in (30, 20, 5))
    weights = generator.normal(size=(features, 2))
    targets, valid_targets = train @ weights + 3, valid @ weights
    fit = ridge(train, targets, valid, valid_targets, test, penalties=(0.05,))
    centered = train.astype(np.float64) - train.mean(axis=0)
    penalty = 0.05 * np.square(centered).sum() / len(train)
    solved = np.linalg.solve(
        centered.T @ centered + penalty * np.eye(features), centered.T @ (targets - targets.mean(axis=0))
    )
    expected = (test - train.mean(axis=0)) @ solved + targets.mean(axis=0)
    np.testing.assert_allclose(fit.predictions, expected, atol=2e-4)


def test_penalty_is_chosen_for_each_column_on_validation() -> None:
    generator = np.random.default_rng(2)
    train, valid, test = (generator.normal(size=(n, 20)).astype(np.float32) for n in (40, 200, 200))
    signal = generator.normal(size=20)
    easy, noise = train @ signal, generator.normal(size=40) + 0.3 * train @ signal
    fit = ridge(
        train,
        np.stack([easy, noise], axis=1),
        valid,
        np.stack([valid @ signal] * 2, axis=1),
        test,
        penalties=(1e-4, 1.0),
    )
    assert fit.penalties[0] == 1e-4
    assert fit.validation[0] > 0.999
    for penalty in (1e-4, 1.0):
        alone = ridge(train, noise[:, None], valid, (valid @ signal)[:, None], test, penalties=(penalty,))
        assert alone.validation[0] <= fit.validation[1]


def test_ridge_without_genes_says_how_to_skip() -> None:
    nothing = np.zeros((0, 4), dtype=np.float32)
    with pytest.raises(GexprError, match="--no-ridge"):
        ridge(nothing, nothing, nothing, nothing, nothing)


@pytest.mark.data
@pytest.mark.slow
def test_yeast_calibration(reference_data: Path, tmp_path: Path) -> None:
    """About .60 per gene and .39 on the difference, on chromosomes I and IX."""
    yeast = reference_data / "data" / "yeast"
    rows = ["id\tlabel\tfiles\tstrand\tstrand_pair"]
    for condition in ("WT", "D"):
        files = ",".join(str(yeast / "stripe_seq" / f"S288C_{condition}_{i}.bed.gz") for i in (1, 2, 3))
        for strand, other in ("+-", "-+"):
            rows.append(f"{condition}{strand}\t{condition}{strand}\t{files}\t{strand}\t{condition}{other}")
    (tmp_path / "tracks.tsv").write_text("\n".join(rows) + "\n")
    options = PrepareOptions(context_length=4096, bin_size=16, valid=("chrVIII",), test=("chrI", "chrIX"))
    prepare(yeast / "sacCer3.fa.gz", tmp_path / "tracks.tsv", tmp_path / "yeast.h5", options)
    dataset = PreparedDataset(tmp_path / "yeast.h5")
    genes, _ = read_genes(yeast / "genes.bed.gz", dataset.contigs)
    result = evaluate_ridge(dataset, Settings(genes=genes))
    assert result.value("gene", "WT") == pytest.approx(0.595, abs=0.02)
    assert result.value("gene", "D") == pytest.approx(0.608, abs=0.02)
    assert result.value("difference", "D - WT") == pytest.approx(0.394, abs=0.02)
