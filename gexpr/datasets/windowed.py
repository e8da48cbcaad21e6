"""What a dataset of windows offers, however it is stored."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from gexpr.results import Track


class WindowData(NamedTuple):
    """One window's data.

    Attributes:
        codes: uint8 (context_length,); A C G T = 0 1 2 3, 4 is unknown or outside the contig.
        targets: float32 (target_length, tracks), 0 where there are none.
        valid: bool (target_length,), False where targets do not count: outside the contig, in gaps, in
            blacklisted bins and in bins of another split.
    """

    codes: np.ndarray
    targets: np.ndarray
    valid: np.ndarray


class Batch(NamedTuple):
    """``codes`` uint8 (B, length), ``targets`` float32 (B, bins, tracks), ``valid`` bool (B, bins)."""

    codes: np.ndarray
    targets: np.ndarray
    valid: np.ndarray


def stack(windows: Sequence[WindowData]) -> Batch:
    """Put windows together into one batch."""
    return Batch(
        np.stack([window.codes for window in windows]),
        np.stack([window.targets for window in windows]).astype(np.float32, copy=False),
        np.stack([window.valid for window in windows]),
    )


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


class Draws(NamedTuple):
    """Which windows a batch shows and how each is moved: four int64 (B,).

    Attributes:
        windows: places in the split, from 0.
        jitters: bins by which sequence and targets are moved.
        shifts: bases by which the sequence alone is moved.
        crops: which of the places where a window may be cut, 0 to ``crops`` - 1 of the source.
    """

    windows: np.ndarray
    jitters: np.ndarray
    shifts: np.ndarray
    crops: np.ndarray


class TrainingSource(Protocol):
    """What a model can be trained on: windows of a split, drawn by number, moved and cut as asked.

    Attributes:
        path: file or folder, for messages.
        tracks: of the targets, in the order of their last axis.
        context_length: bases of a window as it is drawn.
        bin_size: bases of a bin.
        target_length: bins of a window, in the middle of its context.
        digest: SHA-256 of the content that determines training.
        crops: number of places where a training window may be cut; 1 where it is shown whole.
        central_crop: the place of the middle one, which validation shows.
        both_strands: whether windows are read from both strands unless the configuration says otherwise.
        provenance: what is known of the origin: ``fasta``, ``fasta_digest``, ``files`` by track, or nothing.
    """

    path: Path
    tracks: list[Track]
    context_length: int
    bin_size: int
    target_length: int
    digest: str
    crops: int
    central_crop: int
    both_strands: bool

    @property
    def provenance(self) -> dict[str, Any]:
        """What is known of the origin."""
        ...

    @property
    def strand_pairs(self) -> np.ndarray:
        """int64 (tracks,): index of each track's partner on the other strand (or itself)."""
        ...

    def window_count(self, split: str) -> int:
        """Windows of a split.

        Raises:
            GexprError: there is no such split.
        """
        ...

    def draw(self, split: str, draws: Draws) -> Batch:
        """The windows that ``draws`` names."""
        ...

    def contents(self, split: str) -> list[str]:
        """What a split consists of, for records: contigs, or a count of windows; empty without windows."""
        ...

    def describe(self) -> list[str]:
        """Sentences about the data for the model card."""
        ...


class WindowedDataset(Protocol):
    """Windows of one geometry with their targets, by split: what a model is compared with.

    Attributes:
        path: file or folder, for messages.
        tracks: of the targets, in the order of their last axis; empty where the dataset does not name them.
        context_length: bases of a window.
        bin_size: bases of a bin.
        target_length: bins of a window that have targets, in the middle of its context.
        crop: bins without targets on each side of a window.
    """

    path: Path
    tracks: list[Track]
    context_length: int
    bin_size: int
    target_length: int
    crop: int

    @property
    def track_count(self) -> int:
        """Number of tracks."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have windows."""
        ...

    def window_count(self, split: str) -> int | None:
        """Windows of a split; None where that takes reading all of them."""
        ...

    def window_data(self, split: str) -> Iterator[WindowData]:
        """The windows of a split in the order of the dataset, one in memory at a time.

        Raises:
            InputError: there is no such split, or the data are damaged.
        """
        ...
