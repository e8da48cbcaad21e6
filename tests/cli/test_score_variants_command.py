"""``gexpr score-variants``: exact arguments of the one call, and real runs at the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.cli.main import main
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions
from gexpr.runs.score_variants import ScoreOptions
from gexpr.runs.shards import Shard
from gexpr.scoring.definitions import Mask

CALL = "gexpr.runs.score_variants.score_variants"
HEADER = b"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
NEEDED = ["-c", "net", "-f", "g.fa", "-o", "o.h5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """tiny/, g.fa, v.vcf: a checkpoint, a genome and five records, one of them symbolic."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("score-cli")
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), 1500))
    save_tiny_checkpoint(folder / "tiny")
    write_fasta(folder / "g.fa", {"chr1": sequence})
    alternate = {"A": "C", "C": "G", "G": "T", "T": "A"}
    records = [("chr1", i + 1, f"v{i}", sequence[i], alternate[sequence[i]]) for i in (300, 500, 700, 1100)]
    write_vcf(folder / "v.vcf", [*records, ("chr1", 1200, ".", sequence[1199], "<DEL>")])
    yield folder
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))


def invoke(*arguments: str, **settings) -> Result:
    return CliRunner().invoke(main, ["score-variants", *arguments], **settings)


def score(folder: Path, output: str, *arguments: str, vcf: str = "v.vcf", **settings) -> Result:
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "-o", output, "--device", "cpu"]
    return invoke(
        *given, "--batch-size", "4", *arguments, vcf if vcf == "-" else str(folder / vcf), **settings
    )


def test_defaults() -> None:
    with mock.patch(CALL) as call:
        result = invoke(*NEEDED, "v.vcf")
    assert result.exit_code == 0, result.output
    expected = ScoreOptions(model=ModelOptions("net"))
    call.assert_called_once_with("v.vcf", "g.fa", "o.h5", expected, RunOptions())


def test_several_outputs_and_standard_output_as_vcf() -> None:
    with mock.patch(CALL) as call:
        assert invoke(*NEEDED, "-o", "b.parquet", "-o", "-", "v.vcf").exit_code == 0
        assert invoke(*NEEDED[:4], "-o", "-", "--format", "vcf", "v.vcf").exit_code == 0
    expected = ScoreOptions(model=ModelOptions("net"))
    several, one = call.call_args_list
    assert several.args == ("v.vcf", "g.fa", ("o.h5", "b.parquet", "-"), expected, RunOptions())
    assert one.args[2:4] == ("-", ScoreOptions(model=ModelOptions("net"), format="vcf"))


def test_every_option() -> None:
    text = (
        "--format tsv -t wt_*,3 --stats sad,LOGFC --pseudocount 0.5 --mask center:250 --no-rc "
        "--shifts -1,0,1 --no-unsquash --batch-size 3 --auto-batch --device cuda:1 --precision tf32 "
        "--threads 2 --average scores --aggregate assay --merge-strands --dtype float16 --long "
        "--indel-shifts 4 --max-allele-length 50 --symbolic --max-ref-mismatch 0.5 --allow-unknown-contigs "
        "--contig-aliases names.tsv --top 7 --strict --run-dir work --block-rows 9 --restart --keep-run "
        "--force --workers 3 --cluster local --quiet -"
    )
    with mock.patch(CALL) as call, mock.patch("gexpr.logs.set_quiet") as quiet:
        result = invoke("-c", "net", "-f", "g.fa", "-o", "-", *text.split())
    assert result.exit_code == 0, result.output
    quiet.assert_called_with(True)
    call.assert_called_once_with(
        "-",
        "g.fa",
        "-",
        ScoreOptions(
            model=ModelOptions(
                checkpoint="net",
                tracks="wt_*,3",
                reverse_complement=False,
                shifts=(-1, 0, 1),
                batch_size=3,
                device="cuda:1",
                precision="tf32",
                threads=2,
                unsquash=False,
                auto_batch=True,
                merge_strands=True,
            ),
            statistics=("SAD", "logFC"),
            pseudocount=0.5,
            mask=Mask(250),
            average="scores",
            aggregate="assay",
            indel_shifts=4,
            max_allele_length=50,
            symbolic=True,
            max_ref_mismatch=0.5,
            allow_unknown_contigs=True,
            contig_aliases="names.tsv",
            format="tsv",
            dtype="float16",
            long=True,
            top=7,
            strict=True,
        ),
        RunOptions(
            run_dir="work",
            block_rows=9,
            restart=True,
            keep_run=True,
            force=True,
            workers=3,
            cluster="local",
        ),
    )


def test_a_dry_run_calls_nothing_else() -> None:
    lines = ["1,195 alleles", "some minutes"]
    with mock.patch(CALL) as call, mock.patch("gexpr.runs.dry_run.dry_run_scores", return_value=lines) as dry:
        result = invoke(*NEEDED[:4], "--dry-run", "--workers", "2", "v.vcf")
    assert result.exit_code == 0 and result.stdout.splitlines() == lines
    call.assert_not_called()
    expected = ScoreOptions(model=ModelOptions("net"))
    dry.assert_called_once_with("v.vcf", "g.fa", None, expected, RunOptions(workers=2))


def test_a_shard_needs_no_output_and_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock.patch(CALL) as call:
        result = invoke(*NEEDED[:4], "--shard", "2/4", "--run-dir", "work", "v.vcf")
        assert result.exit_code == 0, result.output
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        for name in ("SLURM_ARRAY_TASK_ID", "SLURM_STEP_NUM_TASKS"):
            monkeypatch.delenv(name, raising=False)
        assert invoke(*NEEDED, "--shard", "auto", "--scheduler", "tcp://a:1", "v.vcf").exit_code == 0
    assert call.call_args_list[0].args[2:] == (
        None,
        ScoreOptions(model=ModelOptions("net")),
        RunOptions(run_dir="work", shard=Shard(2, 4)),
    )
    assert call.call_args.args[4] == RunOptions(shard=Shard(1, 2), scheduler="tcp://a:1")


def test_the_word_example_is_the_packaged_data() -> None:
    with mock.patch(CALL) as call:
        assert invoke("-c", "net", "-f", "example", "-o", "-", "example").exit_code == 0
    vcf, fasta = call.call_args.args[:2]
    assert Path(vcf).is_file() and vcf.endswith(".vcf.gz") and Path(fasta).is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ["v.vcf"],
        [*NEEDED],
        [*NEEDED, "--stats", "fold", "v.vcf"],
        [*NEEDED, "--mask", "gene", "v.vcf"],
        [*NEEDED, "--shifts", "a", "v.vcf"],
        [*NEEDED, "--precision", "fp8", "v.vcf"],
        [*NEEDED, "--batch-size", "0", "v.vcf"],
        [*NEEDED, "--pseudocount", "-1", "v.vcf"],
        [*NEEDED, "--average", "folds", "v.vcf"],
        [*NEEDED, "--nonsense", "v.vcf"],
        [*NEEDED, "--shard", "4/4", "v.vcf"],
        [*NEEDED, "--shard", "half", "v.vcf"],
        [*NEEDED, "--block-rows", "0", "v.vcf"],
        [*NEEDED, "--workers", "0", "v.vcf"],
        [*NEEDED, "--cluster", "pbs", "v.vcf"],
        [*NEEDED[:4], "--run-dir", "work", "v.vcf"],
        [*NEEDED, "-o", "b.tsv", "--format", "tsv", "v.vcf"],
        [*NEEDED, "-o", "-", "-o", "-", "v.vcf"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with mock.patch(CALL) as call:
        result = invoke(*arguments)
    assert result.exit_code == 2 and "Error" in result.output
    call.assert_not_called()


def test_help_teaches_and_needs_no_torch() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from gexpr.cli.main import main; "
        "r = CliRunner().invoke(main, ['score-variants', '--help']); print(r.output); "
        "assert r.exit_code == 0; assert 'torch' not in sys.modules"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "gexpr score-variants -c yeast-tss -f example -o - example" in text
    assert "Exit codes" in text and "--tracks" in text


def test_standard_output_is_the_table_and_nothing_else(folder: Path) -> None:
    result = score(folder, "-")
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert rows[0] == [*("chrom", "pos", "id", "ref", "alt", "status"), *(f"count_{b}" for b in "ACGT")]
    assert [row[2] for row in rows[1:]] == ["v300", "v500", "v700", "v1100", "."]
    assert all(len(row) == 10 for row in rows) and rows[-1][5:] == ["symbolic_alt", *["nan"] * 4]
    assert "5 alleles of 5 records read, 4 scored" in result.stderr
    assert "strongest effects" in result.stderr


def test_a_vcf_from_standard_input(folder: Path) -> None:
    text = (folder / "v.vcf").read_text()
    piped = score(folder, "-", vcf="-", input=text)
    assert piped.exit_code == 0, piped.output
    assert piped.stdout == score(folder, "-").stdout


def test_quiet_prints_only_the_table(folder: Path) -> None:
    result = score(folder, "-", "--quiet", "--max-allele-length", "100")
    assert result.exit_code == 0 and result.stderr == ""


def test_tracks_are_columns(folder: Path) -> None:
    everything = [line.split("\t") for line in score(folder, "-").stdout.splitlines()]
    chosen = [line.split("\t") for line in score(folder, "-", "-t", "count_G,0").stdout.splitlines()]
    assert [row[6:] for row in chosen] == [[row[8], row[6]] for row in everything]


def test_structural_alleles_score_as_the_plain_ones_of_their_sequence(folder: Path) -> None:
    name, *parts = (folder / "g.fa").read_text().split()
    name, bases = name[1:], "".join(parts)
    pos, size = 700, 12
    anchor, segment = bases[pos - 1].upper(), bases[pos : pos + size].upper()
    inverted = segment[::-1].translate(str.maketrans("ACGT", "TGCA"))
    pairs = [
        ("<DEL>", f"SVLEN=-{size}", anchor + segment, anchor),
        ("<DUP:TANDEM>", f"END={pos + size}", anchor, anchor + segment),
        ("<INV>", f"END={pos + size}", anchor + segment, anchor + inverted),
        ("<INS>", "SVINSSEQ=TTGCA", anchor, anchor + "TTGCA"),
    ]
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for alt, info, plain_ref, plain_alt in pairs:
        lines.append(f"{name}\t{pos}\t.\t{anchor}\t{alt}\t.\t.\t{info}")
        lines.append(f"{name}\t{pos}\t.\t{plain_ref}\t{plain_alt}\t.\t.\t.")
    (folder / "sv.vcf").write_text("\n".join(lines) + "\n")

    def table(*arguments: str) -> list[list[str]]:
        result = score(folder, "-", *arguments, vcf="sv.vcf")
        return [line.split("\t") for line in result.stdout.splitlines()[1:]]

    rows = table("--symbolic")
    assert [row[5] for row in rows] == ["ok"] * len(rows)
    for structural, plain in zip(rows[::2], rows[1::2], strict=True):
        assert structural[6:] == plain[6:]
        assert any(float(value) for value in plain[6:])
    assert [row[5] for row in table()] == ["symbolic_alt", "ok"] * len(pairs)


def test_strict_exits_with_3_and_a_complete_output(folder: Path, tmp_path: Path) -> None:
    result = score(folder, str(tmp_path / "a.tsv"), "--strict")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith("error: 1 allele was not scored")
    assert len((tmp_path / "a.tsv").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tracks", "cage*"], "no track matches 'cage*'"),
        (["--device", "cuda:0,0"], "cuda:0,0"),
        (["--shard", "0/2", "--restart"], "--restart with --shard"),
        (["--scheduler", "tcp://a:1", "--cluster", "local"], "give one of them"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["-c", "no-such-net"], "no checkpoint 'no-such-net'"),
        (["-f", "no-such.fa"], "no-such.fa"),
        (["-o", "no/such/folder/a.h5"], "does not exist"),
        (["-o", "a.xlsx"], "known suffixes: .h5"),
        (["--shifts", "0,192"], "a shift of 192 bp is too large: the model predicts the middle 384 bp"),
        (["--format", "hdf5", "--long"], "--long is a form of TSV"),
        (["--contig-aliases", "no-such.tsv"], "no-such.tsv"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(
    arguments: list[str], message: str, folder: Path, tmp_path: Path
) -> None:
    result = score(folder, str(tmp_path / "out.tsv"), *arguments)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in result.output and not (tmp_path / "out.tsv").exists()
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"not a vcf\n", "line 1"),
        (b"##fileformat=VCFv4.3\nchr1\t1\t.\tA\tC\t.\t.\t.\n", "#CHROM"),
        (
            b"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\tten\t.\tA\tC\t.\t.\t.\n",
            "line 3",
        ),
        (b"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t10\t.\tA\n", "line 3"),
    ],
)
def test_a_bad_vcf_is_one_line_and_exit_1(content: bytes, message: str, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.vcf").write_bytes(content)
    result = score(folder, str(tmp_path / "out.h5"), vcf="bad.vcf")
    assert result.exit_code == 1 and "Traceback" not in result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in line and "bad.vcf" in line
    assert not (tmp_path / "out.h5").exists()


def test_a_reader_that_stops_early_is_no_error(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "gexpr",
        "score-variants",
        "-c",
        str(folder / "tiny"),
        "-f",
        str(folder / "g.fa"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "-o", "-", "--device", "cpu", str(folder / "v.vcf")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 141 and "error" not in errors and "Traceback" not in errors
