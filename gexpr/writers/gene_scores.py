"""Scores of variants on genes as HDF5, TSV or Parquet, by blocks of variants; docs/genes.md specifies them.

The HDF5 file has the names that borzoi_sed writes (``initialize_output_h5`` of borzoi_sed.py,
github.com/calico/borzoi): ``si``, ``gene``, ``snp``, ``chr``, ``pos``, ``ref_allele``, ``alt_allele``,
``target_ids``, ``target_labels``, and ``SED`` and ``logSED`` as other names of ``SAD`` and ``logFC``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gexpr.results import Variant
from gexpr.writers.hdf5 import Hdf5Output, texts
from gexpr.writers.output import AtomicOutput, as_dtype
from gexpr.writers.result import FileWriter, ResultWriter
from gexpr.writers.scores import ScoreSchema, begin_variants, variant_columns
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
"""Suffix of an output of gene scores -> its format."""

FORMAT_NAME = "gexpr gene scores"
FORMAT_VERSION = 1

COLUMNS = (
    *("chrom", "pos", "id", "ref", "alt"),
    *("gene_id", "gene_name", "gene_strand", "tss_distance", "coverage"),
    *("track_id", "track_label", "statistic", "score"),
)
"""Columns of the tidy table."""

_STEP = 64
"""Variants that go into an HDF5 file at a time; it divides the rows of a chunk of strings."""


class GeneName(NamedTuple):
    """What the outputs say of a gene."""

    gene_id: str
    name: str
    strand: str


class GeneBlock(NamedTuple):
    """Scores of a block of variants on genes: one row a variant and gene, ascending by variant.

    Attributes:
        variant: (rows,) places among the block's variants.
        gene: (rows,) places in ``genes``.
        genes: the genes that the rows name.
        coverage: (rows,) share of the gene's mask in the bins that both alleles' windows cover.
        tss_distance: (rows,) in bp, NaN without a TSS.
        scores: statistic -> (rows, tracks); NaN for tracks of the other strand.
        nearest: for each variant of the block the gene of the nearest TSS, empty without one.
        nearest_distance: (variants,) the distance to it in bp, NaN without one.
    """

    variant: NDArray[np.int64]
    gene: NDArray[np.int64]
    genes: tuple[GeneName, ...]
    coverage: NDArray[np.floating]
    tss_distance: NDArray[np.floating]
    scores: Mapping[str, NDArray[np.floating]]
    nearest: tuple[str, ...]
    nearest_distance: NDArray[np.floating]

    def rows(self, low: int, high: int) -> GeneBlock:
        """The rows of the variants from ``low`` to ``high`` (half-open), which are counted from ``low``."""
        first, last = np.searchsorted(self.variant, (low, high)).tolist()
        span = slice(first, last)
        return self._replace(
            variant=self.variant[span] - low,
            gene=self.gene[span],
            coverage=self.coverage[span],
            tss_distance=self.tss_distance[span],
            scores={name: values[span] for name, values in self.scores.items()},
            nearest=self.nearest[low:high],
            nearest_distance=self.nearest_distance[low:high],
        )


def pack_genes(
    block: GeneBlock, dtype: str = "float32"
) -> tuple[dict[str, NDArray[Any]], dict[str, list[Any]]]:
    """A block as arrays by name and something that JSON can hold, for a part of a run.

    Args:
        block: what to pack.
        dtype: the scores' number type.
    """
    arrays: dict[str, NDArray[Any]] = {name: as_dtype(each, dtype) for name, each in block.scores.items()}
    for name in _ARRAYS:
        arrays[f"gene_rows.{name}"] = getattr(block, name)
    return arrays, {"genes": [list(gene) for gene in block.genes], "nearest": list(block.nearest)}


def unpack_genes(
    arrays: Mapping[str, NDArray[Any]], genes: Mapping[str, Sequence[Any]], statistics: Sequence[str]
) -> GeneBlock:
    """The block that :func:`pack_genes` packed."""
    found: dict[str, Any] = {name: arrays[f"gene_rows.{name}"] for name in _ARRAYS}
    names = tuple(GeneName(*each) for each in genes["genes"])
    scores = {name: arrays[name] for name in statistics}
    return GeneBlock(genes=names, scores=scores, nearest=tuple(genes["nearest"]), **found)


_ARRAYS = ("variant", "gene", "coverage", "tss_distance", "nearest_distance")


class GeneScoreWriter(ResultWriter, Protocol):
    """Takes blocks of variants in input order; nothing has the output's name before ``commit``."""

    def write(self, variants: Sequence[Variant], block: GeneBlock) -> None:
        """Add all variants of a block, and their rows."""
        ...


def open_gene_writer(output: AtomicOutput, format: str, schema: ScoreSchema) -> GeneScoreWriter:
    """The writer for a format.

    Args:
        output: the claimed output.
        format: ``hdf5``, ``tsv`` or ``parquet``.
        schema: what will be written.

    Raises:
        GexprError: the format cannot go to a stream.
        MissingDependencyError: ``parquet`` without pyarrow.
    """
    if format == "hdf5":
        return GeneScoresHdf5Writer(output, schema)
    if format == "parquet":
        from gexpr.writers.gene_parquet import GeneScoresParquetWriter

        return GeneScoresParquetWriter(output, schema)
    return GeneScoresTsvWriter(output, schema)


class GeneScoresHdf5Writer(FileWriter[Hdf5Output]):
    """HDF5: every variant, and one row of scores a variant and gene; see docs/genes.md."""

    def __init__(self, output: AtomicOutput, schema: ScoreSchema) -> None:
        self._schema = schema
        super().__init__(Hdf5Output(output))
        self._file.attributes({"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **schema.attributes})
        self._file.tracks(schema.tracks)
        begin_variants(self._file)
        self._file.growing_strings("nearest_gene")
        self._file.growing("nearest_tss_distance", (), "float64", fill=float("nan"))
        self._file.growing("si", (), "int64")
        for name in ("gene", "gene_name", "gene_strand"):
            self._file.growing_strings(name)
        self._file.growing("coverage", (), "float32")
        self._file.growing("tss_distance", (), "float64", fill=float("nan"))
        for name in schema.statistics:
            self._file.growing(name, (len(schema.tracks),), schema.dtype, fill=float("nan"))
            if name in schema.definitions:
                self._file.file[name].attrs["definition"] = schema.definitions[name]
        self._other_names()
        self._file.check()
        self._written = 0
        self._waiting: list[tuple[Sequence[Variant], GeneBlock]] = []
        self._waiting_variants = 0

    def _other_names(self) -> None:
        """Names of borzoi_sed for what is there under another."""
        file = self._file.file
        file["gene_id"] = file["gene"]
        if "SAD" in self._schema.statistics:
            file["SED"] = file["SAD"]
        if "logFC" in self._schema.statistics and self._schema.attributes.get("pseudocount", 1.0) == 1:
            file["logSED"] = file["logFC"]

    def write(self, variants: Sequence[Variant], block: GeneBlock) -> None:
        """Add all variants of a block, and their rows.

        They go on in fixed steps, so that the file does not depend on the size of the blocks.
        """
        low = 0
        while low < len(variants):
            high = min(len(variants), low + _STEP - self._waiting_variants)
            self._waiting.append((variants[low:high], block.rows(low, high)))
            self._waiting_variants += high - low
            low = high
            if self._waiting_variants == _STEP:
                self._flush()
        # What waits must not hold on to all of a large block.
        self._waiting = [
            (each, rows._replace(scores={name: values.copy() for name, values in rows.scores.items()}))
            for each, rows in self._waiting
        ]

    def _flush(self) -> None:
        """Write the variants that wait, and then their rows."""
        variants = [variant for each, _ in self._waiting for variant in each]
        for name, values in (
            *variant_columns(variants).items(),
            ("nearest_gene", texts(name for _, rows in self._waiting for name in rows.nearest)),
            (
                "nearest_tss_distance",
                np.concatenate([rows.nearest_distance for _, rows in self._waiting]).astype(np.float64),
            ),
        ):
            self._file.append(name, values)
        for each, rows in self._waiting:
            genes = [rows.genes[place] for place in rows.gene.tolist()]
            self._file.append_rows(
                {
                    "si": rows.variant + self._written,
                    "gene": texts(gene.gene_id for gene in genes),
                    "gene_name": texts(gene.name for gene in genes),
                    "gene_strand": texts(gene.strand for gene in genes),
                    "coverage": rows.coverage.astype(np.float32),
                    "tss_distance": rows.tss_distance.astype(np.float64),
                    **{
                        name: as_dtype(rows.scores[name], self._schema.dtype)
                        for name in self._schema.statistics
                    },
                }
            )
            self._written += len(each)
        self._waiting, self._waiting_variants = [], 0

    def finish(self) -> None:
        """Complete the file and bring it to the disk."""
        if self._waiting:
            self._flush()
        super().finish()


class GeneScoresTsvWriter(FileWriter[TextFile]):
    """TSV, one line a variant, gene, statistic and track, without the tracks of the other strand."""

    def __init__(self, output: AtomicOutput, schema: ScoreSchema) -> None:
        self._schema = schema
        super().__init__(TextFile(output))
        self._file.lines(["\t".join(COLUMNS)])

    def write(self, variants: Sequence[Variant], block: GeneBlock) -> None:
        """Add the rows of a block; a variant without rows adds nothing."""
        for low in range(0, len(variants), _STEP):
            high = min(len(variants), low + _STEP)
            self._file.lines(list(self._lines(variants[low:high], block.rows(low, high))))

    def _lines(self, variants: Sequence[Variant], rows: GeneBlock) -> Iterator[str]:
        tables = [as_dtype(rows.scores[name], self._schema.dtype) for name in self._schema.statistics]
        distances = rows.tss_distance.tolist()
        for row, (at, number) in enumerate(zip(rows.variant.tolist(), rows.gene.tolist(), strict=True)):
            variant, gene = variants[at], rows.genes[number]
            distance = "nan" if np.isnan(distances[row]) else str(int(distances[row]))
            start = "\t".join(
                (
                    *(variant.chrom, str(variant.pos), variant.id or ".", variant.ref, variant.alt),
                    *(gene.gene_id, gene.name, gene.strand),
                    *(distance, str(np.float32(rows.coverage[row]))),
                )
            )
            for name, table in zip(self._schema.statistics, tables, strict=True):
                for track, text in zip(self._schema.tracks, numbers(table[row]), strict=True):
                    if text != "nan":
                        yield "\t".join((start, track.id, track.label, name, text))
