"""Borzoi from borzoi-pytorch's state dict.

Source: johahi/borzoi-pytorch (modeling_borzoi.py), version 0.4.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gexpr.conversion.adapter import Array, Dropped, Place, Source
from gexpr.conversion.enformer import pytorch_transformer
from gexpr.errors import CheckpointError
from gexpr.models.borzoi import BorzoiConfig

CONTEXT_TOKENS = 4096
"""Tokens of the published context; shapes do not tell for which a model was trained."""
CENTER_BINS = 6144
"""Bins that the published model predicts by default, of those in the middle."""

DROPPED = (Dropped(r".*\.positions", "relative features of one length, which are computed"),)


def places(config: BorzoiConfig) -> Iterator[Place]:
    """The table of names."""
    yield Place("stem.weight", "conv_dna.conv_layer.weight")
    yield Place("stem.bias", "conv_dna.conv_layer.bias")
    last = len(config.tower_channels) - 1
    for n in range(last):
        yield from _block(f"tower.{n}", f"res_tower.{2 * n}")
    yield from _block(f"tower.{last}", "unet1.1")
    for b in range(config.depth):
        yield from pytorch_transformer(f"transformer.{b}", f"transformer.{b}")
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


def settings(source: Source, **changes: Any) -> dict[str, Any]:
    """Settings of the model whose state dict this is, as far as shapes tell; ``changes`` say the rest.

    Raises:
        CheckpointError: it is no Borzoi, or one with rotary positions (Flashzoi), which gexpr does not have.
    """
    if any(".mha.Wqkv." in name for name in source):
        raise CheckpointError(
            f"{source.place}: is a Flashzoi (rotary positions, grouped heads), which cannot be converted yet"
        )
    stem = source.shape("conv_dna.conv_layer.weight")
    tower = sorted(
        int(match[1])
        for name in source
        if (match := re.fullmatch(r"res_tower\.(\d+)\.conv_layer\.weight", name))
    )
    blocks = [source.shape(f"res_tower.{n}.conv_layer.weight") for n in tower]
    blocks.append(source.shape("unet1.1.conv_layer.weight"))
    attention = "transformer.0.0.fn.1"
    bias = source.shape(f"{attention}.rel_content_bias")
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
        attention_heads=bias[1],
        key_size=bias[3],
        value_size=source.shape(f"{attention}.to_v.weight")[0] // bias[1],
        relative_features=source.shape(f"{attention}.to_rel_k.weight")[1],
        feedforward_factor=source.shape("transformer.0.1.fn.1.weight")[0] // channels,
        upsamplings=upsamplings,
        upsampling_kernel=source.shape("separable0.conv_layer.0.weight")[2],
        final_channels=source.shape("final_joined_convs.0.conv_layer.weight")[0],
    )
    return {**found, **{name: value for name, value in changes.items() if value is not None}}
