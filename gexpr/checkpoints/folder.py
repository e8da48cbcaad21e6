"""Writing, reading and describing checkpoint folders (docs/checkpoints.md specifies them)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gexpr
from gexpr.checkpoints.names import resolve
from gexpr.checkpoints.tracks import check_tracks, read_tracks, with_own_pairs, write_tracks
from gexpr.checkpoints.weights import (
    FLOAT_DTYPES,
    PICKLE_SUFFIXES,
    PICKLED,
    TensorEntry,
    brief,
    control_character,
    foreign_kind,
    fsync,
    parse_json,
    read_header,
    sha256,
)
from gexpr.errors import CheckpointError, GexprError, InputError, did_you_mean, shown
from gexpr.results import Track

if TYPE_CHECKING:
    import torch

    from gexpr.models.base import SequenceModel

FORMAT_VERSION = 1
CONFIG, WEIGHTS, TRACKS, CARD = "config.json", "model.safetensors", "tracks.tsv", "README.md"
CONFIG_KEYS = ("format_version", "gexpr_version", "architecture", "settings", "training", "weights_sha256")
MAX_CONFIG_BYTES = 8 << 20
MAX_CONFIG_DEPTH = 14
#: Beyond any model: a config that claims more bases is damaged.
MAX_CONTEXT_LENGTH = 1 << 26
#: Settings that count layers (or doublings of the bin size), which no file has more of than tensors.
LAYER_COUNTS = ("depth", "dilated_layers", "num_downsamples")
MAX_RANDOM_BLOCKS = 512
#: Blocks of a sequence up to which the share of attended pairs is worked out, which takes their square.
MAX_DENSITY_BLOCKS = 4096


class CheckpointInfo(NamedTuple):
    """What a checkpoint is, without its weights.

    ``context_length`` and ``bin_size`` are in bp, ``target_length`` and ``crop`` in bins (``crop`` on
    each side). ``parameters`` counts trained numbers (no running statistics), ``size`` is the bytes of
    the weights file, ``attended_share`` the share of block pairs that a block-sparse model attends (None for
    others, and where there are too many to count), ``settings`` are the architecture's own, ``training`` is
    the summary that its training wrote.
    """

    name: str
    path: Path
    architecture: str
    settings: dict[str, Any]
    context_length: int
    bin_size: int
    target_length: int
    crop: int
    tracks: list[Track]
    parameters: int
    size: int
    dtypes: tuple[str, ...]
    attended_share: float | None
    training: dict[str, Any]
    weights_sha256: str
    gexpr_version: str


class _Config(NamedTuple):
    architecture: str
    settings: dict[str, Any]
    training: dict[str, Any]
    weights_sha256: str
    gexpr_version: str


def save(
    folder: str | os.PathLike[str],
    model: SequenceModel,
    tracks: Sequence[Track],
    training: Mapping[str, Any],
    card: str,
    *,
    dtype: str = "float32",
) -> Path:
    """Write a checkpoint folder; it appears complete or not at all.

    Args:
        folder: where; a checkpoint that is already there is replaced, anything else is refused.
        model: a model of ``gexpr.models``; all of its tensors are in its state.
        tracks: one row an output, as many as the config's heads have together.
        training: JSON-able summary of the training, shown by ``gexpr inspect``.
        card: text of the model card, README.md.
        dtype: ``float32``, or ``float16`` for half the size (rounds weights to 11 significant bits;
            loading gives float32 again).

    Returns:
        The folder.

    Raises:
        CheckpointError: when the model has NaN or infinite weights, the tracks do not fit, or the
            folder holds something else.
    """
    import torch
    from safetensors.torch import save_file

    from gexpr.models import registry

    folder = Path(folder)
    if dtype not in ("float32", "float16"):
        raise CheckpointError(f"dtype {dtype!r} is neither 'float32' nor 'float16'")
    outputs = sum(model.config.heads.values())
    if len(tracks) != outputs:
        raise CheckpointError(f"{len(tracks)} tracks for a model with {outputs} outputs")
    try:
        check_tracks(with_own_pairs(tracks))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    _refuse_to_replace(folder)

    target_dtype = getattr(torch, dtype)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        stored = tensor.detach().to("cpu", copy=True).contiguous()
        if stored.is_floating_point():
            stored = stored.to(target_dtype)
            _check_finite(folder, name, stored)
        state[name] = stored

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        save_file(state, temporary / WEIGHTS)
        write_tracks(temporary / TRACKS, tracks)
        (temporary / CARD).write_text(card.rstrip("\n") + "\n", encoding="utf-8")
        config = {
            "format_version": FORMAT_VERSION,
            "gexpr_version": gexpr.__version__,
            "architecture": registry.architecture_of(model),
            "settings": model.config.to_dict(),
            "training": dict(training),
            "weights_sha256": sha256(temporary / WEIGHTS),
        }
        text = json.dumps(config, indent=2, allow_nan=False, ensure_ascii=False)
        (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")
        for name in (WEIGHTS, TRACKS, CARD, CONFIG):
            (temporary / name).chmod(0o644)
            fsync(temporary / name)
        temporary.chmod(0o755)
        fsync(temporary)
        _replace(temporary, folder)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: the training summary or settings are not JSON: {error}") from error
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)
    return folder


def load(name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu") -> SequenceModel:
    """Load a model from a built-in checkpoint or a checkpoint folder.

    The weights' SHA-256, the tensors' names and shapes and that every number is finite are verified;
    nothing in the folder is executed.

    Args:
        name_or_path: a name of :func:`builtin_names` or a folder.
        device: where the model goes.

    Returns:
        A ``torch.nn.Module`` in eval mode: (batch, context_length, 4) one-hot float32 to
        (batch, target_length, tracks), with ``.config`` and ``.tracks``.

    Raises:
        CheckpointError: for anything damaged, incomplete or foreign, saying which.
        InputError: for a fault in ``tracks.tsv``, with its line.
    """
    folder, config, tracks, entries, model = _open(name_or_path)
    path = folder / WEIGHTS
    # The tensors take the places of the skeleton's: drawing weights first would take longer than all else.
    precisions = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    with ThreadPoolExecutor(1) as pool, _readable(folder):
        digest = pool.submit(sha256, path)
        state = _read_tensors(path, list(entries))
        # Copies, since those read are parts of the file as it is at any time.
        own = {name: tensor.to(precisions[name], copy=True) for name, tensor in state.items()}
        found = digest.result()
    if found != config.weights_sha256:
        raise CheckpointError(
            f"{path}: SHA-256 is {found}, {CONFIG} says {config.weights_sha256}: "
            "the file was changed or damaged; get it again"
        )
    for name, entry in entries.items():
        if entry.dtype in FLOAT_DTYPES:
            _check_finite(path, name, own[name])
    model.load_state_dict(own, strict=True, assign=True)
    assert not any(tensor.is_meta for tensor in model.buffers()), "a tensor that is not in the state"
    model.tracks = tracks
    return model.to(device).eval()


def describe(name_or_path: str | os.PathLike[str]) -> CheckpointInfo:
    """Describe a checkpoint from its config, tracks and the header of its weights.

    The tensors' names, shapes and the file's length are checked, the weights themselves are not read.

    Raises:
        CheckpointError, InputError: as :func:`load`.
    """
    folder, config, tracks, entries, skeleton = _open(name_or_path)
    return CheckpointInfo(
        name=folder.resolve().name,
        path=folder,
        architecture=config.architecture,
        settings=config.settings,
        context_length=skeleton.context_length,
        bin_size=skeleton.bin_size,
        target_length=skeleton.target_length,
        crop=skeleton.crop,
        tracks=tracks,
        parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        size=(folder / WEIGHTS).stat().st_size,
        dtypes=tuple(sorted({entry.dtype for entry in entries.values() if entry.dtype in FLOAT_DTYPES})),
        attended_share=_attended_share(skeleton),
        training=config.training,
        weights_sha256=config.weights_sha256,
        gexpr_version=config.gexpr_version,
    )


def _open(
    name_or_path: str | os.PathLike[str],
) -> tuple[Path, _Config, list[Track], dict[str, TensorEntry], SequenceModel]:
    """All checks that need no weights; the model returned lies on the meta device (no memory)."""
    import torch

    from gexpr.models import registry

    folder = resolve(name_or_path)
    with _readable(folder):
        _check_files(folder)
        config = _read_config(folder / CONFIG)
        if config.architecture not in registry.names():
            raise CheckpointError(
                f"{folder / CONFIG}: unknown architecture {shown(config.architecture)}; "
                f"this version of gexpr has {', '.join(registry.names())}"
                f"{did_you_mean(config.architecture, registry.names())}"
            )
        entries = read_header(folder / WEIGHTS)
    _check_sizes(folder / CONFIG, config.settings, len(entries))
    try:
        model_config = registry.config_from_dict(config.architecture, config.settings)
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            skeleton = registry.build(config.architecture, config.settings)
    except (GexprError, ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        # Sizes that fit no tensor end in errors of torch, of several kinds.
        raise CheckpointError(f"{folder / CONFIG}: settings: {brief(error)}") from error
    _check_tensors(folder / WEIGHTS, entries, skeleton)
    tracks = read_tracks(folder / TRACKS)
    outputs = sum(model_config.heads.values())
    if len(tracks) != outputs:
        raise InputError(
            f"{len(tracks)} tracks, the model of {CONFIG} has {outputs} outputs", path=folder / TRACKS
        )
    return folder, config, tracks, entries, skeleton


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn a failure of the file system into CheckpointError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or folder}: cannot be read: {error.strerror or error}"
        ) from error


def _read_tensors(path: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: safetensors cannot read it: {brief(error)}") from error


def _attended_share(skeleton: SequenceModel) -> float | None:
    density = getattr(skeleton, "density", None)
    block_bases = skeleton.bin_size * getattr(skeleton.config, "block_size", 1)
    if density is None or skeleton.context_length > block_bases * MAX_DENSITY_BLOCKS:
        return None
    return float(density())


def _check_files(folder: Path) -> None:
    for name in (CONFIG, WEIGHTS, TRACKS):
        path = folder / name
        if path.is_file():
            continue
        pickled = sorted(item.name for item in folder.iterdir() if item.suffix.lower() in PICKLE_SUFFIXES)
        if name == WEIGHTS and pickled:
            refusal = PICKLED.format(Path(pickled[0]).suffix)
            raise CheckpointError(f"{folder}: no {WEIGHTS}; {pickled[0]}: {refusal}")
        raise CheckpointError(f"{folder}: not a complete checkpoint: {name} is missing")
    for name in (CONFIG, TRACKS):
        kind = foreign_kind(folder / name)
        if kind is not None:
            raise CheckpointError(f"{folder / name}: {kind}")


def _read_config(path: Path) -> _Config:
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{path}: {size} bytes is too large for a {CONFIG}")
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {brief(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    _check_values(path, content)
    version = content.get("format_version")
    if version is None:
        raise CheckpointError(f"{path}: no 'format_version': not a gexpr checkpoint")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version {shown(version)}; this gexpr {gexpr.__version__} reads {FORMAT_VERSION}"
            + ("; a newer gexpr is needed" if isinstance(version, int) and version > FORMAT_VERSION else "")
        )
    missing = [key for key in CONFIG_KEYS if key not in content]
    unknown = [key for key in content if key not in CONFIG_KEYS]
    if missing or unknown:
        fault = f"{missing[0]!r} is missing" if missing else f"unknown key {shown(unknown[0])}"
        raise CheckpointError(f"{path}: {fault}; the keys are {', '.join(CONFIG_KEYS)}")
    for key in ("architecture", "weights_sha256", "gexpr_version"):
        if not isinstance(content[key], str):
            raise CheckpointError(f"{path}: {key!r} is not a string")
    for key in ("settings", "training"):
        if not isinstance(content[key], dict):
            raise CheckpointError(f"{path}: {key!r} is not a JSON object")
    digest = content["weights_sha256"].lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise CheckpointError(f"{path}: weights_sha256 {shown(content['weights_sha256'])} is not a SHA-256")
    return _Config(
        content["architecture"], content["settings"], content["training"], digest, content["gexpr_version"]
    )


def _check_values(path: Path, content: dict[str, Any]) -> None:
    """Refuse a config that cannot be printed, or is nested deeper than any that gexpr writes."""
    level: list[Any] = [content]
    for _ in range(MAX_CONFIG_DEPTH):
        inner: list[Any] = []
        for value in level:
            inner += [*value.keys(), *value.values()] if isinstance(value, dict) else value
        for value in inner:
            if isinstance(value, str) and (character := control_character(value, "\t\n")) is not None:
                raise CheckpointError(f"{path}: {shown(value)} contains the control character {character}")
        level = [value for value in inner if isinstance(value, (dict, list))]
        if not level:
            return
    raise CheckpointError(f"{path}: nested more than {MAX_CONFIG_DEPTH} levels deep")


def _check_sizes(path: Path, settings: Mapping[str, Any], tensors: int) -> None:
    """Refuse settings from which building even an empty model would take unbounded time or memory."""
    limits = {
        "context_length": MAX_CONTEXT_LENGTH,
        "random_blocks": MAX_RANDOM_BLOCKS,
        **dict.fromkeys(LAYER_COUNTS, tensors),
    }
    for name, value in settings.items():
        limit = limits.get(name, 1 << 63)
        if isinstance(value, int) and value > limit:
            raise CheckpointError(
                f"{path}: settings: {brief(name)} {shown(value, 25)} cannot be: the limit here is {limit}"
            )
        if isinstance(value, (list, dict)) and len(value) > tensors:
            raise CheckpointError(
                f"{path}: settings: {brief(name)} has {len(value)} entries, more than the {tensors} tensors"
            )


def _check_tensors(path: Path, entries: Mapping[str, TensorEntry], skeleton: SequenceModel) -> None:
    expected = skeleton.state_dict()
    for what, names in (
        ("tensors of the architecture are missing", [name for name in expected if name not in entries]),
        ("tensors do not belong to the architecture", [name for name in entries if name not in expected]),
    ):
        if names:
            more = "" if len(names) <= 3 else f" and {len(names) - 3} more"
            some = ", ".join(name if name in expected else shown(name) for name in names[:3])
            raise CheckpointError(f"{path}: {len(names)} {what}: {some}{more}")
    for name, entry in entries.items():
        tensor = expected[name]
        if entry.shape != tuple(tensor.shape):
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {list(entry.shape)}, "
                f"the settings in {CONFIG} give {list(tensor.shape)}"
            )
        if tensor.is_floating_point() != (entry.dtype in FLOAT_DTYPES):
            raise CheckpointError(f"{path}: tensor {name!r} has type {entry.dtype}, expected {tensor.dtype}")


def _check_finite(path: Path, name: str, tensor: torch.Tensor) -> None:
    import torch

    # The sum is finite only if all values are, and takes a sixth of the time; it may overflow.
    if not bool(torch.isfinite(tensor.sum())) and not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinite"
        raise CheckpointError(f"{path}: {bad} of {tensor.numel()} values of tensor {name!r} are {kind}")


def _refuse_to_replace(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise CheckpointError(f"{folder}: exists and is not a folder")
    known = {CONFIG, WEIGHTS, TRACKS, CARD}
    if folder.is_dir():
        other = sorted(item.name for item in folder.iterdir() if item.name not in known)
        if other:
            raise CheckpointError(
                f"{folder}: holds {other[0]!r}, which is no part of a checkpoint; it is not replaced"
            )


def _replace(temporary: Path, folder: Path) -> None:
    """Rename a finished folder into place; an old one is moved aside first and removed last."""
    if folder.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
        os.rename(folder, aside / folder.name)
        os.rename(temporary, folder)
        shutil.rmtree(aside)
    else:
        os.rename(temporary, folder)
    fsync(folder.parent)
