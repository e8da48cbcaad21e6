"""A long-lived child process that does one task after another.

A crash, a hang or an exhausted memory is then the outcome of the one file at hand, and not the end of the
test; the next file gets a new process. Run as a program this is the child: it reads requests and writes
answers, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

MEMORY = 4 << 30
"""Bytes of address space that a child may take beyond what it has when it is ready."""
READY = b"ready\n"

Answer = dict[str, Any]


class Child:
    """Starts the child when it is first needed, and again after it died.

    Args:
        limit: seconds that one task may take; far beyond what any takes, so that only a hang reaches it.
        memory: bytes of address space that the tasks may take; None for no limit, and a quicker start.

    Attributes:
        starts: how often a process was started.
    """

    def __init__(self, limit: float = 120.0, memory: int | None = MEMORY) -> None:
        self.limit = limit
        self.memory = memory
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()

    def ask(self, task: str, **arguments: Any) -> Answer:
        """The outcome of one task: ``accepted`` (with what the task found), ``refused`` (GexprError, with its
        message and place), ``raised`` (any other exception), ``crashed`` (the process ended) or ``hung``.
        """
        process = self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps({"task": task, **arguments}).encode() + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(self.limit):
                    self.stop()
                    return {"outcome": "hung", "message": f"no answer in {self.limit:g} s"}
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line.endswith(b"\n"):
            return json.loads(line)
        code = process.wait()
        self._process = None
        self._errors.seek(0)
        errors = self._errors.read()[-2000:].decode(errors="replace")
        return {"outcome": "crashed", "message": f"exit {code}: {errors}"}

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self.starts += 1
            self._errors.seek(0)
            self._errors.truncate()
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(self.memory or 0)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )
            # The imports are not part of the first task's time.
            assert self._process.stdout is not None
            if self._process.stdout.readline() != READY:
                self._errors.seek(0)
                raise RuntimeError(
                    f"the child does not start: {self._errors.read().decode(errors='replace')}"
                )
        return self._process

    def stop(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._errors.close()


# --- tasks: each reads one thing to its end and says what it found -------------------------------------


def read_vcf(path: str) -> Answer:
    """Records and ALT alleles."""
    from gexpr.variants.vcf import open_vcf

    records = list(open_vcf(path).records())
    return {"records": len(records), "alleles": sum(len(record.alts) for record in records)}


def read_bed(path: str) -> Answer:
    """Intervals."""
    from gexpr.genome.bed import read_bed

    return {"records": len(read_bed(path))}


def read_fasta(path: str, cache: str) -> Answer:
    """Every sequence, read by position, and the digest."""
    from gexpr.genome.fasta import Fasta

    fasta = Fasta(path, cache_dir=cache)
    sequences = {name: fasta.fetch(name, 0, fasta.lengths[name]) for name in fasta.names}
    return {"sequences": sequences, "digest": fasta.digest()}


def read_aliases(path: str) -> Answer:
    """Pairs of names."""
    from gexpr.genome.contigs import read_aliases

    return {"aliases": read_aliases(path)}


def read_tracks(path: str) -> Answer:
    """Tracks."""
    from gexpr.checkpoints import read_tracks

    return {"records": len(read_tracks(path))}


def read_checkpoint(path: str) -> Answer:
    """The checkpoint's own SHA-256, after a description and a verified load."""
    from gexpr import checkpoints

    info = checkpoints.describe(path)
    model = checkpoints.load(path)
    return {"sha256": info.weights_sha256, "parameters": sum(each.numel() for each in model.parameters())}


def run_gexpr(arguments: list[str]) -> Answer:
    """``gexpr`` with these arguments: exit code, standard output and standard error."""
    from click.testing import CliRunner

    from gexpr.cli.main import main

    result = CliRunner().invoke(main, arguments)
    return {"exit_code": result.exit_code, "stdout": result.stdout, "stderr": result.stderr}


def die(code: int) -> Answer:
    """No answer."""
    os._exit(code)


def hang() -> Answer:
    """No answer either."""
    while True:
        time.sleep(1)


def allocate(size: int) -> Answer:
    """Needs this many bytes."""
    return {"size": len(bytearray(size))}


TASKS: dict[str, Callable[..., Answer]] = {
    "vcf": read_vcf,
    "bed": read_bed,
    "fasta": read_fasta,
    "aliases": read_aliases,
    "tracks": read_tracks,
    "checkpoint": read_checkpoint,
    "gexpr": run_gexpr,
    "die": die,
    "hang": hang,
    "allocate": allocate,
}


def answer(task: str, arguments: dict[str, Any]) -> Answer:
    """Do one task; every exception becomes an answer."""
    from gexpr.errors import GexprError, InputError

    try:
        return {"outcome": "accepted", **TASKS[task](**arguments)}
    except GexprError as error:
        place = {}
        if isinstance(error, InputError):
            place = {"path": error.path, "line": error.line, "offset": error.offset}
        return {"outcome": "refused", "message": str(error), **place}
    except BaseException:
        return {"outcome": "raised", "message": traceback.format_exc()}


def limit_memory(size: int) -> None:
    """Let an allocation of more than ``size`` bytes fail, where the system can limit it."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + size, used + size))
    except (ImportError, OSError, ValueError):
        return


def main() -> None:
    """Answer requests until standard input ends."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if memory := int(sys.argv[1]):
        import torch

        import gexpr.checkpoints
        import gexpr.runs.score_variants  # noqa: F401

        torch.set_num_threads(1)
        limit_memory(memory)
    # Whatever prints to standard output must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answers.write(json.dumps(answer(request.pop("task"), request)).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
