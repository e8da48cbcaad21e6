"""The job behind ``gexpr attribute``: gradients of predictions over regions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.errors import ConfigError
from gexpr.genome.codes import Codes, decode
from gexpr.genome.fasta import Fasta
from gexpr.interpretation.gradients import BASELINES, METHODS, TARGETS, Attribution, Attributor, columns_of
from gexpr.interpretation.mutagenesis import check_length
from gexpr.results import Region, Track
from gexpr.runs.blocks import Advance
from gexpr.runs.common import (
    BATCH_SIZE,
    DtypeCast,
    ModelTask,
    assign_devices,
    block_rows,
    count,
    describe_fasta,
    describe_predictor,
    described_tracks,
    input_files,
    open_predictor,
    pack_tracks,
    unpack_tracks,
)
from gexpr.runs.control import Outcome, RunOptions, run_task
from gexpr.runs.directory import Block, Manifest
from gexpr.runs.predict import (
    PredictionOutputs,
    RegionSink,
    contigs_with_bases,
    output_folders,
    prediction_outputs,
    track_folders,
)
from gexpr.runs.region_rows import (
    RegionOptions,
    check_source,
    described_aliases,
    digest_regions,
    first_hdf5,
    read_regions,
)
from gexpr.scoring.predictor import Predictor
from gexpr.writers.hdf5 import Attribute
from gexpr.writers.output import AtomicOutput
from gexpr.writers.parts import Part
from gexpr.writers.regions import ATTRIBUTIONS, BaseSchema, BasesHdf5Writer, oriented
from gexpr.writers.result import FileWriter, ResultWriter
from gexpr.writers.text import TextFile, numbers

COMMAND = "attribute"
SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".bedgraph": "bedgraph",
    ".bedgraph.gz": "bedgraph",
    ".bg": "bedgraph",
}
"""Suffix of an output of attributions -> its format."""
VALUES, CONTRIBUTIONS, TARGET, BASELINE = "attributions", "contributions", "target", "baseline"
_BACKWARD = 3
"""What a gradient costs, in predictions."""


@dataclass(frozen=True)
class AttributeOptions(RegionOptions):
    """Everything that decides what an attribution is.

    Args:
        method: ``gradient`` or ``integrated``.
        target: ``log2sum`` or ``sum``.
        each_track: attributions of each track instead of the sum of all.
        correct: subtract from gradients their mean over letters.
        steps: points of integrated gradients.
        baseline: where integrated gradients begin: ``zeros``, ``mean`` or ``shuffled``.
        shuffles: how many shuffled baselines.
        seed: of the shuffled baselines.
        bigwig, bedgraph: folders for a file a column with contributions, or None.

    Raises:
        ConfigError: a value that is not allowed.
    """

    method: str = "gradient"
    target: str = "log2sum"
    each_track: bool = False
    correct: bool = True
    steps: int = 32
    baseline: str = "zeros"
    shuffles: int = 10
    seed: int = 0
    bigwig: str | None = None
    bedgraph: str | None = None

    @property
    def folders(self) -> dict[str, str]:
        """Format of files of one column -> the folder for them."""
        return track_folders(self.bigwig, self.bedgraph)

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {"method": METHODS, "target": TARGETS, "baseline": BASELINES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for name in ("steps", "shuffles"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, not {self.seed}")
        if self.model.compile:
            raise ConfigError("gradients are not computed through a compiled trunk; leave out --compile")


class AttributeSummary(NamedTuple):
    """What a run did. ``computed`` regions were attributed by this process, in ``seconds``."""

    output: str
    regions: int
    computed: int
    seconds: float


class _Opened(NamedTuple):
    """What a process needs to attribute."""

    predictor: Predictor
    genome: Fasta
    regions: list[Region]
    placed: list[Region]
    attributor: Attributor
    cast: DtypeCast


class AttributeTask(ModelTask["AttributeOptions", _Opened]):
    """Attributions of regions; a row is a region."""

    command = COMMAND

    def _open(self) -> _Opened:
        options = self.options
        predictor = open_predictor(options.model)
        genome, contigs = self.open_genome()
        regions, placed = read_regions(self.path, self.label, options, genome, contigs)
        for region in placed:
            check_length(region, predictor)
        attributor = Attributor(
            predictor, target=options.target, mask=options.mask, each_track=options.each_track
        )
        return _Opened(predictor, genome, regions, placed, attributor, DtypeCast(options.dtype))

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines an attribution, in canonical form, and nothing that does not."""
        options, opened = self.options, self.open()
        how: dict[str, Attribute] = {"corrected": options.correct}
        if options.method == "integrated":
            how = {"steps": options.steps, "baseline": options.baseline}
            if options.baseline == "shuffled":
                how.update(shuffles=options.shuffles, seed=options.seed)
        return {
            **describe_predictor(options.model, opened.predictor),
            **describe_fasta(opened.genome),
            "bed": self.name,
            "regions_sha256": digest_regions(opened.placed),
            "method": options.method,
            "target": options.target,
            "each_track": options.each_track,
            **how,
            "mask": str(options.mask),
            "mask_center": "region",
            "window_rule": "base (start + end) // 2 of the region lies at index context_length // 2",
            "dtype": options.dtype,
        }

    def plan(self) -> tuple[int, dict[str, Any]]:
        """Count regions and positions."""
        opened = self.open()
        lengths = [region.end - region.start for region in opened.placed]
        return len(lengths), {
            "positions": sum(lengths),
            "longest": max(lengths, default=0),
            "tracks": pack_tracks(opened.attributor.tracks),
            "contigs": contigs_with_bases(opened.genome),
            "contig_aliases": described_aliases(self.options.contig_aliases),
        }

    def windows(self) -> int:
        """Predictions that a region costs."""
        options, columns = self.options, len(self.open().attributor.tracks)
        points = 1
        if options.method == "integrated":
            points += (options.steps + 1) * (options.shuffles if options.baseline == "shuffled" else 1)
        return points * _BACKWARD * columns

    def default_block_rows(self, rows: int) -> int:
        """Regions a block: as many as some seconds' work has."""
        return block_rows(self.open().predictor, rows, self.windows())

    def compute(self, block: Block, advance: Advance | None = None) -> Part:
        """Attributions of one block of regions in the output's number type, on the + strand."""
        opened = self.open()
        found: list[Attribution] = []
        codes: list[Codes] = []
        for region in opened.placed[block.start : block.end]:
            bases, attribution = self._attribution(region)
            found.append(attribution)
            codes.append(bases)
            if advance is not None:
                advance(1)
        cast = opened.cast
        return Part(
            {
                "codes": np.concatenate(codes),
                VALUES: cast(np.concatenate([each.values for each in found])),
                CONTRIBUTIONS: cast(np.concatenate([each.contributions for each in found])),
                TARGET: cast(np.stack([each.target for each in found])),
                BASELINE: cast(np.stack([each.baseline for each in found])),
            },
            {
                "regions": [list(region) for region in opened.regions[block.start : block.end]],
                "contigs": [region.chrom for region in opened.placed[block.start : block.end]],
                "first": block.start,
                BATCH_SIZE: opened.predictor.used_batch_size,
            },
        )

    def _attribution(self, region: Region) -> tuple[Codes, Attribution]:
        options, opened = self.options, self.open()
        return opened.attributor.attribute(
            opened.genome,
            region,
            method=options.method,
            correct=options.correct,
            steps=options.steps,
            baseline=options.baseline,
            shuffles=options.shuffles,
            seed=options.seed,
        )

    def check_inputs(self) -> None:
        """Raise InputError when the FASTA is gone or was changed; the regions are in memory."""
        self.open().genome.check_unchanged()


class _Writer(ResultWriter, Protocol):
    def write(self, region: Region, codes: Codes, arrays: dict[str, NDArray[Any]]) -> None: ...


class _Hdf5(BasesHdf5Writer):
    def write(self, region: Region, codes: Codes, arrays: Any) -> None:
        turned = {name: oriented(arrays[name], region.strand) for name in (VALUES, CONTRIBUTIONS)}
        super().write(region, codes, {**arrays, **turned})


class _Text(FileWriter[TextFile]):
    """TSV or bedGraph of contributions, base after base of the + strand."""

    def __init__(self, output: AtomicOutput, format: str, tracks: Sequence[Track]) -> None:
        super().__init__(TextFile(output))
        self._bases = format == "tsv"
        if self._bases:
            self._file.lines(["\t".join(["chrom", "start", "end", "base", *(track.id for track in tracks)])])

    def write(self, region: Region, codes: Codes, arrays: dict[str, NDArray[Any]]) -> None:
        lines = []
        for at, (base, row) in enumerate(zip(decode(codes), arrays[CONTRIBUTIONS], strict=True)):
            place = [region.chrom, str(region.start + at), str(region.start + at + 1)]
            lines.append("\t".join([*place, *([base] if self._bases else []), *numbers(row)]))
        self._file.lines(lines)


class AttributeSink(RegionSink[_Writer]):
    """Makes the outputs of attributions from parts.

    Args:
        claimed: the claimed outputs.
        manifest: the run's plan.
        outputs: the same outputs' formats.

    Raises:
        ConfigError: one file of bedGraph for several columns.
        MissingDependencyError: bigWig without pyBigWig.
    """

    def __init__(
        self, claimed: Sequence[AtomicOutput], manifest: Manifest, outputs: PredictionOutputs
    ) -> None:
        super().__init__(claimed, manifest)
        tracks = unpack_tracks(manifest.content["tracks"])
        try:
            for each, format, column in zip(claimed, outputs.formats, outputs.columns, strict=True):
                if column < 0:
                    self._writers.append(self._open(each, manifest, format, tracks))
            self._along = outputs.along_genome(claimed, manifest.content["contigs"], len(tracks), 1)
        except BaseException:
            self.discard()
            raise

    def _open(
        self, output: AtomicOutput, manifest: Manifest, format: str, tracks: Sequence[Track]
    ) -> _Writer:
        fingerprint, content = manifest.fingerprint, manifest.content
        if format == "bedgraph" and len(tracks) != 1:
            raise ConfigError(
                f"one file of bedGraph holds one column, not {len(tracks)}: leave out --each-track, or give "
                "a .tsv or --bedgraph DIR"
            )
        if format == "hdf5":
            columns = (len(tracks),)
            attributes = {name: value for name, value in fingerprint.items() if name != "dtype"}
            attributes["contig_aliases"] = content["contig_aliases"]
            rows = {TARGET: columns}
            if fingerprint["method"] == "integrated":
                rows[BASELINE] = columns
            shapes = {VALUES: (4, *columns), CONTRIBUTIONS: columns}
            return _Hdf5(
                output,
                BaseSchema(
                    *(ATTRIBUTIONS, tracks, shapes, rows, content["longest"]),
                    *(attributes, fingerprint["dtype"]),
                ),
            )
        return _Text(output, format, tracks)

    def add(self, part: Part) -> None:
        """Write the regions of the next part."""
        self._sizes.add(part)
        base = 0
        for row, packed in enumerate(part.about["regions"]):
            region = Region(*packed)
            place = slice(base, base + region.end - region.start)
            base = place.stop
            arrays = {name: part.arrays[name][place] for name in (VALUES, CONTRIBUTIONS)}
            arrays.update({name: part.arrays[name][row] for name in (TARGET, BASELINE)})
            for writer in self._writers:
                writer.write(region, part.arrays["codes"][place], arrays)
            if self._along is not None:
                number, contig = part.about["first"] + row, part.about["contigs"][row]
                self._along.add(contig, region.start, number, arrays[CONTRIBUTIONS])


def attribute(
    bed: str | None,
    fasta: str,
    output: str | Sequence[str] | None,
    options: AttributeOptions,
    run: RunOptions | None = None,
) -> AttributeSummary | None:
    """Attribute predictions to the bases of regions.

    The outputs appear under their names only when they are complete. Finished blocks are kept in the run
    directory until then, so that the same call continues after an interruption.

    Args:
        bed: BED3 to BED12, ``-`` is standard input; None takes ``options.regions``.
        fasta: the genome that the regions refer to.
        output: a path, or several: ``.h5``, ``.tsv``, ``.tsv.gz``, ``.bedgraph`` or ``.bedgraph.gz``, or
            ``-`` for TSV on standard output; None with folders alone, or with a shard, which leaves it to
            the merge.
        options: what is attributed and how, and folders for files of single columns.
        run: how the run is carried out.

    Returns:
        Counts and time, also printed to stderr; None for a shard.

    Raises:
        GexprError: bad input, options or environment.
        Interrupted: a signal came; the same call continues.
    """
    label = check_source(bed, options)
    outputs = attribution_outputs(output, options)
    model, run = assign_devices(options.model, outputs.run_options(run or RunOptions()))
    options = dataclasses.replace(options, model=model)
    with output_folders(options.folders.values(), len(outputs.paths)):
        outcome = run_task(
            attribute_task(bed, label, fasta, options),
            lambda claimed, manifest: AttributeSink(claimed, manifest, outputs),
            outputs.paths or None,
            run,
            inputs=[bed, *input_files(fasta, fasta, model.checkpoint, options.contig_aliases)[1:]],
            unit="regions",
        )
    return None if outcome.sink is None else finish(outcome, outputs.shown)


def attribution_outputs(output: str | Sequence[str] | None, options: AttributeOptions) -> PredictionOutputs:
    """The formats of outputs; see :func:`gexpr.runs.predict.prediction_outputs`."""
    return prediction_outputs(
        *(output, options.format, options.folders),
        lambda: columns_of(described_tracks(options.model), options.each_track),
        SUFFIXES,
    )


def attribute_task(
    bed: str | None, label: str, fasta: str, options: AttributeOptions
) -> Callable[[str | None], AttributeTask]:
    """What makes the task, from the path at which standard input was stored."""
    return lambda spooled: AttributeTask(spooled or bed or "", label, fasta, options)


def finish(outcome: Outcome, output: str) -> AttributeSummary:
    """Print the summary of a run whose output is complete."""
    summary = AttributeSummary(output, outcome.manifest.rows, outcome.computed, outcome.seconds)
    here = ""
    if summary.computed:
        part = "" if summary.computed == summary.regions else f"; {summary.computed:,} of them now"
        here = f"{part} in {summary.seconds:,.1f} s"
    positions = count(outcome.manifest.content["positions"], "position")
    logs.info(
        f"{positions} of {count(summary.regions, 'region')} attributed{here}"
        + ("" if output == "-" else f"; written to {output}")
    )
    return summary


def hdf5_output(output: str | Sequence[str] | None, format: str | None) -> str | None:
    """The first output in HDF5, or None."""
    found = prediction_outputs(output, format, {}, list, SUFFIXES)
    return first_hdf5(found.paths, found.formats)
