"""What moving against the model's bins alone makes of an insertion: scores in sequence without any function.

Stretches of the packaged chromosome are shuffled, base by base, so that nothing in them means anything to the
cell; a few random bases are inserted in the middle of each, and one base is substituted there. The score of
the insertion should be that of the substitution or less; what exceeds it is an artifact of bins. It is
printed for several ``--indel-shifts``, over all bins and near the variant.

Examples::

    python tests/benchmarks/indel_shifts.py
    python tests/benchmarks/indel_shifts.py --backgrounds 200 --json indel_shifts.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from peers import machine, write_json

from gexpr import checkpoints
from gexpr.genome.examples import resolve_fasta
from gexpr.genome.fasta import Fasta
from gexpr.results import Variant
from gexpr.scoring.definitions import Mask
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.indels import make_scorer
from gexpr.scoring.predictor import Predictor

SHIFTS = (1, 2, 4, 8)


def _shuffled(genome: Fasta, length: int, number: int, draw: np.random.Generator, path: Path) -> None:
    contig = next(iter(genome.names))
    with open(path, "w") as file:
        for each in range(number):
            start = int(draw.integers(0, genome.lengths[contig] - length))
            bases = np.array(list(genome.fetch(contig, start, start + length)))
            draw.shuffle(bases)
            file.write(f">shuffled{each}\n{''.join(bases)}\n")


def _variants(genome: Fasta, position: int, draw: np.random.Generator) -> dict[str, list[Variant]]:
    found: dict[str, list[Variant]] = {"substitution": [], "insertion": []}
    for row, contig in enumerate(genome.names):
        ref = genome.fetch(contig, position, position + 1)
        alt = "ACGT"[("ACGT".index(ref) + int(draw.integers(1, 4))) % 4]
        inserted = "".join(draw.choice(list("ACGT"), int(draw.integers(1, 16))))
        for name, old, new in (("substitution", ref, alt), ("insertion", "", inserted)):
            start = position + (name == "insertion")
            found[name].append(Variant(row, row, contig, start, ".", old, new, "ok", contig, start, old, new))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="yeast-tss")
    parser.add_argument("--backgrounds", type=int, default=60, help="shuffled stretches")
    parser.add_argument("--json", help="also write the figures here")
    arguments = parser.parse_args()
    draw = np.random.default_rng(1)
    model = checkpoints.load(arguments.checkpoint)
    length = 2 * model.context_length
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shuffled.fa"
        _shuffled(Fasta(resolve_fasta("example")), length, arguments.backgrounds, draw, path)
        genome = Fasta(path, Path(folder))
        variants = _variants(genome, length // 2, draw)
        print(
            "| scored | allele | indel shifts | mean absolute logFC | 95th percentile |\n" + "|---" * 5 + "|"
        )
        for mask in (Mask(), Mask(250)):
            for name, count in (("substitution", 1), *(("insertion", each) for each in SHIFTS)):
                predictor = Predictor(model, reverse_complement=False)

                def make(each: Predictor, _: int | None, mask: Mask = mask) -> VariantScorer:
                    return VariantScorer(each, FastaWindows(genome), mask=mask)

                scores = np.abs(make_scorer(predictor, count, make).score(variants[name])["logFC"])
                row = {
                    "mask": str(mask),
                    "allele": name,
                    "indel_shifts": count,
                    "mean": float(scores.mean()),
                    "p95": float(np.percentile(scores, 95)),
                }
                rows.append(row)
                print(f"| {mask} | {name} | {count} | {row['mean']:.4f} | {row['p95']:.4f} |", flush=True)
    write_json(arguments.json, {"machine": machine(), "backgrounds": arguments.backgrounds, "rows": rows})


if __name__ == "__main__":
    main()
