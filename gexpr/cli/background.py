"""``gexpr background``: what scores are usual for a checkpoint."""

from __future__ import annotations

import os
from typing import Any

import click
from click.core import ParameterSource

from gexpr import logs
from gexpr.cli import options
from gexpr.genome.windows import WindowRule
from gexpr.scoring.definitions import Mask


@click.command("background")
@click.option("--scores", metavar="FILE.h5", help="Scores that are there already, instead of the next four.")
@options.checkpoints(required=False, help="The model.")
@click.option("--fasta", "-f", metavar="FILE", help="The genome; 'example' is yeast chromosome I.")
@click.option("--vcf", metavar="FILE", help="Variants to score: common ones, say.")
@click.option(
    "--random",
    "number",
    type=click.IntRange(min=1),
    metavar="N",
    help="Without --vcf: score N substitutions at random places of the genome.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, metavar="N", help="Of --random."
)
@click.option("--output", "-o", required=True, metavar="FILE.h5", help="Where to write the background.")
@options.tracks
@options.scores
@options.prediction
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Worker processes.",
)
@options.force
@options.quiet
def command(
    scores: str | None,
    checkpoint: str | tuple[str, ...] | None,
    fasta: str | None,
    vcf: str | None,
    number: int | None,
    seed: int,
    output: str,
    tracks: str | None,
    stats: tuple[str, ...],
    pseudocount: float,
    mask: Mask,
    average: str,
    aggregate: str | None,
    merge_strands: bool,
    window_rule: WindowRule,
    workers: int,
    force: bool,
    quiet: bool,
    **prediction: Any,
) -> None:
    """Make a background: the magnitudes of many variants' scores, track by track.

    'gexpr score-variants --background' then says of every score how it ranks among them: a signed quantile
    from -1 to 1. The options that decide what a score is have to be the same there.

    \b
    Of common variants:
      gexpr background -c enformer -f hg38.fa --vcf common.vcf.gz -o common.h5
    Of random substitutions of the genome:
      gexpr background -c yeast-tss -f sacCer3.fa.gz --random 10000 -o random.h5
    Of scores that many machines computed (gexpr score-variants --shard, gexpr merge):
      gexpr background --scores common_scores.h5 -o common.h5
    Its use:
      gexpr score-variants -c enformer -f hg38.fa --background common.h5 -o scores.tsv variants.vcf.gz

    Scores are kept in OUTPUT.scores.h5 (.run) until the background is complete: after an interruption
    the same command continues.

    Exit codes: 0 success; 1 the input or the environment is at fault; 2 wrong usage; 75 stopped by SIGINT,
    SIGTERM or SIGUSR1 after the current block, the same command continues.
    """
    logs.set_quiet(quiet)
    if scores is not None:
        context = click.get_current_context()
        own = ("scores", "output", "force", "quiet")
        for parameter in context.command.params:
            name = parameter.name or ""
            if name not in own and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--scores takes the place of {parameter.opts[0]}: give one of them")
        from gexpr.runs.background import background_of_scores

        background_of_scores(scores, output, force=force)
        return
    if checkpoint is None or fasta is None or (vcf is None) == (number is None):
        raise click.UsageError("give --scores, or --checkpoint, --fasta and one of --vcf and --random")

    from gexpr.runs.signals import Stopper

    with Stopper() as stopper:
        # Libraries in C++ do not bear what a signal raises while they are imported.
        with stopper.finishing():
            from gexpr.genome.examples import resolve_fasta, resolve_vcf
            from gexpr.runs.background import make_background, random_variants
            from gexpr.runs.common import ModelOptions
            from gexpr.runs.control import RunOptions
            from gexpr.runs.score_variants import ScoreOptions
            from gexpr.writers.output import refuse_existing
        stopper.check()
        scored = ScoreOptions(
            model=ModelOptions(
                checkpoint=checkpoint, tracks=tracks, merge_strands=merge_strands, **prediction
            ),
            statistics=stats,
            pseudocount=pseudocount,
            mask=mask,
            average=average,
            aggregate=aggregate,
            window_rule=window_rule,
        )
        refuse_existing(output, force)
        genome = resolve_fasta(fasta)
        drawn = number is not None and random_variants(genome, number, seed, output)
        source = drawn or resolve_vcf(vcf or "")
        make_background(source, genome, output, scored, RunOptions(workers=workers, force=force))
        if drawn:
            os.unlink(drawn)
