"""What a run's columns are: chosen by a file, groups, merged strands; and that a run keeps to them."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.runs.common import ModelOptions
from gexpr.runs.control import RunOptions
from gexpr.runs.directory import Block
from gexpr.runs.predict import PredictOptions
from gexpr.runs.score_variants import ScoreOptions, ScoreTask, score_variants
from gexpr.runs.shards import Shard


@pytest.fixture(autouse=True)
def loud() -> None:
    logs.set_quiet(False)


@pytest.fixture
def options(inputs) -> ScoreOptions:
    model = ModelOptions(inputs.checkpoint, device="cpu", batch_size=4)
    return ScoreOptions(model=model, max_ref_mismatch=1.0)


@pytest.fixture
def celled(inputs, tmp_path: Path) -> str:
    """The checkpoint with cell types: A and T are K562, C liver, G nothing."""
    folder = tmp_path / "celled"
    folder.mkdir()
    for entry in Path(inputs.checkpoint).iterdir():
        (folder / entry.name).write_bytes(entry.read_bytes())
    header, *rows = [line.split("\t") for line in (folder / "tracks.tsv").read_text().splitlines()]
    for row, cell in zip(rows, ("K562", "liver", "", "K562"), strict=True):
        row[header.index("cell_type")] = cell
    (folder / "tracks.tsv").write_text("".join("\t".join(row) + "\n" for row in (header, *rows)))
    return str(folder)


def test_tracks_of_a_file_that_is_gone_by_then(inputs, options, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("# in this order\ncount_T\ncount_A\n")
    chosen = dataclasses.replace(options, model=options.model._replace(tracks=f"@{wanted}"))
    also = PredictOptions(model=chosen.model._replace(tracks=f"@{wanted}"))
    wanted.unlink()
    assert also.model == chosen.model and pickle.loads(pickle.dumps(chosen)) == chosen
    score_variants(inputs.vcf, inputs.fasta, str(tmp_path / "a.tsv"), chosen)
    header = (tmp_path / "a.tsv").read_text().splitlines()[0].split("\t")
    assert header[6:] == ["count_T", "count_A"]
    with pytest.raises(InputError, match=r"wanted\.txt"):
        dataclasses.replace(options, model=options.model._replace(tracks=f"@{wanted}"))


@pytest.mark.parametrize(
    ("aggregate", "merge", "columns"),
    [
        (None, False, 4),
        ("celltype", False, 3),
        (None, True, 2),
        ("celltype", True, 2),
    ],
)
def test_a_part_has_the_columns_alone(
    inputs, options, celled: str, aggregate: str | None, merge: bool, columns: int
) -> None:
    model = options.model._replace(checkpoint=celled, merge_strands=merge)
    task = ScoreTask(
        inputs.vcf, inputs.vcf, inputs.fasta, dataclasses.replace(options, model=model, aggregate=aggregate)
    )
    assert task.compute(Block(0, 5)).arrays["logFC"].shape == (5, columns)
    assert len(task.plan()[1]["tracks"]) == columns
    task.close()


def test_a_run_keeps_its_columns(inputs, options, celled: str, tmp_path: Path) -> None:
    """Shards with other groups are refused, whether by option or by table."""
    model = options.model._replace(checkpoint=celled)
    options = dataclasses.replace(options, model=model, aggregate="celltype")
    half = RunOptions(run_dir=str(tmp_path / "run"), shard=Shard(0, 2))
    score_variants(inputs.vcf, inputs.fasta, None, options, half)
    with pytest.raises(GexprError, match="aggregate is 'celltype' there and 'none' here"):
        score_variants(inputs.vcf, inputs.fasta, None, dataclasses.replace(options, aggregate=None), half)
    merged = dataclasses.replace(options, model=model._replace(merge_strands=True))
    with pytest.raises(GexprError, match="merge_strands is False there and True here"):
        score_variants(inputs.vcf, inputs.fasta, None, merged, half)
    table = Path(celled) / "tracks.tsv"
    table.write_text(table.read_text().replace("liver", "HepG2"))
    with pytest.raises(GexprError, match="aggregate_sha256 is"):
        score_variants(inputs.vcf, inputs.fasta, None, options, half)


def test_merging_without_pairs_warns_once(inputs, options, celled: str, tmp_path: Path, capsys) -> None:
    table = Path(celled) / "tracks.tsv"
    header, *rows = [line.split("\t") for line in table.read_text().splitlines()]
    for row in rows:
        row[header.index("strand_pair")] = row[header.index("index")]
    table.write_text("".join("\t".join(row) + "\n" for row in (header, *rows)))
    model = options.model._replace(checkpoint=celled, merge_strands=True)
    how = RunOptions(block_rows=20)
    unpaired = options.model._replace(checkpoint=celled)
    merged = dataclasses.replace(options, model=model)
    plain = dataclasses.replace(options, model=unpaired)
    capsys.readouterr()
    score_variants(inputs.vcf, inputs.fasta, str(tmp_path / "b.tsv"), merged, how)
    assert capsys.readouterr().err.count("--merge-strands changes nothing") == 1
    score_variants(inputs.vcf, inputs.fasta, str(tmp_path / "c.tsv"), plain, how)
    assert (tmp_path / "b.tsv").read_bytes() == (tmp_path / "c.tsv").read_bytes()


def test_wrong_columns_are_told_before_any_work(inputs, options, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="aggregate must be one of celltype, assay, not 'tissue'"):
        dataclasses.replace(options, aggregate="tissue")
    with pytest.raises(ConfigError, match="--aggregate celltype needs the column cell_type"):
        score_variants(
            inputs.vcf,
            inputs.fasta,
            str(tmp_path / "a.tsv"),
            dataclasses.replace(options, aggregate="celltype"),
        )
    assert not list(tmp_path.iterdir())
