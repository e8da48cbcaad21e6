"""The HDF5 of scores, read as scripts read what basenji_sad and hound_snp write.

What these scripts do was taken from public ones: they index datasets by name, decode strings one by
one or as arrays, slice rows and columns, join the files of several jobs, and make data frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr.results import Track, Variant
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema, open_writer

TRACKS = tuple(Track(i, f"ENCFF{i}", f"CAGE:liver, {i} µg") for i in range(5))
VARIANTS = [
    Variant(0, 3, "chr1", 1_000_000, "rs1", "A", "C", "ok"),
    Variant(1, 4, "chr1", 1_000_002, ".", "AT", "A", "ok"),
    Variant(2, 5, "chr2", 7, "rs3", "G", "GTTTTTTTT", "ok"),
    Variant(3, 6, "chrX", 9, "rs4", "G", "<DEL>", "symbolic_alt"),
]
SCORES = {
    name: np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32)
    for seed, name in enumerate(("SAD", "logSAD", "D2"))
}
for values in SCORES.values():
    values[3] = np.nan


def write(path: Path, rows: slice = slice(None), dtype: str = "float32") -> Path:
    with AtomicOutput(str(path)) as output:
        writer = open_writer(output, "hdf5", ScoreSchema(TRACKS, tuple(SCORES), {}, dtype))
        writer.write(VARIANTS[rows], {name: table[rows] for name, table in SCORES.items()})
        writer.commit()
    return path


@pytest.fixture
def sad(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(write(tmp_path / "sad.h5"), "r") as file:
        yield file


def test_the_names_and_types_that_peers_write(sad: h5py.File) -> None:
    for name in ("snp", "chr", "pos", "ref_allele", "alt_allele"):
        assert sad[name].shape == (4,)
    assert sad["pos"].dtype == np.uint32
    assert sad["target_ids"].shape == sad["target_labels"].shape == (5,)
    for name in SCORES:
        assert sad[name].shape == (len(sad["snp"]), len(sad["target_ids"])) and sad[name].dtype.kind == "f"


def test_strings_decode_one_by_one(sad: h5py.File) -> None:
    assert [snp.decode("UTF-8") for snp in sad["snp"]] == ["rs1", "chr1_1000002_AT_A", "rs3", "rs4"]
    assert [name.decode() for name in sad["target_ids"][:]] == [track.id for track in TRACKS]
    assert sad["target_labels"][2].decode("utf-8") == TRACKS[2].label
    assert np.array(sad["snp"])[0].decode("UTF-8") == "rs1"
    assert [str(x).strip("'b") for x in sad["snp"]][:1] == ["rs1"]


def test_strings_decode_as_arrays(sad: h5py.File) -> None:
    assert sad["ref_allele"].asstr()[:].tolist() == ["A", "AT", "G", "G"]
    assert sad["alt_allele"][:].astype("S").tolist() == [b"C", b"A", b"GTTTTTTTT", b"<DEL>"]
    assert sad["chr"][:].astype(str).tolist() == ["chr1", "chr1", "chr2", "chrX"]
    assert np.char.decode(sad["snp"][:].astype("S"), "utf-8").tolist()[2] == "rs3"
    assert sad["chr"][:].tolist() == [b"chr1", b"chr1", b"chr2", b"chrX"]
    assert (sad["chr"][:] == b"chr1").tolist() == [True, True, False, False]


def test_scores_are_indexed_by_rows_and_columns(sad: h5py.File) -> None:
    index = {snp.decode(): row for row, snp in enumerate(sad["snp"])}
    assert np.array_equal(sad["SAD"][index["rs3"], :], SCORES["SAD"][2])
    assert np.array_equal(sad["logSAD"][[0, 2], :], SCORES["logSAD"][[0, 2]])
    assert np.array_equal(sad["SAD"][:, 3], SCORES["SAD"][:, 3], equal_nan=True)
    assert np.array_equal(sad["D2"][:][..., np.array([1, 4])], SCORES["D2"][:, [1, 4]], equal_nan=True)
    assert sad["SAD"][1, 2].astype("float32") == SCORES["SAD"][1, 2]
    cleaned = np.nan_to_num(sad["SAD"][:]).astype("float32")
    assert not cleaned[3].any() and np.array_equal(cleaned[:3], SCORES["SAD"][:3])


def test_files_of_several_jobs_are_joined(tmp_path: Path) -> None:
    """As basenji_sad_multi and hound_snp_folds do: create by shape and dtype, copy rows."""
    jobs = [write(tmp_path / "job0.h5", slice(0, 2)), write(tmp_path / "job1.h5", slice(2, 4))]
    with h5py.File(tmp_path / "all.h5", "w") as joined:
        with h5py.File(jobs[0]) as first:
            for key in first:
                if key in ("target_ids", "target_labels"):
                    joined.create_dataset(key, data=first[key])
                else:
                    joined.create_dataset(key, shape=(4, *first[key].shape[1:]), dtype=first[key].dtype)
        for number, job in enumerate(jobs):
            with h5py.File(job) as part:
                for key in part:
                    if key not in ("target_ids", "target_labels"):
                        joined[key][2 * number : 2 * number + 2] = part[key]
    with h5py.File(tmp_path / "all.h5") as joined, h5py.File(write(tmp_path / "whole.h5")) as whole:
        assert set(joined) == set(whole)
        for key in whole:
            if whole[key].dtype.kind == "f":
                assert np.array_equal(joined[key][:], whole[key][:], equal_nan=True)
            else:
                assert joined[key][:].tolist() == whole[key][:].tolist()


def test_more_datasets_can_be_added(tmp_path: Path) -> None:
    """As scripts do that fit distributions of the scores."""
    path = write(tmp_path / "sad.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("target_cauchy_fit_loc", data=np.zeros(5))
    with h5py.File(path) as file:
        assert file["target_cauchy_fit_loc"].shape == (5,)


def test_data_frames(sad: h5py.File) -> None:
    pandas = pytest.importorskip("pandas")
    columns = {name: sad[name] for name in ("chr", "pos", "snp", "ref_allele", "alt_allele")}
    frame = pandas.DataFrame({key: np.array(values) for key, values in columns.items()})
    frame["score"] = sad["SAD"][:, 0]
    assert frame["snp"].str.decode("utf-8").tolist()[0] == "rs1"
    assert frame["pos"].tolist() == [variant.pos for variant in VARIANTS]
    scores = pandas.DataFrame(sad["D2"][:], index=sad["snp"].asstr()[:], columns=sad["target_ids"].asstr()[:])
    assert scores.loc["rs3", "ENCFF4"] == SCORES["D2"][2, 4]


def test_half_precision_as_peers_have_it(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "sad.h5", dtype="float16")) as file:
        assert file["SAD"].dtype == np.float16
        assert np.array_equal(file["SAD"][:], SCORES["SAD"].astype(np.float16), equal_nan=True)
