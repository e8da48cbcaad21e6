"""Parquet in the tidy form: one row for each allele, statistic and track; needs pyarrow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gexpr.errors import GexprError, require
from gexpr.results import Variant
from gexpr.writers.hdf5 import Attribute
from gexpr.writers.output import AtomicOutput, as_dtype, utf8, write_all
from gexpr.writers.result import FileWriter
from gexpr.writers.scores import (
    COLUMNS_ATTRIBUTE,
    FORMAT_NAME,
    FORMAT_VERSION,
    NUMBER_TYPES,
    Columns,
    Scores,
    ScoreSchema,
    extra_columns,
)

GROUP_ROWS = 1 << 18
"""Rows of a row group, at most; fixed, because it decides on the file's bytes."""


def need_pyarrow() -> None:
    """Raise MissingDependencyError where pyarrow is not installed."""
    require("pyarrow.parquet", "parquet")


class ParquetOutput:
    """A Parquet file under an :class:`AtomicOutput`: what the Parquet outputs share.

    Args:
        output: the claimed output.

    Attributes:
        arrow: the module pyarrow.

    Raises:
        GexprError: the output is a stream, or later a write fails.
        MissingDependencyError: pyarrow is not installed.
    """

    def __init__(self, output: AtomicOutput) -> None:
        if output.is_stream:
            raise GexprError(f"cannot write {output.path}: Parquet needs a regular file; use --format tsv")
        self.arrow: Any = require("pyarrow", "parquet")
        self._parquet: Any = require("pyarrow.parquet", "parquet")
        self._output = output
        self._file = WholeWrites(output)
        self._writer: Any = None

    def open(
        self, columns: Sequence[tuple[str, Any]], attributes: Mapping[str, Attribute], **settings: Any
    ) -> None:
        """Begin the file.

        Args:
            columns: names and types of pyarrow.
            attributes: metadata of the whole file.
            settings: of pyarrow's ParquetWriter.
        """
        self._writer = self._parquet.ParquetWriter(
            self._file,
            self.arrow.schema(columns, metadata=_metadata(attributes)),
            version="2.6",
            compression="zstd",
            compression_level=3,
            **settings,
        )

    @property
    def is_open(self) -> bool:
        """Whether rows can be written."""
        return self._writer is not None and bool(self._writer.is_open)

    def write(self, arrays: Sequence[Any], group_rows: int | None = None) -> None:
        """Write rows: an array for each column; ``group_rows`` as of pyarrow."""
        try:
            table = self.arrow.Table.from_arrays(list(arrays), schema=self._writer.schema)
            self._writer.write_table(table, group_rows)
        except OSError as error:
            raise self._output.failure(self._file.error or error) from error

    def annotate(self, attributes: Mapping[str, Attribute]) -> None:
        """Add metadata of the whole file, beside those of the beginning."""
        if attributes:
            self._writer.add_key_value_metadata(_metadata(attributes))

    def finish(self) -> None:
        """Complete the file and bring it to the disk."""
        if self.is_open:
            try:
                self._writer.close()
            except OSError as error:
                raise self._output.failure(self._file.error or error) from error
        self._output.finish()

    def commit(self) -> None:
        """Finish the file and give it its name."""
        self.finish()
        self._output.commit()

    def discard(self) -> None:
        """Remove an unfinished file; safe to call at any time."""
        if self.is_open:
            # The library writes the end of a file that it closes, and closes what is thrown away.
            self._file.muted = True
            self._writer.close()
        self._output.discard()


class ScoresParquetWriter(FileWriter[ParquetOutput]):
    """Parquet; see docs/output-files.md.

    Rows are gathered into row groups of whole alleles, so that the file does not depend on the blocks in
    which they come.

    Args:
        output: the claimed output.
        schema: what is written.

    Raises:
        GexprError: the output is a stream.
        MissingDependencyError: pyarrow is not installed.
    """

    def __init__(self, output: AtomicOutput, schema: ScoreSchema) -> None:
        super().__init__(ParquetOutput(output))
        self._schema = schema
        self._width = len(schema.tracks) * len(schema.statistics)
        self._group = max(1, GROUP_ROWS // max(self._width, 1))
        self._variants: list[Variant] = []
        self._tables: list[np.ndarray[Any, Any]] = []
        self._extra: dict[str, list[str | int | float]] = {name: [] for name in schema.columns}
        few, numbers = self._types()
        columns = [
            ("chrom", few),
            ("pos", numbers["int"]),
            *((name, self._file.arrow.string()) for name in ("id", "ref", "alt")),
            ("status", few),
            *((name, numbers.get(kind, few)) for name, kind in schema.columns.items()),
            *((name, few) for name in _OF_COLUMNS),
            ("score", numbers["float"]),
        ]
        attributes: dict[str, Attribute] = {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            **({COLUMNS_ATTRIBUTE: ",".join(schema.columns)} if schema.columns else {}),
            **schema.attributes,
            **{f"definition {name}": text for name, text in schema.definitions.items()},
        }
        self._file.open(
            columns,
            attributes,
            # Scores seldom repeat; all else does.
            use_dictionary=["chrom", "pos", "id", "ref", "alt", "status", *schema.columns, *_OF_COLUMNS],
            write_statistics=["chrom", "pos", "status", *schema.columns, *_OF_COLUMNS],
        )

    def _types(self) -> tuple[Any, dict[str, Any]]:
        """Types of texts of which there are few, and of numbers by their kind."""
        arrow = self._file.arrow
        few = arrow.dictionary(arrow.int32(), arrow.string())
        return few, {"int": arrow.int64(), "float": arrow.float32()}

    def write(self, variants: Sequence[Variant], scores: Scores, columns: Columns | None = None) -> None:
        """Add one block of rows."""
        extra = extra_columns(self._schema, columns, len(variants))
        if not variants:
            return
        tables = [as_dtype(scores[name], self._schema.dtype) for name in self._schema.statistics]
        self._variants += variants
        for name, values in extra.items():
            self._extra[name] += values
        self._tables.append(np.concatenate(tables, axis=1, dtype=np.float32))
        if len(self._variants) >= self._group:
            table = np.concatenate(self._tables)
            whole = len(table) - len(table) % self._group
            for low in range(0, whole, self._group):
                high = low + self._group
                self._write_group(self._variants[low:high], table[low:high], slice(low, high))
            self._variants = self._variants[whole:]
            self._extra = {name: values[whole:] for name, values in self._extra.items()}
            self._tables = [table[whole:].copy()]

    def _write_group(self, variants: Sequence[Variant], table: np.ndarray[Any, Any], rows: slice) -> None:
        arrow = self._file.arrow
        row = np.repeat(np.arange(len(variants), dtype=np.int32), self._width)
        cell = np.tile(np.arange(self._width, dtype=np.int32), len(variants))
        statistic, track = np.divmod(cell, max(len(self._schema.tracks), 1))
        tracks = self._schema.tracks

        def few(texts: Sequence[str], indices: np.ndarray[Any, Any]) -> Any:
            unique = {text: number for number, text in enumerate(dict.fromkeys(texts))}
            codes = np.array([unique[text] for text in texts], dtype=np.int32)
            values = arrow.array(clean(unique), arrow.string())
            return arrow.DictionaryArray.from_arrays(codes[indices], values)

        def many(texts: Sequence[str]) -> Any:
            return arrow.array(clean(texts), arrow.string()).take(arrow.array(row))

        scores = table.reshape(-1)
        columns = [
            few([variant.chrom for variant in variants], row),
            arrow.array(np.array([variant.pos for variant in variants], dtype=np.int64)[row]),
            many([variant.id or "." for variant in variants]),
            many([variant.ref for variant in variants]),
            many([variant.alt for variant in variants]),
            few([variant.status for variant in variants], row),
            *(
                few([str(value) for value in values[rows]], row)
                if (kind := self._schema.columns[name]) == "text"
                else arrow.array(np.array(values[rows], dtype=NUMBER_TYPES[kind])[row])
                for name, values in self._extra.items()
            ),
            few([each.id for each in tracks], track),
            few([each.label for each in tracks], track),
            few(list(self._schema.statistics), statistic),
            arrow.array(scores, mask=np.isnan(scores)),
        ]
        self._file.write(columns, max(len(row), 1))

    def finish(self) -> None:
        """Complete the file and bring it to the disk."""
        if self._variants and self._file.is_open:
            self._write_group(self._variants, np.concatenate(self._tables), slice(None))
            self._variants, self._tables = [], []
        super().finish()


_OF_COLUMNS = ("track_id", "track_label", "statistic")


class WholeWrites(io.RawIOBase):
    """A file for pyarrow: every write is complete, or an error that is kept; ``muted`` drops all."""

    def __init__(self, output: AtomicOutput) -> None:
        self._output = output
        self._size = 0
        self.error: OSError | None = None
        self.muted = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if not self.muted:
            try:
                write_all(self._output.file, view)
            except OSError as error:
                self.error = self.error or error
                raise
        self._size += len(view)
        return len(view)


def _metadata(attributes: Mapping[str, Attribute]) -> dict[str, bytes]:
    return {name: utf8(str(attributes[name])) for name in sorted(attributes)}


def clean(texts: Any) -> list[str]:
    """Strings as UTF-8 can hold them."""
    return [utf8(text).decode("utf-8") for text in texts]
