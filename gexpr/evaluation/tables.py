"""What an evaluation writes: metrics.tsv, genes.tsv, and a short table for the terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

from gexpr.evaluation.evaluate import Evaluation, Metric
from gexpr.writers.output import AtomicOutput


def _write(path: str | os.PathLike[str], rows: Iterable[Sequence[str]]) -> None:
    with AtomicOutput(os.fspath(path), force=True) as output:
        try:
            for row in rows:
                output.file.write(("\t".join(row) + "\n").encode())
        except OSError as error:
            raise output.failure(error) from error
        output.commit()


def write_metrics(path: str | os.PathLike[str], evaluations: Sequence[Evaluation]) -> None:
    """Write the metrics of all evaluations, one a line; columns are the fields of :class:`Metric`.

    An existing file is replaced.
    """
    rows: list[Sequence[str]] = [Metric._fields]
    for evaluation in evaluations:
        for row in evaluation.metrics:
            rows.append([*row[:6], f"{row.value:.6g}", str(row.n)])
    _write(path, rows)


def write_genes(path: str | os.PathLike[str], evaluations: Sequence[Evaluation]) -> None:
    """Write log(1 + sum) of every gene, one line a source, gene and condition; replaces an existing file."""
    rows: list[Sequence[str]] = [
        ("source", "gene", "chrom", "start", "end", "strand", "condition", "measured", "predicted")
    ]
    for evaluation in evaluations:
        if evaluation.genes is None:
            continue
        genes, measured, predicted = evaluation.genes
        for i in range(len(genes)):
            place = [
                str(genes.names[i]),
                str(genes.contigs[i]),
                str(genes.starts[i]),
                str(genes.ends[i]),
                "-" if genes.minus[i] else "+",
            ]
            for j, condition in enumerate(evaluation.conditions):
                rows.append(
                    [
                        evaluation.source,
                        *place,
                        condition.name,
                        f"{measured[i, j]:.6g}",
                        f"{predicted[i, j]:.6g}",
                    ]
                )
    _write(path, rows)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def summary_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """Pearson correlations side by side: one line a level, track or condition, one column a source."""
    sources = [evaluation.source for evaluation in evaluations]
    table: dict[tuple[str, str, str], dict[str, float]] = {}
    counts: dict[tuple[str, str, str], int] = {}
    for evaluation in evaluations:
        for row in evaluation.metrics:
            if row.statistic == "pearson":
                key = row.level, row.name, row.transform
                table.setdefault(key, {})[evaluation.source] = row.value
                counts.setdefault(key, row.n)
    rows = [["level", "track or condition", "transform", "n", *sources]]
    last = {"gene": 1, "difference": 2}
    for key, values in sorted(table.items(), key=lambda item: last.get(item[0][0], 0)):
        rows.append([*key, f"{counts[key]:,}", *(_cell(values.get(source)) for source in sources)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for line in rows:
        cells = [
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
