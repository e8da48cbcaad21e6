"""Scores as Parquet: read back by pyarrow and pandas, with the same bytes however the rows came."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gexpr.errors import GexprError, MissingDependencyError
from gexpr.results import Track, Variant
from gexpr.runs.score_outputs import score_outputs
from gexpr.writers import parquet as module
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema, open_writer

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

TRACKS = (Track(0, "wt", "Signal"), Track(1, "d", "Signal"), Track(2, "µ", "Diamide, µ"))
STATISTICS = ("logFC", "SAD")
ROWS = 20
VARIANTS = [
    Variant(
        i, i + 3, f"chr{1 + i // 8}", 10**i % 10**12 + i, f"rs{i}" if i % 3 else ".", "A", "CG"[i % 2], "ok"
    )
    for i in range(ROWS)
]
VARIANTS[4] = VARIANTS[4]._replace(alt="<DEL>", status="symbolic_alt")
VALUES = {
    name: np.random.default_rng(number).normal(size=(ROWS, 3)).astype(np.float32)
    for number, name in enumerate(STATISTICS)
}
for table in VALUES.values():
    table[4] = np.nan


def write(path: Path, cuts: Sequence[int] = (), dtype: str = "float32", **late: str) -> Path:
    schema = ScoreSchema(TRACKS, STATISTICS, {"mask": "all", "pseudocount": 1.0}, dtype, {"SAD": "a - r"})
    with AtomicOutput(str(path)) as output:
        writer = open_writer(output, "parquet", schema)
        for low, high in itertools.pairwise([0, *cuts, ROWS]):
            writer.write(VARIANTS[low:high], {name: table[low:high] for name, table in VALUES.items()})
        writer.annotate(late)
        writer.commit()
    return path


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of 3 alleles with 6 numbers each."""
    monkeypatch.setattr(module, "GROUP_ROWS", 20)


def test_pyarrow_reads_the_tidy_form(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    table = pq.read_table(path)
    few = pa.dictionary(pa.int32(), pa.string())
    assert {field.name: field.type for field in table.schema} == {
        **{"chrom": few, "pos": pa.int64(), "id": pa.string(), "ref": pa.string(), "alt": pa.string()},
        **{"status": few, "track_id": few, "track_label": few, "statistic": few, "score": pa.float32()},
    }
    rows = table.to_pylist()
    expected = [
        {
            **{"chrom": v.chrom, "pos": v.pos, "id": v.id, "ref": v.ref, "alt": v.alt, "status": v.status},
            **{"track_id": track.id, "track_label": track.label, "statistic": name},
            "score": float(VALUES[name][row, column]) if v.ok else None,
        }
        for row, v in enumerate(VARIANTS)
        for name in STATISTICS
        for column, track in enumerate(TRACKS)
    ]
    assert rows == expected
    assert table["score"].null_count == 6
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [18] * 6 + [12]


def test_pandas_reads_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(write(tmp_path / "a.parquet"))
    assert frame["score"].dtype == np.float32 and frame["chrom"].dtype == "category"
    wide = frame[frame.statistic == "SAD"].pivot(index="pos", columns="track_id", values="score")
    order = np.argsort([v.pos for v in VARIANTS])
    assert np.array_equal(wide[["wt", "d", "µ"]].to_numpy(), VALUES["SAD"][order], equal_nan=True)
    assert frame.groupby("status", observed=True).size().to_dict() == {"ok": 19 * 6, "symbolic_alt": 6}


def test_filters_skip_row_groups(tmp_path: Path) -> None:
    table = pq.read_table(
        write(tmp_path / "a.parquet"), filters=[("chrom", "=", "chr2"), ("track_id", "=", "d")]
    )
    assert len(table) == 8 * 2
    statistics = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == ("chr1", "chr1")


def test_metadata_is_that_of_the_run(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", auto_batch_sizes="2,4")
    metadata = pq.read_schema(path).metadata
    assert metadata[b"mask"] == b"all" and metadata[b"pseudocount"] == b"1.0"
    assert metadata[b"format"] == b"gexpr variant scores" and metadata[b"definition SAD"] == b"a - r"
    assert pq.read_metadata(path).metadata[b"auto_batch_sizes"] == b"2,4"


@pytest.mark.parametrize("cuts", [[1], [3, 6], list(range(1, ROWS)), [7, 7, 19]], ids=str)
def test_blocks_do_not_change_a_byte(cuts: list[int], tmp_path: Path) -> None:
    assert write(tmp_path / "a.parquet", cuts).read_bytes() == write(tmp_path / "b.parquet").read_bytes()


def test_float16_scores_are_float32_with_the_same_values(tmp_path: Path) -> None:
    scores = pq.read_table(write(tmp_path / "a.parquet", dtype="float16"))["score"]
    assert scores.type == pa.float32()
    expected = np.stack([VALUES[name].astype(np.float16) for name in STATISTICS], axis=1).reshape(-1)
    assert np.array_equal(scores.to_numpy(), expected.astype(np.float32), equal_nan=True)


def test_without_rows_the_file_is_valid(tmp_path: Path) -> None:
    with AtomicOutput(str(tmp_path / "a.parquet")) as output:
        open_writer(output, "parquet", ScoreSchema(TRACKS, ("logFC",), {})).commit()
    table = pq.read_table(tmp_path / "a.parquet")
    assert len(table) == 0 and len(table.schema) == 10


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    def full(_file: Any, data: Any) -> None:
        nonlocal written
        written += len(data)
        if written > 2000:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_all", full)
    with pytest.raises(GexprError, match=r"cannot write .*a\.parquet: No space left on device"):
        write(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_given_up(tmp_path: Path) -> None:
    with AtomicOutput(str(tmp_path / "a.parquet")) as output:
        writer = open_writer(output, "parquet", ScoreSchema(TRACKS, STATISTICS, {}))
        writer.write(VARIANTS, VALUES)
        writer.discard()
        writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *given: Any, **named: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError("No module named 'pyarrow'")
        return real(name, *given, **named)

    monkeypatch.setattr("importlib.import_module", lambda name: missing(name))
    with pytest.raises(MissingDependencyError, match=r"'pyarrow'.*pip install 'gexpr\[parquet\]'"):
        score_outputs(["a.h5", "a.parquet"], None, False)
    assert score_outputs("a.h5", None, False).formats == ("hdf5",)


def test_a_stream_is_refused() -> None:
    with pytest.raises(GexprError, match="Parquet needs a regular file"):
        with AtomicOutput("/dev/null") as output:
            open_writer(output, "parquet", ScoreSchema(TRACKS, STATISTICS, {}))
