"""Sequence logos of files of mutagenesis and attributions: letters as high as what their bases do."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.errors import require
from gexpr.report.logo import base_positions, draw_logo, position_label, position_ticks
from gexpr.report.style import check_suffix, heading, new_figure, save, styled, with_unit
from gexpr.writers.regions import MUTAGENESIS, BasesFile, RegionNumbers

MAX_TRACKS = 8
MAX_REGIONS = 200


def mutagenesis_heights(numbers: RegionNumbers, statistic: str) -> NDArray[np.float64]:
    """Heights (length, 4, tracks) of a region's own letters: less the mean score of the three others.

    A base whose substitution lowers a signal stands high. NaN and unknown bases give 0.
    """
    scores = np.asarray(numbers.arrays[statistic], dtype=np.float64)
    own = numbers.sequence[..., None]
    others = np.where(own, 0.0, np.nan_to_num(scores)).sum(axis=1) / 3
    return np.where(own, -others[:, None], 0.0)


def attribution_heights(numbers: RegionNumbers) -> NDArray[np.float64]:
    """Heights (length, 4, tracks) of a region's own letters: their contributions."""
    contributions = np.asarray(numbers.arrays["contributions"], dtype=np.float64)
    return np.where(numbers.sequence[..., None], contributions[:, None], 0.0)


def attribution_quantity(file: BasesFile) -> str:
    """What contributions are to, for an axis label; of the target's unit."""
    targets = {"log2sum": "contribution to\nlog2(1 + sum)", "sum": "contribution to\nsum of signal"}
    return targets.get(file.target, "contribution")


def check_drawable() -> None:
    """Raise MissingDependencyError when matplotlib is not installed."""
    require("matplotlib", "plot")


@styled
def draw_logos(
    path: str | os.PathLike[str], folder: str | os.PathLike[str], suffix: str = ".png", force: bool = False
) -> list[str]:
    """A picture of every region of a file of mutagenesis or attributions, with a panel for each track.

    Of more than :data:`MAX_TRACKS` tracks and :data:`MAX_REGIONS` regions the first are drawn, with a
    warning; of several statistics the first.

    Args:
        path: the HDF5 file.
        folder: where the pictures go; made if need be. They are named by number, contig, start and end.
        suffix: ``.png``, ``.svg`` or ``.pdf``.
        force: replace existing pictures.

    Returns:
        The pictures' paths.

    Raises:
        ConfigError: another suffix.
        GexprError: a picture exists, or cannot be written.
        InputError: the file holds neither.
        MissingDependencyError: matplotlib is not installed.
    """
    check_suffix(f"logo{suffix}")
    file = BasesFile(path)
    mutagenesis = file.format == MUTAGENESIS
    dataset = file.statistics[0] if mutagenesis else "contributions"
    label = f"−mean\n{with_unit(dataset)}" if mutagenesis else attribution_quantity(file)
    if len(file.track_ids) > MAX_TRACKS:
        logs.warning(f"logos show the first {MAX_TRACKS} of {len(file.track_ids):,} tracks; --tracks selects")
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = []
    for number, found in enumerate(file.regions([dataset]), start=1):
        if number > MAX_REGIONS:
            logs.warning(f"logos show the first {MAX_REGIONS} regions")
            break
        heights = mutagenesis_heights(found, dataset) if mutagenesis else attribution_heights(found)
        region = found.region
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{number:03d}_{region.chrom}_{region.start}_{region.end}")
        figure = _figure(found, heights, file.track_ids[:MAX_TRACKS], label)
        paths += save([figure], str(Path(folder) / f"{name}{suffix}"), force=force)
    return paths


def _figure(found: RegionNumbers, heights: NDArray[np.float64], tracks: list[str], label: str) -> Any:
    region = found.region
    width = float(np.clip(0.1 * len(heights) + 1.0, 4.0, 60.0))
    figure = new_figure(width, 1.1 * len(tracks) + 0.8)
    panels = np.ravel(figure.subplots(len(tracks), 1, sharex=True))
    for column, (axes, track) in enumerate(zip(panels, tracks, strict=True)):
        draw_logo(axes, heights[..., column], first=0)
        axes.set_title(track)
        axes.set_ylabel(label, fontsize=7)
    position_ticks(panels[-1], base_positions(region), len(heights), max(4, int(width)))
    panels[-1].set_xlabel(position_label(region))
    figure.align_ylabels(list(panels))
    named = "" if region.name in (".", "") else f"{region.name}, "
    heading(figure, f"{named}{region.chrom}:{region.start + 1:,}–{region.end:,}")
    return figure
