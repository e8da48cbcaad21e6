"""From what the user wrote (``yeast-tss`` or a path) to a checkpoint folder."""

from __future__ import annotations

import os
from pathlib import Path

from gexpr.checkpoints.weights import foreign_kind
from gexpr.errors import CheckpointError, did_you_mean, shown

BUILTIN_FOLDER = Path(__file__).resolve().parent.parent / "data" / "checkpoints"


def builtin_names() -> list[str]:
    """Names of the checkpoints that come with the package, sorted."""
    if not BUILTIN_FOLDER.is_dir():
        return []
    return sorted(path.name for path in BUILTIN_FOLDER.iterdir() if (path / "config.json").is_file())


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a built-in checkpoint or the folder that a path names.

    A built-in name comes first; a folder of the same name is reached as ``./NAME``.

    Raises:
        CheckpointError: when there is no such name or folder, or the path names a single file
            (said with what kind of file it is).
    """
    text = os.fspath(name_or_path)
    names = builtin_names()
    if text in names:
        return BUILTIN_FOLDER / text
    if "://" in text:
        raise CheckpointError(f"{text}: a checkpoint is a folder on this machine; download it first")
    path = Path(text)
    try:
        is_folder, is_file = bool(text) and path.is_dir(), path.is_file()
    except OSError as error:
        raise CheckpointError(f"{shown(text)}: cannot be read: {error.strerror}") from error
    if is_folder:
        return path
    if is_file:
        kind = foreign_kind(path)
        if kind is not None:
            raise CheckpointError(f"{path}: {kind}")
        if path.name in ("config.json", "model.safetensors", "tracks.tsv"):
            raise CheckpointError(f"{path}: a checkpoint is a folder; give {str(path.parent)!r}")
        raise CheckpointError(f"{path}: not a checkpoint, which is a folder with config.json")
    hint = did_you_mean(text, names)
    known = ", ".join(names) if names else "none"
    raise CheckpointError(f"no checkpoint {text!r}: neither a folder nor a built-in name ({known}){hint}")
