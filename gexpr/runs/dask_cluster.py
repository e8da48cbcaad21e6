"""Blocks of a run as tasks of a Dask cluster: one that runs already, local processes, or Slurm jobs.

Dask carries block numbers and little else: a worker opens inputs and model by itself and writes the
finished block into the run directory, which it must see under the same path. A block that is computed
twice (its worker died after writing) is found there and skipped.
"""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import queue
import signal
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gexpr
from gexpr import logs
from gexpr.errors import ConfigError, GexprError, MissingDependencyError, require

if TYPE_CHECKING:
    from gexpr.runs.blocks import BlockDone

CLUSTERS = ("local", "slurm")
"""What ``cluster`` may be."""

WORKER_TIMEOUT = {"local": 60.0, "slurm": 86_400.0, "scheduler": 300.0}
"""Seconds without any worker after which a run gives up; a Slurm job may wait long in its queue."""

CONNECT_TIMEOUT = 30.0
"""Seconds to wait for the scheduler of an existing cluster."""

IN_FLIGHT = 2
"""Blocks submitted for each worker: one it computes and one that waits, so that it is never idle."""

RETRIES = 3
"""Times that a block is tried again after an error other than a :class:`GexprError`, such as an OSError."""

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
_POLL = 0.2
_LOOK_AT_WORKERS = 2.0
_RESULT_TIMEOUT = 10.0
_SCALE_AGAIN = 30.0
_LIST_OPTIONS = frozenset(
    {"job_directives_skip", "job_extra_directives", "job_script_prologue", "worker_extra_args"}
)
#: The web server of the scheduler cannot be left out, but nobody outside this machine needs it.
_NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
#: Everything that they report of errors reaches the user as an error of this module, in one line.
_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "dask_jobqueue", "asyncio")


def run_on_dask(
    task: Callable[[int], BlockDone],
    blocks: Sequence[int],
    *,
    scheduler: str | None,
    cluster: str | None,
    workers: int,
    cluster_options: Mapping[str, Any] | None = None,
    on_done: Callable[[BlockDone], None],
    stopping: Callable[[], bool],
) -> None:
    """Compute blocks as Dask tasks; returns when all are done, or when ``stopping()`` and none is running.

    Blocks are handed out in order, two for each worker. The blocks of a worker that dies run again.
    After an error the blocks under way are finished and no others begun.

    Args:
        task: can be pickled; computes one block unless its part exists already, and keeps what it
            opened. A worker process unpickles it once and calls it for one block at a time.
        blocks: numbers, in the order in which they are handed out.
        scheduler: address of an existing cluster, such as ``tcp://host:8786``; or
        cluster: ``local`` (worker processes that talk over the loopback interface) or ``slurm`` (jobs
            submitted by dask-jobqueue).
        workers: how many to start; an existing cluster has its own.
        cluster_options: ``worker_timeout``, seconds instead of :data:`WORKER_TIMEOUT`. For ``slurm``
            also the arguments of ``dask_jobqueue.SLURMCluster``, which override its configuration file.
        on_done: told of each finished block, in the order in which they finish.
        stopping: asked several times a second.

    Raises:
        ConfigError: an option that is not allowed.
        MissingDependencyError: Dask is not installed.
        GexprError: what the task raised; or no scheduler, no worker, or a block that its workers did
            not survive.
    """
    if (scheduler is None) == (cluster is None):
        raise ConfigError("give either the address of a Dask scheduler or a kind of cluster")
    if cluster is not None and cluster not in CLUSTERS:
        raise ConfigError(f"unknown cluster {cluster!r} (known: {', '.join(CLUSTERS)})")
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    options = dict(cluster_options or {})
    patience = _seconds(options.pop("worker_timeout", WORKER_TIMEOUT[cluster or "scheduler"]))
    if options and cluster != "slurm":
        raise ConfigError(f"a {cluster or 'running'} cluster has no option {', '.join(sorted(options))}")
    distributed = require("distributed", "dask")
    if not blocks:
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet_logs())
        try:
            address, scale = scheduler, None
            if cluster == "local":
                address = stack.enter_context(_local_cluster(distributed, workers))
            elif cluster == "slurm":
                address, scale = stack.enter_context(_slurm_cluster(distributed, workers, options))
            client = stack.enter_context(_client(distributed, address, scheduler))
        except GexprError:
            # A signal to the whole process group may have ended workers that were just starting.
            if stopping():
                return
            raise
        run = _Run(distributed, client, task, blocks, workers, patience, scale, on_done, stopping)
        try:
            run.loop()
        finally:
            run.cancel(list(run.pending))


def cluster_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Arguments of ``SLURMCluster`` from texts such as ``queue=gpu``.

    ``cores``, ``processes`` and ``worker_timeout`` become numbers; ``job_extra_directives``,
    ``job_directives_skip``, ``job_script_prologue`` and ``worker_extra_args`` lists, to which each
    further text adds.

    Raises:
        ConfigError: not of the form KEY=VALUE, a key given twice, or not a number.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise ConfigError(f"a cluster option must be KEY=VALUE, not {pair!r}")
        if key in _LIST_OPTIONS:
            options.setdefault(key, []).append(value)
            continue
        if key in options:
            raise ConfigError(f"the cluster option {key} is given twice")
        if key in ("cores", "processes"):
            if not value.isdecimal() or int(value) < 1:
                raise ConfigError(f"the cluster option {key} must be a whole number from 1, not {value!r}")
            options[key] = int(value)
        else:
            options[key] = _seconds(value) if key == "worker_timeout" else value
    return options


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds > 0:
        raise ConfigError(f"worker_timeout must be a number of seconds above 0, not {value!r}")
    return seconds


# In the workers -----------------------------------------------------------------------------------


class _Failed:
    """A GexprError of a task, handed back as a value: it is the answer, and trying again cannot help."""

    def __init__(self, error: GexprError) -> None:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            plain = GexprError(str(error))
            plain.exit_code = error.exit_code
            error = plain
        self.error = error


_one_at_a_time = threading.Lock()
_unpickled: tuple[bytes, Callable[[int], Any]] | None = None
_running: str | None = None


def _compute(pickled: bytes, version: str, key: str, block: int) -> Any:
    """One block, in a worker: a BlockDone or a :class:`_Failed`."""
    global _unpickled, _running
    if version != gexpr.__version__:
        return _Failed(
            GexprError(
                f"a Dask worker on {os.uname().nodename} has gexpr {gexpr.__version__}, this command is "
                f"{version}; start the workers from the same environment"
            )
        )
    # Models and readers are not made for several threads, and one block fills a machine's share.
    with _one_at_a_time:
        _running = key
        try:
            if _unpickled is None or _unpickled[0] != pickled:
                _unpickled = (pickled, pickle.loads(pickled))
            return _unpickled[1](block)
        except GexprError as error:
            return _Failed(error)
        except Exception as error:
            logs.warning(f"block {block}: {type(error).__name__}: {error}")
            raise
        finally:
            _running = None


def _running_key() -> str | None:
    """In a worker: the key of the block that it computes."""
    return _running


def dask_setup(worker: Any) -> None:
    """Preload of a local worker process: signals to the whole process group are the command's business."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


# In the command -----------------------------------------------------------------------------------


class _Run:
    """Keeps a bounded number of blocks submitted until all are done, or until it drains."""

    def __init__(
        self,
        distributed: Any,
        client: Any,
        task: Callable[[int], BlockDone],
        blocks: Sequence[int],
        workers: int,
        patience: float,
        scale: Callable[[], None] | None,
        on_done: Callable[[BlockDone], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.distributed = distributed
        self.client = client
        self.pickled = pickle.dumps(task)
        self.run_id = uuid.uuid4().hex[:12]
        self.waiting = deque(blocks)
        self.pending: dict[str, tuple[int, Any]] = {}
        self.finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.workers = workers
        self.patience = patience
        self.scale = scale
        self.on_done = on_done
        self.stopping = stopping
        self.failure: BaseException | None = None
        now = time.monotonic()
        self.seen_worker = now
        self.looked = self.scaled = now
        self.said_waiting = False

    def loop(self) -> None:
        """Submit and collect; see :func:`run_on_dask`."""
        draining = False
        while self.pending or (self.waiting and not draining):
            if not draining and (self.failure is not None or self.stopping()):
                draining = True
                if self.failure is not None and self.pending:
                    logs.info("a block failed; those under way are finished")
                self.keep_only_running()
                continue
            while not draining and self.waiting and len(self.pending) < IN_FLIGHT * max(1, self.workers):
                self.submit(self.waiting.popleft())
            with contextlib.suppress(queue.Empty):
                self.collect(self.finished.get(timeout=_POLL))
            self.look_at_workers(draining)
        if self.failure is not None:
            raise self.failure

    def submit(self, block: int) -> None:
        key = f"gexpr-block-{block}-{self.run_id}"
        arguments = (self.pickled, gexpr.__version__, key, block)
        with self.connected():
            future = self.client.submit(_compute, *arguments, key=key, pure=False, retries=RETRIES)
        self.pending[key] = (block, future)
        future.add_done_callback(self.finished.put)

    def collect(self, future: Any) -> None:
        """Take the outcome of a task that is no longer pending."""
        key = future.key
        if key not in self.pending:
            return
        block = self.pending[key][0]
        if future.status == "finished":
            with self.connected():
                try:
                    outcome = future.result(timeout=_RESULT_TIMEOUT)
                except self.distributed.TimeoutError:
                    # Its worker died before the result was fetched; the task runs again.
                    future.add_done_callback(self.finished.put)
                    return
            del self.pending[key]
            if isinstance(outcome, _Failed):
                self.failure = self.failure or outcome.error
            else:
                self.on_done(outcome)
            return
        if future.status != "error":
            raise _connection_lost()
        del self.pending[key]
        self.failure = self.failure or self.explain(block, future.exception())

    def explain(self, block: int, error: BaseException) -> BaseException:
        """What a task's error means to the user; one that is not understood stays as it is."""
        if isinstance(error, self.distributed.KilledWorker):
            return GexprError(
                f"block {block}: the Dask workers that had it died, one after the other (out of memory, "
                "perhaps); finished blocks are kept, the same command continues"
            )
        if isinstance(error, ImportError):
            return MissingDependencyError(
                f"block {block}: a Dask worker cannot import what it needs ({error}); start the workers "
                "from the same environment as this command"
            )
        return error

    def keep_only_running(self) -> None:
        """Take back the blocks that no worker has begun."""
        with self.connected():
            running = set(self.client.run(_running_key, on_error="ignore").values())
        self.cancel([key for key in self.pending if key not in running])

    def cancel(self, keys: Sequence[str]) -> None:
        """Forget tasks; what a worker computes at the moment it still writes."""
        futures = [self.pending.pop(key)[1] for key in keys]
        if futures:
            with contextlib.suppress(Exception):
                self.client.cancel(futures)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Errors inside, where the client talks to the scheduler, mean that the connection is lost."""
        dask = self.distributed
        try:
            yield
        except (OSError, RuntimeError, dask.TimeoutError, dask.CancelledError) as error:
            raise _connection_lost() from error

    def look_at_workers(self, draining: bool) -> None:
        """Count the workers now and then; ask for new ones; give up when there have long been none."""
        now = time.monotonic()
        if now - self.looked < _LOOK_AT_WORKERS:
            return
        self.looked = now
        with self.connected():
            # As client.scheduler_info(), but a scheduler that hangs is found out.
            identity = self.client.sync(self.client.scheduler.identity, callback_timeout=self.patience)
            found = identity["workers"].values()
        count = sum(each.get("status", "running") == "running" for each in found)
        if self.scale is not None and now - self.scaled > _SCALE_AGAIN and not draining:
            self.scaled = now
            self.scale()
        if count:
            self.workers = count
            self.seen_worker = now
            self.said_waiting = False
        elif draining:
            self.cancel(list(self.pending))
        elif now - self.seen_worker > self.patience:
            raise GexprError(
                f"the Dask cluster has had no worker for {self.patience:,.0f} s; finished blocks are kept, "
                "the same command continues"
            )
        elif now - self.seen_worker > 10 and not self.said_waiting:
            self.said_waiting = True
            logs.info("waiting for a worker of the Dask cluster")


def _connection_lost() -> GexprError:
    return GexprError(
        "the connection to the Dask scheduler was lost; finished blocks are kept, the same command continues"
    )


@contextmanager
def _client(distributed: Any, address: str | None, given: str | None) -> Iterator[Any]:
    """A client of the scheduler at ``address``; ``given`` is the address that the user gave."""

    class Client(distributed.Client):
        def __del__(self) -> None:
            """Nothing: one that never connected would complain that it cannot be closed."""

    try:
        client = Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise GexprError(
            f"no Dask scheduler answers at {given or address} ({error}); the address is printed by "
            "'dask scheduler', such as tcp://host:8786"
        ) from error
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=5)


@contextmanager
def _local_cluster(distributed: Any, workers: int) -> Iterator[str]:
    """Worker processes on this machine, reachable from this machine only; yields the address."""
    before = set(multiprocessing.active_children())
    with tempfile.TemporaryDirectory(prefix="gexpr-dask-", ignore_cleanup_errors=True) as folder:
        cluster = None
        try:
            try:
                cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    scheduler_kwargs=_NO_DASHBOARD,
                    # Dask's own choice is 1, whatever the number of cores.
                    env={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", _threads(workers))},
                    # Dask would pause a worker for the memory of its model, which it cannot free.
                    memory_limit=0,
                    local_directory=folder,
                    preload=[__name__],
                    silence_logs=False if os.environ.get("GEXPR_DEBUG") else logging.CRITICAL,
                )
            except (OSError, RuntimeError) as error:
                raise GexprError(f"the local Dask cluster did not start: {error}") from error
            yield cluster.scheduler_address
        finally:
            if cluster is not None:
                with contextlib.suppress(Exception):
                    cluster.close(timeout=10)
            for child in set(multiprocessing.active_children()) - before:
                child.kill()


def _threads(workers: int) -> int:
    """CPU threads of each of several workers that share this machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


@contextmanager
def _slurm_cluster(
    distributed: Any, workers: int, options: Mapping[str, Any]
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Slurm jobs that are workers; yields the scheduler's address and a function that replaces lost jobs."""
    dask_jobqueue = require("dask_jobqueue", "dask")
    settings = {"processes": 1, "scheduler_options": _NO_DASHBOARD, **options}
    arguments = settings.get("worker_extra_args")
    if arguments is None:
        arguments = distributed.dask.config.get("jobqueue.slurm.worker-extra-args", [])
    # The last of an argument given twice counts. A block has all cores of its process; and Dask would
    # pause a worker for the memory of its model, which is Slurm's to limit.
    settings["worker_extra_args"] = [*arguments, "--nthreads", "1", "--memory-limit", "0"]
    try:
        cluster = dask_jobqueue.SLURMCluster(**settings)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(
            f"dask_jobqueue does not accept the options of the Slurm cluster: {text}"
        ) from error

    def scale() -> None:
        cluster.scale(workers)

    try:
        scale()
        yield cluster.scheduler_address, scale
    finally:
        with contextlib.suppress(Exception):
            cluster.close(timeout=30)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Nothing of Dask's on stderr, unless the environment has GEXPR_DEBUG."""
    names = () if os.environ.get("GEXPR_DEBUG") else _LOGGERS
    levels = {name: logging.getLogger(name).level for name in names}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
