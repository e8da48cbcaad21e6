"""Positions in attention: Enformer's relative features, and rotary embeddings."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

GAMMA_FLOOR = 1e-8
GAMMA_NORMALIZATIONS = ("positions", "features")


def relative_features(
    length: int,
    features: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    gamma_normalization: str = "positions",
) -> Tensor:
    """Enformer's features of the distances -(T-1) .. T-1 (key minus query): (2T-1, features).

    Three classes of ``features / 6`` each, exponential decay, central mask and gamma density, and
    the same again times the sign of the distance. Computed in float64.

    Args:
        length: T, in bins.
        features: a multiple of 6.
        gamma_normalization: the gamma features are divided by their maximum over ``positions``, which is
            what the published weights were trained with, or over ``features``, as enformer-pytorch does.
    """
    return _cached_features(length, features, dtype, str(device), gamma_normalization)


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # cached: must serve training too
def _cached_features(
    length: int, features: int, dtype: torch.dtype, device: str, gamma_normalization: str
) -> Tensor:
    per_class = features // 6
    distance = torch.arange(length, dtype=torch.float64)
    half = torch.cat(
        [
            exponential_features(distance, length, per_class),
            central_mask_features(distance, per_class),
            gamma_features(distance, length, per_class, gamma_normalization),
        ],
        dim=-1,
    )
    both = torch.cat([half.flip(0)[:-1], half])
    sign = torch.sign(torch.arange(-(length - 1), length, dtype=torch.float64))
    return torch.cat([both, sign[:, None] * both], dim=-1).to(device=device, dtype=dtype)


def exponential_features(distance: Tensor, length: int, count: int) -> Tensor:
    """``2^(-|d| / h)`` with half lives h from 8 to the length in equal ratios: (T,) -> (T, count)."""
    half_life = 2.0 ** torch.linspace(3.0, math.log2(length), count, dtype=distance.dtype)
    return torch.exp(-math.log(2.0) / half_life * distance[:, None])


def central_mask_features(distance: Tensor, count: int) -> Tensor:
    """1 where ``|d| < 2^k - 1``, k = 1 .. count: (T,) -> (T, count)."""
    widths = 2.0 ** torch.arange(1, count + 1, dtype=distance.dtype) - 1
    return (widths > distance[:, None]).to(distance.dtype)


def gamma_features(distance: Tensor, length: int, count: int, normalization: str = "positions") -> Tensor:
    """Gamma densities with means from T/count to T, scaled to a maximum of 1: (T,) -> (T, count)."""
    stddev = length / (2 * count)
    mean = torch.linspace(length / count, length, count, dtype=distance.dtype)
    concentration = (mean / stddev) ** 2
    rate = mean / stddev**2
    distance = distance[:, None]
    log_density = torch.xlogy(concentration - 1, distance) - rate * distance
    log_normalizer = torch.lgamma(concentration) - concentration * torch.log(rate)
    density = torch.exp(log_density - log_normalizer) + GAMMA_FLOOR
    return density / density.amax(0 if normalization == "positions" else 1, keepdim=True)


def central_mask_relative_features(
    length: int, features: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Borzoi's features of the distances -(T-1) .. T-1 (key minus query): (2T-1, features).

    1 where ``|d| < (T+1)^(k/n) - 1``, k = 1 .. n with n half of the features, and the same again times the
    sign of the distance. Source: calico/baskerville, layers.py (positional_features).
    """
    return _cached_central_mask(length, features, dtype, str(device))


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # cached: must serve training too
def _cached_central_mask(length: int, features: int, dtype: torch.dtype, device: str) -> Tensor:
    count = features // 2
    distance = torch.arange(-(length - 1), length, dtype=torch.float64)
    widths = (length + 1) ** (torch.arange(1, count + 1, dtype=torch.float64) / count) - 1
    inside = (widths > distance.abs()[:, None]).double()
    return torch.cat([inside, distance.sign()[:, None] * inside], dim=-1).to(device=device, dtype=dtype)


def rotary_angles(
    length: int, features: int, base: float, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Cosines and sines for :func:`rotate`, each (T, features / 2).

    Position 0 is the middle of the sequence, so that global tokens, which are not rotated, sit there.
    """
    return _cached_angles(length, features, base, dtype, str(device))


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # cached: must serve training too
def _cached_angles(
    length: int, features: int, base: float, dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor]:
    frequency = base ** (-torch.arange(0, features, 2, dtype=torch.float64) / features)
    position = torch.arange(length, dtype=torch.float64) - length // 2
    angle = position[:, None] * frequency
    return angle.cos().to(device=device, dtype=dtype), angle.sin().to(device=device, dtype=dtype)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate numbers of the last axis against each other: (..., T, key_size) -> same shape.

    With ``cosine`` and ``sine`` (T, n) the first n against the next n; what comes after stays as it is.
    """
    count = cosine.shape[-1]
    first, second, rest = x[..., :count], x[..., count : 2 * count], x[..., 2 * count :]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1)
