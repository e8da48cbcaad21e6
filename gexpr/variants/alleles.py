"""From a VCF record to alleles that can be scored, each with a status, and their sequences."""

from __future__ import annotations

import re
from typing import NamedTuple

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
    "symbolic_alt": "ALT is symbolic, such as <DEL>, <NON_REF> or <*>, and not read as a sequence",
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
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_SEQUENCE_KEYS = ("SVINSSEQ", "INSSEQ", "SEQ")
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


class _Segment(NamedTuple):
    """What a symbolic allele means: ``kind`` of the change of bases ``start`` to ``end``, 0-based half-open.

    ``inserted`` is the sequence of an insertion in front of ``start``.
    """

    kind: str
    start: int
    end: int
    inserted: str = ""


def read_symbolic(pos: int, alt: str, info: str, number: int) -> _Segment | None:
    """What a symbolic allele means, by its type and INFO (VCF 4.5, section 5.4); None where that is not said.

    ``<DEL>``, ``<DUP>`` and ``<INV>``, with any subtype, change the bases behind POS: as many as this
    allele's SVLEN says, whatever its sign, or those up to END. ``<INS>`` needs its sequence in INFO
    (SVINSSEQ, INSSEQ or SEQ).

    Args:
        pos: POS, 1-based: the base before the change.
        alt: the allele.
        info: INFO of its record.
        number: which of the record's ALTs it is, from 0.
    """
    kind = re.sub(r"^<([A-Z]+)(:[^<>]*)?>$", r"\1", alt.upper())
    fields = dict(entry.partition("=")[::2] for entry in info.split(";"))

    def of_allele(name: str) -> str:
        values = fields.get(name, "").split(",")
        return values[number] if number < len(values) else ""

    if kind == "INS":
        sequence = next((of_allele(name) for name in _SEQUENCE_KEYS if of_allele(name) not in ("", ".")), "")
        return _Segment(kind, pos, pos, sequence.upper()) if sequence else None
    if kind not in ("DEL", "DUP", "INV"):
        return None
    length, end = of_allele("SVLEN"), fields.get("END", "")
    if re.fullmatch(r"-?\d{1,12}", length):
        size = abs(int(length))
    elif re.fullmatch(r"\d{1,12}", end):
        size = int(end) - pos
    else:
        return None
    return _Segment(kind, pos, pos + size) if size > 0 else None


class AlleleReader:
    """Splits records into alleles, normalizes them and checks them against the FASTA.

    Args:
        fasta: the reference.
        contigs: finds the FASTA's contig of a CHROM.
        max_allele_length: bases; an allele whose trimmed REF or ALT is longer gets ``too_long``.
        symbolic: score symbolic alleles that :func:`read_symbolic` can read; the copy of a ``<DUP>`` is
            inserted in tandem.

    Raises:
        ConfigError: ``max_allele_length`` is not positive.
    """

    def __init__(
        self, fasta: Fasta, contigs: ContigMap, max_allele_length: int = 2000, symbolic: bool = False
    ) -> None:
        if max_allele_length < 1:
            raise ConfigError(f"max_allele_length is {max_allele_length}; it must be 1 or more")
        self.fasta = fasta
        self.contigs = contigs
        self.max_allele_length = max_allele_length
        self.symbolic = symbolic

    def split(self, record: VcfRecord, first_row: int) -> list[Variant]:
        """One Variant for each ALT, in order, with rows ``first_row``, ``first_row + 1``, …

        The status is the first of :data:`STATUSES` (after ``ok``) that applies. Only where it is
        ``ok`` are ``contig``, ``start``, ``norm_ref`` and ``norm_alt`` set.
        """
        contig = self.contigs.resolve(record.chrom)
        found = []
        for number, alt in enumerate(record.alts):
            segment = None
            if self.symbolic and "<" in alt:
                segment = read_symbolic(record.pos, alt, record.info, number)
            if segment is None:
                found.append(self._variant(record, alt, first_row + number, contig))
            else:
                found.append(self._structural(record, alt, first_row + number, contig, segment))
        return found

    def _structural(
        self, record: VcfRecord, alt: str, row: int, contig: str | None, segment: _Segment
    ) -> Variant:
        """The Variant of a symbolic allele whose sequence is known."""
        line, chrom, pos, identifier, ref = record[:5]

        def refused(status: str) -> Variant:
            return Variant(row, line, chrom, pos, identifier, ref, alt, status)

        if contig is None:
            return refused("contig_not_in_fasta")
        # POS 0 is the telomere; the change is that of the first bases.
        first = max(pos - 1, 0)
        if max(segment.end, first + len(ref) if pos else 0) > self.fasta.lengths[contig]:
            return refused("past_contig_end")
        # REF is but the base before the change, often N.
        if pos and _differ(ref.upper(), self.fasta.fetch(contig, first, first + len(ref))):
            return refused("ref_mismatch")
        if max(segment.end - segment.start, len(segment.inserted)) > self.max_allele_length:
            return refused("too_long")
        if segment.inserted.translate(_ACGT_CHARACTERS):
            return refused("non_acgt_alt")
        bases = self.fasta.fetch(contig, segment.start, segment.end) if segment.end > segment.start else ""
        if bases.translate(_ACGT_CHARACTERS):
            return refused("non_acgt_ref")
        start, old, new = segment.start, bases, segment.inserted
        if segment.kind == "DUP":
            old, new = "", bases
        elif segment.kind == "INV":
            new = bases.translate(_COMPLEMENT)[::-1]
            if new == old:
                return refused("ref_equals_alt")
            start, old, new = trim(start, old, new)
        if not (old and new):
            start, old, new = left_align(
                start, old, new, lambda low, high: self.fasta.fetch(contig, low, high)
            )
        return Variant(row, line, chrom, pos, identifier, ref, alt, "ok", contig, start, old, new)

    def _variant(self, record: VcfRecord, alt: str, row: int, contig: str | None) -> Variant:
        line, chrom, pos, identifier, ref = record[:5]
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
        if _differ(ref, found):
            return "ref_mismatch"
        low = norm_start - start
        if set(norm_ref) - _ACGT or set(found[low : low + len(norm_ref)]) - _ACGT:
            return "non_acgt_ref"
        return None


def _differ(ref: str, found: str) -> bool:
    """Whether two sequences differ; letters other than ACGT fit anything."""
    return any(a != b and a in _ACGT and b in _ACGT for a, b in zip(ref, found, strict=True))


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
