"""Scores on genes, from the command to every output, beside scores counted by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.genome.codes import encode
from gexpr.models.layers import one_hot
from gexpr.runs.common import ModelOptions
from gexpr.runs.score_variants import ScoreOptions, ScoreTask

LENGTH = 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn genome, genes as BED and GTF, variants and a tiny model."""
    folder = tmp_path_factory.mktemp("genes")
    draw = np.random.default_rng(2)
    sequence = "".join(draw.choice(list("ACGT"), LENGTH))
    write_fasta(folder / "g.fa", {"chr1": sequence})
    save_tiny_checkpoint(folder / "tiny")
    records = []
    for position in (700, 1000, 1010, 1500, 2200):
        ref = sequence[position - 1]
        records.append(("chr1", position, f"v{position}", ref, "ACGT"[("ACGT".index(ref) + 1) % 4]))
    records.append(("chr1", 1100, "ins", sequence[1099], sequence[1099] + "ACGTA"))
    records.append(("chr1", 1200, "del", sequence[1199:1204], sequence[1199]))
    records.append(("chr1", 1300, "bad", "N", "<DEL>"))
    write_vcf(folder / "v.vcf", records)
    (folder / "genes.bed").write_text(
        "chr1\t980\t1012\tplus\t0\t+\nchr1\t1005\t1060\tminus\t0\t-\nchr1\t400\t420\tfar\t0\t+\nchrX\t1\t9\tx\t0\t+\n"
    )
    return folder


def run(folder: Path, *arguments: str):
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu", "--batch-size", "3"]
    result = CliRunner().invoke(
        main,
        ["score-variants", *given, "--genes", str(folder / "genes.bed"), *arguments, str(folder / "v.vcf")],
    )
    return result


def table(path: Path) -> list[dict[str, str]]:
    header, *lines = path.read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_scores_of_a_substitution_are_those_of_the_predictions_over_the_gene(folder, tmp_path):
    result = run(
        folder, "--no-rc", "--gene-mask", "gene", "--gene-overlap", "any", "-o", str(tmp_path / "o.tsv")
    )
    assert result.exit_code == 0, result.output
    assert "1 of 4 genes are on contigs that the FASTA lacks: chrX" in result.stderr
    assert "of an allele and a gene" in result.stderr
    model = checkpoints.load(folder / "tiny")
    sequence = (folder / "g.fa").read_text().split("\n", 1)[1].replace("\n", "")
    size, context = model.bin_size, model.context_length
    genes = {"plus": (980, 1012, "+"), "minus": (1005, 1060, "-"), "far": (400, 420, "+")}
    rows = table(tmp_path / "o.tsv")
    checked = 0
    for row in rows:
        if not row["id"].startswith("v"):
            continue
        position = int(row["pos"]) - 1
        window = position - context // 2
        first = window + model.crop * size
        start, end, strand = genes[row["gene_id"]]
        bins = [
            b for b in range(model.target_length) if first + b * size < end and first + (b + 1) * size > start
        ]
        assert bins
        text = sequence[window : window + context]
        changed = text[: context // 2] + row["alt"] + text[context // 2 + 1 :]
        track = [each.id for each in model.tracks].index(row["track_id"])
        assert model.tracks[track].strand in (strand, ".")
        old, new = (
            float(model(one_hot(_tensor(each))).detach()[0, bins, track].double().sum())
            for each in (text, changed)
        )
        expected = np.log2(new + 1) - np.log2(old + 1)
        assert float(row["score"]) == pytest.approx(expected, abs=1e-5)
        assert row["gene_strand"] == strand
        checked += 1
    assert checked >= 4
    names = {(row["id"], row["gene_id"]) for row in rows}
    assert ("v1000", "plus") in names and ("v1000", "minus") in names
    assert not any(row["id"] in ("v2200", "bad") for row in rows)


def _tensor(text: str):
    import torch

    return torch.from_numpy(encode(text)[None])


@pytest.mark.parametrize("extra", [[], ["--indel-shifts", "2"], ["--engine", "plain"], ["--shifts", "-2,1"]])
def test_outputs_agree_with_each_other(folder, tmp_path, extra):
    outputs = [tmp_path / name for name in ("o.h5", "o.tsv", "o.parquet")]
    pytest.importorskip("pyarrow")
    arguments = [text for path in outputs for text in ("-o", str(path))]
    result = run(folder, "--stats", "logFC,SAD", *extra, *arguments)
    assert result.exit_code == 0, result.output
    rows = table(outputs[1])
    with h5py.File(outputs[0]) as file:
        snp = file["snp"].asstr()[:]
        assert len(snp) == 8 and file["status"].asstr()[:][-1] == "symbolic_alt"
        ids = [target.decode() for target in file["target_ids"][:]]
        found = {}
        for row, (variant, gene) in enumerate(zip(file["si"][:], file["gene"].asstr()[:], strict=True)):
            for name in ("logFC", "SAD"):
                for track, score in zip(ids, file[name][row], strict=True):
                    if not np.isnan(score):
                        found[snp[variant], gene, track, name] = score
        assert file.attrs["gene_mask"] == "exon,majority" and len(file.attrs["genes_sha256"]) == 64
        near = dict(zip(snp, file["nearest_gene"].asstr()[:], strict=True))
        distance = dict(zip(snp, file["nearest_tss_distance"][:], strict=True))
    # The TSS of "plus" is base 981, of "minus" 1060, of "far" 401; a variant need not be predicted with it.
    assert (near["v700"], distance["v700"]) == ("plus", -281)
    assert (near["v1000"], distance["v1000"]) == ("plus", 19)
    assert (near["v2200"], distance["v2200"]) == ("minus", -1140)
    assert np.isnan([each for name, each in distance.items() if not near[name]]).all()
    assert len(found) == len(rows) > 10
    for row in rows:
        assert found[row["id"], row["gene_id"], row["track_id"], row["statistic"]] == np.float32(row["score"])
    import pyarrow.parquet

    tidy = pyarrow.parquet.read_table(outputs[2]).to_pylist()
    assert [each["gene_id"] for each in tidy] == [row["gene_id"] for row in rows]
    assert np.allclose([each["score"] for each in tidy], [float(row["score"]) for row in rows], rtol=1e-6)


def test_bytes_depend_neither_on_blocks_nor_on_shards(folder, tmp_path):
    whole = tmp_path / "whole.h5"
    assert run(folder, "-o", str(whole)).exit_code == 0
    small = tmp_path / "small.h5"
    assert run(folder, "--block-rows", "2", "-o", str(small)).exit_code == 0
    assert whole.read_bytes() == small.read_bytes()
    shared = tmp_path / "shared.h5"
    for shard in ("0/2", "1/2"):
        result = run(folder, "--block-rows", "3", "--shard", shard, "-o", str(shared))
        assert result.exit_code == 0, result.output
    command = [sys.executable, "-m", "gexpr", "merge", f"{shared}.run", "-o", str(shared)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "of an allele and a gene" in done.stderr
    assert whole.read_bytes() == shared.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--mask", "center:50", "-o", "o.h5"], 1, "--genes chooses the bins itself"),
        (["--long", "-o", "o.tsv"], 1, "leave out --long"),
        (["-o", "o.vcf"], 1, "suffix does not tell"),
        (["--gene-window", "50", "-o", "o.h5"], 2, "give --gene-mask tss"),
        (["--gene-mask", "tss", "--gene-window", "x", "-o", "o.h5"], 2, "must be BP"),
        (["--aggregate", "assay", "-o", "o.h5"], 1, "not for scores on genes"),
        (["-o", "o.vcf", "--dry-run"], 1, "suffix does not tell"),
        (["--long", "-o", "o.tsv", "--dry-run"], 1, "leave out --long"),
    ],
)
def test_what_does_not_fit_together_is_refused(folder, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = run(folder, *arguments)
    assert result.exit_code == code, result.output
    assert message in result.output + str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_file_of_genes_that_changed_is_another_run(folder, tmp_path):
    (tmp_path / "genes.bed").write_text((folder / "genes.bed").read_text())
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu", "--batch-size", "3"]
    command = ["score-variants", *given, "--genes", str(tmp_path / "genes.bed"), "--block-rows", "2"]
    command += ["--shard", "0/2", "-o", str(tmp_path / "o.h5"), str(folder / "v.vcf")]
    assert CliRunner().invoke(main, command).exit_code == 0
    (tmp_path / "genes.bed").write_text("chr1\t980\t1012\tplus\t0\t+\n")
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 1 and "genes_sha256" in again.output + str(again.exception)


def test_masks_of_genes_without_genes_are_refused(folder, tmp_path):
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu"]
    command = [
        "score-variants",
        *given,
        "--gene-mask",
        "tss",
        "-o",
        str(tmp_path / "o.tsv"),
        str(folder / "v.vcf"),
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1 and "are for --genes" in result.output


def test_other_strands_of_the_tracks_are_another_run(folder, tmp_path):
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    given = ["-c", str(tmp_path / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu", "--batch-size", "3"]
    command = ["score-variants", *given, "--genes", str(folder / "genes.bed"), "--block-rows", "2"]
    command += ["--shard", "0/2", "-o", str(tmp_path / "o.h5"), str(folder / "v.vcf")]
    assert CliRunner().invoke(main, command).exit_code == 0
    tracks = tmp_path / "tiny" / "tracks.tsv"
    swapped = tracks.read_text().replace("\t+\t", "\t?\t").replace("\t-\t", "\t+\t").replace("\t?\t", "\t-\t")
    assert swapped != tracks.read_text()
    tracks.write_text(swapped)
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 1 and "track_strands" in again.output


def test_genes_from_a_stream_are_for_one_process(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu"]
    command = ["score-variants", *given, "--genes", str(tmp_path / "pipe"), "--workers", "2"]
    result = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "o.h5"), str(folder / "v.vcf")])
    assert result.exit_code == 1 and "several processes are to read it" in result.output


def test_workers_elsewhere_find_the_files_of_the_options(folder, monkeypatch):
    monkeypatch.chdir(folder)
    options = ScoreOptions(model=ModelOptions("tiny"), genes="genes.bed")
    task = ScoreTask("v.vcf", "v.vcf", "g.fa", options).absolute()
    assert task.options.genes == str(folder / "genes.bed") and task.fasta == str(folder / "g.fa")
    ranked = ScoreOptions(model=ModelOptions("tiny"), background="auto")
    assert ScoreTask("v.vcf", "v.vcf", "g.fa", ranked).absolute().options.background == "auto"
