"""A small genome with counts, as the input of prepare."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from gexpr.datasets import PreparedDataset, PrepareOptions, PrepareSummary, prepare

LENGTHS = {"chrA": 1000, "chrB": 523, "chrC": 400}
GAP = ("chrA", 300, 310)


@pytest.fixture(scope="session")
def counts() -> dict[tuple[str, str], np.ndarray]:
    """(contig, strand) -> whole-number counts per base."""
    generator = np.random.default_rng(7)
    return {
        (contig, strand): generator.poisson(0.3, length) * generator.integers(1, 60, length)
        for contig, length in LENGTHS.items()
        for strand in "+-"
    }


@pytest.fixture(scope="session")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FASTA of random bases; chrA has ten N, and lower case letters."""
    folder = tmp_path_factory.mktemp("genome")
    generator = np.random.default_rng(3)
    text = []
    for contig, length in LENGTHS.items():
        bases = np.array(list("ACGTacgt"))[generator.integers(0, 8, length)]
        if contig == GAP[0]:
            bases[GAP[1] : GAP[2]] = "N"
        text.append(f">{contig} synthetic\n" + "".join(bases) + "\n")
    path = folder / "genome.fa"
    path.write_text("".join(text))
    return path


@pytest.fixture(scope="session")
def signals(tmp_path_factory: pytest.TempPathFactory, counts: dict[tuple[str, str], np.ndarray]) -> Path:
    """Folder with the same counts as BED (both strands in two replicates), bedGraph.gz and bigWig."""
    import pyBigWig

    folder = tmp_path_factory.mktemp("signals")
    beds: list[list[str]] = [["track name=x"], ["# replicate 2"]]
    for (contig, strand), values in counts.items():
        for position in np.flatnonzero(values):
            first = values[position] // 2
            for replicate, count in ((0, first), (1, values[position] - first)):
                if count:
                    beds[replicate].append(f"{contig}\t{position}\t{position + 1}\t.\t{count}\t{strand}")
    beds[1].append("Mito\t5\t6\t.\t9\t+")
    for number, lines in enumerate(beds, 1):
        with gzip.open(folder / f"rep{number}.bed.gz", "wt") as handle:
            handle.write("\n".join(lines) + "\n")
    for strand, name in (("+", "plus"), ("-", "minus")):
        bigwig = pyBigWig.open(str(folder / f"{name}.bw"), "w")
        bigwig.addHeader(list(LENGTHS.items()))
        with gzip.open(folder / f"{name}.bedgraph.gz", "wt") as handle:
            for contig in LENGTHS:
                values = counts[contig, strand]
                # Runs of equal values as one interval: a bedGraph value belongs to every base of it.
                edges = np.flatnonzero(np.diff(values, prepend=-1, append=-1))
                starts, ends = edges[:-1], edges[1:]
                for start, end in zip(starts, ends, strict=True):
                    handle.write(f"{contig}\t{start}\t{end}\t{values[start]}\n")
                bigwig.addEntries(
                    [contig] * len(starts),
                    [int(start) for start in starts],
                    ends=[int(end) for end in ends],
                    values=[float(values[start]) for start in starts],
                )
        bigwig.close()
    tables = {
        "bed": ("rep1.bed.gz,rep2.bed.gz", "rep1.bed.gz,rep2.bed.gz"),
        "bedgraph": ("plus.bedgraph.gz", "minus.bedgraph.gz"),
        "bigwig": ("plus.bw", "minus.bw"),
    }
    for kind, (plus, minus) in tables.items():
        (folder / f"{kind}.tsv").write_text(
            "id\tlabel\tfiles\tassay\tcell_type\tstrand\tstrand_pair\n"
            f"w+\twild +\t{plus}\tSTRIPE\tyeast\t+\tw-\n"
            f"w-\twild -\t{minus}\tSTRIPE\tyeast\t-\tw+\n"
        )
    return folder


OPTIONS = PrepareOptions(
    context_length=128, bin_size=8, target_length=8, stride=32, valid=("chrB",), test=("chrC",)
)


@pytest.fixture(scope="session")
def made(
    tmp_path_factory: pytest.TempPathFactory, genome: Path, signals: Path
) -> tuple[Path, PrepareSummary]:
    """The dataset of the BED table and its summary."""
    path = tmp_path_factory.mktemp("dataset") / "data.h5"
    return path, prepare(genome, signals / "bed.tsv", path, OPTIONS)


@pytest.fixture
def dataset(made: tuple[Path, PrepareSummary]) -> PreparedDataset:
    """The prepared dataset."""
    return PreparedDataset(made[0])
