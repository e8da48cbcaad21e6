"""Options that several commands share, each a decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from gexpr.errors import ConfigError
from gexpr.scoring.definitions import PRECISIONS, parse_shifts

Command = TypeVar("Command", bound=Callable[..., Any])
Parse = Callable[[str], Any]


def parsed(parse: Parse) -> Callable[[click.Context, click.Parameter, str], Any]:
    """A click callback from a parser that raises ConfigError: wrong usage, exit code 2."""

    def callback(ctx: click.Context, param: click.Parameter, value: str) -> Any:
        try:
            return parse(value)
        except ConfigError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=param) from error

    return callback


def checkpoint(function: Command) -> Command:
    """``--checkpoint``."""
    return click.option(
        "--checkpoint",
        "-c",
        required=True,
        metavar="NAME|FOLDER",
        help="The model: a built-in name ('gexpr inspect' lists them) or a checkpoint folder.",
    )(function)


def fasta(function: Command) -> Command:
    """``--fasta``."""
    return click.option(
        "--fasta",
        "-f",
        required=True,
        metavar="FILE",
        help="The genome, plain or bgzipped; 'example' is yeast chromosome I.",
    )(function)


def output(formats: tuple[str, ...], suffixes: str) -> Callable[[Command], Command]:
    """``--output`` and ``--format``."""

    def decorate(function: Command) -> Command:
        function = click.option(
            "--format", type=click.Choice(formats), help="Output format, when the suffix does not tell it."
        )(function)
        return click.option(
            "--output",
            "-o",
            required=True,
            metavar="FILE",
            help=f"Where to write: {suffixes}; '-' is TSV on stdout.",
        )(function)

    return decorate


def tracks(function: Command) -> Command:
    """``--tracks``."""
    return click.option(
        "--tracks",
        "-t",
        metavar="LIST",
        help="Tracks to use, separated by commas: ids, labels, patterns such as '*diamide*', indices or "
        "ranges such as 0-3.  [default: all of the model's first head]",
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


def prediction(function: Command) -> Command:
    """How the model predicts: from ``--rc`` to ``--threads``."""
    decorators = (
        click.option(
            "--rc/--no-rc",
            "reverse_complement",
            default=True,
            show_default=True,
            help="Average over both strands of the sequence.",
        ),
        click.option(
            "--shifts",
            default="0",
            show_default=True,
            metavar="LIST",
            callback=parsed(parse_shifts),
            help="Average over windows moved by these numbers of bp, such as -1,0,1.",
        ),
        click.option(
            "--unsquash/--no-unsquash",
            default=True,
            show_default=True,
            help="Bring tracks whose target was squashed (tracks.tsv, column transform) back to counts.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            metavar="N",
            help="Sequences predicted at once.  [default: by context length and device]",
        ),
        click.option(
            "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda or cuda:N."
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default="fp32",
            show_default=True,
            help="Numeric precision; below fp32 weak effects lose digits.",
        ),
        click.option(
            "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.  [default: one a core]"
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def quiet(function: Command) -> Command:
    """``--quiet``."""
    return click.option("--quiet", "-q", is_flag=True, help="Print warnings and errors only.")(function)
