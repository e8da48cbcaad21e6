"""Defaults from the environment and a file, messages, completion, nearest names, ``gexpr checkpoints``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import gexpr
from gexpr import logs
from gexpr.cli import completion, defaults, options
from gexpr.cli.main import COMMANDS, main
from gexpr.errors import InputError, did_you_mean


@click.command("toy")
@options.checkpoint
@click.option("--device", default="auto")
@click.option("--rc/--no-rc", "reverse_complement", default=True)
@click.option("--stats", default="logFC")
@click.option("--fasta", help="Not required here.")
@click.option("--force", is_flag=True)
@options.quiet
def toy(**values: Any) -> None:
    click.echo(json.dumps(values))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a file of defaults and name it in the environment."""

    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text)
        monkeypatch.setenv("GEXPR_CONFIG", str(path))
        return path

    return write


def found(environ: dict[str, str] | None = None) -> dict[str, Any]:
    values = defaults.find_defaults("toy", toy, {"toy": "", "other": ""}, environ or {})
    return {name: value for name, (value, _) in values.items()}


def test_environment_before_command_before_top(config: Any) -> None:
    config('checkpoint = "top"\ndevice = "cpu"\n[toy]\ncheckpoint = "table"\nrc = false\n[other]\nx = 1\n')
    assert found() == {"checkpoint": ["table"], "device": "cpu", "reverse_complement": False}
    assert found({"GEXPR_CHECKPOINT": "my models/a"})["checkpoint"] == ["my models/a"]
    assert found({"GEXPR_CHECKPOINT": ""})["checkpoint"] == ["table"]


def test_the_command_line_wins(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config('checkpoint = "top"\n[inspect]\nlist = true\n[checkpoints]\nwhere = true\n')
    monkeypatch.setattr(
        "gexpr.cli.inspect.command", click.Command("inspect", params=toy.params, callback=toy.callback)
    )
    config('device = "cuda"\n[inspect]\nstats = ["SAD", "JS"]\n')
    monkeypatch.setenv("GEXPR_CHECKPOINT", "from-environment")
    values = json.loads(CliRunner().invoke(main, ["inspect"]).stdout)
    assert (values["checkpoint"], values["device"], values["stats"]) == ("from-environment", "cuda", "SAD,JS")
    values = json.loads(CliRunner().invoke(main, ["inspect", "-c", "mine", "--device", "cpu"]).stdout)
    assert (values["checkpoint"], values["device"]) == ("mine", "cpu")
    shown = CliRunner().invoke(main, ["inspect", "--verbose"]).stderr
    assert "default: GEXPR_CHECKPOINT = ['from-environment']\n" in shown
    assert "default: device = cuda\n" in shown


def test_a_genome_is_no_default_where_none_is_needed(config: Any) -> None:
    config('fasta = "hg38.fa"\ncheckpoint = "net"')
    assert found() == {"checkpoint": ["net"]}


def test_commands_of_a_group_have_defaults(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config('checkpoint = "top"\n[plot.toy]\nrc = false\n')
    group = click.Group("plot", {"toy": toy, "other": click.Command("other")})
    monkeypatch.setattr("gexpr.cli.plot.command", group)
    monkeypatch.setenv("GEXPR_DEVICE", "cpu")
    result = CliRunner().invoke(main, ["plot", "toy", "--verbose"])
    values = json.loads(result.stdout)
    assert (values["checkpoint"], values["device"], values["reverse_complement"]) == ("top", "cpu", False)
    assert "default: [plot.toy] rc = False\n" in result.stderr
    for text, message in (
        ("[plot]\nrc = false", r"\[plot\] rc: options stand in \[plot.toy\], \[plot.other\]"),
        ("[plot.toi]\nrc = false", "did you mean 'toy'"),
        ("[plot.toy]\nr = false", r"\[plot.toy\] r: gexpr plot toy has no such option"),
        ("[plot.toy]\noutput = 'x'", "no such option|cannot have"),
    ):
        config(text)
        with pytest.raises(InputError, match=message):
            defaults.find_defaults("plot", group, {"plot": ""}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("checkpoint = ", "is not TOML"),
        ('chekpoint = "x"', "'chekpoint' is neither a command nor an option .*; did you mean 'checkpoint'"),
        ("toy = 1", "toy has to be a table"),
        ("[checkpoint]\na = 1", "checkpoint has to be a value"),
        ("[toy]\nforce = true", r"\[toy\] force: cannot have a default"),
        ("[toy]\nstat = 1", r"\[toy\] stat: gexpr toy has no such option; did you mean 'stats'"),
        ('quiet = "perhaps"', "quiet: 'perhaps' is no value of --quiet"),
    ],
)
def test_what_does_not_fit_is_refused(config: Any, text: str, message: str) -> None:
    path = config(text)
    with pytest.raises(InputError, match=message) as caught:
        found()
    assert caught.value.path == str(path)


def test_a_missing_file_that_was_named_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEXPR_CONFIG", str(tmp_path / "none.toml"))
    result = CliRunner().invoke(main, ["checkpoints"])
    assert result.exit_code == 1
    assert "none.toml: the file of defaults cannot be read" in result.stderr
    monkeypatch.delenv("GEXPR_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert defaults.config_path() is None
    (tmp_path / "gexpr").mkdir()
    (tmp_path / "gexpr" / "config.toml").write_text('cache = "~/c"')
    assert defaults.cache_default() == os.path.expanduser("~/c")


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        logs.set_json(True)
        logs.info("an \x1b escape")
        logs.warning("careful")
        logs.detail("not shown")
    finally:
        logs.set_json(False)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("info", "an \x1b escape"),
        ("warning", "careful"),
    ]
    assert all(line["time"].endswith("+00:00") for line in lines)


@pytest.mark.parametrize("as_json", [False, True])
def test_progress_without_a_terminal(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: clock[0])
    try:
        logs.set_json(as_json)
        with logs.progress("computing", 600, "rows") as bar:
            for clock[0] in (1030.0, 1061.0, 1090.0, 1120.0):
                bar.advance(50)
    finally:
        logs.set_json(False)
    lines = capsys.readouterr().err.splitlines()
    if as_json:
        first = json.loads(lines[0])
        assert (first["level"], first["done"], first["total"], first["unit"]) == (
            "progress",
            100,
            600,
            "rows",
        )
        assert first["seconds_left"] == pytest.approx(500 * 61 / 100)
    else:
        assert lines == ["computing: 100 of 600 rows (17%), 1.6/s, 5 min left"]


def test_quiet_hides_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PLAIN_SECONDS", 0.0)
    try:
        logs.set_quiet(True)
        with logs.progress("computing", None, "rows") as bar:
            bar.advance()
        assert capsys.readouterr().err == ""
    finally:
        logs.set_quiet(False)
    with logs.progress("computing", None, "rows") as bar:
        bar.advance()
    assert capsys.readouterr().err.startswith("computing: 1 rows, ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (119, "119 s"), (600, "10 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert logs.duration(seconds) == text


def test_nearest_names() -> None:
    assert did_you_mean("CHRI", ["chrI", "chrX"]) == "; did you mean 'chrI'?"
    assert did_you_mean("zzz", ["chrI"]) == ""
    result = CliRunner().invoke(main, ["scorevariants"])
    assert (result.exit_code, "did you mean 'score-variants'?" in result.stderr) == (2, True)
    result = CliRunner().invoke(main, ["checkpoints", "--crd"])
    assert "--card" in result.stderr
    result = CliRunner().invoke(main, ["checkpoints", "yeast-ts"])
    assert "did you mean 'yeast-tss'?" in result.stderr


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_scripts(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_GEXPR_COMPLETE" in result.stdout
    assert f"{shell}_complete" in result.stdout


def complete(*words: str) -> list[str]:
    environ = {**os.environ, "COMP_WORDS": " ".join(("gexpr", *words)), "COMP_CWORD": str(len(words))}
    code = "from gexpr.cli.main import main; main(prog_name='gexpr')"
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command,
        env={**environ, "_GEXPR_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    return result.stdout.split()


def test_completions() -> None:
    assert complete("scor") == [f"plain,{name}" for name in COMMANDS if name.startswith("scor")]
    assert complete("checkpoints", "--c") == ["plain,--card"]
    assert complete("inspect", "yeas") == ["file,yeas"]


def test_checkpoints() -> None:
    lines = CliRunner().invoke(main, ["checkpoints"]).stdout.splitlines()
    assert lines[0].split()[:2] == ["name", "architecture"]
    assert "yeast-tss" in [line.split()[0] for line in lines[1:]]
    folder = CliRunner().invoke(main, ["checkpoints", "--where", "yeast-tss"]).stdout
    assert Path(folder.strip()) == Path(gexpr.__file__).parent / "data" / "checkpoints" / "yeast-tss"
    card = CliRunner().invoke(main, ["checkpoints", "--card", "yeast-tss"]).stdout
    assert card.strip() == (Path(folder.strip()) / "README.md").read_text(encoding="utf-8").strip()
    (row,) = json.loads(CliRunner().invoke(main, ["checkpoints", "--json", "yeast-tss"]).stdout)
    assert (row["name"], row["context_length"], row["tracks"]) == ("yeast-tss", 16384, 4)
    assert CliRunner().invoke(main, ["checkpoints", "--json", "--card"]).exit_code == 2
