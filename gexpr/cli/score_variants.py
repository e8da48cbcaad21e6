"""``gexpr score-variants``: a VCF to per-track scores."""

from __future__ import annotations

from typing import Any

import click

from gexpr import logs
from gexpr.cli import options
from gexpr.errors import ConfigError
from gexpr.genome.windows import WindowRule
from gexpr.scoring.definitions import (
    ENGINES,
    Mask,
    parse_profile,
)
from gexpr.scoring.gene_masks import GENE_MASKS, OVERLAPS, parse_gene_mask


@click.command("score-variants")
@click.argument("vcf")
@options.checkpoint
@options.fasta
@options.output(
    ("hdf5", "tsv", "vcf", "parquet"),
    ".h5, .tsv, .tsv.gz, .vcf, .vcf.gz (VCF with scores in INFO) or .parquet",
    required=False,
    several=True,
    stream="'-' is TSV on stdout, or with --format vcf VCF.",
)
@options.tracks
@options.scores
@click.option(
    "--genes",
    metavar="FILE",
    help="Score each allele on every gene near it instead: GTF, GFF3, BED or a table (docs/genes.md). "
    "Outputs are then .h5, .tsv, .tsv.gz or .parquet with a row for each allele and gene.",
)
@click.option(
    "--gene-mask",
    type=click.Choice(GENE_MASKS),
    default="exon",
    show_default=True,
    help="What of a gene is scored: its exons, its whole interval, or what is around its starts of "
    "transcription.",
)
@click.option(
    "--gene-window",
    metavar="BP|UP,DOWN",
    help="With --gene-mask tss: the bases around a start that count.  [default: 250]",
)
@click.option(
    "--gene-overlap",
    type=click.Choice(OVERLAPS),
    help="Bins that count: those whose middle lies in the mask, or any that touch it.  [default: any for "
    "tss, else majority]",
)
@click.option(
    "--profiles",
    "profile",
    metavar="center:N",
    callback=options.parsed(parse_profile),
    help="Also write the predictions of both alleles in the N bins around each variant (REF and ALT; HDF5).",
)
@click.option(
    "--background",
    metavar="FILE",
    help="Also rank every score among those of a background ('gexpr background'): signed quantiles from -1 "
    "to 1, and the tracks with the largest; 'auto' takes the one that comes with the checkpoint.",
)
@options.prediction
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="incremental",
    show_default=True,
    help="Compute anew only what an allele changes, or everything; the scores are the same but for rounding.",
)
@click.option(
    "--indel-shifts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Average insertions and deletions over N windows at offsets within a bin: less of what merely moves "
    "against the model's bins, in N times the time.",
)
@options.dtype
@click.option("--long", is_flag=True, help="TSV with one line for each allele, track and statistic.")
@click.option(
    "--max-allele-length",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    metavar="BP",
    help="Longer alleles get the status too_long.",
)
@click.option(
    "--phased",
    is_flag=True,
    help="One row for each allele, sample and haplotype: the allele's effect alone, on the haplotype that "
    "carries it (STAT_marginal), and that of all the haplotype's alleles in the window (STAT_joint).",
)
@click.option(
    "--samples",
    metavar="S1,S2,...",
    help="With --phased: the samples of VCF; not needed where it has one.",
)
@click.option(
    "--symbolic",
    is_flag=True,
    help="Score structural alleles too: <DEL>, <DUP> (in tandem) and <INV> by SVLEN or END, <INS> by its "
    "sequence in INFO.",
)
@click.option(
    "--max-ref-mismatch",
    type=click.FloatRange(0, 1),
    default=0.10,
    show_default=True,
    metavar="SHARE",
    help="Stop before scoring when more alleles than this disagree with the FASTA.",
)
@click.option(
    "--allow-unknown-contigs",
    is_flag=True,
    help="Score the rest even when more than this share of the alleles lie on contigs that FASTA lacks.",
)
@options.contig_aliases
@options.top
@options.strict
@options.run_control
@options.quiet
def command(
    vcf: str,
    checkpoint: str | tuple[str, ...],
    fasta: str,
    output: str | tuple[str, ...] | None,
    format: str | None,
    tracks: str | None,
    stats: tuple[str, ...],
    pseudocount: float,
    mask: Mask,
    genes: str | None,
    gene_mask: str,
    gene_window: str | None,
    gene_overlap: str | None,
    profile: int | None,
    background: str | None,
    reverse_complement: bool,
    shifts: tuple[int, ...],
    unsquash: bool,
    batch_size: int | None,
    auto_batch: bool,
    device: str,
    precision: str,
    compile: bool,
    threads: int | None,
    average: str,
    aggregate: str | None,
    merge_strands: bool,
    window_rule: WindowRule,
    engine: str,
    indel_shifts: int,
    dtype: str,
    long: bool,
    max_allele_length: int,
    phased: bool,
    samples: str | None,
    symbolic: bool,
    max_ref_mismatch: float,
    allow_unknown_contigs: bool,
    contig_aliases: str | None,
    top: int,
    strict: bool,
    dry_run: bool,
    quiet: bool,
    run: dict[str, Any],
) -> None:
    """Score the variants of VCF: what each allele changes in every track.

    Every ALT allele of every record gets one row, in input order, with a status; rows that
    cannot be scored hold NaN and say why. VCF is text, gzipped, bgzipped or BCF; '-' reads stdin.

    \b
    Log fold changes of the example variants, as a table on the terminal:
      gexpr score-variants -c yeast-tss -f example -o - example
    HDF5, with a second statistic, near the variant only:
      gexpr score-variants -c yeast-tss -f sacCer3.fa.gz -o scores.h5 \\
          --stats logFC,SAD --mask center:250 variants.vcf.gz
    A table and the VCF with the scores in INFO, in one pass:
      gexpr score-variants -c yeast-tss -f sacCer3.fa.gz -o scores.tsv.gz -o scored.vcf.gz \\
          variants.vcf.gz
    Two tracks, one line a number, from a pipe:
      bcftools view -r chrI all.bcf | gexpr score-variants -c yeast-tss -f sacCer3.fa.gz \\
          -t '*diamide*' --long -o scores.tsv.gz -
    One column a cell type, from the tracks of one assay without those of a list:
      gexpr score-variants -c NET -f hg38.fa -o scores.h5 -t 'assay:DNASE,^@poor.txt' \\
          --aggregate celltype variants.vcf.gz
    What alleles do to each gene's starts of transcription:
      gexpr score-variants -c yeast-tss -f sacCer3.fa.gz --genes genes.bed.gz --gene-mask tss \\
          --gene-window 300,50 -o genes.tsv.gz variants.vcf.gz
    What a sample's variants do together, and each on its own haplotype:
      gexpr score-variants -c yeast-tss -f sacCer3.fa.gz -o haplotypes.tsv --phased \\
          --samples W303 phased.vcf.gz

    \b
    A tenth of a large file, on each of ten machines that share a folder; then the output:
      gexpr score-variants -c yeast-tss -f sacCer3.fa.gz -o all.h5 --shard 3/10 all.vcf.gz
      gexpr merge all.h5.run -o all.h5

    Finished blocks are kept in OUTPUT.run (that of the first output) until all outputs are
    complete: after an interruption the same command continues.

    Exit codes: 0 success; 1 the input or the environment is at fault (finished blocks are kept);
    2 wrong usage; 3 with --strict, the output is complete but some alleles were not scored;
    75 stopped by SIGINT, SIGTERM or SIGUSR1 after the current block, the same command continues;
    130, 143, 138 stopped at once by a second signal.
    """
    from gexpr.genome.examples import resolve_fasta, resolve_vcf
    from gexpr.runs.common import ModelOptions
    from gexpr.runs.control import RunOptions
    from gexpr.runs.score_variants import ScoreOptions, score_variants

    logs.set_quiet(quiet)
    try:
        masked = parse_gene_mask(gene_mask, gene_window, gene_overlap)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    scored = ScoreOptions(
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
            merge_strands=merge_strands,
        ),
        statistics=stats,
        pseudocount=pseudocount,
        mask=mask,
        genes=genes,
        gene_mask=masked,
        profile=profile,
        background=background,
        average=average,
        aggregate=aggregate,
        window_rule=window_rule,
        engine=engine,
        indel_shifts=indel_shifts,
        max_allele_length=max_allele_length,
        phased=phased,
        samples=tuple(filter(None, (name.strip() for name in (samples or "").split(",")))),
        symbolic=symbolic,
        max_ref_mismatch=max_ref_mismatch,
        allow_unknown_contigs=allow_unknown_contigs,
        contig_aliases=contig_aliases,
        format=format,
        dtype=dtype,
        long=long,
        top=top,
        strict=strict,
    )
    if dry_run:
        from gexpr.runs.dry_run import dry_run_scores

        for line in dry_run_scores(resolve_vcf(vcf), resolve_fasta(fasta), output, scored, RunOptions(**run)):
            click.echo(line)
        return
    score_variants(resolve_vcf(vcf), resolve_fasta(fasta), output, scored, RunOptions(**run))
