"""What every base does: a logo of importance above a heat map of all changes, rows of some bases each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError, shown
from gexpr.genome.contigs import ContigMap
from gexpr.report.logo import base_positions, draw_logo, position_label, position_ticks
from gexpr.report.logos import attribution_heights, attribution_quantity, mutagenesis_heights
from gexpr.report.style import (
    BASES,
    BLACK,
    WIDTH,
    effect_colors,
    heading,
    new_figure,
    shortened,
    styled,
    with_unit,
)
from gexpr.results import Region, Track
from gexpr.scoring.tracks import select_tracks
from gexpr.writers.regions import MUTAGENESIS, BasesFile

CONTRIBUTIONS = "contributions"
PER_ROW = 100
"""Bases in a row, whose letters can be read at the default width."""
MOST_ROWS = 30
_INCHES = {"logo": 0.75, "map": 0.5}


class BaseNumbers(NamedTuple):
    """Numbers for every base of a region in one track, on the region's own strand.

    ``sequence`` is bool (length, 4), ``heights`` (length, 4) what a logo shows: 0 but for the region's own
    bases. ``effects`` (length, 4) is what each base does in place of the region's own, NaN where that is
    unknown; None where there are contributions alone.
    """

    region: Region
    sequence: NDArray[np.bool_]
    heights: NDArray[np.floating]
    effects: NDArray[np.floating] | None

    def positions(self) -> NDArray[np.int64]:
        """1-based positions of the bases, descending on the - strand."""
        return base_positions(self.region)

    def within(self, start: int, end: int) -> BaseNumbers:
        """The bases from ``start`` to ``end``, 0-based and half-open; they must overlap the region."""
        inside = (self.positions() > start) & (self.positions() <= end)
        region = self.region._replace(start=max(start, self.region.start), end=min(end, self.region.end))
        effects = None if self.effects is None else self.effects[inside]
        return BaseNumbers(region, self.sequence[inside], self.heights[inside], effects)


def read_bases(
    file: BasesFile,
    statistic: str | None = None,
    tracks: str | None = None,
    regions: Sequence[Region] = (),
    most: int = 1,
) -> Iterator[tuple[BaseNumbers, str, str]]:
    """The regions of a file of mutagenesis or attributions, each in some tracks.

    Args:
        file: of ``gexpr ism`` or ``gexpr attribute``.
        statistic: of mutagenesis; None is the first.
        tracks: a selection by id, place or pattern; None is all.
        regions: only bases that lie in these; none is all.
        most: of more tracks those with the largest numbers in the region, in their own order.

    Yields:
        The numbers, what they are, and the track.

    Raises:
        ConfigError: the file has no such statistic or track, or no base lies in the regions.
    """
    mutagenesis = file.format == MUTAGENESIS
    quantity = None if mutagenesis else attribution_quantity(file)
    known = file.statistics if mutagenesis else (CONTRIBUTIONS,)
    dataset = statistic or known[0]
    if dataset not in known:
        raise ConfigError(f"{file.path} has no {shown(dataset)}; it has {', '.join(known)}")
    columns = select_tracks([Track(i, name, name) for i, name in enumerate(file.track_ids)], tracks)
    drawn = False
    for found in file.regions([dataset]):
        heights = mutagenesis_heights(found, dataset) if mutagenesis else attribution_heights(found)
        largest = np.abs(heights).max(axis=(0, 1), initial=0.0)[columns]
        for place in sorted(np.argsort(-largest, kind="stable")[:most].tolist()):
            column = columns[place]
            effects = found.arrays[dataset][:, :, column] if mutagenesis else None
            numbers = BaseNumbers(found.region, found.sequence, heights[:, :, column], effects)
            for part in _parts(numbers, regions):
                drawn = True
                yield part, quantity or dataset, file.track_ids[column]
    if not drawn:
        raise ConfigError(f"no base of {file.path} lies in the regions that were asked for")


def _parts(numbers: BaseNumbers, regions: Sequence[Region]) -> Iterator[BaseNumbers]:
    own = numbers.region
    if not regions:
        yield numbers
    for region in regions:
        same = ContigMap([own.chrom]).resolve(region.chrom) is not None
        if same and region.start < own.end and region.end > own.start:
            yield numbers.within(region.start, region.end)


@styled
def draw_bases(
    numbers: BaseNumbers,
    *,
    quantity: str,
    track: str,
    per_row: int = PER_ROW,
    width: float = WIDTH,
    height: float | None = None,
) -> Any:
    """Logo of one region in one track, and below it a heat map of all changes where they are known.

    Args:
        numbers: of the region.
        quantity: what the numbers are, such as ``logFC``.
        track: label of the track.
        per_row: bases in a row.
        width, height: inches; the height follows from the number of rows.

    Returns:
        A matplotlib figure; one or two axes a row, and one of the color bar.

    Raises:
        ConfigError: too many rows.
        MissingDependencyError: matplotlib is not installed.
    """
    length = len(numbers.sequence)
    rows = -(-length // per_row)
    if rows > MOST_ROWS:
        raise ConfigError(
            f"{length:,} bases are {rows:,} rows of {per_row}, more than the {MOST_ROWS} of one picture; "
            "choose a part with --region, or more bases a row"
        )
    per_row = min(per_row, length)
    effects = numbers.effects
    ratios = list(_INCHES.values())[: 1 if effects is None else 2]
    figure = new_figure(width, height or rows * (sum(ratios) + 0.5) + 0.6)
    axes = figure.subplots(len(ratios) * rows, 1, squeeze=False, height_ratios=ratios * rows)[:, 0]
    logos, lowest = axes[:: len(ratios)], axes[len(ratios) - 1 :: len(ratios)]
    for row, each in enumerate(logos):
        draw_logo(each, numbers.heights[row * per_row : (row + 1) * per_row], first=0)
        each.set_ylabel(f"−mean\n{with_unit(quantity)}" if effects is not None else quantity, fontsize=7)
        if effects is not None:
            each.tick_params(axis="x", bottom=False, labelbottom=False)
            each.spines["bottom"].set_visible(False)
    limits = [each.get_ylim() for each in logos]
    for each in logos:
        each.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    if effects is not None:
        _heat_maps(figure, lowest, numbers, per_row, quantity)
    for row, each in enumerate(lowest):
        position_ticks(each, numbers.positions()[row * per_row : (row + 1) * per_row], per_row)
    for each in axes:
        each.set_xlim(-0.5, per_row - 0.5)
    region = numbers.region
    lowest[-1].set_xlabel(position_label(region))
    name = "" if region.name in (".", "") else f"{shortened(region.name, 40)}, "
    heading(figure, f"{name}{region.chrom}:{region.start + 1:,}–{region.end:,}, {shortened(track, 80)}")
    figure.align_ylabels(list(logos))
    return figure


def _heat_maps(figure: Any, axes: Sequence[Any], numbers: BaseNumbers, per_row: int, quantity: str) -> None:
    assert numbers.effects is not None
    values = np.where(numbers.sequence, np.nan, numbers.effects.astype(float))
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    for row, each in enumerate(axes):
        piece = slice(row * per_row, (row + 1) * per_row)
        mesh = each.pcolormesh(
            np.arange(len(values[piece]) + 1) - 0.5,
            np.arange(5) - 0.5,
            np.ma.masked_invalid(values[piece].T),
            cmap=effect_colors(),
            vmin=-largest,
            vmax=largest,
            rasterized=True,
        )
        place, base = np.nonzero(numbers.sequence[piece])
        each.plot(place, base, linestyle="", marker=".", markersize=2, color=BLACK)
        each.set(yticks=range(4), ylim=(3.5, -0.5))
        each.set_yticklabels(list(BASES), fontsize=6)
        each.set_ylabel("to base", fontsize=7)
        each.tick_params(axis="y", length=0)
        each.spines["left"].set_visible(False)
    figure.colorbar(
        mesh, ax=list(axes), label=with_unit(quantity), fraction=0.03, pad=0.01, aspect=8 * len(axes)
    )
