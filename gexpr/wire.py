"""Formats of bytes that several readers share: protocol-buffer messages, CRC-32C, ranges of a file.

Specified in https://protobuf.dev/programming-guides/encoding and, for the masked checksum,
https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import google_crc32c

MASK_DELTA = 0xA282EAD8

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message: its number, its wire type, and a number or the bytes."""

    number: int
    kind: int
    value: int | memoryview

    @property
    def content(self) -> memoryview:
        """The bytes of a string or a message.

        Raises:
            ValueError: the field is a number.
        """
        if isinstance(self.value, int):
            raise ValueError(f"field {self.number} is a number where bytes are expected")
        return self.value

    @property
    def whole(self) -> int:
        """The number.

        Raises:
            ValueError: the field is bytes.
        """
        if not isinstance(self.value, int):
            raise ValueError(f"field {self.number} is bytes where a number is expected")
        return self.value


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of variable length at a position, and the position behind it.

    Raises:
        ValueError: the data end inside it, or it has more than 64 bits.
    """
    value = shift = 0
    while True:
        if position >= len(data):
            raise ValueError("the data end inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                raise ValueError("a number has more than 64 bits")
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def fields(data: bytes | memoryview) -> Iterator[Field]:
    """The fields of a message in order.

    Raises:
        ValueError: this is no message.
    """
    view = memoryview(data)
    position = 0
    while position < len(view):
        tag, position = varint(view, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = varint(view, position)
            yield Field(number, kind, value)
            continue
        if kind == BYTES:
            length, position = varint(view, position)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} of field {number} is unknown")
        end = position + length
        if end > len(view):
            raise ValueError(f"field {number} is longer than the message")
        piece = view[position:end]
        yield Field(number, kind, piece if kind == BYTES else int.from_bytes(piece, "little"))
        position = end


def masked_crc(*pieces: bytes | memoryview) -> int:
    """CRC-32C of pieces of bytes, masked as TensorFlow's files store it."""
    crc = 0
    for piece in pieces:
        crc = google_crc32c.extend(crc, bytes(piece))
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF
