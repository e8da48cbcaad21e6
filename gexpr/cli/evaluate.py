"""``gexpr evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gexpr import logs
from gexpr.cli import options
from gexpr.errors import ConfigError

if TYPE_CHECKING:
    from gexpr.models.base import SequenceModel

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("evaluate")
@options.checkpoints(
    required=False, help="The model; without it only the ridge and the replicates are evaluated."
)
@click.option(
    "--data",
    "-d",
    required=True,
    metavar="FILE|FOLDER",
    type=click.Path(exists=True, path_type=Path),
    help="Dataset made by gexpr prepare; a folder of TFRecords with statistics.json, as Basenji and Borzoi "
    "were trained on; or a table of sequences with values (.tsv, .csv, .parquet).",
)
@click.option(
    "--split",
    default="test",
    show_default=True,
    metavar="NAME",
    help="Bins or rows to judge: train, valid or test; of a folder also a fold it is divided into; of a "
    "table also all.",
)
@click.option("--genes", "-g", type=_FILE, help="Coding regions, BED6 with strand, for the metrics per gene.")
@click.option(
    "--promoter-window",
    default="300,50",
    show_default=True,
    metavar="UP,DOWN",
    help="Bases upstream and downstream of the start codon's first base, summed per gene.",
)
@click.option(
    "--pool-width",
    type=click.IntRange(min=0),
    default=128,
    show_default=True,
    metavar="BP",
    help="Also judge bins pooled to this width; 0 for none.",
)
@click.option(
    "--replicates",
    metavar="A.h5,B.h5",
    help="Two datasets with one replicate each, prepared alike: their agreement is the ceiling.",
)
@click.option(
    "--ridge/--no-ridge",
    default=True,
    show_default=True,
    help="Train a ridge on 6-mers around the start codons and print it beside the model (needs --genes).",
)
@click.option(
    "--subsets",
    type=_FILE,
    help="Of a table: JSON with lists of row numbers to judge by themselves, and lists of [alt row, ref row] "
    "whose difference is judged.",
)
@click.option(
    "--table",
    "table_settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="How to read a table, where it differs from how the checkpoint's was: sequence_column, "
    "value_columns, split_column, split_file, length, pad, crop, prefix, suffix, missing; repeatable.",
)
@click.option(
    "--rc/--no-rc",
    "reverse_complement",
    default=None,
    help="Average over both strands of the sequence.  [default: rc; of a table as in training]",
)
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Windows predicted at once.")
@click.option(
    "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda or cuda:N."
)
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.  [default: one a core]"
)
@click.option(
    "--pictures",
    type=click.Choice(("png", "svg", "pdf", "none")),
    default="png",
    show_default=True,
    help="Format of the scatter pictures.",
)
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for metrics.tsv, groups.tsv, genes.tsv and pictures.",
)
@options.force
@options.quiet
def command(
    checkpoint: str | tuple[str, ...] | None,
    data: Path,
    split: str,
    genes: Path | None,
    promoter_window: str,
    pool_width: int,
    replicates: str | None,
    ridge: bool,
    subsets: Path | None,
    table_settings: tuple[str, ...],
    reverse_complement: bool | None,
    batch_size: int | None,
    device: str,
    threads: int | None,
    pictures: str,
    output: Path,
    force: bool,
    quiet: bool,
) -> None:
    """Measure a checkpoint on the held-out contigs, or windows, of a dataset.

    Every bin of the split's contigs is predicted from the middle of a window. Pearson's r and R²
    over bins, raw and as log(1 + x), and over genes of log(1 + sum in the promoter window), for each
    condition and for the difference between every two. A 6-mer ridge trained on the same genes, and
    the agreement of replicates, show where floor and ceiling lie. The table on standard
    output has Pearson's r; docs/evaluation.md defines everything.

    Of a folder of TFRecords the windows themselves are predicted, and its bins judged by track and by
    assay. The checkpoint must have the folder's bins and its window, or a shorter one, which then is cut
    out of the middle.

    Of a table every row of the split is predicted: Pearson's r, its square, Spearman's and R² over all
    rows, over subsets, and of differences between pairs of rows. Columns, padding and constant parts are
    those of the checkpoint's training.

    \b
    Examples:
      gexpr evaluate -c yeast-tss -d yeast.h5 -g genes.bed.gz -o evaluation
      gexpr evaluate -c runs/yeast/checkpoint -d yeast.h5 -g genes.bed.gz \\
          --replicates rep1.h5,rep2.h5 --pictures svg -o evaluation
      gexpr evaluate -d yeast.h5 -g genes.bed.gz -o floor          # the ridge alone
      gexpr evaluate -c borzoi -d hg38/ --split valid -o evaluation
      gexpr evaluate -c runs/promoters/checkpoint -d promoters.tsv.gz --subsets subsets.json -o evaluation

    Exit codes: 0 success; 1 an input or setting is at fault; 2 wrong usage.
    """
    from gexpr import checkpoints, evaluation
    from gexpr.datasets import BasenjiDataset, MiddleWindows, PreparedDataset, WindowedDataset, table_kind
    from gexpr.datasets.prepared import SPLITS
    from gexpr.scoring.devices import resolve_device, set_threads
    from gexpr.writers.output import refuse_existing

    logs.set_quiet(quiet)
    for name in ("metrics.tsv", "groups.tsv", "genes.tsv", "rows.tsv"):
        refuse_existing(output / name, force)
    window = evaluation.PromoterWindow.parse(promoter_window)
    pair = _pair(replicates)
    is_folder = data.is_dir()
    is_table = not is_folder and table_kind(data) is not None
    if (is_folder or is_table) and (genes is not None or pair is not None):
        unfit = "--replicates" if genes is None else "--genes"
        kind = "folder" if is_folder else "table"
        raise click.UsageError(f"{unfit} needs a dataset made by gexpr prepare; {data} is a {kind}")
    if not is_table and (subsets is not None or table_settings):
        unfit = "--table" if subsets is None else "--subsets"
        raise click.UsageError(f"{unfit} needs a table of sequences (.tsv, .csv, .parquet), not {data}")
    if is_folder or is_table:
        _refuse_given("--promoter-window", "--ridge", *(("--pool-width", "--pictures") if is_table else ()))
    if not is_folder and not is_table and split not in SPLITS:
        raise click.BadParameter(f"{split!r} is not one of: {', '.join(SPLITS)}", param_hint="'--split'")
    with_ridge = ridge and genes is not None
    if checkpoint is None and pair is None and not with_ridge:
        fit = "" if is_folder or is_table else ", --replicates or --genes"
        raise click.UsageError(f"nothing to evaluate: give --checkpoint{fit}")
    if ridge and genes is None and not is_folder and not is_table:
        logs.info("no --genes: neither metrics per gene nor the 6-mer ridge")

    def load() -> SequenceModel | list[SequenceModel]:
        assert checkpoint is not None
        set_threads(threads)
        if isinstance(checkpoint, str):
            return checkpoints.load(checkpoint, resolve_device(device))
        return checkpoints.load_all(checkpoint, resolve_device(device), same_scale=True)

    if is_table:
        assert checkpoint is not None
        names = (checkpoint,) if isinstance(checkpoint, str) else checkpoint
        infos = [checkpoints.describe(name) for name in names]
        given = _settings(table_settings)
        evaluation.check_members([(info.name, info.training) for info in infos], given)
        table = evaluation.open_table(data, infos[0].context_length, infos[0].training, given, split)
        if reverse_complement is None:
            augmentations = [evaluation.recorded(info.training, "augmentation") for info in infos]
            strands = {bool(each.get("reverse_complement")) for each in augmentations}
            if len(strands) > 1:
                raise ConfigError(
                    "some of the checkpoints were trained on both strands and some were not; give --rc or "
                    "--no-rc"
                )
            (reverse_complement,) = strands
        set_threads(threads)
        rows = evaluation.evaluate_table(
            table,
            checkpoints.load_all(names, resolve_device(device)),
            split,
            subsets=[] if subsets is None else evaluation.read_subsets(subsets),
            reverse_complement=reverse_complement,
            batch_size=batch_size,
        )
        output.mkdir(parents=True, exist_ok=True)
        evaluation.write_metrics(output / "metrics.tsv", [rows])
        evaluation.write_rows(output / "rows.tsv", rows)
        for note in rows.notes:
            logs.info(note)
        click.echo(f"{split} split, rows of {data.name}")
        for line in evaluation.row_lines(rows):
            click.echo(line)
        return
    if reverse_complement is None:
        reverse_complement = True
    settings = evaluation.Settings(split, None, window, pool_width or None)
    predicting: dict[str, Any] = {"reverse_complement": reverse_complement, "batch_size": batch_size}
    results = []
    if is_folder:
        stored = BasenjiDataset(data)
        models = load()
        model = models[0] if isinstance(models, list) else models
        windows: WindowedDataset = stored
        if model.context_length < stored.context_length and model.bin_size == stored.bin_size:
            windows = MiddleWindows(stored, model.context_length)
        results.append(evaluation.evaluate_windows(windows, models, settings, **predicting))
    else:
        dataset = PreparedDataset(data)
        if genes is not None:
            judged, unknown = evaluation.read_genes(genes, dataset.contigs)
            if unknown:
                logs.warning(
                    f"{sum(unknown.values()):,} genes of {genes} lie on contigs that the dataset lacks: "
                    + ", ".join(list(unknown)[:5])
                )
            settings = settings._replace(genes=judged)
        if checkpoint is not None:
            results.append(evaluation.evaluate_model(dataset, load(), settings, **predicting))
        if with_ridge:
            results.append(evaluation.evaluate_ridge(dataset, settings))
        if pair is not None:
            first, second = (PreparedDataset(path) for path in pair)
            results.append(evaluation.measured_vs_measured(first, second, settings))

    output.mkdir(parents=True, exist_ok=True)
    evaluation.write_metrics(output / "metrics.tsv", results)
    evaluation.write_groups(output / "groups.tsv", results)
    if genes is not None:
        evaluation.write_genes(output / "genes.tsv", results)
    if pictures != "none":
        from gexpr.report.scatter import draw_all

        for result in results:
            draw_all(result, output, "." + pictures)
    for note in (note for result in results for note in result.notes):
        logs.info(note)
    click.echo(f"Pearson's r, {split} split")
    for line in (*evaluation.summary_lines(results), *evaluation.group_lines(results)):
        click.echo(line)


def _refuse_given(*options: str) -> None:
    """Refuse options of other kinds of data, where they ask for something."""
    context = click.get_current_context()
    for option in options:
        name = option.removeprefix("--").replace("-", "_")
        source = context.get_parameter_source(name)
        if source is ParameterSource.COMMANDLINE and context.params[name] not in (False, 0, "none"):
            raise click.UsageError(f"{option} does not belong to this kind of data: {context.params['data']}")


def _settings(texts: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--table {text!r} is not of the form KEY=VALUE")
        settings[name.strip()] = value
    return settings


def _pair(replicates: str | None) -> tuple[Path, Path] | None:
    if replicates is None:
        return None
    paths = [Path(path) for path in replicates.split(",")]
    if len(paths) != 2:
        raise ConfigError(f"--replicates takes two datasets separated by a comma, not {replicates!r}")
    return paths[0], paths[1]
