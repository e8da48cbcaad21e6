"""The job behind ``gexpr merge``: the finished blocks of shards to one output, without model or input."""

from __future__ import annotations

import os

from gexpr.errors import ConfigError, InputError
from gexpr.runs import predict, score_variants
from gexpr.runs.control import Outcome, Sink, merge
from gexpr.runs.directory import Manifest, RunDirectory, RunLog
from gexpr.runs.signals import terminable
from gexpr.writers import predictions
from gexpr.writers.output import AtomicOutput, output_format, refuse_input


def merge_run(
    run_dir: str,
    output: str,
    *,
    format: str | None = None,
    long: bool = False,
    force: bool = False,
    keep_run: bool = False,
    top: int = 5,
    strict: bool = False,
) -> score_variants.ScoreSummary | predict.PredictSummary:
    """Verify and join the blocks that the shards of a run have finished.

    Args:
        run_dir: the run directory.
        output: a path, or ``-`` for TSV on standard output.
        format: the output's format; None goes by its suffix.
        long: TSV of scores with one line a number.
        force: replace an existing output.
        keep_run: keep the run directory.
        top: how many of the strongest alleles the summary lists.
        strict: raise :class:`~gexpr.runs.score_variants.UnscoredError` after the output is complete if an
            allele was not scored.

    Returns:
        The run's summary, also printed to stderr.

    Raises:
        GexprError: no run is there, blocks are missing or damaged (named), or the output cannot be written.
    """
    directory = RunDirectory(run_dir)
    manifest = directory.manifest()
    if manifest.command == score_variants.COMMAND:
        known = score_variants.check_format(output, format, long)

        def open_sink(claimed: AtomicOutput, plan: Manifest) -> Sink:
            assert known is not None
            return score_variants.ScoreSink(claimed, plan, known, long=long, top=top)
    elif manifest.command == predict.COMMAND:
        chosen = output_format(output, format, predictions.SUFFIXES)
        if long:
            raise ConfigError("--long is a form of TSV of scores; this is a run of gexpr predict")

        def open_sink(claimed: AtomicOutput, plan: Manifest) -> Sink:
            return predict.PredictSink(claimed, plan, chosen)
    else:
        raise InputError(f"a run of gexpr {manifest.command} is not known to this version", path=run_dir)
    refuse_input(output, [entry.path for entry in os.scandir(run_dir)])
    directory.refuse_output(output)
    with terminable() as complete:
        sink = merge(directory, manifest, open_sink, output, force=force, before_commit=complete)
        RunLog(directory).write("stop", how="merged")
        if not keep_run:
            directory.remove()
    outcome = Outcome(manifest, sink, 0, 0.0)
    if manifest.command == score_variants.COMMAND:
        return score_variants.finish(outcome, output, strict=strict)
    return predict.finish(outcome, output)
