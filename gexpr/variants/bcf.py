"""The first five columns of a BCF 2 file, and INFO of symbolic alleles, in plain Python.

Section 6 of the VCF specification.

Every length is checked against what is there, so a damaged file is an InputError.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NoReturn

from gexpr.errors import InputError
from gexpr.genome.compressed import to_text

_MAX_HEADER = 1 << 28
_INTEGERS = {1: ("<b", 1), 2: ("<h", 2), 3: ("<i", 4)}


class BcfReader:
    """Reads a BCF from its decompressed content.

    Args:
        stream: the content in pieces.
        label: the path, for messages. Offsets in messages count decompressed bytes.
    """

    def __init__(self, stream: Iterator[bytes], label: str) -> None:
        self._stream = stream
        self._label = label
        self._buffer = b""
        self._at = 0
        self._base = 0

    def _take(self, size: int, what: str) -> bytes:
        """The next ``size`` bytes."""
        end = self._at + size
        if end > len(self._buffer):
            parts = [self._buffer[self._at :]]
            self._base += self._at
            have = len(parts[0])
            while have < size:
                chunk = next(self._stream, None)
                if chunk is None:
                    self._fail(f"the file ends inside {what}")
                parts.append(chunk)
                have += len(chunk)
            self._buffer = b"".join(parts)
            self._at, end = 0, size
        data = self._buffer[self._at : end]
        self._at = end
        return data

    def _fail(self, message: str) -> NoReturn:
        raise InputError(
            f"the BCF is damaged at decompressed byte {self._base + self._at}: {message}; "
            "make or copy it again",
            path=self._label,
        )

    def _ended(self) -> bool:
        while self._at >= len(self._buffer):
            chunk = next(self._stream, None)
            if chunk is None:
                return True
            self._base += len(self._buffer)
            self._buffer, self._at = chunk, 0
        return False

    def header_lines(self) -> list[str]:
        """Header lines up to ``#CHROM``; call once, before :meth:`records`.

        Raises:
            InputError: another version than BCF 2, a header that is cut or not text.
        """
        magic = self._take(5, "the header")
        if magic[:4] != b"BCF\x02":
            raise InputError(
                "this version of BCF is not supported (only BCF 2 is); convert it with `bcftools view`",
                path=self._label,
            )
        (size,) = struct.unpack("<I", self._take(4, "the header"))
        if size > _MAX_HEADER:
            self._fail(f"a header of {size} bytes")
        text = self._take(size, "the header").rstrip(b"\0")
        lines = [to_text(line.rstrip(b"\r")) for line in text.split(b"\n") if line]
        if b"\0" in text or not lines or not lines[-1].startswith("#CHROM"):
            self._fail("the header does not end with a #CHROM line")
        return lines

    def records(self) -> Iterator[tuple[str, int, str, str, tuple[str, ...], str]]:
        """CHROM, POS (1-based), ID, REF, ALTs of every record, from the start of the file.

        Last comes INFO of a record with a symbolic ALT: ``KEY=VALUE`` of whole numbers and texts.
        """
        header = self.header_lines()
        contigs = _contigs(header)
        keys = _keys(header)
        samples = max(len(header[-1].split("\t")) - 9, 0)
        number = 0
        while not self._ended():
            number += 1
            what = f"record {number}"
            shared_size, individual_size = struct.unpack("<II", self._take(8, what))
            if shared_size < 24:
                self._fail(f"{what} has a length of {shared_size} bytes")
            shared = self._take(shared_size, what)
            self._take(individual_size, what)
            contig, pos, _, _, alleles, sample_count = struct.unpack_from("<iiifII", shared)
            count, infos = alleles >> 16, alleles & 0xFFFF
            if contig not in contigs:
                self._fail(f"{what} is on contig number {contig}, which the header lacks")
            if sample_count & 0xFFFFFF != samples:
                self._fail(f"{what} has {sample_count & 0xFFFFFF} samples where the header has {samples}")
            if pos < -1:
                self._fail(f"{what} has POS {pos + 1}")
            if count < 1:
                self._fail(f"{what} has no REF")
            at = 24
            texts = []
            for _ in range(count + 1):
                text, at = self._string(shared, at, what)
                texts.append(text)
            identifier, ref, *alts = texts
            if not ref or "" in alts:
                self._fail(f"{what} has an empty allele")
            info = ""
            if any("<" in alt for alt in alts):
                _, at = self._typed(shared, at, what)
                info = self._info(shared, at, infos, keys, what)
            yield contigs[contig], pos + 1, identifier or ".", ref, tuple(alts) or (".",), info

    def _info(self, data: bytes, at: int, count: int, keys: dict[int, str], what: str) -> str:
        """INFO from behind FILTER, as text; floating-point values are left out."""
        entries = []
        for _ in range(count):
            key, at = self._typed(data, at, what)
            value, at = self._typed(data, at, what)
            name = keys.get(int(key)) if re.fullmatch(r"-?\d+", key) else None
            if name is None:
                self._fail(f"{what} has an INFO key that the header lacks")
            if value:
                entries.append(f"{name}={value}")
        return ";".join(entries)

    def _typed(self, data: bytes, at: int, what: str) -> tuple[str, int]:
        """A typed value of a record as VCF writes it, and the position behind it."""
        try:
            size, kind, at = _descriptor(data, at)
            if size < 0:
                raise KeyError
            if kind in _INTEGERS:
                form, width = _INTEGERS[kind]
                if at + size * width > len(data):
                    raise KeyError
                numbers = struct.unpack_from(f"<{size}{form[1]}", data, at)
                # The two lowest numbers mean a missing value and the end of the list.
                lowest = -(1 << (8 * width - 1))
                texts = [
                    "." if number == lowest else str(number) for number in numbers if number != lowest + 1
                ]
                return ",".join(texts), at + size * width
            width = {0: 0, 5: 4, 7: 1}[kind]
            if at + size * width > len(data):
                raise KeyError
            text = to_text(data[at : at + size].rstrip(b"\0")) if kind == 7 else ""
            return text, at + size * width
        except (IndexError, KeyError, struct.error):
            self._fail(f"{what} has a malformed FILTER or INFO")

    def _string(self, data: bytes, at: int, what: str) -> tuple[str, int]:
        """A typed string of a record and the position behind it."""
        try:
            size, kind, at = _descriptor(data, at)
        except (IndexError, KeyError, struct.error):
            size, kind = -1, -1
        if size < 0 or (kind != 7 and size) or at + size > len(data):
            self._fail(f"{what} has a malformed ID, REF or ALT")
        text = data[at : at + size].rstrip(b"\0")
        if b"\0" in text:
            self._fail(f"{what} has a NUL byte in ID, REF or ALT")
        return to_text(text), at + size


def _descriptor(data: bytes, at: int) -> tuple[int, int, int]:
    """Size and type of a typed value, and the position of its content.

    Raises:
        IndexError, KeyError, struct.error: it is malformed, or the data end in it.
    """
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        form, width = _INTEGERS[data[at] & 15]
        if data[at] >> 4 != 1:
            raise KeyError
        (size,) = struct.unpack_from(form, data, at + 1)
        at += 1 + width
    return size, kind, at


def _keys(header: list[str]) -> dict[int, str]:
    """Number -> name in the dictionary of FILTER, INFO and FORMAT."""
    names: dict[str, int] = {"PASS": 0}
    for line in header:
        if re.match(r"##(FILTER|INFO|FORMAT)=<", line) and (name := re.search(r"[<,]ID=([^,>]+)", line)):
            index = re.search(r"[<,]IDX=(\d{1,9})[,>]", line)
            names.setdefault(name.group(1), int(index.group(1)) if index else len(names))
    return {number: name for name, number in names.items()}


def _contigs(header: list[str]) -> dict[int, str]:
    """Number -> name: the order of the ``##contig`` lines, or their IDX where they have one."""
    contigs: dict[int, str] = {}
    for line in header:
        if line.startswith("##contig=<") and (name := re.search(r"[<,]ID=([^,>]+)", line)):
            index = re.search(r"[<,]IDX=(\d{1,9})[,>]", line)
            contigs[int(index.group(1)) if index else len(contigs)] = name.group(1)
    return contigs
