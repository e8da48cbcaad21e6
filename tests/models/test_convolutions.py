"""Basenji of 2018 and what shares its convolutions: sizes, computation, geometry, links, settings."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models import registry
from gexpr.models.base import SequenceModel, on_meta_device, parameter_count, receptive_field
from gexpr.models.basenji import BASENJI_2018, Basenji, BasenjiConfig
from gexpr.models.layers import LINKS, Convolution, MaxPool
from gexpr.models.standard import Standard, StandardConfig

SMALL = {
    "channels": [8, 9, 10, 12],
    "kernels": [6, 1, 4, 3],
    "pools": [1, 2, 4, 2],
    "final_channels": 14,
    "context_length": 512,
    "target_length": 20,
    "heads": {"tracks": 3},
}
DENSE = {
    **SMALL,
    "form": "dense",
    "dilated_layers": 3,
    "dilated_channels": 5,
    "dilated_rate": 2.0,
    "activation": "relu",
    "link": "exp_linear",
}


def test_sizes_are_the_published_ones() -> None:
    model = on_meta_device(Basenji, BasenjiConfig.from_dict(BASENJI_2018))
    assert parameter_count(model) == 15_190_636
    assert model.config.dilations == (2, 4, 8, 16, 32, 64)
    assert (model.bin_size, model.crop, model.target_length) == (128, 32, 960)
    dilated = [layer for layer in model.trunk_layers if layer.name.startswith("dilated")]
    assert receptive_field(dilated).width == 253
    # what the dilated layers add, and the wider input of the last convolution, are all that it has not
    added = 3 * 108 * sum(717 + 108 * i for i in range(6)) + 2 * 6 * 108 + 648 * 1365
    assert parameter_count(on_meta_device(Standard, StandardConfig())) == 15_190_636 - added == 12_386_092


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("basenji", BASENJI_2018), ("standard", {}), ("exp_decay", {}), ("decay_attention", {})],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_shape_of_a_prediction(architecture: str, settings: dict[str, object]) -> None:
    with torch.device("meta"), torch.no_grad():
        model = registry.build(architecture, settings).eval()
        assert model.encode(torch.zeros(1, 131_072, 4)).shape == (1, 1024, 717)
        assert model(torch.zeros(1, 131_072, 4)).shape == (1, 960, 4229)


def published(model: SequenceModel, x: Tensor) -> Tensor:
    """The published order of operations on (B, 4, L), written out with torch's functions."""

    def block(x: Tensor, module: nn.Module, dilation: int = 1) -> Tensor:
        kernel = module.conv.weight.shape[-1]
        spread = dilation * (kernel - 1)
        x = F.pad(F.relu(x), (spread // 2, spread - spread // 2))  # SAME of TensorFlow
        x = F.conv1d(x, module.conv.weight, dilation=dilation)
        norm = module.norm
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)

    for module, pool in zip([model.stem, *model.tower], SMALL["pools"], strict=True):
        x = F.max_pool1d(block(x, module), pool)
    for module, dilation in zip(getattr(model, "dilated", []), (2, 4, 8), strict=False):
        x = torch.cat([x, block(x, module.dilated, dilation)], dim=1)
    x = F.relu(block(x, model.final)[:, :, model.crop : -model.crop]).transpose(1, 2)
    x = x @ model.heads["tracks"].weight.T + model.heads["tracks"].bias
    return torch.where(x > 0, x + 1, x.exp())


@pytest.mark.parametrize(("architecture", "settings"), [("basenji", DENSE), ("standard", SMALL)])
def test_computation_is_the_published_one(architecture: str, settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = registry.build(architecture, settings).double().eval()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if "norm" in name and tensor.ndim:
            nn.init.uniform_(tensor, 0.5, 1.5)
    x = F.one_hot(torch.randint(0, 4, (2, 512)), 4).double()
    with torch.no_grad():
        expected = published(model, x.transpose(1, 2))
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)
        tokens = model.encode(x)
        for stage in model.local_stages:
            tokens = stage.on_window(tokens)
        some = model.finish(tokens, tracks=torch.tensor([2, 0]), bins=(3, 9))
        torch.testing.assert_close(some, expected[:, 3:9, [2, 0]], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kernel", [2, 4, 6, 22])
def test_even_kernels_see_more_to_the_right(kernel: int) -> None:
    layer = Convolution(3, 4, kernel).double()
    x = torch.randn(2, 40, 3, dtype=torch.float64)
    padded = F.pad(x.transpose(1, 2), (kernel // 2 - 1, kernel // 2))
    expected = F.conv1d(padded, layer.weight, layer.bias).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(ValueError, match="cannot be dilated"):
        Convolution(3, 4, kernel, dilation=2)


@pytest.mark.parametrize("width", [2, 3, 4])
def test_max_pool_of_any_width(width: int) -> None:
    x = torch.randn(2, 24, 5)
    expected = F.max_pool1d(x.transpose(1, 2), width).transpose(1, 2)
    assert torch.equal(MaxPool(width)(x), expected)


def test_links() -> None:
    x = torch.tensor([-40.0, -1.0, 0.0, 0.5, 90.0], dtype=torch.float64, requires_grad=True)
    linear = LINKS["exp_linear"](x)
    expected = [math.exp(-40), math.exp(-1), 1.0, 1.5, 91.0]
    torch.testing.assert_close(linear.detach(), torch.tensor(expected, dtype=torch.float64))
    linear.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([-40.0, -1, 0, 0, 0], dtype=torch.float64).exp())
    with torch.no_grad():
        assert torch.equal(LINKS["exp_linear"](x.detach().clone()), linear)
        assert torch.equal(LINKS["exp"](x.detach()[:4]), x.detach()[:4].exp())
        torch.testing.assert_close(LINKS["softplus"](x.detach().clone()), F.softplus(x.detach()))


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("architecture", ["standard", "exp_decay", "decay_attention", "basenji"])
def test_heads_keep_their_precision_under_autocast(architecture: str, link: str) -> None:
    torch.manual_seed(1)
    settings = {**(DENSE if architecture == "basenji" else SMALL), "link": link}
    model = registry.build(architecture, settings).eval()
    model.heads["tracks"].weight.data.mul_(0.05)  # sums of bins are large, and exp would be without bounds
    x = F.one_hot(torch.randint(0, 4, (1, 512)), 4).float()
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(x)
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    assert (found - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("architecture", ["standard", "exp_decay", "decay_attention"])
def test_any_whole_number_of_bins_and_gradients_everywhere(architecture: str) -> None:
    model = registry.build(architecture, SMALL)
    model(torch.rand(2, 320, 4)).sum().backward()  # as many bins as the target has
    assert [name for name, each in model.named_parameters() if each.grad is None] == []
    assert model(torch.rand(1, 768, 4)).shape == (1, 20, 3)
    with pytest.raises(ConfigError, match="multiple of the bin size 16"):
        model(torch.rand(1, 520, 4))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("channels", []),
        ("channels", [8, 9, 10]),
        ("kernels", [6, 1, 4]),
        ("kernels", [6, 1, 4, 0]),
        ("pools", [1, 2, 4]),
        ("pools", "1244"),
        ("dropout", 1.0),
        ("final_channels", 0),
        ("final_dropout", -0.1),
        ("activation", "gelu"),
        ("link", "identity"),
    ],
)
@pytest.mark.parametrize(("architecture", "settings"), [("standard", SMALL), ("basenji", DENSE)])
def test_bad_settings_are_refused_by_name(
    architecture: str, settings: dict[str, object], setting: str, value: object
) -> None:
    with pytest.raises(ConfigError, match="kernels|channels" if setting == "channels" else setting):
        registry.config_from_dict(architecture, {**settings, setting: value})


@pytest.mark.parametrize("setting", ["channels", "kernels", "pools"])
def test_convolutions_belong_to_the_dense_form(setting: str) -> None:
    without = {name: value for name, value in DENSE.items() if name != setting}
    with pytest.raises(ConfigError, match=f"{setting} is None and form is dense; form dense needs a list"):
        registry.config_from_dict("basenji", without)
    with pytest.raises(ConfigError, match=f"{setting} is .* and form is residual"):
        registry.config_from_dict("basenji", {setting: [2]})
    for name, value in (("tower_channels", [8, 9]), ("num_downsamples", 4), ("stem_kernel", 11)):
        with pytest.raises(ConfigError, match=f"{name} is .* and form is dense"):
            registry.config_from_dict("basenji", {**DENSE, name: value})
    with pytest.raises(ConfigError, match="form"):
        registry.config_from_dict("basenji", {**DENSE, "form": "2018"})
