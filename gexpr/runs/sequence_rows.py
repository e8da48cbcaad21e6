"""The rows of ``gexpr score-sequences``: single sequences, or pairs of a reference and an alternate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from gexpr.datasets.sequence_table import SEQUENCE_COLUMNS, read_columns, table_kind
from gexpr.errors import ConfigError, InputError, shown_name
from gexpr.genome.compressed import read_lines, spool
from gexpr.genome.records import Record, read_records

Result = TypeVar("Result")


class Columns(NamedTuple):
    """Which columns of a table hold what; None is the default."""

    sequence: str | None = None
    reference: str | None = None
    alternate: str | None = None
    id: str | None = None


DEFAULT_COLUMNS = Columns()


class Rows(NamedTuple):
    """Rows in input order.

    ``references`` are the single sequences where ``alternates`` is None. None in place of a sequence is one
    that a table of pairs names and the FASTA lacks. ``lines`` are where each row stands in ``label``; 0 where
    it has no line.
    """

    ids: list[str]
    references: Sequence[str | None]
    alternates: Sequence[str | None] | None
    lines: Sequence[int]
    label: str


def read_rows(
    path: str, second: str | None = None, pairs: str | None = None, columns: Columns = DEFAULT_COLUMNS
) -> Rows:
    """Read the input of ``gexpr score-sequences``.

    Args:
        path: a table or a FASTA file; ``-`` is standard input.
        second: a FASTA file of alternates to the records of ``path``, in the same order.
        pairs: a table whose columns ``ref`` and ``alt`` (or ``columns``) name records of ``path``.
        columns: of the table.

    Raises:
        InputError: a file is missing or damaged, or a column is; records that do not pair.
        ConfigError: files and options that do not go together.
    """
    if sum(each == "-" for each in (path, second, pairs)) > 1:
        raise ConfigError("only one input can be standard input ('-')")
    if second is not None and pairs is not None:
        raise ConfigError("a second FASTA file and --pairs both say what is an alternate of what; give one")
    if second is not None and any(columns):
        raise ConfigError("two FASTA files have no columns; leave out --ref-column and the like")
    single, double = columns.sequence is not None, bool(columns.reference or columns.alternate)
    if single and (double or pairs is not None):
        raise ConfigError(
            "--sequence-column is for single sequences, --ref-column, --alt-column and --pairs are for "
            "pairs; give one or the other"
        )
    if pairs is None and bool(columns.reference) != bool(columns.alternate):
        raise ConfigError("--ref-column and --alt-column name the two sequences of a row; give both")
    if second is not None:
        return _paired(path, _records(path), second, _records(second))
    if pairs is not None:
        return _named(path, _records(path), pairs, columns)
    return _at_path(path, lambda place: _one_file(path, place, columns))


def _one_file(path: str, place: str, columns: Columns) -> Rows:
    if _is_fasta(path, place):
        if any(columns):
            raise ConfigError(
                f"{path} is a FASTA file, which has no columns; leave out --ref-column and the like, or give "
                "--pairs with a table"
            )
        records = list(read_records(place, path))
        return Rows(
            [record.name for record in records],
            [record.sequence for record in records],
            None,
            [record.line for record in records],
            path,
        )
    if columns.reference and columns.alternate:
        wanted: list[str] = [columns.reference, columns.alternate]
        guesses: tuple[str, ...] = ()
    else:
        wanted = [columns.sequence] if columns.sequence else []
        guesses = () if columns.sequence else SEQUENCE_COLUMNS
    ids = [columns.id] if columns.id else []
    content = read_columns(place, [*wanted, *ids], [*guesses, *([] if ids else ["id"])])
    if not wanted:
        wanted = [name for name in guesses if name in content.values][:1]
    if not wanted:
        raise InputError(
            "has no column 'sequence' or 'seq'; say where the sequences are with --sequence-column, or with "
            "--ref-column and --alt-column",
            path=path,
            line=1,
        )
    sequences = [[_text(each) for each in content.values[name]] for name in wanted]
    return Rows(
        _ids(content.values, columns.id, len(sequences[0]), path),
        sequences[0],
        sequences[1] if len(sequences) > 1 else None,
        content.lines,
        path,
    )


def _paired(path: str, references: list[Record], second: str, alternates: list[Record]) -> Rows:
    for number, (one, other) in enumerate(zip(references, alternates, strict=False), start=1):
        if one.name != other.name:
            raise InputError(
                f"record {number} is {shown_name(other.name)}, but that of {path} (line {one.line}) is "
                f"{shown_name(one.name)}; give both files the same names in the same order, or one file and "
                "--pairs",
                path=second,
                line=other.line,
            )
    if len(references) != len(alternates):
        raise InputError(f"{len(alternates):,} records, but {path} has {len(references):,}", path=second)
    return Rows(
        [record.name for record in references],
        [record.sequence for record in references],
        [record.sequence for record in alternates],
        [record.line for record in references],
        path,
    )


def _named(path: str, records: list[Record], pairs: str, columns: Columns) -> Rows:
    known: dict[str, Record] = {}
    for record in records:
        if record.name in known:
            raise InputError(
                f"{shown_name(record.name)} is also the name of the record on line "
                f"{known[record.name].line}; with --pairs names must be unique",
                path=path,
                line=record.line,
            )
        known[record.name] = record
    reference, alternate = columns.reference or "ref", columns.alternate or "alt"
    ids = [columns.id] if columns.id else []
    content = _at_path(
        pairs, lambda place: read_columns(place, [reference, alternate, *ids], [] if ids else ["id"])
    )
    names = [[_text(each) for each in content.values[name]] for name in (reference, alternate)]
    found = [[known[name].sequence if name in known else None for name in column] for column in names]
    if columns.id or "id" in content.values:
        labels = _ids(content.values, columns.id, len(names[0]), pairs)
    else:
        labels = names[1]
    return Rows(labels, found[0], found[1], content.lines, pairs)


def _records(path: str) -> list[Record]:
    return list(read_records(path))


def _ids(values: dict[str, list[Any]], name: str | None, rows: int, path: str) -> list[str]:
    column = values.get(name or "id")
    if column is None:
        return [str(row) for row in range(rows)]
    names = [_text(each) for each in column]
    for row, text in enumerate(names):
        # Text files are refused for it; HDF5 cannot hold it.
        if "\0" in text:
            raise InputError(f"row {row}: a NUL byte in the column {name or 'id'}; remove it", path=path)
    return names


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _at_path(path: str, read: Callable[[str], Result]) -> Result:
    """Call ``read`` with a path that can be read twice; messages name ``path``."""
    place = spool(path, "table or FASTA file")
    try:
        return read(place or path)
    except InputError as error:
        if place is None or error.path != place:
            raise
        raise InputError(error.message, path=path, line=error.line, offset=error.offset) from None
    finally:
        if place is not None:
            os.unlink(place)


def _is_fasta(path: str, place: str) -> bool:
    if table_kind(path) == "parquet":
        return False
    for _, line in read_lines(place, "table or FASTA file", path):
        if line.strip():
            return line.startswith(">")
    raise InputError("holds no sequence", path=path)
