"""Reading of genes, strictly: GTF, GFF3, BED6 to BED12, and a table with a header; see docs/genes.md.

Coordinates of a :class:`Gene` are 0-based half-open, whatever the file's convention. Identifiers are kept
as they are spelled, version suffixes included.
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import InputError, shown, shown_name
from gexpr.genome.bed import read_bed
from gexpr.genome.compressed import read_lines, spool
from gexpr.genome.contigs import ContigMap

KIND = "file of genes"
FORMATS = ("gtf", "gff3", "bed", "table")
TABLE_COLUMNS = ("gene_id", "chrom", "start", "end", "strand", "name", "tss", "exons", "biotype")
"""Columns of the simple table; the first five are required."""

Interval = tuple[int, int]
Lines = Iterator[tuple[int, str]]
_Triple = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

_STRANDS = ("+", "-", ".", "?")
_GTF_USED = frozenset({"gene", "transcript", "mRNA", "exon", "CDS"})
_NAMES = ("gene_name", "gene", "Name")
_BIOTYPES = ("gene_type", "gene_biotype", "biotype")
_TRANSCRIPTS = ("rna", "transcript", "transcript_variant", "gene_segment")
_LEAVES = ("exon", "cds", "utr", "codon", "intron", "selenocysteine")
_MAX_DIGITS = 18
_FURTHEST = 10**12
"""Times the number of genes this must fit into 64 bits; no contig is nearly as long."""


class Gene(NamedTuple):
    """A gene, or any interval that is to be scored as one.

    ``exons`` are sorted, apart from each other, and at least one: the union over transcripts, or the
    coding sequence where the file states no exon, or the whole interval where it states neither.
    ``tss`` are the distinct first transcribed bases of the transcripts, ascending; empty without a strand.
    ``strand`` is ``+``, ``-`` or ``.``. ``line`` is the first line of the file that names the gene.
    """

    gene_id: str
    name: str
    contig: str
    strand: str
    start: int
    end: int
    exons: tuple[Interval, ...]
    tss: tuple[int, ...]
    biotype: str = ""
    line: int = 0


class PlacedGenes(NamedTuple):
    """Genes under the FASTA's contig names, and what became of the others.

    ``unknown`` counts the genes left out by the contig that the FASTA lacks, ``past_end`` those, kept,
    that end past their contig's end. ``warnings`` say so in words, at most one of each kind.
    """

    genes: list[Gene]
    unknown: dict[str, int]
    past_end: int
    warnings: tuple[str, ...]


def read_genes(path: str | os.PathLike[str], label: str | None = None) -> list[Gene]:
    """All genes of a file, in the order in which it first names them.

    The format follows from the content, and from the suffix where the content leaves a choice: GTF and GFF3
    have nine columns; a table has a first line with ``gene_id`` in it; anything else is BED. Plain, gzip
    or BGZF; ``-`` is standard input.

    Args:
        path: the file.
        label: what messages call it; default its path.

    Raises:
        InputError: with the line, at the first malformed one; without, for a missing, empty, damaged or
            foreign file, and for one without any gene.
    """
    name = os.fspath(path)
    shown_as = label or name
    temporary = spool(name, KIND)
    stored = temporary or name
    try:
        format = _format(read_lines(stored, KIND, shown_as), name)
        if format == "bed":
            genes = _read_bed_genes(stored, shown_as)
        else:
            reader = {"gtf": _read_gtf, "gff3": _read_gff3, "table": _read_table}[format]
            genes = reader(read_lines(stored, KIND, shown_as), shown_as)
    finally:
        if temporary is not None:
            os.unlink(temporary)
    if not genes:
        raise InputError(f"no gene in this file (read as {format.upper()})", path=shown_as)
    return genes


def place_genes(
    genes: Sequence[Gene],
    contigs: ContigMap,
    lengths: Mapping[str, int] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> PlacedGenes:
    """Genes that lie on contigs of a FASTA, under its names for them.

    Args:
        genes: as read.
        contigs: the names of the FASTA.
        lengths: contig -> length; None checks no ends.
        path: the file of genes, for messages.

    Raises:
        InputError: no gene lies on any contig of the FASTA.
    """
    placed: list[Gene] = []
    unknown: dict[str, int] = {}
    past: list[Gene] = []
    for gene in genes:
        contig = contigs.resolve(gene.contig)
        if contig is None:
            unknown[gene.contig] = unknown.get(gene.contig, 0) + 1
            continue
        placed.append(gene if contig == gene.contig else gene._replace(contig=contig))
        if lengths is not None and gene.end > lengths[contig]:
            past.append(gene)
    names = ", ".join(shown_name(name) for name in list(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
    if not placed:
        raise InputError(
            f"no gene lies on a contig of the FASTA: the genes' contigs are {names or 'none'}; name them "
            "with --contig-aliases, or give the genes of this assembly",
            path=path,
        )
    warnings = []
    if unknown:
        count = sum(unknown.values())
        warnings.append(f"{count:,} of {len(genes):,} genes are on contigs that the FASTA lacks: {names}")
    if past:
        warnings.append(
            f"{len(past):,} genes end past their contig's end, the first is {shown_name(past[0].gene_id)}: "
            "are they of another assembly?"
        )
    return PlacedGenes(placed, unknown, len(past), tuple(warnings))


def digest(genes: Sequence[Gene]) -> str:
    """SHA-256 (hex) of what scores and their tables take from genes; not of the file's form."""
    sha = hashlib.sha256()
    for gene in genes:
        sha.update(repr(gene[:8]).encode("utf-8", "backslashreplace"))
        sha.update(b"\n")
    return sha.hexdigest()


def merge(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    """Intervals in order, those that overlap or touch as one."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _format(lines: Lines, name: str) -> str:
    lowered = name.lower()
    for suffix in (".gz", ".bgz"):
        lowered = lowered.removesuffix(suffix)
    for _, line in lines:
        text = line.strip()
        if text.startswith("##gff-version"):
            if text.split()[1:2] and text.split()[1].startswith("3"):
                return "gff3"
            continue
        fields = [field.strip() for field in text.lstrip("#").split("\t")]
        if "gene_id" in fields:
            return "table"
        if not text or text.startswith("#"):
            continue
        if len(fields) == 9 and fields[6] in _STRANDS and not _is_number(fields[1]):
            first = fields[8].split(";")[0].partition("=")
            if first[1] and " " not in first[0].strip():
                return "gff3"
            if " " in first[0]:
                return "gtf"
        break
    for suffix, format in ((".gtf", "gtf"), (".gff3", "gff3"), (".gff", "gff3"), (".tsv", "table")):
        if lowered.endswith(suffix):
            return format
    return "bed"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


@dataclass(slots=True)
class _Draft:
    """A gene while its file is read."""

    gene_id: str
    name: str
    contig: str
    strand: str
    start: int
    end: int
    biotype: str
    line: int

    def widen(self, start: int, end: int) -> None:
        self.start = min(self.start, start)
        self.end = max(self.end, end)


class _Intervals:
    """Many intervals with the number of what each belongs to; 24 bytes each."""

    def __init__(self) -> None:
        self.owner, self.start, self.end = array("q"), array("q"), array("q")

    def add(self, owner: int, start: int, end: int) -> None:
        self.owner.append(owner)
        self.start.append(start)
        self.end.append(end)

    def arrays(self) -> _Triple:
        """Owners, starts and ends (n,) int64, in the memory of these; nothing can be added after this."""
        if not self.owner:
            return (np.zeros(0, dtype=np.int64),) * 3
        owner, start, end = (
            np.frombuffer(each, dtype=np.int64) for each in (self.owner, self.start, self.end)
        )
        return owner, start, end


def _merged(
    owner: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64], owners: int
) -> list[tuple[Interval, ...]]:
    """The intervals of every owner, as :func:`merge` gives them."""
    if not len(owner):
        return [()] * owners
    order = np.lexsort((start, owner))
    owner, start, end = owner[order], start[order], end[order]
    # Owners apart from each other on one axis, so that one running maximum serves all.
    offset = owner * (int(end.max()) + 1)
    furthest = np.maximum.accumulate(end + offset)
    first = np.ones(len(owner), dtype=bool)
    first[1:] = (start[1:] + offset[1:] > furthest[:-1]) | (owner[1:] != owner[:-1])
    at = np.flatnonzero(first)
    owner, start, end = owner[at], start[at], np.maximum.reduceat(end, at)
    bounds = np.searchsorted(owner, np.arange(owners + 1)).tolist()
    pairs = list(zip(start.tolist(), end.tolist(), strict=True))
    return [tuple(pairs[low:high]) for low, high in pairwise(bounds)]


def _finished(drafts: Sequence[_Draft], exons: _Triple, coding: _Triple, transcripts: _Triple) -> list[Gene]:
    """Genes from what was read of them; an owner is the number of a draft."""
    bare = np.bincount(exons[0], minlength=len(drafts)) == 0
    coding = (coding[0][bare[coding[0]]], coding[1][bare[coding[0]]], coding[2][bare[coding[0]]])
    all_exons, all_coding = _merged(*exons, len(drafts)), _merged(*coding, len(drafts))
    owner, low, high = transcripts
    order = np.argsort(owner, kind="stable")
    bounds = np.searchsorted(owner[order], np.arange(len(drafts) + 1)).tolist()
    lows, highs = low[order].tolist(), high[order].tolist()
    genes = []
    for number, draft in enumerate(drafts):
        first, last = bounds[number], bounds[number + 1]
        pieces = all_exons[number] or all_coding[number] or ((draft.start, draft.end),)
        draft.widen(pieces[0][0], pieces[-1][1])
        tss: set[int] = set()
        if draft.strand == "+":
            tss = set(lows[first:last]) or {draft.start}
        elif draft.strand == "-":
            tss = {end - 1 for end in highs[first:last]} or {draft.end - 1}
        genes.append(
            Gene(
                draft.gene_id,
                draft.name or draft.gene_id,
                draft.contig,
                draft.strand,
                draft.start,
                draft.end,
                pieces,
                tuple(sorted(tss)),
                draft.biotype,
                draft.line,
            )
        )
    return genes


def _feature(line: str, number: int, label: str) -> list[str]:
    """The nine columns of a line of GTF or GFF3."""
    fields = line.split("\t")
    if len(fields) != 9:
        hint = "; columns are separated by tabs" if "\t" not in line else ""
        raise InputError(
            f"{len(fields)} column(s) where GTF and GFF3 have nine{hint}: {shown(line)}",
            path=label,
            line=number,
        )
    return fields


def _place(fields: Sequence[str], number: int, label: str) -> tuple[int, int, str]:
    """Start, end (0-based half-open) and strand of a line of GTF or GFF3, checked."""
    low, high, strand = fields[3], fields[4], fields[6]
    # Both at once: there are millions of lines.
    digits = low + high
    if not (low and high and digits.isascii() and digits.isdigit() and len(digits) <= 2 * _MAX_DIGITS):
        name, text = ("end", high) if _is_number(low) else ("start", low)
        raise InputError(f"{name} {shown(text)} is not a whole number", path=label, line=number)
    start, end = int(low) - 1, int(high)
    if end > _FURTHEST:
        raise InputError(f"end {high} is no position in a genome", path=label, line=number)
    if not 0 <= start < end:
        raise InputError(
            f"interval {low}-{high}; GTF and GFF3 are 1-based with both ends included, so start must be at "
            "least 1 and at most end",
            path=label,
            line=number,
        )
    if not fields[0]:
        raise InputError("the contig's name is empty", path=label, line=number)
    if strand not in _STRANDS:
        raise InputError(
            f"strand {shown(strand)} in column 7; allowed are + (forward), - (reverse), . and ?",
            path=label,
            line=number,
        )
    return start, end, "." if strand == "?" else strand


def _first(values: Iterable[str | None]) -> str:
    return next(filter(None, values), "")


def _gtf_value(attributes: str, key: str) -> str | None:
    """The value of a key of GTF's last column; None without it."""
    start = f'{key} "'
    at = attributes.find(start)
    while at > 0 and attributes[at - 1] not in " ;\t":
        at = attributes.find(start, at + 1)
    if at >= 0:
        low = at + len(start)
        high = attributes.find('"', low)
        return None if high < 0 else attributes[low:high]
    for part in attributes.split(";"):
        name, _, value = part.strip().partition(" ")
        if name == key:
            return value.strip().strip('"')
    return None


def _read_gtf(lines: Lines, label: str) -> list[Gene]:
    drafts: list[_Draft] = []
    # The same id on another contig or strand is another gene: copies on both sex chromosomes, say.
    numbers: dict[tuple[str, str, str], int] = {}
    exons, coding = _Intervals(), _Intervals()
    transcripts = _Intervals()
    transcript_numbers: dict[tuple[int, str], int] = {}
    for number, line in lines:
        if line.startswith("#") or not line.strip():
            continue
        fields = _feature(line, number, label)
        feature = fields[2]
        if feature not in _GTF_USED:
            continue
        start, end, strand = _place(fields, number, label)
        attributes = fields[8]
        gene_id = _gtf_value(attributes, "gene_id")
        if not gene_id:
            what = "has no gene_id" if gene_id is None else "has an empty gene_id"
            raise InputError(
                f'this {feature} {what}; GTF needs gene_id "..." in column 9: {shown(attributes)}',
                path=label,
                line=number,
            )
        key = gene_id, fields[0], strand
        owner = numbers.get(key)
        if owner is None:
            owner = numbers[key] = len(drafts)
            drafts.append(_Draft(gene_id, "", fields[0], strand, start, end, "", number))
        draft = drafts[owner]
        if start < draft.start or end > draft.end:
            draft.widen(start, end)
        if not draft.name:
            draft.name = _first(_gtf_value(attributes, name) for name in _NAMES)
            draft.biotype = draft.biotype or _first(_gtf_value(attributes, name) for name in _BIOTYPES)
        if feature == "gene":
            continue
        if feature == "exon":
            exons.add(owner, start, end)
        elif feature == "CDS":
            coding.add(owner, start, end)
            continue
        transcript_id = _gtf_value(attributes, "transcript_id")
        if transcript_id:
            at = transcript_numbers.setdefault((owner, transcript_id), len(transcripts.owner))
            if at == len(transcripts.owner):
                transcripts.add(owner, start, end)
            elif start < transcripts.start[at] or end > transcripts.end[at]:
                transcripts.start[at] = min(start, transcripts.start[at])
                transcripts.end[at] = max(end, transcripts.end[at])
    return _finished(drafts, exons.arrays(), coding.arrays(), transcripts.arrays())


def _gff3_attributes(text: str, number: int, label: str) -> dict[str, str]:
    """Keys and values of GFF3's last column, still percent-encoded."""
    values: dict[str, str] = {}
    for part in text.split(";"):
        key, equals, value = part.strip().partition("=")
        if equals:
            values[key] = value
        elif key and key != ".":
            raise InputError(
                f"attribute {shown(key)} without '='; GFF3 needs key=value pairs separated by semicolons",
                path=label,
                line=number,
            )
    return values


def _decoded(attributes: Mapping[str, str], *keys: str) -> str:
    """The first value that is there, on one line: a tab or a line break, percent-encoded, becomes a space."""
    text = unquote(_first(attributes.get(key) for key in keys))
    return text if text.isprintable() else " ".join(re.split(r"[\x00-\x1f\x7f-\x9f]+", text))


def _gff3_parent(text: str) -> str:
    """The value of Parent in GFF3's last column; empty without it."""
    at = text.find("Parent=")
    while at > 0 and text[at - 1] not in "; ":
        at = text.find("Parent=", at + 1)
    return "" if at < 0 else text[at + 7 :].partition(";")[0].strip()


class _Features:
    """Identifiers of a GFF3 file as numbers, and the tree that they form; lines may come in any order."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []
        self.lines = array("q")
        self.parents: list[tuple[int, ...] | None] = []
        self.drafts: list[int] = []

    def number(self, name: str, line: int) -> int:
        """The number of an identifier, named by this line as its own or as its parent's."""
        found = self.numbers.get(name)
        if found is None:
            found = self.numbers[name] = len(self.names)
            self.names.append(name)
            self.lines.append(line)
            self.parents.append(None)
            self.drafts.append(-1)
        return found

    def named(self, names: str, line: int) -> tuple[int, ...]:
        """The numbers of a list of identifiers, separated by commas."""
        return tuple(self.number(unquote(name), line) for name in names.split(",") if name)

    def genes(self) -> list[tuple[int, ...]]:
        """For every identifier the drafts of genes above it, or itself.

        Raises:
            InputError: a parent is not in the file, or is its own ancestor.
        """
        found: list[tuple[int, ...] | None] = [None] * len(self.names)
        for number in range(len(self.names)):
            path = [number]
            while path:
                at = path[-1]
                parents = self.parents[at]
                if self.drafts[at] >= 0:
                    found[at] = (self.drafts[at],)
                elif parents is None:
                    raise InputError(
                        f"the Parent {shown_name(self.names[at])} of this feature is not in the file",
                        path=self.label,
                        line=self.lines[at],
                    )
                missing = [parent for parent in parents or () if found[parent] is None]
                if found[at] is None and missing:
                    if missing[0] in path:
                        raise InputError(
                            f"{shown_name(self.names[missing[0]])} is its own ancestor",
                            path=self.label,
                            line=self.lines[missing[0]],
                        )
                    path.append(missing[0])
                    continue
                if found[at] is None:
                    above = (draft for parent in parents or () for draft in found[parent] or ())
                    found[at] = tuple(dict.fromkeys(above))
                path.pop()
        return [each or () for each in found]


def _read_gff3(lines: Lines, label: str) -> list[Gene]:
    drafts: list[_Draft] = []
    features = _Features(label)
    # Owners are features here, until all of the tree is known.
    exons, coding, transcripts = _Intervals(), _Intervals(), _Intervals()
    for number, line in lines:
        if line.startswith("##FASTA") or line.startswith(">"):
            break
        if line.startswith("#") or not line.strip():
            continue
        fields = _feature(line, number, label)
        feature = fields[2]
        lowered = feature.lower()
        leaf = lowered.endswith(_LEAVES)
        is_exon, is_coding = leaf and lowered.endswith("exon"), lowered == "cds"
        if leaf and not (is_exon or is_coding):
            continue
        start, end, strand = _place(fields, number, label)
        if leaf:
            for parent in features.named(_gff3_parent(fields[8]), number):
                (exons if is_exon else coding).add(parent, start, end)
            continue
        attributes = _gff3_attributes(fields[8], number, label)
        parents = features.named(attributes.get("Parent", ""), number)
        identifier = unquote(attributes.get("ID", ""))
        own = features.number(identifier, number) if identifier else None
        if lowered == "gene" or (lowered.endswith("gene") and not parents):
            if own is not None and features.drafts[own] >= 0:
                draft = drafts[features.drafts[own]]
                if draft.contig != unquote(fields[0]):
                    raise InputError(
                        f"the ID {shown_name(identifier)} was used for a gene on {shown_name(draft.contig)} "
                        f"in line {draft.line}; an ID must be unique",
                        path=label,
                        line=number,
                    )
                # The next part of a gene in pieces; pieces of both strands have no direction.
                draft.widen(start, end)
                draft.strand = strand if strand == draft.strand else "."
                continue
            gene_id = _decoded(attributes, "gene_id", "ID", "Name")
            if not gene_id:
                raise InputError("this gene has neither ID nor gene_id", path=label, line=number)
            if own is not None:
                features.drafts[own] = len(drafts)
            name, biotype = _decoded(attributes, *_NAMES), _decoded(attributes, *_BIOTYPES)
            drafts.append(_Draft(gene_id, name, unquote(fields[0]), strand, start, end, biotype, number))
        elif own is not None:
            features.parents[own] = (features.parents[own] or ()) + parents
            if lowered.endswith(_TRANSCRIPTS):
                for parent in parents:
                    transcripts.add(parent, start, end)
    genes = features.genes()
    # A transcript counts when its parent is a gene, an exon when any ancestor is.
    direct = [(draft,) if draft >= 0 else () for draft in features.drafts]
    return _finished(drafts, _owned(exons, genes), _owned(coding, genes), _owned(transcripts, direct))


def _owned(intervals: _Intervals, drafts: Sequence[tuple[int, ...]]) -> _Triple:
    """Intervals of features as intervals of the features' genes."""
    owner, start, end = intervals.arrays()
    counts = np.array([len(each) for each in drafts], dtype=np.int64)
    flat = np.array([draft for each in drafts for draft in each], dtype=np.int64)
    first = np.cumsum(counts) - counts
    repeats = counts[owner]
    which = np.repeat(np.arange(len(owner)), repeats)
    within = np.arange(len(which)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return flat[first[owner[which]] + within], start[which], end[which]


def _end_of(strand: str, start: int, end: int) -> tuple[int, ...]:
    """The first base of an interval on its strand; none without a strand."""
    return {"+": (start,), "-": (end - 1,)}.get(strand, ())


def _read_bed_genes(path: str, label: str) -> list[Gene]:
    regions = read_bed(path, label)
    blocks: dict[int, tuple[Interval, ...]] = {}
    wanted = {region.line: region for region in regions}
    for number, line in read_lines(path, KIND, label):
        region = wanted.get(number)
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
        if region is not None and len(fields) >= 12:
            blocks[number] = _blocks(fields[9:12], region.start, region.end, number, label)
    genes = []
    for region in regions:
        span = region.start, region.end
        gene_id = region.name if region.name != "." else f"{region.chrom}:{region.start}-{region.end}"
        exons = blocks.get(region.line or 0, (span,))
        tss = _end_of(region.strand, *span)
        genes.append(
            Gene(gene_id, gene_id, region.chrom, region.strand, *span, exons, tss, line=region.line or 0)
        )
    return genes


def _blocks(columns: Sequence[str], start: int, end: int, number: int, label: str) -> tuple[Interval, ...]:
    """Exons from blockCount, blockSizes and blockStarts of BED12."""
    count, sizes, starts = (column.removesuffix(",").split(",") for column in columns)
    if not all(_is_number(text) for text in (*count, *sizes, *starts)) or not (
        len(sizes) == len(starts) == int(count[0])
    ):
        raise InputError(
            f"columns 10 to 12 must be a number of blocks and that many sizes and starts, not "
            f"{shown(' '.join(columns))}",
            path=label,
            line=number,
        )
    pairs = [
        (start + int(low), start + int(low) + int(size)) for low, size in zip(starts, sizes, strict=True)
    ]
    if any(low >= high or high > end for low, high in pairs):
        raise InputError(
            f"a block of columns 10 to 12 is empty or reaches past the end {end}", path=label, line=number
        )
    return merge(pairs)


def _read_table(lines: Lines, label: str) -> list[Gene]:
    header: list[str] | None = None
    genes = []
    for number, line in lines:
        if not line.strip() or line.startswith("##"):
            continue
        if header is None:
            header = _table_header(line, number, label)
            continue
        if line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(header):
            raise InputError(
                f"{len(cells)} columns where the header has {len(header)}; columns are separated by tabs",
                path=label,
                line=number,
            )
        genes.append(_table_gene(dict(zip(header, cells, strict=True)), number, label))
    if header is None:
        raise InputError("the table is empty; the first line names the columns", path=label)
    return genes


def _table_header(line: str, number: int, label: str) -> list[str]:
    header = [name.strip() for name in line.lstrip("#").split("\t")]
    for name in header:
        if name not in TABLE_COLUMNS:
            raise InputError(
                f"unknown column {shown(name)}; the columns are tab-separated: {', '.join(TABLE_COLUMNS)}",
                path=label,
                line=number,
            )
    if len(set(header)) != len(header):
        raise InputError("a column is named twice", path=label, line=number)
    for name in TABLE_COLUMNS[:5]:
        if name not in header:
            raise InputError(f"the column {name!r} is missing", path=label, line=number)
    return header


def _table_gene(row: Mapping[str, str], number: int, label: str) -> Gene:
    def fail(message: str) -> InputError:
        return InputError(message, path=label, line=number)

    def position(name: str, text: str) -> int:
        if not _is_number(text):
            raise fail(f"{name} {shown(text)} is not a whole number (0 or more)")
        return int(text)

    def given(name: str) -> str:
        return "" if row.get(name, "") == "." else row.get(name, "")

    for name in ("gene_id", "chrom"):
        if not given(name):
            raise fail(f"the column {name} is empty")
    gene_id, strand = row["gene_id"], row["strand"]
    start, end = position("start", row["start"]), position("end", row["end"])
    if end <= start:
        raise fail(f"interval {start}-{end}; the table is 0-based half-open: end must be larger than start")
    if strand not in _STRANDS[:3]:
        raise fail(f"strand {shown(strand)}; allowed are + (forward), - (reverse) and . (none)")
    exons = []
    for text in filter(None, given("exons").split(",")):
        low, _, high = text.partition("-")
        exons.append((position("an exon's start", low), position("an exon's end", high)))
        if not start <= exons[-1][0] < exons[-1][1] <= end:
            raise fail(f"exon {shown(text)} is empty, reversed or outside {start}-{end}")
    tss = [position("tss", text) for text in filter(None, given("tss").split(","))]
    return Gene(
        gene_id,
        given("name") or gene_id,
        row["chrom"],
        strand,
        start,
        end,
        merge(exons) or ((start, end),),
        tuple(sorted(set(tss))) or _end_of(strand, start, end),
        given("biotype"),
        number,
    )
