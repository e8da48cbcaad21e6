"""What every conversion does: tensors of a source take their places, and none is left over.

An adapter is a table of :class:`Place`. Each source tensor is consumed by one place (or by several, each of
which takes its rows), or is listed as left out on purpose, with the reason; anything else is an error that
names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.errors import CheckpointError
from gexpr.models.base import SequenceModel

Array = NDArray[np.generic]


class Source(Mapping[str, Array]):
    """Tensors by name; each is read when it is asked for.

    Args:
        place: what messages call the source.
        shapes: shape of every tensor.
        read: reads one.
    """

    def __init__(
        self, place: str, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Array]
    ) -> None:
        self.place = place
        self.shapes = dict(shapes)
        self._read = read

    def __getitem__(self, name: str) -> Array:
        return self._read(name)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def shape(self, name: str, axes: int | None = None) -> tuple[int, ...]:
        """Shape of a tensor.

        Args:
            name: the tensor's.
            axes: how many it has to have, none of them empty; None takes any shape.

        Raises:
            CheckpointError: there is none of this name, or it has another number of axes.
        """
        if name not in self.shapes:
            raise CheckpointError(f"{self.place}: has no tensor {name}; is it a model of another kind?")
        shape = self.shapes[name]
        if axes is not None and (len(shape) != axes or 0 in shape):
            raise CheckpointError(f"{self.place}: {name} has shape {shape}; it should have {axes} axes")
        return shape


Change = Callable[[Array], Array]


class Place(NamedTuple):
    """One tensor of the model: its name, the source's name, and what is done to the numbers."""

    target: str
    source: str
    change: Change | None = None


class Dropped(NamedTuple):
    """Source tensors that are left out on purpose: a pattern of names, and why."""

    pattern: str
    reason: str


def transposed(*axes: int) -> Change:
    """Another order of axes."""
    return lambda value: np.transpose(value, axes)


def reshaped(*shape: int) -> Change:
    """Another shape."""
    return lambda value: value.reshape(shape)


def take_in(
    model: SequenceModel,
    source: Source,
    places: Iterable[Place],
    dropped: Iterable[Dropped] = (),
    new: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, str]:
    """Give a model on the meta device the tensors of a source.

    Args:
        model: its tensors are replaced, in float32 unless the model's are of another type.
        source: where they come from.
        places: one for every tensor of the model, ``num_batches_tracked`` of normalizations excepted.
        dropped: what the source may have besides.
        new: tensors of the model that the source has nothing for.

    Returns:
        Name -> reason of every source tensor that was dropped.

    Raises:
        CheckpointError: a tensor is missing, left over, of another shape, or not finite.
    """
    wanted = {name: (tuple(value.shape), value.dtype) for name, value in model.state_dict().items()}
    state: dict[str, torch.Tensor] = dict(new or {})
    used: set[str] = set()
    for place in places:
        source.shape(place.source)
        if place.target not in wanted:
            raise AssertionError(f"the model has no {place.target}")
        shape, dtype = wanted[place.target]
        value = source[place.source]
        if value.dtype.kind not in "fiu":
            raise CheckpointError(f"{source.place}: {place.source} holds {value.dtype}, not real numbers")
        if place.change is not None:
            try:
                value = place.change(value)
            except (ValueError, IndexError) as error:
                raise CheckpointError(
                    f"{source.place}: {place.source} has shape {source.shape(place.source)}, which cannot be "
                    f"that of {place.target} {shape}: {error}"
                ) from error
        if value.shape != shape:
            raise CheckpointError(
                f"{source.place}: {place.source} has shape {source.shape(place.source)}, which gives "
                f"{value.shape} for {place.target} instead of {shape}"
            )
        if not np.isfinite(value).all():
            raise CheckpointError(f"{source.place}: {place.source} holds numbers that are not finite")
        # A copy: what is read may be a part of a file.
        state[place.target] = torch.from_numpy(np.array(value, order="C")).to(dtype)
        used.add(place.source)
    for name, (shape, dtype) in wanted.items():
        if name not in state and name.endswith("num_batches_tracked"):
            state[name] = torch.zeros(shape, dtype=dtype)
    missing = sorted(set(wanted) - set(state))
    if missing:
        raise AssertionError(f"the table has nothing for {', '.join(missing)}")

    reasons: dict[str, str] = {}
    for name in source:
        if name not in used:
            reason = next((each.reason for each in dropped if re.fullmatch(each.pattern, name)), None)
            if reason is not None:
                reasons[name] = reason
    left = [name for name in source if name not in used and name not in reasons]
    if left:
        shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        raise CheckpointError(
            f"{source.place}: {len(left)} tensors have no place in the model: {shown}; "
            "it is not (only) a model of this kind"
        )
    model.load_state_dict(state, strict=True, assign=True)
    model.eval()
    return reasons
