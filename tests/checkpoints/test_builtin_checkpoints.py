"""The checkpoints of the package: what their cards and configurations promise."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gexpr import checkpoints, evaluation
from gexpr.cli.main import main
from gexpr.datasets import BasenjiDataset

LARGEST = {"yeast-tss": 20e6, "yeast-promoter": 5e6, "human-mini": 10e6}
PREFIX, SUFFIX = "TGCATTTTTTTCACATC", "GGTTACGGCTGTT"


@pytest.mark.parametrize("name", checkpoints.builtin_names())
def test_every_builtin_checkpoint_is_small_whole_and_has_a_card(name: str) -> None:
    """Loading verifies the weights' digest."""
    folder = checkpoints.resolve(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST[name]
    model = checkpoints.load(name)
    assert len(model.tracks) == sum(model.config.heads.values())
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n") and "Limits" in card
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in card
    assert json.loads((folder / "config.json").read_text())["training"]["name"] == name


def predict(path: Path, *options: str) -> list[float]:
    result = CliRunner().invoke(
        main, ["score-sequences", "-c", "yeast-promoter", "-q", "-o", "-", *options, str(path)]
    )
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(result.stdout.splitlines(), delimiter="\t"))
    assert {row["status"] for row in rows} == {"ok"}
    return [float(row["expression"]) for row in rows]


def test_yeast_promoter_takes_the_variable_part_alone(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    variable = ["".join(generator.choice(list("ACGT"), 80)) for _ in range(4)]
    short, whole = tmp_path / "short.fa", tmp_path / "whole.fa"
    short.write_text("".join(f">{i}\n{text}\n" for i, text in enumerate(variable)))
    whole.write_text("".join(f">{i}\n{PREFIX}{text}{SUFFIX}\n" for i, text in enumerate(variable)))
    assert predict(short) == predict(whole)
    assert len(set(predict(short))) == 4


def test_yeast_promoter_orders_held_out_sequences_as_its_card_says(
    reference_data: Path, tmp_path: Path
) -> None:
    folder = reference_data / "data" / "promoters"
    with open(folder / "split.tsv") as handle:
        test = {int(row["row"]) for row in csv.DictReader(handle, delimiter="\t") if row["split"] == "test"}
    with gzip.open(folder / "test71k.tsv.gz", "rt") as handle:
        rows = [row for number, row in enumerate(csv.DictReader(handle, delimiter="\t")) if number in test]
    assert len(rows) == 7110
    rows = rows[::5]
    table = tmp_path / "rows.tsv"
    table.write_text("seq\n" + "".join(f"{row['seq']}\n" for row in rows))
    measured = np.array([float(row["expression"]) for row in rows])
    predicted = np.array(predict(table))
    assert np.corrcoef(measured, predicted)[0, 1] == pytest.approx(0.789, abs=0.03)
    # in the units of the table, not of the standardized training target
    assert abs(predicted.mean() - measured.mean()) < 0.1


def test_human_mini_follows_accessibility_as_its_card_says(reference_data: Path) -> None:
    model = checkpoints.load("human-mini")
    dataset = BasenjiDataset(reference_data / "data" / "human")
    found = evaluation.evaluate_windows(dataset, model, evaluation.Settings(split="test"))
    card = (checkpoints.resolve("human-mini") / "README.md").read_text(encoding="utf-8")
    means = {
        row.assay: row.mean
        for row in found.groups
        if (row.level, row.transform, row.statistic) == ("bin", "log1p", "pearson")
    }
    for assay in ("DNASE", "CAGE", "RNA", "RNA3"):
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {assay} (")]
        assert means[assay] == pytest.approx(float(line.split("|")[3].split()[0]), abs=0.003)
    assert means["DNASE"] > 0.2
