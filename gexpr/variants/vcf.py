"""Strict reading of the first five columns of VCF (text, gzip, BGZF) and BCF.

No C library sees a file of the user's: a damaged one ends in :class:`~gexpr.errors.InputError`,
never in a crash and never in a silently shorter file.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, NoReturn

from gexpr.errors import InputError
from gexpr.genome.compressed import CHUNK, chunks, open_binary, reject_foreign, sniff, spool, to_text
from gexpr.variants.bcf import BcfReader

KIND = "VCF file"
_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
_MAX_DIGITS = 18
MAX_LINE = 512 << 20
"""Bytes of the longest line; a line of a million samples is shorter."""


class VcfRecord(NamedTuple):
    """One record. ``line`` is its 1-based line in a text VCF, its 1-based number among the records of a BCF.

    Everything is spelt as in the file; an empty ID is ``.``; a record without ALT has ``alts == (".",)``.
    ``info`` is INFO of a record with a symbolic ALT; of other records it is not read.
    """

    line: int
    chrom: str
    pos: int
    id: str
    ref: str
    alts: tuple[str, ...]
    info: str = ""


class VcfSource:
    """A VCF that has been opened and whose header has been checked; see :func:`open_vcf`.

    Attributes:
        path: as given, or the label; ``-`` is standard input.
        format: ``text``, ``gzip``, ``bgzf`` or ``bcf``.
        header: header lines up to and including ``#CHROM``, without line ends.
        samples: sample names.
        contig_lengths: contig -> length of the ``##contig`` lines that state one.
        open_end: line number of a last record without a line end, once it has been read; else None.
    """

    def __init__(self, path: str, stored: str, temporary: bool) -> None:
        self.path = path
        self._stored = stored
        if temporary:
            weakref.finalize(self, _remove, stored, os.getpid())
        with open_binary(stored, KIND) as handle:
            status = os.fstat(handle.fileno())
            self._state = (status.st_size, status.st_mtime_ns)
            self.format = sniff(handle)
            stream = chunks(handle, path)
            head = next(stream, b"")
            while 0 < len(head) < 512 and (more := next(stream, b"")):
                head += more
            if head[:3] == b"BCF":
                if self.format != "bgzf":
                    raise InputError(
                        "a BCF must be BGZF-compressed; make it with `bcftools view -Ob`", path=path
                    )
                self.format = "bcf"
                self.header = BcfReader(chunks(handle, path), path).header_lines()
            else:
                reject_foreign(head[:512], path, KIND)
                self.header = _header_lines(chunks(handle, path), path)
        self.open_end: int | None = None
        self._parse_header()

    def _parse_header(self) -> None:
        first, last = self.header[0], self.header[-1]
        if not first.startswith("##fileformat=VCF"):
            raise InputError(
                f"the first line must be ##fileformat=VCFv4.x, found {first[:60]!r}", path=self.path, line=1
            )
        columns = last.split("\t")
        if len(columns) < 8 and len(last.split()) >= 8:
            raise InputError(
                "the columns are separated by spaces; VCF needs tabs", path=self.path, line=len(self.header)
            )
        if tuple(columns[:8]) != _COLUMNS or (len(columns) > 8 and columns[8] != "FORMAT"):
            raise InputError(
                f"the header line must have the tab-separated columns {' '.join(_COLUMNS)} "
                "[FORMAT samples...], "
                f"found {last[:100]!r}",
                path=self.path,
                line=len(self.header),
            )
        self.columns = len(columns)
        self.samples = columns[9:]
        self.contig_lengths: dict[str, int] = {}
        for line in self.header:
            if line.startswith("##contig=<"):
                name = re.search(r"[<,]ID=([^,>]+)", line)
                length = re.search(r"[<,]length=(\d{1,18})[,>]", line)
                if name and length:
                    self.contig_lengths[name.group(1)] = int(length.group(1))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the file's bytes as they are stored (compressed where the file is)."""
        sha = hashlib.sha256()
        with open_binary(self._stored, KIND) as handle:
            while data := handle.read(CHUNK):
                sha.update(data)
        return sha.hexdigest()

    def check_unchanged(self) -> None:
        """Raise InputError when the file is gone, or has another size or time than when it was opened."""
        try:
            status = os.stat(self._stored)
        except OSError as error:
            raise InputError(f"the file is gone: {error.strerror}", path=self.path) from None
        self._check(status)

    def _check(self, status: os.stat_result) -> None:
        if (status.st_size, status.st_mtime_ns) != self._state:
            raise InputError("the file was changed while it was in use; start again", path=self.path)

    def records(self) -> Iterator[VcfRecord]:
        """All records from the first, strictly; each call reads the file again.

        Raises:
            InputError: at the first fault, with the line, or the byte offset for damaged compression.
        """
        with open_binary(self._stored, KIND) as handle:
            self._check(os.fstat(handle.fileno()))
            stream = chunks(handle, self.path)
            if self.format == "bcf":
                for number, fields in enumerate(BcfReader(stream, self.path).records(), 1):
                    yield VcfRecord(number, *fields)
            else:
                yield from self._text_records(stream)

    @property
    def stored(self) -> str:
        """Where the file is on the disk: ``path``, or a copy of what can be read only once."""
        return self._stored

    def lines(self) -> Iterator[bytes]:
        """All lines of a text VCF, header lines included, with their line ends and otherwise unchecked.

        Raises:
            InputError: the file is a BCF, which has no lines, or its compression is damaged.
        """
        if self.format == "bcf":
            raise InputError(
                "a BCF has no lines of text that could be annotated; give the VCF: "
                "`bcftools view FILE.bcf | gexpr score-variants ... -`, or write one by `bcftools view -Oz`",
                path=self.path,
            )
        with open_binary(self._stored, KIND) as handle:
            self._check(os.fstat(handle.fileno()))
            rest: list[bytes] = []
            for chunk in chunks(handle, self.path):
                *whole, last = chunk.split(b"\n")
                for line in whole:
                    yield b"".join((*rest, line, b"\n"))
                    rest.clear()
                rest.append(last)
            if line := b"".join(rest):
                yield line

    def _text_records(self, stream: Iterator[bytes]) -> Iterator[VcfRecord]:
        tabs = self.columns - 1
        number = blank = 0
        for lines, complete in _line_batches(stream, self.path):
            if number < len(self.header):
                skipped = min(len(self.header) - number, len(lines))
                lines = lines[skipped:]
                number += skipped
            stray = self._has_stray_return(lines)
            for line in lines:
                number += 1
                if line.count("\t") != tabs or line[0] == "#":
                    if not line or line == "\r":
                        blank = blank or number
                        continue
                    self._reject_columns(line, number, complete)
                if blank:
                    raise InputError("a blank line between records", path=self.path, line=blank)
                chrom, pos, id_, ref, alt, rest = line.split("\t", 5)
                if stray and "\r" in chrom + id_ + ref + alt:
                    raise InputError(
                        "a carriage return inside the line: line ends are mixed up, or the file is damaged",
                        path=self.path,
                        line=number,
                    )
                if not pos.isdecimal() or len(pos) > _MAX_DIGITS or not chrom or not ref or not alt:
                    self._reject_fields(chrom, pos, ref, alt, number)
                info = rest.split("\t", 3)[2].rstrip("\r") if "<" in alt else ""
                if not line.isascii():
                    chrom, id_, ref, alt, info = (
                        to_text(x.encode("latin-1")) for x in (chrom, id_, ref, alt, info)
                    )
                if "," in alt:
                    alts = tuple(alt.split(","))
                    if "" in alts:
                        raise InputError(f"an empty allele in ALT {alt[:60]!r}", path=self.path, line=number)
                else:
                    alts = (alt,)
                if not complete:
                    self.open_end = number
                yield VcfRecord(number, chrom, int(pos), id_ or ".", ref, alts, info)

    @staticmethod
    def _has_stray_return(lines: list[str]) -> bool:
        """Whether any line has a carriage return elsewhere than at its end."""
        return any("\r" in line[:-1] for line in lines if "\r" in line)

    def _reject_columns(self, line: str, number: int, complete: bool) -> NoReturn:
        count = line.count("\t") + 1
        if line.startswith("#"):
            message = "a line that starts with '#' among the records; header lines belong above #CHROM"
        elif count < self.columns and not complete:
            message = (
                f"the file ends in the middle of this line ({count} of {self.columns} columns): "
                "it was cut short; copy or make it again"
            )
        elif count == 1 and len(line.split()) >= 5:
            message = "the columns are separated by spaces; VCF needs tabs"
        else:
            message = f"{count} column(s) where the #CHROM line has {self.columns}: {line[:60]!r}"
        raise InputError(message, path=self.path, line=number)

    def _reject_fields(self, chrom: str, pos: str, ref: str, alt: str, number: int) -> NoReturn:
        if not chrom:
            message = "CHROM is empty"
        elif not ref:
            message = "REF is empty"
        elif not alt:
            message = "ALT is empty; a record without an alternate allele has '.'"
        elif pos.isdecimal():
            message = f"POS has {len(pos)} digits"
        else:
            message = f"POS {pos[:40]!r} is not a whole number (0 or more)"
        raise InputError(message, path=self.path, line=number)


def open_vcf(
    path: str | os.PathLike[str],
    spool_folder: str | os.PathLike[str] | None = None,
    label: str | None = None,
) -> VcfSource:
    """Open a VCF (text, gzip, BGZF) or BCF and check its header.

    Args:
        path: the file; ``-`` (standard input) and pipes are copied to a temporary file first, so that
            they can be read more than once; it is removed with the returned object.
        spool_folder: where that copy goes; default the system's folder for temporary files.
        label: what messages call the file; default its path.

    Raises:
        InputError: no such file, empty, a foreign format, damaged compression, or a header without
            ``##fileformat`` in its first line or without a proper ``#CHROM`` line.
    """
    name = os.fspath(path)
    temporary = spool(name, KIND, spool_folder)
    try:
        return VcfSource(label or name, temporary or name, temporary is not None)
    except BaseException:
        if temporary is not None:
            _remove(temporary, os.getpid())
        raise


def _remove(path: str, process: int) -> None:
    if os.getpid() == process and os.path.exists(path):
        os.unlink(path)


def _line_batches(stream: Iterator[bytes], label: str) -> Iterator[tuple[list[str], bool]]:
    """Lines as Latin-1 text, many at a time; False comes with a last line that has no newline."""
    number = 0
    pending: list[bytes] = []
    for chunk in stream:
        if (found := chunk.find(b"\0")) >= 0:
            line = number + b"".join((*pending, chunk[:found])).count(b"\n") + 1
            raise InputError("a NUL byte: this is not a VCF, or it is damaged", path=label, line=line)
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            pending.append(chunk)
            if sum(map(len, pending)) > MAX_LINE:
                raise InputError(
                    f"a line of more than {MAX_LINE:,} bytes: this is not a VCF, or it is damaged",
                    path=label,
                    line=number + 1,
                )
            continue
        pending.append(chunk[: cut - 1])
        lines = b"".join(pending).decode("latin-1").split("\n")
        number += len(lines)
        yield lines, True
        pending = [chunk[cut:]]
    if rest := b"".join(pending):
        yield [rest.decode("latin-1")], False


def _header_lines(stream: Iterator[bytes], label: str) -> list[str]:
    header: list[str] = []
    for lines, _ in _line_batches(stream, label):
        for line in lines:
            number = len(header) + 1
            if number == 1 and not line.startswith("##fileformat="):
                raise InputError(
                    f"this is not a VCF: the first line must be ##fileformat=VCFv4.x, found {line[:60]!r}",
                    path=label,
                    line=1,
                )
            if number == 1 and "\r" in line[:-1]:
                raise InputError(
                    "lines end with carriage returns alone; write them anew with newlines (tr '\\r' '\\n')",
                    path=label,
                    line=1,
                )
            if not line.strip():
                raise InputError("a blank line in the header", path=label, line=number)
            if not line.startswith("#"):
                raise InputError(
                    "the line #CHROM POS ID REF ALT QUAL FILTER INFO is missing before this line",
                    path=label,
                    line=number,
                )
            header.append(to_text(line.rstrip("\r").encode("latin-1")))
            if not line.startswith("##"):
                return header
    raise InputError(
        "the file ends before the line #CHROM POS ID REF ALT QUAL FILTER INFO",
        path=label,
        line=len(header) or 1,
    )
