"""What the jobs share: opening the model, tracks and device, and describing them in the output."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import gexpr
from gexpr import checkpoints, logs
from gexpr.errors import ConfigError, GexprError
from gexpr.genome.fasta import Fasta
from gexpr.models.base import SequenceModel
from gexpr.scoring.devices import device_kind, resolve_device
from gexpr.scoring.predictor import Predictor, model_tracks
from gexpr.scoring.tracks import select_tracks


class Terminated(GexprError):
    """A signal asked the process to end; what was being written has been removed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; no output was written")
        self.exit_code = 128 + number


@contextmanager
def terminable() -> Iterator[None]:
    """Turn the first SIGTERM or SIGHUP inside the block into :class:`Terminated`; a second one ends at once.

    Without it such a signal ends the process where it stands and leaves unfinished files behind.
    Signals that are ignored (``nohup``) or handled already are left alone, and so are threads
    other than the main one, which cannot take signals.
    """
    taken: list[int] = []

    def restore() -> None:
        while taken:
            signal.signal(taken.pop(), signal.SIG_DFL)

    def stop(number: int, _frame: FrameType | None) -> None:
        restore()
        raise Terminated(number)

    try:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                    signal.signal(number, stop)
                    taken.append(number)
        yield
    finally:
        restore()


DTYPES = ("float32", "float16")


class ModelOptions(NamedTuple):
    """Which model predicts, and how; see :class:`gexpr.scoring.predictor.Predictor`.

    ``tracks`` is a selection as in :func:`gexpr.scoring.tracks.select_tracks`; ``batch_size`` and
    ``threads`` None leave the choice to the program.
    """

    checkpoint: str
    tracks: str | None = None
    reverse_complement: bool = True
    shifts: tuple[int, ...] = (0,)
    batch_size: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    unsquash: bool = True


def open_predictor(options: ModelOptions) -> Predictor:
    """Load the checkpoint and make it ready.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        ConfigError: a bad device, track or other setting.
    """
    device = resolve_device(options.device)
    if options.threads is not None:
        if options.threads < 1:
            raise ConfigError(f"threads must be at least 1, not {options.threads}")
        torch.set_num_threads(options.threads)
    model: SequenceModel = checkpoints.load(options.checkpoint, device)
    tracks = select_tracks(model_tracks(model), options.tracks) if options.tracks else None
    return Predictor(
        model,
        tracks=tracks,
        device=device,
        batch_size=options.batch_size,
        reverse_complement=options.reverse_complement,
        shifts=options.shifts,
        precision=options.precision,
        unsquash=options.unsquash,
    )


def describe_predictor(options: ModelOptions, predictor: Predictor) -> dict[str, Any]:
    """Attributes of an output: everything about the model that determines a prediction."""
    info = checkpoints.describe(options.checkpoint)
    settings = {
        "architecture": info.architecture,
        "settings": info.settings,
        "tracks": [(each.index, each.strand_pair, each.scale, each.transform) for each in info.tracks],
    }
    return {
        "gexpr_version": gexpr.__version__,
        "torch_version": str(torch.__version__),
        "checkpoint": info.name,
        "checkpoint_sha256": info.weights_sha256,
        "settings_sha256": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "architecture": info.architecture,
        "reverse_complement": predictor.reverse_complement,
        "shifts": ",".join(map(str, predictor.shifts)),
        "unsquash": predictor.unsquash,
        "precision": predictor.precision,
        "batch_size": predictor.batch_size,
        "device": device_kind(predictor.device),
        "context_length": predictor.context_length,
        "target_length": predictor.target_length,
        "model_bin_size": predictor.bin_size,
    }


def describe_fasta(fasta: Fasta) -> dict[str, Any]:
    """Attributes of an output: which genome was used."""
    return {"fasta": os.path.basename(fasta.path), "fasta_digest": fasta.digest()}


class DtypeCast:
    """Casts results to the output's number type and warns once when a value does not fit.

    Args:
        dtype: ``float32`` or ``float16``.

    Raises:
        ConfigError: another type.
    """

    def __init__(self, dtype: str) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"unknown number type {dtype!r} (known: {', '.join(DTYPES)})")
        self.dtype = dtype
        self._warned = False

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.floating]:
        """The values in the output's type; what is too large for float16 becomes infinite."""
        with np.errstate(over="ignore"):
            cast = values.astype(self.dtype)
        if not self._warned and self.dtype == "float16" and np.isinf(cast).any():
            self._warned = True
            logs.warning("values beyond 65,504 became infinite in float16; use --dtype float32")
        return cast


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 variant``, ``12,345 variants``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text as aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
