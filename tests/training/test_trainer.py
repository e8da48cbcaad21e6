"""Training learns, and a run that was stopped anywhere ends in the same bits as one that was not."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.datasets import PreparedDataset
from gexpr.errors import ConfigError, GexprError, InputError, Interrupted
from gexpr.models import registry
from gexpr.models.layers import one_hot
from gexpr.results import Track
from gexpr.training import TrainConfig, from_dict, train
from gexpr.training.config import L2Config
from gexpr.training.optimizers import freeze
from gexpr.training.state import load_state

#: Columns of metrics.csv that differ between runs.
MEASURED = ("minutes", "cpu_minutes", "peak_mebibytes")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a saved state that training goes on from, and of the finished checkpoint."""
    state = load_state(folder / "last.ckpt")
    tensors = {f"model/{name}": tensor for name, tensor in state["model"].items()}
    tensors |= {f"average/{name}": tensor for name, tensor in (state["average"] or {}).items()}
    for index, values in state["optimizer"]["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors["random"] = state["random"]["torch"]
    loaded = checkpoints.load(folder / "checkpoint")
    return tensors | {f"checkpoint/{name}": tensor for name, tensor in loaded.state_dict().items()}


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv") as handle:
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(handle)]


def replace(config: TrainConfig, section: str, **changes: Any) -> TrainConfig:
    changed = dataclasses.replace(getattr(config, section), **changes)
    return dataclasses.replace(config, **{section: changed})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Path]:
    """Folders of uninterrupted runs, made on first use."""
    return {}


def uninterrupted(whole: dict[str, Path], config: TrainConfig, folder: Path) -> Path:
    if "run" not in whole:
        train(config, folder / "whole", device="cpu", threads=1)
        whole["run"] = folder / "whole"
    return whole["run"]


@pytest.fixture
def reference(whole: dict[str, Path], config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the uninterrupted run of ``config``."""
    return uninterrupted(whole, config, tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("stops", [(1,), (6,), (3, 4, 9)])
def test_stopped_and_resumed_gives_the_same_bits(stops, config, reference, tmp_path):
    for stop in stops:
        with pytest.raises(Interrupted, match="the same command continues") as caught:
            train(config, tmp_path, device="cpu", threads=1, stop=lambda step, at=stop: step >= at)
        assert caught.value.exit_code == 75
        assert load_state(tmp_path / "last.ckpt")["step"] == stop
        assert not (tmp_path / "checkpoint").exists()
        # Whatever ran in between must not matter.
        torch.rand(7), np.random.rand(3)
    result = train(config, tmp_path, device="cpu", threads=1)
    assert result.steps == 10 and result.reason == "steps"
    assert_same_bits(weights(tmp_path), weights(reference))
    assert history(tmp_path) == history(reference)


def test_killed_without_warning_the_run_goes_on_from_the_last_save(config, reference, tmp_path):
    class Killed(BaseException):
        pass

    def kill(step: int) -> bool:
        if step == 7:
            raise Killed
        return step == 5 and not (tmp_path / "last.ckpt").exists()

    with pytest.raises(Interrupted):
        train(config, tmp_path, device="cpu", threads=1, stop=kill)
    with pytest.raises(Killed):
        train(config, tmp_path, device="cpu", threads=1, stop=kill)
    assert load_state(tmp_path / "last.ckpt")["step"] == 5
    train(config, tmp_path, device="cpu", threads=1)
    assert_same_bits(weights(tmp_path), weights(reference))


def test_a_stop_during_validation_repeats_it(config, reference, tmp_path):
    calls = []

    def during_validation(step: int) -> bool:
        calls.append(step)
        return calls.count(4) == 3

    with pytest.raises(Interrupted):
        train(config, tmp_path, device="cpu", threads=1, stop=during_validation)
    state = load_state(tmp_path / "last.ckpt")
    assert state["step"] == 4 and state["history"] == []
    train(config, tmp_path, device="cpu", threads=1)
    assert_same_bits(weights(tmp_path), weights(reference))
    assert history(tmp_path) == history(reference)


def test_checkpointed_activations_give_the_same_bits_and_may_be_switched_on_later(
    config, reference, tmp_path, capsys
):
    checkpointed = replace(config, "training", checkpoint_activations=True)
    with pytest.raises(Interrupted):
        train(config, tmp_path, device="cpu", threads=1, stop=lambda step: step >= 3)
    with pytest.raises(Interrupted):
        train(checkpointed, tmp_path, device="cpu", threads=1, stop=lambda step: step >= 6)
    assert "training.checkpoint_activations True, was False" in capsys.readouterr().err
    train(checkpointed, tmp_path, device="cpu", threads=1)
    assert "was False" not in capsys.readouterr().err
    assert_same_bits(weights(tmp_path), weights(reference))
    assert history(tmp_path) == history(reference)
    training = checkpoints.describe(tmp_path / "checkpoint").training
    assert training["config"]["training"]["checkpoint_activations"] is True


def test_a_state_saved_before_there_was_a_setting_is_resumed(config, reference, tmp_path):
    with pytest.raises(Interrupted):
        train(config, tmp_path, device="cpu", threads=1, stop=lambda step: step >= 6)
    state = load_state(tmp_path / "last.ckpt")
    for key in ("checkpoint_activations", "cpu_minutes", "peak_mebibytes", "averaged_steps"):
        del state[key]
    old = json.loads(state["config"])
    for section, keys in {
        "loss": ("log_input", "full"),
        "optimizer": ("alpha", "nesterov", "l2", "swa_start", "swa_every", "swa_lr", "swa_batches"),
        "schedule": ("decay_rate", "decay_steps"),
        "training": ("init_only", "init_skip", "freeze"),
    }.items():
        for key in keys:
            del old[section][key]
    del old["loss"]["terms"][0]["full"]
    state["config"] = json.dumps(old)
    torch.save(state, tmp_path / "last.ckpt")
    # What is not the default differs all the same.
    for section, changes, key in (
        ("optimizer", {"nesterov": True, "name": "sgd"}, "optimizer.nesterov"),
        ("training", {"freeze": ("stem",)}, "training.freeze"),
    ):
        with pytest.raises(ConfigError, match=f"differs from that of .*{key}"):
            train(replace(config, section, **changes), tmp_path, device="cpu", threads=1)
    train(config, tmp_path, device="cpu", threads=1)
    assert_same_bits(weights(tmp_path), weights(reference))
    # The processor time before was not counted, so the whole is not known.
    assert checkpoints.describe(tmp_path / "checkpoint").training["cpu_minutes"] is None


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"name": "adam"},
    "nadam": {"name": "nadam"},
    "rmsprop": {"name": "rmsprop", "momentum": 0.5, "eps": 1e-7, "lr": 1e-3},
    "sgd": {"name": "sgd", "nesterov": True, "weight_decay": 0.0},
    "equal_average": {"ema_decay": 0.0, "swa_start": 0.25, "swa_every": 2, "swa_lr": 1e-3, "swa_batches": 3},
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_and_average_is_resumed_to_the_same_bits(name, config, tmp_path):
    l2 = L2Config(conv=1e-3, dense=1e-3)
    changed = replace(config, "optimizer", l2=l2, **OPTIMIZERS[name])
    changed = replace(changed, "schedule", decay="step", decay_rate=0.2, decay_steps=4)
    changed = replace(changed, "training", select="last")
    for stop in (2, 5):
        with pytest.raises(Interrupted):
            train(
                changed, tmp_path / "stopped", device="cpu", threads=1, stop=lambda step, at=stop: step >= at
            )
        torch.rand(7)
    train(changed, tmp_path / "stopped", device="cpu", threads=1)
    train(changed, tmp_path / "whole", device="cpu", threads=1)
    assert_same_bits(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))
    rows = history(tmp_path / "whole")
    assert history(tmp_path / "stopped") == rows
    assert all(float(row["l2"]) > 0 for row in rows)


def test_equal_averages_are_what_is_validated_and_exported(config, tmp_path):
    settings = dict(ema_decay=0.0, swa_start=6.0, swa_every=2, swa_lr=2e-4, swa_batches=3)
    changed = replace(replace(config, "optimizer", **settings), "training", select="last", steps_per_epoch=2)
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def at(step: int) -> dict[str, torch.Tensor]:
        with pytest.raises(Interrupted):
            train(changed, tmp_path, device="cpu", threads=1, stop=lambda now: now >= step)
        return load_state(tmp_path / "last.ckpt")["model"]

    for step in (6, 8):
        seen[step] = at(step)
    result = train(changed, tmp_path, device="cpu", threads=1)
    state = load_state(tmp_path / "last.ckpt")
    seen[10] = state["model"]
    assert state["averaged_steps"] == 3
    model = checkpoints.load(result.checkpoint)
    exported = model.state_dict()
    names = [name for name, _ in model.named_parameters()]
    for name in names:
        mean = sum(each[name].double() for each in seen.values()) / 3
        torch.testing.assert_close(exported[name].double(), mean, rtol=1e-4, atol=1e-7)
    statistics = [name for name in exported if name.endswith("running_mean")]
    assert statistics and not any(torch.equal(exported[name], seen[10][name]) for name in statistics)
    counters = [int(exported[name]) for name in exported if name.endswith("num_batches_tracked")]
    assert set(counters) == {3}
    rates = {int(row["step"]): float(row["lr"]) for row in history(tmp_path)}
    # The rate of the update before: constant from the one after step 6.
    assert rates[6] > 2e-4 and rates[8] == rates[10] == 2e-4
    assert "weights averaged equally" in (result.checkpoint / "README.md").read_text()


def test_penalty_is_reported_and_no_part_of_the_loss(config, reference, tmp_path):
    penalized = replace(config, "optimizer", l2=L2Config(conv=0.1, attention=0.1))
    train(penalized, tmp_path, device="cpu", threads=1)
    first, plain = history(tmp_path)[0], history(reference)[0]
    assert "l2" not in plain and float(first["l2"]) > 1
    total = float(first["poisson"]) + 0.1 * float(first["contrast"])
    assert float(first["loss"]) == pytest.approx(total, rel=1e-6)
    # So strong a penalty shrinks what it is on, and it alone.
    strong, free = (load_state(folder / "last.ckpt")["model"] for folder in (tmp_path, reference))
    name = "stem.convolution.weight"
    assert strong[name].norm() < free[name].norm()


@pytest.mark.slow
def test_sigterm_saves_exits_75_and_the_same_command_gives_the_same_bits(settings, tmp_path):
    settings["schedule"]["steps"] = 100
    settings["training"].update(steps_per_epoch=50, accumulate=1)
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "gexpr", "train", str(path), "-o", str(tmp_path / "stopped")]
    command += ["--threads", "1", "--device", "cpu", "--set", "training.save_minutes=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    last = tmp_path / "stopped" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "the same command continues" in errors and "Traceback" not in errors
    assert 0 < load_state(last)["step"] < 100
    for folder in ("stopped", "whole"):
        arguments = ["train", str(path), "-o", str(tmp_path / folder), "--threads", "1", "--device", "cpu"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
    assert_same_bits(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_training_learns_a_planted_motif_and_the_difference_between_conditions(settings, tmp_path):
    settings["schedule"] = {"steps": 250, "warmup_steps": 20}
    settings["training"] = {"batch_size": 16, "steps_per_epoch": 250, "metric": "pearson_log1p"}
    settings["optimizer"] = {"lr": 0.01, "ema_decay": 0.95}
    settings["model"]["settings"]["dropout"] = 0.0
    settings["model"]["settings"]["channels"] = 32
    result = train(from_dict(settings), tmp_path, device="cpu", threads=1)
    assert result.metrics["pearson_log1p"] > 0.75
    assert result.metrics["contrast_pearson"] > 0.6
    # What the checkpoint predicts on the test contig, computed apart from the trainer.
    dataset = PreparedDataset(settings["data"]["path"])
    model = checkpoints.load(result.checkpoint)
    predicted, measured = [], []
    for window in dataset.windows("test"):
        data = dataset.window(window.contig, window.start)
        with torch.no_grad():
            predicted.append(model(one_hot(torch.from_numpy(data.codes[None].copy())))[0].numpy()[data.valid])
        measured.append(data.targets[data.valid])
    p, y = np.log1p(np.concatenate(predicted)), np.log1p(np.concatenate(measured))
    assert min(np.corrcoef(p[:, i], y[:, i])[0, 1] for i in range(4)) > 0.7


def test_checkpoint_describes_its_training(config, reference):
    info = checkpoints.describe(reference / "checkpoint")
    dataset = PreparedDataset(config.data.path)
    training = info.training
    assert training["dataset"]["digest"] == dataset.digest
    assert training["dataset"]["train"] == ["chr1", "chr2"] and training["dataset"]["valid"] == ["chr3"]
    assert training["steps"] == 10 and training["selected_step"] in (4, 8, 10)
    assert training["config"]["optimizer"]["ema_decay"] == 0.9
    assert "/" not in training["config"]["data"]["path"]
    assert [track.id for track in info.tracks] == ["a+", "a-", "b+", "b-"]
    assert [track.strand_pair for track in info.tracks] == [1, 0, 3, 2]
    card = (reference / "checkpoint" / "README.md").read_text()
    best = min(history(reference), key=lambda row: float(row["loss"]))
    assert f"| mean | {float(best['pearson_log1p']):.3f} |" in card
    assert int(best["step"]) == training["selected_step"]
    assert str(Path(config.data.path).parent) not in card + (reference / "checkpoint/config.json").read_text()


def test_checkpoint_holds_the_selected_averaged_weights(config, reference, tmp_path):
    last = replace(config, "training", select="last")
    result = train(last, tmp_path, device="cpu", threads=1)
    state = load_state(tmp_path / "last.ckpt")
    loaded = checkpoints.load(result.checkpoint).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state["average"].items())
    assert not all(torch.equal(loaded[name], tensor) for name, tensor in state["model"].items())
    best = load_state(reference / "last.ckpt")["best"]
    chosen = checkpoints.load(reference / "checkpoint").state_dict()
    assert all(torch.equal(chosen[name], tensor) for name, tensor in best["weights"].items())


def test_validation_metrics_are_those_of_the_predictions(config, reference):
    dataset = PreparedDataset(config.data.path)
    model = checkpoints.load(reference / "checkpoint")
    predicted, measured = [], []
    for window in dataset.windows("valid"):
        data = dataset.window(window.contig, window.start, split="valid")
        with torch.no_grad():
            predicted.append(model(one_hot(torch.from_numpy(data.codes[None].copy())))[0].numpy()[data.valid])
        measured.append(data.targets[data.valid])
    p, y = np.concatenate(predicted), np.concatenate(measured)
    metrics = checkpoints.describe(reference / "checkpoint").training["validation"]
    for i, track in enumerate(dataset.tracks):
        r = np.corrcoef(np.log1p(p[:, i]), np.log1p(y[:, i]))[0, 1]
        assert metrics[f"pearson_log1p/{track.id}"] == pytest.approx(r, abs=1e-4)
    assert metrics["poisson"] == pytest.approx((p - y * np.log(p + 1e-6)).mean(), rel=1e-4)


def test_a_finished_run_is_exported_again_without_training(config, reference, tmp_path):
    shutil.copytree(reference, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoint"))
    before = (reference / "last.ckpt").stat().st_mtime
    result = train(config, tmp_path / "copy", device="cpu", threads=1)
    assert result.steps == 10 and (reference / "last.ckpt").stat().st_mtime == before
    assert_same_bits(weights(tmp_path / "copy"), weights(reference))


def test_resuming_with_other_settings_or_data_is_refused(config, reference, tmp_path):
    shutil.copytree(reference, tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"differs from that of .* in optimizer\.lr, training\.seed"):
        train(replace(replace(config, "optimizer", lr=0.1), "training", seed=9), tmp_path / "copy", threads=1)
    state = load_state(tmp_path / "copy" / "last.ckpt")
    state["dataset_digest"] = "0" * 64
    torch.save(state, tmp_path / "copy" / "last.ckpt")
    with pytest.raises(ConfigError, match="another dataset"):
        train(config, tmp_path / "copy", threads=1)
    (tmp_path / "copy" / "last.ckpt").write_bytes(b"PK\x03\x04 no state")
    with pytest.raises(InputError, match="cannot be read"):
        train(config, tmp_path / "copy", threads=1)
    with pytest.raises(InputError, match="no saved training state"):
        train(config, tmp_path / "new", resume=True, threads=1)


def test_restart_discards_the_saved_state(config, reference, tmp_path):
    with pytest.raises(Interrupted):
        train(replace(config, "training", seed=5), tmp_path, threads=1, stop=lambda step: step == 2)
    # Exporting on the way must not change what follows.
    exporting = replace(config, "output", export_epochs=1)
    train(exporting, tmp_path, resume=False, device="cpu", threads=1)
    assert_same_bits(weights(tmp_path), weights(reference))


def test_time_ends_training_with_a_checkpoint_and_more_time_goes_on(config, reference, tmp_path):
    result = train(config, tmp_path, device="cpu", threads=1, max_minutes=1e-9)
    assert result.reason == "minutes" and result.steps == 1
    assert checkpoints.describe(result.checkpoint).training["steps"] == 1
    train(config, tmp_path, device="cpu", threads=1)
    state, expected = (load_state(folder / "last.ckpt") for folder in (tmp_path, reference))
    assert all(torch.equal(tensor, expected["model"][name]) for name, tensor in state["model"].items())


def test_max_steps_ends_training_early_and_more_steps_go_on(config, reference, tmp_path):
    result = train(replace(config, "training", max_steps=3), tmp_path, device="cpu", threads=1)
    assert result.reason == "steps" and result.steps == 3
    train(config, tmp_path, device="cpu", threads=1)
    state, expected = (load_state(folder / "last.ckpt") for folder in (tmp_path, reference))
    assert all(torch.equal(tensor, expected["model"][name]) for name, tensor in state["model"].items())


def test_early_stopping(config, tmp_path):
    # A vanishing learning rate changes nothing, so the first epoch stays the best.
    frozen = replace(replace(config, "optimizer", lr=1e-30, ema_decay=0.0), "training", patience=2)
    frozen = replace(
        replace(frozen, "schedule", steps=100, warmup_steps=0),
        "training",
        steps_per_epoch=1,
        metric="pearson",
    )
    frozen = dataclasses.replace(
        frozen, model=dataclasses.replace(frozen.model, settings={**frozen.model.settings, "dropout": 0.0})
    )
    result = train(frozen, tmp_path, device="cpu", threads=1)
    assert result.reason == "patience"
    rows = history(tmp_path)
    values = [float(row["pearson"]) for row in rows]
    best = int(np.argmax(values))
    assert len(rows) == best + 3 and result.steps == int(rows[-1]["step"])


def test_a_loss_that_explodes_is_told_and_not_saved(config, tmp_path):
    wild = replace(replace(config, "optimizer", lr=1e30, clip_norm=None), "schedule", warmup_steps=0)
    with pytest.raises(GexprError, match="became NaN or infinite"):
        train(wild, tmp_path, device="cpu", threads=1)
    assert not (tmp_path / "last.ckpt").exists() and not (tmp_path / "checkpoint").exists()


def test_two_trainings_in_one_folder_are_refused(config, tmp_path):
    def other(step: int) -> bool:
        with pytest.raises(GexprError, match="another training is running"):
            train(config, tmp_path, device="cpu")
        return True

    with pytest.raises(Interrupted):
        train(config, tmp_path, device="cpu", threads=1, stop=other)


def test_warm_start_takes_the_weights_that_fit(config, reference, tmp_path, capsys):
    started = replace(config, "training", init=str(reference / "checkpoint"))
    with pytest.raises(Interrupted):
        train(started, tmp_path, device="cpu", threads=1, stop=lambda step: True)
    assert "took" in capsys.readouterr().err
    expected = checkpoints.load(reference / "checkpoint").state_dict()
    state = load_state(tmp_path / "last.ckpt")
    for kind in ("model", "average"):
        assert all(torch.equal(state[kind][name], tensor) for name, tensor in expected.items())


def test_warm_start_takes_parts_of_another_model(config, reference, tmp_path, capsys):
    source = checkpoints.load(reference / "checkpoint").state_dict()

    def begin(folder: str, **changes: Any) -> dict[str, torch.Tensor]:
        started = replace(config, "training", seed=3, init=str(reference / "checkpoint"), **changes)
        with pytest.raises(Interrupted):
            train(started, tmp_path / folder, device="cpu", threads=1, stop=lambda step: True)
        return load_state(tmp_path / folder / "last.ckpt")["model"]

    taken = begin("skip", init_skip=("heads", "transformer"))
    message = capsys.readouterr().err
    assert (
        "left out as configured: transformer.0" in message and "newly initialized: transformer.0" in message
    )
    for name, tensor in source.items():
        if not name.startswith(("heads", "transformer")):
            assert torch.equal(taken[name], tensor), name
    assert not torch.equal(taken["heads.tracks.weight"], source["heads.tracks.weight"])
    taken = begin("only", init_only=("stem", "tower"), init_skip=("tower.1",))
    assert torch.equal(taken["stem.convolution.weight"], source["stem.convolution.weight"])
    kept = [name for name, each in source.items() if name.startswith("tower.1.") and each.ndim == 3]
    assert kept and not any(torch.equal(taken[name], source[name]) for name in kept)
    with pytest.raises(ConfigError, match=r"training\.init_skip .*no parameter has 'haeds' in its name"):
        begin("wrong", init_skip=("haeds",))


def test_heads_of_another_shape_are_told(config, reference, tmp_path, capsys):
    folder = tmp_path / "other"
    checkpoint = checkpoints.load(reference / "checkpoint")
    settings = {**checkpoint.config.to_dict(), "heads": {"tracks": 3}}
    model = registry.build(config.model.architecture, settings)
    checkpoints.save(folder, model, [Track(i, f"t{i}", "") for i in range(3)], {}, "")
    started = replace(config, "training", init=str(folder))
    with pytest.raises(Interrupted):
        train(started, tmp_path / "run", device="cpu", threads=1, stop=lambda step: True)
    assert "of another shape: heads.tracks.weight, heads.tracks.bias" in capsys.readouterr().err


def test_frozen_parts_keep_their_weights(config, tmp_path):
    frozen = replace(config, "training", freeze=("stem", "tower"), select="last")
    with pytest.raises(Interrupted):
        train(frozen, tmp_path, device="cpu", threads=1, stop=lambda step: step == 0)
    before = load_state(tmp_path / "last.ckpt")["model"]
    result = train(frozen, tmp_path, device="cpu", threads=1)
    after = checkpoints.load(result.checkpoint).state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert not changed & {"stem", "tower"} and {"heads", "transformer"} <= changed
    assert "Not trained: stem, tower" in (result.checkpoint / "README.md").read_text()
    model = checkpoints.load(result.checkpoint)
    freeze(model, ("attention",), ("attention_norm",))
    assert {name for name, each in model.named_parameters() if each.requires_grad} == {
        name for name in before if ".attention." in name
    }
    # What the model itself does not train stays so.
    freeze(model, None, ("to_query",))
    assert not any(each.requires_grad for name, each in model.named_parameters() if "to_query" in name)
    assert not model.stem.convolution.weight.requires_grad
    with pytest.raises(ConfigError, match="leaves no parameter to train"):
        freeze(model, ("attention",), ("attention",))


def test_a_linear_link_is_not_for_losses_of_counts(config, tmp_path):
    sizes = {"channels": [4, 4], "kernels": [3, 3], "pools": [4, 4], "final_channels": 4, "link": "linear"}
    linear = replace(config, "model", architecture="standard", settings=sizes)
    with pytest.raises(ConfigError, match=r"standard may be negative.* the loss poisson is for those of 0"):
        train(linear, tmp_path, device="cpu", threads=1, stop=lambda step: True)
    for settings in ({"name": "mse"}, {"name": "log_poisson", "log_input": True}):
        linear = replace(linear, "loss", **{"terms": (), "log_input": False, **settings})
        with pytest.raises(Interrupted):
            train(linear, tmp_path / settings["name"], device="cpu", threads=1, stop=lambda step: True)
    with pytest.raises(ConfigError, match="sparse_enformer are never negative"):
        train(dataclasses.replace(config, loss=linear.loss), tmp_path, device="cpu", threads=1)


@pytest.mark.parametrize("loss", ["poisson", "mse"])
def test_targets_below_zero_are_refused_before_training(loss, config, tmp_path):
    shutil.copy(config.data.path, tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5", "r+") as file:
        for contig in file["contigs"].values():
            contig["targets"][...] = contig["targets"][...] - 1.0
    signed = replace(replace(config, "data", path=str(tmp_path / "data.h5")), "loss", name=loss, terms=())
    if loss == "mse":
        result = train(signed, tmp_path / "run", device="cpu", threads=1)
        assert all(np.isfinite(result.metrics[name]) for name in ("loss", "pearson", "pearson_log1p"))
        return
    with pytest.raises(ConfigError, match="target -1, but the loss poisson is for values of 0 and more"):
        train(signed, tmp_path / "run", device="cpu", threads=1, stop=lambda step: True)


def test_time_and_memory_are_recorded_over_all_resumptions(config, tmp_path):
    with pytest.raises(Interrupted):
        train(config, tmp_path, device="cpu", threads=1, stop=lambda step: step >= 5)
    state = load_state(tmp_path / "last.ckpt")
    assert state["cpu_minutes"] > 0 and state["peak_mebibytes"] > 50
    state["cpu_minutes"], state["peak_mebibytes"] = 1000.0, 1e6
    torch.save(state, tmp_path / "last.ckpt")
    result = train(config, tmp_path, device="cpu", threads=1)
    training = checkpoints.describe(result.checkpoint).training
    assert 1000 <= training["cpu_minutes"] < 1100 and training["peak_mebibytes"] == 1e6
    assert "cpu_minutes" not in training["validation"]
    with open(tmp_path / "metrics.csv") as handle:
        assert float(list(csv.DictReader(handle))[-1]["peak_mebibytes"]) == 1e6


def test_training_attention_alone_leaves_everything_else_to_the_last_bit(config, reference, tmp_path):
    before = checkpoints.load(reference / "checkpoint").state_dict()
    changes = dict(init=str(reference / "checkpoint"), train_only=("attention",), select="last")
    tuned = replace(config, "training", **changes)
    result = train(tuned, tmp_path / "tuned", device="cpu", threads=1)
    after = checkpoints.load(result.checkpoint).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = {name for name in before if "attention" in name}
    assert changed == trained and trained
    assert any("running_mean" in name for name in before)
    assert "only parameters with attention in their names" in (result.checkpoint / "README.md").read_text()
    # Stopped and resumed, the same.
    with pytest.raises(Interrupted):
        train(tuned, tmp_path / "stopped", device="cpu", threads=1, stop=lambda step: step == 3)
    train(tuned, tmp_path / "stopped", device="cpu", threads=1)
    assert_same_bits(weights(tmp_path / "tuned"), weights(tmp_path / "stopped"))


def test_frozen_blocks_drop_nothing_and_trained_ones_do(config):
    model = registry.build(
        config.model.architecture,
        {**config.model.settings, "context_length": 256, "target_length": 8, "heads": {"tracks": 4}},
    )
    model.train()
    for module in freeze(model, ("attention",)):
        module.eval()
    training = {name for name, module in model.named_modules() if module.training}
    assert "transformer.0.attention" in training
    assert not any(name.startswith(("stem", "tower", "heads")) for name in training)
    assert not any("feedforward." in name for name in training)
    assert {name for name, each in model.named_parameters() if each.requires_grad} == {
        name for name, _ in model.named_parameters() if "attention" in name
    }


def test_names_that_no_parameter_has_are_told(config, tmp_path):
    wrong = replace(config, "training", train_only=("attention", "atention"))
    with pytest.raises(ConfigError, match=r"'atention'.* names are made of: .*attention_norm"):
        train(wrong, tmp_path, device="cpu", threads=1)


def test_command_takes_weights_and_model_from_a_checkpoint(settings, reference, tmp_path, monkeypatch):
    del settings["model"]
    settings["schedule"] = {"steps": 2}
    (tmp_path / "tune.yaml").write_text(json.dumps(settings))
    monkeypatch.chdir(reference)
    options = "--threads 1 --device cpu --init checkpoint --train-only attention,heads".split()
    command = ["train", str(tmp_path / "tune.yaml"), "-o", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    before = checkpoints.describe(reference / "checkpoint")
    after = checkpoints.describe(tmp_path / "out" / "checkpoint")
    assert (after.architecture, after.settings) == (before.architecture, before.settings)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["training"]["train_only"] == ["attention", "heads"]
    assert config["training"]["init"] == str(reference / "checkpoint")


@pytest.mark.parametrize(
    ("section", "changes", "device", "message"),
    [
        ("training", {"precision": "16-mixed"}, "cpu", "needs a CUDA device"),
        ("training", {}, "tpu", "device is 'tpu'"),
        ("training", {}, "cuda:99", "not there"),
        ("model", {"architecture": "lenet"}, "cpu", "lenet"),
        (
            "model",
            {"settings": {"num_downsamples": 3, "channels": 24, "divisible_by": 4, "positions": "none"}},
            "cpu",
            "bins of 8 bp",
        ),
        ("data", {"path": "none.h5"}, "cpu", "no such dataset"),
    ],
)
def test_settings_that_do_not_fit(section, changes, device, message, config, tmp_path):
    with pytest.raises(GexprError, match=message):
        train(replace(config, section, **changes), tmp_path, device=device, threads=1)


@pytest.mark.parametrize("loss", ["log_poisson", "multinomial", "poisson_multinomial", "mse", "log_mse"])
def test_other_losses_bfloat16_and_sgd_train(loss, config, tmp_path):
    changed = replace(replace(config, "loss", name=loss, terms=()), "training", precision="bf16-mixed")
    changed = replace(changed, "optimizer", name="sgd", ema_decay=0.0)
    result = train(changed, tmp_path, device="cpu", threads=1)
    assert result.steps == 10 and np.isfinite(result.metrics["loss"])
    state = load_state(tmp_path / "last.ckpt")["model"]
    assert all(tensor.dtype != torch.bfloat16 for tensor in state.values())


def test_command_trains_prints_the_folder_and_logs_to_tensorboard(settings, tmp_path):
    settings["schedule"]["steps"] = 2
    settings["schedule"]["warmup_steps"] = 0
    settings["training"]["steps_per_epoch"] = 1
    settings["output"] = {"tensorboard": True, "export_epochs": 1}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = ["train", str(path), "-o", str(tmp_path / "run"), "--threads", "1", "--device", "cpu"]
    result = CliRunner().invoke(main, [*command, "--set", "optimizer.lr=1e-4", "--checkpoint-activations"])
    assert result.exit_code == 0, result.output
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["training"]["checkpoint_activations"] is True
    assert result.stdout.strip() == str(tmp_path / "run" / "checkpoint")
    assert "finished after 2 steps" in result.stderr and result.stderr.count("valid ") == 2
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert [row["lr"] for row in history(tmp_path / "run")] == ["0.0001", pytest.approx("5e-05")]
    result = CliRunner().invoke(main, ["train", str(path)])
    assert result.exit_code == 1 and "no run folder" in result.stderr
    result = CliRunner().invoke(main, [*command, "--set", "optimizer.lr=1e-3"])
    assert result.exit_code == 1 and "optimizer.lr" in result.stderr
