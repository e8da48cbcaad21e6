"""Computing activations again gives the same training step: losses, gradients, statistics, weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from live_memory import LiveMemory
from torch import Tensor

from gexpr.models import registry
from gexpr.models.base import LocalBlock, SequenceModel
from gexpr.training import memory
from gexpr.training.optimizers import freeze

LENGTH, TARGET, TRACKS = 512, 24, 3
COMMON: dict[str, Any] = dict(context_length=LENGTH, target_length=TARGET, heads={"tracks": TRACKS})
ENFORMER = dict(channels=24, divisible_by=4, num_downsamples=4, depth=2, attention_heads=2, key_size=6)
CONVOLUTIONS: dict[str, Any] = dict(
    channels=(16, 18, 20, 24), kernels=(6, 1, 6, 3), pools=(1, 2, 4, 2), dropout=0.0, final_channels=20
)
SETTINGS: dict[str, dict[str, Any]] = {
    "enformer": {**ENFORMER, "relative_features": 12, "dilated_layers": 2, "dropout": 0.2},
    "sparse_enformer": {
        **ENFORMER,
        "relative_features": 12,
        "block_size": 4,
        "random_blocks": 1,
        "global_tokens": 2,
        "pooling": "max",
        "attention_dropout": 0.2,
    },
    "borzoi": dict(
        stem_channels=16,
        tower_channels=(18, 20, 24),
        upsamplings=1,
        depth=2,
        attention_heads=2,
        key_size=6,
        relative_features=12,
        final_channels=20,
    ),
    "basenji": dict(
        stem_channels=16,
        tower_start=18,
        num_downsamples=4,
        dilated_layers=2,
        dilated_channels=8,
        final_channels=20,
    ),
    "standard": CONVOLUTIONS,
    "exp_decay": {**CONVOLUTIONS, "learned": True},
    "decay_attention": {**CONVOLUTIONS, "attention_heads": (2, 1)},
    "cnn": dict(channels=(8, 8), kernels=(5, 4), hidden=(8,), dropout=0.2),
    "mini_enformer": dict(
        trim_left=3, stem_channels=8, tower_channels=(8, 12), depth=1, relative_features=6, dropout=0.2
    ),
    "multiscale": dict(
        kernels=(5, 6), branch_channels=8, channels=12, key_size=8, link="softplus", dropout=0.2
    ),
}
CONSTRUCTS = ("cnn", "mini_enformer", "multiscale")
for name in CONSTRUCTS:
    SETTINGS[name] |= {"context_length": 64, "target_length": 1}


WITH_TILES = [name for name in registry.names() if name not in ("borzoi", *CONSTRUCTS)]
"""Architectures whose trunk is made of blocks; of borzoi only the transformer is."""


def drawn(architecture: str, dtype: torch.dtype = torch.float32, **changes: Any) -> SequenceModel:
    """A model in training without weights of zero, behind which gradients would vanish."""
    torch.manual_seed(5)
    model = registry.build(architecture, {**COMMON, **SETTINGS[architecture], **changes})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3)
    return model.to(dtype).train()


def two_steps(model: SequenceModel, batch: int = 2, autocast: bool = False) -> dict[str, Tensor]:
    """Losses, gradients, what follows in the random numbers, and the state after two steps of training."""
    dtype = next(model.parameters()).dtype
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(9)
    found: dict[str, Tensor] = {}
    for step in range(2):
        codes = torch.randint(0, 4, (batch, model.context_length), generator=generator)
        targets = torch.rand(batch, model.target_length, TRACKS, generator=generator).to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            predictions = model(torch.eye(4, dtype=dtype)[codes])
        loss = (predictions - targets * torch.log(predictions + 1e-6)).mean()
        optimizer.zero_grad()
        loss.backward()
        found[f"loss/{step}"] = loss.detach()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                found[f"gradient/{step}/{name}"] = parameter.grad.clone()
        optimizer.step()
    found |= {f"state/{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    return found | {"random": torch.rand(3)}


@pytest.mark.parametrize("architecture", registry.names())
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_a_step_has_the_same_bits(architecture, autocast):
    plain, checkpointed = drawn(architecture), drawn(architecture)
    memory.checkpoint_activations(checkpointed)
    expected, found = (two_steps(model, autocast=autocast) for model in (plain, checkpointed))
    assert found.keys() == expected.keys()
    assert any("running_var" in name for name in found)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("architecture", WITH_TILES)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_step_in_tiles_is_the_same_but_for_rounding(architecture, batch, monkeypatch):
    plain, checkpointed = (drawn(architecture, torch.float64) for _ in range(2))
    memory.checkpoint_activations(checkpointed)
    monkeypatch.setattr(memory, "TILE_POSITIONS", 90)
    tiled = []
    apply = memory._Tiled.apply
    monkeypatch.setattr(
        memory._Tiled, "apply", lambda block, *rest: tiled.append(block) or apply(block, *rest)
    )
    expected, found = (two_steps(model, batch) for model in (plain, checkpointed))
    assert len(tiled) >= 2 * (2 if batch == 1 else 4)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("architecture", ["basenji", "enformer"])
def test_frozen_norms_keep_their_statistics_in_tiles(architecture, monkeypatch):
    monkeypatch.setattr(memory, "TILE_POSITIONS", 90)
    models = [drawn(architecture, torch.float64) for _ in range(2)]
    for model in models:
        for norm in freeze(model, None, ("norm",)):
            norm.eval()
    memory.checkpoint_activations(models[1])
    before = {name: buffer.clone() for name, buffer in models[1].named_buffers()}
    expected, found = (two_steps(model) for model in models)
    for name, buffer in before.items():
        assert torch.equal(found[f"state/{name}"], buffer), name
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("architecture", WITH_TILES)
def test_tiles_under_autocast_differ_by_its_rounding(architecture, monkeypatch):
    plain, checkpointed = drawn(architecture), drawn(architecture)
    memory.checkpoint_activations(checkpointed)
    monkeypatch.setattr(memory, "TILE_POSITIONS", 90)
    expected, found = (two_steps(model, autocast=True) for model in (plain, checkpointed))
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        # the bias of a convolution before a normalization has no gradient but rounding
        if name.startswith("gradient/0/") and tensor.ndim > 1:
            error = (found[name] - tensor).norm() / tensor.norm()
            assert error < 0.1, (name, float(error))


@pytest.mark.parametrize("architecture", WITH_TILES)
def test_parts_of_a_block_are_its_forward_pass(architecture):
    model = drawn(architecture)
    x = torch.eye(4)[torch.randint(0, 4, (2, LENGTH))]
    for block in model.blocks:
        if not isinstance(block, LocalBlock):
            continue
        convolution = next(module for module in block.modules() if isinstance(module, torch.nn.Conv1d))
        if x.shape[-1] != convolution.in_channels:  # a block before it that is not local
            x = torch.randn(2, x.shape[1], convolution.in_channels)
        torch.manual_seed(1)
        whole = copy.deepcopy(block)(x)
        torch.manual_seed(1)
        for part in block.parts:
            length = x.shape[1]
            x = part.run(x)
            assert x.shape[1] * part.layer.stride == length
        assert torch.equal(x, whole)
        x = x.detach()


# What reaches as far as attention has its own tests: at this size its share is not that of a long context.
@pytest.mark.parametrize("architecture", [name for name in WITH_TILES if "decay" not in name])
def test_memory_grows_slowly_and_linearly_with_length(architecture, monkeypatch):
    monkeypatch.setattr(memory, "TILE_POSITIONS", 256)

    def peak(model: SequenceModel, length: int) -> int:
        x = torch.eye(4)[torch.randint(0, 4, (1, length), generator=torch.Generator().manual_seed(1))]
        with LiveMemory() as live:
            model(x).mean().backward()
        model.zero_grad(set_to_none=True)
        return live.peak

    changes: dict[str, Any] = {"depth": 0} if "depth" in SETTINGS[architecture] else {}
    if "pools" in SETTINGS[architecture]:
        changes["pools"] = (2, 4, 2, 1)  # no other layer as long as the stem
    plain, checkpointed = drawn(architecture, **changes), drawn(architecture, **changes)
    memory.checkpoint_activations(checkpointed)
    peaks = [peak(checkpointed, length) for length in (2048, 4096, 6144)]
    slope = (peaks[2] - peaks[0]) / 4096
    # the stem and its gradient at full length, and what follows at half of it
    stem = 4 * next(module for module in plain.modules() if isinstance(module, torch.nn.Conv1d)).out_channels
    assert slope < 3 * stem
    assert peaks[1] < 1.05 * (peaks[0] + peaks[2]) / 2
    saved = 2.0 if "pools" in changes else 2.5  # training keeps less of ReLU than of GELU
    assert peak(plain, 4096) - peak(plain, 2048) > saved * 2048 * slope


def test_prediction_and_evaluation_are_left_alone():
    plain, checkpointed = drawn("sparse_enformer").eval(), drawn("sparse_enformer").eval()
    memory.checkpoint_activations(checkpointed)
    x = torch.eye(4)[torch.randint(0, 4, (1, LENGTH))]
    with torch.inference_mode():
        assert torch.equal(checkpointed(x), plain(x))
    assert torch.equal(checkpointed(x), plain(x))
    assert checkpointed.state_dict().keys() == plain.state_dict().keys()


def test_a_copy_has_blocks_of_its_own():
    model = drawn("basenji")
    memory.checkpoint_activations(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    before = copy.deepcopy(model.state_dict())
    other(torch.eye(4)[torch.randint(0, 4, (1, LENGTH))])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
