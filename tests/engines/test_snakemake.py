"""The Snakemake example: shards as jobs, and the same bytes as one process."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from _shared import ENVIRON, run_here, score, write_inputs

pytestmark = pytest.mark.engines

EXAMPLE = Path(__file__).parents[2] / "examples" / "snakemake"

#: A gexpr on the PATH: notes its calls, and behaves as if it had been preempted when it is first called.
PROGRAM = """\
#!/bin/sh
echo "$@" >> calls
if mkdir preempted 2> /dev/null; then exit 75; fi
exec {python} -m gexpr "$@"
"""


@pytest.fixture(scope="module")
def snakemake() -> str:
    """The command, from this Python's environment or from the PATH."""
    beside = Path(sys.executable).with_name("snakemake")
    found = str(beside) if beside.exists() else shutil.which("snakemake")
    if found is None:
        pytest.skip("snakemake is not installed")
    return found


def test_shards_retries_and_a_lost_flag(tmp_path: Path, snakemake: str) -> None:
    folder = tmp_path / "my scores"
    inputs = write_inputs(folder, alleles=40)
    inputs.vcf.rename(folder / "my variants.vcf")
    inputs = inputs._replace(vcf=folder / "my variants.vcf")
    options = ["--block-rows", "4", "--stats", "logFC,SAD"]
    run_here(score(inputs, *options, "-o", folder / "plain.tsv"))

    shutil.copy(EXAMPLE / "Snakefile", folder)
    # JSON is YAML.
    config = {
        "vcf": "my variants.vcf",
        "fasta": "genome.fa",
        "checkpoint": "tiny",
        "output": "out put/scores.tsv",
        "options": options,
        "shards": 2,
        "threads": 1,
        "mem_mb": 1000,
        "minutes": 5,
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    program = tmp_path / "bin" / "gexpr"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=shlex.quote(sys.executable)))
    program.chmod(0o755)
    # Snakemake keeps its own cache in the home folder.
    environ = {
        **ENVIRON,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [snakemake, "--cores", "2", "--scheduler", "greedy", *arguments],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        logs = [path.read_text() for path in folder.glob("out put/*.logs/*")]
        assert done.returncode == 0, "\n".join([done.stdout, *logs])
        return done.stdout

    def calls() -> list[str]:
        """The part of each call of gexpr that tells them apart, in the order of time, and forget them."""
        lines = (folder / "calls").read_text().splitlines()
        (folder / "calls").unlink()
        return [line.split("--shard ")[1].split()[0] if "--shard" in line else line[:5] for line in lines]

    flags = folder / "out put" / "scores.tsv.shards"
    assert "Trying to restart job" in run("--until", "score", "--notemp")
    assert sorted(path.name for path in flags.iterdir()) == ["0-of-2", "1-of-2"]
    made = calls()
    assert sorted(set(made)) == ["0/2", "1/2"]
    assert len(made) == 3

    (flags / "1-of-2").unlink()
    run()
    assert calls() == ["1/2", "merge"]
    output = folder / "out put" / "scores.tsv"
    assert output.read_bytes() == (folder / "plain.tsv").read_bytes()
    assert not (folder / "out put" / "scores.tsv.run").exists()

    assert "Nothing to be done" in run()
    assert not (folder / "calls").exists()
