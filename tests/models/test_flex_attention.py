"""FlexAttention gives what the dense masked reference gives."""

from __future__ import annotations

import sys

import pytest
import torch

from gexpr.models.attention import BlockPattern, attend, flex
from gexpr.models.attention.flex import block_mask

PATTERNS = {
    "bigbird": (768, BlockPattern(64, 2, 2, True, seed=(1,))),
    "local": (768, BlockPattern(64, 2)),
    "large blocks": (1024, BlockPattern(128, 2, 1, True, seed=(1,))),
    "small blocks": (512, BlockPattern(16, 2, 2, True, seed=(1,))),
    "last block short": (700, BlockPattern(64, 2, 2, True, seed=(1,))),
    "tokens": (640, BlockPattern(64, 2, 1, False, 5, seed=(1,))),
    "odd blocks and tokens": (333, BlockPattern(20, 2, 1, True, 3, seed=(1,))),
}


@pytest.mark.parametrize(("length", "pattern"), PATTERNS.values(), ids=PATTERNS)
def test_mask_is_the_pattern(length: int, pattern: BlockPattern) -> None:
    mask = block_mask(pattern, length, torch.device("cpu"))
    total = length + pattern.global_tokens
    size = mask.BLOCK_SIZE[0]
    expected = pattern.mask(length)
    position = torch.arange(total)
    inside = mask.mask_mod(
        torch.zeros(()).long(), torch.arange(2)[:, None, None], position[:, None], position[None]
    )
    seen = torch.zeros_like(expected)
    for counts, columns, full in (
        (mask.kv_num_blocks, mask.kv_indices, False),
        (mask.full_kv_num_blocks, mask.full_kv_indices, True),
    ):
        for head in range(2):
            for row in range(counts.shape[-1]):
                for column in columns[0, head, row, : counts[0, head, row]].tolist():
                    rows = slice(row * size, (row + 1) * size)
                    keys = slice(column * size, (column + 1) * size)
                    seen[head, rows, keys] = True if full else inside[head, rows, keys]
    assert torch.equal(seen, expected)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("length", "pattern"), PATTERNS.values(), ids=PATTERNS)
def test_forward_on_cpu(length: int, pattern: BlockPattern) -> None:
    torch.manual_seed(0)
    total = length + pattern.global_tokens
    q, k, v = (torch.randn(1, 2, total, size) for size in (16, 16, 32))
    with torch.no_grad():
        expected = attend(q, k, v, pattern, implementation="dense")
        out = attend(q, k, v, pattern, implementation="flex")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_flex_is_available_for_sizes_that_every_version_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "_compilable", lambda: True)
    assert flex.flex_available(64, 64)
    assert flex.flex_available(64, 128)
    assert not flex.flex_available(64, 192)
    assert not flex.flex_available(8, 64)
    monkeypatch.setattr(flex, "_compilable", lambda: False)
    assert not flex.flex_available(64, 64)


@pytest.mark.parametrize("missing", ["torch.nn.attention.flex_attention", "torch.utils._triton"])
def test_flex_is_not_available_without_its_modules(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert not flex._compilable.__wrapped__()


@pytest.mark.gpu
@pytest.mark.parametrize("length", [1000, 4096])
@pytest.mark.parametrize("value_size", [64, 192])
def test_what_auto_takes_on_cuda(length: int, value_size: int) -> None:
    torch.manual_seed(0)
    pattern = BlockPattern(64, 2, 3, True, seed=(1,))
    q, k, v = (torch.randn(1, 2, length, size, device="cuda") for size in (64, 64, value_size))
    expected = attend(q / 8, k, v, pattern, implementation="block_sparse")
    torch.testing.assert_close(attend(q / 8, k, v, pattern), expected, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(("length", "pattern"), PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("implementation", ["auto", "flex", "block_sparse"])
def test_forward_and_backward_on_cuda(implementation: str, length: int, pattern: BlockPattern) -> None:
    torch.manual_seed(0)
    total = length + pattern.global_tokens
    q, k, v = (
        torch.randn(2, 2, total, size, device="cuda").mul(scale).requires_grad_()
        for size, scale in ((64, 0.125), (64, 1), (64, 1))
    )
    expected = attend(q, k, v, pattern, implementation="dense")
    out = attend(q, k, v, pattern, implementation=implementation)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad(expected, (q, k, v), weight)
    for mine, theirs in zip(torch.autograd.grad(out, (q, k, v), weight), gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
