"""From a source of weights to a checkpoint folder."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import torch

from gexpr import checkpoints
from gexpr.checkpoints.tf_bundle import TensorBundle
from gexpr.checkpoints.weights import brief
from gexpr.conversion import basenji, baskerville, borzoi_pytorch, enformer, keras
from gexpr.conversion.adapter import Dropped, Place, Source, take_in
from gexpr.conversion.kinds import CHOICES, KINDS
from gexpr.datasets.basenji import TargetRow, as_tracks, read_targets
from gexpr.datasets.basenji import transform_of as squashed_transform
from gexpr.errors import CheckpointError, ConfigError
from gexpr.models.base import SequenceModel, on_meta_device, parameter_count
from gexpr.models.basenji import Basenji, BasenjiConfig
from gexpr.models.borzoi import Borzoi, BorzoiConfig
from gexpr.models.enformer import Enformer, EnformerConfig
from gexpr.models.sparse_enformer import SparseEnformer, SparseEnformerConfig
from gexpr.results import Track

if TYPE_CHECKING:
    from typing import Unpack

SOURCES = tuple(sorted(KINDS))


class Converted(NamedTuple):
    """What a conversion did: the folder, parameters, tensors taken, and dropped ones with the reason."""

    folder: Path
    parameters: int
    tensors: int
    dropped: dict[str, str]


class Options(TypedDict, total=False):
    """What a source may be given besides its path; see :func:`convert`. None is the source's default."""

    context_length: int | None
    target_length: int | None
    gamma_normalization: str | None
    sparse: Mapping[str, Any] | None
    params: str | os.PathLike[str] | None
    squash: str | None
    gelu: str | None


class Found(NamedTuple):
    """What a source holds.

    Attributes:
        model: on the meta device.
        tensors: the source's.
        places: where they go.
        transform: what predictions of a track mean, from its line of the table of tracks.
        notes: lines for the model card.
        dropped: tensors that are left out.
        new: tensors of the model that the source has nothing for.
        tracks: the source's own.
    """

    model: SequenceModel
    tensors: Source
    places: Iterable[Place]
    transform: Callable[[TargetRow], str]
    notes: Sequence[str] = ()
    dropped: Sequence[Dropped] = ()
    new: Mapping[str, torch.Tensor] = {}
    tracks: Sequence[Track] | None = None


def convert(
    kind: str,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    targets: Mapping[str | None, str] | None = None,
    license: str | None = None,
    **options: Unpack[Options],
) -> Converted:
    """Make a checkpoint of weights that another program trained.

    Args:
        kind: one of :data:`SOURCES`.
        source: ``enformer-pytorch``, ``borzoi-pytorch``: a state dict (``.safetensors``, ``.bin``, ``.pt``)
            or a folder with one and ``config.json``; ``enformer-sonnet``: a TensorFlow checkpoint, with or
            without ``.index``; ``baskerville``, ``basenji2``: a Keras model as HDF5; ``gexpr``: a checkpoint
            of an ``enformer``, by name or folder, to be made sparse.
        output: the checkpoint folder.
        targets: head -> Basenji's table of its tracks; None is the first head. The tracks of other heads
            are numbered.
        license: what the model card says of the license of the weights; None for what is known of ``kind``.
        options: settings of :class:`Options` that ``kind`` takes (:data:`gexpr.conversion.kinds.KINDS`):
            ``context_length``, ``target_length``: bases in, bins out; None takes the published ones.
            ``gamma_normalization``: see :class:`gexpr.models.enformer.EnformerConfig`.
            ``sparse``: settings of the block pattern: the model becomes a ``sparse_enformer`` with the same
            weights. ``params``: the parameter file of a Keras model. ``squash``, ``gelu``: how tracks were
            squashed, and which approximation of GELU the program had
            (:data:`gexpr.conversion.kinds.CHOICES`).

    Raises:
        CheckpointError: the source cannot be read, or is no such model.
        ConfigError: a setting that is not allowed.
        InputError: a fault in a table of tracks.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown source {kind!r}; known are: {', '.join(SOURCES)}")
    for name, value in options.items():
        if value is not None and name not in KINDS[kind].options:
            raise ConfigError(f"{kind} does not take {name}")
        if name in CHOICES and value is not None and value not in CHOICES[name]:
            raise ConfigError(f"{name} is {value!r}; it must be one of: {', '.join(CHOICES[name])}")
    terms = KINDS[kind].license if license is None else " ".join(license.split())
    if not terms:
        raise ConfigError("the license is empty; leave it out for what is known of the source")

    found = _FIND[kind](source, options)
    model, tables = found.model, targets or {}
    tracks = found.tracks if found.tracks and not tables else None
    tracks = tracks or _tracks(model.config.heads, tables, found.transform)
    dropped = take_in(model, found.tensors, found.places, found.dropped, found.new)
    notes = [*found.notes, f"License of the weights: {terms}."]
    card = _card(kind, source, model, dropped, notes)
    summary = {"converted_from": kind, "source": Path(source).name}
    folder = checkpoints.save(output, model, tracks, summary, card)
    return Converted(folder, parameter_count(model), len(found.tensors) - len(dropped), dropped)


def _enformer_pytorch(source: str | os.PathLike[str], options: Options) -> Found:
    tensors, config_file = open_state_dict(source)
    tensors = enformer.without_aliases(tensors)
    geometry = _geometry(options)
    if geometry["target_length"] is None and config_file.get("target_length", -1) != -1:
        geometry["target_length"] = config_file["target_length"]
    settings = enformer.pytorch_settings(tensors, **geometry)
    return _enformer(tensors, settings, options, enformer.pytorch_places)


def _enformer_sonnet(source: str | os.PathLike[str], options: Options) -> Found:
    tensors = open_bundle(source)
    settings = enformer.sonnet_settings(tensors, **_geometry(options))
    return _enformer(tensors, settings, options, enformer.sonnet_places, enformer.SONNET_DROPPED)


def _enformer(
    tensors: Source,
    settings: Mapping[str, Any],
    options: Options,
    table: Callable[[EnformerConfig], Iterable[Place]],
    dropped: Sequence[Dropped] = (),
) -> Found:
    settings = {**settings, "gamma_normalization": options.get("gamma_normalization") or "positions"}
    config = EnformerConfig.from_dict(settings)
    notes = [f"Gamma features of positions divided by their maximum over {config.gamma_normalization}."]
    pattern = options.get("sparse")
    if pattern is None:
        return Found(on_meta_device(Enformer, config), tensors, table(config), transform_of, notes, dropped)
    sparse = SparseEnformerConfig.from_dict({**settings, **pattern})
    model = on_meta_device(SparseEnformer, sparse)
    notes.append(_SPARSE)
    return Found(model, tensors, table(config), transform_of, notes, dropped, _first_tokens(sparse))


_SPARSE = (
    "**The attention is block-sparse, the weights are those of dense attention**: predictions are "
    "not those of the source, and the attention layers have to be trained before they are of use."
)


def _first_tokens(config: SparseEnformerConfig) -> dict[str, torch.Tensor]:
    """Global tokens, which dense attention does not have, as training begins with them."""
    if not config.token_count:
        return {}
    draw = torch.Generator().manual_seed(config.seed)
    shape = config.token_count, config.channels
    return {"tokens": torch.randn(shape, generator=draw) / config.channels**0.5}


def _gexpr(source: str | os.PathLike[str], options: Options) -> Found:
    pattern = options.get("sparse")
    if pattern is None:
        raise ConfigError("a checkpoint of gexpr is converted to other attention: give --attention bigbird")
    dense = checkpoints.load(source)
    if type(dense) is not Enformer:
        name = checkpoints.describe(source).architecture
        raise ConfigError(
            f"{source}: is a {name}; only the dense attention of an enformer can be made sparse"
        )
    state = dense.state_dict()
    tensors = Source(
        str(source),
        {name: tuple(value.shape) for name, value in state.items()},
        lambda name: _numpy(state[name]),
    )
    geometry = {name: value for name, value in _geometry(options).items() if value is not None}
    config = SparseEnformerConfig.from_dict({**dense.config.to_dict(), **geometry, **pattern})
    model = on_meta_device(SparseEnformer, config)
    places = [Place(name, name) for name in state]
    return Found(
        model, tensors, places, transform_of, [_SPARSE], new=_first_tokens(config), tracks=dense.tracks
    )


def _borzoi_pytorch(source: str | os.PathLike[str], options: Options) -> Found:
    tensors, config_file = open_state_dict(source)
    config = BorzoiConfig.from_dict(borzoi_pytorch.settings(tensors, config_file, **_geometry(options)))
    transform, note = _squashed(options)
    model, places = on_meta_device(Borzoi, config), borzoi_pytorch.places(config)
    return Found(model, tensors, places, transform, [note], borzoi_pytorch.DROPPED)


def _baskerville(source: str | os.PathLike[str], options: Options) -> Found:
    params, place = _params("baskerville", options)
    gelu = options.get("gelu") or "tanh"
    settings = baskerville.settings(params, place, gelu)
    tensors = keras.open_keras(source)
    trunk = baskerville.dense_layers(settings)
    settings["heads"] = keras.Layers(tensors).heads(settings["heads"], trunk)
    config = BorzoiConfig.from_dict(settings)
    transform, note = _squashed(options)
    notes = [note, f"GELU: the {gelu} approximation."]
    return Found(
        on_meta_device(Borzoi, config), tensors, baskerville.places(config, tensors), transform, notes
    )


def _basenji2(source: str | os.PathLike[str], options: Options) -> Found:
    params, place = _params("basenji2", options)
    gelu = options.get("gelu") or "sigmoid"
    settings = basenji.settings(params, place, gelu)
    tensors = keras.open_keras(source)
    settings["heads"] = keras.Layers(tensors).heads(settings["heads"], 0)
    config = BasenjiConfig.from_dict(settings)
    transform, note = _squashed(options)
    notes = [note, f"GELU: the {gelu} approximation."]
    return Found(on_meta_device(Basenji, config), tensors, basenji.places(config, tensors), transform, notes)


_FIND: dict[str, Callable[[str | os.PathLike[str], Options], Found]] = {
    "baskerville": _baskerville,
    "basenji2": _basenji2,
    "borzoi-pytorch": _borzoi_pytorch,
    "enformer-pytorch": _enformer_pytorch,
    "enformer-sonnet": _enformer_sonnet,
    "gexpr": _gexpr,
}
"""What opens each source."""


def _geometry(options: Options) -> dict[str, int | None]:
    return {name: options.get(name) for name in ("context_length", "target_length")}  # type: ignore[misc]


def _squashed(options: Options) -> tuple[Callable[[TargetRow], str], str]:
    """How tracks of Borzoi's kind are undone, and what the card says of it."""
    squash = options.get("squash") or "shifted"
    note = f"Tracks that were squashed, if any, are undone as {squash} (gexpr convert --squash)."
    return lambda row: squashed_transform(row, squash), note


def _params(kind: str, options: Options) -> tuple[dict[str, Any], str]:
    path = options.get("params")
    if path is None:
        raise ConfigError(f"{kind}'s weights need its parameter file (--params params.json)")
    return keras.read_params(path), str(path)


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
    notes: Sequence[str],
) -> str:
    config = model.config
    lines = [
        f"# {Path(source).name}, converted",
        "",
        f"Made by `gexpr convert {kind}` from `{Path(source).name}`; the numbers are the source's.",
        "",
        f"- {config.context_length:,} bp in, {config.target_length:,} bins of {config.bin_size} bp out.",
        "- Heads: " + ", ".join(f"{name} ({size:,} tracks)" for name, size in config.heads.items()) + ".",
        *(f"- {line}" for line in notes),
    ]
    if dropped:
        reasons = sorted(set(dropped.values()))
        lines += ["", f"{len(dropped)} tensors of the source were left out: {'; '.join(reasons)}."]
    return "\n".join(lines)
