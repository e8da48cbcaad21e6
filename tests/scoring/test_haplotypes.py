"""Single, marginal and joint effects on models that can be worked out on paper, and against a plain loop."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, Unpaired

from gexpr.genome.codes import encode
from gexpr.genome.contigs import ContigMap
from gexpr.genome.windows import WindowRule
from gexpr.results import Variant
from gexpr.scoring import realign
from gexpr.scoring.definitions import Mask
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.haplotypes import (
    HaplotypeScorer,
    base_map,
    edited_codes,
    kind_names,
    realigned,
    realignment,
)
from gexpr.scoring.predictor import Predictor
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.genotypes import Edit, Genotypes
from gexpr.variants.vcf import open_vcf

HEADER = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=chr1>",
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
]


class Epistatic(BaseCounts):
    """Every bin of every track: 1, and 100 more where the window has C at index 32 and at index 36."""

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        both = x[:, 32, 1] * x[:, 36, 1] + x[:, 32, 1] * x[:, 28, 1]
        return (1 + 100 * both)[:, None, None].expand(-1, self.target_length, 4).clone()


def alleles(genome, tmp_path: Path, records: list[tuple[int, str, str, str]]):
    """Variants, and the genotypes of sample A and B, from (0-based start, REF, ALT, calls)."""
    columns = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT A B".split()
    lines = [
        "\t".join(["chr1", str(start + 1), ".", ref, alt, ".", ".", ".", "GT", *calls.split()])
        for start, ref, alt, calls in records
    ]
    path = tmp_path / "a.vcf"
    path.write_text("\n".join([*HEADER, "\t".join(columns), *lines]) + "\n")
    reader = AlleleReader(genome, ContigMap(genome.names))
    source = open_vcf(path)
    found = [each for number, record in enumerate(source.records()) for each in reader.split(record, number)]
    return found, Genotypes(source, reader, ("A", "B"))


def scored(
    genome, tmp_path: Path, records, model=None, settings=None, **scorer_settings
) -> tuple[list[Variant], dict[str, np.ndarray], HaplotypeScorer]:
    variants, genotypes = alleles(genome, tmp_path, records)
    predictor = Predictor(model or BaseCounts(), batch_size=3, **(settings or {}))
    scorer = HaplotypeScorer(predictor, FastaWindows(genome), genotypes, **scorer_settings)
    rows = [row for each in variants for row in scorer.rows(each, 0, 10**9)]
    return rows, scorer.score(rows), scorer


def swap(sequence: str, start: int, to: str) -> tuple[int, str, str]:
    assert sequence[start] != to
    return start, sequence[start], to


def test_two_substitutions_add_up_where_the_model_is_additive(genome, sequence, tmp_path: Path) -> None:
    near = next(i for i in range(500, 520) if sequence[i] == "A")
    far = next(i for i in range(near + 3, near + 12) if sequence[i] == "G")
    records = [(near, "A", "C", "0|1 1|0"), (far, "G", "T", "0|1 0|1")]
    rows, scores, scorer = scored(genome, tmp_path, records, statistics=("SAD",))
    assert tuple(scores) == kind_names(("SAD",)) == ("SAD", "SAD_marginal", "SAD_joint")
    first, second = np.array([-1, 1, 0, 0]), np.array([0, 0, -1, 1])
    statuses = [row.status for row in rows]
    assert statuses == ["not_carried", "ok", "ok", "not_carried", "not_carried", "ok", "not_carried", "ok"]
    for row, (single, joint, others) in {
        1: (first, first + second, 1),
        2: (first, first, 0),
        5: (second, first + second, 1),
        7: (second, second, 0),
    }.items():
        assert np.array_equal(scores["SAD"][row], single)
        assert np.array_equal(scores["SAD_marginal"][row], single)
        assert np.array_equal(scores["SAD_joint"][row], joint)
        assert scorer.columns(rows)["n_variants"][row] == others
    assert all(np.isnan(table[[0, 3, 4, 6]]).all() for table in scores.values())
    assert scorer.columns(rows)["sample"] == ["A", "A", "B", "B"] * 2
    assert scorer.columns(rows)["haplotype"] == [1, 2] * 4


@pytest.mark.parametrize("reverse_complement", [False, True])
def test_epistasis_is_in_the_marginal_effect(
    reverse_complement: bool, genome, sequence, tmp_path: Path
) -> None:
    start = next(
        i for i in range(500, 1500) if sequence[i] != "C" and sequence[i + 4] != "C" != sequence[i - 4]
    )
    records = [(*swap(sequence, start, "C"), "1|0 1|1"), (*swap(sequence, start + 4, "C"), "1|0 0|1")]
    settings = {"reverse_complement": reverse_complement}
    rows, scores, _ = scored(genome, tmp_path, records, Epistatic(), settings, statistics=("SAD",))
    # On the reverse strand the model looks elsewhere: at A and G of other places.
    assert [row.ok for row in rows] == [True, False, True, True, True, False, False, True]
    share = 8 * 100 * (0.5 if reverse_complement else 1)
    if not reverse_complement:
        assert np.array_equal(scores["SAD"][:, 0], [0, np.nan, 0, 0, 0, np.nan, np.nan, 0], equal_nan=True)
        assert scores["SAD_marginal"][0, 0] == scores["SAD_joint"][0, 0] == share
        assert scores["SAD_marginal"][2, 0] == scores["SAD_joint"][2, 0] == 0
        assert scores["SAD_marginal"][3, 0] == scores["SAD_marginal"][7, 0] == share
    else:
        assert (scores["SAD_marginal"] - scores["SAD"])[0, 0] >= share


@pytest.mark.parametrize("average", ["predictions", "scores"])
@pytest.mark.parametrize("settings", [{}, {"shifts": (-3, 0, 2)}, {"reverse_complement": False}])
def test_an_allele_alone_has_three_equal_effects(average, settings, genome, sequence, tmp_path: Path) -> None:
    records = [
        (600, sequence[600], sequence[600] + "TTGACC", "0|1 1|0"),
        (900, sequence[900:907], sequence[900], "1|1 0|0"),
        (1300, *swap(sequence, 1300, "A" if sequence[1300] != "A" else "C")[1:], "0|1 1|1"),
    ]
    statistics = ("logFC", "SAD", "D2", "JS")
    rows, scores, scorer = scored(
        genome, tmp_path, records, Unpaired(), settings, statistics=statistics, average=average
    )
    for name in statistics:
        for suffix in ("_marginal", "_joint"):
            assert np.array_equal(scores[name], scores[name + suffix], equal_nan=True)
    plain = VariantScorer(
        scorer.predictor, FastaWindows(genome), statistics=statistics, average=average, engine="plain"
    ).score([row if row.ok else row._replace(status="") for row in rows])
    for name in statistics:
        assert np.allclose(scores[name], plain[name], rtol=1e-5, atol=1e-6, equal_nan=True)
        assert np.array_equal(scores[name][8:], plain[name][8:], equal_nan=True)


RECORDS = [
    (570, "", "ACG", "0|1 1|0"),
    (585, "4", "", "0|1 0|1"),
    (597, "1", "X", "0|1 1|1"),
    (600, "1", "X", "0|1 1|0"),
    (603, "", "GGTCATG", "0|1 0|1"),
    (611, "9", "", "1|1 0|1"),
    (632, "1", "X", "0|1 0|1"),
]


def spelled(sequence: str) -> list[tuple[int, str, str, str]]:
    """RECORDS with letters: the base before an insertion or deletion comes first in both alleles."""
    found = []
    for start, size, alt, calls in RECORDS:
        if alt == "X":
            found.append((*swap(sequence, start, "C" if sequence[start] != "C" else "G"), calls))
        else:
            anchor = sequence[start - 1]
            found.append((start - 1, anchor + sequence[start : start + int(size or 0)], anchor + alt, calls))
    return found


@pytest.mark.parametrize("mask", [Mask(), Mask(10)])
@pytest.mark.parametrize("shifts", [(0,), (-2, 0, 3)])
@pytest.mark.parametrize("rule", [WindowRule(0), WindowRule("bin")])
def test_against_a_plain_loop(mask, shifts, rule, genome, sequence, tmp_path: Path) -> None:
    model = Unpaired(context_length=96, target_length=12)
    rows, scores, scorer = scored(
        genome,
        tmp_path,
        spelled(sequence),
        model,
        {"shifts": shifts},
        statistics=("SAD", "D2"),
        mask=mask,
        window_rule=rule,
    )
    predictor = scorer.predictor
    flank, length = predictor.flank, predictor.window_length
    checked = 0
    for row in (each for each in rows if each.ok):
        focal = Edit(row.start, row.norm_ref, row.norm_alt)
        others = list(scorer.background(row).others)
        context = rule.window_start(row.start, 96, 4)
        start = context - flank

        def predict(edits: list[Edit], start: int = start) -> tuple[np.ndarray, np.ndarray]:
            edits = sorted(edits, key=lambda each: (each.start, len(each.ref)))
            reference = encode(sequence[start : start + length + 100])
            codes = torch.from_numpy(edited_codes(reference, edits, start, length)[None])
            total, covered, count = 0.0, np.ones(12, dtype=bool), 0
            for each, predictions in predictor.predict_passes(codes):
                how = realignment(
                    base_map(edits, start, 400), 12, 4, predictor.first_base + flank + each.shift
                )
                total = total + realigned(predictions[0], how, 4).double().numpy()
                covered &= how.covered
                count += 1
            return total / count, covered

        r, a, h0, h = (predict(edits) for edits in ([], [focal], others, [focal, *others]))
        position = row.start - context - predictor.first_base
        low, high = position - (not focal.ref), position + max(len(focal.ref), 1)
        near = np.array(
            [mask.distance is None or (b * 4 + 4 > low - 10 and b * 4 < high + 10) for b in range(12)]
        )
        for suffix, (old, new) in {"": (r, a), "_marginal": (h0, h), "_joint": (r, h)}.items():
            bins = near & old[1] & new[1]
            difference = (new[0] - old[0])[bins]
            assert np.allclose(scores["SAD" + suffix][row.row], difference.sum(0), atol=1e-4)
            assert np.allclose(scores["D2" + suffix][row.row], np.linalg.norm(difference, axis=0), atol=1e-4)
        checked += len(others) > 2
    assert checked > 5


def test_scores_do_not_depend_on_company_and_equal_sequences_are_predicted_once(
    genome, sequence, tmp_path: Path
) -> None:
    model = Unpaired(context_length=96, target_length=12)
    rows, scores, scorer = scored(genome, tmp_path, spelled(sequence), model, statistics=("logFC", "SAD"))
    done: list[int] = []
    before = scorer.predictor.forwards
    again = scorer.score(rows[::-1], done.append)
    batches = -(-scorer.sequence_count(rows) // 3)
    assert scorer.predictor.forwards - before == 2 * batches
    assert sum(done) == sum(row.ok for row in rows)
    for name in scores:
        assert np.array_equal(again[name][::-1], scores[name], equal_nan=True)
    for row in rows:
        alone = scorer.score([row])
        assert all(np.array_equal(alone[n][0], scores[n][row.row], equal_nan=True) for n in scores)
    # Two samples with the same haplotype share all of it.
    twins = [(*each[:3], f"{call} {call}") for each in spelled(sequence) for call in [each[3].split()[0]]]
    rows, scores, scorer = scored(genome, tmp_path, twins, model, statistics=("SAD",))
    assert scorer.sequence_count(rows) == scorer.sequence_count([row for row in rows if row.row % 4 < 2])
    for name in scores:
        pairs = scores[name].reshape(-1, 2, 2, 4)
        assert np.array_equal(pairs[:, 0], pairs[:, 1], equal_nan=True)


def test_rows_of_a_range(genome, sequence, tmp_path: Path) -> None:
    variants, genotypes = alleles(genome, tmp_path, spelled(sequence))
    scorer = HaplotypeScorer(Predictor(BaseCounts()), FastaWindows(genome), genotypes)
    every = [row for each in variants for row in scorer.rows(each, 0, 100)]
    assert [row.row for row in every] == list(range(28))
    for start, end in itertools.combinations(range(0, 28, 3), 2):
        assert [row for each in variants for row in scorer.rows(each, start, end)] == every[start:end]


def test_equal_lengths_take_no_detour(genome, sequence, tmp_path: Path, monkeypatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr("gexpr.scoring.haplotypes.realigned", refuse)
    monkeypatch.setattr(realign, "to_reference_bins", refuse)
    records = [(*swap(sequence, i, "A" if sequence[i] != "A" else "T"), "0|1 1|1") for i in (600, 605)]
    rows, scores, _ = scored(genome, tmp_path, records)
    assert np.isfinite(scores["logFC_joint"][[row.ok for row in rows]]).all()
