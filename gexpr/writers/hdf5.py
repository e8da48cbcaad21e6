"""What the HDF5 outputs share: deterministic bytes, strings, chunks; docs/output-files.md specifies them."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gexpr.errors import GexprError
from gexpr.results import Track
from gexpr.writers.output import AtomicOutput, GuardedFile, utf8

STRING = h5py.string_dtype("utf-8")
CHUNK_BYTES = 1 << 20
STRING_CHUNK = 4096
COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
_AHEAD = 32
"""Pieces that may wait for their compression; fixed, because it decides on their order in the file."""

Attribute = str | int | float | bool

TRACK_FIELDS = {"target_assays": "assay", "target_cell_types": "cell_type"}
"""Datasets about the tracks that are written where any track has a text there -> field of a Track."""


class Hdf5Output:
    """An HDF5 file under an :class:`AtomicOutput`; equal calls give equal bytes.

    Whole chunks of numbers are compressed in threads and written in the order in which they came; arrays
    that were added may not be changed until then.

    Raises:
        GexprError: when a write fails; nothing with the output's name exists then.
    """

    def __init__(self, output: AtomicOutput) -> None:
        if output.is_stream:
            raise GexprError(f"cannot write {output.path}: HDF5 needs a regular file; use --format tsv")
        self.output = output
        self._guard = GuardedFile(output.file)
        self._waiting: dict[str, list[Any]] = {}
        self._waiting_rows: dict[str, int] = {}
        self._rows = 0
        self._pool = ThreadPoolExecutor(thread_name_prefix="gexpr-compress")
        self._queue: deque[tuple[str, Any, Future[bytes] | None]] = deque()
        # Bounds are fixed, so that the bytes do not depend on the library's defaults.
        self.file = h5py.File(self._guard, "w", libver=("v110", "v110"))

    def attributes(self, values: Mapping[str, Attribute]) -> None:
        """Write attributes of the whole file, in sorted order."""
        for name in sorted(values):
            self.file.attrs[name] = values[name]

    def annotate(self, attributes: Mapping[str, Attribute]) -> None:
        """Write attributes of the whole file, as :meth:`attributes`."""
        self.attributes(attributes)

    def strings(self, name: str, values: Sequence[str]) -> None:
        """Write a complete dataset of strings."""
        self.growing_strings(name)
        self.append(name, texts(values))

    def growing_strings(self, name: str) -> None:
        """Create an empty dataset of strings."""
        self.file.create_dataset(
            name, (0,), STRING, maxshape=(None,), chunks=(STRING_CHUNK,), track_times=False, **COMPRESSION
        )

    def growing(self, name: str, row_shape: tuple[int, ...], dtype: str, fill: float | None = None) -> None:
        """Create an empty dataset that grows along its first axis, compressed."""
        row_bytes = max(1, int(np.prod(row_shape))) * np.dtype(dtype).itemsize
        rows = int(np.clip(CHUNK_BYTES // row_bytes, 1, 4096))
        chunk_row = row_shape
        if rows == 1 and row_bytes > 4 * CHUNK_BYTES:
            share = max(1, row_shape[0] * CHUNK_BYTES // row_bytes)
            chunk_row = (share, *row_shape[1:])
        if 0 in row_shape:
            self.file.create_dataset(name, (0, *row_shape), dtype, track_times=False)
            return
        self.file.create_dataset(
            name,
            (0, *row_shape),
            dtype,
            maxshape=(None, *row_shape),
            chunks=(rows, *chunk_row),
            fillvalue=fill,
            track_times=False,
            **COMPRESSION,
        )

    def append(self, name: str, values: Any) -> None:
        """Add rows to a growing dataset.

        Whole chunks are written at a time: a chunk that is written twice is compressed twice.
        """
        if len(values):
            waiting = self._waiting.setdefault(name, [])
            waiting.append(values)
            rows = self._waiting_rows[name] = self._waiting_rows.get(name, 0) + len(values)
            size = self._chunk_rows(name)
            if rows >= size:
                joined = _join(waiting)
                whole = rows - rows % size
                self._extend(name, joined[:whole])
                self._waiting[name] = [joined[whole:]] if whole < rows else []
                self._waiting_rows[name] = rows - whole
        self.check()

    def append_rows(self, columns: Mapping[str, Any]) -> None:
        """Add equally many rows to several growing datasets, all that are ever added to them.

        The rows are cut where a chunk of any of the datasets ends, so that chunks go to the file in an
        order that does not depend on how many rows come at a time.
        """
        rows = len(next(iter(columns.values())))
        sizes = {self._chunk_rows(name) for name in columns}
        low = 0
        while low < rows:
            high = min(rows, *(low + size - (self._rows + low) % size for size in sizes))
            for name, values in columns.items():
                self.append(name, values[low:high])
            low = high
        self._rows += rows

    def _chunk_rows(self, name: str) -> int:
        size: int = (self.file[name].chunks or (1,))[0]
        return size

    def _extend(self, name: str, values: Any) -> None:
        """Queue rows that begin at the start of a chunk; what waited long enough is written."""
        dataset = self.file[name]
        rows = self._chunk_rows(name)
        whole = 0
        if isinstance(values, np.ndarray) and dataset.compression and dataset.chunks[1:] == dataset.shape[1:]:
            whole = len(values) - len(values) % rows
            for low in range(0, whole, rows):
                piece = np.asarray(values[low : low + rows], dtype=dataset.dtype)
                self._queue.append((name, piece, self._pool.submit(_compressed, piece)))
        if whole < len(values):
            self._queue.append((name, values[whole:], None))
        while len(self._queue) > _AHEAD:
            self._store(*self._queue.popleft())

    def _store(self, name: str, values: Any, compressed: Future[bytes] | None) -> None:
        dataset = self.file[name]
        start = dataset.shape[0]
        dataset.resize(start + len(values), axis=0)
        if compressed is None:
            dataset[start:] = values
        else:
            dataset.id.write_direct_chunk((start, *[0] * (dataset.ndim - 1)), compressed.result())

    def _write_waiting(self) -> None:
        for name, waiting in self._waiting.items():
            if waiting:
                self._extend(name, _join(waiting))
        self._waiting.clear()
        self._waiting_rows.clear()
        while self._queue:
            self._store(*self._queue.popleft())

    def tracks(self, tracks: Sequence[Track]) -> None:
        """Write ``target_ids``, ``target_labels`` and what :data:`TRACK_FIELDS` there is."""
        self.strings("target_ids", [track.id for track in tracks])
        self.strings("target_labels", [track.label for track in tracks])
        for name, field in TRACK_FIELDS.items():
            values = [getattr(track, field) for track in tracks]
            if any(values):
                self.strings(name, values)

    def check(self) -> None:
        """Raise the first failed write, if there was one."""
        error = self._guard.error
        if isinstance(error, OSError):
            raise self.output.failure(error) from error
        if error is not None:
            raise error

    def finish(self) -> None:
        """Close the file and bring it to the disk, still without its name."""
        if self.file:
            self._write_waiting()
            self._pool.shutdown()
            self.file.close()
        self.check()
        self.output.finish()

    def commit(self) -> None:
        """Close the file and give it its name."""
        self.finish()
        self.output.commit()

    def discard(self) -> None:
        """Close the file and remove it; safe to call at any time."""
        self._queue.clear()
        self._pool.shutdown(cancel_futures=True)
        if self.file:
            self.file.close()
        self.output.discard()


def _join(pieces: list[Any]) -> Any:
    if isinstance(pieces[0], np.ndarray):
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return [value for piece in pieces for value in piece]


def _compressed(values: NDArray[Any]) -> bytes:
    """A chunk as :data:`COMPRESSION` makes it: all first bytes, all second ones and so on; then zlib."""
    numbers = np.ascontiguousarray(values).reshape(-1).view(np.uint8).reshape(-1, values.itemsize)
    return zlib.compress(np.ascontiguousarray(numbers.T).data, COMPRESSION["compression_opts"])


def texts(values: Iterable[str]) -> list[bytes]:
    """Strings as rows for a dataset made by :meth:`Hdf5Output.growing_strings`."""
    return [utf8(value) for value in values]
