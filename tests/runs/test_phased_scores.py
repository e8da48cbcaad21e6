"""``gexpr score-variants --phased``: whole runs, at the command line and by shards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gexpr import logs
from gexpr.cli.main import main
from gexpr.errors import ConfigError
from gexpr.runs import score_variants as job
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions
from gexpr.runs.export import export_scores
from gexpr.runs.merge import merge_run
from gexpr.runs.score_variants import ScoreOptions, UnscoredError, score_variants
from gexpr.runs.shards import Shard
from gexpr.writers.score_file import ScoreFile

SAMPLES = ("NA1", "NA2", "NA3")
HEADER = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=chr1>",
    "##contig=<ID=1>",
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">',
    "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT NA1 NA2 NA3".replace(" ", "\t"),
]


class Phased(NamedTuple):
    """Paths: phased genotypes of a small genome, its FASTA and a checkpoint."""

    vcf: str
    fasta: str
    checkpoint: str


@pytest.fixture(scope="module")
def phased(inputs, tmp_path_factory: pytest.TempPathFactory) -> Phased:
    """40 records of one or two ALTs, 30 to 60 bp apart; the first sample's calls are all phased."""
    rng = np.random.default_rng(4)
    sequence, lines, start = inputs.sequence, list(HEADER), 100
    while len(lines) < 40 + len(HEADER):
        kind = len(lines) % 5
        ref, alt = sequence[start], "ACGT".replace(sequence[start], "")[:1]
        if kind == 1:
            alt = ref + "TTGA"[: 1 + int(rng.integers(4))]
        elif kind == 2:
            ref = sequence[start : start + 4]
            alt = ref[0]
        elif kind == 3:
            alt = ",".join("ACGT".replace(ref, "")[:2])
        most = 1 + alt.count(",")
        calls = [
            f"{rng.integers(0, most + 1)}|{rng.integers(0, most + 1)}",
            str(rng.choice(["0|1", "1|0", "0/1", "./.", "1", "1/1"], p=[0.4, 0.3, 0.05, 0.1, 0.05, 0.1])),
            str(rng.choice(["0|0", "0|1", "1|1"])),
        ]
        chrom = "1" if kind == 4 else "chr1"
        lines.append("\t".join([chrom, str(start + 1), f"v{start}", ref, alt, ".", ".", ".", "GT", *calls]))
        start += int(rng.integers(30, 60))
    # Overlapping deletions on the third sample's haplotype.
    lines += [
        "\t".join(["chr1", str(at + 1), f"d{at}", sequence[at : at + 6], sequence[at], *("." * 3), "GT"])
        + "\t0|0\t0|0\t0|1"
        for at in (2900, 2903)
    ]
    path = tmp_path_factory.mktemp("phased") / "phased.vcf"
    path.write_text("\n".join(lines) + "\n")
    return Phased(str(path), inputs.fasta, inputs.checkpoint)


@pytest.fixture(autouse=True)
def loud() -> None:
    logs.set_quiet(False)


@pytest.fixture
def options(phased: Phased) -> ScoreOptions:
    model = ModelOptions(phased.checkpoint, device="cpu", batch_size=4, tracks="0-1")
    return ScoreOptions(model=model, phased=True, samples=("NA2", "NA1", "NA3"))


@pytest.fixture(scope="module")
def whole(phased: Phased, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scores of all samples, in one process."""
    model = ModelOptions(phased.checkpoint, device="cpu", batch_size=4, tracks="0-1")
    path = tmp_path_factory.mktemp("whole") / "a.h5"
    options = ScoreOptions(model=model, phased=True, samples=("NA2", "NA1", "NA3"))
    score_variants(phased.vcf, phased.fasta, str(path), options)
    return path


def alleles(phased: Phased) -> list[tuple[str, int, str, str, list[str]]]:
    """(ID, number of the ALT, REF, ALT, calls of NA2, NA1 and NA3) of each allele of the file."""
    found = []
    for line in Path(phased.vcf).read_text().splitlines()[len(HEADER) :]:
        fields = line.split("\t")
        calls = [fields[10], fields[9], fields[11]]
        found += [(fields[2], n, fields[3], alt, calls) for n, alt in enumerate(fields[4].split(","), 1)]
    return found


def test_rows_columns_and_statuses(phased: Phased, whole: Path) -> None:
    every = alleles(phased)
    with ScoreFile(whole) as file:
        assert file.statistics == ("logFC", "logFC_marginal", "logFC_joint")
        assert file.rows == len(every) * 6
        extra = file.extra(0, file.rows)
        assert extra["sample"] == ["NA2", "NA2", "NA1", "NA1", "NA3", "NA3"] * len(every)
        assert extra["haplotype"] == [1, 2] * (3 * len(every))
        status = np.array(file.texts("status", 0, file.rows)).reshape(-1, 3, 2)
        assert file.texts("alt", 0, file.rows) == [alt for *_, alt, _ in every for _ in range(6)]
        tables = {name: file.scores(name, 0, file.rows) for name in file.statistics}
        assert file.attributes["phased"] and file.attributes["samples"] == "NA2,NA1,NA3"
        assert file.attributes["engine"] == "plain"
        assert "the haplotype without and with" in str(file.definition("logFC_marginal"))
    expected_simple = {"./.": "missing_genotype", "0/1": "unphased", "0|0": "not_carried"}
    for (_, number, _, _, calls), statuses in zip(every, status, strict=True):
        for call, pair in zip(calls, statuses, strict=True):
            if call in expected_simple:
                assert pair.tolist() == [expected_simple[call]] * 2
            elif call == "1":
                assert (pair == "not_carried").tolist() == [number != 1, True]
            else:
                for allele, each in zip(call.replace("/", "|").split("|"), pair, strict=True):
                    assert (each == "not_carried") == (allele != str(number))
    assert {"ok", "unphased_neighbor", "haplotype_conflict"} <= set(status.ravel().tolist())
    good = status.ravel() == "ok"
    for table in tables.values():
        assert np.isfinite(table[good]).all() and np.isnan(table[~good]).all()
    others = np.array(extra["n_variants"])
    assert (others[~good] == 0).all() and others[good].max() > 3
    alone = good & (others == 0)
    crowded = good & (others > 0)
    assert crowded.any()
    for name in ("logFC_marginal", "logFC_joint"):
        assert np.array_equal(tables["logFC"][alone], tables[name][alone])
        assert (np.abs(tables["logFC"] - tables[name])[crowded].max(axis=1) > 0).mean() > 0.9


def test_single_effects_are_the_scores_without_phase(
    phased: Phased, options: ScoreOptions, whole: Path, tmp_path: Path
) -> None:
    plain = dataclasses.replace(options, phased=False, samples=(), engine="plain")
    score_variants(phased.vcf, phased.fasta, str(tmp_path / "a.h5"), plain)
    with h5py.File(whole) as file, h5py.File(tmp_path / "a.h5") as other:
        good = file["status"].asstr()[:] == "ok"
        single, expected = file["logFC"][:], np.repeat(other["logFC"][:], 6, axis=0)
        assert np.allclose(single[good], expected[good], rtol=1e-5, atol=1e-6)


def test_shards_blocks_and_an_interruption_give_the_same_bytes(
    phased: Phased, options: ScoreOptions, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = str(tmp_path / "work")
    for index in (1, 0):
        run = RunOptions(shard=Shard(index, 2), run_dir=work, block_rows=35)
        assert score_variants(phased.vcf, phased.fasta, None, options, run) is None
    with pytest.raises(ConfigError, match=r"no place for the columns sample, haplotype, n_variants"):
        merge_run(work, str(tmp_path / "a.vcf"), vcf=phased.vcf)
    summary = merge_run(work, [str(tmp_path / "merged.h5"), str(tmp_path / "merged.tsv")])
    assert summary.alleles == len(alleles(phased)) * 6
    assert (tmp_path / "merged.h5").read_bytes() == whole.read_bytes()
    compute = job.ScoreTask.compute

    def fail(task, block, advance=None):
        if block.start == 200:
            raise KeyboardInterrupt
        return compute(task, block, advance)

    with monkeypatch.context() as patch:
        patch.setattr(job.ScoreTask, "compute", fail)
        with pytest.raises(KeyboardInterrupt):
            score_variants(
                phased.vcf, phased.fasta, str(tmp_path / "b.h5"), options, RunOptions(block_rows=50)
            )
    score_variants(phased.vcf, phased.fasta, str(tmp_path / "b.h5"), options, RunOptions(block_rows=50))
    assert (tmp_path / "b.h5").read_bytes() == whole.read_bytes()
    export_scores(str(whole), str(tmp_path / "exported.tsv"))
    assert (tmp_path / "exported.tsv").read_bytes() == (tmp_path / "merged.tsv").read_bytes()


def invoke(phased: Phased, output: Path, *arguments: str, vcf: str | None = None, **settings) -> Result:
    given = ["-c", phased.checkpoint, "-f", phased.fasta, "-o", str(output), "--device", "cpu"]
    given += ["--batch-size", "4", *arguments, phased.vcf if vcf is None else vcf]
    return CliRunner().invoke(main, ["score-variants", *given], **settings)


def test_at_the_command_line(phased: Phased, whole: Path, tmp_path: Path) -> None:
    arguments = ["--phased", "--samples", "NA2,NA1,NA3", "-t", "0-1"]
    result = invoke(phased, tmp_path / "a.h5", *arguments, catch_exceptions=False)
    assert result.exit_code == 0 and (tmp_path / "a.h5").read_bytes() == whole.read_bytes()
    assert "rows (alleles on haplotypes) of 42 records read" in result.stderr
    assert "not_carried" in result.stderr and " haplotype " in result.stderr
    result = invoke(phased, tmp_path / "b.h5", *arguments, "--dry-run", catch_exceptions=False)
    assert result.exit_code == 0 and "windows" in result.stdout and not (tmp_path / "b.h5").exists()
    text = Path(phased.vcf).read_bytes()
    result = invoke(phased, tmp_path / "c.tsv", *arguments, vcf="-", input=text, catch_exceptions=False)
    assert result.exit_code == 0
    export_scores(str(whole), str(tmp_path / "d.tsv"))
    assert (tmp_path / "c.tsv").read_bytes() == (tmp_path / "d.tsv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "output", "code", "message"),
    [
        (["--samples", "NA1"], "a.h5", 1, "add --phased"),
        (["--phased"], "a.h5", 1, "3 samples (NA1, NA2, NA3): choose with --samples"),
        (["--phased", "--samples", "NA4"], "a.h5", 1, "no sample NA4; did you mean NA"),
        (["--phased", "--samples", "NA1"], "a.vcf", 1, "INFO has no place"),
        (["--phased", "--samples", "NA1", "--symbolic"], "a.h5", 1, "--symbolic is not available"),
        (["--phased", "--samples", "NA1", "--indel-shifts", "2"], "a.h5", 1, "--indel-shifts is not"),
    ],
)
def test_wrong_usage(
    arguments: list[str], output: str, code: int, message: str, phased: Phased, tmp_path: Path
) -> None:
    result = invoke(phased, tmp_path / output, *arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert list(tmp_path.iterdir()) == []


def test_strict_forgives_what_is_not_carried(phased: Phased, options: ScoreOptions, tmp_path: Path) -> None:
    strict = dataclasses.replace(options, strict=True, samples=("NA1",))
    summary = score_variants(phased.vcf, phased.fasta, str(tmp_path / "a.h5"), strict)
    assert summary is not None and set(summary.by_status) == {"ok", "not_carried"}
    with pytest.raises(UnscoredError):
        score_variants(
            phased.vcf, phased.fasta, str(tmp_path / "b.h5"), dataclasses.replace(strict, samples=("NA3",))
        )


def test_means_over_tracks(phased: Phased, options: ScoreOptions, whole: Path, tmp_path: Path) -> None:
    grouped = dataclasses.replace(options, aggregate="assay")
    with pytest.raises(ConfigError, match="needs the column assay"):
        score_variants(phased.vcf, phased.fasta, str(tmp_path / "a.h5"), grouped)
