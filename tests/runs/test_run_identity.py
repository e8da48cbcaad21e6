"""One process, shards, workers, any blocks: the same bytes in every format."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from toy_models import write_vcf

from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions
from gexpr.runs.directory import Manifest, RunDirectory
from gexpr.runs.merge import merge_run
from gexpr.runs.predict import PredictOptions, predict
from gexpr.runs.score_variants import ScoreOptions, UnscoredError, score_variants
from gexpr.runs.shards import Shard


class Kind(NamedTuple):
    """A file to write: its name, and whether it is a long table."""

    name: str
    long: bool = False


ALLELES = 70
OK = 68
KINDS = (Kind("a.h5"), Kind("a.tsv"), Kind("a.tsv.gz"), Kind("long.tsv", long=True))


@pytest.fixture(scope="module")
def vcf(inputs, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Records with up to twelve alleles, so that blocks of any size cut some of them."""
    s = inputs.sequence
    records = []
    for number, start in enumerate(range(300, 2400, 210)):
        others = [base for base in "ACGT" if base != s[start]]
        alts = others + [s[start] + "ACGTTGCAACG"[: n + 1] for n in range(9)]
        records.append(("chr1", start + 1, f"m{start}", s[start], ",".join(alts[: 1 + 5 * number % 12])))
    records += [("chr1", 2500, ".", s[2499], "<DEL>,*"), ("chrM", 60, ".", s[59:63], s[59])]
    return str(write_vcf(tmp_path_factory.mktemp("identity") / "many.vcf", records))


@pytest.fixture(scope="module")
def options(inputs) -> ScoreOptions:
    model = ModelOptions(inputs.checkpoint, device="cpu", batch_size=4)
    return ScoreOptions(model=model, statistics=("logFC", "SAD", "D2"), max_ref_mismatch=1.0)


@pytest.fixture
def predict_options(inputs) -> PredictOptions:
    return PredictOptions(model=ModelOptions(inputs.checkpoint, device="cpu", batch_size=2))


def merged(run_dir: Path, folder: Path, kinds: tuple[Kind, ...]) -> dict[str, bytes]:
    folder.mkdir()
    for kind in kinds:
        merge_run(str(run_dir), str(folder / kind.name), long=kind.long, keep_run=True)
    return {kind.name: (folder / kind.name).read_bytes() for kind in kinds}


@pytest.mark.parametrize(
    ("dtype", "divisions"),
    [("float32", [(1, ALLELES), (2, 7), (4, 2)]), ("float16", [(3, 8)])],
    ids=["float32", "float16"],
)
def test_scores(
    dtype: str, divisions: list[tuple[int, int]], inputs, vcf: str, options: ScoreOptions, tmp_path: Path
) -> None:
    options = dataclasses.replace(options, dtype=dtype)
    whole = {}
    run = RunOptions(run_dir=str(tmp_path / "whole"), keep_run=True)
    for kind in KINDS:
        changed = dataclasses.replace(options, long=kind.long)
        score_variants(vcf, inputs.fasta, str(tmp_path / kind.name), changed, run)
        whole[kind.name] = (tmp_path / kind.name).read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["D2"].dtype == dtype and len(file["D2"]) == ALLELES
        assert np.isfinite(file["SAD"][:][file["status"].asstr()[:] == "ok"]).all()
    for count, block_rows in divisions:
        work = tmp_path / f"work-{count}"
        for index in range(count):
            run = RunOptions(run_dir=str(work), shard=Shard(index, count), block_rows=block_rows)
            assert score_variants(vcf, inputs.fasta, None, options, run) is None
        found = merged(work, tmp_path / f"merged-{count}", KINDS)
        assert [name for name in whole if found[name] != whole[name]] == []


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "other"])
def test_predictions(equal: bool, dtype: str, inputs, predict_options, tmp_path: Path) -> None:
    options = dataclasses.replace(predict_options, dtype=dtype)
    lengths = [96] * 7 if equal else [96, 10, 500, 1, 96, 33, 700]
    bed = tmp_path / "r.bed"
    lines = [f"chr1\t{300 * i}\t{300 * i + n}\tr{i}\t0\t{'+-.'[i % 3]}\n" for i, n in enumerate(lengths)]
    bed.write_text("".join(lines))
    kinds = KINDS[:3]
    run = RunOptions(run_dir=str(tmp_path / "whole"), keep_run=True)
    for kind in kinds:
        predict(str(bed), inputs.fasta, str(tmp_path / kind.name), options, run)
    whole = {kind.name: (tmp_path / kind.name).read_bytes() for kind in kinds}
    for count, block_rows in ((1, 3), (2, 2), (4, 1)):
        work = tmp_path / f"work-{count}"
        for index in range(count):
            run = RunOptions(run_dir=str(work), shard=Shard(index, count), block_rows=block_rows)
            assert predict(str(bed), inputs.fasta, None, options, run) is None
        found = merged(work, tmp_path / f"merged-{count}", kinds)
        assert [name for name in whole if found[name] != whole[name]] == []


def test_worker_processes(inputs, vcf: str, options: ScoreOptions, predict_options, tmp_path: Path) -> None:
    score_variants(vcf, inputs.fasta, str(tmp_path / "a.h5"), options)
    score_variants(vcf, inputs.fasta, str(tmp_path / "b.h5"), options, RunOptions(workers=2, block_rows=9))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    predict(inputs.bed, inputs.fasta, str(tmp_path / "a.tsv.gz"), predict_options)
    run = RunOptions(workers=2, block_rows=2)  # one block, one worker
    predict(inputs.bed, inputs.fasta, str(tmp_path / "b.tsv.gz"), predict_options, run)
    assert (tmp_path / "a.tsv.gz").read_bytes() == (tmp_path / "b.tsv.gz").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "a.tsv.gz", "b.h5", "b.tsv.gz"]


def test_one_region_as_npz(inputs, predict_options, tmp_path: Path) -> None:
    bed = tmp_path / "one.bed"
    bed.write_text("chr1\t500\t1500\n")
    predict(str(bed), inputs.fasta, str(tmp_path / "a.npz"), predict_options)
    work = str(tmp_path / "work")
    predict(str(bed), inputs.fasta, None, predict_options, RunOptions(run_dir=work, shard=Shard(0, 1)))
    merge_run(work, str(tmp_path / "b.npz"))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert not os.path.exists(work)


# --- what else a merge does ----------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(
    inputs, vcf: str, options: ScoreOptions, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes]:
    """A run directory in which all is done, and the TSV of the same run in one process."""
    folder = tmp_path_factory.mktemp("finished")
    run = RunOptions(run_dir=str(folder / "work"), keep_run=True, block_rows=10)
    score_variants(vcf, inputs.fasta, str(folder / "a.tsv"), options, run)
    return folder / "work", (folder / "a.tsv").read_bytes()


@pytest.fixture
def scored(finished: tuple[Path, bytes], tmp_path: Path) -> str:
    """A copy of the finished run's directory."""
    return str(shutil.copytree(finished[0], tmp_path / "work"))


def test_a_merge_summarizes_the_run(
    inputs, vcf: str, options: ScoreOptions, scored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = score_variants(vcf, inputs.fasta, str(tmp_path / "a.tsv"), options)
    capsys.readouterr()
    summary = merge_run(scored, str(tmp_path / "b.tsv"), top=5)
    assert whole is not None and summary.computed == 0
    assert summary.strongest == whole.strongest and len(whole.strongest) == 5
    assert (summary.alleles, summary.scored) == (ALLELES, OK) == (whole.alleles, whole.scored)
    err = capsys.readouterr().err
    assert (
        f"{ALLELES} alleles of 12 records read, {OK} scored\n" in err and "strongest effects by logFC" in err
    )
    assert sorted(os.listdir(tmp_path)) == ["a.tsv", "b.tsv"]


def test_a_merge_needs_neither_model_nor_input(
    scored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("open_predictor", "open_vcf", "Fasta"):
        monkeypatch.setattr(f"gexpr.runs.score_variants.{name}", lambda *_: pytest.fail("opened"))
    merge_run(scored, str(tmp_path / "a.h5"))
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file["logFC"]) == ALLELES


def test_strict_speaks_after_the_merge(scored: str, tmp_path: Path) -> None:
    with pytest.raises(UnscoredError, match=r"2 alleles were not scored.*a\.h5 is complete"):
        merge_run(scored, str(tmp_path / "a.h5"), strict=True)
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_merge_to_standard_output(finished: tuple[Path, bytes], scored: str, capfdbinary) -> None:
    merge_run(scored, "-")
    assert capfdbinary.readouterr().out == finished[1] and not os.path.exists(scored)


@pytest.mark.parametrize(
    ("output", "settings", "message"),
    [
        ("a.xlsx", {}, "known suffixes"),
        ("a.npz", {}, "known suffixes"),
        ("a.h5", {"long": True}, "--long is a form of TSV"),
        ("-", {"format": "hdf5"}, "standard output"),
        ("old.h5", {}, "exists; give --force"),
        ("no/a.h5", {}, "does not exist"),
        ("work/manifest.json", {"format": "tsv", "force": True}, "in the run directory|an input"),
    ],
)
def test_a_merge_that_is_refused_keeps_the_run(
    output: str, settings: dict, message: str, scored: str, tmp_path: Path
) -> None:
    (tmp_path / "old.h5").write_text("old")
    given = output if output == "-" else str(tmp_path / output)
    with pytest.raises(GexprError, match=message):
        merge_run(scored, given, **settings)
    assert sorted(os.listdir(tmp_path)) == ["old.h5", "work"]
    directory = RunDirectory(scored)
    assert len(directory.finished()) == directory.manifest().blocks == 7
    merge_run(scored, str(tmp_path / "old.h5"), force=True)
    assert os.listdir(tmp_path) == ["old.h5"]


def test_missing_blocks_are_refused_by_name(scored: str, tmp_path: Path) -> None:
    for block in (1, 2, 6):
        os.remove(RunDirectory(scored).part_path(block))
    with pytest.raises(GexprError, match="3 of 7 blocks are missing: block 1 to 2 and 6"):
        merge_run(scored, str(tmp_path / "a.h5"))
    assert os.listdir(tmp_path) == ["work"]


def test_predictions_have_no_long_form(inputs, predict_options, tmp_path: Path) -> None:
    work = str(tmp_path / "work")
    run = RunOptions(run_dir=work, shard=Shard(0, 1))
    predict(inputs.bed, inputs.fasta, None, predict_options, run)
    with pytest.raises(ConfigError, match="--long"):
        merge_run(work, str(tmp_path / "a.tsv"), long=True)
    with pytest.raises(ConfigError, match="the npz format holds one region"):
        merge_run(work, str(tmp_path / "a.npz"))
    assert os.listdir(tmp_path) == ["work"]


def test_a_run_of_a_later_version(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "work")
    directory.create()
    directory.agree(Manifest("impute", {}, 0, 1, {}))
    with pytest.raises(InputError, match="a run of gexpr impute is not known to this version"):
        merge_run(str(directory.path), str(tmp_path / "a.h5"))
