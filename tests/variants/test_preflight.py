from collections.abc import Callable
from pathlib import Path

import pytest

from gexpr.errors import InputError
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.variants.alleles import STATUSES, AlleleReader
from gexpr.variants.preflight import scan
from gexpr.variants.vcf import open_vcf

Write = Callable[..., Path]
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


def snvs(fasta: Fasta, count: int, shift: int = 0, chrom: str = "chr1", first: int = 40) -> list[bytes]:
    """SNVs with the right REF; ``shift`` is added to POS."""
    return [
        f"{chrom}\t{i + 1 + shift}\t.\t{base}\t{OTHER[base]}\t.\t.\t.\n".encode()
        for i, base in enumerate(fasta.fetch("chr1", first, first + count), first)
    ]


def wrong(count: int, chrom: str = "chr1") -> list[bytes]:
    """Records of chr1 whose REF differs there and at both neighbors (they lie in TTTTT)."""
    return [f"{chrom}\t34\tw{i}\tG\tC\t.\t.\t.\n".encode() for i in range(count)]


def test_counts_of_a_mixed_file(write: Write, reader: AlleleReader, fasta: Fasta) -> None:
    body = [
        b"chr1\t2\t.\tA\tC,<DEL>,AT\t.\t.\t.\n",
        b"chr1\t2\t.\tC\tG\t.\t.\t.\n",
        b"MT\t1\t.\tC\tA\t.\t.\t.\n",
        b"chr9\t1\t.\tC\tA,*\t.\t.\t.\n",
        b"chr9\t1\t.\tC\tA\t.\t.\t.\n",
        b"chr1\t0\t.\tC\tA\t.\t.\t.\n",
        b"chr1\t9999\t.\tC\tA\t.\t.\t.\n",
    ]
    summary = scan(open_vcf(write(b"".join(body))), reader)
    assert (summary.records, summary.alleles) == (7, 10)
    assert summary.by_status == {
        "ok": 3,
        "star_allele": 1,
        "symbolic_alt": 1,
        "contig_not_in_fasta": 2,
        "pos_zero": 1,
        "past_contig_end": 1,
        "ref_mismatch": 1,
    }
    assert sum(summary.by_status.values()) == summary.alleles
    assert list(summary.by_status) == [s for s in STATUSES if s in summary.by_status]
    assert summary.renamed == {"MT": "chrM"} and summary.unknown_contigs == {"chr9": 2}
    assert (summary.checked, summary.mismatched, summary.is_sorted) == (6, 3, False)
    assert len(summary.warnings) == 1 and "chr9 (2)" in summary.warnings[0]


def test_sortedness(write: Write, reader: AlleleReader, fasta: Fasta) -> None:
    rows = snvs(fasta, 20)
    mito = b"chrM\t1\t.\tC\tA\t.\t.\t.\n"
    assert scan(open_vcf(write(b"".join([*rows, mito, mito]))), reader).is_sorted
    assert not scan(open_vcf(write(b"".join(rows[::-1]))), reader).is_sorted
    assert not scan(open_vcf(write(b"".join([rows[0], mito, rows[1]]))), reader).is_sorted


def test_header_only_is_empty_with_a_warning(write: Write, reader: AlleleReader) -> None:
    summary = scan(open_vcf(write()), reader)
    assert (summary.records, summary.alleles, summary.by_status) == (0, 0, {})
    assert "no records" in summary.warnings[0]


def test_a_last_line_without_an_end_is_warned_of(write: Write, reader: AlleleReader, fasta: Fasta) -> None:
    body = b"".join(snvs(fasta, 5))
    assert scan(open_vcf(write(body)), reader).warnings == []
    summary = scan(open_vcf(write(body[:-1])), reader)
    assert summary.records == 5
    assert summary.warnings[0].startswith("line 7, the last of the VCF, has no line end; if the file was cut")


def test_a_fault_on_the_last_line_stops(write: Write, reader: AlleleReader, fasta: Fasta) -> None:
    with pytest.raises(InputError, match="POS 'x'"):
        scan(open_vcf(write(b"".join(snvs(fasta, 50)) + b"chr1\tx\t.\tA\tC\t.\t.\t.\n")), reader)


def test_the_limit_counts_from_one_hundred_alleles(write: Write, reader: AlleleReader, fasta: Fasta) -> None:
    def summary(right: int, bad: int, share: float = 0.10):  # type: ignore[no-untyped-def]
        return scan(open_vcf(write(b"".join(snvs(fasta, right) + wrong(bad)))), reader, share)

    assert summary(0, 99).mismatched == 99
    assert summary(90, 10).mismatched == 10
    with pytest.raises(InputError, match=r"11 of 100 alleles \(11%\)"):
        summary(89, 11)
    assert summary(89, 11, 0.2).mismatched == 11
    assert summary(0, 150, 1.0).mismatched == 150
    with pytest.raises(InputError, match="--max-ref-mismatch"):
        summary(150, 1, 0.0)


def test_the_message_names_the_first_and_a_general_cause(write: Write, reader: AlleleReader) -> None:
    with pytest.raises(InputError, match=r"line 3, chr1:34 G.*another assembly, or REF and ALT are swapped"):
        scan(open_vcf(write(b"".join(wrong(120)))), reader)


@pytest.mark.parametrize(("shift", "cause"), [(-1, "0-based"), (1, "one too large")])
def test_shifted_positions_are_recognized(
    write: Write, reader: AlleleReader, fasta: Fasta, shift: int, cause: str
) -> None:
    with pytest.raises(InputError, match=cause):
        scan(open_vcf(write(b"".join(snvs(fasta, 300, shift)))), reader)


def test_unknown_contigs_being_allowed_allows_no_mismatch(write: Write, reader: AlleleReader) -> None:
    with pytest.raises(InputError, match="do not fit the FASTA"):
        scan(open_vcf(write(b"".join(wrong(120)))), reader, allow_unknown_contigs=True)


def test_another_assembly_is_recognized_by_contig_lengths(write: Write, reader: AlleleReader) -> None:
    header = (
        b"##fileformat=VCFv4.2\n##contig=<ID=1,length=600>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    )
    with pytest.raises(InputError, match="1 has 600 bases in the VCF header and 517 in the FASTA"):
        scan(open_vcf(write(b"".join(wrong(120, "1")), header=header)), reader)


def test_positions_past_the_end_count(write: Write, reader: AlleleReader) -> None:
    body = b"".join(b"chr1\t%d\t.\tA\tC\t.\t.\t.\n" % (1000 + i) for i in range(100))
    with pytest.raises(InputError, match="past the contig's end: 100"):
        scan(open_vcf(write(body)), reader)


def test_unknown_contigs_over_the_limit_stop(write: Write, reader: AlleleReader, fasta: Fasta) -> None:
    rows = snvs(fasta, 100)
    unknown = [row.replace(b"chr1", b"NC_000001.11") for row in rows[:12]]
    with pytest.raises(InputError, match=r"12 of 112 .*NC_000001.11 \(12\).*--contig-aliases"):
        scan(open_vcf(write(b"".join(rows + unknown))), reader)
    with pytest.raises(InputError, match=r"only some contigs \(add --allow-unknown-contigs"):
        scan(open_vcf(write(b"".join(rows + unknown))), reader)
    allowed = scan(open_vcf(write(b"".join(rows + unknown))), reader, allow_unknown_contigs=True)
    assert allowed.by_status == {"ok": 100, "contig_not_in_fasta": 12}
    assert "12 alleles lie on contigs that the FASTA lacks" in allowed.warnings[0]
    with pytest.raises(InputError) as nothing_found:
        scan(open_vcf(write(b"".join(unknown * 10))), reader)
    assert "--allow-unknown-contigs" not in str(nothing_found.value)
    assert scan(open_vcf(write(b"".join(rows + unknown[:5]))), reader).unknown_contigs == {"NC_000001.11": 5}
    aliased = AlleleReader(fasta, ContigMap(fasta.names, {"NC_000001.11": "chr1"}))
    summary = scan(open_vcf(write(b"".join(rows + unknown))), aliased)
    assert summary.by_status == {"ok": 112} and summary.renamed == {"NC_000001.11": "chr1"}


@pytest.mark.data
def test_a_genome_wide_file(write: Write, reference_data: Path) -> None:
    fasta = Fasta(reference_data / "data" / "yeast" / "sacCer3.fa.gz")
    lines = []
    for name in fasta.names:
        text = fasta.fetch(name, 0, fasta.lengths[name])
        for at in range(500, len(text), 1201):
            if at % 3:
                lines.append(f"{name[3:]}\t{at + 1}\t.\t{text[at]}\t{OTHER[text[at]]}\t.\t.\t.\n")
            else:
                lines.append(f"{name[3:]}\t{at + 1}\t.\t{text[at : at + 4]}\t{text[at]}\t.\t.\t.\n")
    path = write("".join(lines).encode())
    summary = scan(open_vcf(path), AlleleReader(fasta, ContigMap(fasta.names)))
    assert summary.by_status == {"ok": len(lines)} and summary.is_sorted
    assert summary.renamed["I"] == "chrI" and len(summary.renamed) == len(fasta.names)
