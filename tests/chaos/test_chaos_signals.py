"""Signals: what a first and a second one do at every stage of a run, and what is left to continue from."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_tools import (
    PATIENCE,
    Gexpr,
    World,
    at_event,
    check_parts,
    killed_at_the_end,
    run,
    sha256,
    signal_self,
    unfinished,
    wait_until,
)

from gexpr.runs.directory import RunDirectory, read_logs

pytestmark = pytest.mark.chaos

NUMBERS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]
NAMES = [number.name for number in NUMBERS]
CODES = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
CONTINUES = "finished blocks are in out.h5.run; the same command continues"


def strike(event: str, path: str, number: int, *signals: int) -> Callable[[], None]:
    """What a process does before it runs: prepare to be struck by signals at a step."""
    return functools.partial(at_event, event, path, number, functools.partial(signal_self, *signals))


def command(world: World) -> list[str]:
    return world.score("-o", "out.h5", "--block-rows", "12")


def complete(world: World, folder: Path, expected: dict[str, str]) -> None:
    """The same command makes the output."""
    assert run(command(world), folder) == (0, "", "")
    assert sha256(folder / "out.h5") == expected["h5"]
    assert not (folder / "out.h5.run").exists() and unfinished(folder) == []


@pytest.mark.parametrize("number", NUMBERS, ids=NAMES)
def test_in_a_block(number: int, world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """The blocks under way are finished and kept: the one that is written, and the next if it was begun."""
    before = strike("write", r"\.000003\.part\..*", 0, number)
    result = run(command(world), tmp_path, before=before)
    assert result.code == 75
    assert result.error == f"error: stopped by {signal.Signals(number).name}; {CONTINUES}"
    assert check_parts(tmp_path / "out.h5.run") in ({0, 1, 2, 3}, {0, 1, 2, 3, 4})
    assert not (tmp_path / "out.h5").exists() and unfinished(tmp_path) == []
    assert read_logs(RunDirectory(tmp_path / "out.h5.run"))[-1]["how"] == "interrupted"
    complete(world, tmp_path, expected)


@pytest.mark.parametrize("number", NUMBERS, ids=NAMES)
def test_in_the_merge(number: int, world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """Every block is there, the unfinished output is removed."""
    # The first time the name is only tried.
    before = strike("write", r"\.out\.h5\..*", 1, number)
    result = run(command(world), tmp_path, before=before)
    assert result.code == 75
    assert result.error == f"error: stopped by {signal.Signals(number).name}; {CONTINUES}"
    assert check_parts(tmp_path / "out.h5.run") == set(range(20))
    assert not (tmp_path / "out.h5").exists() and unfinished(tmp_path) == []
    complete(world, tmp_path, expected)


@pytest.mark.parametrize("number", NUMBERS, ids=NAMES)
def test_in_the_scan(number: int, world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """Nothing is there to continue from, and nothing is left."""
    result = run(command(world), tmp_path, before=strike("open", r"v\.vcf", 3, number))
    assert result.code == 75
    assert result.error == (
        f"error: stopped by {signal.Signals(number).name}; nothing is finished yet; the same command starts "
        "again"
    )
    assert not (tmp_path / "out.h5.run").exists() and unfinished(tmp_path) == []
    complete(world, tmp_path, expected)


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ("os.rename", r"\.out\.h5\..*"),
        ("os.remove", r"out\.h5\.run/manifest\.json"),
        ("os.rmdir", r"out\.h5\.run"),
    ],
)
def test_when_the_output_gets_its_name(
    event: str, path: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    """A run that is complete says so: who repeats what ended with 75 would find the output in the way."""
    result = run(command(world), tmp_path, before=strike(event, path, 0, signal.SIGTERM))
    assert result == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]
    assert not (tmp_path / "out.h5.run").exists() and unfinished(tmp_path) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGUSR1, signal.SIGUSR1),
        (signal.SIGUSR1, signal.SIGTERM),
    ],
)
def test_a_second_one_ends_at_once(first: int, second: int, world: World, tmp_path: Path) -> None:
    """In the middle of a long block; the exit code is the system's own, 128 + number in a shell."""
    # Equal alleles are computed once, so the block is made long by many passes instead of many rows.
    shifts = "--shifts=" + ",".join(map(str, range(-60, 61)))
    arguments = world.score("-o", "out.h5", "--block-rows", "9600", shifts)
    arguments.remove("--quiet")
    process = Gexpr(arguments, tmp_path)
    with killed_at_the_end([process]):
        logs = tmp_path / "out.h5.run" / "logs"
        process.until(
            lambda: any('"plan"' in log.read_text() for log in logs.glob("*.jsonl")), "the end of the plan"
        )
        # The block begins a moment later, and lasts many times as long as this.
        time.sleep(0.5)
        process.send(first)
        name = signal.Signals(first).name
        process.until(
            lambda: f"{name}: finishing what is under way; once more stops at once" in process.err, "it"
        )
        process.send(second)
        result = process.wait()
    assert result.code == -second and "Traceback" not in result.err
    # It has not waited for the end of the block.
    assert check_parts(tmp_path / "out.h5.run") == set() and not (tmp_path / "out.h5").exists()


def test_a_second_one_while_a_part_is_written(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    before = functools.partial(at_event, "os.rename", r"\.000003\.part\..*", 0, strike_twice)
    result = run(command(world), tmp_path, before=before)
    assert (result.code, result.out) == (-signal.SIGTERM, "")
    assert check_parts(tmp_path / "out.h5.run") == {0, 1, 2} and len(unfinished(tmp_path)) == 1
    complete(world, tmp_path, expected)


def strike_twice() -> None:
    """Signals that come together are one: the first has to be taken before the second comes."""
    signal_self(signal.SIGTERM)
    wait_until(lambda: signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the first signal to be taken")
    signal_self(signal.SIGTERM)
    time.sleep(PATIENCE)


def ignore_and_strike() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    strike("write", r"\.000003\.part\..*", 0, signal.SIGHUP)()


def test_nohup(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """A signal that was ignored at the start stays ignored."""
    assert run(command(world), tmp_path, before=ignore_and_strike) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_a_shard_that_has_just_done_its_last_block(world: World, tmp_path: Path) -> None:
    """The code says that it was stopped; the same command finds nothing to do."""
    shard = [*command(world), "--shard", "1/2"]
    before = strike("write", r"\.000019\.part\..*", 0, signal.SIGUSR1)
    assert run(shard, tmp_path, before=before).code == 75
    assert run(shard, tmp_path) == (0, "", "")
    assert check_parts(tmp_path / "out.h5.run") == set(range(1, 20, 2))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_gexpr_merge(number: int, code: int, world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """A merge has nothing to save: it removes what it wrote, and the blocks stay."""
    assert run([*command(world), "--shard", "0/1"], tmp_path).code == 0
    merge = ["merge", "out.h5.run", "-o", "out.h5", "--quiet"]
    result = run(merge, tmp_path, before=strike("open", r"000007\.part", 0, number))
    assert result.code == code and result.error
    assert not (tmp_path / "out.h5").exists() and unfinished(tmp_path) == []
    assert check_parts(tmp_path / "out.h5.run") == set(range(20))
    assert run(merge, tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_standard_output(number: int, code: int, world: World, tmp_path: Path) -> None:
    """A stream cannot be continued; its temporary files are removed."""
    (tmp_path / "tmp").mkdir()
    process = Gexpr(
        world.score("-o", "-", "--block-rows", "12", vcf="-"),
        tmp_path,
        stdin=world.vcf,
        environment={"TMPDIR": str(tmp_path / "tmp")},
        before=functools.partial(after_rows, 36, number),
    )
    with killed_at_the_end([process]):
        result = process.wait()
    assert result.code == code and result.error
    rows = result.out.splitlines()
    assert len(rows) == 1 + 36 and all(len(row.split("\t")) == 10 for row in rows)
    assert os.listdir(tmp_path / "tmp") == []


def after_rows(rows: int, number: int) -> None:
    """In this process: a signal when a writer is given the rows that follow the first ``rows``."""
    from gexpr.writers.scores import ScoresTsvWriter

    write = ScoresTsvWriter.write

    def wrapped(self, variants, scores, columns=None):
        if variants[0].row == rows:
            os.kill(os.getpid(), number)
        write(self, variants, scores, columns)

    ScoresTsvWriter.write = wrapped


def test_a_pipe_that_is_closed(world: World, tmp_path: Path) -> None:
    """``| head -1`` takes the header and goes; nobody has done anything wrong."""
    arguments = [sys.executable, "-m", "gexpr", *world.score("-o", "-", "--block-rows", "12")]
    quoted = " ".join(f"'{argument}'" for argument in arguments)
    result = subprocess.run(
        ["bash", "-c", f"{quoted} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "GEXPR_CACHE": str(tmp_path / ".cache"), "OMP_NUM_THREADS": "1"},
        text=True,
        check=True,
    )
    header, code = result.stdout.splitlines()
    assert header.startswith("chrom\tpos\tid") and code == "141" and result.stderr == ""
