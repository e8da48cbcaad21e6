"""Models whose predictions can be worked out on paper, and small genomes to show them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from gexpr.models.base import ModelConfig, SequenceModel
from gexpr.results import Track, Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
    """A model without weights; ``bin_bases`` bases in a bin."""

    bin_bases: int = 4

    @property
    def bin_size(self) -> int:
        return self.bin_bases


class BaseCounts(SequenceModel):
    """Four tracks: how many A, C, G, T lie in each bin, as + strand A and C, - strand G and T.

    A and T, C and G are strand pairs, so that the model is exactly equivariant: predictions of the
    reverse complement, turned back, equal those of the sequence.
    """

    config: ToyConfig

    def __init__(self, context_length: int = 64, target_length: int = 8, bin_bases: int = 4) -> None:
        super().__init__(
            ToyConfig(
                context_length=context_length,
                target_length=target_length,
                heads={"tracks": 4},
                bin_bases=bin_bases,
            )
        )
        self.tracks = [
            Track(i, f"count_{base}", f"Bases {base}", strand="+" if i < 2 else "-", strand_pair=3 - i)
            for i, base in enumerate("ACGT")
        ]

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        bins = x.reshape(x.shape[0], -1, self.bin_size, 4).sum(2)
        return self.crop_bins(bins)


class Unpaired(BaseCounts):
    """Counts without strand pairs: on the reverse complement track A counts T."""

    def __init__(self, **settings: int) -> None:
        super().__init__(**settings)
        self.tracks = [track._replace(strand=".", strand_pair=track.index) for track in self.tracks]


class CenterBase(BaseCounts):
    """The one-hot base at index ``context_length // 2``, in every bin."""

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        center = x[:, self.context_length // 2]
        return center[:, None, :].expand(-1, self.target_length, -1).clone()


class TwoHeads(BaseCounts):
    """Head ``human`` counts A and C, head ``mouse`` G and T."""

    def __init__(self) -> None:
        super().__init__()
        self.config = dataclasses.replace(self.config, heads={"human": 2, "mouse": 2})

    def forward(self, x: torch.Tensor, head: str | None = None) -> torch.Tensor:
        counts = super().forward(x)
        return counts[..., :2] if self.head_name(head) == "human" else counts[..., 2:]


def write_fasta(path: Path, contigs: dict[str, str]) -> Path:
    """A FASTA file with lines of 60 bases."""
    with open(path, "w") as file:
        for name, sequence in contigs.items():
            file.write(f">{name}\n")
            file.writelines(sequence[i : i + 60] + "\n" for i in range(0, len(sequence), 60))
    return path


def write_vcf(path: Path, records: list[tuple[str, int, str, str, str]]) -> Path:
    """A VCF file from (chrom, pos, id, ref, alt)."""
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [f"{chrom}\t{pos}\t{name}\t{ref}\t{alt}\t.\t.\t." for chrom, pos, name, ref, alt in records]
    path.write_text("\n".join(lines) + "\n")
    return path


def variant(start: int, ref: str, alt: str, row: int = 0, contig: str = "chr1", name: str = ".") -> Variant:
    """An allele that can be scored, from 0-based start and trimmed alleles."""
    return Variant(row, row + 3, contig, start + 1, name, ref, alt, "ok", contig, start, ref, alt)


def save_tiny_checkpoint(folder: Path, seed: int = 3) -> Path:
    """A fast sparse_enformer checkpoint with drawn weights: 512 bp, 24 bins of 16 bp."""
    from gexpr import checkpoints

    model = tiny_model(seed)
    return checkpoints.save(folder, model, model.tracks, {}, "A model without training, for tests.")


def tiny_model(seed: int = 3) -> SequenceModel:
    """The model of :func:`save_tiny_checkpoint`."""
    from gexpr.models import registry

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = dict(
            context_length=512,
            target_length=24,
            heads={"tracks": 4},
            channels=24,
            num_downsamples=4,
            divisible_by=8,
            depth=1,
            attention_heads=2,
            key_size=8,
            positions="rotary",
            block_size=4,
            random_blocks=1,
        )
        model = registry.build("sparse_enformer", settings)
        # Output layers that start at zero would hide mistakes.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.tracks = BaseCounts().tracks
    return model.eval()
