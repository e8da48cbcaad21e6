"""Files of scores read back, and files that are not: foreign, damaged, hostile."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr.errors import InputError
from gexpr.results import Track, Variant
from gexpr.writers.output import AtomicOutput
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.scores import ScoreSchema, open_writer

TRACKS = (
    Track(0, "wt", "Wild type", "RNA", "yeast", strand_pair=0),
    Track(1, "d", "Diamide, µ", strand_pair=1),
    Track(2, "h", "Heat", "RNA", strand_pair=2),
)
VARIANTS = [
    Variant(0, 0, "chr1", 7, "rs1", "A", "C", "ok"),
    Variant(1, 0, "chr1", 4_000_000_000, ".", "AT", "A", "ok"),
    Variant(2, 0, "chr1", 9, ".", "G", "<DEL>", "symbolic_alt"),
    Variant(3, 0, "M", 0xFFFFFFFF, "é", "g", "T", "pos_zero"),
] + [Variant(row, 0, "chr2", row, f"v{row}", "A", "G", "ok") for row in range(4, 9000)]
VALUES = np.random.default_rng(0).normal(size=(9000, 3)).astype(np.float32)
VALUES[2:4] = np.nan
ABOUT = {"statistics": "logFC,SAD", "pseudocount": 0.5, "batch_size": 4, "unsquash": True, "vcf": "µ.vcf"}


def write(path: Path, dtype: str = "float32") -> Path:
    schema = ScoreSchema(TRACKS, ("logFC", "SAD"), ABOUT, dtype, {"logFC": "a formula"})
    with AtomicOutput(str(path), force=True) as output:
        writer = open_writer(output, "hdf5", schema)
        writer.write(VARIANTS, {"logFC": VALUES, "SAD": VALUES * 2})
        writer.commit()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("scores") / "a.h5")


def test_everything_comes_back(path: Path) -> None:
    with ScoreFile(path) as file:
        assert file.rows == 9000 and file.dtype == "float32" and file.statistics == ("logFC", "SAD")
        assert tuple(file.tracks) == TRACKS
        assert file.attributes == ABOUT
        assert [type(file.attributes[name]) for name in ABOUT] == [type(value) for value in ABOUT.values()]
        assert file.definition("logFC") == "a formula" and file.definition("SAD") is None
        assert file.variants(0, 9000) == VARIANTS
        assert file.variants(4100, 4102) == VARIANTS[4100:4102]
        assert np.array_equal(file.scores("SAD", 0, 9000), VALUES * 2, equal_nan=True)
        assert np.array_equal(file.scores("logFC", 5, 4200, [2, 0]), VALUES[5:4200][:, [2, 0]])
        assert file.positions(0, 2).tolist() == [7, 4_000_000_000]
        assert file.texts("id", 1, 2) == ["chr1_4000000000_AT_A"]


def test_blocks_are_whole_chunks_that_cover_the_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gexpr.writers.score_file._BLOCK_ROWS", 5000)
    with ScoreFile(path) as file:
        assert list(file.blocks()) == [(0, 4096), (4096, 8192), (8192, 9000)]
    monkeypatch.undo()
    with ScoreFile(path) as file:
        assert list(file.blocks()) == [(0, 9000)]


def test_float16_is_read_as_it_is(tmp_path: Path) -> None:
    with ScoreFile(write(tmp_path / "a.h5", "float16")) as file:
        assert file.dtype == "float16" and file.scores("SAD", 0, 2).dtype == np.float16


def test_a_table_without_fields_of_tracks_has_none_of_their_datasets(tmp_path: Path) -> None:
    with AtomicOutput(str(tmp_path / "a.h5")) as output:
        writer = open_writer(
            output, "hdf5", ScoreSchema((Track(0, "a", "b"),), ("SAD",), {"statistics": "SAD"})
        )
        writer.commit()
    with h5py.File(tmp_path / "a.h5") as file:
        assert "target_assays" not in file and "target_cell_types" not in file
    with ScoreFile(tmp_path / "a.h5") as empty:
        assert empty.rows == 0 and list(empty.blocks()) == []


def relink(file: h5py.File, name: str, link: object) -> None:
    del file[name]
    file[name] = link


def replace(file: h5py.File, name: str, data: object, **settings) -> None:
    del file[name]
    file.create_dataset(name, data=data, **settings)


CHANGES = {
    "other format": (lambda f: f.attrs.__setitem__("format", "gexpr predictions"), "it holds 'gexpr predict"),
    "no format": (lambda f: f.attrs.__delitem__("format"), "it does not say what it is"),
    "newer": (lambda f: f.attrs.__setitem__("format_version", 2), "format version 2; this gexpr reads 1"),
    "true": (lambda f: f.attrs.__setitem__("format_version", True), "format version True"),
    "no table": (lambda f: f.__delitem__("SAD"), "lacks the dataset 'SAD'"),
    "no alleles": (lambda f: f.__delitem__("ref_allele"), "lacks the dataset 'ref_allele'"),
    "short": (lambda f: f["pos"].resize(8999, axis=0), r"has the shape \(9000,\), not 8999"),
    "narrow": (lambda f: replace(f, "SAD", VALUES[:, :2]), r"shape \(9000, 2\), not 9000 x 3"),
    "text as numbers": (lambda f: replace(f, "chr", np.zeros(9000)), "'chr' has the type float64"),
    "numbers as text": (lambda f: replace(f, "SAD", np.full((9000, 3), b"x")), "'SAD' has the type"),
    "doubles": (lambda f: replace(f, "SAD", VALUES.astype("f8")), "the scores are float32 and float64"),
    "group": (lambda f: (f.__delitem__("SAD"), f.create_group("SAD")), "lacks the dataset 'SAD'"),
    "soft link": (lambda f: relink(f, "SAD", h5py.SoftLink("/logFC")), "lacks the dataset 'SAD'"),
    "other file": (lambda f: relink(f, "SAD", h5py.ExternalLink("x.h5", "/SAD")), "lacks the dataset 'SAD'"),
    "statistics": (lambda f: f.attrs.__setitem__("statistics", ""), "the attribute statistics is ''"),
    "same ids": (lambda f: f["target_ids"].__setitem__(1, "wt"), "two tracks have the same id"),
    "chunks": (
        lambda f: (
            f.__delitem__("SAD"),
            f.create_dataset("SAD", (9000, 3), "f4", maxshape=(None, 3), chunks=(1 << 24, 3)),
        ),
        "too large to read",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_gexpr_did_not_write_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "changed.h5"
    copy.write_bytes(path.read_bytes())
    change, message = CHANGES[name]
    with h5py.File(copy, "r+") as file:
        change(file)
    with pytest.raises(InputError, match=message) as caught:
        ScoreFile(copy)
    assert str(caught.value).startswith(f"{copy}: ") and caught.value.exit_code == 1


def test_data_in_other_files_is_not_read(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "changed.h5"
    (tmp_path / "secret").write_bytes(bytes(9000 * 12))
    for kind in ("external", "virtual"):
        copy.write_bytes(path.read_bytes())
        with h5py.File(copy, "r+") as file:
            del file["SAD"]
            if kind == "external":
                file.create_dataset(
                    "SAD", (9000, 3), "f4", external=[(str(tmp_path / "secret"), 0, 9000 * 12)]
                )
            else:
                layout = h5py.VirtualLayout((9000, 3), "f4")
                layout[:] = h5py.VirtualSource(str(path), "SAD", (9000, 3))
                file.create_virtual_dataset("SAD", layout)
        with pytest.raises(InputError, match="'SAD' lies in other files"):
            ScoreFile(copy)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_told(path: Path, tmp_path: Path, share: float) -> None:
    data = path.read_bytes()
    copy = tmp_path / "short.h5"
    copy.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"short\.h5: damaged or incomplete HDF5"):
        ScoreFile(copy)


def test_damage_within_the_numbers_is_told(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged.h5"
    data = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        chunk = file["logFC"].id.get_chunk_info(0)
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    copy.write_bytes(data)
    with ScoreFile(copy) as opened, pytest.raises(InputError, match=r"damaged\.h5: damaged or incomplete"):
        opened.scores("logFC", 0, 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"chrom\tpos\n", "no HDF5 file; scores in HDF5"),
        ("dir", "a folder"),
    ],
    ids=["missing", "empty", "text", "folder"],
)
def test_what_is_no_hdf5(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "x.h5"
    if content == "dir":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        ScoreFile(path)
