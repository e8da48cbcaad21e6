"""``gexpr top`` and ``gexpr export``: exact arguments of the one call, and real files at the command line."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gexpr.cli.main import main
from gexpr.results import Region, Track, Variant
from gexpr.runs.export import ExportOptions
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema, open_writer

TOP = "gexpr.runs.score_rows.strongest_rows"
WRITE = "gexpr.runs.score_rows.write_ranked"
EXPORT = "gexpr.runs.export.export_scores"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def scores(tmp_path: Path) -> str:
    """Two alleles, two tracks."""
    path = str(tmp_path / "scores.h5")
    tracks = (Track(0, "a", "Track A", "DNASE", "K562"), Track(1, "b", "Track B", "CAGE", "liver"))
    variants = [
        Variant(0, 0, "chr1", 7, "rs1", "A", "C", "ok"),
        Variant(1, 0, "chr2", 9, ".", "AT", "A", "ok"),
    ]
    with AtomicOutput(path) as output:
        writer = open_writer(output, "hdf5", ScoreSchema(tracks, ("logFC",), {"statistics": "logFC"}))
        writer.write(variants, {"logFC": np.float32([[0.1, -2], [-0.5, 1]])})
        writer.commit()
    return path


def test_top_defaults() -> None:
    with mock.patch(TOP, return_value=["found"]) as call, mock.patch(WRITE) as write:
        result = invoke("top", "s.h5")
    assert result.exit_code == 0, result.output
    call.assert_called_once_with(
        "s.h5", count=10, statistic=None, tracks=None, regions=(), by="abs", overall=False
    )
    write.assert_called_once_with(["found"], "-", force=False)


def test_top_with_every_option(tmp_path: Path) -> None:
    (tmp_path / "r.bed").write_text("chr3\t5\t9\n")
    options = "--top 3 --overall --by down --stat SAD -t a,b -r chr1:1-9 -r chr2 --force --quiet -o out.tsv"
    with mock.patch(TOP) as call, mock.patch(WRITE) as write, mock.patch("gexpr.logs.set_quiet") as quiet:
        result = invoke("top", *options.split(), "-R", str(tmp_path / "r.bed"), "s.h5")
    assert result.exit_code == 0, result.output
    regions = call.call_args.kwargs.pop("regions")
    assert [each.chrom for each in regions] == ["chr1", "chr2", "chr3"]
    assert call.call_args.kwargs == {
        **{"count": 3, "statistic": "SAD", "tracks": "a,b", "by": "down", "overall": True}
    }
    write.assert_called_once_with(call.return_value, "out.tsv", force=True)
    quiet.assert_called_with(True)


def test_export_defaults() -> None:
    with mock.patch(EXPORT) as call:
        assert invoke("export", "s.h5", "-o", "o.tsv").exit_code == 0
    call.assert_called_once_with("s.h5", "o.tsv", ExportOptions())


def test_export_with_every_option() -> None:
    options = (
        "-o o.vcf --format tsv -t a --stats sum,logfc -r chr1:2-3 --status ok --status too_long "
        "--min-abs 0.5 --top 4 --by up --stat SAD --long --vcf v.vcf --force --quiet"
    )
    with mock.patch(EXPORT) as call, mock.patch("gexpr.logs.set_quiet") as quiet:
        result = invoke("export", *options.split(), "s.h5")
    assert result.exit_code == 0, result.output
    expected = ExportOptions(
        tracks="a",
        statistics=("SAD", "logFC"),
        regions=(Region("chr1", 1, 3),),
        statuses=("ok", "too_long"),
        min_abs=0.5,
        top=4,
        by="up",
        stat="SAD",
        format="tsv",
        long=True,
        vcf="v.vcf",
        force=True,
    )
    call.assert_called_once_with("s.h5", "o.vcf", expected)
    quiet.assert_called_with(True)


def test_top_on_standard_output(scores: str) -> None:
    result = invoke("top", scores, "-n", "1")
    assert result.exit_code == 0, result.output
    assert [line.split("\t") for line in result.stdout.splitlines()] == [
        "rank track_id track_label statistic score chrom pos id ref alt".split(),
        ["1", "a", "Track A", "logFC", "-0.5", "chr2", "9", ".", "AT", "A"],
        ["1", "b", "Track B", "logFC", "-2.0", "chr1", "7", "rs1", "A", "C"],
    ]
    result = invoke("top", scores, "--overall", "-t", "cell:k562", "-r", "chr1:7")
    assert result.stdout.splitlines()[1:] == ["1\ta\tTrack A\tlogFC\t0.1\tchr1\t7\trs1\tA\tC"]


def test_export_on_standard_output(scores: str) -> None:
    result = invoke("export", scores, "-o", "-", "-t", "assay:CAGE", "--min-abs", "1.5")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "chrom\tpos\tid\tref\talt\tstatus\tb",
        "chr1\t7\trs1\tA\tC\tok\t-2.0",
    ]
    assert "1 of 2 rows, 1 of 2 tracks" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["top", "{here}/absent.h5"], "absent.h5: No such file", 1),
        (["top", "{scores}", "-r", "chr1:9-5"], "ends before it starts", 2),
        (["top", "{scores}", "-t", "@{here}/absent.txt"], "absent.txt", 1),
        (["top", "{scores}", "-n", "0"], "0 is not in the range", 2),
        (["top", "{scores}", "-o", "{scores}", "--force"], "is also an input", 1),
        (["export", "{scores}", "-o", "-", "--stats", "nope"], "unknown statistic 'nope'", 2),
        (["export", "{scores}", "-o", "{here}/x.csv"], "suffix does not tell", 1),
        (["export", "{scores}"], "Missing option '--output'", 2),
    ],
)
def test_faults_are_one_line(
    scores: str, tmp_path: Path, arguments: list[str], message: str, code: int
) -> None:
    result = invoke(*(each.format(scores=scores, here=tmp_path) for each in arguments))
    assert result.exit_code == code and message in result.stderr
    assert "Traceback" not in result.output
