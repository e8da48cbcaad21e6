"""The picture of memory and time against context length is drawn from both programs' records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "plot_memory.py"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["json", "tsv"])
def test_memory_is_drawn(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"record.{kind}"
    if kind == "json":
        rows = [
            {"title": "dense", "part": "training", "bp": 131_072, "peak": 2**30, "cpu_seconds": 1.0},
            {"title": "dense", "part": "training", "bp": 262_144, "note": "does not fit in 16 GiB"},
        ]
        path.write_text(json.dumps({"results": rows}))
    else:
        path.write_text(
            "bins\tbp\tname\tattention\tpass\tpeak_mib\tseconds\tcpu_seconds\tnote\n"
            "1024\t131072\tBasenji2\tdense\ttraining\t157\t0.33\t0.33\t\n"
            "2048\t262144\t\tdense\ttraining\t\t\t\tdoes not fit in 16 GiB\n"
        )
    picture = tmp_path / "memory.svg"
    done = _run(str(path), "-o", str(picture))
    assert done.returncode == 0, done.stderr
    assert "does not fit in 16 GiB" in picture.read_text()
    refused = _run(str(path), "--part", "inference", "-o", str(picture))
    assert refused.returncode == 1
    assert "has no part 'inference'; it has: training" in refused.stderr
