"""Sparse Enformer: Enformer but for which bins attend to which."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gexpr.errors import ConfigError
from gexpr.models import registry
from gexpr.models.base import SequenceModel

SMALL = {
    "channels": 24,
    "depth": 3,
    "attention_heads": 2,
    "key_size": 8,
    "num_downsamples": 3,
    "divisible_by": 6,
    "context_length": 512,
    "target_length": 40,
    "heads": {"tracks": 3},
}
SPARSE = {**SMALL, "block_size": 4, "random_blocks": 1}


def build(architecture: str, **settings: object) -> SequenceModel:
    """A model in float64 and eval mode whose attention is not zero."""
    torch.manual_seed(0)
    model = registry.build(architecture, settings).double().eval()
    for block in model.transformer:
        torch.nn.init.normal_(block.attention.to_output.weight, std=0.3)
    return model


def sequence(batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    bases = torch.randint(0, 4, (batch, 512), generator=generator)
    return torch.nn.functional.one_hot(bases, 4).double()


@pytest.mark.parametrize("positions", ["enformer", "rotary", "none"])
@pytest.mark.parametrize("tokens", [0, 3])
def test_implementations_are_one_model(positions: str, tokens: int) -> None:
    settings = {**SPARSE, "positions": positions, "global_tokens": tokens, "global_layers": [0, 2]}
    models = [
        build("sparse_enformer", **settings, attention_implementation=implementation)
        for implementation in ("dense", "block_sparse", "auto")
    ]
    outs = [model(sequence()) for model in models]
    for out in outs:
        out.sum().backward()
    for model, out in zip(models[1:], outs[1:], strict=True):
        torch.testing.assert_close(out, outs[0], rtol=0, atol=1e-10)
        for mine, theirs in zip(model.parameters(), models[0].parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-9)


def test_a_pattern_that_covers_everything_is_enformer() -> None:
    dense = build("enformer", **SMALL)
    sparse = build("sparse_enformer", **SMALL, block_size=32, random_blocks=0)
    sparse.load_state_dict(dense.state_dict())
    assert sparse.density() == 1
    torch.testing.assert_close(sparse(sequence()), dense(sequence()), rtol=0, atol=1e-10)


def test_same_pattern_in_training_and_evaluation() -> None:
    quiet = dict.fromkeys(("dropout", "attention_dropout", "position_dropout", "final_dropout"), 0.0)
    model = build("sparse_enformer", **SPARSE, **quiet)
    bins = model.convolve(sequence())
    torch.testing.assert_close(model.train().transform(bins), model.eval().transform(bins))


def reach(model: SequenceModel) -> list[int]:
    """Bins whose value changes bin 32 of the transformer's output."""
    bins = torch.randn(1, 64, 24, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.transform(bins)[0, 32].sum(), bins)
    return (gradient[0].abs().sum(-1) > 1e-12).nonzero()[:, 0].tolist()


def test_layers_without_random_and_global_blocks_are_local() -> None:
    local = build("sparse_enformer", **SPARSE, random_layers=[], global_layers=[])
    assert reach(local) == list(range(20, 48))  # three layers of one block to each side
    near_the_top = build("sparse_enformer", **SPARSE, random_layers=[], global_layers=[2])
    bins = set(reach(near_the_top))
    assert bins > set(range(20, 48))
    assert {0, 63} <= bins
    assert len(bins) < 64
    tokens = {**SPARSE, "global_blocks": False, "global_tokens": 1, "random_layers": []}
    assert reach(build("sparse_enformer", **tokens, global_layers=[1])) == list(range(20, 48))
    assert len(reach(build("sparse_enformer", **tokens, global_layers=[1, 2]))) == 64


@pytest.mark.parametrize("positions", ["enformer", "rotary"])
@pytest.mark.parametrize("implementation", ["dense", "block_sparse"])
def test_training_after_prediction(positions: str, implementation: str) -> None:
    settings = {**SPARSE, "positions": positions, "target_length": 10}
    model = build("sparse_enformer", **settings, attention_implementation=implementation)
    # a length of its own, so that what is cached by length is made in inference mode
    x = sequence()[:, : 144 if implementation == "dense" else 176]
    with torch.inference_mode():
        model(x)
    model.train()(x).sum().backward()


@pytest.mark.parametrize("architecture", ["enformer", "sparse_enformer"])
@pytest.mark.parametrize("positions", ["enformer", "rotary", "none"])
def test_mixed_precision_is_close(architecture: str, positions: str) -> None:
    settings = {**(SMALL if architecture == "enformer" else SPARSE), "positions": positions}
    model = build(architecture, **settings).float()
    x = sequence().float()
    expected = model(x)
    expected.sum().backward()
    weight = model.transformer[0].attention.to_value.weight
    gradient, weight.grad = weight.grad, None
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1)
    out.float().sum().backward()
    assert torch.cosine_similarity(weight.grad.ravel(), gradient.ravel(), dim=0) > 0.98


def test_layers_draw_different_random_blocks() -> None:
    config = build("sparse_enformer", **SPARSE).config
    first, second = (config.pattern(layer).layout(64).random for layer in (0, 1))
    assert (first != second).any()


def test_every_weight_learns_and_any_length_works() -> None:
    settings = {**SPARSE, "global_tokens": 2, "dilated_layers": 1, "target_length": 10}
    model = build("sparse_enformer", **settings).train()
    for length in (512, 400, 104):
        out = model(torch.rand(2, length - length % 16, 4, dtype=torch.float64))
        assert out.shape == (2, 10, 3)
        out.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert model.tokens.grad.abs().sum() > 0


def test_density_of_the_default_model() -> None:
    with torch.device("meta"):
        model = registry.build("sparse_enformer", {})
    assert model.density() == pytest.approx(222 / 576)
    assert model.density(786_432) == pytest.approx(942 / 9216)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("block_size", 0),
        ("random_blocks", -1),
        ("random_blocks", 1.5),
        ("global_blocks", 1),
        ("global_layers", [3]),
        ("random_layers", "all"),
        ("seed", -1),
        ("attention_implementation", "fast"),
    ],
)
def test_bad_settings_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=setting):
        registry.config_from_dict("sparse_enformer", {**SPARSE, setting: value})
