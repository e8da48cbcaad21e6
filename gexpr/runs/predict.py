"""The job behind ``gexpr predict``: regions of a BED file and a checkpoint to predictions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap, read_aliases
from gexpr.genome.fasta import Fasta
from gexpr.results import Region
from gexpr.runs.common import (
    DtypeCast,
    ModelOptions,
    count,
    describe_fasta,
    describe_predictor,
    open_predictor,
    terminable,
)
from gexpr.scoring.regions import predict_regions, region_spans
from gexpr.writers.output import AtomicOutput, output_format
from gexpr.writers.predictions import SUFFIXES, PredictionSchema, open_writer


@dataclass(frozen=True)
class PredictOptions:
    """Everything that decides what is predicted and how.

    Args:
        model: checkpoint, tracks, strands, shifts, batch, device and precision.
        contig_aliases: a table of contig names, or None.
        format: ``hdf5``, ``tsv``, ``npz`` or None for the output's suffix.
        dtype: ``float32`` or ``float16``.

    Raises:
        ConfigError: a value that is not allowed.
    """

    model: ModelOptions
    contig_aliases: str | None = None
    format: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        DtypeCast(self.dtype)


class PredictSummary(NamedTuple):
    """What a run did. ``seconds`` is the time of the prediction alone."""

    output: str
    regions: int
    bins: int
    seconds: float


def place_regions(regions: Sequence[Region], genome: Fasta, contigs: ContigMap, path: str) -> list[Region]:
    """The regions with the FASTA's contig names.

    Raises:
        InputError: a region on an unknown contig or past the end of its contig, with its line.
    """
    placed = []
    for region in regions:
        contig = contigs.resolve(region.chrom)
        if contig is None:
            names = ", ".join(genome.names[:5]) + (", ..." if len(genome.names) > 5 else "")
            raise InputError(
                f"the FASTA has no contig {region.chrom!r} (it has {names}); see --contig-aliases",
                path=path,
                line=region.line,
            )
        if region.end > genome.lengths[contig]:
            raise InputError(
                f"{region.chrom}:{region.start}-{region.end} reaches past the end of the contig "
                f"({genome.lengths[contig]:,} bp)",
                path=path,
                line=region.line,
            )
        placed.append(region._replace(chrom=contig))
    return placed


def predict(bed: str, fasta: str, output: str, options: PredictOptions) -> PredictSummary:
    """Predict the tracks over every region of a BED file.

    The output appears under its name only when it is complete.

    Args:
        bed: BED3 to BED12; ``-`` is standard input.
        fasta: the genome that the BED's coordinates refer to.
        output: a path, or ``-`` for TSV of bin sums on standard output.
        options: everything else.

    Returns:
        Counts and time; also printed to stderr.

    Raises:
        GexprError: bad input, options or environment.
    """
    format = output_format(output, options.format, SUFFIXES)
    with terminable(), AtomicOutput(output) as claimed:
        regions = read_bed(bed)
        if format == "npz" and len(regions) != 1:
            raise ConfigError(
                f"the npz format holds one region, and {bed} has {len(regions)}; write .h5 instead"
            )
        predictor = open_predictor(options.model)
        genome = Fasta(fasta)
        aliases = read_aliases(options.contig_aliases) if options.contig_aliases else None
        placed = place_regions(regions, genome, ContigMap(genome.names, aliases), bed)
        if not regions:
            logs.warning(f"{bed} has no regions; the output is empty")
        spans = region_spans(placed, predictor.bin_size)
        cast = DtypeCast(options.dtype)
        writer = open_writer(
            claimed,
            format,
            PredictionSchema(
                regions=regions,
                spans=spans,
                bin_size=predictor.bin_size,
                tracks=tuple(predictor.tracks),
                attributes={**describe_predictor(options.model, predictor), **describe_fasta(genome)},
                dtype=options.dtype,
            ),
        )
        started = time.monotonic()
        try:
            with logs.progress("predicting", len(regions), "regions") as bar:
                for region, predictions in zip(
                    regions, predict_regions(predictor, genome, placed), strict=True
                ):
                    if not np.isfinite(predictions).all():
                        raise GexprError(
                            f"{region.chrom}:{region.start}-{region.end}: a prediction is not finite "
                            f"(precision {predictor.precision}): use --precision fp32"
                        )
                    cast(predictions)
                    writer.write(predictions)
                    bar.advance()
            seconds = time.monotonic() - started
            writer.commit()
        finally:
            writer.discard()
    summary = PredictSummary(output, len(regions), sum(bins for _, bins in spans), seconds)
    logs.info(
        f"{count(summary.regions, 'region')} with {count(summary.bins, 'bin')} of {predictor.bin_size} bp "
        f"predicted in {summary.seconds:,.1f} s" + ("" if output == "-" else f"; written to {output}")
    )
    return summary
