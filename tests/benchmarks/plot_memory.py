"""Draw memory and time against context length, from memory.py (JSON) or attention_memory.py (TSV).

python tests/benchmarks/plot_memory.py training.json -o memory.png
python tests/benchmarks/plot_memory.py attention.tsv --part forward+backward -o attention.png

A line ends where a case did not fit or took too long; a cross and its note stand at the next length.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

# Okabe and Ito's colors, which color-blind readers tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvP*"
MIB = 2**20


class Case(NamedTuple):
    """One measurement: mebibytes and CPU seconds, or None and a note why not."""

    title: str
    part: str
    bp: int
    mebibytes: float | None
    seconds: float | None
    note: str


def read(path: Path) -> list[Case]:
    """The cases of a file of either program."""
    if path.suffix == ".json":
        return [
            Case(
                row["title"],
                row["part"],
                row["bp"],
                row["peak"] / MIB if "peak" in row else None,
                row.get("cpu_seconds"),
                row.get("note", ""),
            )
            for row in json.loads(path.read_text())["results"]
        ]
    with open(path, newline="") as handle:
        rows = list(csv.DictReader((line for line in handle if "\t" in line), delimiter="\t"))
    return [
        Case(
            row["attention"],
            row["pass"],
            int(row["bp"]),
            float(row["peak_mib"]) if row["peak_mib"] else None,
            float(row["cpu_seconds"]) if row["cpu_seconds"] else None,
            row["note"],
        )
        for row in rows
    ]


def draw(axes: Any, cases: list[Case], field: str) -> None:
    """One line a title: ``mebibytes`` or ``seconds`` against kb."""
    for number, title in enumerate(dict.fromkeys(case.title for case in cases)):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        own = sorted((case for case in cases if case.title == title), key=lambda case: case.bp)
        done = [(case.bp / 1000, getattr(case, field)) for case in own if getattr(case, field) is not None]
        if done:
            axes.plot(*zip(*done, strict=True), color=color, marker=marker, markersize=4, label=title)
        failed = [case for case in own if case.note]
        if failed and done:
            at = failed[0].bp / 1000, done[-1][1]
            axes.plot(*at, "x", color=color)
            axes.annotate(failed[0].note, at, (0, 4), textcoords="offset points", fontsize=6, ha="center")
    axes.set(xscale="log", yscale="log", xlabel="context (kb)")
    lengths = sorted({case.bp / 1000 for case in cases})
    axes.set_xticks(lengths, [f"{length:,.0f}" for length in lengths], rotation=45)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measurements", type=Path)
    parser.add_argument("--part", help="part or pass to draw; default: the first")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    cases = read(options.measurements)
    parts = list(dict.fromkeys(case.part for case in cases))
    part = options.part or parts[0]
    if part not in parts:
        raise SystemExit(f"{options.measurements} has no part {part!r}; it has: {', '.join(parts)}")
    cases = [case for case in cases if case.part == part]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axes, field in ((left, "mebibytes"), (right, "seconds")):
        draw(axes, cases, field)
    left.set(ylabel="peak memory (MiB)", title=f"{part}: memory")
    right.set(ylabel="CPU seconds", title=f"{part}: time")
    left.legend(frameon=False, fontsize=8)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
