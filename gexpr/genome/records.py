"""FASTA files of many short sequences, read from start to end; genomes: :mod:`gexpr.genome.fasta`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from gexpr.errors import InputError, shown
from gexpr.genome.compressed import read_lines


class Record(NamedTuple):
    """One sequence; ``name`` is the first word behind ``>``, which stands on ``line``."""

    name: str
    sequence: str
    line: int


def read_records(path: str | os.PathLike[str], label: str | None = None) -> Iterator[Record]:
    """The records of a FASTA file (plain, gzip, BGZF; ``-`` is standard input) in order.

    Names may be repeated and sequences may be empty; lines of a sequence are joined without blanks.

    Raises:
        InputError: text before the first ``>``, a record without a name, or as :func:`read_lines`.
    """
    name, start = "", 0
    pieces: list[str] = []
    label = os.fspath(path) if label is None else label
    for number, line in read_lines(path, "FASTA file", label):
        if line.startswith(">"):
            if start:
                yield Record(name, "".join(pieces), start)
            words = line[1:].split(maxsplit=1)
            if not words:
                raise InputError("a record without a name; write one behind '>'", path=label, line=number)
            name, start, pieces = words[0], number, []
        elif line.strip():
            if not start:
                raise InputError(
                    f"{shown(line, 40)} before the first line that starts with '>': this is no FASTA file",
                    path=label,
                    line=number,
                )
            pieces.append("".join(line.split()))
    if start:
        yield Record(name, "".join(pieces), start)
