"""``gexpr attribute``: gradients of predictions over regions."""

from __future__ import annotations

from typing import Any

import click

from gexpr import logs
from gexpr.cli import options, region_options
from gexpr.scoring.definitions import Mask


@click.command("attribute")
@region_options.sources
@options.checkpoint
@options.fasta
@options.output(
    ("hdf5", "tsv", "bedgraph"),
    ".h5 (attributions of all letters), or with a line a base .tsv, .tsv.gz, .bedgraph or .bedgraph.gz",
    required=False,
    several=True,
)
@options.track_folders
@options.tracks
@click.option(
    "--method",
    type=click.Choice(("gradient", "integrated")),
    default="gradient",
    show_default=True,
    help="Gradient times input, or integrated gradients.",
)
@click.option(
    "--target",
    type=click.Choice(("log2sum", "sum")),
    default="log2sum",
    show_default=True,
    help="What is attributed: log2(1 + sum) of the scored bins, or the sum itself.",
)
@click.option(
    "--each-track",
    is_flag=True,
    help="Attributions of each track, at the cost of one gradient each, instead of the sum of all tracks.",
)
@options.region_mask
@click.option(
    "--correct/--no-correct",
    default=True,
    show_default=True,
    help="Subtract from gradients their mean over the four letters of a position.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="Points on the way of integrated gradients.",
)
@click.option(
    "--baseline",
    type=click.Choice(("zeros", "mean", "shuffled")),
    default="zeros",
    show_default=True,
    help="Where integrated gradients begin: the region unknown, of its mean composition, or shuffled.",
)
@click.option(
    "--shuffles",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="How many shuffled baselines are averaged.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shuffled baselines."
)
@options.gradient_prediction
@region_options.logo
@options.dtype
@options.contig_aliases
@options.run_control
@options.quiet
def command(
    bed: str | None,
    regions: tuple[Any, ...],
    length: int | None,
    checkpoint: str | tuple[str, ...],
    fasta: str,
    output: str | tuple[str, ...] | None,
    format: str | None,
    bigwig: str | None,
    bedgraph: str | None,
    tracks: str | None,
    method: str,
    target: str,
    each_track: bool,
    mask: Mask,
    correct: bool,
    steps: int,
    baseline: str,
    shuffles: int,
    seed: int,
    logo: str | None,
    logo_format: str,
    dtype: str,
    contig_aliases: str | None,
    dry_run: bool,
    quiet: bool,
    run: dict[str, Any],
    **prediction: Any,
) -> None:
    """Attribute predictions to the bases of the regions of BED ('-' reads stdin).

    A region lies in the middle of one window. HDF5 holds attributions of all four letters, regions
    x positions x letters x columns, 5' to 3' on the region's strand, and each base's contribution;
    the other formats hold the contributions.

    \b
    Gradient times input around a place of the example, with a logo:
      gexpr attribute -c yeast-tss -f example -r chrI:7,205-7,264 -o grad.h5 --logo logos
    Integrated gradients of one track, for a genome browser:
      gexpr attribute -c yeast-tss -f sacCer3.fa.gz -t 0 --method integrated --bigwig tracks \\
          regions.bed

    Finished blocks of regions are kept in OUTPUT.run (DIR.run without -o) until the output is
    complete: after an interruption the same command continues.

    Exit codes: 0 success; 1 the input or the environment is at fault (finished blocks are kept);
    2 wrong usage; 75 stopped by SIGINT, SIGTERM or SIGUSR1 after the current block, the same
    command continues; 130, 143, 138 stopped at once by a second signal.
    """
    from gexpr.runs.attribute import AttributeOptions, attribute, hdf5_output
    from gexpr.runs.common import ModelOptions
    from gexpr.runs.dry_run_regions import dry_run_attributions

    logs.set_quiet(quiet)
    chosen = AttributeOptions(
        model=ModelOptions(checkpoint=checkpoint, tracks=tracks, **prediction),
        regions=regions,
        length=length,
        mask=mask,
        method=method,
        target=target,
        each_track=each_track,
        correct=correct,
        steps=steps,
        baseline=baseline,
        shuffles=shuffles,
        seed=seed,
        bigwig=bigwig,
        bedgraph=bedgraph,
        contig_aliases=contig_aliases,
        format=format,
        dtype=dtype,
    )
    region_options.carry_out(
        *(attribute, dry_run_attributions, bed, fasta, output, chosen, run, dry_run),
        arrays=hdf5_output(output, format),
        logo=(logo, logo_format),
    )
