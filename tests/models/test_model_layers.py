"""Layers that the architectures share."""

from __future__ import annotations

import subprocess
import sys

import torch
import torch.nn.functional as F

from gexpr.models.layers import Convolution, MaxPool, SoftmaxPool, exponential_linspace_int, gelu, one_hot


def test_one_hot_rows() -> None:
    codes = torch.tensor([[0, 1, 2, 3, 4, 255]], dtype=torch.uint8)
    rows = one_hot(codes)
    assert rows.dtype == torch.float32
    assert torch.equal(rows[0, :4], torch.eye(4))
    assert rows[0, 4:].count_nonzero() == 0
    assert one_hot(codes, torch.float64).dtype == torch.float64


def test_gelu_is_the_approximation() -> None:
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)
    torch.testing.assert_close(gelu(x), x * torch.sigmoid(1.702 * x))


def test_tower_widths_are_the_published_ones() -> None:
    assert exponential_linspace_int(768, 1536, 6, 128) == [768, 896, 1024, 1152, 1280, 1536]


def test_softmax_pool_is_a_softmax_over_the_pair() -> None:
    torch.manual_seed(0)
    pool = SoftmaxPool(5).double()
    torch.nn.init.normal_(pool.weight)
    x = torch.randn(2, 8, 5, dtype=torch.float64)
    pairs = x.unflatten(1, (4, 2))
    expected = (pairs * (pairs @ pool.weight.T).softmax(2)).sum(2)
    torch.testing.assert_close(pool(x), expected)


def test_softmax_pool_starts_at_twice_the_identity() -> None:
    assert torch.equal(SoftmaxPool(3).weight, 2 * torch.eye(3))


def test_a_layer_without_memory_does_not_import_the_compiler() -> None:
    """Checkpoints are opened on the meta device; the import would double the time that a process needs."""
    program = (
        "import sys, torch; from gexpr.models.layers import SoftmaxPool\n"
        "with torch.device('meta'): SoftmaxPool(3)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_max_pool() -> None:
    x = torch.randn(2, 8, 5)
    torch.testing.assert_close(MaxPool()(x), F.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2))


def test_convolution_is_same_padded() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 40, 3, dtype=torch.float64)
    for kernel, dilation in ((1, 1), (5, 1), (15, 1), (3, 9)):
        layer = Convolution(3, 4, kernel, dilation).double()
        expected = F.conv1d(x.transpose(1, 2), layer.weight, layer.bias, padding="same", dilation=dilation)
        torch.testing.assert_close(layer(x), expected.transpose(1, 2))
