"""The job behind ``gexpr export``: chosen rows and columns of a file of scores to another file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.errors import ConfigError, InputError, did_you_mean
from gexpr.genome.places import Places
from gexpr.results import Region
from gexpr.runs.score_rows import ORDERS, Ranking, blocks_in, named_statistic
from gexpr.scoring.tracks import Selection, name_places, places_named, select_tracks
from gexpr.variants.alleles import STATUSES
from gexpr.variants.genotypes import PHASED_STATUS_MEANINGS
from gexpr.variants.vcf import VcfSource, open_vcf
from gexpr.writers.hdf5 import Attribute
from gexpr.writers.output import AtomicOutput, check_outputs, output_format, refuse_existing, utf8
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.scores import STREAMS, SUFFIXES, ScoreSchema, VcfLines, open_writer
from gexpr.writers.vcf import index_names


@dataclass(frozen=True)
class ExportOptions:
    """Which rows and columns are written, and how. A row is written when it meets every condition.

    Args:
        tracks: a selection, see :func:`gexpr.scoring.tracks.select_tracks`; None is all.
        statistics: names of tables of scores; None is all of the file.
        regions: REF overlaps one of these.
        statuses: the status is one of these; empty is any.
        min_abs: a chosen track has at least this absolute score.
        top: the row is one of so many strongest of a chosen track, among those that meet the rest.
        by: what is strong, one of :data:`gexpr.runs.score_rows.ORDERS`.
        stat: the statistic of which ``min_abs`` and ``top`` speak; None is the first that is written.
        format: the output's format; None goes by its suffix.
        long: TSV with one line a number.
        vcf: the VCF that was scored, for the format ``vcf``; None writes a VCF of the rows alone.
        force: replace an existing output.

    Raises:
        ConfigError: a value that is not allowed.
    """

    tracks: str | Selection | None = None
    statistics: tuple[str, ...] | None = None
    regions: tuple[Region, ...] = ()
    statuses: tuple[str, ...] = ()
    min_abs: float | None = None
    top: int | None = None
    by: str = "abs"
    stat: str | None = None
    format: str | None = None
    long: bool = False
    vcf: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        known = *STATUSES, *PHASED_STATUS_MEANINGS
        unknown = [status for status in self.statuses if status not in known]
        if unknown:
            near = did_you_mean(unknown[0], known)
            raise ConfigError(f"unknown status {unknown[0]!r} (known: {', '.join(known)}){near}")
        if self.by not in ORDERS:
            raise ConfigError(f"the order must be one of {', '.join(ORDERS)}, not {self.by!r}")
        if self.min_abs is not None and not self.min_abs >= 0:
            raise ConfigError(f"the least absolute score must be 0 or more, not {self.min_abs}")

    @property
    def chooses_rows(self) -> bool:
        """Whether rows can be left out."""
        return bool(self.regions or self.statuses or self.min_abs is not None or self.top is not None)


class ExportSummary(NamedTuple):
    """What was written: rows, of how many, and columns of each table."""

    output: str
    rows: int
    all_rows: int
    tracks: int


def export_scores(path: str, output: str, options: ExportOptions | None = None) -> ExportSummary:
    """Write rows and columns of a file of scores to a file of any format of scores, without the model.

    The scores file is read block by block, twice where rows are chosen by their scores. Everything exported
    to HDF5 gives the same bytes; a choice of rows gets the attribute ``exported``, which says what choice.

    Args:
        path: HDF5 of ``gexpr score-variants``.
        output: a path, or ``-`` for TSV or VCF on standard output; it appears when it is complete.
        options: what is written.

    Returns:
        How much was written, also printed to stderr.

    Raises:
        GexprError: a bad file or value, or the output cannot be written.
    """
    options = options or ExportOptions()
    format = output_format(output, options.format, SUFFIXES, STREAMS)
    if options.long and format != "tsv":
        raise ConfigError(f"--long is a form of TSV; the output's format is {format}")
    if options.vcf is not None and format != "vcf":
        raise ConfigError(f"--vcf is for the format vcf; the output's format is {format}")
    companions = index_names(output) if format == "vcf" else []
    check_outputs([output, *companions], [path, options.vcf])
    for name in companions:
        refuse_existing(name, options.force)
    with ScoreFile(path) as file, AtomicOutput(output, force=options.force) as claimed:
        columns = select_tracks(file.tracks, options.tracks)
        names = [named_statistic(file, name) for name in options.statistics or file.statistics]
        statistics = tuple(dict.fromkeys(names))
        # A ranking by a statistic that is not written would be hard to understand.
        stat = named_statistic(file, options.stat) if options.stat else statistics[0]
        chosen = choose_rows(file, columns, stat, options)
        lines: VcfLines | None = None
        if format == "vcf":
            if options.vcf is not None:
                lines = _ScoredVcf(options.vcf, file, chosen)
                chosen = lines.rows
            else:
                lines = _Sites(file, chosen)
        schema = ScoreSchema(
            tracks=tuple(file.tracks[column] for column in columns),
            statistics=statistics,
            attributes=_attributes(file, columns, statistics, stat, options),
            dtype=file.dtype,
            definitions={n: text for n in statistics if (text := file.definition(n)) is not None},
            columns=file.columns,
        )
        writer = open_writer(claimed, format, schema, long=options.long, vcf=lines)
        try:
            for start, end in file.blocks(len(statistics)):
                inside = chosen[start:end]
                if inside.any():
                    variants = file.variants(start, end)
                    rows = np.flatnonzero(inside).tolist()
                    extra = file.extra(start, end).items()
                    writer.write(
                        [variants[row] for row in rows],
                        {name: file.scores(name, start, end, columns)[inside] for name in statistics},
                        {name: [values[row] for row in rows] for name, values in extra},
                    )
            writer.commit()
        except BaseException:
            writer.discard()
            raise
        summary = ExportSummary(output, int(chosen.sum()), file.rows, len(columns))
    if not summary.rows and summary.all_rows:
        logs.warning(f"no row of {path} meets the conditions; {output} has none")
    logs.info(
        f"{summary.rows:,} of {summary.all_rows:,} rows, {summary.tracks:,} of {len(file.tracks):,} tracks"
        + ("" if output == "-" else f" written to {output}")
    )
    return summary


def choose_rows(
    file: ScoreFile, columns: Sequence[int], statistic: str, options: ExportOptions
) -> NDArray[np.bool_]:
    """Which rows of a file meet all conditions, (rows,) bool.

    Args:
        file: the file.
        columns: tracks of which ``min_abs`` and ``top`` speak.
        statistic: their table of scores.
        options: the conditions.

    Raises:
        GexprError: no row lies on a region's contig, or the file is damaged.
    """
    chosen = np.zeros(file.rows, dtype=bool)
    if not options.chooses_rows:
        return ~chosen
    ranking = None if options.top is None else Ranking(len(columns), options.top, options.by)
    for start, end, inside in blocks_in(file, Places(options.regions) if options.regions else None):
        if options.statuses:
            inside &= np.isin(file.texts("status", start, end), options.statuses)
        if ranking is not None or options.min_abs is not None:
            scores = file.scores(statistic, start, end, columns)
            if options.min_abs is not None:
                # NaN is not at least anything.
                inside &= (np.abs(scores) >= options.min_abs).any(axis=1)
            if ranking is not None:
                ranking.add(scores[inside], np.arange(start, end)[inside])
        chosen[start:end] = inside
    if ranking is not None:
        chosen[:] = False
        chosen[ranking.rows[ranking.rows >= 0]] = True
    return chosen


def _attributes(
    file: ScoreFile, columns: Sequence[int], statistics: Sequence[str], stat: str, options: ExportOptions
) -> Mapping[str, Attribute]:
    attributes = {**file.attributes, "statistics": ",".join(statistics)}
    if attributes.pop("profile", None) is not None:
        logs.warning(f"the predictions in {file.path} (--profiles) are not exported, only its scores")
    every = list(columns) == list(range(len(file.tracks)))
    merged = attributes.get("merge_strands") or attributes.get("aggregate", "none") != "none"
    if not every and not merged:
        used = str(attributes.get("tracks", ""))
        places = places_named(used, len(file.tracks))
        if places is not None and len(places) == len(file.tracks):
            attributes["tracks"] = name_places(places[column] for column in columns)
        else:
            attributes["tracks"] = f"columns {name_places(columns)} of {used}"
    if options.chooses_rows:
        said = [attributes["exported"]] if "exported" in attributes else []
        attributes["exported"] = "; then ".join(map(str, [*said, _conditions(stat, options)]))
    return attributes


def _conditions(stat: str, options: ExportOptions) -> str:
    """The conditions of a choice of rows as a text; equal choices have equal texts."""
    parts = []
    if options.regions:
        text = ",".join(sorted({f"{each.chrom}:{each.start}-{each.end}" for each in options.regions}))
        digest = hashlib.sha256(utf8(text)).hexdigest()
        parts.append(f"regions {text if len(text) <= 1000 else f'with SHA-256 {digest}'} (0-based)")
    if options.statuses:
        parts.append(f"status {','.join(sorted(set(options.statuses)))}")
    if options.min_abs is not None:
        parts.append(f"|{stat}| >= {options.min_abs:g}")
    if options.top is not None:
        parts.append(f"top {options.top} by {options.by} of {stat}")
    return ", ".join(parts)


class _ScoredVcf:
    """The lines of the VCF that was scored, of records with a chosen row; ``rows`` are all rows of these."""

    def __init__(self, path: str, file: ScoreFile, chosen: NDArray[np.bool_]) -> None:
        self.path = path
        self._source: VcfSource = open_vcf(path)
        expected = file.attributes.get("vcf_sha256")
        if self._source.sha256 != expected:
            raise InputError(
                f"this is not the VCF that was scored ({file.attributes.get('vcf')}, SHA-256 {expected}): "
                f"its SHA-256 is {self._source.sha256}; without --vcf the VCF is made of the scores alone",
                path=path,
            )
        self.rows = np.zeros_like(chosen)
        self._kept: list[bool] = []
        row = 0
        for line in self._source.lines():
            if _is_record(line):
                following = row + line.split(b"\t", 5)[4].count(b",") + 1
                kept = bool(chosen[row:following].any())
                self.rows[row:following] = kept
                self._kept.append(kept)
                row = following
        if row != file.rows:
            raise InputError(f"it has {row:,} alleles, and {file.path} has {file.rows:,}", path=path)

    def lines(self) -> Iterator[bytes]:
        """Header lines, and the records that are kept."""
        kept = iter(self._kept)
        for line in self._source.lines():
            if not _is_record(line) or next(kept):
                yield line

    def check_unchanged(self) -> None:
        """Raise InputError when the file was changed meanwhile."""
        self._source.check_unchanged()


def _is_record(line: bytes) -> bool:
    return bool(line.strip(b"\r\n")) and not line.startswith(b"#")


class _Sites:
    """A VCF made of chosen rows: one record for each, with what the file of scores knows."""

    def __init__(self, file: ScoreFile, chosen: NDArray[np.bool_]) -> None:
        self.path = file.path
        self._file = file
        self._chosen = chosen

    def lines(self) -> Iterator[bytes]:
        """The header with the contigs' names in their order, and a record for each chosen row."""
        contigs: dict[str, None] = {}
        for start, end in self._blocks():
            texts = self._file.texts("chrom", start, end)
            contigs.update(dict.fromkeys(texts[row] for row in np.flatnonzero(self._chosen[start:end])))
        yield b"##fileformat=VCFv4.2\n"
        for contig in contigs:
            yield utf8(f"##contig=<ID={contig}>\n")
        yield b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        for start, end in self._blocks():
            variants = self._file.variants(start, end)
            for row in np.flatnonzero(self._chosen[start:end]):
                each = variants[row]
                fields = (each.chrom, str(each.pos), each.id, each.ref, each.alt, ".", ".", ".")
                yield utf8("\t".join(fields) + "\n")

    def _blocks(self) -> Iterator[tuple[int, int]]:
        return ((start, end) for start, end in self._file.blocks() if self._chosen[start:end].any())

    def check_unchanged(self) -> None:
        """The file of scores is held open."""
