"""Files of predictions: both HDF5 layouts, TSV of sums, NPZ."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr.errors import ConfigError
from gexpr.results import Region, Track
from gexpr.writers.output import AtomicOutput
from gexpr.writers.predictions import PredictionBlock, PredictionSchema, open_writer

TRACKS = (Track(0, "wt", "Wild type"), Track(1, "d", "Diamide"))
REGIONS = [
    Region("chr1", 10, 20, "a", "0", "+"),
    Region("chr1", 11, 21, "b", "0", "-"),
    Region("chr2", 5, 30),
]


def write(
    path: Path, format: str, bins: list[int], dtype: str = "float32", block_rows: int = 1
) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    values = [rng.random((n, 2)).astype(np.float32) for n in bins]
    sums = np.array([each.sum(axis=0, dtype=np.float64) for each in values])
    regions = REGIONS[: len(bins)]
    spans = [(region.start - 1, n) for region, n in zip(regions, bins, strict=True)]
    equal = bins[0] if len(set(bins)) == 1 else (None if bins else 0)
    with AtomicOutput(str(path)) as output:
        schema = PredictionSchema(equal, 4, TRACKS, {"device": "cpu"}, dtype)
        writer = open_writer(output, format, schema)
        for start in range(0, len(bins), block_rows):
            rows = slice(start, start + block_rows)
            block = PredictionBlock(regions[rows], spans[rows], np.concatenate(values[rows]), sums[rows])
            writer.write(block)
        writer.commit()
    return values


def test_equal_bins_make_a_cube(tmp_path: Path) -> None:
    values = write(tmp_path / "a.h5", "hdf5", [3, 3])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["predictions"].shape == (2, 3, 2) and "offsets" not in file
        assert np.array_equal(file["predictions"][:], np.stack(values))
        assert file["chrom"].asstr()[:].tolist() == ["chr1", "chr1"]
        assert file["start"][:].tolist() == [10, 11] and file["end"][:].tolist() == [20, 21]
        assert file["bin_start"][:].tolist() == [9, 10] and file["bin_end"][:].tolist() == [21, 22]
        assert file["name"].asstr()[:].tolist() == ["a", "b"]
        assert file["strand"].asstr()[:].tolist() == ["+", "-"]
        assert file["target_ids"].asstr()[:].tolist() == ["wt", "d"]
        assert file.attrs["bin_size"] == 4 and file.attrs["layout"] == "regions, bins, tracks"


def test_other_bins_make_a_flat_table_with_offsets(tmp_path: Path) -> None:
    values = write(tmp_path / "a.h5", "hdf5", [3, 1, 5], "float16")
    with h5py.File(tmp_path / "a.h5") as file:
        offsets = file["offsets"][:]
        assert offsets.tolist() == [0, 3, 4, 9] and file["predictions"].dtype == np.float16
        for index, each in enumerate(values):
            assert np.array_equal(
                file["predictions"][offsets[index] : offsets[index + 1]], each.astype(np.float16)
            )


def test_no_regions(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", "hdf5", [])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["predictions"].shape == (0, 0, 2)
    write(tmp_path / "a.tsv", "tsv", [])
    assert (tmp_path / "a.tsv").read_text() == "chrom\tstart\tend\tname\tstrand\twt\td\n"


def test_tsv_holds_sums_over_bins(tmp_path: Path) -> None:
    values = write(tmp_path / "a.tsv", "tsv", [3, 1, 5])
    rows = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()[1:]]
    assert rows[2][:5] == ["chr2", "5", "30", ".", "."]
    for row, each in zip(rows, values, strict=True):
        assert np.array_equal(np.float32(row[5:]), each.sum(axis=0, dtype=np.float64).astype(np.float32))


def test_npz_of_one_region(tmp_path: Path) -> None:
    values = write(tmp_path / "a.npz", "npz", [3])
    with np.load(tmp_path / "a.npz") as archive:
        assert np.array_equal(archive["predictions"], values[0])
        assert archive["chrom"] == "chr1" and archive["bin_start"] == 9
        assert archive["target_ids"].tolist() == ["wt", "d"]
    with pytest.raises(ConfigError, match="one region"):
        write(tmp_path / "b.npz", "npz", [3, 3])


@pytest.mark.parametrize(("name", "format"), [("a.h5", "hdf5"), ("a.npz", "npz"), ("a.tsv.gz", "tsv")])
def test_equal_work_gives_equal_bytes(name: str, format: str, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    for folder in (tmp_path, tmp_path / "again"):
        write(folder / name, format, [3])
    assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize(("name", "format"), [("a.h5", "hdf5"), ("a.tsv", "tsv")])
@pytest.mark.parametrize("bins", [[3, 3, 3], [3, 1, 5]], ids=["equal", "other"])
def test_blocks_do_not_change_the_bytes(name: str, format: str, bins: list[int], tmp_path: Path) -> None:
    written = []
    for block_rows in (1, 2, 3):
        (tmp_path / str(block_rows)).mkdir()
        write(tmp_path / str(block_rows) / name, format, bins, block_rows=block_rows)
        written.append((tmp_path / str(block_rows) / name).read_bytes())
    assert written[0] == written[1] == written[2]
