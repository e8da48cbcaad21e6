"""Scores exported from HDF5: the same numbers and bytes as a run writes, and what is left out."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.genome.places import parse_region
from gexpr.runs.common import ModelOptions
from gexpr.runs.export import ExportOptions, export_scores
from gexpr.runs.score_variants import ScoreOptions, score_variants
from gexpr.writers.score_file import ScoreFile


@pytest.fixture(autouse=True)
def loud() -> None:
    logs.set_quiet(False)


@pytest.fixture(scope="module")
def options(inputs) -> ScoreOptions:
    model = ModelOptions(inputs.checkpoint, device="cpu", batch_size=4)
    return ScoreOptions(model=model, statistics=("logFC", "SAD"), max_ref_mismatch=1.0)


@pytest.fixture(scope="module")
def scored(inputs, options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scores.h5, scores.tsv and scores.vcf of one run."""
    folder = tmp_path_factory.mktemp("scored")
    outputs = [str(folder / f"scores.{suffix}") for suffix in ("h5", "tsv", "vcf")]
    score_variants(inputs.vcf, inputs.fasta, outputs, options)
    return folder


def export(scored: Path, output: Path, **changes):
    return export_scores(str(scored / "scores.h5"), str(output), ExportOptions(**changes))


def table(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", ["h5", "tsv"])
def test_everything_exported_has_the_bytes_of_the_run(scored: Path, tmp_path: Path, suffix: str) -> None:
    summary = export(scored, tmp_path / f"out.{suffix}")
    assert summary.rows == summary.all_rows == 72 and summary.tracks == 4
    assert (tmp_path / f"out.{suffix}").read_bytes() == (scored / f"scores.{suffix}").read_bytes()


def test_the_scored_vcf_is_annotated_as_in_the_run(inputs, scored: Path, tmp_path: Path) -> None:
    export(scored, tmp_path / "out.vcf", vcf=inputs.vcf)
    assert (tmp_path / "out.vcf").read_bytes() == (scored / "scores.vcf").read_bytes()


def test_tracks_and_statistics_are_those_of_a_run_with_them(
    inputs, options, scored: Path, tmp_path: Path
) -> None:
    tracks = "count_T,count_C"
    asked = dataclasses.replace(options, model=options.model._replace(tracks=tracks), statistics=("SAD",))
    score_variants(inputs.vcf, inputs.fasta, [str(tmp_path / "run.tsv"), str(tmp_path / "run.h5")], asked)
    for suffix in ("tsv", "h5"):
        export(scored, tmp_path / f"out.{suffix}", tracks=tracks, statistics=("SUM",))
    assert (tmp_path / "out.tsv").read_text() == (tmp_path / "run.tsv").read_text()
    assert (tmp_path / "out.h5").read_bytes() == (tmp_path / "run.h5").read_bytes()
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["tracks"] == "3,1" and "exported" not in file.attrs


def test_rows_are_those_that_meet_every_condition(scored: Path, tmp_path: Path) -> None:
    everything = table(scored / "scores.tsv")[1:]
    values = {row: [float(cell) for cell in cells[10:14]] for row, cells in enumerate(everything)}
    inside = [
        row
        for row, cells in enumerate(everything)
        if cells[0] in ("chr1", "1") and cells[5] == "ok" and int(cells[1]) + len(cells[3]) - 1 >= 605
    ]
    strong = [row for row in inside if max(map(abs, values[row])) >= 0.08]
    ranked = {
        row for track in range(4) for row in sorted(strong, key=lambda r: (-abs(values[r][track]), r))[:3]
    }
    assert 3 < len(ranked) < len(strong) < len(inside) < len(everything)
    conditions = dict(regions=(parse_region("chr1:605-"),), statuses=("ok",), stat="SAD")
    for rows, more in (
        (inside, {}),
        (strong, {"min_abs": 0.08}),
        (sorted(ranked), {"min_abs": 0.08, "top": 3}),
    ):
        summary = export(scored, tmp_path / "out.tsv", force=True, **conditions, **more)
        assert table(tmp_path / "out.tsv")[1:] == [everything[row] for row in rows]
        assert summary.rows == len(rows)


def test_a_choice_of_rows_says_so(scored: Path, tmp_path: Path) -> None:
    regions = (parse_region("chr1:1-700"), parse_region("chrM"))
    with pytest.raises(InputError, match=r"no row lies on chrM; its contigs are chr1, 1, chr7"):
        export(scored, tmp_path / "a.h5", regions=regions)
    assert not list(tmp_path.iterdir())
    export(scored, tmp_path / "a.h5", regions=regions[:1], statuses=("ok",))
    export_scores(str(tmp_path / "a.h5"), str(tmp_path / "b.h5"), ExportOptions(top=1, by="up"))
    with h5py.File(tmp_path / "b.h5") as file:
        said = "regions chr1:0-700 (0-based), status ok; then top 1 by up of logFC"
        assert file.attrs["exported"] == said
        assert 1 <= len(file["pos"]) <= 4 and (file["logFC"][:].max(axis=0) > 0).all()
        assert file.attrs["statistics"] == "logFC,SAD"


def test_chosen_records_of_the_scored_vcf(inputs, scored: Path, tmp_path: Path) -> None:
    export(scored, tmp_path / "out.vcf", vcf=inputs.vcf, regions=(parse_region("chr1:1-501"),), top=1)
    wanted = [line for line in (scored / "scores.vcf").read_text().splitlines() if line[0] != "#"]
    kept = [line for line in (tmp_path / "out.vcf").read_text().splitlines() if line[0] != "#"]
    # A record is kept with all its alleles.
    assert 1 <= len(kept) <= 5 and set(kept) < set(wanted)
    assert kept == [line for line in wanted if line in kept]
    assert all("," in line.split("\t")[4] for line in kept if line.split("\t")[2].startswith("v"))


def test_another_vcf_is_refused(inputs, scored: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.vcf"
    other.write_text(Path(inputs.vcf).read_text() + "chr1\t9\t.\tA\tC\t.\t.\t.\n")
    with pytest.raises(InputError, match=r"other\.vcf: this is not the VCF that was scored \(variants\.vcf"):
        export(scored, tmp_path / "out.vcf", vcf=str(other))
    assert not (tmp_path / "out.vcf").exists()


def test_a_vcf_of_the_rows_alone(scored: Path, tmp_path: Path) -> None:
    export(scored, tmp_path / "out.vcf", tracks="count_A", statistics=("SAD",), statuses=("ok",))
    lines = (tmp_path / "out.vcf").read_text().splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert (
        header[0] == "##fileformat=VCFv4.2" and "##contig=<ID=chr1>" in header and "##contig=<ID=1>" in header
    )
    assert "##contig=<ID=chr7>" not in header
    export(scored, tmp_path / "out.tsv", tracks="count_A", statistics=("SAD",), statuses=("ok",))
    rows = table(tmp_path / "out.tsv")[1:]
    assert [line.split("\t")[:8] for line in lines if line[0] != "#"] == [
        [chrom, pos, id, ref, alt, ".", ".", f"GEXPR_STATUS=ok;GEXPR_count_A={score}"]
        for chrom, pos, id, ref, alt, _, score in rows
    ]


def test_parquet_holds_the_same_numbers(scored: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(scored, tmp_path / "out.parquet", tracks="count_G", statistics=("SAD",), statuses=("ok",))
    with ScoreFile(scored / "scores.h5") as file:
        expected = file.scores("SAD", 0, file.rows, [2])[:, 0]
    found = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert np.array_equal(np.array(found["score"], dtype=np.float32), expected[~np.isnan(expected)])


def test_nothing_that_meets_the_conditions_is_an_empty_file(scored: Path, tmp_path: Path, capsys) -> None:
    assert export(scored, tmp_path / "out.tsv", min_abs=1e9).rows == 0
    assert len(table(tmp_path / "out.tsv")) == 1
    assert "meets the conditions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("out.csv", {}, ConfigError, "suffix does not tell its format"),
        ("out.h5", {"long": True}, ConfigError, "--long is a form of TSV"),
        ("out.tsv", {"vcf": "x.vcf"}, ConfigError, "--vcf is for the format vcf"),
        ("out.tsv", {"statuses": ("okay",)}, ConfigError, "unknown status 'okay'"),
        ("out.tsv", {"statistics": ("JS",)}, ConfigError, r"scores\.h5 has no JS"),
        ("out.tsv", {"tracks": "zz*"}, ConfigError, r"no track matches 'zz\*'"),
        ("out.vcf", {"vcf": "absent.vcf"}, GexprError, "absent.vcf"),
    ],
)
def test_faults_leave_nothing(
    scored: Path, tmp_path: Path, name: str, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        export(scored, tmp_path / name, **changes)
    assert not list(tmp_path.iterdir())


def test_the_file_itself_is_not_replaced(scored: Path) -> None:
    before = (scored / "scores.h5").read_bytes()
    with pytest.raises(ConfigError, match="is also an input"):
        export(scored, scored / "scores.h5", force=True)
    assert (scored / "scores.h5").read_bytes() == before


def test_groups_and_merged_strands_are_written_and_read_back(inputs, options, tmp_path: Path) -> None:
    """The whole way: a run with groups, its attributes, and a choice of its columns."""
    folder = tmp_path / "grouped"
    folder.mkdir()
    for entry in Path(inputs.checkpoint).iterdir():
        (folder / entry.name).write_bytes(entry.read_bytes())
    lines = [line.split("\t") for line in (folder / "tracks.tsv").read_text().splitlines()]
    for line, cell in zip(lines[1:], ("K562", "liver", "liver", "K562"), strict=True):
        line[lines[0].index("cell_type")] = cell
        line[lines[0].index("assay")] = "CAGE"
    (folder / "tracks.tsv").write_text("\n".join("\t".join(line) for line in lines) + "\n")

    def run(name: str, merge: bool = False, aggregate: str | None = None) -> ScoreFile:
        model = options.model._replace(checkpoint=str(folder), merge_strands=merge)
        score_variants(
            inputs.vcf,
            inputs.fasta,
            str(tmp_path / name),
            dataclasses.replace(options, model=model, aggregate=aggregate),
        )
        return ScoreFile(tmp_path / name)

    with run("plain.h5") as plain, run("cells.h5", aggregate="celltype") as cells:
        assert plain.attributes["aggregate"] == "none" and plain.attributes["merge_strands"] is False
        assert cells.attributes["aggregate"] == "celltype" and cells.attributes["tracks"] == "0-3"
        assert len(str(cells.attributes["aggregate_sha256"])) == 64
        assert [(t.id, t.label, t.assay, t.cell_type) for t in cells.tracks] == [
            ("K562", "K562: mean of 2 tracks", "CAGE", "K562"),
            ("liver", "liver: mean of 2 tracks", "CAGE", "liver"),
        ]
        scores = plain.scores("SAD", 0, 72).astype(np.float64)
        expected = np.stack([scores[:, [0, 3]].mean(1), scores[:, [1, 2]].mean(1)], 1).astype(np.float32)
        assert np.array_equal(cells.scores("SAD", 0, 72), expected, equal_nan=True)
    with run("merged.h5", merge=True) as merged, run("both.h5", merge=True, aggregate="assay") as both:
        assert [t.id for t in merged.tracks] == ["count_A_count_T", "count_C_count_G"]
        assert merged.attributes["merge_strands"] is True and merged.attributes["tracks"] == "0-3"
        sums = scores[:, [0, 1]] + scores[:, [3, 2]]
        # Of an insertion the largest inserted base counts, which the strands need not share.
        sums[66] = merged.scores("SAD", 66, 67)
        np.testing.assert_allclose(merged.scores("SAD", 0, 72), sums, rtol=1e-4, atol=1e-5)
        assert [t.id for t in both.tracks] == ["CAGE"] and both.tracks[0].label == "CAGE: mean of 2 tracks"
    export_scores(str(tmp_path / "merged.h5"), str(tmp_path / "one.h5"), ExportOptions(tracks="cell:liver"))
    with ScoreFile(tmp_path / "one.h5") as one:
        assert [t.id for t in one.tracks] == ["count_C_count_G"] and one.attributes["tracks"] == "0-3"


def test_reading_scores_needs_no_torch() -> None:
    program = (
        "import sys, gexpr.runs.export, gexpr.runs.score_rows, gexpr.cli.top, gexpr.cli.export, "
        "gexpr.writers.vcf; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
