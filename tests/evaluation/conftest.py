"""A small genome with whole-number counts on both strands, prepared without and with a soft clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gexpr.datasets import PreparedDataset, PrepareOptions, prepare

LENGTHS = {"chrA": 4000, "chrB": 1500, "chrC": 1111}
BIN = 8


@pytest.fixture(scope="session")
def signal() -> dict[tuple[str, str, str], np.ndarray]:
    """(condition, contig, strand) -> counts per base."""
    generator = np.random.default_rng(11)
    return {
        (condition, contig, strand): generator.poisson(0.05, length) * generator.integers(1, 50, length)
        for condition in ("wt", "heat")
        for contig, length in LENGTHS.items()
        for strand in "+-"
    }


@pytest.fixture(scope="session")
def prepared_folder(
    tmp_path_factory: pytest.TempPathFactory, signal: dict[tuple[str, str, str], np.ndarray]
) -> Path:
    """Folder with ``plain.h5``, ``clipped.h5`` (soft clip at 8, wt scaled by 2) and ``genes.bed``."""
    folder = tmp_path_factory.mktemp("evaluation")
    generator = np.random.default_rng(5)
    with open(folder / "genome.fa", "w") as handle:
        for contig, length in LENGTHS.items():
            handle.write(
                f">{contig}\n" + "".join(np.array(list("ACGT"))[generator.integers(0, 4, length)]) + "\n"
            )
    for condition in ("wt", "heat"):
        with open(folder / f"{condition}.bed", "w") as handle:
            for contig in LENGTHS:
                for strand in "+-":
                    values = signal[condition, contig, strand]
                    for position in np.flatnonzero(values):
                        handle.write(
                            f"{contig}\t{position}\t{position + 1}\t.\t{values[position]}\t{strand}\n"
                        )
    for name, clip, scale in (("plain", "", "1"), ("clipped", "8", "2")):
        rows = ["id\tlabel\tfiles\tstrand\tstrand_pair\tclip_soft\tscale"]
        for condition in ("wt", "heat"):
            for strand, other in (("+", "-"), ("-", "+")):
                cells = [f"{condition}{strand}", f"{condition} ({strand})", f"{condition}.bed", strand]
                cells += [f"{condition}{other}", clip, scale if condition == "wt" else "1"]
                rows.append("\t".join(cells))
        (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n")
        prepare(
            folder / "genome.fa",
            folder / f"{name}.tsv",
            folder / f"{name}.h5",
            PrepareOptions(context_length=200, bin_size=BIN, crop_bp=40, valid=("chrB",), test=("chrC",)),
        )
    lines = []
    for contig, length in LENGTHS.items():
        for i, start in enumerate(range(95, length - 200, 67)):
            lines.append(f"{contig}\t{start}\t{start + 90}\t{contig}_{i}\t0\t{'+-'[i % 2]}")
    (folder / "genes.bed").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture()
def plain(prepared_folder: Path) -> PreparedDataset:
    """Counts as they are; chrC is the test contig, chrB validates."""
    return PreparedDataset(prepared_folder / "plain.h5")


@pytest.fixture()
def clipped(prepared_folder: Path) -> PreparedDataset:
    """The same counts, soft-clipped, those of wt doubled first."""
    return PreparedDataset(prepared_folder / "clipped.h5")
