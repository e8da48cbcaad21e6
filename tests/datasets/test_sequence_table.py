"""Tables of sequences with values: formats, joins, constructs, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from gexpr.datasets import Construct, SequenceTable, TableWindows
from gexpr.datasets.sequence_table import read_columns, table_kind
from gexpr.errors import ConfigError, InputError
from gexpr.genome.codes import decode

ROWS = [("ACGT", 1.5, -2.0), ("ggTN", 0.25, 3.0), ("TTTT", -1.0, 0.0)]


def text(separator: str = "\t") -> str:
    lines = [("sequence", "a", "b"), *ROWS]
    return "\n".join(separator.join(map(str, line)) for line in lines) + "\n"


def write(path: Path, content: str) -> Path:
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def letters(table: SequenceTable, margin: int = 0) -> list[str]:
    return [decode(codes) for codes in table.codes(margin)]


@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.txt.gz", "t.csv.gz", "t.parquet"])
def test_formats_give_the_same_table(name, tmp_path):
    path = tmp_path / name
    if name.endswith("parquet"):
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = list(zip(*ROWS, strict=True))
        parquet.write_table(arrow.table(dict(zip(("sequence", "a", "b"), columns, strict=True))), path)
    else:
        write(path, text("," if "csv" in name else "\t"))
    table = SequenceTable(path, ["b", "a"])
    assert letters(table) == ["ACGT", "GGTN", "TTTT"] and table.length == 4
    np.testing.assert_array_equal(table.values, [[-2.0, 1.5], [3.0, 0.25], [0.0, -1.0]])
    assert [track.id for track in table.tracks] == ["b", "a"] and table.splits is None


def test_kinds_are_told_by_the_name():
    assert [table_kind(name) for name in ("a.tsv.gz", "b.CSV", "c.pq", "d.h5", "e")] == [
        "tsv",
        "csv",
        "parquet",
        None,
        None,
    ]


def test_quoted_cells_blank_lines_and_windows_line_ends(tmp_path):
    path = write(tmp_path / "t.csv", 'note,seq,v\r\n"a, b",ACGT,1\r\n\r\nc,TTTT,2\r\n')
    columns = read_columns(path, ["note", "v"])
    assert columns.values == {"note": ["a, b", "c"], "v": ["1", "2"]} and columns.lines == [2, 4]


def test_splits_of_another_file_are_joined_by_row(tmp_path):
    path = write(tmp_path / "t.tsv", text())
    splits = write(tmp_path / "s.tsv", "row\tcluster\tsplit\n2\tx\ttest\n0\ty\ttrain\n1\tx\tvalid\n")
    table = SequenceTable(path, ["a"], split_file=splits, cluster_column="cluster")
    assert table.splits is not None and table.splits.tolist() == ["train", "valid", "test"]
    assert table.clusters is not None and table.clusters.tolist() == ["y", "x", "x"]
    assert table.rows_of("valid").tolist() == [1] and table.rows_of("all").tolist() == [0, 1, 2]
    before = table.digest
    write(splits, "split\ntrain\ntrain\ntest\n")
    table = SequenceTable(path, ["a"], split_file=splits)
    assert table.splits is not None and table.splits.tolist() == ["train", "train", "test"]
    assert table.digest != before
    for content, message in (
        ("row\tsplit\n0\ta\n0\ta\n1\ta\n", "must have each of 0 to 2 once"),
        ("split\ntrain\n", "has 1 rows, .* has 3"),
        ("row\n0\n", "has no column 'split'"),
        ("row\tsplit\nx\ta\n1\ta\n2\ta\n", "no whole number"),
    ):
        write(splits, content)
        with pytest.raises(InputError, match=message):
            SequenceTable(path, ["a"], split_file=splits)


@pytest.mark.parametrize(
    ("construct", "expected"),
    [
        (Construct(6, pad="left"), "NNACGT"),
        (Construct(6, pad="right"), "ACGTNN"),
        (Construct(7, pad="both"), "NACGTNN"),
        (Construct(2, crop="left"), "GT"),
        (Construct(2, crop="right"), "AC"),
        (Construct(3, crop="both"), "ACG"),
        (Construct(prefix="GG", suffix="C"), "GGACGTC"),
        (Construct(5, crop="left", prefix="AAGG"), "GACGT"),
        (Construct(8, pad="left", prefix="G", suffix="A"), "NNGACGTA"),
    ],
    ids=str,
)
def test_constructs(construct, expected, tmp_path):
    path = write(tmp_path / "t.tsv", text())
    table = SequenceTable(path, ["a"], construct=construct)
    assert letters(table)[0] == expected
    # A margin shows more of the construct, and unknown bases beyond it.
    assert letters(table, 2)[0][2:-2] == expected
    whole = f"{construct.prefix}ACGT{construct.suffix}"
    assert letters(table, 20)[0].strip("N") == whole


def test_lengths_that_differ_need_a_rule(tmp_path):
    path = write(tmp_path / "t.tsv", "seq\tv\nACGT\t1\nACG\t2\nACGTA\t3\n")
    with pytest.raises(InputError, match="line 3: 3 bases, the rows before have 4"):
        SequenceTable(path, ["v"])
    with pytest.raises(InputError, match=r"line 4: 5 bases, the model's input has 4; say with data\.crop"):
        SequenceTable(path, ["v"], construct=Construct(4, pad="left")).codes()
    table = SequenceTable(path, ["v"], construct=Construct(4, "left", "right"))
    assert letters(table) == ["ACGT", "NACG", "ACGT"]


def test_missing_values_are_told_or_dropped(tmp_path):
    path = write(
        tmp_path / "t.tsv", "seq\ta\tb\tsplit\nACGT\t1\tNA\ttest\nCCCC\t2\t3\ttrain\nGGGG\t\t1\ttest\n"
    )
    with pytest.raises(InputError, match=r"line 2: the value of b is missing; data\.missing: drop"):
        SequenceTable(path, ["a", "b"])
    table = SequenceTable(path, ["a", "b"], missing="drop")
    assert table.rows.tolist() == [1] and letters(table) == ["CCCC"] and table.file_rows == 3
    assert table.splits is not None and table.splits.tolist() == ["train"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seq\tv\nACGT\tx1\n", "line 2: the value of v is 'x1', not a number"),
        ("seq\tv\nACGT\tinf\n", "line 2: the value of v is infinite"),
        ("seq\tv\nACGT\t1\nAC-T\t1\n", "line 3: the sequence has '-', which is no base"),
        ("seq\tv\n\t1\n", "line 2: the sequence is missing"),
        ("seq\tv\nACGT\n", "line 2: has 1 columns, the header 2"),
        ("dna\tv\nACGT\t1\n", "no column 'sequence' or 'seq'"),
        ("seq\tw\nACGT\t1\n", "has no column 'v'; it has: seq, w"),
        ("seq\tv\n", "the table has no rows"),
        ("seq\tv\tv\nACGT\t1\t2\n", "line 1: has 2 columns 'v'; rename"),
        ("seq\tv\nACGT\t1\n\t\n", "line 3: the value of v is missing"),
        ('seq\tv\nACGT\t"1\n2"\n', "line 2: cannot be divided into cells: .*quotes must be closed"),
        ("seq\tv\rACGT\t1\r", "line 1: cannot be divided into cells"),
    ],
)
def test_bad_tables(content, message, tmp_path):
    path = write(tmp_path / "t.tsv", content)
    with pytest.raises(InputError, match=message):
        SequenceTable(path, ["v"]).codes()


def test_a_cell_may_be_as_long_as_a_line(tmp_path):
    path = write(tmp_path / "t.csv", f'seq,v\n"{"ACGT" * 50_000}",1\n')
    assert SequenceTable(path, ["v"]).length == 200_000


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"seq": ["ACGT"], "v": [[1.0]]}, "the column 'v' holds list"),
        ({"seq": [b"ACGT"], "v": [1.0]}, "the column 'seq' holds binary"),
        ({"seq": [4], "v": [1.0]}, "row 0: the sequence is 4, which is no text"),
        ({"seq": ["ACGT", None], "v": [1.0, 2.0]}, "row 1: the sequence is missing"),
        ({"seq": ["ACGT"], "v": [None]}, "row 0: the value of v is missing"),
    ],
)
def test_columns_of_parquet_that_do_not_fit(columns, message, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=message):
        SequenceTable(tmp_path / "t.parquet", ["v"]).codes()


def test_a_column_twice_in_parquet_and_splits_that_are_numbers(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    values = [arrow.array(["ACGT"]), arrow.array([1.0]), arrow.array([2.0])]
    parquet.write_table(arrow.Table.from_arrays(values, names=["seq", "v", "v"]), path)
    with pytest.raises(InputError, match="has 2 columns 'v'"):
        SequenceTable(path, ["v"])
    parquet.write_table(arrow.table({"seq": ["ACGT", "AAAA"], "v": [1.0, 2.0], "split": [0, 1]}), path)
    assert SequenceTable(path, ["v"]).rows_of("1").tolist() == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missing": "drop"}, "no row has all its values"),
        ({"construct": Construct(0)}, "length of the table is 0"),
        ({"construct": Construct(4, prefix="A!")}, "prefix of the table has '!'"),
        ({"cluster_column": "c"}, "line 2: no cluster in the column c"),
    ],
)
def test_settings_that_do_not_fit(changes, message, tmp_path):
    value = "" if "missing" in changes else "1"
    path = write(tmp_path / "t.tsv", f"seq\tv\tc\nACGT\t{value}\t\n")
    with pytest.raises((ConfigError, InputError), match=message):
        SequenceTable(path, ["v"], **changes)


def test_targets_beyond_32_bits(tmp_path):
    path = write(tmp_path / "t.tsv", "seq\tv\tsplit\nACGT\t\ttrain\nACGT\t1\ttrain\nCCCC\t-1e39\tvalid\n")
    with pytest.raises(InputError, match="line 4: the value of v makes a target too large"):
        TableWindows(SequenceTable(path, ["v"], missing="drop"))


def test_a_table_needs_values_and_a_file(tmp_path):
    path = write(tmp_path / "t.tsv", text())
    with pytest.raises(ConfigError, match=r"data\.value_columns"):
        SequenceTable(path, [])
    with pytest.raises(InputError, match="no such table"):
        SequenceTable(tmp_path / "none.tsv", ["a"])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no parquet")
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        SequenceTable(tmp_path / "bad.parquet", ["a"])
