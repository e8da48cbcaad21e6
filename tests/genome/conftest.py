"""A small genome whose letters are known, and a cache folder of its own for every test."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, named by GEXPR_CACHE."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GEXPR_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def sequences() -> dict[str, str]:
    """Contig -> sequence; chrA spans several BGZF blocks."""
    draw = random.Random(7)
    return {
        "chrA": "".join(draw.choices("ACGTacgt", k=200_003)),
        "chrB": "ACGTN" * 20,
        "chrM": "GATTACA",
    }


@pytest.fixture(scope="session")
def fasta_text(sequences: dict[str, str]) -> str:
    """The genome as FASTA with lines of 50 bases."""
    out = []
    for name, letters in sequences.items():
        out.append(f">{name} some words\n")
        out += [letters[i : i + 50] + "\n" for i in range(0, len(letters), 50)]
    return "".join(out)


@pytest.fixture
def plain(tmp_path: Path, fasta_text: str) -> Path:
    """The genome as plain text, without index files."""
    path = tmp_path / "genome.fa"
    path.write_text(fasta_text)
    return path


@pytest.fixture
def bgzipped(tmp_path: Path, fasta_text: str) -> Path:
    """The genome as BGZF, without index files."""
    source, path = tmp_path / "source.fa", tmp_path / "genome.fa.gz"
    source.write_text(fasta_text)
    pysam.tabix_compress(str(source), str(path), force=True)
    return path
