"""A tiny real checkpoint, genome and VCF for whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf


class Inputs(NamedTuple):
    """Paths for a run, and the sequence of chr1."""

    checkpoint: str
    fasta: str
    vcf: str
    bed: str
    sequence: str
    folder: Path


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    """A checkpoint with drawn weights; two contigs; scored and unscored alleles; regions."""
    folder = tmp_path_factory.mktemp("run")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    sequence = "".join(np.random.default_rng(11).choice(list("ACGT"), 3000))
    records = []
    for start in range(40, 2900, 130):
        alternates = [base for base in "ACGT" if base != sequence[start]]
        records.append(("chr1", start + 1, f"v{start}", sequence[start], ",".join(alternates)))
    records += [
        ("1", 501, ".", sequence[500], sequence[500] + "TTGA"),
        ("chr1", 601, ".", sequence[600:607], sequence[600]),
        ("chr1", 701, "gone", sequence[700], "<DEL>"),
        ("chr1", 801, "star", sequence[800], "*"),
        (
            "chr1",
            901,
            "wrong",
            "ACGT"[("ACGT".index(sequence[900]) + 1) % 4],
            "ACGT"[("ACGT".index(sequence[900]) + 2) % 4],
        ),
        ("chr7", 1, "nowhere", "A", "C"),
    ]
    bed = folder / "regions.bed"
    bed.write_text("chr1\t500\t596\ta\t0\t+\n1\t800\t896\tb\t0\t-\n")
    yield Inputs(
        str(save_tiny_checkpoint(folder / "tiny")),
        str(write_fasta(folder / "genome.fa", {"chr1": sequence, "chrM": sequence[:300]})),
        str(write_vcf(folder / "variants.vcf", records)),
        str(bed),
        sequence,
        folder,
    )
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes go to a folder of the test session, not to the user's cache."""
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path_factory.getbasetemp() / "gexpr-cache"))
