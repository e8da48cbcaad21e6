"""``gexpr inspect``: what a checkpoint is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gexpr import logs
from gexpr.cli import options

if TYPE_CHECKING:
    from gexpr.checkpoints import CheckpointInfo


@click.command("inspect")
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--list", "list_names", is_flag=True, help="List the built-in checkpoints, one a line.")
@click.option("--verify", is_flag=True, help="Also read the weights: SHA-256 and that all are finite.")
@options.quiet
def command(checkpoints: tuple[str, ...], as_json: bool, list_names: bool, verify: bool, quiet: bool) -> None:
    """Show what each CHECKPOINT is: architecture, context, bins, tracks, parameters, training.

    CHECKPOINT is a built-in name or a folder. Without it, or with --list, the built-in
    checkpoints are listed. Several can be given, also separated by commas; --json then prints
    a list.
    """
    from gexpr.checkpoints import builtin_names, describe, load, split_names

    logs.set_quiet(quiet)
    names = split_names(checkpoints)
    if not names or list_names:
        known = builtin_names()
        click.echo(json.dumps(known) if as_json else "\n".join(known) or "no built-in checkpoints")
        return
    found = []
    for number, name in enumerate(names):
        info = describe(name)
        if verify:
            logs.detail(f"reading the weights of {name}: {info.size:,} bytes")
            load(name)
        if as_json:
            found.append(_as_dict(info))
        else:
            click.echo(("\n" if number else "") + _as_text(info))
    if as_json:
        click.echo(json.dumps(found if len(found) > 1 else found[0], indent=2, ensure_ascii=False))


def _as_dict(info: CheckpointInfo) -> dict[str, Any]:
    result = info._asdict()
    result["path"] = str(info.path)
    result["dtypes"] = list(info.dtypes)
    result["tracks"] = [track._asdict() for track in info.tracks]
    return result


def _as_text(info: CheckpointInfo) -> str:
    scored = info.target_length * info.bin_size
    rows = [
        ("name", info.name),
        ("folder", str(info.path)),
        ("architecture", info.architecture),
        ("context", f"{info.context_length:,} bp"),
        ("output", f"{info.target_length:,} bins of {info.bin_size} bp: the middle {scored:,} bp"),
        ("parameters", f"{info.parameters:,}"),
        ("weights", f"{info.size:,} bytes, {', '.join(info.dtypes)}, SHA-256 {info.weights_sha256}"),
        ("written by", f"gexpr {info.gexpr_version}"),
    ]
    if info.attended_share is not None:
        rows.insert(5, ("attention", f"block-sparse: {info.attended_share:.1%} of block pairs attended"))
    lines = [f"{name:<14}{value}" for name, value in rows]
    lines += ["", f"settings of {info.architecture}"]
    lines += [f"  {key:<26}{_short(value)}" for key, value in info.settings.items()]
    lines += ["", "training"]
    lines += _nested(info.training, 1) or ["  not recorded"]
    lines += ["", f"tracks ({len(info.tracks)})"]
    header = ("index", "id", "label", "assay", "cell_type", "strand", "pair", "scale", "transform")
    table = [header] + [
        (
            str(t.index),
            t.id,
            t.label,
            t.assay,
            t.cell_type,
            t.strand,
            str(t.strand_pair),
            f"{t.scale:g}",
            t.transform,
        )
        for t in info.tracks
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join(lines)


def _nested(values: dict[str, Any], depth: int) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            lines.append(f"{'  ' * depth}{key}")
            lines += _nested(value, depth + 1)
        else:
            lines.append(f"{'  ' * depth}{key:<{28 - 2 * depth}}{_short(value)}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
