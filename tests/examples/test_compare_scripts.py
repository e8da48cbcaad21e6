"""The scripts of examples/compare on toy input: what they compute can be worked out on paper."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toy_models import BaseCounts, save_tiny_checkpoint, write_fasta, write_vcf

from gexpr import checkpoints
from gexpr.genome.fasta import Fasta
from gexpr.models import registry

SCRIPTS = Path(__file__).parents[2] / "examples" / "compare"
CONVOLUTIONS = {
    "channels": [8, 8, 8, 8],
    "kernels": [5, 3, 3, 3],
    "pools": [1, 2, 4, 2],
    "final_channels": 8,
    "context_length": 512,
    "target_length": 20,
    "heads": {"tracks": 4},
}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads a script under a name that no other module has."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"compare_script_{name}", SCRIPTS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/tiny/checkpoint: a sparse_enformer of 512 bp."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("run") / "runs" / "tiny" / "checkpoint")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FASTA with two contigs of 2,000 and 900 bases."""
    bases = np.random.default_rng(1).choice(list("ACGT"), 2_900)
    contigs = {"chr1": "".join(bases[:2_000]), "chr2": "".join(bases[2_000:])}
    return write_fasta(tmp_path_factory.mktemp("genome") / "genome.fa", contigs)


def _metrics(folder: Path, rows: list[tuple[Any, ...]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["source", "split", "level", "name", "transform", "statistic", "value", "n"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "metrics.tsv", sep="\t", index=False)


def _yeast_rows(r: float, source: str = "model") -> list[tuple[Any, ...]]:
    bins = [
        (source, "test", "bin", track, transform, "pearson", r + change + (transform == "raw") / 10, 100)
        for transform in ("log1p", "raw")
        for track, change in (("plus", 0.0), ("minus", 0.1))
    ]
    genes = [
        (source, "test", "gene", f"TSS, {name}", "log1p", "pearson", r / 2, 50) for name in ("cold", "cool")
    ]
    return [*bins, *genes, (source, "test", "gene", "TSS, cold", "log1p", "r2", -5.0, 50)]


def test_yeast_table_joins_seeds_and_adds_floor(script: Any, tmp_path: Path, tiny: Path) -> None:
    tables = script("tables")
    _metrics(tmp_path / "evaluations" / "dense-seed1", _yeast_rows(0.5))
    _metrics(tmp_path / "evaluations" / "dense-seed2", _yeast_rows(0.7))
    ridge = [row for row in _yeast_rows(0.3, "ridge") if row[2] == "gene"]
    _metrics(tmp_path / "evaluations" / "other", _yeast_rows(0.4) + ridge)
    run = tmp_path / "runs" / "other"
    run.mkdir(parents=True)
    model = checkpoints.load(tiny)
    training = {"steps": 7, "cpu_minutes": 2.5, "config": {}}
    checkpoints.save(run / "checkpoint", model, model.tracks, training, "card")

    table = tables.yeast(tmp_path)
    rows = {row["model"]: row for row in table.rows}
    assert list(rows) == ["dense", "other", "6-mer ridge"]
    assert rows["dense"]["runs"] == 2
    assert rows["dense"]["mean log1p"] == pytest.approx(0.65)
    assert rows["dense"]["mean log1p_sd"] == pytest.approx(math.sqrt(0.02))
    assert rows["dense"]["mean raw"] == pytest.approx(0.75)
    assert rows["dense"]["gene: cold"] == pytest.approx(0.3)
    assert rows["other"]["architecture"] == "sparse_enformer"
    assert rows["other"]["parameters"] == checkpoints.describe(tiny).parameters
    assert (rows["other"]["steps"], rows["other"]["CPU minutes"]) == (7, 2.5)
    assert "plus log1p" not in rows["6-mer ridge"]
    models, tracks = table.markdown().split("\n\n")
    assert "| 0.650 ± 0.141 |" in models and "peak MiB" not in models
    assert tracks.startswith("| model | plus log1p | minus log1p | plus raw | minus raw |")
    assert "6-mer ridge" in models and "6-mer ridge" not in tracks
    assert len(table.tsv().splitlines()) == 4


def test_promoter_score_is_that_of_the_subsets_there(script: Any, tmp_path: Path) -> None:
    tables = script("tables")
    values = {"row": 0.9, "subset yeast": 0.8, "subset random": 0.7, "difference SNV_pairs": 0.6}
    rows = [
        ("model", "test", level, "expression", "raw", statistic, value, 10)
        for level, value in values.items()
        for statistic in ("pearson", "spearman", "r2")
    ]
    nothing = (
        "model",
        "test",
        "difference motif_perturbation_pairs",
        "expression",
        "raw",
        "pearson",
        "nan",
        0,
    )
    _metrics(tmp_path / "evaluations" / "cnn", [*rows, nothing])
    table, notes = tables.promoters(tmp_path)
    (row,) = table.rows
    weights = 1 + 0.3 + 0.3 + 1.25
    squares = 0.9**2 + 0.3 * (0.8**2 + 0.7**2) + 1.25 * 0.6**2
    assert row["score pearson"] == pytest.approx(squares / weights)
    assert row["score spearman"] == pytest.approx((0.9 + 0.3 * 1.5 + 1.25 * 0.6) / weights)
    assert row["native pearson"] == 0.8
    assert "motif_perturbation pearson" not in row
    assert "left out of the scores: high, low, challenging, motif_perturbation, motif_tiling." in notes
    assert sum(tables.DREAM.values()) == pytest.approx(4.65)


def test_tables_of_assays_and_planted_promoters(script: Any, tmp_path: Path) -> None:
    tables = script("tables")
    folder = tmp_path / "evaluations" / "borzoi"
    folder.mkdir(parents=True)
    (folder / "groups.tsv").write_text(
        "source\tsplit\tlevel\tassay\ttransform\tstatistic\ttracks\tmean\tmedian\tminimum\tmaximum\n"
        "model\ttest\tbin\tDNASE\traw\tpearson\t2\t0.5\t0.6\t0.4\t0.8\n"
        "model\ttest\tbin\tDNASE\traw\tr2\t2\t0.1\t0.1\t0.1\t0.1\n"
        "model\ttest\tbin128\tDNASE\traw\tpearson\t2\t0.9\t0.9\t0.9\t0.9\n"
    )
    _metrics(folder, [("model", "test", "bin", "ENC1", "raw", "pearson", 0.5, 9)])
    (row,) = tables.human(tmp_path).rows
    assert (row["DNASE raw mean"], row["DNASE raw median"]) == (0.5, 0.6)
    for seed, auroc in ((1, 0.75), (2, 0.85)):
        lines = f"model\tauroc\t20-40_kb\nlocal-seed{seed}\t{auroc}\t0.5\n"
        (tmp_path / f"planted_local-seed{seed}.tsv").write_text(lines)
    (row,) = tables.planted(tmp_path).rows
    assert (row["model"], row["auroc"], row["20-40_kb"]) == ("local", pytest.approx(0.8), 0.5)


def test_tables_take_evaluations_of_their_kind(script: Any, tmp_path: Path) -> None:
    tables = script("tables")
    for name in ("dense", "sparse_a", "sparse_b"):
        _metrics(tmp_path / "evaluations" / name, _yeast_rows(0.5))
    rows = [("model", "test", "row", cell, "raw", "pearson", 0.25, 9) for cell in ("K562", "HepG2")]
    _metrics(tmp_path / "evaluations" / "dhs", rows)

    def names(only: str) -> list[str]:
        return [row["model"] for row in tables.yeast(tmp_path, only).rows]

    assert names("") == ["dense", "sparse_a", "sparse_b"]
    assert names("sparse*") == ["sparse_a", "sparse_b"]
    assert names("^*_a") == ["dense", "sparse_b"]
    assert names("sparse*,^*_a") == ["sparse_b"]
    (row,) = tables.sequences(tmp_path).rows
    assert (row["model"], row["K562 all pearson"], row["HepG2 all pearson"]) == ("dhs", 0.25, 0.25)
    with pytest.raises(SystemExit, match=r"metrics\.tsv: none of 4 is of the kind 'human'"):
        tables.human(tmp_path)


def test_gradient_is_that_of_the_middle_bins(script: Any) -> None:
    receptive = script("receptive")
    model = BaseCounts(context_length=64, target_length=8, bin_bases=4)  # predicts bases 16 to 48
    windows = [np.full(64, code, dtype=np.uint8) for code in (0, 3)]
    found = receptive.curve("counts", model, windows, width=16)
    # Each base counts once, in one of four tracks, in the four bins between bases 24 and 40.
    assert np.array_equal(found.gradient, [1.0] * 8 + [0.0] * 24)
    assert found.total == 16
    assert (found.within(0.5), found.within(0.99)) == (4, 8)
    assert found.smooth @ np.diff(found.edges) == pytest.approx(8)
    assert receptive.middle_bins(model, 1000) == (0, 8)


def test_gradient_is_the_same_with_less_memory(script: Any, tiny: Path) -> None:
    receptive = script("receptive")
    codes = np.random.default_rng(2).integers(0, 5, 512, dtype=np.uint8)
    plain, spared = checkpoints.load(tiny), checkpoints.load(tiny)
    receptive.spare_memory(spared)
    assert spared.blocks
    expected = receptive.gradient(plain, codes, 64)
    assert expected.max() > 0
    assert np.array_equal(receptive.gradient(spared, codes, 64), expected)


def test_middles_fit_the_longest_window(script: Any, genome: Path) -> None:
    receptive = script("receptive")
    fasta = Fasta(str(genome))
    for contig, at in receptive.middles(fasta, 50, 600, seed=3):
        assert 300 <= at <= fasta.lengths[contig] - 300
    assert {contig for contig, _ in receptive.middles(fasta, 5, 1_000, seed=3)} == {"chr1"}
    assert sorted(receptive.middles(fasta, 5, 4_096, seed=3)) == [("chr1", 1_000), ("chr2", 450)]


def test_receptive_fields_are_drawn_and_tabled(script: Any, tmp_path: Path, tiny: Path, genome: Path) -> None:
    receptive = script("receptive")
    found = receptive.curves([str(tiny)], genome, 2, 64, seed=1)
    receptive.draw(found, 64, tmp_path / "receptive.png")
    receptive.write_table(found, tmp_path / "receptive.tsv")
    table = pd.read_csv(tmp_path / "receptive.tsv", sep="\t")
    assert set(table.model) == {"tiny"}
    assert (table.share_per_bp * (table.high - table.low)).sum() == pytest.approx(0.5, rel=1e-4)
    assert (tmp_path / "receptive.png").stat().st_size > 10_000
    (row,) = receptive.summary(found).rows
    assert (row["model"], row["context"]) == ("tiny", 512)


def _convolutions(folder: Path, architecture: str, **settings: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = registry.build(architecture, {**CONVOLUTIONS, **settings})
    return checkpoints.save(folder, model, BaseCounts().tracks, {}, "For tests.")


def test_position_functions_are_those_of_the_equations(script: Any, tmp_path: Path) -> None:
    positions = script("positions")
    path = _convolutions(tmp_path / "two_sided", "decay_attention", attention_heads=[2, 1], shift=5)
    model: Any = checkpoints.load(path)
    first, second = positions.functions("two_sided", model)
    assert (first.title, second.title) == ("two_sided, layer 1", "two_sided, layer 2")
    offsets = first.distances / 16
    assert (offsets[0], offsets[-1]) == (-16, 15)
    right, left = model.attention[0].decay.detach().double().exp().numpy()
    for head in range(2):
        expected = np.minimum(np.exp(right[head] * (offsets - 5)), np.exp(left[head] * (-offsets - 5)))
        np.testing.assert_allclose(first.values[head], expected, rtol=1e-12)
    rows = positions.summary([first, second]).rows
    assert [row["line"] for row in rows] == ["head 1", "head 2", "head 1"]
    assert rows[0]["largest at (bp)"] == first.distances[first.values[0].argmax()]
    positions.draw([first, second], tmp_path / "positions.png")
    assert (tmp_path / "positions.png").stat().st_size > 10_000


@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
def test_position_functions_of_sums(script: Any, tmp_path: Path, learned: bool) -> None:
    positions = script("positions")
    path = _convolutions(tmp_path / "sums", "exp_decay", decays=[0.05, 0.2], learned=learned)
    (found,) = positions.functions("sums", checkpoints.load(path))
    offsets = np.abs(found.distances / 16)
    for values, decay in zip(found.values, (0.05, 0.2), strict=True):
        np.testing.assert_allclose(values, np.exp(-decay * offsets), rtol=1e-6)
    np.testing.assert_allclose(found.decays, [[0.05, 0.2]], rtol=1e-6)


def test_position_functions_of_other_models_are_refused(script: Any, tiny: Path) -> None:
    with pytest.raises(SystemExit, match="tiny is a SparseEnformer"):
        script("positions").functions("tiny", checkpoints.load(tiny))


def test_genes_are_drawn_side_by_side(script: Any, tmp_path: Path) -> None:
    genes = script("genes")
    generator = np.random.default_rng(5)
    for name in ("one", "two"):
        rows = [
            ("model", f"G{number}", "chr1", 0, 9, "+", condition, *generator.gamma(2, 1, 2))
            for number in range(20)
            for condition in ("cold", "warm")
        ]
        columns = ["source", "gene", "chrom", "start", "end", "strand", "condition", "measured", "predicted"]
        (tmp_path / name).mkdir()
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / name / "genes.tsv", sep="\t", index=False)
    folders = [tmp_path / "one", tmp_path / "two"]
    genes.draw(folders, None, "model", tmp_path / "genes.svg")
    text = (tmp_path / "genes.svg").read_text()
    assert text.count('<g id="axes_') == 4
    with pytest.raises(SystemExit, match="no condition 'hot'; it has: cold, warm"):
        genes.draw(folders, ["hot"], "model", tmp_path / "hot.png")
    with pytest.raises(SystemExit, match="no source 'ridge'"):
        genes.draw(folders, None, "ridge", tmp_path / "ridge.png")


ASB_COLUMNS = "#chr start end id ref alt pref_allele comb_pval fdr_comb_pval".split()


@pytest.fixture
def asb_data(tmp_path: Path) -> Path:
    """Two overlapping windows of chr7, from 100 and from 130, and SNPs in two files."""
    from gexpr.writers.output import BgzfFile

    first = "ACGT" * 20
    second = first[30:] + "A" * 30
    (tmp_path / "human").mkdir()
    text = f">chr7:100-180\n{first}\n>chr7:130-210\n{second}\n"
    with open(tmp_path / "human" / "windows.fa.gz", "wb") as raw:
        packed = BgzfFile(raw)
        packed.write(text.encode())
        packed.finish()
    (tmp_path / "human" / "windows.tsv").write_text(
        "record\tchrom\tstart\tend\nchr7:100-180\tchr7\t100\t180\nchr7:130-210\tchr7\t130\t210\n"
    )
    lines = {
        # A at 104; the window has the alternative allele G at 106; 165 is nearer to the second's middle
        "HepG2.atac": [
            ("chr7", 104, 105, "rs1", "A", "G", "alt", 0.5, 0.9),
            ("chr7", 106, 107, "rs2", "T", "G", "alt", 0.2, 0.4),
            ("chr7", 165, 166, "rs3", "C", "T", "ref", 0.01, 0.04),
            ("chr8", 104, 105, "rs4", "A", "G", "ref", 0.5, 0.9),
        ],
        "K562.atac": [("chr7", 104, 105, "rs1", "A", "G", "ref", 0.3, 0.6)],
    }
    (tmp_path / "asb").mkdir()
    for name, rows in lines.items():
        with gzip.open(tmp_path / "asb" / f"{name}.tsv.gz", "wt") as handle:
            pd.DataFrame(rows, columns=ASB_COLUMNS).to_csv(handle, sep="\t", index=False)
    return tmp_path


def test_asb_variants_are_those_of_the_windows(script: Any, asb_data: Path) -> None:
    asb = script("asb")
    asb.write_vcf(asb_data, asb_data / "asb.vcf")
    lines = (asb_data / "asb.vcf").read_text().splitlines()
    assert [line.split("\t")[:5] for line in lines if line[0] != "#"] == [
        ["chr7:100-180", "5", "rs1", "A", "G"],
        ["chr7:100-180", "7", "rs2", "G", "T"],
        ["chr7:130-210", "36", "rs3", "C", "T"],
    ]
    assert "##contig=<ID=chr7:130-210,length=80>" in lines


def test_asb_judges_directions(script: Any, asb_data: Path) -> None:
    import h5py

    asb = script("asb")
    with h5py.File(asb_data / "toy.h5", "w") as file:
        for name, values in {
            "snp": ["rs1", "rs2", "rs3"],
            "ref_allele": ["A", "G", "C"],
            "alt_allele": ["G", "T", "T"],
            "status": ["ok"] * 3,
            "target_labels": ["DNASE:HepG2", "DNASE:A172", "CAGE:any: cell"],
        }.items():
            file[name] = np.array(values, dtype=h5py.string_dtype())
        # rs2's alleles changed places: less of T, its reference allele, is more of G.
        file["logFC"] = np.array([[0.5, -2.0, 1.0], [-0.5, 0.1, 1.0], [0.3, -0.5, 0.0]], dtype=np.float32)
    table = asb.judge([asb_data / "toy.h5"], asb_data, by_file=True)
    found = {(row["measured"], row["SNPs"], row["tracks"]): (row["agree"], row["n"]) for row in table.rows}
    # HepG2 prefers alt, alt, ref for rs1 to rs3; tracks of HepG2 say alt, alt, alt.
    assert found["HepG2 ATAC", "all", "DNASE, same cell type"] == (2, 3)
    # Means of the DNASE tracks: -0.75, -0.2 (so +0.2 for alt), -0.1.
    assert found["HepG2 ATAC", "all", "DNASE, mean"] == (2, 3)
    # CAGE: +1, -1 for alt, and 0, which takes no side.
    assert found["HepG2 ATAC", "all", "CAGE, mean"] == (1, 2)
    assert found["HepG2 ATAC", "FDR < 0.05", "DNASE, mean"] == (1, 1)
    assert ("K562 ATAC", "all", "DNASE, same cell type") not in found
    # rs1 counts once, by its line of K562, whose false discovery rate is smaller and which prefers ref.
    assert found["all", "all", "DNASE, mean"] == (3, 3)
    assert found["all", "all", "DNASE, same cell type"] == (1, 2)
    assert table.markdown().count("| toy |") == len(table.rows)
    fewer = asb.judge([asb_data / "toy.h5"], asb_data)
    assert fewer.rows == [row for row in table.rows if row["measured"] == "all"]


def test_agreement_has_wilsons_interval(script: Any) -> None:
    found = script("asb").agreement(np.array([1.0] * 8 + [-1.0] * 2), np.ones(10, dtype=bool))
    z = 1.959964
    middle, half = (0.8 + z**2 / 20) / (1 + z**2 / 10), z * math.sqrt(0.016 + z**2 / 400) / (1 + z**2 / 10)
    assert (found["low"], found["high"]) == (pytest.approx(middle - half), pytest.approx(middle + half))
    assert found["p"] == pytest.approx(2 * (45 + 10 + 1) / 1024)
    assert found["chance"] == pytest.approx(0.8)


def test_alternates_cost_and_engines_agree(
    script: Any, tmp_path: Path, tiny: Path, genome: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cost = script("alternate_cost")
    fasta = Fasta(str(genome))
    records = []
    for position in (700, 900, 1_100):
        ref = fasta.fetch("chr1", position - 1, position)
        records.append(("chr1", position, ".", ref, "A" if ref != "A" else "C"))
    records.insert(1, ("chr1", 800, ".", fasta.fetch("chr1", 799, 800), "ACGT"))
    vcf = write_vcf(tmp_path / "v.vcf", records)
    assert [each.pos for each in cost.snvs(fasta, vcf, 3)] == [700, 900, 1_100]
    (row,) = cost.compare([str(tiny)], genome, vcf, 2).rows
    assert (row["model"], row["attention"]) == ("tiny", "global in all 1 layers")
    assert float(row["largest difference"]) < 1e-5 < float(row["largest logFC"])
    assert row["whole / incremental"] == pytest.approx(row["whole (s)"] / row["incremental (s)"])
    with pytest.raises(SystemExit, match="has 3 SNVs that fit the genome; 9 are needed"):
        cost.snvs(fasta, vcf, 9)


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"global_blocks": False}, "global in no layer"),
        ({"global_tokens": 2, "global_layers": [1, 2]}, "global in layers 2, 3 of 3"),
        ({}, "global in all 3 layers"),
    ],
    ids=["none", "last_two", "all"],
)
def test_global_layers_are_told(script: Any, settings: dict[str, Any], expected: str) -> None:
    base = {"context_length": 1024, "target_length": 8, "heads": {"t": 1}, "channels": 24, "divisible_by": 8}
    small = {"num_downsamples": 4, "depth": 3, "attention_heads": 2, "key_size": 8, "block_size": 4}
    model = registry.build("sparse_enformer", {**base, **small, "random_blocks": 1, **settings})
    assert script("alternate_cost").global_layers(model) == expected


def test_names_of_models(script: Any, tmp_path: Path) -> None:
    tools = script("compare_tools")
    assert tools.label_of("runs/dense/checkpoint") == "dense"
    assert tools.label_of(tmp_path / "evaluations" / "local-seed1") == "local-seed1"
    assert tools.label_of("scores.h5") == "scores"
    table = tools.Table(["name", "count", "p", "none"], {"count": 1})
    table.add({"name": "a", "count": 1234.56, "p": 0.000123})
    assert table.markdown().splitlines()[-1] == "| a | 1,234.6 | 0.00012 |"
    assert json.dumps(table.tsv().splitlines()[1]) == '"a\\t1234.56\\t0.000123\\t"'
    with pytest.raises(KeyError, match="other"):
        table.add({"other": 1})


def test_planted_promoters_are_far_from_what_decides(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = script("planted")
    monkeypatch.setattr(planted, "COUNTS", {"train": 4, "valid": 2, "test": 2})
    planted.make(tmp_path, seed=3)
    fasta = Fasta(str(tmp_path / "genome.fa"))
    enhancers = pd.read_csv(tmp_path / "enhancer.bed", sep="\t", header=None)
    promoters = pd.read_csv(tmp_path / "promoters.tsv", sep="\t")
    assert len(fasta.lengths) == 8 and len(promoters) == 8 * planted.PROMOTERS
    for contig, rows in promoters.groupby("contig"):
        near = enhancers[enhancers[0] == contig][1].to_numpy()
        assert rows["on"].nunique() == 1 and len(near) == planted.ENHANCERS * rows["on"].iloc[0]
        for motif, starts in ((planted.PROMOTER, rows["start"]), (planted.ENHANCER, near)):
            words = {
                "".join("ACGTN"[code] for code in fasta.codes(contig, start, start + len(motif)))
                for start in starts
            }
            other = motif[::-1].translate(str.maketrans("ACGT", "TGCA"))
            assert words <= {motif, other}
        if len(near):
            nearest = np.abs(rows["start"].to_numpy()[:, None] - near).min(1)
            assert nearest.tolist() == rows["distance"].tolist()
            assert nearest.min() >= planted.NEAR and nearest.max() < planted.FAR


def test_sites_in_held_out_windows_are_left_out(script: Any, tmp_path: Path) -> None:
    sites = pd.DataFrame(
        [
            ("chr1", 90, "A" * 10, "K562", "training"),  # ends where the test window begins
            ("chr1", 91, "A" * 10, "K562", "training"),
            ("chr1", 199, "A" * 10, "HepG2", "validation"),
            ("chr1", 200, "A" * 10, "HepG2", "validation"),
            ("chr2", 150, "A" * 10, "HepG2", "test"),
            ("chr1", 520, "A" * 10, "K562", "training"),
        ],
        columns=["chr", "seq_start", "sequence", "cell", "split"],
    )
    sites.to_csv(tmp_path / "sites.tsv", sep="\t", index=False)
    windows = "chrom\tstart\tend\tsplit\nchr1\t100\t200\ttest\nchr1\t500\t600\ttrain\nchr2\t0\t100\tvalid\n"
    (tmp_path / "windows.tsv").write_text(windows)
    script("dhs_table").main(*(str(tmp_path / name) for name in ("sites.tsv", "windows.tsv", "table.tsv")))
    table = pd.read_csv(tmp_path / "table.tsv", sep="\t")
    assert table["split"].tolist() == ["train", "valid", "test", "train"]
    assert table["K562"].tolist() == [1, 0, 0, 1] and table["HepG2"].tolist() == [0, 1, 1, 0]
