"""Whole scoring runs on a tiny checkpoint: rows, blocks, summary, files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.runs import score_variants as job
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions
from gexpr.runs.score_variants import ScoreOptions, UnscoredError, score_variants

ALLELES = 22 * 3 + 6
OK = 22 * 3 + 2


@pytest.fixture(autouse=True)
def loud() -> None:
    logs.set_quiet(False)


@pytest.fixture
def options(inputs) -> ScoreOptions:
    return ScoreOptions(model=ModelOptions(inputs.checkpoint, device="cpu", batch_size=4))


def run(inputs, options: ScoreOptions, output: Path | str, *, how: RunOptions | None = None, **changes):
    options = dataclasses.replace(options, **changes)
    return score_variants(inputs.vcf, inputs.fasta, str(output), options, how)


def test_every_allele_gets_one_row_in_order(inputs, options, tmp_path: Path, capsys) -> None:
    summary = run(inputs, options, tmp_path / "a.h5", statistics=("logFC", "sad"), max_ref_mismatch=1.0)
    assert (summary.records, summary.alleles, summary.scored) == (28, ALLELES, OK)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["logFC"].shape == (ALLELES, 4) == file["SAD"].shape
        status = file["status"].asstr()[:]
        assert status[-4:].tolist() == ["symbolic_alt", "star_allele", "ref_mismatch", "contig_not_in_fasta"]
        good = status == "ok"
        assert good.sum() == OK
        assert np.isfinite(file["logFC"][:][good]).all() and np.isnan(file["logFC"][:][~good]).all()
        assert (np.abs(file["logFC"][:][good]).max(axis=1) > 0).all()
        assert file["snp"].asstr()[0] == "v40" and file["snp"].asstr()[-6].startswith("1_501_")
        assert file["chr"].asstr()[-6] == "1"
        attributes = dict(file.attrs)
    for name in ("checkpoint_sha256", "settings_sha256", "fasta_digest", "vcf_sha256"):
        assert len(attributes[name]) == 64
    assert attributes["contig_aliases"] == "1=chr1" and attributes["statistics"] == "logFC,SAD"
    assert attributes["batch_size"] == 4 and attributes["device"] == "cpu" and attributes["shifts"] == "0"
    assert attributes["unsquash"] and attributes["reverse_complement"]
    assert not any(str(inputs.folder) in str(value) for value in attributes.values())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"{ALLELES} alleles of 28 records read, {OK} scored in" in printed.err
    assert "not scored: star_allele 1, symbolic_alt 1, contig_not_in_fasta 1, ref_mismatch 1" in _sorted(
        printed.err
    )
    assert "1 is chr1" in printed.err and f"written to {tmp_path / 'a.h5'}" in printed.err
    assert os.listdir(tmp_path) == ["a.h5"]


def _sorted(text: str) -> str:
    """The line of statuses in a fixed order; the reader decides theirs."""
    wanted = ["star_allele 1", "symbolic_alt 1", "contig_not_in_fasta 1", "ref_mismatch 1"]
    line = next(line for line in text.splitlines() if line.startswith("not scored: "))
    assert sorted(line.removeprefix("not scored: ").split(", ")) == sorted(wanted)
    return "not scored: " + ", ".join(wanted)


def test_blocks_do_not_change_the_bytes(inputs, options, tmp_path: Path) -> None:
    run(inputs, options, tmp_path / "one.tsv")
    run(inputs, options, tmp_path / "many.tsv", how=RunOptions(block_rows=7))
    assert (tmp_path / "one.tsv").read_bytes() == (tmp_path / "many.tsv").read_bytes()


def test_two_equal_runs_give_equal_bytes(inputs, options, tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        run(inputs, options, tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_what_was_averaged_and_unsquashed_is_recorded(inputs, options, tmp_path: Path) -> None:
    model = options.model._replace(reverse_complement=False, shifts=(-1, 0, 2), unsquash=False)
    run(inputs, options, tmp_path / "a.h5", model=model, average="scores")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["shifts"] == "-1,0,2" and file.attrs["average"] == "scores"
        assert not file.attrs["reverse_complement"] and not file.attrs["unsquash"]


def test_a_change_of_settings_or_tracks_changes_the_digest(inputs, options, tmp_path: Path) -> None:
    """The weights' own digest says nothing of the random blocks' seed or of a track's transform."""
    digests = {}
    for name in ("same", "seed", "transform"):
        folder = Path(shutil.copytree(inputs.checkpoint, tmp_path / name))
        if name == "seed":
            config = json.loads((folder / "config.json").read_text())
            config["settings"]["seed"] = 12345
            (folder / "config.json").write_text(json.dumps(config))
        if name == "transform":
            table = (folder / "tracks.tsv").read_text()
            (folder / "tracks.tsv").write_text(table.replace("count\n", "squashed:power,exponent=0.5\n", 1))
        model = options.model._replace(checkpoint=str(folder))
        run(inputs, options, tmp_path / "a.h5", model=model, top=0, how=RunOptions(force=True))
        with h5py.File(tmp_path / "a.h5") as file:
            digests[name] = (file.attrs["checkpoint_sha256"], file.attrs["settings_sha256"])
    assert len({weights for weights, _ in digests.values()}) == 1
    assert len({settings for _, settings in digests.values()}) == 3


def test_the_order_of_the_file_does_not_change_a_score(inputs, options, tmp_path: Path) -> None:
    lines = Path(inputs.vcf).read_text().splitlines(keepends=True)
    (tmp_path / "reversed.vcf").write_text("".join(lines[:2] + lines[:1:-1]))
    run(inputs, options, tmp_path / "a.tsv")
    score_variants(str(tmp_path / "reversed.vcf"), inputs.fasta, str(tmp_path / "b.tsv"), options)
    there, back = (sorted((tmp_path / name).read_text().splitlines()) for name in ("a.tsv", "b.tsv"))
    assert there == back


def test_equivalent_spellings_get_equal_scores(inputs, options, tmp_path: Path) -> None:
    from toy_models import write_vcf

    s = inputs.sequence
    at = next(i for i in range(1000, 2000) if s[i] == s[i + 1] == s[i + 2] and s[i - 1] != s[i])
    spellings = [
        ("chr1", at, "a", s[at - 1 : at + 1], s[at - 1]),
        ("chr1", at + 2, "b", s[at + 1 : at + 3], s[at + 1]),
        ("chr1", at - 3, "c", s[at - 4 : at + 3], s[at - 4 : at + 2]),
    ]
    vcf = write_vcf(tmp_path / "same.vcf", spellings)
    score_variants(str(vcf), inputs.fasta, str(tmp_path / "a.tsv"), options)
    rows = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()[1:]]
    assert rows[0][6:] == rows[1][6:] == rows[2][6:] and rows[0][5] == "ok"
    assert [row[4] for row in rows] == [spelling[4] for spelling in spellings]


def test_strongest_effects(inputs, options, tmp_path: Path, capsys) -> None:
    summary = run(inputs, options, tmp_path / "a.h5", top=3)
    with h5py.File(tmp_path / "a.h5") as file:
        scores = np.nan_to_num(file["logFC"][:])
    largest = np.sort(np.abs(scores).max(axis=1))[::-1][:3]
    assert [abs(entry.score) for entry in summary.strongest] == pytest.approx(largest.tolist())
    assert "strongest effects by logFC" in capsys.readouterr().err
    assert run(inputs, options, tmp_path / "b.h5", top=0).strongest == []
    assert "strongest effects" not in capsys.readouterr().err


def test_strict_speaks_after_the_output_is_complete(inputs, options, tmp_path: Path) -> None:
    with pytest.raises(UnscoredError, match=r"4 alleles were not scored.*is complete") as caught:
        run(inputs, options, tmp_path / "a.tsv", strict=True)
    assert caught.value.exit_code == 3
    assert len((tmp_path / "a.tsv").read_text().splitlines()) == ALLELES + 1


def test_a_header_only_vcf_gives_an_empty_output(inputs, options, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty.vcf").write_text("".join(Path(inputs.vcf).read_text().splitlines(keepends=True)[:2]))
    summary = score_variants(str(tmp_path / "empty.vcf"), inputs.fasta, str(tmp_path / "a.h5"), options)
    assert summary.alleles == 0 and "warning:" in capsys.readouterr().err
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["logFC"].shape == (0, 4)


def test_float16_is_the_rounded_float32(inputs, options, tmp_path: Path) -> None:
    run(inputs, options, tmp_path / "a.h5")
    run(inputs, options, tmp_path / "b.h5", dtype="float16")
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert b["logFC"].dtype == np.float16
        assert np.array_equal(a["logFC"][:].astype(np.float16), b["logFC"][:], equal_nan=True)


def test_a_failure_leaves_finished_blocks_and_no_output(inputs, options, tmp_path: Path, monkeypatch) -> None:
    expected = tmp_path / "whole.h5"
    run(inputs, options, expected)
    compute = job.ScoreTask.compute

    def fail(task, block, advance=None):
        if block.start == 40:
            raise KeyboardInterrupt
        return compute(task, block, advance)

    monkeypatch.setattr(job.ScoreTask, "compute", fail)
    how = RunOptions(block_rows=20)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, options, tmp_path / "a.h5", how=how)
    assert sorted(os.listdir(tmp_path)) == ["a.h5.run", "whole.h5"]
    assert sorted(os.listdir(tmp_path / "a.h5.run" / "parts")) == ["000000.part", "000001.part"]
    monkeypatch.setattr(job.ScoreTask, "compute", compute)
    summary = run(inputs, options, tmp_path / "a.h5", how=how)
    assert summary.computed == ALLELES - 40
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "whole.h5"]
    assert (tmp_path / "a.h5").read_bytes() == expected.read_bytes()


def test_a_failure_before_the_plan_leaves_nothing(inputs, options, tmp_path: Path, monkeypatch) -> None:
    def fail(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(job.ScoreTask, "plan", fail)
    for name in ("a.h5", "a.tsv"):
        with pytest.raises(KeyboardInterrupt):
            run(inputs, options, tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_the_output_is_claimed_before_anything_is_read(inputs, options, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(job, "open_predictor", lambda _: pytest.fail("the model was loaded first"))
    with pytest.raises(GexprError, match="does not exist"):
        run(inputs, options, tmp_path / "no" / "a.h5")
    with pytest.raises(ConfigError, match="suffix"):
        run(inputs, options, tmp_path / "a.xlsx")
    with pytest.raises(ConfigError, match="--long"):
        run(inputs, options, tmp_path / "a.h5", long=True)


def test_too_many_mismatches_stop_before_scoring(inputs, options, tmp_path: Path, monkeypatch) -> None:
    from toy_models import write_vcf

    other = {"A": "C", "C": "G", "G": "T", "T": "A"}
    records = [("chr1", i + 1, ".", other[inputs.sequence[i]], inputs.sequence[i]) for i in range(200)]
    vcf = write_vcf(tmp_path / "bad.vcf", records)
    monkeypatch.setattr(job.ScoreTask, "compute", lambda *_: pytest.fail("scored"))
    with pytest.raises(InputError, match=r"assembly|0-based|one base"):
        score_variants(str(vcf), inputs.fasta, str(tmp_path / "a.tsv"), options)


def test_alleles_longer_than_the_models_output_are_not_scored(
    inputs, options, tmp_path: Path, capsys
) -> None:
    from toy_models import write_vcf

    base = inputs.sequence[1000]
    records = [("chr1", 1001, f"i{n}", base, base + "ACGT" * n) for n in (40, 60)]
    vcf = write_vcf(tmp_path / "long.vcf", records)
    summary = score_variants(str(vcf), inputs.fasta, str(tmp_path / "a.tsv"), options)
    assert summary.by_status == {"ok": 1, "too_long": 1}  # 24 bins of 16 bp: at most 176 bases
    assert "longer than 176 bases" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"statistics": ("fold",)},
        {"average": "x"},
        {"pseudocount": -1.0},
        {"max_ref_mismatch": 2.0},
        {"max_allele_length": 0},
        {"top": -1},
        {"dtype": "int8"},
    ],
)
def test_bad_options_are_refused(changes: dict) -> None:
    with pytest.raises(ConfigError):
        ScoreOptions(model=ModelOptions("x"), **changes)
