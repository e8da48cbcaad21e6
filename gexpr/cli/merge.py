"""``gexpr merge``: the finished blocks of shards to one output."""

from __future__ import annotations

import click

from gexpr import logs
from gexpr.cli import options


@click.command("merge")
@click.argument("run_dir", metavar="RUN_DIR")
@options.output(("hdf5", "tsv", "npz"), ".h5, .tsv, .tsv.gz, or .npz for one predicted region")
@click.option("--long", is_flag=True, help="TSV with one line for each allele, track and statistic.")
@options.force
@options.keep_run
@options.top
@options.strict
@options.quiet
def command(
    run_dir: str,
    output: str,
    format: str | None,
    long: bool,
    force: bool,
    keep_run: bool,
    top: int,
    strict: bool,
    quiet: bool,
) -> None:
    """Join the blocks that the shards of RUN_DIR have finished into one output, and remove RUN_DIR.

    Every block is verified. The output has the same bytes as that of a single process. Neither
    the model nor the input is needed.

    \b
    Four shards, then the output:
      for i in 0 1 2 3; do
        gexpr score-variants -c yeast-tss -f example --shard $i/4 --run-dir work example
      done
      gexpr merge work -o scores.h5

    Exit codes: 0 success; 1 blocks are missing or damaged (they are named), or the output cannot be
    written; 2 wrong usage; 3 with --strict, the output is complete but some alleles were not scored.
    """
    from gexpr.runs.merge import merge_run

    logs.set_quiet(quiet)
    merge_run(
        run_dir, output, format=format, long=long, force=force, keep_run=keep_run, top=top, strict=strict
    )
