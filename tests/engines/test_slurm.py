"""Runs on a real Slurm: examples/slurm through preemption and a crash, arrays with gaps, ranks of srun."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from private_slurm import PrivateSlurm
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

import gexpr
from gexpr.runs.merge import merge_run

pytestmark = [pytest.mark.slow, pytest.mark.engines]

EXAMPLES = Path(__file__).parents[2] / "examples" / "slurm"
OPTIONS = ("--device", "cpu", "--threads", "1", "--batch-size", "8", "--block-rows", "8")


class Inputs(NamedTuple):
    """A folder whose name has a space, with v.vcf, genome.fa and tiny; environment variables for jobs."""

    folder: Path
    environ: dict[str, str]
    digest: str


@pytest.fixture(scope="module")
def inputs(slurm: PrivateSlurm, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Inputs for a run of many blocks, and the digest of what one process makes of them."""
    folder = tmp_path_factory.mktemp("slurm") / "with a space"
    programs = folder / "bin"
    programs.mkdir(parents=True)
    program = programs / "gexpr"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gexpr "$@"\n')
    program.chmod(0o755)
    environ = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(gexpr.__file__).parents[1]),
        "GEXPR_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), 10_000))
    save_tiny_checkpoint(folder / "tiny")
    write_fasta(folder / "genome.fa", {"chr1": sequence})
    write_vcf(
        folder / "v.vcf",
        [
            ("chr1", start + 1, ".", sequence[start], "ACGT"[("ACGT".index(sequence[start]) + 1) % 4])
            for start in range(300, 9_900, 12)
        ],
    )
    score = ["gexpr", "score-variants", "-c", "tiny", "-f", "genome.fa", "-o", "plain.tsv", *OPTIONS]
    subprocess.run([*score, "v.vcf"], cwd=folder, env={**os.environ, **environ}, check=True)
    return Inputs(folder, environ, sha256(folder / "plain.tsv"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_process(run: Path, shard: str) -> int | None:
    """The process that works on a shard, once it has finished a block of its own."""
    events = [
        json.loads(line)
        for path in run.glob("logs/*.jsonl")
        for line in path.read_text().splitlines(True)
        if line.endswith("\n")
    ]
    pids = {event["pid"] for event in events if event["event"] == "start" and event["shard"] == shard}
    working = pids & {event["pid"] for event in events if event["event"] == "block"}
    return working.pop() if working else None


def test_array_survives_preemption_and_a_crash(slurm: PrivateSlurm, inputs: Inputs) -> None:
    printed = slurm.call(
        "env",
        f"--chdir={inputs.folder}",
        str(EXAMPLES / "submit.sh"),
        *("v.vcf", "genome.fa", "tiny", "scores.tsv", "4", *OPTIONS),
        **inputs.environ,
    )
    found = re.search(r"array job (\d+): 4 tasks(?s:.*)\njob (\d+): merges", printed)
    assert found is not None, printed
    array, merge = found.groups()
    run = inputs.folder / "scores.tsv.run"

    # Tasks 1 and 2 stand still after their first blocks, so that they cannot end before they are disturbed.
    stopped: dict[str, int] = {}

    def stop_both() -> bool:
        for shard in {"1/4", "2/4"} - stopped.keys():
            process = run_process(run, shard)
            if process is not None:
                os.kill(process, signal.SIGSTOP)
                stopped[shard] = process
        return len(stopped) == 2

    slurm.until(stop_both, "block of tasks 1 and 2")
    os.kill(stopped["2/4"], signal.SIGKILL)
    slurm.until(lambda: slurm.job(f"{array}_2")["JobState"] == "FAILED", "failure of task 2")
    assert slurm.job(f"{array}_2")["ExitCode"] == "137:0"
    slurm.call("scontrol", "requeue", f"{array}_2")
    # What Slurm sends two minutes before the time is up.
    slurm.call("scancel", "--signal=USR1", f"{array}_1")
    os.kill(stopped["1/4"], signal.SIGCONT)

    slurm.until(lambda: slurm.job(merge)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"), "merge")
    logs = {path.name: path.read_text() for path in inputs.folder.glob("scores.tsv.*.log")}
    assert slurm.job(merge)["JobState"] == "COMPLETED", logs
    tasks = [slurm.job(f"{array}_{task}") for task in range(4)]
    assert [task["JobState"] for task in tasks] == ["COMPLETED"] * 4, logs
    assert [task["Restarts"] for task in tasks] == ["0", "1", "1", "0"], logs
    for task in (1, 2):
        log = logs[f"scores.tsv.{array}_{task}.log"]
        assert "continuing:" in log and f"shard {task}/4:" in log, log
    assert "Exited with exit code 75" in logs[f"scores.tsv.{array}_1.log"]
    assert sha256(inputs.folder / "scores.tsv") == inputs.digest
    assert not run.exists()


def test_ranks_of_srun(slurm: PrivateSlurm, inputs: Inputs) -> None:
    folder = inputs.folder
    score = ["gexpr", "score-variants", "-c", "tiny", "-f", "genome.fa", "--run-dir", "ranks", *OPTIONS]
    slurm.call("srun", "-n", "2", f"--chdir={folder}", *score, "--shard", "auto", "v.vcf", **inputs.environ)
    starts = [json.loads(path.read_text().splitlines()[0]) for path in folder.glob("ranks/logs/*.jsonl")]
    assert sorted(start["shard"] for start in starts if start["event"] == "start") == ["0/2", "1/2"]
    merge_run(str(folder / "ranks"), str(folder / "ranks.tsv"))
    assert sha256(folder / "ranks.tsv") == inputs.digest


def test_arrays_with_gaps_and_scripts_without_ranks_are_refused(slurm: PrivateSlurm, inputs: Inputs) -> None:
    arguments = [str(EXAMPLES / "score.sbatch"), "v.vcf", "genome.fa", "tiny", "refused"]
    log = f"--output={inputs.folder}/refused.%a.log"
    array = slurm.call(
        "sbatch", "--parsable", "--array=0,2", f"--chdir={inputs.folder}", log, *arguments, **inputs.environ
    ).strip()
    # The job has two tasks, but its script is one process.
    script = slurm.call(
        "sbatch",
        *("--parsable", "--ntasks=2", f"--chdir={inputs.folder}", f"--output={inputs.folder}/refused.log"),
        "--wrap=gexpr score-variants -c tiny -f genome.fa --run-dir refused --shard auto v.vcf",
        **inputs.environ,
    ).strip()
    for job, name in (
        (f"{array}_0", "refused.0.log"),
        (f"{array}_2", "refused.2.log"),
        (script, "refused.log"),
    ):
        slurm.until(lambda job=job: slurm.job(job)["JobState"] == "FAILED", f"failure of {job}")
        text = (inputs.folder / name).read_text()
        assert ("the job array has gaps" if job != script else "SLURM_NTASKS=2") in " ".join(text.split()), (
            text
        )
    assert not (inputs.folder / "refused").exists()
