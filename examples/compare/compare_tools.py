"""What the scripts of this folder share: names of models, tables as Markdown or TSV, colors and pictures."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Okabe and Ito's colors, which readers with any color vision tell apart; and line styles for more than eight.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#888888")
STYLES = ("-", "--", ":")


def label_of(path: Path | str) -> str:
    """What a picture or a table calls a model: NAME of runs/NAME/checkpoint, evaluations/NAME or NAME.h5."""
    path = Path(path)
    return path.resolve().parent.name if path.name == "checkpoint" else path.name.removesuffix(path.suffix)


class Table:
    """Rows with named columns, printed as Markdown or TSV.

    Args:
        columns: names, in order.
        digits: decimals of a column's floats in Markdown; three significant digits in columns ``p``.
    """

    def __init__(self, columns: Sequence[str], digits: Mapping[str, int] | None = None) -> None:
        self.columns = list(columns)
        self.digits = dict(digits or {})
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; columns it lacks are empty."""
        unknown = [name for name in row if name not in self.columns]
        if unknown:
            raise KeyError(f"no column {unknown[0]!r}")
        self.rows.append(dict(row))

    def cell(self, name: str, value: Any) -> str:
        """A value as Markdown shows it."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, float):
            return f"{value:.2g}" if name == "p" else f"{value:,.{self.digits.get(name, 0)}f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    def markdown(self) -> str:
        """The table in Markdown; columns without any value are left out."""
        used = [name for name in self.columns if any(self.cell(name, row.get(name)) for row in self.rows)]
        lines = ["| " + " | ".join(used) + " |", "|" + "---|" * len(used)]
        for row in self.rows:
            lines.append("| " + " | ".join(self.cell(name, row.get(name)) for name in used) + " |")
        return "\n".join(lines)

    def tsv(self) -> str:
        """The table as TSV, every column, floats with six significant digits."""
        lines = ["\t".join(self.columns)]
        for row in self.rows:
            values = [row.get(name) for name in self.columns]
            lines.append(
                "\t".join(
                    "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
                    for value in values
                )
            )
        return "\n".join(lines)

    def print(self, kind: str) -> None:
        """Print as ``markdown`` or ``tsv``."""
        print(self.tsv() if kind == "tsv" else self.markdown())


def add_format(parser: argparse.ArgumentParser) -> None:
    """The option --format."""
    parser.add_argument("--format", choices=("markdown", "tsv"), default="markdown")


def save_picture(figure: Any, path: Path) -> None:
    """Save a matplotlib figure; equal content gives equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else None)
    print(f"written to {path}")
