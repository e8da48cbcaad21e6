"""What is trained, optimizers, penalties, the learning-rate schedule and averages of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from gexpr.errors import ConfigError
from gexpr.models.decay_attention import AttentionHeads
from gexpr.models.enformer import MultiheadAttention
from gexpr.models.multiscale import LastStates
from gexpr.training.config import L2Config, OptimizerConfig, ScheduleConfig


def check_parts(setting: str, texts: Sequence[str], names: Iterable[str]) -> None:
    """Refuse a text that is part of no name.

    Args:
        setting: where the texts come from, for the message.
        texts: parts of names: ``attention`` has ``transformer.0.attention_norm.weight`` too.
        names: names of parameters, with dots.

    Raises:
        ConfigError: names the text and what names are made of.
    """
    names = list(names)
    for text in texts:
        if not any(text in name for name in names):
            kinds = dict.fromkeys(part for name in names for part in name.split(".") if not part.isdigit())
            raise ConfigError(
                f"{setting}: no parameter has {text!r} in its name; names are made of: " + ", ".join(kinds)
            )


def chosen(name: str, only: Sequence[str] | None, skip: Sequence[str] | None) -> bool:
    """Whether a name has one of the texts ``only`` (None: any name) and none of ``skip``."""
    taken = only is None or any(text in name for text in only)
    return taken and not any(text in name for text in skip or ())


def freeze(
    model: nn.Module, train_only: Sequence[str] | None, frozen_parts: Sequence[str] | None = None
) -> list[nn.Module]:
    """Leave only some parameters to be trained.

    Args:
        model: its other parameters get ``requires_grad`` False; those that have it already keep it.
        train_only: parts of names of parameters: ``attention`` has ``transformer.0.attention_norm.weight``
            too. None trains everything.
        frozen_parts: parts of names of parameters that are not trained all the same.

    Returns:
        The largest modules all of whose parameters are frozen. In training they belong in evaluation mode,
        so that running statistics stay and nothing is dropped where nothing is learned.

    Raises:
        ConfigError: a text that no name of a parameter to train contains, or nothing is left to train.
    """
    if train_only is None and frozen_parts is None:
        return []
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    check_parts("training.train_only", train_only or (), names)
    check_parts("training.freeze", frozen_parts or (), names)
    if not any(chosen(name, train_only, frozen_parts) for name in names):
        raise ConfigError(
            f"training.freeze ({', '.join(frozen_parts or ())}) leaves no parameter to train; give it fewer "
            "names"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and chosen(name, train_only, frozen_parts))
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


def _is_decay(name: str) -> bool:
    """Whether a parameter is how something falls with distance, for which 0 means nothing."""
    return name.endswith(("decay", "decays"))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameters with and without weight decay: biases, norms and positions' decays have none."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        vector = parameter.ndim < 2 or name.endswith("bias") or _is_decay(name)
        (plain if vector else decayed).append(parameter)
    groups: list[dict[str, object]] = [{"params": decayed, "weight_decay": weight_decay}]
    groups.append({"params": plain, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured optimizer over all trainable parameters.

    ``rmsprop`` divides by ``sqrt(mean square) + eps``, with ``alpha`` (Keras: rho) the decay of the mean.
    """
    groups = parameter_groups(model, config.weight_decay)
    eps, momentum = config.eps or 1e-8, config.momentum or 0.0
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=momentum, nesterov=config.nesterov, foreach=True
        )
    if config.name == "rmsprop":
        return torch.optim.RMSprop(
            groups, lr=config.lr, alpha=config.alpha, eps=eps, momentum=momentum, foreach=True
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam}[config.name]
    return kind(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=eps, foreach=True)


_ATTENTION = (MultiheadAttention, AttentionHeads, nn.MultiheadAttention)
_RECURRENT = (LastStates, nn.RNNBase, nn.RNNCellBase)
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def layer_kinds(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, str]]:
    """Every parameter with its name and the kind of its layer, a name of :class:`L2Config`.

    A norm is a norm everywhere. All else inside an attention or recurrent module is of that kind, whatever it
    is made of.
    """

    def visit(module: nn.Module, prefix: str, within: str | None) -> Iterator[tuple[str, nn.Parameter, str]]:
        if isinstance(module, _ATTENTION):
            within = "attention"
        elif isinstance(module, _RECURRENT):
            within = "recurrent"
        if isinstance(module, _NORMS):
            kind = "norm"
        elif within is not None:
            kind = within
        elif isinstance(module, nn.modules.conv._ConvNd):
            kind = "conv"
        elif isinstance(module, nn.Linear):
            kind = "dense"
        elif isinstance(module, nn.Embedding):
            kind = "embedding"
        else:
            kind = "other"
        for parameter_name, parameter in module.named_parameters(prefix, recurse=False):
            yield parameter_name, parameter, kind
        for child_name, child in module.named_children():
            yield from visit(child, f"{prefix}.{child_name}" if prefix else child_name, within)

    seen: set[int] = set()
    for name, parameter, kind in visit(model, "", None):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            yield name, parameter, kind


class L2Penalty:
    """``sum over parameters of coefficient * sum of w^2``, over what is trained.

    A parameter whose own name has ``bias`` in it is one of the biases. Positions' decays have no penalty.
    ``active`` says whether there is anything to add.

    Raises:
        ConfigError: a coefficient for a kind of layer that the model does not have.
    """

    def __init__(self, model: nn.Module, config: L2Config) -> None:
        coefficients = config.coefficients()
        kinds = dict.fromkeys(kind for _, _, kind in layer_kinds(model))
        for kind, coefficient in coefficients.items():
            if coefficient and kind not in kinds:
                raise ConfigError(
                    f"optimizer.l2.{kind} is {coefficient:g}, but the model has no such layers; its kinds "
                    f"are: {', '.join(kinds)}"
                )
        self._terms: dict[float, list[nn.Parameter]] = {}
        for name, parameter, kind in layer_kinds(model):
            if not coefficients[kind] or not parameter.requires_grad or _is_decay(name):
                continue
            if config.bias or "bias" not in name.rpartition(".")[2]:
                self._terms.setdefault(coefficients[kind], []).append(parameter)
        self.active = bool(self._terms)

    def __call__(self) -> Tensor:
        """The penalty, a scalar; its gradient is ``2 * coefficient * w``."""
        sums = [
            coefficient * torch.stack([parameter.square().sum() for parameter in parameters]).sum()
            for coefficient, parameters in self._terms.items()
        ]
        return torch.stack(sums).sum()


def make_average(
    model: nn.Module, config: OptimizerConfig, steps: int
) -> WeightAverage | EqualAverage | None:
    """The configured average of a model's weights over a training of ``steps`` updates, if any."""
    if config.ema_decay:
        return WeightAverage(model, config.ema_decay)
    start = averaging_start(config, steps)
    return None if start is None else EqualAverage(model, start, config.swa_every)


def averaging_start(config: OptimizerConfig, steps: int) -> int | None:
    """The update from which on weights are averaged equally, in a training of ``steps``; None for never."""
    if config.swa_start is None:
        return None
    return int(config.swa_start if config.swa_start >= 1 else math.ceil(config.swa_start * steps))


def learning_rate_factor(step: int, config: ScheduleConfig) -> float:
    """Factor of the learning rate for the update that follows ``step`` finished ones.

    Rises linearly over ``warmup_steps`` updates (the first has 1 / warmup_steps), then stays
    (``constant``) or falls to ``final_fraction``, linearly or as half a cosine, at ``steps``; or is
    multiplied by ``decay_rate`` every ``decay_steps`` updates, at once (``step``) or evenly
    (``exponential``), but never falls below ``final_fraction``. ``one_cycle`` rises as half a cosine from
    1/25 and falls so to ``final_fraction``, at the last update.
    """
    if config.decay == "one_cycle":
        peak = config.warmup_steps - 1
        if step <= peak:
            return 1.0 - 0.96 * _half_cosine(step / peak if peak else 1.0)
        fallen = _half_cosine(min((step - peak) / (config.steps - 1 - peak), 1.0))
        return config.final_fraction + (1.0 - config.final_fraction) * fallen
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return 1.0
    if config.decay_steps is not None:
        times = (step - config.warmup_steps) / config.decay_steps
        power = math.floor(times) if config.decay == "step" else times
        return max(config.decay_rate**power, config.final_fraction)
    span = max(config.steps - config.warmup_steps, 1)
    progress = min((step - config.warmup_steps) / span, 1.0)
    shape = 1.0 - progress if config.decay == "linear" else _half_cosine(progress)
    return config.final_fraction + (1.0 - config.final_fraction) * shape


def _half_cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


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

    @property
    def begun(self) -> bool:
        """Whether ``model`` is an average yet: from the start."""
        return True


class EqualAverage:
    """Equal average of the weights after update ``start`` and every ``every`` updates from there on.

    Stochastic weight averaging. Running statistics of BatchNorm do not belong to averaged weights;
    :meth:`statistics` measures them again. Other buffers are the latest ones. ``model`` is the averaged copy,
    in eval mode, and means something once :attr:`begun`.
    """

    def __init__(self, model: nn.Module, start: int, every: int) -> None:
        self.start, self.every = max(start, 1), every
        self.count = 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._averaged: list[Tensor] = list(self.model.parameters())
        self._sources = [parameter.detach() for parameter in model.parameters()]
        self._copied = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @property
    def begun(self) -> bool:
        """Whether any weights were taken in."""
        return self.count > 0

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` updates (from 1), if it is one of those averaged."""
        if step < self.start or (step - self.start) % self.every:
            return
        self.count += 1
        torch._foreach_lerp_(self._averaged, self._sources, 1.0 / self.count)
        for target, source in self._copied:
            target.copy_(source)

    @torch.no_grad()
    def statistics(self, batches: Iterable[Tensor], frozen: Iterable[str] = ()) -> None:
        """Measure the running statistics of BatchNorm with the averaged weights, on training batches.

        They become the plain mean over the batches. Nothing is dropped and no random number is drawn.

        Args:
            batches: inputs of the model, one-hot.
            frozen: names of modules whose statistics stay.
        """
        kept = tuple(frozen)
        norms = [
            module
            for name, module in self.model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.track_running_stats
            and not any(name == each or name.startswith(f"{each}.") for each in kept)
        ]
        if not norms:
            return
        usual = [norm.momentum for norm in norms]
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            # No weight wants a gradient, so nothing is kept; but modules work as in training, not in tiles.
            with torch.enable_grad():
                for batch in batches:
                    self.model(batch)
        finally:
            for norm, momentum in zip(norms, usual, strict=True):
                norm.momentum = momentum
                norm.eval()
