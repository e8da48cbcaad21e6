"""Reading and checking ``model.safetensors`` before anything is allocated from what it claims.

safetensors: 8 bytes little-endian header length, a JSON header ``{name: {dtype, shape,
data_offsets}}``, then the tensors' bytes one after the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import unicodedata
from pathlib import Path
from typing import NamedTuple

from gexpr.errors import CheckpointError, shown

MAX_HEADER_BYTES = 8 << 20
MAX_DIMENSIONS = 16
DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
FLOAT_DTYPES = ("F32", "F16", "BF16", "F64")
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")

PICKLED = (
    "refused: a pickled PyTorch file ({}) can run any code when it is opened; "
    "gexpr reads safetensors only (docs/checkpoints.md says how to convert in a process you trust)"
)


class TensorEntry(NamedTuple):
    """What the header of a safetensors file says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


def brief(text: object, length: int = 300) -> str:
    """The first line of a text, or of an error's message, cut to a length."""
    line = (str(text).strip().splitlines() or [type(text).__name__])[0]
    return line if len(line) <= length else f"{line[: length - 3]}..."


def control_character(text: str, allowed: str = "") -> str | None:
    """The first control character or lone surrogate in a text, as ``U+001B``; None when there is none.

    Such characters cannot be written to every file, and can change what a terminal shows.
    """
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in allowed:
            return f"U+{ord(character):04X}"
    return None


def foreign_kind(path: Path) -> str | None:
    """What a file is, when its first bytes show that it is not ours: HTML, LFS pointer, pickle.

    Returns:
        A message for the user, or None when nothing is recognized.
    """
    with open(path, "rb") as handle:
        head = handle.read(512)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "an HTML page, not a checkpoint file: the download got a web page; download the raw file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: run 'git lfs pull' where it was cloned"
    if head.startswith(b"PK\x03\x04"):
        return PICKLED.format("zip archive as torch.save writes")
    if len(head) > 1 and head[0] == 0x80 and head[1] in (2, 3, 4, 5):
        return PICKLED.format("Python pickle")
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return PICKLED.format(path.suffix)
    return None


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Read the header of a safetensors file and hold it against the file's length.

    Allocates no more than the header's own bytes, at most :data:`MAX_HEADER_BYTES`.

    Raises:
        CheckpointError: for a file that is truncated, has bytes left over, claims a tensor larger than
            the file, or is no safetensors file.
    """
    kind = foreign_kind(path)
    if kind is not None:
        raise CheckpointError(f"{path}: {kind}")
    size = path.stat().st_size
    if size < 8:
        raise CheckpointError(f"{path}: truncated: {size} bytes, a safetensors file has at least 8")
    with open(path, "rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{path}: not a safetensors file: it begins with a header length of {length} bytes"
            )
        if 8 + length > size:
            raise CheckpointError(
                f"{path}: truncated: the header should end at byte {8 + length}, the file has {size} bytes"
            )
        raw = handle.read(length)
    try:
        header = parse_json(raw)
    except ValueError as error:
        raise CheckpointError(f"{path}: the safetensors header is damaged: {brief(error)}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the safetensors header is damaged: not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: the safetensors header is damaged: __metadata__ is no table of texts")

    entries: dict[str, TensorEntry] = {}
    spans: list[tuple[int, int, str]] = []
    data_bytes = size - 8 - length
    for name, value in header.items():
        entry, (begin, end) = _entry(path, name, value)
        expected = DTYPE_BYTES[entry.dtype]
        for extent in entry.shape:
            expected *= extent
        shape = shown(list(entry.shape))
        if expected > data_bytes:
            raise CheckpointError(
                f"{path}: tensor {shown(name)} claims shape {shape} {entry.dtype} = {expected} bytes, "
                f"more than the {data_bytes} bytes of data in the file (truncated or damaged)"
            )
        if end - begin != expected:
            raise CheckpointError(
                f"{path}: tensor {shown(name)} of shape {shape} {entry.dtype} needs {expected} bytes, "
                f"its offsets {begin}..{end} give {end - begin}"
            )
        entries[name] = entry
        spans.append((begin, end, name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise CheckpointError(
                f"{path}: the safetensors header is damaged: tensor {shown(name)} begins at byte {begin} "
                f"of the data, expected {position}"
            )
        position = end
    if position > data_bytes:
        raise CheckpointError(
            f"{path}: truncated: the tensors need {position} bytes, {data_bytes} follow the header"
        )
    if position < data_bytes:
        raise CheckpointError(f"{path}: {data_bytes - position} bytes follow the last tensor")
    return entries


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fsync(path: str | os.PathLike[str]) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse_json(raw: bytes) -> object:
    """JSON in UTF-8, strictly: no name twice in an object, no NaN, no nesting without end.

    Raises:
        ValueError: it is not.
    """
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested without end") from error


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _entry(path: Path, name: str, value: object) -> tuple[TensorEntry, tuple[int, int]]:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{path}: the safetensors header is damaged at tensor {shown(name)}")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise CheckpointError(
            f"{path}: tensor {shown(name)} has type {shown(dtype)}, which gexpr does not read"
        )
    if not (_whole_numbers(shape, MAX_DIMENSIONS) and _whole_numbers(offsets, 2) and len(offsets) == 2):
        raise CheckpointError(f"{path}: the safetensors header is damaged at tensor {shown(name)}")
    return TensorEntry(dtype, tuple(shape)), (offsets[0], offsets[1])


def _whole_numbers(values: object, most: int) -> bool:
    """Whether this is a list of at most ``most`` sizes of 64 bits."""
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(type(value) is int and 0 <= value < 1 << 64 for value in values)
    )
