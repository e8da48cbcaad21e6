"""``gexpr ism``: every change of some regions to scores."""

from __future__ import annotations

from typing import Any

import click

from gexpr import logs
from gexpr.cli import options, region_options
from gexpr.scoring.definitions import ENGINES, Mask


@click.command("ism")
@region_options.sources
@options.checkpoint
@options.fasta
@options.output(
    ("hdf5", "tsv", "vcf", "parquet"),
    ".h5 (arrays by position and letter), or with a row an allele .vcf, .vcf.gz, .tsv, .tsv.gz or .parquet",
    required=False,
    several=True,
)
@options.tracks
@click.option(
    "--deletions",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="K",
    help="Also delete K bases from every position on; 0 deletes none.",
)
@click.option("--insertions", is_flag=True, help="Also insert each letter before every position.")
@options.region_scores
@options.prediction
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="incremental",
    show_default=True,
    help="Compute anew only what an allele changes, or everything; the scores are the same but for rounding.",
)
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
    tracks: str | None,
    deletions: int,
    insertions: bool,
    stats: tuple[str, ...],
    pseudocount: float,
    mask: Mask,
    average: str,
    aggregate: str | None,
    merge_strands: bool,
    engine: str,
    logo: str | None,
    logo_format: str,
    dtype: str,
    contig_aliases: str | None,
    dry_run: bool,
    quiet: bool,
    run: dict[str, Any],
    **prediction: Any,
) -> None:
    """Score every substitution in the regions of BED: saturation mutagenesis ('-' reads stdin).

    A region lies in the middle of one window, in which all of its changes are made; the scores are
    those of score-variants. HDF5 holds regions x positions x letters x tracks, 5' to 3' on the
    region's strand; the other formats hold a row for each allele.

    \b
    The 60 bases around a place of the example, with a logo:
      gexpr ism -c yeast-tss -f example -r chrI:7,205-7,264 -o ism.h5 --logo logos
    The middle 200 bp of each region, as arrays and as VCF; deletions of 10 bp too:
      gexpr ism -c yeast-tss -f sacCer3.fa.gz --length 200 --deletions 10 -o ism.h5 \\
          -o ism.vcf.gz regions.bed

    Finished blocks of positions are kept in OUTPUT.run until the outputs are complete: after an
    interruption the same command continues.

    Exit codes: 0 success; 1 the input or the environment is at fault (finished blocks are kept);
    2 wrong usage; 75 stopped by SIGINT, SIGTERM or SIGUSR1 after the current block, the same
    command continues; 130, 143, 138 stopped at once by a second signal.
    """
    from gexpr.interpretation.mutagenesis import Changes
    from gexpr.runs.common import ModelOptions
    from gexpr.runs.dry_run_regions import dry_run_ism
    from gexpr.runs.ism import IsmOptions, hdf5_output, ism

    logs.set_quiet(quiet)
    chosen = IsmOptions(
        model=ModelOptions(checkpoint=checkpoint, tracks=tracks, merge_strands=merge_strands, **prediction),
        regions=regions,
        length=length,
        statistics=stats,
        pseudocount=pseudocount,
        mask=mask,
        average=average,
        aggregate=aggregate,
        engine=engine,
        changes=Changes(deletions, insertions),
        contig_aliases=contig_aliases,
        format=format,
        dtype=dtype,
    )
    region_options.carry_out(
        *(ism, dry_run_ism, bed, fasta, output, chosen, run, dry_run),
        arrays=hdf5_output(output, format),
        logo=(logo, logo_format),
    )
