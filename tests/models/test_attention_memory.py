"""The attention benchmarks run, and block-sparse attention needs less memory than dense where promised."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "attention_memory.py"
BESIDE_OTHERS = SCRIPT.with_name("attention.py")


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc"
)
def test_sparse_needs_less_memory_than_dense() -> None:
    command = [sys.executable, str(SCRIPT), "--bins", "1024", "--kinds", "dense,sparse", "--channels", "384"]
    command += ["--passes", "forward+backward", "--repeats", "1", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {row["attention"]: row for row in csv.DictReader(done.stdout.splitlines(), delimiter="\t")}
    assert [row["name"] for row in rows.values()] == ["Basenji2", "Basenji2"]
    assert [row["note"] for row in rows.values()] == ["", ""]
    assert 0 < float(rows["sparse"]["peak_mib"]) < 0.75 * float(rows["dense"]["peak_mib"])


def test_what_does_not_fit_is_recorded() -> None:
    command = [sys.executable, str(SCRIPT), "--bins", "2048", "--kinds", "dense", "--channels", "96"]
    command += ["--passes", "forward", "--memory-limit", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = csv.DictReader(done.stdout.splitlines(), delimiter="\t")
    assert (row["peak_mib"], row["note"]) == ("", "does not fit in 0.1 GiB")


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc"
)
def test_attention_beside_others(tmp_path: Path) -> None:
    record = tmp_path / "attention.json"
    command = [sys.executable, str(BESIDE_OTHERS), "--lengths", "1024", "--kinds", "dense,sparse+positions"]
    command += ["--repeats", "2", "--threads", "1", "--json", str(record)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t"))
    written = json.loads(record.read_text())["rows"]
    assert [row["attention"] for row in printed] == ["dense", "sparse+positions"]
    assert [row["tokens"] for row in printed] == ["1,024", "1,024"]
    for row in written:
        assert len(row["seconds"]) == 2
        # the output takes 2 MiB
        assert row["peak_mib"] > 1
    assert written[0]["dense_by_this"] == 1
