"""The job behind ``gexpr ism``: every change of some regions, scored.

A row of the run is one position of one region, so that a long region is divided and continued as many short
ones are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.genome.fasta import Fasta
from gexpr.interpretation.mutagenesis import (
    Changes,
    RegionScorer,
    by_kind,
    check_length,
    records,
    written_variants,
)
from gexpr.results import Region
from gexpr.runs.blocks import Advance
from gexpr.runs.common import (
    BATCH_SIZE,
    BatchSizes,
    DtypeCast,
    ModelTask,
    assign_devices,
    block_rows,
    count,
    describe_fasta,
    describe_predictor,
    input_files,
    open_predictor,
    pack_tracks,
)
from gexpr.runs.control import Outcome, RunOptions, run_task
from gexpr.runs.directory import Block, Manifest
from gexpr.runs.region_rows import (
    RegionOptions,
    check_source,
    described_aliases,
    digest_regions,
    first_hdf5,
    read_regions,
)
from gexpr.runs.score_outputs import ScoreOutputs, score_outputs, score_schema
from gexpr.scoring.definitions import canonical_statistic
from gexpr.scoring.predictor import Predictor
from gexpr.writers.output import AtomicOutput, utf8
from gexpr.writers.parts import Part
from gexpr.writers.regions import (
    DELETION,
    INSERTION,
    MUTAGENESIS,
    BaseSchema,
    BasesHdf5Writer,
)
from gexpr.writers.scores import ScoreWriter, open_writer

COMMAND = "ism"


@dataclass(frozen=True)
class IsmOptions(RegionOptions):
    """Everything that decides what a score is.

    Args:
        statistics: canonical names or aliases.
        pseudocount: the c of ``logFC``.
        average: where strands, shifts and checkpoints are averaged.
        aggregate: ``celltype``, ``assay`` or None.
        engine: ``incremental`` or ``plain``.
        changes: what is made besides substitutions.

    Raises:
        ConfigError: a value that is not allowed.
    """

    statistics: tuple[str, ...] = ("logFC",)
    pseudocount: float = 1.0
    average: str = "predictions"
    aggregate: str | None = None
    engine: str = "incremental"
    changes: Changes = Changes()  # noqa: RUF009

    def __post_init__(self) -> None:
        super().__post_init__()
        self.changes.check()
        object.__setattr__(self, "statistics", tuple(canonical_statistic(name) for name in self.statistics))


class IsmSummary(NamedTuple):
    """What a run did. ``computed`` positions were scored by this process, in ``seconds``."""

    output: str | tuple[str, ...]
    regions: int
    positions: int
    computed: int
    seconds: float


class _Opened(NamedTuple):
    """What a process needs to score."""

    predictor: Predictor
    genome: Fasta
    regions: list[Region]
    placed: list[Region]
    ends: list[int]
    scorer: RegionScorer
    cast: DtypeCast


class IsmTask(ModelTask["IsmOptions", _Opened]):
    """Scores of the changes of regions; a row is a position."""

    command = COMMAND

    def _open(self) -> _Opened:
        options = self.options
        predictor = open_predictor(options.model)
        genome, contigs = self.open_genome()
        regions, placed = read_regions(self.path, self.label, options, genome, contigs)
        for region in placed:
            check_length(region, predictor)
        lengths = [region.end - region.start for region in placed]
        scorer = RegionScorer(
            predictor,
            genome,
            max(lengths, default=1),
            options.changes,
            statistics=options.statistics,
            pseudocount=options.pseudocount,
            mask=options.mask,
            average=options.average,
            aggregate=options.aggregate,
            engine=options.engine,
        )
        ends = list(itertools.accumulate(lengths))
        return _Opened(predictor, genome, regions, placed, ends, scorer, DtypeCast(options.dtype))

    @property
    def scorer(self) -> RegionScorer:
        """What scores the regions."""
        return self.open().scorer

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines a score, in canonical form, and nothing that does not."""
        options, opened = self.options, self.open()
        return {
            **describe_predictor(options.model, opened.predictor),
            **describe_fasta(opened.genome),
            "bed": self.name,
            "regions_sha256": digest_regions(opened.placed),
            "statistics": ",".join(options.statistics),
            "log_base": 2,
            "pseudocount": options.pseudocount,
            "average": options.average,
            "aggregate": options.aggregate or "",
            "mask": str(options.mask),
            "mask_center": "region",
            "deletions": options.changes.deletions,
            "insertions": options.changes.insertions,
            "engine": self.scorer.engine,
            "window_rule": "base (start + end) // 2 of the region lies at index context_length // 2",
            "dtype": options.dtype,
        }

    def plan(self) -> tuple[int, dict[str, Any]]:
        """Count regions and positions."""
        opened = self.open()
        lengths = [region.end - region.start for region in opened.placed]
        contigs = dict.fromkeys(
            (old.chrom, new.chrom) for old, new in zip(opened.regions, opened.placed, strict=True)
        )
        return sum(lengths), {
            "regions": len(lengths),
            "longest": max(lengths, default=0),
            "tracks": pack_tracks(self.scorer.tracks),
            "statistics": list(self.options.statistics),
            "contigs": [[name, opened.genome.lengths[contig]] for name, contig in contigs],
            "contig_aliases": described_aliases(self.options.contig_aliases),
        }

    def default_block_rows(self, rows: int) -> int:
        """Positions a block: as many as some seconds' work has."""
        return block_rows(self.open().predictor, rows, self.options.changes.slots - 1)

    def pieces(self, block: Block) -> Iterator[tuple[int, int, int]]:
        """Regions that a block has positions of: number of the region, and positions, half-open."""
        start = 0
        for number, end in enumerate(self.open().ends):
            first, last = max(block.start, start), min(block.end, end)
            if first < last:
                yield number, first - start, last - start
            start = end

    def compute(self, block: Block, advance: Advance | None = None) -> Part:
        """Scores of one block of positions in the output's number type."""
        opened = self.open()
        scores: dict[str, list[NDArray[Any]]] = {name: [] for name in self.options.statistics}
        pieces, codes = [], []
        for number, first, last in self.pieces(block):
            region = opened.placed[number]
            found = self.scorer.score_region(region, first, last, advance)
            for name, values in found.items():
                scores[name].append(opened.cast(values))
            pieces.append([list(opened.regions[number]), first, last])
            codes.append(self.scorer.codes(region))
        arrays = {name: np.concatenate(values) for name, values in scores.items()}
        return Part(
            {**arrays, "codes": np.concatenate(codes)},
            {"pieces": pieces, BATCH_SIZE: opened.predictor.used_batch_size},
        )

    def check_inputs(self) -> None:
        """Raise InputError when the FASTA is gone or was changed; the regions are in memory."""
        self.open().genome.check_unchanged()


class _OwnVcf:
    """The lines of a VCF of all changes, given as the changes come."""

    def __init__(self, path: str, contigs: Sequence[Sequence[Any]]) -> None:
        self.path = path
        self._lines: deque[bytes] = deque([b"##fileformat=VCFv4.3\n"])
        self._lines.extend(utf8(f"##contig=<ID={name},length={length}>\n") for name, length in contigs)
        self._lines.append(b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")

    def add(self, line: str) -> None:
        """Add the next line."""
        self._lines.append(utf8(line) + b"\n")

    def lines(self) -> Iterator[bytes]:
        """The lines that were added and not taken yet."""
        while self._lines:
            yield self._lines.popleft()

    def check_unchanged(self) -> None:
        """The lines are those that were added."""


class IsmSink:
    """Makes the outputs of mutagenesis from parts.

    Args:
        claimed: the claimed outputs.
        manifest: the run's plan.
        outputs: the same outputs' formats.
    """

    def __init__(self, claimed: Sequence[AtomicOutput], manifest: Manifest, outputs: ScoreOutputs) -> None:
        self._manifest = manifest
        fingerprint = manifest.fingerprint
        self._changes = Changes(fingerprint["deletions"], fingerprint["insertions"])
        self._sizes = BatchSizes(fingerprint["batch_size"])
        self._pending: list[dict[str, NDArray[Any]]] = []
        self._rows = 0
        schema = score_schema(manifest)
        self._bases: list[BasesHdf5Writer] = []
        self._tables: list[ScoreWriter] = []
        self._vcfs: list[_OwnVcf] = []
        try:
            for each, format in zip(claimed, outputs.formats, strict=True):
                if format == "hdf5":
                    self._bases.append(BasesHdf5Writer(each, self._base_schema()))
                    continue
                vcf = _OwnVcf(each.path, manifest.content["contigs"]) if format == "vcf" else None
                if vcf is not None:
                    self._vcfs.append(vcf)
                self._tables.append(open_writer(each, format, schema, long=outputs.long, vcf=vcf))
        except BaseException:
            self.discard()
            raise

    def _base_schema(self) -> BaseSchema:
        schema = score_schema(self._manifest)
        columns = len(schema.tracks)
        shapes: dict[str, tuple[int, ...]] = {}
        for name in schema.statistics:
            shapes[name] = (4, columns)
            if self._changes.deletions:
                shapes[name + DELETION] = (columns,)
            if self._changes.insertions:
                shapes[name + INSERTION] = (4, columns)
        return BaseSchema(
            *(MUTAGENESIS, schema.tracks, shapes, {}, self._manifest.content["longest"]),
            *(schema.attributes, schema.dtype),
        )

    def add(self, part: Part) -> None:
        """Take the next positions; regions are written when all of theirs have come."""
        self._sizes.add(part)
        row = base = 0
        for packed, first, last in part.about["pieces"]:
            region = Region(*packed)
            length = region.end - region.start
            codes = part.arrays["codes"][base : base + length + 2]
            base += length + 2
            names = self._manifest.content["statistics"]
            self._pending.append({name: part.arrays[name][row : row + last - first] for name in names})
            row += last - first
            if last == length:
                whole = {name: np.concatenate([each[name] for each in self._pending]) for name in names}
                self._pending = []
                self._write(region, codes, whole)

    def _write(self, region: Region, codes: NDArray[np.uint8], scores: dict[str, NDArray[Any]]) -> None:
        changes = self._changes
        arrays = {}
        for name, values in scores.items():
            for kind, found_values in by_kind(values, changes, region.strand).items():
                arrays[name + kind] = found_values
        for writer in self._bases:
            writer.write(region, codes[1:-1], arrays)
        if not self._tables:
            return
        found = list(records(region, codes, changes, 0, region.end - region.start))
        for record in found:
            fields = region.chrom, str(record.pos), ".", record.ref, ",".join(record.alts), ".", ".", "."
            for vcf in self._vcfs:
                vcf.add("\t".join(fields))
        variants = written_variants(region, found, self._rows)
        self._rows += len(variants)
        positions = np.array([record.position for record in found for _ in record.slots], dtype=np.int64)
        slots = np.array([slot for record in found for slot in record.slots], dtype=np.int64)
        rows = {name: values[positions, slots] for name, values in scores.items()}
        for table in self._tables:
            table.write(variants, rows)

    @property
    def _writers(self) -> list[BasesHdf5Writer | ScoreWriter]:
        return [*self._bases, *self._tables]

    def finish(self) -> None:
        """Complete the outputs and bring them to the disk, still without their names."""
        for writer in self._writers:
            writer.annotate(self._sizes.attributes())
            writer.finish()

    def commit(self) -> None:
        """Give the outputs their names."""
        for writer in self._writers:
            writer.commit()

    def discard(self) -> None:
        """Remove what is unfinished."""
        for writer in self._writers:
            writer.discard()


def ism_outputs(output: str | Sequence[str] | None, format: str | None, long: bool = False) -> ScoreOutputs:
    """The formats of the outputs; see :func:`gexpr.runs.score_outputs.score_outputs`."""
    return score_outputs(output, format, long)


def ism(
    bed: str | None,
    fasta: str,
    output: str | Sequence[str] | None,
    options: IsmOptions,
    run: RunOptions | None = None,
) -> IsmSummary | None:
    """Score all changes of regions.

    The outputs appear under their names only when they are complete. Finished blocks are kept in the run
    directory until then, so that the same call continues after an interruption.

    Args:
        bed: BED3 to BED12, ``-`` is standard input; None takes ``options.regions``.
        fasta: the genome that the regions refer to.
        output: a path, or several: ``.h5`` (arrays), ``.vcf``, ``.vcf.gz``, ``.tsv``, ``.tsv.gz`` and
            ``.parquet`` (a row an allele); ``-`` for TSV on standard output; None with a shard leaves it to
            the merge.
        options: what is scored and how.
        run: how the run is carried out.

    Returns:
        Counts and time, also printed to stderr; None for a shard.

    Raises:
        GexprError: bad input, options or environment.
        Interrupted: a signal came; the same call continues.
    """
    label = check_source(bed, options)
    outputs = ism_outputs(output, options.format)
    model, run = assign_devices(options.model, run or RunOptions())
    options = dataclasses.replace(options, model=model)
    outcome = run_task(
        ism_task(bed, label, fasta, options),
        lambda claimed, manifest: IsmSink(claimed, manifest, outputs),
        output,
        run,
        inputs=[bed, *input_files(fasta, fasta, model.checkpoint, options.contig_aliases)[1:]],
        unit="positions",
        companions=outputs.companions,
    )
    return None if outcome.sink is None or output is None else finish(outcome, outputs.paths)


def ism_task(bed: str | None, label: str, fasta: str, options: IsmOptions) -> Callable[[str | None], IsmTask]:
    """What makes the task, from the path at which standard input was stored."""
    return lambda spooled: IsmTask(spooled or bed or "", label, fasta, options)


def finish(outcome: Outcome, outputs: Sequence[str]) -> IsmSummary:
    """Print the summary of a run whose output is complete."""
    manifest = outcome.manifest
    output = outputs[0] if len(outputs) == 1 else tuple(outputs)
    summary = IsmSummary(
        output, manifest.content["regions"], manifest.rows, outcome.computed, outcome.seconds
    )
    here = ""
    if summary.computed:
        part = "" if summary.computed == summary.positions else f"; {summary.computed:,} of them now"
        here = f"{part} in {summary.seconds:,.1f} s"
    files = [name for name in outputs if name != "-"]
    logs.info(
        f"all changes of {count(summary.positions, 'position')} in {count(summary.regions, 'region')} "
        f"scored{here}" + (f"; written to {', '.join(files)}" if files else "")
    )
    return summary


def hdf5_output(output: str | Sequence[str] | None, format: str | None) -> str | None:
    """The first output in HDF5, or None."""
    found = ism_outputs(output, format)
    return first_hdf5(found.paths, found.formats)
