"""Options that several commands share, each a decorator."""

from __future__ import annotations

import functools
import importlib
import platform
from collections.abc import Callable
from typing import Any, TypeVar

import click

import gexpr
from gexpr import logs
from gexpr.cli.defaults import in_use
from gexpr.errors import ConfigError
from gexpr.scoring.definitions import (
    AGGREGATES,
    AVERAGES,
    PRECISIONS,
    parse_mask,
    parse_max_offset,
    parse_shifts,
    parse_statistics,
)

Command = TypeVar("Command", bound=Callable[..., Any])
Parse = Callable[[Any], Any]


def parsed(parse: Parse) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A click callback from a parser that raises ConfigError: wrong usage, exit code 2."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            return parse(value)
        except ConfigError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=param) from error

    return callback


def checkpoint(function: Command) -> Command:
    """``--checkpoint``: a name, or a tuple of the names of an ensemble."""
    return checkpoints()(function)


def checkpoints(
    required: bool = True,
    help: str = "The model: a built-in name ('gexpr inspect' lists them) or a checkpoint folder.",
) -> Callable[[Command], Command]:
    """``--checkpoint``, given once or more often: a name, a tuple of several, or None.

    Args:
        required: whether it must be given.
        help: what a single one is.
    """
    return click.option(
        "--checkpoint",
        "-c",
        required=required,
        multiple=True,
        callback=_checkpoints,
        metavar="NAME|FOLDER",
        help=f"{help} Repeatable, or several with commas: an ensemble, whose predictions are averaged.",
    )


def _checkpoints(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> str | tuple[str, ...] | None:
    """A click callback: None, one checkpoint, or several."""
    from gexpr.checkpoints import split_names

    names: tuple[str, ...] = parsed(split_names)(ctx, param, value)
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            logs.warning(f"the checkpoint {name} is given {names.count(name)} times and counts as often")
    return names if len(names) > 1 else (names[0] if names else None)


def fasta(function: Command) -> Command:
    """``--fasta``."""
    return click.option(
        "--fasta",
        "-f",
        required=True,
        metavar="FILE",
        help="The genome, plain or bgzipped; 'example' is yeast chromosome I.",
    )(function)


def output(
    formats: tuple[str, ...],
    suffixes: str,
    required: bool = True,
    *,
    several: bool = False,
    stream: str = "'-' is TSV on stdout.",
) -> Callable[[Command], Command]:
    """``--output`` and ``--format``.

    Args:
        formats: names of formats.
        suffixes: in words.
        required: whether it must be given.
        several: whether it may be given more than once; more than one arrive as a tuple.
        stream: what ``-`` means.
    """

    def decorate(function: Command) -> Command:
        function = click.option(
            "--format",
            type=click.Choice(formats),
            callback=_one_format if several else None,
            help="Output format, when the suffix does not tell it"
            + ("; for one output only." if several else "."),
        )(function)
        more = " Repeatable: each in the format of its suffix." if several else ""
        return click.option(
            "--output",
            "-o",
            required=required,
            multiple=several,
            # Before --format, whose callback counts the outputs.
            is_eager=several,
            callback=_outputs if several else None,
            metavar="FILE",
            help=f"Where to write: {suffixes}; {stream}{more}",
        )(function)

    return decorate


def _outputs(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> str | tuple[str, ...] | None:
    """A click callback: None, one output, or several."""
    if value.count("-") > 1:
        raise click.BadParameter("only one output can be standard output ('-')", ctx=ctx, param=param)
    return value if len(value) > 1 else (value[0] if value else None)


def _one_format(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A click callback: ``--format`` is for one output."""
    if value is not None and isinstance(ctx.params.get("output"), tuple):
        raise click.BadParameter(
            "it is for one output, and there are several, whose suffixes tell their formats",
            ctx=ctx,
            param=param,
        )
    return value


def tracks(function: Command) -> Command:
    """``--tracks``."""
    return click.option(
        "--tracks",
        "-t",
        metavar="LIST",
        help="Tracks to use, separated by commas: ids, labels, patterns such as '*diamide*', indices or "
        "ranges such as 0-3, assay:DNASE, cell:K562, re:EXPR (regular expression), @FILE (one of these a "
        "line); '^' before any of these leaves out.  [default: all of the model's first head]",
    )(function)


def stored_tracks(function: Command) -> Command:
    """``--tracks`` of a file of scores."""
    return click.option(
        "--tracks",
        "-t",
        metavar="LIST",
        help="Tracks of the file, separated by commas, as in score-variants: ids, labels, patterns, indices, "
        "assay:NAME, cell:NAME, re:EXPR, @FILE; '^' leaves out.  [default: all]",
    )(function)


def regions(function: Command) -> Command:
    """``--region`` and ``--regions-file``."""
    function = click.option(
        "--regions-file", "-R", metavar="BED", help="Only rows whose REF overlaps a line of a BED file."
    )(function)
    return click.option(
        "--region",
        "-r",
        "regions",
        multiple=True,
        metavar="CHR:START-END",
        callback=parsed_regions,
        help="Only rows whose REF overlaps; 1-based, END included, as in bcftools; repeatable.",
    )(function)


def track_folders(function: Command) -> Command:
    """``--bigwig`` and ``--bedgraph``."""
    function = click.option(
        "--bedgraph",
        metavar="DIR",
        help="Write a bgzipped bedGraph file for each track into DIR, averaged as for --bigwig.",
    )(function)
    return click.option(
        "--bigwig",
        metavar="DIR",
        help="Write a bigWig file for each track into DIR; where regions overlap, the mean of their "
        "values. Needs gexpr[bigwig].",
    )(function)


def order(function: Command) -> Command:
    """``--by``."""
    return click.option(
        "--by",
        type=click.Choice(("abs", "up", "down")),
        default="abs",
        show_default=True,
        help="Strong is a large absolute score, a large gain or a large loss.",
    )(function)


def dtype(function: Command) -> Command:
    """``--dtype``."""
    return click.option(
        "--dtype",
        type=click.Choice(("float32", "float16")),
        default="float32",
        show_default=True,
        help="Number type of the output.",
    )(function)


def contig_aliases(function: Command) -> Command:
    """``--contig-aliases``."""
    return click.option(
        "--contig-aliases",
        metavar="FILE",
        help="Two tab-separated columns: a contig's name in the input and in the FASTA. 'chr' prefixes and "
        "names of the mitochondrion are matched without it.",
    )(function)


def scores(function: Command) -> Command:
    """What decides what a score is: from ``--stats`` to ``--max-offset``."""
    return _scores(function, ("--region-mask",))


def region_scores(function: Command) -> Command:
    """The same for the changes of a region, which lies in the middle of its window."""
    return _scores(function, ("--mask", "--max-offset"))


def region_mask(function: Command) -> Command:
    """``--mask`` around a region."""
    return click.option(
        "--mask",
        default="all",
        show_default=True,
        metavar="all|center:BP",
        callback=parsed(parse_mask),
        help="Score all output bins, or those within BP of the region: the same for all of its bases.",
    )(function)


def _scores(function: Command, without: tuple[str, ...]) -> Command:
    decorators: dict[str, Callable[[Any], Any]] = {
        "--stats": click.option(
            "--stats",
            default="logFC",
            show_default=True,
            metavar="LIST",
            callback=parsed(parse_statistics),
            help="Statistics, separated by commas: logFC, SAD, logSAD, sqrtSAD, SAX, D1, D2, logD2, JS, "
            "ACTIVE_SUM.",
        ),
        "--pseudocount": click.option(
            "--pseudocount",
            type=click.FloatRange(min=0),
            default=1.0,
            show_default=True,
            metavar="C",
            help="The c of logFC = log2(sum(alt) + c) - log2(sum(ref) + c).",
        ),
        "--mask": click.option(
            "--mask",
            default="all",
            show_default=True,
            metavar="all|center:BP",
            callback=parsed(parse_mask),
            help="Score all output bins, or those within BP of the variant.",
        ),
        "--region-mask": region_mask,
        "--average": click.option(
            "--average",
            type=click.Choice(AVERAGES),
            default="predictions",
            show_default=True,
            help="Average strands, shifts and checkpoints before the statistic (predictions) or after it "
            "(scores); or strands and shifts before it and checkpoints after it (checkpoint-scores).",
        ),
        "--aggregate": click.option(
            "--aggregate",
            type=click.Choice(tuple(AGGREGATES)),
            help="One column for each cell type (or assay) instead of each track: the mean of its tracks' "
            "scores.",
        ),
        "--merge-strands": click.option(
            "--merge-strands",
            is_flag=True,
            help="One column for each pair of stranded tracks: the predictions of both strands are added "
            "before the statistic.",
        ),
        "--max-offset": click.option(
            "--max-offset",
            "window_rule",
            default="0",
            show_default=True,
            metavar="0|bin|BP",
            callback=parsed(parse_max_offset),
            help="How far from the middle of its window a variant may lie: 0 centers each; bin and BP put "
            "windows on a fixed grid of the genome, so that neighboring variants share work.",
        ),
    }
    for name, decorator in reversed(decorators.items()):
        if name not in without:
            function = decorator(function)
    return function


def prediction(function: Command) -> Command:
    """How the model predicts: from ``--rc`` to ``--threads``."""
    return _prediction(function)


def construct_prediction(function: Command) -> Command:
    """How a model of constructs predicts: one strand unless ``--rc`` is given; no shifts, not compiled."""
    return _prediction(function, constructs=True)


def gradient_prediction(function: Command) -> Command:
    """How a model predicts whose gradients are taken: not compiled, and in batches that stay as they are."""
    return _prediction(function, without=("--compile", "--auto-batch"))


def _prediction(function: Command, constructs: bool = False, without: tuple[str, ...] = ()) -> Command:
    without = ("--shifts", "--compile") if constructs else without
    decorators = {
        "--rc": click.option(
            "--rc/--no-rc",
            "reverse_complement",
            default=not constructs,
            show_default=True,
            help="Average over both strands of the sequence.",
        ),
        "--shifts": click.option(
            "--shifts",
            default="0",
            show_default=True,
            metavar="LIST",
            callback=parsed(parse_shifts),
            help="Average over windows moved by these numbers of bp, such as -1,0,1.",
        ),
        "--unsquash": click.option(
            "--unsquash/--no-unsquash",
            default=True,
            show_default=True,
            help="Bring tracks whose target was squashed (tracks.tsv, column transform) back to counts.",
        ),
        "--batch-size": click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            metavar="N",
            help="Sequences predicted at once.  [default: by context length and device]",
        ),
        "--auto-batch": click.option(
            "--auto-batch",
            is_flag=True,
            help="Halve the batch when memory does not suffice, instead of stopping; the last digits of the "
            "scores may then differ, and the output says so.",
        ),
        "--device": click.option(
            "--device",
            default="auto",
            show_default=True,
            metavar="NAME",
            help="auto, cpu, cuda, cuda:N"
            + ("." if constructs else "; cuda:all or cuda:0,2 work at once, one process each."),
        ),
        "--precision": click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default="fp32",
            show_default=True,
            help="Numeric precision; below fp32 weak effects lose digits.",
        ),
        "--compile": click.option(
            "--compile/--no-compile",
            default=False,
            show_default=True,
            help="Let PyTorch compile the model's convolutions: seconds to minutes at the start of every "
            "process, for long runs; changes last digits; needs a C++ compiler, on CUDA also Triton.",
        ),
        "--threads": click.option(
            "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.  [default: one a core]"
        ),
    }
    for name, decorator in reversed(decorators.items()):
        if name not in without:
            function = decorator(function)
    return function


def quiet(function: Command) -> Command:
    """``--quiet``, which the command gets; ``--verbose`` and ``--log-json``, which act by themselves."""
    function = click.option(
        "--log-json",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, param, value: logs.set_json(value),
        help="Print messages and progress as JSON, one object a line.",
    )(function)
    function = click.option(
        "--verbose",
        "-v",
        is_flag=True,
        expose_value=False,
        callback=_verbose,
        help="Also tell which model, device and settings are used.",
    )(function)
    return click.option("--quiet", "-q", is_flag=True, help="Print warnings and errors only.")(function)


def _verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """A click callback: ``--verbose``, which begins with the program and the defaults in use."""
    logs.set_verbose(value)
    if value and not ctx.params.get("quiet"):
        logs.detail(f"gexpr {gexpr.__version__}, Python {platform.python_version()}, {platform.platform()}")
        for line in in_use(ctx):
            logs.detail(f"default: {line}")


def force(function: Command) -> Command:
    """``--force``."""
    return click.option("--force", is_flag=True, help="Replace an existing output.")(function)


def keep_run(function: Command) -> Command:
    """``--keep-run``."""
    return click.option(
        "--keep-run", is_flag=True, help="Keep the run directory after the output is written."
    )(function)


def top(function: Command) -> Command:
    """``--top``."""
    return click.option(
        "--top",
        type=click.IntRange(min=0),
        default=5,
        show_default=True,
        metavar="N",
        help="List the N strongest effects on stderr.",
    )(function)


def strict(function: Command) -> Command:
    """``--strict``."""
    return click.option(
        "--strict",
        is_flag=True,
        help="Exit with 3 when an allele was left unscored (the output is complete).",
    )(function)


def run_control(function: Command) -> Command:
    """How the run is carried out: from ``--run-dir`` to ``--dry-run``; collected in ``run``."""

    @functools.wraps(function)
    def collect(**values: Any) -> Any:
        names = (
            "run_dir",
            "shard",
            "block_rows",
            "restart",
            "keep_run",
            "force",
            "workers",
            "scheduler",
            "cluster",
            "cluster_options",
        )
        run = {name: values.pop(name) for name in names}
        outputs = [values["output"], *(values.get(name) for name in ("bigwig", "bedgraph"))]
        if run["shard"] is None and not any(outputs) and not values["dry_run"]:
            raise click.UsageError("Missing option '--output' / '-o' (only a --shard can do without).")
        if (values["output"] == "-" and not any(outputs[1:])) or values["dry_run"]:
            return function(run=run, **values)
        # The imports take seconds: a signal that comes meanwhile must not kill the process.
        from gexpr.runs.signals import Stopper

        with Stopper() as stopper:
            stopper.hint = "this process has computed nothing yet; the same command continues"
            # Libraries in C++ do not bear what a signal raises while they are imported: some abort, or hang.
            with stopper.finishing():
                importlib.import_module("gexpr.runs.score_variants")
                importlib.import_module("gexpr.runs.predict")
            stopper.check()
            return function(run=run, **values)

    decorators = (
        click.option(
            "--run-dir",
            metavar="DIR",
            help="Where finished blocks are kept until the output is complete.  [default: OUTPUT.run]",
        ),
        click.option(
            "--shard",
            metavar="I/N|auto",
            callback=parsed_shard,
            help="Compute share I of N (0 <= I < N) and leave the rest to others and to 'gexpr merge'; auto "
            "takes both from Slurm (array task, srun rank) or torchrun.",
        ),
        click.option(
            "--block-rows",
            type=click.IntRange(min=1),
            metavar="N",
            help="Rows that are finished and saved at a time.  [default: some seconds' work]",
        ),
        click.option("--restart", is_flag=True, help="Discard what an interrupted run has finished."),
        keep_run,
        force,
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            metavar="N",
            help="Worker processes on the CPU, or of the Dask cluster.",
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Let the workers of a Dask cluster compute: tcp://host:port.",
        ),
        click.option(
            "--cluster",
            type=click.Choice(("local", "slurm")),
            help="Start a Dask cluster with --workers workers, here or as Slurm jobs.",
        ),
        click.option(
            "--cluster-option",
            "cluster_options",
            multiple=True,
            metavar="KEY=VALUE",
            callback=parsed_cluster_options,
            help="Setting of the cluster's jobs, such as queue=gpu or walltime=04:00:00; repeatable.",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Show what there is to do, with estimates of time and disk, and stop; needs no --output.",
        ),
    )
    wrapped: Any = collect
    for decorator in reversed(decorators):
        wrapped = decorator(wrapped)
    result: Command = wrapped
    return result


def parsed_cluster_options(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> Any:
    """A click callback: settings of a Dask cluster by name."""
    if not value:
        return {}
    from gexpr.runs.dask_cluster import cluster_options

    return parsed(cluster_options)(ctx, param, value)


def parsed_regions(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> Any:
    """A click callback: the :class:`~gexpr.results.Region` of each text."""
    from gexpr.genome.places import parse_region

    return parsed(lambda texts: tuple(map(parse_region, texts)))(ctx, param, value)


def parsed_shard(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """A click callback: the :class:`~gexpr.runs.shards.Shard`, or None."""
    if value is None:
        return None
    from gexpr.runs.shards import parse_shard

    return parsed(parse_shard)(ctx, param, value)
