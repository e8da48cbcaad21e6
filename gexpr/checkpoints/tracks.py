"""The table of tracks, ``tracks.tsv``: one row an output of the model."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from gexpr.checkpoints.weights import control_character
from gexpr.errors import InputError
from gexpr.results import AFFINE, Track, affine_shift

COLUMNS = Track._fields
TRANSFORMS = ("count", "log2", "ln", "linear")
STRANDS = ("+", "-", ".")
MAX_BYTES = 64 << 20


def read_tracks(path: str | os.PathLike[str]) -> list[Track]:
    """Read a table of tracks and check every value.

    The header names the columns, in any order; ``index``, ``id`` and ``label`` are needed, the
    others default as in :class:`gexpr.results.Track`. An empty ``strand_pair`` means the track's
    own index.

    Raises:
        InputError: with the line at fault.
    """
    try:
        with open(path, "rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InputError(f"more than {MAX_BYTES:,} bytes: this is no table of tracks", path=path)
        lines = [line.removesuffix("\r") for line in raw.decode("utf-8").removeprefix("\ufeff").split("\n")]
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text ({error.reason})", path=path, offset=error.start) from error
    except FileNotFoundError as error:
        raise InputError("no such file", path=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"empty; a header line with {', '.join(COLUMNS)} is needed", path=path)
    header = lines[0].split("\t")
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in ("index", "id", "label") if name not in header]
    if unknown or missing or len(set(header)) != len(header):
        fault = (
            f"unknown column {unknown[0][:60]!r}"
            if unknown
            else f"column {missing[0]!r} is missing"
            if missing
            else "a column is named twice"
        )
        raise InputError(f"{fault}; tab-separated columns are {', '.join(COLUMNS)}", path=path, line=1)
    tracks: list[Track] = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise InputError(
                f"{len(fields)} tab-separated fields, the header has {len(header)}", path=path, line=number
            )
        try:
            tracks.append(_parse(dict(zip(header, fields, strict=True))))
        except ValueError as error:
            raise InputError(str(error), path=path, line=number) from error
    try:
        check_tracks(tracks)
    except ValueError as error:
        raise InputError(str(error), path=path) from error
    return tracks


def write_tracks(path: str | os.PathLike[str], tracks: Sequence[Track]) -> None:
    """Write a table of tracks that :func:`read_tracks` reads back equal.

    A ``strand_pair`` of -1 is written as the track's own index.

    Raises:
        ValueError: for tracks that :func:`read_tracks` would refuse.
    """
    tracks = with_own_pairs(tracks)
    check_tracks(tracks)
    rows = ["\t".join(COLUMNS)]
    for track in tracks:
        fields = [str(value) for value in track]
        rows.append("\t".join(fields))
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        handle.write("\n".join(rows) + "\n")


def with_own_pairs(tracks: Sequence[Track]) -> list[Track]:
    """The tracks with each ``strand_pair`` of -1 replaced by the track's own index."""
    return [track._replace(strand_pair=track.index) if track.strand_pair == -1 else track for track in tracks]


def check_tracks(tracks: Sequence[Track]) -> None:
    """Raise ValueError unless indices count from 0, ids are unique and strand pairs are mutual."""
    ids: dict[str, int] = {}
    for position, track in enumerate(tracks):
        name = f"track {position} ({track.id[:60]!r})"
        if track.index != position:
            raise ValueError(f"{name}: index {track.index}, expected {position}: rows count from 0")
        if not track.id:
            raise ValueError(f"{name}: empty id")
        for column in ("id", "label", "assay", "cell_type", "transform"):
            if (character := control_character(getattr(track, column))) is not None:
                raise ValueError(f"{name}: the {column} contains the control character {character}")
        if track.id in ids:
            raise ValueError(f"{name}: the id is also that of track {ids[track.id]}")
        ids[track.id] = position
        if track.strand not in STRANDS:
            raise ValueError(f"{name}: strand {track.strand[:60]!r} is none of {' '.join(STRANDS)}")
        if not (math.isfinite(track.scale) and track.scale > 0):
            raise ValueError(f"{name}: scale {track.scale} is not a positive number")
        _check_transform(name, track.transform)
        if not 0 <= track.strand_pair < len(tracks):
            raise ValueError(f"{name}: strand_pair {track.strand_pair} is not one of 0..{len(tracks) - 1}")
        if tracks[track.strand_pair].strand_pair != track.index:
            raise ValueError(
                f"{name}: strand_pair is {track.strand_pair}, but the pair of that track is "
                f"{tracks[track.strand_pair].strand_pair}"
            )


def _check_transform(name: str, transform: str) -> None:
    try:
        affine = affine_shift(transform) is not None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if transform not in TRANSFORMS and not affine and not transform.startswith("squashed:"):
        raise ValueError(
            f"{name}: transform {transform[:60]!r} is none of {', '.join(TRANSFORMS)}, "
            f"{AFFINE}NUMBER, squashed:..."
        )


def _parse(row: dict[str, str]) -> Track:
    def number(name: str, kind: type[int] | type[float], default: float) -> float:
        text = row.get(name, "").strip()
        if not text:
            return default
        try:
            return kind(text)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise ValueError(f"{name} {text[:60]!r} is not {expected}") from None

    if not row["index"].strip():
        raise ValueError("empty index")
    index = int(number("index", int, -1))
    return Track(
        index=index,
        id=row["id"],
        label=row["label"],
        assay=row.get("assay", ""),
        cell_type=row.get("cell_type", ""),
        strand=row.get("strand", "") or ".",
        strand_pair=int(number("strand_pair", int, index)),
        scale=float(number("scale", float, 1.0)),
        transform=row.get("transform", "") or "count",
    )
