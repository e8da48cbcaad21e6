"""Measured against predicted window by window, for datasets that have no contigs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from gexpr import logs
from gexpr.datasets import WindowData, WindowedDataset
from gexpr.errors import ConfigError, InputError
from gexpr.evaluation.bins import BinMetrics, Density
from gexpr.evaluation.evaluate import Evaluation, Settings
from gexpr.evaluation.groups import assays_of
from gexpr.evaluation.matching import match
from gexpr.evaluation.predict import Models, WindowPredictor, members_of
from gexpr.models.base import SequenceModel


def evaluate_windows(
    dataset: WindowedDataset,
    models: Models,
    settings: Settings = Settings(),  # noqa: B008 (immutable)
    *,
    reverse_complement: bool = True,
    batch_size: int | None = None,
) -> Evaluation:
    """Compare predictions of a model, or an ensemble, with the targets of a split's windows, as they are.

    Windows are read one batch at a time, so that a dataset may be larger than memory. Every valid
    bin of every window counts, and bins are compared on the scale of the targets, whatever it is. The
    model's first head is evaluated, on the tracks whose ids the dataset has.

    Raises:
        ConfigError: other windows or bins than the dataset's, no track in common, or genes, which need
            contigs.
        InputError: the split has no window, or the data are damaged.
        GexprError: the predictions are not finite.
    """
    if settings.genes is not None:
        raise ConfigError(
            f"{dataset.path} is evaluated window by window and knows no contigs, so genes cannot be judged"
        )
    members = members_of(models)
    _check_geometry(dataset, members[0])
    matched = match(dataset, members[0])
    predictor = WindowPredictor(
        members, matched.head, reverse_complement=reverse_complement, batch_size=batch_size
    )
    bins = BinMetrics(matched.tracks, dataset.bin_size, settings.pool_width)
    assays = assays_of(matched.tracks)
    result = Evaluation(
        "model",
        settings.split,
        [],
        [],
        dataset.bin_size,
        "targets",
        settings.window,
        notes=matched.notes,
        tracks=matched.tracks,
        assay_densities={assay: Density() for assay in assays},
    )
    with logs.progress("predicting", dataset.window_count(settings.split), "windows") as bar:
        for batch in _batches(dataset.window_data(settings.split), predictor.batch_size):
            predictions = predictor(np.stack([data.codes for data in batch]))
            for data, whole in zip(batch, predictions, strict=True):
                measured, predicted = data.targets[:, matched.own], whole[:, matched.theirs]
                bins.add(measured, predicted, data.valid)
                for assay, columns in assays.items():
                    sides = (each[data.valid][:, columns] for each in (measured, predicted))
                    result.assay_densities[assay].update(*sides)
            bar.advance(len(batch))
        if not bar.done:
            raise InputError(
                f"no window belongs to the split {settings.split!r}; it has: {', '.join(dataset.splits)}",
                path=dataset.path,
            )
    result.metrics = bins.metrics(result.source, result.split)
    return result


def _batches(windows: Iterable[WindowData], size: int) -> Iterator[list[WindowData]]:
    batch: list[WindowData] = []
    for data in windows:
        batch.append(data)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _check_geometry(dataset: WindowedDataset, model: SequenceModel) -> None:
    # Bins lie in the middle of both, so that equal sizes also mean the same bases.
    own, theirs = ((each.context_length, each.target_length, each.bin_size) for each in (dataset, model))
    if own != theirs:
        raise ConfigError(
            "the model reads {:,} bp and predicts the middle {:,} bins of {:,} bp".format(*theirs)
            + f", and {dataset.path}"
            + " has windows of {:,} bp with targets of the middle {:,} bins of {:,} bp".format(*own)
            + "; they must agree to be compared window by window"
        )
