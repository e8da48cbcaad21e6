"""``gexpr score-sequences``: constructs, singly or in pairs, to predictions and differences."""

from __future__ import annotations

import click

from gexpr import logs
from gexpr.cli import options
from gexpr.scoring.definitions import parse_statistics

SIDES = ("none", "left", "right", "both")


@click.command("score-sequences")
@click.argument("sequences")
@click.argument("alternates", required=False)
@options.checkpoint
@options.output(("hdf5", "tsv", "parquet"), ".tsv, .tsv.gz, .h5 or .parquet")
@click.option(
    "--sequence-column", metavar="NAME", help="Column of single sequences.  [default: sequence, seq]"
)
@click.option(
    "--ref-column", metavar="NAME", help="Column of reference sequences; of --pairs, of names [ref]."
)
@click.option(
    "--alt-column", metavar="NAME", help="Column of alternate sequences; of --pairs, of names [alt]."
)
@click.option(
    "--id-column", metavar="NAME", help="Column that names the rows.  [default: id, or numbers from 0]"
)
@click.option(
    "--pairs",
    metavar="TABLE",
    help="Score pairs of records of the FASTA file: a table whose columns ref and alt hold their names.",
)
@click.option(
    "--prefix", metavar="BASES", help="Bases before every sequence.  [default: the checkpoint's, or none]"
)
@click.option(
    "--suffix", metavar="BASES", help="Bases behind every sequence.  [default: the checkpoint's, or none]"
)
@click.option(
    "--pad",
    type=click.Choice(SIDES),
    default="none",
    show_default=True,
    help="Where to add unknown bases (N, which the model sees as zeros) to what is shorter than its input.",
)
@click.option(
    "--crop",
    type=click.Choice(SIDES),
    default="none",
    show_default=True,
    help="Where to cut bases off what is longer than the model's input.",
)
@options.tracks
@click.option(
    "--stats",
    metavar="LIST",
    callback=lambda ctx, param, value: value and options.parsed(parse_statistics)(ctx, param, value),
    help="Statistics of pairs, separated by commas, as in score-variants.  [default: SAD, and logFC where "
    "the tracks allow it]",
)
@click.option(
    "--pseudocount",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="C",
    help="The c of logFC = log2(sum(alt) + c) - log2(sum(ref) + c).",
)
@options.construct_prediction
@options.force
@click.option(
    "--strict", is_flag=True, help="Exit with 3 when a row was not scored (the output is complete)."
)
@options.quiet
def command(
    sequences: str,
    alternates: str | None,
    checkpoint: str,
    output: str,
    format: str | None,
    sequence_column: str | None,
    ref_column: str | None,
    alt_column: str | None,
    id_column: str | None,
    pairs: str | None,
    prefix: str | None,
    suffix: str | None,
    pad: str,
    crop: str,
    tracks: str | None,
    stats: tuple[str, ...] | None,
    pseudocount: float,
    reverse_complement: bool,
    unsquash: bool,
    batch_size: int | None,
    auto_batch: bool,
    device: str,
    precision: str,
    threads: int | None,
    force: bool,
    strict: bool,
    quiet: bool,
) -> None:
    """Score sequences that stand for themselves, such as promoter constructs: no genome is needed.

    SEQUENCES is a table with a header (TSV, CSV, either gzipped, or Parquet) or a FASTA file; '-' reads a
    TSV or FASTA from stdin. A single sequence gets a prediction for each track; a pair those of both
    sequences and what the alternate changes. Pairs are two columns of a table, two FASTA files with the
    same names in the same order (SEQUENCES has the references, ALTERNATES the alternates), or a FASTA file
    and a table of names (--pairs).

    Every row of the input gets one row, in input order, with a status; rows that cannot be scored hold
    NaN and say why.

    \b
    Predictions of a FASTA file, as a table on the terminal:
      gexpr score-sequences -c NET -o - promoters.fa
    What each alternate changes, from two columns of a table:
      gexpr score-sequences -c NET -o scores.tsv --ref-column wild_type --alt-column mutant \\
          mutants.csv
    Sequences of several lengths, of which the last bases count:
      gexpr score-sequences -c NET -o scores.h5 --pad left --crop left promoters.tsv.gz
    Variable parts between constant adapters:
      gexpr score-sequences -c NET -o - --prefix TGCATTTTTTTCACATC --suffix GGTTACGGCTGTT parts.fa

    A run takes seconds to minutes, so there are no shards and nothing to resume: an interrupted run
    leaves no output, and the same command starts anew.

    Exit codes: 0 success; 1 the input or the environment is at fault; 2 wrong usage; 3 with --strict, the
    output is complete but some rows were not scored; 130 interrupted.
    """
    from gexpr.errors import ConfigError
    from gexpr.runs.common import ModelOptions
    from gexpr.runs.score_sequences import SequenceOptions, score_sequences
    from gexpr.runs.sequence_rows import Columns

    logs.set_quiet(quiet)
    try:
        scored = SequenceOptions(
            model=ModelOptions(
                checkpoint=checkpoint,
                tracks=tracks,
                reverse_complement=reverse_complement,
                batch_size=batch_size,
                device=device,
                precision=precision,
                threads=threads,
                unsquash=unsquash,
                auto_batch=auto_batch,
            ),
            second=alternates,
            pairs=pairs,
            columns=Columns(sequence_column, ref_column, alt_column, id_column),
            prefix=prefix,
            suffix=suffix,
            pad=pad,
            crop=crop,
            statistics=stats,
            pseudocount=pseudocount,
            format=format,
            force=force,
            strict=strict,
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    score_sequences(sequences, output, scored)
