"""Writes weights to HDF5 as Keras 2 does, from arrays in Keras's own layout."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

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
