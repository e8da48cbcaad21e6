"""Several processes in one run directory: who works, who is refused, and that the bytes stay the same.

Where the moment matters, one process waits at a chosen step until the other has done its part.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from chaos_tools import (
    Gexpr,
    World,
    at_event,
    check_parts,
    hold,
    killed_at_the_end,
    run,
    sha256,
    unfinished,
)

pytestmark = pytest.mark.chaos

PART = r"\.000003\.part\..*"
PLAN = r"\.manifest\.json\..*"


def without_locks() -> None:
    """In this process, the file system knows no locks."""
    import fcntl

    def flock(*_arguments: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    fcntl.flock = flock


def held_without_locks(event: str, path: str, here: Path, until: Path) -> None:
    without_locks()
    at_event(event, path, 0, functools.partial(hold, here, until))


class Held:
    """A run that waits right before a step, until it is let go."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        event: str,
        path: str,
        *,
        name: str = "held",
        locks: bool = True,
    ) -> None:
        self._here, self._go = folder / f"{name}.here", folder / f"{name}.go"
        if locks:
            action = functools.partial(hold, self._here, self._go)
            before = functools.partial(at_event, event, path, 0, action)
        else:
            before = functools.partial(held_without_locks, event, path, self._here, self._go)
        self.process = Gexpr(arguments, folder, before=before)

    def reached(self) -> Gexpr:
        self.process.until(self._here.exists, "the step")
        return self.process

    def release(self) -> Gexpr:
        self._go.touch()
        return self.process


@pytest.mark.parametrize(
    ("event", "path"),
    [("open", r"v\.vcf"), ("write", PLAN), ("write", PART), ("os.rename", r"\.out\.h5\..*")],
)
def test_the_second_is_refused(
    event: str, path: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    """Before the plan, while it is written, in a block and in the merge: the first goes on undisturbed."""
    command = world.score("-o", "out.h5", "--block-rows", "12")
    first = Held(command, tmp_path, event, path)
    with killed_at_the_end([first.process]):
        first.reached()
        second = run(command, tmp_path)
        assert second.code == 1
        holder = f"process {first.process.pid} on {socket.gethostname()}"
        assert second.error == (
            f"error: {holder} is at work on shard 0 of 1 of out.h5.run; wait for it, or divide the work with "
            "--shard"
        )
        assert first.release().wait() == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]
    assert not (tmp_path / "out.h5.run").exists() and unfinished(tmp_path) == []


def test_one_that_fails_leaves_the_others_plan_alone(
    world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    """A shard that cannot even start removes nothing while another reads its VCF."""
    command = world.score("-o", "out.h5", "--block-rows", "12")
    first = Held([*command, "--shard", "0/2"], tmp_path, "write", PLAN)
    with killed_at_the_end([first.process]):
        first.reached()
        failed = run([*command, "--shard", "1/2", "--tracks", "nothing"], tmp_path)
        assert failed.code == 1 and "nothing" in failed.error
        assert first.release().wait().code == 0
    assert run([*command, "--shard", "1/2"], tmp_path).code == 0
    assert run(["merge", "out.h5.run", "-o", "out.h5", "--quiet"], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_two_plan_at_the_same_moment(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """Both have read the VCF and found no manifest; one of them writes it, and both work by it."""
    command = world.score("-o", "out.h5", "--block-rows", "12")
    shards = [
        Held([*command, "--shard", f"{i}/2"], tmp_path, "os.link", PLAN, name=f"shard{i}") for i in range(2)
    ]
    with killed_at_the_end([shard.process for shard in shards]):
        for shard in shards:
            shard.reached()
        for shard in shards:
            shard.release()
        assert [shard.process.wait().code for shard in shards] == [0, 0]
    assert check_parts(tmp_path / "out.h5.run") == set(range(20)) and unfinished(tmp_path) == []
    assert run(["merge", "out.h5.run", "-o", "out.h5", "--quiet"], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_shards_of_different_counts_at_once(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    command = world.score("-o", "out.h5", "--block-rows", "12")
    names = ["0/2", "1/2", "0/3", "1/3", "2/3"]
    processes = [Gexpr([*command, "--shard", name], tmp_path) for name in names]
    with killed_at_the_end(processes):
        assert [process.wait().code for process in processes] == [0] * 5
    assert check_parts(tmp_path / "out.h5.run") == set(range(20)) and unfinished(tmp_path) == []
    assert run(["merge", "out.h5.run", "-o", "out.h5", "--quiet"], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_without_locks_both_do_the_work(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    command = world.score("--run-dir", "work", "--block-rows", "12", "--shard", "0/1")
    slow = Held(command, tmp_path, "write", PART, locks=False)
    with killed_at_the_end([slow.process]):
        slow.reached()
        # The slow one is about to write block 3, which the quick one finishes in the meantime.
        assert run(command, tmp_path, before=without_locks).code == 0
        assert check_parts(tmp_path / "work") == set(range(20))
        written = (tmp_path / "work" / "parts" / "000003.part").read_bytes()
        assert slow.release().wait().code == 0
    assert (tmp_path / "work" / "parts" / "000003.part").read_bytes() == written
    assert run(["merge", "work", "-o", "out.h5", "--quiet"], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_without_locks_the_first_to_finish_wins(
    world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    """Two whole runs: the slower one finds its run directory gone, and the output stays as it is."""
    command = world.score("-o", "out.h5", "--block-rows", "12")
    slow = Held(command, tmp_path, "write", PART, locks=False)
    with killed_at_the_end([slow.process]):
        slow.reached()
        assert run(command, tmp_path, before=without_locks) == (0, "", "")
        inode = (tmp_path / "out.h5").stat().st_ino
        late = slow.release().wait()
    assert late.code == 1 and "out.h5.run" in late.error
    assert sha256(tmp_path / "out.h5") == expected["h5"]
    assert (tmp_path / "out.h5").stat().st_ino == inode and unfinished(tmp_path) == []


def test_a_merge_while_a_shard_works(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    command = world.score("-o", "out.h5", "--block-rows", "12", "--shard", "0/1")
    shard = Held(command, tmp_path, "write", PART)
    merge = ["merge", "out.h5.run", "-o", "out.h5", "--quiet"]
    with killed_at_the_end([shard.process]):
        shard.reached()
        early = run(merge, tmp_path)
        assert early.code == 1
        assert "17 of 20 blocks are missing: block 3 to 19" in early.error
        assert shard.release().wait().code == 0
    assert run(merge, tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_an_output_that_appears_during_the_run(world: World, tmp_path: Path) -> None:
    """It was not there when the run began; it is not replaced in the end either."""
    held = Held(world.score("-o", "out.h5", "--block-rows", "12"), tmp_path, "write", PART)
    with killed_at_the_end([held.process]):
        held.reached()
        (tmp_path / "out.h5").write_text("precious")
        result = held.release().wait()
    assert (result.code, result.error) == (
        1,
        "error: out.h5 exists; give --force to replace it, or another name",
    )
    assert (tmp_path / "out.h5").read_text() == "precious"
    assert check_parts(tmp_path / "out.h5.run") == set(range(20)) and unfinished(tmp_path) == []
