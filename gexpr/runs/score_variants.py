"""The job behind ``gexpr score-variants``: a VCF, a FASTA and a checkpoint to a file of scores.

It is made of three steps, kept apart: :func:`plan` divides the rows into blocks of a fixed size,
:func:`execute` turns one block into scores, and the writer publishes the finished file.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.errors import ConfigError, GexprError
from gexpr.genome.contigs import ContigMap, read_aliases
from gexpr.genome.fasta import Fasta
from gexpr.results import Track, Variant
from gexpr.runs.common import (
    DtypeCast,
    ModelOptions,
    align,
    count,
    describe_fasta,
    describe_predictor,
    open_predictor,
    terminable,
)
from gexpr.scoring import realign
from gexpr.scoring.definitions import ALL_BINS, AVERAGES, STATISTICS, Mask, canonical_statistic
from gexpr.scoring.engine import FastaWindows, VariantScorer, allele_limit, strongest
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.preflight import scan
from gexpr.variants.vcf import VcfSource, open_vcf
from gexpr.writers.output import AtomicOutput, output_format
from gexpr.writers.scores import SUFFIXES, ScoreSchema, open_writer

BLOCK_ROWS = 1024
"""Rows scored and written at a time."""

WINDOW_RULE = "the first base of the normalized REF allele lies at index context_length // 2"


class UnscoredError(GexprError):
    """``--strict`` was given and some alleles were not scored; the output is complete."""

    exit_code = 3


@dataclass(frozen=True)
class ScoreOptions:
    """Everything that decides what is scored and how.

    Args:
        model: checkpoint, tracks, strands, shifts, batch, device and precision.
        statistics: canonical names or aliases.
        pseudocount: the c of ``logFC``.
        mask: which bins are scored.
        average: ``predictions`` or ``scores``.
        max_allele_length: bases; longer alleles get the status ``too_long``.
        max_ref_mismatch: the share of alleles that may disagree with the FASTA before the run stops.
        allow_unknown_contigs: run even when more alleles than that share lie on contigs that the FASTA lacks.
        contig_aliases: a table of contig names, or None.
        format: ``hdf5``, ``tsv`` or None for the output's suffix.
        dtype: ``float32`` or ``float16``.
        long: TSV with one line a number.
        top: how many of the strongest alleles the summary lists.
        strict: raise :class:`UnscoredError` after the output is complete if an allele was not scored.

    Raises:
        ConfigError: a value that is not allowed.
    """

    model: ModelOptions
    statistics: tuple[str, ...] = ("logFC",)
    pseudocount: float = 1.0
    mask: Mask = ALL_BINS
    average: str = "predictions"
    max_allele_length: int = 2000
    max_ref_mismatch: float = 0.10
    allow_unknown_contigs: bool = False
    contig_aliases: str | None = None
    format: str | None = None
    dtype: str = "float32"
    long: bool = False
    top: int = 5
    strict: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "statistics", tuple(canonical_statistic(name) for name in self.statistics))
        if self.average not in AVERAGES:
            raise ConfigError(f"average must be one of {', '.join(AVERAGES)}, not {self.average!r}")
        if not 0 <= self.pseudocount < float("inf"):
            raise ConfigError(f"pseudocount must be 0 or more, not {self.pseudocount}")
        if not 0 <= self.max_ref_mismatch <= 1:
            raise ConfigError(f"max_ref_mismatch must be a share from 0 to 1, not {self.max_ref_mismatch}")
        if self.max_allele_length < 1:
            raise ConfigError(f"max_allele_length must be at least 1, not {self.max_allele_length}")
        if self.top < 0:
            raise ConfigError(f"top must be 0 or more, not {self.top}")
        DtypeCast(self.dtype)


class StrongVariant(NamedTuple):
    """One of the alleles with the largest absolute score, with the track where it is largest."""

    variant: Variant
    track: Track
    statistic: str
    score: float


class ScoreSummary(NamedTuple):
    """What a run did. ``seconds`` and ``rate`` (scored alleles a second) are those of the scoring alone."""

    output: str
    records: int
    alleles: int
    scored: int
    by_status: dict[str, int]
    seconds: float
    strongest: list[StrongVariant]

    @property
    def rate(self) -> float:
        """Alleles scored a second."""
        return self.scored / max(self.seconds, 1e-9)


class Block(NamedTuple):
    """A half-open range of output rows."""

    start: int
    end: int


def plan(rows: int, block_rows: int = BLOCK_ROWS) -> list[Block]:
    """Blocks of a fixed number of rows that together are all rows."""
    return [Block(start, min(start + block_rows, rows)) for start in range(0, rows, block_rows)]


def read_variants(source: VcfSource, reader: AlleleReader) -> Iterator[Variant]:
    """Every allele of a VCF in order, with consecutive rows."""
    row = 0
    for record in source.records():
        variants = reader.split(record, row)
        row += len(variants)
        yield from variants


def execute(
    scorer: VariantScorer, variants: list[Variant], cast: DtypeCast, bar: logs.Progress | None = None
) -> dict[str, NDArray[np.floating]]:
    """Scores of one block in the output's number type, NaN in rows that are not ``ok``."""
    scores = scorer.score(variants, None if bar is None else bar.advance)
    if bar is not None:
        bar.advance(sum(not variant.ok for variant in variants), note=f"{bar.rate:,.0f}/s")
    return {name: cast(values) for name, values in scores.items()}


def score_variants(vcf: str, fasta: str, output: str, options: ScoreOptions) -> ScoreSummary:
    """Score every ALT allele of a VCF and write one row for each.

    The output appears under its name only when it is complete.

    Args:
        vcf: VCF or BCF; ``-`` is standard input.
        fasta: the genome that the VCF's coordinates refer to.
        output: a path, or ``-`` for TSV on standard output.
        options: everything else.

    Returns:
        Counts, rate and the strongest alleles; also printed to stderr.

    Raises:
        GexprError: bad input, options or environment.
        UnscoredError: ``options.strict`` and an allele was not scored; the output is complete.
    """
    format = output_format(output, options.format, SUFFIXES)
    if options.long and format != "tsv":
        raise ConfigError(f"--long is a form of TSV; the output's format is {format}")
    with terminable(), AtomicOutput(output) as claimed:
        predictor = open_predictor(options.model)
        genome = Fasta(fasta)
        aliases = read_aliases(options.contig_aliases) if options.contig_aliases else None
        limit = allele_limit(predictor)
        reader = AlleleReader(genome, ContigMap(genome.names, aliases), min(options.max_allele_length, limit))
        scorer = VariantScorer(
            predictor,
            FastaWindows(genome),
            statistics=options.statistics,
            pseudocount=options.pseudocount,
            mask=options.mask,
            average=options.average,
        )
        source = open_vcf(vcf)
        found = scan(source, reader, options.max_ref_mismatch, options.allow_unknown_contigs)
        for message in found.warnings:
            logs.warning(message)
        if limit < options.max_allele_length and found.by_status.get("too_long"):
            logs.warning(
                f"alleles longer than {limit:,} bases are not scored: the model predicts only "
                f"{predictor.target_length * predictor.bin_size:,} bp"
            )
        if found.renamed:
            pairs = [f"{old} is {new}" for old, new in sorted(found.renamed.items())]
            logs.info(f"contig names: {', '.join(pairs[:5])}{', ...' if len(pairs) > 5 else ''} in the FASTA")

        writer = open_writer(
            claimed,
            format,
            ScoreSchema(
                tracks=tuple(predictor.tracks),
                statistics=options.statistics,
                attributes=_attributes(options, scorer, genome, source, reader),
                dtype=options.dtype,
                definitions={name: STATISTICS[name].formula for name in options.statistics},
            ),
            long=options.long,
        )
        ranking = _Ranking(options, predictor.tracks)
        cast = DtypeCast(options.dtype)
        started = time.monotonic()
        try:
            variants = read_variants(source, reader)
            with logs.progress("scoring", found.alleles, "variants") as bar:
                for block in plan(found.alleles):
                    rows = list(islice(variants, block.end - block.start))
                    scores = execute(scorer, rows, cast, bar)
                    writer.write(rows, scores)
                    ranking.add(rows, scores)
            seconds = time.monotonic() - started
            writer.commit()
        finally:
            writer.discard()

    summary = ScoreSummary(
        output=output,
        records=found.records,
        alleles=found.alleles,
        scored=found.by_status.get("ok", 0),
        by_status=found.by_status,
        seconds=seconds,
        strongest=ranking.result(),
    )
    for line in summary_lines(summary):
        logs.info(line)
    unscored = summary.alleles - summary.scored
    if options.strict and unscored:
        raise UnscoredError(
            f"{count(unscored, 'allele was', 'alleles were')} not scored (--strict); "
            f"the output {'is complete' if output == '-' else output + ' is complete'}"
        )
    return summary


def _attributes(
    options: ScoreOptions, scorer: VariantScorer, genome: Fasta, source: VcfSource, reader: AlleleReader
) -> dict[str, Any]:
    """Everything that determines a score, in canonical form, and nothing that does not."""
    return {
        **describe_predictor(options.model, scorer.predictor),
        **describe_fasta(genome),
        "vcf": "standard input" if source.path == "-" else os.path.basename(source.path),
        "vcf_sha256": source.sha256,
        "statistics": ",".join(options.statistics),
        "pseudocount": options.pseudocount,
        "log_base": 2,
        "average": options.average,
        "mask": str(options.mask),
        "window_rule": WINDOW_RULE,
        "indel_method": realign.METHOD,
        "max_allele_length": reader.max_allele_length,
        "contig_aliases": ",".join(f"{a}={b}" for a, b in sorted(reader.contigs.renamed.items())),
    }


class _Ranking:
    """Keeps the alleles with the largest absolute first statistic over all blocks."""

    def __init__(self, options: ScoreOptions, tracks: list[Track]) -> None:
        self._statistic = options.statistics[0]
        self._size = options.top
        self._tracks = tracks
        self._kept: list[tuple[float, int, StrongVariant]] = []

    def add(self, variants: list[Variant], scores: Mapping[str, NDArray[np.floating]]) -> None:
        for row, track, score in strongest(scores, self._statistic, self._size):
            entry = StrongVariant(variants[row], self._tracks[track], self._statistic, score)
            # Earlier rows win ties; rows are distinct, so the records themselves are never compared.
            heapq.heappush(self._kept, (abs(score), -variants[row].row, entry))
            if len(self._kept) > self._size:
                heapq.heappop(self._kept)

    def result(self) -> list[StrongVariant]:
        return [entry for _, _, entry in sorted(self._kept, reverse=True)]


def summary_lines(summary: ScoreSummary) -> list[str]:
    """The summary as it is printed to stderr."""
    lines = [
        f"{count(summary.alleles, 'allele')} of {count(summary.records, 'record')} read, "
        f"{summary.scored:,} scored in {summary.seconds:,.1f} s ({summary.rate:,.1f} a second)"
    ]
    unscored = {status: n for status, n in summary.by_status.items() if status != "ok"}
    if unscored:
        lines.append("not scored: " + ", ".join(f"{status} {n:,}" for status, n in unscored.items()))
    if summary.output != "-":
        lines.append(f"written to {summary.output}")
    if summary.strongest:
        lines.append(f"strongest effects by {summary.strongest[0].statistic}:")
        rows = [
            (
                f"  {entry.variant.chrom}:{entry.variant.pos}",
                f"{_short(entry.variant.ref)}>{_short(entry.variant.alt)}",
                entry.variant.id,
                f"{entry.score:+.3f}",
                entry.track.label or entry.track.id,
            )
            for entry in summary.strongest
        ]
        lines += align(rows)
    return lines


def _short(allele: str) -> str:
    return allele if len(allele) <= 12 else f"{allele[:9]}...({len(allele)})"
