"""Numbers for every base of regions, as HDF5 with a row a region on its own strand; and read back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from gexpr.errors import InputError
from gexpr.genome.codes import Codes, one_hot
from gexpr.results import Region, Track
from gexpr.writers.hdf5 import Attribute, Hdf5Output, texts
from gexpr.writers.output import AtomicOutput, as_dtype
from gexpr.writers.result import FileWriter

MUTAGENESIS = "gexpr mutagenesis"
ATTRIBUTIONS = "gexpr attributions"
FORMAT_VERSION = 1
DELETION, INSERTION = "_deletion", "_insertion"
"""What follows a statistic's name in the names of the datasets of deletions and insertions."""


class BaseSchema(NamedTuple):
    """What a file of numbers for every base holds.

    ``shapes`` are the datasets: name -> sizes of the axes behind region and position. ``rows`` are datasets
    of numbers for whole regions: name -> sizes of the axes behind the region. ``longest`` is the length of
    the longest region; shorter ones are filled up with NaN.
    """

    format: str
    tracks: Sequence[Track]
    shapes: Mapping[str, tuple[int, ...]]
    rows: Mapping[str, tuple[int, ...]]
    longest: int
    attributes: Mapping[str, Attribute]
    dtype: str = "float32"


def oriented(values: NDArray[Any], strand: str, shift: int = 0) -> NDArray[Any]:
    """Values (length, ...) or (length, 4, ...) of the + strand as a region's own strand has them.

    Args:
        values: what lies at or begins at each position; the second axis of more than two are the letters.
        strand: ``-`` turns positions and letters round.
        shift: bases by which what begins at a position reaches beyond it: 1 less than a deletion's length,
            -1 for insertions, which lie before a position.

    Returns:
        Values at the position where, on the region's strand, the change begins; NaN where there is none.
    """
    if strand != "-":
        return values
    turned = values[::-1]
    if values.ndim > 2:
        turned = turned[:, ::-1]
    if not shift:
        return turned
    result = np.full_like(turned, np.nan)
    size = len(turned)
    if shift > 0:
        result[: max(0, size - shift)] = turned[shift:]
    else:
        result[-shift:] = turned[:shift]
    return result


class BasesHdf5Writer(FileWriter[Hdf5Output]):
    """HDF5 of numbers for every base; see docs/ism.md and docs/attribute.md.

    Args:
        output: the claimed output.
        schema: what is written.
    """

    def __init__(self, output: AtomicOutput, schema: BaseSchema) -> None:
        self._schema = schema
        super().__init__(Hdf5Output(output))
        self._file.attributes(
            {"format": schema.format, "format_version": FORMAT_VERSION, **schema.attributes}
        )
        self._file.tracks(schema.tracks)
        for name in ("chr", "name", "strand"):
            self._file.growing_strings(name)
        for name in ("start", "end"):
            self._file.growing(name, (), "int64")
        self._file.growing("seqs", (schema.longest, 4), "bool")
        for name, shape in schema.shapes.items():
            self._file.growing(name, (schema.longest, *shape), schema.dtype, fill=float("nan"))
        for name, shape in schema.rows.items():
            self._file.growing(name, shape, schema.dtype, fill=float("nan"))

    def write(self, region: Region, codes: Codes, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add a region.

        Args:
            region: its place and strand.
            codes: uint8 (length,) of the + strand.
            arrays: every dataset of the schema, (length, ...) or for whole regions, on the region's strand.
        """
        schema = self._schema
        columns: dict[str, Any] = {
            "chr": texts([region.chrom]),
            "name": texts([region.name]),
            "strand": texts([region.strand]),
            "start": np.array([region.start], dtype=np.int64),
            "end": np.array([region.end], dtype=np.int64),
            "seqs": self._filled(
                oriented(one_hot(codes)[..., None], region.strand)[..., 0].astype(bool), False
            ),
        }
        for name in schema.shapes:
            columns[name] = self._filled(as_dtype(arrays[name], schema.dtype), np.nan)
        for name in schema.rows:
            columns[name] = as_dtype(arrays[name], schema.dtype)[None]
        self._file.append_rows(columns)

    def _filled(self, values: NDArray[Any], fill: float | bool) -> NDArray[Any]:
        """(length, ...) as one row (1, longest, ...)."""
        row = np.full((1, self._schema.longest, *values.shape[1:]), fill, dtype=values.dtype)
        row[0, : len(values)] = values
        return row


class RegionNumbers(NamedTuple):
    """A region of a file of numbers for every base, on its own strand.

    ``sequence`` is bool (length, 4); ``arrays`` are the datasets asked for, (length, ...).
    """

    region: Region
    sequence: NDArray[np.bool_]
    arrays: dict[str, NDArray[Any]]


class BasesFile:
    """A file that :class:`BasesHdf5Writer` wrote.

    Args:
        path: the file.

    Attributes:
        format: :data:`MUTAGENESIS` or :data:`ATTRIBUTIONS`.
        statistics: of mutagenesis.
        target: what attributions are of, such as ``log2sum``.
        track_ids: names of the columns.

    Raises:
        InputError: it is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            with h5py.File(self.path, "r") as file:
                self.format = str(file.attrs.get("format", ""))
                if self.format not in (MUTAGENESIS, ATTRIBUTIONS):
                    raise InputError("it holds neither mutagenesis nor attributions", path=self.path)
                self.statistics = tuple(filter(None, str(file.attrs.get("statistics", "")).split(",")))
                self.target = str(file.attrs.get("target", ""))
                self.track_ids: list[str] = file["target_ids"].asstr()[:].tolist()
        except OSError as error:
            raise InputError(f"it cannot be read as HDF5: {error}", path=self.path) from None

    def regions(self, datasets: Sequence[str]) -> Iterator[RegionNumbers]:
        """The regions in order, with some of the datasets."""
        with h5py.File(self.path, "r") as file:
            strings = {name: file[name].asstr()[:] for name in ("chr", "name", "strand")}
            starts, ends = file["start"][:], file["end"][:]
            for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
                region = Region(
                    *(strings["chr"][row], start, end, strings["name"][row], ".", strings["strand"][row])
                )
                arrays = {name: file[name][row, : end - start] for name in datasets}
                yield RegionNumbers(region, file["seqs"][row, : end - start], arrays)
