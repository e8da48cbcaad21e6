"""Options of the commands that look at the single bases of regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from gexpr.cli import options
from gexpr.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])


def sources(function: Command) -> Command:
    """``BED``, ``--region`` and ``--length``."""
    function = click.option(
        "--length",
        type=click.IntRange(min=1),
        metavar="BP",
        help="Take so many bases in the middle of each region.  [default: all of it]",
    )(function)
    function = click.option(
        "--region",
        "-r",
        "regions",
        multiple=True,
        metavar="CHR:START-END",
        callback=options.parsed_regions,
        help="A region in place of BED; 1-based, END included; repeatable.",
    )(function)
    return click.argument("bed", required=False)(function)


def logo(function: Command) -> Command:
    """``--logo`` and ``--logo-format``."""
    function = click.option(
        "--logo-format",
        type=click.Choice(("png", "svg", "pdf")),
        default="png",
        show_default=True,
        help="Format of the logos.",
    )(function)
    return click.option(
        "--logo",
        metavar="DIR",
        help="Also draw a sequence logo of every region into this folder, from the HDF5 output.",
    )(function)


def carry_out(
    run_it: Callable[..., Any],
    dry_run_it: Callable[..., list[str]],
    bed: str | None,
    fasta: str,
    output: str | tuple[str, ...] | None,
    chosen: Any,
    run: dict[str, Any],
    dry_run: bool,
    *,
    arrays: str | None,
    logo: tuple[str | None, str],
) -> None:
    """Do what a command on the bases of regions was asked to, or tell what it would do.

    Args:
        run_it, dry_run_it: the library's functions, of BED, FASTA, outputs, options and those of the run.
        bed, fasta, output: as given.
        chosen: the command's options.
        run: what :func:`gexpr.cli.options.run_control` has collected.
        dry_run: whether to tell only.
        arrays: the output in HDF5, or None.
        logo: a folder for logos, or None, and their format.
    """
    from gexpr.genome.examples import resolve_bed, resolve_fasta
    from gexpr.runs.control import RunOptions

    how = RunOptions(**run)
    given = None if bed is None else resolve_bed(bed), resolve_fasta(fasta), output, chosen, how
    if dry_run:
        for line in dry_run_it(*given):
            click.echo(line)
        return
    check_logo(logo[0], arrays, how.shard)
    run_it(*given)
    draw(logo[0], arrays, logo[1], how.force)


def check_logo(folder: str | None, output: str | None, shard: object) -> None:
    """Refuse logos where there will be nothing to draw them from.

    Args:
        folder: where they are to go, or None.
        output: the HDF5 output, or None.
        shard: the share of the run that is computed, or None.

    Raises:
        ConfigError: there is no HDF5 output, or it is left to the merge.
        MissingDependencyError: matplotlib is not installed.
    """
    if folder is None:
        return
    if shard is not None:
        raise ConfigError("--logo draws from the whole output, and a --shard makes none; leave one out")
    if output is None:
        raise ConfigError("--logo draws from the HDF5 output, and there is none: add -o FILE.h5")
    from gexpr.report.logos import check_drawable

    check_drawable()


def draw(folder: str | None, output: str | None, format: str, force: bool) -> None:
    """Draw the logos that were asked for."""
    if folder is None or output is None:
        return
    from gexpr import logs
    from gexpr.report.logos import draw_logos

    paths = draw_logos(output, folder, f".{format}", force=force)
    logs.info(f"{len(paths):,} logo{'s' * (len(paths) != 1)} in {folder}")
