"""Files of gene scores: what each format holds, equal values, and equal bytes for any blocks."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from gexpr.errors import GexprError
from gexpr.results import Track, Variant
from gexpr.writers import gene_parquet
from gexpr.writers.gene_scores import (
    COLUMNS,
    SUFFIXES,
    GeneBlock,
    GeneName,
    open_gene_writer,
    pack_genes,
    unpack_genes,
)
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema

TRACKS = (
    Track(0, "p", "Plus", strand="+"),
    Track(1, "m", "Minus, µ", strand="-"),
    Track(2, "n", "None"),
)
GENES = (GeneName("G1.3", "one", "+"), GeneName("G2", "zwö", "-"), GeneName("R", "R", "."))
NAMES = ("logFC", "SAD")


def make(count: int, seed: int = 0) -> tuple[list[Variant], GeneBlock]:
    """Variants with none to three genes each; every seventh is not scored."""
    rng = np.random.default_rng(seed)
    variants = [
        Variant(
            i, i + 2, "chr1", 4_000_000_000 if i == 2 else i, "rs" if i == 1 else ".", "A", "CÜ"[i % 2], "ok"
        )
        for i in range(count)
    ]
    variants = [each._replace(status="too_long") if each.row % 7 == 6 else each for each in variants]
    pairs = [
        (row, gene)
        for row in range(count)
        for gene in range(3)
        if variants[row].ok and (row == 0 or rng.random() < 0.5)
    ]
    variant, gene = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    values = rng.normal(size=(2, len(pairs), 3)).astype(np.float32)
    values[:, gene == 0, 1] = np.nan
    values[:, gene == 1, 0] = np.nan
    coverage = rng.choice([1.0, 0.25, 1 / 3], len(pairs))
    distance = np.where(gene == 2, np.nan, rng.integers(-900, 900, len(pairs)))
    nearest = tuple("" if i % 5 == 4 else f"N{i % 3} µ" for i in range(count))
    near = np.where([not name for name in nearest], np.nan, rng.integers(-99, 99, count))
    scores = dict(zip(NAMES, values, strict=True))
    return variants, GeneBlock(variant, gene, GENES, coverage, distance, scores, nearest, near)


def write(
    path: Path, variants, block, *, dtype: str = "float32", cuts=(), statistics=NAMES, **attributes
) -> Path:
    schema = ScoreSchema(
        TRACKS, statistics, {"pseudocount": 1.0, **attributes}, dtype, {"logFC": "a formula"}
    )
    bounds = [0, *cuts, len(variants)]
    with AtomicOutput(str(path)) as output:
        suffix = next(each for each in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(each))
        writer = open_gene_writer(output, SUFFIXES[suffix], schema)
        for low, high in pairwise(bounds):
            writer.write(variants[low:high], block.rows(low, high))
        writer.annotate({"note": "late"})
        writer.commit()
    return path


def test_hdf5_has_the_names_of_borzoi_sed(tmp_path: Path) -> None:
    variants, block = make(20)
    with h5py.File(write(tmp_path / "a.h5", variants, block)) as file:
        assert set(file) == {
            *("si", "gene", "gene_id", "gene_name", "gene_strand", "coverage", "tss_distance"),
            *("snp", "chr", "pos", "ref_allele", "alt_allele", "status", "target_ids", "target_labels"),
            *("logFC", "SAD", "logSED", "SED", "nearest_gene", "nearest_tss_distance"),
        }
        assert file["nearest_gene"].asstr()[:].tolist() == list(block.nearest)
        assert np.array_equal(file["nearest_tss_distance"][:], block.nearest_distance, equal_nan=True)
        assert file["snp"].shape == (20,) and file["snp"].asstr()[:3].tolist()[1:] == [
            "rs",
            "chr1_4000000000_A_C",
        ]
        assert file["status"].asstr()[6] == "too_long" and file["pos"][2] == 4_000_000_000
        assert file["si"].dtype.kind == "i" and np.array_equal(file["si"][:], block.variant)
        # A row leads to its variant by si.
        assert file["alt_allele"].asstr()[:][file["si"][:]].tolist() == [
            variants[i].alt for i in block.variant
        ]
        expected = [GENES[place] for place in block.gene]
        for name, column in (("gene", "gene_id"), ("gene_name", "name"), ("gene_strand", "strand")):
            assert file[name].asstr()[:].tolist() == [getattr(gene, column) for gene in expected]
        assert (
            file["gene_id"] == file["gene"] and file["logSED"] == file["logFC"] and file["SED"] == file["SAD"]
        )
        assert np.array_equal(file["coverage"][:], block.coverage.astype(np.float32))
        assert np.array_equal(file["tss_distance"][:], block.tss_distance, equal_nan=True)
        for name in NAMES:
            assert np.array_equal(file[name][:], block.scores[name], equal_nan=True)
        assert np.isnan(file["logFC"].fillvalue) and file["logFC"].attrs["definition"] == "a formula"
        assert dict(file.attrs) == {
            "format": "gexpr gene scores",
            "format_version": 1,
            "pseudocount": 1.0,
            "note": "late",
        }


def test_another_pseudocount_is_not_log_sed(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "a.h5", *make(3), pseudocount=0.5, statistics=("logFC",))) as file:
        assert "logSED" not in file and "SED" not in file and "logFC" in file


def test_tsv(tmp_path: Path) -> None:
    variants, block = make(9)
    lines = write(tmp_path / "a.tsv", variants, block).read_text().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    expected = []
    for row, (at, number) in enumerate(zip(block.variant, block.gene, strict=True)):
        for name in NAMES:
            for track, value in zip(TRACKS, block.scores[name][row], strict=True):
                if not np.isnan(value):
                    expected.append((variants[at], GENES[number], row, track, name, value))
    assert len(lines) == 1 + len(expected)
    for line, (variant, gene, row, track, name, value) in zip(lines[1:], expected, strict=True):
        cells = dict(zip(COLUMNS, line.split("\t"), strict=True))
        assert [cells[each] for each in COLUMNS[:5]] == [
            *("chr1", str(variant.pos), variant.id, "A", variant.alt),
        ]
        assert [cells[each] for each in ("gene_id", "gene_name", "gene_strand")] == list(gene)
        assert (cells["tss_distance"] == "nan") == (gene.strand == ".")
        assert gene.strand == "." or int(cells["tss_distance"]) == block.tss_distance[row]
        assert np.float32(cells["coverage"]) == np.float32(block.coverage[row])
        assert (cells["track_id"], cells["track_label"], cells["statistic"]) == (track.id, track.label, name)
        assert np.float32(cells["score"]) == value
        assert {track.strand, gene.strand} != {"+", "-"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_parquet_holds_the_rows_of_the_tsv(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(gene_parquet, "GROUP_ROWS", 30)
    variants, block = make(30)
    tsv = write(tmp_path / "a.tsv.gz", variants, block, dtype=dtype)
    lines = [line.split("\t") for line in gzip.decompress(tsv.read_bytes()).decode().splitlines()]
    file = parquet.ParquetFile(write(tmp_path / "a.parquet", variants, block, dtype=dtype))
    assert file.metadata.num_row_groups == -(-len(block.variant) // 5)
    table = file.read()
    assert table.column_names == lines[0] and table.num_rows == len(lines) - 1
    columns = dict(zip(lines[0], zip(*lines[1:], strict=True), strict=True))
    for name, texts in columns.items():
        values = table[name].to_pylist()
        if name == "tss_distance":
            assert values == [None if text == "nan" else int(text) for text in texts]
        elif name in ("coverage", "score"):
            assert np.array_equal(
                np.array(values, np.float32), np.array(texts, dtype if name == "score" else "f4")
            )
        else:
            assert [str(value) for value in values] == list(texts)
    metadata = file.metadata.metadata
    assert metadata[b"format"] == b"gexpr gene scores" and metadata[b"note"] == b"late"


@pytest.mark.parametrize("name", ["a.h5", "a.tsv", "a.tsv.gz", "a.parquet"])
def test_bytes_do_not_depend_on_the_blocks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "a.parquet":
        pytest.importorskip("pyarrow")
        monkeypatch.setattr(gene_parquet, "GROUP_ROWS", 50)
    # Chunks of rows end at other variants than chunks of variants.
    monkeypatch.setattr("gexpr.writers.hdf5.CHUNK_BYTES", 700)
    monkeypatch.setattr("gexpr.writers.hdf5.STRING_CHUNK", 128)
    variants, block = make(700)
    first = write(tmp_path / name, variants, block).read_bytes()
    for number, cuts in enumerate([(0, 1, 5, 5, 300, 640), (64, 128, 699), range(0, 700, 13)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert write(folder / name, variants, block, cuts=cuts).read_bytes() == first


@pytest.mark.parametrize("name", ["a.h5", "a.tsv", "a.parquet"])
def test_without_rows_the_file_is_valid(name: str, tmp_path: Path) -> None:
    variants, block = make(6)
    for count in (0, 6):
        path = tmp_path / f"{count}{name}"
        if name == "a.parquet":
            pytest.importorskip("pyarrow")
        write(path, variants[:count], block.rows(0, 0))
        if name == "a.h5":
            with h5py.File(path) as file:
                assert file["logFC"].shape == (0, 3) and file["snp"].shape == (count,)
        elif name == "a.tsv":
            assert len(path.read_text().splitlines()) == 1
        else:
            assert pytest.importorskip("pyarrow.parquet").read_table(path).num_rows == 0


@pytest.mark.parametrize("format", ["hdf5", "parquet"])
def test_streams_and_discarded_files(format: str, tmp_path: Path) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    schema = ScoreSchema(TRACKS, NAMES, {})
    with pytest.raises(GexprError, match="needs a regular file"):
        open_gene_writer(AtomicOutput("-"), format, schema)
    variants, block = make(100)
    with AtomicOutput(str(tmp_path / "a")) as output:
        writer = open_gene_writer(output, format, schema)
        writer.write(variants, block)
        writer.discard()
        writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_block_survives_a_part() -> None:
    _, block = make(12)
    arrays, genes = pack_genes(block, "float16")
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = unpack_genes(arrays, json.loads(json.dumps(genes)), NAMES)
    assert again.genes == block.genes
    for name in ("variant", "gene", "coverage", "tss_distance"):
        assert np.array_equal(getattr(again, name), getattr(block, name), equal_nan=True)
    for name in NAMES:
        assert again.scores[name].dtype == np.float16
        assert np.array_equal(again.scores[name], block.scores[name].astype(np.float16), equal_nan=True)


def test_rows_of_some_variants() -> None:
    _, block = make(12)
    some = block.rows(4, 9)
    chosen = (block.variant >= 4) & (block.variant < 9)
    assert some.variant.tolist() == (block.variant[chosen] - 4).tolist()
    assert np.array_equal(some.scores["SAD"], block.scores["SAD"][chosen], equal_nan=True)
    assert len(block.rows(12, 12).variant) == 0
