"""From a source of weights to a checkpoint folder."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gexpr import checkpoints
from gexpr.checkpoints.tf_bundle import TensorBundle
from gexpr.checkpoints.weights import brief
from gexpr.conversion import baskerville, borzoi_pytorch, enformer
from gexpr.conversion.adapter import Dropped, Source, take_in
from gexpr.datasets.basenji import TargetRow, as_tracks, read_targets
from gexpr.errors import CheckpointError, ConfigError
from gexpr.models.base import SequenceModel, parameter_count
from gexpr.models.borzoi import Borzoi, BorzoiConfig
from gexpr.models.enformer import Enformer, EnformerConfig
from gexpr.models.sparse_enformer import SparseEnformer, SparseEnformerConfig
from gexpr.results import Track

_ENFORMER = "that of the source; for DeepMind's weights cite Avsec et al., Nature Methods 18:1196 (2021)"
_BORZOI = "that of the source; for Borzoi's weights cite Linder et al., Nature Genetics 57:949 (2025)"
LICENSES = {
    "baskerville": _BORZOI,
    "borzoi-pytorch": _BORZOI,
    "enformer-pytorch": _ENFORMER,
    "enformer-sonnet": _ENFORMER,
}
"""What the model card says of the licence of the weights, by source."""

SOURCES = tuple(sorted(LICENSES))


class Converted(NamedTuple):
    """What a conversion did: the folder, parameters, tensors taken, and dropped ones with the reason."""

    folder: Path
    parameters: int
    tensors: int
    dropped: dict[str, str]


def convert(
    kind: str,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    targets: Mapping[str | None, str] | None = None,
    context_length: int | None = None,
    target_length: int | None = None,
    gamma_normalization: str = "positions",
    sparse: Mapping[str, Any] | None = None,
    params: str | os.PathLike[str] | None = None,
    squash: str = "shifted",
) -> Converted:
    """Make a checkpoint of weights that another program trained.

    Args:
        kind: one of :data:`SOURCES`.
        source: ``enformer-pytorch``: a state dict (``.safetensors``, ``.bin``, ``.pt``) or a folder with one
            and ``config.json``; ``enformer-sonnet``: a TensorFlow checkpoint, with or without ``.index``;
            ``baskerville``: a Keras model as HDF5; ``borzoi-pytorch``: as enformer-pytorch.
        output: the checkpoint folder.
        targets: head -> Basenji's table of its tracks; None is the first head. The tracks of other heads
            are numbered.
        context_length, target_length: bases in, bins out; None takes the published ones.
        gamma_normalization: see :class:`gexpr.models.enformer.EnformerConfig`.
        sparse: settings of the block pattern: the model becomes a ``sparse_enformer`` with the same weights.
        params: baskerville's parameter file.
        squash: how baskerville squashed the tracks, one of :data:`gexpr.conversion.baskerville.SQUASHES`.

    Raises:
        CheckpointError: the source cannot be read, or is no such model.
        ConfigError: a setting that is not allowed.
        InputError: a fault in a table of tracks.
    """
    if kind not in SOURCES:
        raise ConfigError(f"unknown source {kind!r}; known are: {', '.join(SOURCES)}")
    if kind == "baskerville":
        return _convert_baskerville(source, output, params, targets or {}, squash)
    if params is not None:
        raise ConfigError(f"{kind} has no parameter file")
    if kind == "borzoi-pytorch":
        geometry = dict(context_length=context_length, target_length=target_length)
        return _convert_borzoi_pytorch(source, output, targets or {}, squash, geometry)
    changes = dict(
        context_length=context_length, target_length=target_length, gamma_normalization=gamma_normalization
    )
    dropped: Sequence[Dropped] = ()
    if kind == "enformer-pytorch":
        tensors, config_file = open_state_dict(source)
        tensors = enformer.without_aliases(tensors)
        if target_length is None and config_file.get("target_length", -1) != -1:
            changes["target_length"] = config_file["target_length"]
        settings = enformer.pytorch_settings(tensors, **changes)
        table = enformer.pytorch_places
    else:
        tensors = open_bundle(source)
        settings = enformer.sonnet_settings(tensors, **changes)
        table, dropped = enformer.sonnet_places, enformer.SONNET_DROPPED
    config = EnformerConfig.from_dict(settings)
    with torch.device("meta"):
        model: Enformer
        if sparse is None:
            model = Enformer(config)
        else:
            model = SparseEnformer(SparseEnformerConfig.from_dict({**settings, **sparse}))
    reasons = take_in(model, tensors, table(config), dropped)
    tracks = _tracks(config.heads, targets or {}, transform_of)
    more = [f"Gamma features of positions divided by their maximum over {config.gamma_normalization}."]
    card = _card(kind, source, model, reasons, more, sparse is not None)
    return _saved(kind, source, output, model, tracks, card, len(tensors) - len(reasons), reasons)


def _convert_baskerville(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    params: str | os.PathLike[str] | None,
    targets: Mapping[str | None, str],
    squash: str,
) -> Converted:
    if params is None:
        raise ConfigError("baskerville's weights need its parameter file (--params params.json)")
    if squash not in baskerville.SQUASHES:
        raise ConfigError(f"squash is {squash!r}; it must be one of: {', '.join(baskerville.SQUASHES)}")
    tensors = baskerville.open_keras(source)
    settings = baskerville.settings(baskerville.read_params(params), str(params))
    settings["heads"] = baskerville.heads_in(tensors, settings)
    config = BorzoiConfig.from_dict(settings)
    with torch.device("meta"):
        model = Borzoi(config)
    reasons = take_in(model, tensors, baskerville.places(config, tensors))
    tracks = _tracks(config.heads, targets, lambda row: baskerville.transform_of(row, squash))
    more = [f"Squashed tracks are undone as {squash} (gexpr convert --squash)."] if targets else []
    card = _card("baskerville", source, model, reasons, more)
    return _saved("baskerville", source, output, model, tracks, card, len(tensors), reasons)


def _convert_borzoi_pytorch(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    targets: Mapping[str | None, str],
    squash: str,
    geometry: Mapping[str, int | None],
) -> Converted:
    tensors, _ = open_state_dict(source)
    config = BorzoiConfig.from_dict(borzoi_pytorch.settings(tensors, **geometry))
    with torch.device("meta"):
        model = Borzoi(config)
    reasons = take_in(model, tensors, borzoi_pytorch.places(config), borzoi_pytorch.DROPPED)
    tracks = _tracks(config.heads, targets, lambda row: baskerville.transform_of(row, squash))
    more = [f"Squashed tracks are undone as {squash} (gexpr convert --squash)."] if targets else []
    card = _card("borzoi-pytorch", source, model, reasons, more)
    taken = len(tensors) - len(reasons)
    return _saved("borzoi-pytorch", source, output, model, tracks, card, taken, reasons)


def _saved(
    kind: str,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model: SequenceModel,
    tracks: Sequence[Track],
    card: str,
    taken: int,
    dropped: dict[str, str],
) -> Converted:
    summary = {"converted_from": kind, "source": Path(source).name}
    folder = checkpoints.save(output, model, tracks, summary, card)
    return Converted(folder, parameter_count(model), taken, dropped)


def open_state_dict(path: str | os.PathLike[str]) -> tuple[Source, dict[str, Any]]:
    """The tensors of a PyTorch state dict, and what ``config.json`` beside it says.

    Pickled files are opened with ``weights_only``, which runs no code of theirs.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    place = Path(path)
    config: dict[str, Any] = {}
    if place.is_dir():
        names = ("model.safetensors", "pytorch_model.bin", "model.pt")
        found = [place / name for name in names if (place / name).is_file()]
        if not found:
            raise CheckpointError(f"{place}: holds none of {', '.join(names)}")
        if (place / "config.json").is_file():
            try:
                config = json.loads((place / "config.json").read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{place / 'config.json'}: cannot be read: {error}") from error
        place = found[0]
    if place.suffix == ".safetensors":
        return _open_safetensors(place), config
    try:
        loaded = torch.load(place, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{place}: no state dict of PyTorch: {brief(error)}") from error
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise CheckpointError(f"{place}: is not a table of tensors by name")
    tensors: dict[str, torch.Tensor] = loaded
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return Source(str(place), shapes, lambda name: _numpy(tensors[name])), config


def _open_safetensors(path: Path) -> Source:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt", device="cpu").__enter__()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: safetensors cannot read it: {brief(error)}") from error
    return Source(str(path), shapes, lambda name: _numpy(file.get_tensor(name)))


def _numpy(value: torch.Tensor) -> Any:
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def open_bundle(path: str | os.PathLike[str]) -> Source:
    """The tensors of a TensorFlow checkpoint.

    Raises:
        CheckpointError: it cannot be read.
    """
    bundle = TensorBundle(path)
    shapes = {name: entry.shape for name, entry in bundle.entries.items()}
    return Source(str(bundle.index), shapes, bundle.__getitem__)


def _tracks(
    heads: Mapping[str, int], tables: Mapping[str | None, str], transform: Callable[[TargetRow], str]
) -> list[Track]:
    paths = {name or next(iter(heads)): path for name, path in tables.items()}
    unknown = sorted(set(paths) - set(heads))
    if unknown:
        raise ConfigError(f"the model has no head {unknown[0]!r}; it has: {', '.join(heads)}")
    tracks: list[Track] = []
    for head, size in heads.items():
        first = len(tracks)
        if head in paths:
            rows = read_targets(paths[head])
            if len(rows) != size:
                raise ConfigError(f"{paths[head]}: {len(rows)} tracks, the head {head} has {size}")
            named = as_tracks(rows, [transform(row) for row in rows])
        else:
            named = [Track(i, f"{head}_{i}", f"{head} {i}", strand_pair=i) for i in range(size)]
        tracks += [
            track._replace(index=first + track.index, strand_pair=first + track.strand_pair)
            for track in named
        ]
    return tracks


def transform_of(row: TargetRow) -> str:
    """What predictions of a track of Basenji's or Enformer's mean: counts, squashed only by a soft clip."""
    if row.sum_stat not in ("sum", "mean", "max"):
        raise ConfigError(f"track {row.identifier}: sum_stat {row.sum_stat!r} is not one of Enformer's")
    if row.clip_soft is None:
        return "count"
    return f"squashed:shifted_power,exponent=1,clip_soft={row.clip_soft:g}"


def _card(
    kind: str,
    source: str | os.PathLike[str],
    model: SequenceModel,
    dropped: Mapping[str, str],
    more: Sequence[str] = (),
    sparse: bool = False,
) -> str:
    config = model.config
    lines = [
        f"# {Path(source).name}, converted",
        "",
        f"Made by `gexpr convert {kind}` from `{Path(source).name}`; the numbers are the source's.",
        "",
        f"- {config.context_length:,} bp in, {config.target_length:,} bins of {config.bin_size} bp out.",
        "- Heads: " + ", ".join(f"{name} ({size:,} tracks)" for name, size in config.heads.items()) + ".",
        *(f"- {line}" for line in more),
        f"- Licence of the weights: {LICENSES[kind]}.",
    ]
    if sparse:
        lines += [
            "",
            "**The attention is block-sparse, the weights are those of dense attention**: predictions are "
            "not those of the source, and the attention layers have to be trained before they are of use.",
        ]
    if dropped:
        reasons = sorted(set(dropped.values()))
        lines += ["", f"{len(dropped)} tensors of the source were left out: {'; '.join(reasons)}."]
    return "\n".join(lines)
