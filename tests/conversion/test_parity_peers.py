"""Converted weights beside the programs that they come from; skipped where those are not installed.

``tests/benchmarks/parity.py`` says which they are, and compares more and larger models.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PACKAGES = {
    "enformer-pytorch": ("enformer_pytorch",),
    "borzoi-pytorch": ("borzoi_pytorch",),
    "flashzoi": ("borzoi_pytorch", "flash_attn"),
}
PARTS = {
    "enformer-pytorch": ["attention", "content bias", "position bias", "positions"],
    "borzoi-pytorch": ["attention", "content bias", "position bias", "positions"],
    "flashzoi": ["attention", "biases of q, k, v", "positions"],
}


@pytest.mark.parametrize("name", ["features", "positions", "borzoi-pytorch", "flashzoi"])
def test_predictions_are_those_of_the_other_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    program = name if name in PACKAGES else "enformer-pytorch"
    for package in PACKAGES[program]:
        if find_spec(package) is None:  # flash_attn without its kernels cannot be imported as it is
            pytest.skip(f"{package} is not installed")
    import parity

    case = next(case for case in parity.SMALL if name in (case.program, case.gamma))
    row = parity.compare(case)
    assert row["float64"] < 1e-12
    assert row["float32"] < 1e-5 and row["as installed"] < 1e-5
    assert parity.passes(row)
    effects = row["effects"]
    assert list(effects) == PARTS[program]
    assert min(effects.values()) > 1e-3, "a mistake in any part would be seen"
