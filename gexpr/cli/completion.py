"""``gexpr completion``: what a shell needs to complete commands, options and files."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_GEXPR_COMPLETE"
"""The variable by which the shell asks ``gexpr`` for completions."""


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete gexpr's commands, options and files.

    \b
    bash, in ~/.bashrc:
      eval "$(gexpr completion bash)"
    zsh, in ~/.zshrc behind compinit:
      eval "$(gexpr completion zsh)"
    fish, once:
      gexpr completion fish > ~/.config/fish/completions/gexpr.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(ctx.find_root().command, {}, "gexpr", VARIABLE)
    # Not made.source(): for bash it starts the machine's own bash to ask for its version.
    click.echo(made.source_template % made.source_vars())


def complete_files(command: click.Command) -> None:
    """Let plain text parameters of a command complete files, as click does for paths."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = click.Path()
