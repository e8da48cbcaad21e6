"""Blocks of a run and who computes them: this process, or several worker processes on one machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, ClassVar, NamedTuple

from gexpr import logs
from gexpr.errors import GexprError
from gexpr.runs.directory import Block, Manifest, RunDirectory, RunLog
from gexpr.runs.signals import STOPPING, Stopper
from gexpr.runs.writing import WriterThread
from gexpr.writers.parts import Part

Advance = Callable[[int], None]


class BlockTask(ABC):
    """What a run computes, for any of its blocks.

    A task can be pickled; each process opens inputs and model when it first needs them.
    """

    command: ClassVar[str]

    @property
    @abstractmethod
    def device(self) -> str:
        """The name of the device on which this task computes."""

    @abstractmethod
    def plan(self) -> tuple[int, dict[str, Any]]:
        """Look at all of the input before anything is computed: output rows, and the manifest's content.

        Raises:
            GexprError: the input cannot be accepted.
        """

    @abstractmethod
    def default_block_rows(self, rows: int) -> int:
        """Rows a block, of ``rows`` in all, such that a block takes seconds rather than minutes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of inputs and model; they are opened again when they are needed."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the numbers, in canonical form."""

    @abstractmethod
    def compute(self, block: Block, advance: Advance | None = None) -> Part:
        """The numbers of one block; ``advance`` is told of finished rows.

        Raises:
            GexprError: bad input or a lack of memory.
        """

    @property
    @abstractmethod
    def forwards(self) -> int:
        """Forward passes that this process has made for the task."""

    @abstractmethod
    def check_inputs(self) -> None:
        """Raise InputError when an input file is gone or was changed since it was opened."""

    @abstractmethod
    def on_device(self, device: str, threads: int | None) -> BlockTask:
        """The same task for another process: on one device, with a number of CPU threads."""

    @abstractmethod
    def absolute(self) -> BlockTask:
        """The same task with absolute paths, for processes that work in another folder."""


class ComputedBlock(NamedTuple):
    """A block that is not published yet; ``part`` is None when it was there already."""

    block: int
    part: Part | None
    seconds: float


class BlockDone(NamedTuple):
    """A finished block: by whom, and in how many seconds of computing (0 when it was there already)."""

    block: int
    rows: int
    seconds: float
    worker: str


class BlockRunner:
    """Computes blocks of a run into its directory; can be pickled, so that other processes can help.

    Args:
        task: what is computed.
        directory: where finished blocks go.
        manifest: the plan.
        device: in words, for the log.
    """

    def __init__(
        self, task: BlockTask, directory: RunDirectory, manifest: Manifest, device: str = ""
    ) -> None:
        self.task = task
        self.directory = directory
        self.manifest = manifest
        self.device = device
        self._checked = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checked": False}

    def __call__(self, number: int, advance: Advance | None = None) -> BlockDone:
        """Compute block ``number`` unless it is there, and publish its part: both steps one after the other.

        Raises:
            GexprError: see :meth:`compute` and :meth:`publish`.
        """
        return self.publish(self.compute(number, advance))

    def compute(self, number: int, advance: Advance | None = None) -> ComputedBlock:
        """Compute block ``number`` unless its part is there.

        Raises:
            GexprError: bad input, a lack of memory, or a process that would compute other numbers than the
                plan says (other versions or another kind of device).
        """
        if self.directory.part_path(number).exists():
            return ComputedBlock(number, None, 0.0)
        if not self._checked:
            self.directory.check(self.task.command, self.task.fingerprint())
            self._checked = True
        started = time.monotonic()
        part = self.task.compute(self.manifest.block(number), advance)
        return ComputedBlock(number, part, time.monotonic() - started)

    def publish(self, computed: ComputedBlock) -> BlockDone:
        """Publish the part of a block; may be called in another thread while the next block is computed.

        Raises:
            GexprError: input that was changed since it was opened, or a lack of space.
        """
        number, part, seconds = computed
        start, end = self.manifest.block(number)
        done = BlockDone(number, end - start, seconds, f"{socket.gethostname()}:{os.getpid()}")
        if part is not None:
            # Only numbers of the files that the fingerprint speaks of may be published.
            self.task.check_inputs()
            size = self.directory.write(self.manifest, number, part)
            RunLog(self.directory).write(
                "block",
                block=number,
                rows=done.rows,
                seconds=round(seconds, 3),
                bytes=size,
                device=self.device,
            )
        return done


_PATIENCE = 10.0
"""Seconds that workers have to end, all together, before they are killed."""


class _Worker(NamedTuple):
    process: Any
    connection: Connection
    device: str


def run_in_processes(
    runners: Sequence[BlockRunner],
    blocks: Sequence[int],
    on_done: Callable[[BlockDone], None],
    stopper: Stopper,
) -> None:
    """Compute blocks with one worker process a runner, each taking the next block when it has computed one.

    After a signal, and after a failure, the blocks under way are finished and no others begun.

    Args:
        runners: one a worker, each with its own device.
        blocks: numbers, in the order in which they are handed out.
        on_done: told of each finished block, in the order in which they finish.
        stopper: asked between blocks.

    Raises:
        GexprError: what a worker raised, or a worker died.
        Interrupted: a signal came.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    waiting = list(reversed(blocks))
    failure: BaseException | None = None
    try:
        with stopper.finishing():
            for runner in runners[: len(blocks)]:
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, pickle.dumps(runner)), daemon=True)
                with _signals_blocked():
                    process.start()
                theirs.close()
                workers.append(_Worker(process, ours, runner.device))
            busy = {worker.connection: worker for worker in workers}
            # A block is answered twice: None when it is computed, and its fate when that is known.
            awaited = dict.fromkeys(busy, 2)
            for worker in workers:
                _hand_out(worker, waiting.pop())
            while awaited:
                for ready in wait(list(awaited)):
                    assert isinstance(ready, Connection)
                    try:
                        answer = ready.recv()
                        awaited[ready] -= 1
                    except (EOFError, ConnectionError):
                        answer = _death(busy[ready])
                        awaited[ready] = 0
                    if isinstance(answer, BlockDone):
                        on_done(answer)
                    elif answer is None:
                        if waiting and failure is None and not stopper.stopping:
                            _hand_out(busy[ready], waiting.pop())
                            awaited[ready] += 2
                    elif failure is None:
                        failure = answer
                        if len(awaited) > 1:
                            logs.info("a worker failed; the others finish their blocks")
                    if not awaited[ready]:
                        del awaited[ready]
    finally:
        for worker in workers:
            worker.connection.close()
        end = time.monotonic() + _PATIENCE
        for worker in workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
    if failure is not None:
        raise failure
    stopper.check()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block the signals that stop a run: a process started inside has them blocked from its first moment.

    Those that come in the meantime reach this process afterwards.
    """
    # Starting the tracker unblocks some of them; where it runs already, it does not.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in STOPPING])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hand_out(worker: _Worker, block: int) -> None:
    # The death of a worker is noticed when its answer is awaited.
    with contextlib.suppress(ConnectionError):
        worker.connection.send(block)


def _death(worker: _Worker) -> GexprError:
    worker.process.join(_PATIENCE)
    code = worker.process.exitcode
    killed = code is not None and code < 0
    how = f"was killed by {signal.Signals(-code).name}" if killed else f"ended with exit code {code}"
    reason = " (out of memory, perhaps)" if code == -signal.SIGKILL else ""
    return GexprError(
        f"the worker process {worker.process.pid} on {worker.device} {how}{reason}; "
        "finished blocks are kept, the same command continues"
    )


def _work(connection: Connection, pickled: bytes) -> None:
    """A worker process: blocks in, two answers to each out, until the other end is closed.

    None says that the worker is free for the next block; BlockDone or an exception, before or after it, says
    what became of this one.
    """
    for name in STOPPING:
        # Signals to the whole group are the parent's business: it lets the workers finish their blocks.
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    runner: BlockRunner = pickle.loads(pickled)
    sending = threading.Lock()

    def send(answer: BlockDone | Exception | None) -> None:
        # Where that fails, nobody waits for the answer any more.
        with sending, contextlib.suppress(ConnectionError):
            connection.send(answer)

    def publish(computed: ComputedBlock) -> None:
        try:
            done = runner.publish(computed)
        except Exception as error:
            send(_sendable(error))
        else:
            send(done)

    with WriterThread(publish) as writer:
        while True:
            try:
                block = connection.recv()
            except (EOFError, ConnectionError):
                return
            try:
                writer.put(runner.compute(block))
            except Exception as error:
                send(_sendable(error))
            send(None)


def _sendable(error: Exception) -> Exception:
    """The error, with its traceback for ``--debug``; or another in its place if pickle cannot carry it."""
    if hasattr(error, "add_note"):
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__} in a worker process: {error}")
    return error
