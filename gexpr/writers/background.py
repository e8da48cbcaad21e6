"""Files of backgrounds: the magnitudes of many variants' scores, track by track; docs/background.md."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from gexpr.errors import InputError, shown
from gexpr.results import Track
from gexpr.writers.hdf5 import Attribute, Hdf5Output
from gexpr.writers.output import AtomicOutput

FORMAT_NAME = "gexpr background"
FORMAT_VERSION = 1
RANKS = "_ranks"
_MOST_BYTES = 1 << 33


class Magnitudes(NamedTuple):
    """Of one statistic: float32 (points, tracks), ascending for every track, and int64 (points,) ranks."""

    values: NDArray[np.float32]
    ranks: NDArray[np.int64]


class Background(NamedTuple):
    """A background as it is stored.

    Attributes:
        tracks: ids, in the order of the columns.
        variants: how many variants were scored.
        statistics: name -> magnitudes.
        attributes: how the variants were scored, and where they come from.
        sha256: of the file.
    """

    tracks: tuple[str, ...]
    variants: int
    statistics: Mapping[str, Magnitudes]
    attributes: Mapping[str, Attribute]
    sha256: str = ""


def write_background(output: AtomicOutput, background: Background, tracks: tuple[Track, ...]) -> None:
    """Write a background; equal ones give equal bytes.

    Raises:
        GexprError: it cannot be written.
    """
    hdf5 = Hdf5Output(output)
    try:
        hdf5.attributes(
            {
                **background.attributes,
                "format": FORMAT_NAME,
                "format_version": FORMAT_VERSION,
                "variants": background.variants,
                "statistics": ",".join(background.statistics),
            }
        )
        hdf5.tracks(tracks)
        for name, table in background.statistics.items():
            hdf5.growing(name, (table.values.shape[1],), "float32")
            hdf5.append(name, table.values)
            hdf5.growing(name + RANKS, (), "int64")
            hdf5.append(name + RANKS, table.ranks)
        hdf5.commit()
    finally:
        hdf5.discard()


def read_background(path: str | os.PathLike[str]) -> Background:
    """Read a background and check it.

    Raises:
        InputError: it is missing, damaged, of another kind or version, or not as gexpr writes it.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(error.strerror or str(error), path=path) from None
    if data[:8] != b"\x89HDF\r\n\x1a\n":
        raise InputError("no HDF5 file; a background as 'gexpr background' writes it is needed", path=path)
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path, hashlib.sha256(data).hexdigest())
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise InputError(f"damaged, or no background of gexpr ({shown(str(error))})", path=path) from None


def _read(file: h5py.File, path: str | os.PathLike[str], sha256: str) -> Background:
    attributes: dict[str, Attribute] = {}
    for name, value in file.attrs.items():
        attributes[name] = value.item() if isinstance(value, np.generic) else value
    if attributes.get("format") != FORMAT_NAME or attributes.get("format_version") != FORMAT_VERSION:
        found = shown(f"{attributes.get('format')} {attributes.get('format_version')}")
        raise InputError(f"it holds {found}, not {FORMAT_NAME} {FORMAT_VERSION}", path=path)
    tracks = tuple(str(each, "utf-8", "backslashreplace") for each in file["target_ids"][:])
    variants = int(attributes["variants"])
    statistics: dict[str, Magnitudes] = {}
    for name in str(attributes["statistics"]).split(","):
        table, ranks = file[name], file[name + RANKS]
        if table.shape != (len(ranks), len(tracks)) or table.size * 4 > _MOST_BYTES:
            raise InputError(f"{name} has the shape {table.shape}, which does not fit the tracks", path=path)
        numbers, places = table[:].astype(np.float32), ranks[:].astype(np.int64)
        ordered = bool(len(places)) and bool((np.diff(numbers, axis=0) >= 0).all())
        if not ordered or not np.isfinite(numbers).all() or (numbers < 0).any():
            raise InputError(f"the magnitudes of {name} are not finite and ascending", path=path)
        if places[0] != 0 or places[-1] != variants - 1 or (np.diff(places) <= 0).any():
            raise InputError(f"the ranks of {name} do not fit {variants} variants", path=path)
        statistics[name] = Magnitudes(numbers, places)
    own = ("format", "format_version", "variants", "statistics")
    kept = {name: value for name, value in attributes.items() if name not in own}
    return Background(tracks, variants, statistics, kept, sha256)
