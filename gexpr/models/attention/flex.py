"""Block-sparse attention by PyTorch's FlexAttention, for CUDA.

For rotary positions or none. Enformer's position term is a second matrix product whose row depends on the
query, which a ``score_mod`` can only repeat element by element; and FlexAttention has no dropout. In
these cases ``attend`` takes the plain block-sparse implementation.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gexpr.errors import ConfigError
from gexpr.models.attention.pattern import BlockPattern

KERNEL_BLOCK = 128


def flex_available(key_size: int, value_size: int) -> bool:
    """Whether FlexAttention can be compiled here, for heads of these sizes.

    Asked once a process: PyTorch has it, Triton runs on the device, and there is a C compiler, which Triton
    calls. Sizes that are no powers of two are refused by some versions of PyTorch.
    """
    return {key_size, value_size} <= {16, 32, 64, 128, 256} and _compilable()


@lru_cache(maxsize=1)
def _compilable() -> bool:
    try:
        _flex()
        triton = importlib.import_module("torch.utils._triton")
    except (ConfigError, ImportError):
        return False
    compilers = (os.environ.get("CC") or "cc", "gcc", "clang")
    return bool(triton.has_triton()) and any(shutil.which(compiler) for compiler in compilers)


def flex_block_attention(q: Tensor, k: Tensor, v: Tensor, pattern: BlockPattern) -> Tensor:
    """Attention over the blocks of ``pattern``; arguments as in ``attention.attend``.

    Compiled on CUDA (the first call takes seconds). On CPU PyTorch's eager form runs, which computes all
    pairs and has no backward pass: for tests only.

    Raises:
        ConfigError: this PyTorch has no FlexAttention.
    """
    mask = block_mask(pattern, q.shape[2] - pattern.global_tokens, q.device)
    attention = _compiled() if q.is_cuda else _flex().flex_attention
    return attention(q, k, v, block_mask=mask, scale=1.0)


def block_mask(pattern: BlockPattern, length: int, device: torch.device) -> Any:
    """The pattern on ``length`` bins, with its tokens in front, as FlexAttention's BlockMask."""
    return _cached_mask(pattern, length, str(device))


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # cached: must serve training too
def _cached_mask(pattern: BlockPattern, length: int, device: str) -> Any:
    size, tokens = pattern.block_size, pattern.global_tokens
    kernel = 64 if size % KERNEL_BLOCK and size % 64 == 0 else KERNEL_BLOCK
    total = tokens + length
    kernel_blocks = -(-total // kernel)

    # label of a position: the pattern's block of a bin, one more for the tokens and the end's padding
    blocks = torch.from_numpy(pattern.layout(length).block_mask())
    attended = torch.nn.functional.pad(blocks, (0, 1, 0, 1), value=True)
    label = torch.full((kernel_blocks * kernel,), blocks.shape[1])
    label[tokens:total] = torch.arange(length) // size

    # a kernel's block pair is needed where any label of one attends to any of the other, and needs no
    # mask inside where all do
    has = torch.zeros(kernel_blocks, attended.shape[1])
    has[torch.arange(len(label)) // kernel, label] = 1
    some = has @ attended.float() @ has.T > 0
    every = has @ (~attended).float() @ has.T == 0
    if total % kernel:
        every[:, :, -1] = False
        every[:, -1, :] = False
    partial = some & ~every

    table, labels = attended.to(device), label.to(device)

    def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return table[head, labels[query], labels[key]]

    return _flex().BlockMask.from_kv_blocks(
        *_rows(partial, device),
        *_rows(every, device),
        BLOCK_SIZE=kernel,
        mask_mod=mask_mod,
        seq_lengths=(total, total),
    )


def _rows(pairs: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Number of True and their columns first, of every row: (1, H, rows), (1, H, rows, columns)."""
    count = pairs.sum(-1, dtype=torch.int32)
    columns = torch.argsort(pairs.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)
    return count[None].to(device), columns[None].contiguous().to(device)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_flex().flex_attention, dynamic=False)


def _flex() -> Any:
    """PyTorch's module, imported when needed: it brings the compiler with it."""
    try:
        return importlib.import_module("torch.nn.attention.flex_attention")
    except ImportError as error:
        raise ConfigError(
            f"attention implementation 'flex' needs a PyTorch with FlexAttention, 2.6 or newer: {error}"
        ) from error
