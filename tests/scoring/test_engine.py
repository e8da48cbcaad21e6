"""Variant scores known on paper, and that they do not depend on company, order or batch."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, CenterBase, Unpaired, variant

from gexpr.errors import ConfigError, GexprError
from gexpr.genome.codes import encode
from gexpr.genome.fasta import Fasta
from gexpr.models import registry
from gexpr.models.base import SequenceModel
from gexpr.results import Variant
from gexpr.scoring.definitions import parse_mask
from gexpr.scoring.engine import FastaWindows, VariantScorer, allele_limit, strongest
from gexpr.scoring.predictor import Predictor

FIRST, LAST = 16, 48  # window coordinates that the toy's output covers


def scorer(
    model: SequenceModel, genome: Fasta, *, batch_size: int = 4, rc: bool = True, shifts=(0,), **settings
):
    predictor = Predictor(model, batch_size=batch_size, reverse_complement=rc, shifts=shifts)
    return VariantScorer(predictor, FastaWindows(genome), **settings)


def other(base: str) -> str:
    return "ACGT"[("ACGT".index(base) + 1) % 4]


def snv(sequence: str, start: int, row: int = 0) -> Variant:
    return variant(start, sequence[start], other(sequence[start]), row)


@pytest.fixture(scope="module")
def small_model() -> SequenceModel:
    """A real model with drawn weights: convolutions, pooling, sparse attention, head."""
    torch.manual_seed(3)
    model = registry.build(
        "sparse_enformer",
        dict(
            context_length=512,
            target_length=24,
            heads={"tracks": 4},
            channels=24,
            num_downsamples=4,
            divisible_by=8,
            depth=2,
            attention_heads=2,
            key_size=8,
            positions="rotary",
            block_size=4,
            random_blocks=1,
        ),
    ).eval()
    # Output layers that start at zero would hide mistakes.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.tracks = [track._replace(id=f"t{track.index}") for track in BaseCounts().tracks]
    return model


def test_log_fc_and_sad_on_paper(sequence: str, genome: Fasta) -> None:
    start = 1000
    ref, alt = sequence[start], other(sequence[start])
    window = sequence[start - 32 : start + 32][FIRST:LAST]
    before = [window.count(base) for base in "ACGT"]
    after = [n + (base == alt) - (base == ref) for n, base in zip(before, "ACGT", strict=True)]
    scores = scorer(BaseCounts(), genome, statistics=["logFC", "SAD"]).score([variant(start, ref, alt)])
    assert scores["SAD"][0].tolist() == [b - a for a, b in zip(before, after, strict=True)]
    expected = [math.log2((b + 1) / (a + 1)) for a, b in zip(before, after, strict=True)]
    assert scores["logFC"][0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("start", [0, 3, 1000, 1999])
def test_the_variants_own_base_is_at_the_middle_of_the_window(
    start: int, sequence: str, genome: Fasta
) -> None:
    each = snv(sequence, start)
    codes = FastaWindows(genome)
    for length in (64, 65, 70):
        assert codes.reference(each, length)[length // 2] == encode(each.norm_ref)[0]
        assert codes.alternate(each, length)[length // 2] == encode(each.norm_alt)[0]
    scores = scorer(CenterBase(), genome, rc=False, statistics=["SAX"]).score([each])["SAX"][0]
    expected = [(base == each.norm_alt) - (base == each.norm_ref) for base in "ACGT"]
    assert scores.tolist() == expected


def test_on_the_reverse_strand_the_window_is_the_same(sequence: str, genome: Fasta) -> None:
    # Base i lies at L - 1 - i of the reverse complement, so the toy's center base is the one before.
    start = 1001
    each = variant(start - 1, sequence[start - 1], other(sequence[start - 1]))
    window = FastaWindows(genome).reference(each, 64)
    predictor = Predictor(CenterBase(), batch_size=1)
    reverse = {p.reverse: v for p, v in predictor.predict_passes(window[None])}[True]
    base = "ACGT"[int(reverse[0, 0].argmax())]
    assert base == sequence[start - 2]  # complement swapped back by the strand pairs


def test_windows_at_both_ends_of_a_contig_are_padded(sequence: str, genome: Fasta) -> None:
    scores = scorer(BaseCounts(), genome, statistics=["SAD"]).score(
        [snv(sequence, 0, 0), snv(sequence, 1999, 1)]
    )["SAD"]
    for row, start in enumerate((0, 1999)):
        ref, alt = sequence[start], other(sequence[start])
        assert scores[row].tolist() == [(base == alt) - (base == ref) for base in "ACGT"]


def test_swapping_the_alleles_negates(sequence: str, genome: Fasta, small_model: SequenceModel) -> None:
    class Swapped(FastaWindows):
        def reference(self, variant: Variant, length: int, start: int | None = None) -> np.ndarray:
            return super().alternate(variant, length, start)

        def alternate(self, variant: Variant, length: int, start: int | None = None) -> np.ndarray:
            return super().reference(variant, length, start)

    variants = [snv(sequence, 300 + 7 * i, i) for i in range(5)]
    predictor = Predictor(small_model, batch_size=4)
    names = ["logFC", "SAD", "SAX", "logSAD"]
    there = VariantScorer(predictor, FastaWindows(genome), statistics=names).score(variants)
    back = VariantScorer(predictor, Swapped(genome), statistics=names).score(variants)
    for name in names:
        assert np.abs(there[name]).max() > 0
        assert np.array_equal(there[name], -back[name])


def test_a_null_variant_scores_exactly_zero(sequence: str, genome: Fasta, small_model: SequenceModel) -> None:
    base = sequence[500]
    variants = [
        variant(500, base, base, 0),
        snv(sequence, 500, 1),
        variant(700, sequence[700], sequence[700], 2),
    ]
    scores = scorer(small_model, genome, batch_size=3).score(variants)["logFC"]
    assert np.array_equal(scores[[0, 2]], np.zeros((2, 4)))
    assert (scores[1] != 0).all()


def mixed_variants(sequence: str) -> list[Variant]:
    """SNVs, several alternates a position, duplicates, insertions, deletions, an MNV, an unscored row."""
    rng = random.Random(5)
    variants: list[Variant] = []
    for start in rng.sample(range(100, 1900), 14):
        for alt in rng.sample([b for b in "ACGT" if b != sequence[start]], rng.choice([1, 3])):
            variants.append(variant(start, sequence[start], alt))
    variants.append(variant(640, "", "ACGTT"))
    variants.append(variant(640, sequence[640:652], ""))
    variants.append(variant(900, sequence[900:903], "TTTT"))
    variants.append(variant(910, sequence[910:912], "GG" if sequence[910] != "G" else "CC"))
    variants.append(variants[0])
    variants.insert(5, variant(5, "A", "C")._replace(status="ref_mismatch"))
    return [each._replace(row=row) for row, each in enumerate(variants)]


@pytest.mark.parametrize("average", ["predictions", "scores"])
def test_scores_depend_neither_on_order_nor_on_company(
    average: str, sequence: str, genome: Fasta, small_model: SequenceModel
) -> None:
    variants = mixed_variants(sequence)
    names = ["logFC", "SAD", "D2", "SAX", "JS"]
    engine = scorer(small_model, genome, statistics=names, average=average, shifts=(-1, 2))
    together = engine.score(variants)
    order = list(range(len(variants)))
    random.Random(1).shuffle(order)
    shuffled = engine.score([variants[i] for i in order])
    for name in names:
        assert np.array_equal(shuffled[name], together[name][order], equal_nan=True)
        for row in (0, 3, 5, len(variants) - 4, len(variants) - 2):
            alone = engine.score([variants[row]])[name][0]
            assert np.array_equal(alone, together[name][row], equal_nan=True), (name, row)


def test_batch_size_changes_only_the_last_digits(
    sequence: str, genome: Fasta, small_model: SequenceModel
) -> None:
    variants = mixed_variants(sequence)
    one, seven = (scorer(small_model, genome, batch_size=n).score(variants)["logFC"] for n in (1, 7))
    assert np.allclose(one, seven, rtol=0, atol=1e-5, equal_nan=True)
    assert np.nanmax(np.abs(one)) > 1e-3


def test_each_reference_is_predicted_once(sequence: str, genome: Fasta) -> None:
    sequences = []

    class Watched(BaseCounts):
        def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
            sequences.extend(row.numpy().tobytes() for row in x if row.sum() > 0)
            return super().forward(x)

    start = 800
    alternates = [b for b in "ACGT" if b != sequence[start]]
    variants = [variant(start, sequence[start], alt) for alt in [*alternates, alternates[0]]]
    scores = scorer(Watched(), genome, batch_size=2, rc=False, statistics=["SAD"]).score(variants)["SAD"]
    assert len(sequences) == len(set(sequences)) == 4
    assert np.array_equal(scores[0], scores[3])
    assert [int(np.argmax(row)) for row in scores[:3]] == ["ACGT".index(alt) for alt in alternates]


def test_unscored_rows_are_nan_and_never_looked_at(sequence: str, genome: Fasta) -> None:
    bad = variant(-1, "", "", 1, contig="nowhere")._replace(status="contig_not_in_fasta")
    scores = scorer(BaseCounts(), genome).score([snv(sequence, 50), bad])["logFC"]
    assert np.isfinite(scores[0]).all() and np.isnan(scores[1]).all()
    assert np.isnan(scorer(BaseCounts(), genome).score([bad])["logFC"]).all()
    assert scorer(BaseCounts(), genome).score([])["logFC"].shape == (0, 4)


@pytest.mark.parametrize(
    ("start", "ref_length", "alt"), [(1000, 0, "ACGTA"), (1000, 6, ""), (1001, 2, "CCCC")]
)
@pytest.mark.parametrize("shifts", [(0,), (-2, 3)])
def test_indels_on_reference_bins(
    start: int, ref_length: int, alt: str, shifts: tuple[int, ...], sequence: str, genome: Fasta
) -> None:
    """Counts of A on single-base bins, so that realignment can be written down base by base."""
    model = BaseCounts(context_length=64, target_length=32, bin_bases=1)
    each = variant(start, sequence[start : start + ref_length], alt)
    scores = scorer(model, genome, statistics=["SAD"], shifts=shifts).score([each])["SAD"][0]
    changed = sequence[:start] + alt + sequence[start + ref_length :]
    grown = len(alt) - ref_length
    matched_end = start + min(ref_length, len(alt))
    covered = set.intersection(*(set(range(start + s - 16, start + s + 16 - max(grown, 0))) for s in shifts))
    expected = np.zeros(4)
    for position in covered:
        for index, base in enumerate("ACGT"):
            if position < matched_end:
                value = changed[position] == base
                if position == matched_end - 1 and grown > 0:
                    value = base in changed[position : position + grown + 1]
            elif position < start + ref_length:
                value = False
            else:
                value = changed[position + grown] == base
            expected[index] += int(value) - (sequence[position] == base)
    assert scores.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_an_insertion_of_what_is_there_already_is_neutral(tmp_path_factory: pytest.TempPathFactory) -> None:
    from toy_models import write_fasta

    folder = tmp_path_factory.mktemp("flat")
    flat = Fasta(write_fasta(folder / "flat.fa", {"chr1": "A" * 400}), folder / "cache")
    scores = scorer(BaseCounts(), flat, statistics=["SAD", "D2", "logFC"]).score([variant(200, "", "AAA")])
    assert all(np.array_equal(values, np.zeros((1, 4))) for values in scores.values())


def test_the_mask_keeps_bins_near_the_variant(sequence: str, genome: Fasta) -> None:
    class Everywhere(BaseCounts):
        """The center base in all bins, so that a score counts the bins of the mask."""

        def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
            return x[:, 32][:, None, :].expand(-1, 8, -1).clone()

    each = snv(sequence, 1000)
    column = "ACGT".index(each.norm_alt)
    # The variant lies at window base 32, the first base of bin 4 (bases 32 to 35).
    for text, bins in [
        ("center:0", 1),
        ("center:1", 2),
        ("center:3", 2),
        ("center:4", 3),
        ("center:5", 4),
        ("all", 8),
    ]:
        settings = dict(statistics=["SAD"], mask=parse_mask(text), rc=False)
        assert scorer(Everywhere(), genome, **settings).score([each])["SAD"][0, column] == bins
    long = variant(1000, sequence[1000:1006], "T" * 6)
    found = scorer(BaseCounts(), genome, statistics=["D1"], mask=parse_mask("center:0")).score([long])["D1"][
        0
    ]
    differ = sum(a != "T" for a in long.norm_ref)
    assert found.sum() <= 2 * differ and found[3] == differ


def test_averaging_scores_differs_from_averaging_predictions(sequence: str, genome: Fasta) -> None:
    each = snv(sequence, 1000)
    window = FastaWindows(genome)
    predictor = Predictor(Unpaired(), batch_size=1)
    sums = {}
    for name in ("reference", "alternate"):
        codes = getattr(window, name)(each, 64)[None]
        sums[name] = [values[0].sum(0).numpy() for _, values in predictor.predict_passes(codes)]
    pairs = list(zip(sums["reference"], sums["alternate"], strict=True))
    by_scores = np.mean([np.log2(a + 1) - np.log2(r + 1) for r, a in pairs], axis=0)
    r, a = (np.mean(sums[name], axis=0) for name in ("reference", "alternate"))
    by_predictions = np.log2(a + 1) - np.log2(r + 1)
    for average, expected in (("scores", by_scores), ("predictions", by_predictions)):
        found = scorer(Unpaired(), genome, average=average).score([each])["logFC"][0]
        assert np.allclose(found, expected, atol=1e-6)
    assert not np.allclose(by_scores, by_predictions, atol=1e-6)


def test_progress_counts_every_scored_row(sequence: str, genome: Fasta) -> None:
    counted: list[int] = []
    variants = mixed_variants(sequence)
    scorer(BaseCounts(), genome).score(variants, counted.append)
    assert sum(counted) == sum(each.ok for each in variants)


def test_predictions_that_are_not_finite_stop_the_run(sequence: str, genome: Fasta) -> None:
    class Overflowing(BaseCounts):
        def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
            return super().forward(x) / 0.0

    with pytest.raises(GexprError, match=r"chr1:1001 .*not finite"):
        scorer(Overflowing(), genome).score([snv(sequence, 1000)])


def test_an_error_of_the_genome_reaches_the_caller(genome: Fasta) -> None:
    with pytest.raises(GexprError, match="no contig 'chr9'"):
        scorer(BaseCounts(), genome).score([variant(3, "A", "C", contig="chr9")])


def test_bad_settings_are_refused(genome: Fasta) -> None:
    for settings in (
        {"average": "both"},
        {"pseudocount": -1},
        {"pseudocount": math.nan},
        {"statistics": ["x"]},
    ):
        with pytest.raises(ConfigError):
            scorer(BaseCounts(), genome, **settings)
    model = BaseCounts()
    model.tracks[1] = model.tracks[1]._replace(transform="linear")
    with pytest.raises(ConfigError, match="linear"):
        scorer(model, genome)


def test_the_longest_allele_keeps_the_variants_bin(sequence: str, genome: Fasta) -> None:
    predictor = Predictor(BaseCounts(), batch_size=2, shifts=(-2, 2))
    limit = allele_limit(predictor)
    assert limit == 16 - 4 - 2
    engine = VariantScorer(predictor, FastaWindows(genome), mask=parse_mask("center:0"), statistics=["D1"])
    for start in range(1000, 1004):
        scores = engine.score([variant(start, "", "ACGT" * 3)._replace(norm_alt="ACGTACGTAC"[:limit])])
        assert (scores["D1"] > 0).any()


def test_strongest() -> None:
    scores = {"logFC": np.array([[0.1, -0.5], [np.nan, np.nan], [0.3, 0.2], [-0.5, 0.0]], dtype=np.float32)}
    assert strongest(scores, "logFC", 2) == [(0, 1, -0.5), (3, 0, -0.5)]
    assert [row for row, _, _ in strongest(scores, "logFC", 9)] == [0, 3, 2]
    assert strongest(scores, "logFC", 0) == []
    assert strongest({"logFC": np.empty((0, 2), np.float32)}, "logFC", 3) == []


@pytest.mark.gpu
def test_on_cuda_scores_agree_with_the_cpu_and_do_not_depend_on_order(
    sequence: str, genome: Fasta, small_model: SequenceModel
) -> None:
    variants = mixed_variants(sequence)
    expected = scorer(small_model, genome).score(variants)["logFC"]
    with Predictor(small_model, device="cuda", batch_size=4) as predictor:
        engine = VariantScorer(predictor, FastaWindows(genome))
        found = engine.score(variants)["logFC"]
        backwards = engine.score(variants[::-1])["logFC"]
    assert np.allclose(found, expected, rtol=0, atol=1e-5, equal_nan=True)
    assert np.array_equal(backwards[::-1], found, equal_nan=True)
