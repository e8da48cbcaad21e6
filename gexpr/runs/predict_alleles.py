"""The job behind ``gexpr predict --variants``: both alleles' predictions around variants, or over regions.

Without regions it is a run of ``score-variants`` whose profiles are as wide as the model's output. With
regions it is one whose rows are the alleles in each region, and whose profiles are the region's bins.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gexpr import checkpoints, logs
from gexpr.errors import ConfigError
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap, read_aliases
from gexpr.genome.fasta import Fasta
from gexpr.results import Variant
from gexpr.runs.control import RunOptions
from gexpr.runs.directory import Block
from gexpr.runs.predict import PredictOptions, place_all
from gexpr.runs.score_variants import (
    ScoreOptions,
    ScoreSummary,
    ScoreTask,
    VariantRows,
    _Opened,
    score_variants,
)
from gexpr.scoring.engine import FastaWindows
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.region_alleles import STATISTIC, RegionAlleleScorer, RegionBins, region_window
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.normalize import trim
from gexpr.variants.vcf import VcfSource

COLUMNS = {
    "region": "int",
    "region_name": "text",
    "region_start": "int",
    "region_end": "int",
    "region_bins": "int",
}
"""What the output says of each row's region: its number from 0, its name, its place (0-based half-open)."""


def allele_options(options: PredictOptions, bed: str | None = None, fasta: str | None = None) -> ScoreOptions:
    """What a run of ``score-variants`` needs to write the predictions of both alleles.

    Args:
        options: what is predicted and how; with regions, over these.
        bed: a file of more regions, or None.
        fasta: the genome, which tells where regions lie.

    Raises:
        ConfigError: options that are for regions alone.
        InputError: a region that does not lie in the genome.
    """
    if options.whole:
        raise ConfigError(
            "--variants predicts windows around its alleles, or regions; leave out --genome and --sequences"
        )
    if options.folders or options.overlap is not None:
        raise ConfigError(
            "--bigwig, --bedgraph and --overlap are for regions without --variants, which writes HDF5"
        )
    return ScoreOptions(
        options.model,
        options.contig_aliases,
        statistics=(STATISTIC,),
        profile=checkpoints.describe(options.model.checkpoints[0]).target_length,
        regions=_regions(options, bed, fasta),
        format=options.format,
        dtype=options.dtype,
        top=0,
    )


def _regions(options: PredictOptions, bed: str | None, fasta: str | None) -> tuple[RegionBins, ...] | None:
    if bed is None and not options.regions:
        return None
    assert fasta is not None
    genome, aliases = Fasta(fasta), options.contig_aliases
    contigs = ContigMap(genome.names, read_aliases(aliases) if aliases else None)
    listed = read_bed(bed) if bed is not None else []
    size = checkpoints.describe(options.model.checkpoints[0]).bin_size
    found = place_all(options.regions, listed, genome, contigs, size, bed or "")
    return tuple(RegionBins(region, *span) for region, span in zip(found.placed, found.spans, strict=True))


def predict_alleles(
    vcf: str,
    fasta: str,
    output: str | None,
    options: PredictOptions,
    run: RunOptions | None = None,
    bed: str | None = None,
) -> ScoreSummary | None:
    """Predict the tracks of both alleles, around every allele of a VCF or over regions.

    Without regions, the window is that of ``score-variants``: the first base of the normalized REF allele
    lies in its middle, and all bins that the model predicts are written. With regions, a row is an allele
    whose REF overlaps a region, predicted in the window in which the region itself is, and the region's bins
    are written. Those of the alternate are brought to the reference's.

    Args:
        vcf: VCF or BCF; ``-`` is standard input.
        fasta: the genome.
        output: HDF5; None with a shard leaves it to the merge.
        options: what is predicted and how.
        run: how the run is carried out.
        bed: a file of regions, besides those of the options; ``-`` is standard input.

    Returns:
        Counts and time, also printed to stderr; None for a shard.

    Raises:
        GexprError: bad input, options or environment.
        Interrupted: a signal came; the same call continues.
    """
    if vcf == bed == "-":
        raise ConfigError("VCF and BED cannot both be standard input")
    return score_variants(vcf, fasta, output, allele_options(options, bed, fasta), run)


class _Listed(NamedTuple):
    """The rows: alleles in regions, region after region, and the number of each row's region."""

    variants: list[Variant]
    owners: list[int]


def alleles_in(
    regions: Sequence[RegionBins], source: VcfSource, reader: AlleleReader, predictor: Predictor
) -> _Listed:
    """The alleles of a VCF whose REF overlaps a region, by region and then in the file's order.

    Left-aligning can move an insertion or deletion in a long repeat out of the region's window; it then
    stays where the file has it, and has the status ``too_long`` if that is not in the window either.
    """
    by_contig: dict[str, list[int]] = defaultdict(list)
    for number, each in enumerate(regions):
        by_contig[each.region.chrom].append(number)
    numbers = {contig: np.array(found) for contig, found in by_contig.items()}
    bounds = {
        contig: np.array([regions[number].region[1:3] for number in found], dtype=np.int64).T
        for contig, found in by_contig.items()
    }
    lows = [region_window(each, predictor) - predictor.flank for each in regions]
    found: list[list[Variant]] = [[] for _ in regions]
    for record in source.records():
        contig = reader.contigs.resolve(record.chrom)
        if contig not in bounds:
            continue
        starts, ends = bounds[contig]
        start = record.pos - 1
        inside = numbers[contig][(starts < start + len(record.ref)) & (ends > start)]
        if len(inside):
            for variant in reader.split(record, 0):
                for number in inside.tolist():
                    found[number].append(_in_window(variant, lows[number]))
    owners = [number for number, alleles in enumerate(found) for _ in alleles]
    rows = (variant for alleles in found for variant in alleles)
    return _Listed([variant._replace(row=row) for row, variant in enumerate(rows)], owners)


def _in_window(variant: Variant, low: int) -> Variant:
    """An allele that a window from ``low`` on can show, or its refusal."""
    if not variant.ok or variant.start >= low:
        return variant
    start, ref, alt = trim(variant.pos - 1, variant.ref.upper(), variant.alt.upper())
    if start < low:
        return variant._replace(status="too_long", contig="", start=-1, norm_ref="", norm_alt="")
    return variant._replace(start=start, norm_ref=ref, norm_alt=alt)


class _RegionRows(VariantRows):
    """The alleles in regions by row."""

    def __init__(self, source: VcfSource, reader: AlleleReader, variants: list[Variant]) -> None:
        super().__init__(source, reader)
        self._variants = variants

    def read(self, block: Block) -> list[Variant]:
        """The alleles of a block of rows."""
        return self._variants[block.start : block.end]


class RegionAlleleTask(ScoreTask):
    """Predictions of both alleles over regions; a row is an allele in a region."""

    @property
    def regions(self) -> tuple[RegionBins, ...]:
        """The regions."""
        assert self.options.regions is not None
        return self.options.regions

    def _open(self) -> _Opened:
        opened = super()._open()
        listed = alleles_in(self.regions, opened.source, opened.reader, opened.predictor)
        scorer = RegionAlleleScorer(
            opened.predictor,
            FastaWindows(opened.genome),
            self.regions,
            listed.owners,
            engine=self.options.engine,
        )
        rows = _RegionRows(opened.source, opened.reader, listed.variants)
        return opened._replace(scorer=scorer, rows=rows)

    @property
    def _scorer(self) -> RegionAlleleScorer:
        scorer = self.open().scorer
        assert isinstance(scorer, RegionAlleleScorer)
        return scorer

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines a prediction: also the regions."""
        text = repr([(*each.region[:3], each.start, each.bins, each.region.name) for each in self.regions])
        return {
            **super().fingerprint(),
            "regions_sha256": hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
            "mask": "region",
            "max_offset": "region",
            "window_rule": "the region lies in the middle of the window, as in gexpr predict",
            "profile": self._scorer.most_bins,
        }

    def plan(self) -> tuple[int, dict[str, Any]]:
        """Read all of the VCF, judge every allele, and count those in the regions."""
        alleles, content = super().plan()
        variants = self.open().rows.read(Block(0, len(self._scorer.owners)))
        if alleles and not variants:
            logs.warning(f"no variant of {self.label} lies in the regions; the output is empty")
        return len(variants), {
            **content,
            "by_status": dict(Counter(variant.status for variant in variants)),
            "profile": self._scorer.most_bins,
            "columns": list(COLUMNS.items()),
        }

    def _columns(self, opened: _Opened, variants: Sequence[Variant]) -> dict[str, list[Any]]:
        owners = [self._scorer.owners[variant.row] for variant in variants]
        found = [self.regions[number] for number in owners]
        about: dict[str, list[Any]] = {
            "region": owners,
            "region_name": [each.region.name for each in found],
            "region_start": [each.region.start for each in found],
            "region_end": [each.region.end for each in found],
            "region_bins": [each.bins for each in found],
        }
        return {**super()._columns(opened, variants), **about}
