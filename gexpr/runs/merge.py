"""The job behind ``gexpr merge``: the finished blocks of shards to outputs, without model or input."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gexpr.errors import ConfigError, InputError
from gexpr.runs import attribute, ism, predict, score_variants
from gexpr.runs.common import unpack_tracks
from gexpr.runs.control import Outcome, Sink, claim, merge
from gexpr.runs.directory import Manifest, RunDirectory, RunLog
from gexpr.runs.gene_outputs import GENES, GeneSink, gene_outputs
from gexpr.runs.score_outputs import ScoreSink, check_annotatable, score_outputs
from gexpr.runs.signals import terminable
from gexpr.writers.output import AtomicOutput, check_outputs, output_names


def merge_run(
    run_dir: str,
    output: str | Sequence[str] | None,
    *,
    format: str | None = None,
    bigwig: str | None = None,
    bedgraph: str | None = None,
    long: bool = False,
    vcf: str | None = None,
    force: bool = False,
    keep_run: bool = False,
    top: int = 5,
    strict: bool = False,
) -> score_variants.ScoreSummary | predict.PredictSummary | ism.IsmSummary | attribute.AttributeSummary:
    """Verify and join the blocks that the shards of a run have finished.

    Args:
        run_dir: the run directory.
        output: a path, or ``-`` for text on standard output; several, or None.
        format: the output's format; None goes by its suffix.
        bigwig, bedgraph: folders for a file a track of a run of ``predict`` or ``attribute``.
        long: TSV of scores with one line a number.
        vcf: the file that was scored, for an annotated VCF; a run that read it from standard input has it.
        force: replace an existing output.
        keep_run: keep the run directory.
        top: how many of the strongest alleles the summary lists.
        strict: raise :class:`~gexpr.runs.score_variants.UnscoredError` after the output is complete if an
            allele was not scored.

    Returns:
        The run's summary, also printed to stderr.

    Raises:
        GexprError: no run is there, blocks are missing or damaged (named), the VCF is not the one that was
            scored, or an output cannot be written.
    """
    directory = RunDirectory(run_dir)
    manifest = directory.manifest()
    outputs = output_names(output)
    companions: Sequence[str] = ()
    folders = {name: folder for name, folder in (("bigwig", bigwig), ("bedgraph", bedgraph)) if folder}
    if not outputs and not folders:
        raise ConfigError("no output is named")
    if folders and manifest.command not in (predict.COMMAND, attribute.COMMAND):
        raise ConfigError(
            "--bigwig and --bedgraph are for predictions and attributions; this is a run of gexpr "
            f"{manifest.command}"
        )
    if manifest.command == score_variants.COMMAND and GENES in manifest.content:
        wanted = gene_outputs(outputs, format, long)

        def open_sink(claimed: Sequence[AtomicOutput], plan: Manifest) -> Sink:
            return GeneSink(claimed, plan, wanted, top=top)
    elif manifest.command == score_variants.COMMAND:
        wanted = score_outputs(outputs, format, long)
        wanted.check_profile(manifest.content.get("profile"))
        companions = wanted.companions
        source = _scored_vcf(directory, vcf) if wanted.annotate else None

        def open_sink(claimed: Sequence[AtomicOutput], plan: Manifest) -> Sink:
            return ScoreSink(claimed, plan, wanted, top=top, vcf=source)
    elif manifest.command == predict.COMMAND:
        if long:
            raise ConfigError("--long is a form of TSV of scores; this is a run of gexpr predict")
        predicted = predict.prediction_outputs(
            outputs, format, folders, lambda: unpack_tracks(manifest.content["tracks"])
        )
        outputs = predicted.paths

        def open_sink(claimed: Sequence[AtomicOutput], plan: Manifest) -> Sink:
            return predict.PredictSink(claimed, plan, predicted)
    elif manifest.command == ism.COMMAND:
        changed = ism.ism_outputs(outputs, format, long)
        companions = changed.companions

        def open_sink(claimed: Sequence[AtomicOutput], plan: Manifest) -> Sink:
            return ism.IsmSink(claimed, plan, changed)
    elif manifest.command == attribute.COMMAND:
        if long:
            raise ConfigError("--long is a form of TSV of scores; this is a run of gexpr attribute")
        attributed = predict.prediction_outputs(
            *(outputs, format, folders),
            lambda: unpack_tracks(manifest.content["tracks"]),
            attribute.SUFFIXES,
        )
        outputs = attributed.paths

        def open_sink(claimed: Sequence[AtomicOutput], plan: Manifest) -> Sink:
            return attribute.AttributeSink(claimed, plan, attributed)
    else:
        raise InputError(f"a run of gexpr {manifest.command} is not known to this version", path=run_dir)
    if vcf is not None and not (manifest.command == score_variants.COMMAND and wanted.annotate):
        raise ConfigError("--vcf is for an annotated VCF, and no output is one")
    check_outputs((*outputs, *companions), [vcf, *(entry.path for entry in os.scandir(run_dir))])
    for each in outputs:
        directory.refuse_output(each)
    with predict.output_folders(folders.values(), len(outputs)):
        claim(outputs, directory, force=force, companions=companions)
        with terminable() as complete:
            sink = merge(directory, manifest, open_sink, outputs, force=force, before_commit=complete)
            RunLog(directory).write("stop", how="merged")
            directory.close(keep=keep_run)
    outcome = Outcome(manifest, sink, 0, 0.0)
    if manifest.command == ism.COMMAND:
        return ism.finish(outcome, outputs)
    if manifest.command == attribute.COMMAND:
        return attribute.finish(outcome, attributed.shown)
    if manifest.command == score_variants.COMMAND:
        return score_variants.finish(outcome, wanted, strict=strict)
    return predict.finish(outcome, predicted.shown)


def _scored_vcf(directory: RunDirectory, vcf: str | None) -> tuple[str, str]:
    """Path of the VCF that a run scored, and what messages call it.

    Raises:
        ConfigError: it was not given, and is not kept in the directory.
        InputError: it cannot be read, or is a BCF.
    """
    stored = directory.spooled()
    path = str(stored) if vcf is None and stored.exists() else vcf
    if path is None:
        raise ConfigError(
            "an annotated VCF needs the file that was scored: give it with --vcf (the other formats do not)"
        )
    check_annotatable(path, path)
    return path, path
