"""Scanning, checking and indexing of FASTA files (the ``.fai`` and ``.gzi`` formats of samtools)."""

from __future__ import annotations

import bisect
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from gexpr.errors import InputError, shown
from gexpr.genome.compressed import (
    bgzf_block,
    bgzf_blocks,
    chunks,
    open_binary,
    reject_foreign,
    sniff,
    to_text,
)

_SEQUENCE_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*-"
_CHECKED_RECORDS = 100


class IndexEntry(NamedTuple):
    """One line of a ``.fai``: bases and byte offset of a sequence, bases and bytes of its full lines."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int


class Scan(NamedTuple):
    """What a full pass over a FASTA found.

    ``blocks`` are the (compressed, uncompressed) offsets of BGZF blocks. ``uneven`` says that lines
    of one record differ in length, so that no index can address them.
    """

    entries: list[IndexEntry]
    blocks: list[tuple[int, int]]
    digest: str
    uneven: bool


class _Scanner:
    def __init__(self, label: str, unpacked: BinaryIO | None) -> None:
        self.label = label
        self.unpacked = unpacked
        self.entries: list[IndexEntry] = []
        self.names: set[str] = set()
        self.sha = hashlib.sha256()
        self.uneven = False
        self.line = 0
        self.at = 0
        self.name: str | None = None
        self.written = 0

    def lines(self, data: bytes) -> None:
        """Take complete lines: every byte of ``data`` belongs to a line that ends in it."""
        at = 0
        while at < len(data):
            if data[at] == 62:
                end = data.index(b"\n", at) + 1
                self._header(data[at + 1 : end], end - at)
            else:
                found = data.find(b"\n>", at)
                end = len(data) if found < 0 else found + 1
                self._sequence(data[at:end])
            at = end

    def _header(self, text: bytes, size: int) -> None:
        self.finish_record()
        self.line += 1
        words = text.split(None, 1)
        if not words or text[:1].isspace():
            raise InputError("a FASTA header without a name after '>'", path=self.label, line=self.line)
        if b"\0" in words[0]:
            raise InputError(
                "a NUL byte in a name: this is not a FASTA file, or it is damaged",
                path=self.label,
                line=self.line,
            )
        name = to_text(words[0])
        if name in self.names:
            raise InputError(
                f"the record name {shown(name)} occurs twice; names must be unique",
                path=self.label,
                line=self.line,
            )
        self.names.add(name)
        self.at += size
        self.name, self.length, self.offset = name, 0, self.at
        self.bases = self.width = 0
        self.short = False
        self.sha.update(name.encode() + b"\n")
        if self.unpacked is not None:
            self.written += self.unpacked.write(b">" + name.encode() + b"\n")
            self.unpacked_offset = self.written

    def _sequence(self, data: bytes) -> None:
        if self.name is None:
            raise InputError(
                f"this is not a FASTA file: the first line must start with '>', found {data[:40]!r}",
                path=self.label,
                line=self.line + 1,
            )
        bases = data.translate(None, b"\r\n")
        if bases.translate(None, _SEQUENCE_LETTERS):
            self._bad_letter(data)
        ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10)
        widths = np.diff(ends, prepend=-1)
        returns = data.count(b"\r")
        terminator = 2 if returns else 1
        if returns and (returns != len(ends) or data.count(b"\r\n") != returns):
            self.uneven = True
        lengths = widths - terminator
        if not self.bases and lengths[0] > 0:
            self.bases, self.width = int(lengths[0]), int(widths[0])
        elif not self.bases:
            self.short = True  # a blank line: the sequence does not start at the record's offset
        odd = np.flatnonzero(lengths != self.bases)
        if self.width - self.bases not in (0, terminator) or (self.short and lengths.any()):
            self.uneven = True
        elif len(odd):
            self.short = True
            if lengths[odd[0]] > self.bases or lengths[odd[0] + 1 :].any():
                self.uneven = True
        self.length += len(bases)
        self.sha.update(bases.upper())
        if self.unpacked is not None:
            self.written += self.unpacked.write(bases)
        self.line += len(ends)
        self.at += len(data)

    def _bad_letter(self, data: bytes) -> None:
        for number, line in enumerate(data.split(b"\n"), self.line + 1):
            bad = line.translate(None, _SEQUENCE_LETTERS + b"\r")
            if bad:
                raise InputError(
                    f"{bad[:1].decode('latin-1')!r} is not a letter of a sequence; this is not a FASTA file, "
                    "or it is damaged",
                    path=self.label,
                    line=number,
                )

    def finish_record(self) -> None:
        if self.name is None:
            return
        self.sha.update(b"\n%d\n" % self.length)
        if self.unpacked is not None:
            self.written += self.unpacked.write(b"\n")
            entry = IndexEntry(self.name, self.length, self.unpacked_offset, self.length, self.length + 1)
        else:
            entry = IndexEntry(self.name, self.length, self.offset, self.bases, self.width)
        self.entries.append(entry)


def _content(handle: BinaryIO, label: str, blocks: list[tuple[int, int]]) -> Iterator[bytes]:
    if sniff(handle) != "bgzf":
        yield from chunks(handle, label)
        return
    at = 0
    pending: list[bytes] = []
    for offset, data in bgzf_blocks(handle, label):
        if data:
            blocks.append((offset, at))
        at += len(data)
        pending.append(data)
        if len(pending) == 16:
            yield b"".join(pending)
            pending = []
    yield b"".join(pending)


def scan(path: str, unpacked: BinaryIO | None = None) -> Scan:
    """Read and check a whole FASTA file: plain, gzip or BGZF.

    Args:
        path: the file.
        unpacked: where given, a copy with one line a sequence is written to it, and the entries
            describe that copy.

    Returns:
        Index entries in file order, BGZF blocks, digest and evenness. The digest is the SHA-256 of,
        for each record, name, newline, upper-case sequence, newline, decimal length, newline.

    Raises:
        InputError: empty, not FASTA, a web page, duplicate names, damaged or cut compression.
    """
    blocks: list[tuple[int, int]] = []
    with open_binary(path, "FASTA file") as handle:
        scanner = _Scanner(path, unpacked)
        pending: list[bytes] = []
        first = True
        for chunk in _content(handle, path, blocks):
            if first and chunk:
                reject_foreign(chunk[:512], path, "FASTA file")
                first = False
            cut = chunk.rfind(b"\n") + 1
            if cut:
                pending.append(chunk[:cut])
                scanner.lines(b"".join(pending))
                pending = [chunk[cut:]]
            else:
                pending.append(chunk)
        if first:
            reject_foreign(b"", path, "FASTA file")
        if rest := b"".join(pending):
            scanner.lines(rest + b"\n")
        scanner.finish_record()
    return Scan(scanner.entries, blocks, scanner.sha.hexdigest(), scanner.uneven)


def write_fai(path: Path, entries: list[IndexEntry]) -> None:
    """Write a ``.fai``."""
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        for entry in entries:
            handle.write("\t".join(map(str, entry)) + "\n")


def write_gzi(path: Path, blocks: list[tuple[int, int]]) -> None:
    """Write a ``.gzi``: the offsets of every block but the first."""
    pairs = [value for pair in blocks[1:] for value in pair]
    path.write_bytes(struct.pack(f"<Q{len(pairs)}Q", len(blocks[1:]), *pairs))


def read_fai(path: Path) -> list[IndexEntry]:
    """Read a ``.fai``; ValueError when it is not one."""
    entries = []
    for line in path.read_bytes().decode("utf-8").removesuffix("\n").split("\n"):
        name, *numbers = line.split("\t")
        if len(numbers) != 4:
            raise ValueError(f"{len(numbers) + 1} columns where a .fai has 5")
        entries.append(IndexEntry(name, *map(int, numbers)))
    if not entries or len({entry.name for entry in entries}) < len(entries):
        raise ValueError("no records, or names that are not unique")
    return entries


def read_gzi(path: Path) -> list[tuple[int, int]]:
    """Read a ``.gzi``, the first block included; ValueError when it is not one."""
    raw = path.read_bytes()
    if len(raw) < 8 or len(raw) != 8 + 16 * struct.unpack_from("<Q", raw)[0]:
        raise ValueError("the .gzi has the wrong size")
    values = struct.unpack(f"<{(len(raw) - 8) // 8}Q", raw[8:])
    return [(0, 0), *zip(values[::2], values[1::2], strict=True)]


class _Bytes:
    """Reads at uncompressed offsets of a plain or BGZF file; ValueError where the index is wrong."""

    def __init__(self, handle: BinaryIO, label: str, blocks: list[tuple[int, int]] | None) -> None:
        self.handle, self.label, self.blocks = handle, label, blocks
        self.starts = [at for _, at in blocks] if blocks else []

    def read(self, offset: int, size: int) -> bytes:
        if self.blocks is None:
            self.handle.seek(offset)
            return self.handle.read(size)
        index = bisect.bisect_right(self.starts, offset) - 1
        self.handle.seek(self.blocks[index][0])
        at = self.starts[index]
        parts = b""
        try:
            while at + len(parts) < offset + size:
                block = bgzf_block(self.handle, self.label)
                if block is None:
                    break
                parts += block[1]
        except InputError as error:
            raise ValueError(error.message) from None
        return parts[offset - at : offset - at + size]


def index_beside(path: str) -> tuple[list[IndexEntry] | None, str]:
    """The index files beside a FASTA, if they can be trusted.

    They are trusted when they are not older than the FASTA, their numbers are consistent, every
    checked record (the first and last hundred) has its own header line right before its offset and
    ends where its first line should, and nothing but the last record's line end follows it.

    Returns:
        (entries, "") or (None, reason); the reason is empty when there is no index at all.
    """
    fai, gzi = Path(path + ".fai"), Path(path + ".gzi")
    if not fai.is_file():
        return None, ""
    with open_binary(path, "FASTA file") as handle:
        kind = sniff(handle)
        if kind == "gzip":
            return None, ""
        try:
            changed = os.stat(path).st_mtime_ns
            blocks = None
            if kind == "bgzf":
                if not gzi.is_file():
                    return None, ""
                blocks = read_gzi(gzi)
                if gzi.stat().st_mtime_ns < changed:
                    return None, f"{gzi} is older than the FASTA"
            if fai.stat().st_mtime_ns < changed:
                return None, f"{fai} is older than the FASTA"
            entries = read_fai(fai)
            _check_entries(entries, _Bytes(handle, path, blocks))
        except (ValueError, OSError) as error:
            return None, f"{fai} does not fit the FASTA ({error})"
    return entries, ""


def _check_entries(entries: list[IndexEntry], source: _Bytes) -> None:
    previous = 0
    for number, entry in enumerate(entries):
        name, length, offset, bases, width = entry
        if length < 0 or offset < previous or (length and (bases < 1 or width - bases not in (1, 2))):
            raise ValueError(f"impossible numbers for {shown(name)}")
        gap = offset - previous
        if gap > 10_000:
            raise ValueError(f"{gap} bytes before {shown(name)}")
        if number < _CHECKED_RECORDS or number >= len(entries) - _CHECKED_RECORDS or gap > 1_000:
            header = source.read(previous, gap).lstrip(b"\r\n")
            if header.count(b"\n") != 1 or not header.endswith(b"\n") or header[:1] != b">":
                raise ValueError(f"no header line before {shown(name)}")
            if to_text(header[1:].split(None, 1)[0] if header[1:].strip() else b"") != name:
                raise ValueError(f"another name than {shown(name)}")
            if length > bases:
                line = source.read(offset, width)
                if b"\n" in line[:bases] or line[bases:].strip() or len(line) < width:
                    raise ValueError(f"another line length in {shown(name)}")
        previous = offset + ((length - 1) // bases * width + (length - 1) % bases + 1 if length else 0)
    if len(source.read(previous - 1, 1)) != 1 or source.read(previous, 4096).strip():
        raise ValueError("another length of the last sequence")
