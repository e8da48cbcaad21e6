"""Sums of bins with exponential weights: against the plain form, on paper, gradients, memory, settings."""

from __future__ import annotations

import math

import pytest
import torch
from live_memory import LiveMemory
from torch import Tensor

from gexpr.errors import ConfigError
from gexpr.models import exp_decay, layers, registry
from gexpr.models.base import on_meta_device, parameter_count
from gexpr.models.exp_decay import ExpDecay, ExpDecayConfig, decayed_sums, softmax_sums

DECAYS = (0.01, 0.05, 0.2, 3.0)
SMALL = {
    "channels": [8, 12],
    "kernels": [6, 3],
    "pools": [4, 4],
    "final_channels": 14,
    "context_length": 1600,
    "target_length": 80,
    "heads": {"tracks": 3},
}


def plain(x: Tensor, decays: Tensor, own_bin: bool, softmax: bool) -> Tensor:
    """All weights at once: (B, T, C) and (K,) -> (B, K, T, C)."""
    places = torch.arange(x.shape[1])
    weights = torch.exp(-decays[:, None, None] * (places[:, None] - places).abs())
    if not own_bin:
        weights = weights * (1 - torch.eye(len(places), dtype=x.dtype))
    if softmax:
        weights = weights.softmax(-1)
    return torch.einsum("kjt,btc->bkjc", weights, x)


@pytest.mark.parametrize("bins", [1, 31, 32, 33, 100, 160])
@pytest.mark.parametrize("own_bin", [True, False], ids=["own", "others"])
@pytest.mark.parametrize("softmax", [False, True], ids=["sum", "softmax"])
def test_values_and_gradients_are_those_of_the_plain_form(
    bins: int, own_bin: bool, softmax: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "QUERY_BLOCK", 30)
    generator = torch.Generator().manual_seed(bins)
    x = torch.randn(2, bins, 3, dtype=torch.float64, generator=generator).requires_grad_()
    decays = torch.tensor(DECAYS, dtype=torch.float64, requires_grad=True)
    expected = plain(x, decays, own_bin, softmax)
    found = (softmax_sums if softmax else decayed_sums)(x, decays, own_bin)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    for each, other in zip(
        torch.autograd.grad(found, (x, decays), upstream),
        torch.autograd.grad(expected, (x, decays), upstream, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(each, other, rtol=1e-11, atol=1e-11)


def test_sums_on_paper() -> None:
    half = math.log(2)
    x = torch.tensor([[[4.0], [8.0], [16.0]]])
    decays = torch.tensor([half])
    torch.testing.assert_close(decayed_sums(x, decays)[0, 0, :, 0], torch.tensor([12.0, 18.0, 21.0]))
    torch.testing.assert_close(decayed_sums(x, decays, False)[0, 0, :, 0], torch.tensor([8.0, 10.0, 5.0]))
    # a huge decay: weights e of the bin itself and 1 of the others
    found = softmax_sums(x, torch.tensor([500.0]))[0, 0, 0, 0]
    assert float(found) == pytest.approx((4 * math.e + 24) / (math.e + 2), rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_the_size_of_a_chunk_does_not_matter(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 130, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    decays = torch.tensor(DECAYS, dtype=torch.float64)
    expected = decayed_sums(x, decays)
    monkeypatch.setattr(exp_decay, "CHUNK", chunk)
    torch.testing.assert_close(decayed_sums(x, decays), expected, rtol=0, atol=1e-12)


def test_the_model_puts_contexts_beside_embeddings() -> None:
    torch.manual_seed(1)
    model = registry.build("exp_decay", {**SMALL, "decays": [0.1, 0.5]}).double().eval()
    tokens = torch.randn(2, 100, 12, dtype=torch.float64)
    found = model.add_context(tokens, 10, 90)
    contexts = plain(tokens, torch.tensor([0.1, 0.5], dtype=torch.float64), True, False)[:, :, 10:90]
    expected = torch.cat([tokens[:, 10:90], contexts[:, 0], contexts[:, 1]], dim=-1)
    torch.testing.assert_close(found, expected)


def test_learned_decays_start_as_given_and_stay_positive() -> None:
    torch.manual_seed(1)
    model = registry.build("exp_decay", {**SMALL, "decays": [0.1, 0.5], "learned": True})
    torch.testing.assert_close(model.context.log_decays.exp(), torch.tensor([0.1, 0.5]))
    constant = registry.build("exp_decay", {**SMALL, "decays": [0.1, 0.5]})
    assert "context.log_decays" not in constant.state_dict()
    assert parameter_count(model) == parameter_count(constant) + 2
    constant.load_state_dict(model.state_dict(), strict=False)
    x = torch.rand(1, 1600, 4)
    torch.testing.assert_close(model.eval()(x), constant.eval()(x), rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.SGD([model.context.log_decays], lr=10.0)
    model.train()(x).mean().backward()
    assert model.context.log_decays.grad.abs().min() > 0
    optimizer.step()
    assert (model.context.log_decays.exp() > 0).all()


def test_size_as_published() -> None:
    assert parameter_count(on_meta_device(ExpDecay, ExpDecayConfig())) == 17_279_617


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_are_rounded_once(dtype: torch.dtype) -> None:
    model = registry.build("exp_decay", SMALL)
    x = torch.randn(1, 100, 12).to(dtype)
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        found = model.context(x)
    with torch.no_grad():
        assert found.dtype == dtype and torch.equal(found, model.context(x.float()).to(dtype))


@pytest.mark.parametrize("weights", exp_decay.WEIGHTS)
@pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])
def test_memory_grows_linearly(weights: str, train: bool) -> None:
    model = registry.build("exp_decay", {**SMALL, "weights": weights, "learned": True})

    def peak(bins: int) -> int:
        x = torch.randn(1, bins, 12, generator=torch.Generator().manual_seed(1))
        with LiveMemory() as live, torch.set_grad_enabled(train):
            found = model.context(x)
            if train:
                found.mean().backward()
        return live.peak

    peaks = [peak(bins) for bins in (512, 1024, 2048)]
    assert peaks[2] - peaks[1] < 2.1 * (peaks[1] - peaks[0])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("decays", []),
        ("decays", "0.1"),
        ("decays", [0.0]),
        ("decays", [0.1, -1]),
        ("decays", [float("nan")]),
        ("decays", [1e4]),
        ("learned", 1),
        ("own_bin", None),
        ("weights", "mean"),
    ],
)
def test_bad_settings_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=setting):
        registry.config_from_dict("exp_decay", {**SMALL, setting: value})
