"""The state of a run on disk: written atomically, read without executing anything."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gexpr.errors import GexprError, InputError

FORMAT = "gexpr-training-state"
FORMAT_VERSION = 1


def write_atomically(path: Path, write: Any) -> None:
    """Call ``write(binary file)`` on a temporary file, fsync it and rename it to ``path``."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the file is complete or not there."""
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, **state}
    write_atomically(path, lambda handle: torch.save(content, handle))


def load_state(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU (``weights_only``: no code is run).

    Raises:
        InputError: damaged, or not a state of this version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise InputError(
            f"the saved training state cannot be read ({type(error).__name__}); start over with --restart",
            path=path,
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError("not a saved training state", path=path)
    if state.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"saved by another version of gexpr (state version {state.get('format_version')}); "
            "start over with --restart",
            path=path,
        )
    return state


def random_state() -> dict[str, Any]:
    """The state of torch's, numpy's and Python's global random generators as storable values."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # type: ignore[misc]
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` gave."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if torch.cuda.is_available() and len(state.get("cuda", [])) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def peak_memory() -> float:
    """The most memory this process has held since it was started, in MiB."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder against a second training in it.

    Raises:
        GexprError: another process trains there.
    """
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise GexprError(f"{folder}: another training is running in this folder") from error
        yield
