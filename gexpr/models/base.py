"""What every architecture has in common: a validated config, a model interface, its geometry."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gexpr.errors import ConfigError, did_you_mean
from gexpr.models.layers import LINKS, BatchNorm
from gexpr.results import Track

Config = TypeVar("Config", bound="ModelConfig")

TILE_BASES = 2**15
"""Bases of a tile of :meth:`SequenceModel.encode_window`."""

_HEAD_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Settings that every architecture has; subclasses add their own and validate in ``__post_init__``.

    Args:
        context_length: bases in.
        target_length: bins out, in the middle of the context.
        heads: head name -> number of tracks. The first head is the default one.
    """

    context_length: int
    target_length: int
    heads: dict[str, int]

    def __post_init__(self) -> None:
        check_int("context_length", self.context_length, minimum=1)
        check_int("target_length", self.target_length, minimum=1)
        check_heads(self.heads)
        object.__setattr__(self, "heads", dict(self.heads))
        bin_size = self.bin_size
        if self.context_length % bin_size:
            raise ConfigError(
                f"context_length {self.context_length} is not a multiple of the bin size {bin_size}; "
                f"the nearest one is {max(1, round(self.context_length / bin_size)) * bin_size}"
            )
        output_crop(self.context_length // bin_size, self.target_length)

    @property
    def bin_size(self) -> int:
        """Bases in one output bin."""
        raise NotImplementedError

    @property
    def crop(self) -> int:
        """Bins dropped on each side of the context."""
        return output_crop(self.context_length // self.bin_size, self.target_length)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; ``from_dict`` gives an equal config back."""
        return {
            field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self) if field.init
        }

    @classmethod
    def from_dict(cls: type[Config], settings: Mapping[str, Any]) -> Config:
        """Make a config from a mapping; settings that are left out take their defaults.

        Raises:
            ConfigError: an unknown setting, a missing one without default, or a bad value.
        """
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        unknown = [name for name in settings if name not in fields]
        if unknown:
            raise ConfigError(
                f"unknown model setting {', '.join(map(repr, unknown))}; known: {', '.join(sorted(fields))}"
                f"{did_you_mean(unknown[0], fields)}"
            )
        missing = [
            name
            for name, field in fields.items()
            if name not in settings
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise ConfigError(f"missing model setting {', '.join(map(repr, missing))}")
        return cls(**settings)


class TrunkLayer(NamedTuple):
    """Geometry of one convolution or pooling layer, in order from the sequence to the bins."""

    name: str
    kernel: int
    stride: int = 1
    dilation: int = 1

    @property
    def left(self) -> int:
        """Input positions to the left of an output's first one that it sees (SAME padding; 0 for pooling)."""
        return 0 if self.stride > 1 else (self.kernel - 1) * self.dilation // 2

    @property
    def right(self) -> int:
        """Input positions to the right of an output's first one that it sees."""
        return (self.kernel - 1) * self.dilation - self.left


def tower_layers(stem_kernel: int, tower_kernel: int, blocks: int) -> list[TrunkLayer]:
    """Geometry of a stem and tower blocks, each a convolution and a pooling by two."""
    layers = [TrunkLayer("stem.convolution", stem_kernel), TrunkLayer("stem.pool", 2, 2)]
    for index in range(blocks):
        layers.append(TrunkLayer(f"tower.{index}.convolution", tower_kernel))
        layers.append(TrunkLayer(f"tower.{index}.pool", 2, 2))
    return layers


def dilated_layers(dilations: Iterable[int]) -> list[TrunkLayer]:
    """Geometry of a chain of dilated convolutions of width 3."""
    return [TrunkLayer(f"dilated.{index}", 3, dilation=each) for index, each in enumerate(dilations)]


class ReceptiveField(NamedTuple):
    """Output ``t`` sees inputs ``t * stride - left`` to ``t * stride + right``, both included."""

    stride: int
    left: int
    right: int

    @property
    def width(self) -> int:
        """Number of inputs that one output sees."""
        return self.left + self.right + 1

    @property
    def halo(self) -> int:
        """Outputs at an end of the input that see beyond it."""
        # Output t sees nothing beyond the ends where t * stride - left and t * stride + right lie inside.
        return max(-(-self.left // self.stride), -(-(self.right - self.stride + 1) // self.stride), 0)


def receptive_field(layers: Iterable[TrunkLayer]) -> ReceptiveField:
    """Receptive field of a chain of layers."""
    stride, left, right = 1, 0, 0
    for layer in layers:
        left += layer.left * stride
        right += layer.right * stride
        stride *= layer.stride
    return ReceptiveField(stride, left, right)


class LocalStage(NamedTuple):
    """A layer whose outputs see only the tokens around them.

    Attributes:
        run: (B, n, C) tokens, the number of tokens of a whole window, and the place of the first of the n in
            it, to (B, n, C). The n tokens may be a part of a window that starts at a multiple of
            ``align``, and ends at one or with the window.
        reach: tokens on each side that an output sees, counted from the cut of ``align`` tokens it lies
            in; so many outputs at an artificial end of a part are wrong.
        align: where a window may be cut.
        project: for a last stage of which :meth:`SequenceModel.finish` needs a summary besides: arguments as
            of ``run``, to what the summary takes of each token, (B, n, D), which sees that token alone.
        summarize: ``project`` of a whole window, (B, tokens, D), to the summary (B, S, C).
        whole: all of the stage's input to the summary and the stage's output, (B, S + tokens, C), at once.
    """

    run: Callable[[Tensor, int, int], Tensor]
    reach: int
    align: int = 1
    project: Callable[[Tensor, int, int], Tensor] | None = None
    summarize: Callable[[Tensor], Tensor] | None = None
    whole: Callable[[Tensor], Tensor] | None = None

    def on_window(self, tokens: Tensor) -> Tensor:
        """The stage on a whole window: (B, tokens, C) to (B, S + tokens, C)."""
        return self.run(tokens, tokens.shape[1], 0) if self.whole is None else self.whole(tokens)


class BlockPart(NamedTuple):
    """A layer of a :class:`LocalBlock`, which can be computed piece by piece.

    Attributes:
        run: (B, n, C) to (B, n / stride, C'), zeros being seen beyond the ends.
        norm: what ``run`` normalizes its input with, the one thing in which it sees all of a sequence in
            training; None where nothing is normalized.
        layer: geometry.
    """

    run: Callable[[Tensor], Tensor]
    norm: BatchNorm | None
    layer: TrunkLayer


class LocalBlock(nn.Module):
    """A block of convolutions and pooling: (B, L, C) -> (B, L / stride, C')."""

    @property
    def parts(self) -> list[BlockPart]:
        """What :meth:`forward` does, one after the other."""
        raise NotImplementedError


class SequenceModel(nn.Module):
    """A model that reads one-hot DNA and predicts tracks in bins.

    ``forward(x, head)`` maps ``(B, L, 4)`` floats to ``(B, target_length, tracks)`` non-negative
    predictions. ``L`` is usually ``context_length``; any multiple of ``bin_size`` that covers the
    target is accepted, and the target stays in the middle. ``head`` None is the first head.
    """

    config_class: ClassVar[type[ModelConfig]]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tracks: list[Track] = []

    @property
    def context_length(self) -> int:
        """Bases in."""
        return self.config.context_length

    @property
    def bin_size(self) -> int:
        """Bases in one output bin."""
        return self.config.bin_size

    @property
    def target_length(self) -> int:
        """Bins out."""
        return self.config.target_length

    @property
    def crop(self) -> int:
        """Bins dropped on each side of a context of ``context_length`` bases."""
        return self.config.crop

    @property
    def trunk_layers(self) -> list[TrunkLayer]:
        """Geometry of the convolutional trunk, layer by layer."""
        raise NotImplementedError

    def head_name(self, head: str | None = None) -> str:
        """The head's name, the first head's for None.

        Raises:
            ConfigError: the model has no such head.
        """
        heads = self.config.heads
        if head is None:
            return next(iter(heads))
        if head not in heads:
            raise ConfigError(f"the model has no head {head!r}; it has: {', '.join(heads)}")
        return head

    def check_input(self, x: Tensor) -> int:
        """Check the shape of a batch of sequences and return its number of bins.

        Raises:
            ConfigError: not (B, L, 4), or L is not a whole number of bins that covers the target.
        """
        if x.ndim != 3 or x.shape[-1] != 4:
            raise ConfigError(f"sequences have shape {tuple(x.shape)}; the model takes (batch, length, 4)")
        length = x.shape[1]
        if length % self.bin_size:
            raise ConfigError(
                f"sequences of {length} bases are not a multiple of the bin size {self.bin_size}"
            )
        output_crop(length // self.bin_size, self.target_length)
        return length // self.bin_size

    def crop_bins(self, x: Tensor, bins: tuple[int, int] | None = None) -> Tensor:
        """Keep the middle ``target_length`` bins of (B, bins, channels), or ``bins`` (half-open) of them."""
        first, last = self.target_bins(x.shape[1], bins)
        return x[:, first:last]

    def target_bins(self, count: int, bins: tuple[int, int] | None = None) -> tuple[int, int]:
        """Where the target, or ``bins`` (half-open) of it, lies among ``count`` bins, half-open."""
        crop = output_crop(count, self.target_length)
        first, last = (0, self.target_length) if bins is None else bins
        return crop + first, crop + last

    @property
    def blocks(self) -> list[nn.Module]:
        """The modules, in order, whose input and output are most of what training keeps between them.

        All that happens inside a block can be computed again from its input (:mod:`gexpr.training.memory`).
        """
        return []

    @property
    def token_size(self) -> int:
        """Bases a token of :meth:`encode`: mostly those of a bin."""
        return receptive_field(self.local_layers).stride

    @property
    def local_layers(self) -> list[TrunkLayer]:
        """Geometry of :meth:`encode`, layer by layer; empty where the model has no local trunk."""
        return []

    def encode(self, x: Tensor) -> Tensor:
        """(B, n * token_size, 4) one-hot to (B, n, C): the layers that see only their surroundings.

        Any number n of tokens will do. Token t depends on the bases that
        ``receptive_field(local_layers)`` says, and is the same whatever lies further away; beyond the
        ends every layer sees zeros.
        """
        raise NotImplementedError

    def encode_window(self, x: Tensor, encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """:meth:`encode` of a long sequence, tile by tile where no gradient is wanted.

        The first layers are as long as the sequence; in tiles they need little memory. Each tile is
        computed with the tokens around it that make its own right.

        Args:
            x: (B, n * token_size, 4) one-hot.
            encode: what to call in place of :meth:`encode`.
        """
        encode = encode or self.encode
        field = receptive_field(self.local_layers)
        halo, size = field.halo, field.stride
        tile = max(TILE_BASES // size, 4 * halo)
        tokens = x.shape[1] // size
        if torch.is_grad_enabled() or tokens <= 2 * tile:
            return encode(x)
        pieces = []
        for start in range(0, tokens, tile):
            low, end = max(0, start - halo), min(tokens, start + tile)
            high = min(tokens, end + halo)
            piece = encode(x[:, low * size : high * size])
            pieces.append(piece[:, start - low : end - low])
        return torch.cat(pieces, dim=1)

    @property
    def local_stages(self) -> list[LocalStage]:
        """The layers after :meth:`encode` in which a token still sees only its surroundings, in order."""
        return []

    def finish(
        self,
        tokens: Tensor,
        head: str | None = None,
        tracks: Tensor | None = None,
        bins: tuple[int, int] | None = None,
    ) -> Tensor:
        """(B, S + bins, C) from the last of :attr:`local_stages` to (B, target_length, tracks).

        Args:
            tokens: its output, with its summary in front where it makes one.
            head: name of the head.
            tracks: indices of the head's tracks that are wanted; None is all of them.
            bins: the bins of the target, half-open, that are wanted; None is all of them.
        """
        raise NotImplementedError

    def decode(self, tokens: Tensor, head: str | None = None, tracks: Tensor | None = None) -> Tensor:
        """(B, bins, C) tokens of whole windows to (B, target_length, tracks): all after :meth:`encode`."""
        for stage in self.local_stages:
            tokens = stage.on_window(tokens)
        return self.finish(tokens, head, tracks)

    def forward(self, x: Tensor, head: str | None = None) -> Tensor:
        """(B, L, 4) one-hot sequences to (B, target_length, tracks) predictions."""
        raise NotImplementedError


def output_crop(bins: int, target_length: int) -> int:
    """Bins to drop on each side so that ``target_length`` of ``bins`` remain in the middle.

    Raises:
        ConfigError: the target is longer than the context or cannot lie in its middle.
    """
    surplus = bins - target_length
    if surplus < 0:
        raise ConfigError(f"target_length {target_length} is more than the {bins} bins of the context")
    if surplus % 2:
        raise ConfigError(
            f"target_length {target_length} cannot lie in the middle of {bins} bins; "
            f"take {target_length - 1} or {target_length + 1}"
        )
    return surplus // 2


def check_int(name: str, value: object, *, minimum: int, optional: bool = False) -> None:
    """Raise ConfigError unless ``value`` is a whole number of at least ``minimum`` (or None if optional)."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number of at least {minimum}")


def check_probability(name: str, value: object) -> None:
    """Raise ConfigError unless ``value`` is a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ConfigError(f"{name} is {value!r}; it must be at least 0 and less than 1")


def check_number(name: str, value: object, *, above: float) -> None:
    """Raise ConfigError unless ``value`` is a finite number greater than ``above``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value < float("inf"):
        raise ConfigError(f"{name} is {value!r}; it must be a number above {above}")


def check_flag(name: str, value: object) -> None:
    """Raise ConfigError unless ``value`` is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be true or false")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; it must be one of: {', '.join(choices)}")


def int_tuple(name: str, values: object, minimum: int) -> tuple[int, ...]:
    """A tuple of whole numbers of at least ``minimum``, or ConfigError."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"{name} is {values!r}; it must be a list of whole numbers")
    for value in values:
        check_int(f"an entry of {name}", value, minimum=minimum)
    return tuple(values)


def check_heads(heads: object) -> None:
    """Raise ConfigError unless ``heads`` maps at least one usable name to a number of tracks."""
    if not isinstance(heads, Mapping) or not heads:
        raise ConfigError(f"heads is {heads!r}; it must map at least one head's name to its number of tracks")
    for name, tracks in heads.items():
        if not isinstance(name, str) or not _HEAD_NAME.fullmatch(name) or hasattr(nn.ModuleDict, name):
            raise ConfigError(f"heads has the name {name!r}; use letters, digits, '_' and '-'")
        check_int(f"heads[{name!r}]", tracks, minimum=1)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def softplus_heads(features: int, heads: Mapping[str, int]) -> nn.ModuleDict:
    """One linear layer a head; predictions are their softplus, or another link."""
    return nn.ModuleDict({name: nn.Linear(features, tracks) for name, tracks in heads.items()})


def predict_head(head: nn.Module, x: Tensor, tracks: Tensor | None = None, link: str = "softplus") -> Tensor:
    """The link of a head's linear layer, softplus mostly: (B, T, C) -> (B, T, tracks).

    In the precision of the weights even under autocast: rounding here would drown weak variant effects.

    Args:
        head: an ``nn.Linear``.
        x: its input.
        tracks: which of its outputs to compute; None for all.
        link: name of one of :data:`gexpr.models.layers.LINKS`.
    """
    assert isinstance(head, nn.Linear)
    weight = head.weight if tracks is None else head.weight[tracks]
    bias = head.bias if tracks is None else head.bias[tracks]
    if not torch.amp.is_autocast_available(x.device.type):
        return LINKS[link](F.linear(x, weight, bias))
    with torch.autocast(x.device.type, enabled=False):
        return LINKS[link](F.linear(x.to(weight.dtype), weight, bias))


def parameter_count(model: nn.Module) -> int:
    """Number of trainable numbers in a module."""
    return sum(parameter.numel() for parameter in model.parameters())


def on_meta_device(build: type[SequenceModel], config: ModelConfig) -> SequenceModel:
    """Build a model without memory for its weights, to read its shapes and counts."""
    with torch.device("meta"):
        return build(config)
