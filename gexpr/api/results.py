"""What a model's methods give: arrays, and data frames and xarray objects made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError, require
from gexpr.results import Region, Track, Variant

if TYPE_CHECKING:
    import pandas
    import xarray

LETTERS = ("A", "C", "G", "T")
_COLUMNS = ("chrom", "pos", "id", "ref", "alt", "status")


def _same_size(sizes: Sequence[int], unit: str) -> None:
    """Raise ConfigError when regions differ in size."""
    if len(set(sizes)) != 1:
        raise ConfigError(
            f"regions of {sorted(set(sizes))} {unit} are no array; use to_frame(), or regions of one length"
        )


def _region_coords(regions: Sequence[Region]) -> dict[str, Any]:
    return {
        "chrom": ("region", [region.chrom for region in regions]),
        "name": ("region", [region.name for region in regions]),
    }


def _base_coords(regions: Sequence[Region]) -> dict[str, Any]:
    """Coordinates of arrays with the dimensions region, position, letter and track but for the last."""
    return {
        **_region_coords(regions),
        "pos": (("region", "position"), np.stack([_positions(region) for region in regions])),
        "letter": list(LETTERS),
    }


def _positions(region: Region) -> NDArray[np.int64]:
    """1-based positions of a region's bases, 5' to 3' on its strand."""
    found = np.arange(region.start + 1, region.end + 1)
    return found[::-1] if region.strand == "-" else found


@dataclass(frozen=True)
class Predictions:
    """Predicted tracks over regions, in natural scale.

    Attributes:
        regions: what was predicted, 0-based half-open.
        starts: genome position of the first base of each region's leftmost bin.
        bin_size: bases of a bin.
        tracks: the columns.
        values: one float32 array (bins, tracks) a region; the bins of a ``-`` region run 5' to 3'.
    """

    regions: list[Region]
    starts: list[int]
    bin_size: int
    tracks: list[Track]
    values: list[NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.regions)

    def _bin_starts(self, index: int) -> NDArray[np.int64]:
        starts = self.starts[index] + self.bin_size * np.arange(len(self.values[index]))
        return starts[::-1] if self.regions[index].strand == "-" else starts

    def sums(self) -> pandas.DataFrame:
        """One row a region: ``chrom``, ``start``, ``end``, ``name``, ``strand`` and the sum of each track."""
        pd = require("pandas", "frames")
        rows = [(r.chrom, r.start, r.end, r.name, r.strand) for r in self.regions]
        frame = pd.DataFrame(rows, columns=["chrom", "start", "end", "name", "strand"])
        sums = np.array([values.sum(axis=0, dtype=np.float64) for values in self.values])
        sums = sums.reshape(len(self), len(self.tracks))
        return frame.assign(**{track.id: sums[:, i] for i, track in enumerate(self.tracks)})

    def to_frame(self) -> pandas.DataFrame:
        """One row a bin: ``region`` (its number), ``chrom``, ``start`` and ``end`` of the bin, each track."""
        pd = require("pandas", "frames")
        sizes = [len(values) for values in self.values]
        starts = [self._bin_starts(index) for index in range(len(self))]
        start = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
        values = np.concatenate(self.values) if self.values else np.zeros((0, len(self.tracks)), np.float32)
        frame = pd.DataFrame(
            {
                "region": np.repeat(np.arange(len(self)), sizes),
                "chrom": np.repeat(np.array([r.chrom for r in self.regions], dtype=object), sizes),
                "start": start,
                "end": start + self.bin_size,
            }
        )
        return frame.assign(**{track.id: values[:, i] for i, track in enumerate(self.tracks)})

    def to_xarray(self) -> xarray.DataArray:
        """Dimensions ``region``, ``bin`` and ``track``.

        Raises:
            ConfigError: the regions have different numbers of bins.
        """
        xr = require("xarray", "frames")
        _same_size([len(values) for values in self.values], "bins")
        return xr.DataArray(
            np.stack(self.values),
            dims=("region", "bin", "track"),
            coords={
                **_region_coords(self.regions),
                "start": (("region", "bin"), np.stack([self._bin_starts(i) for i in range(len(self))])),
                "track": [track.id for track in self.tracks],
            },
            attrs={"bin_size": self.bin_size},
        )


@dataclass(frozen=True)
class Scores:
    """Scores of alleles.

    Attributes:
        variants: one for each ALT allele, in the order given, with ``status``.
        statistics: names.
        tracks: the columns.
        values: float32 (statistics, variants, tracks); NaN where the status is not ``ok``.
    """

    variants: list[Variant]
    statistics: tuple[str, ...]
    tracks: list[Track]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.variants)

    def to_frame(self) -> pandas.DataFrame:
        """One row an allele: ``chrom``, ``pos`` (1-based), ``id``, ``ref``, ``alt``, ``status`` and a column
        for each track, called by its id, or ``STATISTIC:id`` where there are several statistics.
        """
        pd = require("pandas", "frames")
        rows = [tuple(getattr(variant, name) for name in _COLUMNS) for variant in self.variants]
        frame = pd.DataFrame(rows, columns=list(_COLUMNS))
        several = len(self.statistics) > 1
        return frame.assign(
            **{
                f"{statistic}:{track.id}" if several else track.id: self.values[s, :, t]
                for s, statistic in enumerate(self.statistics)
                for t, track in enumerate(self.tracks)
            }
        )

    def to_xarray(self) -> xarray.Dataset:
        """A variable for each statistic, with the dimensions ``variant`` and ``track``."""
        xr = require("xarray", "frames")
        coords: dict[str, Any] = {
            name: ("variant", [getattr(variant, name) for variant in self.variants]) for name in _COLUMNS
        }
        coords["track"] = [track.id for track in self.tracks]
        return xr.Dataset(
            {name: (("variant", "track"), self.values[i]) for i, name in enumerate(self.statistics)}, coords
        )


@dataclass(frozen=True)
class Mutagenesis:
    """Scores of every change of the bases of regions.

    Arrays are on a region's own strand, 5' to 3', with the letters of that strand.

    Attributes:
        regions: whose bases were changed, 0-based half-open.
        tracks: the columns.
        sequences: the bases of each region.
        substitutions: statistic -> one float32 array (bases, 4, tracks) a region, letters A, C, G, T. The
            letter that is there scores as no change; NaN where it is unknown.
        deletions: statistic -> one array (bases, tracks) a region, of the deletion that begins at the base;
            empty where none were made.
        insertions: statistic -> one array (bases, 4, tracks) a region, of the letter before the base; empty
            where none were made.
        alleles: the same as alleles of the + strand, region after region.
        numbers: the region of each allele, int64 (alleles,).
    """

    regions: list[Region]
    tracks: list[Track]
    sequences: list[str]
    substitutions: dict[str, list[NDArray[np.float32]]]
    deletions: dict[str, list[NDArray[np.float32]]]
    insertions: dict[str, list[NDArray[np.float32]]]
    alleles: Scores
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.regions)

    def to_frame(self) -> pandas.DataFrame:
        """One row a change: ``region`` (its number), ``chrom``, ``pos`` (1-based), ``ref``, ``alt`` as in a
        VCF, and columns as of :meth:`Scores.to_frame`.
        """
        frame = self.alleles.to_frame().drop(columns=["id", "status"])
        frame.insert(0, "region", self.numbers)
        return frame

    def to_xarray(self) -> xarray.Dataset:
        """A variable for each statistic, with the dimensions ``region``, ``position``, ``letter`` and
        ``track``: substitutions. ``sequence`` has the bases of each region.

        Raises:
            ConfigError: the regions have different lengths.
        """
        xr = require("xarray", "frames")
        _same_size([len(text) for text in self.sequences], "bases")
        dims = ("region", "position", "letter", "track")
        data: dict[str, Any] = {name: (dims, np.stack(values)) for name, values in self.substitutions.items()}
        data["sequence"] = ("region", self.sequences)
        return xr.Dataset(data, {**_base_coords(self.regions), "track": [track.id for track in self.tracks]})


@dataclass(frozen=True)
class Attributions:
    """What each base of regions contributes to a target made of the predictions.

    Arrays are on a region's own strand, 5' to 3', with the letters of that strand.

    Attributes:
        regions: where the bases lie, 0-based half-open.
        tracks: the columns; one for the sum of all, unless ``each_track`` was asked for.
        sequences: the bases of each region.
        values: one float32 array (bases, 4, columns) a region: the gradient for every letter, or what each
            letter of region and baseline contributes.
        contributions: one array (bases, columns) a region, of the bases that are there.
        target: float64 (regions, columns): the target.
        baseline: float64 (regions, columns): that of the baselines; NaN for gradients.
    """

    regions: list[Region]
    tracks: list[Track]
    sequences: list[str]
    values: list[NDArray[np.float32]]
    contributions: list[NDArray[np.float32]]
    target: NDArray[np.float64]
    baseline: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.regions)

    def to_frame(self) -> pandas.DataFrame:
        """One row a base: ``region`` (its number), ``chrom``, ``pos`` (1-based), ``base``, and the
        contribution of each column.
        """
        pd = require("pandas", "frames")
        sizes = [len(text) for text in self.sequences]
        empty: list[NDArray[Any]] = [np.zeros(0, dtype=np.int64)]
        frame = pd.DataFrame(
            {
                "region": np.repeat(np.arange(len(self)), sizes),
                "chrom": np.repeat(np.array([r.chrom for r in self.regions], dtype=object), sizes),
                "pos": np.concatenate([_positions(region) for region in self.regions] or empty),
                "base": list("".join(self.sequences)),
            }
        )
        columns = self.contributions or [np.zeros((0, len(self.tracks)), dtype=np.float32)]
        values = np.concatenate(columns)
        return frame.assign(**{track.id: values[:, i] for i, track in enumerate(self.tracks)})

    def to_xarray(self) -> xarray.Dataset:
        """``attributions`` with the dimensions ``region``, ``position``, ``letter`` and ``track``,
        ``contributions`` without ``letter``, ``target`` and ``baseline`` of regions, and ``sequence``.

        Raises:
            ConfigError: the regions have different lengths.
        """
        xr = require("xarray", "frames")
        _same_size([len(text) for text in self.sequences], "bases")
        data: dict[str, Any] = {
            "attributions": (("region", "position", "letter", "track"), np.stack(self.values)),
            "contributions": (("region", "position", "track"), np.stack(self.contributions)),
            "target": (("region", "track"), self.target),
            "baseline": (("region", "track"), self.baseline),
            "sequence": ("region", self.sequences),
        }
        return xr.Dataset(data, {**_base_coords(self.regions), "track": [track.id for track in self.tracks]})
