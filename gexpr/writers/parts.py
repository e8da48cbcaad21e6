"""Finished blocks of a run: one file each, complete and checked or absent.

A part is one line of text, ``gexpr part 1`` and the SHA-256 of what follows, and then an
uncompressed NumPy archive: the arrays of the block and a JSON text about it. It is written
under a temporary name, brought to the disk and renamed, because of all layouts tried that is
the only one which no ``kill -9`` damages.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import GexprError
from gexpr.writers.output import publish

_MAGIC = b"gexpr part 1 "
_ABOUT = "about"


class Part(NamedTuple):
    """What a part holds: arrays by name, and anything that JSON can hold."""

    arrays: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]


class DamagedPartError(GexprError):
    """A part whose content is not what was written."""


def write_part(path: Path, part: Part) -> int:
    """Write a part; it has its name only when all of it is on the disk.

    Returns:
        Its size in bytes.

    Raises:
        GexprError: it cannot be written, for want of space, say; nothing is left behind.
    """
    if _ABOUT in part.arrays:
        raise ValueError(f"no array of a part may be called {_ABOUT!r}")
    text = json.dumps(part.about).encode("ascii")
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=False, **{_ABOUT: np.frombuffer(text, dtype=np.uint8)}, **part.arrays)
    payload = archive.getbuffer()
    head = _MAGIC + hashlib.sha256(payload).hexdigest().encode("ascii") + b"\n"
    publish(path, (head, payload))
    return len(head) + len(payload)


def read_part(path: Path) -> Part:
    """Read a part and check all of it.

    Raises:
        DamagedPartError: it is not as it was written.
        GexprError: it cannot be read, or is not there.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GexprError(f"cannot read {path}: {error.strerror or error}") from None
    head, newline, _ = data[: len(_MAGIC) + 65].partition(b"\n")
    payload = memoryview(data)[len(head) + 1 :]
    if not newline or head != _MAGIC + hashlib.sha256(payload).hexdigest().encode("ascii"):
        raise DamagedPartError(f"{path} is damaged: its SHA-256 is not the one it was written with")
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    about = json.loads(arrays.pop(_ABOUT).tobytes())
    return Part(arrays, about)
