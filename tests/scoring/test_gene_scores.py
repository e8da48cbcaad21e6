"""Scores of genes: by hand, against the statistics of whole tensors, and gathered into blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gexpr.genome.genes import Gene
from gexpr.results import Track, Variant
from gexpr.scoring.definitions import STATISTICS
from gexpr.scoring.gene_masks import GeneBins, GeneIndex
from gexpr.scoring.genes import GeneCollector, gene_scores
from gexpr.scoring.statistics import compute
from gexpr.writers.gene_scores import GeneName

NAMES = tuple(STATISTICS)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).gamma(1.0, size=shape).astype(np.float32))


def random_masks(counts: list[int], bins: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    masks = [rng.random((count, bins)) < rng.random((count, 1)) for count in counts]
    for mask in masks:
        mask[~mask.any(axis=1), 0] = True
    return masks


def test_by_hand() -> None:
    reference = torch.tensor([[[1.0, 10.0], [2.0, 0.0], [4.0, 0.0]]])
    alternate = torch.tensor([[[1.0, 3.0], [5.0, 0.0], [9.0, 0.0]]])
    masks = [np.array([[True, False, True], [False, True, False]])]
    log_fc, sad = gene_scores(reference, alternate, masks, ("logFC", "SAD"))
    expected = [[np.log2(11 / 6), np.log2(4 / 11)], [np.log2(6 / 3), 0.0]]
    assert np.allclose(log_fc.numpy(), expected, rtol=1e-6, atol=0)
    assert sad.tolist() == [[5.0, -7.0], [3.0, 0.0]]
    (half,) = gene_scores(reference, alternate, masks, ("logSED",), pseudocount=0.5)
    assert np.isclose(half[0, 0].item(), np.log2(10.5 / 5.5), rtol=1e-6)


@pytest.mark.parametrize("elements", [1 << 22, 300, 7, 1])
def test_against_masked_statistics(elements: int) -> None:
    reference, alternate = draw(0, 4, 33, 5), draw(1, 4, 33, 5)
    masks = random_masks([3, 0, 1, 6], 33)
    tracks = [
        Track(i, str(i), "", transform=t) for i, t in enumerate(("count", "ln", "count", "log2", "count"))
    ]
    found = gene_scores(reference, alternate, masks, NAMES, pseudocount=2.0, tracks=tracks, elements=elements)
    assert found.shape == (len(NAMES), 10, 5) and found.dtype == torch.float32
    repeated = torch.tensor([0] * 3 + [2] + [3] * 6)
    mask = torch.from_numpy(np.concatenate(masks))
    for name, values in zip(NAMES, found, strict=True):
        whole = compute(name, reference[repeated], alternate[repeated], mask, pseudocount=2.0, tracks=tracks)
        torch.testing.assert_close(values, whole, rtol=1e-6, atol=1e-6)


def test_rows_do_not_depend_on_their_company() -> None:
    reference, alternate = draw(0, 5, 70, 3), draw(1, 5, 70, 3)
    masks = random_masks([4, 2, 5, 1, 3], 70)
    together = gene_scores(reference, alternate, masks, NAMES)
    row = 0
    for pair, mask in enumerate(masks):
        for each in mask:
            alone = gene_scores(reference[pair : pair + 1], alternate[pair : pair + 1], [each[None]], NAMES)
            assert torch.equal(alone[:, 0], together[:, row])
            row += 1


def test_pairs_by_their_places() -> None:
    stacked = draw(0, 6, 12, 2)
    masks = random_masks([2, 1, 3], 12)
    left, right = [0, 0, 3], [1, 2, 5]
    expected = gene_scores(stacked[left], stacked[right], masks, NAMES)
    assert torch.equal(gene_scores(stacked, stacked, masks, NAMES, left=left, right=right), expected)


def test_bins_outside_the_mask_never_matter() -> None:
    reference, alternate = draw(0, 1, 20, 2), draw(1, 1, 20, 2)
    masks = random_masks([4], 20)
    expected = gene_scores(reference, alternate, masks, NAMES)
    outside = torch.from_numpy(~masks[0].any(axis=0))
    outside[0] = True
    for mask in masks:
        mask[:, 0] = False
        mask[:, 1] |= ~mask.any(axis=1)
    outside &= ~torch.from_numpy(masks[0].any(axis=0))
    expected = gene_scores(reference, alternate, masks, NAMES)
    assert outside.any()
    alternate[0, outside], reference[0, outside] = float("nan"), float("inf")
    assert torch.equal(gene_scores(reference, alternate, masks, NAMES), expected)


def test_without_genes_and_without_bins() -> None:
    predictions = draw(0, 2, 9, 4)
    none = [np.zeros((0, 9), dtype=bool)] * 2
    assert gene_scores(predictions, predictions, none, NAMES).shape == (len(NAMES), 0, 4)
    with pytest.raises(ValueError, match="without bins"):
        gene_scores(predictions, predictions, [*none[:1], np.zeros((1, 9), dtype=bool)])


def test_many_small_differences_keep_their_digits() -> None:
    reference = torch.full((1, 6000, 1), 1000.0)
    alternate = reference.clone()
    alternate[0, 5000] += 1.0
    (value,) = gene_scores(reference, alternate, [np.ones((1, 6000), dtype=bool)])
    assert np.isclose(value.item(), np.log2(6_000_002 / 6_000_001), rtol=1e-4)


def test_collecting_a_block() -> None:
    genes = [
        Gene("A", "a", "c", "+", 100, 200, ((100, 200),), (100,)),
        Gene("B", "b", "c", "-", 150, 300, ((150, 300),), (299,)),
        Gene("C", "c", "c", ".", 150, 300, ((150, 300),), ()),
    ]
    tracks = [Track(0, "p", "", strand="+"), Track(1, "m", "", strand="-"), Track(2, "n", "")]
    variants = [Variant(i, i, "c", 91, ".", "A", "C", "ok", "c", 90, "A", "C") for i in range(4)]
    index = GeneIndex(genes)
    window = np.zeros((2, 1), dtype=bool)
    collector = GeneCollector(index, tracks, ("logFC", "SAD"))
    values = np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)
    # Row 3 first; rows 0 and 2 are one allele; row 1 has no gene.
    collector.add(
        [[3], [1]],
        [
            GeneBins(np.array([1]), window[:1], np.array([0.5])),
            GeneBins(np.array([], dtype=np.int64), window[:0], np.array([])),
        ],
        values[:, :1] + 100,
    )
    collector.add(
        [[0, 2]], [GeneBins(np.array([0, 1, 2]), np.ones((3, 1), bool), np.array([1, 1, 0.25]))], values
    )
    block = collector.block(variants)
    assert block.variant.tolist() == [0, 0, 0, 2, 2, 2, 3]
    assert block.genes == (GeneName("A", "a", "+"), GeneName("B", "b", "-"), GeneName("C", "c", "."))
    assert block.gene.tolist() == [0, 1, 2, 0, 1, 2, 1]
    assert block.coverage.tolist() == [1, 1, 0.25, 1, 1, 0.25, 0.5]
    expected = np.array([-10, 209, np.nan] * 2 + [209])
    assert np.array_equal(block.tss_distance, expected, equal_nan=True)
    nan = np.nan
    first = [[0, nan, 2], [nan, 4, 5], [6, 7, 8]]
    assert np.array_equal(block.scores["logFC"], [*first, *first, [nan, 101, 102]], equal_nan=True)
    assert block.scores["SAD"][6, 1] == 110


def test_a_block_without_rows() -> None:
    block = GeneCollector(GeneIndex([]), [Track(0, "p", "")], ("logFC",)).block([])
    assert block.variant.shape == (0,) and block.genes == () and block.scores["logFC"].shape == (0, 1)
