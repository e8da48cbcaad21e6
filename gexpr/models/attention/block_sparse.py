"""Block-sparse attention in plain PyTorch: only the attended blocks are computed.

One head and a run of query blocks at a time: the keys of a query block are gathered next to each
other (left neighbor, itself, right neighbor, then the *far* blocks: global and random, then
global tokens), their logits are one batched matrix product, and Enformer's position term is added band by
band. Nothing of size T x T exists, and nothing but the inputs is kept for the backward pass,
which computes the softmax weights again. Query blocks that attend to everything (global blocks and
tokens), and all of them where the pattern is hardly sparse, are computed against all keys, one
query block at a time.

Without positions and dropout the forward pass on a CPU leaves every run to PyTorch's fused kernel
(:func:`_fused`), which keeps the logits in the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from gexpr.models.attention.pattern import EMPTY, BlockPattern
from gexpr.models.attention.relative import RelativeBias

NEAR = 3  # blocks of the window
DENSE_ABOVE = 0.8  # share of attended pairs above which gathering does not pay
CHUNK_LOGITS = 2**19  # logits computed at a time: fits a core's cache, and larger is no faster
CHUNK_LOGITS_CUDA = 2**26
CHUNK_FUSED = 2**20  # where the fused kernel computes them: their keys and values take 4 + 4 MiB


def block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: BlockPattern,
    relative: RelativeBias | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention over the blocks of ``pattern``, at least two; arguments as in ``attention.attend``.

    Differentiable once. Memory beyond inputs and output is O(T) and small. Half precision is computed in
    float32.
    """
    dense = pattern.density(q.shape[2] - pattern.global_tokens) > DENSE_ABOVE
    return _apply(q, k, v, relative, pattern, "masked" if dense else "sparse", dropout)


def streamed_attention(
    q: Tensor, k: Tensor, v: Tensor, relative: RelativeBias | None = None, dropout: float = 0.0
) -> Tensor:
    """Attention of everything to everything with O(T) memory; arguments as in ``attention.attend``."""
    batch, heads, length, _ = q.shape
    size = min(length, max(16, _chunk_logits(q) // (batch * length)))
    return _apply(q, k, v, relative, BlockPattern(size, heads), "full", dropout)


def _apply(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    relative: RelativeBias | None,
    pattern: BlockPattern,
    kind: str,
    dropout: float,
) -> Tensor:
    precision = torch.promote_types(q.dtype, torch.float32)
    tensors = [q, k, v, *((None, None, None) if relative is None else relative)]
    with torch.autocast(q.device.type, enabled=False):
        inputs = [None if x is None else x.to(precision) for x in tensors]
        out: Tensor = _BlockSparseAttention.apply(*inputs, pattern, kind, dropout)
        return out.to(v.dtype)


def _chunk_logits(q: Tensor) -> int:
    return CHUNK_LOGITS_CUDA if q.is_cuda else CHUNK_LOGITS


class _Plan(NamedTuple):
    """Where the keys of every query block are, for a pattern, a length and a device.

    Attributes:
        blocks: number of blocks of bins, the last one padded.
        rows: query blocks [start, stop) whose keys are gathered.
        dense_rows: query blocks that are computed against all keys.
        dense_masked: bool (H, blocks, blocks * size + token blocks * size), which of these do not count; None
            where only padding does not.
        slots: (H, blocks, K) places in the store of the blocks (0 is a block of zeros, then the
            bins' blocks, then the tokens').
        far: K less the window and the tokens.
        bands: (H, blocks, far * 2) halves of the bands of relative keys, in blocks.
        masked: bool (H, blocks, K * size), keys that do not count.
        masked_rows: per head, the query blocks that have such keys.
    """

    blocks: int
    rows: tuple[int, int]
    dense_rows: tuple[int, ...]
    dense_masked: Tensor | None
    slots: Tensor
    far: int
    bands: Tensor
    masked: Tensor
    masked_rows: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # cached: must serve training too
def _plan(pattern: BlockPattern, length: int, kind: str, device: torch.device) -> _Plan:
    layout = pattern.layout(length)
    blocks, size, heads = layout.blocks, pattern.block_size, pattern.heads
    row = torch.arange(blocks)
    window = torch.stack([row - 1, row, row + 1], dim=1)
    window = window.masked_fill((window < 0) | (window >= blocks), EMPTY)
    far = [torch.where((row - block).abs() > 1, block, EMPTY) for block in layout.global_rows]
    fixed = torch.cat([window, *(column[:, None] for column in far)], dim=1)
    ids = torch.cat([fixed.expand(heads, -1, -1), torch.from_numpy(layout.random.copy())], dim=2)

    position = ids[..., None] * size + torch.arange(size)
    masked = (ids == EMPTY)[..., None] | (position >= length)
    token_blocks = -(-pattern.global_tokens // size)
    token_masked = torch.arange(token_blocks * size) >= pattern.global_tokens
    masked = torch.cat([masked.flatten(2), token_masked.expand(heads, blocks, -1)], dim=2)
    token_slots = (1 + blocks + torch.arange(token_blocks)).expand(heads, blocks, -1)

    far_ids = ids[..., NEAR:]
    # the band of the distances between blocks that are o apart starts at block o + blocks - 1
    band = torch.where(far_ids == EMPTY, 0, far_ids - row[:, None] + blocks - 1)
    rows, dense_rows = (0, blocks), layout.global_rows
    if kind != "sparse":
        rows, dense_rows = (0, 0), tuple(range(blocks))
    elif dense_rows:
        rows = (1, blocks - 1)
    dense_masked = None
    if kind == "masked":
        attended = torch.from_numpy(layout.block_mask()).repeat_interleave(size, 2)
        outside = ~attended | (torch.arange(blocks * size) >= length)
        dense_masked = torch.cat([outside, token_masked.expand(heads, blocks, -1)], dim=2).to(device)
    return _Plan(
        blocks=blocks,
        rows=rows,
        dense_rows=dense_rows,
        dense_masked=dense_masked,
        slots=torch.cat([ids + 1, token_slots], dim=2).to(device),
        far=far_ids.shape[2],
        bands=torch.stack([band, band + 1], dim=-1).flatten(2).to(device),
        masked=masked.to(device),
        masked_rows=tuple(tuple(head.any(-1).nonzero()[:, 0].tolist()) for head in masked),
    )


class _Blocks:
    """The inputs of one call, cut into blocks; H heads, B sequences, blocks of ``size`` bins.

    Stores of keys and values are (H, 1 + blocks + token blocks, B, size, d), see ``_Plan.slots``;
    queries are (H, blocks, B, size, d).
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        relative: RelativeBias | None,
        pattern: BlockPattern,
        kind: str,
    ) -> None:
        self.batch, self.heads, total, self.key_size = q.shape
        self.value_size = v.shape[-1]
        self.tokens, self.size = pattern.global_tokens, pattern.block_size
        self.length = total - self.tokens
        self.plan = _plan(pattern, self.length, kind, q.device)
        self.padding = self.plan.blocks * self.size - self.length
        self.width = self.plan.masked.shape[2]
        self.relative = relative
        self.keys, self.values = self._store(k), self._store(v)
        self.queries = self.cut(q[:, :, self.tokens :])
        self.token_queries = q[:, :, : self.tokens].transpose(0, 1)
        if relative is not None:
            self.position_queries = self.queries + relative.position_bias[:, None, None, None]
            self.queries = self.queries + relative.content_bias[:, None, None, None]
            self.token_queries = self.token_queries + relative.content_bias[:, None, None]
            # one more, so that the distances divide into blocks
            self.relative_keys = F.pad(relative.keys, (0, 0, self.padding, self.padding + 1))
        offsets = torch.arange(self.batch, device=q.device)[:, None]
        self.slots = self.plan.slots[:, :, None, :] * self.batch + offsets  # (H, blocks, B, K)

    def cut(self, x: Tensor) -> Tensor:
        """(B, H, T, d) to contiguous (H, blocks, B, size, d)."""
        cut = x.new_zeros if self.padding else x.new_empty
        blocks = cut(self.heads, self.plan.blocks, self.batch, self.size, x.shape[-1])
        self._paste(blocks, x)
        return blocks

    def _paste(self, blocks: Tensor, x: Tensor) -> None:
        whole = self.length // self.size
        rest = self.length - whole * self.size
        body = x[:, :, : whole * self.size].unflatten(2, (whole, self.size))
        blocks[:, :whole].copy_(body.permute(1, 2, 0, 3, 4))
        if rest:
            blocks[:, whole, :, :rest].copy_(x[:, :, whole * self.size :].transpose(0, 1))

    def _store(self, x: Tensor) -> Tensor:
        token_blocks = -(-self.tokens // self.size)
        count = 1 + self.plan.blocks + token_blocks
        store = x.new_empty(self.heads, count, self.batch, self.size, x.shape[-1])
        store[:, 0] = 0
        if self.padding:
            store[:, self.plan.blocks] = 0
        self._paste(store[:, 1 : 1 + self.plan.blocks], x[:, :, self.tokens :])
        if self.tokens:
            last = store[:, 1 + self.plan.blocks :]
            last.zero_()
            tokens = F.pad(x[:, :, : self.tokens], (0, 0, 0, token_blocks * self.size - self.tokens))
            last.copy_(tokens.unflatten(2, (token_blocks, self.size)).permute(1, 2, 0, 3, 4))
        return store

    def join(self, blocks: Tensor, tokens: Tensor | None) -> Tensor:
        """(H, blocks, B, size, d) and (H, B, G, d) to (B, H, G + T, d)."""
        joined = blocks.new_empty(self.batch, self.heads, self.tokens + self.length, blocks.shape[-1])
        bins = joined[:, :, self.tokens :]
        whole = self.length // self.size
        rest = self.length - whole * self.size
        body = bins[:, :, : whole * self.size].unflatten(2, (whole, self.size))
        body.copy_(blocks[:, :whole].permute(2, 0, 1, 3, 4))
        if rest:
            bins[:, :, whole * self.size :].copy_(blocks[:, whole, :, :rest].transpose(0, 1))
        if tokens is not None and self.tokens:
            joined[:, :, : self.tokens].copy_(tokens.transpose(0, 1))
        return joined

    def unstore(self, store: Tensor) -> Tensor:
        """The inverse of a store of keys or values: (B, H, G + T, d)."""
        tokens = store[:, 1 + self.plan.blocks :].transpose(1, 2).flatten(2, 3)[:, :, : self.tokens]
        return self.join(store[:, 1 : 1 + self.plan.blocks], tokens)

    def chunks(self) -> Iterator[tuple[int, int, int]]:
        """Runs of query blocks computed at a time: (head, start, stop)."""
        first, last = self.plan.rows
        step = max(1, _chunk_logits(self.queries) // (self.batch * self.size * self.width))
        for head in range(self.heads):
            for start in range(first, last, step):
                yield head, start, min(start + step, last)

    def gather(self, store: Tensor, head: int, start: int, stop: int) -> Tensor:
        """Keys or values of some query blocks: (n * B, width, d)."""
        rows = store[head].view(-1, self.size * store.shape[-1])
        gathered = rows.index_select(0, self.slots[head, start:stop].flatten())
        return gathered.view(-1, self.width, store.shape[-1])

    def scatter(self, store: Tensor, gradient: Tensor, head: int, start: int, stop: int) -> None:
        """Add to a store what :meth:`gather` would have read."""
        rows = store[head].view(-1, self.size * store.shape[-1])
        rows.index_add_(0, self.slots[head, start:stop].flatten(), gradient.view(-1, rows.shape[1]))

    def near_keys(self, head: int) -> Tensor:
        """Relative keys of the distances inside the window: a (4 * size, key_size) view."""
        middle = self.plan.blocks * self.size
        return self.relative_keys[head, middle - 2 * self.size : middle + 2 * self.size]

    def far_keys(self, head: int, start: int, stop: int) -> Tensor:
        """Relative keys between query blocks and their far blocks: (n, far * 2 * size, key_size)."""
        halves = self.relative_keys[head].view(-1, self.size * self.key_size)
        gathered = halves.index_select(0, self.plan.bands[head, start:stop].flatten())
        return gathered.view(stop - start, -1, self.key_size)

    def near_view(self, by_distance: Tensor, rows: int) -> Tensor:
        """(rows * B * size, 4 * size) by distance, seen by key: (rows * B, size, 3 * size).

        In memory one query further is one distance less, so a row of the view starts one earlier. This
        and the next views need a tensor that starts its own storage.
        """
        size = self.size
        return by_distance.as_strided(
            (rows * self.batch, size, NEAR * size), (4 * size * size, 4 * size - 1, 1), size - 1
        )

    def far_view(self, by_distance: Tensor, rows: int) -> Tensor:
        """(rows, B * size, far * 2 * size) by distance, seen by key: (rows * B, size, far, size)."""
        size, width = self.size, self.plan.far * 2 * self.size
        return by_distance.as_strided(
            (rows * self.batch, size, self.plan.far, size), (size * width, width - 1, 2 * size, 1), size - 1
        )

    def logits(self, head: int, start: int, stop: int, keys: Tensor) -> Tensor:
        """(n * B, size, width) logits of some query blocks and their gathered keys."""
        rows, size = stop - start, self.size
        queries = self.queries[head, start:stop].view(-1, size, self.key_size)
        logits = torch.bmm(queries, keys.transpose(1, 2))
        if self.relative is not None:
            positions = self.position_queries[head, start:stop]
            near = positions.view(-1, self.key_size) @ self.near_keys(head).t()
            logits[..., : NEAR * size] += self.near_view(near, rows)
            if self.plan.far:
                far_keys = self.far_keys(head, start, stop)
                far = torch.bmm(positions.view(rows, -1, self.key_size), far_keys.transpose(1, 2))
                self.far_part(logits).add_(self.far_view(far, rows))
        masked = [row for row in self.plan.masked_rows[head] if start <= row < stop]
        by_row = logits.view(rows, -1, size, self.width)
        if len(masked) > 4:
            by_row.masked_fill_(self.plan.masked[head, start:stop, None, None], -torch.inf)
        else:
            for row in masked:
                by_row[row - start].masked_fill_(self.plan.masked[head, row], -torch.inf)
        return logits

    def far_part(self, logits: Tensor) -> Tensor:
        """The far blocks' part of logits, a view: (n * B, size, far, size)."""
        size = self.size
        return logits[..., NEAR * size : (NEAR + self.plan.far) * size].unflatten(-1, (-1, size))

    def dense_queries(self, head: int) -> Iterator[tuple[int | None, Tensor]]:
        """Query rows computed against all keys: (block or None for the tokens, (B, rows, key_size))."""
        for block in self.plan.dense_rows:
            yield block, self.queries[head, block]
        if self.tokens:
            yield None, self.token_queries[head]

    def everything(self, store: Tensor, head: int) -> Tensor:
        """Keys or values of all bins and tokens of a head: (B, blocks * size + token blocks * size, d)."""
        return store[head, 1:].transpose(0, 1).flatten(1, 2)

    def dense_view(self, by_distance: Tensor) -> Tensor:
        """(B * size, blocks * size + size) by distance, seen by key: (B, size, blocks * size)."""
        size, width = self.size, by_distance.shape[-1]
        return by_distance.as_strided(
            (self.batch, size, width - size), (size * width, width - 1, 1), size - 1
        )

    def dense_band(self, block: int) -> slice:
        """Relative keys between a block and everything."""
        padded = self.plan.blocks * self.size
        return slice(padded - (block + 1) * self.size, 2 * padded - block * self.size)

    def dense_logits(self, head: int, block: int | None, queries: Tensor, keys: Tensor) -> Tensor:
        """(B, rows, all keys) logits of query rows computed against all keys."""
        logits = torch.bmm(queries, keys.transpose(1, 2))
        padded = self.plan.blocks * self.size
        if self.relative is not None and block is not None:
            positions = self.position_queries[head, block].view(-1, self.key_size)
            by_distance = positions @ self.relative_keys[head, self.dense_band(block)].t()
            logits[..., :padded] += self.dense_view(by_distance)
        if self.plan.dense_masked is not None and block is not None:
            logits.masked_fill_(self.plan.dense_masked[head, block], -torch.inf)
        else:
            logits[..., self.length : padded] = -torch.inf
            logits[..., padded + self.tokens :] = -torch.inf
        return logits


class _Dropout:
    """Drops softmax weights; two of the same seed drop the same ones."""

    def __init__(self, share: float, seed: int, device: torch.device) -> None:
        self.share = share
        self.generator = torch.Generator(device).manual_seed(seed) if share else None

    def scale(self, weights: Tensor) -> Tensor | None:
        """What to multiply ``weights`` by: 0, or 1 / (1 - share). None without dropout."""
        if not self.share:
            return None
        # 16 random bits decide about a weight, which is several times faster than bernoulli_
        words = torch.empty(-(-weights.numel() // 4), dtype=torch.int64, device=weights.device)
        words.random_(-(2**63), None, generator=self.generator)
        threshold = round(self.share * 2**16) - 2**15
        kept = words.view(torch.int16)[: weights.numel()].view(weights.shape) >= threshold
        return kept.to(weights.dtype).mul_(1 / (1 - self.share))


class _BlockSparseAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        relative_keys: Tensor | None,
        content_bias: Tensor | None,
        position_bias: Tensor | None,
        pattern: BlockPattern,
        kind: str,
        dropout: float,
    ) -> Tensor:
        seed = int(torch.randint(2**62, ())) if dropout else 0
        ctx.save_for_backward(q, k, v, relative_keys, content_bias, position_bias)
        ctx.pattern, ctx.kind, ctx.dropout, ctx.seed = pattern, kind, dropout, seed
        relative = _relative(relative_keys, content_bias, position_bias)
        plain = relative is None and not dropout and q.shape[-1] == v.shape[-1]
        if plain and kind == "sparse" and q.device.type == "cpu":
            return _fused(q, k, v, pattern)
        blocks = _Blocks(q, k, v, relative, pattern, kind)
        drop = _Dropout(dropout, seed, q.device)
        mixed = v.new_empty(blocks.heads, blocks.plan.blocks, blocks.batch, blocks.size, blocks.value_size)
        for head, start, stop in blocks.chunks():
            keys = blocks.gather(blocks.keys, head, start, stop)
            weights = blocks.logits(head, start, stop, keys).softmax(-1)
            if (scale := drop.scale(weights)) is not None:
                weights *= scale
            values = blocks.gather(blocks.values, head, start, stop)
            out = mixed[head, start:stop].view(-1, blocks.size, blocks.value_size)
            torch.bmm(weights, values, out=out)
        mixed_tokens = v.new_empty(blocks.heads, blocks.batch, blocks.tokens, blocks.value_size)
        if blocks.plan.dense_rows or blocks.tokens:
            for head in range(blocks.heads):
                keys, values = blocks.everything(blocks.keys, head), blocks.everything(blocks.values, head)
                for block, queries in blocks.dense_queries(head):
                    weights = blocks.dense_logits(head, block, queries, keys).softmax(-1)
                    if (scale := drop.scale(weights)) is not None:
                        weights *= scale
                    out = mixed_tokens[head] if block is None else mixed[head, block]
                    out.copy_(torch.bmm(weights, values))
        return blocks.join(mixed, mixed_tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradients[0].device.type, enabled=False):
            return _backward(ctx, gradients[0])


def _fused(q: Tensor, k: Tensor, v: Tensor, pattern: BlockPattern) -> Tensor:
    """The forward pass by PyTorch's fused kernel, for keys and values of one size: (B, H, G + T, d).

    One sequence, head and run of query blocks at a time. Of the inputs only a head's is copied, where it is
    strided or the last block is short.
    """
    batch, heads, total, width = q.shape
    tokens, size = pattern.global_tokens, pattern.block_size
    plan = _plan(pattern, total - tokens, "sparse", q.device)
    padding = plan.blocks * size - (total - tokens)
    attended = NEAR + plan.far
    first, last = plan.rows
    step = max(1, CHUNK_FUSED // (size * (attended * size + tokens)))
    # every run writes to the same memory: the first touch of new pages takes longer than the copy
    buffers = q.new_empty(2, min(step, max(0, last - first)) * attended, size * width)
    mixed = q.new_empty(batch, heads, total + padding, width)

    def cut(x: Tensor) -> Tensor:
        bins = F.pad(x[tokens:], (0, 0, 0, padding)) if padding else x[tokens:]
        return bins.reshape(plan.blocks, size * width)

    def gather(buffer: Tensor, x: Tensor, ids: Tensor, of_tokens: Tensor) -> Tensor:
        gathered = buffer[: len(ids)]
        torch.index_select(x, 0, ids, out=gathered)
        gathered = gathered.view(-1, attended * size, width)
        if tokens:
            gathered = torch.cat([gathered, of_tokens.expand(len(gathered), -1, -1)], dim=1)
        return gathered[:, None]

    for sequence, head in itertools.product(range(batch), range(heads)):
        queries, keys, values = (cut(x[sequence, head]) for x in (q, k, v))
        for start in range(first, last, step):
            stop = min(start + step, last)
            ids = plan.slots[head, start:stop, :attended].sub(1).clamp_(min=0).flatten()
            kept = None
            if any(start <= row < stop for row in plan.masked_rows[head]):
                kept = ~plan.masked[head, start:stop, None, None, : attended * size + tokens]
            out = mixed[sequence, head, tokens + start * size : tokens + stop * size]
            queries_of_run = queries[start:stop].view(-1, 1, size, width)
            out.view(queries_of_run.shape).copy_(
                F.scaled_dot_product_attention(
                    queries_of_run,
                    gather(buffers[0], keys, ids, k[sequence, head, :tokens]),
                    gather(buffers[1], values, ids, v[sequence, head, :tokens]),
                    attn_mask=kept,
                    scale=1.0,
                )
            )
    if tokens or plan.dense_rows:  # which attend to everything: the tokens, the first and the last block
        front = tokens + size if plan.dense_rows else tokens
        back = total + padding - size if plan.dense_rows else total
        ends = torch.cat([q[:, :, :front], q[:, :, back:]], dim=2)
        ends = F.scaled_dot_product_attention(ends, k, v, scale=1.0)
        mixed[:, :, :front] = ends[:, :, :front]
        mixed[:, :, back:total] = ends[:, :, front:]
    return mixed[:, :, :total]


def _backward(ctx: Any, grad_out_all: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, *bias = ctx.saved_tensors
    relative = _relative(*bias)
    blocks = _Blocks(q, k, v, relative, ctx.pattern, ctx.kind)
    drop = _Dropout(ctx.dropout, ctx.seed, q.device)
    size, plan, batch = blocks.size, blocks.plan, blocks.batch
    grad_mixed = blocks.cut(grad_out_all[:, :, blocks.tokens :])
    grad_token_mixed = grad_out_all[:, :, : blocks.tokens].transpose(0, 1)
    grad_q = torch.zeros_like(blocks.queries)
    grad_token_q = torch.zeros_like(blocks.token_queries)
    grad_keys, grad_values = torch.zeros_like(blocks.keys), torch.zeros_like(blocks.values)
    if relative is not None:
        grad_position_q = torch.zeros_like(grad_q)
        grad_relative = torch.zeros_like(blocks.relative_keys)

    for head, start, stop in blocks.chunks():
        rows = stop - start
        keys = blocks.gather(blocks.keys, head, start, stop)
        weights = blocks.logits(head, start, stop, keys).softmax(-1)
        scale = drop.scale(weights)
        grad_out = grad_mixed[head, start:stop].view(-1, size, blocks.value_size)
        values = blocks.gather(blocks.values, head, start, stop)
        grad_logits = _softmax_backward(grad_out, values, weights, scale)
        kept = weights if scale is None else weights * scale
        blocks.scatter(grad_values, torch.bmm(kept.transpose(1, 2), grad_out), head, start, stop)

        queries = blocks.queries[head, start:stop].view(-1, size, blocks.key_size)
        torch.bmm(grad_logits, keys, out=grad_q[head, start:stop].view(queries.shape))
        blocks.scatter(grad_keys, torch.bmm(grad_logits.transpose(1, 2), queries), head, start, stop)
        if relative is None:
            continue
        positions = blocks.position_queries[head, start:stop]
        flat = positions.view(-1, blocks.key_size)
        grad_flat = grad_position_q[head, start:stop].view(flat.shape)
        near = weights.new_zeros(len(flat), 4 * size)
        blocks.near_view(near, rows).copy_(grad_logits[..., : NEAR * size])
        torch.mm(near, blocks.near_keys(head), out=grad_flat)
        middle = plan.blocks * size
        grad_near = grad_relative[head, middle - 2 * size : middle + 2 * size]
        grad_near.addmm_(near.t(), flat)
        if plan.far:
            far = weights.new_zeros(rows, batch * size, plan.far * 2 * size)
            blocks.far_view(far, rows).copy_(blocks.far_part(grad_logits))
            by_row = positions.view(rows, -1, blocks.key_size)
            grad_by_row = grad_flat.view(by_row.shape)
            grad_by_row.baddbmm_(far, blocks.far_keys(head, start, stop))
            halves = torch.bmm(far.transpose(1, 2), by_row).view(-1, size * blocks.key_size)
            into = grad_relative[head].view(-1, size * blocks.key_size)
            into.index_add_(0, plan.bands[head, start:stop].flatten(), halves)

    if plan.dense_rows or blocks.tokens:
        for head in range(blocks.heads):
            keys, values = blocks.everything(blocks.keys, head), blocks.everything(blocks.values, head)
            grad_all_keys, grad_all_values = torch.zeros_like(keys), torch.zeros_like(values)
            for block, queries in blocks.dense_queries(head):
                weights = blocks.dense_logits(head, block, queries, keys).softmax(-1)
                scale = drop.scale(weights)
                grad_out = grad_token_mixed[head] if block is None else grad_mixed[head, block]
                grad_logits = _softmax_backward(grad_out, values, weights, scale)
                kept = weights if scale is None else weights * scale
                grad_all_values.baddbmm_(kept.transpose(1, 2), grad_out)
                grad_all_keys.baddbmm_(grad_logits.transpose(1, 2), queries)
                out = grad_token_q[head] if block is None else grad_q[head, block]
                out.copy_(torch.bmm(grad_logits, keys))
                if relative is not None and block is not None:
                    flat = blocks.position_queries[head, block].view(-1, blocks.key_size)
                    padded = plan.blocks * size
                    by_distance = weights.new_zeros(len(flat), padded + size)
                    blocks.dense_view(by_distance).copy_(grad_logits[..., :padded])
                    band = blocks.dense_band(block)
                    grad_position_q[head, block].view(flat.shape).copy_(
                        by_distance @ blocks.relative_keys[head, band]
                    )
                    grad_relative[head, band].addmm_(by_distance.t(), flat)
            for store, gradient in ((grad_keys, grad_all_keys), (grad_values, grad_all_values)):
                store[head, 1:] += gradient.unflatten(1, (-1, size)).transpose(0, 1)

    grad_bias: tuple[Tensor | None, ...] = (None, None, None)
    if relative is not None:
        used = slice(blocks.padding, blocks.padding + 2 * blocks.length - 1)
        grad_content = grad_q.sum((1, 2, 3)) + grad_token_q.sum((1, 2))
        grad_bias = (grad_relative[:, used], grad_content, grad_position_q.sum((1, 2, 3)))
        grad_q += grad_position_q
    return (
        blocks.join(grad_q, grad_token_q),
        blocks.unstore(grad_keys),
        blocks.unstore(grad_values),
        *grad_bias,
        None,
        None,
        None,
    )


def _softmax_backward(grad_out: Tensor, values: Tensor, weights: Tensor, scale: Tensor | None) -> Tensor:
    """Gradient of the logits from the gradient of the mixed values."""
    grad_weights = torch.bmm(grad_out, values.transpose(1, 2))
    if scale is not None:
        grad_weights *= scale
    grad_weights *= weights
    return torch.addcmul(grad_weights, weights, grad_weights.sum(-1, keepdim=True), value=-1)


def _relative(keys: Tensor | None, content: Tensor | None, position: Tensor | None) -> RelativeBias | None:
    if keys is None or content is None or position is None:
        return None
    return RelativeBias(keys, content, position)
