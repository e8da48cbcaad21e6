"""``gexpr report``: a file of scores as one page of HTML."""

from __future__ import annotations

import click

from gexpr import logs
from gexpr.cli import options
from gexpr.results import Region


@click.command("report")
@click.argument("scores", metavar="SCORES.h5")
@click.option(
    "--output", "-o", required=True, metavar="FILE.html", help="Where to write the page; '-' is stdout."
)
@click.option(
    "--top",
    "-n",
    "count",
    type=click.IntRange(min=1, max=10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Rows of the table of the strongest variants.",
)
@options.order
@click.option(
    "--stat",
    "statistic",
    metavar="NAME",
    help="Statistic to rank by; the others are shown too.  [default: the file's first one]",
)
@options.stored_tracks
@options.regions
@click.option(
    "--pictures",
    type=click.IntRange(min=0, max=200),
    default=5,
    show_default=True,
    metavar="N",
    help="Draw the predicted tracks of the N strongest variants; 0 draws none.",
)
@options.checkpoints(
    required=False,
    help="Where the model is that made the scores, for pictures and card.  [default: looked for]",
)
@click.option(
    "--fasta",
    "-f",
    metavar="FILE",
    help="Where the genome is that made the scores, for pictures.  [default: looked for]",
)
@click.option(
    "--flank",
    type=click.IntRange(min=1),
    metavar="BP",
    help="Draw the bins within BP of a variant.  [default: all that are predicted]",
)
@click.option(
    "--max-tracks",
    type=click.IntRange(min=1, max=40),
    default=3,
    show_default=True,
    metavar="N",
    help="Tracks in the picture of a variant: that of its score, and those that change most.",
)
@click.option(
    "--genes",
    "-g",
    metavar="FILE",
    help="Gene models to draw below predictions: GTF, GFF3, BED or a table of genes.",
)
@click.option("--title", metavar="TEXT", help="Title.  [default: the file's name]")
@click.option(
    "--run-dir",
    metavar="DIR",
    help="The directory of the run, kept by --keep-run: its times and its command.  [default: SCORES.h5.run, "
    "if it is there]",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cpu, cuda, cuda:N, for pictures.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.  [default: one a core]"
)
@options.force
@options.quiet
def command(
    scores: str,
    output: str,
    count: int,
    by: str,
    statistic: str | None,
    tracks: str | None,
    regions: tuple[Region, ...],
    regions_file: str | None,
    pictures: int,
    checkpoint: str | tuple[str, ...] | None,
    fasta: str | None,
    flank: int | None,
    max_tracks: int,
    genes: str | None,
    title: str | None,
    run_dir: str | None,
    device: str,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write SCORES.h5 as one page of HTML: statuses, distributions, strongest variants, provenance.

    SCORES.h5 is an output of score-variants or of export. The page is a single file that loads
    nothing: it can be mailed, archived and read without a network. Its tables can be sorted and searched,
    and are complete without JavaScript. It has the pictures of 'gexpr plot scores', the table of 'gexpr top
    --overall', the predictions of the strongest variants as 'gexpr plot variant' draws them, the
    checkpoint's card, all settings and digests, and the commands.

    Predictions are those that the file holds (--profiles), or are computed by the checkpoint and the genome
    that made the scores. These are looked for by name, and taken when their digests are those of the file;
    where they are not found, the page says so. Needs: pip install 'gexpr[plot]'.

    \b
    The example:
      gexpr score-variants -c yeast-tss -f example -o scores.h5 example
      gexpr report scores.h5 -o report.html
    The 500 largest losses, with gene models, the model and the genome being elsewhere:
      gexpr report scores.h5 -o losses.html --by down -n 500 -g genes.gtf -c models/net -f hg38.fa
    Tables and distributions alone, of two tracks:
      gexpr report scores.h5 -o tables.html --pictures 0 -t WT_plus,WT_minus
    """
    import shlex

    from gexpr.genome.places import with_bed
    from gexpr.report.score_page import check_page, render_report
    from gexpr.runs.directory import command_line
    from gexpr.runs.report import genes_near, picture_alleles, report_scores
    from gexpr.writers.output import AtomicOutput, check_outputs
    from gexpr.writers.text import TextFile

    logs.set_quiet(quiet)
    check_page(output)
    check_outputs([output], [scores, regions_file, fasta, genes])
    with AtomicOutput(output, force=force) as claimed:
        report = report_scores(
            scores,
            count=count,
            statistic=statistic,
            tracks=tracks,
            regions=with_bed(regions, regions_file),
            by=by,
            run_dir=run_dir,
            checkpoint=checkpoint,
        )
        pictured = picture_alleles(scores, report, pictures, fasta=fasta, device=device, threads=threads)
        page = render_report(
            report,
            pictured,
            title=title,
            genes=genes_near(genes, pictured),
            flank=flank,
            max_tracks=max_tracks,
            command=shlex.join(["gexpr", *command_line()[1:]]),
        )
        text = TextFile(claimed)
        text.write(page)
        text.commit()
    for reason in pictured.missing:
        logs.warning(f"no picture: {reason}")
    if output != "-":
        logs.info(f"written to {output}")
