"""Worker processes: none outlives its parent, a death is told, and Ctrl-C lets blocks be finished."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from chaos_tools import (
    Gexpr,
    World,
    alive,
    check_parts,
    killed_at_the_end,
    run,
    sha256,
    unfinished,
    wait_until,
    workers_of,
)

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]


def start(world: World, folder: Path) -> Gexpr:
    return Gexpr(world.score("-o", "out.h5", "--block-rows", "4", "--workers", "2"), folder)


def parts(folder: Path) -> set[int]:
    return check_parts(folder / "out.h5.run")


def complete(world: World, folder: Path, expected: dict[str, str]) -> None:
    """The same command, with one process, makes the rest."""
    result = run(world.score("-o", "out.h5"), folder)
    assert result.code == 0, result.err
    assert sha256(folder / "out.h5") == expected["h5"]
    assert not (folder / "out.h5.run").exists() and unfinished(folder) == []


@pytest.mark.parametrize("moment", ["while workers start", "while they work"])
def test_no_worker_outlives_its_parent(
    moment: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    process = start(world, tmp_path)
    with killed_at_the_end([process]):
        workers = process.until(
            lambda: len(found := workers_of(process.pid)) == 2 and found, "the start of two workers"
        )
        if moment == "while they work":
            process.until(lambda: parts(tmp_path), "a finished block")
        process.send(signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
        wait_until(lambda: not any(map(alive, workers)), "the end of the workers", pause=0.05)
    assert not (tmp_path / "out.h5").exists()
    assert (len(parts(tmp_path)) > 0) == (moment == "while they work")
    complete(world, tmp_path, expected)


@pytest.mark.parametrize("moment", ["while it starts", "while it works"])
def test_the_death_of_a_worker_is_told(
    moment: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    process = start(world, tmp_path)
    with killed_at_the_end([process]):
        workers = process.until(
            lambda: len(found := workers_of(process.pid)) == 2 and found, "the start of two workers"
        )
        if moment == "while it works":
            process.until(lambda: parts(tmp_path), "a finished block")
        victim = Gexpr.__new__(Gexpr)
        victim.pid = workers[1]
        victim.send(signal.SIGKILL)
        result = process.wait()
    assert result.code == 1
    assert result.error == (
        f"error: the worker process {workers[1]} on cpu was killed by SIGKILL (out of memory, perhaps); "
        "finished blocks are kept, the same command continues"
    )
    assert not any(map(alive, workers)) and not (tmp_path / "out.h5").exists()
    complete(world, tmp_path, expected)


@pytest.mark.parametrize("moment", ["while workers start", "while they work"])
def test_ctrl_c_reaches_the_whole_group(
    moment: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    """A terminal sends SIGINT to every process of the group; only the parent decides what it means."""
    process = start(world, tmp_path)
    with killed_at_the_end([process]):
        workers = process.until(
            lambda: len(found := workers_of(process.pid)) == 2 and found, "the start of two workers"
        )
        if moment == "while they work":
            process.until(lambda: parts(tmp_path), "a finished block")
        process.kill_group(signal.SIGINT)
        result = process.wait()
    assert result.code == 75
    assert result.error == (
        "error: stopped by SIGINT; finished blocks are in out.h5.run; the same command continues"
    )
    assert not any(map(alive, workers)) and not (tmp_path / "out.h5").exists()
    # Each worker has finished the block that it had.
    assert len(parts(tmp_path)) >= 2
    complete(world, tmp_path, expected)
