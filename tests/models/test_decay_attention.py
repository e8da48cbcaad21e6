"""Attention whose scores decay: against the equations, blocks, decays, memory, sizes, settings."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from live_memory import LiveMemory
from torch import Tensor

from gexpr.errors import ConfigError
from gexpr.models import layers, registry
from gexpr.models.base import on_meta_device, parameter_count
from gexpr.models.decay_attention import AttentionHeads, DecayAttention, DecayAttentionConfig

SMALL: dict[str, Any] = {
    "channels": [8, 12],
    "kernels": [6, 3],
    "pools": [4, 4],
    "final_channels": 14,
    "context_length": 1600,
    "target_length": 80,
    "heads": {"tracks": 3},
}


def config(**settings: Any) -> DecayAttentionConfig:
    return DecayAttentionConfig.from_dict({**SMALL, **settings})


def layer(heads: int = 3, width: int = 5, **settings: Any) -> AttentionHeads:
    torch.manual_seed(1)
    made = AttentionHeads(width, heads, config(**settings)).double()
    if settings.get("decay") != "none":
        torch.nn.init.normal_(made.decay, mean=-3.0 if made.config.decay_form == "log" else 0.5, std=0.7)
    return made


def plain(module: AttentionHeads, x: Tensor, first: int, last: int) -> Tensor:
    """Equations 4 to 7 head by head, all pairs at once."""
    settings, bins = module.config, x.shape[1]
    j, t = torch.arange(bins)[:, None], torch.arange(bins)
    contexts = [x]
    width = x.shape[-1]
    for head in range(module.heads):
        weight = module.query.weight[head * width : (head + 1) * width]
        bias = module.query.bias[head * width : (head + 1) * width]
        scores = torch.tanh(x @ weight.T + bias) @ x.transpose(1, 2)
        if settings.relu_scores:
            scores = scores.relu()
        f = torch.ones(bins, bins, dtype=x.dtype)
        if settings.decay != "none":
            decays = module.decay[:, head]
            if settings.decay_form == "log":
                decays = decays.exp()
            else:
                decays = decays.clamp(min=0) * (0.01 if settings.decay == "two_sided" else 1)
            if settings.decay == "two_sided":
                shift = settings.shift_bins
                f = torch.minimum(
                    torch.exp(decays[0] * (t - j - shift)), torch.exp(decays[1] * (j - t - shift))
                )
            else:
                f = torch.exp(-decays[0] * (j - t).abs())
        if not settings.own_bin:
            f = f * (1 - torch.eye(bins, dtype=x.dtype))
        contexts.append((f * scores).softmax(-1) @ x)
    return torch.cat(contexts, dim=-1)[:, first:last]


VARIANTS = [
    dict(decay=decay, own_bin=own, relu_scores=relu, decay_form=form, shift=shift)
    for decay, own, relu, form, shift in itertools.product(
        ("two_sided", "exponential", "none"), (True, False), (False, True), ("log", "clipped"), (None, 7)
    )
    if (shift is None or decay == "two_sided") and (form == "log" or decay != "none")
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda each: " ".join(map(str, each.values())))
def test_values_and_gradients_are_those_of_the_equations(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "QUERY_BLOCK", 16)
    module = layer(**settings)
    if settings["decay_form"] == "clipped":
        module.decay.data.abs_()  # negative ones have a test of their own
    x = torch.randn(2, 60, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x.requires_grad_()
    found, expected = module(x, 3, 57), plain(module, x, 3, 57)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    inputs = (x, *module.parameters())
    upstream = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for each, other in zip(
        torch.autograd.grad(found, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(each, other, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(module(x, 3, 57), expected, rtol=0, atol=1e-12)


def test_a_context_on_paper() -> None:
    module = AttentionHeads(1, 1, config(decay="exponential")).double()
    with torch.no_grad():
        module.query.weight.fill_(math.atanh(0.5))
        module.query.bias.zero_()
        module.decay.fill_(math.log(math.log(2)))
        found = module(torch.tensor([[[1.0], [2.0]]], dtype=torch.float64), 0, 1)
    # q = tanh(atanh 0.5) = 0.5; products 0.5 and 1; with f 1 and 1/2 both scores are 0.5
    torch.testing.assert_close(found, torch.tensor([[[1.0, 1.5]]], dtype=torch.float64))


@pytest.mark.parametrize("shift", [0, 1, 50, 100])
@pytest.mark.parametrize("right", [0.0, 1e-6, 0.3, 1e4])
@pytest.mark.parametrize("left", [0.0, 1e-6, 0.3, 1e4])
def test_a_two_sided_decay_is_at_most_one_and_that_of_the_code(shift: int, right: float, left: float) -> None:
    """One exponential of equation 7 may overflow; the code caps both at 1, with the same result."""
    module = layer(heads=1, decay="two_sided", shift=shift, decay_form="clipped")
    module.decay.data.copy_(torch.tensor([[right], [left]]) * 100)
    bins = 300
    found = module.factors(0, bins, bins, torch.zeros((), dtype=torch.float64))
    assert found is not None and torch.isfinite(found).all()
    assert found.min() >= 0 and found.max() <= 1
    j, t = torch.arange(bins)[:, None], torch.arange(bins)
    capped = torch.minimum(
        torch.exp(-right * (j - t + shift).clamp(min=0)), torch.exp(-left * (t - j + shift).clamp(min=0))
    )
    torch.testing.assert_close(found[0].float(), capped)


def test_clipped_decays_come_back() -> None:
    module = layer(heads=2, decay="exponential", decay_form="clipped")
    module.decay.data.copy_(torch.tensor([[-0.3, 0.4]]))
    torch.testing.assert_close(module.decays(torch.float64).tolist(), [[0.0, 0.4]])
    x = torch.randn(1, 20, 5, dtype=torch.float64)
    module(x, 0, 20).square().mean().backward()
    assert module.decay.grad is not None and (module.decay.grad != 0).all()


def test_heads_start_unlike_each_other() -> None:
    two_sided = AttentionHeads(4, 5, config(decay="two_sided"))
    right, left = two_sided.decays(torch.float32)
    torch.testing.assert_close(right, left.flip(0))
    assert (right.diff() > 0).all()
    # 100 bins, shift 50
    torch.testing.assert_close(right[[0, -1]] * 50, torch.tensor([0.1, 3.0]))
    f = two_sided.factors(50, 51, 100, right)
    assert f is not None
    assert f[0, 0, :50].mean() > f[0, 0, 51:].mean() and f[4, 0, :50].mean() < f[4, 0, 51:].mean()
    (decays,) = AttentionHeads(4, 5, config(decay="exponential")).decays(torch.float32)
    torch.testing.assert_close(decays[[0, -1]], torch.tensor([0.01, 0.2]))
    (single,) = AttentionHeads(4, 1, config(decay="exponential")).decays(torch.float32).detach()
    assert float(single) == pytest.approx(math.sqrt(0.01 * 0.2), rel=1e-5)
    torch.manual_seed(1)
    drawn = AttentionHeads(4, 5, config(decay="exponential", decay_form="clipped")).decay
    assert 0 <= drawn.min() and drawn.max() <= 1 and len(drawn.unique()) == 5


@pytest.mark.parametrize("block", [1, 7, 60, 1000])
def test_the_size_of_a_block_does_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = layer(), torch.randn(2, 60, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = module(x, 0, 60)
        monkeypatch.setattr(layers, "QUERY_BLOCK", block)
        torch.testing.assert_close(module(x, 0, 60), expected, rtol=0, atol=1e-12)


def test_layers_work_on_their_input_and_its_contexts() -> None:
    torch.manual_seed(1)
    model = registry.build("decay_attention", {**SMALL, "attention_heads": [2, 3]}).double().eval()
    assert [each.query.in_features for each in model.attention] == [12, 36]
    assert model.final.conv.in_channels == 144
    tokens = torch.randn(1, 100, 12, dtype=torch.float64)
    with torch.no_grad():
        expected = plain(model.attention[1], plain(model.attention[0], tokens, 0, 100), 10, 90)
        torch.testing.assert_close(model.add_context(tokens, 10, 90), expected)


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({}, 19_853_657),
        ({"decay": "exponential"}, 19_853_652),
        ({"decay": "none"}, 19_853_647),
        ({"attention_heads": [16]}, 19_853_657 - 10 + 32 + 11 * (717 * 718 + 717 * 1365)),
        (
            {"attention_heads": [5, 5], "decay": "exponential"},
            19_853_652 + 5 + 5 * 4302 * 4303 + 5 * 4302 * 1365,
        ),
    ],
    ids=["two-sided", "exponential", "none", "16 heads", "two layers"],
)
def test_size_as_published(settings: dict[str, Any], parameters: int) -> None:
    model = on_meta_device(DecayAttention, DecayAttentionConfig.from_dict(settings))
    assert parameter_count(model) == parameters
    assert model.config.shift_bins == 512


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_keep_their_precision_under_autocast(dtype: torch.dtype) -> None:
    module = layer().float()
    x = torch.randn(1, 60, 5).to(dtype)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        found = module(x, 0, 60)
    with torch.no_grad():
        assert found.dtype == dtype and torch.equal(found, module(x.float(), 0, 60).to(dtype))


@pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])
def test_memory_grows_linearly(train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "QUERY_BLOCK", 32)
    module = layer(heads=2).float()

    def peak(bins: int) -> int:
        x = torch.randn(1, bins, 5, generator=torch.Generator().manual_seed(1), requires_grad=train)
        with LiveMemory() as live, torch.set_grad_enabled(train):
            found = module(x, 0, bins)
            if train:
                found.mean().backward()
        return live.peak

    peaks = [peak(bins) for bins in (512, 1024, 2048)]
    assert peaks[2] - peaks[1] < 2.1 * (peaks[1] - peaks[0])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("attention_heads", []),
        ("attention_heads", [0]),
        ("attention_heads", 5),
        ("decay", "linear"),
        ("decay_form", "softplus"),
        ("shift", -1),
        ("shift", 101),
        ("shift", 1.5),
        ("own_bin", "no"),
        ("relu_scores", 1),
    ],
)
def test_bad_settings_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=setting):
        config(**{setting: value})


def test_settings_without_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match="shift is 7 and decay is exponential; only two_sided has a shift"):
        config(decay="exponential", shift=7)
    with pytest.raises(ConfigError, match="decay_form is clipped and decay is none"):
        config(decay="none", decay_form="clipped")


@pytest.mark.parametrize(("right", "left", "place"), [(0.3, 0.1, 6), (0.1, 0.3, -6), (0.2, 0.2, 0)])
def test_where_a_two_sided_decay_is_largest(right: float, left: float, place: int) -> None:
    module = layer(heads=1, decay="two_sided", shift=12)
    module.decay.data.copy_(torch.tensor([[right], [left]]).log())
    f = module.factors(50, 51, 100, torch.zeros((), dtype=torch.float64))
    assert f is not None and int(f[0, 0].argmax()) - 50 == place
