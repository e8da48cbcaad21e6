"""Inputs and commands for runs that another program drives."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from click.testing import CliRunner
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.cli.main import main

ENVIRON = {**os.environ, "OMP_NUM_THREADS": "1", "GEXPR_DEBUG": ""}
"""For every process of a test: equal threads, and the messages that a user sees."""


class RunInputs(NamedTuple):
    """Paths for a run of ``gexpr score-variants``."""

    checkpoint: Path
    fasta: Path
    vcf: Path


def write_inputs(folder: Path, alleles: int) -> RunInputs:
    """A tiny checkpoint, a random contig and one single-nucleotide variant every 10 bases."""
    folder.mkdir(parents=True, exist_ok=True)
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), 10 * alleles + 600))
    records = [
        ("chr1", start + 1, f"v{start}", sequence[start], "ACGT"[("ACGT".index(sequence[start]) + 1) % 4])
        for start in range(300, 300 + 10 * alleles, 10)
    ]
    return RunInputs(
        save_tiny_checkpoint(folder / "tiny"),
        write_fasta(folder / "genome.fa", {"chr1": sequence}),
        write_vcf(folder / "variants.vcf", records),
    )


def gexpr(*arguments: str | Path) -> list[str]:
    """A command line that runs gexpr in this Python."""
    return [sys.executable, "-m", "gexpr", *map(str, arguments)]


def score(inputs: RunInputs, *arguments: str | Path) -> list[str]:
    """A command line that scores the inputs."""
    fixed = ("-c", inputs.checkpoint, "-f", inputs.fasta, "--top", "0", "--threads", "1")
    return gexpr("score-variants", inputs.vcf, *fixed, *arguments)


def run_here(command: list[str]) -> None:
    """Run a command line of :func:`gexpr` in this process, which has imported everything already."""
    result = CliRunner().invoke(main, command[3:])
    assert result.exit_code == 0, result.output
