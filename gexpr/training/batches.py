"""Training batches as a pure function of their number, so that resuming needs the number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gexpr.datasets import PreparedDataset, Window, WindowData
from gexpr.errors import ConfigError
from gexpr.training.config import AugmentationConfig

_ORDER, _AUGMENT = 1, 2
_COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


class Batch(NamedTuple):
    """``codes`` uint8 (B, length), ``targets`` float32 (B, bins, tracks), ``valid`` bool (B, bins)."""

    codes: np.ndarray
    targets: np.ndarray
    valid: np.ndarray


def reverse_complement(data: WindowData, strand_pairs: np.ndarray) -> WindowData:
    """The same window read from the other strand.

    The sequence is reverse-complemented, bins are reversed, and each track takes the values of its
    partner on the other strand (``strand_pairs``: index of each track's partner, or its own).
    """
    return WindowData(_COMPLEMENT[data.codes[::-1]], data.targets[::-1][:, strand_pairs], data.valid[::-1])


def stack(windows: Sequence[WindowData]) -> Batch:
    """Put windows together into one batch."""
    return Batch(
        np.stack([window.codes for window in windows]),
        np.stack([window.targets for window in windows]).astype(np.float32, copy=False),
        np.stack([window.valid for window in windows]),
    )


class TrainingBatches:
    """Batches in random order with random augmentation, a function of (seed, number) alone.

    Each pass over the windows is a new permutation; a batch may span two passes, so every batch is full.

    Raises:
        ConfigError: no window to train on, or reverse complement with a stranded track that has no
            partner.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        split: str,
        batch_size: int,
        seed: int,
        augmentation: AugmentationConfig,
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.windows = dataset.windows(split)
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        if not self.windows:
            raise ConfigError(f"{dataset.path}: the split {split!r} has no windows")
        if augmentation.reverse_complement:
            for track in dataset.tracks:
                if track.strand != "." and track.strand_pair == track.index:
                    raise ConfigError(
                        f"track {track.id!r} is of strand {track.strand} and has no strand_pair, so windows "
                        "cannot be reverse-complemented; set augmentation.reverse_complement to false"
                    )
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def _window(self, position: int) -> Window:
        epoch, index = divmod(position, len(self.windows))
        if self._order[0] != epoch:
            generator = np.random.default_rng([self.seed, _ORDER, epoch])
            self._order = (epoch, generator.permutation(len(self.windows)))
        return self.windows[self._order[1][index]]

    def batch(self, number: int) -> Batch:
        """Batch ``number`` (from 0) of the endless sequence of training batches."""
        settings, size = self.augmentation, self.batch_size
        generator = np.random.default_rng([self.seed, _AUGMENT, number])
        flips = generator.integers(0, 2, size)
        jitters = generator.integers(-settings.jitter_bins, settings.jitter_bins + 1, size)
        shifts = generator.integers(-settings.shift_bp, settings.shift_bp + 1, size)
        drawn = []
        for i in range(size):
            window = self._window(number * size + i)
            data = self.dataset.window(
                window.contig, window.start, int(jitters[i]), int(shifts[i]), split=self.split
            )
            if settings.reverse_complement and flips[i]:
                data = reverse_complement(data, self.dataset.strand_pairs)
            drawn.append(data)
        return stack(drawn)


def validation_batches(dataset: PreparedDataset, split: str, batch_size: int) -> Iterator[Batch]:
    """The windows of a split in order, without augmentation; the last batch may be smaller."""
    windows = dataset.windows(split)
    for first in range(0, len(windows), batch_size):
        yield stack(
            [
                dataset.window(window.contig, window.start, split=split)
                for window in windows[first : first + batch_size]
            ]
        )
