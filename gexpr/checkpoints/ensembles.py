"""Ensembles: several checkpoints of one kind, whose predictions are averaged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gexpr.checkpoints.folder import describe, load
from gexpr.errors import ConfigError, shown
from gexpr.results import Track

if TYPE_CHECKING:
    import torch

    from gexpr.models.base import SequenceModel


class Outputs(NamedTuple):
    """What the members of an ensemble must have in common; ``name`` is for messages.

    ``context_length`` and ``bin_size`` are in bp, ``target_length`` and ``crop`` in bins.
    """

    name: str
    context_length: int
    bin_size: int
    target_length: int
    crop: int
    tracks: Sequence[Track]


class HasOutputs(Protocol):
    """A model, or the description of a checkpoint."""

    @property
    def context_length(self) -> int:
        """Bases of a window."""
        ...

    @property
    def bin_size(self) -> int:
        """Bases of a bin."""
        ...

    @property
    def target_length(self) -> int:
        """Bins that are predicted."""
        ...

    @property
    def crop(self) -> int:
        """Bins on each side that are not."""
        ...


def outputs_of(name: str, of: HasOutputs, tracks: Sequence[Track]) -> Outputs:
    """What a model or checkpoint predicts, with its tracks."""
    return Outputs(name, of.context_length, of.bin_size, of.target_length, of.crop, tracks)


_GEOMETRY = {"context_length": "bp", "bin_size": "bp", "target_length": "bins", "crop": "bins"}


def split_names(texts: Sequence[str]) -> tuple[str, ...]:
    """Names of checkpoints from what was given: each one name, or several separated by commas.

    A path that exists is one name, commas and all.

    Raises:
        ConfigError: nothing between two commas.
    """
    names: list[str] = []
    for text in texts:
        if "," not in text or os.path.exists(text):
            names.append(text)
            continue
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise ConfigError(f"a checkpoint's name is missing between the commas of {text!r}")
        names += parts
    return tuple(names)


def check_agreement(members: Sequence[Outputs], *, same_scale: bool = False) -> None:
    """Refuse models whose predictions cannot be averaged, bin by bin and track by track.

    Labels, assays and cell types of tracks may differ.

    Args:
        members: what each predicts.
        same_scale: scales and transforms of tracks must agree too.

    Raises:
        ConfigError: names both checkpoints and the first difference.
    """
    first = members[0]
    for other in members[1:]:
        refused = f"the checkpoints {first.name} and {other.name} are no ensemble"
        for name, unit in _GEOMETRY.items():
            ours, theirs = getattr(first, name), getattr(other, name)
            if ours != theirs:
                raise ConfigError(f"{refused}: {name} is {ours:,} {unit} in one and {theirs:,} in the other")
        if len(first.tracks) != len(other.tracks):
            raise ConfigError(
                f"{refused}: one has {len(first.tracks):,} tracks and the other {len(other.tracks):,}"
            )
        for own, their in zip(first.tracks, other.tracks, strict=True):
            ours, theirs = _identity(own, same_scale), _identity(their, same_scale)
            for name, value in ours.items():
                if value != theirs[name]:
                    raise ConfigError(
                        f"{refused}: the {name} of track {own.index} is {shown(value)} in one and "
                        f"{shown(theirs[name])} in the other; members have the same tracks in the same order"
                    )


def _identity(track: Track, with_scale: bool) -> dict[str, str | float]:
    pair = track.index if track.strand_pair < 0 else track.strand_pair
    found: dict[str, str | float] = {"id": track.id, "strand": track.strand, "strand_pair": pair}
    return {**found, "scale": track.scale, "transform": track.transform} if with_scale else found


def load_all(
    names: Sequence[str | os.PathLike[str]],
    device: str | torch.device = "cpu",
    *,
    same_scale: bool = False,
) -> list[SequenceModel]:
    """Load the members of an ensemble, all of them at once.

    Args:
        names: names or folders, as for :func:`gexpr.checkpoints.load`.
        device: where the models go.
        same_scale: predictions are to be averaged as the models give them, so that scales and transforms
            of tracks must agree too.

    Raises:
        ConfigError: they do not predict the same bins and tracks; told before any weights are read.
        CheckpointError, InputError: as :func:`gexpr.checkpoints.load`.
    """
    if len(names) > 1:
        described = [(os.fspath(name), describe(name)) for name in names]
        check_agreement(
            [outputs_of(name, info, info.tracks) for name, info in described], same_scale=same_scale
        )
    return [load(name, device) for name in names]
