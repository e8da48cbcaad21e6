"""The job behind ``gexpr predict --variants``: both alleles' predictions around every variant of a VCF.

It is a run of ``score-variants`` whose profiles are as wide as the model's output.
"""

from __future__ import annotations

from gexpr import checkpoints
from gexpr.errors import ConfigError
from gexpr.runs.control import RunOptions
from gexpr.runs.predict import PredictOptions
from gexpr.runs.score_variants import ScoreOptions, ScoreSummary, score_variants

STATISTICS = ("SAD",)
"""What is computed beside the predictions."""


def allele_options(options: PredictOptions) -> ScoreOptions:
    """What a run of ``score-variants`` needs to write the predictions of both alleles in all bins.

    Raises:
        ConfigError: options that are for regions.
    """
    if options.whole or options.regions:
        raise ConfigError(
            "--variants predicts the windows around its alleles; leave out BED, --region, --genome and "
            "--sequences"
        )
    if options.folders or options.overlap is not None:
        raise ConfigError("--bigwig, --bedgraph and --overlap are for regions; --variants writes HDF5")
    return ScoreOptions(
        options.model,
        options.contig_aliases,
        statistics=STATISTICS,
        profile=checkpoints.describe(options.model.checkpoints[0]).target_length,
        format=options.format,
        dtype=options.dtype,
        top=0,
    )


def predict_alleles(
    vcf: str,
    fasta: str,
    output: str | None,
    options: PredictOptions,
    run: RunOptions | None = None,
) -> ScoreSummary | None:
    """Predict the tracks of both alleles over the window of every allele of a VCF.

    The window is that of ``score-variants``: the first base of the normalized REF allele lies in its middle.
    All bins that the model predicts are written, those of the alternate on the reference's bins.

    Args:
        vcf: VCF or BCF; ``-`` is standard input.
        fasta: the genome.
        output: HDF5; None with a shard leaves it to the merge.
        options: what is predicted and how.
        run: how the run is carried out.

    Returns:
        Counts and time, also printed to stderr; None for a shard.

    Raises:
        GexprError: bad input, options or environment.
        Interrupted: a signal came; the same call continues.
    """
    return score_variants(vcf, fasta, output, allele_options(options), run)
