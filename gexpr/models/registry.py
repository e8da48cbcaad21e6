"""The architectures by name: a new one is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gexpr.errors import ConfigError, did_you_mean
from gexpr.models.base import ModelConfig, SequenceModel
from gexpr.models.basenji import Basenji
from gexpr.models.borzoi import Borzoi
from gexpr.models.cnn import Cnn
from gexpr.models.decay_attention import DecayAttention
from gexpr.models.enformer import Enformer
from gexpr.models.exp_decay import ExpDecay
from gexpr.models.mini_enformer import MiniEnformer
from gexpr.models.multiscale import Multiscale
from gexpr.models.sparse_enformer import SparseEnformer
from gexpr.models.standard import Standard

_ARCHITECTURES: dict[str, type[SequenceModel]] = {
    "basenji": Basenji,
    "borzoi": Borzoi,
    "cnn": Cnn,
    "decay_attention": DecayAttention,
    "enformer": Enformer,
    "exp_decay": ExpDecay,
    "mini_enformer": MiniEnformer,
    "multiscale": Multiscale,
    "sparse_enformer": SparseEnformer,
    "standard": Standard,
}


def names() -> list[str]:
    """Names of the architectures."""
    return sorted(_ARCHITECTURES)


def config_from_dict(architecture: str, settings: Mapping[str, Any]) -> ModelConfig:
    """The validated config of an architecture.

    Raises:
        ConfigError: an unknown architecture or setting, or a bad value.
    """
    return _model_class(architecture).config_class.from_dict(settings)


def build(architecture: str, settings: Mapping[str, Any]) -> SequenceModel:
    """A new model with freshly drawn weights, in training mode.

    Raises:
        ConfigError: an unknown architecture or setting, or a bad value.
    """
    return _model_class(architecture)(config_from_dict(architecture, settings))


def architecture_of(model: SequenceModel) -> str:
    """The name under which ``build`` makes models of this class."""
    for name, model_class in _ARCHITECTURES.items():
        if type(model) is model_class:
            return name
    raise ConfigError(
        f"{type(model).__name__} is not a registered architecture; known are: {', '.join(names())}"
    )


def _model_class(architecture: str) -> type[SequenceModel]:
    if architecture not in _ARCHITECTURES:
        raise ConfigError(
            f"unknown architecture {architecture!r}; known are: {', '.join(names())}"
            f"{did_you_mean(architecture, names())}"
        )
    return _ARCHITECTURES[architecture]
