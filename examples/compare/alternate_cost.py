#!/usr/bin/env python3
"""What one more alternate allele costs: the incremental engine beside whole passes, for several models.

    python alternate_cost.py all/checkpoint last_two/checkpoint none/checkpoint \\
        --fasta genome.fa.gz --vcf variants.vcf.gz

The models are there in one process and take turns, variant by variant. The windows are centered on the SNVs
of the VCF. Of each, the reference is predicted by the incremental engine, then the alternate, and the
alternate again as a whole; a pass is one strand, of all bins and tracks. Given are medians over the
variants of the seconds of the processor (all threads together; on an idle machine and with one thread those
of the clock), the ratio of whole to incremental, the largest logFC (sums over bins, log2(1 + x)) and its
largest difference between the engines. The first variant warms up and does not count. ``attention`` lists
the layers of a `sparse_enformer` with global blocks or tokens. tests/benchmarks/context.py measures drawn
models of Enformer's width.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_tools import Table, add_format, label_of

from gexpr import checkpoints as store
from gexpr.genome.contigs import ContigMap
from gexpr.genome.fasta import Fasta
from gexpr.results import Variant
from gexpr.scoring.engine import FastaWindows
from gexpr.scoring.incremental import IncrementalPredictor, Sequences
from gexpr.scoring.predictor import Predictor
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.vcf import open_vcf


def seconds_of(function: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Seconds of the processor and result: other work on the machine does not count."""
    started = time.process_time()
    result = function()
    return time.process_time() - started, result


def global_layers(model: Any) -> str:
    """Which layers of a block-sparse model have global attention."""
    config = model.config
    if not hasattr(config, "global_layers"):
        return "dense" if hasattr(config, "depth") else "-"
    if not (config.global_blocks or config.global_tokens):
        return "global in no layer"
    layers = range(config.depth) if config.global_layers is None else config.global_layers
    if len(layers) == config.depth:
        return f"global in all {config.depth} layers"
    return f"global in layers {', '.join(str(layer + 1) for layer in layers)} of {config.depth}"


def snvs(fasta: Fasta, vcf: Path, count: int) -> list[Variant]:
    """The first SNVs of a VCF that can be scored."""
    reader = AlleleReader(fasta, ContigMap(fasta.names))
    alleles = (each for record in open_vcf(str(vcf)).records() for each in reader.split(record, 0))
    chosen = (each for each in alleles if each.ok and len(each.norm_ref) == len(each.norm_alt) == 1)
    found = list(itertools.islice(chosen, count))
    if len(found) < count:
        raise SystemExit(f"{vcf} has {len(found)} SNVs that fit the genome; {count} are needed (--variants)")
    return found


class Timed:
    """One model and what its alternates cost.

    Args:
        checkpoint: name or folder.
        fasta: where windows come from.
    """

    def __init__(self, checkpoint: str, fasta: Fasta) -> None:
        self.name = label_of(checkpoint)
        self.model = store.load(checkpoint)
        self.windows = FastaWindows(fasta)
        self.predictor = Predictor(self.model, batch_size=1, reverse_complement=False, unsquash=False)
        if not IncrementalPredictor.applies(self.predictor):
            raise SystemExit(
                f"{self.name} has no trunk that could be computed in part: there is nothing to compare"
            )
        self.incremental = IncrementalPredictor(self.predictor)
        self.seconds: dict[str, list[float]] = {"reference": [], "incremental": [], "whole": []}
        self.differences: list[float] = []
        self.scores: list[float] = []

    def measure(self, variant: Variant) -> None:
        """Predict reference and alternate, and the alternate once more as a whole."""
        length = self.model.context_length
        codes = [read(variant, length) for read in (self.windows.reference, self.windows.alternate)]
        both = torch.from_numpy(np.stack(codes))
        changed = np.flatnonzero(codes[0] != codes[1])
        span = int(changed[0]), int(changed[-1]) + 1

        def step(row: int) -> torch.Tensor:
            where = [("", 0)] if row == 0 else []
            batch = Sequences(both[row : row + 1], [0 if row == 0 else -1], [span if row else (0, 0)], where)
            return self.incremental.predict_passes(batch)[0][1]

        sums = {}
        for name, function in (
            ("reference", lambda: step(0)),
            ("incremental", lambda: step(1)),
            ("whole", lambda: self.predictor.predict(both[1:])),
        ):
            seconds, predictions = seconds_of(function)
            self.seconds[name].append(seconds)
            sums[name] = torch.log2(1 + predictions.double().sum(1))
        self.differences.append(float((sums["incremental"] - sums["whole"]).abs().max()))
        self.scores.append(float((sums["whole"] - sums["reference"]).abs().max()))

    def row(self) -> dict[str, Any]:
        """Medians, without the first variant."""
        found = {name: statistics.median(values[1:]) for name, values in self.seconds.items()}
        return {
            "model": self.name,
            "context": self.model.context_length,
            "attention": global_layers(self.model),
            "reference (s)": found["reference"],
            "incremental (s)": found["incremental"],
            "whole (s)": found["whole"],
            "whole / incremental": found["whole"] / found["incremental"],
            "largest difference": f"{max(self.differences):.1e}",
            "largest logFC": f"{max(self.scores):.1e}",
        }


def compare(checkpoints: list[str], fasta: Path, vcf: Path, count: int) -> Table:
    """One row a model; ``count`` variants are measured after the first."""
    genome = Fasta(str(fasta))
    models = [Timed(each, genome) for each in checkpoints]
    for variant in snvs(genome, vcf, count + 1):
        for each in models:
            each.measure(variant)
    rows = [each.row() for each in models]
    digits = {name: 3 for name in rows[0] if name.endswith("(s)")}
    table = Table(list(rows[0]), {**digits, "whole / incremental": 2})
    for row in rows:
        table.add(row)
    return table


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--fasta", "-f", type=Path, required=True)
    parser.add_argument("--vcf", type=Path, required=True)
    parser.add_argument("--variants", type=int, default=8, help="after the first, default: %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    add_format(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = compare(arguments.checkpoints, arguments.fasta, arguments.vcf, arguments.variants)
    table.print(arguments.format)


if __name__ == "__main__":
    main()
