"""TensorFlow checkpoints (``PREFIX.index`` and ``PREFIX.data-00000-of-00001``), without TensorFlow.

The index is a table of LevelDB (sorted blocks of keys, perhaps compressed with Snappy) from names to protocol
buffers that say where in the data files a tensor lies. Sources: tensorflow/core/util/tensor_bundle,
tensorflow/core/lib/io/table_format.txt, google/snappy format_description.txt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import CheckpointError, shown
from gexpr.wire import fields, masked_crc, varint

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
MAX_INDEX_BYTES = 1 << 28
DTYPES: dict[int, str] = {1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 19: "<f2"}
"""TensorFlow's numbers of the types that can be read; others (text, above all) are listed, not read."""
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"


class Entry(NamedTuple):
    """Where a tensor lies: type number, shape, data file, first byte, bytes, masked CRC-32C."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


class TensorBundle(Mapping[str, NDArray[np.generic]]):
    """The tensors of a checkpoint by name; each is read, and its checksum verified, when it is asked for.

    Args:
        prefix: path without ``.index``; with it, or one of the data files, will do too.

    Raises:
        CheckpointError: a file is missing, damaged, or none of TensorFlow's.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.prefix = _prefix(os.fspath(prefix))
        self.index = Path(self.prefix + ".index")
        try:
            size = self.index.stat().st_size
            if size > MAX_INDEX_BYTES:
                raise CheckpointError(f"{self.index}: {size:,} bytes is too large for an index")
            raw = self.index.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{self.index}: cannot be read: {error.strerror or error}") from error
        try:
            self.shards, self.entries = _read_index(raw)
        except ValueError as error:
            raise CheckpointError(f"{self.index}: not an index of a TensorFlow checkpoint: {error}") from None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def data_path(self, shard: int) -> Path:
        """A data file."""
        return Path(f"{self.prefix}.data-{shard:05d}-of-{self.shards:05d}")

    def readable(self, name: str) -> bool:
        """Whether a tensor holds numbers."""
        return self.entries[name].dtype in DTYPES

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            raise CheckpointError(f"{self.index}: {name} is of type {entry.dtype}, which holds no numbers")
        dtype = np.dtype(DTYPES[entry.dtype])
        expected = dtype.itemsize
        for extent in entry.shape:
            expected *= extent
        path = self.data_path(entry.shard)
        if expected != entry.size:
            raise CheckpointError(
                f"{self.index}: {name} of shape {shown(list(entry.shape))} has {entry.size} bytes, "
                f"not {expected}"
            )
        try:
            with open(path, "rb") as file:
                file.seek(entry.offset)
                raw = file.read(entry.size)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
        if len(raw) < entry.size:
            raise CheckpointError(f"{path}: truncated: {name} should end at byte {entry.offset + entry.size}")
        if masked_crc(raw) != entry.crc:
            raise CheckpointError(f"{path}: the checksum of {name} is wrong: the file is damaged")
        return np.frombuffer(raw, dtype=dtype).reshape(entry.shape)


def _prefix(path: str) -> str:
    if path.endswith(".index"):
        return path.removesuffix(".index")
    head, middle, tail = path.rpartition(".data-")
    if middle and tail[:5].isdigit() and tail[5:9] == "-of-":
        return head
    return path


def _read_index(raw: bytes) -> tuple[int, dict[str, Entry]]:
    """Number of data files, and entries by name."""
    view = memoryview(raw)
    if len(view) < FOOTER_BYTES or int.from_bytes(view[-8:], "little") != MAGIC:
        raise ValueError("its last bytes are not a table's")
    footer = view[-FOOTER_BYTES:]
    _, position = varint(footer, 0)
    _, position = varint(footer, position)
    handle = _handle(footer, position)
    shards = None
    entries: dict[str, Entry] = {}
    for _, where in _pairs(_block(view, *handle)):
        for key, value in _pairs(_block(view, *_handle(memoryview(where), 0))):
            if not key:
                shards = _header(value)
                continue
            name = key.decode("utf-8")
            if name in entries:
                raise ValueError(f"{shown(name)} is there twice")
            entries[name] = _entry(value)
    if shards is None:
        raise ValueError("it has no header")
    for name, entry in entries.items():
        if entry.shard >= shards:
            raise ValueError(f"{shown(name)} lies in data file {entry.shard} of {shards}")
    return shards, entries


def _handle(data: memoryview, position: int) -> tuple[int, int]:
    offset, position = varint(data, position)
    size, _ = varint(data, position)
    return offset, size


def _block(view: memoryview, offset: int, size: int) -> bytes:
    """A block's content: checked, and decompressed."""
    end = offset + size
    if end + 5 > len(view):
        raise ValueError("a block lies beyond its end (truncated?)")
    kind = view[end]
    if masked_crc(view[offset : end + 1]) != int.from_bytes(view[end + 1 : end + 5], "little"):
        raise ValueError("the checksum of a block is wrong")
    content = bytes(view[offset:end])
    if kind == 0:
        return content
    if kind == 1:
        return unsnap(content)
    raise ValueError(f"a block is compressed in an unknown way ({kind})")


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key shares its beginning with the one before."""
    if len(block) < 4:
        raise ValueError("a block is too short")
    view = memoryview(block)
    restarts = int.from_bytes(view[-4:], "little")
    end = len(view) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("a block is too short")
    position, key = 0, b""
    while position < end:
        shared, position = varint(view, position)
        new, position = varint(view, position)
        length, position = varint(view, position)
        if shared > len(key) or position + new + length > end:
            raise ValueError("a block's entry is longer than the block")
        key = key[:shared] + bytes(view[position : position + new])
        position += new
        yield key, bytes(view[position : position + length])
        position += length


def _header(value: bytes) -> int:
    shards = 0
    for field in fields(value):
        if field.number == 1:
            shards = field.whole
        elif field.number == 2 and field.whole != 0:
            raise ValueError("it was written on a big-endian machine")
    if not 0 < shards < 100_000:
        raise ValueError(f"it claims {shards} data files")
    return shards


def _entry(value: bytes) -> Entry:
    dtype = shard = offset = size = crc = 0
    shape: list[int] = []
    for field in fields(value):
        if field.number == 1:
            dtype = field.whole
        elif field.number == 2:
            for dimension in fields(field.content):
                if dimension.number == 2:
                    extents = [each.whole for each in fields(dimension.content) if each.number == 1]
                    shape.append(extents[-1] if extents else 0)
        elif field.number == 3:
            shard = field.whole
        elif field.number == 4:
            offset = field.whole
        elif field.number == 5:
            size = field.whole
        elif field.number == 6:
            crc = field.whole
        elif field.number == 7:
            raise ValueError("it holds tensors in slices, which are not supported")
    return Entry(dtype, tuple(shape), shard, offset, size, crc)


def unsnap(data: bytes) -> bytes:
    """Decompress Snappy's raw format.

    Raises:
        ValueError: the data are not of that format.
    """
    view = memoryview(data)
    length, position = varint(view, 0)
    if length > MAX_INDEX_BYTES:
        raise ValueError(f"a block claims {length:,} bytes")
    out = bytearray()
    while position < len(view):
        tag = view[position]
        position += 1
        kind, upper = tag & 3, tag >> 2
        if kind == 0:
            extra = max(0, upper - 59)
            count = (int.from_bytes(view[position : position + extra], "little") if extra else upper) + 1
            position += extra
            if position + count > len(view):
                raise ValueError("compressed data end inside a literal")
            out += view[position : position + count]
            position += count
        else:
            extra = {1: 1, 2: 2, 3: 4}[kind]
            if position + extra > len(view):
                raise ValueError("compressed data end inside a copy")
            back = int.from_bytes(view[position : position + extra], "little")
            position += extra
            count = upper + 1
            if kind == 1:
                back |= (tag >> 5) << 8
                count = (upper & 7) + 4
            if not 0 < back <= len(out):
                raise ValueError("compressed data refer to what is not there")
            # A copy may reach into what it writes: then what is there repeats.
            piece = out[len(out) - back :][:count]
            while len(piece) < count:
                piece += piece[: count - len(piece)]
            out += piece
        if len(out) > length:
            break
    if len(out) != length:
        raise ValueError(f"compressed data give {len(out)} bytes instead of {length}")
    return bytes(out)
