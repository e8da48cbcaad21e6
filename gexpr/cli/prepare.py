"""``gexpr prepare``."""

from __future__ import annotations

from pathlib import Path

import click

from gexpr import logs
from gexpr.cli import options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _names(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for part in value for name in part.split(",") if name.strip())


@click.command("prepare")
@click.option("--fasta", type=_FILE, required=True, help="Genome, plain or bgzipped.")
@click.option("--tracks", type=_FILE, required=True, help="Track table (TSV); see below.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="HDF5 file to write.",
)
@click.option("--context-length", type=int, required=True, help="Bases that the model sees.")
@click.option("--bin-size", type=int, required=True, help="Bases of an output bin.")
@click.option(
    "--target-length", type=int, help="Predicted bins of a window, centered. [default: see --crop-bp]"
)
@click.option("--crop-bp", type=int, help="Bases without prediction on each side of a window. [default: 0]")
@click.option("--stride", type=int, help="Step between training windows, in bases. [default: no overlap]")
@click.option(
    "--valid", multiple=True, callback=_names, help="Contigs for validation, separated by commas; repeatable."
)
@click.option("--test", multiple=True, callback=_names, help="Contigs for the final test.")
@click.option(
    "--split-bed", type=_FILE, help="BED of chrom, start, end, train|valid|test, instead of the two above."
)
@click.option("--exclude", multiple=True, callback=_names, help="Contigs to leave out altogether.")
@click.option("--blacklist", type=_FILE, help="BED of regions whose bins do not count.")
@click.option(
    "--max-gap-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.5,
    show_default=True,
    help="Drop windows with a larger fraction of bins in gaps or blacklisted.",
)
@click.option("--soft-clip", type=float, help="Limit above which targets grow as a square root (clip_soft).")
@options.force
@options.quiet
def command(
    fasta: Path,
    tracks: Path,
    output: Path,
    context_length: int,
    bin_size: int,
    target_length: int | None,
    crop_bp: int | None,
    stride: int | None,
    valid: tuple[str, ...],
    test: tuple[str, ...],
    split_bed: Path | None,
    exclude: tuple[str, ...],
    blacklist: Path | None,
    max_gap_fraction: float,
    soft_clip: float | None,
    force: bool,
    quiet: bool,
) -> None:
    """Turn a genome and measured tracks into a training dataset.

    The track table is tab-separated; its first line names the columns. Required: id, and files
    (separated by commas, relative to the table; replicates are summed). Optional: label, assay,
    cell_type, strand (+, -, .), strand_pair (id of the same signal on the other strand), format
    (bed, bedgraph, bigwig; else the suffix tells), scale, sum_stat (sum, mean, max, sum_sqrt),
    clip_soft, clip, transform, count_column (of a BED; default 5).

    Each bin: the files are summed per base, multiplied by scale, pooled by sum_stat, soft clipped,
    clipped. Bins with any unknown base or blacklisted base do not count in training.
    Held-out contigs share no bin with training.

    \b
    Example, a table of two tracks and the command:
      id    files                  strand  strand_pair
      wt+   wt_1.bed.gz,wt_2.bed.gz   +    wt-
      wt-   wt_1.bed.gz,wt_2.bed.gz   -    wt+
    \b
      gexpr prepare --fasta sacCer3.fa.gz --tracks tracks.tsv -o yeast.h5 \\
        --context-length 16384 --bin-size 16 --crop-bp 2048 --stride 4096 \\
        --valid chrVIII --test chrI,chrIX --soft-clip 64

    Exit codes: 0 written; 1 an input is at fault (nothing is written); 2 wrong usage.
    """
    from gexpr.datasets import PrepareOptions, prepare
    from gexpr.writers.output import refuse_existing, refuse_input

    logs.set_quiet(quiet)
    refuse_input(str(output), [str(fasta), str(tracks)])
    refuse_existing(output, force)
    settings = PrepareOptions(
        context_length=context_length,
        bin_size=bin_size,
        target_length=target_length,
        crop_bp=crop_bp,
        stride=stride,
        valid=valid,
        test=test,
        split_bed=split_bed,
        exclude=exclude,
        blacklist=blacklist,
        max_gap_fraction=max_gap_fraction,
        soft_clip=soft_clip,
    )
    with logs.progress("contigs", None, "done") as bar:
        summary = prepare(fasta, tracks, output, settings, progress=lambda contig: bar.advance(1, contig))
    for line in summary.lines():
        logs.info(line)
    for track in summary.tracks:
        if track.counts == 0:
            logs.warning(f"track {track.id} has no signal at all; check its files, strand and contig names")
