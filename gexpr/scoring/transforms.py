"""What a track's ``transform`` means for a score: the natural scale, and which statistics it allows.

===================  ============================================================================
``count``            predictions are counts or coverage; every formula applies as written
``squashed:...``     Borzoi-type squashing; inverted before any statistic
``log2``, ``ln``     the target was a logarithm; ``logFC`` is the mean over bins of alt - ref in log2
                     units, other statistics of counts are refused
``linear``           an arbitrary scale, possibly negative; only differences (SAD, SAX, D1, D2)
``affine:shift=S``   the target was ``scale * value + S``, with the track's ``scale`` column; undone
                     always, after which it is ``linear``
===================  ============================================================================

Grammar of ``squashed``: ``squashed:FORM`` followed by ``,name=value`` pairs.

``squashed:power,exponent=0.75,clip_soft=384``
    Borzoi's published data: ``y = scale * soft(x ** exponent)`` with ``soft(v) = c + sqrt(v - c)``
    above the clip ``c``. The track's ``scale`` column is divided out before the rest.
``squashed:shifted_power,exponent=0.5,clip_soft=384``
    Later data of the same group: ``y = soft((1 + scale * x) ** exponent - 1)`` with
    ``soft(v) = c - 1 + sqrt(v - c + 1)``. The result stays multiplied by ``scale``, like ``count``.

``clip_soft`` may be left out when no soft clip was applied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch

from gexpr.errors import ConfigError
from gexpr.results import Track, affine_shift
from gexpr.scoring.definitions import STATISTICS
from gexpr.scoring.devices import indices

LOG_UNITS = {"log2": 1.0, "ln": 1.4426950408889634}
"""Transforms that are logarithms, with the factor that turns them into log2."""


class Squash(NamedTuple):
    """Parameters of a ``squashed:`` transform; see the module's docstring."""

    form: str
    exponent: float
    clip_soft: float | None


def parse_squash(text: str) -> Squash:
    """Parameters of a ``squashed:`` transform.

    Raises:
        ConfigError: the form is unknown or a parameter is missing or wrong.
    """
    match = re.fullmatch(r"squashed:([a-z_]+)((?:,[a-z_]+=[^,=]+)*)", text.strip())
    if match is None or match.group(1) not in ("power", "shifted_power"):
        raise ConfigError(
            f"track transform {text!r} cannot be inverted: the known forms are "
            "squashed:power and squashed:shifted_power with exponent=..., clip_soft=..."
        )
    values: dict[str, float] = {}
    for pair in match.group(2).split(",")[1:]:
        name, _, value = pair.partition("=")
        try:
            values[name] = float(value)
        except ValueError:
            raise ConfigError(f"track transform {text!r}: {name}={value!r} is not a number") from None
    unknown = set(values) - {"exponent", "clip_soft"}
    if unknown or not 0 < values.get("exponent", 0) <= 1:
        raise ConfigError(
            f"track transform {text!r} needs an exponent between 0 and 1"
            + (f" and has unknown parameters {sorted(unknown)}" if unknown else "")
        )
    return Squash(match.group(1), values["exponent"], values.get("clip_soft"))


def unsquash(values: torch.Tensor, squash: Squash, scale: float) -> torch.Tensor:
    """The inverse of one squashing, elementwise; negative predictions count as 0."""
    values = values.clamp_min(0.0)
    clip = squash.clip_soft
    if squash.form == "power":
        values = values / scale
        if clip is not None:
            values = torch.where(values > clip, (values - clip).square() + clip, values)
        return values.pow(1.0 / squash.exponent)
    if clip is not None:
        values = torch.where(values > clip, (values - clip + 1.0).square() + clip - 1.0, values)
    return (values + 1.0).pow(1.0 / squash.exponent) - 1.0


def is_linear(track: Track) -> bool:
    """Whether a track's natural scale is arbitrary and may be negative."""
    return track.transform == "linear" or _shift(track) is not None


def _shift(track: Track) -> float | None:
    try:
        return affine_shift(track.transform)
    except ValueError as error:
        raise ConfigError(f"track {track.id!r}: {error}") from None


class NaturalScale:
    """Turns predictions of the selected tracks into their natural scale.

    Args:
        tracks: the tracks, in the order of the predictions' last axis.
        unsquash: False leaves squashed tracks as they are, whatever their form; affine ones are undone
            all the same.

    Raises:
        ConfigError: a transform is unknown or, with ``unsquash``, cannot be inverted.
    """

    def __init__(self, tracks: Sequence[Track], unsquash: bool = True) -> None:
        groups: dict[tuple[Squash, float], list[int]] = {}
        affine: dict[int, tuple[float, float]] = {}
        for column, track in enumerate(tracks):
            shift = _shift(track)
            if shift is not None:
                affine[column] = (shift, track.scale)
                continue
            if track.transform in ("count", "linear", *LOG_UNITS):
                continue
            if not track.transform.startswith("squashed:"):
                raise ConfigError(
                    f"track {track.id!r} has the unknown transform {track.transform!r} "
                    "(known: count, squashed:..., log2, ln, linear, affine:shift=...)"
                )
            if unsquash:
                groups.setdefault((parse_squash(track.transform), track.scale), []).append(column)
        self._groups = groups
        self._affine = list(affine)
        self._shifts = torch.tensor([shift for shift, _ in affine.values()], dtype=torch.float64)
        self._scales = torch.tensor([scale for _, scale in affine.values()], dtype=torch.float64)

    def __call__(self, predictions: torch.Tensor) -> torch.Tensor:
        """Predictions (..., tracks) in natural scale, same shape; the input is left alone."""
        if not self._groups and not self._affine:
            return predictions
        natural = predictions.clone()
        if self._affine:
            places = indices(self._affine, predictions.device)
            shifts, scales = (each.to(predictions.device) for each in (self._shifts, self._scales))
            values = (predictions[..., places].double() - shifts) / scales
            natural[..., places] = values.to(predictions.dtype)
        for (squash, scale), columns in self._groups.items():
            places = indices(columns, predictions.device)
            natural[..., places] = unsquash(predictions[..., places], squash, scale)
        return natural


def check_statistics(tracks: Sequence[Track], statistics: Sequence[str]) -> None:
    """Refuse statistics that mean nothing for a track's scale.

    Raises:
        ConfigError: names the statistic, the track, the transform and the reason.
    """
    for track in tracks:
        for name in statistics:
            if STATISTICS[name].differences or not (is_linear(track) or track.transform in LOG_UNITS):
                continue
            if name == "logFC" and track.transform in LOG_UNITS:
                continue
            reason = (
                "its scale is arbitrary and may be negative"
                if is_linear(track)
                else "its predictions are logarithms already"
            )
            allowed = [n for n, d in STATISTICS.items() if d.differences]
            if track.transform in LOG_UNITS:
                allowed.insert(0, "logFC")
            raise ConfigError(
                f"{name} is not defined for track {track.id!r} with transform {track.transform!r}: "
                f"{reason}; ask for --stats {','.join(allowed[:2])} or leave the track out with --tracks"
            )
