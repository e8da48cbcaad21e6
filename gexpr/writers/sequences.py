"""Predictions and scores of sequences as TSV, HDF5 or Parquet, one row a sequence or pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gexpr.results import Track
from gexpr.writers.hdf5 import Attribute, Hdf5Output, texts
from gexpr.writers.output import AtomicOutput
from gexpr.writers.parquet import ParquetOutput, clean
from gexpr.writers.result import FileWriter, ResultWriter
from gexpr.writers.text import TextFile, numbers

SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".txt": "tsv",
    ".txt.gz": "tsv",
    ".parquet": "parquet",
}
"""Suffix of an output of scores of sequences -> its format."""

FORMAT_NAME = "gexpr sequence scores"
FORMAT_VERSION = 1


class SequenceSchema(NamedTuple):
    """What a file holds: for each of ``values`` a table (rows, tracks) of float32.

    ``definitions`` says of some of the values how they are computed.
    """

    tracks: tuple[Track, ...]
    values: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    definitions: Mapping[str, str] = {}

    @property
    def columns(self) -> list[str]:
        """Columns of a table with all numbers of a row side by side."""
        if len(self.values) == 1:
            return [track.id for track in self.tracks]
        return [f"{track.id}:{name}" for name in self.values for track in self.tracks]


Values = Mapping[str, NDArray[np.float32]]


class SequenceWriter(ResultWriter, Protocol):
    """Takes blocks of rows in input order; nothing has the output's name before ``commit``."""

    def write(self, ids: Sequence[str], statuses: Sequence[str], values: Values) -> None:
        """Add one block: values are (rows, tracks) for each of the schema's."""
        ...


def open_writer(output: AtomicOutput, format: str, schema: SequenceSchema) -> SequenceWriter:
    """The writer for ``hdf5``, ``tsv`` or ``parquet``.

    Raises:
        GexprError: a binary format for a stream.
        MissingDependencyError: ``parquet`` without pyarrow.
    """
    if format == "hdf5":
        return SequencesHdf5Writer(output, schema)
    if format == "parquet":
        return SequencesParquetWriter(output, schema)
    return SequencesTsvWriter(output, schema)


class SequencesTsvWriter(FileWriter[TextFile]):
    """TSV: ``id status`` and the numbers."""

    def __init__(self, output: AtomicOutput, schema: SequenceSchema) -> None:
        self._schema = schema
        super().__init__(TextFile(output))
        self._file.lines(["\t".join(["id", "status", *schema.columns])])

    def write(self, ids: Sequence[str], statuses: Sequence[str], values: Values) -> None:
        """Add one block of rows."""
        tables = np.concatenate([values[name] for name in self._schema.values], axis=1)
        rows = zip(ids, statuses, tables, strict=True)
        self._file.lines(["\t".join((_cell(name), status, *numbers(row))) for name, status, row in rows])


class SequencesHdf5Writer(FileWriter[Hdf5Output]):
    """HDF5: ``id``, ``status``, the tracks, and one dataset (rows, tracks) for each of the values."""

    def __init__(self, output: AtomicOutput, schema: SequenceSchema) -> None:
        self._schema = schema
        super().__init__(Hdf5Output(output))
        self._file.attributes({"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **schema.attributes})
        self._file.tracks(schema.tracks)
        for name in ("id", "status"):
            self._file.growing_strings(name)
        for name in schema.values:
            self._file.growing(name, (len(schema.tracks),), "float32", fill=float("nan"))
            if name in schema.definitions:
                self._file.file[name].attrs["definition"] = schema.definitions[name]
        self._file.check()

    def write(self, ids: Sequence[str], statuses: Sequence[str], values: Values) -> None:
        """Add one block of rows."""
        tables = {name: values[name] for name in self._schema.values}
        self._file.append_rows({"id": texts(ids), "status": texts(statuses), **tables})


class SequencesParquetWriter(FileWriter[ParquetOutput]):
    """Parquet with the columns of the TSV, a row group for each block."""

    def __init__(self, output: AtomicOutput, schema: SequenceSchema) -> None:
        super().__init__(ParquetOutput(output))
        self._schema = schema
        arrow = self._file.arrow
        attributes = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **schema.attributes}
        columns = [("id", arrow.string()), ("status", arrow.string())]
        columns += [(name, arrow.float32()) for name in clean(schema.columns)]
        self._file.open(columns, attributes)

    def write(self, ids: Sequence[str], statuses: Sequence[str], values: Values) -> None:
        """Add one block of rows."""
        arrow = self._file.arrow
        tables = np.concatenate([values[name] for name in self._schema.values], axis=1)
        arrays = [arrow.array(clean(texts), arrow.string()) for texts in (ids, statuses)]
        for column in tables.T:
            column = np.ascontiguousarray(column, dtype=np.float32)
            arrays.append(arrow.array(column, mask=np.isnan(column)))
        self._file.write(arrays)


def _cell(text: str) -> str:
    """A text as one field of a TSV."""
    return " ".join(text.split()) if any(each in text for each in "\t\r\n") else text
