"""``gexpr predict``: regions of a genome, or sequences, to predictions."""

from __future__ import annotations

from typing import Any

import click

from gexpr import logs
from gexpr.cli import options
from gexpr.cli.defaults import is_default
from gexpr.results import Region


@click.command("predict")
@click.argument("bed", required=False)
@options.checkpoint
@click.option(
    "--fasta",
    "-f",
    metavar="FILE",
    help="The genome, plain or bgzipped; 'example' is yeast chromosome I. Not with --sequences.",
)
@click.option(
    "--region",
    "-r",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    callback=options.parsed_regions,
    help="Predict this region: 1-based, END included, commas allowed; CHR alone is the whole contig. "
    "Repeatable, and before those of BED.",
)
@click.option("--genome", is_flag=True, help="Predict whole contigs: all of the genome's.")
@click.option(
    "--contigs",
    metavar="LIST",
    help="With --genome: only these contigs, separated by commas.",
)
@click.option(
    "--sequences",
    metavar="FASTA",
    help="Predict every record of a FASTA file from end to end, in place of a genome ('-' reads stdin).",
)
@click.option(
    "--variants",
    metavar="VCF",
    help="Predict both alleles: of every variant in the window around it, or with BED or --region of those "
    "in the regions, in the regions' bins. Needs an output in HDF5.",
)
@options.output(
    ("hdf5", "tsv", "npz"), ".h5, .tsv, .tsv.gz or .npz (one region)", required=False, several=True
)
@options.track_folders
@options.tracks
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    metavar="BP",
    help="How far the predictions of neighboring windows overlap at least, where a region needs several; "
    "every bin is taken from the window in whose middle it lies better.  [default: enough that it comes "
    "from the middle three quarters of a context]",
)
@options.prediction
@options.dtype
@options.contig_aliases
@options.run_control
@options.quiet
def command(
    bed: str | None,
    checkpoint: str | tuple[str, ...],
    fasta: str | None,
    regions: tuple[Region, ...],
    genome: bool,
    contigs: str | None,
    sequences: str | None,
    variants: str | None,
    output: str | tuple[str, ...] | None,
    format: str | None,
    bigwig: str | None,
    bedgraph: str | None,
    tracks: str | None,
    overlap: int | None,
    dtype: str,
    contig_aliases: str | None,
    dry_run: bool,
    quiet: bool,
    run: dict[str, Any],
    **prediction: Any,
) -> None:
    """Predict the tracks over the regions of BED, a file with 3 to 12 columns ('-' reads stdin), of
    --region, over whole contigs (--genome) or over the records of a FASTA file (--sequences).

    A region lies in the middle of the model's context; a long one is tiled. HDF5 holds a value for
    every bin; the bins of a '-' region run 5' to 3' on its strand. TSV holds the sum over the region's
    bins. bigWig and bedGraph hold the tracks along the genome.

    \b
    Sums over the example's promoters, as a table on the terminal:
      gexpr predict -c yeast-tss -f example -o - example
    Profiles of one track, for programs and for a genome browser:
      gexpr predict -c yeast-tss -f sacCer3.fa.gz -t 0 -o profiles.h5 --bigwig tracks regions.bed
    One region; a whole genome:
      gexpr predict -c yeast-tss -f example -o region.npz --region chrI:30,000-40,000
      gexpr predict -c yeast-tss -f sacCer3.fa.gz --genome --contigs chrI,chrII --bigwig tracks
    Both alleles of variants, around each and over a promoter:
      gexpr predict -c yeast-tss -f example -t 0 -o alleles.h5 --variants example
      gexpr predict -c yeast-tss -f example -o ssa1.h5 --variants example -r chrI:141,400-141,800

    Finished blocks of regions are kept in OUTPUT.run (DIR.run without -o) until the output is complete:
    after an interruption the same command continues.

    Exit codes: 0 success; 1 the input or the environment is at fault (finished blocks are kept);
    2 wrong usage; 75 stopped by SIGINT, SIGTERM or SIGUSR1 after the current block, the same
    command continues; 130, 143, 138 stopped at once by a second signal.
    """
    from gexpr.genome.examples import resolve_bed, resolve_fasta
    from gexpr.runs.common import ModelOptions
    from gexpr.runs.control import RunOptions
    from gexpr.runs.predict import PredictOptions, predict

    logs.set_quiet(quiet)
    if sequences is not None and is_default(click.get_current_context(), "fasta"):
        fasta = None
    if sequences is not None and (bed or fasta or regions or genome):
        raise click.UsageError("--sequences takes no BED, --fasta, --region or --genome: it is all there is.")
    if sequences is None and fasta is None:
        raise click.UsageError("Missing option '--fasta' / '-f' (or --sequences).")
    if sequences is None and not (bed or regions or genome or variants):
        raise click.UsageError("Nothing to predict: give BED, --region, --genome, --sequences or --variants.")
    if variants is not None and (genome or sequences or bigwig or bedgraph):
        raise click.UsageError(
            "--variants predicts both alleles, to HDF5: leave out --genome, --sequences, --bigwig and "
            "--bedgraph."
        )
    if variants is not None and isinstance(output, tuple):
        raise click.UsageError("--variants writes one output, in HDF5.")
    if genome and (bed or regions):
        raise click.UsageError("--genome predicts whole contigs; leave out BED and --region.")
    if contigs is not None and not genome:
        raise click.UsageError("--contigs is for --genome; --region CHR is a whole contig, too.")
    wanted = tuple(name for name in (contigs or "").split(",") if name)
    if contigs is not None and not wanted:
        raise click.UsageError("--contigs names no contig.")
    bed = None if bed is None else resolve_bed(bed)
    place = resolve_fasta(str(sequences or fasta))
    predicted = PredictOptions(
        model=ModelOptions(checkpoint=checkpoint, tracks=tracks, **prediction),
        contig_aliases=contig_aliases,
        format=format,
        dtype=dtype,
        regions=regions,
        contigs=wanted if genome else None,
        sequences=sequences is not None,
        overlap=overlap,
        bigwig=bigwig,
        bedgraph=bedgraph,
    )
    if variants is not None:
        from gexpr.genome.examples import resolve_vcf

        vcf, control = resolve_vcf(variants), RunOptions(**run)
        if dry_run:
            from gexpr.runs.dry_run import dry_run_scores
            from gexpr.runs.predict_alleles import allele_options

            for line in dry_run_scores(vcf, place, output, allele_options(predicted, bed, place), control):
                click.echo(line)
            return
        from gexpr.runs.predict_alleles import predict_alleles

        assert output is None or isinstance(output, str)
        predict_alleles(vcf, place, output, predicted, control, bed)
        return
    if dry_run:
        from gexpr.runs.dry_run import dry_run_predictions

        for line in dry_run_predictions(bed, place, output, predicted, RunOptions(**run)):
            click.echo(line)
        return
    predict(bed, place, output, predicted, RunOptions(**run))
