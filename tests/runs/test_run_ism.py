"""Whole runs of mutagenesis and attribution on a tiny checkpoint."""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import h5py
import numpy as np
import pyBigWig
import pytest
from cyvcf2 import VCF

from gexpr.cli.main import main
from gexpr.errors import ConfigError, InputError
from gexpr.genome.places import parse_region
from gexpr.interpretation.mutagenesis import Changes
from gexpr.results import Region
from gexpr.runs.attribute import AttributeOptions, attribute
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions
from gexpr.runs.ism import IsmOptions, ism
from gexpr.runs.merge import merge_run
from gexpr.runs.score_variants import ScoreOptions, score_variants
from gexpr.runs.shards import Shard
from gexpr.writers.regions import oriented

LETTERS = np.array(list("ACGT"))


@pytest.fixture
def model(inputs) -> ModelOptions:
    return ModelOptions(inputs.checkpoint, device="cpu", batch_size=4, tracks="0,2")


@pytest.fixture
def options(model: ModelOptions) -> IsmOptions:
    return IsmOptions(model=model, length=6, changes=Changes(2, True))


def test_every_output_says_the_same(inputs, options, tmp_path: Path) -> None:
    """Arrays, VCF and TSV against each other, and against the VCF's alleles scored one by one."""
    paths = [str(tmp_path / name) for name in ("a.h5", "a.vcf.gz", "a.tsv")]
    summary = ism(inputs.bed, inputs.fasta, paths, options)
    assert (summary.regions, summary.positions) == (2, 12)
    with h5py.File(paths[0]) as file:
        arrays = {
            name: file[name][:] for name in ("seqs", "logFC", "logFC_deletion", "logFC_insertion", "start")
        }
        assert file["chr"].asstr()[:].tolist() == ["chr1", "1"]
        assert file.attrs["format"] == "gexpr mutagenesis"
        assert file["target_ids"].asstr()[:].tolist() == ["count_A", "count_G"]
    assert arrays["start"].tolist() == [548 - 3, 848 - 3]
    assert arrays["logFC"].shape == (2, 6, 4, 2)
    own = "".join(LETTERS[arrays["seqs"][0].argmax(axis=1)])
    assert own == inputs.sequence[545:551]
    complement = str.maketrans("ACGT", "TGCA")
    turned = "".join(LETTERS[arrays["seqs"][1].argmax(axis=1)])
    assert turned == inputs.sequence[845:851].translate(complement)[::-1]
    assert not arrays["logFC"][arrays["seqs"]].any()

    table = [line.split("\t") for line in Path(paths[2]).read_text().splitlines()]
    header, rows = table[0], table[1:]
    at = {name: header.index(name) for name in ("pos", "ref", "alt", "count_A")}
    found = {(row[at["pos"]], row[at["ref"]], row[at["alt"]]): float(row[at["count_A"]]) for row in rows}
    assert len(rows) == len(found) == 2 * (6 * 3 + 5 + 6 * 4)
    records = list(VCF(paths[1]))
    of_vcf = {
        (str(each.POS), each.REF, alt): value
        for each in records
        for alt, value in zip(each.ALT, np.atleast_1d(each.INFO["GEXPR_count_A"]), strict=True)
    }
    assert of_vcf.keys() == found.keys()
    assert np.allclose([of_vcf[key] for key in found], list(found.values()))

    # The middle of each region is scored as score-variants scores it: its window is the region's.
    scored = str(tmp_path / "scored.tsv")
    score_variants(paths[1], inputs.fasta, scored, ScoreOptions(model=options.model, statistics=("logFC",)))
    lines = [line.split("\t") for line in Path(scored).read_text().splitlines()[1:]]
    same = {(row[1], row[3], row[4]): float(row[header.index("count_A")]) for row in lines}
    sequence = inputs.sequence
    for start in (545, 845):
        middle = start + 3
        for alt in set("ACGT") - {sequence[middle]}:
            key = str(middle + 1), sequence[middle], alt
            assert same[key] == pytest.approx(found[key], abs=2e-6)
    # Arrays: of the + strand, and turned round.
    for position in range(6):
        for number, letter in enumerate("ACGT"):
            if letter != sequence[545 + position]:
                key = str(546 + position), sequence[545 + position], letter
                assert arrays["logFC"][0, position, number, 0] == pytest.approx(found[key], abs=1e-7)
            if letter != sequence[845 + position]:
                key = str(846 + position), sequence[845 + position], letter
                assert arrays["logFC"][1, 5 - position, 3 - number, 0] == pytest.approx(found[key], abs=1e-7)
        anchor = sequence[844 + position]
        key = str(845 + position), anchor + sequence[845 + position : 847 + position], anchor
        if position < 5:
            # On the - strand it begins at its last base.
            assert arrays["logFC_deletion"][1, 4 - position, 0] == pytest.approx(found[key], abs=1e-7)
        key = str(845 + position), anchor, anchor + "A"
        if position > 0:
            assert arrays["logFC_insertion"][1, 6 - position, 3, 0] == pytest.approx(found[key], abs=1e-7)
    assert np.isnan(arrays["logFC_insertion"][1, 0]).all()
    assert np.isnan(arrays["logFC_deletion"][:, 5]).all()


def test_shards_merge_to_the_same_bytes(inputs, options, tmp_path: Path) -> None:
    """Blocks of 5 positions: a region is divided among blocks and shards."""
    whole = [str(tmp_path / name) for name in ("a.h5", "a.vcf")]
    run = RunOptions(block_rows=5)
    ism(inputs.bed, inputs.fasta, whole, options, run)
    folder = str(tmp_path / "run")
    for index in range(2):
        part = dataclasses.replace(run, shard=Shard(index, 2), run_dir=folder)
        assert ism(inputs.bed, inputs.fasta, None, options, part) is None
    merged = [str(tmp_path / name) for name in ("b.h5", "b.vcf")]
    merge_run(folder, merged)
    for one, other in zip(whole, merged, strict=True):
        assert Path(one).read_bytes() == Path(other).read_bytes()


def test_regions_of_the_command_line_and_of_several_lengths(inputs, model, tmp_path: Path) -> None:
    options = IsmOptions(model=model, regions=(parse_region("1:501-503"), parse_region("chr1:701")))
    path = str(tmp_path / "a.h5")
    ism(None, inputs.fasta, path, options)
    with h5py.File(path) as file:
        assert (file["start"][:].tolist(), file["end"][:].tolist()) == ([500, 700], [503, 701])
        assert file["logFC"].shape == (2, 3, 4, 2)
        assert np.isfinite(file["logFC"][0]).all()
        assert np.isnan(file["logFC"][1, 1:]).all()
        assert not file["seqs"][1, 1:].any()


def test_regions_that_cannot_be_scored(inputs, model, tmp_path: Path) -> None:
    output = str(tmp_path / "a.h5")
    with pytest.raises(ConfigError, match="either as a BED file or with --region"):
        ism(None, inputs.fasta, output, IsmOptions(model=model))
    with pytest.raises(ConfigError, match="either as a BED file or with --region"):
        ism(inputs.bed, inputs.fasta, output, IsmOptions(model=model, regions=(Region("chr1", 5, 6),)))
    with pytest.raises(ConfigError, match=r"chr1:100-500 has 400 bp, .* up to 320 bp"):
        ism(None, inputs.fasta, output, IsmOptions(model=model, regions=(Region("chr1", 100, 500),)))
    with pytest.raises(InputError, match="reach past the contig: chr1:-4-6"):
        ism(None, inputs.fasta, output, IsmOptions(model=model, regions=(Region("chr1", 0, 2),), length=10))
    assert os.listdir(tmp_path) == []


def test_attributions_in_every_format(inputs, model, tmp_path: Path) -> None:
    options = AttributeOptions(model=model, length=6)
    paths = [str(tmp_path / name) for name in ("a.h5", "a.tsv", "a.bedgraph")]
    for path in paths:
        attribute(inputs.bed, inputs.fasta, path, options)
    with h5py.File(paths[0]) as file:
        values, seqs = file["attributions"][:], file["seqs"][:]
        contributions = file["contributions"][:]
        assert values.shape == (2, 6, 4, 1)
        assert file["target"].shape == (2, 1)
        assert "baseline" not in file
        assert file["target_ids"].asstr()[:].tolist() == ["sum"]
    assert np.allclose(np.where(seqs[..., None], values, 0).sum(axis=2), contributions, atol=1e-7)
    assert np.abs(values.sum(axis=2)).max() < 1e-5 * np.abs(values).max() + 1e-7
    rows = [line.split("\t") for line in Path(paths[1]).read_text().splitlines()]
    assert rows[0] == ["chrom", "start", "end", "base", "sum"]
    assert "".join(row[3] for row in rows[1:7]) == inputs.sequence[545:551]
    graph = [line.split("\t") for line in Path(paths[2]).read_text().splitlines()]
    assert graph[0][:3] == ["chr1", "545", "546"]
    assert [row[3] for row in graph] == [row[4] for row in rows[1:]]
    # Text runs along the + strand, the arrays of the second region along the - strand.
    expected = np.concatenate([contributions[0], contributions[1][::-1]])[:, 0]
    assert np.allclose(np.float64([row[4] for row in rows[1:]]), expected, rtol=1e-6)
    bed = tmp_path / "over.bed"
    # Two regions share three bases; the second lies on the left of the first.
    bed.write_text("1\t545\t551\n1\t542\t548\n")
    options = dataclasses.replace(
        options, length=None, bigwig=str(tmp_path / "w"), bedgraph=str(tmp_path / "g")
    )
    attribute(str(bed), inputs.fasta, str(tmp_path / "c.tsv"), options)
    rows = [line.split("\t") for line in (tmp_path / "c.tsv").read_text().splitlines()[1:]]
    bases: dict[int, list[float]] = {}
    for row in rows:
        bases.setdefault(int(row[1]), []).append(float(row[4]))
    means = [float(np.mean(bases[at])) for at in range(542, 551)]
    with pyBigWig.open(str(tmp_path / "w" / "sum.bw")) as wig:
        assert wig.chroms()["chr1"] == len(inputs.sequence)
        assert wig.header()["nBasesCovered"] == 9
        assert np.allclose(wig.values("chr1", 542, 551), means, rtol=1e-6)
    lines = gzip.decompress((tmp_path / "g" / "sum.bedGraph.gz").read_bytes()).decode().splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["chr1", str(at)] for at in range(542, 551)]
    with pytest.raises(ConfigError, match="bedGraph holds one column, not 2"):
        each = dataclasses.replace(options, each_track=True)
        attribute(inputs.bed, inputs.fasta, str(tmp_path / "b.bedgraph"), each)


def test_integrated_gradients_and_merged_attributions(inputs, model, tmp_path: Path) -> None:
    options = AttributeOptions(
        model=model, length=6, method="integrated", steps=24, baseline="shuffled", shuffles=2, each_track=True
    )
    whole, merged, folder = (str(tmp_path / name) for name in ("a.h5", "b.h5", "run"))
    attribute(inputs.bed, inputs.fasta, whole, options)
    for index in range(2):
        run = RunOptions(block_rows=1, shard=Shard(index, 2), run_dir=folder)
        attribute(inputs.bed, inputs.fasta, None, options, run)
    merge_run(folder, merged, bigwig=str(tmp_path / "merged"), keep_run=True)
    names = sorted(os.listdir(tmp_path / "merged"))
    assert names == ["count_A.bw", "count_G.bw"]
    alone = dataclasses.replace(options, bigwig=str(tmp_path / "alone"))
    attribute(inputs.bed, inputs.fasta, None, alone, RunOptions(block_rows=1))
    assert not (tmp_path / "alone.run").exists()
    for name in names:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "merged" / name).read_bytes()
    with h5py.File(whole) as file, h5py.File(merged) as other:
        assert np.allclose(file["attributions"], other["attributions"], atol=1e-6)
        difference = file["target"][:] - file["baseline"][:]
        total = file["contributions"][:].sum(axis=1)
        assert np.abs(difference).max() > 1e-4
        assert np.allclose(total, difference, atol=2e-2 * np.abs(difference).max())


def test_the_commands(inputs, tmp_path: Path, capsys) -> None:
    """Both commands with logos, and what they would do."""
    pytest.importorskip("matplotlib")
    common = ["-c", inputs.checkpoint, "-f", inputs.fasta, "--device", "cpu", "-t", "0", "--length", "4"]
    arrays, logos = str(tmp_path / "a.h5"), tmp_path / "logos"
    with pytest.raises(SystemExit, match="0"):
        main(["ism", *common, "-o", arrays, "--logo", str(logos), "--logo-format", "svg", inputs.bed])
    assert sorted(os.listdir(logos)) == ["001_chr1_546_550.svg", "002_1_846_850.svg"]
    with pytest.raises(SystemExit, match="1"):
        main(["ism", *common, "-o", str(tmp_path / "b.tsv"), "--logo", str(logos), inputs.bed])
    assert "add -o FILE.h5" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["ism", *common, "--dry-run", inputs.bed])
    out = capsys.readouterr().out
    assert "8 positions in 2 regions" in out
    assert "26 windows" in out  # a reference and twelve alternates each
    with pytest.raises(SystemExit, match="0"):
        main(["attribute", *common, "--dry-run", "--method", "integrated", "--steps", "4", inputs.bed])
    assert "8 positions in 2 regions" in capsys.readouterr().out
    common = common[:-2]
    with pytest.raises(SystemExit, match="0"):
        main(["attribute", *common, "-o", "-", "-q", "-r", "chr1:101-103"])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        ["chr1", str(at), str(at + 1), inputs.sequence[at]] for at in (100, 101, 102)
    ]


def test_orientation() -> None:
    values = np.arange(8.0).reshape(2, 4, 1)
    assert oriented(values, "+") is values
    assert oriented(values, "-")[..., 0].tolist() == [[7, 6, 5, 4], [3, 2, 1, 0]]
    line = np.arange(4.0)[:, None]
    assert np.array_equal(oriented(line, "-", 1)[:, 0], [2, 1, 0, np.nan], equal_nan=True)
    assert np.array_equal(oriented(line, "-", -1)[:, 0], [np.nan, 3, 2, 1], equal_nan=True)
