"""Measured against predicted: genes as points, bins as a density."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.errors import ConfigError
from gexpr.evaluation import Density, Evaluation, difference_of
from gexpr.evaluation.groups import assays_of
from gexpr.report.style import BLUE, GREY, VERMILION, WIDTH, new_figure, save, styled

SIDES = ("measured", "predicted")
MAX_PICTURES = 60
"""Most pictures that :func:`draw_all` draws of one evaluation."""


def _figure(panels: int) -> tuple[Any, list[Any]]:
    figure = new_figure(WIDTH / 2 * panels, WIDTH / 2)
    return figure, list(np.ravel(figure.subplots(1, panels)))


def _save(figure: Any, path: str | os.PathLike[str]) -> Path:
    (saved,) = save([figure], os.fspath(path), force=True)
    return Path(saved)


def _r(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _count_ticks(axis: Any, largest: float, from_log: Callable[[float], float]) -> None:
    """Ticks at round values of a log(1 + x) axis, labeled with x itself."""
    ticks = [0.0]
    for power in range(12):
        if from_log(1.0 + 10.0**power) <= largest * 1.001:
            ticks.append(10.0**power)
    axis.set_ticks([from_log(1.0 + tick) for tick in ticks], [f"{tick:,.0f}" for tick in ticks])


def draw_points(
    axes: Any,
    measured: NDArray,
    predicted: NDArray,
    title: str,
    unit: str,
    sides: tuple[str, str] = SIDES,
    differences: bool = False,
) -> None:
    """Scatter of one value a gene.

    Args:
        axes: matplotlib axes.
        measured, predicted: (genes,) log(1 + sum), or differences of them.
        title: line above the panel.
        unit: what is shown, with its unit, for the axis labels.
        sides: what the horizontal and the vertical axis are.
        differences: axes are differences of logarithms instead of log-scaled sums.
    """
    axes.scatter(
        measured, predicted, s=9, color=BLUE, alpha=0.45, linewidths=0, rasterized=len(measured) > 5000
    )
    values = np.concatenate([measured, predicted, [0.0]])
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low or 1.0)
    limits = low - margin, high + margin
    axes.plot(limits, limits, color=VERMILION, linewidth=1.2, linestyle="--", zorder=1)
    axes.set(
        xlim=limits,
        ylim=limits,
        aspect="equal",
        title=title,
        xlabel=f"{sides[0]} {unit}",
        ylabel=f"{sides[1]} {unit}",
    )
    if differences:
        axes.axhline(0, color=GREY, linewidth=0.7, zorder=0)
        axes.axvline(0, color=GREY, linewidth=0.7, zorder=0)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            _count_ticks(axis, high, np.log)


def draw_density(
    figure: Any, axes: Any, density: Density, title: str, unit: str, sides: tuple[str, str] = SIDES
) -> None:
    """Two-dimensional histogram of bins, colors on a logarithmic scale."""
    from matplotlib.colors import LogNorm

    occupied = np.flatnonzero(density.counts.sum(axis=0) + density.counts.sum(axis=1))
    cells = min(density.CELLS, int(occupied[-1]) + 2 if len(occupied) else 2)
    edges = density.edges[: cells + 1]
    counts = np.ma.masked_equal(density.counts[:cells, :cells], 0)
    norm = LogNorm(vmin=1, vmax=max(2, int(density.counts.max())))
    mesh = axes.pcolormesh(edges, edges, counts.T, cmap="cividis", norm=norm, rasterized=True)
    axes.plot(edges[[0, -1]], edges[[0, -1]], color=VERMILION, linewidth=1.2, linestyle="--")
    axes.set(aspect="equal", title=title, xlabel=f"{sides[0]} {unit}", ylabel=f"{sides[1]} {unit}")
    for axis in (axes.xaxis, axes.yaxis):
        _count_ticks(axis, float(edges[-1]), np.log10)
    figure.colorbar(mesh, ax=axes, label="number of bins", shrink=0.8)


def _sides(evaluation: Evaluation) -> tuple[str, str]:
    return ("first", "second") if evaluation.source == "replicates" else SIDES


def _title(figure: Any, evaluation: Evaluation, name: str) -> None:
    width = int(11 * figure.get_figwidth())
    figure.suptitle(
        "\n".join([*textwrap.wrap(name, width), f"{evaluation.source}, {evaluation.split} split"])
    )


@styled
def condition_scatter(evaluation: Evaluation, condition: int, path: str | os.PathLike[str]) -> Path:
    """Picture of one condition: genes (when there are any) and bins, measured against predicted.

    Args:
        evaluation: of a model, replicates (genes and bins) or the ridge (genes).
        condition: index into ``evaluation.conditions``.
        path: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        ConfigError: another suffix, or an evaluation with neither genes nor bins.
        MissingDependencyError: matplotlib is not installed.
    """
    name = evaluation.conditions[condition].name
    has_genes = evaluation.genes is not None and len(evaluation.genes.genes) > 0
    panels = int(has_genes) + bool(evaluation.densities)
    if not panels:
        raise ConfigError(f"nothing to draw for {name}: the evaluation has neither genes nor bins")
    figure, axes = _figure(panels)
    if evaluation.genes is not None and has_genes:
        window = evaluation.window
        draw_points(
            axes[0],
            evaluation.genes.measured[:, condition],
            evaluation.genes.predicted[:, condition],
            f"{len(evaluation.genes.genes):,} genes, r = {_r(evaluation.value('gene', name))}",
            f"counts, ATG {_signed(-window.up)} to {_signed(window.down)} bp",
            _sides(evaluation),
        )
    if evaluation.densities:
        own = evaluation.conditions[condition]
        density = evaluation.densities[condition]
        strands = ", both strands" if own.stranded else ""
        draw_density(
            figure,
            axes[-1],
            density,
            f"{int(density.counts.sum()):,} bins of {evaluation.bin_size} bp{strands}",
            f"{evaluation.bin_unit} in {evaluation.bin_size} bp",
            _sides(evaluation),
        )
    _title(figure, evaluation, name)
    return _save(figure, path)


@styled
def difference_scatter(evaluation: Evaluation, difference: int, path: str | os.PathLike[str]) -> Path:
    """Picture of the difference between two conditions over genes; arguments as :func:`condition_scatter`."""
    pair = evaluation.differences[difference]
    if (
        evaluation.genes is None
        or evaluation.predicted_differences is None
        or not len(evaluation.genes.genes)
    ):
        raise ConfigError(f"nothing to draw for {pair.name}: the evaluation has no genes")
    figure, axes = _figure(1)
    measured = difference_of(evaluation.genes.measured, pair)
    predicted = evaluation.predicted_differences[:, difference]
    draw_points(
        axes[0],
        measured,
        predicted,
        f"{len(measured):,} genes, r = {_r(evaluation.value('difference', pair.name))}",
        "difference of ln(1 + counts)",
        _sides(evaluation),
        differences=True,
    )
    _title(figure, evaluation, pair.name)
    return _save(figure, path)


@styled
def assay_scatter(evaluation: Evaluation, assay: str, path: str | os.PathLike[str]) -> Path:
    """Picture of the bins of one assay's tracks, and of how their correlations are spread.

    Args:
        evaluation: window by window.
        assay: one of ``evaluation.assay_densities``.
        path: ``.png``, ``.svg`` or ``.pdf``.
    """
    figure, axes = _figure(2)
    density = evaluation.assay_densities[assay]
    draw_density(
        figure,
        axes[0],
        density,
        f"{int(density.counts.sum()):,} values, bins of {evaluation.bin_size} bp",
        f"{evaluation.bin_unit} in {evaluation.bin_size} bp",
        _sides(evaluation),
    )
    places = assays_of(evaluation.tracks)[assay]
    names = {evaluation.tracks[place].id for place in places}
    values = {
        transform: np.array(
            [
                row.value
                for row in evaluation.metrics
                if (row.level, row.transform, row.statistic) == ("bin", transform, "pearson")
                and row.name in names
                and not np.isnan(row.value)
            ]
        )
        for transform in ("raw", "log1p")
    }
    draw_correlations(axes[1], values, f"{len(places):,} track{'s' * (len(places) != 1)}")
    _title(figure, evaluation, assay)
    return _save(figure, path)


def draw_correlations(axes: Any, values: dict[str, NDArray], title: str) -> None:
    """Histograms of the tracks' Pearson's r, one outline a transform, with their medians as lines.

    Args:
        axes: matplotlib axes.
        values: transform -> (tracks,) correlations.
        title: line above the panel.
    """
    low = min([0.0, *(float(each.min()) for each in values.values() if len(each))])
    edges = np.linspace(np.floor(low * 20) / 20, 1.0, 21 if low >= 0 else 41)
    for (transform, each), color in zip(values.items(), (BLUE, VERMILION), strict=False):
        if len(each):
            label = f"{transform}, median {_r(float(np.median(each)))}"
            axes.hist(each, bins=edges, histtype="step", color=color, linewidth=1.4, label=label)
            axes.axvline(float(np.median(each)), color=color, linewidth=0.9, linestyle="--")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(title=title, xlabel="Pearson's r over bins", ylabel="number of tracks", xlim=edges[[0, -1]])
    if any(len(each) for each in values.values()):
        axes.legend(frameon=False, fontsize="small")


def draw_all(evaluation: Evaluation, folder: str | os.PathLike[str], suffix: str = ".png") -> list[Path]:
    """Every condition's picture, every difference's and every assay's, named after them; returns their paths.

    Of more than :data:`MAX_PICTURES` the first are drawn, with a warning.
    """
    wanted: list[tuple[Callable[[Evaluation, Any, Path], Path], int | str, str]] = [
        (condition_scatter, i, condition.name) for i, condition in enumerate(evaluation.conditions)
    ]
    if evaluation.genes is not None and len(evaluation.genes.genes):
        wanted += [
            (difference_scatter, i, f"difference {pair.name}")
            for i, pair in enumerate(evaluation.differences)
        ]
    wanted += [(assay_scatter, assay, f"assay {assay}") for assay in evaluation.assay_densities]
    if len(wanted) > MAX_PICTURES:
        logs.warning(f"the first {MAX_PICTURES} of {len(wanted):,} pictures were drawn")
    names: list[str] = []
    paths = []
    for draw, index, title in wanted[:MAX_PICTURES]:
        name = f"{evaluation.source}_{_file_name(title)}"
        # Titles that differ in punctuation alone, or in case on some file systems, must not collide.
        names.append(name.lower())
        repeat = names.count(name.lower())
        paths.append(draw(evaluation, index, Path(folder) / f"{name}{f'_{repeat}' * (repeat > 1)}{suffix}"))
    return paths


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_") or "unnamed"


def _signed(number: int) -> str:
    return f"+{number}" if number > 0 else f"−{-number}" if number else "0"
