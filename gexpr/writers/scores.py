"""Variant scores as HDF5, TSV, annotated VCF or Parquet, by blocks of rows, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.results import Track, Variant
from gexpr.writers.hdf5 import TRACK_FIELDS, Attribute, Hdf5Output, texts
from gexpr.writers.output import AtomicOutput, as_dtype
from gexpr.writers.result import FileWriter, ResultWriter
from gexpr.writers.text import TextFile, numbers

SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".txt": "tsv",
    ".txt.gz": "tsv",
    ".vcf": "vcf",
    ".vcf.gz": "vcf",
    ".vcf.bgz": "vcf",
    ".parquet": "parquet",
}
"""Suffix of an output of variant scores -> its format."""

STREAMS = ("tsv", "vcf")
"""Formats of variant scores that standard output can take."""

FORMAT_NAME = "gexpr variant scores"
FORMAT_VERSION = 1
COLUMNS_ATTRIBUTE = "columns"
"""The attribute that names the extra columns of a file that has any."""

Scores = Mapping[str, NDArray[np.floating]]
Columns = Mapping[str, Sequence[str | int | float]]
"""Extra columns of some rows: name -> a text or number for each row."""

COLUMN_KINDS = ("text", "int", "float")
"""What an extra column holds: texts, whole numbers (int64), or numbers (float32)."""
NUMBER_TYPES = {"int": "int64", "float": "float32"}
"""Kind of an extra column of numbers -> its type."""
_FIXED = frozenset(
    (
        *("chrom", "chr", "snp", "pos", "id", "ref", "alt", "ref_allele", "alt_allele", "status"),
        *("track_id", "track_label", "statistic", "score", "target_ids", "target_labels", *TRACK_FIELDS),
    )
)


PROFILES = ("REF", "ALT", "profile_start")
"""Predictions of both alleles (rows, bins, tracks), and the first base of the first bin (rows,)."""


class ScoreSchema(NamedTuple):
    """What a file of scores holds: columns, number type, and the attributes of an HDF5 file.

    ``columns`` are extra columns that say more of each row, behind its status: name -> one of
    :data:`COLUMN_KINDS`. VCF holds them where there is one row an allele. ``profile`` is the number of bins
    of the predictions of both alleles, which HDF5 alone holds: :data:`PROFILES` among the scores.
    """

    tracks: tuple[Track, ...]
    statistics: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    dtype: str = "float32"
    definitions: Mapping[str, str] = {}
    columns: Mapping[str, str] = {}
    profile: int = 0


def check_columns(schema: ScoreSchema) -> None:
    """Raise ValueError when an extra column has a name that the formats use, or an unknown kind."""
    for name, kind in schema.columns.items():
        if name in _FIXED or name in schema.statistics or kind not in COLUMN_KINDS:
            raise ValueError(f"an extra column cannot be {name!r} of the kind {kind!r}")


def extra_columns(
    schema: ScoreSchema, columns: Columns | None, rows: int
) -> dict[str, list[str | int | float]]:
    """The extra columns of a block, in the schema's order.

    Raises:
        ValueError: they are not those of the schema, or not one value for each of ``rows`` rows.
    """
    given = {name: list(values) for name, values in (columns or {}).items()}
    if set(given) != set(schema.columns) or any(len(values) != rows for values in given.values()):
        found = {name: len(values) for name, values in given.items()}
        raise ValueError(f"extra columns {found} for {rows} rows of the columns {tuple(schema.columns)}")
    return {name: given[name] for name in schema.columns}


def column_texts(schema: ScoreSchema, columns: Columns | None, rows: int) -> dict[str, list[str]]:
    """The extra columns of a block as texts; numbers are the shortest that read back as the same float32."""
    return {
        name: numbers(np.array(values, dtype=np.float32))
        if schema.columns[name] == "float"
        else [str(value) for value in values]
        for name, values in extra_columns(schema, columns, rows).items()
    }


class VcfLines(Protocol):
    """The text of a VCF; :class:`gexpr.variants.vcf.VcfSource` is one."""

    path: str

    def lines(self) -> Iterator[bytes]:
        """All lines, header lines included, with their line ends; each call begins anew."""
        ...

    def check_unchanged(self) -> None:
        """Raise InputError when the lines may be others than before."""
        ...


class ScoreWriter(ResultWriter, Protocol):
    """Takes blocks of rows in input order; nothing has the output's name before ``commit``."""

    def write(self, variants: Sequence[Variant], scores: Scores, columns: Columns | None = None) -> None:
        """Add one block: scores are (len(variants), tracks) for every statistic of the schema.

        ``columns`` has a value for each variant in every extra column of the schema.
        """
        ...


def open_writer(
    output: AtomicOutput,
    format: str,
    schema: ScoreSchema,
    *,
    long: bool = False,
    vcf: VcfLines | None = None,
) -> ScoreWriter:
    """The writer for a format.

    Args:
        output: the claimed output.
        format: ``hdf5``, ``tsv``, ``vcf`` or ``parquet``.
        schema: what will be written.
        long: TSV with one line for each variant, track and statistic.
        vcf: the file that was scored, which the format ``vcf`` annotates.

    Raises:
        ConfigError: ``vcf`` without such a file, or with extra columns.
        MissingDependencyError: ``parquet`` without pyarrow.
    """
    check_columns(schema)
    if format == "hdf5":
        return ScoresHdf5Writer(output, schema)
    if format == "vcf":
        from gexpr.writers.vcf import ScoresVcfWriter

        if vcf is None:
            raise ConfigError("the format vcf annotates the VCF that was scored, and none was given")
        if "haplotype" in schema.columns:
            raise ConfigError(
                f"the format vcf has no place for the columns {', '.join(schema.columns)}: "
                "write HDF5, TSV or Parquet"
            )
        return ScoresVcfWriter(output, schema, vcf)
    if format == "parquet":
        from gexpr.writers.parquet import ScoresParquetWriter

        return ScoresParquetWriter(output, schema)
    return ScoresTsvWriter(output, schema, long=long)


def variant_name(variant: Variant) -> str:
    """The VCF's ID, or ``chr_pos_ref_alt`` where it has none."""
    if variant.id and variant.id != ".":
        return variant.id
    return f"{variant.chrom}_{variant.pos}_{variant.ref}_{variant.alt}"


def begin_variants(file: Hdf5Output) -> None:
    """Create the datasets that :func:`variant_columns` fills."""
    for name in ("snp", "chr"):
        file.growing_strings(name)
    file.growing("pos", (), "uint32")
    for name in ("ref_allele", "alt_allele", "status"):
        file.growing_strings(name)


def variant_columns(variants: Sequence[Variant]) -> dict[str, Any]:
    """Rows of the datasets that say which variants they are, with the names of basenji_sad."""
    # A POS that no contig can have (its row is not ``ok``) is stored as the largest uint32.
    positions = [min(variant.pos, 0xFFFFFFFF) for variant in variants]
    return {
        "snp": texts(variant_name(variant) for variant in variants),
        "chr": texts(variant.chrom for variant in variants),
        "ref_allele": texts(variant.ref for variant in variants),
        "alt_allele": texts(variant.alt for variant in variants),
        "status": texts(variant.status for variant in variants),
        "pos": np.array(positions, dtype=np.uint32),
    }


class ScoresHdf5Writer(FileWriter[Hdf5Output]):
    """HDF5 with the names that basenji_sad and hound_snp write; see docs/output-files.md."""

    def __init__(self, output: AtomicOutput, schema: ScoreSchema) -> None:
        self._schema = schema
        super().__init__(Hdf5Output(output))
        self._file.attributes({"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **schema.attributes})
        self._file.tracks(schema.tracks)
        begin_variants(self._file)
        if schema.columns:
            self._file.attributes({COLUMNS_ATTRIBUTE: ",".join(schema.columns)})
        for name, kind in schema.columns.items():
            if kind in NUMBER_TYPES:
                self._file.growing(name, (), NUMBER_TYPES[kind])
            else:
                self._file.growing_strings(name)
        for name in schema.statistics:
            self._file.growing(name, (len(schema.tracks),), schema.dtype, fill=float("nan"))
            if name in schema.definitions:
                self._file.file[name].attrs["definition"] = schema.definitions[name]
        if schema.profile:
            for name in PROFILES[:2]:
                shape = schema.profile, len(schema.tracks)
                self._file.growing(name, shape, schema.dtype, fill=float("nan"))
            self._file.growing(PROFILES[2], (), "int64", fill=-1)
        self._file.check()

    def write(self, variants: Sequence[Variant], scores: Scores, columns: Columns | None = None) -> None:
        """Add one block of rows."""
        extra = extra_columns(self._schema, columns, len(variants))
        self._file.append_rows(
            {
                **variant_columns(variants),
                **{
                    name: texts(map(str, values))
                    if (kind := self._schema.columns[name]) == "text"
                    else np.array(values, dtype=NUMBER_TYPES[kind])
                    for name, values in extra.items()
                },
                **{name: as_dtype(scores[name], self._schema.dtype) for name in self._schema.statistics},
                **{name: scores[name] for name in (PROFILES if self._schema.profile else ())},
            }
        )


class ScoresTsvWriter(FileWriter[TextFile]):
    """TSV: ``chrom pos id ref alt status``, extra columns, and one column a track, or one line a number."""

    def __init__(self, output: AtomicOutput, schema: ScoreSchema, *, long: bool = False) -> None:
        self._schema = schema
        self._long = long
        super().__init__(TextFile(output))
        header = ["chrom", "pos", "id", "ref", "alt", "status", *schema.columns]
        if long:
            header += ["track_id", "track_label", "statistic", "score"]
        elif len(schema.statistics) == 1:
            header += [track.id for track in schema.tracks]
        else:
            header += [f"{track.id}:{name}" for name in schema.statistics for track in schema.tracks]
        self._file.lines(["\t".join(header)])

    def write(self, variants: Sequence[Variant], scores: Scores, columns: Columns | None = None) -> None:
        """Add one block of rows."""
        extra = column_texts(self._schema, columns, len(variants))
        tables = [as_dtype(scores[name], self._schema.dtype) for name in self._schema.statistics]
        lines = []
        for row, variant in enumerate(variants):
            start = "\t".join(
                (
                    *(variant.chrom, str(variant.pos), variant.id or ".", variant.ref, variant.alt),
                    *(variant.status, *(values[row] for values in extra.values())),
                )
            )
            cells = [numbers(table[row]) for table in tables]
            if not self._long:
                lines.append("\t".join([start, *(text for each in cells for text in each)]))
                continue
            for name, each in zip(self._schema.statistics, cells, strict=True):
                for track, text in zip(self._schema.tracks, each, strict=True):
                    lines.append("\t".join((start, track.id, track.label, name, text)))
        self._file.lines(lines)
