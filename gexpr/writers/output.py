"""Where results go: a file that appears complete or not at all, or standard output.

A file is written under a temporary name in the same folder, brought to the disk, and renamed last.
Existing devices, pipes and the like are written directly, since a rename would replace them.
A temporary name says which process of which host writes it, so that a later run can tell what a
killed one left behind.
"""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import stat
import struct
import sys
import zlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError, GexprError


def output_names(output: str | Sequence[str] | None) -> tuple[str, ...]:
    """The outputs that a function was given as one path, several, or None."""
    if output is None:
        return ()
    return (output,) if isinstance(output, str) else tuple(output)


def output_format(
    path: str, requested: str | None, suffixes: Mapping[str, str], streams: Collection[str] = ("tsv",)
) -> str:
    """The format of an output: as requested, or from its suffix; standard output is TSV.

    Args:
        path: the output, ``-`` for standard output.
        requested: a format's name, or None.
        suffixes: suffix -> format, longest suffixes included (``.tsv.gz``).
        streams: formats that standard output can take.

    Raises:
        ConfigError: the suffix is unknown, or a binary format is meant for standard output.
    """
    known = sorted(set(suffixes.values()))
    if requested is not None:
        if requested not in known:
            raise ConfigError(f"unknown output format {requested!r} (known: {', '.join(known)})")
        if path == "-" and requested not in streams:
            raise ConfigError(
                f"format {requested!r} cannot be written to standard output; only {' and '.join(streams)} can"
            )
        return requested
    if path == "-":
        return "tsv"
    name = os.path.basename(path).lower()
    for suffix in sorted(suffixes, key=len, reverse=True):
        if name.endswith(suffix):
            return suffixes[suffix]
    raise ConfigError(
        f"the output's suffix does not tell its format: {path!r} (known suffixes: "
        f"{', '.join(suffixes)}; or give --format {'|'.join(known)})"
    )


def temporary_name(path: Path) -> Path:
    """Where this process writes what will become ``path``: a hidden file beside it."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.part")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes of this host wrote under :func:`temporary_name` for ``path``."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    pattern = re.compile(re.escape(f".{path.name}.{host}.") + r"(\d+)\.part")
    try:
        for entry in list(os.scandir(path.parent)):
            match = pattern.fullmatch(entry.name)
            if match is not None and not _alive(int(match[1])):
                os.unlink(entry.path)
    except OSError:
        # Housekeeping: what cannot be listed or removed stays.
        return


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Bring a folder's list of names to the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def publish(path: Path, data: Iterable[bytes | memoryview], *, replace: bool = True) -> bool:
    """Write a small file so that it has its name only when all of it is on the disk.

    Args:
        path: the file.
        data: its content, in pieces.
        replace: False leaves an existing file alone.

    Returns:
        Whether the file is the one written here: False when it existed and ``replace`` was False.

    Raises:
        GexprError: it cannot be written, with the reason; nothing is left behind.
    """
    temporary = temporary_name(path)
    try:
        try:
            with open(temporary, "wb", buffering=0) as file:
                for piece in data:
                    write_all(file, piece)
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                _name_if_free(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise GexprError(f"cannot write {path}: {error.strerror or error}") from error
    return True


def _name_if_free(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system: the check and the renaming are then two steps.
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.rename(temporary, path)


def refuse_existing(path: str | os.PathLike[str], force: bool) -> None:
    """Raise GexprError when a regular file or folder has the name of an output, unless ``force``."""
    if not force and os.path.exists(path) and (os.path.isfile(path) or os.path.isdir(path)):
        raise GexprError(f"{os.fspath(path)} exists; give --force to replace it, or another name")


def refuse_input(path: str, inputs: Iterable[str | None]) -> None:
    """Raise ConfigError when the output is one of the files that are read.

    Args:
        path: the output, ``-`` for standard output.
        inputs: paths of files or folders that are read; ``-`` and None are skipped.
    """
    if path == "-" or not os.path.exists(path) or not stat.S_ISREG(os.stat(path).st_mode):
        return
    for each in inputs:
        if each and each != "-" and os.path.exists(each) and os.path.samefile(path, each):
            raise ConfigError(f"the output {path} is also an input ({each}); give another name")


def check_outputs(outputs: Sequence[str], inputs: Sequence[str | None]) -> None:
    """Raise ConfigError when an output is an input or another output, or several are standard output.

    Args:
        outputs: paths, ``-`` for standard output.
        inputs: as in :func:`refuse_input`.
    """
    places: dict[str, str] = {}
    for output in outputs:
        refuse_input(output, inputs)
        place = output if output == "-" else os.path.realpath(output)
        if place in places:
            if output == "-":
                raise ConfigError("standard output ('-') can take one output only; give the others a name")
            raise ConfigError(
                f"the outputs {places[place]} and {output} are the same file; give one another name"
            )
        places[place] = output


class AtomicOutput:
    """A claim on an output path, made before the work starts.

    Args:
        path: the output, ``-`` for standard output.
        force: replace an existing file.

    Attributes:
        file: a binary file to write to; readable and seekable unless it is a stream.
        is_stream: whether it is standard output or another thing that cannot be renamed into place.
        force: as given.

    Raises:
        GexprError: the path cannot be written, with the reason; or it exists, and not ``force``.
    """

    def __init__(self, path: str, *, force: bool = False) -> None:
        self.path = path
        self.force = force
        self._temporary: Path | None = None
        self._final: Path | None = None
        self.is_stream = True
        if path == "-":
            self.file: IO[bytes] = sys.stdout.buffer
            return
        # A symbolic link is followed, so that the link itself survives.
        final = Path(os.path.realpath(path))
        if not final.name or not final.parent.is_dir():
            raise GexprError(f"cannot write {path}: the folder {final.parent} does not exist")
        if final.is_dir():
            raise GexprError(f"cannot write {path}: it is a folder")
        try:
            if final.exists() and not stat.S_ISREG(final.stat().st_mode):
                self.file = open(final, "wb")
                return
            refuse_existing(path, force)
            if final.exists() and not os.access(final, os.W_OK):
                raise PermissionError(errno.EACCES, "the file is write-protected")
            remove_leftovers(final)
            temporary = temporary_name(final)
            temporary.unlink(missing_ok=True)
            self.file = cast(IO[bytes], open(temporary, "x+b", buffering=0))
        except OSError as error:
            raise self.failure(error) from error
        self._final, self._temporary, self.is_stream = final, temporary, False

    def failure(self, error: OSError) -> GexprError:
        """An OSError while writing, as the error that the user sees."""
        return GexprError(f"cannot write {self.path}: {error.strerror or error}")

    def finish(self) -> None:
        """Bring everything to the disk, still under the temporary name; nothing can be written any more.

        Raises:
            GexprError: the disk is full.
        """
        if self.file.closed:
            return
        try:
            self.file.flush()
            if self._temporary is not None:
                os.fsync(self.file.fileno())
            if self.path != "-":
                self.file.close()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self.failure(error) from error

    def unpublished(self) -> tuple[Path, Path] | None:
        """The temporary and the final name of a file that has not got its name yet; else None."""
        if self._temporary is None or self._final is None:
            return None
        return self._temporary, self._final

    def commit(self) -> None:
        """Bring everything to the disk and give the file its name.

        Raises:
            GexprError: the disk is full or the folder has become unwritable.
        """
        self.finish()
        try:
            if self._temporary is None or self._final is None:
                return
            os.replace(self._temporary, self._final)
            self._temporary = None
            sync_folder(self._final.parent)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self.failure(error) from error

    def discard(self) -> None:
        """Remove what was written so far, unless it was committed; safe to call at any time."""
        if self._temporary is not None:
            self.file.close()
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def __enter__(self) -> AtomicOutput:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()


def utf8(text: str) -> bytes:
    """UTF-8 bytes of any string; what UTF-8 cannot hold is written as an escape."""
    return text.encode("utf-8", "backslashreplace")


def as_dtype(values: NDArray[np.floating], dtype: str) -> NDArray[np.floating]:
    """The values in another number type; what is too large for it becomes infinite, silently."""
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)


def write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write every byte; an unbuffered file may take fewer at a time."""
    view = memoryview(data)
    while len(view):
        written = file.write(view)
        view = view[len(view) if written is None else written :]


class BgzfFile:
    """Compresses a stream into BGZF blocks (SAM specification, section 4.1) without any time stamp.

    Blocks are compressed in threads and written in their order.
    """

    _BLOCK = 65280
    _AHEAD = 64
    _HEADER = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0"
    _END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

    def __init__(self, file: IO[bytes], level: int = 6) -> None:
        self._file = file
        self._level = level
        self._pending = bytearray()
        self._queue: deque[Future[bytes]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._blocks = 0
        self._offsets = [0]

    def write(self, data: bytes) -> None:
        """Take ``data``; blocks that are compressed are written."""
        self._pending += data
        while len(self._pending) >= self._BLOCK:
            self._submit(bytes(self._pending[: self._BLOCK]))
            del self._pending[: self._BLOCK]

    def tell(self) -> int:
        """How many bytes were taken so far; not for use after :meth:`finish`."""
        return self._blocks * self._BLOCK + len(self._pending)

    def virtual_offset(self, position: int) -> int:
        """What an index calls a position that :meth:`tell` told; after :meth:`finish`."""
        block, within = divmod(position, self._BLOCK)
        return self._offsets[block] << 16 | within

    def finish(self) -> None:
        """Write what is left and the end-of-file marker; the underlying file stays open."""
        if self._pending:
            self._submit(bytes(self._pending))
            self._pending.clear()
        self._write_compressed(0)
        self.discard()
        write_all(self._file, self._END)

    def discard(self) -> None:
        """Give up what is not written; safe to call at any time."""
        self._queue.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _submit(self, data: bytes) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="gexpr-bgzip")
        self._blocks += 1
        self._queue.append(self._pool.submit(self._compressed, data))
        self._write_compressed(self._AHEAD)

    def _write_compressed(self, ahead: int) -> None:
        """Write blocks until at most ``ahead`` wait."""
        while len(self._queue) > ahead:
            block = self._queue.popleft().result()
            self._offsets.append(self._offsets[-1] + len(block))
            write_all(self._file, block)

    def _compressed(self, data: bytes) -> bytes:
        for level in (self._level, 0):
            compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
            body = compressor.compress(data) + compressor.flush()
            if len(body) + 26 <= 65536:
                break
        size = struct.pack("<H", len(body) + 25)
        return self._HEADER + size + body + struct.pack("<II", zlib.crc32(data), len(data))


class GuardedFile(io.RawIOBase):
    """A file for HDF5 that never fails while HDF5 is looking.

    The HDF5 library can crash when a write fails: a full disk, or a signal that raises an exception.
    Here the first failure is kept in ``error`` and what could not be written is held in memory, so
    that the library can finish and close; the caller raises the error then.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0
        self._size = 0
        self._lost: list[tuple[int, bytes]] = []
        self.error: BaseException | None = None

    def _fail(self, error: BaseException) -> None:
        # ValueError: the file was closed because the work failed elsewhere.
        if self.error is None:
            self.error = OSError(str(error)) if isinstance(error, ValueError) else error

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        if self.error is None:
            try:
                self._file.truncate(self._size)
            except BaseException as error:
                self._fail(error)
        return self._size

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self.error is None:
            try:
                self._file.seek(self._position)
                write_all(self._file, view)
            except BaseException as error:
                self._fail(error)
        if self.error is not None:
            self._lost.append((self._position, bytes(view)))
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        start = self._position
        view[:count] = bytes(count)
        done = 0
        try:
            self._file.seek(start)
            while done < count:
                piece = self._file.read(count - done)
                if not piece:
                    break
                view[done : done + len(piece)] = piece
                done += len(piece)
        except BaseException as error:
            self._fail(error)
        for offset, data in self._lost:
            low, high = max(offset, start), min(offset + len(data), start + count)
            if low < high:
                view[low - start : high - start] = data[low - offset : high - offset]
        self._position += count
        return count

    def flush(self) -> None:
        if self.error is None:
            try:
                self._file.flush()
            except BaseException as error:
                self._fail(error)
