"""Means of scores over cell types and assays, against the scores of every track."""

from __future__ import annotations

import numpy as np
import pytest
from toy_models import BaseCounts, Unpaired, variant

from gexpr.errors import ConfigError
from gexpr.genome.fasta import Fasta
from gexpr.results import Track
from gexpr.scoring.aggregate import Aggregate
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor


def tracks(*rows: tuple[str, str, str]) -> list[Track]:
    """Tracks from (assay, cell type, transform)."""
    return [
        Track(i, f"t{i}", f"Track {i}", assay, cell, transform=transform)
        for i, (assay, cell, transform) in enumerate(rows)
    ]


MIXED = tracks(
    ("DNASE", "K562", "count"),
    ("CAGE", "liver", "count"),
    ("CAGE", "K562", "count"),
    ("DNASE", "", "count"),
    ("ATAC", "k562", "count"),
    ("CAGE", "", "count"),
)


def test_groups_are_columns_that_say_what_they_are() -> None:
    groups = Aggregate(MIXED, "celltype").tracks
    assert [(each.index, each.id, each.label, each.assay, each.cell_type) for each in groups] == [
        (0, "K562", "K562: mean of 2 tracks", "", "K562"),
        (1, "liver", "liver: mean of 1 track", "CAGE", "liver"),
        (2, "none", "mean of 2 tracks without cell type", "", ""),
        (3, "k562", "k562: mean of 1 track", "ATAC", "k562"),
    ]
    assert [each.id for each in Aggregate(MIXED, "assay").tracks] == ["DNASE", "CAGE", "ATAC"]


def test_a_cell_type_called_none_is_not_mistaken() -> None:
    named = [MIXED[0]._replace(cell_type="none"), MIXED[3]._replace(index=1)]
    assert [each.id for each in Aggregate(named, "celltype").tracks] == ["none", "none_2"]


def test_a_mean_is_the_mean_of_the_columns() -> None:
    values = np.random.default_rng(1).normal(size=(3, 50, 6)).astype(np.float32) * 1000
    means = Aggregate(MIXED, "celltype")(values)
    expected = [values[..., columns].mean(-1, dtype=np.float64) for columns in ([0, 2], [1], [3, 5], [4])]
    assert means.dtype == np.float32
    assert np.array_equal(means, np.stack(expected, -1).astype(np.float32))


def test_a_mean_does_not_depend_on_how_many_rows_are_taken_at_a_time() -> None:
    many = [Track(i, f"t{i}", "", cell_type=f"c{i % 7}") for i in range(1000)]
    aggregate = Aggregate(many, "celltype")
    values = np.random.default_rng(2).normal(size=(1, 40, 1000)).astype(np.float32) * 1e6
    whole = aggregate(values)
    for rows in (slice(0, 1), slice(3, 10), slice(39, 40)):
        assert np.array_equal(aggregate(values[:, rows]), whole[:, rows])
    assert np.array_equal(aggregate(np.asfortranarray(values)), whole)


def test_the_digest_tells_groupings_apart() -> None:
    renamed = [MIXED[0]._replace(cell_type="HepG2"), *MIXED[1:]]
    digests = {Aggregate(each, by).sha256 for each in (MIXED, renamed) for by in ("celltype", "assay")}
    assert len(digests) == 3
    assert Aggregate(MIXED, "assay").sha256 == Aggregate(renamed, "assay").sha256


@pytest.mark.parametrize(
    ("statistic", "transforms", "unsquash", "allowed"),
    [
        ("SAD", ("count", "squashed:power,exponent=0.5"), True, True),
        ("SAD", ("count", "squashed:power,exponent=0.5"), False, False),
        ("SAD", ("count", "log2"), True, False),
        ("SAD", ("log2", "ln"), True, False),
        ("SAD", ("linear", "linear"), True, True),
        ("logFC", ("count", "log2"), True, True),
        ("logFC", ("ln", "log2"), True, True),
        ("logFC", ("count", "squashed:power,exponent=0.5"), False, False),
    ],
)
def test_means_of_different_units_are_refused(
    statistic: str, transforms: tuple[str, str], unsquash: bool, allowed: bool
) -> None:
    pair = tracks(*[("A", "K562", transform) for transform in transforms])
    if allowed:
        assert len(Aggregate(pair, "celltype", [statistic], unsquash).tracks) == 1
        return
    with pytest.raises(ConfigError, match=f"a mean of {statistic} over track 't0' .* 't1' .* units differ"):
        Aggregate(pair, "celltype", [statistic], unsquash)
    # Apart, they are columns of their own.
    apart = [pair[0], pair[1]._replace(cell_type="liver")]
    assert len(Aggregate(apart, "celltype", [statistic], unsquash).tracks) == 2


def test_a_table_without_the_column_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--aggregate celltype needs the column cell_type of .* empty for all"
    ):
        Aggregate([track._replace(cell_type="") for track in MIXED], "celltype")
    with pytest.raises(ConfigError, match="aggregate must be one of celltype, assay, not 'tissue'"):
        Aggregate(MIXED, "tissue")


@pytest.mark.parametrize("merge", [False, True], ids=["strands", "merged"])
def test_scores_are_means_of_the_scores_of_tracks(sequence: str, genome: Fasta, merge: bool) -> None:
    model = BaseCounts() if merge else Unpaired()
    cells = ["K562", "liver", "liver", "K562"] if merge else ["K562", "liver", "K562", ""]
    model.tracks = [track._replace(cell_type=cell) for track, cell in zip(model.tracks, cells, strict=True)]
    changed = {"A": "C", "C": "G", "G": "T", "T": "A"}
    variants = [
        variant(s, sequence[s], changed[sequence[s]], row) for row, s in enumerate(range(500, 900, 31))
    ]
    variants[3] = variants[3]._replace(status="too_long")
    settings = dict(statistics=["logFC", "SAD", "D1"])
    predictor = Predictor(model, batch_size=4, merge_strands=merge)
    plain = VariantScorer(predictor, FastaWindows(genome), **settings).score(variants)
    scorer = VariantScorer(predictor, FastaWindows(genome), aggregate="celltype", **settings)
    means = scorer.score(variants)
    columns = [[0], [1]] if merge else [[0, 2], [1], [3]]
    assert [track.id for track in scorer.tracks] == (
        ["K562", "liver"] if merge else ["K562", "liver", "none"]
    )
    for name, values in means.items():
        expected = np.stack([plain[name][:, each].mean(1, dtype=np.float64) for each in columns], 1)
        assert values.dtype == np.float32
        assert np.array_equal(values, expected.astype(np.float32), equal_nan=True)
        assert np.isnan(values[3]).all() and np.isfinite(np.delete(values, 3, 0)).all()
