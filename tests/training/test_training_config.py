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
from gexpr.models import registry
from gexpr.training import from_dict, load_config
from gexpr.training.config import OPTIMIZERS, L2Config, OptimizerConfig, ScheduleConfig
from gexpr.training.optimizers import (
    EqualAverage,
    L2Penalty,
    WeightAverage,
    layer_kinds,
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
    assert config.loss.name == "poisson" and config.augmentation.reverse_complement is None
    full = from_dict(settings)
    assert from_dict(full.to_dict()) == full
    for name in OPTIMIZERS:
        full = from_dict({**settings, "optimizer": {"name": name}})
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
        ("loss.total_weight", 0.5, "loss: total_weight belongs to poisson_multinomial, not to poisson"),
        ("loss.terms", [{"name": "mse", "n0": 5}], "loss.terms: n0 belongs to contrast, not to mse"),
        ("optimizer.alpha", 0.5, "optimizer: alpha belongs to rmsprop, not to adamw; remove it"),
        ("optimizer", {"name": "sgd", "betas": [0.5, 0.9]}, "betas belongs to adam, adamw, nadam, not to"),
        ("optimizer", {"name": "sgd", "eps": 1e-3}, "eps belongs to adam, adamw, nadam, rmsprop, not to sgd"),
        ("optimizer.momentum", 0.5, "momentum belongs to sgd, rmsprop, not to adamw"),
        ("optimizer.swa_every", 4, "optimizer.swa_every is 4; it needs swa_start"),
        ("schedule.decay_rate", 0.5, "schedule.decay_rate is 0.5; schedule.decay cosine has none"),
        ("schedule", {"steps": 9, "decay": "constant", "final_fraction": 0.1}, "constant has none"),
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


def test_learning_rate_falls_by_a_rate_in_steps_or_evenly():
    # Basenji's code: a fifth every 200,000 steps.
    step = ScheduleConfig(steps=10**6, decay="step", decay_rate=0.2, decay_steps=200_000)
    at = (0, 199_999, 200_000, 399_999, 400_000)
    assert [learning_rate_factor(each, step) for each in at] == pytest.approx([1, 1, 0.2, 0.2, 0.04])
    even = ScheduleConfig(
        steps=100, warmup_steps=2, decay="exponential", decay_rate=0.5, decay_steps=10, final_fraction=0.1
    )
    assert [learning_rate_factor(each, even) for each in (0, 2, 12, 17, 99)] == pytest.approx(
        [0.5, 1, 0.5, 0.5**1.5, 0.1]
    )


def test_one_cycle_is_that_of_torch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=50, pct_start=0.2, cycle_momentum=False
    )
    ours = ScheduleConfig(steps=50, warmup_steps=10, decay="one_cycle", final_fraction=1 / 25e4)
    for step in range(50):
        assert learning_rate_factor(step, ours) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        if step < 49:
            theirs.step()


def test_optimizers_have_the_settings_and_defaults_that_are_usual_for_them():
    model = nn.Linear(2, 2)
    rmsprop = make_optimizer(model, OptimizerConfig(name="rmsprop")).param_groups[0]
    assert [rmsprop[name] for name in ("alpha", "eps", "momentum")] == [0.9, 1e-7, 0.0]
    sgd = make_optimizer(model, OptimizerConfig(name="sgd", nesterov=True, momentum=0.8)).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"]) == (0.8, True)
    assert make_optimizer(model, OptimizerConfig(name="sgd")).param_groups[0]["momentum"] == 0.9
    assert make_optimizer(model, OptimizerConfig()).param_groups[0]["eps"] == 1e-8


def layers() -> nn.Module:
    """One layer of every kind, made on purpose in an order that is not theirs."""
    model = nn.Module()
    model.convolutions = nn.ModuleList([nn.Conv1d(4, 8, 3), nn.Conv2d(4, 8, 1)])
    model.batch_norm = nn.BatchNorm1d(8)
    model.attention = nn.MultiheadAttention(8, 2)
    model.attention.inner = nn.ModuleList([nn.Conv1d(8, 8, 1), nn.LayerNorm(8)])
    model.lstm = nn.LSTM(8, 4, bidirectional=True)
    model.cell = nn.LSTMCell(8, 4)
    model.embedding = nn.Embedding(5, 8)
    model.scale = nn.Parameter(torch.ones(3))
    model.output = nn.Linear(8, 2)
    return model


def test_layers_are_told_by_kind():
    kinds: dict[str, set[str]] = {}
    for name, _, kind in layer_kinds(layers()):
        kinds.setdefault(kind, set()).add(name.rpartition(".")[0])
    assert kinds == {
        "conv": {"convolutions.0", "convolutions.1"},
        "norm": {"batch_norm", "attention.inner.1"},
        "attention": {"attention", "attention.out_proj", "attention.inner.0"},
        "recurrent": {"lstm", "cell"},
        "embedding": {"embedding"},
        "other": {""},
        "dense": {"output"},
    }


@pytest.mark.parametrize("bias", [False, True], ids=["weights", "biases_too"])
def test_penalty_has_the_gradient_of_the_right_parameters(bias):
    model = layers()
    model.convolutions[1].weight.requires_grad_(False)
    coefficients = {"conv": 1e-3, "dense": 0.5, "recurrent": 0.25}
    penalty = L2Penalty(model, L2Config(**coefficients, bias=bias))
    penalty().backward()
    value = 0.0
    touched = set()
    for name, parameter, kind in layer_kinds(model):
        wanted = kind in coefficients and parameter.requires_grad and (bias or "bias" not in name)
        if wanted:
            value += coefficients[kind] * parameter.detach().square().sum().item()
            touched.add(name)
            torch.testing.assert_close(parameter.grad, 2 * coefficients[kind] * parameter.detach())
        else:
            assert parameter.grad is None, name
    assert penalty().item() == pytest.approx(value, rel=1e-5)
    assert "convolutions.0.weight" in touched and "lstm.weight_hh_l0_reverse" in touched
    assert ("output.bias" in touched) == bias
    assert not L2Penalty(model, L2Config()).active


def test_a_penalty_on_layers_that_are_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"l2\.attention is 0\.1, but the model has no such .* are: dense$"):
        L2Penalty(nn.Linear(2, 2), L2Config(dense=1.0, attention=0.1))


@pytest.mark.parametrize("architecture", ["decay_attention", "exp_decay"])
def test_decays_with_distance_are_not_drawn_to_zero(architecture):
    settings = {"channels": [4], "kernels": [3], "pools": [4], "final_channels": 4, "heads": {"tracks": 1}}
    settings |= {"context_length": 64, "target_length": 16}
    settings |= {"learned": True} if architecture == "exp_decay" else {}
    model = registry.build(architecture, settings)
    kind = "attention" if architecture == "decay_attention" else "other"
    decays = [each for name, each in model.named_parameters() if "decay" in name]
    penalty = L2Penalty(model, L2Config(**{kind: 1.0, "dense": 1.0}, bias=True))
    penalty().backward()
    assert decays and all(each.grad is None for each in decays)
    assert all(each.grad is not None for each in model.heads.parameters())
    decayed = parameter_groups(model, 0.1)[0]["params"]
    assert not any(each is decay for each in decayed for decay in decays)


def test_kinds_of_layers_of_enformer():
    settings = {
        "channels": 24,
        "divisible_by": 8,
        "num_downsamples": 4,
        "depth": 1,
        "attention_heads": 2,
        "key_size": 8,
        "context_length": 256,
        "target_length": 8,
        "heads": {"tracks": 2},
    }
    kinds = {name: kind for name, _, kind in layer_kinds(registry.build("sparse_enformer", settings))}
    attention = {name for name, kind in kinds.items() if kind == "attention"}
    assert attention == {name for name in kinds if ".attention." in name}
    assert {kind for name, kind in kinds.items() if "norm" in name} == {"norm"}
    assert {name for name, kind in kinds.items() if kind == "dense"} >= {"heads.tracks.weight"}
    assert kinds["stem.convolution.weight"] == "conv"


@pytest.mark.parametrize(
    ("architecture", "kind", "part"),
    [
        ("multiscale", "recurrent", "lstm."),
        ("multiscale", "attention", ".attention."),
        ("decay_attention", "attention", "attention."),
    ],
)
def test_kinds_of_layers_of_other_architectures(architecture, kind, part):
    sizes = {"heads": {"tracks": 2}, "context_length": 4096, "target_length": 8}
    settings = {} if architecture == "multiscale" else sizes
    with torch.device("meta"):
        kinds = {name: each for name, _, each in layer_kinds(registry.build(architecture, settings))}
    found = {name for name, each in kinds.items() if each == kind}
    assert found and found == {name for name in kinds if part in name and kinds[name] != "norm"}
    assert {"conv", "dense"} <= set(kinds.values())


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


def test_equal_average_is_the_mean_of_the_chosen_steps_with_statistics_of_its_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.BatchNorm1d(8))
    average = EqualAverage(model, start=4, every=3)
    taken: list[dict[str, torch.Tensor]] = []
    for step in range(1, 12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(2, 4, 9))
        average.update(step)
        assert average.begun == (step >= 4)
        if step in (4, 7, 10):
            taken.append({name: each.detach().double().clone() for name, each in model.named_parameters()})
    assert average.count == 3
    for name, parameter in average.model.named_parameters():
        mean = torch.stack([weights[name] for weights in taken]).mean(dim=0)
        torch.testing.assert_close(parameter.double(), mean, rtol=1e-5, atol=1e-6)
    # torch's own way, without dropout; the norm that is frozen keeps its statistics.
    batches = [torch.randn(3, 4, 9) for _ in range(5)]
    expected = copy.deepcopy(average.model)
    expected[2].p = 0.0
    torch.optim.swa_utils.update_bn(batches, expected)
    kept = average.model[3].running_mean.clone()
    state = torch.get_rng_state()
    average.statistics(iter(batches), frozen=["3"])
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(average.model[1], name), getattr(expected[1], name))
    assert torch.equal(average.model[3].running_mean, kept)
    assert not any(module.training for module in average.model.modules())
    assert average.model[1].momentum == model[1].momentum
