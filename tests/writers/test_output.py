"""Outputs appear complete or not at all, also when the disk is full."""

from __future__ import annotations

import gzip
import io
import os
import random
import threading
import zlib
from pathlib import Path

import h5py
import numpy as np
import pysam
import pytest

from gexpr.errors import ConfigError, GexprError
from gexpr.writers.hdf5 import Hdf5Output
from gexpr.writers.output import AtomicOutput, BgzfFile, GuardedFile, output_format, write_all
from gexpr.writers.scores import STREAMS, SUFFIXES


@pytest.mark.parametrize(
    ("path", "requested", "expected"),
    [
        ("a.h5", None, "hdf5"),
        ("A.HDF5", None, "hdf5"),
        ("x/y.tsv", None, "tsv"),
        ("y.tsv.gz", None, "tsv"),
        ("-", None, "tsv"),
        ("/dev/null", "tsv", "tsv"),
        ("scores.vcf", "hdf5", "hdf5"),
        ("scores.vcf", None, "vcf"),
        ("scores.VCF.gz", None, "vcf"),
        ("scores.vcf.bgz", None, "vcf"),
        ("a.parquet", None, "parquet"),
    ],
)
def test_formats(path: str, requested: str | None, expected: str) -> None:
    assert output_format(path, requested, SUFFIXES) == expected


@pytest.mark.parametrize("path", ["scores", "scores.csv", "scores.gz", "tsv"])
def test_an_unknown_suffix_lists_the_known_ones(path: str) -> None:
    with pytest.raises(ConfigError, match=r"\.h5, .*\.tsv\.gz.*--format hdf5\|parquet\|tsv\|vcf"):
        output_format(path, None, SUFFIXES)


def test_hdf5_does_not_go_to_standard_output() -> None:
    with pytest.raises(ConfigError, match="standard output"):
        output_format("-", "hdf5", SUFFIXES)
    with pytest.raises(ConfigError, match=r"'parquet' cannot .*; only tsv and vcf can"):
        output_format("-", "parquet", SUFFIXES, STREAMS)
    with pytest.raises(ConfigError, match=r"'vcf' cannot .*; only tsv can"):
        output_format("-", "vcf", SUFFIXES)
    assert output_format("-", "vcf", SUFFIXES, STREAMS) == "vcf"
    with pytest.raises(ConfigError, match="unknown output format 'xml'"):
        output_format("a.xml", "xml", SUFFIXES)


def test_nothing_has_the_name_before_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("old")
    with AtomicOutput(str(path), force=True) as output:
        write_all(output.file, b"new")
        assert path.read_text() == "old"
        output.commit()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.tsv"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("old")
    with pytest.raises(RuntimeError), AtomicOutput(str(path), force=True) as output:
        write_all(output.file, b"half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.tsv"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.tsv").write_text("old")
    (tmp_path / "link.tsv").symlink_to("real.tsv")
    with AtomicOutput(str(tmp_path / "link.tsv"), force=True) as output:
        write_all(output.file, b"new")
        output.commit()
    assert (tmp_path / "link.tsv").is_symlink() and (tmp_path / "real.tsv").read_text() == "new"


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no" / "a.tsv", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(GexprError, match=reason):
            AtomicOutput(str(path))


def test_a_device_is_written_directly_and_survives() -> None:
    with AtomicOutput("/dev/null") as output:
        assert output.is_stream
        write_all(output.file, b"x")
        output.commit()
    assert not Path("/dev/null").is_file()


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with AtomicOutput("/dev/full") as output, pytest.raises(GexprError, match="No space left"):
        output.file.write(b"x" * 10)
        output.commit()


@pytest.mark.parametrize("size", [0, 1, 65280, 65281, 300_000])
def test_bgzf_is_read_by_gzip_and_by_htslib(size: int, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()  # incompressible
    path = tmp_path / "a.gz"
    with open(path, "wb") as file:
        bgzf = BgzfFile(file)
        bgzf.write(data[: size // 3])
        bgzf.write(data[size // 3 :])
        bgzf.finish()
    assert gzip.decompress(path.read_bytes()) == data
    with pysam.BGZFile(str(path)) as file:
        assert file.read(size + 1) == data
    assert path.read_bytes().endswith(BgzfFile._END)


class Limited(io.BytesIO):
    """A disk with room for ``limit`` bytes."""

    limit = 1 << 40

    def write(self, data) -> int:
        if self.tell() + len(data) > self.limit:
            raise OSError(28, "No space left on device")
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        if size is not None and size > self.limit:
            raise OSError(28, "No space left on device")
        return super().truncate(size)


def _write_hdf5(file: h5py.File) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        dataset = file.create_dataset(
            name, (0, 50), "f4", maxshape=(None, 50), chunks=(64, 50), compression="gzip"
        )
        for _ in range(4):
            start = dataset.shape[0]
            dataset.resize(start + 200, axis=0)
            dataset[start:] = rng.random((200, 50))
    file.create_dataset("s", data=["text"] * 500, dtype=h5py.string_dtype())


def test_hdf5_survives_a_disk_that_fills_up_at_any_point() -> None:
    whole = Limited()
    with h5py.File(GuardedFile(whole), "w") as file:
        _write_hdf5(file)
    size = len(whole.getvalue())
    with h5py.File(io.BytesIO(whole.getvalue())) as file:
        assert file["a"].shape == (800, 50)
    for limit in [0, 1, 100, 2000, *range(5000, size, size // 25), size - 1]:
        disk = Limited()
        disk.limit = limit
        guard = GuardedFile(disk)
        with h5py.File(guard, "w") as file:
            _write_hdf5(file)
        assert guard.error is not None and guard.error.errno == 28


def test_a_full_disk_stops_an_hdf5_output(tmp_path: Path) -> None:
    with AtomicOutput(str(tmp_path / "a.h5")) as output:
        real = output.file
        disk = Limited()
        disk.limit = 20_000
        output.file = disk
        hdf5 = Hdf5Output(output)
        hdf5.growing("x", (100,), "float32")
        with pytest.raises(GexprError, match=r"cannot write .*a\.h5: No space left"):
            for _ in range(50):
                hdf5.append("x", np.random.default_rng(0).random((50, 100)))
            hdf5.commit()
        hdf5.file.close()
        output.file = real
    assert os.listdir(tmp_path) == []


def test_positions_in_bgzf_lead_to_their_bytes() -> None:
    """As an index does: to the block that begins at the upper bits, and so far into it."""
    draw = random.Random(1)
    pieces = [draw.randbytes(draw.randrange(40_000)) + b"a" * draw.randrange(90_000) for _ in range(40)]
    image = io.BytesIO()
    file = BgzfFile(image)
    positions = []
    for piece in pieces:
        positions.append(file.tell())
        file.write(piece)
    file.finish()
    text = gzip.decompress(image.getvalue())
    assert text == b"".join(pieces)
    for position in positions:
        offset = file.virtual_offset(position)
        block = zlib.decompressobj(31).decompress(image.getvalue()[offset >> 16 :])
        assert block[offset & 0xFFFF :][:50] == text[position:][: len(block) - (offset & 0xFFFF)][:50]


def test_bgzf_that_is_given_up_leaves_no_threads() -> None:
    before = threading.active_count()
    file = BgzfFile(io.BytesIO())
    file.write(random.Random(2).randbytes(1 << 20))
    file.discard()
    file.discard()
    assert threading.active_count() == before
