"""Tables of sequences with measured values (TSV, CSV, Parquet): constructs of one length to train on."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gexpr.datasets.folds import Fold, deal
from gexpr.datasets.windowed import Batch, Draws, file_digest
from gexpr.errors import ConfigError, InputError, require, shown, shown_name
from gexpr.genome.codes import encode
from gexpr.genome.compressed import MAX_LINE, read_lines
from gexpr.results import Track, affine_transform

SIDES = ("left", "right", "both", "none")
SEQUENCE_COLUMNS = ("sequence", "seq")
"""Columns of sequences that need not be named."""
TARGETS = ("raw", "standardized", "affine")
MISSING = ("error", "drop")
_EMPTY = frozenset({"", "NA", "N/A", "NaN", "nan", "None", "null", "."})
_BLOCK = 1 << 16
# A cell may be as long as a line; by default csv refuses 128 KiB.
csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
_OTHER = re.compile(r"[^ACGTNRYSWKMBDHVacgtnryswkmbdhv]")


class Construct(NamedTuple):
    """How a sequence of a table becomes the input of a model.

    Attributes:
        length: bases of the input; None where all constructs are equally long.
        pad: where unknown bases are added to a shorter one: ``left``, ``right``, ``both`` (one more on the
            right, if need be), ``none``.
        crop: where bases are cut off a longer one, likewise.
        prefix, suffix: bases before and after every sequence.
    """

    length: int | None = None
    pad: str = "none"
    crop: str = "none"
    prefix: str = ""
    suffix: str = ""

    def span(self, size: int, length: int) -> int:
        """Where the input begins in a construct of ``size`` bases: below 0 where bases are added.

        Raises:
            ValueError: it is shorter or longer than ``length``, and nothing says what to do.
        """
        if size == length:
            return 0
        name, side = ("pad", self.pad) if size < length else ("crop", self.crop)
        if side == "none":
            raise ValueError(
                f"{size} bases, the model's input has {length}; say with data.{name} (gexpr evaluate: "
                f"--table {name}=...) left, right or both where bases are "
                f"{'added' if size < length else 'cut off'}"
            )
        surplus = size - length
        if name == "pad":
            return {"left": surplus, "right": 0, "both": -(-surplus // 2)}[side]
        return {"left": surplus, "right": 0, "both": surplus // 2}[side]


class Columns(NamedTuple):
    """Columns of a table: texts (or values, of Parquet) by name, and the line of each row (0: none)."""

    values: dict[str, list[Any]]
    lines: list[int]


def table_kind(path: str | os.PathLike[str]) -> str | None:
    """``tsv``, ``csv`` or ``parquet`` by the suffix of a file's name; None for another one."""
    name = Path(path).name.lower()
    for suffix in (".gz", ".bgz"):
        name = name.removesuffix(suffix)
    found = {"tsv": "tsv", "txt": "tsv", "tab": "tsv", "csv": "csv", "parquet": "parquet", "pq": "parquet"}
    return found.get(name.rpartition(".")[2])


def read_columns(
    path: str | os.PathLike[str], wanted: Sequence[str], optional: Sequence[str] = ()
) -> Columns:
    """Read columns of a table by name; those of ``optional`` only where they exist.

    Raises:
        InputError: the file is missing or damaged, a column is missing, twice there or nested, or a line has
            too many or too few.
        MissingDependencyError: Parquet without pyarrow.
    """
    if table_kind(path) == "parquet":
        return _read_parquet(path, wanted, optional)
    lines = read_lines(path, "table")
    separator = "," if table_kind(path) == "csv" else "\t"
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        raise InputError("the table is empty; its first line names the columns", path=path)
    header = _cells(first[1], separator, path, first[0])
    places = _places(header, wanted, optional, path, first[0])
    values: dict[str, list[Any]] = {name: [] for name in places}
    chosen = [(values[name].append, place) for name, place in places.items()]
    numbers = []
    for number, text in lines:
        # Cells that are all empty are a row.
        if not text.strip() and separator not in text:
            continue
        cells = text.split(separator) if '"' not in text else _cells(text, separator, path, number)
        if len(cells) != len(header):
            raise InputError(f"has {len(cells)} columns, the header {len(header)}", path=path, line=number)
        for append, place in chosen:
            append(cells[place])
        numbers.append(number)
    return Columns(values, numbers)


def _cells(text: str, separator: str, path: str | os.PathLike[str], line: int) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error as error:
        raise InputError(
            f"cannot be divided into cells: {error}; quotes must be closed on the same line, and lines must "
            "end as on Unix or Windows",
            path=path,
            line=line,
        ) from None


def _places(
    header: Sequence[str],
    wanted: Sequence[str],
    optional: Sequence[str],
    path: str | os.PathLike[str],
    line: int | None,
) -> dict[str, int]:
    for name in wanted:
        if name not in header:
            raise InputError(
                f"has no column {name!r}; it has: {', '.join(map(shown_name, header[:40]))}",
                path=path,
                line=line,
            )
    found = [name for name in dict.fromkeys((*wanted, *optional)) if name in header]
    for name in found:
        if header.count(name) > 1:
            raise InputError(
                f"has {header.count(name)} columns {shown(name)}; rename all but the one that counts",
                path=path,
                line=line,
            )
    return {name: header.index(name) for name in found}


def _read_parquet(path: str | os.PathLike[str], wanted: Sequence[str], optional: Sequence[str]) -> Columns:
    parquet = require("pyarrow.parquet", "parquet")
    arrow = require("pyarrow", "parquet")
    try:
        file = parquet.ParquetFile(os.fspath(path))
        places = _places(file.schema_arrow.names, wanted, optional, path, None)
        for name in places:
            kind = file.schema_arrow.field(name).type
            if arrow.types.is_nested(kind) or "binary" in str(kind):
                raise InputError(
                    f"the column {shown(name)} holds {kind}; it must hold texts or numbers", path=path
                )
        table = file.read(columns=list(places))
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise InputError(f"cannot be read as Parquet: {error}", path=path) from error
    return Columns({name: table.column(name).to_pylist() for name in places}, [0] * table.num_rows)


def _names(values: Sequence[Any]) -> np.ndarray:
    """Splits or clusters of rows as texts without blanks around them; objects (rows,)."""
    return np.array(["" if value is None else str(value).strip() for value in values], dtype=object)


class SequenceTable:
    """Sequences with values, one a row.

    Args:
        path: TSV, CSV (either may be gzipped) or Parquet.
        sequence_column: None for ``sequence`` or ``seq``.
        value_columns: each is a track.
        split_column: names the split of a row; None for ``split``, where there is such a column.
        split_file: another table with the splits and clusters, one row a row of ``path``: in the order of its
            column ``row`` (from 0), or without one in the same order.
        cluster_column: names groups of rows that belong together; of ``split_file``, if it has it.
        construct: how sequences become inputs.
        missing: ``error``, or ``drop`` rows of which a value is missing (empty, NA, NaN).

    Attributes:
        names: of the values.
        tracks: the same as tracks, with the transform ``linear``.
        file_rows: rows of the file, also those that were dropped.
        values: float64 (rows, values).
        rows: int64 (rows,): number of each in the file, from 0.
        splits: of each row, or None where nothing says it.
        clusters: of each row, or None.
        length: bases of an input.
        digest: SHA-256 of the contents of the files.

    Raises:
        ConfigError: no value columns, or a setting that is not allowed.
        InputError: with the line, for a value that is no number or missing, a letter that is no base, or
            a sequence of another length; without one, for missing columns and damaged files.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        value_columns: Sequence[str],
        sequence_column: str | None = None,
        *,
        split_column: str | None = None,
        split_file: str | os.PathLike[str] | None = None,
        cluster_column: str | None = None,
        construct: Construct = Construct(),  # noqa: B008 (immutable)
        missing: str = "error",
    ) -> None:
        self.path = Path(path)
        self.construct = construct
        if not self.path.is_file():
            raise InputError("no such table", path=path)
        allowed = (
            ("pad", construct.pad, SIDES),
            ("crop", construct.crop, SIDES),
            ("missing", missing, MISSING),
        )
        for name, value, known in allowed:
            if value not in known:
                raise ConfigError(f"{name} of the table is {value!r}; allowed: {', '.join(known)}")
        if not value_columns:
            raise ConfigError(f"{path}: name the columns with measured values (data.value_columns)")
        for name in value_columns:
            if list(value_columns).count(name) > 1:
                raise ConfigError(f"{path}: the column {shown(name)} is named twice in data.value_columns")
        if construct.length is not None and construct.length < 1:
            raise ConfigError(f"length of the table is {construct.length}; it must be 1 or more")
        for name, text in (("prefix", construct.prefix), ("suffix", construct.suffix)):
            letter = _OTHER.search(text)
            if letter is not None:
                raise ConfigError(f"{name} of the table has {shown(letter[0])}, which is no base")
        split, cluster = split_column or "split", [cluster_column] if cluster_column else []
        separate = None
        if split_file is not None:
            separate = read_columns(split_file, [split], ["row", *cluster])
        own = [name for name in (split, *cluster) if separate is None or name not in separate.values]
        needed = [name for name in own if name != split or (split_column and separate is None)]
        texts = [sequence_column] if sequence_column else []
        content = read_columns(
            path, [*texts, *value_columns, *needed], [*([] if texts else SEQUENCE_COLUMNS), *own]
        )
        self._lines = content.lines
        sequence = sequence_column or next((n for n in SEQUENCE_COLUMNS if n in content.values), None)
        if sequence is None:
            raise InputError(
                "has no column 'sequence' or 'seq'; name the one with the sequences (data.sequence_column, "
                "gexpr evaluate: --table sequence_column=...)",
                path=path,
            )
        self._sequences: list[Any] = content.values[sequence]
        if not self._sequences:
            raise InputError("the table has no rows", path=path)
        self.names = list(value_columns)
        self.tracks = [
            Track(i, name, name, strand_pair=i, transform="linear") for i, name in enumerate(self.names)
        ]
        self.file_rows = len(self._sequences)
        self.rows = np.arange(len(self._sequences))
        self.values = np.stack([self._numbers(name, content.values[name]) for name in value_columns], axis=1)
        joined = dict(content.values)
        if separate is not None:
            joined.update(self._joined(separate, split_file))
        self.splits = _names(joined[split]) if split in joined else None
        self.clusters = _names(joined[cluster[0]]) if cluster else None
        lacking = np.isnan(self.values).any(axis=1)
        if lacking.any():
            if missing != "drop":
                row = int(np.flatnonzero(lacking)[0])
                name = self.names[int(np.flatnonzero(np.isnan(self.values[row]))[0])]
                raise self.error(
                    row,
                    f"the value of {name} is missing; data.missing: drop (gexpr evaluate: --table "
                    "missing=drop) leaves out such rows",
                )
            if lacking.all():
                raise InputError("no row has all its values, so none is left", path=path)
            self._keep(~lacking)
        if self.clusters is not None and not all(self.clusters):
            row = int(self.rows[list(self.clusters).index("")])
            raise self.error(row, f"no cluster in the column {cluster[0]}; give each row one")
        self.length = self._common_length()
        digest = hashlib.sha256()
        for file in (self.path, split_file):
            if file is not None:
                digest.update(file_digest(file).encode())
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def track_count(self) -> int:
        """Number of values of a row."""
        return len(self.names)

    def error(self, row: int, message: str) -> InputError:
        """What is wrong with a row of the file, with its line."""
        line = self._lines[row]
        if line:
            return InputError(message, path=self.path, line=line)
        return InputError(f"row {row}: {message}", path=self.path)

    def _numbers(self, name: str, texts: list[Any]) -> np.ndarray:
        try:
            values = np.array(texts, dtype=np.float64)
            if np.isfinite(values).all():
                return values
        except (ValueError, TypeError):
            pass
        values = np.empty(len(texts))
        for row, text in enumerate(texts):
            empty = text is None or (isinstance(text, str) and text.strip() in _EMPTY)
            try:
                value = math.nan if empty else float(text)
            except (ValueError, TypeError):
                raise self.error(row, f"the value of {name} is {shown(text)}, not a number") from None
            if math.isinf(value):
                raise self.error(row, f"the value of {name} is infinite")
            values[row] = value
        return values

    def _joined(self, separate: Columns, path: Any) -> dict[str, list[Any]]:
        count = len(self._sequences)
        if len(separate.lines) != count:
            raise InputError(f"has {len(separate.lines):,} rows, {self.path} has {count:,}", path=path)
        found = {name: texts for name, texts in separate.values.items() if name != "row"}
        if "row" not in separate.values:
            return found
        try:
            order = np.array([int(text) for text in separate.values["row"]])
        except (ValueError, TypeError):
            raise InputError("the column 'row' holds something that is no whole number", path=path) from None
        if not np.array_equal(np.sort(order), np.arange(count)):
            raise InputError(
                f"the column 'row' must have each of 0 to {count - 1:,} once: the rows of {self.path}",
                path=path,
            )
        places = np.argsort(order)
        return {name: [texts[place] for place in places] for name, texts in found.items()}

    def _keep(self, kept: np.ndarray) -> None:
        self.rows, self.values = self.rows[kept], self.values[kept]
        self.splits = None if self.splits is None else self.splits[kept]
        self.clusters = None if self.clusters is None else self.clusters[kept]

    def _common_length(self) -> int:
        if self.construct.length is not None:
            return self.construct.length
        fixed = len(self.construct.prefix) + len(self.construct.suffix)
        first = len(self._text(int(self.rows[0]))) + fixed
        for row in self.rows.tolist():
            size = len(self._text(row)) + fixed
            if size != first:
                raise self.error(
                    row,
                    f"{size} bases, the rows before have {first}; give data.length with data.pad or "
                    "data.crop",
                )
        return first

    def _text(self, row: int) -> str:
        text = self._sequences[row]
        if text is None or text == "":
            raise self.error(row, "the sequence is missing")
        if not isinstance(text, str):
            raise self.error(row, f"the sequence is {shown(text)}, which is no text")
        return text

    def codes(self, margin: int = 0) -> np.ndarray:
        """Inputs with ``margin`` bases more on each side: uint8 (rows, length + 2 margin).

        Beyond the input are the bases that were cut off, beyond the construct unknown ones.
        """
        width = self.length + 2 * margin
        codes = np.empty((len(self), width), dtype=np.uint8)
        rows = self.rows.tolist()
        for first in range(0, len(rows), _BLOCK):
            block = rows[first : first + _BLOCK]
            text = "".join([self._input(row, margin, width) for row in block])
            if _OTHER.search(text) is not None:
                for row in block:
                    letter = _OTHER.search(self._input(row, margin, width))
                    if letter is not None:
                        raise self.error(row, f"the sequence has {shown(letter[0])}, which is no base")
            codes[first : first + len(block)] = encode(text).reshape(len(block), width)
        return codes

    def _input(self, row: int, margin: int, width: int) -> str:
        whole = f"{self.construct.prefix}{self._text(row)}{self.construct.suffix}"
        try:
            start = self.construct.span(len(whole), self.length) - margin
        except ValueError as error:
            raise self.error(row, str(error)) from None
        if start == 0 and len(whole) == width:
            return whole
        low, high = max(start, 0), max(min(start + width, len(whole)), 0)
        return f"{'N' * (low - start)}{whole[low:high]}".ljust(width, "N")

    def rows_of(self, split: str) -> np.ndarray:
        """Places of the rows of a split, or of all splits; int64.

        Raises:
            InputError: there is no such split.
        """
        if split == "all":
            return np.arange(len(self))
        if self.splits is None:
            raise InputError(
                "says of no row which split it belongs to; give data.split_column or data.split_file (gexpr "
                "evaluate: --table split_column=..., or --split all)",
                path=self.path,
            )
        found = np.flatnonzero(self.splits == split)
        if not len(found):
            names = [shown_name(name) for name in sorted(set(self.splits))[:20]]
            raise InputError(f"no row of split {split!r}; there are: {', '.join(names)}", path=self.path)
        return found


class TableWindows:
    """The rows of two splits of a table: a ``TrainingSource`` whose windows are whole constructs of one bin.

    Args:
        table: the sequences and values.
        train, valid: splits.
        targets: ``raw`` values; ``standardized``: less the mean and divided by the standard deviation of the
            training rows; ``affine``: ``scale * value + shift``.
        scale, shift: of ``affine``, one for each value or one for all. Without ``scale`` 1; without
            ``shift`` the least that makes no training target negative, 0 where none is.
        fold: deal the rows of both splits (all rows, where the table has no splits) out anew, by cluster
            where the table has clusters.
        margin: bases by which constructs may be shifted.

    Raises:
        ConfigError: constants that do not fit, a value that never varies with ``standardized``.
        InputError: as of :class:`SequenceTable`.
    """

    target_length = 1
    crops = 1
    central_crop = 0
    both_strands = False

    def __init__(
        self,
        table: SequenceTable,
        train: str = "train",
        valid: str = "valid",
        *,
        targets: str = "raw",
        scale: Sequence[float] | None = None,
        shift: Sequence[float] | None = None,
        fold: Fold | None = None,
        margin: int = 0,
    ) -> None:
        self.table, self.path, self.digest = table, table.path, table.digest
        self.context_length = self.bin_size = table.length
        if fold is None:
            self._rows = {split: table.rows_of(split) for split in (train, valid)}
        else:
            whole = table.splits is None
            parts = ["all"] if whole else [train, valid]
            rows = np.sort(np.concatenate([table.rows_of(split) for split in parts]))
            if table.clusters is None:
                groups = np.arange(len(rows))
            else:
                groups = np.unique(table.clusters[rows].astype(str), return_inverse=True)[1]
            owners = deal(np.bincount(groups).tolist(), fold.number)[groups]
            self._rows = {train: rows[owners != fold.index], valid: rows[owners == fold.index]}
        self._margin = margin
        self._codes = table.codes(margin)
        self.scale, self.shift = self._constants(targets, scale, shift, table.values[self._rows[train]])
        with np.errstate(over="ignore", invalid="ignore"):
            self._targets = (table.values * self.scale + self.shift).astype(np.float32)
        for row in self._rows.values():
            large = np.argwhere(~np.isfinite(self._targets[row]))
            if len(large):
                place, column = row[large[0, 0]], large[0, 1]
                raise table.error(
                    int(table.rows[place]),
                    f"the value of {table.names[column]} makes a target too large for float32",
                )
        raw = targets == "raw"
        self.tracks = [
            track if raw else track._replace(scale=float(scale), transform=affine_transform(float(shift)))
            for track, scale, shift in zip(table.tracks, self.scale, self.shift, strict=True)
        ]

    def _constants(
        self, targets: str, scale: Sequence[float] | None, shift: Sequence[float] | None, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        count = values.shape[1]
        if targets == "raw":
            return np.ones(count), np.zeros(count)
        if targets == "standardized":
            mean, sd = values.mean(axis=0), values.std(axis=0)
            for name, each in zip(self.table.names, sd, strict=True):
                if not each > 0:
                    raise ConfigError(
                        f"{self.path}: {name} is the same in all training rows, so it cannot be standardized"
                    )
            return 1.0 / sd, -mean / sd
        scales = np.ones(count) if scale is None else self._broadcast("scale", scale)
        if not (scales > 0).all():
            raise ConfigError(f"data.scale is {list(scale or ())}; it must be above 0")
        least = (values * scales).min(axis=0)
        return scales, np.maximum(-least, 0.0) if shift is None else self._broadcast("shift", shift)

    def _broadcast(self, name: str, given: Sequence[float]) -> np.ndarray:
        count = len(self.table.names)
        if len(given) not in (1, count):
            raise ConfigError(
                f"data.{name} has {len(given)} numbers; give one, or one for each of {count} values"
            )
        return np.broadcast_to(np.asarray(given, dtype=np.float64), (count,)).copy()

    @cached_property
    def strand_pairs(self) -> np.ndarray:
        """int64 (tracks,): every track is its own partner."""
        return np.arange(len(self.tracks))

    @property
    def provenance(self) -> dict[str, Any]:
        """Nothing: a table has no genome."""
        return {}

    def window_count(self, split: str) -> int:
        """Rows of one of the two splits."""
        return len(self._rows[split])

    def draw(self, split: str, draws: Draws) -> Batch:
        """The rows that ``draws`` names, each shifted in its construct; all at once."""
        rows = self._rows[split][draws.windows]
        if self._margin:
            first = self._margin + draws.shifts
            codes = self._codes[rows[:, None], first[:, None] + np.arange(self.context_length)]
        else:
            codes = self._codes[rows]
        return Batch(codes, self._targets[rows][:, None], np.ones((len(rows), 1), dtype=bool))

    def contents(self, split: str) -> list[str]:
        """How many rows a split has."""
        count = len(self._rows.get(split, ()))
        if not count and self.table.splits is not None:
            count = int((self.table.splits == split).sum())
        return [f"{count:,} rows"] if count else []

    def describe(self) -> list[str]:
        """The table, and how its sequences and values became inputs and targets."""
        construct = self.table.construct
        lines = [f"Table of sequences with values (`{self.path.name}`): digest {self.digest[:16]}."]
        parts = [
            f"{name} `{text}`"
            for name, text in (("prefix", construct.prefix), ("suffix", construct.suffix))
            if text
        ]
        if parts:
            lines.append(f"Constructs: {', '.join(parts)} around every sequence.")
        for track in self.tracks:
            if track.transform != "linear":
                shift = float(self.shift[track.index])
                lines.append(f"Target of {track.id}: {track.scale:.6g} x value {shift:+.6g}.")
        return lines
