"""``gexpr train``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gexpr import logs
from gexpr.cli import options
from gexpr.errors import ConfigError


@click.command("train")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Run folder. [default: output.folder of CONFIG]",
)
@click.option(
    "--resume/--restart",
    "resume",
    default=None,
    help="Insist on a saved state, or discard it. [default: resume when there is one]",
)
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Where to train."
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: as torch decides]")
@click.option(
    "--max-minutes",
    type=click.FloatRange(0, min_open=True),
    help="End training after this time, all resumptions counted, and write the checkpoint.",
)
@click.option(
    "--checkpoint-activations",
    is_flag=True,
    help="Compute activations again in the backward pass instead of keeping them: slower, less memory for "
    "long contexts. Sets training.checkpoint_activations.",
)
@click.option(
    "--init",
    metavar="CHECKPOINT",
    help="Start from its weights, as far as names and shapes fit, and from its model when CONFIG has none. "
    "Sets training.init.",
)
@click.option(
    "--train-only",
    metavar="TEXT[,...]",
    help="Train only parameters with TEXT in their names, e.g. attention; all else keeps its weights and "
    "running statistics. Sets training.train_only.",
)
@click.option(
    "--fold",
    metavar="K/N",
    help="Cross-validation: deal the training and validation data into N folds and validate on number K, "
    "from 0; the test split stays. Sets training.fold; the default run folder gets the suffix -foldK.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a setting of CONFIG; repeatable."
)
@options.quiet
def command(
    config: Path,
    output: Path | None,
    resume: bool | None,
    device: str,
    threads: int | None,
    max_minutes: float | None,
    checkpoint_activations: bool,
    init: str | None,
    train_only: str | None,
    fold: str | None,
    overrides: tuple[str, ...],
    quiet: bool,
) -> None:
    """Train a model as CONFIG (YAML) says; the same command resumes where it stopped.

    The run folder holds the state (last.ckpt), metrics.csv, and at the end checkpoint/, which
    every other command takes. SIGTERM, Ctrl-C and SIGUSR1 finish the
    step, save, and exit with 75; resumed, the run ends in the same weights as if it had never
    stopped. A second signal stops at once.

    \b
    A configuration:
      data: {path: yeast.h5}
      model:
        architecture: sparse_enformer
        settings: {}           # of the architecture
      loss: {name: poisson}
      optimizer: {name: adamw, lr: 1.0e-3, ema_decay: 0.999}
      schedule: {steps: 20000, warmup_steps: 500}
      augmentation: {jitter_bins: 64}
      training: {batch_size: 8, metric: pearson_log1p}

    \b
    Examples:
      gexpr train yeast.yaml -o runs/yeast --threads 2
      gexpr train yeast.yaml -o runs/quick --max-minutes 10 --set schedule.steps=500
      gexpr train yeast.yaml -o runs/high --set optimizer.lr=2e-3 --set output.tensorboard=true
      gexpr train tune.yaml -o runs/tuned --init sparse --train-only attention
      gexpr train yeast.yaml --fold 0/5        # and 1/5 to 4/5

    Exit codes: 0 finished, the checkpoint is written; 1 an input or setting is at fault; 2 wrong
    usage; 75 stopped and saved, run the same command again.
    """
    from gexpr.training import load_config

    logs.set_quiet(quiet)
    if checkpoint_activations:
        overrides = (*overrides, "training.checkpoint_activations=true")
    if init is not None:
        # In CONFIG a folder is relative to CONFIG; here it is relative to the working directory.
        place = str(Path(init).resolve()) if Path(init).is_dir() else init
        overrides = (*overrides, f"training.init={json.dumps(place)}")
    if train_only is not None:
        overrides = (*overrides, f"training.train_only={json.dumps(train_only.split(','))}")
    if fold is not None:
        overrides = (*overrides, f"training.fold={json.dumps(fold)}")
    settings = load_config(config, overrides)
    folder = output
    if folder is None and settings.output.folder:
        number = settings.training.fold
        suffix = "" if number is None else f"-fold{number.partition('/')[0]}"
        folder = Path(f"{Path(settings.output.folder)}{suffix}")
    if folder is None:
        raise ConfigError("no run folder: give --output DIR, or output.folder in the configuration")
    from gexpr.training import train

    result = train(settings, folder, resume=resume, device=device, threads=threads, max_minutes=max_minutes)
    why = {"steps": "all steps done", "patience": "no more progress", "minutes": "the time is used up"}
    logs.info(f"finished after {result.steps:,} steps, {result.minutes:.1f} min: {why[result.reason]}")
    click.echo(str(result.checkpoint))
