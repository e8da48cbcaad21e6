"""Predictions over regions as HDF5, TSV of bin sums, or NPZ, behind one interface."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.results import Region, Track
from gexpr.writers.hdf5 import Attribute, Hdf5Output, texts
from gexpr.writers.output import AtomicOutput, as_dtype, write_all
from gexpr.writers.result import FileWriter, ResultWriter
from gexpr.writers.text import TextFile, numbers

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

    ``bins`` is the number of bins of every region, None when regions differ in it or come in parts.
    """

    bins: int | None
    bin_size: int
    tracks: tuple[Track, ...]
    attributes: Mapping[str, Attribute]
    dtype: str = "float32"


class PredictionBlock(NamedTuple):
    """Some consecutive regions with their predictions.

    ``spans`` has, for every region, the genome position of its first bin and its number of bins;
    ``predictions`` is (bins of all regions, tracks), ``sums`` (regions, tracks) over each one's bins.

    A long region comes in several blocks: ``continued`` says that the first region began in the block
    before, ``unfinished`` that the last one goes on in the next. ``bins`` are then those of every region in
    this block, and the sums of a region are whole where it ends.
    """

    regions: Sequence[Region]
    spans: Sequence[tuple[int, int]]
    predictions: NDArray[np.floating]
    sums: NDArray[np.floating]
    bins: Sequence[int] | None = None
    continued: bool = False
    unfinished: bool = False

    @property
    def counts(self) -> Sequence[int]:
        """Bins of every region in this block."""
        return [bins for _, bins in self.spans] if self.bins is None else self.bins


class PredictionWriter(ResultWriter, Protocol):
    """Takes the regions' predictions in order; nothing has the output's name before ``commit``."""

    def write(self, block: PredictionBlock) -> None:
        """Add the next regions."""
        ...


def open_writer(output: AtomicOutput, format: str, schema: PredictionSchema) -> PredictionWriter:
    """The writer for ``hdf5``, ``tsv`` or ``npz``."""
    if format == "hdf5":
        return PredictionsHdf5Writer(output, schema)
    if format == "npz":
        return PredictionsNpzWriter(output, schema)
    return PredictionsTsvWriter(output, schema)


class PredictionsHdf5Writer(FileWriter[Hdf5Output]):
    """HDF5; see docs/output-files.md for its two layouts."""

    def __init__(self, output: AtomicOutput, schema: PredictionSchema) -> None:
        self._schema = schema
        super().__init__(Hdf5Output(output))
        equal = schema.bins is not None
        self._file.attributes(
            {
                "format": FORMAT_NAME,
                "format_version": FORMAT_VERSION,
                "bin_size": schema.bin_size,
                "layout": "regions, bins, tracks" if equal else "bins of all regions, tracks",
                **schema.attributes,
            }
        )
        self._file.tracks(schema.tracks)
        self._file.growing_strings("chrom")
        for name in ("start", "end", "bin_start", "bin_end"):
            self._file.growing(name, (), "int64")
        for name in ("name", "strand"):
            self._file.growing_strings(name)
        row: tuple[int, ...] = (len(schema.tracks),)
        if schema.bins is not None:
            row = (schema.bins, len(schema.tracks))
        else:
            self._file.growing("offsets", (), "uint64")
            self._file.append("offsets", np.zeros(1, dtype=np.uint64))
        self._file.growing("predictions", row, schema.dtype, fill=float("nan"))
        self._total = 0

    def write(self, block: PredictionBlock) -> None:
        """Add the next regions."""
        schema = self._schema
        positions = {
            "start": [region.start for region in block.regions],
            "end": [region.end for region in block.regions],
            "bin_start": [start for start, _ in block.spans],
            "bin_end": [start + bins * schema.bin_size for start, bins in block.spans],
        }
        columns: dict[str, Any] = {
            "chrom": texts(region.chrom for region in block.regions),
            "name": texts(region.name for region in block.regions),
            "strand": texts(region.strand for region in block.regions),
            **{name: np.array(values, dtype=np.int64) for name, values in positions.items()},
        }
        predictions = as_dtype(block.predictions, schema.dtype)
        if schema.bins is not None:
            shape = (len(block.regions), schema.bins, len(schema.tracks))
            self._file.append_rows({**columns, "predictions": predictions.reshape(shape)})
            return
        # One region at a time: the file's bytes must not depend on how many come in a block.
        low = 0
        for row, (bins, (_, whole)) in enumerate(zip(block.counts, block.spans, strict=True)):
            if row or not block.continued:
                self._file.append_rows({name: values[row : row + 1] for name, values in columns.items()})
                self._total += whole
                self._file.append("offsets", np.array([self._total], dtype=np.uint64))
            self._file.append("predictions", predictions[low : low + bins])
            low += bins


class PredictionsTsvWriter(FileWriter[TextFile]):
    """TSV: ``chrom start end name strand`` and the sum over the region's bins of every track."""

    def __init__(self, output: AtomicOutput, schema: PredictionSchema) -> None:
        self._schema = schema
        super().__init__(TextFile(output))
        header = ["chrom", "start", "end", "name", "strand", *(track.id for track in schema.tracks)]
        self._file.lines(["\t".join(header)])

    def write(self, block: PredictionBlock) -> None:
        """Add the next regions."""
        sums = as_dtype(block.sums, self._schema.dtype)
        lines = []
        whole = len(block.regions) - block.unfinished
        for region, row in zip(block.regions[:whole], sums[:whole], strict=True):
            start = (region.chrom, str(region.start), str(region.end), region.name, region.strand)
            lines.append("\t".join((*start, *numbers(row))))
        self._file.lines(lines)


class PredictionsNpzWriter:
    """NumPy archive of one region, for a quick look from Python."""

    def __init__(self, output: AtomicOutput, schema: PredictionSchema) -> None:
        self._output = output
        self._schema = schema
        self._block: PredictionBlock | None = None
        self._predictions: list[NDArray[np.floating]] = []

    def write(self, block: PredictionBlock) -> None:
        """Take the region.

        Raises:
            ConfigError: it is not the only one.
        """
        if len(block.regions) != 1 or (self._block is not None and not block.continued):
            raise ConfigError("the npz format holds one region, and there are more; write .h5 instead")
        self._block = block
        self._predictions.append(as_dtype(block.predictions, self._schema.dtype))

    def annotate(self, attributes: Mapping[str, Attribute]) -> None:
        """The archive has no attributes."""

    def finish(self) -> None:
        """Complete the file and bring it to the disk.

        Raises:
            ConfigError: no region was written.
        """
        if self._output.file.closed:
            return
        if self._block is None:
            raise ConfigError("the npz format holds one region, and there is none; write .h5 instead")
        schema, region = self._schema, self._block.regions[0]
        image = io.BytesIO()
        np.savez_compressed(
            image,
            predictions=np.concatenate(self._predictions),
            chrom=np.array(region.chrom),
            start=np.array(region.start),
            end=np.array(region.end),
            name=np.array(region.name),
            strand=np.array(region.strand),
            bin_start=np.array(self._block.spans[0][0]),
            bin_size=np.array(schema.bin_size),
            target_ids=np.array([track.id for track in schema.tracks]),
            target_labels=np.array([track.label for track in schema.tracks]),
        )
        try:
            write_all(self._output.file, image.getbuffer())
        except OSError as error:
            raise self._output.failure(error) from error
        self._output.finish()

    def commit(self) -> None:
        """Finish the file and give it its name."""
        self.finish()
        self._output.commit()

    def discard(self) -> None:
        """Remove an unfinished file."""
        self._output.discard()
