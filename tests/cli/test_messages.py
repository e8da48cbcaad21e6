"""Messages of every command: the options for them, a bar on a terminal, the nearest right name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.cli.main import COMMANDS, main


def all_commands() -> dict[str, click.Command]:
    """Every command by its name, those of groups as ``group name``."""
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": each for inner, each in command.commands.items()}
        else:
            found[name] = command
    return found


def test_every_command_has_the_options_of_messages() -> None:
    for name, command in all_commands().items():
        options = {option for param in command.params for option in param.opts}
        if name != "completion":
            assert {"--quiet", "--verbose", "--log-json"} <= options, name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, a genome, a VCF with three alleles, and their scores."""
    folder = tmp_path_factory.mktemp("messages")
    save_tiny_checkpoint(folder / "tiny")
    write_fasta(folder / "genome.fa", {"chr1": "ACGT" * 300, "chr2": "ACGT" * 200})
    write_vcf(folder / "v.vcf", [("chr1", 501, ".", "A", "C,G"), ("chr2", 401, ".", "A", "T")])
    (folder / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "data": {"path": "d.h5"},
                "model": {"architecture": "sparse_enformr", "settings": {}},
                "schedule": {"steps": 1},
            }
        )
    )
    words = ["-c", "tiny", "-f", "genome.fa", "-o", "scores.h5", "-q", "v.vcf"]
    done = run(folder, "score-variants", *words)
    assert done.exit_code == 0, done.stderr
    return folder


def run(folder: Path, *words: str) -> Any:
    """The outcome of a command in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(main, list(words))
    finally:
        os.chdir(before)


@pytest.mark.parametrize("words", [("inspect", "--verify"), ("status",), ("checkpoints", "--card")])
def test_errors_are_json_where_that_is_asked_for(words: tuple[str, ...], folder: Path) -> None:
    result = run(folder, *words, "nothing", "--log-json")
    assert result.exit_code == 1
    line = json.loads(result.stderr)
    assert line["level"] == "error"
    assert line["message"].startswith(("no checkpoint 'nothing'", "nothing: not a run directory"))


def test_details_of_an_inspection(folder: Path) -> None:
    shown = run(folder, "inspect", "--verify", "-v", "tiny")
    assert "reading the weights of tiny: " in shown.stderr
    assert "reading" not in run(folder, "inspect", "--verify", "-v", "-q", "tiny").stderr


SCORE = ("score-variants", "-c", "tiny", "-f", "genome.fa", "-o", "new.tsv")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("scorevariants",), "'score-variants'"),
        (("plot", "regoin"), "'region'"),
        (("top", "scores.h5", "--overal"), "'--overall'"),
        ((*SCORE, "v.vcf", "-t", "cuont_A"), "count_A"),
        ((*SCORE, "v.vcf", "--stats", "logFX"), "logFC"),
        (("score-variants", "-c", "yeasttss", "-f", "genome.fa", "-o", "-", "v.vcf"), "'yeast-tss'"),
        (("predict", "-c", "tiny", "-f", "genome.fa", "-o", "-", "-r", "chrr1:1-20"), "'chr1'"),
        (("predict", "-c", "tiny", "-f", "genome.fa", "-o", "-", "--genome", "--contigs", "ch1"), "'chr1'"),
        (("ism", "-c", "tiny", "-f", "genome.fa", "-o", "i.h5", "-r", "chr_1:1-20"), "'chr1'"),
        (("attribute", "-c", "tiny", "-f", "genome.fa", "-o", "a.h5", "-r", "chr-1:1-20"), "'chr1'"),
        (("top", "scores.h5", "-r", "ch1"), "'chr1'"),
        (("top", "scores.h5", "-t", "count_"), "count_"),
        (("export", "scores.h5", "-o", "-", "--status", "refmismatch"), "'ref_mismatch'"),
        (("train", "config.yaml", "-o", "r", "--set", "modle.settings={}"), "'model'"),
    ],
)
def test_a_wrong_name_brings_the_right_one(words: tuple[str, ...], near: str, folder: Path) -> None:
    result = run(folder, *words)
    assert result.exit_code in (1, 2), result.stderr
    hint = re.split("did you mean", result.stderr, flags=re.IGNORECASE)
    assert len(hint) == 2, result.stderr
    assert near in hint[1]


def test_a_wrong_architecture_and_setting_bring_the_right_ones() -> None:
    from gexpr.errors import ConfigError
    from gexpr.models import registry

    with pytest.raises(ConfigError, match="did you mean 'sparse_enformer'"):
        registry.build("sparse_enformr", {})
    with pytest.raises(ConfigError, match="did you mean 'channels'"):
        registry.config_from_dict("enformer", {"chanels": 3})


def test_a_wrong_contig_in_a_vcf_brings_the_right_one(folder: Path) -> None:
    write_vcf(folder / "wrong.vcf", [("chrr1", 501, ".", "A", "C")])
    result = run(folder, *SCORE, "--force", "wrong.vcf")
    assert "contigs that the FASTA lacks: chrr1 (1); did you mean 'chr1'?" in result.stderr


PROGRAM = """
import time
from gexpr import logs
logs.PLAIN_SECONDS = 0.0
with logs.progress("computing", 30, "variants") as bar:
    for _ in range(30):
        bar.advance()
        time.sleep(0.02)
logs.info("done")
"""


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=slave, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
        os.close(master)
        assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    # Description, count, rate, time so far and left.
    assert re.search(r"computing .* \d+/30 variants +[\d.,]+/s +\d:\d\d:\d\d left +\d:\d\d:\d\d", text), text
    assert text.rstrip().endswith("done")


def test_progress_in_a_log() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    *lines, last = result.stderr.splitlines()
    assert last == "done"
    for line in lines:
        assert re.fullmatch(r"computing: \d+ of 30 variants \(\d+%\), [\d.,]+/s, \d+ s left", line)
    assert "\x1b" not in result.stderr
    assert result.stdout == ""
