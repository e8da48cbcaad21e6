"""What an alternate costs as the context grows, and as more variants share a window.

Three ways to score one more variant, for contexts of 131 kb to 1 Mb and models of Enformer's width:

local   ``sparse_enformer`` whose layers attend to neighboring blocks and, in the last two, to global tokens:
        the incremental engine computes the cone of the change, and the last layer as a whole
global  ``sparse_enformer`` with global tokens in every layer: the trunk is incremental, the layers are not
passes  two full forward passes (of the first model)

Times are those of one alternate, its reference being there; the reference's time is listed by itself, as a
variant alone in its window needs both. ``--check`` compares the scores with those of full passes. With
``--variants`` Enformer's own times for 1, 2, 4, ... variants a window are measured instead. Example::

    python tests/benchmarks/context.py --json context.json
    python tests/benchmarks/context.py --variants 1,2,4,8,16 --json variants.json
    python tests/benchmarks/context.py --channels 384 --lengths 131072,262144 --check
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

from gexpr.models.base import SequenceModel
from gexpr.models.sparse_enformer import SparseEnformer
from gexpr.scoring.incremental import IncrementalPredictor, Sequences
from gexpr.scoring.predictor import Predictor

CROP = 320
"""Bins at each end of a window that are not predicted, as in Enformer."""


def sparse(kind: str, length: int, channels: int, depth: int, tracks: int) -> SparseEnformer:
    """A drawn model whose global tokens are in every layer (``global``) or in the last two (``local``)."""
    return peers.drawn_sparse_enformer(
        context_length=length,
        target_length=length // 128 - 2 * CROP,
        heads={"tracks": tracks},
        channels=channels,
        depth=depth,
        positions="rotary",
        random_blocks=0,
        global_blocks=False,
        global_tokens=64,
        global_layers=(depth - 2, depth - 1) if kind == "local" else None,
    )


def with_snvs(length: int, count: int) -> np.ndarray:
    """A drawn reference window and alternates with a base changed, near the middle: (1 + count, length)."""
    codes = np.random.default_rng(1).integers(0, 4, (1, length), dtype=np.uint8).repeat(count + 1, axis=0)
    for row in range(1, count + 1):
        place = length // 2 + 41 * row
        codes[row, place] = (codes[row, place] + 1) % 4
    return codes


def batch(codes: np.ndarray, rows: slice) -> Sequences:
    """Some rows of the reference and its alternates as a batch for the incremental predictor."""
    numbers = range(*rows.indices(len(codes)))
    differing = [np.flatnonzero(codes[row] != codes[0]) for row in numbers]
    changed = [(int(each[0]), int(each[-1]) + 1) if len(each) else (0, 0) for each in differing]
    return Sequences(
        torch.from_numpy(codes[rows]),
        [0 if row == 0 else -1 for row in numbers],
        changed,
        [("drawn", 0)] * len(changed),
    )


def measure(model: SequenceModel, alternates: int, tracks: int, check: bool) -> dict[str, Any]:
    """Seconds of the reference and of each alternate after it; the largest difference from full passes."""
    codes = with_snvs(model.context_length, alternates)
    predictor = Predictor(model, tracks=range(tracks), batch_size=1, reverse_complement=False)
    engine = IncrementalPredictor(predictor)
    sums = []

    def predict(rows: slice) -> None:
        for _, predictions in engine.predict_passes(batch(codes, rows)):
            sums.append(predictions.sum(1))

    reference = peers.timed(lambda: predict(slice(0, 1)))[0]
    seconds = [peers.timed(lambda row=row: predict(slice(row, row + 1)))[0] for row in range(1, len(codes))]
    found: dict[str, Any] = {"reference": reference, "alternates": seconds}
    if check:
        plain = [predictor.predict(codes[row : row + 1]).sum(1) for row in range(len(codes))]
        scores, expected = (
            torch.cat([torch.log2(each + 1) - torch.log2(group[0] + 1) for each in group[1:]])
            for group in (sums, plain)
        )
        found["difference"] = float((scores - expected).abs().max())
        found["largest_score"] = float(expected.abs().max())
    return found


def by_context(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The table of costs by context."""
    rows = []
    print("context\treference\tlocal\tglobal\ttwo passes\tvariants/s local\tglobal\ttwo passes", flush=True)
    for length in options.lengths:
        row: dict[str, Any] = {"context": length}
        for kind in ("local", "global"):
            model = sparse(kind, length, options.channels, options.depth, options.tracks)
            row[kind] = measure(model, options.alternates, options.tracks, options.check)
            del model
        local, everywhere = (peers.median(row[kind]["alternates"]) for kind in ("local", "global"))
        passes = 2 * row["local"]["reference"]
        rates = [f"{1 / each:.3f}" for each in (local, everywhere, passes)]
        times = [f"{each:.2f}" for each in (passes / 2, local, everywhere, passes)]
        print(f"{length:,}", *times, *rates, sep="\t", flush=True)
        if options.check:
            differences = [f"{kind} {row[kind]['difference']:.1e}" for kind in ("local", "global")]
            print(f"# largest difference of a score from full passes: {', '.join(differences)}", flush=True)
        rows.append(row)
    return rows


def by_variants(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The table of Enformer's costs by the number of variants a window."""
    rows = []
    model = peers.drawn_enformer(channels=options.channels, depth=options.depth)
    print("variants a window\tseconds a variant\tratio to two passes", flush=True)
    for count in options.variants:
        found = measure(model, count, options.tracks, options.check)
        seconds = (found["reference"] + sum(found["alternates"])) / count
        print(count, f"{seconds:.2f}", f"{2 * found['reference'] / seconds:.2f}", sep="\t", flush=True)
        rows.append({"variants": count, "seconds": seconds, **found})
    return rows


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(each) for each in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=numbers, default=[131_072, 196_608, 262_144, 524_288, 1_048_576])
    parser.add_argument("--variants", type=numbers, help="measure Enformer with so many variants a window")
    parser.add_argument("--channels", type=int, default=1536)
    parser.add_argument("--depth", type=int, default=11)
    parser.add_argument("--tracks", type=int, default=500)
    parser.add_argument("--alternates", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = by_variants(options) if options.variants else by_context(options)
    settings = {name: getattr(options, name) for name in ("channels", "depth", "tracks", "threads")}
    peers.write_json(options.json, {**settings, "rows": rows, "machine": peers.machine()})


if __name__ == "__main__":
    main()
