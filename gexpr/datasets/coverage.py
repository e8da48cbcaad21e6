"""Read measured signals (BED counts, bedGraph, bigWig) as one value per base of a contig."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from gexpr.errors import InputError, require
from gexpr.genome.contigs import ContigMap

_SPREAD_BASES = 1 << 22


class Dropped(NamedTuple):
    """What of a file was not used."""

    other_strand: int
    unknown_contigs: dict[str, int]


class Coverage(Protocol):
    """Signal of one file; values outside every interval are 0."""

    dropped: Dropped

    def values(self, contig: str, start: int = 0, end: int | None = None) -> np.ndarray:
        """float64 (end - start,): value of each base from ``start`` to ``end``; None is the contig's end."""
        ...


class IntervalCoverage:
    """Intervals with values, held in memory by contig (BED and bedGraph)."""

    def __init__(
        self,
        lengths: dict[str, int],
        intervals: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
        dropped: Dropped,
    ) -> None:
        self._lengths = lengths
        self._intervals = intervals
        self.dropped = dropped

    def values(self, contig: str, start: int = 0, end: int | None = None) -> np.ndarray:
        """float64 (end - start,): sum of the values of the intervals that cover each base."""
        end = self._lengths[contig] if end is None else end
        total = np.zeros(end - start, dtype=np.float64)
        if contig not in self._intervals:
            return total
        starts, ends, values = self._intervals[contig]
        if total.size < self._lengths[contig]:
            inside = (starts < end) & (ends > start)
            starts, ends = np.maximum(starts[inside], start) - start, np.minimum(ends[inside], end) - start
            values = values[inside]
            if not len(values):
                return total
        widths = ends - starts
        # Spread a bounded number of bases at a time; one interval is never longer than the contig.
        piece = np.cumsum(widths) // _SPREAD_BASES
        for first, last in itertools.pairwise(np.searchsorted(piece, np.arange(piece[-1] + 2))):
            if first == last:
                continue
            width = widths[first:last]
            offsets = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
            np.add.at(
                total, np.repeat(starts[first:last], width) + offsets, np.repeat(values[first:last], width)
            )
        return total


class BigWigCoverage:
    """A bigWig file; bases without a value are 0. Holds a path, so that it pickles."""

    def __init__(self, path: Path, lengths: dict[str, int]) -> None:
        self._path = path
        self._lengths = lengths
        bigwig = require("pyBigWig", "train")
        handle = _open_bigwig(bigwig, path)
        try:
            sizes = handle.chroms()
        finally:
            handle.close()
        contigs = ContigMap(list(lengths))
        self._names: dict[str, str] = {}
        unknown: dict[str, int] = {}
        for name, size in sizes.items():
            contig = contigs.resolve(name)
            if contig is None:
                unknown[name] = 1
            elif size != lengths[contig]:
                raise InputError(
                    f"contig {name} has {size} bases here and {lengths[contig]} in the FASTA; "
                    "is it another assembly?",
                    path=path,
                )
            else:
                self._names[contig] = name
        self.dropped = Dropped(0, unknown)

    def values(self, contig: str, start: int = 0, end: int | None = None) -> np.ndarray:
        """float64 (end - start,): value of each base."""
        end = self._lengths[contig] if end is None else end
        if contig not in self._names:
            return np.zeros(end - start, dtype=np.float64)
        handle = _open_bigwig(require("pyBigWig", "train"), self._path)
        try:
            values = handle.values(self._names[contig], start, end, numpy=True)
        except RuntimeError as error:
            raise InputError(f"cannot read contig {contig}: {error}", path=self._path) from error
        finally:
            handle.close()
        return np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)


def _open_bigwig(bigwig, path: Path):  # type: ignore[no-untyped-def]
    try:
        handle = bigwig.open(str(path))
    except RuntimeError as error:
        raise InputError(f"not a readable bigWig file: {error}", path=path) from error
    if handle is None or not handle.isBigWig():
        raise InputError("not a bigWig file", path=path)
    return handle


def open_coverage(
    path: str | os.PathLike[str], kind: str, lengths: dict[str, int], strand: str = ".", count_column: int = 5
) -> Coverage:
    """Open a signal file.

    Args:
        kind: ``bed`` (a count per interval, spread evenly over the bases of the interval so that
            the sum is kept), ``bedgraph`` or ``bigwig`` (a value per base).
        lengths: contigs of the FASTA; names are matched by :class:`~gexpr.genome.contigs.ContigMap`.
        strand: ``+`` or ``-`` keeps the BED lines of that strand; ``.`` keeps all lines.
        count_column: 1-based BED column with the count.

    Raises:
        InputError: with the line, for anything that is not such a file or lies outside a contig.
    """
    path = Path(path)
    if kind == "bigwig":
        return BigWigCoverage(path, lengths)
    return _read_intervals(path, kind, lengths, strand, count_column)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with open(path, "rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    number = 0
    try:
        with gzip.open(path, "rb") if zipped else open(path, "rb") as handle:
            for line in handle:
                number += 1
                yield number, line
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"the file is cut or corrupt after line {number}: {error}", path=path, line=number
        ) from error


def _read_intervals(
    path: Path, kind: str, lengths: dict[str, int], strand: str, count_column: int
) -> IntervalCoverage:
    contigs = ContigMap(list(lengths))
    resolved: dict[bytes, str | None] = {}
    starts: dict[str, array] = {}
    ends: dict[str, array] = {}
    values: dict[str, array] = {}
    unknown: Counter[str] = Counter()
    other_strand = 0
    is_bed = kind == "bed"
    column = (count_column if is_bed else 4) - 1
    wanted = strand.encode()
    check_strand = is_bed and strand != "."
    needed = max(column + 1, 6) if check_strand else column + 1

    def fail(number: int, message: str) -> InputError:
        return InputError(message, path=path, line=number)

    for number, line in _lines(path):
        if not line.strip() or line.startswith((b"#", b"track", b"browser")):
            continue
        line = line.rstrip(b"\r\n")
        fields = line.split(b"\t") if b"\t" in line else line.split()
        if len(fields) < needed:
            raise fail(
                number,
                f"{len(fields)} columns; "
                + (f"the count is read from column {column + 1}" if is_bed else "bedGraph has 4")
                + (" and the strand from column 6" if check_strand else ""),
            )
        name = fields[0]
        if name in resolved:
            contig = resolved[name]
        else:
            contig = resolved[name] = contigs.resolve(name.decode("utf-8", "replace"))
        if contig is None:
            unknown[name.decode("utf-8", "replace")] += 1
            continue
        try:
            start, end = int(fields[1]), int(fields[2])
        except ValueError:
            raise fail(number, "start and end (columns 2 and 3) must be whole numbers") from None
        if not 0 <= start < end:
            raise fail(number, f"the interval {start}-{end} is empty, reversed or negative")
        if end > lengths[contig]:
            raise fail(number, f"the interval ends at {end}, past the end of {contig} ({lengths[contig]} bp)")
        try:
            value = float(fields[column])
        except ValueError:
            value = float("nan")
        if not 0 <= value < float("inf"):
            raise fail(
                number,
                f"column {column + 1} is {fields[column].decode('utf-8', 'replace')!r}; "
                "it must be a number, 0 or more",
            )
        if check_strand:
            if fields[5] not in (b"+", b"-"):
                raise fail(
                    number,
                    f"the strand (column 6) is {fields[5].decode('utf-8', 'replace')!r}; "
                    f"a track of strand {strand} needs + or - on every line",
                )
            if fields[5] != wanted:
                other_strand += 1
                continue
        if is_bed:
            value /= end - start
        if contig not in starts:
            starts[contig], ends[contig], values[contig] = array("q"), array("q"), array("d")
        starts[contig].append(start)
        ends[contig].append(end)
        values[contig].append(value)
    intervals = {
        contig: (
            np.frombuffer(starts[contig], dtype=np.int64),
            np.frombuffer(ends[contig], dtype=np.int64),
            np.frombuffer(values[contig], dtype=np.float64),
        )
        for contig in starts
    }
    return IntervalCoverage(lengths, intervals, Dropped(other_strand, dict(unknown)))
