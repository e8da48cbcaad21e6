"""What is trained, optimisers, the learning-rate schedule and the moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.training.config import OptimizerConfig, ScheduleConfig


def freeze(model: nn.Module, train_only: Sequence[str] | None) -> list[nn.Module]:
    """Leave only some parameters to be trained.

    Args:
        model: its other parameters get ``requires_grad`` False.
        train_only: parts of names of parameters: ``attention`` has ``transformer.0.attention_norm.weight``
            too. None trains everything.

    Returns:
        The largest modules all of whose parameters are frozen. In training they belong in evaluation mode,
        so that running statistics stay and nothing is dropped where nothing is learned.

    Raises:
        ConfigError: a text that no name contains.
    """
    if train_only is None:
        return []
    names = [name for name, _ in model.named_parameters()]
    for text in train_only:
        if not any(text in name for name in names):
            kinds = dict.fromkeys(part for name in names for part in name.split(".") if not part.isdigit())
            raise ConfigError(
                f"training.train_only: no parameter has {text!r} in its name; names are made of: "
                + ", ".join(kinds)
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(text in name for text in train_only))
    frozen: list[nn.Module] = []

    def visit(module: nn.Module) -> None:
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            frozen.append(module)
            return
        for child in module.children():
            visit(child)

    visit(model)
    return frozen


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameters with and without weight decay: biases, norms and other vectors have none."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        vector = parameter.ndim < 2 or name.rpartition(".")[2].endswith("bias")
        (plain if vector else decayed).append(parameter)
    groups: list[dict[str, object]] = [{"params": decayed, "weight_decay": weight_decay}]
    groups.append({"params": plain, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured optimiser over all trainable parameters."""
    groups = parameter_groups(model, config.weight_decay)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, foreach=True)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps, foreach=True)


def learning_rate_factor(step: int, config: ScheduleConfig) -> float:
    """Factor of the learning rate for the update that follows ``step`` finished ones.

    Rises linearly over ``warmup_steps`` updates (the first has 1 / warmup_steps), then stays
    (``constant``) or falls to ``final_fraction``, linearly or as half a cosine, at ``steps``.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return 1.0
    span = max(config.steps - config.warmup_steps, 1)
    progress = min((step - config.warmup_steps) / span, 1.0)
    shape = 1.0 - progress if config.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.final_fraction + (1.0 - config.final_fraction) * shape


class WeightAverage:
    """Exponential moving average of a model's weights and of its floating-point buffers.

    The decay of update t is ``min(decay, (1 + t) / (10 + t))``, so that early weights are soon
    forgotten. Running statistics of BatchNorm are averaged alike, so that they belong to the averaged
    weights; counters are copied. ``model`` is the averaged copy, in eval mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        target, source = self.model.state_dict(), model.state_dict()
        floating = [name for name, tensor in target.items() if tensor.is_floating_point()]
        self._averaged: list[Tensor] = [target[name] for name in floating]
        self._sources: list[Tensor] = [source[name].detach() for name in floating]
        self._copied = [
            (target[name], source[name]) for name, tensor in target.items() if not tensor.is_floating_point()
        ]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` updates (from 1)."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        torch._foreach_lerp_(self._averaged, self._sources, 1.0 - decay)
        for target, source in self._copied:
            target.copy_(source)
