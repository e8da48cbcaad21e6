"""Strand pairs as one column: names, choices, refusals, and the numbers against a model that adds them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, save_tiny_checkpoint, variant

from gexpr import checkpoints
from gexpr.errors import ConfigError
from gexpr.genome.fasta import Fasta
from gexpr.models.base import SequenceModel
from gexpr.results import Track, Variant
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.strands import MergedStrands, without_strand
from gexpr.scoring.transforms import NaturalScale


def table(*rows: tuple[str, str, str, int]) -> list[Track]:
    """Tracks from (id, label, strand, place of the partner)."""
    return [Track(i, id, label, strand=s, strand_pair=pair) for i, (id, label, s, pair) in enumerate(rows)]


CAGE = table(
    ("dnase", "DNASE:K562", ".", 0),
    ("CN1+", "CAGE:liver", "+", 2),
    ("CN1-", "CAGE:liver", "-", 1),
    ("rna_rev", "RNA, - strand", "-", 4),
    ("rna_fwd", "RNA, + strand", "+", 3),
)


@pytest.mark.parametrize(
    ("plus", "minus", "expected"),
    [
        ("CN1+", "CN1-", "CN1"),
        ("WT_plus", "WT_minus", "WT"),
        ("x.minus.bw", "x.plus.bw", "x.bw"),
        ("STRIPE-seq TSS, + strand", "STRIPE-seq TSS, - strand", "STRIPE-seq TSS"),
        ("fwd_rep1", "rev_rep1", "rep1"),
        ("RNA (forward)", "RNA (reverse)", "RNA"),
        ("count_A", "count_T", None),
        ("plus", "minus", None),
        ("x_plus", "y_minus", None),
        ("surplus", "surminus", None),
        ("a", "a", None),
    ],
)
def test_names_without_the_strand(plus: str, minus: str, expected: str | None) -> None:
    assert without_strand(plus, minus) == expected


@pytest.mark.parametrize(
    ("chosen", "ids", "used"),
    [
        ([0, 1, 2, 3, 4], ["dnase", "CN1", "rna"], [0, 1, 2, 3, 4]),
        ([4, 0], ["rna", "dnase"], [0, 3, 4]),
        ([2], ["CN1"], [1, 2]),
        ([3, 1, 4, 2], ["rna", "CN1"], [1, 2, 3, 4]),
        ([0], ["dnase"], [0]),
    ],
)
def test_a_strand_brings_its_partner(chosen: list[int], ids: list[str], used: list[int]) -> None:
    merged = MergedStrands(CAGE, chosen)
    assert [track.id for track in merged.tracks] == ids
    assert merged.used == used
    predictions = torch.arange(5.0)[None, None, merged.used] + 10
    sums = {"dnase": 10.0, "CN1": 23.0, "rna": 27.0}
    assert merged(predictions).tolist() == [[[sums[id] for id in ids]]]


def test_a_column_is_described_by_what_its_strands_share() -> None:
    tracks = [track._replace(assay="CAGE", cell_type=track.id[:3], transform="count") for track in CAGE]
    liver, rna = MergedStrands(tracks, [1, 4]).tracks
    assert (liver.label, liver.assay, liver.cell_type, liver.strand) == ("CAGE:liver", "CAGE", "CN1", ".")
    assert (rna.label, rna.id) == ("RNA", "rna")
    assert liver.strand_pair == liver.index == 1 and rna.strand_pair == rna.index == 4


def test_ids_stay_unique_and_do_not_depend_on_the_choice() -> None:
    tracks = table(
        ("x+", "l", "+", 1),
        ("x-", "l", "-", 0),
        ("x_fwd", "l", "+", 3),
        ("x_rev", "l", "-", 2),
        ("y", "l", ".", 4),
        ("y+", "l", "+", 6),
        ("y-", "l", "-", 5),
        ("y+_y-", "l", ".", 7),
        ("a", "A one", "+", 9),
        ("b", "B two", "-", 8),
    )
    ids = [track.id for track in MergedStrands(tracks, range(10)).tracks]
    assert ids == ["x+_x-", "x_fwd_x_rev", "y", "y+_y-_2", "y+_y-", "a_b"]
    assert [track.id for track in MergedStrands(tracks, [5]).tracks] == ["y+_y-_2"]
    assert MergedStrands(tracks, [9]).tracks[0].label == "A one + B two"


@pytest.mark.parametrize(
    ("plus", "minus", "unsquash", "message"),
    [
        ("log2", "log2", True, r"'CN1\+' has the transform 'log2', its predictions are no counts; leave"),
        ("linear", "linear", True, "transform 'linear', its predictions are no counts"),
        ("squashed:power,exponent=0.5", "squashed:power,exponent=0.5", False, "with --no-unsquash it stays"),
        ("count", "ln", True, "'CN1-' has the transform 'ln'"),
        (
            "count",
            "squashed:power,exponent=0.5",
            True,
            "one has the transform 'count' and scale 1, the other",
        ),
    ],
)
def test_what_cannot_be_added_is_named(plus: str, minus: str, unsquash: bool, message: str) -> None:
    tracks = list(CAGE)
    tracks[1], tracks[2] = tracks[1]._replace(transform=plus), tracks[2]._replace(transform=minus)
    with pytest.raises(ConfigError, match=message):
        MergedStrands(tracks, [0, 1], unsquash)
    assert len(MergedStrands(tracks, [0, 4], unsquash).tracks) == 2


def test_strands_of_different_scale_are_refused() -> None:
    tracks = [*CAGE[:2], CAGE[2]._replace(scale=2.0), *CAGE[3:]]
    with pytest.raises(ConfigError, match="scale 1, the other 'count' and 2"):
        MergedStrands(tracks, [1])


class Added(SequenceModel):
    """A model whose outputs are the sums, in natural scale, of another one's strand pairs."""

    def __init__(self, inner: SequenceModel, columns: MergedStrands, natural) -> None:
        super().__init__(dataclasses.replace(inner.config, heads={"tracks": len(columns.tracks)}))
        self.inner = inner
        self.columns = columns
        self.to_natural = natural
        self.tracks = [
            Track(i, track.id, track.label, strand_pair=i) for i, track in enumerate(columns.tracks)
        ]

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        return self.columns(self.to_natural(self.inner(x, head))[..., self.columns.used])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SequenceModel:
    return checkpoints.load(str(save_tiny_checkpoint(tmp_path_factory.mktemp("strands") / "tiny")))


@pytest.fixture(scope="module")
def variants(sequence: str) -> list[Variant]:
    starts = range(600, 1300, 70)
    result = [variant(s, sequence[s], "ACGT"["CATG".index(sequence[s])], row) for row, s in enumerate(starts)]
    result.append(variant(900, sequence[900:903], "", len(result)))
    result.append(variant(1000, "", "ACGTT", len(result)))
    return result


@pytest.mark.parametrize("engine", ["plain", "incremental"])
@pytest.mark.parametrize("average", ["predictions", "scores"])
@pytest.mark.parametrize("squashed", [False, True], ids=["count", "squashed"])
def test_scores_are_those_of_a_model_that_adds_the_strands(
    tiny: SequenceModel, genome: Fasta, variants: list[Variant], engine: str, average: str, squashed: bool
) -> None:
    before = tiny.tracks
    transform = "squashed:shifted_power,exponent=0.5" if squashed else "count"
    tracks = [track._replace(transform=transform) for track in BaseCounts().tracks]
    settings = dict(batch_size=4, shifts=(0, 3))
    kept = dict(statistics=["logFC", "SAD", "D2", "sqrtSAD"], average=average)
    try:
        tiny.tracks = tracks
        predictor = Predictor(tiny, merge_strands=True, **settings)
        assert [track.id for track in predictor.tracks] == ["count_A_count_T", "count_C_count_G"]
        merged = VariantScorer(predictor, FastaWindows(genome), engine=engine, **kept)
        scores = merged.score(variants)
        columns = MergedStrands(tracks, range(4))
        model = Added(tiny, columns, NaturalScale(tracks)).eval()
        expected = VariantScorer(Predictor(model, **settings), FastaWindows(genome), **kept).score(variants)
    finally:
        tiny.tracks = before
    for name, values in scores.items():
        assert values.shape == (len(variants), 2)
        assert np.abs(expected[name]).max() > 1e-3
        np.testing.assert_allclose(values, expected[name], rtol=2e-4, atol=2e-5, err_msg=name)


def test_an_unpaired_track_is_as_without_merging(
    tiny: SequenceModel, genome: Fasta, variants: list[Variant]
) -> None:
    before = tiny.tracks
    try:
        tiny.tracks = [
            track._replace(strand_pair=track.index) if track.index in (0, 3) else track for track in before
        ]
        plain, merged = (
            VariantScorer(Predictor(tiny, batch_size=4, merge_strands=merge), FastaWindows(genome))
            for merge in (False, True)
        )
        assert [track.id for track in merged.tracks] == ["count_A", "count_C_count_G", "count_T"]
        one, other = plain.score(variants)["logFC"], merged.score(variants)["logFC"]
    finally:
        tiny.tracks = before
    assert np.array_equal(one[:, [0, 3]], other[:, [0, 2]])
