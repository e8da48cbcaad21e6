"""Windows of a folder of TFRecords to train on: unpacked once, moved and cut as they are drawn."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gexpr import logs
from gexpr.datasets.basenji import BasenjiDataset, Example, as_tracks, transform_of
from gexpr.datasets.folds import Fold, deal
from gexpr.datasets.prepared import MEMORY_LIMIT, padded
from gexpr.datasets.windowed import Batch, Draws, WindowData, file_digest, stack
from gexpr.errors import ConfigError, InputError
from gexpr.results import Track

_SEQUENCES, _TARGETS, _DONE = "sequences.u8", "targets.f16", "unpacked.json"


class Cut(NamedTuple):
    """How windows are cut out of longer ones: all in bins.

    Attributes:
        bins: length of the context.
        target_length: predicted bins, in its middle.
        first: where the first of ``places`` cuts begins, from the start of the stored window.
        places: number of cuts, each a bin further on.
        central: which of them is the middle one.
    """

    bins: int
    target_length: int
    first: int
    places: int
    central: int

    @property
    def crop(self) -> int:
        """Bins on each side that are not predicted."""
        return (self.bins - self.target_length) // 2


def cuts(context: int, targets: int, bins: int) -> Cut:
    """The cuts of ``bins`` bins out of ``context`` bins, of which the middle ``targets`` have targets.

    As many bins are predicted as have targets in the middle cut, at most. A cut is allowed where at least
    half of the bins that it predicts have targets.
    """
    predicted = min(targets, bins)
    predicted -= (bins - predicted) % 2
    crop = (bins - predicted) // 2
    start, end = (context - targets) // 2, (context + targets) // 2
    allowed = [
        offset
        for offset in range(context - bins + 1)
        if 2 * (min(offset + crop + predicted, end) - max(offset + crop, start)) >= predicted
    ]
    return Cut(bins, predicted, allowed[0], len(allowed), (context - bins) // 2 - allowed[0])


class MiddleWindows:
    """The middle of a folder's windows, for models with a shorter context: a ``WindowedDataset``.

    Its windows are those that :class:`StoredWindows` validates on.

    Args:
        dataset: the whole windows.
        context_length: bases, a multiple of the bin size, no more than the windows have.

    Raises:
        ConfigError: another length.
    """

    def __init__(self, dataset: BasenjiDataset, context_length: int) -> None:
        self._dataset = dataset
        self._cut = _cut_of(dataset, context_length, "the model's context_length")
        self.path, self.tracks, self.bin_size = dataset.path, dataset.tracks, dataset.bin_size
        self.context_length, self.target_length = context_length, self._cut.target_length
        self.crop = self._cut.crop

    @property
    def track_count(self) -> int:
        """Number of tracks."""
        return self._dataset.track_count

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have windows."""
        return self._dataset.splits

    def window_count(self, split: str) -> int | None:
        """Windows of a split, where that is known."""
        return self._dataset.window_count(split)

    def window_data(self, split: str) -> Iterator[WindowData]:
        """The middle of each window of a split."""
        first = self._cut.first + self._cut.central
        for data in self._dataset.window_data(split):
            yield cut_out(data.codes, data.targets, self._cut, first, 0, self._dataset)


def _cut_of(dataset: BasenjiDataset, length: int | None, name: str) -> Cut:
    context, targets, size, _ = dataset.geometry
    length = context if length is None else length
    if not size <= length <= context or length % size:
        raise ConfigError(
            f"{name} is {length}; it must be a multiple of the {size} bp of a bin and at most the "
            f"{context:,} bp of the windows in {dataset.path}"
        )
    if targets == 1 and not length // size % 2:
        raise ConfigError(
            f"{name} is {length}; the windows in {dataset.path} have targets of the middle bin alone, so it "
            f"must be an odd multiple of the {size} bp of a bin"
        )
    return cuts(context // size, targets, length // size)


def cut_out(
    codes: np.ndarray, targets: np.ndarray, cut: Cut, first: int, shift: int, dataset: BasenjiDataset
) -> WindowData:
    """A part of a stored window; beyond it bases are unknown and bins are not valid.

    Args:
        codes, targets: of the stored window.
        first: bin of the stored window at which the part begins.
        shift: bases by which the sequence alone is moved.
    """
    base = first * dataset.bin_size + shift
    bin_start = first + cut.crop - dataset.crop
    bin_end = bin_start + cut.target_length
    return WindowData(
        padded(codes, base, base + cut.bins * dataset.bin_size, 4),
        padded(targets, bin_start, bin_end, 0).astype(np.float32),
        padded(np.ones(dataset.target_length, dtype=bool), bin_start, bin_end, False),
    )


class StoredWindows:
    """The windows of two splits of a :class:`BasenjiDataset`: a ``TrainingSource``.

    Sequences are kept as codes and targets as float16, in memory, or above ``limit`` bytes in files of
    ``cache`` that are mapped. Every bin that has targets is valid.

    Args:
        folder: of TFRecords.
        train, valid: splits; several, as of a folder that is divided into folds, separated by commas.
        squash: how targets of Borzoi's kind were squashed, ``shifted`` or ``power``.
        crop_length: bases of the context, fewer than the stored windows have; None for all.
        fold: deal the windows of both splits out anew. Windows that overlap, as ``sequences.bed`` says, stay
            together.
        cache: a folder for data that are too large for memory; None keeps everything in memory.
        limit: bytes.

    Raises:
        InputError: a file is missing or damaged, there is no such split, or targets are not finite.
        ConfigError: ``crop_length`` does not fit, or too few windows for the folds.
    """

    both_strands = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        train: str = "train",
        valid: str = "valid",
        *,
        squash: str = "shifted",
        crop_length: int | None = None,
        fold: Fold | None = None,
        cache: Path | None = None,
        limit: int = MEMORY_LIMIT,
    ) -> None:
        self.dataset = BasenjiDataset(folder)
        self.path = self.dataset.path
        self.bin_size = self.dataset.bin_size
        self._cut = _cut_of(self.dataset, crop_length, "augmentation.crop_length")
        self.context_length = self._cut.bins * self.bin_size
        self.target_length = self._cut.target_length
        self.crops, self.central_crop = self._cut.places, self._cut.central
        rows = self.dataset.targets
        self.tracks = as_tracks(rows, [transform_of(row, squash) for row in rows]) or [
            Track(i, f"track{i}", f"track {i}", strand_pair=i, transform="linear")
            for i in range(self.dataset.track_count)
        ]
        names = {split: [name.strip() for name in split.split(",")] for split in (train, valid)}
        each = [name for split in names.values() for name in split]
        for name in each:
            if name not in self.dataset.splits:
                raise InputError(
                    f"no split {name!r}; there are: {', '.join(self.dataset.splits)}", path=self.path
                )
        if len(set(each)) != len(each):
            raise ConfigError(f"{self.path}: the splits {train!r} and {valid!r} have one in common")
        self.digest = self._digest(each)
        self._sequences, self._targets, counts = self._load(each, cache, limit)
        starts = np.concatenate([[0], np.cumsum([counts[name] for name in each])])
        places = {name: np.arange(*starts[i : i + 2]) for i, name in enumerate(each)}
        self._places = {split: np.concatenate([places[name] for name in names[split]]) for split in names}
        if fold is not None:
            groups = self._groups(each, counts)
            owners = deal(np.bincount(groups).tolist(), fold.number)[groups]
            self._places = {
                train: np.flatnonzero(owners != fold.index),
                valid: np.flatnonzero(owners == fold.index),
            }

    def _digest(self, splits: Sequence[str]) -> str:
        digest = hashlib.sha256()
        for path in (self.path / "statistics.json", self.path / "targets.txt"):
            if path.exists():
                digest.update(f"{path.name}\n".encode() + path.read_bytes())
        for split in splits:
            for path in self.dataset.files(split):
                digest.update(f"{path.name} {file_digest(path)}\n".encode())
        return digest.hexdigest()

    def _load(
        self, splits: Sequence[str], cache: Path | None, limit: int
    ) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        context, bins, _, tracks = self.dataset.geometry
        told = [self.dataset.window_count(split) for split in splits]
        size = sum(count or 0 for count in told) * (context + 2 * bins * tracks)
        if cache is not None and (size > limit or None in told):
            counts = self._unpack(splits, cache)
            return (
                np.memmap(cache / _SEQUENCES, np.uint8, "r").reshape(-1, context),
                np.memmap(cache / _TARGETS, "<f2", "r").reshape(-1, bins, tracks),
                counts,
            )
        found = {split: list(self._examples(split)) for split in splits}
        self._check_counts({split: len(examples) for split, examples in found.items()})
        examples = [example for split in splits for example in found[split]]
        return (
            np.stack([example.codes for example in examples]),
            np.stack([example.targets for example in examples]),
            {split: len(found[split]) for split in splits},
        )

    def _check_counts(self, counts: dict[str, int]) -> None:
        for split, count in counts.items():
            if not count:
                raise InputError(f"the files of split {split!r} hold no window", path=self.path)

    def _examples(self, split: str) -> Iterator[Example]:
        for example in self.dataset.examples(split):
            if not np.isfinite(example.targets).all():
                raise InputError(
                    f"record {example.number} has targets that are not finite", path=example.path
                )
            yield example

    def _unpack(self, splits: Sequence[str], cache: Path) -> dict[str, int]:
        """Write all windows into two files of ``cache``, unless they are there already."""
        done = cache / _DONE
        if done.exists():
            content = json.loads(done.read_text(encoding="utf-8"))
            counts: dict[str, int] = content["counts"]
            if content["digest"] == self.digest and self._is_there(cache, sum(counts.values())):
                return counts
            done.unlink()
        cache.mkdir(parents=True, exist_ok=True)
        logs.info(f"unpacking the windows of {self.path} into {cache}")
        counts = dict.fromkeys(splits, 0)
        try:
            with open(cache / _SEQUENCES, "wb") as sequences, open(cache / _TARGETS, "wb") as targets:
                for split in splits:
                    for example in self._examples(split):
                        sequences.write(example.codes.tobytes())
                        targets.write(example.targets.tobytes())
                        counts[split] += 1
                self._check_counts(counts)
                for file in (sequences, targets):
                    file.flush()
                    os.fsync(file.fileno())
            # Renamed last: what is half written is never taken for whole.
            temporary = cache / f".{_DONE}"
            temporary.write_text(json.dumps({"digest": self.digest, "counts": counts}), encoding="utf-8")
            os.replace(temporary, done)
        except OSError as error:
            raise InputError(f"the windows cannot be unpacked: {error}", path=cache) from error
        return counts

    def _is_there(self, cache: Path, windows: int) -> bool:
        """Whether the unpacked files are as long as they must be; either may have been deleted."""
        context, bins, _, tracks = self.dataset.geometry
        sizes = {_SEQUENCES: windows * context, _TARGETS: 2 * windows * bins * tracks}
        return all(
            (cache / name).is_file() and (cache / name).stat().st_size == size for name, size in sizes.items()
        )

    def _groups(self, splits: Sequence[str], counts: dict[str, int]) -> np.ndarray:
        """A number for each window, the same for windows that overlap, where their places are known."""
        total = sum(counts.values())
        places = self.dataset.window_places()
        known = {split: places.get(split, []) for split in splits}
        if any(len(known[split]) != counts[split] for split in splits):
            return np.arange(total)
        regions = [region for split in splits for region in known[split]]
        margin = self.dataset.crop * self.bin_size
        groups = np.empty(total, dtype=np.int64)
        number, contig, reach = -1, None, 0
        for i in sorted(range(total), key=lambda i: regions[i][:2]):
            name, start, end = regions[i]
            if name != contig or start - margin >= reach:
                number, reach = number + 1, 0
            contig, reach = name, max(reach, end + margin)
            groups[i] = number
        return groups

    @cached_property
    def strand_pairs(self) -> np.ndarray:
        """int64 (tracks,): index of each track's partner on the other strand (or itself)."""
        return np.array([track.strand_pair for track in self.tracks], dtype=np.int64)

    @property
    def provenance(self) -> dict[str, Any]:
        """Nothing: the folder does not say of which genome it is."""
        return {}

    def window_count(self, split: str) -> int:
        """Windows of one of the two splits."""
        return len(self._places[split])

    def draw(self, split: str, draws: Draws) -> Batch:
        """The windows that ``draws`` names, cut and moved; beyond a stored window bases are unknown."""
        places = self._places[split][draws.windows]
        return stack(
            [
                cut_out(
                    self._sequences[place],
                    self._targets[place],
                    self._cut,
                    self._cut.first + int(crop) + int(jitter),
                    int(shift),
                    self.dataset,
                )
                for place, jitter, shift, crop in zip(places, *draws[1:], strict=True)
            ]
        )

    def contents(self, split: str) -> list[str]:
        """How many windows a split has."""
        count = len(self._places.get(split, ())) or self.dataset.window_count(split)
        return [f"{count:,} windows"] if count else []

    def describe(self) -> list[str]:
        """The windows, and how they are cut."""
        size = self.dataset.context_length
        lines = [f"Windows of {size:,} bp from TFRecords (`{self.path.name}`): digest {self.digest[:16]}."]
        if self.crops > 1:
            lines.append(
                f"Training windows of {self.context_length:,} bp are cut out of them at random; validation "
                "windows are their middle."
            )
        return lines
