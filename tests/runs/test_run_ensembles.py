"""Ensembles in whole runs: scores, predictions, identity, shards, costs and what outputs say."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from toy_models import save_tiny_checkpoint

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.errors import ConfigError, GexprError
from gexpr.runs.common import ModelOptions, input_files
from gexpr.runs.control import RunOptions
from gexpr.runs.dry_run import dry_run_scores
from gexpr.runs.merge import merge_run
from gexpr.runs.predict import PredictOptions, predict
from gexpr.runs.score_variants import ScoreOptions, ScoreTask, score_variants
from gexpr.runs.shards import Shard


@pytest.fixture(scope="module")
def second(inputs) -> str:
    """A checkpoint like that of the inputs, with other weights."""
    return str(save_tiny_checkpoint(inputs.folder / "second", seed=4))


@pytest.fixture
def model(inputs, second: str) -> ModelOptions:
    return ModelOptions((inputs.checkpoint, second), device="cpu", batch_size=4)


@pytest.fixture
def options(model: ModelOptions) -> ScoreOptions:
    return ScoreOptions(model=model, statistics=("logFC", "SAD"), average="checkpoint-scores")


def with_model(options: ScoreOptions, checkpoint: str | tuple[str, ...], **changes) -> ScoreOptions:
    return dataclasses.replace(options, model=options.model._replace(checkpoint=checkpoint), **changes)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_scores_and_what_the_output_says(inputs, second: str, options: ScoreOptions, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("both.h5", "a.h5", "b.h5")]
    score_variants(inputs.vcf, inputs.fasta, (paths[0], str(tmp_path / "both.vcf")), options)
    for path, each in zip(paths[1:], (inputs.checkpoint, second), strict=True):
        score_variants(inputs.vcf, inputs.fasta, path, with_model(options, each, average="predictions"))
    both, a, b = (h5py.File(path) for path in paths)
    with both, a, b:
        for name in ("logFC", "SAD"):
            np.testing.assert_allclose(both[name][:], (a[name][:] + b[name][:]) / 2, rtol=1e-4, atol=1e-6)
        assert dict(both.attrs) | {
            "checkpoint": "tiny,second",
            "checkpoint_sha256": f"{a.attrs['checkpoint_sha256']},{b.attrs['checkpoint_sha256']}",
            "settings_sha256": f"{a.attrs['settings_sha256']},{b.attrs['settings_sha256']}",
            "architecture": "sparse_enformer,sparse_enformer",
            "ensemble_size": 2,
            "average": "checkpoint-scores",
        } == dict(both.attrs)
        changed = {name for name in both.attrs if name not in a.attrs or both.attrs[name] != a.attrs[name]}
        own = {"checkpoint", "checkpoint_sha256", "settings_sha256", "architecture", "ensemble_size"}
        assert changed == {*own, "average"} and set(a.attrs) < set(both.attrs)
    assert 'checkpoint="tiny,second"' in (tmp_path / "both.vcf").read_text()


def test_one_member_is_the_checkpoint(inputs, options: ScoreOptions, tmp_path: Path) -> None:
    for name, given in (("a.h5", inputs.checkpoint), ("b.h5", (inputs.checkpoint,))):
        score_variants(inputs.vcf, inputs.fasta, str(tmp_path / name), with_model(options, given))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_shards_workers_and_a_merge_give_the_same_bytes(
    inputs, options: ScoreOptions, tmp_path: Path
) -> None:
    score_variants(inputs.vcf, inputs.fasta, str(tmp_path / "whole.h5"), options)
    work = str(tmp_path / "work")
    for index in range(2):
        run = RunOptions(run_dir=work, shard=Shard(index, 2), block_rows=11)
        assert score_variants(inputs.vcf, inputs.fasta, None, options, run) is None
    merge_run(work, str(tmp_path / "merged.h5"))
    run = RunOptions(workers=2, block_rows=30)
    score_variants(inputs.vcf, inputs.fasta, str(tmp_path / "workers.h5"), options, run)
    expected = (tmp_path / "whole.h5").read_bytes()
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "workers.h5").read_bytes() == expected


def test_a_run_goes_on_with_the_same_members_only(
    inputs, second: str, options: ScoreOptions, tmp_path: Path
) -> None:
    work, members = str(tmp_path / "work"), tuple(str(tmp_path / name) for name in ("f0", "f1"))
    for source, folder in zip((inputs.checkpoint, second), members, strict=True):
        shutil.copytree(source, folder)
    options = with_model(options, members)
    run = RunOptions(run_dir=work, shard=Shard(0, 2), block_rows=11)
    score_variants(inputs.vcf, inputs.fasta, None, options, run)
    parts = sorted(os.listdir(work))
    rest = dataclasses.replace(run, shard=Shard(1, 2))
    for other in (members[::-1], members[:1], (*members, members[1])):
        with pytest.raises(GexprError, match=r"differs from this one: .*checkpoint is 'f0,f1' there and"):
            score_variants(inputs.vcf, inputs.fasta, None, with_model(options, other), rest)
    save_tiny_checkpoint(Path(members[1]), seed=5)
    with pytest.raises(GexprError, match=r"one: checkpoint_sha256 is .* there and .* here") as refused:
        score_variants(inputs.vcf, inputs.fasta, None, options, rest)
    there, here = str(refused.value).split("checkpoint_sha256 is ")[1].split(" here")[0].split(" there and ")
    assert there != here, "the digest that differs is the second of a long text"
    assert sorted(os.listdir(work)) == parts
    save_tiny_checkpoint(Path(members[1]), seed=4)
    score_variants(inputs.vcf, inputs.fasta, None, options, rest)
    merge_run(work, str(tmp_path / "a.h5"))


def test_predictions_are_averaged(inputs, second: str, model: ModelOptions, tmp_path: Path) -> None:
    found = {}
    for name, given in (("both", model.checkpoint), ("a", inputs.checkpoint), ("b", second)):
        options = PredictOptions(model=model._replace(checkpoint=given))
        predict(inputs.bed, inputs.fasta, str(tmp_path / f"{name}.h5"), options)
        with h5py.File(tmp_path / f"{name}.h5") as file:
            found[name] = file["predictions"][:]
            assert file.attrs.get("ensemble_size") == (2 if name == "both" else None)
    np.testing.assert_allclose(found["both"], (found["a"] + found["b"]) / 2, rtol=1e-4, atol=1e-6)


def test_genes_and_haplotypes(inputs, second: str, options: ScoreOptions, tmp_path: Path) -> None:
    """With scores averaged over checkpoints, each is the mean of what its members give."""
    genes = tmp_path / "genes.bed"
    genes.write_text("chr1\t480\t700\tg\t0\t+\n")
    start = 500
    ref, alt = inputs.sequence[start], "ACGT".replace(inputs.sequence[start], "")[0]
    after = inputs.sequence[start + 8]
    phased = tmp_path / "phased.vcf"
    phased.write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n"
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\n"
        f"chr1\t{start + 1}\ta\t{ref}\t{alt}\t.\t.\t.\tGT\t0|1\n"
        f"chr1\t{start + 9}\tb\t{after}\t{after}TT\t.\t.\t.\tGT\t0|1\n"
    )
    kinds = {"genes": (inputs.vcf, dict(genes=str(genes))), "phased": (str(phased), dict(phased=True))}
    for kind, (vcf, settings) in kinds.items():
        found = []
        for number, given in enumerate(((inputs.checkpoint, second), inputs.checkpoint, second)):
            path = tmp_path / f"{kind}-{number}.h5"
            score_variants(vcf, inputs.fasta, str(path), with_model(options, given, **settings))
            with h5py.File(path) as file:
                names = [name for name in file if name.startswith("SAD")]
                found.append(np.concatenate([file[name][:].ravel() for name in sorted(names)]))
        assert np.isfinite(found[0]).any() and np.nanmax(np.abs(found[0])) > 1e-3
        np.testing.assert_allclose(found[0], (found[1] + found[2]) / 2, rtol=1e-3, atol=1e-5, err_msg=kind)


def test_costs_count_members(inputs, options: ScoreOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gexpr.runs.dry_run.estimated_seconds", lambda *_: 0.5)
    monkeypatch.setattr("gexpr.runs.dry_run.rates.remembered", lambda _: None)
    monkeypatch.setattr("gexpr.runs.common.BASES_A_BLOCK", {"cpu": 2**15})

    def forwards_and_rows(checkpoint: str | tuple[str, ...]) -> tuple[int, int]:
        lines = dry_run_scores(
            inputs.vcf, inputs.fasta, None, with_model(options, checkpoint), RunOptions(shard=Shard(0, 1))
        )
        forwards = next(line for line in lines if "forward passes" in line)
        rows = next(line for line in lines if "rows" in line)
        return int(forwards.split(", ")[1].split()[0]), int(rows.split(" of ")[1].split()[0])

    (one, rows), (two, fewer) = (
        forwards_and_rows(each) for each in (inputs.checkpoint, options.model.checkpoint)
    )
    assert fewer == rows // 2 and two >= 2 * one


def test_every_member_is_an_input_and_paths_become_absolute(
    inputs, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = input_files("v.vcf", "g.fa", (inputs.checkpoint, second, "yeast-tss"), None)
    assert {os.path.join(folder, "tracks.tsv") for folder in (inputs.checkpoint, second)} < set(found)
    monkeypatch.chdir(inputs.folder)
    task = ScoreTask("v.vcf", "v.vcf", "g.fa", ScoreOptions(model=ModelOptions(("tiny", "yeast-tss"))))
    assert task.absolute().options.model.checkpoints == (inputs.checkpoint, "yeast-tss")


def test_a_background_of_one_checkpoint_does_not_fit(inputs, options: ScoreOptions, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not fit an ensemble of 2; make one with 'gexpr background'"):
        score_variants(
            inputs.vcf,
            inputs.fasta,
            str(tmp_path / "a.h5"),
            dataclasses.replace(options, background="auto"),
        )
    given = ["--device", "cpu", "--batch-size", "4"]
    common = [*given, "-f", inputs.fasta, "--vcf", inputs.vcf]
    members = ",".join(options.model.checkpoints)
    background = str(tmp_path / "bg.h5")
    made = invoke("background", "-c", members, *common, "-o", background)
    assert made.exit_code == 0, made.output
    ranked = ["score-variants", *given, "-f", inputs.fasta, "--background", background]
    result = invoke(*ranked, "-c", members, "-o", str(tmp_path / "a.h5"), inputs.vcf)
    assert result.exit_code == 0, result.output
    result = invoke(*ranked, "-c", inputs.checkpoint, "-o", str(tmp_path / "b.h5"), inputs.vcf)
    assert result.exit_code == 1 and "checkpoint_sha256" in str(result.output)


# --- the command line ----------------------------------------------------------------------


def test_ways_to_name_members(inputs, second: str, tmp_path: Path) -> None:
    """Repeated, with commas, and a folder with a comma in its name; all give the same bytes."""
    odd = str(shutil.copytree(second, tmp_path / "se,cond"))
    plain = str(shutil.copytree(second, tmp_path / "b" / "se,cond"))
    rest = ["-f", inputs.fasta, "--device", "cpu", "--batch-size", "4", "-q"]
    ways = {
        "a": ["-c", inputs.checkpoint, "-c", odd],
        "b": ["--checkpoint", inputs.checkpoint, "-c", plain],
    }
    for name, given in ways.items():
        out = str(tmp_path / f"{name}.tsv")
        result = invoke("score-variants", *given, *rest, "-o", out, inputs.vcf)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()
    found = []
    for given in (["-c", inputs.checkpoint, "-c", second], ["-c", f"{inputs.checkpoint}, {second}"]):
        result = invoke("predict", *given, *rest, "-o", "-", inputs.bed)
        assert result.exit_code == 0, result.output
        found.append(result.stdout)
    assert found[0] == found[1]
    twice = invoke("predict", "-c", second, "-c", second, *rest, "-o", "-", inputs.bed)
    assert twice.exit_code == 0 and f"the checkpoint {second} is given 2 times" in twice.stderr


def test_names_that_are_wrong(inputs, second: str, tmp_path: Path) -> None:
    rest = ["-f", inputs.fasta, "--device", "cpu", "-o", str(tmp_path / "a.h5"), inputs.vcf]
    result = invoke("score-variants", "-c", f"{second},", *rest)
    assert result.exit_code == 2 and "a checkpoint's name is missing between the commas" in result.stderr
    result = invoke("score-variants", "-c", "no,such", *rest)
    assert result.exit_code == 1 and "no checkpoint 'no'" in str(result.output)
    other = str(tmp_path / "other")
    model = checkpoints.load(second)
    tracks = [track._replace(id="x") if track.index == 2 else track for track in model.tracks]
    checkpoints.save(other, model, tracks, {}, "card")
    result = invoke("score-variants", "-c", second, "-c", other, *rest)
    assert result.exit_code == 1
    for words in (second, other, "no ensemble: the id of track 2 is 'count_G' in one and 'x' in the other"):
        assert words in " ".join(str(result.output).split())
    assert not (tmp_path / "a.h5").exists()
