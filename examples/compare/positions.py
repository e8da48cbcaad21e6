#!/usr/bin/env python3
"""The functions of distance that models have learned: `decay_attention` and `exp_decay`.

    python positions.py runs/*/checkpoint -o positions.png

Of `decay_attention`, f(j, t) of equations 6 and 7 over t - j, one panel a layer and one line a head (figure
8 of Angus and Eyuboglu 2019): what the product of query and bin is multiplied by before the softmax. Of
`exp_decay`, the weight of a bin over its distance in each of the sums, relative to the largest. Distances
are in bp, those of the middle bin to all others of the window.

Printed are, for every line, the decays per bin (to the right and to the left where they differ), the
distance at which the function is largest and the distances between which it is at least half of that.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from compare_tools import COLORS, STYLES, Table, add_format, label_of, save_picture

from gexpr import checkpoints as store
from gexpr.models.decay_attention import DecayAttention
from gexpr.models.exp_decay import ExpDecay


class Functions(NamedTuple):
    """The functions of one panel.

    Attributes:
        title: model and layer.
        kind: what a line is, ``head`` or ``sum``.
        distances: (T,) bp from the bin that looks.
        values: (lines, T).
        decays: (sides, lines) per bin.
    """

    title: str
    kind: str
    distances: np.ndarray
    values: np.ndarray
    decays: np.ndarray


@torch.no_grad()
def of_heads(layer: Any, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """f of every head of a layer of attention for the middle bin, (heads, bins), and its decays."""
    middle = bins // 2
    like = torch.zeros((), dtype=torch.float64)
    factors = layer.factors(middle, middle + 1, bins, like)
    if factors is None:  # no decay: the constant 1
        factors = torch.ones(1, 1, bins)
    decays = layer.decays(like.dtype) if hasattr(layer, "decay") else torch.zeros(1, len(factors))
    return factors[:, 0].numpy(), decays.numpy()


def of_sums(model: ExpDecay, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of all bins in the sums of the middle one, (sums, bins), largest 1, and their decays."""
    x = torch.zeros(1, bins, 1, dtype=torch.float64, requires_grad=True)
    sums = model.context(x)[0, :, bins // 2, 0]
    weights = torch.stack([torch.autograd.grad(each, x, retain_graph=True)[0][0, :, 0] for each in sums])
    config = model.config
    decays = model.context.log_decays.detach().exp() if config.learned else torch.tensor(config.decays)
    return (weights / weights.amax(1, keepdim=True)).numpy(), decays[None].numpy()


def functions(name: str, model: Any) -> list[Functions]:
    """The functions of a model, layer by layer."""
    bins = model.context_length // model.bin_size
    distances = (np.arange(bins) - bins // 2) * model.bin_size
    if isinstance(model, DecayAttention):
        layers = [of_heads(layer, bins) for layer in model.attention]
        kind = "head"
    elif isinstance(model, ExpDecay):
        layers, kind = [of_sums(model, bins)], "sum"
    else:
        raise SystemExit(f"{name} is a {type(model).__name__}, which has no function of distance to draw")
    titles = [f"{name}, layer {number}" if len(layers) > 1 else name for number in range(1, len(layers) + 1)]
    return [Functions(title, kind, distances, *each) for title, each in zip(titles, layers, strict=True)]


def summary(panels: list[Functions]) -> Table:
    """Decays and where each function is large."""
    columns = ["model", "line", "decay", "decay to the left", "largest at (bp)", "half from (bp)", "to (bp)"]
    table = Table(columns, {"decay": 5, "decay to the left": 5})
    for each in panels:
        for number, values in enumerate(each.values):
            wide = each.distances[values >= values.max() / 2]
            decays = [float(side[number]) for side in each.decays]
            row = {"model": each.title, "line": f"{each.kind} {number + 1}", "decay": decays[0]}
            if len(decays) > 1:
                row["decay to the left"] = decays[1]
            row["largest at (bp)"] = int(each.distances[values.argmax()])
            table.add({**row, "half from (bp)": int(wide.min()), "to (bp)": int(wide.max())})
    return table


def draw(panels: list[Functions], output: Path) -> None:
    """One panel a layer, one line a head or sum."""
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    size = (4.6 * columns, 3.4 * rows)
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, each in zip(axes.flat, panels, strict=False):
        for number, values in enumerate(each.values):
            axis.plot(
                each.distances / 1000,
                values,
                color=COLORS[number % len(COLORS)],
                linestyle=STYLES[number // len(COLORS) % len(STYLES)],
                linewidth=1.4,
                label=f"{each.kind} {number + 1}",
            )
        axis.set(title=each.title, ylim=(0, None), xlabel="distance of the bin, t − j (kb)")
        axis.set_ylabel("f(j, t)" if each.kind == "head" else "weight, relative")
        axis.axvline(0, color="#888888", linewidth=0.7, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    save_picture(figure, output)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("-o", "--output", type=Path, required=True)
    add_format(parser)
    arguments = parser.parse_args()
    panels = [
        panel for path in arguments.checkpoints for panel in functions(label_of(path), store.load(path))
    ]
    summary(panels).print(arguments.format)
    draw(panels, arguments.output)


if __name__ == "__main__":
    main()
