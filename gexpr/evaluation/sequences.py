"""Measured against predicted values of a table of sequences: all rows of a split, subsets, pairs of rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.datasets import Construct, SequenceTable
from gexpr.errors import CheckpointError, ConfigError, InputError, shown
from gexpr.evaluation.bins import Metric
from gexpr.evaluation.evaluate import Evaluation
from gexpr.evaluation.genes import PromoterWindow
from gexpr.evaluation.matching import match
from gexpr.evaluation.metrics import pearson, r_squared, spearman
from gexpr.evaluation.predict import WindowPredictor
from gexpr.models.base import SequenceModel
from gexpr.results import Track, affine_shift

SETTINGS = (
    "sequence_column",
    "value_columns",
    "split_column",
    "split_file",
    "length",
    "pad",
    "crop",
    "prefix",
    "suffix",
    "missing",
)
"""Settings of a table that an evaluation takes from the training of a checkpoint."""

_READING = {
    "sequence_column": None,
    "split_column": None,
    "split_file": None,
    "pad": "none",
    "crop": "none",
    "prefix": "",
    "suffix": "",
}
"""Those in which the members of an ensemble must agree -> what they are by default."""


class Subset(NamedTuple):
    """Rows of a table, by number from 0: int64 (n,), or pairs of rows, int64 (n, 2): alternate, reference."""

    name: str
    rows: NDArray[np.int64]

    @property
    def paired(self) -> bool:
        """Whether these are pairs, whose differences count."""
        return self.rows.ndim == 2


@dataclass
class TableEvaluation(Evaluation):
    """An :class:`Evaluation` of the rows of a table.

    Attributes:
        rows: int64 (n,), numbers of the rows in the file.
        measured, predicted: float64 (n, tracks), in the unit of the table.
    """

    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    measured: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    predicted: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))


def read_subsets(path: str | os.PathLike[str]) -> list[Subset]:
    """Subsets from JSON: ``{"name": [row, ...], "pairs": [[alternate row, reference row], ...]}``.

    Raises:
        InputError: not that layout, or a number below 0.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as JSON: {error}", path=path) from error
    if not isinstance(content, dict):
        raise InputError("must be an object: name -> list of rows, or of pairs of rows", path=path)
    found = []
    for name, rows in content.items():
        try:
            values = np.array(rows if rows else np.empty(0, dtype=np.int64))
        except ValueError:
            values = np.empty(0)
        # Larger numbers are objects, or unsigned.
        whole = values.dtype == np.int64
        if not whole or not (values.ndim == 1 or values.shape[1:] == (2,)) or (values < 0).any():
            raise InputError(
                f"{shown(name)} is neither a list of row numbers (from 0) nor a list of pairs of them",
                path=path,
            )
        found.append(Subset(name, values.astype(np.int64)))
    return found


def recorded(training: Mapping[str, Any], section: str) -> dict[str, Any]:
    """A section of the configuration that a checkpoint's record of its training holds; empty without one.

    Raises:
        CheckpointError: the record is none.
    """
    config = training.get("config") or {}
    found = (config.get(section) or {}) if isinstance(config, dict) else None
    if not isinstance(found, dict):
        raise CheckpointError(f"config.json: training: config: {section} is {shown(found)}, not a mapping")
    return found


def check_members(members: Sequence[tuple[str, Mapping[str, Any]]], given: Mapping[str, str]) -> None:
    """Refuse checkpoints that were trained to read their tables in different ways.

    Args:
        members: names, and records of training.
        given: settings that replace those of the training, which may differ.

    Raises:
        ConfigError: names the checkpoints and the first difference.
    """
    (first, training), *others = members
    own = recorded(training, "data")
    for name, training in others:
        theirs = recorded(training, "data")
        for setting in _READING:
            values = [data.get(setting) or _READING[setting] for data in (own, theirs)]
            if setting not in given and values[0] != values[1]:
                raise ConfigError(
                    f"{first} was trained with data.{setting} {shown(values[0])} and {name} with "
                    f"{shown(values[1])}; say how to read the table with --table {setting}=..."
                )


def open_table(
    path: str | os.PathLike[str],
    context_length: int,
    training: Mapping[str, Any],
    given: Mapping[str, str] | None = None,
    split: str = "test",
) -> SequenceTable:
    """The table as a checkpoint was trained on one: its columns, pads and constant parts.

    Args:
        context_length: bases that the model reads.
        training: the checkpoint's record of its training. Its ``split_file``, if any, is looked for beside
            ``path``.
        given: settings that replace those, as texts; ``value_columns`` separated by commas.
        split: where it is ``all``, no split is looked for.

    Raises:
        ConfigError: an unknown setting, or a value that is not allowed.
        InputError: as of :class:`~gexpr.datasets.SequenceTable`.
    """
    given = dict(given or {})
    for name in given:
        if name not in SETTINGS:
            raise ConfigError(f"unknown setting {name!r} of a table; known: {', '.join(SETTINGS)}")
    data = recorded(training, "data")
    settings: dict[str, Any] = {name: data.get(name) for name in SETTINGS}
    if not settings["value_columns"]:
        settings = dict.fromkeys(SETTINGS)
    elif settings["split_file"] is not None and "split_file" not in given:
        beside = Path(path).parent / str(settings["split_file"])
        if not beside.is_file() and split != "all" and "split_column" not in given:
            raise InputError(
                "the checkpoint was trained with this file of splits, which is not beside the table; give it "
                "with --table split_file=FILE, or all rows with --split all",
                path=beside,
            )
        settings["split_file"] = str(beside) if beside.is_file() else None
    settings |= given
    columns = settings["value_columns"] or ()
    if isinstance(columns, str):
        columns = [name.strip() for name in columns.split(",") if name.strip()]
    if not isinstance(columns, (list, tuple)) or not all(isinstance(name, str) for name in columns):
        raise CheckpointError(f"config.json: training: data.value_columns is {shown(columns)}, not names")
    if not columns:
        raise ConfigError(
            f"the checkpoint was not trained on a table; name the values of {path} with "
            "--table value_columns=NAME,..."
        )
    if settings["length"] is None or "length" not in given:
        settings["length"] = context_length
    try:
        length = int(settings["length"])
    except ValueError:
        raise ConfigError(f"length of the table is {settings['length']!r}, not a whole number") from None
    construct = Construct(
        length,
        settings["pad"] or "none",
        settings["crop"] or "none",
        settings["prefix"] or "",
        settings["suffix"] or "",
    )
    return SequenceTable(
        path,
        columns,
        settings["sequence_column"],
        split_column=None if split == "all" else settings["split_column"],
        split_file=None if split == "all" else settings["split_file"],
        construct=construct,
        missing=settings["missing"] or "error",
    )


def evaluate_table(
    table: SequenceTable,
    models: Sequence[SequenceModel],
    split: str = "test",
    *,
    subsets: Sequence[Subset] = (),
    reverse_complement: bool = False,
    batch_size: int | None = None,
) -> TableEvaluation:
    """Compare predictions, averaged over models, with the values of a split's rows, in the unit of the table.

    Levels of the metrics are ``row`` (all rows), ``subset NAME`` and ``difference NAME`` (alternate less
    reference row, both in the split); statistics ``pearson``, ``pearson_squared``, ``spearman`` and ``r2``.

    Raises:
        ConfigError: a model reads another length or predicts more than one bin, or has no track of the table;
            models in scales that cannot be averaged.
        InputError: no row of that split, a row of a subset that the table has not, or bad sequences.
        GexprError: a prediction is not finite.
    """
    places = table.rows_of(split)
    codes = table.codes()[places]
    predicted = np.zeros((len(places), 0))
    own: list[int] = []
    scales: list[str] = []
    notes: list[str] = []
    for number, model in enumerate(models):
        if (model.context_length, model.target_length) != (table.length, 1):
            raise ConfigError(
                f"the model reads {model.context_length:,} bp and predicts {model.target_length:,} bins; the "
                f"constructs of {table.path} have {table.length:,} bp and one value"
            )
        matched = match(table, model)
        if number == 0:
            own, notes = matched.own, list(matched.notes)
            scales = [_scale(matched.head[i]) for i in matched.theirs]
            predicted = np.zeros((len(places), len(own)))
        elif matched.own != own:
            raise ConfigError(f"the models predict different columns of {table.path}")
        for i, scale in zip(matched.theirs, scales, strict=True):
            if _scale(matched.head[i]) != scale:
                raise ConfigError(
                    f"the models are no ensemble: track {matched.head[i].id} is {scale} of model 1 and "
                    f"{_scale(matched.head[i])} of model {number + 1}, which cannot be averaged"
                )
        predictor = WindowPredictor(
            model, matched.head, reverse_complement=reverse_complement, batch_size=batch_size
        )
        tracks = [matched.head[i] for i in matched.theirs]
        values = np.concatenate(list(_predictions(predictor, codes)))[:, 0, matched.theirs]
        predicted += _in_unit(values.astype(np.float64), tracks) / len(models)
    names = [table.tracks[i] for i in own]
    measured = table.values[places][:, own]
    result = TableEvaluation(
        "model",
        split,
        [],
        [],
        table.length,
        "values",
        PromoterWindow(),
        notes=notes,
        tracks=names,
        rows=table.rows[places],
        measured=measured,
        predicted=predicted,
    )
    result.metrics += _metrics(split, "row", names, measured, predicted)
    at = np.full(table.file_rows, -1, dtype=np.int64)
    at[result.rows] = np.arange(len(places))
    for subset in subsets:
        if subset.rows.size and subset.rows.max() >= table.file_rows:
            raise InputError(
                f"the subset {shown(subset.name)} has row {subset.rows.max()}; the last one is "
                f"{table.file_rows - 1}",
                path=table.path,
            )
        here = at[subset.rows]
        if subset.paired:
            alternate, reference = here[(here >= 0).all(axis=1)].T
            sides = (measured[alternate] - measured[reference], predicted[alternate] - predicted[reference])
            result.metrics += _metrics(split, f"difference {subset.name}", names, *sides)
        else:
            here = here[here >= 0]
            result.metrics += _metrics(split, f"subset {subset.name}", names, measured[here], predicted[here])
    return result


def _predictions(predictor: WindowPredictor, codes: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    with logs.progress("predicting", len(codes), "rows") as bar:
        for first in range(0, len(codes), predictor.batch_size):
            batch = codes[first : first + predictor.batch_size]
            yield predictor(batch)
            bar.advance(len(batch))


def _scale(track: Track) -> str:
    """What predictions are once scalings of the target are undone: those with equal texts can be averaged."""
    if affine_shift(track.transform) is not None:
        return "linear with scale 1"
    return f"{track.transform} with scale {track.scale:g}"


def _in_unit(values: NDArray[np.float64], tracks: Sequence[Track]) -> NDArray[np.float64]:
    """Predictions (rows, tracks) with scalings of the targets undone."""
    shifts = [affine_shift(track.transform) for track in tracks]
    scale = np.array(
        [1.0 if shift is None else track.scale for shift, track in zip(shifts, tracks, strict=True)]
    )
    return (values - np.array([shift or 0.0 for shift in shifts])) / scale


def _metrics(
    split: str,
    level: str,
    tracks: Sequence[Track],
    measured: NDArray[np.float64],
    predicted: NDArray[np.float64],
) -> list[Metric]:
    rows = []
    for i, track in enumerate(tracks):
        m, p = measured[:, i], predicted[:, i]
        r = pearson(m, p)
        for statistic, value in (
            ("pearson", r),
            ("pearson_squared", r * r),
            ("spearman", spearman(m, p)),
            ("r2", r_squared(m, p)),
        ):
            rows.append(Metric("model", split, level, track.id, "raw", statistic, value, len(m)))
    return rows
