"""``gexpr plot``: pictures of predictions, mutagenesis and scores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import click

from gexpr import logs
from gexpr.cli import options
from gexpr.cli.defaults import is_default
from gexpr.results import Region


@click.group("plot")
def command() -> None:
    """Draw pictures: PNG, SVG or PDF by the suffix of --output.

    Colors can be told apart with any color vision; positions are in base pairs, 1-based. Equal
    contents give equal bytes. Needs: pip install 'gexpr[plot]'.
    """


class _Picture(NamedTuple):
    """Where a picture goes, and how large it is."""

    outputs: tuple[str, ...]
    width: float
    height: float | None
    dpi: int
    force: bool
    quiet: bool

    @property
    def size(self) -> dict[str, Any]:
        """What every function that draws takes."""
        return {"width": self.width, "height": self.height}

    def start(self, inputs: Sequence[str | None]) -> None:
        """Find out what can be found wrong before the work: the library, suffixes, outputs over inputs."""
        from gexpr.report import style
        from gexpr.writers.output import check_outputs

        logs.set_quiet(self.quiet)
        style.check_outputs(self.outputs)
        check_outputs(self.outputs, inputs)

    def save(self, figures: Sequence[Any]) -> None:
        """Write the pictures."""
        from gexpr.report.style import save

        for output in self.outputs:
            for path in save(figures, output, dpi=self.dpi, force=self.force):
                logs.info(f"written to {path}")


def _picture(function: options.Command) -> options.Command:
    """Options of every picture: from ``--output`` to ``--quiet``; collected in ``picture``."""

    @functools.wraps(function)
    def collect(**values: Any) -> Any:
        picture = _Picture(**{name: values.pop(name) for name in _Picture._fields})
        return function(picture=picture, **values)

    decorators: tuple[Callable[[Any], Any], ...] = (
        click.option(
            "--output",
            "-o",
            "outputs",
            required=True,
            multiple=True,
            metavar="FILE",
            help=".png, .svg or .pdf. Several pictures are the pages of one PDF, or NAME-1.png, NAME-2.png, "
            "...; repeatable.",
        ),
        click.option(
            "--width",
            type=click.FloatRange(min=1, max=100),
            default=7.2,
            show_default=True,
            metavar="INCHES",
            help="Width; 7.2 is two columns of most journals, 3.5 one.",
        ),
        click.option(
            "--height",
            type=click.FloatRange(min=1, max=100),
            metavar="INCHES",
            help="Height.  [default: by content]",
        ),
        click.option(
            "--dpi",
            type=click.IntRange(min=30, max=1200),
            default=200,
            show_default=True,
            help="Dots per inch.",
        ),
        options.force,
        options.quiet,
    )
    wrapped: Any = collect
    for decorator in reversed(decorators):
        wrapped = decorator(wrapped)
    result: options.Command = wrapped
    return result


def _genes(function: options.Command) -> options.Command:
    return click.option(
        "--genes",
        "-g",
        metavar="FILE",
        help="Gene models to draw below: GTF, GFF3, BED or a table of genes.",
    )(function)


def _max_tracks(order: str, default: int = 4) -> Callable[[options.Command], options.Command]:
    return click.option(
        "--max-tracks",
        type=click.IntRange(min=1, max=40),
        default=default,
        show_default=True,
        metavar="N",
        help=f"Draw at most N of the tracks: {order}.",
    )


def _regions(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[Region, ...]:
    regions: tuple[Region, ...] = options.parsed_regions(ctx, param, value)
    return regions


def _panels(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    from gexpr.report.scores import parse_panels

    panels: tuple[str, ...] = options.parsed(parse_panels)(ctx, param, value)
    return panels


class _Source(NamedTuple):
    """A genome, what its contigs are called elsewhere, and how to open the model."""

    genome: Any
    contigs: Any
    model: Any

    def predictor(self) -> Any:
        """The model, ready to predict."""
        from gexpr.runs.common import open_predictor

        return open_predictor(self.model)


def _source(
    checkpoint: str | tuple[str, ...],
    fasta: str,
    tracks: str | None,
    contig_aliases: str | None,
    prediction: dict[str, Any],
) -> _Source:
    from gexpr.genome.contigs import ContigMap, read_aliases
    from gexpr.genome.examples import resolve_fasta
    from gexpr.genome.fasta import Fasta
    from gexpr.runs.common import ModelOptions

    genome = Fasta(resolve_fasta(fasta))
    contigs = ContigMap(genome.names, read_aliases(contig_aliases) if contig_aliases else None)
    return _Source(genome, contigs, ModelOptions(checkpoint=checkpoint, tracks=tracks, **prediction))


def _gene_models(path: str | None, contigs: Sequence[str]) -> list[Any] | None:
    if path is None:
        return None
    from gexpr.runs.pictures import genes_of

    return genes_of(path, contigs)


@command.command("variant")
@click.argument("variants", nargs=-1, metavar="[CHR:POS:REF:ALT]...")
@options.checkpoints(required=False)
@click.option("--fasta", "-f", metavar="FILE", help="The genome, plain or bgzipped; 'example' is yeast chrI.")
@click.option("--vcf", metavar="FILE", help="Take the variants from a VCF: those of --id, or all.")
@click.option(
    "--id", "ids", multiple=True, metavar="ID", help="ID of a variant of --vcf or --profiles; repeatable."
)
@click.option(
    "--profiles",
    "scores",
    metavar="SCORES.h5",
    help="Draw the predictions in a file of score-variants --profiles; no model is needed.",
)
@click.option(
    "--flank",
    type=click.IntRange(min=1),
    metavar="BP",
    help="Draw the bins within BP of the variant.  [default: all that there are]",
)
@options.tracks
@_max_tracks("those that the variant changes most")
@_genes
@options.contig_aliases
@options.prediction
@_picture
def variant(
    variants: tuple[str, ...],
    checkpoint: str | tuple[str, ...] | None,
    fasta: str | None,
    vcf: str | None,
    ids: tuple[str, ...],
    scores: str | None,
    flank: int | None,
    tracks: str | None,
    max_tracks: int,
    genes: str | None,
    contig_aliases: str | None,
    picture: _Picture,
    **prediction: Any,
) -> None:
    """Draw the predicted tracks of both alleles over the window, and their difference.

    One picture for each allele: below each track the difference, at the bottom gene models with
    their transcription starts.

    \b
    One variant of the example, with the model:
      gexpr plot variant -c yeast-tss -f example --vcf example --id 'SSA1:c.-161A>C' -o ssa1.png
    By its place, within 500 bp, with genes:
      gexpr plot variant -c yeast-tss -f sacCer3.fa.gz chrI:141592:T:G --flank 500 -g genes.gtf -o ssa1.pdf
    From scores that were written with --profiles:
      gexpr plot variant --profiles scores.h5 --id 'SSA1:c.-161A>C' -o ssa1.svg
    """
    from gexpr.genome.examples import resolve_vcf
    from gexpr.runs import pictures

    if scores is not None:
        ctx = click.get_current_context()
        checkpoint = None if is_default(ctx, "checkpoint") else checkpoint
        fasta = None if is_default(ctx, "fasta") else fasta
    if scores is None and (checkpoint is None or fasta is None):
        raise click.UsageError("Give --checkpoint and --fasta, or --profiles.")
    if scores is not None and (checkpoint is not None or fasta is not None or vcf is not None):
        raise click.UsageError("--profiles takes the place of --checkpoint, --fasta and --vcf.")
    if not variants and not ids and vcf is None:
        raise click.UsageError("Give variants as CHR:POS:REF:ALT, or by --id.")
    if ids and vcf is None and scores is None:
        raise click.UsageError("--id needs --vcf or --profiles.")
    picture.start([scores, vcf, fasta, genes])
    records = [pictures.parse_allele(text) for text in variants]
    if scores is not None:
        profiles = pictures.stored_alleles(scores, ids, records, tracks)
    else:
        assert checkpoint is not None and fasta is not None
        if vcf is not None:
            records += pictures.find_records(resolve_vcf(vcf), ids)
        source = _source(checkpoint, fasta, tracks, contig_aliases, prediction)
        profiles = pictures.predict_alleles(source.predictor(), source.genome, source.contigs, records)
    from gexpr.report.tracks import draw_variant, strongest_columns

    profiles = [each.within(flank) for each in profiles]
    models = _gene_models(genes, [each.variant.chrom for each in profiles])
    figures = [
        draw_variant(each, models, columns=strongest_columns(each, max_tracks), **picture.size)
        for each in profiles
    ]
    if profiles and len(profiles[0].tracks) > max_tracks:
        logs.info(f"the {max_tracks} of {len(profiles[0].tracks):,} tracks that change most are drawn")
    picture.save(figures)


@command.command("region")
@options.checkpoint
@options.fasta
@click.option(
    "--region",
    "-r",
    "regions",
    multiple=True,
    required=True,
    metavar="CHR:START-END",
    callback=_regions,
    help="What to draw, 1-based, END included; repeatable.",
)
@click.option(
    "--measured",
    "-m",
    multiple=True,
    metavar="[TRACK=]FILE",
    help="What was measured of a track: bigWig, bedGraph, or BED with a count in column 5 (of the track's "
    "strand). Repeatable; several files of a track are added.",
)
@click.option(
    "--data",
    metavar="DATASET.h5",
    help="What was measured: the targets of a dataset of 'gexpr prepare', of the tracks with the same ids.",
)
@click.option("--share-y", is_flag=True, help="Draw measured and predicted on one scale; always with --data.")
@options.tracks
@_max_tracks("those with a measurement first")
@_genes
@options.contig_aliases
@options.prediction
@_picture
def region(
    checkpoint: str | tuple[str, ...],
    fasta: str,
    regions: tuple[Region, ...],
    measured: tuple[str, ...],
    data: str | None,
    share_y: bool,
    tracks: str | None,
    max_tracks: int,
    genes: str | None,
    contig_aliases: str | None,
    picture: _Picture,
    **prediction: Any,
) -> None:
    """Draw predicted tracks over regions, below what was measured there.

    One picture for each region. Measured signals are sums over the model's bins; r is Pearson's
    correlation over the bins that are drawn.

    \b
      gexpr plot region -c yeast-tss -f sacCer3.fa.gz -r chrI:71,000-73,000 -t WT_plus \\
        -m WT_plus=S288C_WT_1.bed.gz -g genes.bed.gz -o cdc19.png
    """
    from gexpr.datasets.prepared import PreparedDataset
    from gexpr.report.tracks import draw_region, measured_first, place_name
    from gexpr.runs import pictures

    if measured and data is not None:
        raise click.UsageError("Give --measured or --data, not both.")
    pairs = pictures.parse_measured(measured)
    picture.start([fasta, genes, data, *(path for _, path in pairs)])
    source = _source(checkpoint, fasta, tracks, contig_aliases, prediction)
    dataset = None if data is None else PreparedDataset(data, in_memory=False)
    if dataset is not None:
        regions = tuple(pictures.dataset_region(each, dataset) for each in regions)
    profiles = pictures.predict_region_profiles(source.predictor(), source.genome, source.contigs, regions)
    if dataset is not None:
        profiles = pictures.with_dataset(profiles, dataset)
    profiles = pictures.with_files(profiles, pairs, dict(source.genome.lengths))
    models = _gene_models(genes, [each.contig for each in profiles])
    figures = [
        draw_region(
            each,
            models,
            columns=measured_first(each, max_tracks),
            # The bins may reach past the region.
            title=place_name(each.contig, max(asked.start, each.start), min(asked.end, each.end)),
            share_y=share_y or dataset is not None,
            **picture.size,
        )
        for asked, each in zip(regions, profiles, strict=True)
    ]
    if profiles and len(profiles[0].tracks) > max_tracks:
        logs.info(f"{max_tracks} of {len(profiles[0].tracks):,} tracks are drawn; see --tracks, --max-tracks")
    picture.save(figures)


@command.command("ism")
@click.argument("numbers", metavar="ISM.h5")
@click.option(
    "--region",
    "-r",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    callback=_regions,
    help="Only the bases of the file's regions that lie here; 1-based, END included; repeatable.",
)
@click.option(
    "--stat", "statistic", metavar="NAME", help="Statistic to draw.  [default: the file's first one]"
)
@options.stored_tracks
@_max_tracks("those with the largest numbers", 1)
@click.option(
    "--per-row",
    type=click.IntRange(min=10, max=500),
    default=100,
    show_default=True,
    metavar="N",
    help="Bases in a row.",
)
@_picture
def ism(
    numbers: str,
    regions: tuple[Region, ...],
    statistic: str | None,
    tracks: str | None,
    max_tracks: int,
    per_row: int,
    picture: _Picture,
) -> None:
    """Draw mutagenesis: a logo of what every base gives, and a heat map of all changes.

    ISM.h5 is an output of ism, or of attribute, which has no heat map. One picture for each region and
    track. A letter is as high as minus the mean score of its three substitutions; in the heat map a
    dot is the reference's base.

    \b
      gexpr ism -c yeast-tss -f example -r chrI:141,560-141,620 -t D_minus -o ism.h5
      gexpr plot ism ism.h5 -o ism.png
    """
    from gexpr.report.ism import draw_bases, read_bases
    from gexpr.writers.regions import BasesFile

    picture.start([numbers])
    file = BasesFile(numbers)
    figures = [
        draw_bases(each, quantity=quantity, track=track, per_row=per_row, **picture.size)
        for each, quantity, track in read_bases(file, statistic, tracks, regions, max_tracks)
    ]
    picture.save(figures)


@command.command("scores")
@click.argument("scores", metavar="SCORES.h5")
@click.option(
    "--panels",
    default="distribution,positions,heatmap",
    show_default=True,
    metavar="LIST",
    callback=_panels,
    help="Which to draw, from above: the distribution of every track, the strongest scores along the "
    "chromosomes, the strongest variants in all tracks.",
)
@click.option(
    "--stat", "statistic", metavar="NAME", help="Statistic to draw.  [default: the file's first one]"
)
@click.option(
    "--top",
    "-n",
    type=click.IntRange(min=1, max=200),
    default=20,
    show_default=True,
    metavar="N",
    help="Variants of the heat map.",
)
@options.order
@options.stored_tracks
@options.regions
@click.option("--title", metavar="TEXT", help="Title.  [default: the file's name]")
@_picture
def scores(
    scores: str,
    panels: tuple[str, ...],
    statistic: str | None,
    top: int,
    by: str,
    tracks: str | None,
    regions: tuple[Region, ...],
    regions_file: str | None,
    title: str | None,
    picture: _Picture,
) -> None:
    """Draw a file of scores: distribution, strongest variants along chromosomes, heat map.

    SCORES.h5 is an output of score-variants or of export; it is read in pieces, whatever its size. Along
    the chromosomes every variant has the score of its strongest track; of 20,000 stretches the
    largest gain and the largest loss are drawn.

    \b
      gexpr plot scores scores.h5 -o scores.png
      gexpr plot scores scores.h5 --panels heatmap -t '*K562*' --top 40 -o top.pdf
    """
    import os

    from gexpr.genome.places import with_bed
    from gexpr.report.scores import draw_scores
    from gexpr.runs.pictures import summarize_scores

    picture.start([scores, regions_file])
    summary = summarize_scores(
        scores, statistic=statistic, tracks=tracks, regions=with_bed(regions, regions_file), top=top, by=by
    )
    title = title or os.path.basename(scores)
    picture.save([draw_scores(summary, title=title, panels=panels, **picture.size)])
