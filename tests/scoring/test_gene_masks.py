"""Bins of genes, coverage and distances to TSS, by hand and against a count of single bases."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gexpr.errors import ConfigError
from gexpr.genome.genes import Gene, merge
from gexpr.results import Track, Variant
from gexpr.scoring.gene_masks import (
    GeneIndex,
    GeneMask,
    nearest_tss_of,
    parse_gene_mask,
    strand_matches,
    variant_bases,
)

ALL = np.ones(10, dtype=bool)


def gene(name: str, *exons: tuple[int, int], strand: str = "+", contig: str = "c", tss=None) -> Gene:
    start, end = min(exons)[0], max(exons)[1]
    ends = {"+": (start,), "-": (end - 1,), ".": ()}[strand]
    return Gene(name, name, contig, strand, start, end, merge(exons), ends if tss is None else tuple(tss))


def bins_of(index: GeneIndex, first: int = 1000, covered=ALL) -> dict[int, tuple[list[int], float]]:
    """Gene -> its bins, and its coverage, in a window of bins of 10 bp."""
    found = index.bins("c", first, 10, covered)
    return {
        int(number): (np.flatnonzero(mask).tolist(), float(share))
        for number, mask, share in zip(*found, strict=True)
    }


def test_exons_by_the_middles_of_bins() -> None:
    index = GeneIndex(
        [
            gene("whole", (1010, 1030), (1060, 1070)),
            gene("most", (1014, 1036)),  # from 1.4 to 3.6
            gene("middle", (1044, 1046)),
            gene("between", (1046, 1054)),
            gene("halves", (1005, 1015), (1035, 1045)),  # 0.5 -> 0, 1.5 -> 2, 3.5 -> 4, 4.5 -> 4
        ]
    )
    assert bins_of(index) == {
        0: ([1, 2, 6], 1.0),
        1: ([1, 2, 3], 1.0),
        2: ([4], 1.0),
        4: ([0, 1], 1.0),
    }


def test_other_masks() -> None:
    genes = [gene("plus", (1014, 1016), (1055, 1066)), gene("minus", (1014, 1026), strand="-")]
    assert bins_of(GeneIndex(genes, GeneMask("gene"))) == {0: ([1, 2, 3, 4, 5, 6], 1.0), 1: ([1, 2], 1.0)}
    assert bins_of(GeneIndex(genes, GeneMask("exon", overlap="any")))[0] == ([1, 5, 6], 1.0)
    # The TSS is 1014, so 1004 to 1019; of the other gene 1025, so 1020 to 1035.
    assert bins_of(GeneIndex(genes, GeneMask("tss", 10, 5, "any"))) == {0: ([0, 1], 1.0), 1: ([2, 3], 1.0)}
    assert bins_of(GeneIndex(genes, parse_gene_mask("tss", "0"))) == {0: ([1], 1.0), 1: ([2], 1.0)}


def test_several_tss_and_a_window_that_begins_before_the_contig() -> None:
    index = GeneIndex([gene("g", (3, 90), tss=(3, 8, 50))], GeneMask("tss", 5, 5, "any"))
    # [0, 14) and [45, 56)
    assert bins_of(index, first=-20) == {0: ([2, 3, 6, 7], 1.0)}


def test_partly_outside() -> None:
    index = GeneIndex(
        [
            gene("left", (980, 1020)),
            gene("right", (1080, 1120)),
            gene("around", (900, 1300)),
            gene("ends", (990, 1000)),
            gene("begins", (1100, 1110)),
            gene("one base", (1000, 1001)),
            gene("intron", (900, 950), (1200, 1250)),
        ]
    )
    assert bins_of(index) == {0: ([0, 1], 0.5), 1: ([8, 9], 0.5), 2: (list(range(10)), 0.25)}
    assert index.overlapping("c", 1000, 1100).tolist() == [0, 1, 2, 5]
    assert bins_of(index, first=5000) == {}
    assert len(index.bins("other", 1000, 10, ALL).genes) == 0


def test_uncovered_bins_belong_to_no_gene() -> None:
    covered = np.arange(10) < 7
    index = GeneIndex([gene("a", (1050, 1100)), gene("b", (1070, 1100)), gene("c", (1065, 1075))])
    # Of b nothing is left; c has its only bins, by their middles, at 6 and 7.
    assert bins_of(index, covered=covered) == {0: ([5, 6], 0.4), 2: ([6], 0.5)}


def test_genes_without_a_tss_have_no_mask_around_it() -> None:
    index = GeneIndex([gene("a", (1000, 1010), strand="."), gene("b", (1000, 1010))], GeneMask("tss", 5, 5))
    assert index.without_mask == 1 and list(bins_of(index)) == [1]
    assert GeneIndex([], GeneMask()).bins("c", 0, 10, ALL).masks.shape == (0, 10)


spans = st.tuples(st.integers(0, 150), st.integers(1, 60)).map(lambda each: (each[0], sum(each)))
some_genes = st.lists(
    st.tuples(st.lists(spans, min_size=1, max_size=4), st.sampled_from("+-."), st.sampled_from("cd")),
    max_size=8,
).map(lambda all: [gene(str(i), *each[0], strand=each[1], contig=each[2]) for i, each in enumerate(all)])
masks = st.one_of(
    st.sampled_from(["exon", "gene"]).map(GeneMask),
    st.builds(GeneMask, st.just("tss"), st.integers(0, 20), st.integers(0, 20), st.just("majority")),
)


@given(some_genes, masks, st.integers(-30, 200), st.integers(1, 12), st.lists(st.booleans(), min_size=1))
def test_against_single_bases(genes, mask, first, size, covered) -> None:
    index = GeneIndex(genes, mask)
    end = first + size * len(covered)
    expected: dict[int, tuple[set[int], set[int]]] = {}
    overlapping = []
    for number, each in enumerate(genes):
        bases = {base for low, high in mask.intervals(each) for base in range(low, high)}
        inside = {base for base in bases if first <= base < end}
        if each.contig != "c" or not inside:
            continue
        overlapping.append(number)
        # What baskerville's Gene.output_slice says, for all intervals of the mask.
        bins = set()
        for low, high in mask.intervals(each):
            low, high = (min(max(0, value - first), end - first) for value in (low, high))
            bins |= set(range(int(np.round(low / size)), int(np.round(high / size))))
        bins = {place for place in bins if covered[place]}
        share = {base for base in inside if covered[(base - first) // size]}
        if bins:
            expected[number] = bins, len(share) / len(bases)
    assert index.overlapping("c", first, end).tolist() == overlapping
    found = index.bins("c", first, size, np.array(covered))
    assert found.genes.tolist() == list(expected)
    for number, row, share in zip(*found, strict=True):
        assert set(np.flatnonzero(row)) == expected[number][0]
        assert share == expected[number][1] and 0 < share <= 1
    # A bin counts by one base as soon as the mask says so.
    wide = GeneIndex(genes, mask._replace(overlap="any")).bins("c", first, size, np.ones(len(covered), bool))
    assert wide.genes.tolist() == overlapping
    for number, row in zip(wide.genes, wide.masks, strict=True):
        bases = {base for low, high in mask.intervals(genes[number]) for base in range(low, high)}
        assert set(np.flatnonzero(row)) == {(b - first) // size for b in bases if first <= b < end}


def test_distance_is_negative_upstream() -> None:
    index = GeneIndex([gene("plus", (1000, 2000)), gene("minus", (3000, 4000), strand="-")])
    both = np.array([0, 1])
    assert index.tss_distance(both, 990, 991).tolist() == [-10, 3009]
    assert index.tss_distance(both, 1000, 1001).tolist() == [0, 2999]
    assert index.tss_distance(both, 995, 1003).tolist() == [0, 2997]
    assert index.tss_distance(both, 4009, 4011).tolist() == [3009, -10]
    assert index.nearest_tss("c", 990, 991) == (0, -10)
    assert index.nearest_tss("c", 2499, 2500) == (0, 1499)
    assert index.nearest_tss("c", 2500, 2501) == (1, 1499)
    assert index.nearest_tss("c", 9000, 9001) == (1, -5001)
    assert index.nearest_tss("other", 9000, 9001) is None


def test_ties_and_genes_without_tss() -> None:
    genes = [
        gene("none", (0, 9), strand="."),
        gene("b", (5, 9), tss=(100, 120)),
        gene("a", (5, 9), tss=(120,)),
    ]
    index = GeneIndex(genes)
    assert np.array_equal(index.tss_distance(np.arange(3), 110, 111), [np.nan, -10, -10], equal_nan=True)
    # Both genes have one at 120; the first comes first. Upstream and downstream are equally near.
    assert index.nearest_tss("c", 125, 126) == (1, 5)
    assert index.nearest_tss("c", 110, 111)[0] == 1
    minus = GeneIndex([gene("m", (5, 9), strand="-", tss=(100, 120))])
    assert minus.tss_distance(np.array([0]), 110, 111).tolist() == [-10]


@given(some_genes, st.integers(-20, 260), st.integers(1, 30))
def test_nearest_tss_against_all_of_them(genes, start, length) -> None:
    index = GeneIndex(genes)
    end = start + length
    gaps = {}
    for number, each in enumerate(genes):
        for tss in each.tss if each.contig == "c" else ():
            gap = min(abs(base - tss) for base in range(start, end))
            gaps.setdefault(number, []).append(gap)
    found = index.nearest_tss("c", start, end)
    if not gaps:
        assert found is None
        return
    nearest = min(min(each) for each in gaps.values())
    assert abs(found.distance) == nearest
    assert found.gene == min(number for number, each in gaps.items() if min(each) == nearest)
    distances = index.tss_distance(np.array(list(gaps)), start, end)
    assert np.abs(distances).tolist() == [min(each) for each in gaps.values()]
    upstream = genes[found.gene]
    if found.distance < 0 and len(upstream.tss) == 1:
        assert end <= upstream.tss[0] if upstream.strand == "+" else start > upstream.tss[0]


def test_nearest_tss_of_variants() -> None:
    index = GeneIndex([gene("plus", (1000, 2000)), gene("far", (5000, 6000), contig="d", strand="-")])

    def variant(contig: str, start: int, ref: str, alt: str, status: str = "ok") -> Variant:
        return Variant(0, 1, contig, start + 1, ".", ref, alt, status, contig, start, ref, alt)

    variants = [
        variant("c", 990, "A", "C"),
        variant("c", 990, "ACGTACGTACGT", ""),
        variant("c", 1000, "", "A"),  # between 999 and 1000
        variant("c", 1002, "", "A"),  # between 1001 and 1002
        variant("d", 7000, "A", "C"),
        variant("e", 7000, "A", "C"),
        variant("c", 1000, "A", "C", "too_long"),
    ]
    genes, distances = nearest_tss_of(index, variants)
    assert genes.tolist() == [0, 0, 0, 0, 1, -1, -1]
    assert np.array_equal(distances, [-10, 0, 0, 1, -1001, np.nan, np.nan], equal_nan=True)
    assert variant_bases(variants[2]) == (999, 1001) and variant_bases(variants[0]) == (990, 991)


def test_strands() -> None:
    tracks = [Track(i, str(i), "", strand=strand) for i, strand in enumerate("+-.+")]
    assert strand_matches("+-.", tracks).tolist() == [
        [True, False, True, True],
        [False, True, True, False],
        [True, True, True, True],
    ]
    assert strand_matches([], tracks).shape == (0, 4)


def test_masks_by_name() -> None:
    assert parse_gene_mask("Exon") == GeneMask("exon") and str(GeneMask()) == "exon,majority"
    assert parse_gene_mask("gene", overlap="any") == GeneMask("gene", overlap="any")
    assert parse_gene_mask("tss") == GeneMask("tss", 250, 250, "any")
    assert str(parse_gene_mask("tss", "300, 50")) == "tss:300,50,any"


@pytest.mark.parametrize(
    ("kind", "window", "overlap", "message"),
    [
        ("exons", None, None, "one of exon, gene, tss, not 'exons'"),
        ("exon", "100", None, "the gene mask exon takes none"),
        ("tss", "-5", None, "BP, such as 250, or UP,DOWN"),
        ("tss", "1,2,3", None, "not '1,2,3'"),
        ("tss", None, "half", "one of majority, any, not 'half'"),
    ],
)
def test_masks_that_are_refused(kind: str, window, overlap, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_gene_mask(kind, window, overlap)


@pytest.mark.data
def test_the_example_of_the_documentation(reference_data: Path, monkeypatch, capsys) -> None:
    text = (Path(__file__).parents[2] / "docs" / "genes.md").read_text()
    code, printed = re.search(
        r"```python\n(import numpy.*?)```\n\n```text\n(.*?)```", text, re.DOTALL
    ).groups()
    monkeypatch.chdir(reference_data / "data" / "yeast")
    exec(code, {})
    assert capsys.readouterr().out == printed
