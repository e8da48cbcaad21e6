"""Gene models below tracks: exons as boxes, direction as arrowheads, transcription starts as bent arrows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gexpr.genome.genes import Gene
from gexpr.report.style import BLACK, GREY, VERMILION, edge

MOST_LANES = 6
LANE_INCHES = 0.36
"""Height of a lane: transcription starts above the gene, its name below."""
LABEL = "genes"
_NAME_SIZE = 6.5
_MOST_ARROWS = 3


class PlacedName(NamedTuple):
    """A gene in its lane; ``left`` is where its name begins, as a 0-based position."""

    gene: Gene
    lane: int
    left: float


class GeneLanes(NamedTuple):
    """Genes of a window, none of which covers another or its name.

    ``hidden`` counts the genes that found no room.
    """

    genes: list[PlacedName]
    lanes: int
    hidden: int

    @property
    def inches(self) -> float:
        """The height that these lanes need."""
        return LANE_INCHES * max(1, self.lanes)


def place_in_lanes(genes: Sequence[Gene], contig: str, start: int, end: int, inches: float) -> GeneLanes:
    """Lay out the genes that overlap a window.

    Args:
        genes: of any contig.
        contig: the window's.
        start, end: the window, 0-based and half-open.
        inches: how wide the window is drawn; it decides how much room a name takes.
    """
    base_inches = inches / (end - start)
    ends: list[float] = []
    placed = []
    hidden = 0
    inside = [gene for gene in genes if gene.contig == contig and gene.start < end and gene.end > start]
    for gene in sorted(inside, key=lambda each: (each.start, -each.end)):
        low, high = max(gene.start, start), min(gene.end, end)
        # Capitals and figures of the font are 0.68 of its size wide on average.
        name = len(gene.name) * 0.68 * _NAME_SIZE / 72 / base_inches
        left = min(max((low + high - name) / 2, start), max(start, end - name))
        first, last = min(low, left), max(high, left + name) + 0.08 / base_inches
        lane = next((number for number, taken in enumerate(ends) if taken <= first), len(ends))
        if lane == MOST_LANES:
            hidden += 1
            continue
        ends[lane : lane + 1] = [last]
        placed.append(PlacedName(gene, lane, left))
    return GeneLanes(placed, len(ends), hidden)


def draw_genes(axes: Any, lanes: GeneLanes, start: int, end: int) -> None:
    """Draw gene models.

    Args:
        axes: matplotlib axes, whose x axis is one of positions.
        lanes: of this window.
        start, end: the window, 0-based and half-open.
    """
    step = (end - start) / 60
    axes.set_ylim(max(1, lanes.lanes) - 0.5, -0.5)
    for gene, lane, left in lanes.genes:
        low, high = max(gene.start, start), min(gene.end, end)
        axes.plot(
            [edge(low), edge(high)], [lane, lane], color=BLACK, linewidth=0.7, zorder=1, solid_capstyle="butt"
        )
        for first, last in gene.exons:
            if first < end and last > start:
                first, last = max(first, start), min(last, end)
                axes.broken_barh([(edge(first), last - first)], (lane - 0.12, 0.24), color=GREY, linewidth=0)
        if gene.strand in "+-":
            _direction(axes, gene, lane, low, high, step)
            _starts(axes, gene, lane, start, end)
        axes.text(
            edge(left), lane + 0.16, gene.name, fontsize=_NAME_SIZE, style="italic", va="top", clip_on=True
        )
    if not lanes.genes:
        axes.text(0.5, 0.4, "no gene here", transform=axes.transAxes, fontsize=6.5, ha="center", color=GREY)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    more = f"\n({lanes.hidden:,} more\nnot shown)" if lanes.hidden else ""
    axes.set_ylabel(f"{LABEL}{more}", rotation=0, ha="right", va="center")


def _chevron(forward: bool) -> Any:
    from matplotlib.path import Path

    side = 0.3 if forward else -0.3
    return Path([(-side, -0.6), (side, 0.0), (-side, 0.6)])


def _direction(axes: Any, gene: Gene, lane: int, low: int, high: int, step: float) -> None:
    places = np.arange(low + step / 2, high - step / 3, step)
    marker = _chevron(gene.strand == "+")
    in_exon = np.array([any(a <= place < b for a, b in gene.exons) for place in places], dtype=bool)
    for chosen, color in ((in_exon, "white"), (~in_exon, BLACK)):
        if chosen.any():
            axes.plot(
                edge(places[chosen]),
                np.full(int(chosen.sum()), lane),
                linestyle="",
                marker=marker,
                markersize=4,
                markeredgewidth=0.6,
                fillstyle="none",
                color=color,
                zorder=3,
            )


def _starts(axes: Any, gene: Gene, lane: int, start: int, end: int) -> None:
    """Bent arrows at the first transcription starts that lie apart, ticks at the others."""
    forward = gene.strand == "+"
    # A start is a base; the arrow stands on its middle.
    places = [place + 1 for place in gene.tss if start <= place < end]
    places = places if forward else places[::-1]
    # An arrowhead is longer than a small share of a narrow picture.
    reach = (end - start) * max(1 / 70, 0.1 / axes.figure.get_figwidth()) * (1 if forward else -1)
    arrows: list[int] = []
    for place in places:
        apart = not arrows or abs(place - arrows[-1]) > 1.5 * abs(reach)
        bent = apart and len(arrows) < _MOST_ARROWS
        top = lane - (0.42 if bent else 0.24)
        axes.plot([place, place], [lane, top], color=VERMILION, linewidth=0.8, solid_capstyle="butt")
        if bent:
            arrows.append(place)
            axes.annotate(
                "",
                (place + reach, top),
                (place, top),
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-|>,head_length=0.22,head_width=0.12",
                    "color": VERMILION,
                    "linewidth": 0.8,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
