#!/usr/bin/env python3
"""Measured against predicted genes, several models side by side.

    python genes.py OUT/evaluations/basenji OUT/evaluations/enformer -o genes.png

One column a model and one row a condition, from the genes.tsv that gexpr evaluate wrote: ln(1 + counts) in
the promoter window, axes labeled with the counts. ``--source ridge`` draws the 6-mer ridge of an
evaluation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from compare_tools import label_of, save_picture

from gexpr.evaluation.metrics import pearson
from gexpr.report.scatter import draw_points


def read_genes(folder: Path, source: str) -> pd.DataFrame:
    """The lines of one source of a folder's genes.tsv."""
    table = pd.read_csv(folder / "genes.tsv", sep="\t")
    lines = table[table.source == source]
    if lines.empty:
        raise SystemExit(
            f"{folder}/genes.tsv has no source {source!r}; it has: {', '.join(set(table.source))}"
        )
    return lines


def draw(folders: list[Path], conditions: list[str] | None, source: str, output: Path) -> None:
    """The picture; ``conditions`` None are all of the first folder."""
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    tables = {label_of(folder): read_genes(folder, source) for folder in folders}
    known = list(dict.fromkeys(next(iter(tables.values())).condition))
    rows = conditions or known
    figure, axes = pyplot.subplots(
        len(rows),
        len(tables),
        figsize=(3.4 * len(tables), 3.6 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for row, condition in enumerate(rows):
        for column, (name, table) in enumerate(tables.items()):
            genes = table[table.condition == condition]
            if genes.empty:
                raise SystemExit(f"{name} has no condition {condition!r}; it has: {', '.join(known)}")
            measured, predicted = genes.measured.to_numpy(), genes.predicted.to_numpy()
            r = pearson(measured, predicted)
            draw_points(axes[row, column], measured, predicted, f"{name}\nr = {r:.3f}", "counts")
        axes[row, 0].set_ylabel(f"{condition}\npredicted counts")
    figure.suptitle(f"{len(measured):,} genes of the held-out contigs")
    save_picture(figure, output)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="EVALUATION")
    parser.add_argument("--condition", action="append", help="may be repeated, default: all")
    parser.add_argument("--source", default="model")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    draw(arguments.folders, arguments.condition, arguments.source, arguments.output)


if __name__ == "__main__":
    main()
