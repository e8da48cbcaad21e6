"""``gexpr predict``: regions of a BED file to predictions."""

from __future__ import annotations

from typing import Any

import click

from gexpr import logs
from gexpr.cli import options


@click.command("predict")
@click.argument("bed")
@options.checkpoint
@options.fasta
@options.output(("hdf5", "tsv", "npz"), ".h5, .tsv, .tsv.gz or .npz (one region)", required=False)
@options.tracks
@options.prediction
@options.dtype
@options.contig_aliases
@options.run_control
@options.quiet
def command(
    bed: str,
    checkpoint: str | tuple[str, ...],
    fasta: str,
    output: str | None,
    format: str | None,
    tracks: str | None,
    reverse_complement: bool,
    shifts: tuple[int, ...],
    unsquash: bool,
    batch_size: int | None,
    auto_batch: bool,
    device: str,
    precision: str,
    compile: bool,
    threads: int | None,
    dtype: str,
    contig_aliases: str | None,
    dry_run: bool,
    quiet: bool,
    run: dict[str, Any],
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

    Finished blocks of regions are kept in OUTPUT.run until the output is complete: after an
    interruption the same command continues.

    Exit codes: 0 success; 1 the input or the environment is at fault (finished blocks are kept);
    2 wrong usage; 75 stopped by SIGINT, SIGTERM or SIGUSR1 after the current block, the same
    command continues; 130, 143, 138 stopped at once by a second signal.
    """
    from gexpr.genome.examples import resolve_bed, resolve_fasta
    from gexpr.runs.common import ModelOptions
    from gexpr.runs.control import RunOptions
    from gexpr.runs.predict import PredictOptions, predict

    logs.set_quiet(quiet)
    predicted = PredictOptions(
        model=ModelOptions(
            checkpoint=checkpoint,
            tracks=tracks,
            reverse_complement=reverse_complement,
            shifts=shifts,
            batch_size=batch_size,
            device=device,
            precision=precision,
            compile=compile,
            threads=threads,
            unsquash=unsquash,
            auto_batch=auto_batch,
        ),
        contig_aliases=contig_aliases,
        format=format,
        dtype=dtype,
    )
    if dry_run:
        from gexpr.runs.dry_run import dry_run_predictions

        for line in dry_run_predictions(
            resolve_bed(bed), resolve_fasta(fasta), output, predicted, RunOptions(**run)
        ):
            click.echo(line)
        return
    predict(resolve_bed(bed), resolve_fasta(fasta), output, predicted, RunOptions(**run))
