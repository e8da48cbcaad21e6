"""Which output bins of a window belong to which gene; numpy alone, so that names and checks stay cheap.

A gene has a mask, a set of bases: its exons, its whole interval, or what lies near its transcription
start sites (:class:`GeneMask`). A bin belongs to the gene by one of two rules of overlap:

``majority``
    as in borzoi_sed (``majority_overlap``) and ``Gene.output_slice`` of baskerville: the bins from
    round(start / bin_size) to round(end / bin_size) of every exon, counted from the first predicted base,
    halves rounded to the even number. So a bin counts when an exon holds its middle, and an exon between
    two middles has no bin.
``any``
    a bin counts when at least one of its bases is in the mask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.genome.genes import Gene, Interval, merge
from gexpr.results import Track, Variant

GENE_MASKS = ("exon", "gene", "tss")
OVERLAPS = ("majority", "any")
DEFAULT_GENE_WINDOW = "250"

Numbers = NDArray[np.int64]


class GeneMask(NamedTuple):
    """Which bases of a gene are scored, and which bins they make; see :func:`parse_gene_mask`.

    ``upstream`` and ``downstream`` are bp on either side of a transcription start site, itself not
    counted; of kind ``tss`` only.
    """

    kind: str = "exon"
    upstream: int = 0
    downstream: int = 0
    overlap: str = "majority"

    def __str__(self) -> str:
        window = f":{self.upstream},{self.downstream}" if self.kind == "tss" else ""
        return f"{self.kind}{window},{self.overlap}"

    def intervals(self, gene: Gene) -> tuple[Interval, ...]:
        """The mask of a gene: intervals in order, apart from each other; none for ``tss`` without TSS."""
        if self.kind == "exon":
            return gene.exons
        if self.kind == "gene":
            return ((gene.start, gene.end),)
        left, right = self.upstream, self.downstream
        if gene.strand == "-":
            left, right = right, left
        return merge([(max(0, tss - left), tss + right + 1) for tss in gene.tss])


def parse_gene_mask(kind: str, window: str | None = None, overlap: str | None = None) -> GeneMask:
    """A mask from what the user wrote.

    Args:
        kind: ``exon``, ``gene`` (from first to last base, introns included) or ``tss``.
        window: of ``tss``: ``BP`` on either side, or ``UP,DOWN`` on the gene's strand; default 250.
        overlap: ``majority`` or ``any``; by default ``any`` for ``tss`` and ``majority`` otherwise.

    Raises:
        ConfigError: anything else, or a window without ``tss``.
    """
    name = kind.strip().lower()
    if name not in GENE_MASKS:
        raise ConfigError(f"gene mask must be one of {', '.join(GENE_MASKS)}, not {kind!r}")
    rule = (overlap or ("any" if name == "tss" else "majority")).strip().lower()
    if rule not in OVERLAPS:
        raise ConfigError(f"the overlap of bins must be one of {', '.join(OVERLAPS)}, not {overlap!r}")
    if name != "tss":
        if window is not None:
            raise ConfigError(
                f"a gene window is around transcription start sites; the gene mask {name} takes none "
                "(give --gene-mask tss)"
            )
        return GeneMask(name, overlap=rule)
    match = re.fullmatch(r"(\d{1,9})(?:,(\d{1,9}))?", (window or DEFAULT_GENE_WINDOW).replace(" ", ""))
    if match is None:
        raise ConfigError(f"gene window must be BP, such as 250, or UP,DOWN, such as 300,50, not {window!r}")
    upstream = int(match.group(1))
    downstream = upstream if match.group(2) is None else int(match.group(2))
    return GeneMask(name, upstream, downstream, rule)


EXONS = GeneMask()
"""The exons of a gene."""


class GeneBins(NamedTuple):
    """The genes of one window, ascending by number: each has at least one bin.

    ``genes`` (n,) are their numbers, ``masks`` (n, bins) bool their bins, and ``coverage`` (n,) float64
    the share of each mask's bases that lies in covered bins: above 0, at most 1, less than 1 for a gene that
    is partly outside.
    """

    genes: Numbers
    masks: NDArray[np.bool_]
    coverage: NDArray[np.float64]


class NearestTss(NamedTuple):
    """The nearest transcription start site: the number of its gene, and the signed distance in bp."""

    gene: int
    distance: int


class GeneIndex:
    """Finds genes by position.

    A gene's number is its place in ``genes``. Genes without a mask (``tss``, and no strand to have a TSS by)
    are never found; ``without_mask`` counts them.

    Args:
        genes: under the FASTA's names of contigs.
        mask: which bases of a gene are scored.
    """

    def __init__(self, genes: Sequence[Gene], mask: GeneMask | None = None) -> None:
        self.genes = tuple(genes)
        self.mask = mask or GeneMask()
        per_gene = [self.mask.intervals(gene) for gene in self.genes]
        self.without_mask = sum(not each for each in per_gene)
        self._offsets = np.cumsum([0, *(len(each) for each in per_gene)])
        flat = [interval for each in per_gene for interval in each]
        self._starts, self._ends = np.array(flat, dtype=np.int64).reshape(-1, 2).T
        self._bases = np.zeros(len(per_gene), dtype=np.int64)
        np.add.at(
            self._bases,
            np.repeat(np.arange(len(per_gene)), np.diff(self._offsets)),
            self._ends - self._starts,
        )
        self._contigs = self._by_contig([number for number, each in enumerate(per_gene) if each])
        self._tss = self._tss_by_contig()
        self._tss_offsets = np.cumsum([0, *(len(gene.tss) for gene in self.genes)])
        self._tss_flat = np.array([tss for gene in self.genes for tss in gene.tss], dtype=np.int64)
        self._direction = np.array([-1 if gene.strand == "-" else 1 for gene in self.genes], dtype=np.int64)

    def _by_contig(self, numbers: Iterable[int]) -> dict[str, tuple[Numbers, Numbers, Numbers, Numbers]]:
        """Contig -> genes by the start of their masks: numbers, starts, ends, largest end so far."""
        groups: dict[str, list[int]] = {}
        for number in numbers:
            groups.setdefault(self.genes[number].contig, []).append(number)
        found = {}
        for contig, members in groups.items():
            genes = np.array(members, dtype=np.int64)
            starts, ends = self._starts[self._offsets[genes]], self._ends[self._offsets[genes + 1] - 1]
            order = np.argsort(starts, kind="stable")
            ends = ends[order]
            found[contig] = genes[order], starts[order], ends, np.maximum.accumulate(ends)
        return found

    def _tss_by_contig(self) -> dict[str, tuple[Numbers, Numbers]]:
        """Contig -> positions of all TSS in order, and their genes; of equal positions by number."""
        groups: dict[str, list[tuple[int, int]]] = {}
        for number, gene in enumerate(self.genes):
            groups.setdefault(gene.contig, []).extend((tss, number) for tss in gene.tss)
        found = {}
        for contig, pairs in groups.items():
            if pairs:
                positions, numbers = np.array(sorted(pairs), dtype=np.int64).T
                found[contig] = np.ascontiguousarray(positions), np.ascontiguousarray(numbers)
        return found

    def overlapping(self, contig: str, start: int, end: int) -> Numbers:
        """Numbers, ascending, of the genes of which at least one mask base lies in an interval."""
        known = self._contigs.get(contig)
        if known is None:
            return np.zeros(0, dtype=np.int64)
        genes, starts, ends, furthest = known
        # Before `low` every mask ends too early, from `high` on every one starts too late.
        low = int(np.searchsorted(furthest, start, side="right"))
        high = int(np.searchsorted(starts, end, side="left"))
        near = np.sort(genes[low:high][ends[low:high] > start])
        at, owner = self._intervals_of(near)
        inside = (self._starts[at] < end) & (self._ends[at] > start)
        return near[np.bincount(owner[inside], minlength=len(near)) > 0]

    def _intervals_of(self, genes: Numbers) -> tuple[Numbers, Numbers]:
        """Places of the mask intervals of genes, and for each the place of its gene in ``genes``."""
        counts = self._offsets[genes + 1] - self._offsets[genes]
        owner = np.repeat(np.arange(len(genes)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._offsets[genes][owner] + within, owner

    def bins(self, contig: str, first: int, bin_size: int, covered: NDArray[np.bool_]) -> GeneBins:
        """The genes of a window's bins.

        Args:
            contig: the window's contig.
            first: genome position of the first base of bin 0; may be negative.
            bin_size: bases a bin.
            covered: (bins,) the bins that both alleles' windows cover; others belong to no gene.
        """
        bins = len(covered)
        genes = self.overlapping(contig, first, first + bins * bin_size)
        at, owner = self._intervals_of(genes)
        starts, ends = (np.clip(each[at] - first, 0, bins * bin_size) for each in (self._starts, self._ends))
        if self.mask.overlap == "majority":
            low, high = _rounded(starts, bin_size), _rounded(ends, bin_size)
        else:
            low, high = starts // bin_size, -(-ends // bin_size)
        # Where intervals begin and end; an empty one does both in one place.
        changes = np.zeros((len(genes), bins + 1), dtype=np.int32)
        outside = starts >= ends
        high = np.where(outside, low, high)
        np.add.at(changes, (owner, low), 1)
        np.add.at(changes, (owner, high), -1)
        masks = (np.cumsum(changes, axis=1)[:, :bins] > 0) & covered
        below = np.concatenate([[0], np.cumsum(covered)]) * bin_size

        def covered_below(position: Numbers) -> Numbers:
            whole, rest = np.divmod(position, bin_size)
            return below[whole] + rest * covered[np.minimum(whole, bins - 1)]

        inside = np.zeros(len(genes), dtype=np.int64)
        np.add.at(inside, owner, covered_below(ends) - covered_below(starts))
        kept = masks.any(axis=1)
        return GeneBins(genes[kept], masks[kept], inside[kept] / self._bases[genes[kept]])

    def tss_distance(self, genes: Numbers, start: int, end: int) -> NDArray[np.float64]:
        """Distance of the bases ``start`` to ``end`` to the nearest TSS of each gene, (n,) in bp.

        Positive downstream of the TSS on the gene's strand, negative upstream, 0 where it is one of the
        bases; NaN for a gene without TSS. Of two equally near TSS the one that lies downstream counts, so
        that the distance is negative.
        """
        result = np.full(len(genes), np.nan)
        counts = self._tss_offsets[genes + 1] - self._tss_offsets[genes]
        with_tss = np.flatnonzero(counts)
        if len(with_tss):
            counts = counts[with_tss]
            begin = np.cumsum(counts) - counts
            owner = np.repeat(genes[with_tss], counts)
            within = np.arange(len(owner)) - np.repeat(begin, counts)
            tss = self._tss_flat[self._tss_offsets[owner] + within]
            distances = _signed(tss, start, end) * self._direction[owner]
            # One number that orders by distance, then upstream first, and holds the sign.
            nearest = np.minimum.reduceat(2 * np.abs(distances) + (distances > 0), begin)
            result[with_tss] = np.where(nearest % 2 == 1, nearest // 2, -(nearest // 2))
        return result

    def nearest_tss(self, contig: str, start: int, end: int) -> NearestTss | None:
        """The TSS nearest to the bases ``start`` to ``end``; see :func:`_signed`.

        Of equally near ones that of the gene with the lowest number. None on a contig without any.
        """
        known = self._tss.get(contig)
        if known is None:
            return None
        positions, genes = known
        low, high = (int(np.searchsorted(positions, each, side="left")) for each in (start, end))
        if low == high:
            # All TSS at the nearest position on either side.
            if low > 0:
                low = int(np.searchsorted(positions, positions[low - 1], side="left"))
            if high < len(positions):
                high = int(np.searchsorted(positions, positions[high], side="right"))
        distances = _signed(positions[low:high], start, end)
        best = np.lexsort((genes[low:high], np.abs(distances)))[0]
        gene = int(genes[low + best])
        return NearestTss(gene, int(distances[best] * self._direction[gene]))


def _signed(tss: Numbers, start: int, end: int) -> Numbers:
    """Distance in bp of the bases ``start`` to ``end`` (half-open) from positions, along the + strand.

    0 where a position is one of the bases; positive where the bases lie behind it, by the nearest base.
    Times the gene's direction this is positive downstream of a TSS and negative upstream.
    """
    return np.where(tss < start, start - tss, np.where(tss >= end, end - 1 - tss, 0))


def _rounded(position: Numbers, size: int) -> Numbers:
    """``position / size`` to the nearest whole number, halves to the even one."""
    whole, rest = np.divmod(position, size)
    return whole + ((2 * rest > size) | ((2 * rest == size) & (whole % 2 == 1)))


def variant_bases(variant: Variant) -> tuple[int, int]:
    """The reference bases (0-based half-open) that a variant changes; of an insertion, its two neighbors."""
    if not variant.norm_ref:
        return variant.start - 1, variant.start + 1
    return variant.start, variant.start + len(variant.norm_ref)


def nearest_tss_of(index: GeneIndex, variants: Sequence[Variant]) -> tuple[Numbers, NDArray[np.float64]]:
    """For every variant the gene of the nearest TSS and the distance to it.

    Returns:
        Numbers of genes (n,), -1 where there is none, and distances (n,) in bp, NaN there: positive
        downstream of the TSS on its gene's strand, negative upstream. There is none for a variant whose
        status is not ``ok``, and on a contig without genes.
    """
    genes = np.full(len(variants), -1, dtype=np.int64)
    distances = np.full(len(variants), np.nan)
    for row, variant in enumerate(variants):
        found = index.nearest_tss(variant.contig, *variant_bases(variant)) if variant.ok else None
        if found is not None:
            genes[row], distances[row] = found
    return genes, distances


def strand_matches(strands: Sequence[str], tracks: Sequence[Track]) -> NDArray[np.bool_]:
    """Which tracks belong to genes on these strands, (genes, tracks).

    A track of strand ``.`` belongs to all, one of ``+`` or ``-`` to the genes of its strand; a gene
    without a strand has all tracks.
    """
    signs = {"+": 1, "-": -1}
    of_gene, of_track = (
        np.array([signs.get(strand, 0) for strand in each], dtype=np.int64)
        for each in (strands, [track.strand for track in tracks])
    )
    return of_gene[:, None] * of_track >= 0
