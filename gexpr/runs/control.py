"""A whole run: plan once, compute the blocks that are missing, merge them, publish the output last.

The same path serves one process, a shard of many, several devices and a cluster. What a command
adds is a :class:`~gexpr.runs.blocks.BlockTask` (what to compute) and a :class:`Sink` (what to
make of the finished blocks).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import gexpr
from gexpr import logs
from gexpr.errors import ConfigError, GexprError, Interrupted
from gexpr.runs import rates
from gexpr.runs.blocks import BlockDone, BlockRunner, BlockTask, ComputedBlock, run_in_processes
from gexpr.runs.directory import Manifest, RunDirectory, RunLog, command_line, name_blocks
from gexpr.runs.shards import Shard
from gexpr.runs.signals import StopNow, Stopper, terminable
from gexpr.runs.writing import WriterThread
from gexpr.writers.output import AtomicOutput, check_outputs, output_names, refuse_existing
from gexpr.writers.parts import DamagedPartError, Part


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; nothing here changes a byte of the output.

    Args:
        run_dir: the run directory; None puts it beside the output, with the suffix ``.run``.
        shard: compute this share of the blocks only and leave the merge to ``gexpr merge``.
        block_rows: rows a block; None chooses by model and device. A run keeps what it began with.
        restart: discard what an earlier process finished.
        keep_run: keep the run directory after the output is written.
        force: replace an existing output.
        devices: devices that work at once, one process each; one or none is worked on in this process.
        workers: CPU processes that work at once.
        scheduler: address of a Dask scheduler, or None.
        cluster: ``local`` or ``slurm``: start a Dask cluster of ``workers`` workers, or None.
        cluster_options: see :func:`gexpr.runs.dask_cluster.cluster_options`.

    Raises:
        ConfigError: options that exclude each other, or a value that is not allowed.
    """

    run_dir: str | None = None
    shard: Shard | None = None
    block_rows: int | None = None
    restart: bool = False
    keep_run: bool = False
    force: bool = False
    devices: tuple[str, ...] = ()
    workers: int = 1
    scheduler: str | None = None
    cluster: str | None = None
    cluster_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.block_rows is not None and self.block_rows < 1:
            raise ConfigError(f"block rows must be 1 or more, not {self.block_rows}")
        if self.workers < 1:
            raise ConfigError(f"workers must be 1 or more, not {self.workers}")
        if self.restart and self.shard is not None:
            raise ConfigError(
                "--restart with --shard would discard what the other shards have finished; "
                "remove the run directory before the first shard starts"
            )
        if self.scheduler is not None and self.cluster is not None:
            raise ConfigError("--scheduler joins a cluster and --cluster starts one; give one of them")
        if self.cluster_options and not self.dask:
            raise ConfigError("--cluster-option is for --cluster and --scheduler")
        if self.dask and len(self.devices) > 1:
            raise ConfigError("several devices are for one machine; a Dask cluster has its own workers")
        if len(self.devices) > 1 and self.workers > 1:
            raise ConfigError("--workers is for the CPU; several CUDA devices have one worker each")

    @property
    def dask(self) -> bool:
        """Whether a Dask cluster computes the blocks."""
        return self.scheduler is not None or self.cluster is not None

    @property
    def processes(self) -> int:
        """Worker processes of this machine; 1 means that this process does the work."""
        return max(len(self.devices), self.workers)


class Sink(Protocol):
    """Makes the outputs from the parts, given in order."""

    def add(self, part: Part) -> None:
        """Take the next part."""
        ...

    def finish(self) -> None:
        """Complete the outputs and bring them to the disk, still without their names."""
        ...

    def commit(self) -> None:
        """Give the outputs their names."""
        ...

    def discard(self) -> None:
        """Remove what is unfinished; safe to call at any time."""
        ...


OpenSink = Callable[[Sequence[AtomicOutput], Manifest], Sink]


class Outcome(NamedTuple):
    """What a process did in a run: blocks and rows computed here, and in how many seconds."""

    manifest: Manifest
    sink: Sink | None
    computed: int
    seconds: float


def is_stream(output: str) -> bool:
    """Whether the output is standard output, a pipe or a device, which no rename can put into place."""
    if output == "-":
        return True
    try:
        mode = os.stat(output).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def run_directory(outputs: Sequence[str], run: RunOptions) -> RunDirectory:
    """The run directory that options and outputs ask for: by default beside the first file.

    Raises:
        ConfigError: neither tells, or an output would lie in the directory.
    """
    files = [output for output in outputs if not is_stream(output)]
    if run.run_dir is not None:
        directory = RunDirectory(run.run_dir)
    elif files:
        directory = RunDirectory(files[0].rstrip("/") + ".run")
    else:
        raise ConfigError("no output is named, so --run-dir must say where the run works")
    for output in outputs:
        directory.refuse_output(output)
    return directory


def claim(
    outputs: Sequence[str], directory: RunDirectory, *, force: bool = False, companions: Sequence[str] = ()
) -> None:
    """Check that all outputs can be written, before any work is done; nothing is left behind.

    Args:
        outputs: their paths; streams are left alone.
        directory: the run's; files that it was about to publish when it was killed count as its own.
        force: replace existing files.
        companions: files that will be written beside the outputs.

    Raises:
        GexprError: one cannot be written, or exists, and not ``force``.
    """
    own = [output for output in outputs if directory.published(output)]
    for output in outputs:
        if not is_stream(output):
            AtomicOutput(output, force=force or output in own).discard()
    for path in companions:
        refuse_existing(path, force or bool(own))


def run_task(
    make_task: Callable[[str | None], BlockTask],
    open_sink: OpenSink,
    output: str | Sequence[str] | None,
    run: RunOptions,
    *,
    inputs: Sequence[str | None],
    unit: str,
    companions: Sequence[str] = (),
) -> Outcome:
    """Carry out a run, or this process's part in it.

    Args:
        make_task: from the path at which standard input was stored (None: nothing was) to the task.
        open_sink: makes the outputs, from all of them at once.
        output: a path, or several; where all are ``-`` or pipes, blocks are streamed as they are finished;
            None leaves all output to ``gexpr merge``.
        run: how.
        inputs: files that are read; the first is the one that is spooled when it is standard input.
        unit: what a row is, for messages: ``alleles``.
        companions: files that the sink writes beside the outputs.

    Returns:
        What was done; ``sink`` is None when the merge was left to others.

    Raises:
        GexprError: bad input, options or environment; finished blocks are kept.
        Interrupted: a signal came; finished blocks are kept.
    """
    outputs = output_names(output)
    check_outputs((*outputs, *companions), inputs)
    if outputs and all(map(is_stream, outputs)):
        return _run_stream(make_task, open_sink, outputs, run, inputs, unit)
    directory = run_directory(outputs, run)
    if not outputs and run.shard is None:
        raise ConfigError("no output is named; give -o")
    claim(outputs, directory, force=run.force, companions=companions)
    with Stopper() as stopper:
        directory.create()
        stopper.hint = "nothing is finished yet; the same command starts again"
        shard = run.shard or Shard(0, 1)
        try:
            with directory.locked(f"shard-{shard.index}-of-{shard.count}"):
                directory.clean()
                return _run(make_task, open_sink, outputs, run, directory, stopper, inputs, unit)
        except BrokenPipeError:
            raise
        except OSError as error:
            place = "" if error.filename is None else f"{error.filename}: "
            raise GexprError(f"{place}{error.strerror or error}") from error
        finally:
            directory.remove_if_unused()


def _run(
    make_task: Callable[[str | None], BlockTask],
    open_sink: OpenSink,
    outputs: Sequence[str],
    run: RunOptions,
    directory: RunDirectory,
    stopper: Stopper,
    inputs: Sequence[str | None],
    unit: str,
) -> Outcome:
    if run.restart:
        directory.restart()
    log = RunLog(directory)
    shard_name = None if run.shard is None else f"{run.shard.index}/{run.shard.count}"
    log.write("start", command=command_line(), shard=shard_name, version=gexpr.__version__)
    how = "failed"
    try:
        task = make_task(_spool(directory, inputs[0]))
        manifest = _plan(task, directory, run)
        stopper.hint = f"finished blocks are in {directory.path}; the same command continues"
        shard = run.shard or Shard(0, 1)
        finished = _verified(directory, manifest, shard)
        mine = [block for block in range(manifest.blocks) if shard.owns(block)]
        missing = [block for block in mine if block not in finished]
        if len(missing) < len(mine):
            logs.info(f"continuing: {len(mine) - len(missing):,} of {len(mine):,} blocks are finished")
        log.write("plan", rows=manifest.rows, blocks=manifest.blocks, mine=len(mine), missing=len(missing))
        computed, seconds = _compute(task, directory, manifest, missing, run, stopper, unit)
        if run.shard is None and outputs:
            sink = merge(
                directory, manifest, open_sink, outputs, force=run.force, before_commit=stopper.complete
            )
            how = "merged"
        else:
            sink = None
            how = "done"
            done = len(directory.finished())
            merge_hint = f"; gexpr merge {directory.path} -o ... makes the output"
            logs.info(
                f"shard {shard_name}: {len(mine):,} blocks done; {done:,} of {manifest.blocks:,} blocks of "
                f"{directory.path} are finished{merge_hint if done == manifest.blocks else ''}"
            )
    except (Interrupted, StopNow):
        how = "interrupted"
        raise
    finally:
        if directory.exists():
            log.write("stop", how=how)
    if sink is not None:
        directory.close(keep=run.keep_run)
    return Outcome(manifest, sink, computed, seconds)


def _spool(directory: RunDirectory, path: str | None) -> str | None:
    """Where an input that can be read only once is stored; None when the input is a file."""
    if path == "-":
        return str(directory.spool(sys.stdin.buffer))
    if path is not None and os.path.exists(path) and is_stream(path):
        with open(path, "rb") as stream:
            return str(directory.spool(stream, path))
    return None


def _plan(task: BlockTask, directory: RunDirectory, run: RunOptions) -> Manifest:
    """The run's plan: the one that is there, if it is for the same numbers, or a new one."""
    fingerprint = task.fingerprint()
    if not directory.exists():
        rows, content = task.plan()
        # The plan has to be that of the files whose digests it bears.
        task.check_inputs()
        block_rows = run.block_rows or task.default_block_rows(rows)
        # Two processes may have planned at the same time; both then go on with the first one's plan.
        directory.agree(Manifest(task.command, fingerprint, rows, block_rows, content))
    directory.check(task.command, fingerprint)
    manifest = directory.manifest()
    if run.block_rows is not None and run.block_rows != manifest.block_rows:
        logs.warning(
            f"the run has blocks of {manifest.block_rows:,} rows, and keeps them; --restart would change that"
        )
    return manifest


def _verified(directory: RunDirectory, manifest: Manifest, shard: Shard) -> set[int]:
    """Finished blocks of a shard whose parts are sound; damaged ones are set aside and done again."""
    sound = set()
    for block in sorted(directory.finished()):
        if block < manifest.blocks and shard.owns(block):
            try:
                directory.read(manifest, block)
            except DamagedPartError as error:
                logs.warning(f"block {block} is computed again: {error}")
                directory.set_aside(block)
            else:
                sound.add(block)
    return sound


def _compute(
    task: BlockTask,
    directory: RunDirectory,
    manifest: Manifest,
    missing: Sequence[int],
    run: RunOptions,
    stopper: Stopper,
    unit: str,
) -> tuple[int, float]:
    """Compute blocks; returns rows and seconds."""
    started = time.monotonic()
    rows = 0
    total = sum(block.end - block.start for block in map(manifest.block, missing))
    with logs.progress("computing", total, unit) as bar:

        def advance(count: int) -> None:
            bar.advance(count, note=f"{bar.rate:,.1f}/s")

        def on_done(done: BlockDone) -> None:
            nonlocal rows
            rows += done.rows
            advance(done.rows)

        if not missing:
            pass
        elif run.dask or run.processes > 1:
            _let_others_compute(task, directory, manifest, missing, run, on_done, stopper)
        else:
            runner = BlockRunner(task, directory, manifest, task.device)

            def publish(computed: ComputedBlock) -> None:
                nonlocal rows
                rows += runner.publish(computed).rows

            with stopper.finishing(), WriterThread(publish) as writer:
                for block in missing:
                    if stopper.stopping:
                        break
                    writer.put(runner.compute(block, advance))
            stopper.check()
            rates.remember(manifest.fingerprint, task.forwards, time.monotonic() - started)
    return rows, time.monotonic() - started


def _runners(
    task: BlockTask, directory: RunDirectory, manifest: Manifest, run: RunOptions
) -> list[BlockRunner]:
    """One runner a worker process; CPU workers share the cores."""
    if len(run.devices) > 1:
        tasks = [task.on_device(device, None) for device in run.devices]
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        tasks = [task.on_device(task.device, max(1, cores // run.workers))] * run.workers
    return [BlockRunner(each, directory, manifest, each.device) for each in tasks]


def _let_others_compute(
    task: BlockTask,
    directory: RunDirectory,
    manifest: Manifest,
    blocks: Sequence[int],
    run: RunOptions,
    on_done: Callable[[BlockDone], None],
    stopper: Stopper,
) -> None:
    """Compute blocks in worker processes of this machine, or on a Dask cluster."""
    task.close()
    if not run.dask:
        run_in_processes(_runners(task, directory, manifest, run), blocks, on_done, stopper)
        return
    from gexpr.runs.dask_cluster import run_on_dask

    # Workers elsewhere have working folders of their own.
    absolute = RunDirectory(os.path.abspath(directory.path))
    with stopper.finishing():
        run_on_dask(
            BlockRunner(task.absolute(), absolute, manifest, "dask"),
            blocks,
            scheduler=run.scheduler,
            cluster=run.cluster,
            workers=run.workers,
            cluster_options=run.cluster_options,
            on_done=on_done,
            stopping=lambda: stopper.stopping,
        )
    stopper.check()


def merge(
    directory: RunDirectory,
    manifest: Manifest,
    open_sink: OpenSink,
    output: str | Sequence[str],
    *,
    force: bool = False,
    before_commit: Callable[[], None] | None = None,
) -> Sink:
    """Make the outputs from the finished blocks of a run.

    Args:
        directory: where the parts are.
        manifest: the plan.
        open_sink: makes the outputs.
        output: a path, or several; ``-`` is standard output.
        force: replace existing files.
        before_commit: called before the last step, in which the outputs get their names.

    Returns:
        The sink, committed.

    Raises:
        GexprError: blocks are missing or damaged (the message names them), or an output cannot be written;
            nothing has an output's name then.
    """
    missing = set(range(manifest.blocks)) - directory.finished()
    if missing:
        raise GexprError(
            f"{directory.path}: {len(missing):,} of {manifest.blocks:,} blocks are missing: block "
            f"{name_blocks(missing)}; run the shards that own them again"
        )
    with contextlib.ExitStack() as held:
        claimed = [
            held.enter_context(AtomicOutput(each, force=force or directory.published(each)))
            for each in output_names(output)
        ]
        sink = open_sink(claimed, manifest)
        try:
            with logs.progress("merging", manifest.blocks, "blocks") as bar:
                for block in range(manifest.blocks):
                    sink.add(_sound(directory, manifest, block))
                    bar.advance()
            sink.finish()
            if before_commit is not None:
                before_commit()
            # Who is killed before the directory is closed finds the outputs that have their names again.
            directory.announce(each.unpublished() for each in claimed)
            sink.commit()
        finally:
            sink.discard()
    return sink


def _sound(directory: RunDirectory, manifest: Manifest, block: int) -> Part:
    try:
        return directory.read(manifest, block)
    except DamagedPartError as error:
        aside = directory.set_aside(block)
        raise GexprError(
            f"block {block} is damaged ({error}); it is now {aside.name}, and the command that computed it "
            "computes it again"
        ) from None


class Planned(NamedTuple):
    """A run that was planned but not begun: ``finished`` blocks were there already."""

    task: BlockTask
    manifest: Manifest
    finished: set[int]


@contextlib.contextmanager
def planned(
    make_task: Callable[[str | None], BlockTask],
    output: str | Sequence[str] | None,
    run: RunOptions,
    first_input: str | None,
) -> Iterator[Planned]:
    """Plan a run as :func:`run_task` would, and leave no trace of it.

    Raises:
        GexprError: what would stop the run before its first block.
    """
    with terminable(), _temporary_directory() as temporary:
        task = make_task(_spool(temporary, first_input))
        directory = None
        outputs = output_names(output)
        if run.run_dir is not None or not all(map(is_stream, outputs)):
            directory = run_directory(outputs, run)
        if directory is not None and directory.exists() and not run.restart:
            directory.check(task.command, task.fingerprint())
            manifest = directory.manifest()
            finished = {block for block in directory.finished() if block < manifest.blocks}
        else:
            rows, content = task.plan()
            block_rows = run.block_rows or task.default_block_rows(rows)
            manifest = Manifest(task.command, task.fingerprint(), rows, block_rows, content)
            finished = set()
        yield Planned(task, manifest, finished)


def _run_stream(
    make_task: Callable[[str | None], BlockTask],
    open_sink: OpenSink,
    outputs: Sequence[str],
    run: RunOptions,
    inputs: Sequence[str | None],
    unit: str,
) -> Outcome:
    """Write blocks in order as they are finished; nothing is kept for another time."""
    if run.shard is not None or run.run_dir is not None or run.restart or run.keep_run:
        names = ["standard output" if output == "-" else output for output in outputs]
        raise ConfigError(
            f"{' and '.join(names)} is a stream and cannot be resumed: "
            "--shard, --run-dir, --restart and --keep-run need an output file"
        )
    with contextlib.ExitStack() as held:
        held.enter_context(terminable())
        claimed = [held.enter_context(AtomicOutput(output)) for output in outputs]
        directory = held.enter_context(_temporary_directory())
        task = make_task(_spool(directory, inputs[0]))
        rows, content = task.plan()
        block_rows = run.block_rows or task.default_block_rows(rows)
        manifest = Manifest(task.command, task.fingerprint(), rows, block_rows, content)
        sink = open_sink(claimed, manifest)
        started = time.monotonic()
        try:
            if run.processes > 1 or run.dask:
                directory.agree(manifest)
                _stream_parts(task, directory, manifest, sink, run, unit)
            else:
                with logs.progress("computing", rows, unit) as bar:

                    def advance(count: int) -> None:
                        bar.advance(count, note=f"{bar.rate:,.1f}/s")

                    for block in range(manifest.blocks):
                        part = task.compute(manifest.block(block), advance)
                        task.check_inputs()
                        sink.add(part)
            sink.finish()
            sink.commit()
        finally:
            sink.discard()
        return Outcome(manifest, sink, rows, time.monotonic() - started)


def _stream_parts(
    task: BlockTask, directory: RunDirectory, manifest: Manifest, sink: Sink, run: RunOptions, unit: str
) -> None:
    """Let workers compute parts, and give each to the sink when those before it have been given."""
    following = 0
    with logs.progress("computing", manifest.rows, unit) as bar:

        def on_done(done: BlockDone) -> None:
            nonlocal following
            bar.advance(done.rows, note=f"{bar.rate:,.1f}/s")
            while following < manifest.blocks and directory.part_path(following).exists():
                sink.add(directory.read(manifest, following))
                directory.part_path(following).unlink()
                following += 1

        if manifest.blocks:
            blocks = range(manifest.blocks)
            _let_others_compute(task, directory, manifest, blocks, run, on_done, Stopper())


@contextlib.contextmanager
def _temporary_directory() -> Iterator[RunDirectory]:
    """A run directory among the system's temporary files, removed in the end.

    Raises:
        GexprError: it cannot be written; the message says how to choose another place.
    """
    hint = "set TMPDIR to a folder with enough space"
    try:
        path = tempfile.mkdtemp(prefix="gexpr-")
    except OSError as error:
        raise GexprError(f"cannot make a temporary folder: {error.strerror or error}; {hint}") from None
    try:
        directory = RunDirectory(path)
        directory.create()
        yield directory
    except GexprError as error:
        if isinstance(error.__cause__, OSError) and path in str(error):
            raise GexprError(f"{error}; {hint}") from error.__cause__
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)
