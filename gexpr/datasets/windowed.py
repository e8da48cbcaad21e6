"""What a dataset of windows offers, however it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

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
