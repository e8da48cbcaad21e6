"""Places that cannot be written, or go away while a run works in them: one clear error each."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from chaos_tools import World, at_event, check_parts, run, sha256, signal_self, unfinished

pytestmark = pytest.mark.chaos

PART = r"\.000003\.part\..*"


def test_a_run_directory_that_cannot_be_made(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "out.h5.run").write_text("precious")
    for arguments, words in (
        (["--run-dir", "file/work"], "cannot make the run directory file/work: Not a directory"),
        (["--run-dir", "file"], "cannot make the run directory file: File exists"),
        (["--run-dir", "no/work"], "cannot make the run directory no/work: the folder no does not exist"),
        ([], "cannot make the run directory out.h5.run: File exists; --run-dir puts it elsewhere"),
        (["--run-dir", "./out.h5"], "the output and the run directory are both out.h5"),
    ):
        result = run(world.score("-o", "out.h5", *arguments), tmp_path)
        assert result.code == 1 and words in result.error
    assert (tmp_path / "file").read_text() == (tmp_path / "out.h5.run").read_text() == "precious"
    assert not (tmp_path / "out.h5").exists()


def test_a_read_only_file_system(disk: Path, world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """Before a run, and when one is to be continued."""
    command = world.score("-o", str(disk / "out.h5"), "--block-rows", "12")
    read_only(disk)
    result = run(command, tmp_path)
    assert (result.code, result.error) == (
        1,
        f"error: cannot write {disk / 'out.h5'}: Read-only file system",
    )
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    # A file system with open files cannot be made read-only, so that the run ends first.
    before = functools.partial(at_event, "write", PART, 0, functools.partial(signal_self, signal.SIGTERM))
    assert run(command, tmp_path, before=before).code == 75
    read_only(disk)
    for again in (command, [*command, "--run-dir", str(disk / "out.h5.run"), "--shard", "0/1"]):
        result = run(again, tmp_path)
        assert result.code == 1 and "Read-only file system" in result.error
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert check_parts(disk / "out.h5.run") in ({0, 1, 2, 3}, {0, 1, 2, 3, 4})
    assert run(command, tmp_path) == (0, "", "")
    assert sha256(disk / "out.h5") == expected["h5"] and os.listdir(disk) == ["out.h5"]


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def test_the_run_directory_is_removed(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    command = world.score("-o", "out.h5", "--block-rows", "12")
    remove = functools.partial(shutil.rmtree, str(tmp_path / "out.h5.run"))
    result = run(command, tmp_path, before=functools.partial(at_event, "write", PART, 0, remove))
    assert (result.code, result.error) == (
        1,
        "error: cannot write out.h5.run/parts/000003.part: No such file or directory",
    )
    assert not (tmp_path / "out.h5").exists() and not (tmp_path / "out.h5.run").exists()
    assert run(command, tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == expected["h5"]


@pytest.mark.parametrize("run_dir", ["results/out.h5.run", "work"])
def test_the_output_folder_is_removed(
    run_dir: str, world: World, expected: dict[str, str], tmp_path: Path
) -> None:
    command = world.score("-o", "results/out.h5", "--block-rows", "12", "--run-dir", run_dir)
    (tmp_path / "results").mkdir()
    remove = functools.partial(shutil.rmtree, str(tmp_path / "results"))
    result = run(command, tmp_path, before=functools.partial(at_event, "write", PART, 0, remove))
    assert result.code == 1
    if run_dir == "work":
        assert "cannot write results/out.h5: the folder" in result.error and "does not exist" in result.error
        assert check_parts(tmp_path / "work") == set(range(20))
    else:
        assert "cannot write results/out.h5.run/parts/000003.part: No such file" in result.error
    assert not (tmp_path / "results").exists()
    (tmp_path / "results").mkdir()
    assert run(command, tmp_path) == (0, "", "")
    assert sha256(tmp_path / "results" / "out.h5") == expected["h5"] and unfinished(tmp_path) == []


def test_the_checkpoint_is_removed(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """The model is in memory; only the next process misses it."""
    shutil.copytree(world.folder / "tiny", tmp_path / "tiny")
    command = world.score("-o", "out.h5", "--block-rows", "12", checkpoint="tiny")
    remove = functools.partial(shutil.rmtree, str(tmp_path / "tiny"))
    assert run(command, tmp_path, before=functools.partial(at_event, "write", PART, 0, remove)).code == 0
    assert sha256(tmp_path / "out.h5") == expected["h5"]
    result = run([*command, "--force"], tmp_path)
    assert result.code == 1 and "tiny" in result.error
    assert sha256(tmp_path / "out.h5") == expected["h5"]


def test_logs_that_cannot_be_written(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """They are for people; no run fails for want of them."""
    command = world.score("-o", "out.h5", "--block-rows", "12")
    remove = functools.partial(shutil.rmtree, str(tmp_path / "out.h5.run" / "logs"))
    assert run(command, tmp_path, before=functools.partial(at_event, "write", PART, 0, remove)).code == 0
    assert sha256(tmp_path / "out.h5") == expected["h5"] and not (tmp_path / "out.h5.run").exists()


@pytest.mark.parametrize("cache", ["file/cache", "disk"])
def test_a_cache_that_cannot_be_written(
    cache: str, world: World, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "file").write_text("")
    if cache == "disk":
        read_only(request.getfixturevalue("disk"))
    result = run(world.score("-o", "out.h5"), tmp_path, environment={"GEXPR_CACHE": str(tmp_path / cache)})
    assert result.code == 1
    assert "g.fa: " in result.error and "set GEXPR_CACHE to a writable folder" in result.error
    assert not (tmp_path / "out.h5.run").exists()
