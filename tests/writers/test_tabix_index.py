"""Indexes made while writing find what htslib's own indexes find."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pytest

from gexpr.writers.output import AtomicOutput
from gexpr.writers.tabix import TabixIndex
from gexpr.writers.text import TextFile

Record = tuple[str, int, int]


def write(path: Path, records: list[Record]) -> TabixIndex:
    """Records (contig, 0-based start, length of REF) as a VCF with its index beside it."""
    index = TabixIndex()
    with AtomicOutput(str(path)) as output:
        file = TextFile(output)
        assert file.bgzf is not None
        file.write(b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for number, (chrom, start, length) in enumerate(records):
            before = file.bgzf.tell()
            info = f"END={start + length};N={number}" if length > 50 else f"N={number}"
            ref = "A" * (1 if length > 50 else length)
            file.write(f"{chrom}\t{start + 1}\tr{number}\t{ref}\t<X>\t.\t.\t{info}{'x' * 300}\n".encode())
            index.add(chrom.encode(), start, start + length, before, file.bgzf.tell())
        file.commit()
    if index.fault is None:
        Path(f"{path}{index.suffix}").write_bytes(index.to_bytes(file.bgzf.virtual_offset))
    return index


def drawn(contigs: dict[str, int], number: int, seed: int) -> list[Record]:
    draw = random.Random(seed)
    lengths = [1, 1, 1, 2, 30, 1000, 40_000, 3_000_000]
    records = []
    for chrom, length in contigs.items():
        starts = sorted(int(length * draw.random() ** 2) for _ in range(number))
        records += [(chrom, start, draw.choice(lengths)) for start in starts]
    return records


def opened(path: Path) -> pysam.TabixFile:
    suffix = ".csi" if Path(f"{path}.csi").exists() else ".tbi"
    return pysam.TabixFile(str(path), index=f"{path}{suffix}")


def fetched(path: Path, region: tuple[str, int, int]) -> list[str]:
    with opened(path) as file:
        return [line.split("\t")[2] for line in file.fetch(*region)]


@pytest.mark.parametrize(
    ("contigs", "suffix"),
    [
        ({"chr1": 5_000_000, "chr2": 200_000, "M": 1000}, ".tbi"),
        ({"wheat": 900_000_000, "small": 1000}, ".csi"),
        ({"edge": 2**29 - 3_000_000}, ".tbi"),
    ],
    ids=["tbi", "csi", "edge"],
)
def test_every_region_has_its_records(contigs: dict[str, int], suffix: str, tmp_path: Path) -> None:
    records = drawn(contigs, 700, seed=len(contigs))
    path = tmp_path / "a.vcf.gz"
    index = write(path, records)
    assert index.suffix == suffix
    draw = random.Random(9)
    regions = []
    for chrom, length in contigs.items():
        for _ in range(40):
            start = int(length * draw.random() ** 2)
            regions.append((chrom, start, start + draw.choice([1, 100, 20_000, 2_000_000])))
    for chrom, low, high in regions:
        expected = [
            f"r{number}"
            for number, (name, start, length) in enumerate(records)
            if name == chrom and start < high and start + length > low
        ]
        assert fetched(path, (chrom, low, high)) == expected, (chrom, low, high)
    with opened(path) as file:
        assert file.contigs == list(contigs)
        for chrom in contigs:
            assert len(list(file.fetch(chrom))) == 700


def test_an_empty_file_has_an_index(tmp_path: Path) -> None:
    write(tmp_path / "a.vcf.gz", [])
    with pysam.TabixFile(str(tmp_path / "a.vcf.gz")) as file:
        assert file.contigs == []


def test_pos_0_is_indexed(tmp_path: Path) -> None:
    write(tmp_path / "a.vcf.gz", [("chr1", -1, 1), ("chr1", 0, 1)])
    with pysam.TabixFile(str(tmp_path / "a.vcf.gz")) as file:
        assert len(list(file.fetch("chr1"))) == 2


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([("a", 5, 1), ("a", 4, 1)], "not sorted: a:5 comes after 6"),
        ([("a", 5, 1), ("b", 4, 1), ("a", 6, 1)], "not sorted: a comes twice"),
        ([("a", 2**33, 1)], "further along a contig"),
        ([("a", 5, 1), ("a", 5, 1), ("b", 0, 1)], None),
    ],
    ids=["pos", "contig", "far", "sorted"],
)
def test_what_cannot_be_indexed(records: list[Record], fault: str | None, tmp_path: Path) -> None:
    index = write(tmp_path / "a.vcf.gz", records)
    assert index.fault is None if fault is None else fault in (index.fault or "")
