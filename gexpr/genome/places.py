"""Regions as the user names them, and which places lie in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError, InputError, shown
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap
from gexpr.results import Region

_FOREVER = 1 << 62


def parse_region(text: str) -> Region:
    """``chr``, ``chr:start-end``, ``chr:start-`` or ``chr:pos``: 1-based and inclusive, as samtools reads it.

    Numbers may hold commas. ``chr:pos`` alone is that one position, unlike in samtools.

    Raises:
        ConfigError: it is none of these.
    """
    whole = text.strip()
    match = re.fullmatch(r"(.+):([\d,]+)(?:(-)([\d,]*))?", whole)
    if match is None:
        if not whole or re.search(r":[^:]*\d\s*-|\s", whole):
            raise ConfigError(f"{shown(text)} is not a region such as chr1:1,000-2,000 or chr1")
        return Region(whole, 0, _FOREVER)
    start, end = (int(number.replace(",", "") or 0) if number else None for number in match.group(2, 4))
    if start is None or start < 1:
        raise ConfigError(f"{shown(text)}: positions count from 1")
    if end is None:
        end = _FOREVER if match.group(3) else start
    if end < start:
        raise ConfigError(f"{shown(text)} ends before it starts")
    return Region(match.group(1), start - 1, end)


def open_ended(region: Region) -> bool:
    """Whether a region of :func:`parse_region` reaches to the end of its contig, wherever that is."""
    return region.end == _FOREVER


def with_bed(regions: Iterable[Region], bed: str | None) -> tuple[Region, ...]:
    """Regions, and those of a BED file if there is one.

    Raises:
        InputError: a fault of the file, or it has no line.
    """
    regions = list(regions)
    if bed is not None:
        lines = read_bed(bed)
        if not lines:
            raise InputError("it has no region", path=bed)
        regions += lines
    return tuple(regions)


class Places:
    """Tells which intervals overlap any of some regions.

    Contigs are matched exactly, then with or without ``chr``, as :class:`ContigMap` does.

    Args:
        regions: 0-based, half-open.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        by_contig: dict[str, list[tuple[int, int]]] = {}
        for region in regions:
            by_contig.setdefault(region.chrom, []).append((region.start, region.end))
        self._merged = {contig: _merged(intervals) for contig, intervals in by_contig.items()}
        self._contigs = ContigMap(self._merged)
        self._met: dict[str, None] = {}

    def overlap(
        self, chroms: Sequence[str], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which intervals (contig, start, end), 0-based and half-open, share a base with a region."""
        codes = {chrom: code for code, chrom in enumerate(dict.fromkeys(chroms))}
        self._met.update(dict.fromkeys(codes))
        which = np.fromiter((codes[chrom] for chrom in chroms), dtype=np.int64, count=len(chroms))
        inside = np.zeros(len(chroms), dtype=bool)
        for chrom, code in codes.items():
            contig = self._contigs.resolve(chrom)
            if contig is not None:
                rows = np.flatnonzero(which == code)
                low, high = self._merged[contig]
                # Of the regions that end behind the interval's start, the first begins first.
                first = np.searchsorted(high, starts[rows], side="right")
                inside[rows] = np.append(low, _FOREVER)[first] < ends[rows]
        return inside

    def missing(self) -> list[str]:
        """Contigs of the regions on which none of the intervals lay so far."""
        found = {self._contigs.resolve(chrom) for chrom in self._met}
        return [contig for contig in self._merged if contig not in found]

    @property
    def met(self) -> list[str]:
        """Contigs of the intervals so far."""
        return list(self._met)


def _merged(intervals: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of the union, ascending."""
    union: list[list[int]] = []
    for start, end in sorted(intervals):
        if union and start <= union[-1][1]:
            union[-1][1] = max(union[-1][1], end)
        else:
            union.append([start, end])
    starts, ends = np.array(union, dtype=np.int64).T
    return starts, ends
