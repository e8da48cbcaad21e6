"""The genome models that share Basenji's convolutions: trained, saved, and scored with by both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from toy_models import write_vcf

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.genome.fasta import Fasta

CONVOLUTIONS = {
    "channels": [8, 10, 12],
    "kernels": [6, 4, 3],
    "pools": [1, 4, 4],
    "dropout": 0.0,
    "final_channels": 14,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "basenji": (
        "basenji",
        {
            "form": "dense",
            "dilated_layers": 2,
            "dilated_channels": 4,
            "dilated_rate": 2,
            "activation": "relu",
        },
    ),
    "standard": ("standard", {}),
    "exp_decay": ("exp_decay", {"learned": True, "decays": [0.1, 0.5], "link": "softplus"}),
    "decay_attention": ("decay_attention", {"attention_heads": [2, 1]}),
}


def run(*arguments: str) -> None:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output + repr(result.exception)


@pytest.mark.parametrize("name", MODELS)
def test_trained_and_scored(
    name: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))
    architecture, changes = MODELS[name]
    settings["model"] = {"architecture": architecture, "settings": {**CONVOLUTIONS, **changes}}
    settings["schedule"] = {"steps": 4, "warmup_steps": 1}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    run("train", str(config), "-o", str(tmp_path / "run"), "--device", "cpu", "--threads", "1")
    model = checkpoints.load(tmp_path / "run" / "checkpoint")
    assert checkpoints.describe(tmp_path / "run" / "checkpoint").architecture == architecture
    again = model.config.from_dict(model.config.to_dict())
    assert again == model.config

    fasta = Path(settings["data"]["path"]).parent / "genome.fa"
    bases = Fasta(fasta).fetch("chr1", 0, 600)
    other = {"A": "C", "C": "G", "G": "T", "T": "A"}
    records = [("chr1", at + 1, f"v{at}", bases[at], other[bases[at]]) for at in (200, 301, 402)]
    records.append(("chr1", 450, "deletion", bases[449:455], bases[449]))
    vcf = write_vcf(tmp_path / "v.vcf", records)
    found = {}
    for engine in ("plain", "incremental"):
        output = tmp_path / f"{engine}.h5"
        run(
            *["score-variants", "-c", str(tmp_path / "run" / "checkpoint"), "-f", str(fasta)],
            *["-o", str(output), "--device", "cpu", "--engine", engine, str(vcf)],
        )
        with h5py.File(output) as file:
            found[engine] = np.array(file["logFC"] if "logFC" in file else file["SAD"], dtype=np.float64)
    largest = np.abs(found["plain"]).max()
    assert np.isfinite(found["plain"]).all() and largest > 0
    np.testing.assert_allclose(found["incremental"], found["plain"], rtol=0, atol=5e-3 * largest)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
