"""Promoter windows on both strands, sums over them, conditions, counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gexpr.datasets.transforms import target
from gexpr.errors import ConfigError, InputError
from gexpr.evaluation.conditions import Condition, conditions_of, gene_columns
from gexpr.evaluation.counts import CountScale
from gexpr.evaluation.genes import PromoterWindow, read_genes, window_sums
from gexpr.results import Track


def test_window_is_relative_to_the_start_codon(tmp_path: Path) -> None:
    bed = tmp_path / "genes.bed"
    bed.write_text("chr1\t1000\t2000\tplus\t0\t+\nchr1\t1000\t2000\tminus\t0\t-\nother\t1\t9\tx\t0\t+\n")
    genes, unknown = read_genes(bed, ["chr1"])
    starts, ends = genes.windows(PromoterWindow(300, 50))
    assert list(zip(starts, ends, strict=True)) == [(700, 1050), (1950, 2300)]
    assert genes.names.tolist() == ["plus", "minus"]
    assert unknown == {"other": 1}


@pytest.mark.parametrize("text", ["300", "300,50,1", "a,b", "0,0", "-5,3", ""])
def test_bad_window(text: str) -> None:
    with pytest.raises(ConfigError, match="promoter window"):
        PromoterWindow.parse(text)


def test_window_may_lie_on_one_side() -> None:
    assert PromoterWindow.parse("500,-100") == PromoterWindow(500, -100)


def test_gene_without_strand_is_refused_with_its_line(tmp_path: Path) -> None:
    bed = tmp_path / "genes.bed"
    bed.write_text("chr1\t1\t9\ta\t0\t+\nchr1\t1\t9\tb\t0\t.\n")
    with pytest.raises(InputError, match="line 2: a gene needs a strand"):
        read_genes(bed, ["chr1"])


def test_no_gene_on_the_contigs(tmp_path: Path) -> None:
    bed = tmp_path / "genes.bed"
    bed.write_text("scaffold7\t1\t9\ta\t0\t+\n")
    with pytest.raises(InputError, match="scaffold7"):
        read_genes(bed, ["chr1"])


@given(
    st.integers(1, 12),
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(-30, 120), st.integers(0, 60)), min_size=1, max_size=5),
)
def test_window_sums_equal_sums_over_bases(bins: int, size: int, intervals: list[tuple[int, int]]) -> None:
    values = np.random.default_rng(bins * 100 + size).random((bins, 2))
    bases = np.repeat(values / size, size, axis=0)
    starts = np.array([start for start, _ in intervals])
    ends = starts + [width for _, width in intervals]
    expected = [
        bases[max(s, 0) : max(e, 0)].sum(axis=0) for s, e in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    np.testing.assert_allclose(window_sums(values, size, starts, ends), expected, atol=1e-12)


def _track(index: int, label: str, strand: str, pair: int, cell_type: str = "") -> Track:
    return Track(index, f"id{index}", label, strand=strand, strand_pair=pair, cell_type=cell_type)


def test_conditions_pair_strands_and_take_the_common_name() -> None:
    tracks = [
        _track(0, "WT, minus", "-", 2),
        _track(1, "heat", ".", 1),
        _track(2, "WT, plus", "+", 0),
        _track(3, "+ acid", "+", 4, "acid cells"),
        _track(4, "- acid", "-", 3, "acid cells"),
    ]
    assert conditions_of(tracks) == [
        Condition("WT", 2, 0),
        Condition("heat", 1, 1),
        Condition("acid cells", 3, 4),
    ]


def test_conditions_of_a_selection_count_positions() -> None:
    tracks = [_track(5, "a (+)", "+", 7), _track(7, "a (-)", "-", 5), _track(9, "b", "+", 8)]
    assert conditions_of(tracks) == [Condition("a", 0, 1), Condition("b", 2, 2)]


def test_equal_names_are_told_apart_by_id() -> None:
    tracks = [_track(0, "same", ".", 0), _track(1, "same", ".", 1)]
    assert [condition.name for condition in conditions_of(tracks)] == ["id0", "id1"]


def test_gene_reads_the_track_of_its_strand() -> None:
    columns = gene_columns(Condition("WT", 2, 0), np.array([False, True, False]))
    assert columns.tolist() == [2, 0, 2]


@pytest.mark.parametrize("limit", [None, 5.0, 64.0])
@pytest.mark.parametrize(("stat", "rooted"), [("sum", False), ("sum_sqrt", True)])
def test_counts_are_restored(limit: float | None, stat: str, rooted: bool) -> None:
    counts = np.array([0.0, 1, 3, 4, 63, 64, 65, 100, 2000])
    targets = target(counts, 1, scale=0.5, sum_stat=stat, clip_soft=limit)
    np.testing.assert_allclose(CountScale(limit, rooted, 0.5).restore(targets), counts, rtol=1e-4, atol=1e-5)
