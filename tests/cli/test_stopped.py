"""What a signal does to the command line from its first moment to its last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Input for a run of some minutes."""
    path = tmp_path_factory.mktemp("stopped")
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), 30_000))
    save_tiny_checkpoint(path / "tiny")
    write_fasta(path / "g.fa", {"chr1": sequence})
    alternate = {"A": "C", "C": "G", "G": "T", "T": "A"}
    records = [("chr1", i + 1, ".", sequence[i], alternate[sequence[i]]) for i in range(300, 29_000)]
    write_vcf(path / "v.vcf", records)
    (path / "tmp").mkdir()
    return path


def start(folder: Path, *arguments: str, **settings) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GEXPR_CACHE": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"),
    }
    command = [sys.executable, "-m", "gexpr", "score-variants", "-c", "tiny", "-f", "g.fa", "--device", "cpu"]
    return subprocess.Popen(
        [*command, *arguments],
        stderr=subprocess.PIPE,
        env=environment,
        cwd=folder,
        text=True,
        # a job in the background of a shell ignores SIGINT, one of nohup SIGHUP, and so would its children
        preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)],
        **settings,
    )


def waits(process: subprocess.Popen[str]) -> Iterator[None]:
    """Until the caller stops: a short pause each time, and a failure when the process is gone or late."""
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < deadline
        yield
        time.sleep(0.01)


def caught(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether the process has a handler for a signal."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def ended(process: subprocess.Popen[str], code: int, words: str) -> None:
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.splitlines()[-1].startswith(f"error: {words}") and "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_before_anything_is_imported(number: signal.Signals, folder: Path) -> None:
    """A scheduler's signal in the seconds in which PyTorch is imported asks for a requeue like any other."""
    process = start(folder, "-o", f"early{int(number)}.h5", "v.vcf")
    try:
        # Python itself handles SIGINT, so SIGUSR1 shows that the command does.
        for _ in waits(process):
            if caught(process, signal.SIGUSR1):
                break
        process.send_signal(number)
        ended(process, 75, f"stopped by {number.name}; ")
    finally:
        process.kill()
    assert not list(folder.glob("early*"))


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM; the output is not complete"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_stream_ends_at_once(number: signal.Signals, code: int, words: str, folder: Path) -> None:
    with open(folder / "v.vcf", "rb") as vcf, open(folder / f"out{code}", "wb") as out:
        process = start(folder, "-o", "-", "--block-rows", "50", "-", stdin=vcf, stdout=out)
    try:
        for _ in waits(process):
            if (folder / f"out{code}").stat().st_size:
                break
        process.send_signal(number)
        ended(process, code, words)
    finally:
        process.kill()
    assert not list((folder / "tmp").glob("gexpr-*"))


def test_a_run_finishes_its_block_and_continues(folder: Path) -> None:
    process = start(folder, "-o", "a.h5", "--block-rows", "50", "v.vcf")
    parts = folder / "a.h5.run" / "parts"
    try:
        for _ in waits(process):
            if list(parts.glob("*.part")):
                break
        process.send_signal(signal.SIGTERM)
        ended(process, 75, "stopped by SIGTERM; finished blocks are in a.h5.run; the same command continues")
    finally:
        process.kill()
    assert not (folder / "a.h5").exists() and len(list(parts.iterdir())) == len(list(parts.glob("*.part")))
