"""The ``gexpr`` command: finds the subcommands lazily and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

import gexpr
from gexpr import logs
from gexpr.errors import GexprError, did_you_mean

#: Command name -> its line in ``gexpr --help``. The command lives in ``gexpr.cli.<name>`` as ``command``.
COMMANDS = {
    "score-variants": "Score the variants of a VCF: log fold changes per track.",
    "score-sequences": "Score sequences without a genome, singly or in pairs of reference and alternate.",
    "predict": "Predict the tracks over the regions of a BED file.",
    "ism": "Score every change of the bases of regions: saturation mutagenesis.",
    "attribute": "Attribute predictions to the bases of regions: gradients.",
    "merge": "Join the finished shards of a run into one output.",
    "top": "Show the strongest variants of a file of scores.",
    "export": "Write rows and columns of a file of scores as HDF5, TSV, VCF or Parquet.",
    "background": "Learn from many variants which scores are usual, to rank others.",
    "status": "Show what is done of a run, by whom, and how long it will take.",
    "convert": "Make a checkpoint of weights that another program trained.",
    "checkpoints": "List the built-in checkpoints: what they are, where they are, their cards.",
    "inspect": "Show what a checkpoint is: architecture, tracks, training.",
    "prepare": "Turn a genome and measured tracks into a training dataset.",
    "train": "Train a model from a configuration file; resumes where it stopped.",
    "evaluate": "Measure a checkpoint on held-out chromosomes.",
    "plot": "Draw predictions, measurements, scores and mutagenesis.",
    "report": "Tell all of a file of scores in one page of HTML, with pictures and sortable tables.",
    "completion": "Print a script that completes commands and options in a shell.",
}

# Matrix products that add in the same order for any number of threads, so that equal work gives equal
# bytes on nodes with other numbers of cores. MKL reads it when it is loaded: no command has done that yet.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are called, not when they are listed.

    Errors end in one line on stderr: :class:`GexprError` and failed file access with their own exit
    code, a closed pipe silently (141), Ctrl-C with 130, anything else with 70 and a hint at
    ``--debug``, which shows the traceback.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module("gexpr.cli." + cmd_name.replace("-", "_"))
        command: click.Command = module.command
        if ctx.resilient_parsing:  # a shell asks for completions
            from gexpr.cli.completion import complete_files

            complete_files(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was called; an unknown name ends with the nearest one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {name!r}{did_you_mean(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone, so that ``--help`` imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see the class for what becomes of errors."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The interpreter flushes stdout once more at exit; give it a place that accepts it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_BROKEN_PIPE)
        except KeyboardInterrupt:
            if _debug(ctx):
                raise
            _fail(ctx, "interrupted", EXIT_INTERRUPTED)
        except GexprError as error:
            if _debug(ctx):
                raise
            _fail(ctx, str(error), error.exit_code)
        except OSError as error:
            if _debug(ctx):
                raise
            place = "" if error.filename is None else f"{error.filename}: "
            _fail(ctx, f"{place}{error.strerror or error}", 1)
        except MemoryError:
            if _debug(ctx):
                raise
            _fail(ctx, "out of memory", 1)
        except Exception as error:
            if _debug(ctx):
                raise
            text = " ".join(str(error).split()) or "no message"
            _fail(
                ctx,
                f"unexpected {type(error).__name__}: {text} (this is a bug in gexpr; "
                "'gexpr --debug ...' shows where)",
                EXIT_BUG,
            )


def _debug(ctx: click.Context) -> bool:
    return bool(ctx.params.get("debug"))


def _fail(ctx: click.Context, message: str, code: int) -> NoReturn:
    logs.error(message)
    ctx.exit(code)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(gexpr.__version__, prog_name="gexpr", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar="GEXPR_DEBUG", help="Show the traceback of an error.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Score genetic variants with sparse-attention sequence-to-expression models.

    Exit codes: 0 success; 1 the input or the environment is at fault; 2 wrong usage; 3 complete, but
    --strict and some rows unscored; 75 stopped by a signal after finished work was saved, the same
    command continues; 130 interrupted; 143 terminated; 70 a bug.

    Options that are not given come from the environment (GEXPR_CHECKPOINT, GEXPR_FASTA,
    GEXPR_DEVICE, ...), then from ~/.config/gexpr/config.toml; see docs/settings.md.
    """
    logs.set_quiet(False)
    logs.set_verbose(False)
    logs.set_json(False)
    name = ctx.invoked_subcommand
    command = None if name is None else ctx.command.get_command(ctx, name)  # type: ignore[attr-defined]
    if name is None or command is None:
        return
    from gexpr.cli import defaults

    found = defaults.find_defaults(name, command, COMMANDS, os.environ)
    ctx.default_map = {name: defaults.default_map(found)}
    ctx.meta[defaults.META] = found
    if cache := defaults.cache_default():
        # In the environment, where worker processes find it too.
        os.environ.setdefault("GEXPR_CACHE", cache)


if __name__ == "__main__":
    main()
