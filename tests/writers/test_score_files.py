"""Files of scores: HDF5 by plain h5py, TSV by plain text, equal values and equal bytes."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr.results import Track, Variant
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema, open_writer

TRACKS = (Track(0, "wt", "Wild type"), Track(1, "d", "Diamide, µ"))
VARIANTS = [
    Variant(0, 3, "chr1", 7, "rs1", "A", "C", "ok"),
    Variant(1, 4, "chr1", 4_000_000_000, ".", "AT", "A", "ok"),
    Variant(2, 5, "chr1", 9, ".", "G", "<DEL>", "symbolic_alt"),
    Variant(3, 6, "M", 9, "é", "g", "T", "ok"),
]
VALUES = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32) * np.float32(
    [[1e-7], [1], [1], [1e5]]
)
VALUES[2] = np.nan
SCORES = {"logFC": VALUES, "SAD": VALUES * 3}


def write(
    path: Path, format: str, *, long: bool = False, dtype: str = "float32", statistics=("logFC", "SAD")
) -> Path:
    schema = ScoreSchema(
        TRACKS, statistics, {"pseudocount": 1.0, "mask": "all"}, dtype, {"logFC": "a formula"}
    )
    with AtomicOutput(str(path)) as output:
        writer = open_writer(output, format, schema, long=long)
        for rows in (slice(0, 1), slice(1, 1), slice(1, 4)):
            writer.write(VARIANTS[rows], {name: values[rows] for name, values in SCORES.items()})
        writer.commit()
    return path


def test_hdf5_schema(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "a.h5", "hdf5")) as file:
        assert set(file) == {
            *("snp", "chr", "pos", "ref_allele", "alt_allele", "status"),
            *("target_ids", "target_labels", "logFC", "SAD"),
        }
        assert file["snp"].asstr()[:].tolist() == ["rs1", "chr1_4000000000_AT_A", "chr1_9_G_<DEL>", "é"]
        assert file["chr"][:].tolist() == [b"chr1", b"chr1", b"chr1", b"M"]
        assert file["pos"].dtype == np.uint32 and file["pos"][1] == 4_000_000_000
        assert file["ref_allele"].asstr()[:].tolist() == ["A", "AT", "G", "g"]
        assert file["alt_allele"].asstr()[:].tolist() == ["C", "A", "<DEL>", "T"]
        assert file["status"].asstr()[:].tolist() == ["ok", "ok", "symbolic_alt", "ok"]
        assert file["target_labels"].asstr()[:].tolist() == ["Wild type", "Diamide, µ"]
        assert file["logFC"].dtype == np.float32 and np.isnan(file["logFC"].fillvalue)
        assert file["logFC"].chunks is not None and file["logFC"].compression == "gzip"
        assert np.array_equal(file["logFC"][:], VALUES, equal_nan=True)
        assert file["logFC"].attrs["definition"] == "a formula"
        assert file.attrs["format_version"] == 1 and file.attrs["mask"] == "all"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tsv_holds_the_numbers_of_the_hdf5(tmp_path: Path, dtype: str) -> None:
    with h5py.File(write(tmp_path / "a.h5", "hdf5", dtype=dtype)) as file:
        stored = {name: file[name][:] for name in SCORES}
    lines = write(tmp_path / "a.tsv", "tsv", dtype=dtype).read_text().splitlines()
    assert lines[0].split("\t") == [
        *("chrom", "pos", "id", "ref", "alt", "status"),
        *("wt:logFC", "d:logFC", "wt:SAD", "d:SAD"),
    ]
    table = [line.split("\t") for line in lines[1:]]
    assert table[1][:6] == ["chr1", "4000000000", ".", "AT", "A", "ok"]
    assert table[2][6:] == ["nan"] * 4
    numbers = np.array([row[6:] for row in table]).astype(dtype)
    assert np.array_equal(numbers, np.hstack([stored["logFC"], stored["SAD"]]), equal_nan=True)


def test_one_statistic_gives_columns_named_by_track(tmp_path: Path) -> None:
    header = write(tmp_path / "a.tsv", "tsv", statistics=("logFC",)).read_text().splitlines()[0]
    assert header == "chrom\tpos\tid\tref\talt\tstatus\twt\td"


def test_long_tsv(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.tsv.gz", "tsv", long=True)
    lines = gzip.decompress(lines.read_bytes()).decode().splitlines()
    assert lines[0].split("\t")[6:] == ["track_id", "track_label", "statistic", "score"]
    assert len(lines) == 1 + 4 * 2 * 2
    fields = lines[-1].split("\t")
    assert fields[:9] == ["M", "9", "é", "g", "T", "ok", "d", "Diamide, µ", "SAD"]
    assert np.float32(fields[9]) == SCORES["SAD"][3, 1]


@pytest.mark.parametrize("name", ["a.h5", "a.tsv", "a.tsv.gz"])
def test_equal_work_gives_equal_bytes(name: str, tmp_path: Path) -> None:
    format = "hdf5" if name.endswith("h5") else "tsv"
    (tmp_path / "again").mkdir()
    first, second = (write(folder / name, format) for folder in (tmp_path, tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("format", ["hdf5", "tsv"])
def test_without_rows_the_file_is_valid(format: str, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    with AtomicOutput(str(path)) as output:
        open_writer(output, format, ScoreSchema(TRACKS, ("logFC",), {})).commit()
    if format == "tsv":
        assert len(path.read_text().splitlines()) == 1
    else:
        with h5py.File(path) as file:
            assert file["logFC"].shape == (0, 2) and file["snp"].shape == (0,)
