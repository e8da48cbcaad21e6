"""``gexpr top``: the strongest rows of a file of scores."""

from __future__ import annotations

import click

from gexpr import logs
from gexpr.cli import options
from gexpr.results import Region


@click.command("top")
@click.argument("scores", metavar="SCORES.h5")
@click.option(
    "--top",
    "-n",
    "count",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Rows for each track.",
)
@click.option(
    "--overall", is_flag=True, help="The N strongest rows of all tracks, each by its strongest track."
)
@options.order
@click.option(
    "--stat", "statistic", metavar="NAME", help="Statistic to rank by.  [default: the file's first one]"
)
@options.stored_tracks
@options.regions
@click.option("--output", "-o", default="-", metavar="FILE", help="TSV, also .tsv.gz.  [default: stdout]")
@options.force
@options.quiet
def command(
    scores: str,
    count: int,
    overall: bool,
    by: str,
    statistic: str | None,
    tracks: str | None,
    regions: tuple[Region, ...],
    regions_file: str | None,
    output: str,
    force: bool,
    quiet: bool,
) -> None:
    """Show the strongest rows of SCORES.h5, for each track or overall, as TSV.

    SCORES.h5 is an output of score-variants or of export. It is read once, block by block; no model is
    needed. Rows rank by score, equal scores by their order in the file; rows without a score
    never appear.

    \b
    The ten largest changes of each track:
      gexpr top scores.h5
    The 100 strongest losses in any K562 track, near one gene:
      gexpr top scores.h5 --overall -n 100 --by down -t '*K562*' -r chr8:127,735,000-127,742,000

    Columns: rank, track_id, track_label, statistic, score, chrom, pos, id, ref, alt.
    """
    from gexpr.genome.places import with_bed
    from gexpr.runs.score_rows import strongest_rows, write_ranked
    from gexpr.writers.output import check_outputs

    logs.set_quiet(quiet)
    check_outputs([output], [scores, regions_file])
    found = strongest_rows(
        scores,
        count=count,
        statistic=statistic,
        tracks=tracks,
        regions=with_bed(regions, regions_file),
        by=by,
        overall=overall,
    )
    write_ranked(found, output, force=force)
