"""From a VCF record to alleles that can be scored, each with a status, and their sequences."""

from __future__ import annotations

import numpy as np

from gexpr.errors import ConfigError
from gexpr.genome.codes import Codes, encode
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.genome.windows import variant_window_start
from gexpr.results import Variant
from gexpr.variants.normalize import left_align, trim
from gexpr.variants.vcf import VcfRecord

STATUS_MEANINGS: dict[str, str] = {
    "ok": "the allele can be scored",
    "missing_alt": "ALT is '.': the record has no alternate allele",
    "star_allele": "ALT is '*': the allele is missing because of an upstream deletion",
    "symbolic_alt": "ALT is symbolic, such as <DEL>, <NON_REF> or <*>: it has no sequence",
    "breakend": "ALT is a breakend, such as G]17:198982] or G.",
    "non_acgt_alt": "the trimmed ALT has a letter other than A, C, G, T",
    "ref_equals_alt": "REF and ALT are the same sequence",
    "contig_not_in_fasta": "the FASTA has no contig of this name, under any of its known spellings",
    "pos_zero": "POS is 0: the telomere, before the first base",
    "past_contig_end": "REF reaches past the end of the contig",
    "ref_mismatch": "REF differs from the FASTA",
    "non_acgt_ref": "the trimmed REF, or the FASTA under it, has a letter other than A, C, G, T",
    "too_long": "the trimmed REF or ALT is longer than the longest allele that is scored",
}
"""Every status, in the order in which they are tested, and what it means."""

STATUSES: tuple[str, ...] = tuple(STATUS_MEANINGS)

_ACGT = frozenset("ACGT")
_ACGT_CHARACTERS = str.maketrans("", "", "ACGT")


def _alt_status(alt: str) -> str | None:
    """The status of an ALT that is not a sequence, from its spelling alone."""
    if alt == ".":
        return "missing_alt"
    if alt == "*":
        return "star_allele"
    if "[" in alt or "]" in alt:
        return "breakend"
    if "<" in alt or ">" in alt:
        return "symbolic_alt"
    if alt[0] == "." or alt[-1] == ".":
        return "breakend"
    return None


class AlleleReader:
    """Splits records into alleles, normalizes them and checks them against the FASTA.

    Args:
        fasta: the reference.
        contigs: finds the FASTA's contig of a CHROM.
        max_allele_length: bases; an allele whose trimmed REF or ALT is longer gets ``too_long``.

    Raises:
        ConfigError: ``max_allele_length`` is not positive.
    """

    def __init__(self, fasta: Fasta, contigs: ContigMap, max_allele_length: int = 2000) -> None:
        if max_allele_length < 1:
            raise ConfigError(f"max_allele_length is {max_allele_length}; it must be 1 or more")
        self.fasta = fasta
        self.contigs = contigs
        self.max_allele_length = max_allele_length

    def split(self, record: VcfRecord, first_row: int) -> list[Variant]:
        """One Variant for each ALT, in order, with rows ``first_row``, ``first_row + 1``, …

        The status is the first of :data:`STATUSES` (after ``ok``) that applies. Only where it is
        ``ok`` are ``contig``, ``start``, ``norm_ref`` and ``norm_alt`` set.
        """
        contig = self.contigs.resolve(record.chrom)
        return [self._variant(record, alt, first_row + i, contig) for i, alt in enumerate(record.alts)]

    def _variant(self, record: VcfRecord, alt: str, row: int, contig: str | None) -> Variant:
        line, chrom, pos, identifier, ref, _ = record
        upper_ref, upper_alt = ref.upper(), alt.upper()
        start = pos - 1
        if len(ref) == 1 == len(alt) and upper_ref in _ACGT and upper_alt in _ACGT and ref != alt:
            norm_start, norm_ref, norm_alt = start, upper_ref, upper_alt
            status = "ref_equals_alt" if norm_ref == norm_alt else None
        else:
            status = _alt_status(alt)
            norm_start, norm_ref, norm_alt = trim(start, upper_ref, upper_alt)
            if status is None:
                if norm_alt.translate(_ACGT_CHARACTERS):
                    status = "non_acgt_alt"
                elif upper_ref == upper_alt:
                    status = "ref_equals_alt"
        if status is None:
            if contig is None:
                status = "contig_not_in_fasta"
            elif pos == 0:
                status = "pos_zero"
            elif start + len(ref) > self.fasta.lengths[contig]:
                status = "past_contig_end"
            else:
                status = self._compare(contig, start, upper_ref, norm_start, norm_ref)
                if status is None and max(len(norm_ref), len(norm_alt)) > self.max_allele_length:
                    status = "too_long"
                if status is None:
                    if not (norm_ref and norm_alt):
                        norm_start, norm_ref, norm_alt = left_align(
                            norm_start,
                            norm_ref,
                            norm_alt,
                            lambda low, high: self.fasta.fetch(contig, low, high),
                        )
                    return Variant(
                        row,
                        line,
                        chrom,
                        pos,
                        identifier,
                        ref,
                        alt,
                        "ok",
                        contig,
                        norm_start,
                        norm_ref,
                        norm_alt,
                    )
        return Variant(row, line, chrom, pos, identifier, ref, alt, status)

    def _compare(self, contig: str, start: int, ref: str, norm_start: int, norm_ref: str) -> str | None:
        """``ref_mismatch``, ``non_acgt_ref`` or None; letters other than ACGT fit anything."""
        found = self.fasta.fetch(contig, start, start + len(ref))
        if found == ref and not norm_ref.translate(_ACGT_CHARACTERS):
            return None
        if any(a != b and a in _ACGT and b in _ACGT for a, b in zip(ref, found, strict=True)):
            return "ref_mismatch"
        low = norm_start - start
        if set(norm_ref) - _ACGT or set(found[low : low + len(norm_ref)]) - _ACGT:
            return "non_acgt_ref"
        return None


def reference_codes(
    fasta: Fasta, variant: Variant, context_length: int, window_start: int | None = None
) -> Codes:
    """The reference window: the first base of the normalized REF has index ``context_length // 2``.

    Args:
        fasta: the reference.
        variant: an allele with status ``ok``.
        context_length: bases of the window.
        window_start: where the window starts instead; the variant must lie in it.

    Returns:
        uint8 codes (context_length,); 4 outside the contig.
    """
    start = variant_window_start(variant.start, context_length) if window_start is None else window_start
    return fasta.codes(variant.contig, start, start + context_length)


def alternate_codes(
    fasta: Fasta, variant: Variant, context_length: int, window_start: int | None = None
) -> Codes:
    """The window with the alternate allele, from the same genome position as :func:`reference_codes`.

    Its right end reaches further for a deletion and is cut for an insertion, so that it has
    ``context_length`` bases; an insertion that is longer than the rest of the window is itself cut.

    Returns:
        uint8 codes (context_length,); 4 outside the contig.
    """
    start = variant_window_start(variant.start, context_length) if window_start is None else window_start
    left = variant.start - start
    codes = np.empty(context_length, dtype=np.uint8)
    codes[:left] = fasta.codes(variant.contig, start, variant.start)
    allele = encode(variant.norm_alt)[: context_length - left]
    codes[left : left + len(allele)] = allele
    after = variant.start + len(variant.norm_ref)
    codes[left + len(allele) :] = fasta.codes(
        variant.contig, after, after + context_length - left - len(allele)
    )
    return codes
