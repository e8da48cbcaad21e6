"""Worker processes: none outlives its parent, a death is told, and Ctrl-C lets blocks be finished."""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from chaos_tools import (
    Gexpr,
    Result,
    World,
    alive,
    check_parts,
    hold,
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


MOMENTS = {"while workers start": 0, "while they work": 6}


def hold_the_queue(number: int, here: Path, until: Path) -> None:
    """In this process: hand out so many blocks to workers, then wait until the test goes on."""
    from gexpr.runs import blocks

    original = blocks._hand_out
    count = 0

    def hand_out(*arguments: Any) -> None:
        nonlocal count
        if count == number:
            hold(here, until)
        count += 1
        original(*arguments)

    blocks._hand_out = hand_out


class Held:
    """A run with two workers whose parent waits at a moment before it hands out the next block."""

    def __init__(self, world: World, folder: Path, moment: str) -> None:
        self._here, self._go = folder / "here", folder / "go"
        before = functools.partial(hold_the_queue, MOMENTS[moment], self._here, self._go)
        command = world.score("-o", "out.h5", "--block-rows", "12", "--workers", "2")
        self.process = Gexpr(command, folder, before=before)

    def reached(self) -> list[int]:
        """Wait for the moment; the process ids of the workers."""
        self.process.until(self._here.exists, "the moment")
        workers = workers_of(self.process.pid)
        assert len(workers) == 2
        return workers

    def release(self) -> Result:
        """Let it go on to its end."""
        self._go.touch()
        return self.process.wait()


def parts(folder: Path) -> set[int]:
    return check_parts(folder / "out.h5.run")


def complete(world: World, folder: Path, expected: dict[str, str]) -> None:
    """The same command, with one process, makes the rest."""
    assert not (folder / "out.h5").exists()
    result = run(world.score("-o", "out.h5"), folder)
    assert result.code == 0, result.err
    assert sha256(folder / "out.h5") == expected["h5"]
    assert not (folder / "out.h5.run").exists() and unfinished(folder) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_worker_outlives_its_parent(
    moment: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    held = Held(world, tmp_path, moment)
    with killed_at_the_end([held.process]):
        workers = held.reached()
        held.process.send(signal.SIGKILL)
        assert held.process.wait().code == -signal.SIGKILL
        wait_until(lambda: not any(map(alive, workers)), "the end of the workers", pause=0.02)
    # Of six blocks that were handed out five were computed, two of which may not have been written.
    assert len(parts(tmp_path)) in ({0} if moment == "while workers start" else {3, 4, 5, 6})
    complete(world, tmp_path, expected)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_death_of_a_worker_is_told(
    moment: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    held = Held(world, tmp_path, moment)
    with killed_at_the_end([held.process]):
        workers = held.reached()
        os.kill(workers[1], signal.SIGKILL)
        wait_until(lambda: not alive(workers[1]), "its death", pause=0.02)
        result = held.release()
    assert result.code == 1
    assert result.error == (
        f"error: the worker process {workers[1]} on cpu was killed by SIGKILL (out of memory, perhaps); "
        "finished blocks are kept, the same command continues"
    )
    assert not any(map(alive, workers))
    complete(world, tmp_path, expected)


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_reaches_the_whole_group(
    moment: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    """A terminal sends SIGINT to every process of the group; only the parent decides what it means."""
    held = Held(world, tmp_path, moment)
    with killed_at_the_end([held.process]):
        workers = held.reached()
        held.process.kill_group(signal.SIGINT)
        result = held.release()
    assert result.code == 75
    assert result.error == (
        "error: stopped by SIGINT; finished blocks are in out.h5.run; the same command continues"
    )
    assert not any(map(alive, workers))
    # Each worker has finished the block that it had; the one that was about to be handed out is done too.
    assert len(parts(tmp_path)) == (2 if moment == "while workers start" else 7)
    complete(world, tmp_path, expected)
