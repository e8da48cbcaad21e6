"""A small writer of TensorFlow's checkpoint format, for fixtures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gexpr.wire import masked_crc

MAGIC = 0xDB4775248B80FB57
TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "int64": 9, "float16": 19}
TEXT = 7


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def snap(data: bytes) -> bytes:
    """Compress: literals, and copies of all three kinds of what came before."""
    out, position, start = bytearray(varint(len(data))), 0, 0
    seen: dict[bytes, int] = {}
    copies = 0

    def literal(piece: bytes) -> None:
        while piece:
            part, piece = piece[:70_000], piece[70_000:]
            count = len(part) - 1
            extra = 0 if count < 60 else (count.bit_length() + 7) // 8
            out.append((count if not extra else 59 + extra) << 2)
            out.extend(count.to_bytes(extra, "little") if extra else b"")
            out.extend(part)

    while position + 4 <= len(data):
        found = seen.get(data[position : position + 4])
        seen[data[position : position + 4]] = position
        if found is None:
            position += 1
            continue
        literal(data[start:position])
        count, back = 4, position - found
        while count < 64 and position + count < len(data) and data[found + count] == data[position + count]:
            count += 1
        kind = copies % 3 + 1
        copies += 1
        if kind == 1 and back < 2048:
            count = min(count, 11)
            out.extend([(back >> 8) << 5 | (count - 4) << 2 | 1, back & 0xFF])
        elif kind == 3 or back >= 65536:
            out.extend([(count - 1) << 2 | 3, *back.to_bytes(4, "little")])
        else:
            out.extend([(count - 1) << 2 | 2, *back.to_bytes(2, "little")])
        position += count
        start = position
    literal(data[start:])
    return bytes(out)


def block(pairs: list[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    out, restarts, before = bytearray(), [], b""
    for index, (key, value) in enumerate(pairs):
        shared = 0
        if index % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    for each in restarts or [0]:
        out += each.to_bytes(4, "little")
    return bytes(out) + len(restarts or [0]).to_bytes(4, "little")


def write_bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray | bytes],
    *,
    compress: bool = False,
    pairs_a_block: int = 20,
) -> None:
    """Write a checkpoint of one data file; bytes stand for a tensor of text."""
    data, entries = bytearray(), [(b"", number(1, 1) + message(3, number(1, 1)))]
    for name in sorted(tensors):
        value = tensors[name]
        raw = value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()
        shape = b"" if isinstance(value, bytes) else b"".join(message(2, number(1, n)) for n in value.shape)
        entry = number(1, TEXT if isinstance(value, bytes) else TYPES[value.dtype.name]) + message(2, shape)
        entry += number(4, len(data)) + number(5, len(raw))
        entry += varint(6 << 3 | 5) + masked_crc(raw).to_bytes(4, "little")
        entries.append((name.encode(), entry))
        data += raw
    out = bytearray()

    def add(content: bytes) -> bytes:
        kind = b"\x01" if compress else b"\x00"
        content = snap(content) if compress else content
        handle = varint(len(out)) + varint(len(content))
        out.extend(content + kind + masked_crc(content, kind).to_bytes(4, "little"))
        return handle

    index = []
    for low in range(0, len(entries), pairs_a_block):
        pairs = entries[low : low + pairs_a_block]
        index.append((pairs[-1][0], add(block(pairs))))
    meta, top = add(block([])), add(block(index, 1))
    footer = (meta + top).ljust(40, b"\0") + MAGIC.to_bytes(8, "little")
    Path(f"{prefix}.index").write_bytes(bytes(out) + footer)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(bytes(data))


def example(features: Mapping[str, bytes]) -> bytes:
    """A ``tf.train.Example`` of byte features."""
    entries = b""
    for name, value in features.items():
        feature = message(1, message(1, value))
        entries += message(1, message(1, name.encode()) + message(2, feature))
    return message(1, entries)


def frames(records: list[bytes]) -> bytes:
    """Records as a TFRecord file holds them."""
    out = bytearray()
    for record in records:
        length = len(record).to_bytes(8, "little")
        out += length + masked_crc(length).to_bytes(4, "little")
        out += record + masked_crc(record).to_bytes(4, "little")
    return bytes(out)
