"""A tiny checkpoint, written once; tests damage copies of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gexpr import checkpoints
from gexpr.models import registry
from gexpr.results import Track

SETTINGS: dict[str, Any] = {
    "context_length": 4096,
    "target_length": 224,
    "heads": {"tracks": 2},
    "channels": 24,
    "divisible_by": 2,
    "num_downsamples": 4,
    "depth": 2,
    "attention_heads": 2,
    "key_size": 8,
    "block_size": 16,
    "random_blocks": 1,
    "relative_features": 12,
    "final_channels": 32,
}


@pytest.fixture(scope="session")
def settings() -> dict[str, Any]:
    """Settings of the tiny model."""
    return SETTINGS


@pytest.fixture(scope="session")
def tracks() -> list[Track]:
    """Two tracks with a value other than the default in every column."""
    return [
        Track(0, "wt_plus", "TSS wild type +", "STRIPE-seq", "S288C", "+", 1, 1.0, "count"),
        Track(1, "wt_minus", "TSS wild type, fünf", "STRIPE-seq", "S288C", "-", 0, 0.5, "squashed:sqrt"),
    ]


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """Makes a tiny model in which no weight is zero, so that a lost tensor shows."""

    def make(seed: int = 1, settings: dict[str, Any] | None = None) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = registry.build("sparse_enformer", {**SETTINGS, **(settings or {})})
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand(tensor.shape) * 0.2 + 0.01)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., Any]) -> Any:
    """A tiny model in eval mode."""
    return make_model()


@pytest.fixture(scope="session")
def _written(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any, tracks: list[Track]) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    training = {"epochs": 3, "test": {"pearson": [0.5, 0.25]}}
    return checkpoints.save(folder, tiny_model, tracks, training, "# Tiny\n\nA model card.")


@pytest.fixture
def checkpoint(_written: Path, tmp_path: Path) -> Path:
    """A fresh copy of a good checkpoint."""
    return Path(shutil.copytree(_written, tmp_path / "tiny"))
