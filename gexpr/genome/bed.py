"""Reading of BED files, strictly: BED3 to BED12, tabs or spaces, plain, gzip or standard input."""

from __future__ import annotations

import os

from gexpr.errors import InputError, shown, shown_name
from gexpr.genome.compressed import read_lines
from gexpr.results import Region


def read_bed(path: str | os.PathLike[str], label: str | None = None) -> list[Region]:
    """All intervals of a BED file in file order, each with its line number.

    Lines that are blank or start with ``#``, ``track`` or ``browser`` are skipped. Columns are
    separated by tabs, or by spaces in a line without a tab; of more than six columns the first six
    are used. Missing columns get ``.``. Whether an interval lies on a contig is for the caller to check.

    Args:
        path: the file; ``-`` is standard input.
        label: what messages call the file; default its path.

    Raises:
        InputError: with the line, for fewer than three columns, coordinates that are not whole
            numbers, a zero-length or reversed interval, a strand other than ``+ - .``; without
            one, for a missing, empty, damaged or foreign file.
    """
    regions = []
    name = path if label is None else label
    for number, line in read_lines(path, "BED file", label):
        text = line.strip()
        if not text or text.startswith("#") or text.split(None, 1)[0] in ("track", "browser"):
            continue
        regions.append(_region(line.rstrip(), number, name))
    return regions


def _region(line: str, number: int, path: str | os.PathLike[str]) -> Region:
    fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
    if len(fields) < 3:
        raise InputError(
            f"{len(fields)} column(s) where BED needs at least three (chrom, start, end): {shown(line)}",
            path=path,
            line=number,
        )
    if not fields[0]:
        raise InputError("the chromosome name is empty", path=path, line=number)
    start, end = (_coordinate(fields[i], name, number, path) for i, name in ((1, "start"), (2, "end")))
    if end <= start:
        what = "zero-length" if end == start else "reversed"
        raise InputError(
            f"{what} interval {shown_name(fields[0])}:{start}-{end}; BED is 0-based half-open, "
            "so end must be larger than start",
            path=path,
            line=number,
        )
    name, score, strand = (fields[i] if len(fields) > i and fields[i] else "." for i in (3, 4, 5))
    if strand not in ("+", "-", "."):
        raise InputError(
            f"strand {shown(strand)} in column 6; allowed are + (forward), - (reverse) and . (none)",
            path=path,
            line=number,
        )
    return Region(fields[0], start, end, name, score, strand, number)


def _coordinate(text: str, name: str, number: int, path: str | os.PathLike[str]) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InputError(
            f"{name} {shown(text)} is not a whole number of bases (0 or more)", path=path, line=number
        )
    return int(text)
