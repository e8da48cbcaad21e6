"""Training batches as a pure function of their number, so that resuming needs the number alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from gexpr.datasets import Batch, Draws, TrainingSource, WindowData
from gexpr.errors import ConfigError
from gexpr.training.config import AugmentationConfig

_ORDER, _AUGMENT = 1, 2
_COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.uint8)

Data = TypeVar("Data", WindowData, Batch)


def reverse_complement(data: Data, strand_pairs: np.ndarray) -> Data:
    """The same window, or all windows of a batch, read from the other strand.

    The sequence is reverse-complemented, bins are reversed, and each track takes the values of its
    partner on the other strand (``strand_pairs``: index of each track's partner, or its own).
    """
    return type(data)(
        _COMPLEMENT[data.codes[..., ::-1]],
        data.targets[..., ::-1, :][..., strand_pairs],
        data.valid[..., ::-1],
    )


class TrainingBatches:
    """Batches in random order with random augmentation, a function of (seed, number) alone.

    Each pass over the windows is a new permutation; a batch may span two passes, so every batch is full.

    Attributes:
        count: number of windows.

    Raises:
        ConfigError: no window to train on, or reverse complement with a stranded track that has no
            partner.
    """

    def __init__(
        self,
        source: TrainingSource,
        split: str,
        batch_size: int,
        seed: int,
        augmentation: AugmentationConfig,
    ) -> None:
        self.source = source
        self.split = split
        self.count = source.window_count(split)
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        given = augmentation.reverse_complement
        self.both_strands = source.both_strands if given is None else given
        if not self.count:
            raise ConfigError(f"{source.path}: the split {split!r} has no windows")
        if self.both_strands:
            for track in source.tracks:
                if track.strand != "." and track.strand_pair == track.index:
                    raise ConfigError(
                        f"track {track.id!r} is of strand {track.strand} and has no strand_pair, so windows "
                        "cannot be reverse-complemented; set augmentation.reverse_complement to false"
                    )
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def window_numbers(self, number: int) -> np.ndarray:
        """Places in the split of the windows of batch ``number``: int64 (batch_size,)."""
        found = np.empty(self.batch_size, dtype=np.int64)
        epochs, places = np.divmod(number * self.batch_size + np.arange(self.batch_size), self.count)
        for epoch in np.unique(epochs).tolist():
            kept, order = self._order
            if kept != epoch:  # another thread may keep that of another epoch meanwhile
                order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.count)
                self._order = epoch, order
            here = epochs == epoch
            found[here] = order[places[here]]
        return found

    def batch(self, number: int) -> Batch:
        """Batch ``number`` (from 0) of the endless sequence of training batches."""
        settings, size = self.augmentation, self.batch_size
        generator = np.random.default_rng([self.seed, _AUGMENT, number])
        flips = generator.integers(0, 2, size) > 0
        jitters = generator.integers(-settings.jitter_bins, settings.jitter_bins + 1, size)
        shifts = generator.integers(-settings.shift_bp, settings.shift_bp + 1, size)
        crops = generator.integers(0, self.source.crops, size)
        batch = self.source.draw(self.split, Draws(self.window_numbers(number), jitters, shifts, crops))
        if self.both_strands and flips.any():
            turned = reverse_complement(Batch(*(array[flips] for array in batch)), self.source.strand_pairs)
            for array, values in zip(batch, turned, strict=True):
                array[flips] = values
        return batch


def validation_batches(source: TrainingSource, split: str, batch_size: int) -> Iterator[Batch]:
    """The windows of a split in order, without augmentation; the last batch may be smaller."""
    count = source.window_count(split)
    for first in range(0, count, batch_size):
        windows = np.arange(first, min(first + batch_size, count))
        still = np.zeros(len(windows), dtype=np.int64)
        yield source.draw(split, Draws(windows, still, still, still + source.central_crop))
