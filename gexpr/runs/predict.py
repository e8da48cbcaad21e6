"""The job behind ``gexpr predict``: regions of a genome and a checkpoint to predictions.

:class:`PredictTask` computes a block of rows in any process, :class:`PredictSink` makes the
outputs from the blocks, and :func:`gexpr.runs.control.run_task` does the rest. A row is a region, or some
of the windows of a long one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError, shown_name
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.genome.places import open_ended
from gexpr.genome.windows import Tiling
from gexpr.results import Region, Track
from gexpr.runs.blocks import Advance, BlockTask
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
    described_tracks,
    input_files,
    open_predictor,
    pack_tracks,
    unpack_tracks,
)
from gexpr.runs.control import Outcome, RunOptions, run_task
from gexpr.runs.directory import Block, Manifest
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.regions import Stretch, predict_stretches, region_spans, region_tiling
from gexpr.writers.genome_tracks import GenomeTracks, TrackOutput, need_bigwig, track_file_names
from gexpr.writers.output import AtomicOutput, output_format, output_names
from gexpr.writers.parts import Part
from gexpr.writers.predictions import (
    SUFFIXES,
    PredictionBlock,
    PredictionSchema,
    PredictionWriter,
    open_writer,
)
from gexpr.writers.result import ResultWriter

COMMAND = "predict"

_BLOCK_BYTES = 2**26
"""Predictions of a block, at most, where more than one row fits."""
_STRETCH_BASES = 2**22
"""Bases that a row shows to the model, at most, where a window does not have more."""
_FILES_BESIDES = 128
"""Files that a process has open besides those of tracks."""


@dataclass(frozen=True)
class PredictOptions(TaskOptions):
    """Everything that decides what is predicted and how.

    Args:
        model: checkpoint, tracks, strands, shifts, batch, device and precision.
        contig_aliases: a table of contig names, or None.
        format: ``hdf5``, ``tsv``, ``npz`` or None for the output's suffix.
        dtype: ``float32`` or ``float16``.
        regions: as :func:`gexpr.genome.places.parse_region` reads them; before those of a BED file.
        contigs: None, or contigs that are predicted whole; none at all stand for every contig.
        sequences: the FASTA is a file of sequences, each of which is predicted whole.
        overlap: bases that the predictions of neighboring windows share at least; None chooses.
        bigwig, bedgraph: folders for a file a track, or None.

    Raises:
        ConfigError: a value that is not allowed.
    """

    format: str | None = None
    dtype: str = "float32"
    regions: tuple[Region, ...] = ()
    contigs: tuple[str, ...] | None = None
    sequences: bool = False
    overlap: int | None = None
    bigwig: str | None = None
    bedgraph: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        DtypeCast(self.dtype)
        if self.sequences and (self.regions or self.contigs is not None):
            raise ConfigError("sequences are predicted whole; leave out --region, --genome and --contigs")
        if self.contigs is not None and self.regions:
            raise ConfigError("whole contigs and --region exclude each other: --region CHR is a whole contig")

    @property
    def whole(self) -> bool:
        """Whether whole contigs are predicted and no BED file is read."""
        return self.sequences or self.contigs is not None

    @property
    def folders(self) -> dict[str, str]:
        """Format of files of one track -> the folder for them."""
        return track_folders(self.bigwig, self.bedgraph)


def track_folders(bigwig: str | None, bedgraph: str | None) -> dict[str, str]:
    """Format of files of one track -> the folder for them, of those that are given."""
    given = {"bigwig": bigwig, "bedgraph": bedgraph}
    return {format: folder for format, folder in given.items() if folder is not None}


class PredictSummary(NamedTuple):
    """What a run did. ``computed`` rows (regions, or parts of long ones) were predicted by this process, in
    ``seconds``.
    """

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
                f"the FASTA has no contig '{name}' (it has {names}); see --contig-aliases"
                f"{contigs.near(region.chrom)}",
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


def asked_region(region: Region, genome: Fasta, contigs: ContigMap) -> tuple[Region, bool]:
    """A region of the command line in the FASTA's coordinates, and whether it is a contig by its name alone.

    Raises:
        InputError: it does not lie in the genome.
    """
    whole = region.start == 0 and open_ended(region)
    contig = contigs.resolve(region.chrom)
    end = region.end
    if contig is not None and open_ended(region):
        end = genome.lengths[contig]
        if region.start >= end:
            name = shown_name(region.chrom) + ("" if whole else f":{region.start + 1:,}-")
            raise InputError(f"{name} begins past the end of the contig ({end:,} bp)", path="--region")
    return place_regions([region._replace(end=end)], genome, contigs, "--region")[0], whole


def _whole_contigs(genome: Fasta, contigs: ContigMap, wanted: Sequence[str] | None) -> list[Region]:
    """All contigs, or some, each as a region.

    Raises:
        InputError: one is not there, or is wanted twice.
    """
    names: dict[str, None] = {}
    for name in wanted or genome.names:
        contig = contigs.resolve(name) if wanted else name
        if contig is None:
            known = ", ".join(genome.names[:5]) + (", ..." if len(genome.names) > 5 else "")
            raise InputError(
                f"the FASTA has no contig '{shown_name(name)}' (it has {known}); see --contig-aliases"
                f"{contigs.near(name)}",
                path=genome.path,
            )
        if contig in names and wanted:
            raise InputError(f"the contig {shown_name(name)} is wanted twice", path=genome.path)
        if genome.lengths[contig]:
            names[contig] = None
        else:
            logs.warning(f"{genome.path}: {shown_name(contig)} has no bases and is left out")
    return [Region(name, 0, genome.lengths[name]) for name in names]


class Placed(NamedTuple):
    """Regions as they are spelt, with the FASTA's contig names, and where each one's bins lie:
    (genome position of the first, number).
    """

    regions: list[Region]
    placed: list[Region]
    spans: list[tuple[int, int]]


def place_all(
    asked: Sequence[Region],
    listed: Sequence[Region],
    genome: Fasta,
    contigs: ContigMap,
    bin_size: int,
    label: str,
) -> Placed:
    """Regions of the command line, then those of a BED file.

    Args:
        asked: as :func:`gexpr.genome.places.parse_region` reads them; a contig by its name alone has bins
            from its first base on.
        listed: lines of the BED file.
        genome: the FASTA.
        contigs: what its contigs are called elsewhere.
        bin_size: bases a bin.
        label: what messages call the BED file.

    Raises:
        InputError: a region that does not lie in the genome.
    """
    found = Placed([], [], [])
    for region in asked:
        placed, whole = asked_region(region, genome, contigs)
        found.placed.append(placed)
        found.regions.append(placed._replace(chrom=region.chrom))
        found.spans.extend([_grid(placed, bin_size)] if whole else region_spans([placed], bin_size))
    others = place_regions(listed, genome, contigs, label)
    found.placed.extend(others)
    found.regions.extend(listed)
    found.spans.extend(region_spans(others, bin_size))
    return found


class _Rows(NamedTuple):
    """What is predicted: regions as given, where each one's bins lie, and the rows of the run.

    ``regions`` and ``spans`` have an entry a region, ``stretches`` and ``owners`` (numbers of regions) one a
    row.
    """

    regions: list[Region]
    spans: list[tuple[int, int]]
    stretches: list[Stretch]
    owners: list[int]


def _rows(
    regions: list[Region],
    placed: Sequence[Region],
    spans: list[tuple[int, int]],
    tiling: Tiling,
    most_windows: int,
) -> _Rows:
    """Cut long regions into rows; those of a ``-`` region go from right to left, as its bins do."""
    stretches: list[Stretch] = []
    owners: list[int] = []
    for number, (region, (origin, bins)) in enumerate(zip(placed, spans, strict=True)):
        windows = tiling.windows(bins)
        number_of_rows = -(-windows // most_windows)
        cuts = [row * windows // number_of_rows for row in range(number_of_rows + 1)]
        pairs = list(itertools.pairwise(cuts))
        for low, high in reversed(pairs) if region.strand == "-" else pairs:
            stretches.append(Stretch(region.chrom, region.strand, origin, bins, low, high))
            owners.append(number)
    return _Rows(regions, spans, stretches, owners)


class _Opened(NamedTuple):
    """What a process needs to predict."""

    predictor: Predictor
    genome: Fasta
    placed: list[Region]
    tiling: Tiling
    rows: _Rows
    cast: DtypeCast


class PredictTask(ModelTask["PredictOptions", _Opened]):
    """Predictions over the regions of a BED file, of the options, or over whole contigs.

    Args:
        path: where the BED file can be read, any number of times; empty without one.
        label: what it is called in messages and output; ``-`` is standard input. Without a BED file, what
            the FASTA is called if it was a stream.
        fasta: the genome.
        options: everything else.
    """

    command = COMMAND

    def absolute(self) -> BlockTask:
        """The same task with absolute paths, for processes that work in another folder."""
        task = super().absolute()
        assert isinstance(task, PredictTask)
        return task if self.path else PredictTask("", self.label, task.fasta, task.options)

    def _open(self) -> _Opened:
        listed = read_bed(self.path, self.label) if self.path else []
        predictor = open_predictor(self.options.model)
        genome, contigs = self.open_genome()
        tiling = region_tiling(predictor, self.options.overlap)
        if self.options.whole:
            placed = _whole_contigs(genome, contigs, self.options.contigs)
            regions, spans = placed, [_grid(region, tiling.bin_size) for region in placed]
        else:
            regions, placed, spans = place_all(
                self.options.regions, listed, genome, contigs, tiling.bin_size, self.label
            )
        rows = _rows(regions, placed, spans, tiling, self._most_windows(predictor, tiling))
        return _Opened(predictor, genome, placed, tiling, rows, DtypeCast(self.options.dtype))

    def _most_windows(self, predictor: Predictor, tiling: Tiling) -> int:
        """Windows a row, at most; nothing that differs between the machines of a run decides on it."""
        bases = _STRETCH_BASES // predictor.context_length
        window = tiling.most_bins * len(predictor.tracks) * np.dtype(self.options.dtype).itemsize
        return max(1, min(bases, _BLOCK_BYTES // window))

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines a prediction, in canonical form, and nothing that does not."""
        opened = self.open()
        spans, size = opened.rows.spans, opened.tiling.bin_size
        text = repr([(*region, *span) for region, span in zip(opened.placed, spans, strict=True)])
        overlap = (opened.predictor.target_length - opened.tiling.most_bins) * size
        return {
            **describe_predictor(self.options.model, opened.predictor),
            **describe_fasta(opened.genome),
            **({"bed": self.name} if self.path else {}),
            **({"fasta": self.name} if self.label and not self.path else {}),
            "regions_sha256": hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
            **({"window_overlap": overlap} if overlap else {}),
            "dtype": self.options.dtype,
        }

    def plan(self) -> tuple[int, dict[str, Any]]:
        """Count regions and bins."""
        opened = self.open()
        rows = opened.rows
        if not rows.regions:
            logs.warning(f"{self.label or self.fasta} has no regions; the output is empty")
        numbers = {bins for _, bins in rows.spans}
        cut = len(rows.stretches) > len(rows.regions)
        return len(rows.stretches), {
            "regions": len(rows.regions),
            "bins": sum(bins for _, bins in rows.spans),
            "bins_a_region": numbers.pop() if len(numbers) == 1 and not cut else (None if numbers else 0),
            "tracks": pack_tracks(opened.predictor.tracks),
            "contigs": contigs_with_bases(opened.genome),
        }

    def default_block_rows(self, rows: int) -> int:
        """Rows a block: bounded by the windows that they need, and by the size of the predictions."""
        opened = self.open()
        predictor, stretches = opened.predictor, opened.rows.stretches
        most = max((each.span(opened.tiling)[1] for each in stretches), default=1)
        windows = max((each.high - each.low for each in stretches), default=1)
        row_bytes = most * len(predictor.tracks) * np.dtype(self.options.dtype).itemsize
        return max(1, min(block_rows(predictor, rows, windows), _BLOCK_BYTES // row_bytes))

    def windows(self, block: Block) -> int:
        """Windows that a block shows to the model."""
        return sum(each.high - each.low for each in self.open().rows.stretches[block.start : block.end])

    def compute(self, block: Block, advance: Advance | None = None) -> Part:
        """Predictions of one block of rows in the output's number type, sums in float64."""
        opened = self.open()
        rows, cast = opened.rows, opened.cast
        stretches = rows.stretches[block.start : block.end]
        owners = rows.owners[block.start : block.end]
        predictions, sums = [], []
        found = predict_stretches(opened.predictor, opened.genome, stretches, opened.tiling)
        for number, values in zip(owners, found, strict=True):
            if not np.isfinite(values).all():
                region = opened.placed[number]
                raise GexprError(
                    f"{region.chrom}:{region.start}-{region.end}: a prediction is not finite "
                    f"(precision {opened.predictor.precision}): use --precision fp32"
                )
            predictions.append(cast(values))
            sums.append(values.sum(axis=0, dtype=np.float64))
            cast(sums[-1])
            if advance is not None:
                advance(1)
        return Part(
            {"predictions": np.concatenate(predictions), "sums": np.stack(sums)},
            {
                "owners": owners,
                "regions": [list(rows.regions[number]) for number in owners],
                "spans": [rows.spans[number] for number in owners],
                "contigs": [each.contig for each in stretches],
                "rows": [each.span(opened.tiling) for each in stretches],
                BATCH_SIZE: opened.predictor.used_batch_size,
            },
        )

    def check_inputs(self) -> None:
        """Raise InputError when the FASTA is gone or was changed; the regions are in memory."""
        self.open().genome.check_unchanged()


def _grid(region: Region, bin_size: int) -> tuple[int, int]:
    """Bins of a whole contig, which begin with its first base."""
    return region.start, -(-(region.end - region.start) // bin_size)


class PredictionOutputs(NamedTuple):
    """Where predictions or attributions go: paths, the format of each, and of files of one track its column.

    ``shown`` is what a summary calls them, ``home`` the folder of files of tracks, if there are any.
    """

    paths: tuple[str, ...]
    formats: tuple[str, ...]
    columns: tuple[int, ...]
    shown: str
    home: str

    def run_options(self, run: RunOptions) -> RunOptions:
        """The options with a run directory beside the folder of tracks, where there is nothing else."""
        if run.run_dir is None and self.columns and self.columns[0] >= 0:
            return dataclasses.replace(run, run_dir=self.home.rstrip("/") + ".run")
        return run

    def check_regions(self, regions: int) -> None:
        """Raise ConfigError when a format cannot hold that many regions."""
        for format in self.formats:
            check_regions(format, regions)

    def along_genome(
        self, claimed: Sequence[AtomicOutput], contigs: Sequence[Sequence[Any]], tracks: int, bin_size: int
    ) -> GenomeTracks | None:
        """What writes the files of one track, if there are any.

        Args:
            claimed: the claimed outputs, in the order of the paths.
            contigs: names and lengths of the genome's contigs.
            tracks: columns of the values.
            bin_size: bases that a value is for.

        Raises:
            MissingDependencyError: bigWig without pyBigWig.
            GexprError: there is no place for a temporary file.
        """
        places = zip(claimed, self.formats, self.columns, strict=True)
        single = [TrackOutput(*place) for place in places if place[2] >= 0]
        if not single:
            return None
        return GenomeTracks(single, [(name, size) for name, size in contigs], tracks, bin_size, self.home)


def contigs_with_bases(genome: Fasta) -> list[list[Any]]:
    """Names and lengths of contigs, for files along the genome: browsers take one of no length for damage."""
    return [[name, length] for name, length in genome.lengths.items() if length]


def prediction_outputs(
    output: str | Sequence[str] | None,
    format: str | None,
    folders: Mapping[str, str],
    tracks: Callable[[], Sequence[Track]],
    suffixes: Mapping[str, str] = SUFFIXES,
) -> PredictionOutputs:
    """The formats of outputs.

    Args:
        output: a path, several, or None.
        format: the format of a single output; None goes by the suffixes.
        folders: ``bigwig``, ``bedgraph`` -> the folder for a file a track.
        tracks: gives the tracks where there is such a folder.
        suffixes: suffix of an output -> its format.

    Raises:
        ConfigError: a format cannot be told, or ``format`` with several outputs.
        MissingDependencyError: bigWig without pyBigWig.
    """
    paths = list(output_names(output))
    if format is not None and len(paths) > 1:
        raise ConfigError(
            f"--format {format} is for one output, and there are {len(paths)}; suffixes tell their formats"
        )
    formats = [output_format(path, format, suffixes) for path in paths]
    columns = [-1] * len(paths)
    shown = [*paths, *folders.values()]
    if "bigwig" in folders:
        need_bigwig()
    for kind, folder in folders.items():
        for column, name in enumerate(track_file_names(tracks(), kind)):
            paths.append(os.path.join(folder, name))
            formats.append(kind)
            columns.append(column)
    home = next(iter(folders.values()), "")
    return PredictionOutputs(tuple(paths), tuple(formats), tuple(columns), ", ".join(shown), home)


@contextlib.contextmanager
def output_folders(folders: Iterable[str], files: int) -> Iterator[None]:
    """Make folders for files of tracks; those that hold nothing in the end are removed again.

    Args:
        folders: their paths; the folder that each lies in must exist.
        files: how many files will be open at once.

    Raises:
        GexprError: a folder cannot be made, or the system does not allow so many open files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files + _FILES_BESIDES
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise GexprError(
                f"{files:,} files for tracks are more than a process may have open here ({hard:,}): choose "
                "tracks with --tracks, or raise the limit ('ulimit -Hn')"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    made = []
    try:
        for folder in folders:
            try:
                os.mkdir(folder)
                made.append(folder)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise GexprError(f"cannot write to {folder}: it is not a folder") from None
            except OSError as error:
                raise GexprError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


class _Unfinished(NamedTuple):
    """A region that goes on in the next part: its bins and sums so far."""

    bins: int
    sums: NDArray[np.float64]


Writer = TypeVar("Writer", bound=ResultWriter)


class RegionSink(Generic[Writer]):
    """The outputs of one run over regions: files of rows, and files along the genome.

    Args:
        claimed: the claimed outputs.
        manifest: the run's plan.
    """

    def __init__(self, claimed: Sequence[AtomicOutput], manifest: Manifest) -> None:
        self._sizes = BatchSizes(manifest.fingerprint["batch_size"])
        self._claimed = list(claimed)
        self._writers: list[Writer] = []
        self._along: GenomeTracks | None = None

    def finish(self) -> None:
        """Complete the outputs and bring them to the disk, still without their names."""
        for writer in self._writers:
            writer.annotate(self._sizes.attributes())
            writer.finish()
        if self._along is not None:
            self._along.finish()

    def commit(self) -> None:
        """Give the outputs their names."""
        for writer in self._writers:
            writer.commit()
        for each in self._claimed:
            each.commit()

    def discard(self) -> None:
        """Remove unfinished outputs."""
        for writer in self._writers:
            writer.discard()
        if self._along is not None:
            self._along.discard()
        for each in self._claimed:
            each.discard()


class PredictSink(RegionSink[PredictionWriter]):
    """Makes the outputs of predictions from parts.

    Args:
        claimed: the claimed outputs.
        manifest: the run's plan.
        outputs: the same outputs' formats.

    Raises:
        ConfigError: ``npz`` for something else than one region.
        MissingDependencyError: bigWig without pyBigWig.
    """

    def __init__(
        self, claimed: Sequence[AtomicOutput], manifest: Manifest, outputs: PredictionOutputs
    ) -> None:
        super().__init__(claimed, manifest)
        content = manifest.content
        outputs.check_regions(content["regions"])
        attributes = {name: value for name, value in manifest.fingerprint.items() if name != "dtype"}
        tracks = unpack_tracks(content["tracks"])
        self._bin_size: int = manifest.fingerprint["model_bin_size"]
        schema = PredictionSchema(
            bins=content["bins_a_region"],
            bin_size=self._bin_size,
            tracks=tracks,
            attributes=attributes,
            dtype=manifest.fingerprint["dtype"],
        )
        self._open: _Unfinished | None = None
        try:
            for each, format, column in zip(claimed, outputs.formats, outputs.columns, strict=True):
                if column < 0:
                    self._writers.append(open_writer(each, format, schema))
            self._along = outputs.along_genome(claimed, content["contigs"], len(tracks), self._bin_size)
        except BaseException:
            self.discard()
            raise

    def add(self, part: Part) -> None:
        """Write the rows of the next part."""
        self._sizes.add(part)
        about, predictions = part.about, part.arrays["predictions"]
        regions: list[Region] = []
        spans: list[tuple[int, int]] = []
        bins: list[int] = []
        sums: list[NDArray[np.float64]] = []
        before = self._open
        previous: int | None = None
        low = 0
        for row, number in enumerate(about["owners"]):
            start, size = about["rows"][row]
            if number != previous:
                regions.append(Region(*about["regions"][row]))
                spans.append(tuple(about["spans"][row]))
                bins.append(0)
                # Sums go on where they were, so that they do not depend on where a block ends.
                goes_on = before if previous is None else None
                sums.append(np.zeros(part.arrays["sums"].shape[1]) if goes_on is None else goes_on.sums)
            previous = number
            bins[-1] += size
            sums[-1] = sums[-1] + part.arrays["sums"][row]
            if self._along is not None:
                values = predictions[low : low + size]
                turned = regions[-1].strand == "-"
                self._along.add(about["contigs"][row], start, number, values[::-1] if turned else values)
            low += size
        held = list(bins)
        if before is not None:
            held[0] += before.bins
        unfinished = held[-1] < spans[-1][1]
        self._open = _Unfinished(held[-1], sums[-1]) if unfinished else None
        block = PredictionBlock(
            regions, spans, predictions, np.stack(sums), bins, before is not None, unfinished
        )
        for writer in self._writers:
            writer.write(block)


def check_regions(format: str | None, regions: int) -> None:
    """Raise ConfigError when the format cannot hold that many regions."""
    if format == "npz" and regions != 1:
        raise ConfigError(f"the npz format holds one region, and there are {regions}; write .h5 instead")


class PredictPlan(NamedTuple):
    """Where a run reads and writes, and with what options; see :func:`prepare_prediction`."""

    bed: str | None
    fasta: str
    outputs: PredictionOutputs
    options: PredictOptions
    run: RunOptions
    inputs: list[str | None]

    def make_task(self, spooled: str | None) -> PredictTask:
        """The task, of standard input as it was stored if an input is that."""
        if self.bed is None:
            # The label is what sequences of standard input are called.
            return PredictTask("", self.fasta if spooled else "", spooled or self.fasta, self.options)
        task = PredictTask(spooled or self.bed, self.bed, self.fasta, self.options)
        if "npz" in self.outputs.formats:
            listed = read_bed(task.path, task.label)
            self.outputs.check_regions(len(listed) + len(self.options.regions))
        return task


def prepare_prediction(
    bed: str | None,
    fasta: str,
    output: str | Sequence[str] | None,
    options: PredictOptions,
    run: RunOptions | None = None,
) -> PredictPlan:
    """Check what can be checked of a run of :func:`predict` before anything is opened.

    Raises:
        ConfigError: nothing says what is to be predicted, or options that do not go together.
    """
    if bed is None and not options.whole and not options.regions:
        raise ConfigError("nothing is to be predicted: give a BED file, --region, --genome or --sequences")
    if bed is not None and options.whole:
        raise ConfigError("whole contigs are predicted; leave out the BED file")
    outputs = prediction_outputs(
        output, options.format, options.folders, lambda: described_tracks(options.model)
    )
    model, run = assign_devices(options.model, run or RunOptions())
    options = dataclasses.replace(options, model=model)
    run = outputs.run_options(run)
    # A pipe of regions is spooled, or one of sequences.
    inputs = input_files(
        bed if bed is not None or not options.sequences else fasta,
        fasta,
        options.model.checkpoint,
        options.contig_aliases,
    )
    return PredictPlan(bed, fasta, outputs, options, run, inputs)


def predict(
    bed: str | None,
    fasta: str,
    output: str | Sequence[str] | None,
    options: PredictOptions,
    run: RunOptions | None = None,
) -> PredictSummary | None:
    """Predict the tracks over regions: of a BED file, of the options, or over whole contigs.

    The outputs appear under their names only when they are complete. Finished blocks are kept in the run
    directory until then, so that the same call continues after an interruption.

    Args:
        bed: BED3 to BED12; ``-`` is standard input; None without one.
        fasta: the genome that the coordinates refer to, or sequences.
        output: a path, or ``-`` for TSV of bin sums on standard output; several are written in one pass; None
            with a shard leaves it to the merge.
        options: what is predicted and how, and folders for files of single tracks.
        run: how the run is carried out.

    Returns:
        Counts and time, also printed to stderr; None for a shard.

    Raises:
        GexprError: bad input, options or environment.
        Interrupted: a signal came; the same call continues.
    """
    plan = prepare_prediction(bed, fasta, output, options, run)
    outputs = plan.outputs

    def open_sink(claimed: Sequence[AtomicOutput], manifest: Manifest) -> PredictSink:
        return PredictSink(claimed, manifest, outputs)

    with output_folders(options.folders.values(), len(outputs.paths)):
        paths = outputs.paths or None
        outcome = run_task(plan.make_task, open_sink, paths, plan.run, inputs=plan.inputs, unit="regions")
    if outcome.sink is None:
        return None
    return finish(outcome, outputs.shown)


def finish(outcome: Outcome, output: str) -> PredictSummary:
    """Print the summary of a run whose outputs are complete."""
    manifest = outcome.manifest
    content = manifest.content
    summary = PredictSummary(output, content["regions"], content["bins"], outcome.computed, outcome.seconds)
    here = ""
    if summary.computed:
        left = manifest.rows - summary.computed
        what = "regions" if manifest.rows == summary.regions else "parts of regions"
        part = f"; {summary.computed:,} of {manifest.rows:,} {what} now" if left else ""
        here = f"{part} in {summary.seconds:,.1f} s"
    logs.info(
        f"{count(summary.regions, 'region')} with {count(summary.bins, 'bin')} of "
        f"{manifest.fingerprint['model_bin_size']} bp predicted{here}"
        + ("" if output == "-" else f"; written to {output}")
    )
    return summary
