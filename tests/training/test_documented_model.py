"""The architecture of docs/extending.md trains as the page says."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import gexpr
from gexpr import checkpoints
from gexpr.models import registry
from gexpr.training import from_dict, train

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def block(kind: str) -> str:
    """The page's block of a kind."""
    if not PAGE.exists():
        pytest.skip("the documentation is not here")
    (text,) = re.findall(
        rf"^```{kind}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return str(text)


def test_it_learns(motif_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Dataclasses look their module up by name.
    names: dict[str, Any] = {"__name__": "gexpr.models.base"}
    exec(compile(block("python"), "docs/extending.md", "exec"), names)
    monkeypatch.setitem(registry._ARCHITECTURES, "stack", names["Stack"])
    settings = yaml.safe_load(block("yaml"))
    settings["data"]["path"] = str(motif_dataset)
    settings["schedule"] = {"steps": 40}
    settings["training"] = {"batch_size": 4, "steps_per_epoch": 10}
    result = train(from_dict(settings), tmp_path / "run", device="cpu", threads=1)

    info = checkpoints.describe(result.checkpoint)
    assert (info.architecture, info.bin_size, info.target_length) == ("stack", 16, 8)
    assert info.settings["channels"] == 64
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train_loss"]) for row in rows]
    assert losses[-1] < losses[0]
    model = gexpr.load(result.checkpoint)
    found = model.score(motif_dataset.parent / "genome.fa", ["chr4:1000:A:C", "chr4:1000:A:G"])
    scored = [variant.ok for variant in found.variants]
    assert np.isfinite(found.values[0][scored]).all()
