#!/usr/bin/env python3
"""How far a prediction looks: the gradient of the middle of the output with respect to the sequence.

    python receptive.py runs/*/checkpoint --fasta genome.fa.gz -o receptive.png --table receptive.tsv

For each window the predictions of the bins that overlap the middle --width bases, of all tracks of the
first head, are summed, and differentiated with respect to the one-hot sequence. The absolute gradient is
averaged over the four bases, the windows and both sides, by distance from the middle of the window, and
then over distances that grow by a constant factor. Drawn is its share of the whole, per base: models whose
outputs differ in scale can be compared, and the area under a curve (on linear axes) is one half.

Printed is within which distance from the middle 50, 90 and 99 % of the gradient lie. All models see the
same middles, drawn at random where the longest window fits into a contig, or else the middles of the
contigs with unknown bases around them. The table has the curves: distances from LOW to HIGH (half-open,
bp), mean absolute gradient, share.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from compare_tools import COLORS, STYLES, Table, add_format, label_of, save_picture

SHARES = (0.5, 0.9, 0.99)
DECADES = 1e-7
"""Smallest share that is drawn, beside the largest."""


class Curve(NamedTuple):
    """Mean absolute gradient by distance; see the module.

    Attributes:
        name: of the model.
        gradient: (context_length / 2,) by distance of 0, 1, ... bp from the middle, per base.
        edges: (n + 1,) limits of the distances that are averaged.
        smooth: (n,) means of ``gradient`` between them.
    """

    name: str
    gradient: np.ndarray
    edges: np.ndarray
    smooth: np.ndarray

    @property
    def total(self) -> float:
        """Sum over all bases of a window."""
        return float(2 * self.gradient.sum()) or 1.0

    def within(self, share: float) -> int:
        """Distance in bp within which that share of the gradient lies."""
        reached = np.flatnonzero(np.cumsum(self.gradient) * 2 > share * self.total * (1 - 1e-9))
        return int(reached[0]) + 1 if len(reached) else len(self.gradient)


def middles(fasta: Any, count: int, longest: int, seed: int) -> list[tuple[str, int]]:
    """Contig and position of the middle of every window."""
    generator = np.random.default_rng(seed)
    names = [name for name in fasta.names if fasta.lengths[name] >= longest]
    if not names:
        whole = list(fasta.names)
        chosen = generator.permutation(len(whole))[:count]
        return [(whole[index], fasta.lengths[whole[index]] // 2) for index in chosen]
    rooms = np.array([fasta.lengths[name] - longest + 1 for name in names])
    found = []
    for index in generator.choice(len(names), size=count, p=rooms / rooms.sum()):
        found.append((names[index], longest // 2 + int(generator.integers(rooms[index]))))
    return found


def middle_bins(model: Any, width: int) -> tuple[int, int]:
    """The bins of the target, half-open, that overlap the middle ``width`` bases of the window."""
    middle = model.context_length / 2
    first = int((middle - width / 2) // model.bin_size) - model.crop
    last = int(-((-middle - width / 2) // model.bin_size)) - model.crop
    return max(0, first), min(model.target_length, last)


def gradient(model: Any, codes: np.ndarray, width: int) -> np.ndarray:
    """Mean absolute gradient over the bases at every position of a window, (context_length,).

    Args:
        model: in evaluation mode, its parameters frozen.
        codes: uint8 (context_length,).
        width: of the middle whose bins count.
    """
    import torch

    from gexpr.models.layers import one_hot

    first, last = middle_bins(model, width)
    x = one_hot(torch.from_numpy(codes)[None]).requires_grad_()
    model(x)[:, first:last].sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().mean(1).numpy()


def spare_memory(model: Any) -> None:
    """Keep the inputs of the model's blocks alone, and compute their insides again for the gradient."""
    from torch.utils.checkpoint import checkpoint

    model.eval().requires_grad_(False)
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def curve(name: str, model: Any, windows: list[np.ndarray], width: int) -> Curve:
    """The curve of a model over windows of its context."""
    spare_memory(model)
    total = np.zeros(model.context_length)
    for number, codes in enumerate(windows, start=1):
        total += gradient(model, codes, width)
        print(f"{name}: window {number} of {len(windows)}", file=sys.stderr, flush=True)
    half = model.context_length // 2
    by_distance = (total[:half][::-1] + total[-half:]) / 2 / len(windows)
    edges = np.unique(np.geomspace(1, half, 81).round().astype(int))
    edges = np.unique([0, *edges, half])
    smooth = np.add.reduceat(by_distance, edges[:-1]) / np.diff(edges)
    return Curve(name, by_distance, edges, smooth)


def curves(checkpoints: list[str], fasta: Path, count: int, width: int, seed: int) -> list[Curve]:
    """The curves of several checkpoints over the same middles."""
    from gexpr import checkpoints as store
    from gexpr.genome.fasta import Fasta

    genome = Fasta(str(fasta))
    longest = max(store.describe(each).context_length for each in checkpoints)
    places = middles(genome, count, longest, seed)
    found = []
    for checkpoint in checkpoints:
        model = store.load(checkpoint)
        half = model.context_length // 2
        windows = [genome.codes(contig, at - half, at - half + model.context_length) for contig, at in places]
        found.append(curve(label_of(checkpoint), model, windows, width))
    return found


def draw(found: list[Curve], width: int, output: Path) -> None:
    """One line a model on logarithmic axes."""
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for number, each in enumerate(found):
        distances = (each.edges[:-1] + each.edges[1:]) / 2
        seen = each.smooth > 0
        axes.plot(
            distances[seen],
            each.smooth[seen] / each.total,
            color=COLORS[number % len(COLORS)],
            linestyle=STYLES[number // len(COLORS) % len(STYLES)],
            linewidth=1.5,
            label=each.name,
        )
    axes.axvline(width / 2, color="#888888", linewidth=0.8, linestyle=":")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="distance from the middle of the window (bp)",
        ylabel="share of the absolute gradient, per bp",
        title=f"What the middle {width:,} bp of the prediction depend on",
    )
    top = max((each.smooth.max() / each.total for each in found), default=0.0)
    if top > 0:  # below, there is nothing but the tails of normalized convolutions
        axes.set_ylim(bottom=max(axes.get_ylim()[0], DECADES * top))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    save_picture(figure, output)


def summary(found: list[Curve]) -> Table:
    """Distances that hold most of the gradient."""
    table = Table(["model", "context", *(f"{share:.0%} within" for share in SHARES)])
    for each in found:
        within = {f"{share:.0%} within": each.within(share) for share in SHARES}
        table.add({"model": each.name, "context": 2 * len(each.gradient), **within})
    return table


def write_table(found: list[Curve], path: Path) -> None:
    """The curves as TSV."""
    table = Table(["model", "low", "high", "gradient", "share_per_bp"])
    for each in found:
        for low, high, value in zip(each.edges[:-1], each.edges[1:], each.smooth, strict=True):
            row = {"model": each.name, "low": int(low), "high": int(high)}
            table.add({**row, "gradient": float(value), "share_per_bp": float(value / each.total)})
    path.write_text(table.tsv() + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--fasta", "-f", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--width", type=int, default=256, help="bases in the middle, default: %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--output", type=Path, required=True, help="picture")
    parser.add_argument("--table", type=Path, help="the curves as TSV")
    add_format(parser)
    arguments = parser.parse_args()
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)
    found = curves(arguments.checkpoints, arguments.fasta, arguments.windows, arguments.width, arguments.seed)
    summary(found).print(arguments.format)
    if arguments.table is not None:
        write_table(found, arguments.table)
    draw(found, arguments.width, arguments.output)


if __name__ == "__main__":
    main()
