"""Whole runs of a task without model: what is computed when, and what is left behind."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tasks import ToySink, ToyTask, run, squares

from gexpr import logs
from gexpr.errors import ConfigError, GexprError, InputError, Interrupted
from gexpr.runs import control
from gexpr.runs.control import RunOptions, is_stream, run_directory, run_task
from gexpr.runs.directory import RunDirectory, read_logs
from gexpr.runs.shards import Shard


@pytest.fixture(autouse=True)
def loud() -> None:
    logs.set_quiet(False)


@pytest.fixture
def task(tmp_path: Path) -> ToyTask:
    """Ten rows in blocks of three: 0, 3, 6 and 9 are the first rows."""
    return ToyTask(tmp_path / "journal")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "a.txt"


def folder(output: Path) -> list[str]:
    return sorted(os.listdir(output.parent))


def parts(output: Path) -> list[str]:
    return sorted(os.listdir(f"{output}.run/parts"))


def interrupted(task: ToyTask, output: Path | None, **options: Any) -> ToyTask:
    """A run that fails in its third block; returns the task without the fault."""
    task.faults = {6: "fail"}
    with pytest.raises(InputError, match="no such number"):
        run(task, output, **options)
    task.faults = {}
    task.journal.unlink()
    return task


# --- from the beginning to the end ---------------------------------------------------------


def test_a_run_leaves_its_output_and_nothing_else(task: ToyTask, output: Path) -> None:
    outcome = run(task, output)
    assert output.read_text() == squares(10) and folder(output) == ["a.txt"]
    assert task.computed() == [0, 3, 6, 9]
    assert outcome.computed == 10 and outcome.seconds > 0 and outcome.manifest.blocks == 4
    assert isinstance(outcome.sink, ToySink) and outcome.sink.added == 4


def test_no_rows_make_an_empty_output(tmp_path: Path, output: Path) -> None:
    outcome = run(ToyTask(tmp_path / "journal", rows=0), output)
    assert output.read_text() == "" and folder(output) == ["a.txt"] and outcome.computed == 0


@pytest.mark.parametrize("block_rows", [1, 4, 10, 1000])
def test_any_block_size_gives_the_same_output(block_rows: int, task: ToyTask, output: Path) -> None:
    run(task, output, block_rows=block_rows)
    assert output.read_text() == squares(10)
    assert task.computed() == list(range(0, 10, block_rows))


def test_a_failure_keeps_finished_blocks_and_leaves_no_output(task: ToyTask, output: Path) -> None:
    interrupted(task, output)
    assert folder(output) == ["a.txt.run"] and parts(output) == ["000000.part", "000001.part"]


def test_only_missing_blocks_are_computed_by_the_same_command(
    task: ToyTask, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(task, output)
    os.remove(f"{output}.run/parts/000000.part")
    capsys.readouterr()
    outcome = run(task, output)
    assert task.computed() == [0, 6, 9] and outcome.computed == 7
    assert output.read_text() == squares(10) and folder(output) == ["a.txt"]
    assert "continuing: 1 of 4 blocks are finished" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other block", "other run"])
def test_a_damaged_part_is_computed_again(
    damage: str, task: ToyTask, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(task, output)
    first, second = (Path(f"{output}.run/parts/00000{i}.part") for i in (0, 1))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "other run":
        directory = RunDirectory(f"{output}.run")
        manifest = directory.manifest()
        directory.write(manifest._replace(rows=11), 0, directory.read(manifest, 0))
    else:
        others = {"flip": data, "cut": data[:100], "empty": b"", "other block": second.read_bytes()}
        first.write_bytes(others[damage])
    run(task, output, keep_run=True)
    assert task.computed() == [0, 6, 9] and output.read_text() == squares(10)
    assert "warning: block 0 is computed again" in capsys.readouterr().err
    assert "000000.damaged" in parts(output)


def test_a_changed_input_publishes_nothing_more(task: ToyTask, output: Path) -> None:
    task.faults = {3: "changed"}
    with pytest.raises(InputError, match="was changed"):
        run(task, output)
    assert parts(output) == ["000000.part"]


def test_a_run_of_something_else_is_refused_and_kept(task: ToyTask, output: Path) -> None:
    interrupted(task, output)
    other = ToyTask(task.journal, fingerprint={"power": 3})
    with pytest.raises(GexprError, match="power is 2 there and 3 here"):
        run(other, output)
    assert parts(output) == ["000000.part", "000001.part"] and task.computed() == []
    run(other, output, restart=True)
    assert other.computed() == [0, 3, 6, 9] and folder(output) == ["a.txt"]


def test_restarting_computes_everything(task: ToyTask, output: Path) -> None:
    run(interrupted(task, output), output, restart=True)
    assert task.computed() == [0, 3, 6, 9] and output.read_text() == squares(10)


def test_a_run_keeps_its_blocks(task: ToyTask, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(task, output, block_rows=2)
    run(task, output, block_rows=5)
    assert "the run has blocks of 2 rows, and keeps them" in capsys.readouterr().err
    assert task.computed() == [6, 8] and output.read_text() == squares(10)


def test_the_run_directory_can_be_kept_and_used_again(task: ToyTask, output: Path) -> None:
    run(task, output, keep_run=True)
    assert folder(output) == ["a.txt", "a.txt.run"] and len(parts(output)) == 4
    run(task, output, keep_run=True, force=True)
    assert task.computed() == [0, 3, 6, 9]
    run(task, output, force=True)
    assert task.computed() == [0, 3, 6, 9] and folder(output) == ["a.txt"]


def test_the_run_directory_can_be_elsewhere(task: ToyTask, output: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    interrupted(task, output, run_dir=str(work))
    assert folder(output) == [] and (work / "parts" / "000000.part").is_file()
    run(task, output, run_dir=str(work))
    assert task.computed() == [6, 9] and not work.exists()


def test_an_existing_output_is_refused_before_anything_else(task: ToyTask, output: Path) -> None:
    output.write_text("old")
    with pytest.raises(GexprError, match=r"a\.txt exists; give --force"):
        run(task, output)
    assert output.read_text() == "old" and folder(output) == ["a.txt"] and task.computed() == []
    task.faults = {6: "fail"}
    with pytest.raises(InputError):
        run(task, output, force=True)
    assert output.read_text() == "old"
    task.faults = {}
    run(task, output, force=True)
    assert output.read_text() == squares(10) and folder(output) == ["a.txt"]


def test_an_output_that_appears_in_the_meantime_is_not_replaced(task: ToyTask, output: Path) -> None:
    task.faults = {6: "SIGUSR1"}
    with pytest.raises(Interrupted):
        run(task, output)
    task.faults = {}
    compute = task.compute

    def and_write(*given: Any) -> Any:
        output.write_text("theirs")
        return compute(*given)

    task.compute = and_write  # type: ignore[method-assign]
    with pytest.raises(GexprError, match="exists; give --force"):
        run(task, output)
    assert output.read_text() == "theirs" and len(parts(output)) == 4


def test_an_output_that_is_an_input_is_refused(task: ToyTask, output: Path) -> None:
    output.write_text("input")
    with pytest.raises(ConfigError, match="is also an input"):
        run_task(
            lambda _: task, ToySink, str(output), RunOptions(force=True), inputs=[str(output)], unit="squares"
        )
    with pytest.raises(ConfigError, match=r"the output .* the run directory"):
        run(task, output.with_name("new"), run_dir=str(output.with_name("new")))
    assert output.read_text() == "input" and task.computed() == []


def test_a_failure_before_the_plan_leaves_no_directory(task: ToyTask, output: Path) -> None:
    task.faults = {0: "plan"}
    with pytest.raises(InputError, match="nothing to plan"):
        run(task, output)
    assert folder(output) == []

    def fail(_spooled: str | None) -> ToyTask:
        raise OSError(5, "Input/output error", "model.bin")

    with pytest.raises(GexprError, match=r"^model\.bin: Input/output error$"):
        run_task(fail, ToySink, str(output), RunOptions(), inputs=["toy.txt"], unit="squares")
    assert folder(output) == []


def test_a_run_directory_that_holds_other_things_is_left_alone(task: ToyTask, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").write_text("mine")
    for options in ({}, {"restart": True}):
        with pytest.raises(GexprError, match="is not a run directory"):
            run(task, tmp_path / "a.txt", run_dir=str(tmp_path / "mine"), **options)
    assert os.listdir(tmp_path / "mine") == ["thesis.docx"]


def test_two_processes_do_not_work_on_the_same(task: ToyTask, output: Path) -> None:
    directory = RunDirectory(f"{output}.run")
    directory.create()
    with (
        directory.locked("shard-0-of-1"),
        pytest.raises(GexprError, match="is at work on shard 0 of 1"),
    ):
        run(task, output)
    assert task.computed() == []


def test_a_log_tells_what_the_process_did(task: ToyTask, output: Path) -> None:
    interrupted(task, output)
    run(task, output, keep_run=True)
    lines = read_logs(RunDirectory(f"{output}.run"))
    events = [line["event"] for line in lines]
    assert events == ["start", "plan", "block", "block", "stop", "start", "plan", "block", "block", "stop"]
    assert [line["how"] for line in lines if line["event"] == "stop"] == ["failed", "merged"]
    assert [line["missing"] for line in lines if line["event"] == "plan"] == [4, 2]
    assert [line["block"] for line in lines if line["event"] == "block"] == [0, 1, 2, 3]


# --- signals -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
def test_a_signal_ends_the_run_after_the_block(
    name: str, task: ToyTask, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        task.faults = {3: name}
        with pytest.raises(
            Interrupted, match=f"stopped by {name}; finished blocks are in .*continues"
        ) as caught:
            run(task, output)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert caught.value.exit_code == 75
    assert parts(output) == ["000000.part", "000001.part"] and folder(output) == ["a.txt.run"]
    task.faults = {}
    run(task, output)
    assert task.computed() == [0, 3, 6, 9] and output.read_text() == squares(10)


def test_an_ignored_signal_is_ignored(task: ToyTask, output: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        task.faults = {3: "SIGHUP"}
        run(task, output)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert output.read_text() == squares(10)


# --- shards --------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(rows=st.integers(0, 9), block_rows=st.integers(1, 4), data=st.data())
def test_shards_divide_the_blocks_exactly(rows: int, block_rows: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    order = data.draw(st.permutations(range(count)))
    with tempfile.TemporaryDirectory() as name:
        task = ToyTask(Path(name) / "journal", rows, block_rows=block_rows)
        for index in order:
            before = len(task.computed())
            outcome = run(task, None, run_dir=f"{name}/work", shard=Shard(index, count))
            new = task.computed()[before:]
            assert [start // block_rows % count for start in new] == [index] * len(new)
            assert outcome.sink is None
        starts = [block_rows * number for number in range(-(-rows // block_rows))]
        assert sorted(task.computed()) == starts
        directory = RunDirectory(f"{name}/work")
        control.merge(directory, directory.manifest(), ToySink, f"{name}/a.txt")
        assert Path(f"{name}/a.txt").read_text() == squares(rows)


def test_a_shard_says_what_is_finished(
    task: ToyTask, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(task, output, shard=Shard(1, 3))
    assert task.computed() == [3] and folder(output) == ["a.txt.run"]
    err = capsys.readouterr().err
    assert "shard 1/3: 1 blocks done; 1 of 4 blocks of" in err and "gexpr merge" not in err
    for index in (0, 2):
        run(task, output, shard=Shard(index, 3))
    assert sorted(task.computed()) == [0, 3, 6, 9]
    assert (
        f"4 of 4 blocks of {output}.run are finished; gexpr merge {output}.run -o" in capsys.readouterr().err
    )
    # The same shards again have nothing to do, and a run of all finds everything done.
    run(task, output, shard=Shard(0, 3))
    run(task, output)
    assert len(task.computed()) == 4 and folder(output) == ["a.txt"]


def test_shards_of_other_numbers_may_continue(task: ToyTask, output: Path) -> None:
    run(task, output, shard=Shard(0, 2))
    run(task, output, shard=Shard(1, 3))
    assert task.computed() == [0, 6, 3]
    run(task, output)
    assert task.computed() == [0, 6, 3, 9] and output.read_text() == squares(10)


def test_a_shard_sees_to_its_own_damaged_parts_only(task: ToyTask, output: Path) -> None:
    for index in range(2):
        run(task, output, shard=Shard(index, 2))
    for block in (0, 1):
        with open(f"{output}.run/parts/00000{block}.part", "r+b") as file:
            file.truncate(50)
    task.journal.unlink()
    run(task, output, shard=Shard(1, 2))
    assert task.computed() == [3]


def test_without_output_a_run_directory_and_a_shard_are_needed(task: ToyTask, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--run-dir must say where"):
        run(task, None, shard=Shard(0, 2))
    with pytest.raises(ConfigError, match="no output is named; give -o"):
        run(task, None, run_dir=str(tmp_path / "work"))
    assert os.listdir(tmp_path) == []


# --- merge ---------------------------------------------------------------------------------


def finished_run(task: ToyTask, output: Path) -> RunDirectory:
    run(task, output, shard=Shard(0, 1), block_rows=1)
    return RunDirectory(f"{output}.run")


def test_missing_blocks_are_named(task: ToyTask, output: Path) -> None:
    directory = finished_run(task, output)
    for block in (2, 3, 4, 9):
        directory.part_path(block).unlink()
    with pytest.raises(
        GexprError, match=r"4 of 10 blocks are missing: block 2 to 4 and 9; run the shards that own them"
    ):
        control.merge(directory, directory.manifest(), ToySink, str(output))
    assert folder(output) == ["a.txt.run"]


def test_a_damaged_part_is_named_and_set_aside(task: ToyTask, output: Path) -> None:
    directory = finished_run(task, output)
    with open(directory.part_path(7), "r+b") as file:
        file.write(b"x")
    with pytest.raises(GexprError, match=r"block 7 is damaged .*000007\.damaged.*computes it again"):
        control.merge(directory, directory.manifest(), ToySink, str(output))
    assert folder(output) == ["a.txt.run"] and 7 not in directory.finished()
    task.journal.unlink()
    run(task, output)
    assert task.computed() == [7] and output.read_text() == squares(10)


def test_a_sink_that_fails_leaves_no_output(task: ToyTask, output: Path) -> None:
    directory = finished_run(task, output)

    class Failing(ToySink):
        def add(self, part: Any) -> None:
            super().add(part)
            if self.added == 3:
                raise self.outputs[0].failure(OSError(28, "No space left on device"))

    with pytest.raises(GexprError, match=r"cannot write .*a\.txt: No space left on device"):
        control.merge(directory, directory.manifest(), Failing, str(output))
    assert folder(output) == ["a.txt.run"] and len(directory.finished()) == 10


# --- several processes ---------------------------------------------------------------------


def test_workers_give_the_same_output(task: ToyTask, output: Path) -> None:
    outcome = run(interrupted(task, output), output, workers=2)
    assert output.read_text() == squares(10) and folder(output) == ["a.txt"]
    assert sorted(task.computed()) == [6, 9] and outcome.computed == 4 and task.closed == 1
    assert str(os.getpid()) not in {line.split()[1] for line in task.lines()}


def test_workers_share_the_cores(task: ToyTask, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    made: list[tuple[str, int | None]] = []

    def look(runners: list, blocks: list, *_rest: Any) -> None:
        made.extend(runner.task.on for runner in runners)
        for block in blocks:
            runners[0](block)

    monkeypatch.setattr(control, "run_in_processes", look)
    run(task, output, workers=3, keep_run=True)
    assert made == [("toy", 2)] * 3
    made.clear()
    shutil.rmtree(f"{output}.run")
    run(task, output, workers=20, force=True)
    assert made == [("toy", 1)] * 20
    made.clear()
    run(task, output, devices=("cuda:0", "cuda:2"), force=True)
    assert made == [("cuda:0", None), ("cuda:2", None)]


@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "tcp://a:1"},
        {"cluster": "slurm", "workers": 7, "cluster_options": {"queue": "gpu"}},
    ],
)
def test_a_cluster_computes_what_is_missing(
    options: dict[str, Any], task: ToyTask, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def cluster(runner: Any, blocks: list[int], *, on_done: Any, stopping: Any, **given: Any) -> None:
        assert os.path.isabs(runner.directory.path) and not stopping()
        calls.append({"blocks": list(blocks), **given})
        for block in blocks:
            on_done(runner(block))

    monkeypatch.setattr("gexpr.runs.dask_cluster.run_on_dask", cluster)
    outcome = run(interrupted(task, output), output, **options)
    defaults: dict[str, Any] = {"blocks": [2, 3], "scheduler": None, "cluster": None, "workers": 1}
    defaults["cluster_options"] = {}
    assert calls == [{**defaults, **options}]
    assert outcome.computed == 4 and output.read_text() == squares(10)


# --- streams -------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, to see that nothing stays there."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "tmp")
    return tmp_path / "tmp"


def test_standard_output_gets_the_blocks_in_order(
    task: ToyTask, temporary: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    outcome = run(task, "-")
    assert capfdbinary.readouterr().out.decode() == squares(10)
    assert task.computed() == [0, 3, 6, 9] and outcome.computed == 10
    assert os.listdir(temporary) == []


def test_workers_stream_in_order(
    tmp_path: Path, temporary: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    # The first block is the last to be finished.
    task = ToyTask(tmp_path / "journal", rows=20, faults={0: "slow"}, block_rows=1)
    run(task, "-", workers=2)
    assert capfdbinary.readouterr().out.decode() == squares(20)
    assert sorted(task.computed()) == list(range(20)) and os.listdir(temporary) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_in_a_stream_leaves_what_was_written(
    workers: int, task: ToyTask, temporary: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    task.faults = {6: "fail"}
    with pytest.raises(InputError, match="no such number"):
        run(task, "-", workers=workers)
    written = capfdbinary.readouterr().out.decode()
    assert squares(10).startswith(written) and (workers > 1 or written == squares(6))
    assert os.listdir(temporary) == []


@pytest.mark.parametrize(
    "options",
    [{"shard": Shard(0, 2)}, {"run_dir": "work"}, {"restart": True}, {"keep_run": True}],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("stream", ["-", "/dev/null"])
def test_a_stream_cannot_be_resumed(
    stream: str, options: dict[str, Any], task: ToyTask, temporary: Path
) -> None:
    with pytest.raises(ConfigError, match="is a stream and cannot be resumed"):
        run(task, stream, **options)
    assert task.computed() == [] and os.listdir(temporary) == []


def test_what_is_a_stream(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("pipe")
    streams = {name for name in ("pipe", "file", "link", "missing", ".") if is_stream(str(tmp_path / name))}
    assert streams == {"pipe", "link"} and is_stream("-") and is_stream("/dev/null")


# --- standard input ------------------------------------------------------------------------


def give(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))


def test_standard_input_is_kept_with_the_run(
    task: ToyTask, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def make(spooled: str | None) -> ToyTask:
        assert spooled is not None
        seen.append(Path(spooled).read_bytes())
        return task

    def start() -> None:
        run_task(make, ToySink, str(output), RunOptions(), inputs=["-"], unit="squares")

    task.faults = {6: "fail"}
    give(monkeypatch, b"rows")
    with pytest.raises(InputError):
        start()
    task.faults = {}
    give(monkeypatch, b"other")
    with pytest.raises(GexprError, match="another standard input"):
        start()
    give(monkeypatch, b"")
    start()
    assert seen == [b"rows"] * 2 and output.read_text() == squares(10) and folder(output) == ["a.txt"]


def test_a_pipe_is_kept_with_the_run(task: ToyTask, output: Path) -> None:
    low, high = os.pipe()
    os.write(high, b"rows")
    os.close(high)
    seen: list[bytes] = []

    def make(spooled: str | None) -> ToyTask:
        assert spooled is not None
        seen.append(Path(spooled).read_bytes())
        return task

    try:
        run_task(make, ToySink, str(output), RunOptions(), inputs=[f"/dev/fd/{low}"], unit="squares")
    finally:
        os.close(low)
    assert seen == [b"rows"] and output.read_text() == squares(10)


# --- options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_rows": 0}, "block rows must be 1 or more, not 0"),
        ({"workers": 0}, "workers must be 1 or more, not 0"),
        ({"restart": True, "shard": Shard(0, 2)}, "--restart with --shard"),
        ({"scheduler": "tcp://a:1", "cluster": "local"}, "give one of them"),
        ({"cluster": "local", "devices": ("cuda:0", "cuda:1")}, "a Dask cluster has its own workers"),
        ({"workers": 2, "devices": ("cuda:0", "cuda:1")}, "--workers is for the CPU"),
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunOptions(**options)


def test_who_computes() -> None:
    assert RunOptions().processes == 1 and not RunOptions().dask
    assert RunOptions(workers=3, devices=("cpu",)).processes == 3
    assert RunOptions(devices=("cuda:0", "cuda:1")).processes == 2
    assert RunOptions(scheduler="tcp://a:1").dask and RunOptions(cluster="local").dask


def test_where_a_run_works() -> None:
    assert run_directory(["out/a.h5"], RunOptions()).path == Path("out/a.h5.run")
    assert run_directory(["out/a.h5"], RunOptions(run_dir="work")).path == Path("work")
    assert run_directory([], RunOptions(run_dir="work")).path == Path("work")
