"""Predictions along the genome: one bigWig or bedGraph file a track, overlapping regions averaged.

Predictions come region by region, in any order; both formats want them contig by contig, from left to
right. They therefore wait in an unnamed temporary file beside the outputs, and the genome is swept once in
the end, a stretch at a time: memory does not grow with the number of regions.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import GexprError, require, shown_name
from gexpr.results import Track
from gexpr.writers.output import AtomicOutput, write_all
from gexpr.writers.text import TextFile, numbers

FORMATS = {"bigwig": ".bw", "bedgraph": ".bedGraph.gz"}
"""Format of files of one track -> their suffix."""

_SWEEP_BINS = 1 << 16
_SWEEP_BYTES = 1 << 26
_MOST_FILES = 64


def need_bigwig() -> Any:
    """Import pyBigWig.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return require("pyBigWig", "bigwig")


def track_file_names(tracks: Sequence[Track], format: str) -> list[str]:
    """Names of the files of tracks: their ids, as far as a file may be called so.

    Letters other than ``A-Z a-z 0-9 . _ + -`` become ``_``. Of tracks whose names would then be the same,
    also but for upper and lower case, each has its index at the end.
    """
    stems = []
    for track in tracks:
        stem = re.sub(r"[^A-Za-z0-9._+-]", "_", track.id)[:150]
        stems.append(f"_{stem}" if stem[:1] in ("", ".", "-") else stem)
    folded = [stem.casefold() for stem in stems]
    names = [
        f"{stem}.{track.index}" if folded.count(fold) > 1 else stem
        for track, stem, fold in zip(tracks, stems, folded, strict=True)
    ]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{track.index}.{stem}" for track, stem in zip(tracks, stems, strict=True)]
    return [name + FORMATS[format] for name in names]


class TrackFile(Protocol):
    """Takes the values of one track in the order of the genome."""

    def write(self, contig: str, starts: NDArray[np.int64], ends: NDArray[np.int64], values: Any) -> None:
        """Add intervals of a contig, float32 values."""
        ...

    def finish(self) -> None:
        """Complete the file and bring it to the disk, still without its name."""
        ...


class BigWigFile:
    """A bigWig file under an :class:`AtomicOutput`.

    Args:
        output: the claimed output, a regular file.
        contigs: names and lengths, sorted by the names' bytes.
        bin_size: length of most intervals.
    """

    def __init__(self, output: AtomicOutput, contigs: Sequence[tuple[str, int]], bin_size: int) -> None:
        place = output.unpublished()
        if place is None:
            raise GexprError(f"cannot write {output.path}: bigWig needs a regular file")
        self._output = output
        self._path = str(place[0])
        self._bin_size = bin_size
        self._covered = 0
        self._library = need_bigwig()
        self._file = self._call(self._library.open, self._path, "w")
        self._call(self._file.addHeader, list(contigs))

    def _call(self, function: Any, *values: Any, **named: Any) -> Any:
        try:
            return function(*values, **named)
        except (RuntimeError, OSError) as error:
            raise GexprError(f"cannot write {self._output.path}: {error}") from error

    def write(self, contig: str, starts: NDArray[np.int64], ends: NDArray[np.int64], values: Any) -> None:
        """Add intervals; bins that follow one another are stored without their positions."""
        self._covered += int((ends - starts).sum())
        size = self._bin_size
        if (ends - starts == size).all() and (starts[1:] == ends[:-1]).all():
            self._call(
                self._file.addEntries, contig, int(starts[0]), values=values.tolist(), span=size, step=size
            )
        else:
            self._call(
                self._file.addEntries,
                [contig] * len(starts),
                starts.tolist(),
                ends=ends.tolist(),
                values=values.tolist(),
            )

    def finish(self) -> None:
        """Complete the file, see that it can be read, and bring it to the disk."""
        self._call(self._file.close)
        # The library says little of a disk that is full.
        written = self._call(self._library.open, self._path)
        covered = self._call(written.header)["nBasesCovered"] if written else None
        if written:
            written.close()
        if covered != self._covered:
            raise GexprError(f"cannot write {self._output.path}: it is not complete; is the disk full?")
        self._output.finish()


class BedGraphFile:
    """A bgzipped bedGraph under an :class:`AtomicOutput`: ``chrom start end value``, without a header."""

    def __init__(self, output: AtomicOutput) -> None:
        self._file = TextFile(output)

    def write(self, contig: str, starts: NDArray[np.int64], ends: NDArray[np.int64], values: Any) -> None:
        """Add lines."""
        rows = zip(starts.tolist(), ends.tolist(), numbers(values), strict=True)
        self._file.lines([f"{contig}\t{start}\t{end}\t{value}" for start, end, value in rows])

    def finish(self) -> None:
        """Complete the file and bring it to the disk."""
        self._file.finish()


class TrackOutput(NamedTuple):
    """A claimed file for one track, given by its column, in ``bigwig`` or ``bedgraph``."""

    output: AtomicOutput
    format: str
    column: int


class _Piece(NamedTuple):
    """Bins of a region in the temporary file, at byte ``offset``."""

    contig: bytes
    start: int
    region: int
    bins: int
    offset: int


class GenomeTracks:
    """Collects predictions and writes files of single tracks.

    A base that several regions cover takes the mean of their predictions: the sum in float64 in the order
    of the regions, divided by their number, as float32. Nothing is written beyond the ends of a contig, nor
    where there is no region.

    Args:
        outputs: the files.
        contigs: names and lengths of all of the genome's contigs.
        columns: tracks of the predictions.
        bin_size: bases a bin.
        folder: where the temporary file goes.

    Raises:
        MissingDependencyError: bigWig without pyBigWig.
        GexprError: the temporary file cannot be made.
    """

    def __init__(
        self,
        outputs: Sequence[TrackOutput],
        contigs: Sequence[tuple[str, int]],
        columns: int,
        bin_size: int,
        folder: str,
    ) -> None:
        self._outputs = list(outputs)
        self._contigs = sorted(contigs, key=lambda each: each[0].encode())
        self._columns = columns
        self._bin_size = bin_size
        self._folder = folder
        self._pieces: list[_Piece] = []
        self._position = 0
        self._dtype = np.dtype(np.float32)
        if any(each.format == "bigwig" for each in outputs):
            need_bigwig()
        try:
            self._stored: IO[bytes] = tempfile.TemporaryFile(dir=folder)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> GexprError:
        return GexprError(
            f"cannot keep predictions in a temporary file in {self._folder}: {error.strerror or error}"
        )

    def add(self, contig: str, start: int, region: int, values: NDArray[np.floating]) -> None:
        """Take some bins of a region.

        Args:
            contig: the genome's name of it.
            start: genome position of the first bin; may lie before the contig.
            region: the region's number, which decides on the order of sums.
            values: (bins, tracks), in the order of the genome.

        Raises:
            GexprError: a value is not finite, or the disk is full.
        """
        if not np.isfinite(values).all():
            raise GexprError(
                f"{shown_name(contig)}:{start}-{start + len(values) * self._bin_size}: a value is too large "
                "for float16, and bigWig and bedGraph hold no infinite ones: use --dtype float32"
            )
        self._dtype = values.dtype
        data = np.ascontiguousarray(values.T)
        self._pieces.append(_Piece(contig.encode(), start, region, len(values), self._position))
        try:
            write_all(self._stored, data.data.cast("B") if data.size else b"")
        except OSError as error:
            raise self._failure(error) from error
        self._position += data.nbytes

    def finish(self) -> None:
        """Write all files and bring them to the disk, still without their names."""
        self._pieces.sort()
        # Few files at a time: each has a buffer, and its values of a stretch are in memory.
        for low in range(0, len(self._outputs), _MOST_FILES):
            self._write(self._outputs[low : low + _MOST_FILES])
        self.discard()

    def discard(self) -> None:
        """Remove the temporary file; safe to call at any time."""
        self._stored.close()

    def _write(self, outputs: Sequence[TrackOutput]) -> None:
        columns = sorted({each.column for each in outputs})
        places = {column: place for place, column in enumerate(columns)}
        files: list[tuple[int, TrackFile]] = []
        for output, format, column in outputs:
            file: TrackFile = BedGraphFile(output)
            if format == "bigwig":
                file = BigWigFile(output, self._contigs, self._bin_size)
            files.append((places[column], file))
        for contig, starts, ends, values in self._sweep(columns):
            for place, file in files:
                file.write(contig, starts, ends, values[place])
        for _, file in files:
            file.finish()

    def _sweep(
        self, columns: Sequence[int]
    ) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
        """Intervals in the order of the genome: contig, starts, ends and values (columns, intervals)."""
        lengths = {name.encode(): length for name, length in self._contigs}
        most = max(1, min(_SWEEP_BINS, _SWEEP_BYTES // (8 * len(columns)))) * self._bin_size
        following = 0
        for name, length in self._contigs:
            contig = name.encode()
            active: list[_Piece] = []
            low = 0
            while low < lengths[contig]:
                ours = following < len(self._pieces) and self._pieces[following].contig == contig
                if not active:
                    if not ours:
                        break
                    low = max(low, self._pieces[following].start)
                high = low + most
                while following < len(self._pieces):
                    piece = self._pieces[following]
                    if piece.contig != contig or piece.start >= high:
                        break
                    active.append(piece)
                    following += 1
                high = min(self._cut(active, high), length)
                starts, ends, values = self._means(active, low, high, columns)
                if len(starts):
                    yield name, starts, ends, values
                active = [piece for piece in active if self._end(piece) > high]
                low = high

    def _end(self, piece: _Piece) -> int:
        return piece.start + piece.bins * self._bin_size

    def _cut(self, active: Sequence[_Piece], high: int) -> int:
        """A place near ``high``, not behind it, where some bin ends if there is any around ``high``."""
        for piece in active:
            if self._end(piece) > high:
                return high - (high - piece.start) % self._bin_size
        return high

    def _means(
        self, active: Sequence[_Piece], low: int, high: int, columns: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Starts, ends and means (columns, intervals) between two positions, cut wherever a bin ends."""
        size = self._bin_size
        bounds = []
        for piece in active:
            first = max(0, (low - piece.start) // size)
            last = min(piece.bins, -(-(high - piece.start) // size))
            bounds.append((first, max(first, last)))
        edges = [
            np.clip(piece.start + size * np.arange(first, last + 1, dtype=np.int64), low, high)
            for piece, (first, last) in zip(active, bounds, strict=True)
            if last > first
        ]
        if not edges:
            none = np.zeros(0, dtype=np.int64)
            return none, none, np.zeros((len(columns), 0), dtype=np.float32)
        cuts = np.unique(np.concatenate(edges))
        starts, ends = cuts[:-1], cuts[1:]
        sums = np.zeros((len(columns), len(starts)))
        counts = np.zeros(len(starts), dtype=np.int64)
        order = sorted(range(len(active)), key=lambda place: (active[place].region, active[place].start))
        for place in order:
            piece, (first, last) = active[place], bounds[place]
            if last == first:
                continue
            left, right = np.searchsorted(starts, [piece.start + first * size, piece.start + last * size])
            taken = (starts[left:right] - piece.start) // size - first
            sums[:, left:right] += self._read(piece, first, last, columns)[:, taken]
            counts[left:right] += 1
        held = counts > 0
        return starts[held], ends[held], (sums[:, held] / counts[held]).astype(np.float32)

    def _read(self, piece: _Piece, first: int, last: int, columns: Sequence[int]) -> NDArray[np.floating]:
        """Some bins of a piece in some columns: (columns, bins)."""
        values = np.empty((len(columns), last - first), dtype=self._dtype)
        size = self._dtype.itemsize
        for row, column in zip(values, columns, strict=True):
            self._stored.seek(piece.offset + (column * piece.bins + first) * size)
            row[:] = np.frombuffer(self._stored.read(row.nbytes), dtype=self._dtype)
        return values
