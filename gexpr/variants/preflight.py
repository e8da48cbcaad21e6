"""The scan of a whole VCF before any work is done: strict reading, counts, and a check of REF."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gexpr.errors import InputError, shown_name
from gexpr.results import Variant
from gexpr.variants.alleles import STATUSES, AlleleReader
from gexpr.variants.vcf import VcfSource

MIN_CHECKED = 100
"""The fewest alleles on which a share of mismatches can stop a run."""


@dataclass(frozen=True)
class VcfSummary:
    """What a scan found.

    Attributes:
        records: records in the file.
        alleles: ALT alleles, the rows of the output.
        by_status: status -> alleles, in the order of ``STATUSES``, without zeros.
        is_sorted: each contig's records lie together, in ascending POS.
        renamed: CHROM -> FASTA contig where they differ.
        unknown_contigs: CHROM -> alleles, where the FASTA has no such contig.
        checked: alleles whose place in the FASTA was checked.
        mismatched: those of them with REF unlike the FASTA, POS 0 or an end past the contig's.
        warnings: sentences for the user.
    """

    records: int
    alleles: int
    by_status: dict[str, int]
    is_sorted: bool
    renamed: dict[str, str]
    unknown_contigs: dict[str, int]
    checked: int
    mismatched: int
    warnings: list[str] = field(default_factory=list)


def scan(
    source: VcfSource,
    reader: AlleleReader,
    max_ref_mismatch: float = 0.10,
    allow_unknown_contigs: bool = False,
) -> VcfSummary:
    """Read a VCF from end to end and judge every allele.

    Args:
        source: the opened VCF.
        reader: judges the alleles.
        max_ref_mismatch: the largest share of alleles that may disagree with the FASTA (REF unlike the
            FASTA, POS 0, past the contig's end), and, counted separately, that may lie on contigs which
            it lacks. Each needs at least :data:`MIN_CHECKED` alleles to stop the run. 1 never stops.
        allow_unknown_contigs: only warn of alleles on contigs that the FASTA lacks, however many.

    Raises:
        InputError: a fault of the file (see :mod:`gexpr.variants.vcf`), or one of the shares is too large;
            the message names the likely cause.
    """
    counts: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    shifted: Counter[int] = Counter()
    records = alleles = last_pos = 0
    last_chrom: str | None = None
    seen: set[str] = set()
    is_sorted = True
    example: Variant | None = None
    for record in source.records():
        records += 1
        chrom, pos = record.chrom, record.pos
        if chrom != last_chrom:
            is_sorted = is_sorted and chrom not in seen
            seen.add(chrom)
            last_chrom = chrom
        elif pos < last_pos:
            is_sorted = False
        last_pos = pos
        for variant in reader.split(record, alleles):
            alleles += 1
            status = variant.status
            counts[status] += 1
            if status == "ref_mismatch":
                example = example or variant
                for offset in (-1, 1):
                    shifted[offset] += _matches_at(reader, variant, offset)
            elif status == "contig_not_in_fasta":
                unknown[chrom] += 1
    mismatched = counts["ref_mismatch"] + counts["past_contig_end"] + counts["pos_zero"]
    checked = mismatched + counts["ok"] + counts["too_long"]
    located = checked + counts["contig_not_in_fasta"]
    if checked >= MIN_CHECKED and mismatched > max_ref_mismatch * checked:
        message = _mismatch_message(source, reader, counts, shifted, mismatched, checked, example)
        raise InputError(message, path=source.path)
    too_many = located >= MIN_CHECKED and counts["contig_not_in_fasta"] > max_ref_mismatch * located
    if too_many and not allow_unknown_contigs:
        raise InputError(_unknown_message(reader, unknown, located), path=source.path)
    warnings = []
    if not records:
        warnings.append("the VCF has a header but no records; the output will be empty")
    if source.open_end is not None:
        warnings.append(
            f"line {source.open_end}, the last of the VCF, has no line end; "
            "if the file was cut short there, records are missing"
        )
    if unknown:
        number = sum(unknown.values())
        lie = "allele lies" if number == 1 else "alleles lie"
        hint = _near(reader, unknown)
        warnings.append(f"{number} {lie} on contigs that the FASTA lacks: {_some(unknown)}{hint}")
    return VcfSummary(
        records=records,
        alleles=alleles,
        by_status={status: counts[status] for status in STATUSES if counts[status]},
        is_sorted=is_sorted,
        renamed={c: r for c, r in reader.contigs.renamed.items() if c in seen},
        unknown_contigs=dict(unknown),
        checked=checked,
        mismatched=mismatched,
        warnings=warnings,
    )


def _matches_at(reader: AlleleReader, variant: Variant, offset: int) -> bool:
    contig = reader.contigs.resolve(variant.chrom)
    start = variant.pos - 1 + offset
    end = start + len(variant.ref)
    if contig is None or start < 0 or end > reader.fasta.lengths[contig]:
        return False
    return reader.fasta.fetch(contig, start, end) == variant.ref.upper()


def _mismatch_message(
    source: VcfSource,
    reader: AlleleReader,
    counts: Counter[str],
    shifted: Counter[int],
    mismatched: int,
    checked: int,
    example: Variant | None,
) -> str:
    text = (
        f"{mismatched} of {checked} alleles ({mismatched / checked:.0%}) do not fit the FASTA "
        f"{reader.fasta.path} (REF differs: {counts['ref_mismatch']}, "
        f"past the contig's end: {counts['past_contig_end']}, "
        f"POS 0: {counts['pos_zero']})"
    )
    if example is not None:
        place = f"{shown_name(example.chrom)}:{example.pos}"
        text += f"; the first is line {example.line}, {place} {shown_name(example.ref[:20])}"
    other = [
        f"{shown_name(name)} has {length} bases in the VCF header and {found} in the FASTA"
        for name, length in source.contig_lengths.items()
        if (contig := reader.contigs.resolve(name)) is not None
        and length != (found := reader.fasta.lengths[contig])
    ]
    if other:
        cause = f"the VCF was made from another assembly ({other[0]}); use its FASTA"
    elif shifted[1] + counts["pos_zero"] > 0.8 * mismatched:
        cause = "POS is 0-based (REF fits one base further right); VCF counts from 1, so add 1 to POS"
    elif shifted[-1] > 0.8 * mismatched:
        cause = "POS is one too large (REF fits one base further left)"
    else:
        cause = "another assembly, or REF and ALT are swapped; use the FASTA that the VCF was made from"
    return f"{text}. Likely cause: {cause}. --max-ref-mismatch sets the share that is allowed"


def _unknown_message(reader: AlleleReader, unknown: Counter[str], located: int) -> str:
    count = sum(unknown.values())
    naming = "it names the same contigs otherwise (give the names with --contig-aliases)"
    if count < located:
        cause = (
            "the FASTA holds only some contigs (add --allow-unknown-contigs to score the alleles on those; "
            f"the others get the status contig_not_in_fasta), or {naming}"
        )
    else:
        cause = f"{naming}, or is another assembly"
    names = ", ".join(map(shown_name, reader.fasta.names[:3])) + (
        ", ..." if len(reader.fasta.names) > 3 else ""
    )
    return (
        f"{count} of {located} alleles ({count / located:.0%}) lie on contigs that the FASTA "
        f"{reader.fasta.path} lacks: {_some(unknown)}. It has {names}{_near(reader, unknown) or '.'} "
        "Likely cause: " + cause
    )


def _near(reader: AlleleReader, unknown: Counter[str]) -> str:
    """The end of a message: the FASTA's name that is nearly the commonest unknown one, if any."""
    return reader.contigs.near(unknown.most_common(1)[0][0])


def _some(unknown: Counter[str]) -> str:
    names = [f"{shown_name(name)} ({count})" for name, count in unknown.most_common(3)]
    return ", ".join(names) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
