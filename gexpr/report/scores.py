"""Files of scores: how they are spread, where the strongest rows lie, and what these do in all tracks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from gexpr.errors import ConfigError, shown
from gexpr.report.style import (
    BLACK,
    BLUE,
    CYCLE,
    GREY,
    VERMILION,
    WIDTH,
    effect_colors,
    heading,
    new_figure,
    position_axis,
    shortened,
    styled,
    with_unit,
)
from gexpr.writers.score_summary import Contig, ScoreSummary

PANELS = ("distribution", "positions", "heatmap")
MOST_CURVES = len(CYCLE)


def parse_panels(text: str) -> tuple[str, ...]:
    """Names of panels, separated by commas.

    Raises:
        ConfigError: one is none of :data:`PANELS`, or is named twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in PANELS or names.count(name) > 1:
            raise ConfigError(f"panels are {', '.join(PANELS)}, each at most once, not {shown(text)}")
    return names


@styled
def draw_scores(
    summary: ScoreSummary,
    *,
    title: str,
    panels: Sequence[str] = PANELS,
    width: float = WIDTH,
    height: float | None = None,
) -> Any:
    """The panels of a file of scores, above each other.

    Args:
        summary: of the file.
        title: above all of them.
        panels: some of :data:`PANELS`, in this order.
        width, height: inches.

    Returns:
        A matplotlib figure; an axes each panel, of positions one for each contig, and a color bar.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    sizes = {
        "distribution": 1.9,
        "positions": 2.2,
        "heatmap": 1.1 + 0.13 * max(1, len(summary.strongest)),
    }
    ratios = [sizes[panel] for panel in panels]
    figure = new_figure(width, height or sum(ratios) + 0.5)
    parts = np.ravel(figure.subfigures(len(panels), 1, height_ratios=ratios, squeeze=False))
    draw = {"distribution": _distribution, "positions": _positions, "heatmap": _heatmap}
    for part, panel in zip(parts, panels, strict=True):
        draw[panel](part, summary)
    heading(figure, title)
    return figure


def _distribution(figure: Any, summary: ScoreSummary) -> None:
    axes = figure.subplots()
    totals = np.abs(summary.counts * (summary.edges[:-1] + summary.edges[1:]) / 2).sum(axis=1)
    shown = sorted(np.argsort(-totals, kind="stable")[:MOST_CURVES].tolist())
    for color, column in zip(CYCLE, shown, strict=False):
        label = shortened(summary.tracks[column].label or summary.tracks[column].id, 45)
        axes.stairs(summary.counts[column], summary.edges, color=color, label=label, baseline=None)
    axes.set_yscale("log")
    axes.set_ylim(0.7, None)
    axes.axvline(0, color=BLACK, linewidth=0.5, linestyle=(0, (1, 1.5)))
    more = len(summary.tracks) - len(shown)
    left_out = f"; {len(shown)} of {len(summary.tracks):,} tracks, the largest" if more else ""
    axes.set(
        xlabel=with_unit(summary.statistic),
        ylabel="number of variants",
        title=f"distribution of {summary.scored:,} variants{left_out}",
    )
    filled = np.flatnonzero(summary.counts.sum(axis=0))
    if len(filled):
        low, high = summary.edges[filled[0]], summary.edges[filled[-1] + 1]
        axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0)


def _positions(figure: Any, summary: ScoreSummary) -> None:
    contigs = [contig for contig in summary.contigs if len(summary.points[contig.name])]
    if not contigs:
        return _nothing(figure)
    spans = np.array([contig.end - contig.start for contig in contigs], dtype=float)
    # A short contig stays visible beside a long one.
    widths = np.maximum(spans, spans.sum() * (0.02 if len(contigs) > 4 else 0.1)).tolist()
    axes = np.ravel(figure.subplots(1, len(contigs), sharey=True, squeeze=False, width_ratios=widths))
    for place, (each, contig) in enumerate(zip(axes, contigs, strict=True)):
        points = summary.points[contig.name]
        colors = np.where(points[:, 1] > 0, BLUE, VERMILION)
        each.scatter(
            points[:, 0], points[:, 1], s=4, c=colors, linewidths=0, alpha=0.6, rasterized=len(points) > 2000
        )
        each.axhline(0, color=BLACK, linewidth=0.5)
        # Names of variants reach into neighboring contigs.
        each.patch.set_visible(False)
        margin = max(1, int(0.03 * (contig.end - contig.start)))
        if len(contigs) <= 4:
            position_axis(each, contig.name, contig.start - margin, contig.end + margin)
            share = widths[place] / sum(widths)
            _fewer_position_ticks(each, max(1, int(6 * share)))
            if share < 0.4:
                each.set_xlabel(f"{contig.name} (bp)")
        else:
            each.set_xlim(contig.start - margin, contig.end + margin)
            each.set_xticks([(contig.start + contig.end) / 2], [contig.name], rotation=90)
            each.tick_params(axis="x", length=0)
        if place:
            each.spines["left"].set_visible(False)
            each.tick_params(axis="y", length=0)
    _annotate(axes, contigs, summary)
    axes[0].set_ylabel(f"{with_unit(summary.statistic)}\nof the strongest track")
    # A title wider than the first contig would push the second away: room for its height alone.
    axes[0].set_title(" ")
    title = axes[0].annotate(
        "strongest variants along the genome",
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
    )
    title.set_in_layout(False)
    if len(contigs) > 4:
        figure.supxlabel("position on each contig (bp), to scale", fontsize=8)


def _nothing(figure: Any) -> None:
    axes = figure.subplots()
    axes.text(0.5, 0.5, "no variant has a score", ha="center", color=GREY, transform=axes.transAxes)
    axes.set_axis_off()


def _fewer_position_ticks(axes: Any, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=True))


def _annotate(axes: Any, contigs: Sequence[Contig], summary: ScoreSummary) -> None:
    """Names of the strongest variants, at most one in a neighborhood."""
    numbers = {contig.name: number for number, contig in enumerate(contigs)}
    total = sum(contig.end - contig.start for contig in contigs)
    taken: list[tuple[str, int]] = []
    for each in summary.strongest:
        if len(taken) == 6:
            return
        near = any(name == each.contig and abs(pos - each.pos) < 0.12 * total for name, pos in taken)
        if near or each.contig not in numbers or not np.isfinite(each.scores).any():
            continue
        taken.append((each.contig, each.pos))
        score = float(each.scores[np.nanargmax(np.abs(each.scores))])
        contig = contigs[numbers[each.contig]]
        right = each.pos > (contig.start + contig.end) / 2
        label = axes[numbers[each.contig]].annotate(
            shortened(each.name, 30),
            (each.pos, score),
            xytext=(-4 if right else 4, 0),
            textcoords="offset points",
            fontsize=6,
            ha="right" if right else "left",
            va="center",
        )
        # The contigs shall not make room for names.
        label.set_in_layout(False)


def _heatmap(figure: Any, summary: ScoreSummary) -> None:
    rows = summary.strongest
    if not rows:
        return _nothing(figure)
    axes = figure.subplots()
    values = np.stack([each.scores for each in rows]).astype(float)
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    mesh = axes.pcolormesh(values, cmap=effect_colors(), vmin=-largest, vmax=largest, rasterized=True)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(rows)) + 0.5, [shortened(each.name, 34) for each in rows], fontsize=6)
    labels = [track.label or track.id for track in summary.tracks]
    places = np.arange(len(labels)) + 0.5
    if len(labels) <= 6:
        room = 90 // len(labels)
        wrapped = ["\n".join(textwrap.wrap(shortened(text, 80), room)) for text in labels]
        axes.set_xticks(places, wrapped, fontsize=6)
    elif len(labels) <= 40:
        axes.set_xticks(places, [shortened(text, 40) for text in labels], rotation=90, fontsize=6)
    else:
        axes.set_xlabel(f"{len(labels):,} tracks, in the order of the file")
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_title(f"the {len(rows)} strongest variants in all tracks")
    figure.colorbar(mesh, ax=axes, label=with_unit(summary.statistic), fraction=0.04, pad=0.02)
