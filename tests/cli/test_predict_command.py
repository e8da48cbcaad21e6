"""``gexpr predict``: exact arguments of the one call, and a real run at the command line."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner, Result
from toy_models import save_tiny_checkpoint, write_fasta

from gexpr.cli.main import main
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions
from gexpr.runs.predict import PredictOptions
from gexpr.runs.shards import Shard

CALL = "gexpr.runs.predict.predict"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))


def invoke(*arguments: str, **settings) -> Result:
    return CliRunner().invoke(main, ["predict", *arguments], **settings)


def test_defaults_and_every_option() -> None:
    with mock.patch(CALL) as call:
        assert invoke("-c", "net", "-f", "g.fa", "-o", "o.h5", "r.bed").exit_code == 0
        text = (
            "--format npz -t 0-1 --no-rc --shifts 0,2 --no-unsquash --batch-size 3 --auto-batch --device cpu"
        )
        rest = "--precision fp16 --threads 2 --dtype float16 --contig-aliases n.tsv --quiet example"
        run = "--run-dir work --shard 1/3 --block-rows 9 --keep-run --force --workers 2"
        result = invoke("-c", "net", "-f", "example", "-o", "o", *text.split(), *run.split(), *rest.split())
        assert result.exit_code == 0, result.output
    assert call.call_args_list[0] == mock.call(
        "r.bed", "g.fa", "o.h5", PredictOptions(model=ModelOptions("net")), RunOptions()
    )
    bed, fasta, output, options, how = call.call_args_list[1].args
    assert bed.endswith(".bed") and Path(bed).is_file() and Path(fasta).is_file() and output == "o"
    model = ModelOptions("net", "0-1", False, (0, 2), 3, "cpu", "fp16", 2, False, True)
    assert options == PredictOptions(model=model, contig_aliases="n.tsv", format="npz", dtype="float16")
    expected = RunOptions("work", Shard(1, 3), block_rows=9, keep_run=True, force=True, workers=2)
    assert how == expected


def test_where_regions_come_from_and_go() -> None:
    both = ["--bigwig", "w", "--bedgraph", "g", "--overlap", "64"]
    with mock.patch(CALL) as call:
        given = [
            "-c",
            "net",
            "-f",
            "g.fa",
            "-r",
            "chr1:1,001-2,000",
            "-r",
            "chr2",
            "-o",
            "a.h5",
            "-o",
            "a.tsv",
        ]
        assert invoke(*given, *both).exit_code == 0
        assert (
            invoke("-c", "net", "-f", "g.fa", "--genome", "--contigs", "a,b", "--bigwig", "w").exit_code == 0
        )
        assert invoke("-c", "net", "--sequences", "s.fa", "-o", "a.h5").exit_code == 0
    regions, contigs, sequences = call.call_args_list
    assert regions.args[:3] == (None, "g.fa", ("a.h5", "a.tsv"))
    options = regions.args[3]
    assert options.regions[0][:3] == ("chr1", 1000, 2000) and options.regions[1][:2] == ("chr2", 0)
    assert (options.bigwig, options.bedgraph, options.overlap, options.contigs) == ("w", "g", 64, None)
    assert contigs.args[:3] == (None, "g.fa", None) and contigs.args[3].contigs == ("a", "b")
    assert sequences.args[:3] == (None, "s.fa", "a.h5") and sequences.args[3].sequences


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-f g.fa -o a.h5", "Nothing to predict"),
        ("-o a.h5 r.bed", "--fasta"),
        ("-f g.fa", "Missing option '--output'"),
        ("-f g.fa -o a.h5 --genome r.bed", "leave out BED"),
        ("-f g.fa -o a.h5 --contigs a r.bed", "is for --genome"),
        ("-f g.fa -o a.h5 --genome --contigs ,", "names no contig"),
        ("-f g.fa -o a.h5 --sequences s.fa", "takes no BED"),
        ("-f g.fa -o a.h5 --variants v.vcf --genome", "leave out --genome"),
        ("-f g.fa -o a.h5 --variants v.vcf --bigwig w", "leave out --genome"),
        ("-f g.fa -o a.h5 -o b.h5 --variants v.vcf", "one output"),
        ("-f g.fa -o a.h5 --region chr1:9-3", "ends before it starts"),
        ("-f g.fa -o a.h5 --region chr1:0-3", "count from 1"),
        ("-f g.fa -o a.h5 --region chr1:1-3x", "chr1:1-3x"),
    ],
)
def test_wrong_usage(arguments: str, message: str) -> None:
    with mock.patch(CALL) as call:
        result = invoke("-c", "net", *arguments.split())
    assert result.exit_code == 2 and message in result.stderr
    call.assert_not_called()


def test_both_alleles_around_variants_and_over_regions() -> None:
    given = ["-c", "net", "-f", "g.fa", "-o", "a.h5", "--variants", "v.vcf"]
    with mock.patch("gexpr.runs.predict_alleles.predict_alleles") as call:
        assert invoke(*given).exit_code == 0
        assert invoke(*given, "-r", "chr1:1,001-2,000", "r.bed").exit_code == 0
    options = PredictOptions(model=ModelOptions("net"))
    around, over = call.call_args_list
    assert around == mock.call("v.vcf", "g.fa", "a.h5", options, RunOptions(), None)
    assert over.args[5] == "r.bed" and over.args[3].regions[0][:3] == ("chr1", 1000, 2000)


def test_sequences_from_standard_input(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path / "tiny")
    sequence = "".join(np.random.default_rng(6).choice(list("ACGT"), 70))
    given = ["-c", str(tmp_path / "tiny"), "-o", "-", "--threads", "1", "--device", "cpu"]
    result = invoke(*given, "--sequences", "-", input=f">one\n{sequence}\n")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split("\t")[:5] == ["one", "0", "70", ".", "."]


def test_sums_on_standard_output_from_standard_input(tmp_path: Path) -> None:
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), 1500))
    save_tiny_checkpoint(tmp_path / "tiny")
    write_fasta(tmp_path / "g.fa", {"chr1": sequence})
    given = ["-c", str(tmp_path / "tiny"), "-f", str(tmp_path / "g.fa"), "-o", "-", "--threads", "1"]
    result = invoke(*given, "--device", "cpu", "-", input="chr1\t500\t600\tpeak\n")
    assert result.exit_code == 0, result.output
    header, row = (line.split("\t") for line in result.stdout.splitlines())
    assert header == ["chrom", "start", "end", "name", "strand", *(f"count_{b}" for b in "ACGT")]
    assert row[:5] == ["chr1", "500", "600", "peak", "."] and all(float(value) > 0 for value in row[5:])
    bad = invoke(*given, "--device", "cpu", "-", input="chr1\t600\t500\n")
    assert bad.exit_code == 1 and bad.stderr.startswith("error: standard input, line 1:")


def test_a_dry_run_calls_nothing_else() -> None:
    lines = ["6 regions"]
    patch = mock.patch("gexpr.runs.dry_run.dry_run_predictions", return_value=lines)
    with mock.patch(CALL) as call, patch as dry:
        result = invoke("-c", "net", "-f", "g.fa", "-o", "o.h5", "--dry-run", "r.bed")
    assert result.exit_code == 0 and result.stdout.splitlines() == lines
    call.assert_not_called()
    options = PredictOptions(model=ModelOptions("net"))
    dry.assert_called_once_with("r.bed", "g.fa", "o.h5", options, RunOptions())


def test_help_teaches() -> None:
    text = invoke("--help").output
    assert "gexpr predict -c yeast-tss -f example -o - example" in text and "Exit codes" in text
    assert invoke("r.bed").exit_code == 2
