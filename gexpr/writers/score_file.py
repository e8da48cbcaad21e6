"""Files of variant scores read back: HDF5 as :class:`gexpr.writers.scores.ScoresHdf5Writer` writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gexpr.errors import InputError, shown
from gexpr.results import Track, Variant
from gexpr.writers.hdf5 import TRACK_FIELDS, Attribute
from gexpr.writers.scores import (
    COLUMNS_ATTRIBUTE,
    FORMAT_NAME,
    FORMAT_VERSION,
    NUMBER_TYPES,
    PROFILES,
    Columns,
    variant_name,
)

_TEXTS = {"snp": "id", "chr": "chrom", "ref_allele": "ref", "alt_allele": "alt", "status": "status"}
"""Dataset of text -> what it is called in a :class:`~gexpr.results.Variant`."""
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises for files that are not as they were written."""
_KINDS = {"O": "text", "i": "int", "u": "int", "f": "float"}
_MOST_CHUNK = 1 << 26
_BLOCK_BYTES = 1 << 25
_BLOCK_ROWS = 1 << 16


class ScoreFile:
    """One HDF5 file of variant scores, open for reading; rows are read block by block.

    Everything about the file is checked when it is opened, but for the numbers themselves. Use it as a
    context manager, or :meth:`close` it.

    Args:
        path: the file.

    Attributes:
        path: as given.
        rows: number of alleles.
        statistics: names of the tables of scores, in the order in which they were asked for.
        tracks: the columns; ``index`` is the place among them.
        dtype: ``float32`` or ``float16``.
        columns: extra columns, name -> ``text`` or ``int``.
        attributes: what the file says of itself, but for ``format``, ``format_version`` and ``columns``.

    Raises:
        InputError: it is missing, damaged, incomplete, of another kind or version, or not as gexpr writes it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._file = self._open()
        try:
            self._check_format()
            self.attributes = self._attributes()
            self.tracks = self._tracks()
            self.rows = self._dataset("pos", "iu", 1).shape[0]
            self._text = {name: self._dataset(name, "O", 1, self.rows) for name in _TEXTS}
            self._positions = self._dataset("pos", "iu", 1, self.rows)
            self._extra = {name: self._column(name) for name in self._column_names()}
            self.columns = {name: _KINDS[each.dtype.kind] for name, each in self._extra.items()}
            self.statistics = self._statistics()
            shape = self.rows, len(self.tracks)
            self._scores = {name: self._dataset(name, "f", 2, *shape) for name in self.statistics}
            types = {str(each.dtype) for each in self._scores.values()}
            if len(types) != 1 or not types <= {"float32", "float16"}:
                raise self._fault(f"the scores are {' and '.join(sorted(types))}, not float32 or float16")
            self.dtype = types.pop()
        except BaseException as error:
            self._file.close()
            if isinstance(error, _DAMAGE):
                raise self._damaged(error) from None
            raise

    def _open(self) -> h5py.File:
        if os.path.isdir(self.path):
            raise InputError("a folder; a file of scores (.h5) is needed", path=self.path)
        try:
            with open(self.path, "rb") as file:
                head = file.read(8)
        except OSError as error:
            raise InputError(error.strerror or str(error), path=self.path) from None
        if head != b"\x89HDF\r\n\x1a\n":
            what = "empty" if not head else "no HDF5 file"
            raise InputError(
                f"{what}; scores in HDF5, as 'gexpr score-variants -o FILE.h5' writes them, are needed",
                path=self.path,
            )
        try:
            return h5py.File(self.path, "r")
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def _fault(self, message: str) -> InputError:
        return InputError(message, path=self.path)

    def _damaged(self, error: BaseException) -> InputError:
        return self._fault(f"damaged or incomplete HDF5 ({shown(str(error))})")

    def _check_format(self) -> None:
        attributes = self._attributes(all=True)
        name, version = attributes.get("format"), attributes.get("format_version")
        if name != FORMAT_NAME:
            found = "it does not say what it is" if name is None else f"it holds {shown(name)}"
            raise self._fault(f"no file of gexpr's variant scores: {found}")
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise self._fault(
                f"variant scores of format version {shown(version)}; this gexpr reads {FORMAT_VERSION}"
            )

    def _attributes(self, all: bool = False) -> dict[str, Attribute]:
        """Attributes that are one text, number or truth value; others are not gexpr's."""
        found: dict[str, Attribute] = {}
        for name in self._file.attrs:
            value = self._file.attrs[name]
            if isinstance(value, np.generic):
                value = value.item()
            if isinstance(value, str | int | float | bool):
                found[name] = value
        own = ("format", "format_version", COLUMNS_ATTRIBUTE)
        return found if all else {k: v for k, v in found.items() if k not in own}

    def _column_names(self) -> list[str]:
        text = self._attributes(all=True).get(COLUMNS_ATTRIBUTE, "")
        names = text.split(",") if isinstance(text, str) and text else []
        if text and (not names or len(set(names)) != len(names)):
            raise self._fault(f"the attribute {COLUMNS_ATTRIBUTE} is {shown(text)}, not a list of names")
        return names

    def _column(self, name: str) -> h5py.Dataset:
        """The dataset of an extra column: texts or numbers."""
        return self._dataset(name, "Oiuf", 1, self.rows)

    def _dataset(self, name: str, kinds: str, dimensions: int, *shape: int) -> h5py.Dataset:
        """A dataset of this file, of a type and shape."""
        # Links other than hard ones can lead to other files.
        link = self._file.get(name, getlink=True)
        dataset = self._file[name] if isinstance(link, h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset):
            raise self._fault(f"it lacks the dataset {shown(name)}")
        if dataset.is_virtual or dataset.external:
            raise self._fault(f"the dataset {shown(name)} lies in other files")
        text = h5py.check_string_dtype(dataset.dtype) is not None
        if dataset.dtype.kind not in kinds or text != (dataset.dtype.kind == "O"):
            raise self._fault(f"the dataset {shown(name)} has the type {dataset.dtype}")
        if dataset.shape is None or len(dataset.shape) != dimensions or dataset.shape[: len(shape)] != shape:
            expected = " x ".join(map(str, shape)) or f"{dimensions} dimension(s)"
            raise self._fault(f"the dataset {shown(name)} has the shape {dataset.shape}, not {expected}")
        if dataset.chunks and np.prod(dataset.chunks, dtype=float) * dataset.dtype.itemsize > _MOST_CHUNK:
            raise self._fault(f"the dataset {shown(name)} has chunks of {dataset.chunks}, too large to read")
        return dataset

    def _tracks(self) -> list[Track]:
        columns: dict[str, list[str]] = {}
        names = {"target_ids": "id", "target_labels": "label"}
        names |= {n: f for n, f in TRACK_FIELDS.items() if n in self._file}
        for name, field in names.items():
            size = [len(columns["id"])] if columns else []
            columns[field] = self._strings(self._dataset(name, "O", 1, *size), 0, None)
        if len(set(columns["id"])) != len(columns["id"]):
            raise self._fault("two tracks have the same id")
        return [
            Track(index=i, strand_pair=i, **dict(zip(columns, values, strict=True)))
            for i, values in enumerate(zip(*columns.values(), strict=True))
        ]

    def _statistics(self) -> tuple[str, ...]:
        text = self.attributes.get("statistics")
        names = tuple(filter(None, text.split(","))) if isinstance(text, str) else ()
        if not names or len(set(names)) != len(names):
            raise self._fault(f"the attribute statistics is {shown(text)}, not a list of names")
        return names

    def _strings(self, dataset: h5py.Dataset, start: int, end: int | None) -> list[str]:
        try:
            return [value.decode("utf-8", "backslashreplace") for value in dataset[start:end].tolist()]
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def blocks(self, tables: int = 1) -> Iterator[tuple[int, int]]:
        """Rows to read at a time, (start, end): whole chunks, of bounded size.

        Args:
            tables: how many tables of scores are to be held at once.
        """
        sizes = [(each.chunks or (1,))[0] for each in self._scores.values()]
        row_bytes = max(1, len(self.tracks)) * np.dtype(self.dtype).itemsize * max(1, tables)
        size = max(sizes)
        step = max(size, min(_BLOCK_ROWS, _BLOCK_BYTES // row_bytes) // size * size)
        for start in range(0, self.rows, step):
            yield start, min(self.rows, start + step)

    def definition(self, statistic: str) -> str | None:
        """The formula that the file gives for a statistic."""
        try:
            value = self._scores[statistic].attrs.get("definition")
        except _DAMAGE as error:
            raise self._damaged(error) from None
        return value if isinstance(value, str) else None

    def texts(self, name: str, start: int, end: int) -> list[str]:
        """``chrom``, ``id`` (as the dataset ``snp`` has it), ``ref``, ``alt`` or ``status`` of rows."""
        (dataset,) = (each for each, field in _TEXTS.items() if field == name)
        return self._strings(self._text[dataset], start, end)

    def extra(self, start: int, end: int) -> Columns:
        """The extra columns of rows."""
        return {
            name: self._strings(dataset, start, end)
            if self.columns[name] == "text"
            else self._numbers(dataset, start, end, slice(None))
            .astype(NUMBER_TYPES[self.columns[name]])
            .tolist()
            for name, dataset in self._extra.items()
        }

    def positions(self, start: int, end: int) -> NDArray[np.int64]:
        """POS of rows, 1-based."""
        return self._numbers(self._positions, start, end, slice(None)).astype(np.int64)

    def variants(self, start: int, end: int) -> list[Variant]:
        """The alleles of rows; ``id`` is ``.`` where the file made one up, and ``line`` is unknown (0)."""
        names, chroms, refs, alts, statuses = (
            self.texts(field, start, end) for field in ("id", "chrom", "ref", "alt", "status")
        )
        positions = self.positions(start, end).tolist()
        found = []
        for row, values in enumerate(zip(chroms, positions, refs, alts, statuses, strict=True), start=start):
            chrom, pos, ref, alt, status = values
            variant = Variant(row, 0, chrom, pos, ".", ref, alt, status)
            name = names[row - start]
            found.append(variant if variant_name(variant) == name else variant._replace(id=name))
        return found

    def scores(
        self, statistic: str, start: int, end: int, columns: Sequence[int] | None = None
    ) -> NDArray[np.floating]:
        """Scores of rows as stored, (end - start, columns); NaN where a row was not scored.

        Args:
            statistic: one of ``statistics``.
            start: first row.
            end: behind the last row.
            columns: places of tracks; None is all.

        Raises:
            InputError: that part of the file is damaged.
        """
        dataset = self._scores[statistic]
        if columns is None or list(columns) == list(range(len(self.tracks))):
            return self._numbers(dataset, start, end, slice(None))
        # A chunk holds whole rows mostly: to choose afterwards costs no reading.
        low, high = min(columns, default=0), max(columns, default=-1) + 1
        values = self._numbers(dataset, start, end, slice(low, high))
        return np.take(values, np.asarray(columns, dtype=np.intp) - low, axis=1)

    @property
    def has_profiles(self) -> bool:
        """Whether the file holds predictions around the variants; see :meth:`profiles`."""
        return all(name in self._file for name in PROFILES)

    def profiles(self, row: int) -> tuple[NDArray[np.floating], NDArray[np.floating], int]:
        """Predictions around the allele of a row, of the reference and the alternate, and where they begin.

        Returns:
            Two arrays (bins, tracks), NaN where the row was not scored, and the 0-based first base of the
            first bin. Of a region with fewer bins than others in the file, its own bins.

        Raises:
            InputError: the file was written without ``--profiles``, or is damaged.
        """
        if not self.has_profiles:
            raise self._fault(
                "it holds scores alone; predictions around the variants are written by "
                "'gexpr score-variants --profiles center:BINS'"
            )
        try:
            reference, alternate = (self._dataset(name, "f", 3, self.rows)[row] for name in PROFILES[:2])
            start = int(self._dataset(PROFILES[2], "iu", 1, self.rows)[row])
        except _DAMAGE as error:
            raise self._damaged(error) from None
        if reference.shape != alternate.shape or reference.shape[1] != len(self.tracks):
            raise self._fault(f"the predictions have the shapes {reference.shape} and {alternate.shape}")
        # Bins behind a shorter region are filled up; those of a row that was not scored tell nothing.
        known = np.flatnonzero(~np.isnan(reference).all(axis=1))
        bins = int(known[-1]) + 1 if len(known) else len(reference)
        return reference[:bins], alternate[:bins], start

    def _numbers(self, dataset: h5py.Dataset, start: int, end: int, columns: slice) -> NDArray[Any]:
        try:
            values: NDArray[Any] = dataset[start:end] if dataset.ndim == 1 else dataset[start:end, columns]
        except _DAMAGE as error:
            raise self._damaged(error) from None
        return values

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
