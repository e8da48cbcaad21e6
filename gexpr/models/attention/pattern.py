"""Which blocks attend to which: BigBird's window, global and random blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

EMPTY = -1


@dataclass(frozen=True)
class BlockPattern:
    """Block pattern of one attention layer.

    The sequence is cut into blocks of ``block_size`` bins (the last one may be shorter). Each block
    attends to itself and its two neighbors, to the first and last block when ``global_blocks``
    (these two also attend to everything), and to ``random_blocks`` others, drawn per head. In
    front of the bins stand ``global_tokens`` tokens that attend to, and are attended by, everything.

    Args:
        heads: attention heads; each draws its own random blocks.
        seed: (seed of the model, index of the layer).
    """

    block_size: int
    heads: int
    random_blocks: int = 0
    global_blocks: bool = False
    global_tokens: int = 0
    seed: tuple[int, ...] = (0,)

    def layout(self, length: int) -> Layout:
        """The pattern on a sequence of ``length`` bins; the same for every call."""
        return _layout(self, -(-length // self.block_size))

    def density(self, length: int) -> float:
        """Share of block pairs that attend, in [0, 1]."""
        return self.layout(length).density

    def mask(self, length: int, device: torch.device | str = "cpu") -> Tensor:
        """True where a query (row) attends to a key: bool (heads, G + T, G + T) with T = ``length``."""
        blocks = _attended(self.layout(length), str(device))
        size, tokens = self.block_size, self.global_tokens
        bins = blocks.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :length, :length]
        return torch.nn.functional.pad(bins, (tokens, 0, tokens, 0), value=True)


@dataclass(frozen=True, eq=False)
class Layout:
    """A pattern on a number of blocks.

    Attributes:
        blocks: number of blocks.
        global_rows: blocks that attend to, and are attended by, everything.
        random: int64 (heads, blocks, random_blocks), the random key blocks of every query block;
            ``EMPTY`` where there is none (global rows, and short sequences with too few others).
    """

    blocks: int
    global_rows: tuple[int, ...]
    random: np.ndarray

    @cached_property
    def density(self) -> float:
        """Share of block pairs that attend."""
        return float(self.block_mask().mean())

    def block_mask(self) -> np.ndarray:
        """True where a query block (row) attends to a key block: bool (heads, blocks, blocks)."""
        heads, blocks, _ = self.random.shape
        index = np.arange(blocks)
        mask = np.broadcast_to(np.abs(index[:, None] - index) <= 1, (heads, blocks, blocks)).copy()
        for block in self.global_rows:
            mask[:, block, :] = True
            mask[:, :, block] = True
        head, row, slot = np.nonzero(self.random != EMPTY)
        mask[head, row, self.random[head, row, slot]] = True
        return mask


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # cached: must serve training too
def _attended(layout: Layout, device: str) -> Tensor:
    """``layout.block_mask()`` on a device."""
    return torch.from_numpy(layout.block_mask()).to(device)


@lru_cache(maxsize=256)
def _layout(pattern: BlockPattern, blocks: int) -> Layout:
    global_rows = tuple(sorted({0, blocks - 1})) if pattern.global_blocks else ()
    random = np.full((pattern.heads, blocks, pattern.random_blocks), EMPTY, dtype=np.int64)
    if pattern.random_blocks:
        for head in range(pattern.heads):
            random[head] = _draw(pattern, head, blocks, global_rows)
    random.setflags(write=False)
    return Layout(blocks, global_rows, random)


def _draw(pattern: BlockPattern, head: int, blocks: int, global_rows: tuple[int, ...]) -> np.ndarray:
    """Random key blocks of every row, uniform without repeats among those not attended anyway.

    Uses the raw 64-bit stream of PCG64, which does not change between numpy versions.
    """
    count = pattern.random_blocks
    stream = np.random.PCG64(np.random.SeedSequence([*pattern.seed, head, blocks]))
    uniform = (stream.random_raw(blocks * count).reshape(blocks, count) >> np.uint64(11)) * 2.0**-53

    row = np.arange(blocks)
    beyond = blocks + count  # larger than every block: an entry that excludes nothing
    window = np.stack([row - 1, row, row + 1], axis=1)
    extra = np.broadcast_to(np.array(global_rows, dtype=np.int64), (blocks, len(global_rows)))
    excluded = np.concatenate([window, extra], axis=1)
    excluded[(excluded < 0) | (excluded >= blocks)] = beyond
    excluded.sort(axis=1)
    excluded[:, 1:][excluded[:, 1:] == excluded[:, :-1]] = beyond
    drawn = np.full((blocks, count), EMPTY, dtype=np.int64)
    for slot in range(count):
        left = blocks - (excluded < blocks).sum(axis=1)
        choice = np.floor(uniform[:, slot] * left).astype(np.int64)
        for exclusion in np.sort(excluded, axis=1).T:
            choice += choice >= exclusion
        possible = left > 0
        drawn[possible, slot] = choice[possible]
        excluded = np.concatenate([excluded, np.where(possible, choice, beyond)[:, None]], axis=1)
    drawn[list(global_rows)] = EMPTY
    return drawn
