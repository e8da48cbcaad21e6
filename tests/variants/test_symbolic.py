"""Structural alleles: what they mean, and that they are the plain alleles of the same sequence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pysam
import pytest

from gexpr.errors import InputError
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.results import Variant
from gexpr.variants.alleles import AlleleReader, read_symbolic
from gexpr.variants.bcf import BcfReader
from gexpr.variants.vcf import VcfRecord, open_vcf


def split(reader: AlleleReader, pos: int, ref: str, info: str, *alts: str) -> list[Variant]:
    return reader.split(VcfRecord(9, "chr1", pos, "id", ref, alts, info), 0)


@pytest.fixture
def symbolic(fasta: Fasta) -> AlleleReader:
    return AlleleReader(fasta, ContigMap(fasta.names), 40, symbolic=True)


def change(variant: Variant) -> tuple[int, str, str]:
    assert variant.ok, variant.status
    return variant.start, variant.norm_ref, variant.norm_alt


# chr1: GATTACAGGGGCATCATCATNNRACGTacgtTTTTTAACGTTGCA...
@pytest.mark.parametrize(
    ("pos", "ref", "alt", "info", "plain"),
    [
        (5, "A", "<DEL>", "SVTYPE=DEL;END=8", ("ACAG", "A")),
        (5, "A", "<DEL>", "SVLEN=-3;END=8", ("ACAG", "A")),
        (5, "N", "<DEL>", "SVLEN=3", ("ACAG", "A")),
        (5, "a", "<DEL:ME:ALU>", "SVLEN=3", ("ACAG", "A")),
        (11, "G", "<DEL>", "END=14", ("GCAT", "G")),
        (5, "A", "<DUP>", "END=8", ("A", "ACAG")),
        (5, "A", "<DUP:TANDEM>", "SVLEN=3", ("A", "ACAG")),
        (11, "G", "<DUP>", "END=14", ("G", "GCAT")),
        (1, "G", "<INV>", "END=7", ("GATTACA", "GTGTAAT")),
        (5, "A", "<INS>", "SVINSSEQ=CCGT", ("A", "ACCGT")),
        (5, "A", "<INS:ME>", "IMPRECISE;INSSEQ=ccgt;END=5", ("A", "ACCGT")),
        (7, "A", "<INS>", "SEQ=G", ("A", "AG")),
    ],
)
def test_a_symbolic_allele_is_the_plain_one_of_its_sequence(pos, ref, alt, info, plain, symbolic):
    (found,) = split(symbolic, pos, ref, info, alt)
    (expected,) = symbolic.split(VcfRecord(9, "chr1", pos, "id", plain[0], (plain[1],)), 0)
    assert change(found) == change(expected)
    assert (found.ref, found.alt) == (ref, alt)


def test_a_deletion_of_the_first_bases_stands_at_pos_zero(symbolic):
    assert change(split(symbolic, 0, "N", "END=3", "<DEL>")[0]) == (0, "GAT", "")


def test_each_allele_has_its_own_length_and_sequence(symbolic):
    info = "SVLEN=-2,3,2;SVINSSEQ=.,.,CC;END=8"
    deletion, duplication, insertion = split(symbolic, 5, "A", info, "<DEL>", "<DUP>", "<INS>")
    assert change(deletion) == (4, "AC", "")
    assert change(duplication) == (5, "", "CAG")
    assert change(insertion)[1:] == ("", "CC")
    plain, other = split(symbolic, 5, "A", "SVLEN=0,-2", "C", "<DEL>")
    assert change(plain) == (4, "A", "C") and change(other) == (4, "AC", "")


@pytest.mark.parametrize(
    ("pos", "ref", "alt", "info", "status"),
    [
        (5, "A", "<NON_REF>", "END=8", "symbolic_alt"),
        (5, "A", "<*>", "END=8", "symbolic_alt"),
        (5, "A", "<CN0>", "END=8", "symbolic_alt"),
        (5, "A", "<DEL>", ".", "symbolic_alt"),
        (5, "A", "<DEL>", "END=5", "symbolic_alt"),
        (5, "A", "<DEL>", "END=x;SVLEN=y", "symbolic_alt"),
        (5, "A", "<INS>", "SVLEN=20", "symbolic_alt"),
        (5, "A", "<INS>", "SVINSSEQ=CNT", "non_acgt_alt"),
        (5, "C", "<DEL>", "END=8", "ref_mismatch"),
        (5, "A", "<DEL>", "SVLEN=9999999", "past_contig_end"),
        (5, "A", "<DEL>", "SVLEN=41", "too_long"),
        (5, "A", "<INS>", f"SEQ={'A' * 41}", "too_long"),
        (18, "C", "<DEL>", "END=22", "non_acgt_ref"),
        (28, "C", "<INV>", "END=30", "ref_mismatch"),
        (24, "A", "<INV>", "END=24", "symbolic_alt"),
        (23, "R", "<INV>", "END=27", "ref_equals_alt"),
    ],
)
def test_what_cannot_be_read_says_why(pos, ref, alt, info, status, symbolic):
    (found,) = split(symbolic, pos, ref, info, alt)
    assert found.status == status
    assert (found.contig, found.start) == ("", -1)


def test_without_being_asked_for_they_are_left(reader):
    assert split(reader, 5, "A", "END=8", "<DEL>")[0].status == "symbolic_alt"


def test_an_unknown_contig(symbolic):
    record = VcfRecord(9, "chr9", 5, "id", "A", ("<DEL>",), "END=8")
    assert symbolic.split(record, 0)[0].status == "contig_not_in_fasta"


def test_end_counts_from_one_and_svlen_without_sign():
    assert read_symbolic(100, "<DEL>", "END=110", 0)[1:3] == (100, 110)
    assert read_symbolic(100, "<DEL>", "SVLEN=10", 0)[1:3] == (100, 110)
    assert read_symbolic(100, "<del>", "SVLEN=-10;END=999", 0)[1:3] == (100, 110)


_HEADER = (
    "##fileformat=VCFv4.2",
    "##contig=<ID=chr1,length=517>",
    '##FILTER=<ID=PASS,Description="ok">',
    '##FILTER=<ID=low,Description="low">',
    '##INFO=<ID=AF,Number=A,Type=Float,Description="f">',
    '##INFO=<ID=END,Number=1,Type=Integer,Description="e">',
    '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="l">',
    '##INFO=<ID=SVINSSEQ,Number=A,Type=String,Description="s">',
    '##INFO=<ID=IMPRECISE,Number=0,Type=Flag,Description="i">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">',
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1",
)
_RECORDS = (
    "chr1\t5\ta\tA\t<DEL>\t.\tPASS\tEND=8;AF=0.25\tGT\t0/1",
    "chr1\t5\tb\tA\t<DEL>,<DUP>\t9\tlow\tIMPRECISE;SVLEN=-300,2\tGT\t1/2",
    "chr1\t7\tc\tA\t<INS>\t.\t.\tSVINSSEQ=GGTTGGTTGGTTGGTTGGTT\tGT\t0/1",
    "chr1\t9\td\tG\tT\t.\tPASS\tAF=0.5\tGT\t0/1",
)


def write(folder: Path) -> Path:
    path = folder / "sv.vcf"
    path.write_text("\n".join((*_HEADER, *_RECORDS)) + "\n")
    return path


def test_info_is_read_where_it_is_needed(tmp_path):
    records = list(open_vcf(write(tmp_path)).records())
    assert [record.info for record in records] == [
        "END=8;AF=0.25",
        "IMPRECISE;SVLEN=-300,2",
        "SVINSSEQ=GGTTGGTTGGTTGGTTGGTT",
        "",
    ]


def test_a_line_that_ends_with_info(tmp_path):
    path = tmp_path / "eight.vcf"
    header = "##fileformat=VCFv4.2\r\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\r\n"
    path.write_bytes((header + "chr1\t5\t.\tA\t<DEL>\t.\t.\tEND=8\r\n").encode())
    assert [record.info for record in open_vcf(path).records()] == ["END=8"]


def test_bcf_gives_the_same_alleles(tmp_path, symbolic):
    path = write(tmp_path)
    with (
        pysam.VariantFile(str(path)) as source,
        pysam.VariantFile(str(tmp_path / "sv.bcf"), "wb", header=source.header) as output,
    ):
        for record in source:
            output.write(record)
    texts = [symbolic.split(record, 0) for record in open_vcf(path).records()]
    binary = [symbolic.split(record, 0) for record in open_vcf(tmp_path / "sv.bcf").records()]
    assert [[v._replace(line=0) for v in each] for each in texts] == [
        [v._replace(line=0) for v in each] for each in binary
    ]
    assert [v.status for each in texts for v in each] == ["ok", "too_long", "ok", "ok", "ok"]


def test_a_damaged_info_of_a_bcf_is_told(tmp_path):
    path = write(tmp_path)
    with (
        pysam.VariantFile(str(path)) as source,
        pysam.VariantFile(str(tmp_path / "sv.bcf"), "wb", header=source.header) as output,
    ):
        output.write(next(source))
    raw = b""
    data = (tmp_path / "sv.bcf").read_bytes()
    while data:
        (size,) = struct.unpack_from("<H", data, 16)
        raw += zlib.decompress(data[18 : size + 1 - 8], -15)
        data = data[size + 1 :]
    assert next(BcfReader(iter([raw]), "x").records())[5].startswith("END=8")
    begin = raw.index(b"<DEL>") + 5
    faults = 0
    for at in range(begin, len(raw) - 4):
        for value in (0x00, 0x7F, 0xF7, 0xFF):
            damaged = raw[:at] + bytes([value]) + raw[at + 1 :]
            try:
                list(BcfReader(iter([damaged]), "x").records())
            except InputError:
                faults += 1
    assert faults > 10
