"""Gene scores as Parquet: the tidy table of :mod:`gexpr.writers.gene_scores`; needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gexpr.results import Variant
from gexpr.writers.gene_scores import COLUMNS, FORMAT_NAME, FORMAT_VERSION, GeneBlock, GeneName
from gexpr.writers.hdf5 import Attribute
from gexpr.writers.output import AtomicOutput, as_dtype
from gexpr.writers.parquet import GROUP_ROWS, ParquetOutput, clean
from gexpr.writers.result import FileWriter
from gexpr.writers.scores import ScoreSchema

_FEW = frozenset({"chrom", "gene_strand", "track_id", "track_label", "statistic"})
"""Columns of text with few different values."""
_NUMBERS = {"pos": "int64", "tss_distance": "int64", "coverage": "float32", "score": "float32"}


class GeneScoresParquetWriter(FileWriter[ParquetOutput]):
    """Parquet, one row a variant, gene, statistic and track, without the tracks of the other strand.

    A row group holds all rows of a fixed number of pairs of variant and gene, so that the file does not
    depend on the blocks in which they come.

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
        self._genes: list[GeneName] = []
        # Rows of coverage, distance and then the scores of all statistics and tracks.
        self._tables: list[NDArray[np.float64]] = []
        arrow = self._file.arrow
        text, few = arrow.string(), arrow.dictionary(arrow.int32(), arrow.string())
        columns = [
            (name, getattr(arrow, _NUMBERS[name])() if name in _NUMBERS else few if name in _FEW else text)
            for name in COLUMNS
        ]
        attributes: dict[str, Attribute] = {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            **schema.attributes,
            **{f"definition {name}": each for name, each in schema.definitions.items()},
        }
        self._file.open(
            columns,
            attributes,
            use_dictionary=[name for name in COLUMNS if name != "score"],
            write_statistics=[name for name in COLUMNS if name != "score"],
        )

    def write(self, variants: Sequence[Variant], block: GeneBlock) -> None:
        """Add the rows of a block; a variant without rows adds nothing."""
        if not len(block.variant):
            return
        self._variants += [variants[place] for place in block.variant.tolist()]
        self._genes += [block.genes[place] for place in block.gene.tolist()]
        scores = [as_dtype(block.scores[name], self._schema.dtype) for name in self._schema.statistics]
        about = block.coverage[:, None], block.tss_distance[:, None]
        self._tables.append(np.concatenate([*about, *scores], axis=1, dtype=np.float64))
        if len(self._variants) >= self._group:
            table = np.concatenate(self._tables)
            whole = len(table) - len(table) % self._group
            for low in range(0, whole, self._group):
                self._write_group(low, low + self._group, table)
            self._variants, self._genes = self._variants[whole:], self._genes[whole:]
            self._tables = [table[whole:].copy()]

    def _write_group(self, low: int, high: int, table: NDArray[np.float64]) -> None:
        arrow = self._file.arrow
        variants, genes = self._variants[low:high], self._genes[low:high]
        coverage, distance, scores = table[low:high, 0], table[low:high, 1], table[low:high, 2:]
        row, cell = np.nonzero(~np.isnan(scores))
        statistic, track = np.divmod(cell, max(len(self._schema.tracks), 1))
        tracks = self._schema.tracks

        def text(name: str, values: Iterable[str], places: NDArray[np.intp]) -> Any:
            each = list(values)
            numbers = {value: number for number, value in enumerate(dict.fromkeys(each))}
            codes = np.array([numbers[value] for value in each], dtype=np.int32)[places]
            known = arrow.array(clean(numbers), arrow.string())
            return arrow.DictionaryArray.from_arrays(codes, known) if name in _FEW else known.take(codes)

        columns: dict[str, Any] = {
            "chrom": text("chrom", (variant.chrom for variant in variants), row),
            "pos": arrow.array(np.array([variant.pos for variant in variants], dtype=np.int64)[row]),
            "id": text("id", (variant.id or "." for variant in variants), row),
            "ref": text("ref", (variant.ref for variant in variants), row),
            "alt": text("alt", (variant.alt for variant in variants), row),
            "gene_id": text("gene_id", (gene.gene_id for gene in genes), row),
            "gene_name": text("gene_name", (gene.name for gene in genes), row),
            "gene_strand": text("gene_strand", (gene.strand for gene in genes), row),
            "tss_distance": arrow.array(
                np.nan_to_num(distance[row]).astype(np.int64), mask=np.isnan(distance[row])
            ),
            "coverage": arrow.array(coverage[row].astype(np.float32)),
            "track_id": text("track_id", (each.id for each in tracks), track),
            "track_label": text("track_label", (each.label for each in tracks), track),
            "statistic": text("statistic", self._schema.statistics, statistic),
            "score": arrow.array(scores[row, cell].astype(np.float32)),
        }
        self._file.write([columns[name] for name in COLUMNS], len(row) or 1)

    def finish(self) -> None:
        """Complete the file and bring it to the disk."""
        if self._variants and self._file.is_open:
            self._write_group(0, len(self._variants), np.concatenate(self._tables))
            self._variants, self._genes, self._tables = [], [], []
        super().finish()
