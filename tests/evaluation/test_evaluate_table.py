"""Tables of sequences: which settings count, ensembles in the unit of the table, subsets, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gexpr import checkpoints, evaluation
from gexpr.cli.main import main
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.genome.codes import encode, reverse_complement
from gexpr.models import registry
from gexpr.models.layers import one_hot
from gexpr.results import Track, affine_transform

SETTINGS = {
    "stem_channels": 8,
    "tower_channels": [8] * 3,
    "num_downsamples": 4,
    "dilated_layers": 0,
    "dilated_channels": 8,
    "final_channels": 8,
    "context_length": 16,
    "target_length": 1,
    "heads": {"tracks": 2},
}
DATA = {"value_columns": ["low", "high"], "pad": "right", "prefix": "AC", "split_file": "splits.tsv"}


def save(folder: Path, seed: int, scale: float = 1.0, shift: float = 0.0, data: Any = None) -> Path:
    torch.manual_seed(seed)
    model = registry.build("basenji", SETTINGS).eval()
    tracks = [
        Track(i, name, name, strand_pair=i, scale=scale, transform=affine_transform(shift))
        for i, name in enumerate(("high", "low"))
    ]
    checkpoints.save(folder, model, tracks, {"config": {"data": data or DATA}}, "# toy\n")
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Ten sequences of 12 bp with two values; rows 3 to 8 are the test split."""
    draw = np.random.default_rng(1)
    lines, splits = ["sequence\tlow\thigh"], ["row\tsplit"]
    for i in range(10):
        text = "".join("ACGT"[code] for code in draw.integers(0, 4, 12))
        lines.append(f"{text}\t{i / 10}\t{(i * 7) % 10}")
        splits.append(f"{i}\t{'test' if 3 <= i <= 8 else 'train'}")
    (tmp_path / "splits.tsv").write_text("\n".join(splits) + "\n")
    (tmp_path / "table.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "table.tsv"


def predict(folder: Path, table: Path, turned: bool = False) -> np.ndarray:
    rows = [line.split("\t")[0] for line in table.read_text().splitlines()[1:]]
    codes = np.stack([encode(f"AC{text}NN") for text in rows])
    with torch.no_grad():
        model = checkpoints.load(folder)
        return model(one_hot(torch.from_numpy(reverse_complement(codes) if turned else codes)))[:, 0].numpy()


def run(checkpoint: str, table: Path, *options: str) -> Any:
    folder = table.parent / "out"
    command = ["evaluate", "-c", checkpoint, "-d", str(table), "-o", str(folder), "--force", *options]
    return CliRunner().invoke(main, command)


def values(table: Path) -> np.ndarray:
    """Rows, measured and predicted of ``low`` and ``high``: (rows, 5)."""
    lines = [line.split("\t") for line in (table.parent / "out" / "rows.tsv").read_text().splitlines()[1:]]
    assert [line[1] for line in lines] == ["low", "high"] * (len(lines) // 2)
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return np.array([[float(x) for x in (a[0], a[2], b[2], a[3], b[3])] for a, b in pairs])


def test_constructs_columns_and_split_are_those_of_the_training(table, tmp_path):
    checkpoint = save(tmp_path / "one", 1, scale=2.0, shift=0.5)
    result = run(str(checkpoint), table)
    assert result.exit_code == 0, result.output
    found = values(table)
    assert found[:, 0].tolist() == [3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(found[:, 1], np.arange(3, 9) / 10)
    expected = (predict(checkpoint, table)[3:9, ::-1] - 0.5) / 2
    np.testing.assert_allclose(found[:, 3:], expected, atol=1e-5)
    assert run(str(checkpoint), table, "--split", "all", "--rc").exit_code == 0
    both = (predict(checkpoint, table) + predict(checkpoint, table, turned=True)) / 2
    np.testing.assert_allclose(values(table)[:, 3:], (both[:, ::-1] - 0.5) / 2, atol=1e-5)


def test_an_ensemble_is_averaged_in_the_unit_of_the_table(table, tmp_path):
    one, other = save(tmp_path / "one", 1, 2.0, 0.5), save(tmp_path / "other", 2, 4.0, -1.0)
    result = run(f"{one},{other}", table)
    assert result.exit_code == 0, result.output
    mean = ((predict(one, table) - 0.5) / 2 + (predict(other, table) + 1) / 4) / 2
    np.testing.assert_allclose(values(table)[:, 3:], mean[3:9, ::-1], atol=1e-5)


def test_subsets_count_rows_of_the_split_and_pairs_with_both(table, tmp_path):
    checkpoint = save(tmp_path / "one", 1)
    opened = evaluation.open_table(table, 16, checkpoints.describe(checkpoint).training)
    (tmp_path / "s.json").write_text(
        json.dumps({"a": [0, 5, 8, 3], "b": [[4, 3], [8, 6], [2, 5]], "none": []})
    )
    subsets = evaluation.read_subsets(tmp_path / "s.json")
    result = evaluation.evaluate_table(opened, [checkpoints.load(checkpoint)], subsets=subsets)
    p = predict(checkpoint, table)[:, 1]
    assert result.value("subset a", "low", "raw") == pytest.approx(
        np.corrcoef([0.5, 0.8, 0.3], p[[5, 8, 3]])[0, 1], abs=1e-5
    )
    difference = p[[4, 8]] - p[[3, 6]]
    assert result.value("difference b", "low", "raw") == pytest.approx(np.sign(0.1 * (difference @ [-1, 1])))
    counts = {row.level: row.n for row in result.metrics}
    assert counts == {"row": 6, "subset a": 3, "difference b": 2, "subset none": 0}
    assert np.isnan(result.value("subset none", "low", "raw"))


@pytest.mark.parametrize(
    "text",
    [
        *("[1]", '{"a": 1}', '{"a": [1.5]}', '{"a": [-1]}', '{"a": [[1, 2, 3]]}', "{"),
        *('{"a": [9223372036854775808]}', '{"a": [1, 99999999999999999999]}', '{"a": [true]}'),
    ],
)
def test_bad_subsets(text, tmp_path):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(InputError, match=r"s\.json"):
        evaluation.read_subsets(tmp_path / "s.json")


def test_a_subset_of_another_table(table, tmp_path):
    checkpoint = save(tmp_path / "one", 1)
    opened = evaluation.open_table(table, 16, checkpoints.describe(checkpoint).training)
    subset = evaluation.Subset("far", np.array([3, 10]))
    with pytest.raises(InputError, match="'far' has row 10; the last one is 9"):
        evaluation.evaluate_table(opened, [checkpoints.load(checkpoint)], subsets=[subset])


@pytest.mark.parametrize(
    ("training", "given", "message"),
    [
        ({}, {}, "was not trained on a table"),
        ({"config": {"data": DATA}}, {"colour": "red"}, "unknown setting 'colour'"),
        (
            {"config": {"data": {**DATA, "split_file": "gone.tsv"}}},
            {},
            "gone.tsv: the checkpoint was trained",
        ),
        ({"config": {"data": DATA}}, {"length": "many"}, "length of the table is 'many'"),
        ({"config": {"data": DATA}}, {"value_columns": "x"}, "no column 'x'"),
        ({"config": {"data": DATA}}, {"pad": "top"}, "pad of the table is 'top'"),
        ({"config": {"data": DATA}}, {"length": "-3"}, "length of the table is -3"),
        ({"config": {"data": DATA}}, {"value_columns": ","}, "was not trained on a table"),
        ({"config": "big"}, {}, "data is None, not a mapping"),
        ({"config": {"data": [1]}}, {}, r"data is \[1\], not a mapping"),
        ({"config": {"data": {"value_columns": 3}}}, {}, "data.value_columns is 3, not names"),
    ],
)
def test_settings_of_the_table(training, given, message, table):
    with pytest.raises(GexprError, match=message):
        evaluation.open_table(table, 16, training, given)


def test_settings_replace_those_of_the_training(table, tmp_path):
    training = {"config": {"data": {**DATA, "split_file": "gone.tsv"}}}
    opened = evaluation.open_table(table, 16, training, {"split_file": str(tmp_path / "splits.tsv")})
    assert len(opened.rows_of("test")) == 6
    assert len(evaluation.open_table(table, 16, training, split="all").rows_of("all")) == 10
    only = evaluation.open_table(table, 12, {}, {"value_columns": "high"}, split="all")
    assert only.names == ["high"] and only.length == 12


def test_models_that_do_not_fit(table, tmp_path):
    opened = evaluation.open_table(table, 14, {"config": {"data": DATA}})
    with pytest.raises(ConfigError, match=r"reads 16 bp and predicts 1 bins; .* have 14 bp"):
        evaluation.evaluate_table(opened, [checkpoints.load(save(tmp_path / "one", 1))])


def test_members_that_differ(table, tmp_path):
    one = save(tmp_path / "one", 1)
    padded = save(tmp_path / "padded", 2, data={**DATA, "pad": "left"})
    result = run(f"{one},{padded}", table)
    assert result.exit_code == 1
    assert "one was trained with data.pad 'right' and padded with 'left'" in result.output
    assert run(f"{one},{padded}", table, "--table", "pad=right").exit_code == 0
    model = checkpoints.load(one)
    tracks = [track._replace(transform="log2") for track in model.tracks]
    checkpoints.save(tmp_path / "logs", model, tracks, {"config": {"data": DATA}}, "card")
    result = run(f"{one},{tmp_path / 'logs'}", table)
    assert result.exit_code == 1 and "is linear with scale 1 of model 1 and log2" in result.output
    both = {"config": {"data": DATA, "augmentation": {"reverse_complement": True}}}
    checkpoints.save(tmp_path / "both", checkpoints.load(one), checkpoints.load(one).tracks, both, "card")
    result = run(f"{one},{tmp_path / 'both'}", table)
    assert result.exit_code == 1 and "give --rc or --no-rc" in result.output
    assert run(f"{one},{tmp_path / 'both'}", table, "--no-rc").exit_code == 0


@pytest.mark.parametrize(
    "option", [["--pictures", "svg"], ["--pool-width", "4"], ["--promoter-window", "1,2"], ["--ridge"]]
)
def test_options_that_a_table_would_ignore(option, table, tmp_path):
    result = run(str(save(tmp_path / "one", 1)), table, *option)
    assert result.exit_code == 2 and f"{option[0]} does not belong to this kind of data" in result.output


def test_options_that_belong_to_other_data(table, tmp_path):
    checkpoint = str(save(tmp_path / "one", 1))
    (tmp_path / "genes.bed").write_text("c\t1\t2\tg\t0\t+\n")
    result = run(checkpoint, table, "--genes", str(tmp_path / "genes.bed"))
    assert result.exit_code == 2 and "is a table" in result.output
    (tmp_path / "data.h5").write_bytes(b"")
    result = run(checkpoint, tmp_path / "data.h5", "--table", "pad=left")
    assert result.exit_code == 2 and "--table needs a table" in result.output
    result = run(checkpoint, table, "--table", "pad")
    assert result.exit_code == 1 and "KEY=VALUE" in result.output
