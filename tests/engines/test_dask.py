"""Blocks as Dask tasks: order, lost workers, errors, signals, and nothing left running."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from _shared import ENVIRON, run_here, score, write_inputs
from toy_blocks import Deadly, Done, Flaky, Toy

from gexpr.errors import ConfigError, GexprError, InputError, MissingDependencyError
from gexpr.runs import dask_cluster
from gexpr.runs.dask_cluster import cluster_options, run_on_dask
from gexpr.runs.signals import Terminated

pytest.importorskip("distributed")
pytestmark = pytest.mark.engines


def never() -> bool:
    return False


def runs(folder: Path, block: int) -> list[int]:
    """Process ids of the workers that began a block."""
    path = folder / f"{block}.runs"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run(
    task: Toy, blocks: Sequence[int], workers: int = 1, stopping: Callable[[], bool] = never
) -> list[Done]:
    """What a local cluster reports as done."""
    done: list[Done] = []
    run_on_dask(
        task,
        blocks,
        scheduler=None,
        cluster="local",
        workers=workers,
        on_done=done.append,
        stopping=stopping,
    )
    return done


def test_one_worker_does_every_block_once_and_in_order(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "6.part").touch()
    done = run(Toy(tmp_path), [4, 5, 6, 7, 9])
    assert [each.block for each in done] == [4, 5, 6, 7, 9]
    assert [len(runs(tmp_path, block)) for block in (4, 5, 6, 7, 9)] == [1, 1, 0, 1, 1]
    assert len({each.pid for each in done}) == 1
    assert not alive(done[0].pid)
    assert capfd.readouterr() == ("", "")


def test_other_errors_are_tried_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert sorted(each.block for each in run(Flaky(tmp_path), range(3))) == [0, 1, 2]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.endswith("OSError: [Errno 5] Input/output error") for line in lines)


def test_an_error_that_stays_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(Toy(tmp_path / "missing"), range(3))


def test_the_blocks_of_a_killed_worker_run_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def kill_one_worker() -> None:
        wait_until(lambda: len(runs(tmp_path, 0) + runs(tmp_path, 1)) == 2)
        os.kill(runs(tmp_path, 0)[0], signal.SIGKILL)
        gate.touch()

    killer = threading.Thread(target=kill_one_worker)
    killer.start()
    done = run(Toy(tmp_path, wait_for=gate), range(8), workers=2)
    killer.join()
    assert sorted(each.block for each in done) == list(range(8))
    assert all((tmp_path / f"{block}.part").exists() for block in range(8))
    # Both workers had begun a block; that of the dead one was begun again.
    assert len(runs(tmp_path, 0)) == 2
    assert not any(alive(pid) for block in range(8) for pid in runs(tmp_path, block))


def test_an_input_error_comes_through_as_it_is_and_is_not_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"^in\.vcf, line 7: record has no ALT$") as caught:
        run(Toy(tmp_path, bad=2), range(1000))
    assert (caught.value.path, caught.value.line) == ("in.vcf", 7)
    assert len(runs(tmp_path, 2)) == 1
    assert (tmp_path / "1.part").exists()
    assert len(list(tmp_path.glob("*.part"))) < 900
    assert "Traceback" not in capfd.readouterr().err


def test_a_block_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    import dask

    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        with pytest.raises(GexprError, match=r"^block 2: the Dask workers that had it died"):
            run(Deadly(tmp_path), [2])
    # Dask prints a traceback of a replacement that is told to end while it starts: stderr is not looked at.
    assert len(runs(tmp_path, 2)) == 2


def test_an_error_that_cannot_be_pickled_keeps_message_and_exit_code() -> None:
    error = pickle.loads(pickle.dumps(dask_cluster._Failed(Terminated(signal.SIGTERM)))).error
    assert isinstance(error, GexprError)
    assert (str(error), error.exit_code) == ("stopped by SIGTERM; the output is not complete", 143)


def test_a_worker_of_another_version_is_refused() -> None:
    failed = dask_cluster._compute(pickle.dumps(never), "0.0.0", "key", 1)
    assert re.search(r"has gexpr \S+, this command is 0\.0\.0; start", str(failed.error))


def test_stopping_finishes_what_runs_and_begins_no_more(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def stopping() -> bool:
        # The block that has begun is let go after the run has heard that it must stop.
        if not runs(tmp_path, 3):
            return False
        threading.Timer(0.5, gate.touch).start()
        return True

    done = run(Toy(tmp_path, wait_for=gate), range(3, 100), stopping=stopping)
    assert [each.block for each in done] == [3]
    assert not (tmp_path / "4.runs").exists()
    assert not alive(done[0].pid)


SIGNALED = """
import signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from toy_blocks import Toy
from gexpr.runs.dask_cluster import run_on_dask

if __name__ == "__main__":
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    folder = Path(sys.argv[1])
    run_on_dask(
        Toy(folder, wait_for=folder / "gate"), range(100), scheduler=None, cluster="local", workers=1,
        on_done=lambda done: print(done.block), stopping=lambda: bool(stop),
    )
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_signal_to_the_whole_group_or_the_death_of_the_command(tmp_path: Path, name: str) -> None:
    script = tmp_path / "command.py"
    script.write_text(SIGNALED)
    command = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)],
        # A killed command cannot remove its temporary folder.
        env={**ENVIRON, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: runs(tmp_path, 0) or command.poll() is not None)
        [worker] = runs(tmp_path, 0)
        if name == "SIGKILL":
            command.kill()
            command.wait()
        else:
            # As scancel or Ctrl-C do: the workers get it too, and must finish their blocks.
            os.killpg(command.pid, signal.SIGTERM)
            (tmp_path / "gate").touch()
            output, errors = command.communicate(timeout=60)
            assert (command.returncode, output, errors) == (0, "0\n", "")
        wait_until(lambda: not alive(worker))
    finally:
        command.kill()
        command.communicate()


def test_a_cluster_without_workers_ends_in_an_error(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as empty:
        with pytest.raises(GexprError, match="has had no worker for 1 s; finished blocks are kept"):
            run_on_dask(
                Toy(tmp_path),
                range(3),
                scheduler=empty.scheduler_address,
                cluster=None,
                workers=1,
                cluster_options={"worker_timeout": "1"},
                on_done=pytest.fail,
                stopping=never,
            )


def test_no_scheduler_at_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gexpr.runs.dask_cluster.CONNECT_TIMEOUT", 0.5)
    with pytest.raises(GexprError, match=r"^no Dask scheduler answers at tcp://127\.0\.0\.1:9 \("):
        run_on_dask(
            Toy(tmp_path),
            [0],
            scheduler="tcp://127.0.0.1:9",
            cluster=None,
            workers=1,
            on_done=pytest.fail,
            stopping=never,
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheduler": None, "cluster": None}, "give either"),
        ({"scheduler": "tcp://a:1", "cluster": "local"}, "give either"),
        ({"cluster": "pbs"}, r"unknown cluster 'pbs' \(known: local, slurm\)"),
        ({"workers": 0}, "workers must be at least 1, not 0"),
        ({"cluster_options": {"queue": "gpu"}}, "a local cluster has no option queue"),
        ({"cluster_options": {"worker_timeout": "soon"}}, "a number of seconds above 0, not 'soon'"),
        ({"cluster_options": {"worker_timeout": -1}}, "a number of seconds above 0, not -1"),
    ],
)
def test_options_that_are_not_allowed(tmp_path: Path, settings: dict, message: str) -> None:
    arguments = {"scheduler": None, "cluster": "local", "workers": 1, **settings}
    with pytest.raises(ConfigError, match=message):
        run_on_dask(Toy(tmp_path), [0], on_done=pytest.fail, stopping=never, **arguments)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gexpr\[dask\]'"):
        run_on_dask(
            Toy(tmp_path),
            [0],
            scheduler=None,
            cluster="local",
            workers=1,
            on_done=pytest.fail,
            stopping=never,
        )


def test_cluster_options_from_texts() -> None:
    pairs = ["cores=4", "memory=8GB", "queue=gpu", "worker-timeout=60"]
    pairs += ["job_extra_directives=--gres=gpu:1", "job_extra_directives=--qos=low"]
    assert cluster_options(pairs) == {
        "cores": 4,
        "memory": "8GB",
        "queue": "gpu",
        "worker_timeout": 60.0,
        "job_extra_directives": ["--gres=gpu:1", "--qos=low"],
    }


@pytest.mark.parametrize("pairs", [["queue"], ["=gpu"], ["cores=two"], ["cores=0"], ["queue=a", "queue=b"]])
def test_cluster_options_that_are_not_allowed(pairs: list[str]) -> None:
    with pytest.raises(ConfigError):
        cluster_options(pairs)


def test_scores_are_the_same_when_a_worker_dies(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in", alleles=120)
    plain, clustered = tmp_path / "plain.h5", tmp_path / "clustered.h5"
    blocks = 30
    run_here(score(inputs, "--block-rows", "4", "-o", plain))

    logs = tmp_path / "clustered.h5.run" / "logs"
    command = subprocess.Popen(
        score(inputs, "--block-rows", "4", "--cluster", "local", "--workers", "2", "-o", clustered),
        env=ENVIRON,
        stderr=subprocess.PIPE,
        text=True,
    )

    def events() -> list[dict]:
        # A line may be half written.
        lines = [line for path in logs.glob("*.jsonl") for line in path.read_text().splitlines(True)]
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def first_worker() -> int | None:
        assert command.poll() is None, command.communicate()
        return next((each["pid"] for each in events() if each["event"] == "block"), None)

    try:
        wait_until(first_worker, 120)
        # Stopped, the command hands out no more than the two blocks that each worker has.
        command.send_signal(signal.SIGSTOP)
        finished = sum(each["event"] == "block" for each in events())
        assert finished < blocks - 4, "too fast to be interrupted"
        dead = first_worker()
        os.kill(dead, signal.SIGKILL)
        command.send_signal(signal.SIGCONT)
        _, errors = command.communicate(timeout=300)
    finally:
        command.kill()
        command.communicate()
    assert command.returncode == 0, errors
    assert errors.splitlines()[0].startswith("120 alleles of 120 records read, 120 scored")
    assert clustered.read_bytes() == plain.read_bytes()
    assert not logs.exists()
    assert not alive(dead)
