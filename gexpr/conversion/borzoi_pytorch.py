"""Borzoi and Flashzoi from borzoi-pytorch's state dict.

Sources: johahi/borzoi-pytorch (pytorch_borzoi_model.py, pytorch_borzoi_transformer.py), version 0.4.2;
Dao-AILab/flash-attention (modules/mha.py, layers/rotary.py), whose attention Flashzoi has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gexpr.conversion.adapter import Array, Change, Dropped, Place, Source
from gexpr.conversion.enformer import pytorch_transformer
from gexpr.errors import CheckpointError
from gexpr.models.borzoi import FLASHZOI, BorzoiConfig

CONTEXT_TOKENS = 4096
"""Tokens of the published context; shapes do not tell for which a model was trained."""
CENTER_BINS = 6144
"""Bins that the published model predicts by default, of those in the middle."""

FLASHZOI_HEADS = 8
"""Heads of the published Flashzoi; shapes tell only how many there are for each of keys and values."""

DROPPED = (
    Dropped(r".*\.positions", "relative features of one length, which are computed"),
    Dropped(r".*\.rotary_emb\.inv_freq", "frequencies of rotary positions, which are computed"),
)


def places(config: BorzoiConfig) -> Iterator[Place]:
    """The table of names."""
    yield Place("stem.weight", "conv_dna.conv_layer.weight")
    yield Place("stem.bias", "conv_dna.conv_layer.bias")
    last = len(config.tower_channels) - 1
    for n in range(last):
        yield from _block(f"tower.{n}", f"res_tower.{2 * n}")
    yield from _block(f"tower.{last}", "unet1.1")
    for b in range(config.depth):
        layer = f"transformer.{b}"
        if config.positions == "rotary":
            for place in pytorch_transformer(layer, layer):
                if not place.target.startswith(f"{layer}.attention."):
                    yield place
            yield from _flash_attention(f"{layer}.attention", f"{layer}.0.fn.1.mha", config)
        else:
            yield from pytorch_transformer(layer, layer)
    for n in range(config.upsamplings):
        number = config.upsamplings - 1 - n
        ours = f"up.{n}"
        yield from _dense_block(f"{ours}.norm", f"{ours}.dense", f"upsampling_unet{number}.0")
        yield from _dense_block(f"{ours}.joined_norm", f"{ours}.joined_dense", f"horizontal_conv{number}")
        separable = f"separable{number}.conv_layer"
        yield Place(f"{ours}.depthwise.weight", f"{separable}.0.weight")
        yield Place(f"{ours}.pointwise.weight", f"{separable}.1.weight", _square)
        yield Place(f"{ours}.pointwise.bias", f"{separable}.1.bias")
    yield from _block("final", "final_joined_convs.0")
    for head in config.heads:
        yield Place(f"heads.{head}.weight", f"{head}_head.weight", _square)
        yield Place(f"heads.{head}.bias", f"{head}_head.bias")


def _flash_attention(ours: str, theirs: str, config: BorzoiConfig) -> Iterator[Place]:
    """Queries, keys and values of all heads are rows, in this order, of one matrix."""
    sizes = [config.attention_heads * config.key_size, *[config.key_value_head_count * config.key_size] * 2]
    total, start = sum(sizes), 0
    for name, size in zip(("query", "key", "value"), sizes, strict=True):
        for kind in ("weight", "bias"):
            change = _rows(start, start + size, total)
            yield Place(f"{ours}.to_{name}.{kind}", f"{theirs}.Wqkv.{kind}", change)
        start += size
    for kind in ("weight", "bias"):
        yield Place(f"{ours}.to_output.{kind}", f"{theirs}.out_proj.{kind}")


def _rows(start: int, stop: int, total: int) -> Change:
    """Some of ``total`` rows; where there are not so many, all, whose shape is refused then."""
    return lambda value: value[start:stop] if len(value) == total else value


def _norm(ours: str, theirs: str) -> Iterator[Place]:
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield Place(f"{ours}.{name}", f"{theirs}.{name}")


def _block(ours: str, theirs: str) -> Iterator[Place]:
    yield from _norm(f"{ours}.norm", f"{theirs}.norm")
    for name in ("weight", "bias"):
        yield Place(f"{ours}.conv.{name}", f"{theirs}.conv_layer.{name}")


def _dense_block(norm: str, dense: str, theirs: str) -> Iterator[Place]:
    yield from _norm(norm, f"{theirs}.norm")
    yield Place(f"{dense}.weight", f"{theirs}.conv_layer.weight", _square)
    yield Place(f"{dense}.bias", f"{theirs}.conv_layer.bias")


def _square(value: Array) -> Array:
    """A convolution of width 1 as a matrix."""
    return value.reshape(value.shape[:2])


def settings(
    source: Source, config_file: Mapping[str, Any] | None = None, /, **changes: Any
) -> dict[str, Any]:
    """Settings of the model whose state dict this is, as far as shapes tell; ``changes`` say the rest.

    Args:
        source: the state dict.
        config_file: borzoi-pytorch's ``config.json``; of it ``heads`` is needed for a Flashzoi that has not
            the published 8.
        changes: settings that are not None take the place of those found.

    Raises:
        CheckpointError: it is neither a Borzoi nor a Flashzoi.
    """
    stem = source.shape("conv_dna.conv_layer.weight")
    tower = sorted(
        int(match[1])
        for name in source
        if (match := re.fullmatch(r"res_tower\.(\d+)\.conv_layer\.weight", name))
    )
    blocks = [source.shape(f"res_tower.{n}.conv_layer.weight") for n in tower]
    blocks.append(source.shape("unet1.1.conv_layer.weight"))
    flash = any(".mha.Wqkv." in name for name in source)
    channels = blocks[-1][0]
    upsamplings = sum(
        re.fullmatch(r"separable\d+\.conv_layer\.0\.weight", name) is not None for name in source
    )
    token = 2 ** (1 + len(blocks))
    context = changes.get("context_length") or CONTEXT_TOKENS * token
    bins = context // token * 2**upsamplings
    found = dict(
        context_length=context,
        target_length=min(bins, CENTER_BINS),
        heads={
            match[1]: shape[0]
            for name, shape in source.shapes.items()
            if (match := re.fullmatch(r"(.+)_head\.weight", name))
        },
        stem_channels=stem[0],
        stem_kernel=stem[2],
        tower_channels=[each[0] for each in blocks],
        tower_kernel=blocks[0][2],
        depth=sum(re.fullmatch(r"transformer\.\d+\.0\.fn\.0\.weight", name) is not None for name in source),
        **(_flash_settings(source, channels, config_file or {}) if flash else _relative_settings(source)),
        feedforward_factor=source.shape("transformer.0.1.fn.1.weight")[0] // channels,
        upsamplings=upsamplings,
        upsampling_kernel=source.shape("separable0.conv_layer.0.weight")[2],
        final_channels=source.shape("final_joined_convs.0.conv_layer.weight")[0],
    )
    return {**found, **{name: value for name, value in changes.items() if value is not None}}


def _relative_settings(source: Source) -> dict[str, Any]:
    attention = "transformer.0.0.fn.1"
    bias = source.shape(f"{attention}.rel_content_bias")
    return dict(
        attention_heads=bias[1],
        key_size=bias[3],
        value_size=source.shape(f"{attention}.to_v.weight")[0] // bias[1],
        relative_features=source.shape(f"{attention}.to_rel_k.weight")[1],
    )


def _flash_settings(source: Source, channels: int, config_file: Mapping[str, Any]) -> dict[str, Any]:
    attention = "transformer.0.0.fn.1.mha"
    rows = source.shape(f"{attention}.Wqkv.weight")[0]
    heads = config_file.get("heads", FLASHZOI_HEADS)
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1:
        raise CheckpointError(f"{source.place}: heads in its config.json is {heads!r}, not a number of heads")
    size, rest = divmod(channels, heads)
    groups = 0 if rest else (rows - channels) // (2 * size)
    if groups < 1 or heads % groups or rows != (heads + 2 * groups) * size:
        raise CheckpointError(
            f"{source.place}: {attention}.Wqkv.weight has {rows} rows, which are not those of {heads} heads "
            f"that share keys and values at a width of {channels}; config.json beside it says how many heads"
        )
    features = _rotary_features(source)
    if features > size:
        raise CheckpointError(
            f"{source.place}: is a Flashzoi whose {heads} heads have {size} numbers each, fewer than the "
            f"{features} of its rotary positions; config.json beside it says how many heads"
        )
    return dict(
        FLASHZOI, attention_heads=heads, key_size=size, key_value_heads=groups, rotary_features=features
    )


def _rotary_features(source: Source) -> int:
    """Numbers of a key that are turned: the published ones, unless the frequencies are there to be counted.

    Raises:
        CheckpointError: there are frequencies, of another base than :class:`BorzoiConfig` has.
    """
    features: int = FLASHZOI["rotary_features"]
    for name in source:
        if name.endswith(".rotary_emb.inv_freq"):
            found = np.asarray(source[name], dtype=np.float64)
            features = 2 * len(found)
            expected = BorzoiConfig.rotary_base ** (-np.arange(0, features, 2) / features)
            # They may have been rounded to bfloat16.
            if not np.allclose(found, expected, rtol=0.01, atol=0):
                raise CheckpointError(
                    f"{source.place}: {name} is not that of rotary positions with base "
                    f"{BorzoiConfig.rotary_base:g}"
                )
    return features
