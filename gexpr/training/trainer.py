"""The training loop: one device, on Lightning Fabric, exact on resuming.

What a step does depends on the number of the step, the weights, the optimizer and the random state
alone; all of these are saved, so an interrupted and resumed run ends in the same bits as an
uninterrupted one (same machine, versions and thread count).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import gexpr
from gexpr import checkpoints, logs
from gexpr.datasets import TrainingSource
from gexpr.errors import ConfigError, GexprError, InputError, Interrupted, require
from gexpr.evaluation.metrics import spearman
from gexpr.models import registry
from gexpr.models.base import SequenceModel
from gexpr.models.layers import one_hot
from gexpr.training import card
from gexpr.training.batches import Batch, TrainingBatches, validation_batches
from gexpr.training.config import ModelSection, TrainConfig, from_dict
from gexpr.training.losses import Objective, contrast_values
from gexpr.training.memory import checkpoint_activations
from gexpr.training.metrics import StreamingPearson
from gexpr.training.optimizers import (
    EqualAverage,
    L2Penalty,
    check_parts,
    chosen,
    freeze,
    learning_rate_factor,
    make_average,
    make_optimizer,
)
from gexpr.training.sources import open_source
from gexpr.training.state import (
    load_state,
    locked,
    peak_memory,
    random_state,
    restore_random_state,
    save_state,
    write_atomically,
)

LAST, METRICS, CONFIG, CHECKPOINT = "last.ckpt", "metrics.csv", "config.json", "checkpoint"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_FINITE_EVERY = 50
_CHECKED_BATCHES = 4
_NOT_METRICS = ("minutes", "cpu_minutes", "peak_mebibytes", "epoch", "lr")
_FABRIC_PRECISION = {"fp32": "32-true", "tf32": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}


class TrainResult(NamedTuple):
    """Outcome of :func:`train`.

    Attributes:
        checkpoint: folder of the finished checkpoint.
        steps: updates done, over all resumptions.
        minutes: training time, over all resumptions.
        metrics: validation metrics of the weights in the checkpoint.
        reason: why training ended: ``steps``, ``patience`` or ``minutes``.
    """

    checkpoint: Path
    steps: int
    minutes: float
    metrics: dict[str, float | None]
    reason: str


def train(
    config: TrainConfig,
    output: str | os.PathLike[str],
    *,
    resume: bool | None = None,
    device: str = "auto",
    threads: int | None = None,
    max_minutes: float | None = None,
    stop: Callable[[int], bool] | None = None,
) -> TrainResult:
    """Train a model, or go on where a training in ``output`` stopped.

    Args:
        config: what to train.
        output: run folder: ``last.ckpt`` (whole state, with the best weights so far), ``metrics.csv``,
            ``config.json``, and at the end ``checkpoint/``.
        resume: True requires a state to resume, False starts over, None resumes when there is one.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of torch; None leaves them as they are.
        max_minutes: replaces ``training.max_minutes``.
        stop: asked with the number of finished steps before each step; True saves and stops.

    Raises:
        Interrupted: by ``stop`` or one of SIGTERM, SIGINT, SIGUSR1, after the state was saved. A second
            signal ends the process at once.
        ConfigError: settings that do not fit the dataset, the model or the saved state.
        GexprError: the loss became NaN or infinite.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with locked(output), _signals() as signalled:
            run = _Run(_with_model(config), output, device, max_minutes)
            run.start(resume)
            return run.loop(lambda step: signalled() or (stop is not None and stop(step)))
    finally:
        torch.set_num_threads(before)


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Turn the first signal into a flag; the second one acts as usual."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def handle(number: int, frame: Any) -> None:
        caught.append(number)
        restore()

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield lambda: bool(caught)
    finally:
        restore()


def _device(name: str, precision: str) -> tuple[str, Any]:
    kind, _, index = name.partition(":")
    if kind == "auto" and not index:
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise ConfigError(f"device is {name!r}; allowed: auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    if kind == "cpu" and precision in ("16-mixed", "tf32"):
        raise ConfigError(
            f"training.precision {precision} needs a CUDA device; on CPU use fp32 or bf16-mixed"
        )
    return kind, [int(index or 0)] if kind == "cuda" else 1


class _Run:
    """One training run: everything that is saved lives here."""

    def __init__(self, config: TrainConfig, output: Path, device: str, max_minutes: float | None) -> None:
        fabric_module = require("lightning.fabric", "train")
        self.config, self.output = config, output
        self.max_minutes = config.training.max_minutes if max_minutes is None else max_minutes
        settings = config.training
        accelerator, devices = _device(device, settings.precision)
        self.dataset = open_source(config, output)
        self.objective = Objective(config.loss, self.dataset.tracks, self.dataset.target_length)
        self.batches = TrainingBatches(
            self.dataset, config.data.train_split, settings.batch_size, settings.seed, config.augmentation
        )
        augmentation = dataclasses.replace(config.augmentation, reverse_complement=self.batches.both_strands)
        self.config = config = dataclasses.replace(config, augmentation=augmentation)
        if settings.metric == "spearman" and self.dataset.target_length > 1:
            raise ConfigError(
                "training.metric is spearman, which belongs to tables (one bin a window); use pearson_log1p "
                "or pearson"
            )
        if not self.dataset.window_count(config.data.valid_split):
            raise ConfigError(f"{self.dataset.path}: the split {config.data.valid_split!r} has no windows")
        per_step = settings.batch_size * settings.accumulate
        self.epoch_steps = settings.steps_per_epoch or math.ceil(self.batches.count / per_step)

        torch.set_float32_matmul_precision("high" if settings.precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = settings.precision == "tf32"
        if accelerator == "cuda":
            torch.backends.cudnn.benchmark = False
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        random.seed(settings.seed)
        np.random.seed(settings.seed % (1 << 32))
        torch.manual_seed(settings.seed)
        self.fabric = fabric_module.Fabric(
            accelerator=accelerator, devices=devices, precision=_FABRIC_PRECISION[settings.precision]
        )
        self.raw = _build_model(config, self.dataset)
        _check_link(self.raw, self.objective)
        self.parameters = sum(parameter.numel() for parameter in self.raw.parameters())
        self.frozen = freeze(self.raw, settings.train_only, settings.freeze)
        self.penalty = L2Penalty(self.raw, config.optimizer.l2)
        self.raw.to(self.fabric.device)
        self.model, self.optimizer = self.fabric.setup(self.raw, make_optimizer(self.raw, config.optimizer))
        self.average = make_average(self.raw, config.optimizer, config.schedule.steps)
        if settings.checkpoint_activations:
            checkpoint_activations(self.raw)
        self.device_name = _device_name(self.fabric.device)

        self.step = 0
        self.minutes = 0.0
        # None: not known, of a state saved before there was such a count.
        self.cpu_minutes: float | None = 0.0
        self.peak_mebibytes = 0.0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.bad_epochs = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        self.loss_count = 0
        self._finite = torch.ones((), dtype=torch.bool, device=self.fabric.device)
        self._tensorboard: Any = None

    # -- saved state -------------------------------------------------------------------------

    def start(self, resume: bool | None) -> None:
        """Load the saved state, or begin at step 0."""
        last = self.output / LAST
        if resume is False:
            for name in (LAST, METRICS):
                (self.output / name).unlink(missing_ok=True)
        elif last.exists():
            self._restore(load_state(last))
        elif resume:
            raise InputError("there is no saved training state to resume; leave out --resume", path=last)
        if self.step == 0:
            self._warm_start()
            self._check_targets()
        text = json.dumps(self.config.to_dict(), indent=2) + "\n"
        write_atomically(self.output / CONFIG, lambda handle: handle.write(text.encode()))

    def _warm_start(self) -> None:
        name = self.config.training.init
        if name is None:
            return
        source = checkpoints.load(name).state_dict()
        target = self.raw.state_dict()
        settings = self.config.training
        for setting in ("init_only", "init_skip"):
            check_parts(f"training.{setting} ({name})", getattr(settings, setting) or (), source)
        wanted = [key for key in source if chosen(key, settings.init_only, settings.init_skip)]
        fitting = {
            key: source[key] for key in wanted if key in target and source[key].shape == target[key].shape
        }
        if not fitting:
            raise ConfigError(f"training.init: no weight of {name} fits the model")
        self.raw.load_state_dict(fitting, strict=False)
        if self.average is not None:
            self.average.model.load_state_dict(self.raw.state_dict())
        notes = [f"took {len(fitting)} of {len(target)} weights from {name}"]
        for text, keys in (
            ("left out as configured", [key for key in source if key in target and key not in wanted]),
            ("of another shape", [key for key in wanted if key in target and key not in fitting]),
            ("newly initialized", [key for key in target if key not in fitting]),
        ):
            if keys:
                notes.append(f"{text}: {', '.join(keys[:5])}" + (", ..." if len(keys) > 5 else ""))
        logs.info("; ".join(notes))

    def _check_targets(self) -> None:
        """Look for targets that the loss cannot have, in some batches; each later one is looked at too."""
        for number in range(_CHECKED_BATCHES):
            self._tensors(self.batches.batch(number))
        size = self.config.training.valid_batch_size or self.config.training.batch_size
        self._tensors(next(iter(validation_batches(self.dataset, self.config.data.valid_split, size))))

    def save(self) -> None:
        """Write ``last.ckpt``."""
        self._check_finite()
        save_state(
            self.output / LAST,
            {
                "config": json.dumps(self.config.trajectory(), sort_keys=True),
                "dataset_digest": self.dataset.digest,
                "step": self.step,
                "minutes": self.minutes,
                "cpu_minutes": self.cpu_minutes,
                "peak_mebibytes": self._peak(),
                "model": self.raw.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.model.state_dict(),
                "averaged_steps": self.average.count if isinstance(self.average, EqualAverage) else None,
                "precision": self.fabric.strategy.precision.state_dict(),
                "random": random_state(),
                "history": self.history,
                "best": self.best,
                "bad_epochs": self.bad_epochs,
                "loss_sum": float(self.loss_sum),
                "loss_count": self.loss_count,
                "threads": torch.get_num_threads(),
                "torch": str(torch.__version__),
                "checkpoint_activations": self.config.training.checkpoint_activations,
            },
        )

    def _restore(self, state: dict[str, Any]) -> None:
        place = self.output / LAST
        if state["dataset_digest"] != self.dataset.digest:
            raise ConfigError(
                f"{place} was trained on another dataset than {self.dataset.path}; use another output "
                "folder, or start over with --restart"
            )
        changed = _differences(_completed(json.loads(state["config"]), self.config), self.config.trajectory())
        if changed:
            raise ConfigError(
                f"the configuration differs from that of {place} in {', '.join(changed)}; use another output "
                "folder, or start over with --restart"
            )
        self.raw.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.model.load_state_dict(state["average"])
        if isinstance(self.average, EqualAverage):
            self.average.count = state["averaged_steps"]
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step, self.minutes = state["step"], state["minutes"]
        self.cpu_minutes = state.get("cpu_minutes")
        self.peak_mebibytes = state.get("peak_mebibytes", 0.0)
        self.history, self.best, self.bad_epochs = state["history"], state["best"], state["bad_epochs"]
        self.loss_sum.fill_(state["loss_sum"])
        self.loss_count = state["loss_count"]
        for name, before, now in (
            ("CPU threads", state["threads"], torch.get_num_threads()),
            ("torch", state["torch"], str(torch.__version__)),
            (
                "training.checkpoint_activations",
                state.get("checkpoint_activations", False),
                self.config.training.checkpoint_activations,
            ),
        ):
            if before != now:
                logs.warning(
                    f"resuming with {name} {now}, was {before}: the last bits of the weights may differ"
                )
        restore_random_state(state["random"])
        logs.info(
            f"resuming at step {self.step:,} of {self.config.schedule.steps:,} ({self.minutes:.1f} min)"
        )

    # -- training ----------------------------------------------------------------------------

    def loop(self, should_stop: Callable[[int], bool]) -> TrainResult:
        """Train to the end; returns the result or raises Interrupted after saving."""
        settings, total = self.config.training, self.config.schedule.steps
        logs.info(
            f"{self.config.model.architecture}: {self.parameters:,} parameters{self._trained()} on "
            f"{self.device_name}; "
            f"{self.batches.count:,} training windows, {self.epoch_steps:,} steps an epoch"
        )
        if self.config.output.tensorboard:
            loggers = require("lightning.fabric.loggers", "train")
            require("tensorboard", "train")
            self._tensorboard = loggers.TensorBoardLogger(self.output, name="tensorboard", version="")
        if self.fabric.device.type == "cuda":
            pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1)
        else:
            pool = None
        clock = saved = time.monotonic()
        worked = time.process_time()

        def tick() -> float:
            nonlocal clock, worked
            now, work = time.monotonic(), time.process_time()
            self.minutes += (now - clock) / 60.0
            if self.cpu_minutes is not None:
                self.cpu_minutes += (work - worked) / 60.0
            clock, worked = now, work
            return now

        bar = logs.Progress("training", total, "steps")
        bar.advance(self.step)
        pending: Future[Batch] | None = None
        try:
            while True:
                if self._due():
                    finished = self._validate(lambda: should_stop(self.step))
                    tick()
                    if not finished:
                        self._interrupt()
                if self.step >= (total if settings.max_steps is None else min(total, settings.max_steps)):
                    reason = "steps"
                    break
                if settings.patience is not None and self.bad_epochs >= settings.patience:
                    reason = "patience"
                    break
                if should_stop(self.step):
                    self._interrupt()
                if self.max_minutes is not None and self.minutes >= self.max_minutes:
                    reason = "minutes"
                    break
                pending = self._update(pool, pending)
                now = tick()
                bar.advance(1, self._note() if self.step % _FINITE_EVERY == 0 else None)
                if now - saved >= 60.0 * settings.save_minutes:
                    self.save()
                    saved = now
            if not self.history or self.history[-1]["step"] != self.step:
                self._validate(lambda: False)
                tick()
            self.save()
            return self._finish(reason)
        except torch.cuda.OutOfMemoryError as error:
            raise GexprError(
                "the CUDA device has too little memory; lower training.batch_size (and raise "
                "training.accumulate by the same factor), or give --checkpoint-activations"
            ) from error
        finally:
            bar.close()
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
            if self._tensorboard is not None:
                self._tensorboard.finalize("success")

    def _trained(self) -> str:
        trained = sum(parameter.numel() for parameter in self.raw.parameters() if parameter.requires_grad)
        return "" if trained == self.parameters else f" ({trained:,} of them trained)"

    def _peak(self) -> float:
        self.peak_mebibytes = max(self.peak_mebibytes, peak_memory())
        return self.peak_mebibytes

    def _learning_rate(self) -> float:
        settings = self.config.optimizer
        if isinstance(self.average, EqualAverage) and settings.swa_lr is not None:
            if self.step >= self.average.start:
                return settings.swa_lr
        return settings.lr * learning_rate_factor(self.step, self.config.schedule)

    def _note(self) -> str:
        return f"loss {float(self.loss_sum) / max(self.loss_count, 1):.4f}"

    def _interrupt(self) -> None:
        self.save()
        raise Interrupted(
            f"stopped at step {self.step:,} of {self.config.schedule.steps:,}; the state is saved in "
            f"{self.output / LAST}, the same command continues"
        )

    def _due(self) -> bool:
        """Whether an epoch ended here and is not validated yet."""
        if self.step == 0 or (self.step % self.epoch_steps and self.step < self.config.schedule.steps):
            return False
        return not self.history or self.history[-1]["step"] < self.step

    def _update(self, pool: ThreadPoolExecutor | None, pending: Future[Batch] | None) -> Future[Batch] | None:
        config = self.config
        lr = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        for module in self.frozen:
            module.eval()
        accumulate = config.training.accumulate
        for micro in range(accumulate):
            number = self.step * accumulate + micro
            batch = self.batches.batch(number) if pending is None else pending.result()
            pending = None if pool is None else pool.submit(self.batches.batch, number + 1)
            codes, targets, valid = self._tensors(batch)
            loss, _ = self.objective(self.model(one_hot(codes)).float(), targets, valid)
            share = loss / accumulate
            if self.penalty.active and micro == accumulate - 1:
                share = share + self.penalty()
            self.fabric.backward(share)
            self.loss_sum += loss.detach().double()
            self.loss_count += 1
        if config.optimizer.clip_norm is not None:
            norm = self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=config.optimizer.clip_norm, error_if_nonfinite=False
            )
            # With float16 an overflow is expected: the scaler skips the update and lowers the scale.
            if config.training.precision != "16-mixed" and norm is not None:
                self._finite &= torch.isfinite(norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        if self.step % _FINITE_EVERY == 0:
            self._check_finite()
        return pending

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        self.objective.check_targets(batch.targets, batch.valid, str(self.dataset.path))
        device = self.fabric.device
        tensors = (
            torch.from_numpy(batch.codes),
            torch.from_numpy(batch.targets),
            torch.from_numpy(batch.valid),
        )
        if device.type == "cuda":
            return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)  # type: ignore[return-value]
        return tensors

    def _check_finite(self) -> None:
        if not bool(self._finite) or not math.isfinite(float(self.loss_sum)):
            raise GexprError(
                f"the loss or its gradient became NaN or infinite by step {self.step:,}; lower optimizer.lr, "
                "lengthen schedule.warmup_steps, or lower optimizer.clip_norm. The last saved state is "
                "untouched"
            )

    # -- validation --------------------------------------------------------------------------

    def _evaluated(self) -> SequenceModel:
        if self.average is None or not self.average.begun:
            return self.raw
        return self.average.model  # type: ignore[return-value]

    def _measure_statistics(self) -> None:
        """Give equally averaged weights their running statistics, from the first training batches."""
        if not isinstance(self.average, EqualAverage) or not self.average.begun:
            return
        size = self.config.training.batch_size
        count = min(self.config.optimizer.swa_batches, math.ceil(self.batches.count / size))
        frozen = [name for name, module in self.raw.named_modules() if any(module is f for f in self.frozen)]
        with self.fabric.autocast():
            self.average.statistics(
                (one_hot(self._tensors(self.batches.batch(number))[0]) for number in range(count)), frozen
            )

    @torch.no_grad()
    def _validate(self, should_stop: Callable[[], bool]) -> bool:
        """Measure the current weights; False when stopped before the end."""
        self._check_finite()
        settings = self.config.training
        self._measure_statistics()
        model = self._evaluated()
        model.eval()
        tracks = self.dataset.tracks
        log_r, raw_r, contrast_r = (
            StreamingPearson(len(tracks)),
            StreamingPearson(len(tracks)),
            StreamingPearson(1),
        )
        ranked: list[tuple[np.ndarray, np.ndarray]] = []
        sums: dict[str, float] = {}
        bins = 0
        size = settings.valid_batch_size or settings.batch_size
        for batch in validation_batches(self.dataset, self.config.data.valid_split, size):
            if should_stop():
                return False
            codes, targets, valid = self._tensors(batch)
            with self.fabric.autocast():
                predictions = model(one_hot(codes))
            predictions = predictions.float()
            total, parts = self.objective(predictions, targets, valid)
            count = int(batch.valid.sum())
            bins += count
            for name, value in {"loss": total, **parts}.items():
                sums[name] = sums.get(name, 0.0) + count * float(value)
            p, y = predictions.cpu().numpy()[batch.valid], batch.targets[batch.valid]
            raw_r.update(p, y)
            if self.dataset.target_length == 1:
                ranked.append((p, y))
            log_r.update(_signed_log1p(p), _signed_log1p(y))
            for _, term, pairs in self.objective.terms:
                for numerator, denominator in pairs:
                    p_b, p_a, b, a, weight = (
                        value.cpu().double().numpy().reshape(-1, 1)
                        for value in contrast_values(
                            predictions, targets, valid, numerator, denominator, term.width, term.n0
                        )
                    )
                    c = term.pseudocount
                    contrast_r.update(np.log((p_b + c) / (p_a + c)), np.log((b + c) / (a + c)), weight)
        row: dict[str, Any] = {
            "step": self.step,
            "epoch": round(self.step / self.epoch_steps, 4),
            "minutes": round(self.minutes, 3),
            **({} if self.cpu_minutes is None else {"cpu_minutes": round(self.cpu_minutes, 3)}),
            "peak_mebibytes": round(self._peak(), 1),
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": float(self.loss_sum) / max(self.loss_count, 1),
        }
        if self.penalty.active:
            row["l2"] = float(self.penalty())
        row.update({name: value / max(bins, 1) for name, value in sums.items()})
        correlations = {"pearson_log1p": log_r.result(), "pearson": raw_r.result()}
        if ranked:
            # Ranks need all values at once: of one bin a window they are few.
            sides = [np.concatenate(side).T for side in zip(*ranked, strict=True)]
            correlations["spearman"] = np.array([spearman(*pair) for pair in zip(*sides, strict=True)])
        for kind, collected in correlations.items():
            row[kind] = float(np.nanmean(collected)) if np.isfinite(collected).any() else float("nan")
            row.update({f"{kind}/{track.id}": float(r) for track, r in zip(tracks, collected, strict=True)})
        if any(pairs for _, _, pairs in self.objective.terms):
            row["contrast_pearson"] = float(contrast_r.result()[0])
        self._record(row)
        return True

    def _record(self, row: dict[str, Any]) -> None:
        self.history.append(row)
        if self.step % self.epoch_steps == 0:
            self.loss_sum.zero_()
            self.loss_count = 0
        settings = self.config.training
        value = row[settings.metric]
        better = self.best is None or (
            value < self.best["value"] if settings.metric == "loss" else value > self.best["value"]
        )
        if better and math.isfinite(value):
            weights = {name: tensor.cpu().clone() for name, tensor in self._evaluated().state_dict().items()}
            self.best = {"value": value, "step": self.step, "row": row, "weights": weights}
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        self._write_history()
        if self._tensorboard is not None:
            scalars = {name: number for name, number in row.items() if isinstance(number, float)}
            self._tensorboard.log_metrics(scalars, step=self.step)
        logs.info(
            f"step {self.step:>7,}  {self.minutes:7.1f} min  train {row['train_loss']:.4f}  "
            f"valid {row['loss']:.4f}  "
            + (
                f"r {row['pearson']:.4f}  rho {row['spearman']:.4f}"
                if "spearman" in row
                else f"log1p r {row['pearson_log1p']:.4f}"
            )
            + (f"  contrast r {row['contrast_pearson']:.4f}" if "contrast_pearson" in row else "")
            + ("  *" if self.best is not None and self.best["step"] == self.step else "")
        )
        every = self.config.output.export_epochs
        if every and self.step % (every * self.epoch_steps) == 0 and self.step < self.config.schedule.steps:
            self._export()

    def _write_history(self) -> None:
        names: dict[str, None] = {}
        for row in self.history:
            names.update(dict.fromkeys(row))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_atomically(self.output / METRICS, lambda handle: handle.write(text.getvalue().encode()))

    # -- result ------------------------------------------------------------------------------

    def _export(self) -> tuple[Path, dict[str, float | None]]:
        """Write the checkpoint folder from the selected weights."""
        row, step = self.history[-1], self.step
        weights = self._evaluated().state_dict()
        if self.config.training.select == "best" and self.best is not None:
            row, step, weights = self.best["row"], self.best["step"], self.best["weights"]
        # Initializing the copy draws random numbers, which must not move those of the training.
        with torch.random.fork_rng(devices=[]):
            model = registry.build(self.config.model.architecture, _model_settings(self.config, self.dataset))
        model.load_state_dict(weights)
        model.eval()
        metrics = {
            name: value if math.isfinite(value) else None
            for name, value in row.items()
            if isinstance(value, float) and name not in _NOT_METRICS
        }
        content = self.config.to_dict()
        content["data"]["path"] = Path(content["data"]["path"]).name
        if content["data"]["split_file"] is not None:
            content["data"]["split_file"] = Path(content["data"]["split_file"]).name
        content["output"].pop("folder")
        splits = dict.fromkeys([self.config.data.train_split, self.config.data.valid_split, "test"])
        if content["training"]["init"] is not None:
            content["training"]["init"] = Path(content["training"]["init"]).name
        summary = {
            "name": self.config.output.name,
            "dataset": {
                "digest": self.dataset.digest,
                "fasta": self.dataset.provenance.get("fasta"),
                "fasta_digest": self.dataset.provenance.get("fasta_digest"),
                **{split: contents for split in splits if (contents := self.dataset.contents(split))},
            },
            "steps": self.step,
            "selected_step": step,
            "minutes": round(self.minutes, 2),
            "cpu_minutes": None if self.cpu_minutes is None else round(self.cpu_minutes, 2),
            "peak_mebibytes": round(self._peak(), 1),
            "device": self.device_name,
            "validation": metrics,
            "versions": {"gexpr": gexpr.__version__, "torch": str(torch.__version__)},
            "config": content,
        }
        data = self.config.data
        if data.prefix or data.suffix:
            # What sequences are put between where they are scored without a genome.
            summary["construct"] = {"prefix": data.prefix, "suffix": data.suffix}
        text = card.compose(self.config, self.dataset, self.dataset.tracks, self.parameters, summary)
        folder = self.output / CHECKPOINT
        checkpoints.save(folder, model, self.dataset.tracks, summary, text)
        return folder, metrics

    def _finish(self, reason: str) -> TrainResult:
        folder, metrics = self._export()
        return TrainResult(folder, self.step, self.minutes, metrics, reason)


def _with_model(config: TrainConfig) -> TrainConfig:
    """The configuration with a model: that of ``training.init`` when it names none."""
    if config.model.architecture:
        return config
    assert config.training.init is not None
    found = checkpoints.describe(config.training.init)
    given = ("context_length", "target_length", "heads")
    settings = {name: value for name, value in found.settings.items() if name not in given}
    return dataclasses.replace(config, model=ModelSection(found.architecture, settings))


def _model_settings(config: TrainConfig, dataset: TrainingSource) -> dict[str, Any]:
    return {
        **config.model.settings,
        "context_length": dataset.context_length,
        "target_length": dataset.target_length,
        "heads": {"tracks": len(dataset.tracks)},
    }


def _build_model(config: TrainConfig, dataset: TrainingSource) -> SequenceModel:
    model = registry.build(config.model.architecture, _model_settings(config, dataset))
    if model.bin_size != dataset.bin_size:
        raise ConfigError(
            f"the model has bins of {model.bin_size} bp and the dataset {dataset.path} of {dataset.bin_size} "
            "bp; change model.settings or prepare the dataset with the other --bin-size"
        )
    return model


def _check_link(model: SequenceModel, objective: Objective) -> None:
    """Refuse losses that the model's predictions are not for."""
    name = registry.architecture_of(model)
    linear = getattr(model.config, "link", "softplus") == "linear"
    if linear and objective.rates_only is not None:
        raise ConfigError(
            f"predictions of {name} may be negative, since its link is linear, but "
            f"the loss {objective.rates_only} is for those of 0 and more; use model.settings.link: softplus, "
            "or mse as the only loss"
        )
    if not linear and objective.of_logarithms:
        raise ConfigError(
            "with log_input the loss takes predictions as logarithms of rates, but those of "
            f"{name} are never negative, so that no rate would be below 1; remove "
            "log_input, or use an architecture with model.settings.link: linear"
        )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"


def _completed(before: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """A saved trajectory with the defaults of settings that came later.

    One that is no configuration any more is returned as it is: then it differs.
    """
    try:
        return from_dict({**before, "data": {**before["data"], "path": config.data.path}}).trajectory()
    except ConfigError:
        return before


def _signed_log1p(values: np.ndarray) -> np.ndarray:
    """``log(1 + x)``, continued to negative values as ``-log(1 - x)``."""
    return np.sign(values) * np.log1p(np.abs(values))


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in dict.fromkeys([*before, *now]):
            place = f"{where}.{key}" if where else key
            found += _differences(before.get(key), now.get(key), place)
        return found
    return [] if before == now else [where]
