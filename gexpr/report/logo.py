"""Sequence logos: letters whose heights are numbers, stacked along positions.

:func:`draw_logo` draws on any matplotlib axes, from heights (positions, 4) in the order A, C, G, T. Letters
with negative heights hang upside down below 0. For mutagenesis and attributions, give the importance of the
reference's base in its column and 0 elsewhere; for motifs, information content.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gexpr.report.style import BASES, BLACK
from gexpr.results import Region


@functools.cache
def _glyph(base: str) -> Any:
    """The outline of a letter, stretched to the square from 0 to 1."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    path = TextPath((0, 0), base, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = path.get_extents()
    scale = Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height)
    return path.transformed(scale)


def draw_logo(axes: Any, heights: NDArray[np.floating], first: float = 1.0, gap: float = 0.06) -> None:
    """Draw a logo.

    Args:
        axes: matplotlib axes; its limits are set.
        heights: (positions, 4), finite; columns are A, C, G, T.
        first: the place on the x axis of the middle of the first letter; the others follow, 1 apart.
        gap: the share of a position that is left free between letters.

    Raises:
        ValueError: another shape, or a height that is not finite.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if heights.ndim != 2 or heights.shape[1] != len(BASES):
        raise ValueError(f"heights of a logo must be (positions, 4), not {heights.shape}")
    if not np.isfinite(heights).all():
        raise ValueError("heights of a logo must be finite")
    bottoms = np.zeros(heights.shape)
    for sign in (1, -1):
        part = np.maximum(sign * heights, 0)
        # Small letters lie next to 0, large ones at the ends.
        order = np.argsort(part, axis=1, kind="stable")
        sizes = np.take_along_axis(part, order, axis=1)
        below = np.zeros(heights.shape)
        np.put_along_axis(below, order, np.cumsum(sizes, axis=1) - sizes, axis=1)
        bottoms = np.where(part > 0, sign * below, bottoms)
    for column, (base, color) in enumerate(BASES.items()):
        glyph = _glyph(base)
        pieces = []
        for place in np.flatnonzero(heights[:, column]):
            # A negative height turns the letter upside down.
            size = np.array([1 - gap, heights[place, column]])
            origin = np.array([first + place - 0.5 + gap / 2, bottoms[place, column]])
            pieces.append(Path(glyph.vertices * size + origin, glyph.codes))
        if pieces:
            patch = PathPatch(Path.make_compound_path(*pieces), facecolor=color, linewidth=0, label=base)
            axes.add_patch(patch)
    axes.axhline(0, color=BLACK, linewidth=0.5)
    low = float(np.minimum(heights, 0).sum(axis=1).min(initial=0.0))
    high = float(np.maximum(heights, 0).sum(axis=1).max(initial=0.0))
    span = (high - low) or 1.0
    axes.set_ylim(low - 0.04 * span, high + 0.04 * span)
    axes.set_xlim(first - 0.5, first + len(heights) - 0.5)


def base_positions(region: Region) -> NDArray[np.int64]:
    """1-based positions of a region's bases from its 5' end, descending on the - strand."""
    places = np.arange(region.start + 1, region.end + 1)
    return places[::-1] if region.strand == "-" else places


def position_label(region: Region) -> str:
    """The label of an axis of a region's bases."""
    direction = ", − strand: 5′ to 3′ from left to right" if region.strand == "-" else ""
    return f"position on {region.chrom} (bp{direction})"


def position_ticks(axes: Any, positions: NDArray[np.int64], bases: int, most: int = 8) -> None:
    """Ticks at round positions of bases that are drawn one apart, the first at 0.

    Args:
        axes: matplotlib axes.
        positions: 1-based, ascending or descending.
        bases: how many bases the axis has room for.
        most: how many numbers it has room for.
    """
    step = next((size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500) if bases / size <= most), 1000)
    places = np.flatnonzero(positions % step == 0)
    axes.set_xticks(places, [f"{positions[place]:,}" for place in places])
