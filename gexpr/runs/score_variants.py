"""The job behind ``gexpr score-variants``: a VCF, a FASTA and a checkpoint to a file of scores.

:class:`ScoreTask` computes a block of rows in any process, :class:`gexpr.runs.score_outputs.ScoreSink`
makes the outputs from the blocks, and :func:`gexpr.runs.control.run_task` does the rest.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.genome.contigs import read_aliases
from gexpr.genome.fasta import Fasta
from gexpr.genome.genes import PlacedGenes, digest, place_genes, read_genes
from gexpr.genome.windows import CENTERED, WindowRule
from gexpr.results import Variant
from gexpr.runs.blocks import Advance, BlockTask
from gexpr.runs.common import (
    BATCH_SIZE,
    DtypeCast,
    ModelTask,
    TaskOptions,
    align,
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
from gexpr.runs.gene_outputs import GENES, GeneSink, gene_outputs, gene_part
from gexpr.runs.quantiles import SUMMARY_COLUMNS, Ranker, find_background, summary_columns
from gexpr.runs.score_outputs import (
    COLUMNS,
    ScoreOutputs,
    ScoreSink,
    StrongVariant,
    check_annotatable,
    score_outputs,
)
from gexpr.scoring import realign
from gexpr.scoring.definitions import (
    AGGREGATES,
    ALL_BINS,
    AVERAGES,
    ENGINES,
    Mask,
    canonical_statistic,
)
from gexpr.scoring.engine import PROFILE_START, FastaWindows, VariantScorer, allele_limit
from gexpr.scoring.gene_masks import EXONS, GeneIndex, GeneMask
from gexpr.scoring.genes import GeneCollector
from gexpr.scoring.indels import IndelShiftScorer, farthest, make_scorer
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.region_alleles import RegionBins
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.preflight import scan
from gexpr.variants.vcf import VcfRecord, VcfSource, open_vcf
from gexpr.writers.output import AtomicOutput
from gexpr.writers.parts import Part

COMMAND = "score-variants"
_PROFILE_NUMBERS = 1 << 25
"""Predictions of either allele that a block keeps, at most."""


class UnscoredError(GexprError):
    """``--strict`` was given and some alleles were not scored; the output is complete."""

    exit_code = 3


@dataclass(frozen=True)
class ScoreOptions(TaskOptions):
    """Everything that decides what is scored and how.

    Args:
        model: checkpoint, tracks, strands, shifts, batch, device and precision.
        contig_aliases: a table of contig names, or None.
        statistics: canonical names or aliases.
        pseudocount: the c of ``logFC``.
        mask: which bins are scored.
        average: ``predictions``, ``scores`` or ``checkpoint-scores``.
        aggregate: ``celltype`` or ``assay``: write means of the scores over the tracks that share it.
        genes: a file of genes: scores are those of single genes, see docs/genes.md.
        gene_mask: which bins are a gene's.
        background: a file that ``gexpr background`` made, or ``auto`` for the checkpoint's own: scores are
            also ranked among its.
        phased: score alleles on the haplotypes of ``samples``, with the other alleles these carry; see
            :mod:`gexpr.scoring.haplotypes`.
        samples: names of samples of the VCF; empty is the only one.
        profile: bins around each variant whose predictions, of both alleles, are written too; HDF5 only.
        regions: score the alleles in these regions, each in its region's window and bins; see
            :mod:`gexpr.runs.predict_alleles`.
        window_rule: where windows lie around variants.
        engine: ``incremental`` or ``plain``.
        indel_shifts: offsets within a bin over which insertions and deletions are averaged.
        max_allele_length: bases; longer alleles get the status ``too_long``.
        max_ref_mismatch: the share of alleles that may disagree with the FASTA before the run stops.
        symbolic: score structural alleles, see :func:`gexpr.variants.alleles.read_symbolic`.
        allow_unknown_contigs: run even when more alleles than that share lie on contigs that the FASTA lacks.
        format: ``hdf5``, ``tsv`` or None for the output's suffix.
        dtype: ``float32`` or ``float16``.
        long: TSV with one line a number.
        top: how many of the strongest alleles the summary lists.
        strict: raise :class:`UnscoredError` after the output is complete if an allele was not scored.

    Raises:
        ConfigError: a value that is not allowed.
    """

    statistics: tuple[str, ...] = ("logFC",)
    pseudocount: float = 1.0
    mask: Mask = ALL_BINS
    average: str = "predictions"
    aggregate: str | None = None
    genes: str | None = None
    gene_mask: GeneMask = EXONS
    background: str | None = None
    phased: bool = False
    samples: tuple[str, ...] = ()
    profile: int | None = None
    regions: tuple[RegionBins, ...] | None = None
    window_rule: WindowRule = CENTERED
    engine: str = "incremental"
    indel_shifts: int = 1
    max_allele_length: int = 2000
    max_ref_mismatch: float = 0.10
    symbolic: bool = False
    allow_unknown_contigs: bool = False
    format: str | None = None
    dtype: str = "float32"
    long: bool = False
    top: int = 5
    strict: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "statistics", tuple(canonical_statistic(name) for name in self.statistics))
        if self.engine not in ENGINES:
            raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, not {self.engine!r}")
        if self.average not in AVERAGES:
            raise ConfigError(f"average must be one of {', '.join(AVERAGES)}, not {self.average!r}")
        if self.aggregate is not None and self.aggregate not in AGGREGATES:
            raise ConfigError(f"aggregate must be one of {', '.join(AGGREGATES)}, not {self.aggregate!r}")
        if self.samples and not self.phased:
            raise ConfigError("--samples names the samples whose haplotypes are scored; add --phased")
        if self.phased:
            given = {
                "--genes": self.genes is not None,
                "--background": self.background is not None,
                "--profiles": self.profile is not None,
                "--symbolic": self.symbolic,
                "--indel-shifts": self.indel_shifts > 1,
            }
            for name in (name for name, is_given in given.items() if is_given):
                raise ConfigError(f"{name} is not available with --phased; leave out one of them")
        if self.genes is None and self.gene_mask != EXONS:
            raise ConfigError("--gene-mask, --gene-window and --gene-overlap are for --genes")
        if self.genes is not None and self.mask != ALL_BINS:
            raise ConfigError(f"--genes chooses the bins itself; leave out --mask {self.mask}")
        if self.genes is not None and self.aggregate is not None:
            raise ConfigError("--aggregate is not for scores on genes, which leave out tracks by strand")
        if self.aggregate is not None and self.profile is not None:
            raise ConfigError("profiles are those of single tracks; leave out --aggregate")
        if self.genes is not None and self.profile is not None:
            raise ConfigError("--profiles are those of single variants; leave out --genes")
        if self.genes is not None and self.background is not None:
            raise ConfigError("--background ranks scores of whole windows, not those on genes")
        if not 0 <= self.pseudocount < float("inf"):
            raise ConfigError(f"pseudocount must be 0 or more, not {self.pseudocount}")
        if not 0 <= self.max_ref_mismatch <= 1:
            raise ConfigError(f"max_ref_mismatch must be a share from 0 to 1, not {self.max_ref_mismatch}")
        if self.max_allele_length < 1:
            raise ConfigError(f"max_allele_length must be at least 1, not {self.max_allele_length}")
        if self.top < 0:
            raise ConfigError(f"top must be 0 or more, not {self.top}")
        DtypeCast(self.dtype)


class ScoreSummary(NamedTuple):
    """What a run did. ``computed`` rows were scored by this process, in ``seconds``; others came from
    an earlier or another process. ``gene_rows`` are pairs of a variant and a gene.
    """

    outputs: tuple[str, ...]
    records: int
    alleles: int
    scored: int
    by_status: dict[str, int]
    computed: int
    seconds: float
    strongest: list[StrongVariant]
    gene_rows: int | None = None
    haplotypes: bool = False

    @property
    def rate(self) -> float:
        """Alleles scored a second by this process, whose rows are taken to be like all others."""
        return self.computed * self.scored / max(self.alleles, 1) / max(self.seconds, 1e-9)


class VariantRows:
    """The alleles of a VCF by row; quick when blocks are asked for in ascending order.

    Args:
        source: the opened VCF.
        reader: splits and judges the alleles.
    """

    def __init__(self, source: VcfSource, reader: AlleleReader) -> None:
        self._source = source
        self._reader = reader
        self._records: Iterator[VcfRecord] = iter(())
        self._row = 0
        self._pending: VcfRecord | None = None
        self._rewind()

    def _rewind(self) -> None:
        self._records = self._source.records()
        self._row = 0
        self._advance()

    def _advance(self) -> None:
        # None first: after a reading that fails the next one begins anew.
        self._pending = None
        self._pending = next(self._records, None)

    def read(self, block: Block) -> list[Variant]:
        """The variants of a block, one a row.

        Raises:
            InputError: a fault of the file, or it has fewer alleles than that.
        """
        if block.start < self._row or self._pending is None:
            self._rewind()
        variants: list[Variant] = []
        while self._row < block.end:
            record = self._pending
            if record is None:
                raise InputError(
                    f"the file has {self._row:,} alleles, fewer than when the run was planned; "
                    "it was changed while it was in use",
                    path=self._source.path,
                )
            following = self._row + len(record.alts)
            if following > block.start:
                rows = self._reader.split(record, self._row)
                variants += [variant for variant in rows if block.start <= variant.row < block.end]
                if following > block.end:
                    # The record's other alleles begin the next block.
                    break
            self._row = following
            self._advance()
        return variants


class _Opened(NamedTuple):
    """What a process needs to score."""

    predictor: Predictor
    genome: Fasta
    source: VcfSource
    reader: AlleleReader
    scorer: VariantScorer | IndelShiftScorer
    rows: VariantRows
    cast: DtypeCast
    genes: GeneIndex | None
    placed: PlacedGenes | None
    ranker: Ranker | None


class ScoreTask(ModelTask["ScoreOptions", _Opened]):
    """Scores of the alleles of a VCF."""

    command = COMMAND

    def _open(self) -> _Opened:
        options = self.options
        predictor = open_predictor(options.model)
        genome, contigs = self.open_genome()
        limit = min(
            options.max_allele_length,
            allele_limit(farthest(predictor, options.indel_shifts), options.window_rule),
        )

        def scorer(predictor: Predictor, cache_bytes: int | None) -> VariantScorer:
            return VariantScorer(
                predictor,
                FastaWindows(genome),
                statistics=options.statistics,
                pseudocount=options.pseudocount,
                mask=options.mask,
                average=options.average,
                aggregate=options.aggregate,
                window_rule=options.window_rule,
                engine=options.engine,
                max_allele_length=limit,
                profile=options.profile,
                cache_bytes=cache_bytes,
            )

        reader = AlleleReader(genome, contigs, limit, options.symbolic)
        source = open_vcf(self.path, label=self.label)
        rows = VariantRows(source, reader)
        scored = make_scorer(predictor, options.indel_shifts, scorer)
        placed = index = None
        if options.genes is not None:
            placed = place_genes(read_genes(options.genes), contigs, genome.lengths, options.genes)
            index = GeneIndex(placed.genes, options.gene_mask)
        cast = DtypeCast(options.dtype)
        ranker = None
        if options.background is not None:
            conditions = {**describe_predictor(options.model, predictor), **self._conditions(scored)}
            path = find_background(options.background, options.model.checkpoints)
            ranker = Ranker(path, scored.tracks, options.statistics, conditions)
        return _Opened(predictor, genome, source, reader, scored, rows, cast, index, placed, ranker)

    def _conditions(self, scorer: VariantScorer | IndelShiftScorer) -> dict[str, Any]:
        """What of the options decides what a score is."""
        options = self.options
        return {
            "pseudocount": options.pseudocount,
            "average": options.average,
            **describe_aggregate(scorer),
            "mask": str(options.mask),
            "max_offset": str(options.window_rule),
        }

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines a score, in canonical form, and nothing that does not."""
        options, opened = self.options, self.open()
        aliases = read_aliases(options.contig_aliases) if options.contig_aliases else {}
        return {
            **describe_predictor(options.model, opened.predictor),
            **describe_fasta(opened.genome),
            "vcf": self.name,
            "vcf_sha256": opened.source.sha256,
            "statistics": ",".join(self._names(opened)),
            "log_base": 2,
            **self._conditions(opened.scorer),
            **self._describe_genes(opened),
            **self._describe_background(opened),
            "engine": opened.scorer.engine,
            "window_rule": options.window_rule.describe(opened.predictor.bin_size),
            "indel_method": realign.METHOD,
            "indel_shifts": options.indel_shifts,
            **({"profile": options.profile} if options.profile is not None else {}),
            "max_allele_length": opened.reader.max_allele_length,
            "symbolic": options.symbolic,
            "contig_aliases": ",".join(f"{a}={b}" for a, b in sorted(aliases.items())),
            "dtype": options.dtype,
        }

    def _names(self, opened: _Opened) -> tuple[str, ...]:
        """The statistics, and what comes with them."""
        return self.options.statistics + (opened.ranker.names if opened.ranker is not None else ())

    def _describe_background(self, opened: _Opened) -> dict[str, Any]:
        if self.options.background is None or opened.ranker is None:
            return {}
        return {
            "background": os.path.basename(self.options.background),
            "background_sha256": opened.ranker.sha256,
        }

    def _describe_genes(self, opened: _Opened) -> dict[str, Any]:
        if self.options.genes is None or opened.placed is None:
            return {}
        return {
            "genes": os.path.basename(self.options.genes),
            "genes_sha256": digest(opened.placed.genes),
            "gene_mask": str(self.options.gene_mask),
            "track_strands": "".join(track.strand for track in opened.scorer.tracks),
        }

    def absolute(self) -> BlockTask:
        """The same task with absolute paths, for processes that work in another folder."""
        genes, background = self.options.genes, self.options.background
        if genes is not None:
            genes = os.path.abspath(genes)
        if background not in (None, "auto"):
            background = os.path.abspath(background)
        options = dataclasses.replace(self.options, genes=genes, background=background)
        return ModelTask.absolute(type(self)(self.path, self.label, self.fasta, options))

    def plan(self) -> tuple[int, dict[str, Any]]:
        """Read all of the VCF, judge every allele, and report what the user should know."""
        options, opened = self.options, self.open()
        found = scan(opened.source, opened.reader, options.max_ref_mismatch, options.allow_unknown_contigs)
        for message in found.warnings:
            logs.warning(message)
        limit = opened.reader.max_allele_length
        if limit < options.max_allele_length and found.by_status.get("too_long"):
            bases = opened.predictor.target_length * opened.predictor.bin_size
            logs.warning(
                f"alleles longer than {limit:,} bases are not scored: the model predicts only {bases:,} bp"
            )
        for message in opened.placed.warnings if opened.placed is not None else ():
            logs.warning(message)
        if opened.genes is not None and opened.genes.without_mask:
            logs.warning(
                f"{count(opened.genes.without_mask, 'gene has', 'genes have')} no strand, and so no "
                "transcription start site; --gene-mask tss leaves them out"
            )
        strands = opened.predictor.strands
        if strands is not None and not strands.merged:
            logs.warning(
                "--merge-strands changes nothing: no selected track has a partner on the other strand"
            )
        if found.renamed:
            pairs = [f"{old} is {new}" for old, new in sorted(found.renamed.items())]
            logs.info(f"contig names: {', '.join(pairs[:5])}{', ...' if len(pairs) > 5 else ''} in the FASTA")
        return found.alleles, {
            "records": found.records,
            "by_status": found.by_status,
            "contig_aliases": ",".join(f"{a}={b}" for a, b in sorted(found.renamed.items())),
            "statistics": list(self._names(opened)),
            "tracks": pack_tracks(opened.scorer.tracks),
            **({"profile": options.profile} if options.profile is not None else {}),
            **({"columns": [*SUMMARY_COLUMNS.items()]} if opened.ranker is not None else {}),
            **({GENES: len(opened.placed.genes)} if opened.placed is not None else {}),
        }

    def default_block_rows(self, rows: int) -> int:
        """Rows a block: each has a reference and an alternate window; profiles take memory too."""
        opened = self.open()
        found = block_rows(opened.predictor, rows, 2)
        if self.options.profile is None:
            return found
        return max(1, min(found, _PROFILE_NUMBERS // (self.options.profile * len(opened.scorer.tracks))))

    def compute(self, block: Block, advance: Advance | None = None) -> Part:
        """Scores of one block in the output's number type, NaN in rows that are not ``ok``."""
        opened = self.open()
        variants = opened.rows.read(block)
        if advance is not None:
            advance(sum(not variant.ok for variant in variants))
        if opened.genes is not None:
            return self._compute_genes(opened, opened.genes, variants, advance)
        scores = opened.scorer.score(variants, advance)
        columns = self._columns(opened, variants)
        if opened.ranker is not None:
            quantiles = opened.ranker(scores)
            columns |= summary_columns(quantiles[opened.ranker.names[0]], opened.scorer.tracks)
            scores |= quantiles
        return Part(
            {
                name: values if name == PROFILE_START else opened.cast(values)
                for name, values in scores.items()
            },
            {"columns": columns, BATCH_SIZE: opened.predictor.used_batch_size},
        )

    def _columns(self, opened: _Opened, variants: Sequence[Variant]) -> dict[str, list[Any]]:
        """What a part says of its rows."""
        return {name: [getattr(variant, name) for variant in variants] for name in COLUMNS}

    def _compute_genes(
        self, opened: _Opened, index: GeneIndex, variants: list[Variant], advance: Advance | None
    ) -> Part:
        collector = GeneCollector(index, opened.scorer.tracks, self.options.statistics)
        opened.scorer.collect_genes(variants, collector, advance)
        block = collector.block(variants)
        block = block._replace(scores={name: opened.cast(values) for name, values in block.scores.items()})
        columns = {name: [getattr(variant, name) for variant in variants] for name in COLUMNS}
        arrays, about = gene_part(columns, block, self.options.dtype)
        return Part(arrays, {**about, BATCH_SIZE: opened.predictor.used_batch_size})

    def check_inputs(self) -> None:
        """Raise InputError when VCF or FASTA is gone or was changed."""
        opened = self.open()
        opened.source.check_unchanged()
        opened.genome.check_unchanged()


def describe_aggregate(scorer: VariantScorer | IndelShiftScorer) -> dict[str, Any]:
    """Attributes of an output: whether and over what its scores are means."""
    if scorer.aggregate is None:
        return {"aggregate": "none"}
    return {"aggregate": scorer.aggregate.by, "aggregate_sha256": scorer.aggregate.sha256}


def score_task(path: str, label: str, fasta: str, options: ScoreOptions) -> ScoreTask:
    """The task for some options; arguments as for :class:`ScoreTask`."""
    if options.phased:
        # It is built on this module.
        from gexpr.runs.phased import PhasedScoreTask

        return PhasedScoreTask(path, label, fasta, options)
    if options.regions is not None:
        from gexpr.runs.predict_alleles import RegionAlleleTask

        return RegionAlleleTask(path, label, fasta, options)
    return ScoreTask(path, label, fasta, options)


def refuse_stream(options: ScoreOptions, run: RunOptions) -> None:
    """Raise ConfigError when several processes were to read genes from a stream, which only one can."""
    genes = options.genes
    if genes is not None and (run.processes > 1 or run.dask) and not os.path.isfile(genes):
        raise ConfigError(f"--genes {genes} is no file, and several processes are to read it; give a file")


def refuse_annotation(options: ScoreOptions, outputs: ScoreOutputs) -> None:
    """Raise ConfigError when scores that have several rows an allele were to go into a VCF."""
    if options.phased and outputs.annotate:
        raise ConfigError(
            "--phased gives a row for each haplotype, for which a VCF's INFO has no place; "
            "write HDF5, TSV or Parquet"
        )


def score_variants(
    vcf: str,
    fasta: str,
    output: str | Sequence[str] | None,
    options: ScoreOptions,
    run: RunOptions | None = None,
) -> ScoreSummary | None:
    """Score every ALT allele of a VCF and write one row for each.

    The outputs appear under their names only when all are complete. Finished blocks are kept in the run
    directory until then, so that the same call continues after an interruption.

    Args:
        vcf: VCF or BCF; ``-`` is standard input.
        fasta: the genome that the VCF's coordinates refer to.
        output: a path, or several, each in the format of its suffix; ``-`` is standard output, as TSV; None
            with a shard leaves it to the merge.
        options: what is scored and how.
        run: how the run is carried out.

    Returns:
        Counts, rate and the strongest alleles, also printed to stderr; None for a shard.

    Raises:
        GexprError: bad input, options or environment.
        Interrupted: a signal came; the same call continues.
        UnscoredError: ``options.strict`` and an allele was not scored; the outputs are complete.
    """
    of_genes = options.genes is not None
    outputs = (gene_outputs if of_genes else score_outputs)(output, options.format, options.long)
    outputs.check_profile(options.profile)
    refuse_annotation(options, outputs)
    model, run = assign_devices(options.model, run or RunOptions())
    refuse_stream(options, run)
    options = dataclasses.replace(options, model=model)
    stored = vcf

    def make_task(spooled: str | None) -> ScoreTask:
        nonlocal stored
        stored = spooled or vcf
        if outputs.annotate:
            check_annotatable(stored, vcf)
        return score_task(stored, vcf, fasta, options)

    def open_sink(claimed: Sequence[AtomicOutput], manifest: Manifest) -> ScoreSink | GeneSink:
        if of_genes:
            return GeneSink(claimed, manifest, outputs, top=options.top)
        return ScoreSink(claimed, manifest, outputs, top=options.top, vcf=(stored, vcf))

    inputs = input_files(vcf, fasta, options.model.checkpoint, options.contig_aliases)
    inputs += [options.genes, options.background]
    outcome = run_task(
        make_task,
        open_sink,
        outputs.paths,
        run,
        inputs=inputs,
        unit="alleles",
        companions=outputs.companions,
    )
    if outcome.sink is None:
        return None
    return finish(outcome, outputs, strict=options.strict)


def finish(outcome: Outcome, outputs: ScoreOutputs, *, strict: bool = False) -> ScoreSummary:
    """Print the summary of a run whose outputs are complete.

    Raises:
        UnscoredError: ``strict`` and an allele was not scored.
    """
    assert isinstance(outcome.sink, (ScoreSink, GeneSink))
    content = outcome.manifest.content
    summary = ScoreSummary(
        outputs=outputs.paths,
        records=content["records"],
        alleles=outcome.manifest.rows,
        scored=content["by_status"].get("ok", 0),
        by_status=content["by_status"],
        computed=outcome.computed,
        seconds=outcome.seconds,
        strongest=outcome.sink.strongest,
        gene_rows=outcome.sink.rows if isinstance(outcome.sink, GeneSink) else None,
        haplotypes="phased" in outcome.manifest.fingerprint,
    )
    for line in summary_lines(summary):
        logs.info(line)
    unscored = summary.alleles - summary.scored - summary.by_status.get("not_carried", 0)
    if strict and unscored:
        files = _files(outputs.paths)
        what = f"the output {files[0]} is" if len(files) == 1 else "the output is"
        if len(files) > 1:
            what = f"the outputs {', '.join(files)} are"
        raise UnscoredError(
            f"{count(unscored, 'allele was', 'alleles were')} not scored (--strict); {what} complete"
        )
    return summary


def summary_lines(summary: ScoreSummary) -> list[str]:
    """The summary as it is printed to stderr."""
    here = ""
    if summary.computed:
        part = "" if summary.computed == summary.alleles else f"; {summary.computed:,} of them now"
        here = f"{part} in {summary.seconds:,.1f} s ({summary.rate:,.1f} a second)"
    what = count(summary.alleles, "allele")
    if summary.haplotypes:
        what = count(summary.alleles, "row", "rows") + " (alleles on haplotypes)"
    lines = [f"{what} of {count(summary.records, 'record')} read, {summary.scored:,} scored{here}"]
    unscored = {status: n for status, n in summary.by_status.items() if status != "ok"}
    if unscored:
        lines.append("not scored: " + ", ".join(f"{status} {n:,}" for status, n in unscored.items()))
    if summary.gene_rows is not None:
        lines.append(f"{count(summary.gene_rows, 'pair')} of an allele and a gene")
    if files := _files(summary.outputs):
        lines.append(f"written to {', '.join(files)}")
    if summary.strongest:
        lines.append(f"strongest effects by {summary.strongest[0].statistic}:")
        rows = [
            (
                f"  {entry.variant.chrom}:{entry.variant.pos}",
                f"{_short(entry.variant.ref)}>{_short(entry.variant.alt)}",
                entry.variant.id,
                *([entry.of] if summary.haplotypes or summary.gene_rows is not None else []),
                f"{entry.score:+.3f}",
                entry.track.label or entry.track.id,
            )
            for entry in summary.strongest
        ]
        lines += align(rows)
    return lines


def _files(outputs: Sequence[str]) -> list[str]:
    return [output for output in outputs if output != "-"]


def _short(allele: str) -> str:
    return allele if len(allele) <= 12 else f"{allele[:9]}...({len(allele)})"
