"""A synthetic genome in which a motif drives counts on its own strand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gexpr.datasets import PrepareOptions, prepare
from gexpr.training import TrainConfig, from_dict

MOTIF = "TGACTCAA"
CONTIGS = {"chr1": 12_000, "chr2": 12_000, "chr3": 6_000, "chr4": 2_000}


def _reverse_complement(text: str) -> str:
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))


@pytest.fixture(scope="session")
def motif_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset of four tracks: a+ a- follow the motif; b+ b- follow it too, fivefold after a G."""
    folder = tmp_path_factory.mktemp("motif")
    generator = np.random.default_rng(11)
    fasta: list[str] = []
    beds: dict[str, list[str]] = {"a": [], "b": []}
    for contig, length in CONTIGS.items():
        bases = np.array(list("ACGT"))[generator.integers(0, 4, length)]
        for start in range(40, length - 60, 97):
            start += int(generator.integers(0, 40))
            strong = bool(generator.integers(0, 2))
            unit = ("G" if strong else "A") + MOTIF
            forward = bool(generator.integers(0, 2))
            bases[start : start + len(unit)] = list(unit if forward else _reverse_complement(unit))
            position = start + 4
            for group, level in (("a", 20), ("b", 50 if strong else 10)):
                count = generator.poisson(level)
                if count:
                    strand = "+" if forward else "-"
                    beds[group].append(f"{contig}\t{position}\t{position + 1}\t.\t{count}\t{strand}")
        fasta.append(f">{contig}\n{''.join(bases)}\n")
    (folder / "genome.fa").write_text("".join(fasta))
    table = ["id\tfiles\tstrand\tstrand_pair\tassay"]
    for group, lines in beds.items():
        (folder / f"{group}.bed").write_text("\n".join(lines) + "\n")
        table += [f"{group}+\t{group}.bed\t+\t{group}-\tsim", f"{group}-\t{group}.bed\t-\t{group}+\tsim"]
    (folder / "tracks.tsv").write_text("\n".join(table) + "\n")
    options = PrepareOptions(
        context_length=256, bin_size=16, target_length=8, valid=("chr3",), test=("chr4",)
    )
    prepare(folder / "genome.fa", folder / "tracks.tsv", folder / "data.h5", options)
    return folder / "data.h5"


@pytest.fixture
def settings(motif_dataset: Path) -> dict[str, Any]:
    """A configuration whose every random part is on: dropout, augmentation, averaging, BatchNorm."""
    return {
        "data": {"path": str(motif_dataset)},
        "model": {
            "architecture": "sparse_enformer",
            "settings": {
                "channels": 24,
                "divisible_by": 8,
                "num_downsamples": 4,
                "depth": 1,
                "attention_heads": 2,
                "key_size": 8,
                "block_size": 4,
                "random_blocks": 1,
                "positions": "rotary",
                "dropout": 0.1,
            },
        },
        "loss": {
            "terms": [
                {
                    "name": "contrast",
                    "weight": 0.1,
                    "width": 4,
                    "pairs": [
                        {"numerator": ["b+"], "denominator": ["a+"]},
                        {"numerator": ["b-"], "denominator": ["a-"]},
                    ],
                }
            ]
        },
        "optimizer": {"lr": 0.005, "weight_decay": 0.01, "ema_decay": 0.9},
        "schedule": {"steps": 10, "warmup_steps": 3},
        "augmentation": {"jitter_bins": 2, "shift_bp": 2},
        "training": {"batch_size": 4, "accumulate": 2, "steps_per_epoch": 4, "valid_batch_size": 16},
    }


@pytest.fixture
def config(settings: dict[str, Any]) -> TrainConfig:
    """The configuration, checked."""
    return from_dict(settings)
