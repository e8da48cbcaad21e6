"""The job behind ``gexpr predict``: regions of a BED file and a checkpoint to predictions.

:class:`PredictTask` computes a block of regions in any process, :class:`PredictSink` makes the
output from the blocks, and :func:`gexpr.runs.control.run_task` does the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError, shown_name
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.results import Region
from gexpr.runs.blocks import Advance
from gexpr.runs.common import (
    BATCH_SIZE,
    BatchSizes,
    DtypeCast,
    ModelTask,
    TaskOptions,
    assign_devices,
    block_rows,
    count,
    describe_fasta,
    describe_predictor,
    input_files,
    open_predictor,
    pack_tracks,
    unpack_tracks,
)
from gexpr.runs.control import Outcome, RunOptions, run_task
from gexpr.runs.directory import Block, Manifest
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.regions import predict_regions, region_spans
from gexpr.writers.output import AtomicOutput, output_format
from gexpr.writers.parts import Part
from gexpr.writers.predictions import SUFFIXES, PredictionBlock, PredictionSchema, open_writer

COMMAND = "predict"

_BLOCK_BYTES = 2**26
"""Predictions of a block, at most, where more than one region fits."""


@dataclass(frozen=True)
class PredictOptions(TaskOptions):
    """Everything that decides what is predicted and how.

    Args:
        model: checkpoint, tracks, strands, shifts, batch, device and precision.
        contig_aliases: a table of contig names, or None.
        format: ``hdf5``, ``tsv``, ``npz`` or None for the output's suffix.
        dtype: ``float32`` or ``float16``.

    Raises:
        ConfigError: a value that is not allowed.
    """

    format: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        DtypeCast(self.dtype)


class PredictSummary(NamedTuple):
    """What a run did. ``computed`` regions were predicted by this process, in ``seconds``."""

    output: str
    regions: int
    bins: int
    computed: int
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
            name = shown_name(region.chrom)
            raise InputError(
                f"the FASTA has no contig '{name}' (it has {names}){contigs.near(region.chrom)}; "
                "see --contig-aliases",
                path=path,
                line=region.line,
            )
        if region.end > genome.lengths[contig]:
            raise InputError(
                f"{shown_name(region.chrom)}:{region.start}-{region.end} reaches past the end of the "
                f"contig ({genome.lengths[contig]:,} bp)",
                path=path,
                line=region.line,
            )
        placed.append(region._replace(chrom=contig))
    return placed


class _Opened(NamedTuple):
    """What a process needs to predict."""

    predictor: Predictor
    genome: Fasta
    regions: list[Region]
    placed: list[Region]
    spans: list[tuple[int, int]]
    cast: DtypeCast


class PredictTask(ModelTask["PredictOptions", _Opened]):
    """Predictions over the regions of a BED file."""

    command = COMMAND

    def _open(self) -> _Opened:
        regions = read_bed(self.path, self.label)
        predictor = open_predictor(self.options.model)
        genome, contigs = self.open_genome()
        placed = place_regions(regions, genome, contigs, self.label)
        spans = region_spans(placed, predictor.bin_size)
        return _Opened(predictor, genome, regions, placed, spans, DtypeCast(self.options.dtype))

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines a prediction, in canonical form, and nothing that does not."""
        opened = self.open()
        text = repr([(*region, *span) for region, span in zip(opened.placed, opened.spans, strict=True)])
        return {
            **describe_predictor(self.options.model, opened.predictor),
            **describe_fasta(opened.genome),
            "bed": self.name,
            "regions_sha256": hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
            "dtype": self.options.dtype,
        }

    def plan(self) -> tuple[int, dict[str, Any]]:
        """Count regions and bins."""
        opened = self.open()
        if not opened.regions:
            logs.warning(f"{self.label} has no regions; the output is empty")
        numbers = {bins for _, bins in opened.spans}
        return len(opened.regions), {
            "bins": sum(bins for _, bins in opened.spans),
            "bins_a_region": numbers.pop() if len(numbers) == 1 else (None if numbers else 0),
            "tracks": pack_tracks(opened.predictor.tracks),
        }

    def default_block_rows(self, rows: int) -> int:
        """Regions a block: bounded by the windows that they need, and by the size of the predictions."""
        opened = self.open()
        predictor = opened.predictor
        most = max((bins for _, bins in opened.spans), default=1)
        windows = -(-most // predictor.target_length)
        region_bytes = most * len(predictor.tracks) * np.dtype(self.options.dtype).itemsize
        return max(1, min(block_rows(predictor, rows, windows), _BLOCK_BYTES // region_bytes))

    def compute(self, block: Block, advance: Advance | None = None) -> Part:
        """Predictions of one block of regions in the output's number type."""
        opened = self.open()
        cast = opened.cast
        placed = opened.placed[block.start : block.end]
        predictions, sums = [], []
        found = predict_regions(opened.predictor, opened.genome, placed)
        for region, values in zip(placed, found, strict=True):
            if not np.isfinite(values).all():
                raise GexprError(
                    f"{region.chrom}:{region.start}-{region.end}: a prediction is not finite "
                    f"(precision {opened.predictor.precision}): use --precision fp32"
                )
            predictions.append(cast(values))
            sums.append(cast(values.sum(axis=0, dtype=np.float64)))
            if advance is not None:
                advance(1)
        regions = [list(region) for region in opened.regions[block.start : block.end]]
        return Part(
            {"predictions": np.concatenate(predictions), "sums": np.stack(sums)},
            {
                "regions": regions,
                "spans": opened.spans[block.start : block.end],
                BATCH_SIZE: opened.predictor.used_batch_size,
            },
        )

    def check_inputs(self) -> None:
        """Raise InputError when the FASTA is gone or was changed; the regions are in memory."""
        self.open().genome.check_unchanged()


class PredictSink:
    """Makes the output of predictions from parts.

    Args:
        output: the claimed output.
        manifest: the run's plan.
        format: ``hdf5``, ``tsv`` or ``npz``.

    Raises:
        ConfigError: ``npz`` for something else than one region.
    """

    def __init__(self, output: AtomicOutput, manifest: Manifest, format: str) -> None:
        content = manifest.content
        check_regions(format, manifest.rows)
        attributes = {name: value for name, value in manifest.fingerprint.items() if name != "dtype"}
        schema = PredictionSchema(
            bins=content["bins_a_region"],
            bin_size=manifest.fingerprint["model_bin_size"],
            tracks=unpack_tracks(content["tracks"]),
            attributes=attributes,
            dtype=manifest.fingerprint["dtype"],
        )
        self._sizes = BatchSizes(manifest.fingerprint["batch_size"])
        self._writer = open_writer(output, format, schema)

    def add(self, part: Part) -> None:
        """Write the regions of the next part."""
        self._sizes.add(part)
        regions = [Region(*values) for values in part.about["regions"]]
        spans = [(start, bins) for start, bins in part.about["spans"]]
        block = PredictionBlock(regions, spans, part.arrays["predictions"], part.arrays["sums"])
        self._writer.write(block)

    def finish(self) -> None:
        """Complete the output and bring it to the disk, still without its name."""
        self._writer.annotate(self._sizes.attributes())
        self._writer.finish()

    def commit(self) -> None:
        """Give the output its name."""
        self._writer.commit()

    def discard(self) -> None:
        """Remove an unfinished output."""
        self._writer.discard()


def check_regions(format: str | None, regions: int) -> None:
    """Raise ConfigError when the format cannot hold that many regions."""
    if format == "npz" and regions != 1:
        raise ConfigError(f"the npz format holds one region, and the BED has {regions}; write .h5 instead")


def predict(
    bed: str, fasta: str, output: str | None, options: PredictOptions, run: RunOptions | None = None
) -> PredictSummary | None:
    """Predict the tracks over every region of a BED file.

    The output appears under its name only when it is complete. Finished blocks are kept in the run
    directory until then, so that the same call continues after an interruption.

    Args:
        bed: BED3 to BED12; ``-`` is standard input.
        fasta: the genome that the BED's coordinates refer to.
        output: a path, or ``-`` for TSV of bin sums on standard output; None with a shard leaves it to the
            merge.
        options: what is predicted and how.
        run: how the run is carried out.

    Returns:
        Counts and time, also printed to stderr; None for a shard.

    Raises:
        GexprError: bad input, options or environment.
        Interrupted: a signal came; the same call continues.
    """
    format = None if output is None else output_format(output, options.format, SUFFIXES)
    model, run = assign_devices(options.model, run or RunOptions())
    options = dataclasses.replace(options, model=model)

    def make_task(spooled: str | None) -> PredictTask:
        task = PredictTask(spooled or bed, bed, fasta, options)
        if format == "npz":
            check_regions(format, len(read_bed(task.path, task.label)))
        return task

    def open_sink(claimed: Sequence[AtomicOutput], manifest: Manifest) -> PredictSink:
        assert format is not None
        return PredictSink(claimed[0], manifest, format)

    inputs = input_files(bed, fasta, options.model.checkpoint, options.contig_aliases)
    outcome = run_task(make_task, open_sink, output, run, inputs=inputs, unit="regions")
    if outcome.sink is None or output is None:
        return None
    return finish(outcome, output)


def finish(outcome: Outcome, output: str) -> PredictSummary:
    """Print the summary of a run whose output is complete."""
    manifest = outcome.manifest
    summary = PredictSummary(
        output, manifest.rows, manifest.content["bins"], outcome.computed, outcome.seconds
    )
    here = ""
    if summary.computed:
        part = "" if summary.computed == summary.regions else f"; {summary.computed:,} of them now"
        here = f"{part} in {summary.seconds:,.1f} s"
    logs.info(
        f"{count(summary.regions, 'region')} with {count(summary.bins, 'bin')} of "
        f"{manifest.fingerprint['model_bin_size']} bp predicted{here}"
        + ("" if output == "-" else f"; written to {output}")
    )
    return summary
