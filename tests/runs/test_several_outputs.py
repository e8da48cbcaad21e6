"""Several outputs of one run: claimed together, complete together, and the same bytes as one at a time."""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pysam
import pytest
from toy_tasks import ToySink, ToyTask, squares
from toy_tasks import run as run_toy

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.runs import score_variants as job
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions, merge
from gexpr.runs.directory import RunDirectory
from gexpr.runs.dry_run import dry_run_scores
from gexpr.runs.merge import merge_run
from gexpr.runs.score_variants import ScoreOptions, UnscoredError, score_variants
from gexpr.runs.shards import Shard

NAMES = ("a.h5", "a.tsv.gz", "a.vcf.gz", "a.parquet", "b.vcf")
FILES = sorted([*NAMES, "a.vcf.gz.tbi"])


@pytest.fixture(autouse=True)
def loud() -> None:
    logs.set_quiet(False)


# --- a task without model --------------------------------------------------------------------


@pytest.fixture
def task(tmp_path: Path) -> ToyTask:
    """Ten rows in four blocks."""
    return ToyTask(tmp_path / "journal")


@pytest.fixture
def outputs(tmp_path: Path) -> list[Path]:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    return [tmp_path / "out" / "a.txt", tmp_path / "elsewhere" / "b.txt", tmp_path / "out" / "c.txt"]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_all_outputs_are_written_in_one_pass(task: ToyTask, outputs: list[Path], tmp_path: Path) -> None:
    outcome = run_toy(task, outputs)
    assert [path.read_text() for path in outputs] == [squares(10)] * 3
    assert isinstance(outcome.sink, ToySink) and outcome.sink.added == 4 and len(task.computed()) == 4
    assert names(tmp_path / "out") == ["a.txt", "c.txt"] and names(tmp_path / "elsewhere") == ["b.txt"]


@pytest.mark.parametrize("first", ["a file", "standard output"])
def test_the_run_directory_is_that_of_the_first_file(
    first: str, task: ToyTask, outputs: list[Path], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    given: list[Path | str] = ["-", *outputs] if first == "standard output" else [*outputs, "-"]
    run_toy(task, given, keep_run=True)
    assert (tmp_path / "out" / "a.txt.run").is_dir() and names(tmp_path / "elsewhere") == ["b.txt"]
    assert capfdbinary.readouterr().out.decode() == squares(10) == outputs[1].read_text()


def test_two_streams(task: ToyTask, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run_toy(task, ["-", "/dev/null"])
    assert capfdbinary.readouterr().out.decode() == squares(10)


def test_every_output_is_claimed_before_the_work(task: ToyTask, outputs: list[Path], tmp_path: Path) -> None:
    outputs[2].write_text("theirs")
    with pytest.raises(GexprError, match=r"c\.txt exists; give --force"):
        run_toy(task, outputs)
    with pytest.raises(GexprError, match="does not exist"):
        run_toy(task, [outputs[0], tmp_path / "no" / "b.txt"])
    assert task.computed() == [] and outputs[2].read_text() == "theirs"
    assert names(tmp_path / "out") == ["c.txt"] and names(tmp_path / "elsewhere") == []
    run_toy(task, outputs, force=True)
    assert outputs[2].read_text() == squares(10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a.txt", "./a.txt"], r"a\.txt and \./a\.txt are the same file"),
        (["a.txt", "link.txt"], "are the same file"),
        (["-", "a.txt", "-"], "standard output .* one output only"),
        (["a.txt", "a.txt.run"], "the output and the run directory are both"),
        (["a.txt", "a.txt.run/b.txt"], "lies in the run directory"),
        (["b.txt", "toy.txt"], "is also an input"),
    ],
    ids=str,
)
def test_outputs_that_exclude_each_other(
    given: Sequence[str], message: str, task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.txt").write_text("input")
    os.symlink("a.txt", "link.txt")
    with pytest.raises(ConfigError, match=message):
        run_toy(task, given, force=True)
    assert task.computed() == [] and names(tmp_path) == ["link.txt", "toy.txt"]


def killed_between(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """The next process ends when it is about to give ``path`` its name."""
    replace = os.replace

    def die(source: Any, target: Any) -> None:
        if os.fspath(target) == os.path.realpath(path):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", die)


def test_the_same_command_continues_between_two_names(
    task: ToyTask, outputs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        killed_between(patch, outputs[1])
        with pytest.raises(KeyboardInterrupt):
            run_toy(task, outputs)
    assert outputs[0].read_text() == squares(10) and not outputs[1].exists() and not outputs[2].exists()
    task.journal.unlink()
    run_toy(task, outputs)
    assert [path.read_text() for path in outputs] == [squares(10)] * 3 and task.computed() == []
    assert names(tmp_path / "out") == ["a.txt", "c.txt"]


def test_what_was_changed_in_between_is_not_replaced(
    task: ToyTask, outputs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        killed_between(patch, outputs[1])
        with pytest.raises(KeyboardInterrupt):
            run_toy(task, outputs)
    with open(outputs[0], "a") as file:
        file.write("mine\n")
    with pytest.raises(GexprError, match=r"a\.txt exists; give --force"):
        run_toy(task, outputs)
    assert outputs[0].read_text() == squares(10) + "mine\n"


def test_a_run_that_is_kept_does_not_replace_its_output(task: ToyTask, outputs: list[Path]) -> None:
    run_toy(task, outputs, keep_run=True)
    with pytest.raises(GexprError, match=r"a\.txt exists; give --force"):
        run_toy(task, outputs, keep_run=True)
    run_toy(task, [outputs[1].with_name("new.txt")], run_dir=f"{outputs[0]}.run")
    assert len(task.computed()) == 4


def test_an_output_that_fails_takes_the_others_with_it(task: ToyTask, outputs: list[Path]) -> None:
    run_toy(task, outputs[0], shard=Shard(0, 1))
    directory = RunDirectory(f"{outputs[0]}.run")

    class Failing(ToySink):
        def finish(self) -> None:
            self.outputs[0].finish()
            raise self.outputs[1].failure(OSError(28, "No space left on device"))

    with pytest.raises(GexprError, match=r"cannot write .*b\.txt: No space left on device"):
        merge(directory, directory.manifest(), Failing, [str(path) for path in outputs])
    assert names(outputs[0].parent) == ["a.txt.run"] and names(outputs[1].parent) == []


# --- scores ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(inputs, tmp_path_factory: pytest.TempPathFactory):
    """The same with the records sorted, so that there is an index."""
    lines = Path(inputs.vcf).read_text().splitlines(keepends=True)
    records = [line for line in lines if not line.startswith("#")]
    records.sort(key=lambda line: (line.split("\t")[0], int(line.split("\t")[1])))
    path = tmp_path_factory.mktemp("sorted") / "variants.vcf"
    path.write_text("".join([*(line for line in lines if line.startswith("#")), *records]))
    return inputs._replace(vcf=str(path))


@pytest.fixture
def options(inputs) -> ScoreOptions:
    model = ModelOptions(inputs.checkpoint, device="cpu", batch_size=4)
    return ScoreOptions(model=model, statistics=("logFC", "SAD"))


def score(inputs, options: ScoreOptions, outputs: Any, vcf: str | None = None, **how: Any):
    return score_variants(vcf or inputs.vcf, inputs.fasta, outputs, options, RunOptions(**how))


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Name -> bytes of each output, made by a run of its own."""
    folder = tmp_path_factory.mktemp("alone")
    model = ModelOptions(inputs.checkpoint, device="cpu", batch_size=4)
    for name in NAMES:
        score(inputs, ScoreOptions(model=model, statistics=("logFC", "SAD")), str(folder / name))
    assert names(folder) == FILES
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_one_pass_gives_the_bytes_of_five(inputs, options, alone, tmp_path: Path, capsys) -> None:
    paths = [str(tmp_path / name) for name in NAMES]
    summary = score(inputs, options, paths, block_rows=13)
    assert contents(tmp_path) == alone and summary is not None and summary.outputs == tuple(paths)
    err = capsys.readouterr().err
    assert f"written to {', '.join(paths)}" in err and "no index" not in err
    with pysam.TabixFile(str(tmp_path / "a.vcf.gz")) as file:
        assert len(list(file.fetch("chr1"))) > 20
    assert gzip.decompress(alone["a.vcf.gz"]) == alone["b.vcf"]


def test_shards_and_a_merge_give_the_same_bytes(inputs, options, alone, tmp_path: Path) -> None:
    work = str(tmp_path / "work")
    for index in (1, 0):
        score(inputs, options, None, shard=Shard(index, 2), run_dir=work, block_rows=13)
    (tmp_path / "out").mkdir()
    paths = [str(tmp_path / "out" / name) for name in NAMES]
    with pytest.raises(ConfigError, match="give it with --vcf"):
        merge_run(work, paths)
    with pytest.raises(InputError, match=r"genome\.fa, line 1: this is not a VCF"):
        merge_run(work, paths, vcf=inputs.fasta)
    other = tmp_path / "other.vcf"
    other.write_text(Path(inputs.vcf).read_text() + "\n")
    with pytest.raises(InputError, match=r"other\.vcf: this is not the VCF that was scored \(variants\.vcf"):
        merge_run(work, paths, vcf=str(other))
    with pytest.raises(ConfigError, match="is also an input"):
        merge_run(work, [str(other)], vcf=str(other), force=True)
    assert names(tmp_path / "out") == []
    merge_run(work, paths, vcf=inputs.vcf)
    assert contents(tmp_path / "out") == alone and not os.path.exists(work)


def test_a_merge_has_what_was_read_from_standard_input(
    inputs, options, alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stdin:
        buffer = io.BytesIO(Path(inputs.vcf).read_bytes())

    monkeypatch.setattr("sys.stdin", Stdin)
    score(inputs, options, None, "-", shard=Shard(0, 1), run_dir=str(tmp_path / "work"))
    merge_run(str(tmp_path / "work"), str(tmp_path / "b.vcf"))
    assert contents(tmp_path) == {"b.vcf": alone["b.vcf"]}


def test_standard_input_is_annotated(
    inputs, options, alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary
) -> None:
    for outputs in (str(tmp_path / "b.vcf"), "-"):

        class Stdin:
            buffer = io.BytesIO(Path(inputs.vcf).read_bytes())

        monkeypatch.setattr("sys.stdin", Stdin)
        given = dataclasses.replace(options, format="vcf" if outputs == "-" else None)
        score(inputs, given, outputs, "-")
    assert contents(tmp_path) == {"b.vcf": alone["b.vcf"]}
    assert capfdbinary.readouterr().out == alone["b.vcf"]


def test_an_interrupted_run_gives_the_same_bytes(
    inputs, options, alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / name) for name in NAMES]
    with monkeypatch.context() as patch:
        compute = job.ScoreTask.compute

        def fail(task, block, advance=None):
            if block.start == 40:
                raise KeyboardInterrupt
            return compute(task, block, advance)

        patch.setattr(job.ScoreTask, "compute", fail)
        with pytest.raises(KeyboardInterrupt):
            score(inputs, options, paths, block_rows=20)
    assert names(tmp_path) == ["a.h5.run"]
    for victim in ("a.tsv.gz", "a.vcf.gz.tbi", "b.vcf"):
        with monkeypatch.context() as patch:
            killed_between(patch, tmp_path / victim)
            with pytest.raises(KeyboardInterrupt):
                score(inputs, options, paths, block_rows=20)
        assert not (tmp_path / victim).exists() and not list(tmp_path.glob(".*"))
        for name, data in contents(tmp_path).items():
            assert data == alone[name]
    summary = score(inputs, options, paths, block_rows=20)
    assert summary is not None and summary.computed == 0 and contents(tmp_path) == alone
    assert names(tmp_path) == FILES


def test_the_index_is_claimed_too(inputs, options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "open_predictor", lambda _: pytest.fail("the model was loaded first"))
    (tmp_path / "a.vcf.gz.csi").write_text("theirs")
    with pytest.raises(GexprError, match=r"a\.vcf\.gz\.csi exists; give --force"):
        score(inputs, options, str(tmp_path / "a.vcf.gz"))
    with pytest.raises(GexprError, match=r"a\.vcf\.gz\.csi exists; give --force"):
        dry_run_scores(inputs.vcf, inputs.fasta, str(tmp_path / "a.vcf.gz"), options, RunOptions())
    assert contents(tmp_path) == {"a.vcf.gz.csi": b"theirs"}


def test_a_bcf_cannot_be_annotated_and_is_refused_first(
    inputs, options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "open_predictor", lambda _: pytest.fail("the model was loaded first"))
    text = Path(inputs.vcf).read_text()
    contigs = "".join(f"##contig=<ID={name}>\n" for name in ("chr1", "1", "chr7"))
    (tmp_path / "in.vcf").write_text(text.replace("#CHROM", contigs + "#CHROM"))
    with pysam.VariantFile(str(tmp_path / "in.vcf")) as source:
        with pysam.VariantFile(str(tmp_path / "in.bcf"), "wb", header=source.header) as target:
            for record in source:
                target.write(record)
    for outputs in (str(tmp_path / "a.vcf"), [str(tmp_path / "a.h5"), str(tmp_path / "a.vcf.gz")]):
        with pytest.raises(InputError, match=r"in\.bcf: a BCF has no lines.*bcftools view"):
            score(inputs, options, outputs, str(tmp_path / "in.bcf"))
        with pytest.raises(InputError, match="bcftools view"):
            dry_run_scores(str(tmp_path / "in.bcf"), inputs.fasta, outputs, options, RunOptions())
    assert names(tmp_path) == ["in.bcf", "in.vcf"]


def test_options_for_several_outputs(inputs, options, tmp_path: Path) -> None:
    paths = [str(tmp_path / "a.h5"), str(tmp_path / "a.tsv")]
    with pytest.raises(ConfigError, match="--format tsv is for one output, and there are 2"):
        score(inputs, dataclasses.replace(options, format="tsv"), paths)
    with pytest.raises(ConfigError, match="--long is a form of TSV; the output's format is hdf5 and vcf"):
        score(inputs, dataclasses.replace(options, long=True), [paths[0], str(tmp_path / "a.vcf")])
    with pytest.raises(UnscoredError, match=rf"the outputs {paths[0]}, {paths[1]} are complete"):
        score(inputs, dataclasses.replace(options, long=True, strict=True), paths)
    assert "\tstatistic\tscore\n" in Path(paths[1]).read_text()


def test_a_dry_run_counts_every_output(inputs, options, tmp_path: Path) -> None:
    def megabytes(outputs: Any) -> str:
        lines = dry_run_scores(inputs.vcf, inputs.fasta, outputs, options, RunOptions())
        (line,) = [line for line in lines if line.startswith("disk: ")]
        return line

    several = megabytes([str(tmp_path / name) for name in NAMES])
    assert all(str(tmp_path / name) in several for name in NAMES)
    assert several.partition("at most")[2] != megabytes(str(tmp_path / "a.h5")).partition("at most")[2]
    assert names(tmp_path) == []
