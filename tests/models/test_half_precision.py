"""Half precision: large activations give large numbers, not NaN, and little is rounded that need not be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gexpr.models.base import predict_head, softplus_heads
from gexpr.models.layers import BatchNorm, SoftmaxPool, gelu, normalized_gelu, softplus_

#: From tiny to the largest numbers of half precision, both signs.
MAGNITUDES = [0.0, 6e-8, 1e-3, 0.5, 1.0, 5.0, 11.0, 12.0, 50.0, 88.0, 300.0, 4e4, 65504.0]
VALUES = [sign * value for value in MAGNITUDES for sign in (1.0, -1.0)]
HALF = [torch.float16, torch.bfloat16]


def near(found: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype, digits: float = 8) -> bool:
    """Within a few units of the last digit, or of the largest number that fits."""
    found, limit = found.double(), torch.finfo(dtype)
    exact = exact.double().clamp(-limit.max, limit.max)
    return bool(((found - exact).abs() <= digits * limit.eps * exact.abs() + 4e-3 * (exact.abs() < 1)).all())


@pytest.mark.parametrize("dtype", HALF)
@torch.inference_mode()
def test_gelu_where_its_exponential_overflows(dtype: torch.dtype) -> None:
    x = torch.tensor(VALUES, dtype=dtype)
    found = gelu(x)
    assert found.dtype == dtype and torch.isfinite(found).all()
    assert near(found, x.double() * torch.sigmoid(1.702 * x.double()), dtype)
    assert (found[x < -20].double().abs() < 1e-12).all()


@pytest.mark.parametrize("dtype", HALF)
@torch.inference_mode()
def test_normalized_gelu_rounds_once(dtype: torch.dtype) -> None:
    norm = BatchNorm(4).eval()
    norm.running_mean.copy_(torch.tensor([0.1, -2.0, 0.0, 30.0]))  # type: ignore[union-attr]
    norm.running_var.copy_(torch.tensor([1.0, 0.01, 100.0, 4.0]))  # type: ignore[union-attr]
    x = torch.tensor(VALUES, dtype=dtype)[None, :, None].expand(2, -1, 4)
    found = normalized_gelu(x, norm)
    assert found.dtype == dtype and not found.isnan().any()
    exact = normalized_gelu(x.float(), norm)
    assert exact.dtype == torch.float32 and torch.equal(found, exact.to(dtype))
    assert torch.allclose(exact, gelu(norm(x.float())), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("scale", [1.0, 100.0, 2e4])
@torch.inference_mode()
def test_pooling_where_its_logits_overflow(dtype: torch.dtype, scale: float) -> None:
    pool = SoftmaxPool(16)
    generator = torch.Generator().manual_seed(1)
    x = (torch.randn(2, 40, 16, generator=generator).clamp(-1.5, 1.5) * scale).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        found = pool(x)
    assert found.dtype == dtype and torch.isfinite(found).all()
    pairs = x.double().unflatten(1, (-1, 2))
    weights = torch.softmax(F.linear(pairs, pool.weight.double()), dim=2)
    exact = (weights * pairs).sum(2)
    assert (found.double() - exact).abs().max() < 10 * torch.finfo(dtype).eps * x.abs().max()


@pytest.mark.parametrize("dtype", HALF)
@torch.inference_mode()
def test_a_head_is_computed_in_the_precision_of_its_weights(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    head = softplus_heads(8, {"tracks": 3})["tracks"]
    x = torch.randn(2, 5, 8).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        found = predict_head(head, x)
        some = predict_head(head, x, torch.tensor([2, 0]))
    assert found.dtype == torch.float32
    assert torch.equal(found, predict_head(head, x.float()))
    assert torch.allclose(some, found[..., [2, 0]], rtol=1e-6)


@torch.inference_mode()
def test_softplus_of_large_numbers() -> None:
    x = torch.tensor([-1e4, -100.0, -20.0, 0.0, 20.0, 1e4])
    assert torch.allclose(
        softplus_(x.clone()), torch.log1p(torch.exp(-x.double().abs())).add(x.double().relu()).float()
    )


@torch.inference_mode()
def test_what_has_overflowed_does_not_look_finite() -> None:
    """An infinite activation must reach the predictions as infinite or NaN, which the engine reports."""
    infinite = torch.tensor([torch.inf, -torch.inf], dtype=torch.float16)
    assert not torch.isfinite(gelu(infinite)).any()
    norm = BatchNorm(2).eval()
    assert not torch.isfinite(normalized_gelu(infinite.expand(1, 1, 2), norm)).any()
    pool = SoftmaxPool(1)
    pairs = torch.tensor([4e4, -4e4, -4e4, 4e4], dtype=torch.float16).view(1, 4, 1)
    with torch.autocast("cpu", dtype=torch.float16):
        assert not torch.isfinite(pool(pairs)).any()
