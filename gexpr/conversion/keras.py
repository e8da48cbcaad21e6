"""Models that baskerville and basenji trained: their parameter files, and weights as Keras 2 writes them.

Neither Keras nor TensorFlow is needed. Layers are found by kind and number: Keras numbers them as the program
makes them, which is the order of the parameter file. Sources: seqnn.py, blocks.py and layers.py of
calico/basenji and calico/baskerville.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gexpr.conversion.adapter import Array, Place, Source, transposed
from gexpr.errors import CheckpointError, ConfigError, shown

NORMS = ("batch", "batch-sync")
# What only training needs, of a block or of the whole.
_TRAINING = {"bn_momentum", "bn_type", "kernel_initializer", "l1_scale", "l2_scale", "mha_initializer"}
_TRAINING |= {"mha_l2_scale", "norm_gamma"}
# What says the same as leaving it out: how every block works that gexpr has.
_PLAIN: dict[str, Any] = {
    "activation_end": None,
    "conv_type": "standard",
    "dilation_rate": 1,
    "padding": "same",
    "pool_type": "max",
    "residual": False,
    "se": False,
    "stride": 1,
    "strides": 1,
}
# Of the whole: what is read elsewhere, or says nothing of the computation.
_MODEL = {"activation", "augment_rc", "augment_shift", "batch_norm", "norm_type", "num_targets"}
_MODEL |= {"seq_depth", "seq_length", "strand_pair", "target_length", "trunk", "verbose"}


def read_params(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``model`` part of a parameter file.

    Raises:
        ConfigError: it cannot be read, or is no parameter file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("trunk"), list):
        raise ConfigError(f"{path}: not a parameter file of baskerville: it has no model.trunk")
    return model


class Block:
    """One block of a parameter file. Every option is taken from it, or is an error.

    Args:
        content: the block.
        model: the whole, whose activation and normalization a block takes over.
        where: the block in messages.
    """

    def __init__(self, content: Mapping[str, Any], model: Mapping[str, Any], where: str) -> None:
        self.name = str(content.get("name"))
        self.where = where
        self._options = {key: content[key] for key in content if key != "name" and key not in _TRAINING}
        self._model = model

    def take(self, key: str, default: Any = None) -> Any:
        """An option's value, whatever it is; configs check it."""
        return self._options.pop(key, default)

    def whole(self, key: str, default: int | None = None) -> int:
        """An option that has to be a whole number above 0."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{self.where}: {key} is {shown(value)}; it must be a whole number above 0")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """An option that has to be a number above 0."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise ConfigError(f"{self.where}: {key} is {shown(value)}; it must be a number above 0")
        return float(value)

    def demand(self, key: str, value: Any, default: Any) -> None:
        """Refuse the block unless an option has a value; ``default`` is what the program takes without it."""
        stated = "" if key in self._options else " (the default)"
        found = self.take(key, default)
        if type(found) is not type(value) or found != value:
            raise ConfigError(
                f"{self.where}: {key} {shown(found)}{stated} is not supported, only {shown(value)}"
            )

    def demand_usual(self) -> None:
        """Refuse the block unless it is normalized and activated as the whole is."""
        if (norm := self.take("norm_type", NORMS[0])) not in NORMS:
            raise ConfigError(
                f"{self.where}: norm_type {shown(norm)} is not supported, only {' or '.join(NORMS)}"
            )
        self.demand("activation", self._model.get("activation"), self._model.get("activation"))

    def demand_bare(self) -> None:
        """Refuse the block unless it is neither normalized nor activated."""
        for key, allowed in (("norm_type", (None,)), ("activation", (None, "linear"))):
            if (found := self.take(key, self._model.get(key))) not in allowed:
                raise ConfigError(f"{self.where}: {key} {shown(found)} is not supported, only {allowed[-1]}")

    def widths(self) -> list[int]:
        """Widths of a tower: in equal ratios, each rounded to a multiple."""
        first, repeat = self.number("filters_init"), self.whole("repeat", 1)
        divisor = self.whole("divisible_by", 1)
        ratio, last = self.take("filters_mult"), self.take("filters_end")
        for key, value in (("filters_mult", ratio), ("filters_end", last)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ConfigError(f"{self.where}: {key} is {shown(value)}; it must be a number")
        if ratio is None:
            if last is None and repeat > 1:
                raise ConfigError(f"{self.where}: has neither filters_mult nor filters_end")
            ratio = 1.0 if repeat < 2 else float(np.exp(np.log(last / first) / (repeat - 1)))
        found, width = [], first
        for _ in range(repeat):
            found.append(int(np.round(width / divisor) * divisor))
            width *= ratio
        return found

    def done(self) -> None:
        """Refuse the block if an option is left that is not how gexpr computes it anyway."""
        for key, value in self._options.items():
            if key not in _PLAIN or value != _PLAIN[key]:
                raise ConfigError(f"{self.where}: option {key!r} ({shown(value)}) is not supported")


def blocks(params: Mapping[str, Any], place: str, order: str, architecture: str) -> list[Block]:
    """The trunk of a parameter file.

    Args:
        params: :func:`read_params`.
        place: the file in messages.
        order: a pattern of the blocks' names, each with a space after it.
        architecture: what messages call the model that has this trunk.

    Raises:
        ConfigError: another order, an unknown block, or a setting of the whole that is not known.
    """
    known = set(re.findall(r"\w+", order))
    found = []
    for number, content in enumerate(params["trunk"]):
        if not isinstance(content, dict):
            raise ConfigError(f"{place}: trunk block {number} is {shown(content)}, not a table of options")
        block = Block(content, params, f"{place}: trunk block {number} ({content.get('name')})")
        if block.name not in known:
            raise ConfigError(
                f"{block.where} is not a block of gexpr's {architecture}; it has: {', '.join(sorted(known))}"
            )
        found.append(block)
    names = [block.name for block in found]
    if not re.fullmatch(order, "".join(f"{name} " for name in names)):
        raise ConfigError(
            f"{place}: gexpr's {architecture} has no trunk of {', '.join(names) or 'no blocks'} in this order"
        )
    for key, value in params.items():
        if key in _MODEL | _TRAINING or key.startswith("head"):
            continue
        if key not in _PLAIN or value != _PLAIN[key]:
            raise ConfigError(f"{place}: model.{key} ({shown(value)}) is not supported")
    if params.get("activation") != "gelu":
        raise ConfigError(
            f"{place}: activation {shown(params.get('activation'))} is not supported, only gelu"
        )
    normalized = params.get("norm_type", "batch" if params.get("batch_norm", False) is True else None)
    if normalized not in NORMS:
        raise ConfigError(
            f"{place}: norm_type {shown(normalized)} is not supported, only {' or '.join(NORMS)}"
        )
    return found


def context_length(params: Mapping[str, Any], place: str) -> int:
    """Bases in."""
    length = params.get("seq_length")
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ConfigError(f"{place}: model.seq_length is {shown(length)}, not a number of bases")
    return length


def cropping(block: Block) -> int:
    """Bins that a Cropping1D takes from each side."""
    found = block.take("cropping", 1)
    sides = found if isinstance(found, list) else [found, found]
    if len(sides) != 2 or sides[0] != sides[1] or isinstance(sides[0], bool) or not isinstance(sides[0], int):
        raise ConfigError(f"{block.where}: cropping {shown(found)} is not the same number on both sides")
    return sides[0]


def heads(params: Mapping[str, Any], place: str) -> dict[str, int]:
    """Tracks of every head, in the order in which the program makes them: by name, numbers as numbers.

    Raises:
        ConfigError: a head is no dense layer with softplus.
    """
    found: dict[str, int] = {}
    for key in sorted((key for key in params if key.startswith("head")), key=_natural):
        head = params[key]
        if isinstance(head, list) and len(head) == 1:
            head = head[0]
        if not isinstance(head, dict) or head.get("name") not in ("final", "dense"):
            raise ConfigError(f"{place}: {key} is not one dense layer with softplus")
        block = Block(head, params, f"{place}: {key}")
        if block.take("activation", "linear") != "softplus":
            raise ConfigError(f"{place}: {key} is not one dense layer with softplus")
        units = block.whole("units")
        block.demand("flatten", False, False)
        block.done()
        found[key.removeprefix("head").lstrip("_") or "tracks"] = units
    if not found:
        raise ConfigError(f"{place}: has no head")
    return found


def _natural(text: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text) if part]


def open_keras(path: str | os.PathLike[str]) -> Source:
    """The weights of a Keras model, as ``LAYER//WEIGHT``.

    Raises:
        CheckpointError: it cannot be read, or is no HDF5 file of Keras.
    """
    try:
        file = h5py.File(path, "r")
        group = file["model_weights"] if "model_weights" in file else file
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in group.attrs["layer_names"]:
            layer = _text(layer)
            for weight in group[layer].attrs["weight_names"]:
                shapes[f"{layer}//{_text(weight)}"] = group[layer][_text(weight)].shape
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a model that Keras saved as HDF5: {error}") from error

    def read(name: str) -> Array:
        layer, _, weight = name.partition("//")
        return np.asarray(group[layer][weight][...])

    return Source(str(path), shapes, read)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Layers:
    """Hands out Keras's layers of each kind, in the order of their numbers, as places of our tensors."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._weights: dict[str, list[str]] = {}
        for name in source:
            self._weights.setdefault(name.partition("//")[0], []).append(name)
        self._waiting: dict[str, list[tuple[int, str]]] = {}
        for layer in self._weights:
            match = re.fullmatch(r"(?:sync_)?(.*?)(?:_(\d+))?", layer)
            assert match is not None
            self._waiting.setdefault(match[1], []).append((int(match[2] or 0), layer))
        for layers in self._waiting.values():
            layers.sort(reverse=True)

    def next(self, kind: str, count: int) -> list[str]:
        """The weights of the next layer of a kind, in Keras's order.

        Raises:
            CheckpointError: there is none, or it does not have ``count`` weights.
        """
        if not self._waiting.get(kind):
            raise CheckpointError(f"{self._source.place}: has too few layers {kind} for its parameter file")
        _, layer = self._waiting[kind].pop()
        weights = self._weights[layer]
        if len(weights) != count:
            raise CheckpointError(
                f"{self._source.place}: layer {layer} has {len(weights)} weights instead of {count}"
            )
        return weights

    def norm(self, ours: str) -> Iterator[Place]:
        """A BatchNorm."""
        names = ("weight", "bias", "running_mean", "running_var")
        for name, theirs in zip(names, self.next("batch_normalization", 4), strict=True):
            yield Place(f"{ours}.{name}", theirs)

    def layer_norm(self, ours: str) -> Iterator[Place]:
        """A LayerNorm."""
        for name, theirs in zip(("weight", "bias"), self.next("layer_normalization", 2), strict=True):
            yield Place(f"{ours}.{name}", theirs)

    def dense(self, ours: str) -> Iterator[Place]:
        """A linear layer."""
        kernel, bias = self.next("dense", 2)
        yield Place(f"{ours}.weight", kernel, transposed(1, 0))
        yield Place(f"{ours}.bias", bias)

    def convolution(self, ours: str, bias: bool = True) -> Iterator[Place]:
        """A convolution."""
        weights = self.next("conv1d", 2 if bias else 1)
        yield Place(f"{ours}.weight", weights[0], transposed(2, 1, 0))
        if bias:
            yield Place(f"{ours}.bias", weights[1])

    def heads(self, expected: Mapping[str, int], trunk: int) -> dict[str, int]:
        """Of the parameter file's heads those that the file holds: the programs save each in its own file.

        A head is told by its number of tracks; where two have as many, by the number of its layer.

        Args:
            expected: :func:`heads`.
            trunk: dense layers before those of the heads.

        Raises:
            CheckpointError: no head fits.
        """
        place = self._source.place
        dense = sorted(self._waiting.get("dense", []))
        held = dense[trunk:]
        if not 0 < len(held) <= len(expected):
            raise CheckpointError(
                f"{place}: has {len(dense)} dense layers, which leaves {len(dense) - trunk} heads; the "
                f"parameter file has {len(expected)}"
            )
        sizes = [self._source.shape(self._weights[layer][0], 2)[1] for _, layer in held]
        fitting = [
            names
            for names in itertools.combinations(expected, len(held))
            if [expected[name] for name in names] == sizes
        ]
        if len(fitting) > 1:
            first = dense[trunk - 1][0] + 1 if trunk else 0
            order = list(expected)
            numbers = [number - first for number, _ in held]
            named = tuple(order[number] for number in numbers if 0 <= number < len(order))
            fitting = [names for names in fitting if names == named]
        if not fitting:
            listed = ", ".join(f"{name} ({size:,})" for name, size in expected.items())
            raise CheckpointError(
                f"{place}: its heads have {', '.join(f'{size:,}' for size in sizes)} tracks, and which of "
                f"the parameter file's they are cannot be told: {listed}"
            )
        return {name: expected[name] for name in fitting[0]}
