"""What a dry run says is what the run then does; and it leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_tasks import ToyTask

from gexpr.errors import GexprError, InputError
from gexpr.runs import control, rates
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions, planned
from gexpr.runs.directory import RunDirectory
from gexpr.runs.dry_run import dry_run_predictions, dry_run_scores
from gexpr.runs.predict import PredictOptions, PredictTask, predict
from gexpr.runs.score_variants import ScoreOptions, ScoreTask, score_variants
from gexpr.runs.shards import Shard
from gexpr.runs.status import duration
from gexpr.scoring import cost


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without remembered rates, a fixed guess, and a folder for temporary files of its own."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "tmp").mkdir()
    monkeypatch.setenv("GEXPR_CACHE", str(folder / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    monkeypatch.setattr("gexpr.runs.dry_run.estimated_seconds", lambda *_: 0.5)
    return folder / "tmp"


@pytest.fixture
def score_options(inputs) -> ScoreOptions:
    return ScoreOptions(model=ModelOptions(inputs.checkpoint, device="cpu", batch_size=4, shifts=(0, 1)))


@pytest.fixture
def predict_options(inputs) -> PredictOptions:
    return PredictOptions(model=ModelOptions(inputs.checkpoint, device="cpu", batch_size=2))


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Forward passes of the runs that were made."""
    seen: list[int] = []
    monkeypatch.setattr(rates, "remember", lambda _fingerprint, number, _seconds: seen.append(number))
    return seen


def find(lines: list[str], text: str) -> str:
    (line,) = [line for line in lines if text in line]
    return line


@pytest.mark.parametrize("block_rows", [None, 3, 7, 1000])
def test_scores_take_what_was_said(
    block_rows: int | None,
    inputs,
    score_options: ScoreOptions,
    forwards: list[int],
    tmp_path: Path,
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = (
        inputs.vcf,
        inputs.fasta,
        str(tmp_path / "a.h5"),
        score_options,
        RunOptions(block_rows=block_rows),
    )
    with monkeypatch.context() as patch:
        patch.setattr(ScoreTask, "compute", lambda *_: pytest.fail("computed"))
        lines = dry_run_scores(*given)
    assert os.listdir(tmp_path) == [] == os.listdir(alone)
    summary = score_variants(*given)
    assert summary is not None
    assert lines[0] == f"{summary.alleles} alleles of {summary.records} records"
    statuses = {line.split()[0]: int(line.split()[1]) for line in lines[1 : 1 + len(summary.by_status)]}
    assert statuses == summary.by_status
    (made,) = forwards
    assert f" {made} forward passes of 4 windows" in find(lines, "forward")
    basis = find(lines, "for one process on cpu")
    assert basis.startswith(f"about {duration(made * 4 * 0.5)} for one") and "rough guess" in basis
    if block_rows:
        number = -(-summary.alleles // block_rows)
        assert f"{number} block{'s' if number > 1 else ''} of {block_rows:,} rows" in lines


def test_predictions_take_what_was_said(
    inputs, predict_options: PredictOptions, forwards: list[int], tmp_path: Path, monkeypatch
) -> None:
    bed = tmp_path / "r.bed"
    bed.write_text(
        "".join(f"chr1\t{start}\t{start + size}\n" for start, size in ((9, 50), (500, 1000), (90, 1)))
    )
    given = (str(bed), inputs.fasta, None, predict_options)
    with monkeypatch.context() as patch:
        patch.setattr(PredictTask, "compute", lambda *_: pytest.fail("computed"))
        lines = dry_run_predictions(*given, RunOptions(block_rows=2))
    assert os.listdir(tmp_path) == ["r.bed"]
    summary = predict(
        str(bed), inputs.fasta, str(tmp_path / "a.h5"), predict_options, RunOptions(block_rows=2)
    )
    assert summary is not None and lines[0] == f"3 regions with {summary.bins} bins"
    assert f" {forwards[0]} forward passes of 2 windows" in find(lines, "forward")
    assert lines[1] == "2 blocks of 2 rows" and "for the output" in lines[-1]


def test_a_run_that_has_begun(inputs, score_options: ScoreOptions, tmp_path: Path) -> None:
    output = str(tmp_path / "a.tsv")
    shard = RunOptions(shard=Shard(0, 2), block_rows=10)
    score_variants(inputs.vcf, inputs.fasta, output, score_options, shard)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    lines = dry_run_scores(inputs.vcf, inputs.fasta, output, score_options, RunOptions())
    assert "8 blocks of 10 rows, 4 of them finished" in lines
    lines = dry_run_scores(inputs.vcf, inputs.fasta, output, score_options, RunOptions(restart=True))
    assert find(lines, "blocks of ").endswith("rows")
    other = ScoreOptions(model=score_options.model, pseudocount=2.0)
    with pytest.raises(GexprError, match=r"pseudocount is 1\.0 there and 2\.0 here"):
        dry_run_scores(inputs.vcf, inputs.fasta, output, other, RunOptions())
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_what_would_stop_the_run_is_said(inputs, score_options: ScoreOptions, tmp_path: Path) -> None:
    output = tmp_path / "a.h5"
    output.write_text("old")
    given: Any = (inputs.vcf, inputs.fasta, str(output), score_options)
    with pytest.raises(GexprError, match="exists; give --force"):
        dry_run_scores(*given, RunOptions())
    assert dry_run_scores(*given, RunOptions(force=True))
    with pytest.raises(InputError, match=r"missing\.vcf"):
        dry_run_scores("missing.vcf", inputs.fasta, None, score_options, RunOptions())
    with pytest.raises(GexprError, match="is also an input"):
        dry_run_scores(str(output), inputs.fasta, str(output), score_options, RunOptions(force=True))
    assert output.read_text() == "old" and os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (RunOptions(), None),
        (RunOptions(workers=4), "for each of 4 that"),
        (RunOptions(shard=Shard(1, 10)), "for each of 10 that"),
    ],
    ids=["one", "workers", "shards"],
)
def test_shares_of_the_time(run: RunOptions, line: str | None, inputs, score_options: ScoreOptions) -> None:
    lines = dry_run_scores(inputs.vcf, inputs.fasta, None, score_options, run)
    assert [each for each in lines if "for each of" in each] == ([find(lines, line)] if line else [])


def test_the_last_run_tells_the_rate(inputs, score_options: ScoreOptions, tmp_path: Path) -> None:
    given: Any = (inputs.vcf, inputs.fasta)
    score_variants(*given, str(tmp_path / "a.tsv"), score_options)
    lines = dry_run_scores(*given, None, score_options, RunOptions())
    assert "as fast as the last run" in find(lines, "for one process")
    slower = ScoreOptions(model=score_options.model._replace(precision="bf16"))
    assert "rough guess" in find(dry_run_scores(*given, None, slower, RunOptions()), "for one process")


# --- rates and plans -----------------------------------------------------------------------


def test_a_rate_is_remembered_for_what_determines_it() -> None:
    fingerprint = {"checkpoint_sha256": "a", "device": "cpu", "batch_size": 4, "vcf": "x"}
    assert rates.remembered(fingerprint) is None
    rates.remember(fingerprint, 10, 5.0)
    assert rates.remembered(fingerprint) == 0.5 == rates.remembered({**fingerprint, "vcf": "y"})
    for change in ({"batch_size": 8}, {"device": "cuda (Card)"}, {"checkpoint_sha256": "b"}):
        assert rates.remembered({**fingerprint, **change}) is None
    for forwards, seconds in ((0, 5.0), (10, 0.0)):
        rates.remember(fingerprint, forwards, seconds)
    assert rates.remembered(fingerprint) == 0.5


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"seconds_a_forward": "x"}', '{"seconds_a_forward": -1}', "\xff"]
)
def test_a_damaged_rate_is_forgotten(text: str) -> None:
    rates.remember({}, 1, 1.0)
    rates._path({}).write_bytes(text.encode("latin-1"))
    assert rates.remembered({}) is None


def test_a_rate_that_cannot_be_kept_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "file"))
    rates.remember({}, 1, 1.0)
    assert rates.remembered({}) is None


def test_a_plan_leaves_no_trace(tmp_path: Path, alone: Path) -> None:
    task = ToyTask(tmp_path / "journal")
    output = str(tmp_path / "a.txt")
    with planned(lambda _: task, output, RunOptions(block_rows=4), "toy.txt") as plan:
        assert plan.manifest.blocks == 3 and plan.finished == set() and plan.task is task
    for stream in ("-", None, "/dev/null"):
        with planned(lambda _: task, stream, RunOptions(), "toy.txt") as plan:
            assert plan.manifest.block_rows == 3
    assert os.listdir(tmp_path) == [] == os.listdir(alone)
    directory = RunDirectory(output + ".run")
    directory.create()
    manifest = plan.manifest._replace(block_rows=5)
    directory.agree(manifest)
    control.BlockRunner(task, directory, manifest)(1)
    with planned(lambda _: task, output, RunOptions(block_rows=4), "toy.txt") as plan:
        assert plan.manifest == manifest and plan.finished == {1}


def test_the_guess_grows_with_the_model(inputs) -> None:
    from gexpr import checkpoints

    model = checkpoints.load(inputs.checkpoint)
    operations = cost.forward_operations(model)
    # The first convolution alone: 512 positions, 4 bases, 12 or more channels, 11 or more taps.
    assert operations > 2 * 512 * 4 * 12 * 11
    assert cost.matrix_speed(torch.device("cpu")) > 1e6
    assert next(model.parameters()).device.type == "cpu"
