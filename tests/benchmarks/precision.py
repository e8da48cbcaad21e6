"""Scores below float32 beside those in float32: correlation and errors, of all variants and of the weak ones.

SNVs of the packaged example's genome (chromosome I of yeast), evenly spaced, scored by yeast-tss or another
checkpoint on the device asked for. On a CPU ``tf32`` is ``fp32``. Example::

    python tests/benchmarks/precision.py --variants 200 --json precision.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import peers
import torch
from numpy.typing import NDArray

from gexpr import checkpoints
from gexpr.genome.examples import resolve_fasta
from gexpr.genome.fasta import Fasta
from gexpr.models.base import SequenceModel
from gexpr.results import Variant
from gexpr.scoring.definitions import PRECISIONS
from gexpr.scoring.devices import resolve_device
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor

WEAK = 0.5
"""Share of the scores, those nearest to zero, that are called weak."""


def snv(genome: Fasta, contig: str, position: int, row: int = 0, step: int = 1) -> Variant:
    """An SNV at a position of the genome, to the ``step``-th next base."""
    ref = genome.fetch(contig, position, position + 1)
    alt = "ACGT"[("ACGT".index(ref) + step) % 4]
    return Variant(row, row + 1, contig, position + 1, ".", ref, alt, "ok", contig, position, ref, alt)


def errors(found: NDArray[np.floating], expected: NDArray[np.floating]) -> dict[str, float]:
    """How far scores lie from the right ones; the relative errors are medians."""
    found, expected = np.ravel(found).astype(np.float64), np.ravel(expected).astype(np.float64)
    error, size = np.abs(found - expected), np.abs(expected)
    weak = (size <= np.quantile(size, WEAK)) & (size > 0)
    relative = error / np.where(size > 0, size, np.nan)

    def correlation(chosen: NDArray[np.bool_]) -> float:
        pair = found[chosen], expected[chosen]
        varies = chosen.sum() > 1 and min(map(np.ptp, pair)) > 0
        return float(np.corrcoef(*pair)[0, 1]) if varies else float("nan")

    return {
        "correlation": correlation(np.ones(len(found), dtype=bool)),
        "largest_error": float(error.max()),
        "median_error": float(np.median(error)),
        "median_relative_error": float(np.nanmedian(relative)),
        "weak_correlation": correlation(weak),
        "weak_relative_error": float(np.median(relative[weak])) if weak.any() else float("nan"),
        "median_score": float(np.median(size)),
    }


def score(
    model: SequenceModel, genome: Fasta, variants: list[Variant], precision: str, engine: str, device: str
) -> NDArray[np.float32]:
    """logFC of the variants."""
    with Predictor(model, precision=precision, device=resolve_device(device)) as predictor:
        return VariantScorer(predictor, FastaWindows(genome), engine=engine).score(variants)["logFC"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yeast-tss", help="a checkpoint")
    parser.add_argument("--variants", type=int, default=200)
    parser.add_argument("--precisions", default="fp16,bf16")
    parser.add_argument("--engines", default="incremental,plain")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    unknown = set(options.precisions.split(",")) - set(PRECISIONS)
    if unknown:
        parser.error(f"unknown precision {', '.join(sorted(unknown))} (known: {', '.join(PRECISIONS)})")
    genome = Fasta(resolve_fasta("example"))
    contig = genome.names[0]
    places = np.linspace(20_000, genome.lengths[contig] - 20_000, options.variants).astype(int)
    variants = [snv(genome, contig, int(place), row, row % 3 + 1) for row, place in enumerate(places)]
    model = checkpoints.load(options.model)
    rows: list[dict[str, Any]] = []
    titles = "precision engine correlation largest median relative weak:correlation weak:relative"
    print(titles.replace(" ", "\t"))
    expected = score(model, genome, variants, "fp32", "plain", options.device)
    for precision in ["fp32", *options.precisions.split(",")]:
        for engine in options.engines.split(","):
            seconds, found = peers.timed(
                lambda precision=precision, engine=engine: score(  # type: ignore[misc]
                    model, genome, variants, precision, engine, options.device
                )
            )
            row = errors(found, expected)
            columns = [
                f"{row['correlation']:.6f}",
                f"{row['largest_error']:.2e}",
                f"{row['median_error']:.2e}",
            ]
            columns += [f"{row['median_relative_error']:.2g}", f"{row['weak_correlation']:.4f}"]
            columns += [f"{row['weak_relative_error']:.2g}"]
            print(precision, engine, *columns, sep="\t", flush=True)
            rows.append({"precision": precision, "engine": engine, "seconds": seconds, **row})
    median = rows[0]["median_score"]
    print(f"{len(variants)} variants, {expected.shape[1]} tracks; median |logFC| {median:.2e}")
    record = {"model": options.model, "variants": len(variants), "rows": rows, "machine": peers.machine()}
    peers.write_json(options.json, record)


if __name__ == "__main__":
    main()
