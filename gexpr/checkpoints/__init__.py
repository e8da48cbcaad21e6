"""Model checkpoints: folders of config.json, model.safetensors, tracks.tsv and README.md.

The format is specified in docs/checkpoints.md. Nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

from gexpr.checkpoints.ensembles import load_all, split_names
from gexpr.checkpoints.folder import CheckpointInfo, describe, load, save
from gexpr.checkpoints.names import builtin_names, resolve
from gexpr.checkpoints.tracks import read_tracks, write_tracks

__all__ = [
    "CheckpointInfo",
    "builtin_names",
    "describe",
    "load",
    "load_all",
    "read_tracks",
    "resolve",
    "save",
    "split_names",
    "write_tracks",
]
