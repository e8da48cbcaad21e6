"""``gexpr checkpoints``: the models that come with the package."""

from __future__ import annotations

import json

import click

from gexpr import logs
from gexpr.cli import options


@click.command("checkpoints")
@click.argument("names", nargs=-1, metavar="[CHECKPOINT]...")
@click.option("--where", is_flag=True, help="Print the folders only, one a line.")
@click.option("--card", is_flag=True, help="Print the model cards: data, split, training, limits.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@options.quiet
def command(names: tuple[str, ...], where: bool, card: bool, as_json: bool, quiet: bool) -> None:
    """List the built-in checkpoints, or those given: what they are, where they are, their cards.

    CHECKPOINT is a built-in name or a folder. 'gexpr inspect' shows one in full.

    \b
    Examples:
      gexpr checkpoints
      gexpr checkpoints --card yeast-tss
      ls $(gexpr checkpoints --where yeast-tss)
    """
    from gexpr.checkpoints import builtin_names, describe, resolve

    logs.set_quiet(quiet)
    if where + card + as_json > 1:
        raise click.UsageError("--where, --card and --json exclude each other")
    wanted = names or tuple(builtin_names())
    if where:
        for name in wanted:
            click.echo(str(resolve(name)))
        return
    if card:
        for name in wanted:
            path = resolve(name) / "README.md"
            click.echo(path.read_text(encoding="utf-8").rstrip() if path.is_file() else f"{name} has no card")
        return
    infos = [describe(name) for name in wanted]
    if as_json:
        rows = [
            {
                "name": info.name,
                "folder": str(info.path),
                "architecture": info.architecture,
                "context_length": info.context_length,
                "bin_size": info.bin_size,
                "target_length": info.target_length,
                "tracks": len(info.tracks),
                "parameters": info.parameters,
                "bytes": info.size,
            }
            for info in infos
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = [("name", "architecture", "context", "bin", "tracks", "parameters", "folder")]
    table += [
        (
            info.name,
            info.architecture,
            f"{info.context_length:,} bp",
            f"{info.bin_size:,} bp",
            f"{len(info.tracks):,}",
            f"{info.parameters:,}",
            str(info.path),
        )
        for info in infos
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
