"""Blocks in this process and in several: each exactly once, whatever happens to a worker."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
from pathlib import Path

import pytest
from toy_tasks import ToyTask

from gexpr.errors import GexprError, InputError, Interrupted
from gexpr.runs import blocks
from gexpr.runs.blocks import BlockDone, BlockRunner, run_in_processes
from gexpr.runs.directory import Manifest, RunDirectory, read_logs
from gexpr.runs.signals import Stopper


def prepare(task: ToyTask, folder: Path, block_rows: int = 3) -> BlockRunner:
    directory = RunDirectory(folder / "toy.run")
    directory.create()
    rows, content = task.plan()
    manifest = Manifest(task.command, task.fingerprint(), rows, block_rows, content)
    directory.agree(manifest)
    return BlockRunner(task, directory, manifest, "toy")


@pytest.fixture
def task(tmp_path: Path) -> ToyTask:
    return ToyTask(tmp_path / "journal", rows=10)


# --- one block -----------------------------------------------------------------------------


def test_a_block_is_computed_published_and_logged(task: ToyTask, tmp_path: Path) -> None:
    runner = prepare(task, tmp_path)
    advanced: list[int] = []
    done = runner(3, advanced.append)
    assert (done.block, done.rows, done.worker) == (3, 1, f"{socket.gethostname()}:{os.getpid()}")
    assert done.seconds > 0 and advanced == [1]
    part = runner.directory.read(runner.manifest, 3)
    assert part.arrays["squares"].tolist() == [81]
    (line,) = read_logs(runner.directory)
    assert (line["event"], line["block"], line["rows"], line["device"]) == ("block", 3, 1, "toy")
    assert line["bytes"] == runner.directory.part_path(3).stat().st_size


def test_a_finished_block_is_not_computed_again(task: ToyTask, tmp_path: Path) -> None:
    runner = prepare(task, tmp_path)
    runner(1)
    assert runner(1)[:3] == (1, 3, 0.0)
    assert task.computed() == [3] and len(read_logs(runner.directory)) == 1


def test_numbers_of_changed_files_are_not_published(tmp_path: Path) -> None:
    runner = prepare(ToyTask(tmp_path / "journal", faults={3: "changed"}), tmp_path)
    with pytest.raises(InputError, match="was changed while it was in use"):
        runner(1)
    assert runner.directory.finished() == set()


def test_a_process_that_would_compute_other_numbers_is_refused(task: ToyTask, tmp_path: Path) -> None:
    runner = prepare(task, tmp_path)
    other = ToyTask(task.journal, fingerprint={"power": 3})
    stranger = BlockRunner(other, runner.directory, runner.manifest)
    with pytest.raises(GexprError, match="power is 2 there and 3 here"):
        stranger(0)
    assert task.computed() == []
    # Each process asks for itself.
    assert pickle.loads(pickle.dumps(runner))(0).block == 0


# --- several processes ---------------------------------------------------------------------


def in_processes(runner: BlockRunner, workers: int, wanted: list[int] | None = None) -> list[BlockDone]:
    """Run the blocks; what was done is in the list even after an error."""
    done: list[BlockDone] = []
    given = list(range(runner.manifest.blocks)) if wanted is None else wanted
    try:
        run_in_processes([runner] * workers, given, done.append, Stopper())
    except BaseException as error:
        error.done = done  # type: ignore[attr-defined]
        raise
    return done


def test_every_block_is_done_exactly_once_by_the_workers(tmp_path: Path) -> None:
    # The first block takes its worker longer than all the others take the other one.
    task = ToyTask(tmp_path / "journal", rows=20, faults={0: "slow"})
    runner = prepare(task, tmp_path, block_rows=1)
    wanted = [number for number in range(20) if number != 5]
    done = in_processes(runner, 2, wanted)
    assert sorted(each.block for each in done) == wanted == sorted(task.computed())
    assert runner.directory.finished() == set(wanted)
    workers = {each.worker for each in done}
    assert len(workers) == 2 and f"{socket.gethostname()}:{os.getpid()}" not in workers


def test_no_more_workers_are_started_than_blocks(task: ToyTask, tmp_path: Path) -> None:
    runner = prepare(task, tmp_path)
    assert [each.block for each in in_processes(runner, 5, [2])] == [2]
    assert in_processes(runner, 2, []) == []


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("fail", InputError, "toy.txt, line 3: no such number"),
        ("bug", ZeroDivisionError, "a bug"),
        ("odd", RuntimeError, "TwoArguments in a worker process: this and that"),
        ("exit", GexprError, "on toy ended with exit code 7; finished blocks are kept"),
        ("kill", GexprError, "was killed by SIGKILL (out of memory, perhaps); finished blocks are kept"),
    ],
)
def test_a_worker_that_fails_ends_the_run_and_keeps_finished_blocks(
    fault: str, kind: type[Exception], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # One worker fails on block 1 while the other is busy with block 0.
    task = ToyTask(tmp_path / "journal", rows=30, faults={0: "slow", 3: fault})
    runner = prepare(task, tmp_path)
    with pytest.raises(kind) as caught:
        in_processes(runner, 2)
    assert message in str(caught.value) and type(caught.value) is kind
    done = {each.block for each in caught.value.done}  # type: ignore[attr-defined]
    assert 0 in done and 1 not in done and len(done) < 10
    assert runner.directory.finished() == done
    assert "Traceback" not in capfd.readouterr().err


def test_an_error_of_a_worker_has_its_traceback(tmp_path: Path) -> None:
    runner = prepare(ToyTask(tmp_path / "journal", faults={0: "bug"}), tmp_path)
    with pytest.raises(ZeroDivisionError) as caught:
        in_processes(runner, 1)
    if hasattr(caught.value, "__notes__"):
        assert "in compute\n" in caught.value.__notes__[0]


def test_an_error_in_this_process_stops_the_workers_quietly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As when a reader of the streamed output goes away while blocks are being computed."""
    task = ToyTask(tmp_path / "journal", rows=30, faults={0: "slow", 6: "slow"})
    runner = prepare(task, tmp_path)

    def fail(_done: BlockDone) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_in_processes([runner] * 2, range(10), fail, Stopper())
    # The block that was told, and the two under way.
    assert len(runner.directory.finished()) <= 3
    assert capfd.readouterr().err == ""


def test_workers_that_do_not_end_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_PATIENCE", 0.2)
    task = ToyTask(tmp_path / "journal", rows=30, faults={0: "hang", 3: "hang"})
    runner = prepare(task, tmp_path)

    def fail(_done: BlockDone) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_in_processes([runner] * 3, range(10), fail, Stopper())
    assert multiprocessing.active_children() == []


def test_after_a_signal_the_blocks_under_way_are_finished(tmp_path: Path) -> None:
    task = ToyTask(tmp_path / "journal", rows=30, faults={0: "slow", 3: "slow"})
    runner = prepare(task, tmp_path)
    stopper = Stopper()
    done: list[int] = []

    def on_done(each: BlockDone) -> None:
        done.append(each.block)
        stopper._received = 15

    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        run_in_processes([runner] * 2, range(10), on_done, stopper)
    # A worker may have begun the next block while the part of the first was written.
    assert {0, 1} <= set(done) <= {0, 1, 2, 3} and runner.directory.finished() == set(done)
