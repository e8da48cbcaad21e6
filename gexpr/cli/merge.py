"""``gexpr merge``: the finished blocks of shards to one output."""

from __future__ import annotations

import click

from gexpr import logs
from gexpr.cli import options


@click.command("merge")
@click.argument("run_dir", metavar="RUN_DIR")
@options.output(
    ("hdf5", "tsv", "vcf", "parquet", "npz"),
    ".h5, .tsv, .tsv.gz; .vcf, .vcf.gz, .parquet for scores; .npz for one predicted region",
    required=False,
    several=True,
    stream="'-' is TSV on stdout, or with --format vcf VCF.",
)
@options.track_folders
@click.option("--long", is_flag=True, help="TSV with one line for each allele, track and statistic.")
@click.option("--vcf", metavar="FILE", help="The file that was scored, for an annotated VCF.")
@options.force
@options.keep_run
@options.top
@options.strict
@options.quiet
def command(
    run_dir: str,
    output: str | tuple[str, ...] | None,
    format: str | None,
    bigwig: str | None,
    bedgraph: str | None,
    long: bool,
    vcf: str | None,
    force: bool,
    keep_run: bool,
    top: int,
    strict: bool,
    quiet: bool,
) -> None:
    """Join the blocks that the shards of RUN_DIR have finished, and remove RUN_DIR.

    Every block is verified. The outputs have the same bytes as those of a single process. Neither
    the model nor the input is needed; but an annotated VCF is made from the VCF that was scored.

    \b
    Four shards, then the output:
      for i in 0 1 2 3; do
        gexpr score-variants -c yeast-tss -f example --shard $i/4 --run-dir work example
      done
      gexpr merge work -o scores.h5

    Exit codes: 0 success; 1 blocks are missing or damaged (they are named), or the output cannot be
    written; 2 wrong usage; 3 with --strict, the output is complete but some alleles were not scored.
    """
    from gexpr.genome.examples import resolve_vcf
    from gexpr.runs.merge import merge_run

    logs.set_quiet(quiet)
    if not (output or bigwig or bedgraph):
        raise click.UsageError("Missing option '--output' / '-o'.")
    merge_run(
        run_dir,
        output,
        format=format,
        bigwig=bigwig,
        bedgraph=bedgraph,
        long=long,
        vcf=None if vcf is None else resolve_vcf(vcf),
        force=force,
        keep_run=keep_run,
        top=top,
        strict=strict,
    )
