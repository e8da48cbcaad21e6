from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gexpr.errors import ConfigError, InputError
from gexpr.genome.codes import decode
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.results import Variant
from gexpr.variants.alleles import (
    STATUS_MEANINGS,
    STATUSES,
    AlleleReader,
    alternate_codes,
    reference_codes,
)
from gexpr.variants.vcf import VcfRecord, open_vcf


def split(reader: AlleleReader, pos: int, ref: str, *alts: str, chrom: str = "chr1") -> list[Variant]:
    return reader.split(VcfRecord(9, chrom, pos, "id", ref, alts), 0)


# chr1: GATTACAGGGGCATCATCATNNRACGTacgtTTTTTAACGTTGCA...
@pytest.mark.parametrize(
    ("pos", "ref", "alt", "status"),
    [
        (1, "G", "A", "ok"),
        (1, "g", "a", "ok"),
        (28, "A", "C", "ok"),
        (2, "ATT", "AT", "ok"),
        (2, "A", ".", "missing_alt"),
        (2, "A", "*", "star_allele"),
        (2, "A", "<DEL>", "symbolic_alt"),
        (2, "A", "<NON_REF>", "symbolic_alt"),
        (2, "A", "<*>", "symbolic_alt"),
        (2, "A", "A]chr2:5]", "breakend"),
        (2, "A", "]chr2:5]A", "breakend"),
        (2, "A", "[<ctg>:5[A", "breakend"),
        (2, "A", "A.", "breakend"),
        (2, "A", ".A", "breakend"),
        (2, "A", "N", "non_acgt_alt"),
        (2, "A", "R", "non_acgt_alt"),
        (2, "A", "AXYZ", "non_acgt_alt"),
        (2, "A", "C-", "non_acgt_alt"),
        (2, "A", "A", "ref_equals_alt"),
        (2, "A", "a", "ref_equals_alt"),
        (2, "ATT", "att", "ref_equals_alt"),
        (0, "N", "A", "pos_zero"),
        (0, "A", "C", "pos_zero"),
        (518, "A", "C", "past_contig_end"),
        (517, "AA", "C", "past_contig_end"),
        (99999999999, "A", "C", "past_contig_end"),
        (2, "C", "G", "ref_mismatch"),
        (2, "ATG", "A", "ref_mismatch"),
        (21, "N", "A", "non_acgt_ref"),
        (23, "A", "C", "non_acgt_ref"),
        (23, "R", "C", "non_acgt_ref"),
        (2, "N", "C", "non_acgt_ref"),
        (22, "NRA", "N", "non_acgt_ref"),
        (20, "TNNRA", "TNNR", "ok"),
        (22, "NRACG", "NRACC", "ok"),
        (20, "GNNRAC", "G", "ref_mismatch"),
        (1, "G", "G" + "A" * 20, "ok"),
        (1, "G", "G" + "A" * 21, "too_long"),
        (38, "ACGTTGCA" * 3, "A", "too_long"),
        (1, "GATTACAGGGGCATCATCAT", "G", "ok"),
    ],
)
def test_status(reader: AlleleReader, pos: int, ref: str, alt: str, status: str) -> None:
    (variant,) = split(reader, pos, ref, alt)
    assert variant.status == status
    assert (variant.pos, variant.ref, variant.alt, variant.chrom) == (pos, ref, alt, "chr1")
    assert variant.ok == (variant.contig == "chr1") == (variant.start >= 0)


def test_statuses_are_the_documented_ones() -> None:
    assert STATUSES == tuple(STATUS_MEANINGS) and STATUSES[0] == "ok"


def test_unknown_contig(reader: AlleleReader) -> None:
    assert split(reader, 2, "A", "C", chrom="chr9")[0].status == "contig_not_in_fasta"


def test_renamed_contig(reader: AlleleReader) -> None:
    assert split(reader, 2, "A", "C", chrom="1")[0].contig == "chr1"
    assert split(reader, 2, "C", "G", chrom="MT")[0].contig == "chrM"
    assert reader.contigs.renamed == {"1": "chr1", "MT": "chrM"}


def test_one_row_for_each_alt_in_order(reader: AlleleReader) -> None:
    record = VcfRecord(7, "chr1", 2, "rs", "A", ("C", "<DEL>", "AT", "*", "C"))
    rows = reader.split(record, 100)
    assert [v.row for v in rows] == [100, 101, 102, 103, 104]
    assert [v.alt for v in rows] == list(record.alts)
    assert [v.status for v in rows] == ["ok", "symbolic_alt", "ok", "star_allele", "ok"]
    assert {(v.line, v.pos, v.id, v.ref) for v in rows} == {(7, 2, "rs", "A")}


@pytest.mark.parametrize(
    ("pos", "ref", "alt", "expected"),
    [
        (2, "A", "C", (1, "A", "C")),
        (11, "G", "GG", (7, "", "G")),
        (8, "G", "GG", (7, "", "G")),
        (7, "A", "AG", (7, "", "G")),
        (17, "TCA", "T", (17, "CA", "")),
        (17, "TCAT", "T", (11, "CAT", "")),
        (14, "TCATCAT", "TCAT", (11, "CAT", "")),
        (1, "GA", "G", (1, "A", "")),
        (1, "GAT", "T", (0, "GA", "")),
        (517, "A", "AT", (517, "", "T")),
        (2, "ATTACA", "AGGACA", (2, "TT", "GG")),
    ],
)
def test_normal_form(
    reader: AlleleReader, pos: int, ref: str, alt: str, expected: tuple[int, str, str]
) -> None:
    (variant,) = split(reader, pos, ref, alt)
    assert (variant.start, variant.norm_ref, variant.norm_alt) == expected


def test_a_longest_allele_below_one_is_refused(fasta: Fasta) -> None:
    with pytest.raises(ConfigError, match="max_allele_length"):
        AlleleReader(fasta, ContigMap(fasta.names), max_allele_length=0)


# --- sequences -----------------------------------------------------------------------------


def whole(fasta: Fasta, variant: Variant) -> tuple[str, str]:
    """Both haplotypes of the contig, as letters, other letters than ACGT as N."""
    text = fasta.fetch(variant.contig, 0, fasta.lengths[variant.contig])
    assert text[variant.start : variant.start + len(variant.norm_ref)] == variant.norm_ref
    changed = text[: variant.start] + variant.norm_alt + text[variant.start + len(variant.norm_ref) :]
    return text.replace("R", "N"), changed.replace("R", "N")


def window(text: str, start: int, length: int) -> str:
    return "".join(text[i] if 0 <= i < len(text) else "N" for i in range(start, start + length))


def test_the_variant_sits_at_the_middle_index(fasta: Fasta, reader: AlleleReader) -> None:
    (snv,) = split(reader, 14, "T", "G")
    assert decode(reference_codes(fasta, snv, 8)) == "GGCATCAT"
    assert decode(reference_codes(fasta, snv, 8))[4] == "T"
    assert decode(alternate_codes(fasta, snv, 8))[4] == "G"
    assert decode(reference_codes(fasta, snv, 9))[4] == "T"


def test_windows_of_indels_on_paper(fasta: Fasta, reader: AlleleReader) -> None:
    # GATTACAGGGGCATCATCAT: delete CAT at 11 to 14; insert TTT before 11
    (deletion,) = split(reader, 11, "GCAT", "G")
    assert deletion.start == 11
    assert decode(reference_codes(fasta, deletion, 8)) == "GGGGCATC"
    assert decode(alternate_codes(fasta, deletion, 8)) == "GGGGCATC"
    (insertion,) = split(reader, 11, "G", "GTTT")
    assert insertion.start == 11
    assert decode(alternate_codes(fasta, insertion, 8)) == "GGGGTTTC"
    assert decode(alternate_codes(fasta, insertion, 4)) == "GGTT"
    (edge,) = split(reader, 1, "G", "C")
    assert decode(alternate_codes(fasta, edge, 6)) == "NNNCAT"


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_are_windows_of_the_haplotypes(fasta: Fasta, data: st.DataObject) -> None:
    """Cut from the whole changed contig at the same start, wherever the allele lies, however long."""
    contig = data.draw(st.sampled_from(["chr1", "chrM"]))
    length = fasta.lengths[contig]
    start = data.draw(st.integers(0, length - 1))
    ref = fasta.fetch(contig, start, min(length, start + data.draw(st.integers(1, 30))))
    alt = ref[0] + data.draw(st.text("ACGT", max_size=30))
    reader = AlleleReader(fasta, ContigMap(fasta.names))
    (variant,) = split(reader, start + 1, ref, alt, chrom=contig)
    if not variant.ok:
        assert ref == alt or set(ref + alt) - set("ACGT")
        return
    context = data.draw(st.integers(1, 40))
    reference, alternate = whole(fasta, variant)
    first = variant.start - context // 2
    assert decode(reference_codes(fasta, variant, context)) == window(reference, first, context)
    assert decode(alternate_codes(fasta, variant, context)) == window(alternate, first, context)
    anchored = fasta.fetch(contig, 0, start) + alt + fasta.fetch(contig, start + len(ref), length)
    assert alternate == anchored.replace("R", "N")


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_spellings_of_one_change_become_one_allele(fasta: Fasta, data: st.DataObject) -> None:
    """More bases on either side and letters of either case make no difference."""
    length = fasta.lengths["chr1"]
    start = data.draw(st.integers(24, length - 1))
    ref = fasta.fetch("chr1", start, min(length, start + data.draw(st.integers(1, 12))))
    alt = data.draw(st.text("ACGT", min_size=1, max_size=12))
    reader = AlleleReader(fasta, ContigMap(fasta.names))
    left, right = data.draw(st.integers(0, 24)), data.draw(st.integers(0, 24))
    right = min(right, length - start - len(ref))
    before = fasta.fetch("chr1", start - left, start)
    behind = fasta.fetch("chr1", start + len(ref), start + len(ref) + right)
    (one,) = split(reader, start + 1, ref, alt)
    (other,) = split(
        reader, start - left + 1, (before + ref + behind).lower(), before + alt + behind.swapcase(), chrom="1"
    )
    assert (one.status, one.contig, *one[9:]) == (other.status, other.contig, *other[9:])
    if one.ok:
        reference, changed = whole(fasta, one)
        assert changed == reference[:start] + alt + reference[start + len(ref) :]
    else:
        assert ref == alt


def test_the_documentation_lists_every_status_with_its_meaning() -> None:
    page = (Path(__file__).parents[2] / "docs" / "input-files.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    escaped = {status: meaning.replace("<", "\\<") for status, meaning in STATUS_MEANINGS.items()}
    assert rows == [f"| `{status}` | {meaning} |" for status, meaning in escaped.items()]


class StandIn:
    """A genome that has every contig: the REF of the record at hand at its place, drawn bases elsewhere."""

    class Lengths(dict[str, int]):
        def __missing__(self, name: str) -> int:
            return 1 << 60

    lengths = Lengths()
    start, ref = 0, ""

    def resolve(self, chrom: str) -> str:
        return chrom

    def fetch(self, contig: str, start: int, end: int) -> str:
        stop = self.start + len(self.ref)
        return "".join(
            self.ref[i - self.start] if self.start <= i < stop else "ACGT"[(i * 2654435761 >> 13) & 3]
            for i in range(start, end)
        )


@pytest.mark.data
def test_every_allele_of_the_public_corpus_is_a_row(reference_data: Path) -> None:
    """Rows are the ALTs there are; an allele that is ``ok`` makes the haplotype that the record spells."""
    genome = StandIn()
    reader = AlleleReader(genome, genome, max_allele_length=2000)  # type: ignore[arg-type]
    seen: Counter[str] = Counter()
    lines = rows = files = 0
    for path in sorted((reference_data / "corpora" / "vcf" / "hts-specs").rglob("*.vcf")):
        try:
            read = list(open_vcf(path).records())
        except InputError:
            continue
        files += 1
        lines += sum(bool(x.strip()) and x[:1] != b"#" for x in path.read_bytes().split(b"\n"))
        for number, record in enumerate(read):
            genome.start, genome.ref = record.pos - 1, record.ref.upper()
            variants = reader.split(record, rows)
            assert [each.alt for each in variants] == list(record.alts)
            assert [each.row for each in variants] == list(range(rows, rows + len(record.alts)))
            rows += len(variants)
            lines -= 1
            for each in variants:
                seen[each.status] += 1
                assert each.status in STATUSES
                if each.ok:
                    low, high = min(each.start, record.pos - 1), record.pos - 1 + len(record.ref)
                    spelt = genome.fetch("", low, record.pos - 1) + each.alt.upper()
                    stop = each.start + len(each.norm_ref)
                    assert genome.fetch("", each.start, stop) == each.norm_ref
                    made = genome.fetch("", low, each.start) + each.norm_alt + genome.fetch("", stop, high)
                    assert made == spelt, (path, number, each)
    assert lines == 0 and rows == sum(seen.values())
    assert files > 300 and rows > 1000 and len(seen) > 5 and seen["ok"] > 900, (files, rows, seen)
