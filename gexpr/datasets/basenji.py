"""Datasets as Basenji, Enformer and Borzoi were trained on: a folder of TFRecords with its tables.

``statistics.json`` has the geometry, ``targets.txt`` the tracks, ``sequences.bed`` the windows, and
``tfrecords/SPLIT-N.tfr`` (also ``SPLIT-N-M.tfr``) the windows' sequences and targets. Nothing of TensorFlow
is needed. Written by calico/basenji (basenji_data.py) and calico/baskerville (hound_data.py).
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gexpr.datasets.windowed import WindowData
from gexpr.errors import ConfigError, InputError, shown
from gexpr.genome.bed import read_bed
from gexpr.results import Track
from gexpr.wire import fields, masked_crc

MAX_RECORD = 1 << 31
_PIECE = 1 << 20
_FILE = re.compile(r"(?P<split>[A-Za-z_][A-Za-z_0-9]*)-(?P<numbers>[0-9]+(-[0-9]+)*)\.tfr")

_PLAIN = {"sum": 1.0, "mean": 1.0, "avg": 1.0, "max": 1.0}
_EXPONENTS = {
    "shifted": {"sum_sqrt": 0.5, "mean_sqrt": 0.5, "avg_sqrt": 0.5, "sum_exp75": 0.75, **_PLAIN},
    "power": {"sum_sqrt": 0.75, **_PLAIN},
}


class Geometry(NamedTuple):
    """What ``statistics.json`` says: bases in, bins out in their middle, bases a bin, tracks."""

    context_length: int
    target_length: int
    bin_size: int
    tracks: int

    @property
    def crop(self) -> int:
        """Bins on each side of a window that have no targets."""
        return (self.context_length // self.bin_size - self.target_length) // 2


class Example(NamedTuple):
    """One window.

    Attributes:
        codes: uint8 (context_length,); A C G T = 0 1 2 3, 4 is unknown.
        targets: float16 (target_length, tracks), on the scale on which the model was trained.
        path: the file it is from.
        number: its place in that file, from 0.
    """

    codes: np.ndarray
    targets: np.ndarray
    path: Path
    number: int


class TargetRow(NamedTuple):
    """A line of ``targets.txt``: how a track was made from coverage, in Basenji's terms."""

    index: int  # type: ignore[assignment]
    identifier: str
    file: str
    clip: float | None
    clip_soft: float | None
    scale: float
    sum_stat: str
    strand_pair: int
    description: str


def read_targets(path: str | os.PathLike[str]) -> list[TargetRow]:
    """The tracks of ``targets.txt``: Basenji2's, Enformer's and Borzoi's columns.

    Raises:
        InputError: a column is missing or a value is not what it should be.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", path=path) from error
    lines = [line.rstrip("\r") for line in text.split("\n")]
    header = lines[0].split("\t")
    header[0] = header[0] or "index"
    for needed in ("index", "identifier", "description"):
        if needed not in header:
            raise InputError(f"has no column {needed!r}; it has: {', '.join(header)}", path=path, line=1)
    rows: list[TargetRow] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            raise InputError(f"has {len(cells)} columns, the header {len(header)}", path=path, line=number)
        cell = dict(zip(header, cells, strict=True))

        def value(
            name: str, kind: type, default: Any, cell: dict[str, str] = cell, line: int = number
        ) -> Any:
            text = cell.get(name, "")
            try:
                return kind(text) if text else default
            except ValueError:
                raise InputError(f"{name} is {shown(text)}, not a number", path=path, line=line) from None

        if value("index", int, -1) != len(rows):
            raise InputError(f"index is {cell['index']}, expected {len(rows)}", path=path, line=number)
        rows.append(
            TargetRow(
                index=len(rows),
                identifier=cell["identifier"],
                file=cell.get("file", ""),
                clip=value("clip", float, None),
                clip_soft=value("clip_soft", float, None),
                scale=value("scale", float, 1.0),
                sum_stat=cell.get("sum_stat", "") or "sum",
                strand_pair=value("strand_pair", int, len(rows)),
                description=cell["description"],
            )
        )
    for row in rows:
        if not 0 <= row.strand_pair < len(rows):
            raise InputError(
                f"strand_pair is {row.strand_pair}, there are {len(rows)} tracks",
                path=path,
                line=row.index + 2,
            )
    return rows


def transform_of(row: TargetRow, squash: str) -> str:
    """The transform of a track from its line of ``targets.txt``.

    Raises:
        ConfigError: its ``sum_stat`` is not known.
    """
    exponents = _EXPONENTS[squash]
    if row.sum_stat not in exponents:
        raise ConfigError(
            f"track {row.identifier}: sum_stat {row.sum_stat!r} is not one of: {', '.join(exponents)}"
        )
    exponent = exponents[row.sum_stat]
    if exponent == 1 and row.clip_soft is None:
        return "count"
    form = "shifted_power" if squash == "shifted" else "power"
    clip = "" if row.clip_soft is None else f",clip_soft={row.clip_soft:g}"
    return f"squashed:{form},exponent={exponent:g}{clip}"


def as_tracks(rows: list[TargetRow], transforms: list[str]) -> list[Track]:
    """Rows of ``targets.txt`` as a checkpoint's tracks; ``transforms`` says what predictions are of each."""
    tracks = []
    for row, transform in zip(rows, transforms, strict=True):
        assay, colon, rest = row.description.partition(":")
        signs = {identifier[-1:] for identifier in (row.identifier, rows[row.strand_pair].identifier)}
        paired = row.strand_pair != row.index and signs == {"+", "-"}
        tracks.append(
            Track(
                index=row.index,
                id=row.identifier,
                label=row.description,
                assay=assay if colon else "",
                cell_type=rest if colon else "",
                strand=row.identifier[-1] if paired else ".",
                strand_pair=row.strand_pair,
                scale=row.scale,
                transform=transform,
            )
        )
    return tracks


class BasenjiDataset:
    """A folder of windows with their targets: a :class:`~gexpr.datasets.windowed.WindowedDataset`.

    Args:
        folder: holds ``statistics.json`` and ``tfrecords``, and mostly ``targets.txt``.

    Attributes:
        path: the folder.
        geometry: sizes; ``context_length``, ``target_length``, ``bin_size`` and ``crop`` are also attributes.
        targets: rows of ``targets.txt``; empty without one.
        tracks: the same as tracks. Their transform is ``linear``: the table does not say how targets
            were squashed, so nothing may take them for counts.

    Raises:
        InputError: a file is missing or says what cannot be.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        self.geometry, self._expected = _read_statistics(self.path / "statistics.json")
        self.context_length, self.target_length, self.bin_size, _ = self.geometry
        self.crop = self.geometry.crop
        targets = self.path / "targets.txt"
        self.targets: list[TargetRow] = read_targets(targets) if targets.exists() else []
        self.tracks = as_tracks(self.targets, ["linear"] * len(self.targets))
        if self.targets and len(self.targets) != self.geometry.tracks:
            raise InputError(
                f"{len(self.targets)} tracks, statistics.json says {self.geometry.tracks}", path=targets
            )
        self._files: dict[str, list[Path]] = {}
        found = []
        records = self.path / "tfrecords"
        for path in records.iterdir() if records.is_dir() else ():
            match = _FILE.fullmatch(path.name)
            if match is not None:
                numbers = tuple(map(int, match["numbers"].split("-")))
                found.append((match["split"], numbers, path))
        if not found:
            raise InputError("has no files such as train-0.tfr", path=records)
        # By number: as text, train-10 would come before train-2.
        for split, _, path in sorted(found):
            self._files.setdefault(split, []).append(path)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have files."""
        return tuple(self._files)

    @property
    def track_count(self) -> int:
        """Number of tracks."""
        return self.geometry.tracks

    def files(self, split: str) -> list[Path]:
        """The files of a split in their order; none for an unknown one."""
        return list(self._files.get(split, ()))

    def window_places(self) -> dict[str, list[tuple[str, int, int]]]:
        """Where ``sequences.bed`` says that each window's targets lie (contig, start, end), by split.

        Empty without that file.

        Raises:
            InputError: the file is damaged.
        """
        path = self.path / "sequences.bed"
        places: dict[str, list[tuple[str, int, int]]] = {}
        if path.exists():
            for region in read_bed(path):
                places.setdefault(region.name, []).append((region.chrom, region.start, region.end))
        return places

    def window_count(self, split: str) -> int | None:
        """Windows of a split, where ``statistics.json`` says it."""
        return self._expected.get(split)

    def window_data(self, split: str) -> Iterator[WindowData]:
        """The windows of a split as :meth:`examples` has them; every bin is valid.

        Raises:
            InputError: as of :meth:`examples`, or a target is not finite.
        """
        valid = np.ones(self.target_length, dtype=bool)
        for codes, values, path, number in self.examples(split):
            targets = values.astype(np.float32)
            if not np.isfinite(targets).all():
                raise InputError(f"record {number} has targets that are not finite", path=path)
            yield WindowData(codes, targets, valid)

    def examples(self, split: str) -> Iterator[Example]:
        """The windows of a split, in the order in which they were written.

        Raises:
            InputError: there is no such split, a file is damaged, or there are not as many windows as
                ``statistics.json`` says.
        """
        if split not in self._files:
            raise InputError(f"no split {split!r}; there are: {', '.join(self.splits)}", path=self.path)
        count = 0
        for path in self._files[split]:
            for number, record in enumerate(records(path)):
                yield self._example(record, path, number)
                count += 1
        expected = self._expected.get(split)
        if expected is not None and count != expected:
            raise InputError(
                f"{count} windows of {split} were read, statistics.json says {expected}", path=self.path
            )

    def _example(self, record: bytes, path: Path, number: int) -> Example:
        length, bins = self.geometry.context_length, self.geometry.target_length
        try:
            features = _features(record)
            sequence, target = features["sequence"], features["target"]
        except (ValueError, KeyError) as error:
            raise InputError(f"record {number} is no window: {error}", path=path) from None
        if len(sequence) == length:
            codes = np.frombuffer(sequence, dtype=np.uint8)
            if codes.max(initial=0) > 4:
                raise InputError(f"record {number} has a base {codes.max()}; 0 to 4 are known", path=path)
        elif len(sequence) == 4 * length:
            one_hot = np.frombuffer(sequence, dtype=np.uint8).reshape(length, 4)
            # A base that is unknown has no letter, or more than one.
            codes = np.where(one_hot.sum(1) == 1, one_hot.argmax(1), 4).astype(np.uint8)
        else:
            raise InputError(
                f"record {number} has a sequence of {len(sequence)} bytes; {length} bases have {length} or "
                f"{4 * length}",
                path=path,
            )
        if len(target) != 2 * bins * self.geometry.tracks:
            raise InputError(
                f"record {number} has targets of {len(target)} bytes; {bins} bins of {self.geometry.tracks} "
                f"tracks have {2 * bins * self.geometry.tracks}",
                path=path,
            )
        return Example(codes, np.frombuffer(target, dtype="<f2").reshape(bins, -1), path, number)


def _read_statistics(path: Path) -> tuple[Geometry, dict[str, int]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        context, target, pool, tracks = (
            int(content[name]) for name in ("seq_length", "target_length", "pool_width", "num_targets")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not Basenji's statistics: {error!r}", path=path) from error
    if min(context, target, pool, tracks) < 1 or target * pool > context:
        raise InputError(f"{target} bins of {pool} bp do not fit into {context} bp", path=path)
    surplus = context - target * pool
    if surplus % (2 * pool) or content.get("crop_bp", surplus // 2) != surplus // 2:
        told = f" behind crop_bp {content['crop_bp']}" if "crop_bp" in content else ""
        raise InputError(
            f"{target} bins of {pool} bp do not lie in the middle of {context} bp{told}", path=path
        )
    counts = {
        name.removesuffix("_seqs"): value
        for name, value in content.items()
        if name.endswith("_seqs") and isinstance(value, int)
    }
    return Geometry(context, target, pool, tracks), counts


def records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The records of a TFRecord file, plain or in one ZLIB or GZIP stream.

    Raises:
        InputError: the file is truncated, or a checksum is wrong.
    """
    pieces = _pieces(path)
    pending = bytearray()

    def take(count: int, what: str) -> bytes:
        nonlocal pending
        while len(pending) < count:
            piece = next(pieces, None)
            if piece is None:
                raise InputError(f"truncated: it ends inside {what}", path=path)
            pending += piece
        taken = bytes(pending[:count])
        del pending[:count]
        return taken

    number = 0
    while True:
        while not pending:
            piece = next(pieces, None)
            if piece is None:
                return
            pending += piece
        head = take(12, f"the head of record {number}")
        if masked_crc(head[:8]) != int.from_bytes(head[8:], "little"):
            raise InputError(f"record {number}: the checksum of its length is wrong; no TFRecord?", path=path)
        length = int.from_bytes(head[:8], "little")
        if length > MAX_RECORD:
            raise InputError(f"record {number} claims {length:,} bytes", path=path)
        data = take(length, f"record {number}")
        if masked_crc(data) != int.from_bytes(take(4, f"record {number}"), "little"):
            raise InputError(f"record {number}: its checksum is wrong: the file is damaged", path=path)
        yield data
        number += 1


def _pieces(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """What a file holds, decompressed, piece by piece."""
    try:
        with open(path, "rb") as file:
            first = file.read(_PIECE)
            is_plain = masked_crc(first[:8]) == int.from_bytes(first[8:12], "little")
            if is_plain or first[:1] not in (b"\x78", b"\x1f"):
                while first:
                    yield first
                    first = file.read(_PIECE)
                return
            stream = zlib.decompressobj(wbits=47)
            while first:
                # A megabyte of zeros unfolds to a gigabyte.
                while first and not stream.eof:
                    yield stream.decompress(first, 16 * _PIECE)
                    first = stream.unconsumed_tail
                if stream.unused_data or first:
                    raise InputError("has bytes behind the end of its compressed stream", path=path)
                first = file.read(_PIECE)
            yield stream.flush()
            if not stream.eof:
                raise InputError("truncated: the compressed stream has no end", path=path)
    except (OSError, zlib.error) as error:
        raise InputError(f"cannot be read: {error}", path=path) from error


def _features(record: bytes) -> dict[str, bytes]:
    """The byte features of a ``tf.train.Example``."""
    found: dict[str, bytes] = {}
    for features in fields(record):
        if features.number != 1:
            continue
        for entry in fields(features.content):
            name, values = "", []
            for part in fields(entry.content):
                if part.number == 1:
                    name = bytes(part.content).decode("utf-8")
                elif part.number == 2:
                    lists = [each for each in fields(part.content) if each.number == 1]
                    values = [bytes(each.content) for one in lists for each in fields(one.content)]
            if len(values) == 1:
                found[name] = values[0]
    return found
