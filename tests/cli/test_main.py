"""The command line as a whole: help, lazy loading, errors and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

import gexpr
from gexpr.cli.main import COMMANDS, main
from gexpr.errors import CheckpointError, InputError, Interrupted


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["-h"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    result = run_python(
        "import sys\n"
        "from gexpr.cli.main import main\n"
        "try:\n"
        f"    main({arguments!r}, prog_name='gexpr')\n"
        "finally:\n"
        "    heavy = {'torch', 'numpy', 'h5py', 'pysam', 'cyvcf2', 'rich'} & set(sys.modules)\n"
        "    print('heavy:', sorted(heavy))\n"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("heavy: []\n")


def test_import_gexpr_is_light() -> None:
    result = run_python(
        "import sys, gexpr; print({'torch', 'numpy', 'click'} & set(sys.modules), 'load' in dir(gexpr))"
    )
    assert result.stdout == "set() True\n"


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.output == f"gexpr {gexpr.__version__}\n"


def test_help_lists_every_command() -> None:
    output = CliRunner().invoke(main, ["--help"]).output
    for name, text in COMMANDS.items():
        assert name in output
        assert text.split()[0] in output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: main {name}")
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["score"])
    assert result.exit_code == 2
    assert "No such command 'score'" in result.output


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run ``gexpr inspect`` with a body that raises a given exception."""

    def run(error: BaseException, *options: str) -> Any:
        @click.command("inspect")
        def command() -> None:
            raise error

        monkeypatch.setattr("gexpr.cli.inspect.command", command)
        return CliRunner().invoke(main, [*options, "inspect"])

    yield run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("POS is 'x'", path="a.vcf", line=3), 1, "error: a.vcf, line 3: POS is 'x'\n"),
        (CheckpointError("truncated"), 1, "error: truncated\n"),
        (
            Interrupted("stopped; the same command continues"),
            75,
            "error: stopped; the same command continues\n",
        ),
        (PermissionError(13, "Permission denied", "out.h5"), 1, "error: out.h5: Permission denied\n"),
        (OSError("disk trouble"), 1, "error: disk trouble\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (MemoryError(), 1, "error: out of memory\n"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    failing: Any, error: BaseException, code: int, message: str
) -> None:
    result = failing(error)
    assert result.exit_code == code
    assert result.stderr == message
    assert result.stdout == ""


def test_a_bug_is_named_as_one(failing: Any) -> None:
    result = failing(ValueError("two\nlines"))
    assert result.exit_code == 70
    assert result.stderr == (
        "error: unexpected ValueError: two lines (this is a bug in gexpr; 'gexpr --debug ...' shows where)\n"
    )


def test_debug_shows_the_exception(failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    error = InputError("wrong")
    assert failing(error, "--debug").exception is error
    monkeypatch.setenv("GEXPR_DEBUG", "1")
    assert failing(error).exception is error


def test_wrong_usage_inside_a_command_stays_wrong_usage(failing: Any) -> None:
    result = failing(click.UsageError("both --a and --b"))
    assert result.exit_code == 2
    assert "both --a and --b" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX pipe")
def test_a_closed_pipe_is_silent() -> None:
    code = (
        "import click\n"
        "import gexpr.cli.inspect as module\n"
        "from gexpr.cli.main import main\n"
        "@click.command('inspect')\n"
        "def command():\n"
        "    for i in range(200_000):\n"
        "        click.echo('a line of output')\n"
        "module.command = command\n"
        "main(['inspect'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141
