"""The model card of a trained checkpoint, composed from the configuration and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gexpr.datasets import TrainingSource
from gexpr.results import Track
from gexpr.training.config import TrainConfig
from gexpr.training.optimizers import averaging_start


def compose(
    config: TrainConfig,
    dataset: TrainingSource,
    tracks: Sequence[Track],
    parameters: int,
    summary: dict[str, Any],
) -> str:
    """Markdown text: data, splits, architecture, training, metrics on the validation split, limits."""
    files = dataset.provenance.get("files", {})
    metrics = summary["validation"]
    lines = [f"# {config.output.name}", ""]
    if config.output.description:
        lines += [config.output.description.strip(), ""]
    lines += [
        f"A `{config.model.architecture}` model with {parameters:,} parameters: "
        f"{dataset.context_length:,} bp in, {dataset.target_length:,} bins of {dataset.bin_size} bp out, "
        f"{len(tracks)} tracks.",
        "",
        "## Data",
        "",
        *(f"- {line}" for line in dataset.describe()),
    ]
    if config.training.fold is not None:
        lines.append(
            f"- Fold {config.training.fold}, counted from 0: training and validation data are dealt out anew."
        )
    for split, use in (
        (config.data.train_split, "training"),
        (config.data.valid_split, "validation: selection and early stopping only"),
        ("test", "test: not used in training"),
    ):
        names = dataset.contents(split)
        if names:
            lines.append(f"- {split} ({use}): {', '.join(names)}.")
    columns = ["track", "label", "assay", "strand", *(["files"] if files else [])]
    lines += ["", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for track in tracks:
        cells = [track.id, track.label, track.assay, track.strand]
        if files:
            cells.append(", ".join(files.get(track.id, [])))
        lines.append(f"| {' | '.join(cells)} |")
    settings = config.training
    augmentation = config.augmentation
    loss = " + ".join([config.loss.name, *(f"{term.weight:g} x {term.name}" for term in config.loss.terms)])
    averaged = ""
    if config.optimizer.ema_decay:
        averaged = f", weights averaged (decay {config.optimizer.ema_decay:g})"
    elif (start := averaging_start(config.optimizer, config.schedule.steps)) is not None:
        if summary["selected_step"] >= start:
            averaged = f", weights averaged equally from step {start:,} on"
    penalties = [f"{kind} {value:g}" for kind, value in config.optimizer.l2.coefficients().items() if value]
    lines += [
        "",
        "## Training",
        "",
        f"- Loss: {loss}.",
        *([f"- Started from the weights of {Path(settings.init).name}."] if settings.init else []),
        *(
            [f"- Trained: only parameters with {' or '.join(settings.train_only)} in their names."]
            if settings.train_only
            else []
        ),
        *([f"- Not trained: {', '.join(settings.freeze)}."] if settings.freeze else []),
        *([f"- L2 penalties: {', '.join(penalties)}."] if penalties else []),
        f"- {config.optimizer.name}, learning rate {config.optimizer.lr:g}, "
        f"{config.schedule.warmup_steps} warm-up steps, {config.schedule.decay} decay over "
        f"{config.schedule.steps:,} steps{averaged}.",
        f"- {summary['steps']:,} steps of {settings.batch_size * settings.accumulate} windows in "
        f"{summary['minutes']:.0f} minutes on {summary['device']} ({settings.precision}), "
        f"seed {settings.seed}.",
        f"- Augmentation: reverse complement {'on' if augmentation.reverse_complement else 'off'}, jitter "
        f"{augmentation.jitter_bins} bins, shift {augmentation.shift_bp} bp"
        + (f", cut at random to {augmentation.crop_length:,} bp." if augmentation.crop_length else "."),
        f"- Weights of step {summary['selected_step']:,} ({settings.select}"
        + (f" by validation {settings.metric}" if settings.select == "best" else "")
        + ").",
        "",
        f"## Metrics on the split `{config.data.valid_split}`",
        "",
    ]
    if dataset.target_length == 1:
        shown = {"pearson": "Pearson", "spearman": "Spearman"}
        lines.append("Correlations over sequences, read as they are.")
    else:
        shown = {"pearson_log1p": "log1p", "pearson": "raw"}
        lines.append(
            "Pearson correlation over bins, one strand of reading, no averaging over reverse complements."
        )
    lines += ["", f"| track | {' | '.join(shown.values())} |", "|---|---|---|"]
    for track in tracks:
        values = (_number(metrics.get(f"{name}/{track.id}")) for name in shown)
        lines.append(f"| {track.id} | {' | '.join(values)} |")
    lines.append(f"| mean | {' | '.join(_number(metrics.get(name)) for name in shown)} |")
    if "contrast_pearson" in metrics:
        lines += [
            "",
            f"Log ratios of the contrast groups in wide windows: r = {_number(metrics['contrast_pearson'])}.",
        ]
    lines += [
        "",
        "The validation split chose the weights, so these numbers are slightly optimistic; "
        "`gexpr evaluate` measures the test split.",
        "",
        "## Limits",
        "",
        "Trained on constructs of one kind: predictions for other lengths, other constant parts or "
        "sequences of another origin are untested."
        if dataset.target_length == 1
        else "Trained on one reference genome: predictions for other species, strains far from it, or "
        "conditions outside the tracks above are untested.",
    ]
    if config.output.license:
        lines += ["", "## License", "", config.output.license.strip()]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
