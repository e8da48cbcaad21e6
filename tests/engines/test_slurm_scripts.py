"""The scripts of examples/slurm with stand-ins for Slurm's commands and gexpr; needs no Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "slurm"
SCRIPTS = ("submit.sh", "score.sbatch", "merge.sbatch")

#: Writes its name and arguments, one a line; sbatch prints 11;cluster, then 12;cluster; srun ends with $CODE.
STAND_IN = """#!/bin/sh
name=${0##*/}
printf '%s\\n' "$name" "$@" --- >> calls
[ "$name" != sbatch ] || echo "1$(grep -c '^sbatch$' calls);cluster"
[ "$name" != srun ] || exit "${CODE:-0}"
"""


class Sandbox:
    """A folder in which scripts find stand-ins for ``programs``."""

    def __init__(self, folder: Path, programs: tuple[str, ...]) -> None:
        self.folder = folder / "with a space"
        (self.folder / "bin").mkdir(parents=True)
        for program in programs:
            path = self.folder / "bin" / program
            path.write_text(STAND_IN)
            path.chmod(0o755)

    def run(self, script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the examples in the folder."""
        return subprocess.run(
            ["bash", str(EXAMPLES / script), *arguments],
            cwd=self.folder,
            env={"PATH": f"{self.folder / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin", **environ},
            capture_output=True,
            text=True,
        )

    def calls(self) -> list[list[str]]:
        """The commands that were called, with their arguments."""
        path = self.folder / "calls"
        text = path.read_text() if path.exists() else ""
        return [call.split("\n") for call in text.removesuffix("\n---\n").split("\n---\n")] if text else []


@pytest.fixture
def login(tmp_path: Path) -> Sandbox:
    """A node from which jobs are submitted."""
    return Sandbox(tmp_path, ("sbatch", "gexpr"))


@pytest.fixture
def node(tmp_path: Path) -> Sandbox:
    """A node on which jobs run."""
    return Sandbox(tmp_path, ("srun", "scontrol", "gexpr"))


def test_submit_passes_everything_on(login: Sandbox) -> None:
    done = login.run(
        "submit.sh", "a b.vcf", "c d.fa", "e f", "50% $x.h5", "12%3", "--stats", "SAD,D2", "--dtype", "x y"
    )
    assert done.returncode == 0, done.stderr
    array, merge = login.calls()
    # sbatch replaces % in the names of logs.
    assert array == [
        *(
            "sbatch",
            "--parsable",
            "--array=0-11%3",
            "--output=50%% $x.h5.%A_%a.log",
            f"{EXAMPLES}/score.sbatch",
        ),
        *("a b.vcf", "c d.fa", "e f", "50% $x.h5.run", "--stats", "SAD,D2", "--dtype", "x y"),
    ]
    assert merge == [
        *("sbatch", "--parsable", "--dependency=afterany:11", "--output=50%% $x.h5.%j.log"),
        *(f"{EXAMPLES}/merge.sbatch", "50% $x.h5.run", "50% $x.h5"),
    ]
    assert "array job 11: 12 tasks" in done.stdout
    assert r"gexpr status 50%\ \$x.h5.run" in done.stdout


def test_submit_makes_eight_shards(login: Sandbox) -> None:
    assert login.run("submit.sh", "v.vcf", "g.fa", "c", "o.tsv").returncode == 0
    assert login.calls()[0][2:] == [
        *(
            "--array=0-7",
            "--output=o.tsv.%A_%a.log",
            f"{EXAMPLES}/score.sbatch",
            "v.vcf",
            "g.fa",
            "c",
            "o.tsv.run",
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["v.vcf", "genome.fa", "tiny"], 2, "usage: submit.sh", id="too-few"),
        *(
            pytest.param(
                ["v.vcf", "genome.fa", "tiny", "new.tsv", text], 1, f"not '{text}'", id=f"shards-{text}"
            )
            for text in ("0", "4-7", "08", "4%0", "-1", "x", "")
        ),
        pytest.param(["v.vcf", "genome.fa", "tiny", "old.tsv"], 1, "old.tsv exists", id="output-exists"),
    ],
)
def test_submit_refuses(login: Sandbox, arguments: list[str], code: int, message: str) -> None:
    (login.folder / "old.tsv").touch()
    done = login.run("submit.sh", *arguments)
    assert (done.returncode, done.stdout, login.calls()) == (code, "", [])
    assert message in done.stderr


def test_submit_needs_gexpr(login: Sandbox) -> None:
    (login.folder / "bin" / "gexpr").unlink()
    done = login.run("submit.sh", "v.vcf", "genome.fa", "tiny", "new.tsv")
    assert (done.returncode, done.stderr) == (1, "submit.sh: gexpr is not on the PATH\n")
    assert login.calls() == []


@pytest.mark.parametrize("code", [0, 1, 75, 137])
def test_score_requeues_its_task_when_interrupted(node: Sandbox, code: int) -> None:
    slurm = {
        "SLURM_ARRAY_JOB_ID": "5",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_JOB_ID": "5",
        "SLURM_CPUS_PER_TASK": "2",
    }
    arguments = ["a b.vcf", "c.fa", "e f", "o.run", "--dtype", "x y"]
    done = node.run("score.sbatch", *arguments, CODE=str(code), **slurm)
    assert done.returncode == code, done.stderr
    srun, *others = node.calls()
    assert srun == [
        *("srun", "--cpus-per-task=2", "--kill-on-bad-exit=0", "gexpr", "score-variants"),
        *("--fasta", "c.fa", "--checkpoint", "e f", "--run-dir", "o.run"),
        *("--shard", "auto", "--threads", "2", "--dtype", "x y", "--", "a b.vcf"),
    ]
    assert others == ([["scontrol", "requeue", "5_3"]] if code == 75 else [])


def test_merge_names_run_and_output(node: Sandbox) -> None:
    assert node.run("merge.sbatch", "a b.run", "a b").returncode == 0
    assert node.calls() == [["gexpr", "merge", "--output", "a b", "--", "a b.run"]]


def test_directives_come_before_commands() -> None:
    for script in SCRIPTS[1:]:
        lines = (EXAMPLES / script).read_text().splitlines()
        first_command = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
        assert all(n < first_command for n, line in enumerate(lines) if line.startswith("#SBATCH"))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["shellcheck", *(str(EXAMPLES / script) for script in SCRIPTS)], capture_output=True, text=True
    )
    assert done.stdout == ""
