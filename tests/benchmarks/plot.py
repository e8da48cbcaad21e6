"""Draw the records of context.py: cost against context length, and against variants a window.

python tests/benchmarks/plot.py context.json variants.json -o docs/images/cost.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from peers import median

# Okabe and Ito's colors, which color-blind readers tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def by_context(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Seconds a variant against context length."""
    lengths = [row["context"] / 1000 for row in rows]
    curves = {
        "two full passes": ([2 * row["local"]["reference"] for row in rows], GREY, "s"),
        "incremental, global tokens in every layer": (
            [median(row["global"]["alternates"]) for row in rows],
            ORANGE,
            "^",
        ),
        "incremental, global tokens in the last two": (
            [median(row["local"]["alternates"]) for row in rows],
            BLUE,
            "o",
        ),
    }
    for label, (seconds, color, marker) in curves.items():
        axes.plot(lengths, seconds, color=color, marker=marker, label=label)
    axes.set(xscale="log", yscale="log", xlabel="context (kb)", ylabel="seconds an alternate")
    axes.set_xticks(lengths, [f"{length:,.0f}" for length in lengths])
    axes.set_xticks([], minor=True)
    axes.set_title("sparse_enformer: one more variant in a window", fontsize=10)


def by_variants(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Seconds a variant against variants a window."""
    counts = [row["variants"] for row in rows]
    passes = 2 * median([row["reference"] for row in rows])
    axes.plot(counts, [passes] * len(rows), color=GREY, marker="s", label="two full passes")
    axes.plot(counts, [row["seconds"] for row in rows], color=BLUE, marker="o", label="incremental")
    axes.set(
        xscale="log", xlabel="variants that share a window", ylabel="seconds a variant, reference shared"
    )
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    axes.set_title("enformer, 197 kb", fontsize=10)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("context")
    parser.add_argument("variants")
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    records = [json.loads(Path(path).read_text()) for path in (options.context, options.variants)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    by_context(left, records[0]["rows"])
    by_variants(right, records[1]["rows"])
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"Enformer's width, {records[0]['threads']} threads of {records[0]['machine']['processor']}",
        fontsize=9,
    )
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
