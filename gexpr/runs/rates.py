"""How fast a checkpoint ran on this kind of machine, remembered for ``--dry-run``.

One small JSON file a combination of checkpoint, settings and hardware, in the cache folder.
Nothing depends on it: where it cannot be read or written it is left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gexpr.errors import GexprError
from gexpr.genome.cache import cache_folder
from gexpr.writers.output import publish, remove_leftovers

_DETERMINING = (
    "gexpr_version",
    "torch_version",
    "checkpoint_sha256",
    "settings_sha256",
    "precision",
    "compiled",
    "batch_size",
    "device",
)


def _path(fingerprint: Mapping[str, Any]) -> Path:
    values = {name: fingerprint.get(name) for name in _DETERMINING}
    if values["device"] == "cpu":
        values["threads"] = torch.get_num_threads()
        values["processor"] = _processor()
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "rates" / f"{digest[:32]}.json"


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine


def remember(fingerprint: Mapping[str, Any], forwards: int, seconds: float) -> None:
    """Keep the time that a run took for its forward passes, each of one batch."""
    if forwards < 1 or seconds <= 0:
        return
    path = _path(fingerprint)
    with contextlib.suppress(OSError, GexprError):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        publish(path, [json.dumps({"seconds_a_forward": seconds / forwards}).encode()])


def remembered(fingerprint: Mapping[str, Any]) -> float | None:
    """Seconds a forward pass of one batch took when this was last run here, or None."""
    try:
        value = json.loads(_path(fingerprint).read_text(encoding="utf-8"))["seconds_a_forward"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e6 else None
