"""What the jobs share: opening the model, tracks and device, and describing them in the output."""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

import gexpr
from gexpr import checkpoints, logs
from gexpr.checkpoints import CheckpointInfo
from gexpr.errors import ConfigError
from gexpr.genome.contigs import ContigMap, read_aliases
from gexpr.genome.fasta import Fasta
from gexpr.results import Track
from gexpr.runs.blocks import BlockTask
from gexpr.runs.control import RunOptions
from gexpr.scoring.devices import device_kind, resolve_device, resolve_devices
from gexpr.scoring.members import numbered_tracks
from gexpr.scoring.predictor import Predictor, default_tracks, model_tracks
from gexpr.scoring.tracks import Selection, name_places, read_selection, select_tracks
from gexpr.writers.parts import Part

DTYPES = ("float32", "float16")


class ModelOptions(NamedTuple):
    """Which model predicts, and how; see :class:`gexpr.scoring.predictor.Predictor`.

    ``checkpoint`` is a name or folder, or several: an ensemble, all of whose members are in memory at once.
    ``tracks`` is a selection as in :func:`gexpr.scoring.tracks.select_tracks`; ``batch_size`` and
    ``threads`` None leave the choice to the program.
    """

    checkpoint: str | tuple[str, ...]
    tracks: str | Selection | None = None
    reverse_complement: bool = True
    shifts: tuple[int, ...] = (0,)
    batch_size: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    unsquash: bool = True
    auto_batch: bool = False
    compile: bool = False
    merge_strands: bool = False

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The checkpoints, of which most runs have one."""
        return member_names(self.checkpoint)


def member_names(checkpoint: str | tuple[str, ...]) -> tuple[str, ...]:
    """One checkpoint, or the members of an ensemble, as a tuple."""
    return (checkpoint,) if isinstance(checkpoint, str) else tuple(checkpoint)


def assign_devices(model: ModelOptions, run: RunOptions) -> tuple[ModelOptions, RunOptions]:
    """Give each worker process of a run its device: ``cuda:all`` and ``cuda:0,2`` become a list.

    Returns:
        The options of the first worker, and the run's options with all devices.

    Raises:
        ConfigError: CUDA devices together with ``--workers``, or an unknown name.
        GexprError: a CUDA device that is not there.
    """
    devices = tuple(str(device) for device in resolve_devices(model.device))
    if run.workers > 1 and not run.dask and devices != ("cpu",):
        raise ConfigError("--workers is for the CPU; --device cuda:all uses all CUDA devices")
    return model._replace(device=devices[0]), replace(run, devices=devices)


def input_files(
    first: str | None, fasta: str, checkpoint: str | tuple[str, ...], aliases: str | None
) -> list[str | None]:
    """Every file that a run reads; the first may be standard input, the checkpoint an ensemble."""
    inputs = [first, fasta, fasta + ".fai", fasta + ".gzi", aliases]
    for folder in filter(os.path.isdir, member_names(checkpoint)):
        inputs += [entry.path for entry in os.scandir(folder)]
    return inputs


BASES_A_BLOCK = {"cpu": 2**22, "cuda": 2**27}
"""Bases that a block shows to the model, at most, by type of device: some seconds' work."""
_MOST_ROWS = 4096
_ENOUGH_BLOCKS = 64


def block_rows(predictor: Predictor, rows: int, windows: float) -> int:
    """Rows a block: some seconds' work, and a share of all rows that many workers can divide.

    Args:
        predictor: its context, passes and device decide what a window costs.
        rows: rows in all.
        windows: windows that a row needs.
    """
    bases = windows * len(predictor.passes) * predictor.context_length
    most = int(min(_MOST_ROWS, BASES_A_BLOCK[predictor.device.type] // bases))
    # A few full batches at least: a block's last batch is padded.
    share = max(4 * predictor.batch_size, -(-rows // _ENOUGH_BLOCKS))
    return max(1, min(most, share))


class BatchSizes:
    """Collects the batch sizes with which the parts of a run were made, where ``--auto-batch`` changed them.

    Args:
        planned: the run's batch size.
    """

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._used: set[int] = set()

    def add(self, part: Part) -> None:
        """Take note of a part."""
        self.note(int(part.about.get(BATCH_SIZE, self._planned)))

    def note(self, size: int) -> None:
        """Take note of a batch size that was used."""
        self._used.add(size)

    def attributes(self) -> dict[str, str]:
        """An attribute for the output, if any part was not made with the planned size."""
        if self._used <= {self._planned}:
            return {}
        return {"auto_batch_sizes": ",".join(map(str, sorted(self._used)))}


BATCH_SIZE = "batch_size"
"""What a part calls the batch size with which it was made."""


def pack_tracks(tracks: Sequence[Track]) -> list[list[Any]]:
    """Tracks as JSON can hold them."""
    return [list(track) for track in tracks]


def unpack_tracks(packed: Sequence[Sequence[Any]]) -> tuple[Track, ...]:
    """What :func:`pack_tracks` packed."""
    return tuple(Track(*values) for values in packed)


def open_predictor(options: ModelOptions) -> Predictor:
    """Load the checkpoint, or all members of an ensemble, and make them ready.

    Raises:
        CheckpointError: a checkpoint is missing or damaged.
        ConfigError: a bad device, track or other setting, or checkpoints that are no ensemble.
    """
    device = resolve_device(options.device)
    if options.threads is not None:
        if options.threads < 1:
            raise ConfigError(f"threads must be at least 1, not {options.threads}")
        torch.set_num_threads(options.threads)
    models = checkpoints.load_all(options.checkpoints, device)
    tracks = select_tracks(model_tracks(models[0]), options.tracks, default_tracks(models[0]))
    return Predictor(
        models,
        tracks=tracks,
        device=device,
        batch_size=options.batch_size,
        reverse_complement=options.reverse_complement,
        shifts=options.shifts,
        precision=options.precision,
        unsquash=options.unsquash,
        auto_batch=options.auto_batch,
        compile=options.compile,
        merge_strands=options.merge_strands,
        names=options.checkpoints,
    )


def described_tracks(options: ModelOptions) -> list[Track]:
    """The tracks that :func:`open_predictor` would select, without loading the model.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        ConfigError: a track that is not there.
    """
    info = checkpoints.describe(options.checkpoints[0])
    heads = list(info.settings["heads"].values())
    known = info.tracks or numbered_tracks(sum(heads))
    return [known[index] for index in select_tracks(known, options.tracks, list(range(heads[0])))]


def describe_predictor(options: ModelOptions, predictor: Predictor) -> dict[str, Any]:
    """Attributes of an output: everything about the model that determines a prediction.

    Those of the members of an ensemble are joined by commas, in the members' order.
    """
    members = [checkpoints.describe(checkpoint) for checkpoint in options.checkpoints]
    return {
        "gexpr_version": gexpr.__version__,
        "torch_version": str(torch.__version__),
        "checkpoint": ",".join(info.name for info in members),
        "checkpoint_sha256": ",".join(info.weights_sha256 for info in members),
        "settings_sha256": ",".join(map(_digest_settings, members)),
        "architecture": ",".join(info.architecture for info in members),
        **({"ensemble_size": len(members)} if len(members) > 1 else {}),
        "tracks": name_places(track.index for track in predictor.used_tracks),
        "merge_strands": predictor.strands is not None,
        # The places above are sorted then, and do not tell the order of the columns.
        **({"merged_columns": _digest_columns(predictor)} if predictor.strands is not None else {}),
        "reverse_complement": predictor.reverse_complement,
        "shifts": ",".join(map(str, predictor.shifts)),
        "unsquash": predictor.unsquash,
        "precision": predictor.precision,
        "compiled": predictor.compile,
        "batch_size": predictor.batch_size,
        "device": device_kind(predictor.device),
        **({"mkl_cbwr": os.environ.get("MKL_CBWR", "")} if predictor.device.type == "cpu" else {}),
        "context_length": predictor.context_length,
        "target_length": predictor.target_length,
        "model_bin_size": predictor.bin_size,
    }


def _digest_settings(info: CheckpointInfo) -> str:
    settings = {
        "architecture": info.architecture,
        "settings": info.settings,
        "tracks": [(each.index, each.strand_pair, each.scale, each.transform) for each in info.tracks],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _digest_columns(predictor: Predictor) -> str:
    columns = json.dumps([(track.index, track.id) for track in predictor.tracks])
    return hashlib.sha256(columns.encode()).hexdigest()


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
            cast = values.astype(self.dtype, copy=False)
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


@dataclass(frozen=True)
class TaskOptions:
    """Options that every task has.

    Args:
        model: checkpoint, tracks, strands, shifts, batch, device and precision.
        contig_aliases: a table of contig names, or None.

    Raises:
        InputError: a file of tracks cannot be read.
    """

    model: ModelOptions
    contig_aliases: str | None = None

    def __post_init__(self) -> None:
        # Files of tracks are read once: a pipe has nothing for a second process.
        model = self.model._replace(tracks=read_selection(self.model.tracks))
        object.__setattr__(self, "model", model)


Options = TypeVar("Options", bound=TaskOptions)
Opened = TypeVar("Opened", bound="HasPredictor")


class HasPredictor(Protocol):
    """What every task has open."""

    @property
    def predictor(self) -> Predictor:
        """The model, ready to predict."""
        ...


class ModelTask(BlockTask, Generic[Options, Opened]):
    """A task that shows a file's rows, with their windows of a genome, to a model.

    Args:
        path: where the file can be read, any number of times.
        label: what it is called in messages and output; ``-`` is standard input.
        fasta: the genome.
        options: everything else.
    """

    def __init__(self, path: str, label: str, fasta: str, options: Options) -> None:
        self.path = path
        self.label = label
        self.fasta = fasta
        self.options = options
        self._opened: Opened | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @property
    def name(self) -> str:
        """What an output calls the file."""
        if self.label == "-":
            return "standard input"
        # The number of a pipe from the shell, <(...), may be another one when the run is continued.
        is_number = re.fullmatch(r"/(dev|proc/self)/fd/[0-9]+", self.label)
        return "a pipe" if is_number else os.path.basename(self.label)

    @property
    def device(self) -> str:
        """The name of the device on which this task computes."""
        return self.options.model.device

    def on_device(self, device: str, threads: int | None) -> BlockTask:
        """The same task on another device, with a number of CPU threads unless the options have one."""
        model = self.options.model
        model = model._replace(device=device, threads=model.threads or threads)
        return type(self)(self.path, self.label, self.fasta, replace(self.options, model=model))

    def absolute(self) -> BlockTask:
        """The same task with absolute paths, for processes that work in another folder."""
        model, aliases = self.options.model, self.options.contig_aliases
        found = tuple(os.path.abspath(each) if os.path.isdir(each) else each for each in model.checkpoints)
        model = model._replace(checkpoint=found if len(found) > 1 else found[0])
        options = replace(
            self.options, model=model, contig_aliases=None if aliases is None else os.path.abspath(aliases)
        )
        return type(self)(os.path.abspath(self.path), self.label, os.path.abspath(self.fasta), options)

    def close(self) -> None:
        """Let go of inputs and model; they are opened again when they are needed."""
        self._opened = None

    def open(self) -> Opened:
        """Inputs and model, opened once a process."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    @abstractmethod
    def _open(self) -> Opened: ...

    @property
    def forwards(self) -> int:
        """Forward passes that this process has made for the task."""
        return 0 if self._opened is None else self._opened.predictor.forwards

    def open_genome(self) -> tuple[Fasta, ContigMap]:
        """The genome, and what its contigs are called elsewhere."""
        genome = Fasta(self.fasta)
        path = self.options.contig_aliases
        return genome, ContigMap(genome.names, read_aliases(path) if path else None)
