"""Enformer from enformer-pytorch and from DeepMind's Sonnet checkpoint.

Sources: lucidrains/enformer-pytorch (modeling_enformer.py, scripts/tf_to_torch.py);
google-deepmind/deepmind-research (enformer/enformer.py), whose checkpoints TensorFlow wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gexpr.conversion.adapter import Array, Change, Dropped, Place, Source, transposed
from gexpr.errors import CheckpointError
from gexpr.models.enformer import EnformerConfig

CONTEXT_BINS = 1536
"""Bins of the published context; neither source says for which it was trained."""


def _with_ones_removed(value: Array) -> Array:
    return value.reshape([extent for extent in value.shape if extent != 1])


def _heads(value: Array) -> Array:
    """(1, heads, 1, key size) to (heads, key size)."""
    return value.reshape(value.shape[1], value.shape[3])


# ----------------------------------------------------------------------------------------------------
# enformer-pytorch

ALIASES = {"1": "stem", "2": "conv_tower", "4": "transformer", "6": "final_pointwise"}
"""Under ``_trunk.`` the same modules appear a second time."""


def pytorch_places(config: EnformerConfig) -> Iterator[Place]:
    """The table of names for enformer-pytorch's state dict."""
    yield Place("stem.convolution.weight", "stem.0.weight")
    yield Place("stem.convolution.bias", "stem.0.bias")
    yield from _pytorch_norm("stem.pointwise.norm", "stem.1.fn.0")
    yield from _pytorch_linear("stem.pointwise.conv", "stem.1.fn.2")
    yield Place("stem.pool.weight", "stem.2.to_attn_logits.weight", _square)
    for n in range(len(config.tower_widths)):
        ours, theirs = f"tower.{n}", f"conv_tower.{n}"
        yield from _pytorch_norm(f"{ours}.convolution.norm", f"{theirs}.0.0")
        yield from _pytorch_linear(f"{ours}.convolution.conv", f"{theirs}.0.2")
        yield from _pytorch_norm(f"{ours}.pointwise.norm", f"{theirs}.1.fn.0")
        yield from _pytorch_linear(f"{ours}.pointwise.conv", f"{theirs}.1.fn.2")
        yield Place(f"{ours}.pool.weight", f"{theirs}.2.to_attn_logits.weight", _square)
    for b in range(config.depth):
        yield from pytorch_transformer(f"transformer.{b}", f"transformer.{b}")
    yield from _pytorch_norm("final.norm", "final_pointwise.1.0")
    yield from _pytorch_linear("final.conv", "final_pointwise.1.2")
    for head in config.heads:
        yield from _pytorch_linear(f"heads.{head}", f"_heads.{head}.0")


def pytorch_transformer(ours: str, theirs: str) -> Iterator[Place]:
    """One transformer layer, which borzoi-pytorch has under the same names."""
    mha, mlp = f"{theirs}.0.fn", f"{theirs}.1.fn"
    yield from _pytorch_linear(f"{ours}.attention_norm", f"{mha}.0")
    yield Place(f"{ours}.attention.content_bias", f"{mha}.1.rel_content_bias", _heads)
    yield Place(f"{ours}.attention.position_bias", f"{mha}.1.rel_pos_bias", _heads)
    for name, their in (("query", "q"), ("key", "k"), ("value", "v"), ("relative_key", "rel_k")):
        yield Place(f"{ours}.attention.to_{name}.weight", f"{mha}.1.to_{their}.weight")
    yield from _pytorch_linear(f"{ours}.attention.to_output", f"{mha}.1.to_out")
    yield from _pytorch_linear(f"{ours}.feedforward_norm", f"{mlp}.0")
    yield from _pytorch_linear(f"{ours}.feedforward.expand", f"{mlp}.1")
    yield from _pytorch_linear(f"{ours}.feedforward.contract", f"{mlp}.4")


def _square(value: Array) -> Array:
    return value.reshape(value.shape[:2])


def _pytorch_linear(ours: str, theirs: str) -> Iterator[Place]:
    yield Place(f"{ours}.weight", f"{theirs}.weight")
    yield Place(f"{ours}.bias", f"{theirs}.bias")


def _pytorch_norm(ours: str, theirs: str) -> Iterator[Place]:
    yield from _pytorch_linear(ours, theirs)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        yield Place(f"{ours}.{name}", f"{theirs}.{name}")


def without_aliases(source: Source) -> Source:
    """The source without the second names of its modules, which have to hold the same numbers.

    Raises:
        CheckpointError: they do not.
    """
    shapes = dict(source.shapes)
    for name in source:
        match = re.fullmatch(r"_trunk\.([0-9]+)\.(.*)", name)
        if match is None or match[1] not in ALIASES:
            continue
        twin = f"{ALIASES[match[1]]}.{match[2]}"
        if twin not in source.shapes:
            shapes[twin] = shapes[name]
        elif not np.array_equal(source[name], source[twin]):
            raise CheckpointError(f"{source.place}: {name} and {twin} should be the same, and differ")
        del shapes[name]

    def read(name: str) -> Array:
        if name in source.shapes:
            return source[name]
        first, _, rest = name.partition(".")
        number = next(number for number, alias in ALIASES.items() if alias == first)
        return source[f"_trunk.{number}.{rest}"]

    return Source(source.place, shapes, read)


def pytorch_settings(source: Source, **changes: Any) -> dict[str, Any]:
    """Settings of the model whose state dict this is, as far as shapes tell; ``changes`` say the rest."""
    tower = _numbers(source, r"conv_tower\.(\d+)\.0\.2\.weight")
    layers = _numbers(source, r"transformer\.(\d+)\.0\.fn\.0\.weight")
    heads = {
        match[1]: source.shape(name, 2)[0]
        for name in source
        if (match := re.fullmatch(r"_heads\.(.+)\.0\.weight", name))
    }
    attention = "transformer.0.0.fn.1"
    bias = source.shape(f"{attention}.rel_content_bias", 4)
    return _settings(
        stem=source.shape("stem.0.weight", 3),
        tower=[source.shape(f"conv_tower.{n}.0.2.weight", 3) for n in range(tower)],
        depth=layers,
        attention_heads=bias[1],
        key_size=bias[3],
        values=source.shape(f"{attention}.to_v.weight", 2)[0],
        features=source.shape(f"{attention}.to_rel_k.weight", 2)[1],
        final=source.shape("final_pointwise.1.2.weight", 3)[0],
        inner=source.shape("transformer.0.1.fn.1.weight", 2)[0],
        heads=heads,
        changes=changes,
    )


def _numbers(source: Source, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in source)


def _settings(
    *,
    stem: tuple[int, ...],
    tower: list[tuple[int, ...]],
    depth: int,
    attention_heads: int,
    key_size: int,
    values: int,
    features: int,
    final: int,
    inner: int,
    heads: Mapping[str, int],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """Settings from shapes; convolutions are (out, in, kernel)."""
    channels = tower[-1][0] if tower else stem[0]
    bin_size = 2 ** (len(tower) + 1)
    context = changes.get("context_length") or CONTEXT_BINS * bin_size
    settings = dict(
        context_length=context,
        target_length=896 if context == CONTEXT_BINS * bin_size else context // bin_size,
        heads=dict(heads),
        channels=channels,
        stem_channels=stem[0],
        stem_kernel=stem[2],
        tower_channels=[each[0] for each in tower],
        tower_kernel=tower[0][2] if tower else 5,
        num_downsamples=len(tower) + 1,
        depth=depth,
        attention_heads=attention_heads,
        key_size=key_size,
        value_size=values // attention_heads,
        relative_features=features,
        feedforward_factor=inner // channels,
        final_channels=final,
    )
    return {**settings, **{name: value for name, value in changes.items() if value is not None}}


# ----------------------------------------------------------------------------------------------------
# DeepMind's Sonnet checkpoint

VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
SONNET_DROPPED = (
    Dropped(r".*/(_hidden|_counter)" + VARIABLE, "the sums behind a moving average, whose result is taken"),
    Dropped(r"(_CHECKPOINTABLE_OBJECT_GRAPH|save_counter.*)", "bookkeeping of TensorFlow"),
)

_convolution: Change = transposed(2, 1, 0)
_linear: Change = transposed(1, 0)


def sonnet_places(config: EnformerConfig) -> Iterator[Place]:
    """The table of names for the variables of ``tf.train.Checkpoint(module=Enformer())``."""
    trunk = "module/_trunk/_layers"
    yield from _sonnet_weights("stem.convolution", f"{trunk}/0/_layers/0", _convolution)
    yield from _sonnet_down("stem", f"{trunk}/0/_layers")
    for n in range(len(config.tower_widths)):
        layers = f"{trunk}/1/_layers/{n}/_layers"
        yield from _sonnet_norm(f"tower.{n}.convolution.norm", f"{layers}/0/_layers/0")
        yield from _sonnet_weights(f"tower.{n}.convolution.conv", f"{layers}/0/_layers/2", _convolution)
        yield from _sonnet_down(f"tower.{n}", layers)
    for b in range(config.depth):
        ours, mha = f"transformer.{b}", f"{trunk}/2/_layers/{b}/_layers/0/_module/_layers"
        mlp = f"{trunk}/2/_layers/{b}/_layers/1/_module/_layers"
        yield from _sonnet_layer_norm(f"{ours}.attention_norm", f"{mha}/0")
        yield Place(f"{ours}.attention.content_bias", f"{mha}/1/_r_w_bias{VARIABLE}", _heads)
        yield Place(f"{ours}.attention.position_bias", f"{mha}/1/_r_r_bias{VARIABLE}", _heads)
        for name, their in (("query", "q"), ("key", "k"), ("value", "v"), ("relative_key", "r_k")):
            yield Place(f"{ours}.attention.to_{name}.weight", f"{mha}/1/_{their}_layer/w{VARIABLE}", _linear)
        yield from _sonnet_weights(f"{ours}.attention.to_output", f"{mha}/1/_embedding_layer", _linear)
        yield from _sonnet_layer_norm(f"{ours}.feedforward_norm", f"{mlp}/0")
        yield from _sonnet_weights(f"{ours}.feedforward.expand", f"{mlp}/1", _linear)
        yield from _sonnet_weights(f"{ours}.feedforward.contract", f"{mlp}/4", _linear)
    yield from _sonnet_norm("final.norm", f"{trunk}/4/_layers/0/_layers/0")
    yield from _sonnet_weights("final.conv", f"{trunk}/4/_layers/0/_layers/2", _convolution)
    for head in config.heads:
        yield from _sonnet_weights(f"heads.{head}", f"module/_heads/{head}/_layers/0", _linear)


def _sonnet_weights(ours: str, theirs: str, change: Change) -> Iterator[Place]:
    yield Place(f"{ours}.weight", f"{theirs}/w{VARIABLE}", change)
    yield Place(f"{ours}.bias", f"{theirs}/b{VARIABLE}")


def _sonnet_down(ours: str, theirs: str) -> Iterator[Place]:
    yield from _sonnet_norm(f"{ours}.pointwise.norm", f"{theirs}/1/_module/_layers/0")
    yield from _sonnet_weights(f"{ours}.pointwise.conv", f"{theirs}/1/_module/_layers/2", _convolution)
    yield Place(f"{ours}.pool.weight", f"{theirs}/2/_logit_linear/w{VARIABLE}", _linear)


def _sonnet_norm(ours: str, theirs: str) -> Iterator[Place]:
    yield Place(f"{ours}.weight", f"{theirs}/scale{VARIABLE}", _with_ones_removed)
    yield Place(f"{ours}.bias", f"{theirs}/offset{VARIABLE}", _with_ones_removed)
    yield Place(f"{ours}.running_mean", f"{theirs}/moving_mean/average{VARIABLE}", _with_ones_removed)
    yield Place(f"{ours}.running_var", f"{theirs}/moving_variance/average{VARIABLE}", _with_ones_removed)


def _sonnet_layer_norm(ours: str, theirs: str) -> Iterator[Place]:
    yield Place(f"{ours}.weight", f"{theirs}/scale{VARIABLE}")
    yield Place(f"{ours}.bias", f"{theirs}/offset{VARIABLE}")


def sonnet_settings(source: Source, **changes: Any) -> dict[str, Any]:
    """Settings of the model whose checkpoint this is, as far as shapes tell; ``changes`` say the rest."""
    trunk = "module/_trunk/_layers"
    tower = _numbers(source, re.escape(f"{trunk}/1/_layers/") + r"\d+/_layers/0/_layers/2/w" + VARIABLE)
    mha = f"{trunk}/2/_layers/0/_layers/0/_module/_layers/1"

    def convolution(name: str) -> tuple[int, ...]:
        return source.shape(name + "/w" + VARIABLE, 3)[::-1]

    bias = source.shape(f"{mha}/_r_w_bias{VARIABLE}", 4)
    head = re.compile(r"module/_heads/([^/]+)/_layers/0/w" + VARIABLE)
    return _settings(
        stem=convolution(f"{trunk}/0/_layers/0"),
        tower=[convolution(f"{trunk}/1/_layers/{n}/_layers/0/_layers/2") for n in range(tower)],
        depth=_numbers(
            source, re.escape(f"{trunk}/2/_layers/") + r"\d+/_layers/0/_module/_layers/0/scale" + VARIABLE
        ),
        attention_heads=bias[1],
        key_size=bias[3],
        values=source.shape(f"{mha}/_v_layer/w{VARIABLE}", 2)[1],
        features=source.shape(f"{mha}/_r_k_layer/w{VARIABLE}", 2)[0],
        final=convolution(f"{trunk}/4/_layers/0/_layers/2")[0],
        inner=source.shape(f"{trunk}/2/_layers/0/_layers/1/_module/_layers/1/w{VARIABLE}", 2)[1],
        heads={m[1]: source.shape(name, 2)[1] for name in source if (m := head.fullmatch(name))},
        changes=changes,
    )
