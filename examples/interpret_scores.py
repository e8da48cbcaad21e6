#!/usr/bin/env python3
"""Make the numbers and pictures of docs/interpreting-scores.md.

    python examples/interpret_scores.py scores.h5 -o docs

scores.h5 is made first where it is missing: the example's variants, with the predictions of 64 bins around
each (minutes). The sum over 250 bp on either side of a variant is then taken from these predictions; it is
what ``gexpr score-variants --mask center:250`` computes. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

import h5py
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

BIN, NEAR = 16, 250
GENES = {
    "CDC19": ("D_plus", "#0072b2", "o"),
    "SSA1": ("D_minus", "#d55e00", "^"),
    "ADE1": ("D_plus", "#009e73", "s"),
}
TATA = {"CDC19": (-199, -192), "SSA1": (-166, -159), "ADE1": (-146, -133)}
STRONG = "SSA1:c.-161A>C"


class Scores:
    """The SNVs of the example: statistics (SNVs, tracks) and predictions (SNVs, bins, tracks)."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            names = file["snp"].asstr()[:]
            matches = [re.fullmatch(r"(\w+):c\.(-\d+)[ACGT]>[ACGT]", name) for name in names]
            chosen = np.array([match is not None for match in matches])
            self.names = names[chosen]
            self.genes = np.array([match[1] for match in matches if match])
            self.positions = np.array([int(match[2]) for match in matches if match])
            self.tracks = list(file["target_ids"].asstr()[:])
            self.tables = {name: file[name][:][chosen].astype(float) for name in ("logFC", "SAD", "D2", "JS")}
            self.ref, self.alt = (file[name][:][chosen].astype(float) for name in ("REF", "ALT"))
            self.bins = file["profile_start"][:][chosen][:, None] + BIN * np.arange(self.ref.shape[1])
            start = file["pos"][:][chosen].astype(int)[:, None] - 1
        self.start = start[:, 0]
        near = (self.bins <= start + NEAR) & (self.bins + BIN > start - NEAR)
        self.near_ref, self.near_alt = ((x * near[:, :, None]).sum(1) for x in (self.ref, self.alt))
        self.near_logfc = np.log2(self.near_alt + 1) - np.log2(self.near_ref + 1)

    def own(self, table: np.ndarray, gene: str) -> np.ndarray:
        """The gene's SNVs in the diamide track of its own strand."""
        return table[self.genes == gene, self.tracks.index(GENES[gene][0])]


def main() -> None:
    """Score where needed, print the numbers and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scores", type=Path, help="HDF5 file of scores; made where it is missing")
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="folder for the pictures")
    arguments = parser.parse_args()
    if not arguments.scores.exists():
        command = "gexpr score-variants -c yeast-tss -f example --stats logFC,SAD,D2,JS --profiles center:64"
        subprocess.run([*command.split(), "-o", str(arguments.scores), "example"], check=True)
    scores = Scores(arguments.scores)
    summarize(scores)
    draw_tracks(scores, arguments.output / "interpreting-tracks.png")
    draw_dilution(scores, arguments.output / "interpreting-dilution.png")
    draw_distribution(scores, arguments.output / "interpreting-distribution.png")


def in_tata(scores: Scores, gene: str) -> np.ndarray:
    """Which of the gene's SNVs lie in its TATA box."""
    first, last = TATA[gene]
    positions = scores.positions[scores.genes == gene]
    return (positions >= first) & (positions <= last)


def summarize(scores: Scores) -> None:
    """Print the tables of the page."""
    print("diamide, own strand    median |logFC|, all bins   within 250 bp      reads of the reference")
    print("gene     SNVs          TATA   elsewhere          TATA   elsewhere   all bins   within 250 bp")
    for gene in GENES:
        tata = in_tata(scores, gene)
        cells = [
            np.median(np.abs(scores.own(table, gene)[part]))
            for table in (scores.tables["logFC"], scores.near_logfc)
            for part in (tata, ~tata)
        ]
        strongest = np.abs(scores.own(scores.tables["logFC"], gene)).argmax()
        sad, change = (scores.own(scores.tables[name], gene)[strongest] for name in ("SAD", "logFC"))
        window, near = sad / (2**change - 1) - 1, scores.own(scores.near_ref, gene)[strongest]
        print(
            f"{gene:<8} {len(tata):4}         {cells[0]:5.3f}       {cells[1]:5.3f}         {cells[2]:5.3f}"
            f"       {cells[3]:5.3f}       {window:4.0f}            {near:4.0f}"
        )
    track = scores.tracks.index("D_minus")
    row = list(scores.names).index(STRONG)
    print(f"{STRONG}: reads in 501 bp {scores.near_ref[row, track]:.1f} to {scores.near_alt[row, track]:.1f}")
    around = (scores.genes == "SSA1") & (scores.positions >= -170) & (scores.positions <= -50)
    reads = scores.near_ref[around, track]
    print(
        f"SSA1, reference in {len(np.unique(scores.positions[around]))} windows: {reads.min():.0f} to "
        f"{reads.max():.0f} reads, median {np.median(reads):.0f}"
    )
    print("all bins, diamide, own strand   logFC       SAD       D2      JS")
    still = np.abs(scores.tables["logFC"]) < 0.02
    quiet = {gene: scores.own(np.where(still, scores.tables["D2"], 0), gene) for gene in GENES}
    shifted = [scores.names[scores.genes == gene][values.argmax()] for gene, values in quiet.items()]
    for name in (STRONG, *shifted):
        row = list(scores.names).index(name)
        track = scores.tracks.index(GENES[scores.genes[row]][0])
        values = [scores.tables[stat][row, track] for stat in ("logFC", "SAD", "D2", "JS")]
        print(f"{name:<29} {values[0]:7.3f} {values[1]:9.2f} {values[2]:8.2f} {values[3]:7.4f}")
    for condition in ("WT", "D"):
        plus, minus = (
            scores.near_logfc[:, scores.tracks.index(f"{condition}_{s}")] for s in ("plus", "minus")
        )
        clear = (np.abs(plus) > 0.1) & (np.abs(minus) > 0.1)
        same = np.sign(plus[clear]) == np.sign(minus[clear])
        print(
            f"{condition}: |logFC| within 250 bp above 0.1 on both strands: {clear.sum()} SNVs, "
            f"same direction {same.sum()}; r of all {np.corrcoef(plus, minus)[0, 1]:.2f}"
        )


def finish(figure: plt.Figure, path: Path) -> None:
    """Write the picture without a date or version."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(f"written to {path}")


def draw_tracks(scores: Scores, path: Path) -> None:
    """Predictions of both alleles of one SNV and their difference, on the strand of its gene."""
    row = list(scores.names).index(STRONG)
    figure, axes = plt.subplots(
        2, 2, figsize=(10, 4.6), sharex=True, sharey="row", height_ratios=[2, 1], constrained_layout=True
    )
    edges = np.append(scores.bins[row], scores.bins[row, -1] + BIN)
    titles = {"WT_minus": "untreated, − strand", "D_minus": "diamide, − strand"}
    for (above, below), (track, title) in zip(axes.T, titles.items(), strict=True):
        column = scores.tracks.index(track)
        ref, alt = scores.ref[row, :, column], scores.alt[row, :, column]
        above.stairs(ref, edges, color="#999999", fill=True, alpha=0.5, label="reference")
        above.stairs(alt, edges, color="#d55e00", lw=1.5, label=STRONG)
        below.stairs(alt - ref, edges, color="#0072b2", fill=True)
        below.axhline(0, color="black", lw=0.6)
        above.set_title(title)
        below.set_xlabel("position on chromosome I (bp)")
        for axis in (above, below):
            axis.axvline(scores.start[row] + 1, color="black", lw=0.8, ls=":")
            axis.axvspan(
                scores.start[row] - NEAR, scores.start[row] + NEAR, color="#f0e442", alpha=0.15, lw=0
            )
        below.set_xlim(scores.start[row] - 300, scores.start[row] + 300)
        below.xaxis.set_major_locator(plt.MultipleLocator(100))
        below.xaxis.set_major_formatter("{x:,.0f}")
    above.plot([], [], color="black", lw=0.8, ls=":", label="the SNV")
    above.fill_between([], [], color="#f0e442", alpha=0.3, label="within 250 bp")
    axes[0, 0].legend(*above.get_legend_handles_labels(), frameon=False, loc="upper right")
    axes[0, 0].set_ylabel("predicted reads\nin a bin of 16 bp")
    axes[1, 0].set_ylabel("alternate −\nreference")
    finish(figure, path)


def draw_dilution(scores: Scores, path: Path) -> None:
    """The logFC of every SNV over all bins against that within 250 bp."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), constrained_layout=True)
    for axis, (gene, (_, color, marker)) in zip(axes, GENES.items(), strict=True):
        near, whole = scores.own(scores.near_logfc, gene), scores.own(scores.tables["logFC"], gene)
        tata = in_tata(scores, gene)
        axis.axhline(0, color="black", lw=0.4)
        axis.axvline(0, color="black", lw=0.4)
        axis.axline((0, 0), slope=1, color="black", lw=0.8, ls="--")
        slope = (near @ whole) / (near @ near)
        axis.axline((0, 0), slope=slope, color=color, lw=0.8, label=f"slope {slope:.2f}")
        axis.scatter(
            near[~tata], whole[~tata], 9, color=color, marker=marker, alpha=0.5, lw=0, label="elsewhere"
        )
        axis.scatter(
            near[tata], whole[tata], 22, facecolor="none", color="black", marker=marker, label="TATA box"
        )
        axis.set_title(f"{gene}, {'−' if gene == 'SSA1' else '+'} strand", style="italic")
        axis.set_xlabel("logFC within 250 bp")
        axis.legend(frameon=False, loc="upper left", fontsize="small", borderpad=0)
    axes[0].set_ylabel("logFC over all 15,360 bp")
    finish(figure, path)


def draw_distribution(scores: Scores, path: Path) -> None:
    """How large the scores of each promoter are, with quantiles."""
    figure, axis = plt.subplots(figsize=(8, 3.8), constrained_layout=True)
    quantiles = (0.5, 0.9, 0.99)
    for gene, (_, color, _) in GENES.items():
        sizes = np.sort(np.abs(scores.own(scores.tables["logFC"], gene)))
        values = ", ".join(f"{value:.3f}" for value in np.quantile(sizes, quantiles))
        axis.step(sizes, np.arange(len(sizes)) / len(sizes), color=color, lw=1.8, label=f"{gene}: {values}")
        axis.plot(np.quantile(sizes, quantiles), quantiles, "o", color=color, ms=4)
        print(f"|logFC| at 50, 90, 99 %: {gene} {values}")
    for quantile in quantiles:
        axis.axhline(quantile, color="black", lw=0.6, ls=":")
    axis.set(xscale="log", xlim=(5e-4, 1), ylim=(0, 1.03), yticks=(0, 0.25, 0.5, 0.75, 0.9, 0.99))
    axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
    axis.legend(frameon=False, title="|logFC| at 50, 90, 99 %", loc="lower right")
    axis.set_xlabel("|logFC| over all 15,360 bp, diamide, the gene's own strand")
    axis.set_ylabel("share of the promoter's SNVs\nwith a smaller |logFC|")
    finish(figure, path)


if __name__ == "__main__":
    main()
