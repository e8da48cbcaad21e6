"""A small genome, a cache folder of its own, and a writer of small VCF files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.variants.alleles import AlleleReader

HEADER = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"

#         position  0         1         2         3
#                   0123456789012345678901234567890123456
SEQUENCES = {
    "chr1": "GATTACAGGGGCATCATCATNNRACGTacgtTTTTTA" + "ACGTTGCA" * 60,
    "chrM": "CCCCC",
}

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, named by GEXPR_CACHE."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GEXPR_CACHE", str(folder))
    return folder


@pytest.fixture
def fasta(tmp_path: Path) -> Fasta:
    """The genome."""
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in SEQUENCES.items()))
    return Fasta(path)


@pytest.fixture
def reader(fasta: Fasta) -> AlleleReader:
    """Reads alleles against the genome; nothing longer than 20 bases."""
    return AlleleReader(fasta, ContigMap(fasta.names), max_allele_length=20)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(b"chr1\\t...", header=...)`` writes a VCF and gives its path."""

    def write_file(body: bytes = b"", header: bytes = HEADER, name: str = "variants.vcf") -> Path:
        path = tmp_path / name
        path.write_bytes(header + body)
        return path

    return write_file


@pytest.fixture(scope="session")
def header() -> bytes:
    """A minimal VCF header."""
    return HEADER
