"""A run that a signal stops leaves nothing behind and says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "output", "code", "words"),
    [
        (signal.SIGTERM, "a.h5", 143, "stopped by SIGTERM; no output was written"),
        (signal.SIGINT, "a.tsv.gz", 130, "interrupted"),
    ],
)
def test_a_signal_in_the_middle(
    number: signal.Signals, output: str, code: int, words: str, tmp_path: Path
) -> None:
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), 30_000))
    save_tiny_checkpoint(tmp_path / "tiny")
    write_fasta(tmp_path / "g.fa", {"chr1": sequence})
    alternate = {"A": "C", "C": "G", "G": "T", "T": "A"}
    records = [("chr1", i + 1, ".", sequence[i], alternate[sequence[i]]) for i in range(300, 29_000)]
    write_vcf(tmp_path / "v.vcf", records)
    (tmp_path / "out").mkdir()
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "gexpr", "score-variants", "-c", "tiny", "-f", "g.fa", "--device", "cpu"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GEXPR_CACHE": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    with open(tmp_path / "v.vcf", "rb") as vcf:
        process = subprocess.Popen(
            [*command, "-o", f"out/{output}", "-"],
            stdin=vcf,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=tmp_path,
            text=True,
            # a job started in the background by a shell ignores SIGINT, and so would its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        deadline = time.monotonic() + 120
        # An HDF5 file has bytes as soon as scoring starts, the text after its first block.
        while not any(path.stat().st_size for path in (tmp_path / "out").iterdir()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert errors.splitlines()[-1] == f"error: {words}" and "Traceback" not in errors
    assert os.listdir(tmp_path / "out") == [] and not list((tmp_path / "tmp").glob("gexpr-*"))
