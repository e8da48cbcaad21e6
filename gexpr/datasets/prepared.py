"""Read a prepared dataset: sequences, targets and windows by contig."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from gexpr.datasets.folds import Fold, deal
from gexpr.datasets.windowed import Batch, Draws, WindowData, stack
from gexpr.errors import GexprError, InputError
from gexpr.results import Track

FORMAT = "gexpr-dataset"
FORMAT_VERSION = 1
SPLITS = ("train", "valid", "test")
NO_SPLIT = 255
MEMORY_LIMIT = 4 << 30
_TRAIN, _VALID, _TEST = range(len(SPLITS))


class Window(NamedTuple):
    """One window: ``start`` is the first base of its context (0-based, may be negative)."""

    contig: str
    start: int
    split: str


def padded(array: Any, start: int, end: int, fill: Any) -> np.ndarray:
    """``array[start:end]`` along the first axis, with ``fill`` where that is outside the array."""
    length = array.shape[0]
    if 0 <= start and end <= length:
        return np.asarray(array[start:end])
    out = np.full((end - start, *array.shape[1:]), fill, dtype=array.dtype)
    low, high = max(start, 0), min(end, length)
    if low < high:
        out[low - start : high - start] = array[low:high]
    return out


class PreparedDataset:
    """A dataset written by :func:`gexpr.datasets.prepare`.

    Arrays are read when first used; a dataset of up to 4 GiB is then kept in memory, a larger one
    is read piecewise. The object holds a path, so that it pickles.

    Args:
        path: the HDF5 file.
        in_memory: keep whole contigs in memory; None decides by size.

    Attributes:
        contigs: names, in the order of the FASTA.
        lengths: bases of each contig.
        tracks: list of :class:`~gexpr.results.Track`.
        context_length: bases of a window.
        bin_size: bases of a bin.
        target_length: bins that a window predicts, centered.
        crop: bins dropped on each side of a window.
        digest: SHA-256 of everything in the file that determines training.

    Raises:
        InputError: the file is missing, unfinished, damaged or not such a dataset.
    """

    crops = 1
    central_crop = 0
    both_strands = True

    def __init__(self, path: str | os.PathLike[str], in_memory: bool | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError("no such dataset; make it with gexpr prepare", path=path)
        try:
            with h5py.File(self.path, "r") as file:
                self._read_header(file, in_memory)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"not a readable prepared dataset: {error}", path=path) from error

    def _read_header(self, file: h5py.File, in_memory: bool | None) -> None:
        attributes = file.attrs
        if attributes.get("format") != FORMAT:
            raise InputError("not a prepared dataset (made by gexpr prepare)", path=self.path)
        if attributes.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"format version {attributes.get('format_version')}; this gexpr reads version "
                f"{FORMAT_VERSION}; prepare the dataset again",
                path=self.path,
            )
        self.context_length = int(attributes["context_length"])
        self.bin_size = int(attributes["bin_size"])
        self.target_length = int(attributes["target_length"])
        self.crop = (self.context_length // self.bin_size - self.target_length) // 2
        self.digest = str(attributes["digest"])
        self.attributes: dict[str, Any] = json.loads(attributes["provenance"])
        self.contigs = tuple(_text(name) for name in file["contig_names"][:])
        self.lengths = {name: int(file[f"contigs/{name}/sequence"].shape[0]) for name in self.contigs}
        self.bins = {name: int(file[f"contigs/{name}/targets"].shape[0]) for name in self.contigs}
        table = file["tracks"]
        self.tracks = [
            Track(
                index=i,
                id=_text(row["id"]),
                label=_text(row["label"]),
                assay=_text(row["assay"]),
                cell_type=_text(row["cell_type"]),
                strand=_text(row["strand"]),
                strand_pair=int(row["strand_pair"]),
                scale=float(row["scale"]),
                transform=_text(row["transform"]),
            )
            for i, row in enumerate(table[:])
        ]
        windows = file["windows"][:]
        self._windows = [
            Window(self.contigs[row["contig"]], int(row["start"]), SPLITS[row["split"]]) for row in windows
        ]
        size = sum(self.lengths.values()) + sum(self.bins.values()) * (4 * len(self.tracks) + 2)
        self.in_memory = size <= MEMORY_LIMIT if in_memory is None else in_memory
        self._cache: dict[tuple[str, str], Any] = {}
        self._file: h5py.File | None = None
        self._roles: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["_cache"], state["_file"] = {}, None
        return state

    def __repr__(self) -> str:
        return f"PreparedDataset({os.fspath(self.path)!r})"

    @cached_property
    def strand_pairs(self) -> np.ndarray:
        """int64 (tracks,): index of each track's partner on the other strand (or itself)."""
        return np.array([track.strand_pair for track in self.tracks], dtype=np.int64)

    @property
    def track_count(self) -> int:
        """Number of tracks."""
        return len(self.tracks)

    @property
    def provenance(self) -> dict[str, Any]:
        """What ``gexpr prepare`` recorded of the origin: names of files, digest of the genome, options."""
        return self.attributes

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have windows."""
        present = {window.split for window in self._windows}
        return tuple(split for split in SPLITS if split in present)

    @cached_property
    def _by_split(self) -> dict[str, list[Window]]:
        return {split: [window for window in self._windows if window.split == split] for split in SPLITS}

    def windows(self, split: str) -> list[Window]:
        """The windows of ``train``, ``valid`` or ``test``, by contig and start."""
        if split not in SPLITS:
            raise GexprError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
        return list(self._by_split[split])

    def window_count(self, split: str) -> int:
        """Number of windows of a split."""
        return len(self.windows(split))

    def window_data(self, split: str) -> Iterator[WindowData]:
        """The data of a split's :meth:`windows` in their order; bins of other splits are not valid."""
        for window in self.windows(split):
            yield self.window(window.contig, window.start, split=split)

    def contigs_of(self, split: str) -> tuple[str, ...]:
        """Names of the contigs on which a split has windows."""
        named = {window.contig for window in self.windows(split)}
        return tuple(contig for contig in self.contigs if contig in named)

    def _array(self, contig: str, name: str) -> Any:
        key = (contig, name)
        if key not in self._cache:
            if contig not in self.lengths:
                raise GexprError(f"the dataset {self.path} has no contig {contig!r}")
            if self._file is None:
                self._file = h5py.File(self.path, "r")
            dataset = self._file[f"contigs/{contig}/{name}"]
            whole = self.in_memory or (name == "split" and contig in self._roles)
            try:
                array = dataset[...] if whole else dataset
            except OSError as error:
                raise InputError(
                    f"contig {contig}: {name} cannot be read: {error}", path=self.path
                ) from error
            if name == "split" and contig in self._roles:
                array = np.where(array < _TEST, np.uint8(self._roles[contig]), array)
            self._cache[key] = array
        return self._cache[key]

    def sequence(self, contig: str) -> np.ndarray:
        """uint8 codes (contig length,)."""
        return np.asarray(self._array(contig, "sequence"))

    def targets(self, contig: str) -> np.ndarray:
        """float32 (bins, tracks); bin b covers bases ``b * bin_size`` to ``(b + 1) * bin_size``."""
        return np.asarray(self._array(contig, "targets"))

    def valid(self, contig: str) -> np.ndarray:
        """bool (bins,): False in gaps of the sequence and in blacklisted bins."""
        return np.asarray(self._array(contig, "valid"))

    def bin_splits(self, contig: str) -> np.ndarray:
        """uint8 (bins,): index into :data:`SPLITS` of the split that owns each bin; 255 for none."""
        return np.asarray(self._array(contig, "split"))

    def window(
        self, contig: str, start: int, jitter: int = 0, shift: int = 0, split: str | None = None
    ) -> WindowData:
        """Sequence and targets of a window.

        Args:
            start: first base of the context; a multiple of ``bin_size``, may hang over an end.
            jitter: bins by which the whole window (sequence and targets) is moved.
            shift: bases by which the sequence alone is moved.
            split: bins of other splits are marked as not valid; None keeps them.
        """
        if start % self.bin_size:
            raise GexprError(f"window start {start} is not a multiple of the bin size {self.bin_size}")
        first_bin = start // self.bin_size + self.crop + jitter
        first_base = start + jitter * self.bin_size + shift
        last_bin = first_bin + self.target_length
        codes = padded(self._array(contig, "sequence"), first_base, first_base + self.context_length, 4)
        targets = padded(self._array(contig, "targets"), first_bin, last_bin, 0.0)
        valid = padded(self._array(contig, "valid"), first_bin, last_bin, False)
        if split is not None:
            owner = padded(self._array(contig, "split"), first_bin, last_bin, NO_SPLIT)
            valid = valid & (owner == SPLITS.index(split))
        return WindowData(codes, targets, valid)

    def draw(self, split: str, draws: Draws) -> Batch:
        """The windows of a split that ``draws`` names; bins of other splits are not valid."""
        windows = self._by_split[split]
        return stack(
            [
                self.window(windows[place].contig, windows[place].start, int(jitter), int(shift), split=split)
                for place, jitter, shift in zip(draws.windows, draws.jitters, draws.shifts, strict=True)
            ]
        )

    def contents(self, split: str) -> list[str]:
        """Names of the contigs on which a split has windows; none for an unknown split."""
        return list(self.contigs_of(split)) if split in SPLITS else []

    def describe(self) -> list[str]:
        """Genome and digest."""
        return [
            f"Genome: {self.attributes.get('fasta', '?')} (digest "
            f"{str(self.attributes.get('fasta_digest', '?'))[:16]}).",
            f"Prepared dataset: digest {self.digest[:16]}.",
        ]

    def with_fold(self, fold: Fold) -> PreparedDataset:
        """The same data, its training and validation contigs dealt out anew; the test split stays.

        Contigs go to folds by their number of bins. Those of fold ``fold.index`` are validated on, in windows
        that do not overlap; those of the others are trained on, in windows ``stride`` apart, as when the
        dataset was prepared.

        Raises:
            ConfigError: fewer contigs than folds.
        """
        contigs = [
            contig
            for contig in self.contigs
            if any(window.contig == contig and window.split != SPLITS[_TEST] for window in self._windows)
        ]
        owners = deal([self.bins[contig] for contig in contigs], fold.number)
        folded = copy.copy(self)
        folded._cache, folded._file = {}, None
        folded._roles = {
            contig: _VALID if owner == fold.index else _TRAIN
            for contig, owner in zip(contigs, owners, strict=True)
        }
        folded._windows = [
            window
            for contig in self.contigs
            for window in (
                *folded._tiled(contig),
                *(each for each in self._windows if each.contig == contig and each.split == SPLITS[_TEST]),
            )
        ]
        folded.__dict__.pop("_by_split", None)
        return folded

    def _tiled(self, contig: str) -> Iterator[Window]:
        """Windows over the bins of a contig that has a role, as ``gexpr prepare`` would lay them."""
        role = self._roles.get(contig)
        if role is None:
            return
        stride = self.attributes.get("stride")
        step = stride // self.bin_size if stride and role == _TRAIN else self.target_length
        most = float(self.attributes.get("max_gap_fraction", 0.5))
        own = self.bin_splits(contig) == role
        usable = self.valid(contig) & own
        edges = np.flatnonzero(np.diff(np.concatenate([[False], own, [False]]).astype(np.int8)))
        for first, last in edges.reshape(-1, 2).tolist():
            for start in range(first, last, step):
                end = min(start + self.target_length, last)
                if usable[start:end].mean() >= 1.0 - most:
                    yield Window(contig, (start - self.crop) * self.bin_size, SPLITS[role])
                    if end == last:
                        break


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
