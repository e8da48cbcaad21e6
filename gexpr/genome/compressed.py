"""Strict reading of text, gzip and BGZF files: what is cut or damaged is an error with its offset.

Everything is plain Python over zlib: a damaged file can end in :class:`~gexpr.errors.InputError`
only, never in a crash of a C library and never in a silently shorter file.
BGZF: section 4.1 of the SAM specification.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from gexpr.errors import InputError

CHUNK = 1 << 20
MAX_LINE = 16 << 20
"""Bytes of the longest line of a small text file."""

_FOREIGN = (
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz; decompress it, or recompress it with bgzip"),
    (b"BZh", "compressed with bzip2; decompress it, or recompress it with bgzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; decompress it, or recompress it with bgzip"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"CRAM", "a CRAM file"),
    (b"BAM\x01", "a BAM file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (b"\xef\xbb\xbf", "text that starts with a byte order mark (BOM); save it as UTF-8 without BOM"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
)


def reject_foreign(head: bytes, label: str, kind: str) -> None:
    """Raise InputError when ``head``, the first bytes of the content, is not ``kind`` but a file that
    is often found in its place: a web page, another compression, a Git LFS pointer, UTF-16 text.
    """
    if not head:
        raise InputError(f"the file is empty (0 bytes); expected a {kind}", path=label)
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            line = 1 if "BOM" in what else None
            raise InputError(f"this is not a {kind} but {what}", path=label, line=line)
    start = head.lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise InputError(
            f"this is not a {kind} but a web page (HTML/XML); a download probably failed: fetch it again",
            path=label,
        )


def open_binary(path: str | os.PathLike[str], kind: str, regular: bool = True) -> BinaryIO:
    """Open a file; a missing or unreadable path is an InputError, and so is a pipe if ``regular``."""
    name = os.fspath(path)
    if "://" in name:
        raise InputError(f"expected a {kind} on this machine; download it first", path=name)
    try:
        mode = os.stat(name).st_mode
        if regular and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"this is a pipe or a device; expected a {kind} on disk", path=name)
        handle = open(name, "rb")
    except FileNotFoundError:
        raise InputError(f"no such file (expected a {kind})", path=name) from None
    except IsADirectoryError:
        raise InputError(f"this is a folder; expected a {kind}", path=name) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be opened: {getattr(error, 'strerror', None) or error}", path=name
        ) from None
    return handle


def spool(
    path: str | os.PathLike[str], kind: str, folder: str | os.PathLike[str] | None = None
) -> str | None:
    """Copy standard input (``-``) or a pipe into a temporary file that can be read twice.

    Returns:
        The temporary file's path, which the caller removes; None when ``path`` is a regular file.
    """
    name = os.fspath(path)
    if name == "-":
        source: BinaryIO = sys.stdin.buffer
    else:
        try:
            mode = os.stat(name).st_mode
        except (OSError, ValueError):
            return None
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)):
            return None
        source = open_binary(name, kind, regular=False)
    target = None
    try:
        with tempfile.NamedTemporaryFile(
            prefix="gexpr-", suffix=".input", dir=folder, delete=False
        ) as target:
            shutil.copyfileobj(source, target, CHUNK)
    except BaseException as error:
        if target is not None:
            os.unlink(target.name)
        if isinstance(error, OSError):
            raise InputError(
                f"cannot be stored in a temporary file: {error.strerror}; "
                "set TMPDIR to a folder with enough space",
                path=name,
            ) from None
        raise
    finally:
        if name != "-":
            source.close()
    return target.name


def sniff(handle: BinaryIO) -> str:
    """``bgzf``, ``gzip`` or ``text``, from the first bytes; the position is left where it was."""
    start = handle.tell()
    head = handle.read(512)
    handle.seek(start)
    if head[:2] != b"\x1f\x8b":
        return "text"
    if len(head) >= 12 and head[2] == 8 and head[3] & 4:
        extra = head[12 : 12 + struct.unpack_from("<H", head, 10)[0]]
        if _block_size(extra) is not None:
            return "bgzf"
    return "gzip"


def _block_size(extra: bytes) -> int | None:
    """Total size of a BGZF block, from the gzip header's extra field."""
    at = 0
    while at + 4 <= len(extra):
        identifier, size = extra[at : at + 2], struct.unpack_from("<H", extra, at + 2)[0]
        if identifier == b"BC" and size == 2 and at + 6 <= len(extra):
            return struct.unpack_from("<H", extra, at + 4)[0] + 1
        at += 4 + size
    return None


def bgzf_block(handle: BinaryIO, label: str) -> tuple[int, bytes] | None:
    """The offset and the decompressed content of the block at the handle's position; None at the end.

    Raises:
        InputError: the block is cut, is no BGZF block, or fails its checksum.
    """
    offset = handle.tell()
    head = handle.read(12)
    if not head:
        return None
    if len(head) == 12 and head[:4] != b"\x1f\x8b\x08\x04":
        raise InputError(
            "the file is damaged: no BGZF block starts here; make or copy the file again",
            path=label,
            offset=offset,
        )
    extra_size = struct.unpack_from("<H", head, 10)[0] if len(head) == 12 else 0
    extra = handle.read(extra_size)
    size = _block_size(extra) if len(extra) == extra_size else 0
    if size is None:
        raise InputError(
            "the file is damaged: no BGZF block starts here; make or copy the file again",
            path=label,
            offset=offset,
        )
    rest = size - 12 - extra_size
    body = handle.read(max(rest, 0))
    if len(head) < 12 or len(extra) < extra_size or len(body) < rest:
        raise InputError(
            "the file is cut short: it ends inside this BGZF block; copy or download it again",
            path=label,
            offset=offset,
        )
    try:
        data = zlib.decompress(body[:-8], -15)
        crc, length = struct.unpack("<II", body[-8:])
    except (zlib.error, struct.error):
        data, crc, length = b"", -1, -1
    if len(data) != length or zlib.crc32(data) != crc:
        raise InputError(
            "the file is damaged: this BGZF block is corrupt; copy or download it again",
            path=label,
            offset=offset,
        )
    return offset, data


def bgzf_blocks(handle: BinaryIO, label: str) -> Iterator[tuple[int, bytes]]:
    """Every block of a BGZF file with its offset; the last one must be the empty end-of-file marker.

    Raises:
        InputError: as :func:`bgzf_block`, or the end-of-file marker is missing.
    """
    last = 1
    while (block := bgzf_block(handle, label)) is not None:
        last = len(block[1])
        yield block
    if last:
        raise InputError(
            "the BGZF end-of-file marker is missing: the file was probably cut short; copy or make it again",
            path=label,
            offset=handle.tell(),
        )


def _gzip_chunks(handle: BinaryIO, label: str) -> Iterator[bytes]:
    """Content of a gzip file of one or more members; zero bytes behind the last are padding."""
    engine = None
    member = at = 0
    full = False  # as much as was asked for: the engine may hold more, even of input that it has taken
    while raw := handle.read(CHUNK >> 3):
        at += len(raw)
        while raw or full:
            if engine is None:
                member = at - len(raw)
                if raw[0] == 0 and member:
                    if raw.strip(b"\0") or handle.read().strip(b"\0"):
                        raise InputError(
                            "zero bytes inside a gzip file: it is damaged", path=label, offset=member
                        )
                    return
                engine = zlib.decompressobj(31)
            try:
                data = engine.decompress(raw, CHUNK)  # a little can hold a lot
            except zlib.error:
                raise InputError(
                    "the gzip data that start here are damaged; copy or download the file again",
                    path=label,
                    offset=member,
                ) from None
            if data:
                yield data
            raw = engine.unconsumed_tail or engine.unused_data
            full = len(data) == CHUNK and not engine.eof
            if engine.eof:
                engine = None
    if engine is not None:
        raise InputError(
            "the gzip file is cut short: it ends before its checksum; copy or download it again",
            path=label,
            offset=at,
        )


def chunks(handle: BinaryIO, label: str) -> Iterator[bytes]:
    """Decompressed content of an open text, gzip or BGZF file, from its start, about 1 MB at a time.

    Raises:
        InputError: damaged or incomplete compression, with the offset in the file.
    """
    handle.seek(0)
    kind = sniff(handle)
    if kind == "gzip":
        yield from _gzip_chunks(handle, label)
    elif kind == "bgzf":
        pending: list[bytes] = []
        for _, data in bgzf_blocks(handle, label):
            pending.append(data)
            if len(pending) == 16:
                yield b"".join(pending)
                pending = []
        if pending:
            yield b"".join(pending)
    else:
        while data := handle.read(CHUNK):
            yield data


def to_text(raw: bytes) -> str:
    """UTF-8 where the bytes are valid UTF-8, Latin-1 where not."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_lines(
    path: str | os.PathLike[str], kind: str, label: str | None = None
) -> Iterator[tuple[int, str]]:
    """Numbered lines (from 1, without line ends) of a small text file: plain, gzip, BGZF or ``-``.

    ``label`` is what messages call the file; default its path.

    Raises:
        InputError: no such file, empty, damaged, a web page or another foreign format, a NUL byte.
    """
    name = os.fspath(path)
    label = label or name
    temporary = spool(name, kind)
    try:
        with open_binary(temporary or name, kind) as handle:
            number = 0
            carry = b""
            first = True
            for chunk in chunks(handle, label):
                if first:
                    reject_foreign(chunk[:512], label, kind)
                    first = False
                lines = (carry + chunk).split(b"\n")
                carry = lines.pop()
                for line in lines:
                    number += 1
                    yield number, _checked(line, label, number, kind)
                if len(carry) > MAX_LINE:
                    raise InputError(
                        f"a line of more than {MAX_LINE:,} bytes: this is not a {kind}, or it is damaged",
                        path=label,
                        line=number + 1,
                    )
            if first:
                reject_foreign(b"", label, kind)
            if carry:
                yield number + 1, _checked(carry, label, number + 1, kind)
    finally:
        if temporary is not None:
            os.unlink(temporary)


def _checked(line: bytes, label: str, number: int, kind: str) -> str:
    if b"\0" in line:
        raise InputError(f"a NUL byte: this is not a {kind}, or it is damaged", path=label, line=number)
    return to_text(line[:-1] if line.endswith(b"\r") else line)
