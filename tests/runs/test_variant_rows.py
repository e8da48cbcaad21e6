"""Alleles by row: any block of a VCF is what one reading of the whole file gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import write_fasta, write_vcf

from gexpr.errors import InputError
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.results import Variant
from gexpr.runs.directory import Block
from gexpr.runs.score_variants import VariantRows
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.vcf import open_vcf

ALTS = ["C", "G,T,C", "<DEL>", "C,G", "AC", "*,C", "C,G,T,<DEL>,*,AC,ACC,AG,AT"]
ROWS = sum(len(alts.split(",")) for alts in ALTS)


class Sample:
    """A VCF of seven records with one to nine alleles, its reader, and all of its variants."""

    def __init__(self, folder: Path) -> None:
        self.genome = Fasta(write_fasta(folder / "g.fa", {"chr1": "A" * 500}), folder / "cache")
        self.reader = AlleleReader(self.genome, ContigMap(self.genome.names))
        records = [("chr1", 10 * i + 10, f"r{i}", "A", alts) for i, alts in enumerate(ALTS)]
        self.path = write_vcf(folder / "v.vcf", records)
        self.whole: list[Variant] = []
        for record in open_vcf(self.path).records():
            self.whole += self.reader.split(record, len(self.whole))

    def open(self) -> VariantRows:
        return VariantRows(open_vcf(self.path), self.reader)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("rows"))


def test_the_sample_has_long_records(sample: Sample) -> None:
    assert [variant.row for variant in sample.whole] == list(range(ROWS)) and ROWS == 19
    assert sample.whole[-1].alt == "AT" and sample.whole[-1].pos == 70


@pytest.mark.parametrize("size", range(1, ROWS + 1))
def test_every_block_size_gives_the_same_rows(size: int, sample: Sample) -> None:
    rows = sample.open()
    found = [rows.read(Block(low, min(low + size, ROWS))) for low in range(0, ROWS, size)]
    assert all(len(block) == size for block in found[:-1])
    assert [variant for block in found for variant in block] == sample.whole


def test_the_last_blocks_may_share_one_record(sample: Sample) -> None:
    rows = sample.open()
    assert [rows.read(Block(row, row + 1)) for row in range(ROWS)] == [[each] for each in sample.whole]
    assert rows.read(Block(12, 15)) == sample.whole[12:15]


@settings(max_examples=60, deadline=None)
@given(blocks=st.lists(st.tuples(st.integers(0, ROWS), st.integers(0, ROWS)), min_size=1, max_size=6))
def test_blocks_in_any_order(sample: Sample, blocks: list[tuple[int, int]]) -> None:
    rows = sample.open()
    for one, other in blocks:
        low, high = min(one, other), max(one, other)
        assert rows.read(Block(low, high)) == sample.whole[low:high]


def test_reading_forward_reads_the_file_once(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_vcf(sample.path)
    readings: list[int] = []
    records = source.records

    def counted():
        readings.append(1)
        return records()

    monkeypatch.setattr(source, "records", counted)
    rows = VariantRows(source, sample.reader)
    for low in range(0, ROWS, 4):
        rows.read(Block(low, min(low + 4, ROWS)))
    assert len(readings) == 1
    rows.read(Block(0, 1))
    assert len(readings) == 2


@pytest.mark.parametrize("block", [Block(0, ROWS + 1), Block(ROWS, ROWS + 1), Block(ROWS + 5, ROWS + 6)])
def test_rows_that_the_file_does_not_have(block: Block, sample: Sample) -> None:
    with pytest.raises(InputError, match=rf"v\.vcf: the file has {ROWS} alleles, fewer than when .* changed"):
        sample.open().read(block)


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    sample = Sample(tmp_path)
    rows = sample.open()
    assert rows.read(Block(0, 3)) == sample.whole[:3]
    lines = sample.path.read_text().splitlines(keepends=True)
    before = os.stat(sample.path)
    sample.path.write_text("".join(lines[:4]))
    # A new reading notices the other size.
    with pytest.raises(InputError, match="was changed while it was in use"):
        rows.read(Block(0, 3))
    # A file of the same size and time has other alleles all the same.
    shorter = "".join(lines).replace("C,G,T,<DEL>,*,AC,ACC,AG,AT", "C" + " " * 24 + "A")
    sample.path.write_text(shorter)
    os.utime(sample.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(sample.path).st_size == before.st_size
    with pytest.raises(InputError, match="the file has 11 alleles, fewer than when the run was planned"):
        rows.read(Block(0, ROWS))
    assert rows.read(Block(0, 3)) == sample.whole[:3]


def test_a_reading_that_failed_leaves_nothing_behind(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_vcf(sample.path)
    records = source.records

    def failing():
        for number, record in enumerate(records()):
            if number == 4:
                raise InputError("unreadable")
            yield record

    rows = VariantRows(source, sample.reader)
    assert rows.read(Block(0, 2)) == sample.whole[:2]
    with monkeypatch.context() as patch:
        patch.setattr(source, "records", failing)
        with pytest.raises(InputError, match="unreadable"):
            rows.read(Block(0, ROWS))
    for block in (Block(8, 12), Block(0, ROWS), Block(18, 19)):
        assert rows.read(block) == sample.whole[block.start : block.end]


def test_a_file_without_records(tmp_path: Path, sample: Sample) -> None:
    rows = VariantRows(open_vcf(write_vcf(tmp_path / "empty.vcf", [])), sample.reader)
    assert rows.read(Block(0, 0)) == []
    with pytest.raises(InputError, match="the file has 0 alleles"):
        rows.read(Block(0, 1))
