"""Basenji2 and models like it, which basenji (or baskerville) trained: Keras weights and a parameter file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gexpr.conversion import keras
from gexpr.conversion.adapter import Place, Source
from gexpr.errors import ConfigError
from gexpr.models.basenji import BasenjiConfig

ORDER = r"conv_block (conv_tower )?(dilated_residual )?(Cropping1D )?conv_block "
"""Blocks of a trunk."""


def settings(params: Mapping[str, Any], place: str, gelu: str = "sigmoid") -> dict[str, Any]:
    """Settings of :class:`BasenjiConfig` from a parameter file, with all of its heads.

    Args:
        params: :func:`gexpr.conversion.keras.read_params`.
        place: the file in messages.
        gelu: which approximation the program had: ``sigmoid`` when Basenji2 was trained, later ``tanh``.

    Raises:
        ConfigError: a block or an option that gexpr's Basenji does not have; the message names it.
    """
    found: dict[str, Any] = {
        "context_length": keras.context_length(params, place),
        "activation": gelu,
        "num_downsamples": 1,
        "tower_channels": [],
        "dilated_layers": 0,
    }
    crop = 0
    for number, block in enumerate(keras.blocks(params, place, ORDER, "Basenji")):
        if block.name == "conv_block" and number == 0:
            found["stem_channels"] = block.whole("filters")
            found["stem_kernel"] = block.whole("kernel_size", 1)
            block.demand("pool_size", 2, 1)
            block.demand_usual()
        elif block.name == "conv_tower":
            found["tower_channels"] = block.widths()
            found["num_downsamples"] += len(found["tower_channels"])
            found["tower_kernel"] = block.whole("kernel_size", 1)
            block.demand("pool_size", 2, 1)
            block.demand_usual()
        elif block.name == "dilated_residual":
            found["dilated_channels"] = block.whole("filters")
            found["dilated_layers"] = block.whole("repeat", 1)
            found["dilated_rate"] = block.number("rate_mult", 2)
            found["dilated_dropout"] = block.take("dropout", 0.0)
            block.demand("kernel_size", 3, 3)
            block.demand("pool_size", 1, 1)
            _check_rates(block, found)
            block.demand_usual()
        elif block.name == "Cropping1D":
            crop = keras.cropping(block)
        else:
            found["final_channels"] = block.whole("filters")
            found["final_dropout"] = block.take("dropout", 0.0)
            block.demand("kernel_size", 1, 1)
            block.demand("pool_size", 1, 1)
            block.demand_usual()
        block.done()
    found["heads"] = keras.heads(params, place)
    found["target_length"] = found["context_length"] // 2 ** found["num_downsamples"] - 2 * crop
    return found


def _check_rates(block: keras.Block, found: Mapping[str, Any]) -> None:
    """Refuse dilations that are not ours, which are rounded one after the other."""
    rounded = block.take("round", False)
    if rounded is True:
        return
    exact = ours = 1.0
    for _ in range(found["dilated_layers"]):
        if int(np.round(exact)) != ours:
            raise ConfigError(
                f"{block.where}: round {rounded!r} with rate_mult {found['dilated_rate']:g} is not "
                "supported, only true"
            )
        exact *= found["dilated_rate"]
        ours = float(np.round(ours * found["dilated_rate"]))


def places(config: BasenjiConfig, source: Source) -> list[Place]:
    """The table of names for a model of this config; its heads are those that the file holds."""
    layers = keras.Layers(source)
    names = ["stem", *(f"tower.{n}" for n in range(len(config.tower_widths)))]
    for n in range(config.dilated_layers):
        names += [f"dilated.{n}.dilated", f"dilated.{n}.pointwise"]
    found: list[Place] = []
    for name in [*names, "final"]:
        found += layers.convolution(f"{name}.conv", bias=False)
        found += layers.norm(f"{name}.norm")
    for head in config.heads:
        found += layers.dense(f"heads.{head}")
    return found
