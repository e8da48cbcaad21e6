"""Predictions over regions as HDF5, TSV of bin sums, or NPZ, behind one interface."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.results import Region, Track
from gexpr.writers.hdf5 import Attribute, Hdf5Output
from gexpr.writers.output import AtomicOutput, as_dtype, write_all
from gexpr.writers.scores import TsvFile, numbers

SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".txt": "tsv",
    ".txt.gz": "tsv",
    ".npz": "npz",
}
"""Suffix of an output of predictions -> its format."""

FORMAT_NAME = "gexpr predictions"
FORMAT_VERSION = 1


class PredictionSchema(NamedTuple):
    """What a file of predictions holds.

    ``spans`` has, for every region, the genome position of its first bin and its number of bins.
    """

    regions: Sequence[Region]
    spans: Sequence[tuple[int, int]]
    bin_size: int
    tracks: tuple[Track, ...]
    attributes: Mapping[str, Attribute]
    dtype: str = "float32"

    @property
    def equal_bins(self) -> bool:
        """Whether all regions have the same number of bins."""
        return len({bins for _, bins in self.spans}) <= 1

    @property
    def offsets(self) -> NDArray[np.uint64]:
        """First row of each region in a flat table, and the number of rows: (regions + 1,)."""
        return np.cumsum([0, *(bins for _, bins in self.spans)], dtype=np.uint64)


class PredictionWriter(Protocol):
    """Takes the regions' predictions in order; nothing has the output's name before ``commit``."""

    def write(self, predictions: NDArray[np.float32]) -> None:
        """Add the next region: (bins, tracks)."""
        ...

    def commit(self) -> None:
        """Finish the file and give it its name."""
        ...

    def discard(self) -> None:
        """Remove an unfinished file; safe to call at any time."""
        ...


def open_writer(output: AtomicOutput, format: str, schema: PredictionSchema) -> PredictionWriter:
    """The writer for ``hdf5``, ``tsv`` or ``npz``.

    Raises:
        ConfigError: ``npz`` for something else than exactly one region.
    """
    if format == "hdf5":
        return PredictionsHdf5Writer(output, schema)
    if format == "npz":
        return PredictionsNpzWriter(output, schema)
    return PredictionsTsvWriter(output, schema)


class PredictionsHdf5Writer:
    """HDF5; see docs/output-files.md for its two layouts."""

    def __init__(self, output: AtomicOutput, schema: PredictionSchema) -> None:
        self._schema = schema
        self._hdf5 = Hdf5Output(output)
        regions, spans, tracks = schema.regions, schema.spans, schema.tracks
        self._hdf5.attributes(
            {
                "format": FORMAT_NAME,
                "format_version": FORMAT_VERSION,
                "bin_size": schema.bin_size,
                "layout": "regions, bins, tracks" if schema.equal_bins else "bins of all regions, tracks",
                **schema.attributes,
            }
        )
        self._hdf5.tracks(tracks)
        self._hdf5.strings("chrom", [region.chrom for region in regions])
        for name, positions in (
            ("start", [region.start for region in regions]),
            ("end", [region.end for region in regions]),
            ("bin_start", [start for start, _ in spans]),
            ("bin_end", [start + bins * schema.bin_size for start, bins in spans]),
        ):
            self._hdf5.growing(name, (), "int64")
            self._hdf5.append(name, np.array(positions, dtype=np.int64))
        self._hdf5.strings("name", [region.name for region in regions])
        self._hdf5.strings("strand", [region.strand for region in regions])
        if schema.equal_bins:
            bins = spans[0][1] if spans else 0
            self._hdf5.growing("predictions", (bins, len(tracks)), schema.dtype, fill=float("nan"))
        else:
            self._hdf5.growing("offsets", (), "uint64")
            self._hdf5.append("offsets", schema.offsets)
            self._hdf5.growing("predictions", (len(tracks),), schema.dtype, fill=float("nan"))
        self._waiting: list[NDArray[np.floating]] = []
        self._waiting_bytes = 0

    def write(self, predictions: NDArray[np.float32]) -> None:
        """Add the next region."""
        values = as_dtype(predictions, self._schema.dtype)
        self._waiting.append(values[None] if self._schema.equal_bins else values)
        self._waiting_bytes += values.nbytes
        # Whole chunks at a time: a chunk that is written twice would be compressed twice.
        if self._waiting_bytes >= 8 << 20:
            self._write_waiting()

    def _write_waiting(self) -> None:
        if self._waiting:
            self._hdf5.append("predictions", np.concatenate(self._waiting))
            self._waiting, self._waiting_bytes = [], 0

    def commit(self) -> None:
        """Finish the file and give it its name."""
        self._write_waiting()
        self._hdf5.commit()

    def discard(self) -> None:
        """Remove an unfinished file."""
        self._hdf5.discard()


class PredictionsTsvWriter:
    """TSV: ``chrom start end name strand`` and the sum over the region's bins of every track."""

    def __init__(self, output: AtomicOutput, schema: PredictionSchema) -> None:
        self._schema = schema
        self._file = TsvFile(output)
        self._row = 0
        header = ["chrom", "start", "end", "name", "strand", *(track.id for track in schema.tracks)]
        self._file.lines(["\t".join(header)])

    def write(self, predictions: NDArray[np.float32]) -> None:
        """Add the next region."""
        region = self._schema.regions[self._row]
        self._row += 1
        sums = as_dtype(predictions.sum(axis=0, dtype=np.float64), self._schema.dtype)
        start = (region.chrom, str(region.start), str(region.end), region.name, region.strand)
        self._file.lines(["\t".join((*start, *numbers(sums)))])

    def commit(self) -> None:
        """Finish the file and give it its name."""
        self._file.commit()

    def discard(self) -> None:
        """Remove an unfinished file."""
        self._file.output.discard()


class PredictionsNpzWriter:
    """NumPy archive of one region, for a quick look from Python."""

    def __init__(self, output: AtomicOutput, schema: PredictionSchema) -> None:
        if len(schema.regions) != 1:
            raise ConfigError(
                f"the npz format holds one region, and there are {len(schema.regions)}; write .h5 instead"
            )
        self._output = output
        self._schema = schema
        self._predictions: NDArray[np.floating] | None = None

    def write(self, predictions: NDArray[np.float32]) -> None:
        """Take the region."""
        self._predictions = as_dtype(predictions, self._schema.dtype)

    def commit(self) -> None:
        """Finish the file and give it its name."""
        schema, region = self._schema, self._schema.regions[0]
        assert self._predictions is not None
        image = io.BytesIO()
        np.savez_compressed(
            image,
            predictions=self._predictions,
            chrom=np.array(region.chrom),
            start=np.array(region.start),
            end=np.array(region.end),
            name=np.array(region.name),
            strand=np.array(region.strand),
            bin_start=np.array(schema.spans[0][0]),
            bin_size=np.array(schema.bin_size),
            target_ids=np.array([track.id for track in schema.tracks]),
            target_labels=np.array([track.label for track in schema.tracks]),
        )
        try:
            write_all(self._output.file, image.getbuffer())
        except OSError as error:
            raise self._output.failure(error) from error
        self._output.commit()

    def discard(self) -> None:
        """Remove an unfinished file."""
        self._output.discard()
