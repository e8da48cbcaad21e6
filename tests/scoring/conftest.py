"""A small random genome for the scoring tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
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


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models lose far more to waiting threads than they gain, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
