"""Runs of ``gexpr`` that can be killed, and what must hold afterwards.

A process that imports torch takes seconds to start. Most runs are therefore forked from a process
that has imported everything already (multiprocessing's fork server): they are real processes with
the real command line, and die of real signals.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr.runs.directory import RunDirectory
from gexpr.writers.parts import read_part

PATIENCE = 180.0
"""Seconds after which a process that should have ended, or a file that should be there, is a failure."""

PRELOAD = [
    "gexpr.cli.main",
    "gexpr.cli.score_variants",
    "gexpr.cli.predict",
    "gexpr.cli.merge",
    "gexpr.cli.status",
    "gexpr.runs.merge",
    "gexpr.runs.status",
    "gexpr.genome.examples",
    "gexpr.models.registry",
    "pysam",
    "safetensors.torch",
]

SEQUENCE = "".join(np.random.default_rng(11).choice(list("ACGT"), 30_000))


def wait_until(condition: Callable[[], Any], what: str, *, pause: float = 0.002) -> Any:
    """Wait for a condition to be true and return its value."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(pause)
    return value


def sha256(path: str | os.PathLike[str]) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Result(NamedTuple):
    """How a process ended: its code is negative when a signal ended it."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only error line of a clean failure."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "Traceback" not in self.err and "unexpected" not in self.err, self.err
        return lines[0]


class Gexpr:
    """A running ``gexpr``.

    Args:
        arguments: of the command line.
        cwd: where it runs; relative paths and the files of its output are there.
        stdin: a path (a file or a named pipe) to read as standard input.
        environment: variables to add.
        fresh: start a new Python rather than a fork; for what needs its own environment from the start.
        before: called in the fork before the command runs; must be picklable.
    """

    _number = 0

    def __init__(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        cwd: Path,
        *,
        stdin: str | os.PathLike[str] = os.devnull,
        environment: dict[str, str] | None = None,
        fresh: bool = False,
        before: Callable[[], None] | None = None,
    ) -> None:
        Gexpr._number += 1
        streams = cwd / ".streams"
        streams.mkdir(exist_ok=True)
        self._out = streams / f"{os.getpid()}-{Gexpr._number}.out"
        self._err = self._out.with_suffix(".err")
        self._out.touch()
        self._err.touch()
        self.arguments = [os.fspath(argument) for argument in arguments]
        variables = {"GEXPR_CACHE": str(cwd / ".cache"), "OMP_NUM_THREADS": "1", **(environment or {})}
        self._process: Any
        if fresh:
            assert before is None
            with open(stdin, "rb") as source, open(self._out, "wb") as out, open(self._err, "wb") as err:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "gexpr", *self.arguments],
                    stdin=source,
                    stdout=out,
                    stderr=err,
                    cwd=cwd,
                    env={**os.environ, **variables},
                    start_new_session=True,
                    # A shell's background job ignores SIGINT, and so would its children.
                    preexec_fn=_default_signals,
                )
        else:
            given = (
                self.arguments,
                str(cwd),
                str(self._out),
                str(self._err),
                str(stdin),
                variables,
                before,
            )
            self._process = _fork_server().Process(target=_forked, args=given)
            self._process.start()
        self.pid: int = self._process.pid

    @property
    def ended(self) -> bool:
        return self._code() is not None

    def _code(self) -> int | None:
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill_group(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self) -> Result:
        """Wait for the end."""
        if isinstance(self._process, subprocess.Popen):
            self._process.wait(PATIENCE)
        else:
            self._process.join(PATIENCE)
        code = self._code()
        assert code is not None, f"gexpr {' '.join(self.arguments)} does not end: {self.err}"
        return Result(code, self._out.read_text(), self.err)

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._err.read_text()

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something that this process is to do; its end is a failure."""

        def met() -> Any:
            over = self.ended
            value = condition()
            assert value or not over, f"ended before {what}: {self.wait()}"
            return value

        return wait_until(met, what)


def _default_signals() -> None:
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _fork_server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def _forked(
    arguments: list[str],
    cwd: str,
    out: str,
    err: str,
    stdin: str,
    variables: dict[str, str],
    before: Callable[[], None] | None,
) -> None:
    os.setsid()
    _default_signals()
    os.chdir(cwd)
    os.environ.update(variables)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.dup2(os.open(stdin, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)
    sys.argv = ["gexpr", *arguments]
    import torch

    torch.set_num_threads(1)
    from gexpr.cli.main import main

    if before is not None:
        before()
    main(arguments, prog_name="gexpr")


class World(NamedTuple):
    """Inputs of a run, shared by all tests: nobody changes them."""

    folder: Path

    @property
    def fixed(self) -> list[str]:
        """Options that every run has."""
        model = ["-c", str(self.folder / "tiny"), "-f", str(self.folder / "g.fa"), "--device", "cpu"]
        return [*model, "--batch-size", "8", "--no-rc", "--quiet"]

    @property
    def vcf(self) -> Path:
        return self.folder / "v.vcf"

    @property
    def bed(self) -> Path:
        return self.folder / "r.bed"

    def score(
        self, *arguments: str, vcf: str | Path | None = None, checkpoint: str | Path | None = None
    ) -> list[str]:
        """A command line of ``gexpr score-variants``, of another checkpoint where one is given."""
        fixed = self.fixed
        if checkpoint is not None:
            fixed[1] = str(checkpoint)
        return ["score-variants", *fixed, *arguments, str(vcf or self.vcf)]

    def predict(self, *arguments: str, bed: str | Path | None = None) -> list[str]:
        """A command line of ``gexpr predict``."""
        return ["predict", *self.fixed, *arguments, str(bed or self.bed)]


def make_world(folder: Path) -> World:
    """A tiny checkpoint, a genome, 240 alleles of 96 records (some unscored) and 36 regions."""
    save_tiny_checkpoint(folder / "tiny")
    write_fasta(folder / "g.fa", {"chr1": SEQUENCE})
    records = []
    for i, start in enumerate(range(400, 29_200, 300)):
        alternates = [base for base in "ACGT" if base != SEQUENCE[start]][: 1 + i % 4]
        alternates += ["<DEL>"] if i % 4 == 3 else []
        records.append(("chr1", start + 1, f"v{i}", SEQUENCE[start], ",".join(alternates)))
    write_vcf(folder / "v.vcf", records)
    lines = [f"chr1\t{start}\t{start + 700}\tr{start}\t0\t+\n" for start in range(500, 28_000, 770)]
    (folder / "r.bed").write_text("".join(lines))
    return World(folder)


def run(arguments: Sequence[str], cwd: Path, **settings: Any) -> Result:
    """Run ``gexpr`` to its end."""
    return Gexpr(arguments, cwd, **settings).wait()


def check_parts(run_dir: Path) -> set[int]:
    """Every part that has its name is sound; returns the numbers."""
    directory = RunDirectory(run_dir)
    blocks = directory.finished()
    for block in blocks:
        part = read_part(directory.part_path(block))
        assert part.about["block"] == block
        if directory.exists():
            assert part.about["run"] == directory.manifest().run_id
    return blocks


def unfinished(folder: Path) -> list[str]:
    """Temporary files of outputs, manifests and parts below a folder; the cache cleans up in its own time."""
    found = (path.relative_to(folder) for path in folder.rglob(".*.part"))
    return sorted(str(path) for path in found if path.parts[0] != ".cache")


@contextlib.contextmanager
def killed_at_the_end(processes: list[Gexpr]) -> Iterator[None]:
    """Leave no process of a test behind."""
    try:
        yield
    finally:
        for process in processes:
            process.kill_group()


def file_events(log: str | None, kill_at: int | None, folder: str, delay: float = 0.0) -> None:
    """In this process, note every change to files below a folder, and die before or soon after one of them.

    Args:
        log: a file that gets one line an event: what happens to which path; None keeps no log.
        kill_at: number of the event before which the process kills itself; None lets it live.
        folder: events elsewhere do not count.
        delay: seconds after that event when it happens instead.
    """
    file = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    changes = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
    count = 0

    def die() -> None:
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in changes and not (event == "open" and _writes(arguments)):
            return
        path = os.path.abspath(_path(arguments))
        if not path.startswith(folder):
            return
        if file is not None:
            os.write(file, f"{event} {path}\n".encode())
        if count == kill_at and delay:
            threading.Thread(target=die, daemon=True).start()
        elif count == kill_at:
            die()
        count += 1

    sys.addaudithook(hook)


def at_event(event: str, path: str, number: int, action: Callable[[], object]) -> None:
    """In this process, do something just before something else happens; so that no test has to be quick.

    Args:
        event: an audit event: ``os.rename``, ``os.remove``, ...; ``open`` is for reading, ``write`` an open
            for writing.
        path: a regular expression for the end of the path.
        number: how often it has happened before.
        action: what to do; it must be picklable.
    """
    count = 0
    pattern = re.compile(rf"(.*/)?{path}")

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if name == "open" and _writes(arguments):
            name = "write"
        if name == event and pattern.fullmatch(_path(arguments)):
            count += 1
            if count == number + 1:
                action()

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))


def _path(arguments: tuple[Any, ...]) -> str:
    return "" if not arguments or isinstance(arguments[0], int) else os.fsdecode(arguments[0])


def hold(here: Path, until: Path) -> None:
    """Say that this point is reached, by a file, and wait for another file."""
    here.touch()
    wait_until(until.exists, f"{until}")


def signal_self(*numbers: int) -> None:
    """Send signals to this process, one after the other."""
    for number in numbers:
        os.kill(os.getpid(), number)


def workers_of(pid: int) -> list[int]:
    """Process ids of the worker processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
