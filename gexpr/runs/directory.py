"""The folder in which a run works: its manifest, its finished blocks, who is at work, and a log.

::

    OUT.run/
        manifest.json        what is computed, from what, in which blocks; the first writer wins
        parts/000012.part    block 12, complete (gexpr.writers.parts)
        logs/HOST-PID-TIME.jsonl
                             what one process did; the only place for hosts, times and shards
        locks/               one file a shard, locked while a process works on it
        published.json       outputs that have or are about to get their names, until the run is closed
        input.vcf            standard input, where that was the VCF

Parts are the only truth about what is done: a block is finished when its file has its name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.writers.output import publish, remove_leftovers
from gexpr.writers.parts import DamagedPartError, Part, read_part, write_part

FORMAT = "gexpr run"
FORMAT_VERSION = 1

_MANIFEST = "manifest.json"
_SPOOLED = "input.vcf"
_PUBLISHED = "published.json"
_FOLDERS = ("parts", "logs", "locks")
_STARTED = time.time_ns() // 1_000_000


class Block(NamedTuple):
    """A half-open range of output rows."""

    start: int
    end: int


class Manifest(NamedTuple):
    """What a run computes.

    Args:
        command: ``score-variants`` or ``predict``.
        fingerprint: everything that determines the numbers: attributes of inputs, model, options and
            versions, in canonical form. Two processes work on the same run when these are equal.
        rows: output rows.
        block_rows: rows a block; the last one may be shorter.
        content: what the output needs besides the parts, and what was decided before the start.
    """

    command: str
    fingerprint: Mapping[str, Any]
    rows: int
    block_rows: int
    content: Mapping[str, Any]

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.block_rows)

    def block(self, number: int) -> Block:
        """Rows of one block."""
        start = number * self.block_rows
        return Block(start, min(start + self.block_rows, self.rows))

    @property
    def run_id(self) -> str:
        """SHA-256 (hex) of command, fingerprint and blocks; every part carries it."""
        return _digest([self.command, self.fingerprint, self.rows, self.block_rows])

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION, **self._asdict(), "blocks": self.blocks}
        return json.dumps({**values, "sha256": _digest(values)}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what :meth:`to_json` wrote; ValueError or KeyError for anything else."""
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError("not the manifest of a gexpr run")
        if values.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"version {values.get('format_version')} of the format is not known")
        if values.pop("sha256", None) != _digest(values):
            raise ValueError("its SHA-256 is not the one it was written with")
        return cls(*(values[name] for name in cls._fields))


def _digest(values: Any) -> str:
    """SHA-256 (hex) of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class RunDirectory:
    """A run's folder; holds a path, no open files, and can be pickled.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    # --- life ------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the folder, or accept one that a run has made.

        Raises:
            GexprError: it cannot be made, or holds something else.
        """
        try:
            self.path.mkdir(exist_ok=True)
            # Empty folders are those of a process that is just starting, or was killed there.
            foreign = [
                entry.name
                for entry in sorted(os.scandir(self.path), key=lambda entry: entry.name)
                if entry.name not in _FOLDERS or not entry.is_dir() or os.listdir(entry)
            ]
            if foreign and not self._is_ours():
                raise GexprError(
                    f"{self.path} is not a run directory: it holds {foreign[0]!r}; give another --run-dir"
                )
            for name in _FOLDERS:
                (self.path / name).mkdir(exist_ok=True)
        except FileNotFoundError:
            raise GexprError(
                f"cannot make the run directory {self.path}: the folder {self.path.parent} does not exist"
            ) from None
        except OSError as error:
            raise GexprError(
                f"cannot make the run directory {self.path}: {error.strerror or error}; "
                "--run-dir puts it elsewhere"
            ) from error

    def refuse_output(self, output: str) -> None:
        """Raise ConfigError when an output would be this folder, or lie in it and be removed with it."""
        if output == "-":
            return
        folder, path = os.path.realpath(self.path), os.path.realpath(output)
        if folder == path:
            raise ConfigError(f"the output and the run directory are both {output}; give another --run-dir")
        if os.path.commonpath((folder, path)) == folder:
            raise ConfigError(
                f"the output {output} lies in the run directory {self.path}, which is removed in the end; "
                "give another name"
            )

    def exists(self) -> bool:
        """Whether a run has been planned here."""
        return self._has_manifest()

    def _has_manifest(self) -> bool:
        return (self.path / _MANIFEST).is_file()

    def _is_ours(self) -> bool:
        """Whether a run has worked here, so that what has the names of its files may be removed."""
        if any((self.path / "locks").glob("shard-*-of-*")):
            return True
        try:
            return bool(json.loads((self.path / _MANIFEST).read_bytes())["format"] == FORMAT)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def restart(self) -> None:
        """Forget manifest and finished blocks; the manifest goes first, so that no old part counts."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / _MANIFEST).unlink()
        for name in ("parts", "logs", _SPOOLED):
            self._remove(self.path / name)
        self.create()

    def close(self, *, keep: bool) -> None:
        """End a run whose outputs have their names: remove it, or keep what it has computed."""
        if keep:
            with contextlib.suppress(OSError):
                (self.path / _PUBLISHED).unlink(missing_ok=True)
        else:
            self.remove()

    def remove(self) -> None:
        """Remove everything that a run puts here, and the folder if nothing else is in it."""
        try:
            # The locks go last: they say that the rest is a run's, should this be interrupted.
            for name in (_MANIFEST, "parts", "logs", _SPOOLED, _PUBLISHED):
                remove_leftovers(self.path / name)
                self._remove(self.path / name)
            self._remove(self.path / "locks")
            self.path.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                logs.warning(f"the run directory {self.path} could not be removed: {error.strerror or error}")

    def remove_if_unused(self) -> None:
        """Remove a folder in which no run was planned and nobody is at work, after a failure before the plan.

        Another process may be about to finish the plan: it holds its lock. Where there are no locks,
        the folder stays.
        """
        if not self.path.is_dir() or self._has_manifest():
            return
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for path in (self.path / "locks").iterdir():
                fcntl.flock(held.enter_context(open(path, "a+b")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._has_manifest():
                self.remove()

    @staticmethod
    def _remove(path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    # --- manifest --------------------------------------------------------------------------

    def manifest(self) -> Manifest:
        """The plan of the run.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        path = self.path / _MANIFEST
        try:
            return Manifest.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError("not a run directory: it has no manifest.json", path=self.path) from None
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", path=path) from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"it is damaged: {error}; --restart makes a new one", path=path) from None

    def agree(self, manifest: Manifest) -> None:
        """Write the manifest, or check that the one that is there is for the same numbers.

        That one counts then; it may divide the rows into other blocks.

        Raises:
            GexprError: another run is there; the message says in what it differs.
        """
        if publish(self.path / _MANIFEST, [manifest.to_json().encode()], replace=False):
            return
        self.check(manifest.command, manifest.fingerprint)
        ours = Manifest.from_json(manifest.to_json())
        if self.manifest()._replace(block_rows=ours.block_rows) != ours:
            raise GexprError(f"{self.path} holds another plan of the same run; --restart starts over")

    def check(self, command: str, fingerprint: Mapping[str, Any]) -> None:
        """Raise GexprError, with what differs, unless the run that is there has this fingerprint."""
        there = self.manifest()
        if there.command != command:
            raise GexprError(f"{self.path} is a run of gexpr {there.command}; give another --run-dir")
        ours = json.loads(json.dumps(fingerprint))
        differences = [
            "{} is {} there and {} here".format(name, *_short(there.fingerprint.get(name), ours.get(name)))
            for name in sorted({*ours, *there.fingerprint})
            if ours.get(name) != there.fingerprint.get(name)
        ]
        if differences:
            raise GexprError(
                f"{self.path} holds a run that differs from this one: {'; '.join(differences)}. "
                "Give the same input and options to continue it, --restart to discard it, "
                "or another --run-dir"
            )

    # --- parts -----------------------------------------------------------------------------

    def part_path(self, block: int) -> Path:
        """Where the part of a block is or will be."""
        return self.path / "parts" / f"{block:06d}.part"

    def finished(self) -> set[int]:
        """Numbers of the blocks whose part is there."""
        try:
            names = os.listdir(self.path / "parts")
        except OSError:
            return set()
        stems = (name.removesuffix(".part") for name in names if name.endswith(".part"))
        return {int(stem) for stem in stems if stem.isdecimal()}

    def write(self, manifest: Manifest, block: int, part: Part) -> int:
        """Publish the part of a block; returns its size in bytes."""
        about = {**part.about, "block": block, "run": manifest.run_id}
        return write_part(self.part_path(block), part._replace(about=about))

    def read(self, manifest: Manifest, block: int) -> Part:
        """Read and check the part of a block.

        Raises:
            DamagedPartError: it is damaged, or belongs to another run or block.
        """
        path = self.part_path(block)
        part = read_part(path)
        if (part.about.get("block"), part.about.get("run")) != (block, manifest.run_id):
            raise DamagedPartError(f"{path} belongs to another run or block")
        return part

    def set_aside(self, block: int) -> Path:
        """Take a damaged part out of the run: it gets another name; returns that."""
        path = self.part_path(block)
        aside = path.with_suffix(".damaged")
        os.replace(path, aside)
        return aside

    def clean(self) -> None:
        """Remove what killed processes of this host left unfinished."""
        for entry in list(os.scandir(self.path / "parts")) + list(os.scandir(self.path)):
            if entry.name.startswith(".") and entry.name.endswith(".part"):
                named = entry.name[1:].rsplit(".", 3)[0]
                remove_leftovers(Path(entry.path).with_name(named))

    # --- outputs ---------------------------------------------------------------------------

    def announce(self, files: Iterable[tuple[Path, Path] | None]) -> None:
        """Note that finished files are about to get their names.

        A process that is killed between two of them leaves the first: with this note, the same command finds
        that it is the run's own and may be replaced. A note that cannot be written is no error.

        Args:
            files: temporary and final name of each, None for a stream.
        """
        with contextlib.suppress(OSError, GexprError):
            known = {str(final): _identity(temporary) for temporary, final in filter(None, files)}
            if known:
                publish(self.path / _PUBLISHED, [json.dumps(known).encode()])

    def published(self, output: str) -> bool:
        """Whether a file is one that :meth:`announce` was told of, unchanged, in a run that is not closed."""
        if not self.exists():
            return False
        try:
            known = json.loads((self.path / _PUBLISHED).read_bytes())
            path = os.path.realpath(output)
            return bool(known[path] == _identity(path))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    # --- standard input --------------------------------------------------------------------

    def spooled(self) -> Path:
        """Where standard input is stored."""
        return self.path / _SPOOLED

    def spool(self, stream: IO[bytes], label: str = "-") -> Path:
        """Store standard input; when it is empty, what an earlier process stored is used.

        Args:
            stream: standard input, or another thing that can be read once only.
            label: what messages call it.

        Raises:
            GexprError: it is empty and nothing is stored, cannot be stored, or differs from what is stored.
        """
        stored = self.spooled()
        first = stream.read(1 << 20)
        if not first:
            if stored.exists():
                return stored
            raise InputError("the file is empty (0 bytes), and no earlier run has stored it", path=label)
        given = hashlib.sha256()

        def pieces() -> Iterator[bytes]:
            piece = first
            while piece:
                given.update(piece)
                yield piece
                piece = stream.read(1 << 20)

        if not stored.exists():
            if publish(stored, pieces(), replace=False):
                return stored
            # Another process has stored its input in the meantime.
        else:
            for _ in pieces():
                pass
        known = hashlib.sha256()
        with open(stored, "rb") as there:
            while piece := there.read(1 << 20):
                known.update(piece)
        if known.digest() != given.digest():
            raise GexprError(
                f"{self.path} holds a run of another standard input; give the same input to continue it, "
                "--restart to discard it, or another --run-dir"
            )
        return stored

    # --- locks -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock of a shard; the system frees it when the process ends, however it ends.

        Where the file system has no locks, the work goes on without: two processes then do the same
        work twice, with the same result.

        Raises:
            GexprError: another process holds it.
        """
        path = self.path / "locks" / name
        try:
            # Unbuffered: on a full disk nothing is left that closing the file would try to write again.
            file = open(path, "a+b", buffering=0)
        except OSError as error:
            raise GexprError(f"cannot write {path}: {error.strerror or error}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().decode("utf-8", "replace").strip() or "another process"
                raise GexprError(
                    f"{holder} is at work on {name.replace('-', ' ')} of {self.path}; wait for it, "
                    "or divide the work with --shard"
                ) from None
            except OSError:
                pass
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield


class RunLog:
    """One process's file in ``logs``: one JSON object a line. A log that cannot be written is no error."""

    def __init__(self, directory: RunDirectory) -> None:
        self._who = {"host": socket.gethostname(), "pid": os.getpid()}
        stamp = f"{self._who['host']}-{os.getpid()}-{_STARTED}"
        self._path = directory.path / "logs" / f"{stamp}.jsonl"

    def write(self, event: str, **values: Any) -> None:
        """Add one line: the event, the time (seconds since 1970), host, process and ``values``."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **self._who, **values})
        with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_logs(directory: RunDirectory) -> list[dict[str, Any]]:
    """Every readable line of all logs, in the order of time; each has an ``event`` and a ``time``."""
    lines: list[dict[str, Any]] = []
    for path in sorted((directory.path / "logs").glob("*.jsonl")):
        try:
            texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for text in texts:
            # A killed process may leave half a line.
            with contextlib.suppress(ValueError):
                value = json.loads(text)
                if (
                    isinstance(value, dict)
                    and "event" in value
                    and isinstance(value.get("time"), (int, float))
                ):
                    lines.append(value)
    return sorted(lines, key=lambda line: line["time"])


def _identity(path: str | os.PathLike[str]) -> list[int]:
    """What a file keeps when it is renamed, and hardly shares with another."""
    status = os.stat(path)
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def name_blocks(blocks: Iterable[int], limit: int = 10) -> str:
    """``3, 5 to 8 and 12``: numbers of blocks for a message."""
    runs: list[list[int]] = []
    for block in sorted(blocks):
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    texts = [str(low) if low == high else f"{low} to {high}" for low, high in runs]
    if len(texts) > limit:
        return ", ".join(texts[:limit]) + f" and {len(texts) - limit} more ranges"
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _short(*values: Any) -> list[str]:
    """Values that differ, as text short enough for a message; of long ones what surrounds the difference."""
    texts = ["not set" if value is None else repr(value) for value in values]
    pairs = enumerate(zip(*texts, strict=False))
    start = max(0, next((place for place, characters in pairs if len(set(characters)) > 1), 0) - 20)
    shown = [text if len(text) <= 60 or not start else "..." + text[start:] for text in texts]
    return [text if len(text) <= 60 else text[:57] + "..." for text in shown]


def command_line() -> list[str]:
    """The command as it was called, for a log."""
    return list(sys.argv)
