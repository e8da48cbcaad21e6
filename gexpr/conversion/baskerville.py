"""Borzoi-type models that baskerville (or westminster) trained: Keras weights and a parameter file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gexpr.conversion import keras
from gexpr.conversion.adapter import Array, Place, Source, transposed
from gexpr.errors import ConfigError
from gexpr.models.borzoi import BorzoiConfig

ORDER = (
    r"conv_dna res_tower transformer_tower (unet_conv )*"
    r"((Cropping1D )?(conv_nac )?|conv_nac Cropping1D )"
)
"""Blocks of a trunk. A pointwise block gives the same before and after the crop."""


def settings(params: Mapping[str, Any], place: str, gelu: str = "tanh") -> dict[str, Any]:
    """Settings of :class:`BorzoiConfig` from a parameter file, with all of its heads.

    Args:
        params: :func:`gexpr.conversion.keras.read_params`.
        place: the file in messages.
        gelu: which approximation the program had; baskerville's is ``tanh``.

    Raises:
        ConfigError: a block or an option that gexpr's Borzoi does not have; the message names it.
    """
    found: dict[str, Any] = {
        "context_length": keras.context_length(params, place),
        "activation": gelu,
        "upsamplings": 0,
        "final_channels": None,
        "final_dropout": 0.0,
    }
    crop = 0
    for block in keras.blocks(params, place, ORDER, "Borzoi"):
        if block.name == "conv_dna":
            found["stem_channels"] = block.whole("filters")
            found["stem_kernel"] = block.whole("kernel_size", 15)
            block.demand("pool_size", 2, 1)
            block.demand_bare()
        elif block.name == "res_tower":
            found["tower_channels"] = block.widths()
            found["tower_kernel"] = block.whole("kernel_size", 1)
            block.demand("num_convs", 1, 2)
            block.demand("pool_size", 2, 2)
            block.demand_usual()
        elif block.name == "transformer_tower":
            found["attention_heads"] = block.whole("heads", 1)
            found["key_size"] = block.whole("key_size")
            found["relative_features"] = block.whole("num_position_features")
            found["depth"], found["dropout"] = block.whole("repeat", 2), block.take("dropout", 0.25)
            found["attention_dropout"] = block.take("attention_dropout", 0.05)
            found["position_dropout"] = block.take("position_dropout", 0.01)
            factor = block.number("dense_expansion", 2.0)
            if factor != int(factor):
                raise ConfigError(f"{block.where}: dense_expansion {factor:g} is not a whole number")
            found["feedforward_factor"] = int(factor)
            block.demand("block_type", "transformer", "transformer")
            block.demand("content_position_bias", True, True)
            block.demand("qkv_width", 1, 1)
            block.demand("out_size", None, None)
            # It hands these to no layer: its dense layers have ReLU, its norms are LayerNorm.
            block.take("activation")
            block.take("norm_type")
        elif block.name == "unet_conv":
            kernel = block.whole("kernel_size", 1)
            if found.setdefault("upsampling_kernel", kernel) != kernel:
                raise ConfigError(f"{block.where}: kernel_size {kernel} is not that of the first unet_conv")
            found["upsamplings"] += 1
            dense = block.take("upsample_conv", False)
            if not isinstance(dense, bool) or found.setdefault("upsampling_dense", dense) is not dense:
                raise ConfigError(
                    f"{block.where}: upsample_conv {dense!r} is not that of the first unet_conv"
                )
            block.demand("stride", 2, 2)
            block.demand_usual()
        elif block.name == "Cropping1D":
            crop = keras.cropping(block)
        else:
            channels = found["tower_channels"][-1]
            found["final_channels"] = block.whole("filters", channels)
            found["final_dropout"] = block.take("dropout", 0.0)
            block.demand("kernel_size", 1, 1)
            block.demand("pool_size", 1, 1)
            block.demand_usual()
        block.done()
    found["heads"] = keras.heads(params, place)
    token = 2 ** (1 + len(found["tower_channels"]))
    bins = found["context_length"] // token * 2 ** found["upsamplings"]
    found["target_length"] = bins - 2 * crop
    return found


def dense_layers(config: Mapping[str, Any]) -> int:
    """Dense layers of the trunk, from its :func:`settings`."""
    return 2 * int(config["depth"]) + int(config["upsamplings"]) * (1 + config.get("upsampling_dense", True))


def places(config: BorzoiConfig, source: Source) -> list[Place]:
    """The table of names for a model of this config; its heads are those that the file holds."""
    layers = keras.Layers(source)
    found = [*layers.convolution("stem")]
    for n in range(len(config.tower_channels)):
        found += [*layers.norm(f"tower.{n}.norm"), *layers.convolution(f"tower.{n}.conv")]
    for b in range(config.depth):
        block = f"transformer.{b}"
        found += layers.layer_norm(f"{block}.attention_norm")
        content, position, query, key, value, output, bias, relative = layers.next("multihead_attention", 8)
        attention, dense = f"{block}.attention", transposed(1, 0)
        found += [
            Place(f"{attention}.content_bias", content, _heads),
            Place(f"{attention}.position_bias", position, _heads),
            Place(f"{attention}.to_query.weight", query, dense),
            Place(f"{attention}.to_key.weight", key, dense),
            Place(f"{attention}.to_value.weight", value, dense),
            Place(f"{attention}.to_output.weight", output, dense),
            Place(f"{attention}.to_output.bias", bias),
            Place(f"{attention}.to_relative_key.weight", relative, dense),
        ]
        found += layers.layer_norm(f"{block}.feedforward_norm")
        found += layers.dense(f"{block}.feedforward.expand")
        found += layers.dense(f"{block}.feedforward.contract")
    for n in range(config.upsamplings):
        found += [*layers.norm(f"up.{n}.norm"), *layers.norm(f"up.{n}.joined_norm")]
        if config.upsampling_dense:
            found += layers.dense(f"up.{n}.dense")
        found += layers.dense(f"up.{n}.joined_dense")
        depthwise, pointwise, bias = layers.next("separable_conv1d", 3)
        found += [
            Place(f"up.{n}.depthwise.weight", depthwise, transposed(1, 2, 0)),
            Place(f"up.{n}.pointwise.weight", pointwise, lambda value: value[0].T),
            Place(f"up.{n}.pointwise.bias", bias),
        ]
    if config.final_channels is not None:
        found += [*layers.norm("final.norm"), *layers.convolution("final.conv")]
    for head in config.heads:
        found += layers.dense(f"heads.{head}")
    return found


def _heads(value: Array) -> Array:
    """(1, heads, 1, key size) to (heads, key size)."""
    return value.reshape(value.shape[1], value.shape[3])
