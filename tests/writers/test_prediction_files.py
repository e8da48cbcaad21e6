"""Files of predictions: both HDF5 layouts, TSV of sums, NPZ."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr.errors import ConfigError
from gexpr.results import Region, Track
from gexpr.writers.output import AtomicOutput
from gexpr.writers.predictions import PredictionSchema, open_writer

TRACKS = (Track(0, "wt", "Wild type"), Track(1, "d", "Diamide"))
REGIONS = [
    Region("chr1", 10, 20, "a", "0", "+"),
    Region("chr1", 11, 21, "b", "0", "-"),
    Region("chr2", 5, 30),
]


def write(path: Path, format: str, bins: list[int], dtype: str = "float32") -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    values = [rng.random((n, 2)).astype(np.float32) for n in bins]
    regions = REGIONS[: len(bins)]
    spans = [(region.start - 1, n) for region, n in zip(regions, bins, strict=True)]
    with AtomicOutput(str(path)) as output:
        writer = open_writer(
            output, format, PredictionSchema(regions, spans, 4, TRACKS, {"device": "cpu"}, dtype)
        )
        for each in values:
            writer.write(each)
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
