"""Outputs of scores: several formats in one pass over the parts of a run, and the strongest alleles."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError, InputError
from gexpr.results import Track, Variant
from gexpr.runs.common import BatchSizes, unpack_tracks
from gexpr.runs.directory import Manifest
from gexpr.runs.quantiles import SUMMARY_DEFINITIONS
from gexpr.scoring.background import QUANTILE
from gexpr.scoring.definitions import STATISTICS
from gexpr.scoring.engine import strongest
from gexpr.variants.vcf import VcfSource, open_vcf
from gexpr.writers.hdf5 import Attribute
from gexpr.writers.output import AtomicOutput, output_format, output_names
from gexpr.writers.parquet import need_pyarrow
from gexpr.writers.parts import Part
from gexpr.writers.scores import PROFILES, STREAMS, SUFFIXES, ScoreSchema, ScoreWriter, open_writer
from gexpr.writers.vcf import index_names

COLUMNS = ("row", "line", "chrom", "pos", "id", "ref", "alt", "status")
"""Fields of the variants in a part."""


class StrongVariant(NamedTuple):
    """One of the alleles with the largest absolute score, with the track where it is largest.

    ``of`` is the name of the gene, or the sample and haplotype, whose score it is, if it is one's.
    """

    variant: Variant
    track: Track
    statistic: str
    score: float
    of: str = ""


class ScoreOutputs(NamedTuple):
    """Where scores go: paths, and the format of each; ``long`` is for those in TSV."""

    paths: tuple[str, ...]
    formats: tuple[str, ...]
    long: bool

    @property
    def companions(self) -> list[str]:
        """Files that may be written beside the outputs: indexes."""
        named = zip(self.paths, self.formats, strict=True)
        return [name for path, format in named if format == "vcf" for name in index_names(path)]

    def check_profile(self, profile: int | None) -> None:
        """Raise ConfigError when there are profiles and outputs, but none that can hold profiles."""
        if profile and self.paths and "hdf5" not in self.formats:
            raise ConfigError("profiles need an output in HDF5 (.h5)")

    @property
    def annotate(self) -> bool:
        """Whether an output is the scored VCF with annotations, so that the VCF is read once more."""
        return "vcf" in self.formats


def score_outputs(output: str | Sequence[str] | None, format: str | None, long: bool) -> ScoreOutputs:
    """The formats of outputs of scores.

    Args:
        output: a path, several, or None.
        format: the format of a single output; None goes by the suffixes.
        long: TSV with one line a number.

    Raises:
        ConfigError: a format cannot be told, ``format`` with several outputs, or ``long`` without TSV.
        MissingDependencyError: Parquet without pyarrow.
    """
    paths = output_names(output)
    if format is not None and len(paths) > 1:
        raise ConfigError(
            f"--format {format} is for one output, and there are {len(paths)}; suffixes tell their formats"
        )
    formats = tuple(output_format(path, format, SUFFIXES, STREAMS) for path in paths)
    if long and paths and "tsv" not in formats:
        raise ConfigError(f"--long is a form of TSV; the output's format is {' and '.join(formats)}")
    if "parquet" in formats:
        need_pyarrow()
    return ScoreOutputs(paths, formats, long)


def check_annotatable(path: str, label: str) -> None:
    """Raise InputError when a variant file has no lines of text that could be annotated: a BCF."""
    next(open_vcf(path, label=label).lines(), None)


Writer = TypeVar("Writer", bound="OutputWriter")


class OutputWriter(Protocol):
    """What every writer of scores does when all rows are written."""

    def annotate(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes that are known only at the end."""
        ...

    def finish(self) -> None:
        """Complete the file, still without its name."""
        ...

    def commit(self) -> None:
        """Give the file its name."""
        ...

    def discard(self) -> None:
        """Remove an unfinished file."""
        ...


class OutputsSink(Generic[Writer]):
    """Several outputs of one run, that appear together, and the strongest scores.

    Args:
        claimed: the claimed outputs.
        manifest: the run's plan.
        outputs: the same outputs' formats.
        top: how many of the strongest scores to find.
        open: opens the writer of an output in a format.
    """

    def __init__(
        self,
        claimed: Sequence[AtomicOutput],
        manifest: Manifest,
        outputs: ScoreOutputs,
        top: int,
        open: Callable[[AtomicOutput, str], Writer],
    ) -> None:
        content = manifest.content
        self._sizes = BatchSizes(manifest.fingerprint["batch_size"])
        self._ranking = Ranking(content["statistics"][0], top, unpack_tracks(content["tracks"]))
        self._writers: list[Writer] = []
        try:
            for each, format in zip(claimed, outputs.formats, strict=True):
                self._writers.append(open(each, format))
        except BaseException:
            self.discard()
            raise

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

    @property
    def strongest(self) -> list[StrongVariant]:
        """The rows with the largest absolute score of the first statistic."""
        return self._ranking.result()


def variants_of(part: Part) -> list[Variant]:
    """The variants of a part, one a row."""
    columns = part.about["columns"]
    rows = zip(*(columns[name] for name in COLUMNS), strict=True)
    return [Variant(**dict(zip(COLUMNS, row, strict=True))) for row in rows]


class ScoreSink(OutputsSink[ScoreWriter]):
    """Makes the outputs of scores from parts, and finds the strongest alleles.

    Args:
        claimed: the claimed outputs.
        manifest: the run's plan.
        outputs: the same outputs' formats.
        top: how many of the strongest alleles to find.
        vcf: path of the scored VCF and what messages call it, where an output is in the format ``vcf``.

    Raises:
        InputError: it is not the VCF that was scored.
    """

    def __init__(
        self,
        claimed: Sequence[AtomicOutput],
        manifest: Manifest,
        outputs: ScoreOutputs,
        *,
        top: int = 5,
        vcf: tuple[str, str] | None = None,
    ) -> None:
        schema = score_schema(manifest)
        self._columns = tuple(schema.columns)
        self._arrays = (*schema.statistics, *(PROFILES if schema.profile else ()))
        source = _scored_vcf(vcf, manifest) if outputs.annotate and vcf is not None else None

        def open(output: AtomicOutput, format: str) -> ScoreWriter:
            return open_writer(output, format, schema, long=outputs.long, vcf=source)

        super().__init__(claimed, manifest, outputs, top, open)

    def add(self, part: Part) -> None:
        """Write the rows of the next part."""
        self._sizes.add(part)
        columns, variants = part.about["columns"], variants_of(part)
        scores = {name: part.arrays[name] for name in self._arrays}
        for writer in self._writers:
            writer.write(variants, scores, {name: columns[name] for name in self._columns})
        owners = None
        if {"sample", "haplotype"} <= set(self._columns):
            pairs = zip(columns["sample"], columns["haplotype"], strict=True)
            owners = [f"{sample} haplotype {haplotype}" for sample, haplotype in pairs]
        self._ranking.add(variants, scores, owners)


def _scored_vcf(vcf: tuple[str, str], manifest: Manifest) -> VcfSource:
    path, label = vcf
    source = open_vcf(path, label=label)
    if source.sha256 != manifest.fingerprint["vcf_sha256"]:
        raise InputError(
            f"this is not the VCF that was scored ({manifest.fingerprint['vcf']}, SHA-256 "
            f"{manifest.fingerprint['vcf_sha256']}): its SHA-256 is {source.sha256}",
            path=label,
        )
    return source


def score_schema(manifest: Manifest) -> ScoreSchema:
    """What the outputs of a run say of themselves."""
    content = manifest.content
    statistics = tuple(content["statistics"])
    attributes = {name: value for name, value in manifest.fingerprint.items() if name != "dtype"}
    columns = dict(content.get("columns", {}))
    return ScoreSchema(
        tracks=unpack_tracks(content["tracks"]),
        statistics=statistics,
        attributes={**attributes, "contig_aliases": content["contig_aliases"]},
        dtype=manifest.fingerprint["dtype"],
        definitions=content.get("definitions") or _definitions(statistics, columns),
        columns=columns,
        profile=content.get("profile", 0),
    )


def _definitions(statistics: Sequence[str], columns: Iterable[str]) -> dict[str, str]:
    """What the outputs say of every statistic and of extra columns."""
    found = {}
    for name in statistics:
        base, quantile, _ = name.partition(QUANTILE)
        found[name] = f"signed quantile of {base} in the background" if quantile else STATISTICS[name].formula
    return found | {name: SUMMARY_DEFINITIONS[name] for name in columns if name in SUMMARY_DEFINITIONS}


class Ranking:
    """Keeps the rows with the largest absolute first statistic over all blocks.

    Args:
        statistic: which.
        size: how many rows.
        tracks: the columns.
    """

    def __init__(self, statistic: str, size: int, tracks: Sequence[Track]) -> None:
        self._statistic = statistic
        self._size = size
        self._tracks = tracks
        self._kept: list[tuple[float, int, int, StrongVariant]] = []
        self._added = 0

    def add(
        self,
        variants: Sequence[Variant],
        scores: Mapping[str, NDArray[np.floating]],
        owners: Sequence[str] | None = None,
    ) -> None:
        """Take in the rows of a block: each one's variant, scores and, if need be, whose they are."""
        for row, track, score in strongest(scores, self._statistic, self._size):
            owner = "" if owners is None else owners[row]
            entry = StrongVariant(variants[row], self._tracks[track], self._statistic, score, owner)
            # Earlier rows win ties; the records themselves are never compared.
            self._added += 1
            heapq.heappush(self._kept, (abs(score), -variants[row].row, -self._added, entry))
            if len(self._kept) > self._size:
                heapq.heappop(self._kept)

    def result(self) -> list[StrongVariant]:
        """The rows kept, strongest first."""
        return [entry for *_, entry in sorted(self._kept, reverse=True)]
