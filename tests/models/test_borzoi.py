"""Borzoi: the published size, its packed tokens, lengths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gexpr.errors import ConfigError
from gexpr.models.base import on_meta_device, parameter_count
from gexpr.models.borzoi import Borzoi, BorzoiConfig
from gexpr.models.layers import gelu_tanh
from gexpr.models.positions import central_mask_relative_features

SMALL = dict(
    context_length=512,
    target_length=96,
    heads={"human": 3},
    stem_channels=6,
    tower_channels=(8, 10, 12),
    depth=1,
    attention_heads=2,
    key_size=4,
    relative_features=8,
    final_channels=None,
)


def test_the_published_size() -> None:
    model = on_meta_device(Borzoi, BorzoiConfig())
    assert parameter_count(model) == 190_902_667
    assert (model.bin_size, model.token_size, model.crop) == (32, 128, 5120)


def test_tokens_hold_what_the_unet_joins() -> None:
    model = Borzoi(BorzoiConfig.from_dict(SMALL)).double().eval()
    joined: list[torch.Tensor] = []
    for block in model.tower:
        block.register_forward_hook(lambda module, given, result: joined.append(result))
    x = torch.eye(4, dtype=torch.float64)[torch.randint(0, 4, (2, 512))]
    with torch.inference_mode():
        tokens = model.encode(x)
        assert tokens.shape == (2, 32, 12 + 2 * 12 + 4 * 10)
        last, packed = model.unpack(tokens)
        assert [each.shape for each in packed] == [(2, 64, 12), (2, 128, 10)]
        assert torch.equal(packed[0], joined[2]) and torch.equal(packed[1], joined[1])
        assert torch.equal(last, torch.maximum(joined[2][:, 0::2], joined[2][:, 1::2]))
        assert model(x).shape == (2, 96, 3)


def test_gradients_and_predictions_take_the_same_way() -> None:
    torch.manual_seed(3)
    model = Borzoi(BorzoiConfig.from_dict({**SMALL, "final_channels": 14})).double().eval()
    for each in model.parameters():
        torch.nn.init.normal_(each, std=0.3)
    x = torch.eye(4, dtype=torch.float64)[torch.randint(0, 4, (1, 512))]
    with_gradient = model(x)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), with_gradient.detach(), rtol=1e-10, atol=1e-10)
    with_gradient.sum().backward()
    assert all(each.grad is not None for each in model.parameters())


def test_the_approximation_of_gelu() -> None:
    x = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(gelu_tanh(x), F.gelu(x, approximate="tanh"), rtol=0, atol=1e-14)
        assert torch.isfinite(gelu_tanh(torch.tensor([-1e4, 1e4]))).all()


def test_features_of_distances() -> None:
    features = central_mask_relative_features(1024, 32, torch.float64)
    assert features.shape == (2047, 32)
    middle = features[1023]
    assert middle[:16].tolist() == [1.0] * 16 and middle[16:].tolist() == [0.0] * 16
    for i in (1, 7, 16):
        reach = (1025 ** (i / 16) - 1) - 1e-9
        assert features[1023 + int(reach), i - 1] == 1
        if int(reach) + 1 < 1024:
            assert features[1023 + int(reach) + 1, i - 1] == 0
        assert features[1023 - int(reach), 16 + i - 1] == (-1 if int(reach) else 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context_length": 520}, "is not a multiple of a token's 16 bp"),
        ({"upsamplings": 4}, "upsamplings is 4; the tower has 3 blocks to join"),
        ({"relative_features": 7}, "relative_features is 7; it must be even"),
        ({"tower_channels": []}, "tower_channels is empty"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"tower_channels": [8, 9]}, "the tower's last width 9 is not a multiple of attention_heads 2"),
        ({"stem_kernel": 4}, "stem_kernel is 4; it must be odd"),
    ],
)
def test_settings_that_cannot_work(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BorzoiConfig.from_dict({**SMALL, **change})
