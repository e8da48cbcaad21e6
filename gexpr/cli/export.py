"""``gexpr export``: rows and columns of a file of scores in any format."""

from __future__ import annotations

import click

from gexpr import logs
from gexpr.cli import options
from gexpr.results import Region
from gexpr.scoring.definitions import parse_stored_statistics


@click.command("export")
@click.argument("scores", metavar="SCORES.h5")
@options.output(
    ("hdf5", "tsv", "vcf", "parquet"),
    ".h5, .tsv, .tsv.gz, .vcf, .vcf.gz or .parquet",
    stream="'-' is TSV on stdout, or with --format vcf VCF.",
)
@options.stored_tracks
@click.option(
    "--stats",
    metavar="LIST",
    callback=options.parsed(lambda text: None if text is None else parse_stored_statistics(text)),
    help="Statistics to write, separated by commas.  [default: all of the file]",
)
@options.regions
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="NAME",
    help="Only rows with this status, such as ok; repeatable.",
)
@click.option(
    "--min-abs",
    type=click.FloatRange(min=0),
    metavar="X",
    help="Only rows where a selected track has an absolute score of at least X.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only rows among the N strongest of any selected track, of those that meet the other conditions.",
)
@options.order
@click.option(
    "--stat",
    metavar="NAME",
    help="Statistic of --min-abs and --top.  [default: the first one that is written]",
)
@click.option("--long", is_flag=True, help="TSV with one line for each allele, track and statistic.")
@click.option(
    "--vcf",
    metavar="FILE",
    help="For VCF: the file that was scored. Its chosen records are written with scores in INFO; without it, "
    "a record for each row is made of the scores file.",
)
@options.force
@options.quiet
def command(
    scores: str,
    output: str,
    format: str | None,
    tracks: str | None,
    stats: tuple[str, ...] | None,
    regions: tuple[Region, ...],
    regions_file: str | None,
    statuses: tuple[str, ...],
    min_abs: float | None,
    top: int | None,
    by: str,
    stat: str | None,
    long: bool,
    vcf: str | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write rows and columns of SCORES.h5 as HDF5, TSV, VCF or Parquet.

    SCORES.h5 is an output of score-variants or of export; no model is needed. A row is written when it
    meets every condition that is given. Rows keep their order, numbers their digits.

    \b
    Everything as a table:
      gexpr export scores.h5 -o scores.tsv.gz
    What is strong in some tracks of one region, on the terminal:
      gexpr export scores.h5 -o - -t 'assay:DNASE' -r chr8:127,000,000-128,000,000 --min-abs 0.1
    The scored VCF's records with the 1,000 strongest effects on each track, annotated:
      gexpr export scores.h5 -o strong.vcf.gz --vcf variants.vcf.gz --top 1000
    """
    from gexpr.genome.places import with_bed
    from gexpr.runs.export import ExportOptions, export_scores

    logs.set_quiet(quiet)
    chosen = ExportOptions(
        tracks=tracks,
        statistics=stats,
        regions=with_bed(regions, regions_file),
        statuses=statuses,
        min_abs=min_abs,
        top=top,
        by=by,
        stat=stat,
        format=format,
        long=long,
        vcf=vcf,
        force=force,
    )
    export_scores(scores, output, chosen)
