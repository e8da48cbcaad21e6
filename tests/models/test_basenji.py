"""Basenji2: size, computation, geometry."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gexpr.errors import ConfigError
from gexpr.models import registry
from gexpr.models.base import on_meta_device, parameter_count, receptive_field
from gexpr.models.basenji import Basenji, BasenjiConfig
from gexpr.models.layers import one_hot

SMALL = {
    "stem_channels": 8,
    "tower_start": 10,
    "num_downsamples": 4,
    "dilated_layers": 3,
    "dilated_channels": 6,
    "final_channels": 12,
    "context_length": 512,
    "target_length": 20,
    "heads": {"tracks": 3},
}


def test_sizes_are_the_published_ones() -> None:
    human = on_meta_device(Basenji, BasenjiConfig())
    assert parameter_count(human) == 30_088_228
    assert parameter_count(on_meta_device(Basenji, BasenjiConfig(heads={"mouse": 1643}))) == 24_447_438
    assert human.config.tower_widths == (339, 399, 470, 554, 652, 768)
    assert human.config.dilations == (1, 2, 3, 4, 6, 9, 14, 21, 32, 48, 72)
    assert (human.bin_size, human.crop, human.target_length) == (128, 64, 896)
    dilated = [layer for layer in human.trunk_layers if layer.name.startswith("dilated")]
    assert receptive_field(dilated).width == 425


def test_default_size_of_a_prediction() -> None:
    with torch.device("meta"):
        assert Basenji(BasenjiConfig())(torch.zeros(1, 131_072, 4)).shape == (1, 896, 5313)


def published(model: Basenji, x: Tensor) -> Tensor:
    """The published order of operations on (B, 4, L), written out with torch's functions."""

    def gelu(x: Tensor) -> Tensor:
        return torch.sigmoid(1.702 * x) * x

    def block(x: Tensor, module: torch.nn.Module, dilation: int = 1) -> Tensor:
        x = F.conv1d(gelu(x), module.conv.weight, padding="same", dilation=dilation)
        norm = module.norm
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)

    x = F.max_pool1d(block(x, model.stem), 2)
    for module in model.tower:
        x = F.max_pool1d(block(x, module), 2)
    for module, dilation in zip(model.dilated, model.config.dilations, strict=True):
        x = x + block(block(x, module.dilated, dilation), module.pointwise)
    x = gelu(block(x[:, :, model.crop : -model.crop], model.final)).transpose(1, 2)
    head = model.heads["tracks"]
    return F.softplus(x @ head.weight.T + head.bias)


def test_computation_is_the_published_one() -> None:
    torch.manual_seed(0)
    model = Basenji(BasenjiConfig.from_dict(SMALL)).double().eval()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if "norm" in name and tensor.ndim:
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    x = F.one_hot(torch.randint(0, 4, (2, 512)), 4).double()
    with torch.no_grad():
        torch.testing.assert_close(model(x), published(model, x.transpose(1, 2)), rtol=0, atol=1e-10)


def test_residual_branches_start_at_zero_and_learn() -> None:
    torch.manual_seed(0)
    model = registry.build("basenji", SMALL)
    features = torch.rand(2, 32, model.config.tower_widths[-1])
    assert torch.equal(model.dilated[1](features), features)
    out = model(torch.rand(2, 512, 4))
    assert out.shape == (2, 20, 3)
    out.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert model.dilated[1].pointwise.norm.weight.grad.abs().sum() > 0


def test_small_bins() -> None:
    model = registry.build("basenji", {**SMALL, "dilated_dropout": 0.0}).eval()
    assert model.bin_size == 16
    with torch.no_grad():
        assert model(torch.zeros(1, 320, 4)).shape == (1, 20, 3)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("tower_channels", [10, 12]), ("tower_kernel", 4), ("dilated_layers", -1), ("final_dropout", 2.0)],
)
def test_bad_settings_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=setting):
        registry.config_from_dict("basenji", {**SMALL, setting: value})


@pytest.mark.parametrize("architecture", ["basenji", "sparse_enformer"])
def test_the_head_keeps_the_precision_of_its_weights_under_autocast(architecture):
    settings = {"context_length": 256, "target_length": 4, "num_downsamples": 4, "heads": {"tracks": 3}}
    if architecture == "basenji":
        settings |= {
            "stem_channels": 8,
            "tower_channels": [8, 8, 8],
            "dilated_layers": 1,
            "final_channels": 8,
        }
    else:
        settings |= {"channels": 12, "divisible_by": 1, "depth": 1, "attention_heads": 2, "key_size": 4}
        settings |= {"relative_features": 6, "block_size": 4, "random_blocks": 0}
    model = registry.build(architecture, settings).eval()
    x = one_hot(torch.randint(0, 4, (1, 256)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        predictions = model(x)
    assert predictions.dtype == torch.float32
    # values rounded to bfloat16 would come back unchanged
    assert not torch.equal(predictions, predictions.bfloat16().float())
