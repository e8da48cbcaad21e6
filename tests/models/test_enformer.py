"""Enformer: the published computation, its size, its geometry and its settings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gexpr.errors import ConfigError
from gexpr.models import registry
from gexpr.models.attention import attend
from gexpr.models.base import on_meta_device, parameter_count, receptive_field
from gexpr.models.enformer import Enformer, EnformerConfig, MultiheadAttention, Part
from gexpr.models.positions import relative_features

SMALL = {
    "channels": 48,
    "depth": 2,
    "attention_heads": 4,
    "key_size": 8,
    "num_downsamples": 5,
    "divisible_by": 12,
    "context_length": 384,
    "target_length": 4,
    "heads": {"human": 3, "mouse": 2},
}


def small(**changes: object) -> Enformer:
    return Enformer(EnformerConfig.from_dict({**SMALL, **changes}))


def published_order(model: Enformer) -> Iterator[tuple[str, Tensor]]:
    """Our tensors in the order of enformer-pytorch's state dict, with the kind of each."""

    def norm(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
        yield "scale", module.weight
        yield "offset", module.bias
        if isinstance(module, torch.nn.BatchNorm1d):
            yield "mean", module.running_mean
            yield "variance", module.running_var

    def linear(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
        yield "weight", module.weight
        if module.bias is not None:
            yield "offset", module.bias

    for index, block in enumerate([model.stem, *model.tower]):
        if index == 0:
            yield from linear(block.convolution)
        else:
            yield from norm(block.convolution.norm)
            yield from linear(block.convolution.conv)
        yield from norm(block.pointwise.norm)
        yield from linear(block.pointwise.conv)
        yield "weight", block.pool.weight
    for block in model.transformer:
        attention = block.attention
        yield from norm(block.attention_norm)
        yield "bias", attention.content_bias
        yield "bias", attention.position_bias
        for layer in (attention.to_query, attention.to_key, attention.to_value, attention.to_output):
            yield from linear(layer)
        yield from linear(attention.to_relative_key)
        yield from norm(block.feedforward_norm)
        yield from linear(block.feedforward.expand)
        yield from linear(block.feedforward.contract)
    yield from norm(model.final.norm)
    yield from linear(model.final.conv)
    for head in model.heads.values():
        yield from linear(head)


def hashed(count: int, index: int) -> Tensor:
    """Pseudo-random numbers in [-1, 1) that any implementation can repeat."""
    i = torch.arange(count, dtype=torch.int64)
    z = (i * 2654435761 + (index + 1) * 40503 * 65537 + 12345) % 2**32
    z = (z * (z % 65521) + i * 97) % 2**32
    return z.double() / 2**32 * 2 - 1


@pytest.fixture(scope="module")
def filled() -> tuple[Enformer, Tensor]:
    """A small model in float64 with every tensor filled by the hash, and a sequence."""
    model = small().double().eval()
    with torch.no_grad():
        for index, (kind, tensor) in enumerate(published_order(model)):
            value = hashed(tensor.numel(), index).view(tensor.shape)
            fan_in = max(1, tensor[0].numel())
            tensor.copy_(
                {
                    "variance": 1 + 0.5 * value,
                    "mean": 0.1 * value,
                    "scale": 1 + 0.1 * value,
                    "offset": 0.1 * value,
                    "bias": 0.5 * value,
                    "weight": 2 * value / math.sqrt(fan_in),
                }[kind]
            )
    bases = ((hashed(384, 999) + 1) / 2 * 4).long().clamp(0, 3)
    x = torch.nn.functional.one_hot(bases, 4).double()[None]
    x[:, 5] = 0
    return model, x


def test_equals_an_independent_implementation(filled: tuple[Enformer, Tensor]) -> None:
    # Outputs of enformer-pytorch 0.8.11, filled by the same hash, with the gamma features divided by
    # their maximum over positions as the published weights need.
    model, x = filled
    with torch.no_grad():
        human, mouse = model(x, "human"), model(x, "mouse")
        embedding = model.embed(model.transform(model.convolve(x)))
    assert human[0, 0].tolist() == pytest.approx([1.1812895454, 1.1229029598, 0.0988668939], abs=1e-8)
    assert mouse.sum().item() == pytest.approx(7.7701373658, abs=1e-8)
    assert embedding.sum().item() == pytest.approx(183.55486336, abs=1e-7)


def test_every_tensor_is_in_the_comparison(filled: tuple[Enformer, Tensor]) -> None:
    model, _ = filled
    compared = {id(tensor) for _, tensor in published_order(model)}
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    assert [name for name, x in state.items() if id(x) not in compared and "num_batches" not in name] == []


# |d|: exp[0], exp[15], exp[31]; central masks that are 1; {gamma feature: value}, for T = 1,536
REFERENCE_FEATURES = {
    0: ((1, 1, 1), 32, {0: 5.35614e-07, 31: 6.03e-07}),
    1: ((0.917004, 0.993217, 0.999549), 31, {0: 3.96617e-4, 31: 6.03e-07}),
    10: ((0.420448, 0.934201, 0.995497), 29, {0: 0.187096}),
    100: ((0.000173, 0.506297, 0.955876), 26, {0: 0.10348}),
    1000: ((0, 0.001107, 0.63682), 23, {0: 5.356e-07}),
    1535: ((0, 2.9e-05, 0.500226), 22, {31: 1.0}),
}


@pytest.mark.parametrize("distance", REFERENCE_FEATURES)
def test_relative_features_are_the_published_ones(distance: int) -> None:
    exponential, ones, gamma = REFERENCE_FEATURES[distance]
    features = relative_features(1536, 192, torch.float64)
    assert features.shape == (3071, 192)
    for sign in (1, -1):
        row = features[1535 + sign * distance]
        assert row[[0, 15, 31]].tolist() == pytest.approx(exponential, abs=2e-6)
        assert row[32:64].sum().item() == ones
        for index, value in gamma.items():
            assert row[64 + index].item() == pytest.approx(value, rel=2e-3, abs=2e-9)
        signed = 0 if distance == 0 else sign
        torch.testing.assert_close(row[96:], signed * row[:96])


def test_gamma_features_reach_one_at_every_length() -> None:
    for length in (12, 1536, 2000):
        features = relative_features(length, 48, torch.float64)
        torch.testing.assert_close(features[:, 16:24].amax(0), torch.ones(8, dtype=torch.float64))


def test_parameter_counts_are_the_published_ones() -> None:
    model = on_meta_device(Enformer, EnformerConfig())
    assert parameter_count(model) == 251_221_292
    assert parameter_count(model.stem) == 1_228_800
    tower = [4_133_376, 5_051_392, 6_690_560, 8_559_104, 10_657_024, 14_557_696]
    assert [parameter_count(block) for block in model.tower] == tower
    assert {parameter_count(block) for block in model.transformer} == {15_840_256}
    assert parameter_count(model.final) == 4_724_736
    assert parameter_count(model.heads["human"]) == 16_326_849
    assert parameter_count(model.heads["mouse"]) == 5_048_939
    assert (model.context_length, model.bin_size, model.target_length, model.crop) == (196_608, 128, 896, 320)


def test_receptive_field_of_the_published_tower() -> None:
    field = receptive_field(on_meta_device(Enformer, EnformerConfig()).trunk_layers)
    assert field == (128, 259, 386)
    assert field.width == 646


@pytest.mark.parametrize("changes", [{}, {"pooling": "max"}, {"dilated_layers": 3, "stem_kernel": 5}])
def test_receptive_field_is_where_the_gradient_is(changes: dict[str, object]) -> None:
    torch.manual_seed(1)
    model = small(num_downsamples=3, divisible_by=6, **changes).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    field = receptive_field(model.trunk_layers)
    reached = torch.zeros(384, dtype=torch.bool)
    for _ in range(3):  # max pooling passes the gradient of the larger input only
        x = torch.rand(1, 384, 4, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(model.convolve(x)[0, 24].sum(), x)
        reached |= gradient[0].abs().sum(-1) > 0
    places = reached.nonzero()[:, 0]
    assert places.min() == 24 * 8 - field.left
    assert places.max() == 24 * 8 + field.right


def test_initialization_is_the_published_one() -> None:
    torch.manual_seed(0)
    model = small(channels=192, divisible_by=48, relative_features=48, final_channels=384)
    attention = model.transformer[0].attention
    assert attention.to_output.weight.count_nonzero() == 0 == attention.to_output.bias.count_nonzero()
    # variance scaling corrects for the cut tails, Sonnet's default does not
    assert attention.to_query.weight.std().item() == pytest.approx(math.sqrt(2 / 192), rel=0.05)
    assert attention.content_bias.std().item() == pytest.approx(math.sqrt(2 / 4), rel=0.35)
    assert model.final.conv.weight.std().item() == pytest.approx(0.8796 / math.sqrt(192), rel=0.05)
    assert model.stem.convolution.weight.std().item() == pytest.approx(0.8796 / math.sqrt(60), rel=0.05)
    assert model.stem.convolution.weight.abs().max() <= 2 / math.sqrt(60)
    torch.testing.assert_close(model.stem.pool.weight.detach(), 2 * torch.eye(96))
    assert model.heads["human"].bias.count_nonzero() == 0


@pytest.mark.parametrize("positions", ["enformer", "rotary", "none"])
@pytest.mark.parametrize("pooling", ["softmax", "max"])
def test_kinds_of_models_train(positions: str, pooling: str) -> None:
    torch.manual_seed(0)
    model = small(positions=positions, pooling=pooling, dilated_layers=2, dilated_channels=12)
    out = model(torch.rand(2, 384, 4))
    assert out.shape == (2, 4, 3)
    assert (out >= 0).all()
    (out.sum() + model(torch.rand(2, 384, 4), "mouse").sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_other_lengths_keep_the_target_in_the_middle() -> None:
    torch.manual_seed(0)
    model = small(depth=0).eval()  # without attention, distant sequence does not matter
    x = torch.rand(1, 640, 4)
    with torch.no_grad():
        long = model(x)
        middle = model(x[:, 128:512])
        assert model(x[:, 256:384]).shape == (1, 4, 3)  # four bins: nothing is cropped
    torch.testing.assert_close(long, middle)


def test_same_result_at_every_batch_size_and_no_state_between_calls() -> None:
    torch.manual_seed(0)
    model = small().double().eval()
    torch.nn.init.normal_(model.transformer[0].attention.to_output.weight)
    x = torch.rand(3, 384, 4, dtype=torch.float64)
    with torch.no_grad():
        together = model(x)
        torch.testing.assert_close(torch.cat([model(x[i : i + 1]) for i in range(3)]), together)


def test_relative_keys_are_kept_as_long_as_the_weights_are_the_same() -> None:
    attention = MultiheadAttention(EnformerConfig.from_dict(SMALL), None).double().eval()
    attention.initialize()
    x = torch.randn(1, 9, 1, dtype=torch.float64)
    expected = attention.relative_bias(9, x).keys
    assert expected.requires_grad
    with torch.inference_mode():
        first = attention.relative_bias(9, x).keys
        assert attention.relative_bias(9, x).keys.data_ptr() == first.data_ptr()
        part = attention.relative_bias(4, x, Part(9, 2)).keys
    assert not first.is_inference()
    torch.testing.assert_close(first, expected.detach(), rtol=0, atol=0)
    torch.testing.assert_close(part, expected.detach()[:, 5:12], rtol=0, atol=0)
    with torch.no_grad():
        attention.to_relative_key.weight.mul_(2)
        torch.testing.assert_close(attention.relative_bias(9, x).keys, 2 * expected.detach())
        attention.load_state_dict({k: 3 * v for k, v in attention.state_dict().items()})
        torch.testing.assert_close(attention.relative_bias(9, x).keys, 6 * expected.detach())
        with torch.inference_mode():
            made_there = MultiheadAttention(EnformerConfig.from_dict(SMALL), None).eval()
            made_there.initialize()
            assert torch.isfinite(made_there.relative_bias(9, x.float()).keys).all()
        single = attention.float()
        assert single.relative_bias(9, x.float()).keys.dtype == torch.float32
        assert single.relative_bias(7, x.float()).keys.shape[1] == 13


def test_rotary_attention_depends_on_distance_alone() -> None:
    torch.manual_seed(0)
    config = EnformerConfig.from_dict({**SMALL, "positions": "rotary"})
    attention = MultiheadAttention(config, None).double()
    q, k = torch.randn(2, 4, 1, 8, dtype=torch.float64)
    q, k = (attention._rotate(x[None].expand(1, 4, 9, 8), None) for x in (q, k))
    logits = q @ k.transpose(-1, -2)
    for offset in range(-8, 9):
        diagonal = logits[0, 0].diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert len(logits[0, 0].round(decimals=8).unique()) > 9


def test_wrong_sequences_are_refused() -> None:
    model = small()
    for shape, words in [
        ((1, 4, 384), "takes"),
        ((1, 380, 4), "multiple of the bin size 32"),
        ((1, 96, 4), "more than the 3 bins"),
        ((1, 416, 4), "cannot lie in the middle of 13 bins"),
    ]:
        with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
            model(torch.zeros(shape))
    with pytest.raises(ConfigError, match="no head 'yeast'; it has: human, mouse"):
        model(torch.zeros(1, 384, 4), "yeast")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("channels", 0),
        ("channels", True),
        ("channels", "48"),
        ("channels", 50),
        ("depth", -1),
        ("dropout", 1.0),
        ("attention_dropout", -0.1),
        ("pooling", "mean"),
        ("positions", "sinusoidal"),
        ("stem_kernel", 14),
        ("tower_channels", [24, 48]),
        ("tower_channels", [24, 36, 36, 40]),
        ("relative_features", 10),
        ("context_length", 385),
        ("target_length", 13),
        ("target_length", 5),
        ("heads", {}),
        ("heads", {"human": 0}),
        ("heads", {"a.b": 1}),
        ("heads", {"keys": 1}),
        ("dilated_rate", 0),
        ("divisible_by", 100),
    ],
)
def test_bad_settings_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.config_from_dict("enformer", {**SMALL, setting: value})
    assert setting in str(caught.value)


def test_unknown_setting_and_architecture() -> None:
    with pytest.raises(ConfigError, match="unknown model setting 'chanels'"):
        registry.config_from_dict("enformer", {"chanels": 3})
    with pytest.raises(ConfigError, match=r"unknown architecture 'bpnet'; known are: .*enformer"):
        registry.build("bpnet", {})


@pytest.mark.parametrize("architecture", registry.names())
def test_config_survives_json(architecture: str) -> None:
    config = registry.config_from_dict(architecture, {})
    again = registry.config_from_dict(architecture, json.loads(json.dumps(config.to_dict())))
    assert again == config


def test_dilations_grow_as_published() -> None:
    config = EnformerConfig.from_dict({**SMALL, "dilated_layers": 11})
    assert config.dilations == (1, 2, 3, 4, 6, 9, 14, 21, 32, 48, 72)


def test_unknown_attention_implementation() -> None:
    q = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ConfigError, match="'fast' is not one of"):
        attend(q, q, q, implementation="fast")
