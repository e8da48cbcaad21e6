"""The shell blocks of the pages: every call of gexpr parses, and what can run on small files runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from docs_shell import (
    ROOT,
    Block,
    Call,
    calls,
    check_call,
    check_synopsis,
    help_examples,
    inline_calls,
    only_calls,
    shell_blocks,
    write_stand_ins,
)

from gexpr import logs
from gexpr.cli.main import main

SOURCES = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *ROOT.glob("examples/*/README.md")]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in SOURCES if path.exists())


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def runnable(page: str) -> list[Block]:
    """The blocks that are run: those that are neither marked, nor a synopsis."""
    # README's are run by .ci/run; those of examples/*/README.md are for data and machines of the reader.
    if not page.startswith("docs/"):
        return []
    return [block for block in shell_blocks(read(page)) if not block.skip and not block.synopsis]


def pages_to_run(need_shell: bool) -> list[str]:
    """The pages with blocks to run: those of calls alone, or the others."""
    found = []
    for page in PAGES:
        texts = [block.text for block in runnable(page)]
        if texts and need_shell != all(map(only_calls, texts)):
            found.append(page)
    return found


@pytest.fixture(autouse=True)
def messages() -> Iterator[None]:
    """What parsing --verbose and --log-json has set is taken back."""
    yield
    logs.set_verbose(False)
    logs.set_json(False)


@pytest.mark.parametrize("page", PAGES)
def test_calls_in_the_pages_parse(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = read(page)
    blocks = shell_blocks(text)
    found = [call for block in blocks if not block.synopsis for call in calls(block.text)]
    found += inline_calls(text)
    if page == "docs/commands.md":
        found += calls(help_examples(text))
    faults = []
    for call in found:
        try:
            check_call(call)
        except click.ClickException as error:
            if error.format_message().endswith("does not exist."):
                continue  # a file of the reader's
            faults.append(f"gexpr {shlex.join(call.words)}: {error.format_message()}")
    for block in blocks:
        if block.synopsis:
            check_synopsis(block.text)
    assert not faults, "\n".join(faults)


def test_the_parser_of_the_pages() -> None:
    found = list(
        calls(
            "for i in 0 1; do A=1 gexpr top -n $i \\\n  x.h5 > y; done  # gexpr nothing\n"
            "bcftools view | .venv/bin/gexpr score-variants ... -o - - | head\n"
            'eval "$(gexpr completion zsh)"\n'
            "docker build -t gexpr .\ngexpr predict -r 'chrI:1-2;3'"
        )
    )
    assert found == [
        Call(("top", "-n", "0", "x.h5"), False),
        Call(("score-variants", "-o", "-", "-"), True),
        Call(("completion", "zsh"), False),
        Call(("predict", "-r", "chrI:1-2;3"), False),
    ]
    for words in (("top", "--n", "3", "x.h5"), ("tops",), ("plot", "scorer"), ("predict", "--dtype", "int8")):
        with pytest.raises(click.UsageError):
            check_call(Call(words, False))
    check_call(Call(("predict", "--dtype"), True))
    with pytest.raises(click.UsageError):
        check_call(Call(("predict", "--dtypes"), True))
    with pytest.raises(click.UsageError):
        check_synopsis("gexpr predict -c NAME|FOLDER --fast FILE [options]")
    assert only_calls("# All:\ngexpr top 'a > b.h5'  # it\n\ngexpr top \\\n  x.h5\n")
    for text in ("gexpr top x.h5 | head", "gexpr top $x", "gexpr top ... x.h5", "ls", "gexpr top x > y"):
        assert not only_calls(text)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files under the names that the pages use."""
    folder = tmp_path_factory.mktemp("pages")
    write_stand_ins(folder)
    return folder


@pytest.fixture
def workplace(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the stand-ins, where yeast-tss and example are small too."""
    for path in stand_ins.iterdir():
        if path.name not in ("builtin", "examples"):
            # A copy: pages write files of the same names.
            (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setattr("gexpr.checkpoints.names.BUILTIN_FOLDER", stand_ins / "builtin")
    monkeypatch.setattr("gexpr.genome.examples.FOLDER", stand_ins / "examples")
    for extra in ("pandas", "matplotlib", "pyarrow", "pyBigWig"):
        pytest.importorskip(extra)
    return tmp_path


@pytest.mark.parametrize("page", pages_to_run(need_shell=False))
def test_calls_in_the_pages_run(page: str, workplace: Path) -> None:
    for block in runnable(page):
        for call in calls(block.text):
            command: click.Command | None = main
            for word in call.words[:2]:
                if isinstance(command, click.Group) and not word.startswith("-"):
                    command = command.get_command(click.Context(main), word)
            assert command is not None
            # Pages write the same names again and again.
            force = ["--force"] if any("--force" in param.opts for param in command.params) else []
            result = CliRunner().invoke(main, [*call.words, *force])
            assert result.exit_code == 0, f"gexpr {shlex.join(call.words)}\n{result.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_to_run(need_shell=True))
def test_shell_in_the_pages_runs(page: str, workplace: Path, stand_ins: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    code = (
        "from pathlib import Path; from gexpr.checkpoints import names; from gexpr.genome import examples; "
        f"names.BUILTIN_FOLDER = Path({str(stand_ins / 'builtin')!r}); "
        f"examples.FOLDER = Path({str(stand_ins / 'examples')!r}); "
    )
    programs = {
        "gexpr": [sys.executable, "-c", code + "from gexpr.cli.main import main; main(prog_name='gexpr')"],
        "python": [sys.executable],
    }
    (workplace / ".bin").mkdir()
    for name, words in programs.items():
        path = workplace / ".bin" / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        path.chmod(0o755)
    (workplace / "examples").symlink_to(ROOT / "examples")
    path = f"{workplace / '.bin'}{os.pathsep}{os.environ['PATH']}"
    # One shell a page: later blocks use variables and files of earlier ones.
    text = "\n".join(block.text for block in runnable(page))
    result = subprocess.run(
        [bash, "-euo", "pipefail", "-c", text],
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{text}\n{result.stderr[-2000:]}"


def test_every_mark_is_in_use() -> None:
    for page in PAGES:
        text = read(page)
        marks = re.findall("^<!-- skip: ", text, re.MULTILINE)
        assert len(marks) == sum(bool(block.skip) for block in shell_blocks(text)), page
