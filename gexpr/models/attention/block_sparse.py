"""Block-sparse attention in plain PyTorch: only the attended blocks are computed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gexpr.models.attention.pattern import EMPTY, BlockPattern
from gexpr.models.attention.relative import RelativeBias


def block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: BlockPattern,
    relative: RelativeBias | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention over the blocks of ``pattern``; arguments as in ``attention.attend``."""
    batch, heads, total, _ = q.shape
    tokens, size = pattern.global_tokens, pattern.block_size
    length = total - tokens
    layout = pattern.layout(length)
    blocks = layout.blocks
    padding = blocks * size - length

    content_query = q if relative is None else q + relative.content_bias[:, None]
    position_query = None if relative is None else q[:, :, tokens:] + relative.position_bias[:, None]

    def to_blocks(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, padding)).unflatten(2, (blocks, size))

    queries = to_blocks(content_query[:, :, tokens:])
    keys, values = to_blocks(k[:, :, tokens:]), to_blocks(v[:, :, tokens:])
    ids, valid = _key_blocks(pattern, length, q.device)
    head = torch.arange(heads, device=q.device)[:, None, None]
    gathered_keys, gathered_values = keys[:, head, ids], values[:, head, ids]
    logits = torch.einsum("bhaid,bhakjd->bhaikj", queries, gathered_keys)
    if relative is not None:
        assert position_query is not None
        # the band of distances between blocks that are o apart starts at (o + blocks - 1) * size
        bands = F.pad(relative.keys, (0, 0, padding, padding + 1)).unfold(1, 2 * size, size)
        band = ids - torch.arange(blocks, device=q.device)[:, None] + blocks - 1
        by_distance = torch.einsum("bhaid,hakdm->bhakim", to_blocks(position_query), bands[head, band])
        skewed = by_distance.flatten(-2)[..., size - 1 : -1].unflatten(-1, (size, 2 * size - 1))
        logits = logits + skewed[..., :size].movedim(3, 4)
    position = ids[..., None] * size + torch.arange(size, device=q.device)
    allowed = valid[..., None] & (position < length)
    logits = logits.masked_fill(~allowed[:, :, None], -torch.inf).flatten(-2)
    if tokens:
        logits = torch.cat([torch.einsum("bhaid,bhgd->bhaig", queries, k[:, :, :tokens]), logits], dim=-1)
    weights = F.dropout(logits.softmax(-1), dropout)
    mixed = weights[..., tokens:] @ gathered_values.flatten(3, 4)
    if tokens:
        mixed = mixed + torch.einsum("bhaig,bhgd->bhaid", weights[..., :tokens], v[:, :, :tokens])

    rows = [mixed.flatten(2, 3)[:, :, :length]]
    spans = [(row * size, min((row + 1) * size, length)) for row in layout.global_rows]
    for start, end in spans:
        logits = content_query[:, :, tokens + start : tokens + end] @ k.transpose(-1, -2)
        if relative is not None:
            assert position_query is not None
            by_distance = position_query[:, :, start:end] @ relative.keys.transpose(-1, -2)
            index = torch.arange(length, device=q.device) - torch.arange(start, end, device=q.device)[:, None]
            index = (index + length - 1).expand(batch, heads, -1, -1)
            logits = logits + F.pad(by_distance.gather(-1, index), (tokens, 0))
        dense = F.dropout(logits.softmax(-1), dropout) @ v
        rows = [torch.cat([rows[0][:, :, :start], dense, rows[0][:, :, end:]], dim=2)]
    if tokens:
        logits = content_query[:, :, :tokens] @ k.transpose(-1, -2)
        rows.insert(0, F.dropout(logits.softmax(-1), dropout) @ v)
    return torch.cat(rows, dim=2)


def _key_blocks(pattern: BlockPattern, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Key blocks of every query block, and which entries count: both (heads, blocks, K)."""
    layout = pattern.layout(length)
    row = torch.arange(layout.blocks)
    window = torch.stack([row - 1, row, row + 1], dim=1)
    window = window.masked_fill((window < 0) | (window >= layout.blocks), EMPTY)
    columns = [window]
    for block in layout.global_rows:
        outside_window = (row - block).abs() > 1
        columns.append(torch.where(outside_window, block, EMPTY)[:, None])
    fixed = torch.cat(columns, dim=1).expand(pattern.heads, -1, -1)
    ids = torch.cat([fixed, torch.from_numpy(layout.random.copy())], dim=2).to(device)
    return ids.clamp(min=0), ids != EMPTY
