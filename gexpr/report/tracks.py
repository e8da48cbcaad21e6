"""Tracks over a window of the genome: both alleles of a variant, and measured beside predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gexpr.genome.genes import Gene
from gexpr.report.gene_models import GeneLanes, draw_genes, place_in_lanes
from gexpr.report.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    WIDTH,
    edge,
    heading,
    new_figure,
    position_axis,
    shortened,
    styled,
    unit,
)
from gexpr.results import Track, Variant
from gexpr.scoring.profiles import AlleleProfiles, RegionProfiles

_MARGIN = 0.8
"""Inches of a picture's width that are not the window: labels on the left."""
_MOST_ALLELE = 12


def variant_title(variant: Variant) -> str:
    """``rs123, chr1:12,345 A>G``, long alleles shortened."""
    ref, alt = (shortened(allele, _MOST_ALLELE) for allele in (variant.ref, variant.alt))
    name = "" if variant.id == "." else f"{shortened(variant.id, 60)}, "
    return f"{name}{variant.chrom}:{variant.pos:,} {ref}>{alt}"


def place_name(contig: str, start: int, end: int) -> str:
    """A place, 0-based and half-open, as titles have it: ``chr1:1,001–2,000``."""
    return f"{contig}:{start + 1:,}–{end:,}"


def strongest_columns(profiles: AlleleProfiles, most: int) -> list[int]:
    """The columns that the variant changes most (sum of absolute differences), in their own order.

    Units must agree for this to mean much; where none changes the first are taken.
    """
    change = np.nansum(np.abs(profiles.alternate.astype(float) - profiles.reference), axis=0)
    return sorted(np.argsort(-change, kind="stable")[:most].tolist())


def measured_first(profiles: RegionProfiles, most: int) -> list[int]:
    """At most so many columns, in their own order: those with a measurement, then the first of the others."""
    known = np.isfinite(profiles.measured).any(axis=0)
    return sorted(np.argsort(~known, kind="stable")[:most].tolist())


@styled
def draw_variant(
    profiles: AlleleProfiles,
    genes: Sequence[Gene] | None = None,
    *,
    columns: Sequence[int] | None = None,
    width: float = WIDTH,
    height: float | None = None,
) -> Any:
    """The predictions of both alleles over a window, track by track, each with the difference below.

    Args:
        profiles: of one variant.
        genes: those of its contig, under the name that the variant has; None draws no row of genes.
        columns: which tracks; None is all of them.
        width, height: inches; the height follows from the number of tracks.

    Returns:
        A matplotlib figure; two axes a track, then one of genes.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    columns = range(len(profiles.tracks)) if columns is None else columns
    lanes = _lanes(genes, profiles.variant.chrom, profiles.start, profiles.end, width)
    figure, axes = _rows(len(columns), (1.0, 0.5), lanes, width, height)
    edges = edge(profiles.start) + profiles.bin_size * np.arange(len(profiles.reference) + 1)
    for column, above, below in zip(columns, axes[::2], axes[1::2], strict=False):
        track = profiles.tracks[column]
        ref, alt = profiles.reference[:, column], profiles.alternate[:, column]
        above.stairs(
            np.nan_to_num(ref), edges, color=GREY, fill=True, alpha=0.55, linewidth=0, label="reference"
        )
        above.stairs(alt, edges, color=VERMILION, linewidth=0.9, label="alternate", baseline=None)
        below.stairs(np.nan_to_num(alt - ref), edges, color=BLUE, fill=True, linewidth=0, label="difference")
        below.axhline(0, color=BLACK, linewidth=0.5)
        _name(above, track, width)
        above.set_ylabel(unit(track, profiles.bin_size), fontsize=7)
        below.set_ylabel("alt − ref", fontsize=7)
        _limits(above, ref, alt)
        _few_ticks(below, 3)
        _symmetric(below, alt - ref)
    first, last = profiles.variant.pos, profiles.variant.pos + max(1, len(profiles.variant.ref)) - 1
    for each in axes:
        if last - first > 1:
            each.axvspan(first - 0.5, last + 0.5, color=BLACK, alpha=0.12, linewidth=0, zorder=0)
        each.axvline(first, color=BLACK, linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=0.5, label="variant")
    _finish(figure, axes, lanes, profiles.variant.chrom, profiles.start, profiles.end)
    handles = [handle for each in axes[:2] for handle in each.get_legend_handles_labels()[0]]
    named = {handle.get_label(): handle for handle in handles}
    figure.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=len(named) if width > 5 else 2
    )
    heading(figure, variant_title(profiles.variant))
    return figure


@styled
def draw_region(
    profiles: RegionProfiles,
    genes: Sequence[Gene] | None = None,
    *,
    columns: Sequence[int] | None = None,
    title: str | None = None,
    share_y: bool = False,
    width: float = WIDTH,
    height: float | None = None,
) -> Any:
    """Predictions over a region, track by track, below what was measured where it is known.

    Args:
        profiles: of one region.
        genes: under its contig's name; None draws no row of genes.
        columns: which tracks; None is all of them.
        title: default the region's place.
        share_y: the measured and the predicted signal of a track are drawn on one scale.
        width, height: inches; the height follows from the number of tracks.

    Returns:
        A matplotlib figure; for each track one axes of the measured signal, if any, and one of the
        predicted one, then one of genes.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    columns = list(range(len(profiles.tracks)) if columns is None else columns)
    known = {column: bool(np.isfinite(profiles.measured[:, column]).any()) for column in columns}
    lanes = _lanes(genes, profiles.contig, profiles.start, profiles.end, width)
    figure, axes = _rows(sum(1 + known[column] for column in columns), (0.8,), lanes, width, height)
    edges = edge(profiles.start) + profiles.bin_size * np.arange(len(profiles.predicted) + 1)
    remaining = iter(axes)
    for column in columns:
        track = profiles.tracks[column]
        predicted, measured = profiles.predicted[:, column], profiles.measured[:, column]
        own = [(next(remaining), "measured", measured, BLACK)] if known[column] else []
        own.append((next(remaining), "predicted", predicted, BLUE))
        for each, side, values, color in own:
            each.stairs(np.nan_to_num(values), edges, color=color, fill=True, linewidth=0, label=side)
            each.set_ylabel(f"{side}\n{unit(track, profiles.bin_size)}", fontsize=7)
            _limits(each, *((predicted, measured) if share_y and known[column] else (values,)))
        correlation = f", r = {_correlation(measured, predicted)}" if known[column] else ""
        _name(own[0][0], track, width, correlation)
    _finish(figure, axes, lanes, profiles.contig, profiles.start, profiles.end)
    heading(figure, title or place_name(profiles.contig, profiles.start, profiles.end))
    return figure


def _correlation(measured: NDArray[np.floating], predicted: NDArray[np.floating]) -> str:
    both = np.isfinite(measured) & np.isfinite(predicted)
    left, right = measured[both].astype(float), predicted[both].astype(float)
    if len(left) < 2 or left.std() == 0 or right.std() == 0:
        return "undefined"
    return f"{np.corrcoef(left, right)[0, 1]:.3f}".replace("-", "−")


def _lanes(genes: Sequence[Gene] | None, contig: str, start: int, end: int, width: float) -> GeneLanes | None:
    return None if genes is None else place_in_lanes(genes, contig, start, end, width - _MARGIN)


def _rows(
    groups: int, heights: Sequence[float], lanes: GeneLanes | None, width: float, height: float | None
) -> tuple[Any, list[Any]]:
    """A figure with rows of axes above each other on one axis of positions; the last one is for genes."""
    ratios = [*heights] * groups + ([] if lanes is None else [lanes.inches])
    figure = new_figure(width, height or sum(ratios) + 0.12 * len(ratios) + 0.9)
    made = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    return figure, list(made[:, 0])


def _name(axes: Any, track: Track, width: float, more: str = "") -> None:
    label = track.label or track.id
    told = "strand" in label.lower() or label.endswith(("+", "-"))
    strand = "" if told else {"+": ", + strand", "-": ", − strand"}.get(track.strand, "")
    axes.set_title(shortened(f"{label}{strand}", int(14 * width)) + more)


def _limits(axes: Any, *values: NDArray[np.floating]) -> None:
    """From 0, or below where values are negative, to the largest value; never empty."""
    low = min(0.0, *(float(np.nanmin(each, initial=0.0)) for each in values))
    high = max(0.0, *(float(np.nanmax(each, initial=0.0)) for each in values))
    span = (high - low) or 1.0
    axes.set_ylim(low - (0.05 * span if low < 0 else 0.0), high + 0.05 * span)
    _few_ticks(axes, 4)


def _symmetric(axes: Any, values: NDArray[np.floating]) -> None:
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    axes.set_ylim(-1.1 * largest, 1.1 * largest)


def _few_ticks(axes: Any, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=most))


def _finish(
    figure: Any, axes: Sequence[Any], lanes: GeneLanes | None, chrom: str, start: int, end: int
) -> None:
    if lanes is not None:
        draw_genes(axes[-1], lanes, start, end)
    for each in axes[:-1]:
        each.tick_params(axis="x", length=0)
        each.spines["bottom"].set_visible(False)
    position_axis(axes[-1], chrom, start, end)
    figure.align_ylabels(axes[:-1] if lanes is not None else axes)
