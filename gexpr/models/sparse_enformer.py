"""Sparse Enformer: Enformer with BigBird's block-sparse attention in place of dense attention."""

from __future__ import annotations

from dataclasses import dataclass

from gexpr.errors import ConfigError
from gexpr.models.attention import IMPLEMENTATIONS, BlockPattern
from gexpr.models.base import check_choice, check_int, int_tuple
from gexpr.models.enformer import Enformer, EnformerConfig


@dataclass(frozen=True, kw_only=True)
class SparseEnformerConfig(EnformerConfig):
    """Settings of :class:`SparseEnformer`: Enformer's and the block pattern's.

    Args:
        block_size: bins in one block. Every block attends to itself and its two neighbors.
        random_blocks: further blocks that every block attends to, drawn per head and layer.
        global_blocks: let the first and last block attend to, and be attended by, everything.
        global_tokens: learned tokens that attend to, and are attended by, everything.
        random_layers, global_layers: the transformer layers that have random, or global, attention; None for
            all. A layer without either is purely local.
        seed: seed of the random blocks, which are the same in training and prediction.
        attention_implementation: ``auto``, ``dense``, ``block_sparse`` or ``flex``: how it is computed.
    """

    block_size: int = 64
    random_blocks: int = 3
    global_blocks: bool = True
    global_tokens: int = 0
    random_layers: tuple[int, ...] | None = None
    global_layers: tuple[int, ...] | None = None
    seed: int = 0
    attention_implementation: str = "auto"

    def __post_init__(self) -> None:
        check_int("block_size", self.block_size, minimum=1)
        for name in ("random_blocks", "global_tokens", "seed"):
            check_int(name, getattr(self, name), minimum=0)
        if not isinstance(self.global_blocks, bool):
            raise ConfigError(f"global_blocks is {self.global_blocks!r}; it must be true or false")
        check_choice("attention_implementation", self.attention_implementation, IMPLEMENTATIONS)
        super().__post_init__()
        for name in ("random_layers", "global_layers"):
            if (layers := getattr(self, name)) is not None:
                layers = int_tuple(name, layers, 0)
                if max(layers, default=0) >= max(self.depth, 1):
                    raise ConfigError(f"{name} names layer {max(layers)}; depth is {self.depth}")
                object.__setattr__(self, name, layers)

    def pattern(self, layer: int) -> BlockPattern:
        """Block pattern of one transformer layer."""
        has_random = self.random_layers is None or layer in self.random_layers
        has_global = self.global_layers is None or layer in self.global_layers
        return BlockPattern(
            block_size=self.block_size,
            heads=self.attention_heads,
            random_blocks=self.random_blocks if has_random else 0,
            global_blocks=self.global_blocks and has_global,
            global_tokens=self.global_tokens if has_global else 0,
            seed=(self.seed, layer),
        )

    @property
    def attention(self) -> str:
        """How attention is computed."""
        return self.attention_implementation

    @property
    def token_count(self) -> int:
        """Global tokens in front of the bins."""
        return self.global_tokens


class SparseEnformer(Enformer):
    """Enformer with block-sparse attention: (B, L, 4) -> (B, target_length, tracks)."""

    config_class = SparseEnformerConfig
    config: SparseEnformerConfig

    def density(self, length: int | None = None) -> float:
        """Share of block pairs that attend, averaged over layers, for ``length`` bases (the context's)."""
        bins = (self.context_length if length is None else length) // self.bin_size
        patterns = [self.config.pattern(layer) for layer in range(self.config.depth)]
        return sum(pattern.density(bins) for pattern in patterns) / max(1, len(patterns))
