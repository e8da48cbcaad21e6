"""Extra columns of files of scores: in every format that holds them, and back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr.errors import ConfigError, InputError
from gexpr.results import Track, Variant
from gexpr.runs.export import ExportOptions, export_scores
from gexpr.runs.score_rows import strongest_rows, write_ranked
from gexpr.writers.output import AtomicOutput
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.scores import ScoreSchema, open_writer

TRACKS = (Track(0, "wt", "Wild type"), Track(1, "d", "Diamide"))
ROWS = 10
VARIANTS = [Variant(i, i + 3, "chr1", 7 + i, f"rs{i}", "A", "C", "ok") for i in range(ROWS)]
COLUMNS = {
    "sample": [f"S{i % 3} µ" for i in range(ROWS)],
    "haplotype": [1 + i % 2 for i in range(ROWS)],
    "share": [float(np.float32(i / 7)) for i in range(ROWS)],
}
KINDS = {"sample": "text", "haplotype": "int", "share": "float"}
VALUES = {
    name: np.random.default_rng(number).normal(size=(ROWS, 2)).astype(np.float32)
    for number, name in enumerate(("logFC", "SAD"))
}


def write(path: Path, format: str, cuts: Sequence[int] = (), long: bool = False) -> Path:
    schema = ScoreSchema(TRACKS, tuple(VALUES), {"statistics": "logFC,SAD"}, columns=KINDS)
    path.parent.mkdir(exist_ok=True)
    with AtomicOutput(str(path)) as output:
        writer = open_writer(output, format, schema, long=long)
        for low, high in itertools.pairwise([0, *cuts, ROWS]):
            writer.write(
                VARIANTS[low:high],
                {name: table[low:high] for name, table in VALUES.items()},
                {name: values[low:high] for name, values in COLUMNS.items()},
            )
        writer.commit()
    return path


def test_hdf5_has_them_as_datasets(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "a.h5", "hdf5", (4,))) as file:
        assert file["sample"].asstr()[:].tolist() == COLUMNS["sample"]
        assert file["haplotype"][:].tolist() == COLUMNS["haplotype"]
        assert file["haplotype"].dtype == np.int64
        assert file["share"][:].tolist() == COLUMNS["share"] and file["share"].dtype == np.float32
        assert file.attrs["columns"] == "sample,haplotype,share"


@pytest.mark.parametrize("long", [False, True])
def test_tsv_has_them_behind_the_status(long: bool, tmp_path: Path) -> None:
    lines = write(tmp_path / "a.tsv", "tsv", long=long).read_text().splitlines()
    assert lines[0].split("\t")[5:10] == [
        *("status", "sample", "haplotype", "share", "track_id" if long else "wt:logFC")
    ]
    rows = [line.split("\t") for line in lines[1 :: 4 if long else 1]]
    assert [row[6] for row in rows] == COLUMNS["sample"]
    assert [int(row[7]) for row in rows] == COLUMNS["haplotype"]
    assert [float(np.float32(row[8])) for row in rows] == COLUMNS["share"]
    assert np.float32(rows[3][-1]) == VALUES["logFC" if long else "SAD"][3, 0 if long else 1]


def test_parquet_has_them_behind_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("gexpr.writers.parquet.GROUP_ROWS", 12)
    table = parquet.read_table(write(tmp_path / "a.parquet", "parquet", (2, 5)))
    assert table.schema.names[5:10] == ["status", "sample", "haplotype", "share", "track_id"]
    rows = table.to_pylist()[::4]
    assert [row["sample"] for row in rows] == COLUMNS["sample"]
    assert [row["haplotype"] for row in rows] == COLUMNS["haplotype"]
    assert [row["share"] for row in rows] == COLUMNS["share"]
    assert [row["pos"] for row in rows] == [variant.pos for variant in VARIANTS]


@pytest.mark.parametrize("format", ["hdf5", "parquet", "tsv"])
def test_bytes_do_not_depend_on_blocks(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("gexpr.writers.parquet.GROUP_ROWS", 12)
    whole = write(tmp_path / "1" / "a", format).read_bytes()
    assert write(tmp_path / "2" / "a", format, (1, 1, 7)).read_bytes() == whole


def test_they_come_back_and_are_exported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", "hdf5")
    with ScoreFile(path) as file:
        assert file.columns == KINDS
        assert file.extra(2, 5) == {name: values[2:5] for name, values in COLUMNS.items()}
        assert "columns" not in file.attributes
    export_scores(str(path), str(tmp_path / "same.h5"))
    assert (tmp_path / "same.h5").read_bytes() == path.read_bytes()
    export_scores(str(path), str(tmp_path / "top.tsv"), ExportOptions(top=1, tracks="wt"))
    lines = (tmp_path / "top.tsv").read_text().splitlines()
    row = int(np.abs(VALUES["logFC"][:, 0]).argmax())
    write_ranked(strongest_rows(str(path), count=1, tracks="wt"), str(tmp_path / "ranked.tsv"))
    ranked = [line.split("\t") for line in (tmp_path / "ranked.tsv").read_text().splitlines()]
    assert ranked[0][10:] == list(COLUMNS) and ranked[1][7] == f"rs{row}"
    assert ranked[1][10:12] == [COLUMNS["sample"][row], str(COLUMNS["haplotype"][row])]
    assert ranked[1][12] == str(np.float32(COLUMNS["share"][row]))
    assert lines[1].split("\t")[5:8] == ["ok", COLUMNS["sample"][row], str(COLUMNS["haplotype"][row])]


@pytest.mark.parametrize(
    ("name", "value"), [("columns", "sample,sample"), ("columns", "sample,logFC"), ("columns", 3)]
)
def test_a_file_whose_columns_are_not_there_is_refused(name: str, value: str | int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", "hdf5")
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(InputError, match=r"columns is|dataset 'logFC'"):
        ScoreFile(path)


def test_vcf_has_no_place_for_them(tmp_path: Path) -> None:
    class Lines:
        path = "a.vcf"

    schema = ScoreSchema(TRACKS, tuple(VALUES), {}, columns=KINDS)
    with (
        AtomicOutput(str(tmp_path / "a.vcf")) as output,
        pytest.raises(ConfigError, match="sample, haplotype"),
    ):
        open_writer(output, "vcf", schema, vcf=Lines())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "columns", [{"pos": "int"}, {"SAD": "text"}, {"target_assays": "text"}, {"a": "complex"}]
)
def test_names_of_the_formats_and_unknown_kinds_are_refused(columns: dict[str, str], tmp_path: Path) -> None:
    schema = ScoreSchema(TRACKS, tuple(VALUES), {}, columns=columns)
    with AtomicOutput(str(tmp_path / "a.tsv")) as output, pytest.raises(ValueError, match="extra column"):
        open_writer(output, "tsv", schema)


@pytest.mark.parametrize("columns", [None, {"sample": ["a"]}, {"sample": ["a"], "haplotype": []}])
def test_every_row_has_every_column(columns: dict[str, list[str]] | None, tmp_path: Path) -> None:
    schema = ScoreSchema(TRACKS, tuple(VALUES), {}, columns=KINDS)
    with AtomicOutput(str(tmp_path / "a.tsv")) as output:
        writer = open_writer(output, "tsv", schema)
        with pytest.raises(ValueError, match="extra columns"):
            writer.write(VARIANTS[:1], {name: table[:1] for name, table in VALUES.items()}, columns)
        writer.discard()
