"""Which data a configuration trains on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gexpr.datasets import (
    Construct,
    PreparedDataset,
    SequenceTable,
    StoredWindows,
    TableWindows,
    TrainingSource,
    parse_fold,
    table_kind,
)
from gexpr.errors import ConfigError
from gexpr.training.config import DataConfig, TrainConfig

UNPACKED = "windows"
"""Folder of a run that holds what is too large for memory."""

_ANY = ("path", "train_split", "valid_split")
_KEYS = {
    "a prepared dataset": _ANY,
    "a folder of TFRecords": (*_ANY, "squash"),
    "a table": tuple(field.name for field in dataclasses.fields(DataConfig) if field.name != "squash"),
}


def open_source(config: TrainConfig, folder: Path | None = None) -> TrainingSource:
    """The data of ``data.path``: a folder of TFRecords, a table (by its suffix) or a prepared dataset.

    Args:
        folder: of the run, for what is too large for memory.

    Raises:
        ConfigError: a setting that this kind of data does not have, or that does not fit.
        InputError: the data cannot be read.
    """
    data, augmentation = config.data, config.augmentation
    fold = None if config.training.fold is None else parse_fold(config.training.fold)
    if Path(data.path).is_dir():
        _check_keys(data, "a folder of TFRecords")
        return StoredWindows(
            data.path,
            data.train_split,
            data.valid_split,
            squash=data.squash,
            crop_length=augmentation.crop_length,
            fold=fold,
            cache=None if folder is None else folder / UNPACKED,
        )
    if augmentation.crop_length is not None:
        raise ConfigError("augmentation.crop_length belongs to folders of TFRecords")
    if table_kind(data.path) is not None:
        _check_keys(data, "a table")
        if augmentation.jitter_bins:
            raise ConfigError("augmentation.jitter_bins belongs to windows of genomes; tables have shift_bp")
        table = SequenceTable(
            data.path,
            data.value_columns,
            data.sequence_column,
            split_column=data.split_column,
            split_file=data.split_file,
            cluster_column=data.cluster_column,
            construct=Construct(data.length, data.pad, data.crop, data.prefix, data.suffix),
            missing=data.missing,
        )
        return TableWindows(
            table,
            data.train_split,
            data.valid_split,
            targets=data.targets,
            scale=data.scale,
            shift=data.shift,
            fold=fold,
            margin=augmentation.shift_bp,
        )
    _check_keys(data, "a prepared dataset")
    dataset = PreparedDataset(data.path)
    return dataset if fold is None else dataset.with_fold(fold)


def _check_keys(data: DataConfig, kind: str) -> None:
    for field in dataclasses.fields(data):
        if field.name not in _KEYS[kind] and getattr(data, field.name) != field.default:
            raise ConfigError(f"data.{field.name} does not belong to {kind}: {data.path}")
