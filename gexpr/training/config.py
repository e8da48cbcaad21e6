"""The configuration of a training run: a YAML file, checked strictly, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gexpr.datasets.folds import parse_fold
from gexpr.datasets.sequence_table import MISSING, SIDES, TARGETS
from gexpr.errors import ConfigError, InputError, did_you_mean, require

LOSSES = ("poisson", "log_poisson", "multinomial", "poisson_multinomial", "mse", "log_mse")
TERMS = (*LOSSES, "contrast")
ADAPTIVE = ("adam", "adamw", "nadam", "rmsprop")
OPTIMIZERS = (*ADAPTIVE, "sgd")
DECAYS = ("constant", "linear", "cosine", "exponential", "step", "one_cycle")
PRECISIONS = ("fp32", "tf32", "bf16-mixed", "16-mixed")
METRICS = ("loss", "pearson_log1p", "pearson", "spearman", "contrast_pearson")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _choice(where: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, f"{where} is {value!r}; allowed: {', '.join(allowed)}")


def _changed(config: Any, name: str) -> bool:
    """Whether a setting is not its default."""
    usual = next(item.default for item in dataclasses.fields(config) if item.name == name)
    return bool(getattr(config, name) != usual)


def _belong(where: str, config: Any, settings: Iterable[str], owners: tuple[str, ...]) -> None:
    """Refuse settings of others than ``config.name``, which would have no effect."""
    for name in settings:
        _require(
            config.name in owners or not _changed(config, name),
            f"{where}: {name} belongs to {', '.join(owners)}, not to {config.name}; remove it",
        )


@dataclass(frozen=True)
class DataConfig:
    """What to train on, relative to the configuration file.

    ``path`` is a prepared dataset, a folder of TFRecords, or a table of sequences with values. ``squash`` is
    of TFRecords: how their targets were squashed. All that follows is of tables: see
    :class:`gexpr.datasets.SequenceTable`, :class:`gexpr.datasets.Construct` and
    :class:`gexpr.datasets.TableWindows`.
    """

    path: str
    train_split: str = "train"
    valid_split: str = "valid"
    squash: str = "shifted"
    sequence_column: str | None = None
    value_columns: tuple[str, ...] = ()
    split_column: str | None = None
    split_file: str | None = None
    cluster_column: str | None = None
    length: int | None = None
    pad: str = "none"
    crop: str = "none"
    prefix: str = ""
    suffix: str = ""
    missing: str = "error"
    targets: str = "raw"
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _require(
            self.train_split != self.valid_split, "data.train_split and data.valid_split must not be the same"
        )
        for name, allowed in (
            ("squash", ("shifted", "power")),
            ("pad", SIDES),
            ("crop", SIDES),
            ("missing", MISSING),
            ("targets", TARGETS),
        ):
            _choice(f"data.{name}", getattr(self, name), allowed)
        _require(
            self.length is None or self.length >= 1, f"data.length is {self.length}; it must be 1 or more"
        )
        for name in ("scale", "shift"):
            _require(
                getattr(self, name) is None or self.targets == "affine",
                f"data.{name} belongs to data.targets affine, not to {self.targets}",
            )


@dataclass(frozen=True)
class ModelSection:
    """``settings`` are those of the architecture, without context_length, target_length and heads.

    Without an architecture, both are those of the checkpoint ``training.init``.
    """

    architecture: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("context_length", "target_length", "heads"):
            _require(
                name not in self.settings,
                f"model.settings.{name} is taken from the dataset; remove it from the configuration",
            )
        _require(
            bool(self.architecture) or not self.settings,
            "model.settings without model.architecture: leave both out to take those of training.init",
        )


@dataclass(frozen=True)
class PairConfig:
    """Two groups of tracks, by id, whose ratio numerator / denominator is compared."""

    numerator: tuple[str, ...]
    denominator: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("numerator", "denominator"):
            _require(len(getattr(self, name)) > 0, f"loss.terms: {name} names no track")
        both = set(self.numerator) & set(self.denominator)
        _require(not both, f"loss.terms: track {next(iter(both), '')!r} is on both sides of a pair")


@dataclass(frozen=True)
class TermConfig:
    """One extra loss term.

    ``width`` (bins) is that of the wide windows of ``contrast`` and, when above 1, of ``log_mse``;
    they overlap by half. The other settings are those of :func:`gexpr.training.losses.contrast`.
    """

    name: str
    weight: float = 1.0
    width: int = 1
    pairs: tuple[PairConfig, ...] = ()
    kind: str = "squared"
    pseudocount: float = 1.0
    n0: float = 20.0
    total_weight: float = 0.2
    log_input: bool = False
    full: bool = False

    def __post_init__(self) -> None:
        _choice("loss.terms.name", self.name, TERMS)
        _require(self.weight > 0, f"loss.terms.weight is {self.weight}; it must be above 0")
        _require(self.width >= 1, f"loss.terms.width is {self.width}; it must be 1 or more")
        _choice("loss.terms.kind", self.kind, ("squared", "binomial"))
        _require(self.pseudocount > 0, f"loss.terms.pseudocount is {self.pseudocount}; it must be above 0")
        _require(self.n0 >= 0, f"loss.terms.n0 is {self.n0}; it must be 0 or more")
        _require(
            bool(self.pairs) or self.name != "contrast",
            "loss.terms: contrast needs pairs of numerator and denominator tracks",
        )
        _belong("loss.terms", self, ("pairs", "kind", "pseudocount", "n0"), ("contrast",))
        if self.name not in ("log_mse", "contrast"):
            _require(self.width == 1, f"loss.terms: {self.name} has no width")
        _belong("loss.terms", self, ("log_input", "full"), ("log_poisson",))
        _belong("loss.terms", self, ("total_weight",), ("poisson_multinomial",))


@dataclass(frozen=True)
class LossConfig:
    """The base loss and extra terms.

    ``total_weight`` is that of ``poisson_multinomial``; ``log_input`` and ``full`` are those of
    :func:`gexpr.training.losses.log_poisson`.
    """

    name: str = "poisson"
    total_weight: float = 0.2
    log_input: bool = False
    full: bool = False
    terms: tuple[TermConfig, ...] = ()

    def __post_init__(self) -> None:
        _choice("loss.name", self.name, LOSSES)
        _require(self.total_weight >= 0, f"loss.total_weight is {self.total_weight}; it must be 0 or more")
        _belong("loss", self, ("log_input", "full"), ("log_poisson",))
        _belong("loss", self, ("total_weight",), ("poisson_multinomial",))


@dataclass(frozen=True)
class L2Config:
    """Penalties ``coefficient * sum of w^2`` added to the loss, by kind of layer.

    ``attention`` is all weights of an attention module but its norms, ``recurrent`` those of LSTM and GRU
    cells, ``other`` what is of no other kind. Biases only with ``bias``; positions' decays never.
    """

    conv: float = 0.0
    dense: float = 0.0
    attention: float = 0.0
    recurrent: float = 0.0
    norm: float = 0.0
    embedding: float = 0.0
    other: float = 0.0
    bias: bool = False

    def __post_init__(self) -> None:
        for name, value in self.coefficients().items():
            _require(value >= 0, f"optimizer.l2.{name} is {value}; it must be 0 or more")

    def coefficients(self) -> dict[str, float]:
        """The coefficient of every kind of layer."""
        kinds = [item.name for item in dataclasses.fields(self) if item.name != "bias"]
        return {kind: getattr(self, kind) for kind in kinds}


@dataclass(frozen=True)
class OptimizerConfig:
    """``ema_decay`` 0 switches weight averaging off; ``clip_norm`` null switches clipping off.

    ``eps`` and ``momentum`` null become those usual for the optimizer: 1e-8 and 0.9, for ``rmsprop`` 1e-7
    and 0. ``swa_start`` (steps, or below 1 a fraction of ``schedule.steps``) null switches the equal average
    of the weights of later steps off.
    """

    name: str = "adamw"
    lr: float = 1e-3
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float | None = None
    alpha: float = 0.9
    weight_decay: float = 0.0
    momentum: float | None = None
    nesterov: bool = False
    clip_norm: float | None = 1.0
    l2: L2Config = L2Config()
    ema_decay: float = 0.0
    swa_start: float | None = None
    swa_every: int = 1
    swa_lr: float | None = None
    swa_batches: int = 100

    def __post_init__(self) -> None:
        _choice("optimizer.name", self.name, OPTIMIZERS)
        _require(self.lr > 0, f"optimizer.lr is {self.lr}; it must be above 0")
        _require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"optimizer.betas is {list(self.betas)}; it must be two numbers in [0, 1)",
        )
        usual = {"eps": 1e-7, "momentum": 0.0} if self.name == "rmsprop" else {"eps": 1e-8, "momentum": 0.9}
        for name, owners in (("eps", ADAPTIVE), ("momentum", ("sgd", "rmsprop"))):
            if getattr(self, name) in (None, usual[name]):
                object.__setattr__(self, name, usual[name])
            else:
                _belong("optimizer", self, (name,), owners)
        _belong("optimizer", self, ("betas",), ("adam", "adamw", "nadam"))
        assert self.eps is not None and self.momentum is not None
        _require(self.eps > 0, f"optimizer.eps is {self.eps}; it must be above 0")
        _require(0 <= self.alpha < 1, f"optimizer.alpha is {self.alpha}; it must be in [0, 1)")
        _belong("optimizer", self, ("alpha",), ("rmsprop",))
        _require(
            self.weight_decay >= 0, f"optimizer.weight_decay is {self.weight_decay}; it must be 0 or more"
        )
        _require(0 <= self.momentum < 1, f"optimizer.momentum is {self.momentum}; it must be in [0, 1)")
        _require(
            not self.nesterov or (self.name == "sgd" and self.momentum > 0),
            "optimizer.nesterov is true; it needs optimizer.name: sgd and a momentum above 0",
        )
        _require(
            self.clip_norm is None or self.clip_norm > 0,
            f"optimizer.clip_norm is {self.clip_norm}; it must be above 0, or null",
        )
        _require(0 <= self.ema_decay < 1, f"optimizer.ema_decay is {self.ema_decay}; it must be in [0, 1)")
        start = self.swa_start
        _require(
            start is None or (start >= 0 and (start < 1 or start == int(start))),
            f"optimizer.swa_start is {start}; it must be a number of steps, a fraction below 1 of "
            "schedule.steps, or null",
        )
        _require(
            start is None or not self.ema_decay,
            "optimizer.swa_start and optimizer.ema_decay are two averages of weights; give one of them",
        )
        _require(
            self.swa_lr is None or (self.swa_lr > 0 and start is not None),
            f"optimizer.swa_lr is {self.swa_lr}; it must be above 0 and needs swa_start, or be null",
        )
        for name in ("swa_every", "swa_batches"):
            value = getattr(self, name)
            _require(value >= 1, f"optimizer.{name} is {value}; it must be 1 or more")
            _require(
                start is not None or not _changed(self, name),
                f"optimizer.{name} is {value}; it needs swa_start, from which on weights are averaged",
            )


@dataclass(frozen=True)
class ScheduleConfig:
    """Warm-up, then ``decay``; see :func:`gexpr.training.optimizers.learning_rate_factor`."""

    steps: int
    warmup_steps: int = 0
    decay: str = "cosine"
    final_fraction: float = 0.0
    decay_rate: float = 0.1
    decay_steps: int | None = None

    def __post_init__(self) -> None:
        _require(self.steps >= 1, f"schedule.steps is {self.steps}; it must be 1 or more")
        _require(
            0 <= self.warmup_steps <= self.steps,
            f"schedule.warmup_steps is {self.warmup_steps}; it must be between 0 and schedule.steps "
            f"({self.steps})",
        )
        _choice("schedule.decay", self.decay, DECAYS)
        _require(
            0 <= self.final_fraction <= 1,
            f"schedule.final_fraction is {self.final_fraction}; it must be in [0, 1]",
        )
        _require(0 < self.decay_rate <= 1, f"schedule.decay_rate is {self.decay_rate}; it must be in (0, 1]")
        falling = self.decay in ("exponential", "step")
        _require(
            (self.decay_steps is not None and self.decay_steps >= 1) if falling else self.decay_steps is None,
            f"schedule.decay_steps is {self.decay_steps}; schedule.decay {self.decay} "
            + ("needs a number of 1 or more" if falling else "has none"),
        )
        _require(
            falling or not _changed(self, "decay_rate"),
            f"schedule.decay_rate is {self.decay_rate}; schedule.decay {self.decay} has none",
        )
        _require(
            self.decay != "constant" or not self.final_fraction,
            f"schedule.final_fraction is {self.final_fraction}; schedule.decay constant has none",
        )
        _require(
            self.decay != "one_cycle" or 0 < self.warmup_steps < self.steps,
            "schedule.decay one_cycle needs warmup_steps above 0 and below schedule.steps",
        )


@dataclass(frozen=True)
class AugmentationConfig:
    """``jitter_bins`` moves whole windows, ``shift_bp`` the sequence against its targets, both ways.

    ``reverse_complement`` null is true for windows of genomes and false for tables. ``crop_length`` (bases)
    cuts shorter windows out of those of a folder of TFRecords, at random; null shows them whole.
    """

    reverse_complement: bool | None = None
    jitter_bins: int = 0
    shift_bp: int = 0
    crop_length: int | None = None

    def __post_init__(self) -> None:
        _require(
            self.crop_length is None or self.crop_length >= 1,
            f"augmentation.crop_length is {self.crop_length}; it must be 1 or more, or null",
        )
        for name in ("jitter_bins", "shift_bp"):
            value = getattr(self, name)
            _require(value >= 0, f"augmentation.{name} is {value}; it must be 0 or more")


@dataclass(frozen=True)
class TrainingConfig:
    """Batches, precision, validation, selection and limits.

    ``steps_per_epoch`` null is one pass over the training windows. ``patience`` (epochs without a
    better ``metric``) null switches early stopping off. ``max_steps`` ends training before
    the schedule's end. ``max_minutes`` counts the training time of
    all resumptions together. ``init`` is a checkpoint whose weights are the start; of these ``init_only`` and
    ``init_skip`` name what is taken and left, by parts of names. ``train_only`` names
    what is trained, by parts of the names of parameters; all else keeps its weights, as does what ``freeze``
    names. With
    ``checkpoint_activations`` activations are computed again in the backward pass instead of being kept.
    ``fold`` k/K deals training and validation data into K folds anew and validates on number k, from 0.
    """

    batch_size: int = 8
    accumulate: int = 1
    precision: str = "fp32"
    seed: int = 1
    steps_per_epoch: int | None = None
    valid_batch_size: int | None = None
    patience: int | None = None
    metric: str = "loss"
    select: str = "best"
    save_minutes: float = 5.0
    max_minutes: float | None = None
    max_steps: int | None = None
    init: str | None = None
    init_only: tuple[str, ...] | None = None
    init_skip: tuple[str, ...] | None = None
    train_only: tuple[str, ...] | None = None
    freeze: tuple[str, ...] | None = None
    checkpoint_activations: bool = False
    fold: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate"):
            value = getattr(self, name)
            _require(value >= 1, f"training.{name} is {value}; it must be 1 or more")
        for name in ("steps_per_epoch", "valid_batch_size", "patience", "max_steps"):
            value = getattr(self, name)
            _require(
                value is None or value >= 1, f"training.{name} is {value}; it must be 1 or more, or null"
            )
        if self.fold is not None:
            parse_fold(self.fold)
        _choice("training.precision", self.precision, PRECISIONS)
        _choice("training.metric", self.metric, METRICS)
        _choice("training.select", self.select, ("best", "last"))
        _require(self.seed >= 0, f"training.seed is {self.seed}; it must be 0 or more")
        _require(
            self.save_minutes >= 0, f"training.save_minutes is {self.save_minutes}; it must be 0 or more"
        )
        _require(
            self.max_minutes is None or self.max_minutes > 0,
            f"training.max_minutes is {self.max_minutes}; it must be above 0, or null",
        )
        for name in ("init_only", "init_skip", "train_only", "freeze"):
            texts = getattr(self, name)
            _require(
                texts is None or (bool(texts) and all(texts)),
                f"training.{name} is {list(texts or ())}; it must be parts of names, or null",
            )
            _require(
                texts is None or self.init is not None or not name.startswith("init"),
                f"training.{name} needs training.init, the checkpoint to take weights from",
            )


@dataclass(frozen=True)
class OutputConfig:
    """Where the run is written (relative to the working directory) and what its model card says.

    ``export_epochs`` n > 0 also writes the checkpoint folder during training, every n epochs.
    """

    folder: str | None = None
    name: str = "model"
    description: str = ""
    license: str = ""
    tensorboard: bool = False
    export_epochs: int = 0

    def __post_init__(self) -> None:
        _require(
            self.export_epochs >= 0, f"output.export_epochs is {self.export_epochs}; it must be 0 or more"
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole configuration; see docs/training.md for the meaning of every key."""

    data: DataConfig
    model: ModelSection = ModelSection()
    schedule: ScheduleConfig
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    output: OutputConfig = OutputConfig()

    def __post_init__(self) -> None:
        _require(
            bool(self.model.architecture) or self.training.init is not None,
            "the key 'model.architecture' is missing; only with training.init it may be left out",
        )
        start = self.optimizer.swa_start
        _require(
            start is None or start <= self.schedule.steps,
            f"optimizer.swa_start is {start}, after schedule.steps ({self.schedule.steps})",
        )
        if self.training.metric == "contrast_pearson":
            _require(
                any(term.name == "contrast" for term in self.loss.terms),
                "training.metric is contrast_pearson, but loss.terms has no contrast",
            )

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values; :func:`from_dict` gives an equal configuration back."""
        return _plain(self)

    def trajectory(self) -> dict[str, Any]:
        """The part of ``to_dict()`` that determines the weights: what may not change on resuming."""
        content = self.to_dict()
        del content["output"], content["data"]["path"], content["data"]["split_file"]
        for name in (
            "save_minutes",
            "max_minutes",
            "max_steps",
            "valid_batch_size",
            "select",
            "checkpoint_activations",
        ):
            del content["training"][name]
        return content


def from_dict(content: Mapping[str, Any]) -> TrainConfig:
    """Check nested values and make the configuration.

    Raises:
        ConfigError: an unknown or missing key, or a bad value; names the key and what is allowed.
    """
    return _build(TrainConfig, content, "")


def load_config(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a YAML configuration.

    Args:
        path: the file; ``data.path``, ``data.split_file`` and a ``training.init`` that is a folder are
            relative to it.
        overrides: ``section.key=value`` texts that replace values of the file; the value is YAML.

    Raises:
        InputError: the file is missing or not YAML.
        ConfigError: as :func:`from_dict`.
    """
    yaml = require("yaml", "train")
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the configuration: {error}", path=path) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(
            f"not valid YAML: {problem}", path=path, line=mark.line + 1 if mark else None
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: the configuration must be a mapping of sections to settings")
    for override in overrides:
        _override(content, override, yaml)
    config = from_dict(content)
    data = dataclasses.replace(config.data, path=str(path.parent / config.data.path))
    if data.split_file is not None:
        data = dataclasses.replace(data, split_file=str(path.parent / data.split_file))
    training = config.training
    if training.init is not None and (path.parent / training.init).is_dir():
        training = dataclasses.replace(training, init=str(path.parent / training.init))
    return dataclasses.replace(config, data=data, training=training)


def _override(content: dict[str, Any], text: str, yaml: Any) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override {text!r} is not of the form section.key=value")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {text!r}: the value is not YAML") from error
    place: Any = content
    for part in parts[:-1]:
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        else:
            raise ConfigError(f"override {text!r}: there is no {part!r} in the configuration")
    if isinstance(place, list) and parts[-1].isdigit() and int(parts[-1]) < len(place):
        place[int(parts[-1])] = parsed
    elif isinstance(place, dict):
        place[parts[-1]] = parsed
    else:
        raise ConfigError(f"override {text!r}: there is no {parts[-1]!r} in the configuration")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _build(cls: type, content: Any, where: str) -> Any:
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where} is {content!r}; it must be a mapping")
    hints = typing.get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for key in content:
        if key not in fields:
            place = f"{where}.{key}" if where else str(key)
            raise ConfigError(
                f"unknown key {place!r}; allowed{' in ' + where if where else ''}: {', '.join(fields)}"
                f"{did_you_mean(str(key), fields)}"
            )
    values: dict[str, Any] = {}
    for name, item in fields.items():
        place = f"{where}.{name}" if where else name
        if name in content:
            values[name] = _convert(hints[name], content[name], place)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ConfigError(f"the key {place!r} is missing")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        inner = [option for option in typing.get_args(hint) if option is not type(None)]
        return _convert(inner[0], value, where)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {value!r}; it must be a list")
        inner_hint = typing.get_args(hint)[0]
        return tuple(_convert(inner_hint, item, f"{where}.{i}") for i, item in enumerate(value))
    if origin is dict:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {value!r}; it must be a mapping")
        return dict(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and not isinstance(value, bool):
        # YAML 1.1 reads 1e-3 (no dot) as text.
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if number == number and abs(number) != float("inf"):
            return number
    kinds = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}
    raise ConfigError(f"{where} is {value!r}; it must be {kinds.get(hint, hint)}")
