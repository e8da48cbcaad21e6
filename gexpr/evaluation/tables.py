"""What an evaluation writes: metrics.tsv, groups.tsv, genes.tsv, and short tables for the terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

from gexpr.evaluation.bins import Metric
from gexpr.evaluation.evaluate import Evaluation
from gexpr.evaluation.groups import Group
from gexpr.evaluation.sequences import TableEvaluation
from gexpr.writers.output import AtomicOutput

MAX_LISTED = 30
"""Most tracks of which :func:`summary_lines` lists each."""


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


def write_groups(path: str | os.PathLike[str], evaluations: Sequence[Evaluation]) -> None:
    """Write the statistics by assay, one line a group; columns are the fields of :class:`Group`.

    An existing file is replaced.
    """
    rows: list[Sequence[str]] = [Group._fields]
    for evaluation in evaluations:
        rows += [
            [*row[:6], str(row.tracks), *(f"{value:.6g}" for value in row[7:])] for row in evaluation.groups
        ]
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


def write_rows(path: str | os.PathLike[str], evaluation: TableEvaluation) -> None:
    """Write measured and predicted values, one line a row and track; an existing file is replaced.

    Columns: row (number in the table, from 0), track, measured, predicted.
    """
    rows: list[Sequence[str]] = [("row", "track", "measured", "predicted")]
    for row, measured, predicted in zip(
        evaluation.rows.tolist(), evaluation.measured, evaluation.predicted, strict=True
    ):
        for track, m, p in zip(evaluation.tracks, measured, predicted, strict=True):
            rows.append((str(row), track.id, f"{m:.6g}", f"{p:.6g}"))
    _write(path, rows)


def row_lines(evaluation: Evaluation) -> list[str]:
    """The statistics of a table of sequences: one line a level and track."""
    table: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in evaluation.metrics:
        table.setdefault((row.level, row.name, row.n), {})[row.statistic] = row.value
    statistics = list(dict.fromkeys(row.statistic for row in evaluation.metrics))
    lines = [["level", "track", "n", *statistics]]
    for (level, name, n), values in table.items():
        lines.append([level, name, f"{n:,}", *(_cell(values.get(each)) for each in statistics)])
    return _aligned(lines, 2)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows as lines, the first ``left`` columns aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def summary_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """Pearson correlations side by side: one line a level, track or condition, one column a source.

    Bins of more than :data:`MAX_LISTED` tracks are left to :func:`group_lines`; no line at all where
    there is nothing else.
    """
    sources = [evaluation.source for evaluation in evaluations]
    table: dict[tuple[str, str, str], dict[str, float]] = {}
    counts: dict[tuple[str, str, str], int] = {}
    for evaluation in evaluations:
        many = len(evaluation.tracks) > MAX_LISTED
        for row in evaluation.metrics:
            if row.statistic == "pearson" and not (many and row.level.startswith("bin")):
                key = row.level, row.name, row.transform
                table.setdefault(key, {})[evaluation.source] = row.value
                counts.setdefault(key, row.n)
    if not table:
        return []
    rows = [["level", "track or condition", "transform", "n", *sources]]
    last = {"gene": 1, "difference": 2}
    for key, values in sorted(table.items(), key=lambda item: last.get(item[0][0], 0)):
        rows.append([*key, f"{counts[key]:,}", *(_cell(values.get(source)) for source in sources)])
    return _aligned(rows, 3)


def group_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """Pearson correlations by assay, of evaluations with several assays or too many tracks to list."""
    rows = [["source", "level", "assay", "transform", "tracks", "mean", "median", "min", "max"]]
    for evaluation in evaluations:
        groups = evaluation.groups
        if len(evaluation.tracks) > MAX_LISTED or len({row.assay for row in groups}) > 1:
            rows += [
                [row.source, row.level, row.assay, row.transform, f"{row.tracks:,}", *map(_cell, row[7:])]
                for row in groups
                if row.statistic == "pearson"
            ]
    return _aligned(rows, 4) if len(rows) > 1 else []
