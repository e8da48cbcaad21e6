"""Damaged copies of good files, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable

NASTY = (
    b"",
    b" ",
    b".",
    b"-",
    b"*",
    b"#",
    b">",
    b"0",
    b"-1",
    b"+7",
    b"1.5",
    b"1e9",
    b"0x10",
    b"1_000",
    b"\xd9\xa3\xd9\xa4",  # digits, but not ours
    b"99999999999",
    b"18446744073709551616",
    b"9" * 5000,
    b"nan",
    b"inf",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[" * 3000,
    b"A" * 70_000,
    b"<DEL>",
    b"A[chr1:1[",
    b"A,,C",
    b",",
    b"\0",
    b"\r",
    b"\x1b[2J",
    b"\x85",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xed\xa0\x80",
    b"../../../etc/passwd",
    b"%s%n$(touch x)`",
    b"'; DROP TABLE variants; --",
    b'"',
)
"""Values that readers trip over."""

Mutation = Callable[[random.Random, bytes], bytes]


def flip(draw: random.Random, data: bytes) -> bytes:
    """One bit."""
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def set_bytes(draw: random.Random, data: bytes) -> bytes:
    """A few bytes, anywhere, to anything."""
    changed = bytearray(data)
    for _ in range(draw.randrange(1, 5)):
        changed[draw.randrange(len(data))] = draw.choice((0, 9, 10, 13, 32, 35, 44, 255, draw.randrange(256)))
    return bytes(changed)


def cut_out(draw: random.Random, data: bytes) -> bytes:
    """A span is missing."""
    at = draw.randrange(len(data))
    return data[:at] + data[at + draw.randrange(1, 80) :]


def insert(draw: random.Random, data: bytes) -> bytes:
    """Random bytes more."""
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.randrange(1, 40)) + data[at:]


def repeat(draw: random.Random, data: bytes) -> bytes:
    """A span twice."""
    at = draw.randrange(len(data))
    return data[: at + draw.randrange(1, 80)] + data[at:]


def truncate(draw: random.Random, data: bytes) -> bytes:
    """The end is missing."""
    return data[: draw.randrange(len(data))]


def fill(draw: random.Random, data: bytes) -> bytes:
    """A span of zero bytes, as a crashed file system leaves them."""
    at = draw.randrange(len(data))
    size = min(draw.randrange(1, 300), len(data) - at)
    return data[:at] + bytes(size) + data[at + size :]


def _lines(change: Callable[[random.Random, list[bytes]], None]) -> Mutation:
    def mutate(draw: random.Random, data: bytes) -> bytes:
        lines = data.split(b"\n")
        change(draw, lines)
        return b"\n".join(lines)

    mutate.__name__, mutate.__doc__ = change.__name__.strip("_"), change.__doc__
    return mutate


def _duplicate_line(draw: random.Random, lines: list[bytes]) -> None:
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))


def _swap_lines(draw: random.Random, lines: list[bytes]) -> None:
    one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]


def _drop_line(draw: random.Random, lines: list[bytes]) -> None:
    del lines[draw.randrange(len(lines))]


def _join_lines(draw: random.Random, lines: list[bytes]) -> None:
    at = draw.randrange(len(lines))
    lines[at : at + 2] = [b"".join(lines[at : at + 2])]


def _replace_field(draw: random.Random, lines: list[bytes]) -> None:
    at = draw.randrange(len(lines))
    separator = b"\t" if b"\t" in lines[at] else b"," if b"," in lines[at] else b":"
    fields = lines[at].split(separator)
    fields[draw.randrange(len(fields))] = draw.choice(NASTY)
    lines[at] = separator.join(fields)


def _swap_fields(draw: random.Random, lines: list[bytes]) -> None:
    at = draw.randrange(len(lines))
    fields = lines[at].split(b"\t")
    draw.shuffle(fields)
    lines[at] = b"\t".join(fields)


BYTES: tuple[Mutation, ...] = (flip, set_bytes, cut_out, insert, repeat, truncate, fill)
"""What happens to any file."""

LINES: tuple[Mutation, ...] = tuple(
    map(_lines, (_duplicate_line, _swap_lines, _drop_line, _join_lines, _replace_field, _swap_fields))
)
"""What happens to text; a field is replaced more often than anything else."""

TEXT: tuple[Mutation, ...] = (*BYTES, *LINES, LINES[4], LINES[4], LINES[4])


def mutate(data: bytes, seed: str, mutations: tuple[Mutation, ...]) -> tuple[str, bytes]:
    """A name that tells what was done, and the damaged copy: one or two mutations, never the same bytes."""
    draw = random.Random(seed)
    while True:
        done, changed = [], data
        for _ in range(draw.choice((1, 1, 1, 2))):
            mutation = draw.choice(mutations)
            if changed:
                changed = mutation(draw, changed)
            done.append(mutation.__name__)
        if changed != data:
            return " + ".join(done), changed
