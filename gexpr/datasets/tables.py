"""The table that names the tracks of a dataset: which files, which strand, which transformation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gexpr.errors import InputError
from gexpr.results import Track

POOLS = ("sum", "mean", "max", "sum_sqrt")
FORMATS = ("bed", "bedgraph", "bigwig")
STRANDS = ("+", "-", ".")
COLUMNS = (
    "id",
    "label",
    "files",
    "format",
    "assay",
    "cell_type",
    "strand",
    "strand_pair",
    "scale",
    "clip",
    "clip_soft",
    "sum_stat",
    "transform",
    "count_column",
)


@dataclass(frozen=True)
class TrackSpec:
    """One line of the track table.

    Attributes:
        files: replicates; their values are summed base by base.
        format: ``bed``, ``bedgraph`` or ``bigwig``.
        strand: ``+`` or ``-`` counts only BED lines of that strand; ``.`` counts all.
        strand_pair: id of the same signal on the other strand; empty for none.
        scale: multiplier of the coverage, applied before pooling.
        clip: hard upper limit after pooling; None for none.
        clip_soft: values above it grow as a square root, after pooling; None for none.
        sum_stat: how the bases of a bin become one number: ``sum``, ``mean``, ``max``, or
            ``sum_sqrt``, which is sqrt(1 + sum) - 1.
        transform: what a prediction means (:class:`gexpr.results.Track`).
        count_column: 1-based BED column that holds the count.
        line: line of the table.
    """

    id: str
    label: str
    files: tuple[Path, ...]
    format: str
    assay: str = ""
    cell_type: str = ""
    strand: str = "."
    strand_pair: str = ""
    scale: float = 1.0
    clip: float | None = None
    clip_soft: float | None = None
    sum_stat: str = "sum"
    transform: str = "count"
    count_column: int = 5
    line: int = 0


def guess_format(path: Path) -> str | None:
    """The format that a file's suffix names (``bed``, ``bedgraph``, ``bigwig``), or None."""
    name = path.name.lower()
    for suffix in (".gz", ".bgz"):
        name = name.removesuffix(suffix)
    suffix = name.rpartition(".")[2]
    if suffix in ("bw", "bigwig"):
        return "bigwig"
    if suffix in ("bedgraph", "bdg", "bg"):
        return "bedgraph"
    return "bed" if suffix == "bed" else None


def read_track_table(path: str | os.PathLike[str]) -> list[TrackSpec]:
    """Read a tab-separated track table.

    The first line names the columns, in any order; ``id`` and ``files`` are required, the others
    (:data:`COLUMNS`) have the defaults of :class:`TrackSpec`. Files are separated by commas and
    are relative to the table. Empty cells and ``.`` mean the default (``strand`` keeps ``.``).

    Raises:
        InputError: with the line, for an unknown column, a bad value, a missing file, a repeated
            id, or a ``strand_pair`` that is not mutual.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the track table: {error}", path=path) from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line.strip() and not line.startswith("##")]
    if not lines:
        raise InputError("the track table is empty; the first line names the columns", path=path)
    header_line, header = lines[0][0], lines[0][1].lstrip("#").rstrip("\r").split("\t")
    header = [name.strip() for name in header]
    for name in header:
        if name not in COLUMNS:
            raise InputError(
                f"unknown column {name!r}; the columns are tab-separated: {', '.join(COLUMNS)}",
                path=path,
                line=header_line,
            )
    if len(set(header)) != len(header):
        raise InputError("a column is named twice", path=path, line=header_line)
    for name in ("id", "files"):
        if name not in header:
            raise InputError(f"the column {name!r} is missing", path=path, line=header_line)
    specs = [_spec(path, number, header, line) for number, line in lines[1:]]
    if not specs:
        raise InputError("the track table names no track", path=path)
    _check_pairs(path, specs)
    return specs


def _spec(path: Path, number: int, header: list[str], line: str) -> TrackSpec:
    cells = line.rstrip("\r").split("\t")
    if len(cells) != len(header):
        raise InputError(
            f"{len(cells)} columns where the header has {len(header)}; columns are separated by tabs",
            path=path,
            line=number,
        )
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    row = {name: cell for name, cell in row.items() if cell not in ("", ".")}

    def fail(message: str) -> InputError:
        return InputError(message, path=path, line=number)

    def number_of(name: str) -> float | None:
        if name not in row:
            return None
        try:
            value = float(row[name])
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise fail(f"{name} is {row[name]!r}; it must be a number above 0")
        return value

    def choice(name: str, allowed: tuple[str, ...], default: str) -> str:
        value = row.get(name, default)
        if value not in allowed:
            raise fail(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        return value

    if "id" not in row:
        raise fail("the track has no id")
    names = [name.strip() for name in row.get("files", "").split(",") if name.strip()]
    if not names:
        raise fail(f"track {row['id']!r} names no file")
    files = tuple((path.parent / name) for name in names)
    for file in files:
        if not file.is_file():
            raise fail(f"track {row['id']!r}: file not found: {file}")
    if "format" in row:
        kind = choice("format", FORMATS, "bed")
    else:
        kinds = {guess_format(file) for file in files}
        if len(kinds) != 1 or None in kinds:
            raise fail(
                f"track {row['id']!r}: cannot tell the format of {', '.join(names)} from the suffix; "
                f"use one of .bed, .bedgraph, .bw for all files, or a column format ({', '.join(FORMATS)})"
            )
        kind = kinds.pop() or ""
    column = row.get("count_column", "5")
    if not column.isdigit() or int(column) < 4:
        raise fail(f"count_column is {column!r}; it must be a column number, 4 or more")
    clip, clip_soft = number_of("clip"), number_of("clip_soft")
    if clip_soft is not None and clip_soft < 1:
        raise fail(f"clip_soft is {row['clip_soft']!r}; it must be 1 or more")
    return TrackSpec(
        id=row["id"],
        label=row.get("label", row["id"]),
        files=files,
        format=kind,
        assay=row.get("assay", ""),
        cell_type=row.get("cell_type", ""),
        strand=choice("strand", STRANDS, "."),
        strand_pair=row.get("strand_pair", ""),
        scale=number_of("scale") or 1.0,
        clip=clip,
        clip_soft=clip_soft,
        sum_stat=choice("sum_stat", POOLS, "sum"),
        transform=row.get("transform", "count"),
        count_column=int(column),
        line=number,
    )


def _check_pairs(path: Path, specs: list[TrackSpec]) -> None:
    by_id: dict[str, TrackSpec] = {}
    for spec in specs:
        if spec.id in by_id:
            raise InputError(f"the id {spec.id!r} is used twice", path=path, line=spec.line)
        by_id[spec.id] = spec
    for spec in specs:
        if not spec.strand_pair:
            continue
        partner = by_id.get(spec.strand_pair)
        if partner is None:
            raise InputError(
                f"strand_pair {spec.strand_pair!r} of track {spec.id!r} is not an id of this table",
                path=path,
                line=spec.line,
            )
        if (partner.strand_pair or partner.id) != spec.id:
            raise InputError(
                f"strand_pair is not mutual: {spec.id!r} names {partner.id!r}, "
                f"which names {partner.strand_pair or 'none'!r}",
                path=path,
                line=spec.line,
            )
        if partner is not spec and sorted((spec.strand, partner.strand)) != ["+", "-"]:
            raise InputError(
                f"tracks {spec.id!r} and {partner.id!r} are strand partners but have the strands "
                f"{spec.strand!r} and {partner.strand!r}; they must be + and -",
                path=path,
                line=spec.line,
            )


def tracks_of(specs: list[TrackSpec]) -> list[Track]:
    """The :class:`~gexpr.results.Track` records of a table, in its order."""
    index = {spec.id: i for i, spec in enumerate(specs)}
    return [
        Track(
            index=i,
            id=spec.id,
            label=spec.label,
            assay=spec.assay,
            cell_type=spec.cell_type,
            strand=spec.strand,
            strand_pair=index[spec.strand_pair] if spec.strand_pair else i,
            scale=spec.scale,
            transform=spec.transform,
        )
        for i, spec in enumerate(specs)
    ]
