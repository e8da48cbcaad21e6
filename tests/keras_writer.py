"""Writes weights to HDF5 as Keras 2 does, from arrays in Keras's own layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from gexpr.conversion import baskerville
from gexpr.models.borzoi import Borzoi, BorzoiConfig

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


class KerasFile:
    """Layers with their weights, numbered by kind as Keras numbers them.

    Args:
        first: kind -> number of its first layer, 0 for what is not named.
    """

    def __init__(self, first: dict[str, int] | None = None) -> None:
        self._numbers = dict(first or {})
        self.layers: list[tuple[str, list[tuple[str, np.ndarray]]]] = []

    def add(self, kind: str, **weights: np.ndarray) -> None:
        """One layer; ``__`` in the name of a weight is a slash."""
        number = self._numbers.get(kind, 0)
        self._numbers[kind] = number + 1
        name = f"{kind}_{number}" if number else kind
        named = [(f"{name}/{weight.replace('__', '/')}:0", value) for weight, value in weights.items()]
        self.layers.append((name, named))

    def save(self, path: Path) -> Path:
        """Write the file, with a layer without weights, and not in the order of the layers' numbers."""
        with h5py.File(path, "w") as file:
            group = file.create_group("model_weights")
            # Keras lists layers in the order of the graph, not of their numbers.
            order = [*self.layers[1::2], *self.layers[::2]]
            group.attrs["layer_names"] = [name.encode() for name, _ in order] + [b"dropout"]
            group.create_group("dropout").attrs["weight_names"] = np.zeros(0, dtype="S1")
            for name, weights in order:
                one = group.create_group(name)
                one.attrs["weight_names"] = [weight.encode() for weight, _ in weights]
                for weight, value in weights:
                    one[weight] = value
        return path


def write_params(params: dict[str, Any], folder: Path) -> Path:
    """A parameter file."""
    path = folder / "params.json"
    path.write_text(json.dumps({"train": {"batch_size": 4}, "model": params}))
    return path


BORZOI_PARAMS: dict[str, Any] = {
    "seq_length": 256,
    "activation": "gelu",
    "norm_type": "batch",
    "trunk": [
        {
            "name": "conv_dna",
            "filters": 6,
            "kernel_size": 7,
            "norm_type": None,
            "activation": "linear",
            "pool_size": 2,
        },
        {
            "name": "res_tower",
            "filters_init": 8,
            "filters_end": 12,
            "divisible_by": 2,
            "kernel_size": 5,
            "num_convs": 1,
            "pool_size": 2,
            "repeat": 3,
        },
        {
            "name": "transformer_tower",
            "key_size": 4,
            "heads": 2,
            "num_position_features": 8,
            "dropout": 0.2,
            "repeat": 2,
        },
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "unet_conv", "kernel_size": 3, "upsample_conv": True},
        {"name": "Cropping1D", "cropping": 8},
        {"name": "conv_nac", "filters": 20, "dropout": 0.1},
    ],
    "head_human": {"name": "final", "units": 5, "activation": "softplus"},
    "head_mouse": {"name": "final", "units": 3, "activation": "softplus"},
}


def drawn_borzoi(heads: dict[str, int], params: dict[str, Any] | None = None) -> Borzoi:
    """A model of these settings with drawn weights."""
    settings = baskerville.settings(params or BORZOI_PARAMS, "params")
    model = Borzoi(BorzoiConfig.from_dict({**settings, "heads": heads})).eval()
    with torch.no_grad():
        for each in (*model.parameters(), *model.buffers()):
            if each.is_floating_point():
                each.copy_(torch.randn(each.shape) * 0.2 + (each.ndim == 1))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                assert module.running_var is not None
                module.running_var.abs_().add_(0.1)
    return model


def write_borzoi(path: Path, model: Borzoi, norms: str = "batch_normalization") -> None:
    """The model as Keras would save it: transposed, its layers numbered by kind."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    file = KerasFile()

    def norm(name: str) -> None:
        ours = ("weight", "bias", "running_mean", "running_var")
        values = {key: state[f"{name}.{each}"] for key, each in zip(BATCH_NORM, ours, strict=True)}
        file.add(norms, **values)

    def convolution(name: str) -> None:
        file.add("conv1d", kernel=state[f"{name}.weight"].transpose(2, 1, 0), bias=state[f"{name}.bias"])

    def dense(name: str) -> None:
        file.add("dense", kernel=state[f"{name}.weight"].T, bias=state[f"{name}.bias"])

    def layer_norm(name: str) -> None:
        file.add("layer_normalization", gamma=state[f"{name}.weight"], beta=state[f"{name}.bias"])

    convolution("stem")
    for n in range(3):
        norm(f"tower.{n}.norm")
        convolution(f"tower.{n}.conv")
    for b in range(2):
        block, a = f"transformer.{b}", f"transformer.{b}.attention"
        layer_norm(f"{block}.attention_norm")
        file.add(
            "multihead_attention",
            r_w_bias=state[f"{a}.content_bias"][None, :, None],
            r_r_bias=state[f"{a}.position_bias"][None, :, None],
            q_layer__kernel=state[f"{a}.to_query.weight"].T,
            k_layer__kernel=state[f"{a}.to_key.weight"].T,
            v_layer__kernel=state[f"{a}.to_value.weight"].T,
            embedding_layer__kernel=state[f"{a}.to_output.weight"].T,
            embedding_layer__bias=state[f"{a}.to_output.bias"],
            r_k_layer__kernel=state[f"{a}.to_relative_key.weight"].T,
        )
        layer_norm(f"{block}.feedforward_norm")
        dense(f"{block}.feedforward.expand")
        dense(f"{block}.feedforward.contract")
    for n in range(2):
        norm(f"up.{n}.norm")
        norm(f"up.{n}.joined_norm")
        if model.config.upsampling_dense:
            dense(f"up.{n}.dense")
        dense(f"up.{n}.joined_dense")
        file.add(
            "separable_conv1d",
            depthwise_kernel=state[f"up.{n}.depthwise.weight"].transpose(2, 0, 1),
            pointwise_kernel=state[f"up.{n}.pointwise.weight"].T[None],
            bias=state[f"up.{n}.pointwise.bias"],
        )
    norm("final.norm")
    convolution("final.conv")
    for head in model.config.heads:
        dense(f"heads.{head}")
    file.save(path)
