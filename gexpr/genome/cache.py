"""The user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where derived files go: ``cache_dir``, else ``$GEXPR_CACHE``, else ``gexpr`` in the XDG cache.

    The folder need not exist yet.
    """
    if cache_dir is not None:
        return Path(cache_dir)
    if value := os.environ.get("GEXPR_CACHE"):
        return Path(value)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(os.path.expanduser("~")) / ".cache") / "gexpr"
