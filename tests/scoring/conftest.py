"""A small random genome for the scoring tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_models import write_fasta

from gexpr.genome.fasta import Fasta


@pytest.fixture(scope="session")
def sequence() -> str:
    """2,000 random bases, the same in every run."""
    return "".join(np.random.default_rng(7).choice(list("ACGT"), 2000))


@pytest.fixture(scope="session")
def genome(sequence: str, tmp_path_factory: pytest.TempPathFactory) -> Fasta:
    """A FASTA with the random contig chr1 and a short chr2."""
    folder: Path = tmp_path_factory.mktemp("genome")
    path = write_fasta(folder / "toy.fa", {"chr1": sequence, "chr2": "ACGTTGCA" * 3})
    return Fasta(path, folder / "cache")
