"""The configuration: strict keys and values, overrides, and the schedule and optimiser it makes."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from gexpr.errors import ConfigError, InputError
from gexpr.training import from_dict, load_config
from gexpr.training.config import OptimizerConfig, ScheduleConfig
from gexpr.training.optimizers import (
    WeightAverage,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
)

MINIMAL: dict[str, Any] = {
    "data": {"path": "data.h5"},
    "model": {"architecture": "sparse_enformer"},
    "schedule": {"steps": 10},
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "c.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_defaults_and_round_trip(tmp_path, settings):
    config = load_config(write(tmp_path, MINIMAL))
    assert config.data.path == str(tmp_path / "data.h5")
    assert config.loss.name == "poisson" and config.augmentation.reverse_complement
    full = from_dict(settings)
    assert from_dict(full.to_dict()) == full


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimiser", {}, "unknown key 'optimiser'; allowed: data, model, schedule"),
        (
            "optimizer.learning_rate",
            1,
            "unknown key 'optimizer.learning_rate'; allowed in optimizer: name, lr",
        ),
        ("data", None, "'data.path' is missing"),
        ("optimizer.lr", "fast", "optimizer.lr is 'fast'; it must be a number"),
        ("optimizer.lr", -1, "optimizer.lr is -1.0"),
        ("optimizer.name", "lion", "optimizer.name is 'lion'; allowed: adam, adamw, nadam, rmsprop, sgd"),
        ("optimizer.betas", [0.9], "two numbers"),
        ("optimizer.ema_decay", 1.0, "optimizer.ema_decay"),
        ("schedule.steps", 1.5, "schedule.steps is 1.5; it must be a whole number"),
        ("schedule.steps", True, "schedule.steps is True"),
        ("schedule.warmup_steps", 11, "between 0 and schedule.steps"),
        ("schedule.decay", "sine", "allowed: constant, linear, cosine, exponential, step, one_cycle"),
        ("schedule.decay", "step", "schedule.decay step needs a number of 1 or more"),
        ("schedule.decay", "one_cycle", "one_cycle needs warmup_steps"),
        ("schedule.decay_steps", 5, "schedule.decay cosine has none"),
        ("schedule.decay_rate", 0, "schedule.decay_rate is 0.0"),
        ("optimizer.nesterov", True, "needs optimizer.name: sgd"),
        ("optimizer.alpha", 1, "optimizer.alpha is 1.0"),
        ("optimizer.l2.conv", -1, "optimizer.l2.conv is -1.0"),
        ("optimizer.l2.linear", 1, "unknown key 'optimizer.l2.linear'; allowed in optimizer.l2: conv, dense"),
        ("optimizer.swa_start", 1.5, "optimizer.swa_start is 1.5"),
        ("optimizer.swa_start", 11, "optimizer.swa_start is 11.0, after schedule.steps (10)"),
        ("optimizer.swa_lr", 0.1, "needs swa_start"),
        ("optimizer", {"swa_start": 0.5, "swa_every": 0}, "optimizer.swa_every is 0"),
        ("optimizer", {"swa_start": 0.5, "ema_decay": 0.9}, "two averages of weights"),
        ("training.freeze", [""], "must be parts of names"),
        ("training.init_skip", ["heads"], "training.init_skip needs training.init"),
        ("augmentation.reverse_complement", "yes please", "true or false"),
        ("augmentation.jitter_bins", -1, "augmentation.jitter_bins is -1"),
        ("training.precision", "fp8", "allowed: fp32"),
        ("training.select", "worst", "allowed: best, last"),
        ("training.metric", "contrast_pearson", "no contrast"),
        ("training.batch_size", 0, "training.batch_size is 0"),
        ("loss.name", "mae", "allowed: poisson"),
        ("loss.terms", [{"name": "contrast"}], "needs pairs"),
        ("loss.terms", [{"name": "poisson", "width": 4}], "poisson has no width"),
        ("loss.terms", [{"name": "mse", "width": 4}], "mse has no width"),
        ("loss.full", True, "full belongs to log_poisson, not to poisson"),
        ("loss.terms", [{"name": "mse", "log_input": True}], "log_input belongs to log_poisson"),
        ("loss.terms", [{"name": "log_mse", "wide": 4}], "unknown key 'loss.terms.0.wide'"),
        ("loss.terms", {"name": "log_mse"}, "must be a list"),
        ("model.settings", {"heads": {}}, "model.settings.heads is taken from the dataset"),
        ("model", {}, "'model.architecture' is missing; only with training.init"),
        ("model", {"settings": {"depth": 1}}, "model.settings without model.architecture"),
        ("training.train_only", [""], "must be parts of names"),
        ("training.train_only", [], "must be parts of names"),
        ("training.train_only", "attention", "must be a list"),
        ("model", "enformer", "model is 'enformer'; it must be a mapping"),
        ("output.export_epochs", -1, "output.export_epochs"),
    ],
)
def test_mistakes_name_the_key_and_what_is_allowed(key, value, message, tmp_path):
    content = copy.deepcopy(MINIMAL)
    place = content
    *parents, last = key.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(write(tmp_path, content))


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="not valid YAML") as caught:
        load_config(write(tmp_path, "data: {path: x}\nmodel: [\n"))
    assert caught.value.line is not None
    with pytest.raises(ConfigError, match="must be a mapping"):
        load_config(write(tmp_path, "- 1\n"))


def test_overrides_replace_values_of_any_depth(tmp_path, settings):
    path = write(tmp_path, settings)
    config = load_config(
        path,
        ["optimizer.lr=2e-3", "output.tensorboard=true", "loss.terms.0.weight=7", "training.patience=null"],
    )
    assert config.optimizer.lr == 0.002 and config.output.tensorboard
    assert config.loss.terms[0].weight == 7 and config.training.patience is None
    for text, message in (
        ("lr", "not of the form"),
        ("optimizer.speed=1", "unknown key 'optimizer.speed'"),
        ("loss.terms.3.weight=1", "there is no '3'"),
        ("data.path.x=1", "there is no 'x'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(path, [text])


def test_learning_rate_rises_and_falls():
    cosine = ScheduleConfig(steps=110, warmup_steps=10)
    assert [learning_rate_factor(step, cosine) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1, 1])
    assert learning_rate_factor(60, cosine) == pytest.approx(0.5)
    assert learning_rate_factor(35, cosine) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert learning_rate_factor(110, cosine) == pytest.approx(0)
    linear = ScheduleConfig(steps=100, decay="linear", final_fraction=0.2)
    assert [learning_rate_factor(step, linear) for step in (0, 50, 100)] == pytest.approx([1, 0.6, 0.2])
    constant = ScheduleConfig(steps=100, warmup_steps=2, decay="constant")
    assert learning_rate_factor(99, constant) == 1


def test_weight_decay_spares_biases_and_norms():
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model.position_bias = nn.Parameter(torch.zeros(1, 2, 1, 4))
    groups = parameter_groups(model, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    decayed = {id(parameter) for parameter in groups[0]["params"]}
    assert decayed == {id(model[0].weight), id(model[2].weight)}
    assert len(groups[1]["params"]) == 5
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        assert type(make_optimizer(model, OptimizerConfig(name=name))) is kind


def test_weight_average_follows_its_formula_and_counters_are_copied():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8))
    average = WeightAverage(model, 0.5)
    expected = {name: tensor.double().clone() for name, tensor in model.state_dict().items()}
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(2, 4, 9))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
    for name, tensor in average.model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert tensor == 29
        else:
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
