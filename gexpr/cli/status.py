"""``gexpr status``: what is done of a run."""

from __future__ import annotations

import json

import click

from gexpr import logs
from gexpr.cli import options


@click.command("status")
@click.argument("run_dir", metavar="RUN_DIR")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.quiet
def command(run_dir: str, as_json: bool, quiet: bool) -> None:
    """Show what is done of the run in RUN_DIR: blocks, by whom, how fast, how long it will take.

    RUN_DIR is OUT.run, or what --run-dir named. Nothing in it is changed.

    \b
      gexpr status scores.h5.run
      watch -n 60 gexpr status scores.h5.run

    A process that was killed shows as working, with an old last sign of life.
    """
    from gexpr.runs.status import run_status, status_lines

    logs.set_quiet(quiet)
    status = run_status(run_dir)
    if as_json:
        click.echo(json.dumps(status.to_dict()))
    else:
        for line in status_lines(status):
            click.echo(line)
