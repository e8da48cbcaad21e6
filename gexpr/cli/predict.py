"""``gexpr predict``: regions of a BED file to predictions."""

from __future__ import annotations

import click

from gexpr import logs
from gexpr.cli import options


@click.command("predict")
@click.argument("bed")
@options.checkpoint
@options.fasta
@options.output(("hdf5", "tsv", "npz"), ".h5, .tsv, .tsv.gz or .npz (one region)")
@options.tracks
@options.prediction
@options.dtype
@options.contig_aliases
@options.quiet
def command(
    bed: str,
    checkpoint: str,
    fasta: str,
    output: str,
    format: str | None,
    tracks: str | None,
    reverse_complement: bool,
    shifts: tuple[int, ...],
    unsquash: bool,
    batch_size: int | None,
    device: str,
    precision: str,
    threads: int | None,
    dtype: str,
    contig_aliases: str | None,
    quiet: bool,
) -> None:
    """Predict the tracks over the regions of BED, a file with 3 to 12 columns ('-' reads stdin).

    Each region lies in the middle of the model's context; longer ones are tiled. HDF5 holds a
    value for every bin; the bins of a '-' region run 5' to 3' on its strand. TSV holds the sum
    over the region's bins.

    \b
    Sums over the example's promoters, as a table on the terminal:
      gexpr predict -c yeast-tss -f example -o - example
    Profiles, for one track:
      gexpr predict -c yeast-tss -f sacCer3.fa.gz -t 0 -o profiles.h5 regions.bed

    Exit codes: 0 success; 1 the input or the environment is at fault, nothing was written;
    2 wrong usage; 130, 143 stopped by Ctrl-C or SIGTERM, nothing was written.
    """
    from gexpr.genome.examples import resolve_bed, resolve_fasta
    from gexpr.runs.common import ModelOptions
    from gexpr.runs.predict import PredictOptions, predict

    logs.set_quiet(quiet)
    predict(
        resolve_bed(bed),
        resolve_fasta(fasta),
        output,
        PredictOptions(
            model=ModelOptions(
                checkpoint=checkpoint,
                tracks=tracks,
                reverse_complement=reverse_complement,
                shifts=shifts,
                batch_size=batch_size,
                device=device,
                precision=precision,
                threads=threads,
                unsquash=unsquash,
            ),
            contig_aliases=contig_aliases,
            format=format,
            dtype=dtype,
        ),
    )
