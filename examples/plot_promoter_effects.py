#!/usr/bin/env python3
"""Draw what every single-base change of the example's promoters does, from the scores of the example.

    gexpr score-variants --checkpoint yeast-tss --fasta example -o scores.tsv example
    python examples/plot_promoter_effects.py scores.tsv -o promoters.png

One panel a gene: the logFC of each SNV in the track of the gene's own strand, TATA boxes and main starts of
transcription shaded. Printed is the median size of the effects inside and outside of them. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import re
import statistics
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from gexpr.genome.examples import resolve_bed, resolve_vcf

SHADES = {"TATA": "#f3c969", "TSS": "#a8d5ba"}
COLORS = {"A": "#2e7d32", "C": "#1565c0", "G": "#ef6c00", "T": "#c62828"}
ELEMENTS = ("TATA", "TSS", "elsewhere")


class Effect(NamedTuple):
    """One SNV: position relative to the start codon, new base on the gene's strand, element, logFC."""

    position: int
    base: str
    element: str
    score: float


def main() -> None:
    """Read the arguments, print the summary and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scores", type=Path, help="TSV of gexpr score-variants")
    parser.add_argument("-o", "--output", type=Path, default=Path("promoters.png"), help="picture to write")
    parser.add_argument(
        "--tracks", default="WT_plus,WT_minus", help="columns for genes on the + and on the - strand"
    )
    arguments = parser.parse_args()
    plus, minus = arguments.tracks.split(",")
    effects = read_effects(arguments.scores, {"+": plus, "-": minus})
    summarize(effects)
    draw(effects, arguments.output)
    print(f"written to {arguments.output}")


def read_effects(path: Path, columns: dict[str, str]) -> dict[str, list[Effect]]:
    """Gene -> its SNVs, in the track of the gene's strand."""
    with open(resolve_bed("example")) as handle:
        strands = {fields[3]: fields[5] for fields in (line.split() for line in handle)}
    with gzip.open(resolve_vcf("example"), "rt") as handle:
        records = [line.rstrip("\n").split("\t") for line in handle if not line.startswith("#")]
    elements = {record[2]: re.search("ELEMENT=(\\w+)", record[7]) for record in records}
    effects: dict[str, list[Effect]] = {}
    with open(path, newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            match = re.fullmatch(r"(\w+):c\.(-\d+)[ACGT]>([ACGT])", row["id"])
            if match is None or row["status"] != "ok":
                continue
            gene, position, base = match.group(1), int(match.group(2)), match.group(3)
            column = columns[strands[gene]]
            if column not in row:
                raise SystemExit(f"{path} has no track {column!r}; its columns are {', '.join(row)}")
            element = elements[row["id"]]
            name = element.group(1) if element else "elsewhere"
            effects.setdefault(gene, []).append(Effect(position, base, name, float(row[column])))
    if not effects:
        raise SystemExit(f"{path} holds none of the example's variants")
    return effects


def summarize(effects: dict[str, list[Effect]]) -> None:
    """Print, per gene, the median absolute logFC by element and where the strongest SNVs lie."""
    print("median |logFC|    " + "".join(f"{name:>11}" for name in ELEMENTS) + "   of the 20 strongest SNVs")
    for gene, values in effects.items():
        cells = []
        for name in ELEMENTS:
            sizes = [abs(effect.score) for effect in values if effect.element == name]
            cells.append(f"{statistics.median(sizes):11.3f}")
        strongest = sorted(values, key=lambda effect: -abs(effect.score))[:20]
        counts = {name: sum(effect.element == name for effect in strongest) for name in ELEMENTS}
        share = {name: sum(effect.element == name for effect in values) / len(values) for name in ELEMENTS}
        text = ", ".join(f"{counts[name]} {name} ({20 * share[name]:.1f} by chance)" for name in ELEMENTS[:2])
        print(f"{gene:<18}" + "".join(cells) + f"   {text}")


def draw(effects: dict[str, list[Effect]], output: Path) -> None:
    """One panel a gene, drawn to the same scale in bp."""
    spans = [max(e.position for e in values) - min(e.position for e in values) for values in effects.values()]
    figure, axes = plt.subplots(
        1,
        len(effects),
        figsize=(12, 3.4),
        sharey=True,
        squeeze=False,
        gridspec_kw={"width_ratios": spans},
        constrained_layout=True,
    )
    for axis, (gene, values) in zip(axes[0], effects.items(), strict=True):
        for effect in values:
            if effect.element in SHADES:
                axis.axvspan(
                    effect.position - 0.5, effect.position + 0.5, color=SHADES[effect.element], lw=0, zorder=0
                )
        axis.axhline(0, color="black", lw=0.6)
        for base, color in COLORS.items():
            chosen = [effect for effect in values if effect.base == base]
            axis.vlines(
                [e.position for e in chosen], 0, [e.score for e in chosen], color=color, lw=0.5, alpha=0.5
            )
            axis.plot(
                [e.position for e in chosen], [e.score for e in chosen], ".", color=color, ms=4, label=base
            )
        axis.set_title(gene, style="italic")
        axis.set_xlabel("position from ATG (bp)")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("log2 fold change of TSS signal")
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in SHADES.values()]
    dots = [plt.Line2D([], [], marker=".", ls="", color=color) for color in COLORS.values()]
    figure.legend(
        handles + dots,
        ["TATA box", "start of transcription", *(f"to {base}" for base in COLORS)],
        loc="outside lower center",
        ncols=6,
        frameon=False,
    )
    figure.savefig(output, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
