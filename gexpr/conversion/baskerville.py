"""Borzoi-type models that baskerville (or westminster) trained: Keras weights and a parameter file.

Sources: calico/baskerville, blocks.py, layers.py, seqnn.py; HDF5 as Keras 2 writes it. Neither Keras nor
TensorFlow is needed. Layers are found by kind and number: Keras numbers them as baskerville makes them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gexpr.conversion.adapter import Array, Place, Source, transposed
from gexpr.datasets.basenji import TargetRow
from gexpr.errors import CheckpointError, ConfigError, shown
from gexpr.models.borzoi import BorzoiConfig

GELUS = {"gelu": "tanh"}
"""What baskerville's activations are; older Basenji models used the sigmoid form under the same name."""
SQUASHES = ("shifted", "power")
"""How tracks were squashed: by baskerville's present code, or as in Borzoi's publication."""

_EXPONENTS = {
    "shifted": {"sum_sqrt": 0.5, "mean_sqrt": 0.5, "sum_exp75": 0.75, "sum": 1.0, "mean": 1.0, "max": 1.0},
    "power": {"sum_sqrt": 0.75, "sum": 1.0, "mean": 1.0, "max": 1.0},
}
# What only training needs.
_IGNORED = {"l2_scale", "mha_l2_scale", "kernel_initializer", "bn_momentum", "mha_initializer"}


def transform_of(row: TargetRow, squash: str) -> str:
    """The transform of a track from its line of ``targets.txt``.

    Raises:
        ConfigError: its ``sum_stat`` is not known.
    """
    exponents = _EXPONENTS[squash]
    if row.sum_stat not in exponents:
        raise ConfigError(
            f"track {row.identifier}: sum_stat {row.sum_stat!r} is not one of: {', '.join(exponents)}"
        )
    exponent = exponents[row.sum_stat]
    if exponent == 1 and row.clip_soft is None:
        return "count"
    form = "shifted_power" if squash == "shifted" else "power"
    clip = "" if row.clip_soft is None else f",clip_soft={row.clip_soft:g}"
    return f"squashed:{form},exponent={exponent:g}{clip}"


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


def settings(params: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Settings of :class:`BorzoiConfig` from a parameter file, heads in the file's order.

    Raises:
        ConfigError: a block or an option that gexpr's Borzoi does not have; the message names it.
    """
    found: dict[str, Any] = {
        "context_length": params["seq_length"],
        "activation": _gelu(params.get("activation"), place),
        "upsamplings": 0,
        "final_channels": None,
        "final_dropout": 0.0,
    }
    if params.get("norm_type", "batch") not in ("batch", "batch-sync"):
        raise ConfigError(f"{place}: norm_type {shown(params['norm_type'])} is not supported")
    crop = 0
    for number, block in enumerate(params["trunk"]):
        name = block.get("name")
        where = f"{place}: trunk block {number} ({name})"
        options = {key: value for key, value in block.items() if key != "name" and key not in _IGNORED}

        def take(key: str, default: Any, options: dict[str, Any] = options) -> Any:
            return options.pop(key, default)

        def demand(key: str, *allowed: Any, options: dict[str, Any] = options, where: str = where) -> None:
            value = options.pop(key, allowed[0])
            if value not in allowed:
                raise ConfigError(f"{where}: {key} {shown(value)} is not supported")

        if name == "conv_dna":
            found["stem_channels"], found["stem_kernel"] = take("filters", None), take("kernel_size", 1)
            demand("pool_size", 2)
            demand("norm_type", None)
            demand("activation", "linear", None)
        elif name == "res_tower":
            found["tower_channels"] = _widths(
                take("filters_init", 0), take("filters_end", 0), take("repeat", 1), take("divisible_by", 1)
            )
            found["tower_kernel"] = take("kernel_size", 1)
            demand("num_convs", 1)
            demand("pool_size", 2)
        elif name == "transformer_tower":
            found["attention_heads"], found["key_size"] = take("heads", 1), take("key_size", 64)
            found["relative_features"] = take("num_position_features", 32)
            found["depth"], found["dropout"] = take("repeat", 1), take("dropout", 0.25)
            found["attention_dropout"] = take("attention_dropout", 0.05)
            found["position_dropout"] = take("position_dropout", 0.01)
            found["value_size"] = take("value_size", None)
            found["feedforward_factor"] = int(take("dense_expansion", 2.0))
        elif name == "unet_conv":
            found["upsamplings"] += 1
            found["upsampling_kernel"] = take("kernel_size", 1)
            if take("upsample_conv", False) is not True:
                raise ConfigError(f"{where}: upsample_conv false is not supported")
            demand("stride", 2)
        elif name == "Cropping1D":
            crop = take("cropping", 0)
        elif name == "conv_nac":
            found["final_channels"], found["final_dropout"] = take("filters", None), take("dropout", 0.0)
            demand("kernel_size", 1)
        else:
            raise ConfigError(f"{where} is not a block of gexpr's Borzoi")
        if options:
            raise ConfigError(f"{where}: option {next(iter(options))!r} is not supported")
    for needed in ("stem_channels", "tower_channels", "depth"):
        if needed not in found:
            raise ConfigError(f"{place}: the trunk has no block that gives {needed}")
    heads: dict[str, int] = {}
    for name, head in params.items():
        if name.startswith("head"):
            if head.get("name") != "final" or head.get("activation", "linear") != "softplus":
                raise ConfigError(f"{place}: {name} is not a dense layer with softplus")
            heads[name.removeprefix("head").lstrip("_") or "tracks"] = head["units"]
    found["heads"] = heads
    token = 2 ** (1 + len(found["tower_channels"]))
    bins = found["context_length"] // token * 2 ** found["upsamplings"]
    found["target_length"] = bins - 2 * crop
    return found


def _gelu(name: Any, place: str) -> str:
    if name not in GELUS:
        raise ConfigError(f"{place}: activation {shown(name)} is not one of: {', '.join(GELUS)}")
    return GELUS[name]


def _widths(first: int, last: int, repeat: int, divisible_by: int) -> list[int]:
    """baskerville's widths of a tower: in equal ratios, each rounded to a multiple."""
    ratio = 1.0 if repeat < 2 else float(np.exp(np.log(last / first) / (repeat - 1)))
    return [int(np.round(first * ratio**i / divisible_by) * divisible_by) for i in range(repeat)]


def open_keras(path: str | os.PathLike[str]) -> Source:
    """The weights of a Keras model, as ``LAYER/WEIGHT``.

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


class _Layers:
    """Hands out Keras's layers of each kind, in the order of their numbers."""

    def __init__(self, source: Source) -> None:
        self._place = source.place
        self._weights: dict[str, list[str]] = {}
        for name in source:
            self._weights.setdefault(name.partition("//")[0], []).append(name)
        self._waiting: dict[str, list[tuple[int, str]]] = {}
        for layer in self._weights:
            match = re.fullmatch(r"(.*?)(?:_(\d+))?", layer)
            assert match is not None
            self._waiting.setdefault(match[1], []).append((int(match[2] or 0), layer))
        for layers in self._waiting.values():
            layers.sort(reverse=True)

    def next(self, kind: str) -> list[str]:
        """The weights of the next layer of a kind, in Keras's order."""
        if not self._waiting.get(kind):
            raise CheckpointError(f"{self._place}: has too few layers {kind} for its parameter file")
        return self._weights[self._waiting[kind].pop()[1]]

    def left(self, kind: str) -> int:
        """How many layers of a kind there still are."""
        return len(self._waiting.get(kind, []))


_KERNEL = transposed(2, 1, 0)
_DENSE = transposed(1, 0)


def places(config: BorzoiConfig, source: Source) -> list[Place]:
    """The table of names for a model of this config; its heads are those that the file holds."""
    layers = _Layers(source)

    def norm(ours: str) -> Iterator[Place]:
        names = ("weight", "bias", "running_mean", "running_var")
        for name, theirs in zip(names, layers.next("batch_normalization"), strict=True):
            yield Place(f"{ours}.{name}", theirs)

    def layer_norm(ours: str) -> Iterator[Place]:
        for name, theirs in zip(("weight", "bias"), layers.next("layer_normalization"), strict=True):
            yield Place(f"{ours}.{name}", theirs)

    def dense(ours: str) -> Iterator[Place]:
        kernel, bias = layers.next("dense")
        yield Place(f"{ours}.weight", kernel, _DENSE)
        yield Place(f"{ours}.bias", bias)

    def convolution(ours: str) -> Iterator[Place]:
        kernel, bias = layers.next("conv1d")
        yield Place(f"{ours}.weight", kernel, _KERNEL)
        yield Place(f"{ours}.bias", bias)

    found = [*convolution("stem")]
    for n in range(len(config.tower_channels)):
        found += [*norm(f"tower.{n}.norm"), *convolution(f"tower.{n}.conv")]
    for b in range(config.depth):
        block = f"transformer.{b}"
        found += layer_norm(f"{block}.attention_norm")
        content, position, query, key, value, output, bias, relative = layers.next("multihead_attention")
        attention = f"{block}.attention"
        found += [
            Place(f"{attention}.content_bias", content, _heads),
            Place(f"{attention}.position_bias", position, _heads),
            Place(f"{attention}.to_query.weight", query, _DENSE),
            Place(f"{attention}.to_key.weight", key, _DENSE),
            Place(f"{attention}.to_value.weight", value, _DENSE),
            Place(f"{attention}.to_output.weight", output, _DENSE),
            Place(f"{attention}.to_output.bias", bias),
            Place(f"{attention}.to_relative_key.weight", relative, _DENSE),
        ]
        found += layer_norm(f"{block}.feedforward_norm")
        found += [*dense(f"{block}.feedforward.expand"), *dense(f"{block}.feedforward.contract")]
    for n in range(config.upsamplings):
        found += [*norm(f"up.{n}.norm"), *norm(f"up.{n}.joined_norm")]
        found += [*dense(f"up.{n}.dense"), *dense(f"up.{n}.joined_dense")]
        depthwise, pointwise, bias = layers.next("separable_conv1d")
        found += [
            Place(f"up.{n}.depthwise.weight", depthwise, transposed(1, 2, 0)),
            Place(f"up.{n}.pointwise.weight", pointwise, lambda value: value[0].T),
            Place(f"up.{n}.pointwise.bias", bias),
        ]
    if config.final_channels is not None:
        found += [*norm("final.norm"), *convolution("final.conv")]
    for head in config.heads:
        found += dense(f"heads.{head}")
    return found


def heads_in(source: Source, params: Mapping[str, Any]) -> dict[str, int]:
    """Of the parameter file's heads, those that the file of weights holds: baskerville saves the first alone.

    Args:
        source: the weights.
        params: :func:`settings`.
    """
    dense = _Layers(source).left("dense")
    held = dense - 2 * params["depth"] - 2 * params["upsamplings"]
    names = list(params["heads"])
    if not 0 < held <= len(names):
        raise CheckpointError(
            f"{source.place}: has {dense} dense layers, which leaves {held} heads; the parameter file has "
            f"{len(names)}"
        )
    return {name: params["heads"][name] for name in names[:held]}


def _heads(value: Array) -> Array:
    """(1, heads, 1, key size) to (heads, key size)."""
    return value.reshape(value.shape[1], value.shape[3])
