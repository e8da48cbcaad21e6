"""Reference sequences by position, from a plain, gzip'd or BGZF FASTA file.

Index files and, where a file cannot be read by position as it is, an unpacked copy live in the
cache folder: ``<cache>/fasta/<hash of path>-<hash of size and modification time>/``. An entry is
valid for exactly that absolute path, size and modification time; it holds the digest too, so
that a genome is read in full once and not again until the file changes. A checksum over its index
and its description tells when it was damaged; it is then made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from gexpr import logs
from gexpr.errors import InputError, shown, shown_name
from gexpr.genome import fasta_index
from gexpr.genome.cache import cache_folder
from gexpr.genome.codes import UNKNOWN, Codes, encode
from gexpr.genome.compressed import bgzf_block, open_binary, reject_foreign, sniff

_PIECE = 1 << 16
_KEPT_PIECES = 64
_MOST_PIECES = 32
"""Pieces of an interval whose codes are kept; a longer one is read as it is."""
_FORMAT = 2
_DAY = 86_400


class _CacheError(InputError):
    """The cache folder cannot be written."""


class Fasta:
    """A reference genome, read by position.

    Holds paths, not handles, so that it can be pickled; each process opens the file when it first
    needs it. Threads may share one.

    Args:
        path: FASTA file; plain, BGZF (``bgzip``), or gzip, which is unpacked once into the cache.
        cache_dir: cache folder; default ``$GEXPR_CACHE``, else the user's (see
            :func:`gexpr.genome.cache.cache_folder`).

    Attributes:
        path: as given.
        names: contig names in file order.
        lengths: name -> bases.

    Raises:
        InputError: no such file, empty, not FASTA, duplicate names, damaged or cut compression, or
            an index is needed and the cache cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> None:
        self.path = os.fspath(path)
        self._cache = cache_folder(cache_dir)
        self._digest: str | None = None
        with open_binary(self.path, "FASTA file") as handle:
            kind = sniff(handle)
            head = bgzf_block(handle, self.path) if kind == "bgzf" else (0, handle.read(512))
            if kind != "gzip":
                reject_foreign((head or (0, b""))[1][:512], self.path, "FASTA file")
            if kind == "bgzf":
                _check_end(handle, self.path)
        status = os.stat(self.path)
        self._state = (status.st_size, status.st_mtime_ns)
        if not self._use_entry():
            entries, reason = fasta_index.index_beside(self.path)
            if entries is None:
                if reason:
                    logs.warning(f"{reason}; made a new index in {self._cache}")
                self._make_entry()
            else:
                gzi = self.path + ".gzi" if kind == "bgzf" else None
                self._set_index(entries, self.path, self.path + ".fai", gzi)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._handle: Any = None
        self._process = os.getpid()
        self._pieces: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._coded: OrderedDict[tuple[str, int], Codes] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_lock", "_handle", "_process", "_pieces", "_coded"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __repr__(self) -> str:
        return f"Fasta({self.path!r})"

    def _set_index(
        self, entries: list[fasta_index.IndexEntry], sequence: str, fai: str, gzi: str | None
    ) -> None:
        self.names: list[str] = [entry.name for entry in entries]
        self.lengths: dict[str, int] = {entry.name: entry.length for entry in entries}
        self._files = (sequence, fai, gzi)

    # --- cache -----------------------------------------------------------------------------

    @property
    def _entry(self) -> Path:
        where = hashlib.sha256(os.path.abspath(self.path).encode("utf-8", "surrogateescape")).hexdigest()[:20]
        state = hashlib.sha256(repr((_FORMAT, *self._state)).encode()).hexdigest()[:12]
        return self._cache / "fasta" / f"{where}-{state}"

    def _use_entry(self) -> bool:
        folder = self._entry
        try:
            described = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
            if described.pop("checksum") != _entry_checksum(folder, described):
                return False
            entries = fasta_index.read_fai(folder / "sequence.fai")
            digest = str(described["digest"])
            sequence = str(folder / "sequence.fa") if described["unpacked"] else self.path
            gzi = str(folder / "sequence.gzi") if described["bgzf"] else None
            if os.path.getsize(sequence) != described["sequence_size"] or (gzi and not os.path.isfile(gzi)):
                return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
        self._digest = digest
        self._set_index(entries, sequence, str(folder / "sequence.fai"), gzi)
        return True

    def _make_entry(self) -> None:
        """Scan the file and put index, digest and (where needed) an unpacked copy into the cache."""
        entry = self._entry
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            for left_over in entry.parent.glob(".new-*"):
                with contextlib.suppress(OSError):
                    if time.time() - left_over.stat().st_mtime > _DAY:
                        shutil.rmtree(left_over, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=".new-", dir=entry.parent))
        except OSError as error:
            raise self._cache_error(error) from None
        try:
            with open_binary(self.path, "FASTA file") as handle:
                kind = sniff(handle)
            scan = None if kind == "gzip" else fasta_index.scan(self.path)
            unpacked = scan is None or scan.uneven
            if scan is None or scan.uneven:
                logs.info(
                    f"{self.path} {'is plain gzip' if kind == 'gzip' else 'has lines of uneven length'}: "
                    f"unpacking it once into {entry}"
                )
                with open(folder / "sequence.fa", "wb") as copy:
                    scan = fasta_index.scan(self.path, copy)
            bgzf = kind == "bgzf" and not unpacked
            fasta_index.write_fai(folder / "sequence.fai", scan.entries)
            if bgzf:
                fasta_index.write_gzi(folder / "sequence.gzi", scan.blocks)
            described = {
                "path": os.path.abspath(self.path),
                "digest": scan.digest,
                "unpacked": unpacked,
                "bgzf": bgzf,
                "sequence_size": os.path.getsize(folder / "sequence.fa") if unpacked else self._state[0],
            }
            described["checksum"] = _entry_checksum(folder, described)
            (folder / "entry.json").write_text(json.dumps(described), encoding="utf-8")
            for path in folder.iterdir():
                with open(path, "rb") as written:
                    os.fsync(written.fileno())
            self.check_unchanged()
            if entry.exists() and not self._use_entry():
                shutil.rmtree(entry, ignore_errors=True)
            try:
                os.rename(folder, entry)
            except OSError:
                if not self._use_entry():
                    raise
            if not self._use_entry():
                raise OSError("what was written there cannot be read back")
            for other in entry.parent.glob(entry.name.split("-")[0] + "-*"):
                if other != entry:
                    shutil.rmtree(other, ignore_errors=True)
        except OSError as error:
            raise self._cache_error(error) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _cache_error(self, error: OSError) -> _CacheError:
        return _CacheError(
            f"an index of this FASTA must be stored, but the cache folder {self._cache} cannot be written "
            f"({error.strerror or error}); set GEXPR_CACHE to a writable folder with enough space",
            path=self.path,
        )

    def check_unchanged(self) -> None:
        """Raise InputError when the file is gone, or has another size or time than when it was opened."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise InputError(f"the file is gone: {error.strerror}", path=self.path) from None
        if (status.st_size, status.st_mtime_ns) != self._state:
            raise InputError("the file was changed while it was in use; start again", path=self.path)

    # --- reading ---------------------------------------------------------------------------

    def _read(self, contig: str, start: int, end: int) -> str:
        """Upper-case bases inside the contig, through the open file; call with the lock held."""
        import pysam

        verbosity = pysam.set_verbosity(0)
        try:
            if self._handle is None:
                self.check_unchanged()
                sequence, fai, gzi = self._files
                self._handle = pysam.FastaFile(sequence, filepath_index=fai, filepath_index_compressed=gzi)
            text = self._handle.fetch(contig, start, end)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{shown_name(contig)}:{start}-{end} cannot be read: {error}", path=self.path
            ) from None
        finally:
            pysam.set_verbosity(verbosity)
        if len(text) != end - start:
            raise InputError(
                f"{shown_name(contig)}:{start}-{end} gave {len(text)} bases; the file is damaged or changed",
                path=self.path,
            )
        return text.upper()

    def fetch(self, contig: str, start: int, end: int) -> str:
        """Upper-case bases of ``contig`` from ``start`` to ``end``, exactly ``end - start`` of them.

        Raises:
            InputError: unknown contig, or the interval is reversed or not inside the contig.
        """
        length = self._length(contig)
        if not 0 <= start <= end <= length:
            raise InputError(
                f"{shown_name(contig)}:{start}-{end} is not inside the contig, which has {length} bases",
                path=self.path,
            )
        if start == end:
            return ""
        self._after_fork()
        with self._lock:
            if end - start > _PIECE:
                return self._read(contig, start, end)
            first, last = start // _PIECE, (end - 1) // _PIECE
            text = self._piece(contig, first, length)
            if last > first:
                text += self._piece(contig, last, length)
        return text[start - first * _PIECE : end - first * _PIECE]

    def _after_fork(self) -> None:
        if self._process != os.getpid():
            self._reset()  # the file offset and perhaps a held lock are the parent's

    def _piece(self, contig: str, index: int, length: int) -> str:
        key = (contig, index)
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._read_piece(contig, index, length)
            self._pieces[key] = piece
            if len(self._pieces) > _KEPT_PIECES:
                self._pieces.popitem(last=False)
        return piece

    def _coded_piece(self, contig: str, index: int, length: int) -> Codes:
        key = (contig, index)
        coded = self._coded.get(key)
        if coded is None:
            coded = encode(self._pieces.get(key) or self._read_piece(contig, index, length))
            self._coded[key] = coded
            if len(self._coded) > _KEPT_PIECES:
                self._coded.popitem(last=False)
        return coded

    def _read_piece(self, contig: str, index: int, length: int) -> str:
        return self._read(contig, index * _PIECE, min((index + 1) * _PIECE, length))

    def _length(self, contig: str) -> int:
        try:
            return self.lengths[contig]
        except KeyError:
            raise InputError(f"the FASTA has no contig {shown(contig)}", path=self.path) from None

    def codes(self, contig: str, start: int, end: int) -> Codes:
        """Codes of an interval that may reach past either end of the contig, or lie outside it.

        Returns:
            uint8 array (end - start,); 4 outside the contig and for letters other than A C G T.

        Raises:
            InputError: unknown contig, or a reversed interval.
        """
        length = self._length(contig)
        if start > end:
            raise InputError(f"{shown_name(contig)}:{start}-{end} is a reversed interval", path=self.path)
        low, high = max(start, 0), min(end, length)
        codes = np.full(end - start, UNKNOWN, dtype=np.uint8)
        if low >= high:
            return codes
        first, last = low // _PIECE, (high - 1) // _PIECE
        if last - first >= _MOST_PIECES:
            codes[low - start : high - start] = encode(self.fetch(contig, low, high))
            return codes
        self._after_fork()
        with self._lock:
            for index in range(first, last + 1):
                at = index * _PIECE
                left, right = max(low, at), min(high, at + _PIECE)
                piece = self._coded_piece(contig, index, length)
                codes[left - start : right - start] = piece[left - at : right - at]
        return codes

    def digest(self) -> str:
        """SHA-256 (hex) of names, lengths and upper-case sequences, in file order.

        It does not depend on compression, line length or soft masking. Read from the cache when it
        has an entry for this path, size and modification time; otherwise the whole file is
        read (and checked), and the cache is filled if it can be written.
        """
        if self._digest is None:
            self.check_unchanged()
            index, lengths = self._files[1], self.lengths
            try:
                self._make_entry()
                found = self.lengths
            except _CacheError:
                scan = fasta_index.scan(self.path)
                self._digest = scan.digest
                found = {entry.name: entry.length for entry in scan.entries}
            if list(found.items()) != list(lengths.items()):
                raise InputError(f"the index {index} does not fit this FASTA; delete it", path=self.path)
        assert self._digest is not None
        return self._digest


def _entry_checksum(folder: Path, described: dict[str, Any]) -> str:
    """SHA-256 over a cache entry's description and index files (not over an unpacked copy)."""
    sha = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in ("sequence.fai", "sequence.gzi"):
        if (folder / name).is_file():
            sha.update((folder / name).read_bytes())
    return sha.hexdigest()


def _check_end(handle: Any, label: str) -> None:
    """The last 28 bytes of a BGZF file are the empty block that marks its end."""
    handle.seek(0, os.SEEK_END)
    size = handle.tell()
    handle.seek(max(size - 28, 0))
    if handle.read()[:4] != b"\x1f\x8b\x08\x04" or size < 28:
        raise InputError(
            "the BGZF end-of-file marker is missing: the file was probably cut short; copy or make it again",
            path=label,
            offset=size,
        )
